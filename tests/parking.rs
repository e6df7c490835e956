//! What sessions that wait cost the others, when there are very few threads.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};
use tcpdirector::relay::pool::PoolLimits;

use crate::common::backend::Backend;
use crate::common::left_out::may_open;
use crate::common::{
    TestDaemon, connect, ends_by_reset, exchange, one_service, pattern, read_all, until,
};

fn with_threads(threads: usize, xml: &str) -> TestDaemon {
    TestDaemon::with_limits(
        xml,
        PoolLimits {
            threads,
            pollers: 2,
            sessions: 1000,
            queue: 1000,
            pipes: 8,
            pipe_size: 1 << 20,
            held: 10_000_000,
        },
    )
}

/// Another service `other` beside the first one, at the second address.
fn and_other(xml: &str, backend: &Backend) -> String {
    let other = one_service("random", &[backend.address()], "").replace("\"web\"", "\"other\"");
    xml.replace("</pdconfig>", &other.replace("<pdconfig>", ""))
}

#[test]
fn clients_of_a_black_hole_hold_no_thread() {
    if !may_open(150) {
        return;
    }
    let (hole, echo) = (Backend::black_hole(), Backend::echo());
    let daemon = with_threads(1, &and_other(&one_service("random", &[hole.address()], ""), &echo));
    let addresses = daemon.daemon.addresses();
    let lost: Vec<TcpStream> = (0..50).map(|_| connect(addresses[0])).collect();
    until("all are connecting", || daemon.daemon.open_sessions() == 50);
    let began = Instant::now();
    assert_eq!(exchange(connect(addresses[1]), b"hello"), b"hello");
    // the connect time-out is five seconds: on a thread of its own each of them would hold it for
    // so long
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    // and a stop does not wait for them
    daemon.daemon.close();
    daemon.daemon.cut();
    daemon.settle();
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    lost.iter().for_each(|client| assert!(ends_by_reset(client)));
}

#[test]
fn a_black_hole_is_left_after_the_connect_time() {
    let (hole, good) = (Backend::black_hole(), Backend::named("good"));
    let xml = one_service(
        "roundrobin",
        &[hole.address(), good.address()],
        "<timeout connect=\"300ms\"/>",
    );
    let daemon = with_threads(1, &xml);
    let began = Instant::now();
    assert_eq!(exchange(daemon.connect(), b"who?"), b"good");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(!daemon.hosts()[0].is_up());
}

#[test]
fn with_replay_a_host_that_says_nothing_holds_no_thread() {
    if !may_open(200) {
        return;
    }
    let (silent, echo) = (Backend::silent(), Backend::echo());
    let daemon = with_threads(
        1,
        &and_other(&one_service("random", &[silent.address()], "<replay bytes=\"100\"/>"), &echo),
    );
    let addresses = daemon.daemon.addresses();
    let waiting: Vec<TcpStream> = (0..50).map(|_| connect(addresses[0])).collect();
    until("all are connected", || silent.accepted() == 50);
    assert_eq!(exchange(connect(addresses[1]), b"hello"), b"hello");
    daemon.daemon.close();
    daemon.daemon.cut();
    waiting.iter().for_each(|client| assert!(ends_by_reset(client)));
    daemon.settle();
}

#[test]
fn readers_that_stop_hold_no_thread_and_get_the_rest_later() {
    const SIZE: usize = 10 << 20;
    let payload = Arc::new(pattern(SIZE));
    let sent = payload.clone();
    let (source, echo) =
        (Backend::with(move |mut client| drop(client.write_all(&sent))), Backend::echo());
    let daemon =
        with_threads(1, &and_other(&one_service("random", &[source.address()], ""), &echo));
    let addresses = daemon.daemon.addresses();
    let slow: Vec<TcpStream> = (0..4).map(|_| connect(addresses[0])).collect();
    until("nothing moves any more", || {
        let before = daemon.hosts()[0].meter().to_client();
        thread::sleep(Duration::from_millis(50));
        before > 0 && before == daemon.hosts()[0].meter().to_client()
    });
    assert_eq!(exchange(connect(addresses[1]), b"hello"), b"hello");
    for client in slow {
        assert!(read_all(client) == *payload, "something is missing or changed");
    }
    daemon.settle();
}

#[test]
fn transfers_that_never_pause_leave_the_only_thread_to_others_now_and_then() {
    let (flood, echo) = (
        Backend::with(|mut client| while client.write_all(&[7; 65_536]).is_ok() {}),
        Backend::echo(),
    );
    let daemon = with_threads(1, &and_other(&one_service("random", &[flood.address()], ""), &echo));
    let addresses = daemon.daemon.addresses();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut client = connect(addresses[0]);
            let stop = client.try_clone().unwrap();
            (
                stop,
                thread::spawn(
                    move || while client.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {},
                ),
            )
        })
        .collect();
    until("bytes flow", || daemon.hosts()[0].meter().to_client() > 10_000_000);
    for _ in 0..20 {
        assert_eq!(exchange(connect(addresses[1]), b"hello"), b"hello");
    }
    for (client, reading) in readers {
        let _ = client.shutdown(Shutdown::Both);
        reading.join().unwrap();
    }
    daemon.settle();
}

#[test]
fn a_stop_reaches_parked_sessions() {
    if !may_open(400) {
        return;
    }
    let backend = Backend::echo();
    let daemon = with_threads(2, &one_service("random", &[backend.address()], ""));
    let clients: Vec<TcpStream> = (0..100).map(|_| daemon.connect()).collect();
    for mut client in &clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    daemon.daemon.close();
    assert_eq!(daemon.daemon.cut(), 100);
    clients.iter().for_each(|client| assert!(ends_by_reset(client)));
    daemon.settle();
    until("no thread is left", || daemon.daemon.pool_threads() == 0);
}

#[test]
fn an_end_that_comes_together_with_the_last_bytes_is_seen() {
    // an edge-triggered poller tells of both at once, and a read that is not full would be taken
    // for the whole story
    let backend = Backend::sink();
    let daemon = with_threads(1, &one_service("random", &[backend.address()], ""));
    for _ in 0..200 {
        let mut client = daemon.connect();
        client.write_all(b"1").unwrap();
        thread::yield_now();
        client.write_all(b"23").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(client).starts_with(b"3 "));
    }
}

#[test]
fn bytes_behind_an_urgent_one_do_not_stay_behind() {
    let backend = Backend::sink();
    let daemon = with_threads(1, &one_service("random", &[backend.address()], ""));
    let mut client = daemon.connect();
    for _ in 0..20 {
        client.write_all(b"ab").unwrap();
        assert_eq!(send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
        client.write_all(b"cd").unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    let host = daemon.hosts().remove(0);
    // the urgent bytes themselves are for programs that ask for them, and are not passed on, unless
    // the next one comes before they were read: then they become ordinary ones
    until("what is not urgent has gone on", || host.meter().to_server() >= 80);
    client.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(read_all(client)).unwrap();
    let arrived: usize = answer.split(' ').next().unwrap().parse().unwrap();
    assert!((80..=100).contains(&arrived), "{answer}");
}
