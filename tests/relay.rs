//! What happens to bytes, ends of stream and resets on their way through a relay.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, socket, sockopt,
};

use crate::common::backend::{Backend, checksum};
use crate::common::{
    DEADLINE, TestDaemon, ends_by_reset, exchange, is_closed, one_service, pattern, read_all,
    reset, until, until_acknowledged,
};

fn through(backend: &Backend) -> TestDaemon {
    TestDaemon::start(&one_service("roundrobin", &[backend.address()], ""))
}

#[test]
fn payloads_of_any_size_come_back_unchanged() {
    let backend = Backend::echo();
    let daemon = through(&backend);
    for size in [0, 1, 251, 65_535, 65_536, 65_537, 2_000_000] {
        let payload = pattern(size);
        let mut client = daemon.connect();
        let mut sender = client.try_clone().unwrap();
        let sending = thread::spawn({
            let payload = payload.clone();
            move || {
                sender.write_all(&payload).unwrap();
                sender.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        sending.join().unwrap();
        assert!(answer == payload, "{size} bytes came back as {} bytes, or changed", answer.len());
    }
}

#[test]
fn both_directions_run_at_once() {
    const SIZE: usize = 8 << 20;
    let backend = Backend::with(|client| {
        let mut reader = client.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            checksum(&all)
        });
        (&client).write_all(&pattern(SIZE)).unwrap();
        assert_eq!(reading.join().unwrap(), checksum(&pattern(SIZE)));
        (&client).write_all(b"same").unwrap();
    });
    let daemon = through(&backend);
    let client = daemon.connect();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&pattern(SIZE)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let answer = read_all(client);
    writing.join().unwrap();
    assert_eq!(answer.len(), SIZE + 4);
    assert!(answer.ends_with(b"same"), "the upload arrived changed");
    assert_eq!(checksum(&answer[..SIZE]), checksum(&pattern(SIZE)));
}

#[test]
fn a_server_may_speak_first() {
    let backend = Backend::banner("SSH-2.0-test\r\n");
    let daemon = through(&backend);
    let mut client = daemon.connect();
    let mut banner = [0; 14];
    client.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"SSH-2.0-test\r\n");
    assert_eq!(exchange(client, b"hello"), b"hello");
}

#[test]
fn a_server_that_speaks_first_does_not_wait_until_the_client_has_spoken() {
    let backend = Backend::banner("220 hello\r\n");
    let daemon = through(&backend);
    // a handshake that waits for the client's first bytes takes 0.2 s; the fastest of a few shows
    // it on a busy machine, too
    let greeted = |_| {
        let start = Instant::now();
        assert_eq!(daemon.connect().read(&mut [0; 64]).unwrap(), 11);
        start.elapsed()
    };
    let fastest = (0..5).map(greeted).min().unwrap();
    assert!(fastest < Duration::from_millis(150), "the fastest greeting of five took {fastest:?}");
}

#[test]
fn half_close_by_the_client_keeps_the_answer() {
    let backend = Backend::sink();
    let daemon = through(&backend);
    let payload = pattern(300_000);
    let answer = exchange(daemon.connect(), &payload);
    assert_eq!(String::from_utf8(answer).unwrap(), format!("300000 {:x}", checksum(&payload)));
}

#[test]
fn half_close_by_the_server_keeps_the_upload() {
    let (send, receive) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |mut client| {
        client.write_all(b"bye").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        send.send(all).unwrap();
    });
    let daemon = through(&backend);
    let mut client = daemon.connect();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"bye");
    client.write_all(&pattern(300_000)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(receive.recv_timeout(crate::common::DEADLINE).unwrap() == pattern(300_000));
    daemon.settle();
}

#[test]
fn a_reset_by_the_server_reaches_the_client_as_a_reset() {
    let backend = Backend::reset_after(1000);
    let daemon = through(&backend);
    let mut client = daemon.connect();
    let mut answer = vec![0; 1000];
    client.read_exact(&mut answer).unwrap();
    assert!(answer == pattern(1000));
    client.write_all(b"!").unwrap();
    assert!(ends_by_reset(&client), "a truncated answer looked complete");
    daemon.settle();
}

#[test]
fn a_reset_by_the_server_is_not_hidden_by_a_client_that_keeps_sending() {
    // the error of a reset socket is reported once, and here the flow to the server often gets it
    let backend = Backend::with(|client| {
        let mut space = [0; 1];
        let _ = (&client).read(&mut space);
        reset(client);
    });
    let daemon = through(&backend);
    for _ in 0..50 {
        let client = daemon.connect();
        let mut writer = client.try_clone().unwrap();
        let writing = thread::spawn(move || while writer.write_all(&[7; 100]).is_ok() {});
        // here too the writer may have got the error; the state of the socket tells the two ends
        // apart
        let is_reset = ends_by_reset(&client) || is_closed(&client);
        assert!(is_reset, "the client saw a clean end");
        writing.join().unwrap();
    }
    daemon.settle();
}

#[test]
fn a_reset_by_the_client_reaches_the_server_as_a_reset() {
    let (send, receive) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |mut client| {
        client.write_all(b"ready").unwrap();
        send.send(ends_by_reset(&client)).unwrap();
    });
    let daemon = through(&backend);
    let mut client = daemon.connect();
    client.read_exact(&mut [0; 5]).unwrap();
    reset(client);
    assert!(receive.recv_timeout(crate::common::DEADLINE).unwrap(), "the server saw a clean end");
    daemon.settle();
}

#[test]
fn silence_both_ways_ends_the_session_after_the_idle_time() {
    let backend = Backend::silent();
    let daemon = TestDaemon::start(&one_service(
        "random",
        &[backend.address()],
        "<timeout idle=\"300ms\"/>",
    ));
    let began = Instant::now();
    let client = daemon.connect();
    assert!(ends_by_reset(&client));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(300), "ended too early, after {took:?}");
    daemon.settle();
}

#[test]
fn silence_one_way_only_is_not_idle() {
    let backend = Backend::with(|mut client| {
        // longer than the idle time in small steps: the pace is what is tested
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(100));
            client.write_all(b".").unwrap();
        }
    });
    let daemon =
        TestDaemon::start(&one_service("random", &[backend.address()], "<timeout idle=\"1s\"/>"));
    assert_eq!(read_all(daemon.connect()).len(), 20);
}

#[test]
fn a_half_closed_session_ends_after_the_idle_time_too() {
    let (send, receive) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |client: TcpStream| {
        // does not end its side although the client has ended
        let _ = (&client).read(&mut [0]);
        receive.recv_timeout(DEADLINE).unwrap();
    });
    let daemon = TestDaemon::start(&one_service(
        "random",
        &[backend.address()],
        "<timeout idle=\"200ms\"/>",
    ));
    let client = daemon.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(ends_by_reset(&client));
    daemon.settle();
    send.send(()).unwrap();
}

#[test]
fn the_time_of_a_half_closed_session_begins_with_the_end_of_a_side() {
    let backend = Backend::with(|mut client: TcpStream| {
        let _ = client.read_to_end(&mut Vec::new());
        // takes less than `half` for its answer to the end
        thread::sleep(Duration::from_millis(400));
        let _ = client.write_all(b"summary");
    });
    let timeout = "<timeout idle=\"60s\" half=\"1500ms\"/>";
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], timeout));
    let mut client = daemon.connect();
    client.write_all(b"hello").unwrap();
    // longer than `half`
    thread::sleep(Duration::from_millis(1800));
    assert_eq!(exchange(client, b""), b"summary");
}

#[test]
fn a_client_that_does_not_read_holds_the_server_back() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let backend = Backend::with(move |mut client| {
        let chunk = pattern(64 * 1024);
        while client.write_all(&chunk).is_ok() {
            count.fetch_add(chunk.len(), std::sync::atomic::Ordering::SeqCst);
        }
    });
    let daemon = through(&backend);
    let client = daemon.connect();
    let mut last = usize::MAX;
    // the kernel's buffers on four sockets may take some megabytes; then nothing moves any more
    let mut still = 0;
    until("the server is held back", || {
        thread::sleep(Duration::from_millis(20));
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        still = if now == last { still + 1 } else { 0 };
        last = now;
        still > 10
    });
    assert!(last < 64 << 20, "{last} bytes were taken for a client that reads nothing");
    drop(client);
    daemon.settle();
}

#[test]
fn a_client_that_stops_reading_is_let_go_when_its_server_resets() {
    let (send, is_full) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |mut client| {
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while client.write_all(&[0; 65536]).is_ok() {}
        send.send(()).unwrap();
        reset(client);
    });
    let daemon = through(&backend);
    let client = daemon.connect();
    is_full.recv_timeout(crate::common::DEADLINE).expect("the relay holds the server back");
    assert!(ends_by_reset(&client));
    daemon.settle();
}

#[test]
fn a_host_that_is_stuck_in_writing_still_reads_what_a_client_sent_before_it_reset() {
    // both directions are full, and the host reads nothing before somebody takes what it says
    let backend = Backend::echo();
    let daemon = through(&backend);
    let mut client = daemon.connect();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while client.write(&[7; 65536]).is_ok() {}
    reset(client);
    daemon.settle();
}

#[test]
fn a_client_that_never_takes_what_a_host_left_to_it_is_let_go_after_the_time_of_half() {
    // more than the client's own kernel holds for it, less than this one does
    let backend = Backend::with(|mut client| {
        client.write_all(&[7; 100_000]).unwrap();
        until_acknowledged(&client);
        reset(client);
    });
    let timeout = "<timeout idle=\"60s\" half=\"300ms\"/>";
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], timeout));
    let SocketAddr::V4(address) = daemon.address() else { panic!("the tests use IPv4") };
    let client =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&client, sockopt::RcvBuf, &2048).unwrap();
    nix::sys::socket::connect(client.as_raw_fd(), &SockaddrIn::from(address)).unwrap();
    until("the host has come and gone", || backend.accepted() == 1);
    daemon.settle();
}

#[test]
fn bytes_are_counted_for_the_host_while_they_move() {
    let backend = Backend::echo();
    let daemon = through(&backend);
    let mut client = daemon.connect();
    client.write_all(&[1; 1000]).unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    let host = daemon.hosts().remove(0);
    until("both directions are counted", || {
        (host.meter().to_server(), host.meter().to_client()) == (1000, 1000)
    });
    assert_eq!((host.open(), host.total()), (1, 1));
    drop(client);
    daemon.settle();
    assert_eq!((host.open(), host.total()), (0, 1));
}

#[test]
fn a_client_that_reads_slowly_is_not_idle_and_loses_nothing() {
    const SIZE: usize = 3_000_000;
    let backend = Backend::with(|mut client| client.write_all(&pattern(SIZE)).unwrap());
    let daemon = TestDaemon::start(&one_service(
        "random",
        &[backend.address()],
        "<timeout idle=\"500ms\"/>",
    ));
    let mut client = daemon.connect();
    let mut answer = Vec::new();
    let mut space = vec![0; 50_000];
    // the kernel takes all of it at once; only the pace of the client is slow, some two seconds in
    // all
    loop {
        match client.read(&mut space).expect("the answer is not cut") {
            0 => break,
            count => answer.extend_from_slice(&space[..count]),
        }
        thread::sleep(Duration::from_millis(30));
    }
    assert!(answer == pattern(SIZE), "{} bytes of {SIZE} arrived", answer.len());
}

#[test]
fn a_reset_after_a_half_close_reaches_a_server_that_says_nothing() {
    let ((told, is_told), (send, receive)) =
        (crossbeam::channel::bounded(1), crossbeam::channel::bounded(1));
    let backend = Backend::with(move |mut client| {
        let _ = client.read_to_end(&mut Vec::new());
        told.send(()).unwrap();
        // nothing is read any more, so the reset shows when something is written
        let began = Instant::now();
        let mut is_reset = false;
        while !is_reset && began.elapsed() < DEADLINE {
            is_reset = is_closed(&client);
            thread::sleep(Duration::from_millis(5));
        }
        send.send(is_reset).unwrap();
    });
    let daemon = through(&backend);
    let client = daemon.connect();
    client.shutdown(Shutdown::Write).unwrap();
    is_told.recv_timeout(DEADLINE).expect("the server has been told");
    reset(client);
    assert!(receive.recv_timeout(DEADLINE).unwrap(), "the server never heard of it");
    daemon.settle();
}

#[test]
fn what_a_client_was_told_had_arrived_reaches_a_server_that_reads_late() {
    let (go_on, may_go_on) = crossbeam::channel::bounded::<()>(1);
    let (tell, told) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |mut client| {
        let _ = may_go_on.recv_timeout(DEADLINE);
        let (mut bytes, mut space) = (0, vec![0; 65_536]);
        let is_reset = loop {
            match client.read(&mut space) {
                Ok(0) => break false,
                Ok(count) => bytes += count,
                Err(e) => break e.kind() == ErrorKind::ConnectionReset,
            }
        };
        tell.send((bytes, is_reset)).unwrap();
    });
    let daemon = through(&backend);
    let mut client = daemon.connect();
    // what the kernel holds for a server that does not read
    client.write_all(&vec![0; 400_000]).unwrap();
    until("all has arrived", || {
        tcpdirector::system::socket::unacknowledged(&client).is_ok_and(|count| count == 0)
    });
    reset(client);
    go_on.send(()).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok((400_000, true)));
    daemon.settle();
}
