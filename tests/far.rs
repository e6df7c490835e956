//! What becomes of bytes and of connections on a slow line, on one that loses packets, and behind a
//! router, in networks of their own. For root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::backend::Backend;
use crate::common::net::{Network, SlowLine};
use crate::common::program::{Program, field};
use crate::common::{DEADLINE, connect, one_service, pattern, read_out, reset, until_acknowledged};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);

const SIZE: usize = 500_000;

/// Two networks with a line of 50 ms between them; `None` where that is not allowed.
fn two() -> Option<(Network, Network, SlowLine)> {
    let (here, there) = (Network::new()?, Network::new()?);
    let line = SlowLine::new(
        [(&here, "10.99.1.1/24"), (&there, "10.99.1.2/24")],
        Duration::from_millis(50),
    )?;
    Some((here, there, line))
}

/// A program in the first network that anybody can connect to, and its port.
fn start(here: &Network, host: SocketAddr, inside: &str) -> (Program, u16) {
    let xml = one_service("random", &[host], inside).replace("127.0.0.1:0", "0.0.0.0:0");
    let program = here.run(|| Program::start(&xml));
    let port = program.address().port();
    (program, port)
}

#[test]
fn what_a_host_was_told_had_arrived_reaches_a_client_behind_a_slow_line_and_then_the_reset() {
    let Some((here, there, _line)) = two() else { return };
    let host = here.run(|| {
        Backend::with(|mut client| {
            client.read_exact(&mut [0]).unwrap();
            client.write_all(&pattern(SIZE)).unwrap();
            until_acknowledged(&client);
            reset(client);
        })
    });
    for inside in ["", "<replay bytes=\"1000\"/>"] {
        let (program, port) = start(&here, host.address(), inside);
        let mut client = there.run(|| connect((HERE, port).into()));
        client.write_all(b"?").unwrap();
        let (bytes, ends_by_reset) = read_out(&client);
        assert!(bytes == pattern(SIZE), "{} bytes of {SIZE} arrived with `{inside}`", bytes.len());
        assert!(ends_by_reset, "a cut answer looked complete");
        let line = program.wait_for(" session ");
        assert!(
            line.ends_with(&format!(" to_server=1 to_client={SIZE} end=reset-by-server")),
            "{line}"
        );
    }
}

#[test]
fn what_a_client_was_told_had_arrived_reaches_a_host_behind_a_slow_line_and_then_the_reset() {
    let Some((here, there, _line)) = two() else { return };
    let (host, heard) = there.run(|| Backend::hearing_at((THERE, 0).into()));
    for inside in ["", "<replay bytes=\"1000\"/>"] {
        let (program, port) = start(&here, host.address(), inside);
        let mut client = here.run(|| connect((Ipv4Addr::LOCALHOST, port).into()));
        client.write_all(&pattern(SIZE)).unwrap();
        until_acknowledged(&client);
        reset(client);
        let (bytes, ends_by_reset) = heard.recv_timeout(DEADLINE).unwrap();
        assert!(bytes == pattern(SIZE), "{} bytes of {SIZE} arrived with `{inside}`", bytes.len());
        assert!(ends_by_reset, "a cut upload looked complete");
        let line = program.wait_for(" session ");
        assert!(
            line.ends_with(&format!(" to_server={SIZE} to_client=0 end=reset-by-client")),
            "{line}"
        );
    }
}

#[test]
fn a_reader_that_rests_is_not_dead_because_one_question_was_lost() {
    let Some((here, there, line)) = two() else { return };
    let host = here.run(|| Backend::with(|mut client| drop(client.write_all(&pattern(8 << 20)))));
    let (program, port) = start(&here, host.address(), "<timeout dead=\"1s\"/>");
    let mut client = there.run(|| connect((HERE, port).into()));
    // by now the kernel asks more seldom than every second, and once more a good while later
    thread::sleep(Duration::from_secs(4));
    line.lose_one();
    thread::sleep(Duration::from_secs(2));
    assert!(!program.has(" session "), "{:?}", program.lines(" session "));
    let mut bytes = vec![0; 8 << 20];
    client.read_exact(&mut bytes).expect("the answer goes on");
    assert!(bytes == pattern(8 << 20), "changed");
}

#[test]
fn a_host_that_a_router_knows_no_way_to_is_left_at_once() {
    let (Some(here), Some(router)) = (Network::new(), Network::new()) else { return };
    here.link("line", "10.99.0.1/24", &router, "10.99.0.2/24");
    here.ip("route add default via 10.99.0.2");
    router.set("net/ipv4/ip_forward", "1");
    // without a second limit of this kind that takes from the same account as the one for routers
    router.set("net/ipv4/icmp_ratelimit", "0");
    router.ip("route add unreachable 10.99.7.0/24");
    router.ip("route add prohibit 10.99.8.0/24");
    let good = here.run(|| Backend::banner("hello"));
    // the kernel gives an answer to so many questions in a row
    let far = |net: u8| (1..3).map(move |host| SocketAddr::from(([10, 99, net, host], 80)));
    let hosts: Vec<SocketAddr> = far(7).chain(far(8)).chain([good.address()]).collect();
    let xml = one_service("roundrobin", &hosts, "<timeout connect=\"5s\"/>");
    let program = here.run(|| Program::start(&xml));
    let began = Instant::now();
    let mut client = here.run(|| connect(program.address()));
    client.read_exact(&mut [0; 5]).unwrap();
    let took = began.elapsed();
    drop(client);
    let line = program.wait_for(" session ");
    assert!(took < Duration::from_secs(4), "{took:?}: {line}");
    let tried: Vec<String> = (0..4).map(|host| format!("h{host}:unreachable")).collect();
    assert_eq!(field(&line, "tried"), Some(tried.join(",").as_str()), "{line}");
}
