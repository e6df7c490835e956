//! What anybody can do to the admin address, and that it goes on answering within a second; and
//! what the same does to a bare tiny_http.
//!
//! Each victim is a process of its own, whose threads and memory can be read: this test program
//! again, told by a variable of its environment to be one.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use tcpdirector::admin::{self, AdminSocket, Request};
use tcpdirector::system::inherited::Inherited;

use crate::admin_front::{GET, SECOND, answers_soon, ask, pages, status};
use crate::common::command::null;
use crate::common::left_out::may_open;
use crate::common::program::Folder;
use crate::common::server::free_address;
use crate::common::{connect, pattern, reset, until};

/// Where a victim is to listen.
const VICTIM: &str = "TCPDIRECTOR_TEST_VICTIM";

/// A server in a process of its own, which is ended when this is dropped.
struct Victim {
    child: Child,
    address: SocketAddr,
    folder: Folder,
}

impl Victim {
    /// The admin pages behind their front.
    fn guarded() -> Victim {
        Victim::start("the_body_of_a_guarded_victim")
    }

    /// tiny_http as it is.
    fn bare() -> Victim {
        Victim::start("the_body_of_a_bare_victim")
    }

    /// Starts this program again to run one of the tests below, which is a server, on an address
    /// that it is told.
    fn start(test: &str) -> Victim {
        let folder = Folder::new();
        let address = free_address();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", &format!("admin_attacks::{test}"), "--ignored", "--nocapture"])
            .env(VICTIM, address.to_string());
        command.stdin(null()).stdout(null()).stderr(File::create(folder.path("stderr")).unwrap());
        let victim = Victim { child: command.spawn().unwrap(), address, folder };
        until("the victim serves", || victim.serves());
        victim
    }

    /// Whether it serves a request within a second.
    fn serves(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        stream.set_read_timeout(Some(SECOND)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut start = [0; 12];
        stream.read_exact(&mut start).is_ok() && &start == b"HTTP/1.1 200"
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// A number from /proc/PID/status; the memory is in kilobytes.
    fn status(&self, key: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn has_panicked(&self) -> bool {
        std::fs::read_to_string(self.folder.path("stderr")).unwrap().contains("panicked")
    }

    /// It has not suffered: it answers, has its few threads, and no more memory than given.
    fn is_well(&mut self, before: usize, more: usize) {
        answers_soon(self.address);
        let (threads, memory) = (self.status("Threads:"), self.status("VmRSS:"));
        eprintln!("{} threads, {memory} kB, {before} kB before", threads);
        assert!(threads < 16, "{threads} threads");
        assert!(memory < before + more, "{memory} kB of memory, {before} kB before");
        assert!(!self.has_panicked() && self.is_running());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where this process is to listen as a victim; nothing where its body runs as a test.
fn told() -> Option<String> {
    let address = std::env::var(VICTIM).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256).unwrap();
    Some(address)
}

#[test]
#[ignore = "the body of a child process"]
fn the_body_of_a_bare_victim() {
    let Some(address) = told() else { return };
    let server = tiny_http::Server::http(&address).unwrap();
    thread::spawn(end_by_itself);
    loop {
        match server.recv() {
            Ok(request) => drop(request.respond(tiny_http::Response::from_string("ok"))),
            Err(_) => thread::sleep(SECOND),
        }
    }
}

#[test]
#[ignore = "the body of a child process"]
fn the_body_of_a_guarded_victim() {
    let Some(address) = told() else { return };
    let listeners =
        AdminSocket::open(&address.parse().unwrap(), &mut Inherited::default()).unwrap();
    let handler = |request: &Request| {
        if request.path == "/starve" {
            thread::spawn(|| {
                let hoard: Vec<File> = (0..).map_while(|_| File::open("/dev/null").ok()).collect();
                thread::sleep(SECOND);
                drop(hoard);
            });
        }
        pages(request)
    };
    let _admin = admin::start(listeners, Arc::new(handler)).unwrap();
    end_by_itself();
}

/// Whoever has started a victim ends it; this is for when that fails.
fn end_by_itself() {
    thread::sleep(Duration::from_secs(120));
    std::process::exit(0);
}

#[test]
fn a_body_that_is_announced_and_never_sent_costs_nothing() {
    if !may_open(200) {
        return;
    }
    let mut victim = Victim::guarded();
    let before = victim.status("VmRSS:");
    let announce = |length: &str| {
        let mut stream = connect(victim.address);
        stream
            .write_all(
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        stream
    };
    let _held: Vec<TcpStream> =
        (0..200).map(|i| announce(if i % 2 == 0 { "100000000000000" } else { "65536" })).collect();
    victim.is_well(before, 5_000);
}

#[test]
fn five_hundred_requests_that_end_in_a_reset_do_no_harm() {
    let mut victim = Victim::guarded();
    let before = victim.status("VmRSS:");
    for _ in 0..500 {
        let mut stream = connect(victim.address);
        stream.write_all(GET).unwrap();
        reset(stream);
    }
    victim.is_well(before, 5_000);
}

#[test]
fn an_endless_header_line_ends_after_eight_kilobytes() {
    let mut victim = Victim::guarded();
    let before = victim.status("VmRSS:");
    let mut stream = connect(victim.address);
    stream.write_all(b"GET / HTTP/1.1\r\nA: ").unwrap();
    let taken =
        (0..200 << 4).take_while(|_| stream.write_all(&[b'a'; 65536]).is_ok()).count() * 65536;
    assert!(taken < 20 << 20, "{taken} bytes were taken");
    victim.is_well(before, 5_000);
}

#[test]
fn silent_and_slow_clients_make_room_for_others() {
    if !may_open(250) {
        return;
    }
    let mut victim = Victim::guarded();
    let before = victim.status("VmRSS:");
    let _silent: Vec<TcpStream> = (0..200).map(|_| connect(victim.address)).collect();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(victim.address)).collect();
    let mut slowest = Duration::ZERO;
    for byte in GET.iter().cycle().take(40) {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
        slowest = slowest.max(answers_soon(victim.address));
        thread::sleep(Duration::from_millis(50));
    }
    eprintln!("slowest answer beside 200 silent and 50 slow clients: {slowest:?}");
    victim.is_well(before, 5_000);
}

#[test]
fn clients_that_do_not_take_their_answers_are_dropped() {
    let mut victim = Victim::guarded();
    let before = victim.status("VmRSS:");
    let greedy = || {
        let mut stream = connect(victim.address);
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream
    };
    let _greedy: Vec<TcpStream> = (0..40).map(|_| greedy()).collect();
    // forty answers of four megabytes each have to be made before ours
    until("an answer comes within a second", || {
        let start = Instant::now();
        status(&ask(victim.address, GET)) == "200" && start.elapsed() < SECOND
    });
    victim.is_well(before, 60_000);
}

#[test]
fn a_flood_of_garbage_beside_silent_and_slow_clients_delays_no_good_request() {
    if !may_open(300) {
        return;
    }
    let mut victim = Victim::guarded();
    let target = victim.address;
    let before = victim.status("VmRSS:");
    let _silent: Vec<TcpStream> = (0..200).map(|_| connect(target)).collect();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(target)).collect();
    let (over, count, garbage) = (AtomicBool::new(false), AtomicUsize::new(0), pattern(5000));
    thread::scope(|scope| {
        for part in [
            &garbage[..],
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\nabc",
            &[0; 100],
        ] {
            let (over, count) = (&over, &count);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let Ok(mut stream) = TcpStream::connect(target) else { continue };
                    let _ = stream.write_all(part);
                    count.fetch_add(1, SeqCst);
                    // faster, and what fills is the kernel's queue of connections: then the answers
                    // of TCP itself take a second
                    thread::sleep(Duration::from_micros(500));
                }
            });
        }
        // also when an answer is late and this panics, or the others would never end
        let _end = EndOnDrop(&over);
        let mut slowest = Duration::ZERO;
        for byte in GET.iter().cycle().take(60) {
            slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
            slowest = slowest.max(answers_soon(target));
        }
        eprintln!("slowest answer in a flood of {} clients: {slowest:?}", count.load(SeqCst));
    });
    victim.is_well(before, 10_000);
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_shortage_of_descriptors_passes() {
    let victim = Victim::guarded();
    assert_eq!(status(&ask(victim.address, b"GET /starve HTTP/1.1\r\nHost: a\r\n\r\n")), "200");
    // for a second there is none to be had: whoever comes meanwhile waits, or is told so, and some
    // are served
    until("there is none to be had", || victim.descriptors() > 200);
    until("there are some again", || {
        let mut stream = connect(victim.address);
        let _ = stream.write_all(GET);
        thread::sleep(Duration::from_millis(50));
        victim.descriptors() < 100
    });
    until("it serves again", || victim.serves());
    answers_soon(victim.address);
}

// a word of 32 bits cannot hold the number
#[cfg(target_pointer_width = "64")]
#[test]
fn a_bare_tiny_http_is_killed_by_a_body_that_is_announced_and_never_sent() {
    let mut victim = Victim::bare();
    let mut stream = connect(victim.address);
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000000\r\n\r\n")
        .unwrap();
    until("the process is gone", || !victim.is_running());
}

#[test]
fn a_bare_tiny_http_panics_when_requests_end_in_a_reset() {
    let victim = Victim::bare();
    until("a thread of it has panicked", || {
        let mut stream = connect(victim.address);
        let _ = stream.write_all(GET);
        reset(stream);
        victim.has_panicked()
    });
}

#[test]
fn a_bare_tiny_http_spends_a_thread_on_each_silent_client_and_ends_with_its_descriptors() {
    if !may_open(200) {
        return;
    }
    let victim = Victim::bare();
    let silent = |_| {
        // in a burst it starts too few threads, and the other clients wait for ever
        thread::sleep(Duration::from_millis(5));
        connect(victim.address)
    };
    let silent: Vec<TcpStream> = (0..100).map(silent).collect();
    until("there are many threads", || victim.status("Threads:") > 60);
    let more = (0..100)
        .filter_map(|_| TcpStream::connect_timeout(&victim.address, SECOND / 10).ok())
        .collect::<Vec<_>>();
    thread::sleep(SECOND / 2);
    drop((silent, more));
    thread::sleep(SECOND / 2);
    assert!(!victim.serves(), "it came back after the shortage");
}

#[test]
fn a_bare_tiny_http_takes_all_of_an_endless_header_line() {
    let victim = Victim::bare();
    let before = victim.status("VmRSS:");
    let mut stream = connect(victim.address);
    stream.write_all(b"GET / HTTP/1.1\r\nA: ").unwrap();
    (0..40 << 4).for_each(|_| stream.write_all(&[b'a'; 65536]).unwrap());
    until("it has kept 30 MB of it", || victim.status("VmRSS:") > before + 30_000);
}

#[test]
fn a_bare_tiny_http_serves_a_request_that_is_smuggled_in_a_body() {
    let victim = Victim::bare();
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // who goes by the Content-Length sees one request
    let length = inner.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: none\r\nContent-Length: {length}\r\n\r\n{inner}"
    );
    let answer = ask(victim.address, request.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
}
