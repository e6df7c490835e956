//! Draining: what is idle ends, what moves may finish, nobody is missed, and the operator has the
//! last word.

use std::io::{Read, Write};
use std::time::Duration;

use tcpdirector::config::AdminState;
use tcpdirector::state::Host;

use crate::common::backend::Backend;
use crate::common::{TestDaemon, config, ends_by_reset, one_service, pattern, until};

/// What the manager has noted when the drain was over.
fn end_of_drain(daemon: &TestDaemon) -> Option<String> {
    let events = daemon.daemon.director().events.latest();
    events.into_iter().map(|event| event.what).find(|what| what.contains("state=drained"))
}

fn drain(daemon: &TestDaemon, within: &str) {
    daemon.change(&format!("drainHost?service=web&group=main&name=h0&within={within}")).unwrap();
    daemon.daemon.wake_manager();
}

#[test]
fn a_client_whose_host_has_not_answered_yet_is_not_forgotten_by_a_drain() {
    let backend = Backend::silent();
    let daemon =
        TestDaemon::start(&one_service("random", &[backend.address()], "<replay bytes=\"1000\"/>"));
    let mut client = daemon.connect();
    client.write_all(b"the question").unwrap();
    until("the host is asked", || daemon.hosts()[0].open() == 1);
    drain(&daemon, "50ms");
    assert!(ends_by_reset(&client));
    until("the drain is over", || end_of_drain(&daemon).is_some());
    assert_eq!(
        (daemon.hosts()[0].open(), daemon.hosts()[0].admin_state()),
        (0, AdminState::Disabled)
    );
}

#[test]
fn a_drain_ends_what_is_idle_and_counts_it_and_leaves_a_slow_reader_alone() {
    const SIZE: usize = 8_000_000;
    let backend = Backend::with(|mut client| {
        let mut question = [0];
        if client.read(&mut question).is_ok() && question == *b"?" {
            client.write_all(&pattern(SIZE)).unwrap();
        }
    });
    let daemon = TestDaemon::start(&one_service("random", &[backend.address()], ""));
    let idle = [daemon.connect(), daemon.connect()];
    let mut slow = daemon.connect();
    slow.write_all(b"?").unwrap();
    until("all are connected", || daemon.hosts()[0].total() == 3);
    drain(&daemon, "60s");
    for client in &idle {
        assert!(ends_by_reset(client));
    }
    // it has not read a byte for as long as the others were silent
    std::thread::sleep(Duration::from_secs(3));
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).expect("the answer is not cut");
    assert!(answer == pattern(SIZE), "{} bytes of {SIZE} arrived", answer.len());
    drop(slow);
    until("the drain is over", || end_of_drain(&daemon).is_some());
    assert!(end_of_drain(&daemon).unwrap().ends_with("cut=2"), "{:?}", end_of_drain(&daemon));
}

#[test]
fn an_operator_who_takes_a_drain_back_at_its_end_has_the_last_word() {
    let host = Host::new(
        &config(&one_service("random", &["127.0.0.1:1".parse().unwrap()], "")).services[0].groups
            [0]
        .hosts[0],
    );
    let drain = || {
        host.set_admin_state(AdminState::Draining { within: Duration::ZERO });
        host.draining_since().expect("it goes on")
    };
    let since = drain();
    assert!(host.is_drained());
    host.set_admin_state(AdminState::Enabled);
    assert!(!host.end_drain(since));
    assert_eq!(host.admin_state(), AdminState::Enabled);
    let since = drain();
    assert!(host.end_drain(since));
    assert_eq!(host.admin_state(), AdminState::Disabled);
}

#[test]
fn a_host_whose_name_is_known_already_gets_its_address_soon() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let by_name = |backend: &Backend| format!("localhost:{}", backend.address().port());
    let xml = one_service("random", &[one.address()], "")
        .replace(&one.address().to_string(), &by_name(&one));
    let daemon = TestDaemon::start(&xml);
    daemon
        .change(&format!("addHost?service=web&group=main&name=new&ip={}", by_name(&two)))
        .unwrap();
    until("the new host has an address", || !daemon.hosts()[1].resolved().is_empty());
}
