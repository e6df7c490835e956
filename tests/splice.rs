//! What happens to bulk bytes, which go from socket to socket by splice, and to what comes before,
//! between and after them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tcpdirector::relay::pool::PoolLimits;

use crate::common::backend::{Backend, checksum};
use crate::common::program::Program;
use crate::common::{
    DEADLINE, TestDaemon, connect, ends_by_reset, exchange, one_service, pattern, read_all, reset,
    until,
};

/// Some pipes, too few of them, and none.
const PIPES: [usize; 3] = [8, 1, 0];

fn with_pipes(pipes: usize, backend: &Backend, inside: &str) -> TestDaemon {
    let xml = one_service("random", &[backend.address()], inside);
    TestDaemon::with_limits(
        &xml,
        PoolLimits {
            threads: 2,
            pollers: 2,
            sessions: 100,
            queue: 100,
            pipes,
            pipe_size: 1 << 20,
            held: 100_000,
        },
    )
}

/// Sends so much and reads it back, both at once.
fn echo_of(mut client: &TcpStream, payload: &[u8]) -> Vec<u8> {
    let (mut sending, mut answer) = (client, vec![0; payload.len()]);
    thread::scope(|scope| {
        scope.spawn(|| sending.write_all(payload).unwrap());
        client.read_exact(&mut answer).unwrap();
    });
    answer
}

#[test]
fn every_switch_between_the_two_ways_of_copying_keeps_every_byte() {
    let (backend, source) = (Backend::echo(), pattern(3_100_000));
    for pipes in PIPES {
        let daemon = with_pipes(pipes, &backend, "");
        let client = daemon.connect();
        let mut total = 0;
        // around the sizes that speak for and against bulk, the buffer, and the largest pipe
        let sizes = [
            4095, 4096, 4097, 16_383, 16_384, 65_536, 65_537, 262_145, 1_048_575, 1_048_577,
            3_000_001,
        ];
        for big in sizes {
            for (i, size) in [1, big, 2, big, big, 100].into_iter().enumerate() {
                let payload = &source[i..][..size];
                assert!(
                    echo_of(&client, payload) == payload,
                    "{size} bytes came back changed, with {pipes} pipes"
                );
                total += size as u64;
            }
        }
        let host = daemon.hosts().remove(0);
        drop(client);
        daemon.settle();
        assert_eq!((host.meter().to_server(), host.meter().to_client()), (total, total));
    }
}

#[test]
fn many_transfers_at_once_share_few_pipes() {
    const SIZE: usize = 6_000_000;
    let backend = Backend::echo();
    let daemon = with_pipes(3, &backend, "");
    let payload = pattern(SIZE);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let client = daemon.connect();
                assert!(echo_of(&client, &payload) == payload, "changed");
                client.shutdown(Shutdown::Write).unwrap();
                assert!(read_all(client).is_empty());
            });
        }
    });
    daemon.settle();
    let host = daemon.hosts().remove(0);
    assert_eq!(
        (host.meter().to_server(), host.meter().to_client()),
        (6 * SIZE as u64, 6 * SIZE as u64)
    );
}

#[test]
fn an_upload_that_ends_by_a_half_close_arrives_whole_and_is_answered() {
    let (backend, payload) = (Backend::sink(), pattern(5_000_003));
    for pipes in PIPES {
        let daemon = with_pipes(pipes, &backend, "");
        let answer = exchange(daemon.connect(), &payload);
        assert_eq!(String::from_utf8(answer).unwrap(), format!("5000003 {:x}", checksum(&payload)));
    }
}

#[test]
fn a_reader_that_stops_and_goes_on_gets_everything_and_is_not_idle() {
    const SIZE: usize = 8_000_000;
    // made before, so that nobody is silent meanwhile
    let payload = Arc::new(pattern(SIZE));
    let sent = payload.clone();
    let backend = Backend::with(move |mut client| client.write_all(&sent).unwrap());
    for pipes in PIPES {
        let daemon = with_pipes(pipes, &backend, "<timeout idle=\"2s\"/>");
        let mut client = daemon.connect();
        let (mut answer, mut space) = (Vec::new(), vec![0; 500_000]);
        loop {
            match client.read(&mut space).expect("the answer is not cut") {
                0 => break,
                count => answer.extend_from_slice(&space[..count]),
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(answer == *payload, "{} bytes of {SIZE} arrived, with {pipes} pipes", answer.len());
    }
}

#[test]
fn a_transfer_that_stands_still_for_the_idle_time_is_reset() {
    let backend = Backend::with(|mut client| while client.write_all(&[7; 65_536]).is_ok() {});
    let daemon = with_pipes(8, &backend, "<timeout idle=\"300ms\"/>");
    let client = daemon.connect();
    until("all that the kernel takes has moved", || {
        let before = daemon.hosts()[0].meter().to_client();
        thread::sleep(Duration::from_millis(50));
        before > 0 && before == daemon.hosts()[0].meter().to_client()
    });
    daemon.settle();
    assert!(ends_by_reset(&client));
}

#[test]
fn a_reset_by_the_server_in_the_middle_is_a_reset_for_the_client() {
    let payload = pattern(3_000_000);
    let backend = Backend::with(move |mut client| {
        client.write_all(&payload).unwrap();
        let _ = client.read(&mut [0]);
        reset(client);
    });
    let daemon = with_pipes(2, &backend, "");
    for _ in 0..10 {
        let mut client = daemon.connect();
        client.read_exact(&mut vec![0; 3_000_000]).unwrap();
        client.write_all(b"!").unwrap();
        assert!(ends_by_reset(&client), "a truncated answer looked complete");
    }
    daemon.settle();
}

#[test]
fn a_client_that_leaves_in_the_middle_takes_no_pipe_with_it() {
    let (send, receive) = crossbeam::channel::unbounded();
    let backend = Backend::with(move |mut client| {
        while client.write_all(&[7; 65_536]).is_ok() {}
        send.send(()).unwrap();
    });
    let daemon = with_pipes(2, &backend, "");
    for i in 0..20 {
        let mut client = daemon.connect();
        client.read_exact(&mut vec![0; 2_000_000]).unwrap();
        if i % 2 == 0 {
            reset(client)
        } else {
            drop(client)
        }
        receive.recv_timeout(DEADLINE).expect("the server hears of it");
    }
    daemon.settle();
}

#[test]
fn bytes_behind_an_urgent_one_come_through_in_the_middle_of_bulk() {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsRawFd;
    let backend = Backend::sink();
    let daemon = with_pipes(2, &backend, "");
    let mut client = daemon.connect();
    for _ in 0..10 {
        client.write_all(&[7; 500_000]).unwrap();
        assert_eq!(send(client.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
    }
    client.write_all(&[7; 500_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = String::from_utf8(read_all(client)).unwrap();
    // an urgent byte that is followed by another one before it was read becomes an ordinary one
    let arrived: usize = answer.split(' ').next().unwrap().parse().unwrap();
    assert!((5_500_000..=5_500_010).contains(&arrived), "{answer}");
}

#[test]
fn the_program_splices_bulk_and_nothing_else() {
    let backend = Backend::echo();
    let program = Program::start(&one_service("random", &[backend.address()], ""));
    let pipes = || {
        let links = fs::read_dir(format!("/proc/{}/fd", program.pid())).unwrap();
        let names = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("pipe:")).count()
    };
    let before = pipes();
    let client = connect(program.address());
    (0..50).for_each(|_| assert_eq!(echo_of(&client, b"small"), b"small"));
    assert_eq!(pipes(), before, "small messages went through a pipe");
    echo_of(&client, &pattern(20_000_000));
    assert!(pipes() > before, "bulk went the slow way");
}

#[test]
fn a_client_that_asks_for_much_and_reads_nothing_is_given_little_of_it() {
    let backend = Backend::with(|mut client| {
        let chunk = vec![7; 65_536];
        while client.write_all(&chunk).is_ok() {}
    });
    let daemon = with_pipes(8, &backend, "");
    let client = daemon.connect();
    let given = || {
        let relay = daemon.daemon.director().sessions.list().first()?.link.as_ref()?.relay();
        Some(relay?.moved().to_client())
    };
    let (mut last, mut looks) = (0, 0);
    until("nothing more goes to it", || {
        let now = given().unwrap_or(0);
        looks = if now > 0 && now == last { looks + 1 } else { 0 };
        last = now;
        looks == 100
    });
    // what is spliced at once fills 4 MB of the kernel for the client alone, and more for the host
    assert!(last < 2 << 20, "{last} bytes");
    reset(client);
}
