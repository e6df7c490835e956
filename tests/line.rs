//! What the log says of a session: which hosts it was tried with and why they did not keep it, and
//! what was not delivered.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use tcpdirector::system::socket::unread;

use crate::common::backend::Backend;
use crate::common::program::Program;
use crate::common::{
    DEADLINE, connect, exchange, is_turned_away, one_service, pattern, read_out, reset, until,
    until_acknowledged,
};

/// The line of the program's only session, after a client has said something and has heard all.
fn line_after(program: &Program) -> String {
    let mut client = connect(program.address());
    client.write_all(b"?").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    read_out(&client);
    program.wait_for(" session ")
}

fn start(hosts: &[SocketAddr], inside: &str) -> Program {
    Program::start(&one_service("roundrobin", hosts, inside))
}

#[test]
fn the_hosts_that_failed_are_named_in_order_with_what_was_wrong_with_each() {
    let (refuse, silent, good) =
        (Backend::refuse(), Backend::black_hole(), Backend::banner("hello"));
    let hosts = [refuse.address(), silent.address(), good.address()];
    let program = start(&hosts, "<timeout connect=\"300ms\"/>");
    let client = connect(program.address());
    assert_eq!(exchange(client, b""), b"hello");
    let line = program.wait_for(" session ");
    let server = good.address();
    let expected =
        format!(" host=h2 server={server} tries=3 tried=h0:refused,h1:timed-out connect=");
    assert!(line.contains(&expected), "{line}");
    assert!(line.ends_with(" to_server=0 to_client=5 end=closed"), "{line}");
}

#[test]
fn the_last_host_that_was_tried_is_named_when_none_has_taken_the_session() {
    let (first, last) = (Backend::refuse(), Backend::refuse());
    let program = start(&[first.address(), last.address()], "");
    assert!(is_turned_away(program.address()));
    let line = program.wait_for(" session ");
    let server = last.address();
    let expected = format!(" host=h1 server={server} tries=2 tried=h0:refused,h1:refused connect=");
    assert!(line.contains(&expected) && line.ends_with(" end=no-host"), "{line}");
    // all are down: none is tried
    assert!(is_turned_away(program.address()));
    let line = program.wait_for(" session id=2 ");
    assert!(
        line.contains(" host=- server=- tries=0 connect=") && line.ends_with(" end=no-host"),
        "{line}"
    );
}

#[test]
fn a_host_that_took_the_session_and_left_it_is_named_with_how() {
    let hangs_up = Backend::with(reset);
    let speechless = |resets: bool| {
        Backend::with(move |mut client| {
            let _ = client.read(&mut [0]);
            if resets {
                reset(client);
            }
        })
    };
    let (resets, closes, good) = (speechless(true), speechless(false), Backend::named("good"));
    let replay = "<replay bytes=\"100\"/>";
    let program = start(&[resets.address(), closes.address(), good.address()], replay);
    let mut client = connect(program.address());
    client.write_all(b"?").unwrap();
    until("it has come to the good one", || good.accepted() == 1);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_out(&client), (b"good".to_vec(), false));
    let line = program.wait_for(" session ");
    assert!(
        line.contains(" host=h2 ") && line.contains(" tries=3 tried=h0:reset,h1:closed "),
        "{line}"
    );
    assert!(!program.has("state=down"), "it takes connections");

    let speaks = Backend::banner("hello");
    let program = start(&[hangs_up.address(), speaks.address()], "");
    connect(program.address()).read_exact(&mut [0; 5]).unwrap();
    let line = program.wait_for(" session ");
    assert!(line.contains(" host=h1 ") && line.contains(" tries=2 tried=h0:reset "), "{line}");
    assert!(!program.has("state=down"), "it takes connections");

    // and when nobody else is there
    let program = start(&[hangs_up.address()], "");
    assert!(is_turned_away(program.address()));
    let line = program.wait_for(" session ");
    assert!(line.contains(" host=h0 ") && line.contains(" tries=1 tried=h0:reset "), "{line}");
    assert!(line.ends_with(" end=reset-by-server"), "{line}");
}

#[test]
fn the_name_of_a_host_that_failed_forges_no_pair() {
    let (refuse, good) = (Backend::refuse(), Backend::banner("hello"));
    for (name, written) in [
        ("x tries=9", r#"tried="x tries=9:refused""#),
        ("x\" end=\"closed", r#"tried="x\" end=\"closed:refused""#),
        ("x\\", r#"tried="x\\:refused""#),
        ("x\u{2028}y", r#"tried="x\u{2028}y:refused""#),
        ("größer", "tried=größer:refused"),
    ] {
        let name = name.replace('"', "&quot;");
        let xml = one_service("roundrobin", &[refuse.address(), good.address()], "");
        let program = Program::start(&xml.replace("name=\"h0\"", &format!("name=\"{name}\"")));
        let line = line_after(&program);
        assert!(line.contains(&format!(" tries=2 {written} connect=")), "{name}: {line}");
    }
}

/// Says it and ends, to a host that reads nothing, and resets when nothing more comes; what the
/// host had got, and the line.
fn broken_off(words: &[u8]) -> (usize, String) {
    let (tell, told) = crossbeam::channel::bounded(1);
    let backend = Backend::with(move |client| {
        let (mut last, mut looks) = (0, 0);
        until("nothing more comes", || {
            let now = unread(&client).unwrap();
            looks = if now == last && now > 0 { looks + 1 } else { 0 };
            last = now;
            looks == 100
        });
        tell.send(last).unwrap();
        reset(client);
    });
    let program = start(&[backend.address()], "");
    let mut client = connect(program.address());
    client.write_all(words).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_out(&client).1);
    (told.recv_timeout(DEADLINE).unwrap(), program.wait_for(" session "))
}

#[test]
fn what_was_not_acknowledged_is_counted_where_a_session_was_cut_and_only_there() {
    // the kernel takes some of this for a host that reads nothing, and the program the rest; the
    // end of the stream is no byte
    let (got, line) = broken_off(&pattern(500_000));
    assert!(got < 500_000);
    let expected = format!(
        " to_server=500000 to_client=0 undelivered={}/0 end=reset-by-server",
        500_000 - got
    );
    assert!(line.ends_with(&expected), "{expected} is not in {line}");
    // and all of this
    let (got, line) = broken_off(b"a few words");
    assert!(got == 11 && line.ends_with(" to_server=11 to_client=0 end=reset-by-server"), "{line}");

    // what a host that resets was told had arrived is delivered
    let told = Backend::with(|mut client| {
        client.read_exact(&mut [0]).unwrap();
        client.write_all(&pattern(100_000)).unwrap();
        until_acknowledged(&client);
        reset(client);
    });
    let line = line_after(&start(&[told.address()], ""));
    assert!(line.ends_with(" to_server=1 to_client=100000 end=reset-by-server"), "{line}");

    let good = Backend::sink();
    let program = start(&[good.address()], "");
    exchange(connect(program.address()), &pattern(500_000));
    let line = program.wait_for(" session ");
    assert!(line.ends_with(" end=closed") && !line.contains("undelivered"), "{line}");
}
