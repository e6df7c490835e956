//! Which silent sessions end, and which stay.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use tcpdirector::relay::{CloseReason, Relay};

use crate::common::backend::Backend;
use crate::common::program::{Program, field};
use crate::common::{
    DEADLINE, TestDaemon, accept, connect, ends_by_reset, is_closed, one_service, pattern, until,
    until_acknowledged,
};

/// The relay of the only session.
fn relay(daemon: &TestDaemon) -> Option<std::sync::Arc<Relay>> {
    daemon.daemon.director().sessions.lines().first()?.link.as_ref()?.relay()
}

#[test]
fn readers_that_rest_for_long_are_not_dead_and_get_every_byte() {
    const SIZE: usize = 24 << 20;
    let (go_on, may_go_on) = bounded::<()>(1);
    let (tell, told) = bounded(1);
    /// Sends all, and reads all when it may.
    fn talk(mut stream: &TcpStream, rest: impl FnOnce()) -> bool {
        let (mut sending, payload) = (stream, pattern(SIZE));
        let mut got = vec![0; SIZE];
        thread::scope(|scope| {
            scope.spawn(|| sending.write_all(&payload).unwrap());
            rest();
            stream.read_exact(&mut got).unwrap();
        });
        got == payload
    }
    let backend = Backend::with(move |client| {
        let _ = tell.send(talk(&client, || {
            let _ = may_go_on.recv_timeout(DEADLINE);
        }));
    });
    let daemon =
        TestDaemon::start(&one_service("random", &[backend.address()], "<timeout dead=\"2s\"/>"));
    let client = daemon.connect();
    let is_whole = talk(&client, || {
        until("it is relayed", || relay(&daemon).is_some());
        let relay = relay(&daemon).unwrap();
        let (mut last, mut since) = ((0, 0), Instant::now());
        until("nobody has room for more", || {
            let now = relay.undelivered();
            if now != last || now.0 == 0 || now.1 == 0 {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_millis(300)
        });
        // three times as long as one that is dead may be silent: the pace is what is tested
        thread::sleep(Duration::from_secs(6));
        let (to_server, to_client) = relay.undelivered();
        assert!(to_server > 0 && to_client > 0, "somebody has read");
        go_on.send(()).unwrap();
    });
    assert!(is_whole && told.recv_timeout(DEADLINE) == Ok(true), "the bytes were changed");
    drop(client);
    daemon.settle();
}

#[test]
fn a_session_of_which_one_side_has_ended_may_be_silent_for_half_only() {
    // does not end its side although the client has ended
    let (enter, entered) = bounded::<TcpStream>(10);
    let backend = Backend::with(move |client| enter.send(client).unwrap());
    let inside = "<timeout idle=\"1h\" half=\"400ms\"/>";
    let program = Program::start(&one_service("random", &[backend.address()], inside));
    let (both, ended) = (connect(program.address()), connect(program.address()));
    let hosts: Vec<TcpStream> = (0..2).map(|_| entered.recv_timeout(DEADLINE).unwrap()).collect();
    let began = Instant::now();
    ended.shutdown(Shutdown::Write).unwrap();
    assert!(ends_by_reset(&ended), "a cut answer looked complete");
    assert!(began.elapsed() >= Duration::from_millis(400), "ended after {:?}", began.elapsed());
    let line = program.wait_for(" session ");
    assert_eq!(field(&line, "end"), Some("idle"), "{line}");
    assert_eq!(
        field(&line, "client"),
        Some(ended.local_addr().unwrap().to_string().as_str()),
        "{line}"
    );

    // the same where the host has ended, and the client has not
    let (mut client, mut host) =
        (connect(program.address()), entered.recv_timeout(DEADLINE).unwrap());
    host.write_all(b"bye").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"bye");
    assert!(ends_by_reset(&host), "a cut upload looked complete");
    let ends = || {
        program.lines(" session ").iter().filter(|line| field(line, "end") == Some("idle")).count()
    };
    until("it is in the log", || ends() == 2);

    // one whose sides both live is left alone: it has been silent for longer than those two
    let mut host = hosts.iter().find(|host| !is_closed(host)).expect("the other session goes on");
    host.write_all(b"still here").unwrap();
    (&both).read_exact(&mut [0; 10]).expect("its client hears it");
}

#[test]
fn a_session_that_goes_on_after_one_side_has_ended_is_not_cut_by_half() {
    let backend = Backend::with(|mut client| {
        let _ = client.read_to_end(&mut Vec::new());
        // three times as long as it may be silent: the pace is what is tested
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(100));
            client.write_all(b".").unwrap();
        }
    });
    let inside = "<timeout idle=\"1h\" half=\"500ms\"/>";
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], inside));
    assert_eq!(crate::common::exchange(daemon.connect(), b"?").len(), 15);
}

#[test]
fn a_host_that_has_ended_is_not_counted_by_leastconns_though_its_client_stays() {
    let (left, stays) = (Backend::with(drop), Backend::silent());
    let daemon =
        TestDaemon::start(&one_service("leastconns", &[left.address(), stays.address()], ""));
    let hosts = daemon.hosts();
    let enter = |host: usize| {
        let before = hosts[host].total();
        let client = daemon.connect();
        until("it has come to that host", || hosts[host].total() == before + 1);
        client
    };
    let first = enter(0);
    assert_eq!((&first).read(&mut [0]).unwrap(), 0);
    until("the host that has left is free again", || hosts[0].open() == 0);
    // equals take turns
    let mut clients = vec![first, enter(1)];
    // if those that it has left still counted, the second of these would go to the other host
    for open in 3..5 {
        let client = enter(0);
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        until("the host that has left is free again", || hosts[0].open() == 0);
        assert_eq!(daemon.daemon.open_sessions(), open, "a session ended though its client stays");
        clients.push(client);
    }
    assert_eq!(hosts[1].open(), 1);
}

/// The end stands behind what the relay cannot read, since it has nowhere to write it.
#[test]
fn a_host_that_has_ended_is_not_counted_by_leastconns_though_its_client_reads_nothing() {
    const PIECE: usize = 16 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon =
        TestDaemon::start(&one_service("leastconns", &[listener.local_addr().unwrap()], ""));
    let mut client = daemon.connect();
    let mut host = accept(&listener);
    until("it is relayed", || relay(&daemon).is_some());
    let relay = relay(&daemon).unwrap();
    let mut sent = 0;
    while sent < relay.moved().to_client() as usize + 4 * PIECE {
        host.write_all(&[7; PIECE]).unwrap();
        until_acknowledged(&host);
        sent += PIECE;
    }
    drop(host);
    until("the host that has left is free again", || daemon.hosts()[0].open() == 0);
    assert_eq!((daemon.daemon.open_sessions(), relay.end()), (1, CloseReason::Closed));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
}
