//! Which clients are moved on before the first answer of their host, and what that counts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::signal::Signal::SIGINT;

use crate::common::backend::Backend;
use crate::common::program::{Program, field};
use crate::common::{
    TestDaemon, accept, connect, is_turned_away, one_service, read_all, read_out, reset, until,
};

const REPLAY: &str = "<replay bytes=\"1000\"/>";
const QUESTION: &[u8] = b"the question";

/// A host that has taken one client and heard its question, and then takes no other: connecting to
/// it is refused.
fn busy(listener: TcpListener) -> TcpStream {
    let mut host = accept(&listener);
    let address = listener.local_addr().unwrap();
    drop(listener);
    // a program that another test is starting has the socket, too, until it runs
    until("nobody is listening", || {
        TcpStream::connect(address).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    });
    host.read_exact(&mut [0; QUESTION.len()]).unwrap();
    host
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn asking(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(QUESTION).unwrap();
    client
}

/// Answers the question, and ends.
fn answering() -> Backend {
    Backend::with(|mut client| {
        let mut question = [0; QUESTION.len()];
        match client.read_exact(&mut question) {
            Ok(()) if question == QUESTION => client.write_all(b"the answer").unwrap(),
            _ => reset(client),
        }
    })
}

#[test]
fn a_client_that_waits_for_a_host_that_somebody_else_finds_down_is_moved_on_at_once() {
    let ((listener, first), second) = (listener(), answering());
    let program = Program::start(&one_service("roundrobin", &[first, second.address()], REPLAY));
    let waiting = asking(program.address());
    let mut host = busy(listener);
    // in turn
    assert_eq!(read_all(asking(program.address())), b"the answer");
    let unlucky = asking(program.address());
    let (peer, waiting_peer) = (unlucky.local_addr().unwrap(), waiting.local_addr().unwrap());
    assert_eq!(read_all(unlucky), b"the answer");
    assert_eq!(read_all(waiting), b"the answer");
    assert_eq!(host.read(&mut [0]).map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
    let session = |peer: SocketAddr| program.wait_for(&format!(" client={peer} "));
    let line = session(waiting_peer);
    assert!(line.contains(" host=h1 ") && line.contains(" tries=2 tried=h0:dead "), "{line}");
    assert!(line.contains(" to_server=12 to_client=10 end=closed"), "{line}");
    let line = session(peer);
    assert!(line.contains(" tries=2 tried=h0:refused "), "{line}");
    let down = program.wait_for("host=h0 server=");
    let finder = format!(" session={}", field(&line, "id").unwrap());
    assert!(down.contains(" state=down ") && down.ends_with(&finder), "{down}");
}

#[test]
fn what_was_sent_to_a_host_counts_for_it_though_its_client_was_moved_on() {
    let ((listener, first), second) = (listener(), answering());
    let daemon = TestDaemon::start(&one_service("roundrobin", &[first, second.address()], REPLAY));
    let waiting = asking(daemon.address());
    let _host = busy(listener);
    assert_eq!(read_all(asking(daemon.address())), b"the answer");
    assert_eq!(read_all(asking(daemon.address())), b"the answer");
    assert_eq!(read_all(waiting), b"the answer");
    daemon.settle();
    let hosts = daemon.hosts();
    let meters = hosts.iter().map(|host| (host.meter().to_server(), host.meter().to_client()));
    assert_eq!(meters.collect::<Vec<_>>(), [(12, 0), (36, 30)]);
    assert_eq!(hosts.iter().map(|host| host.open()).sum::<usize>(), 0);
}

#[test]
fn a_client_that_waits_for_a_host_that_is_down_stays_when_there_is_no_other() {
    let (listener, first) = listener();
    let program =
        Program::start(&one_service("roundrobin", &[first, Backend::refuse().address()], REPLAY));
    let waiting = asking(program.address());
    let mut host = busy(listener);
    assert!(is_turned_away(program.address()));
    program.wait_for("group service=web group=main state=down");
    // as slow as it may be, it answers
    host.write_all(b"the answer").unwrap();
    drop(host);
    let peer = waiting.local_addr().unwrap();
    assert_eq!(read_all(waiting), b"the answer");
    let line = program.wait_for(&format!(" client={peer} "));
    assert!(line.contains(" host=h0 ") && line.contains(" tries=1 connect="), "{line}");
}

#[test]
fn a_client_whose_host_has_begun_to_answer_stays_though_the_host_is_down() {
    let ((listener, first), second) = (listener(), answering());
    let daemon = TestDaemon::start(&one_service("roundrobin", &[first, second.address()], REPLAY));
    let mut waiting = asking(daemon.address());
    let mut host = busy(listener);
    host.write_all(b"half of ").unwrap();
    waiting.read_exact(&mut [0; 8]).unwrap();
    for _ in 0..2 {
        assert_eq!(read_all(asking(daemon.address())), b"the answer");
    }
    assert!(!daemon.hosts()[0].is_up());
    host.write_all(b"an answer").unwrap();
    drop(host);
    assert_eq!(read_all(waiting), b"an answer");
}

#[test]
fn a_client_that_has_said_nothing_and_ended_asks_one_host_only() {
    for resets in [true, false] {
        let first = Backend::with(move |mut client| {
            let _ = client.read(&mut [0]);
            if resets {
                reset(client);
            }
        });
        let second = Backend::named("second");
        let daemon = TestDaemon::start(&one_service(
            "roundrobin",
            &[first.address(), second.address()],
            REPLAY,
        ));
        let client = daemon.connect();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_out(&client), (Vec::new(), resets));
        daemon.settle();
        assert_eq!((first.accepted(), second.accepted()), (1, 0));
    }
}

#[test]
fn what_was_sent_to_a_host_that_has_not_answered_is_in_the_line_of_a_session_that_is_ended() {
    let silent = Backend::silent();
    let program = Program::start(&one_service("random", &[silent.address()], REPLAY));
    let client = asking(program.address());
    until("it is asked", || silent.accepted() == 1);
    program.signal(SIGINT);
    assert!(read_out(&client).1);
    let line = program.wait_for(" session ");
    assert!(
        line.contains(" to_server=12 to_client=0 ") && line.ends_with(" end=stopped"),
        "{line}"
    );
}
