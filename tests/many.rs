//! As many sessions at once as the descriptors of this machine allow, through the built program.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use tcpdirector::system::limits::Limits;
use tcpdirector::system::socket::listen;

use crate::common::backend::Backend;
use crate::common::left_out::{leave_out, may_open};
use crate::common::program::Program;
use crate::common::{accept, connect, one_service, until};

/// Held by a test that takes thousands of the descriptors of this process: there are not enough for
/// two.
pub static THOUSANDS: Mutex<()> = Mutex::new(());

/// Echoes for so many clients on one thread, once all have come and until all have gone.
pub fn echo_for(sessions: usize) -> std::net::SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut clients: Vec<TcpStream> = Vec::new();
        while clients.len() < sessions {
            let client = accept(&listener);
            client.set_nonblocking(true).unwrap();
            clients.push(client);
        }
        while !clients.is_empty() {
            let mut polled: Vec<PollFd> =
                clients.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)).collect();
            poll(&mut polled, PollTimeout::NONE).unwrap();
            let ready: Vec<bool> = polled.iter().map(|p| p.any().unwrap()).collect();
            let mut ready = ready.into_iter();
            clients.retain(|client| !ready.next().unwrap() || still_there(client));
        }
    });
    address
}

fn still_there(mut client: &TcpStream) -> bool {
    let mut space = [0; 256];
    match client.read(&mut space) {
        Ok(0) => false,
        Ok(count) => client.write_all(&space[..count]).is_ok(),
        Err(e) => e.kind() == ErrorKind::WouldBlock,
    }
}

#[test]
fn thousands_of_sessions_are_open_at_once_on_a_few_threads_and_all_answer() {
    let _turn = THOUSANDS.lock();
    let machine = Limits::read();
    // two descriptors for each session, here and in the program, and some to spare for the other
    // tests of this process
    let sessions = (machine.descriptors.saturating_sub(1000) as usize / 2).min(9500);
    if sessions < 1000 {
        return leave_out(&format!("this machine allows {} descriptors", machine.descriptors));
    }
    let xml = one_service("leastconns", &[echo_for(sessions)], "<timeout idle=\"100s\"/>");
    // less is planned with where the limit of memory cannot be read
    let program = Program::start(&xml.replace("</pdconfig>", "<pool memory=\"128M\"/></pdconfig>"));
    let before = program.status("RssAnon");
    let mut clients: Vec<TcpStream> = (0..sessions).map(|_| connect(program.address())).collect();
    for round in 0..2 {
        for (i, client) in clients.iter_mut().enumerate() {
            writeln!(client, "{round} {i}").unwrap();
        }
        for (i, client) in clients.iter_mut().enumerate() {
            let expected = format!("{round} {i}\n");
            let mut answer = vec![0; expected.len()];
            client.read_exact(&mut answer).unwrap_or_else(|e| panic!("session {i}: {e}"));
            assert_eq!(String::from_utf8(answer).unwrap(), expected);
        }
    }
    // beside the pool: main, signals, manager, resolver, and one for the address
    let (threads, limit) = (program.status("Threads"), (machine.cores + 1).clamp(2, 64) + 5);
    assert!(threads <= limit, "{threads} threads, and {limit} are allowed");
    let each = (program.status("RssAnon") - before) as f64 / sessions as f64;
    eprintln!("{sessions} sessions, {threads} threads, {each:.2} kB of resident memory each");
    assert!(each < 2.0, "a session takes {each:.2} kB of resident memory");
    drop(clients);
    until("all have ended", || program.count(" session ") == sessions);
    assert_eq!(program.count("end=closed"), sessions);
}

#[test]
fn readers_that_stop_cost_no_more_memory_than_the_configuration_allows() {
    if !may_open(400) {
        return;
    }
    const READERS: usize = 200;
    let flood = Backend::with(|mut client| while client.write_all(&[7; 100_000]).is_ok() {});
    let pool = "<pool memory=\"4M\"/></pdconfig>";
    let program =
        Program::start(&one_service("random", &[flood.address()], "").replace("</pdconfig>", pool));
    let before = program.status("RssAnon");
    // with 64 KiB held for each it would be 12 MB
    let readers: Vec<TcpStream> = (0..READERS).map(|_| connect(program.address())).collect();
    until("all are connected", || flood.accepted() == READERS);
    program.until_quiet();
    let grown = program.status("RssAnon") - before;
    assert!(grown <= 4096, "{READERS} readers that stop take {grown} kB");
    drop(readers);
}
