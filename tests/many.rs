//! Five thousand sessions at once, through the built program.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use tcpdirector::system::limits::{Limits, raise_descriptors};
use tcpdirector::system::socket::listen;

use crate::common::program::Program;
use crate::common::{connect, one_service, until};

const SESSIONS: usize = 5000;

/// Echoes for so many clients on one thread, once all have come and until all have gone.
pub fn echo_for(sessions: usize) -> std::net::SocketAddr {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut clients: Vec<TcpStream> = Vec::new();
        while clients.len() < sessions {
            let (client, _) = listener.accept().unwrap();
            client.set_nonblocking(true).unwrap();
            clients.push(client);
        }
        while !clients.is_empty() {
            let mut polled: Vec<PollFd> = clients.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)).collect();
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
fn five_thousand_sessions_are_open_at_once_and_all_answer() {
    let machine = Limits::read();
    raise_descriptors().unwrap();
    // here two descriptors for each session, in the program two descriptors and two threads
    if machine.descriptors < 2 * SESSIONS as u64 + 1000 || machine.threads < 2 * SESSIONS as u64 + 1000 {
        return eprintln!("skipped: this machine allows {} descriptors and {} threads", machine.descriptors, machine.threads);
    }
    let pool = format!("<pool threads=\"{}\"/></pdconfig>", 2 * SESSIONS);
    let program = Program::start(&one_service("leastconns", &[echo_for(SESSIONS)], "").replace("</pdconfig>", &pool));
    let idle = program.status("VmRSS");
    let mut clients: Vec<TcpStream> = (0..SESSIONS).map(|_| connect(program.address())).collect();
    until("all are being relayed", || program.status("Threads") >= 2 * SESSIONS);
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
    let each = (program.status("VmRSS") - idle) as f64 / SESSIONS as f64;
    eprintln!("{SESSIONS} sessions, {} threads, {each:.1} kB of resident memory each", program.status("Threads"));
    drop(clients);
    until("all have ended", || program.count(" session ") == SESSIONS);
    assert_eq!(program.count("end=closed"), SESSIONS);
}
