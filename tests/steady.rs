//! A program that is changed and replaced all the time, under a load that must not notice: short
//! sessions one after the other, and long ones whose every byte is checked.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal::SIGHUP;

use crate::common::backend::Backend;
use crate::common::left_out::may_open;
use crate::common::replaceable::{Replaceable, runs};
use crate::common::server::free_address;
use crate::common::{DEADLINE, comes_true, connect, exchange, until};

const RELOADS: usize = 200;
const BROKEN: usize = 50;
const REPLACEMENTS: usize = 20;
const LONG: usize = 200;
const SHORT: usize = 4;

/// The byte at a place of every long transfer.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// A backend that sends small pieces until it is told that it is enough, and then how much it was.
fn endless(enough: Arc<AtomicBool>) -> Backend {
    Backend::with(move |mut stream| {
        let mut sent = 0;
        while !enough.load(SeqCst) {
            let piece: Vec<u8> = (sent..sent + 3777).map(byte).collect();
            if stream.write_all(&piece).is_err() {
                return;
            }
            sent += piece.len();
            thread::sleep(Duration::from_millis(100));
        }
        let _ = stream.write_all(format!("|{sent}").as_bytes());
    })
}

/// Whether a transfer has come to its end with every byte in its place.
fn is_whole(mut stream: TcpStream) -> bool {
    let mut all = Vec::new();
    if stream.read_to_end(&mut all).is_err() {
        return false;
    }
    let Some(end) = all.iter().rposition(|byte| *byte == b'|') else { return false };
    let count = std::str::from_utf8(&all[end + 1..]).ok().and_then(|text| text.parse().ok());
    count == Some(end) && all[..end].iter().enumerate().all(|(at, found)| *found == byte(at))
}

/// Clients that connect, ask and read the answer, one after the other, until it is enough.
struct Short {
    enough: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Short {
    fn start(address: SocketAddr) -> Short {
        let (enough, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (enough, served) = (enough.clone(), served.clone());
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !enough.load(SeqCst) {
                    match once(address) {
                        Ok(answer) if answer == b"good" => drop(served.fetch_add(1, SeqCst)),
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            })
        };
        let threads = (0..SHORT).map(client).collect();
        Short { enough, served, threads }
    }

    /// How many were served, and what became of the others.
    fn stop(self) -> (usize, Vec<String>) {
        self.enough.store(true, SeqCst);
        let failures =
            self.threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        (self.served.load(SeqCst), failures)
    }
}

fn once(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, crate::common::DEADLINE)?;
    stream.set_read_timeout(Some(crate::common::DEADLINE))?;
    stream.write_all(b"who?")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// What the files of the rounds say.
struct Scene {
    short: SocketAddr,
    long: SocketAddr,
    side: SocketAddr,
    good: Vec<Backend>,
    endless: Backend,
}

impl Scene {
    fn new(enough: &Arc<AtomicBool>) -> Scene {
        let [short, long, side] = [free_address(), free_address(), free_address()];
        let good = (0..4).map(|_| Backend::named("good")).collect();
        Scene { short, long, side, good, endless: endless(enough.clone()) }
    }

    /// In the other rounds, the long sessions have lost their host, their listen address and their
    /// service.
    fn has_long(&self, round: usize) -> bool {
        round % 6 < 4
    }

    /// Hosts, groups, services and listen addresses come, go, are renamed and change their
    /// addresses; `short` always has a host.
    fn file(&self, round: usize) -> String {
        let host = |name: usize, at: usize| {
            format!("<host name=\"h{name}\" ip=\"{}\"/>", self.good[at % self.good.len()].address())
        };
        let hosts = match round % 5 {
            0 => host(0, 0) + &host(1, 1),
            1 => host(0, 1) + &host(1, 0),
            2 => host(2, 1),
            3 => host(2, round),
            _ => host(3, 2) + &host(0, 3) + &host(1, 0),
        };
        let (service, group) = (["web", "brief"][round / 7 % 2], ["blue", "green"][round / 3 % 2]);
        let rule = ["roundrobin", "leastconns", "random"][round % 3];
        let side =
            if round % 4 == 1 { format!("<listen ip=\"{}\"/>", self.side) } else { String::new() };
        let mut text = format!(
            "<service name=\"{service}\"><listen ip=\"{}\"/>{side}<group name=\"{group}\" scheduler=\"{rule}\">{hosts}</group></service>",
            self.short
        );
        if self.has_long(round) {
            let name = if round % 2 == 0 { "long" } else { "lengthy" };
            let long = format!("<host name=\"{name}\" ip=\"{}\"/>", self.endless.address());
            let long = format!("<group name=\"{name}\" scheduler=\"random\">{long}</group>");
            text =
                format!("<service name=\"{name}\"><listen ip=\"{}\"/>{long}</service>", self.long)
                    + &text;
        }
        if round % 4 == 3 {
            text += &format!(
                "<service name=\"side\"><listen ip=\"{}\"/><group name=\"g\" scheduler=\"random\"/></service>",
                self.side
            );
        }
        format!("<pdconfig>\n{text}\n<checktime time=\"{}\"/></pdconfig>\n", 1 + round % 3)
    }
}

/// The program, in one process after the other.
struct Steady(Replaceable);

impl Steady {
    /// Writes the file and reloads, which must go like this. A file with several mistakes is
    /// refused in as many lines.
    fn reload(&self, text: &str, outcome: &str) {
        let Steady(balancer) = self;
        fs::write(balancer.path("td.xml"), text).unwrap();
        let mark = balancer.program.mark();
        balancer.signal(SIGHUP);
        balancer.program.wait_after(mark, &format!("reload by=HUP state={outcome}"));
    }

    /// What its descriptors are.
    fn open(&self) -> Vec<String> {
        let entries =
            fs::read_dir(format!("/proc/{}/fd", self.0.pid())).expect("it runs").flatten();
        let name = |path: std::path::PathBuf| {
            fs::read_link(path).map(|to| to.display().to_string()).unwrap_or_default()
        };
        entries.map(|entry| name(entry.path())).collect()
    }

    fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.0.pid())).expect("it runs").count()
    }
}

#[test]
fn reloads_broken_files_and_replacements_fail_no_session_and_leave_nothing_over() {
    if !may_open(450) {
        return;
    }
    let enough = Arc::new(AtomicBool::new(false));
    let scene = Scene::new(&enough);
    let steady = Steady(Replaceable::start(&scene.file(0)));
    let mut long = Vec::new();
    let mut more = |count| {
        let clients: Vec<TcpStream> = (0..count).map(|_| connect(scene.long)).collect();
        long.extend(clients.into_iter().map(|stream| thread::spawn(move || is_whole(stream))));
        until("all long sessions have a host", || scene.endless.accepted() == long.len());
        long.len()
    };
    assert_eq!(exchange(connect(scene.short), b"who?"), b"good");
    let (before, threads) = (steady.open(), steady.threads());
    let mut begun = more(LONG / 2);
    let short = Short::start(scene.short);
    for round in 1..=RELOADS {
        steady.reload(&scene.file(round), "done");
        if scene.has_long(round) && begun < LONG {
            begun = more(1);
        }
        if round % (RELOADS / BROKEN) == 0 {
            let good = scene.file(round);
            let broken = [
                &good[..good.len() / 2],
                "",
                &good.replace("scheduler", "schedule"),
                &good.replace("127.0.0.1", "256.0.0.1"),
            ];
            steady.reload(broken[round / 4 % broken.len()], "refused");
            fs::write(steady.0.path("td.xml"), good).unwrap();
        }
        if round % (RELOADS / REPLACEMENTS) == 0 {
            steady.0.replace();
        }
    }
    let (served, failures) = short.stop();
    enough.store(true, SeqCst);
    let whole = long
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .filter(|whole| *whole)
        .count();
    assert!(
        failures.is_empty(),
        "{} of {} failed: {:?}",
        failures.len(),
        served + failures.len(),
        failures.first()
    );
    assert_eq!(whole, LONG, "transfers that came through whole");
    assert!(served > RELOADS, "only {served} sessions: there was no load");
    steady.reload(&scene.file(0), "done");
    let mut after = Vec::new();
    let is_clean = comes_true(DEADLINE, || {
        after = steady.open();
        after.len() <= before.len()
    });
    assert!(is_clean, "left over: {after:?} instead of {before:?}");
    until("no thread is left over", || steady.threads() <= threads);
    let now = steady.0.pid();
    until("no old process is left over", || {
        steady.0.pids().into_iter().all(|pid| pid == now || !runs(pid))
    });
    assert_eq!(steady.0.pids().len(), 1 + REPLACEMENTS);
}
