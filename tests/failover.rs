//! Which host a client reaches when some fail, and who is blamed for it.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use tcpdirector::state::{Health, Reason};

use crate::common::backend::Backend;
use crate::common::left_out::{leave_out, may_open};
use crate::common::{
    DEADLINE, TestDaemon, ask, connect, ends_by_reset, is_turned_away, one_service, read_all, until,
};

const FAST: &str = "<timeout connect=\"300ms\"/>";

fn reason(daemon: &TestDaemon, host: usize) -> Option<Reason> {
    match daemon.hosts()[host].health() {
        Health::Up { .. } => None,
        Health::Down { reason, .. } => Some(reason),
    }
}

#[test]
fn a_client_of_a_refusing_host_reaches_the_next_one() {
    let (bad, good) = (Backend::refuse(), Backend::named("good"));
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], ""));
    for _ in 0..10 {
        assert_eq!(ask(daemon.address()), "good");
    }
    assert_eq!(reason(&daemon, 0), Some(Reason::Refused));
    assert_eq!(reason(&daemon, 1), None);
}

#[test]
fn a_client_of_a_host_that_does_not_answer_reaches_the_next_one_after_the_connect_time_out() {
    let (bad, good) = (Backend::black_hole(), Backend::named("good"));
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], FAST));
    let began = Instant::now();
    assert_eq!(ask(daemon.address()), "good");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(reason(&daemon, 0), Some(Reason::TimedOut));
    // from now on nobody waits for it
    let began = Instant::now();
    assert_eq!(ask(daemon.address()), "good");
    assert!(began.elapsed() < Duration::from_millis(300));
}

#[test]
fn what_the_client_has_sent_before_is_not_lost_on_the_way_round() {
    let (bad, worse, good) = (Backend::refuse(), Backend::black_hole(), Backend::sink());
    let hosts = [bad.address(), worse.address(), good.address()];
    let daemon = TestDaemon::start(&one_service("roundrobin", &hosts, FAST));
    let answer = crate::common::exchange(daemon.connect(), b"sent before anybody was there");
    assert!(answer.starts_with(b"29 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn each_host_is_tried_once_and_then_the_client_is_closed() {
    let hosts: Vec<Backend> = (0..5).map(|_| Backend::refuse()).collect();
    let addresses: Vec<_> = hosts.iter().map(Backend::address).collect();
    let daemon = TestDaemon::start(&one_service("random", &addresses, ""));
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    daemon.settle();
    assert!((0..5).all(|i| reason(&daemon, i) == Some(Reason::Refused)));
    let service = &daemon.daemon.director().services()[0];
    assert_eq!((service.unserved(), service.served()), (1, 0));
}

#[test]
fn with_all_hosts_down_a_client_is_closed_at_once() {
    let bad = Backend::black_hole();
    let daemon = TestDaemon::start(&one_service("random", &[bad.address()], FAST));
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    let began = Instant::now();
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "it waited for a host that is known to be down"
    );
}

#[test]
fn an_empty_group_closes_its_clients() {
    let daemon = TestDaemon::start(&one_service("random", &[], ""));
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    daemon.settle();
}

#[test]
fn a_client_that_has_gone_while_a_host_was_tried_bothers_no_other_host() {
    let (bad, good) = (Backend::black_hole(), Backend::named("good"));
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], FAST));
    let client = daemon.connect();
    until("the session is under way", || daemon.daemon.open_sessions() == 1);
    crate::common::reset(client);
    daemon.settle();
    assert_eq!(good.accepted(), 0);
}

#[test]
fn what_a_client_has_said_before_it_went_reaches_the_next_host() {
    let (bad, (good, heard)) = (Backend::black_hole(), listening());
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], FAST));
    let mut client = daemon.connect();
    client.write_all(b"last words").unwrap();
    until("the session is under way", || daemon.daemon.open_sessions() == 1);
    crate::common::reset(client);
    assert_eq!(heard.recv_timeout(DEADLINE), Ok((b"last words".to_vec(), true)));
    daemon.settle();
}

/// A host that says nothing, and what it has heard of each client, and whether that ended by a
/// reset.
fn listening() -> (Backend, crossbeam::channel::Receiver<(Vec<u8>, bool)>) {
    let (tell, heard) = crossbeam::channel::unbounded();
    let backend = Backend::with(move |mut client| {
        let mut bytes = Vec::new();
        let is_reset =
            client.read_to_end(&mut bytes).is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
        let _ = tell.send((bytes, is_reset));
    });
    (backend, heard)
}

#[test]
fn a_client_that_only_half_closed_is_still_served() {
    let (bad, good) = (Backend::black_hole(), Backend::named("good"));
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], FAST));
    let client = daemon.connect();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_all(client), b"good");
}

#[test]
fn a_burst_of_clients_marks_a_host_down_once_and_loses_nobody() {
    if !may_open(160) {
        return;
    }
    let (bad, good) = (Backend::refuse(), Backend::named("good"));
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], ""));
    let address = daemon.address();
    let clients: Vec<_> = (0..40).map(|_| std::thread::spawn(move || ask(address))).collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap() == "good"));
    assert_eq!(daemon.hosts()[0].failures(), 1);
}

#[test]
fn a_name_without_an_address_is_that_hosts_state_and_not_a_failure_to_start() {
    let good = Backend::named("good");
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/><group name=\"main\" scheduler=\"roundrobin\">\
         <host name=\"nowhere\" ip=\"no-such-name.invalid:80\"/><host name=\"good\" ip=\"{}\"/></group></service></pdconfig>",
        good.address()
    );
    let daemon = TestDaemon::start(&xml);
    assert_eq!(ask(daemon.address()), "good");
    assert_eq!(ask(daemon.address()), "good");
    assert_eq!(reason(&daemon, 0), Some(Reason::NoAddress));
}

#[test]
fn a_host_may_be_given_by_name() {
    let good = Backend::named("good");
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"localhost:0\"/><group name=\"main\" scheduler=\"random\">\
         <host ip=\"localhost:{}\"/></group></service></pdconfig>",
        good.address().port()
    );
    let daemon = TestDaemon::start(&xml);
    for address in daemon.daemon.addresses() {
        assert_eq!(ask(address), "good");
    }
}

#[test]
fn ipv6_works_on_both_sides_where_the_machine_has_it() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        return leave_out("this machine has no IPv6");
    };
    drop(probe);
    let good = Backend::named_at("[::1]:0".parse().unwrap(), "six");
    let xml = one_service("random", &[good.address()], "").replace("127.0.0.1:0", "*:0");
    let daemon = TestDaemon::start(&xml);
    let port = daemon.address().port();
    assert_eq!(ask(format!("[::1]:{port}").parse().unwrap()), "six");
    assert_eq!(ask(format!("127.0.0.1:{port}").parse().unwrap()), "six");
}

#[test]
fn switching_groups_leaves_running_sessions_where_they_are() {
    let (old, new) = (Backend::echo(), Backend::named("new"));
    let xml = format!(
        "<pdconfig><service name=\"web\"><listen ip=\"127.0.0.1:0\"/>\
         <group name=\"old\" scheduler=\"random\"><host ip=\"{}\"/></group>\
         <group name=\"new\" scheduler=\"random\"><host ip=\"{}\"/></group><enable group=\"old\"/></service></pdconfig>",
        old.address(),
        new.address()
    );
    let daemon = TestDaemon::start(&xml);
    let mut running = daemon.connect();
    running.write_all(b"one").unwrap();
    running.read_exact(&mut [0; 3]).unwrap();
    daemon.change("enableGroup?service=web&group=new").unwrap();
    assert_eq!(ask(daemon.address()), "new");
    running.write_all(b"two").unwrap();
    running.read_exact(&mut [0; 3]).unwrap();
    let old_host = daemon.daemon.director().services()[0].groups()[0].hosts().remove(0);
    assert_eq!(old_host.open(), 1);
    drop(running);
    until("the old group's count is back", || old_host.open() == 0);
}

#[test]
fn our_own_shortage_is_never_a_hosts_fault() {
    use std::io::Error;
    use tcpdirector::system::socket::is_our_shortage;
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL] {
        assert!(
            is_our_shortage(&Error::from_raw_os_error(code)),
            "{}",
            Error::from_raw_os_error(code)
        );
    }
    for code in [
        libc::ECONNREFUSED,
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::ECONNRESET,
    ] {
        assert!(
            !is_our_shortage(&Error::from_raw_os_error(code)),
            "{}",
            Error::from_raw_os_error(code)
        );
    }
}

#[test]
fn a_stop_ends_running_sessions_by_a_reset() {
    let backend = Backend::banner("hello");
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], ""));
    let mut client = connect(daemon.address());
    client.read_exact(&mut [0; 5]).unwrap();
    drop(daemon);
    assert!(ends_by_reset(&client));
}

/// Hosts that take a connection, read what comes first, and end it without a word: by a reset, or
/// by a close.
fn speechless(resets: bool) -> Backend {
    Backend::with(move |mut client| {
        let _ = client.read(&mut [0; 4096]);
        if resets {
            crate::common::reset(client);
        }
    })
}

const REPLAY: &str = "<replay bytes=\"1000\"/>";

#[test]
fn with_replay_a_client_reaches_the_next_host_when_the_first_one_ends_without_a_word() {
    for resets in [true, false] {
        let (bad, good) = (speechless(resets), Backend::sink());
        let daemon =
            TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], REPLAY));
        for round in 1..=5 {
            let mut client = daemon.connect();
            client.write_all(b"the question").unwrap();
            until("it has come to the good host", || good.accepted() == round);
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let answer = read_all(client);
            assert!(answer.starts_with(b"12 "), "{:?}", String::from_utf8_lossy(&answer));
        }
        assert!(bad.accepted() >= 2, "the bad host was not even asked");
        assert!(daemon.hosts()[0].is_up(), "connecting to it works: it is not down");
        daemon.settle();
        assert_eq!(daemon.hosts()[0].open(), 0);
    }
}

#[test]
fn without_replay_such_a_client_is_told() {
    let (bad, good) = (speechless(true), Backend::sink());
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], ""));
    let mut client = daemon.connect();
    client.write_all(b"the question").unwrap();
    assert!(ends_by_reset(&client));
    assert_eq!(good.accepted(), 0);
}

#[test]
fn a_client_that_has_sent_more_than_is_kept_stays_with_its_host() {
    let (bad, good) = (speechless(true), Backend::sink());
    let daemon =
        TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], REPLAY));
    let mut client = daemon.connect();
    client.write_all(&[1; 1000]).unwrap();
    assert!(ends_by_reset(&client));
    daemon.settle();
    assert_eq!(good.accepted(), 0, "half of a question was asked again");
}

#[test]
fn replay_changes_nothing_for_hosts_that_answer() {
    let payload = crate::common::pattern(500_000);
    let (echo, banner) = (Backend::echo(), Backend::banner("SSH-2.0-test\r\n"));
    let daemon = TestDaemon::start(&one_service("random", &[echo.address()], REPLAY));
    let mut sender = daemon.connect();
    let reader = sender.try_clone().unwrap();
    let sending = std::thread::spawn({
        let payload = payload.clone();
        move || {
            sender.write_all(&payload).unwrap();
            sender.shutdown(std::net::Shutdown::Write).unwrap();
        }
    });
    assert!(read_all(reader) == payload);
    sending.join().unwrap();
    daemon.settle();
    let meter = daemon.hosts()[0].meter().clone();
    assert_eq!(
        (meter.to_server(), meter.to_client()),
        (500_000, 500_000),
        "something was counted twice, or not at all"
    );

    let daemon = TestDaemon::start(&one_service("random", &[banner.address()], REPLAY));
    let mut greeting = [0; 14];
    daemon.connect().read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-2.0-test\r\n");
}

#[test]
fn with_replay_and_no_host_that_answers_a_session_ends_as_the_last_one_ended_it() {
    for last_resets in [true, false] {
        let (bad, worse) = (speechless(!last_resets), speechless(last_resets));
        let daemon = TestDaemon::start(&one_service(
            "roundrobin",
            &[bad.address(), worse.address()],
            REPLAY,
        ));
        let mut client = daemon.connect();
        client.write_all(b"the question").unwrap();
        let mut answer = Vec::new();
        let is_reset = client.read_to_end(&mut answer).is_err();
        assert_eq!((is_reset, answer.len()), (last_resets, 0));
        assert_eq!((bad.accepted(), worse.accepted()), (1, 1));
        // a client whose host has closed may still speak: its session lasts as long as it does
        drop(client);
        daemon.settle();
        let meters: Vec<u64> = daemon.hosts().iter().map(|host| host.meter().to_server()).collect();
        assert_eq!(meters, [12, 12]);
    }
}

#[test]
fn with_replay_the_end_of_a_host_that_has_heard_a_client_out_is_an_answer() {
    let hosts = [listening(), listening()];
    let [first, second] = hosts.each_ref().map(|(host, _)| host.address());
    let daemon = TestDaemon::start(&one_service("roundrobin", &[first, second], REPLAY));
    assert_eq!(crate::common::exchange(daemon.connect(), b"a line of the log"), b"");
    // and one that looks whether the port is open
    assert_eq!(crate::common::exchange(daemon.connect(), b""), b"");
    daemon.settle();
    let [first, second] = hosts.map(|(_, heard)| heard.try_iter().collect::<Vec<_>>());
    assert_eq!(first, [(b"a line of the log".to_vec(), false)]);
    assert_eq!(second, [(Vec::new(), false)]);
}

#[test]
fn a_client_of_a_host_that_takes_connections_and_resets_them_reaches_another_one_and_nobody_is_blamed()
 {
    let (bad, good) = (Backend::with(crate::common::reset), Backend::banner("welcome"));
    for replay in ["", REPLAY] {
        let daemon =
            TestDaemon::start(&one_service("roundrobin", &[bad.address(), good.address()], replay));
        let asked = bad.accepted();
        for _ in 0..20 {
            let mut greeting = [0; 7];
            daemon.connect().read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"welcome");
        }
        assert!(bad.accepted() >= asked + 10 && daemon.hosts()[0].is_up());
        daemon.settle();
    }
}

#[test]
fn a_silent_first_exchange_ends_after_the_idle_time() {
    let silent = Backend::silent();
    let inside = format!("<timeout idle=\"200ms\"/>{REPLAY}");
    let daemon = TestDaemon::start(&one_service("random", &[silent.address()], &inside));
    let began = Instant::now();
    assert!(is_turned_away(daemon.address()), "it looked like an answer");
    assert!(began.elapsed() >= Duration::from_millis(200));
    daemon.settle();
}

#[test]
fn a_host_with_two_addresses_is_reached_when_the_first_one_is_silent() {
    let (silent, good) = (Backend::black_hole(), Backend::named("good"));
    let refused = Backend::refuse();
    let daemon = TestDaemon::start(&one_service("random", &[refused.address()], FAST));
    let host = daemon.hosts().remove(0);
    assert!(host.set_resolved(vec![silent.address(), good.address()]));
    assert_eq!(ask(daemon.address()), "good");
    // the address that answered goes first from now on
    assert_eq!(host.resolved()[0], good.address());
}

#[test]
fn an_address_that_this_machine_cannot_reach_does_not_excuse_one_that_refuses() {
    let refused = Backend::refuse();
    let daemon = TestDaemon::start(&one_service("random", &[refused.address()], ""));
    // a source address for this one does not exist on loopback, which looks like a shortage of ours
    let odd = "[fe80::1]:1".parse().unwrap();
    daemon.hosts()[0].set_resolved(vec![refused.address(), odd]);
    assert!(is_turned_away(daemon.address()));
    assert!(!daemon.hosts()[0].is_up());
}
