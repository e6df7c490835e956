//! What either side has got, and how that ends, when the other side or the program itself breaks
//! off.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};
use tcpdirector::relay::{Meter, Relay, Timeouts};

use crate::common::backend::Backend;
use crate::common::program::{Program, field};
use crate::common::{
    DEADLINE, TestDaemon, accept, connect, one_service, pattern, read_all, read_out, reset, until,
    until_acknowledged,
};

/// More than the kernel holds for a client that does not read, and less than it holds for both
/// sides of the program.
const SIZE: usize = 400_000;

const REPLAY: &str = "<replay bytes=\"1000\"/>";

/// A host that hears one byte, answers so much, waits until that was acknowledged, and resets. The
/// channel tells when it has.
fn told_and_reset(size: usize) -> (Backend, Receiver<()>) {
    let (tell, told) = bounded(100);
    let backend = Backend::with(move |mut client| {
        client.read_exact(&mut [0]).unwrap();
        client.write_all(&pattern(size)).unwrap();
        until_acknowledged(&client);
        reset(client);
        let _ = tell.send(());
    });
    (backend, told)
}

#[test]
fn what_a_host_was_told_had_arrived_reaches_a_client_that_reads_late_and_then_the_reset() {
    let (backend, is_reset) = told_and_reset(SIZE);
    for inside in ["", REPLAY] {
        let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
        let mut client = daemon.connect();
        client.write_all(b"?").unwrap();
        is_reset.recv_timeout(DEADLINE).expect("all was acknowledged");
        let (bytes, ends_by_reset) = read_out(&client);
        assert!(bytes == pattern(SIZE), "{} bytes of {SIZE} arrived with `{inside}`", bytes.len());
        assert!(ends_by_reset, "a cut answer looked complete");
        daemon.settle();
    }
}

#[test]
fn a_short_answer_with_a_reset_on_its_heels_arrives_every_time() {
    let (backend, _is_reset) = told_and_reset(100);
    for inside in ["", REPLAY] {
        let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
        for round in 0..50 {
            let mut client = daemon.connect();
            client.write_all(b"?").unwrap();
            let (bytes, ends_by_reset) = read_out(&client);
            let is_whole = bytes == pattern(100);
            assert!(is_whole && ends_by_reset, "round {round} with `{inside}`: {}", bytes.len());
        }
        daemon.settle();
    }
}

#[test]
fn a_few_words_too_many_from_the_client_do_not_cost_it_the_answer() {
    let (tell, has_closed) = bounded(1);
    let backend = Backend::with(move |mut client| {
        client.read_exact(&mut [0]).unwrap();
        client.write_all(&pattern(SIZE)).unwrap();
        until_acknowledged(&client);
        drop(client);
        let _ = tell.send(());
    });
    for inside in ["", REPLAY] {
        let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
        for _ in 0..5 {
            let mut client = daemon.connect();
            client.write_all(b"?").unwrap();
            has_closed.recv_timeout(DEADLINE).expect("all was acknowledged");
            // the host's kernel answers the first of these by a reset, and the next one fails
            for _ in 0..20 {
                client.write_all(b"!").unwrap();
                until_acknowledged(&client);
            }
            let (bytes, ends_by_reset) = read_out(&client);
            assert!(bytes == pattern(SIZE), "{} bytes of {SIZE} arrived", bytes.len());
            assert!(!ends_by_reset, "a whole answer looked cut");
        }
        daemon.settle();
    }
}

#[test]
fn a_line_with_a_reset_on_its_heels_reaches_the_host_every_time() {
    let (backend, heard) = Backend::hearing();
    for inside in ["", REPLAY] {
        let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
        for _ in 0..50 {
            let mut client = daemon.connect();
            client.write_all(b"a line of the log").unwrap();
            until_acknowledged(&client);
            reset(client);
            assert_eq!(heard.recv_timeout(DEADLINE), Ok((b"a line of the log".to_vec(), true)));
        }
        daemon.settle();
    }
}

/// A program with a host that begins an answer, waits to be told, and then tells what it has heard
/// and whether that ended by a reset.
fn half_answered(inside: &str) -> (Program, Backend, Receiver<(Vec<u8>, bool)>) {
    let (tell, heard) = bounded(1);
    let backend = Backend::with(move |mut client| {
        client.read_exact(&mut [0]).unwrap();
        client.write_all(b"half of").unwrap();
        let _ = tell.send(read_out(&client));
        let _ = client.write_all(b" it");
    });
    let program = Program::start(&one_service("random", &[backend.address()], inside));
    (program, backend, heard)
}

#[test]
fn a_program_that_is_killed_leaves_no_answer_and_no_upload_that_looks_complete() {
    for inside in ["", REPLAY] {
        let (mut program, _backend, heard) = half_answered(inside);
        let mut client = connect(program.address());
        client.write_all(b"?").unwrap();
        client.read_exact(&mut [0; 7]).unwrap();
        // in the middle of both
        client.write_all(b"half of an upload").unwrap();
        until_acknowledged(&client);
        program.signal(SIGKILL);
        program.wait();
        assert!(read_out(&client).1, "a cut answer looked complete");
        let (_, ends_by_reset) = heard.recv_timeout(DEADLINE).unwrap();
        assert!(ends_by_reset, "a cut upload looked complete");
    }
}

#[test]
fn a_program_that_is_killed_before_the_first_answer_leaves_none_that_looks_complete() {
    for inside in ["", REPLAY] {
        let (backend, heard) = Backend::hearing();
        let mut program = Program::start(&one_service("random", &[backend.address()], inside));
        let client = connect(program.address());
        until("the host is asked", || backend.accepted() == 1);
        program.signal(SIGKILL);
        program.wait();
        assert!(read_out(&client).1, "no answer looked like an empty one");
        assert!(heard.recv_timeout(DEADLINE).unwrap().1, "no question looked like an empty one");
    }
}

#[test]
fn a_program_that_is_killed_after_a_client_has_ended_its_side_leaves_no_answer_that_looks_complete()
{
    let (tell, told) = bounded(1);
    let backend = Backend::with(move |mut client| {
        client.write_all(b"half of").unwrap();
        let _ = tell.send(client.read_to_end(&mut Vec::new()));
        // goes when the program does
        until("it is gone", || tcpdirector::system::socket::is_gone(&client));
    });
    let mut program = Program::start(&one_service("random", &[backend.address()], ""));
    let mut client = connect(program.address());
    client.read_exact(&mut [0; 7]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    told.recv_timeout(DEADLINE).unwrap().expect("an end in good order");
    program.signal(SIGKILL);
    program.wait();
    assert!(read_out(&client).1, "a cut answer looked complete");
}

#[test]
fn good_order_on_both_sides_stays_good_order() {
    for inside in ["", REPLAY] {
        let (program, _backend, heard) = half_answered(inside);
        let mut client = connect(program.address());
        client.write_all(b"?and more").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(client), b"half of it");
        assert_eq!(heard.recv_timeout(DEADLINE), Ok((b"and more".to_vec(), false)));
        let line = program.wait_for(" session ");
        assert_eq!((field(&line, "end"), field(&line, "undelivered")), (Some("closed"), None));
    }
}

#[test]
fn bytes_that_came_while_the_machine_slept_are_no_silence() {
    let (enter, entered) = bounded::<TcpStream>(10);
    let backend = Backend::with(move |client| enter.send(client).unwrap());
    let program =
        Program::start(&one_service("random", &[backend.address()], "<timeout idle=\"1s\"/>"));
    let sessions: Vec<(TcpStream, TcpStream)> = (0..10)
        .map(|_| {
            let mut client = connect(program.address());
            let mut host = entered.recv_timeout(DEADLINE).unwrap();
            host.write_all(b".").unwrap();
            client.read_exact(&mut [0]).unwrap();
            (client, host)
        })
        .collect();
    program.signal(SIGSTOP);
    let (clients, hosts): (Vec<_>, Vec<_>) = sessions.into_iter().unzip();
    for mut host in &hosts {
        host.write_all(b"news").unwrap();
    }
    // more than twice as long as a session may be silent: the pace is what is tested
    std::thread::sleep(Duration::from_millis(2500));
    program.signal(SIGCONT);
    let heard = |mut client: TcpStream| {
        let mut news = [0; 4];
        client.read_exact(&mut news).map_or(Vec::new(), |()| news.to_vec())
    };
    assert_eq!(clients.into_iter().map(heard).collect::<Vec<_>>(), vec![b"news".to_vec(); 10]);
}

#[test]
fn bytes_that_wait_to_be_read_are_no_rest_that_a_drain_or_a_stop_may_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), accept(&listener));
    let ((client, inside), (mut host, there)) = (pair(), pair());
    // its flows do not run
    let relay = Relay::new(inside, there, Timeouts::idle(DEADLINE), Arc::new(Meter::default()));
    assert!(relay.is_at_rest(Duration::ZERO));
    host.write_all(b"news").unwrap();
    until("they wait", || !relay.is_at_rest(Duration::ZERO));
    drop((client, host));
}
