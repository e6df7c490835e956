//! What becomes of a session whose client or host vanishes, without a word, in networks of their
//! own. For root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::backend::Backend;
use crate::common::net::Network;
use crate::common::program::{Program, field};
use crate::common::{DEADLINE, connect, one_service, pattern, read_out, until};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

const DEAD: Duration = Duration::from_secs(2);
/// Found within half as long again, on a busy machine.
const FOUND: Duration = Duration::from_secs(6);

/// Two networks with a line between them; `None` where that is not allowed. Anew for each case: a
/// line that was cut and is back may still be taken for cut.
fn two() -> Option<(Network, Network)> {
    let (here, there) = (Network::new()?, Network::new()?);
    here.link("line", "10.99.0.1/24", &there, "10.99.0.2/24");
    Some((here, there))
}

fn echo_at(address: Ipv4Addr) -> Backend {
    Backend::at(SocketAddr::from((address, 0)), |client| {
        let _ = std::io::copy(&mut &client, &mut &client);
    })
}

/// A program in the first network that anybody can connect to.
fn start(here: &Network, host: &Backend, inside: &str) -> (Program, u16) {
    let xml = one_service("random", &[host.address()], inside).replace("127.0.0.1:0", "0.0.0.0:0");
    let program = here.run(|| Program::start(&xml));
    let port = program.address().port();
    (program, port)
}

fn echoed(client: &mut TcpStream) {
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}

/// The name of the ending, which must not come too early.
fn ending(program: &Program, began: Instant) -> String {
    let line = program.wait_for(" session ");
    let took = began.elapsed();
    assert!(took > DEAD / 2 && took < FOUND, "found after {took:?}: {line}");
    field(&line, "end").unwrap().to_owned()
}

#[test]
fn a_host_that_vanishes_is_found_dead_and_its_client_is_reset() {
    // with bytes on the way to it, and without any
    for in_flight in [true, false] {
        let Some((here, there)) = two() else { return };
        let host = there.run(|| echo_at(THERE));
        let (program, port) = start(&here, &host, "<timeout dead=\"2s\"/>");
        let mut client = here.run(|| connect((Ipv4Addr::LOCALHOST, port).into()));
        echoed(&mut client);
        there.ip("link set line down");
        let began = Instant::now();
        if in_flight {
            client.write_all(b"is anybody there?").unwrap();
        }
        assert!(read_out(&client).1, "a cut answer looked complete");
        assert_eq!(ending(&program, began), "server-dead");
        let undelivered = program.lines(" session ").remove(0).contains(" undelivered=17/0 end");
        assert_eq!(undelivered, in_flight);
    }
}

#[test]
fn a_client_that_vanishes_is_found_dead_and_its_host_is_reset() {
    for in_flight in [true, false] {
        let Some((here, there)) = two() else { return };
        let (tell, told) = crossbeam::channel::bounded(1);
        let (vanished, has_vanished) = crossbeam::channel::bounded::<()>(1);
        let host = here.run(|| {
            Backend::with(move |mut client| {
                echo_once(&mut client);
                has_vanished.recv_timeout(DEADLINE).unwrap();
                if in_flight {
                    client.write_all(b"is anybody there?").unwrap();
                }
                tell.send(read_out(&client)).unwrap();
            })
        });
        let (program, port) = start(&here, &host, "<timeout dead=\"2s\"/>");
        let mut client = there.run(|| connect((HERE, port).into()));
        echoed(&mut client);
        there.ip("link set line down");
        let began = Instant::now();
        vanished.send(()).unwrap();
        assert_eq!(ending(&program, began), "client-dead");
        assert!(told.recv_timeout(DEADLINE).unwrap().1, "a cut upload looked complete");
    }
}

#[test]
fn a_client_that_rests_and_then_vanishes_is_found_dead() {
    let Some((here, there)) = two() else { return };
    let host = here.run(|| Backend::with(|mut client| drop(client.write_all(&pattern(16 << 20)))));
    let (program, port) = start(&here, &host, "<timeout dead=\"2s\"/>");
    let mut client = there.run(|| connect((HERE, port).into()));
    client.read_exact(&mut [0]).unwrap();
    // the kernel has asked a few times whether there is room
    thread::sleep(Duration::from_secs(1));
    there.ip("link set line down");
    let line = program.wait_for(" session ");
    assert_eq!(field(&line, "end"), Some("client-dead"), "{line}");
}

fn echo_once(client: &mut TcpStream) {
    let mut word = [0; 5];
    client.read_exact(&mut word).unwrap();
    client.write_all(&word).unwrap();
}

#[test]
fn a_host_that_vanishes_before_its_first_answer_is_left_for_another_one() {
    let replay = "<timeout dead=\"2s\"/><replay bytes=\"1000\"/>";
    // with bytes on the way to it, and without any
    for in_flight in [true, false] {
        let Some((here, there)) = two() else { return };
        let good = here.run(|| Backend::banner("hello"));
        let silent = there.run(|| {
            Backend::at((THERE, 0).into(), |mut client| drop(client.read_to_end(&mut Vec::new())))
        });
        let xml = one_service("roundrobin", &[silent.address(), good.address()], replay);
        let program = here.run(|| Program::start(&xml));
        let mut client = here.run(|| connect(program.address()));
        if !in_flight {
            client.write_all(b"?").unwrap();
        }
        until("it is asked", || silent.accepted() == 1);
        if !in_flight {
            // acknowledged
            thread::sleep(Duration::from_millis(100));
        }
        there.ip("link set line down");
        let began = Instant::now();
        if in_flight {
            client.write_all(b"?").unwrap();
        }
        client.read_exact(&mut [0; 5]).unwrap();
        let took = began.elapsed();
        assert!(took > DEAD / 2 && took < FOUND, "found after {took:?}");
        drop(client);
        let line = program.wait_for(" session ");
        assert!(line.contains(" host=h1 ") && line.contains(" tries=2 tried=h0:dead "), "{line}");
    }
}

#[test]
fn with_dead_off_a_vanished_host_is_not_looked_for() {
    let Some((here, there)) = two() else { return };
    let host = there.run(|| echo_at(THERE));
    let (program, port) = start(&here, &host, "<timeout dead=\"0\"/>");
    let mut client = here.run(|| connect((Ipv4Addr::LOCALHOST, port).into()));
    echoed(&mut client);
    there.ip("link set line down");
    client.write_all(b"is anybody there?").unwrap();
    // twice as long as the others had: the pace is what is tested
    thread::sleep(2 * DEAD);
    there.ip("link set line up");
    client.read_exact(&mut [0; 17]).expect("the line is back");
    assert!(!program.has(" session "));
}
