//! Which host a client reaches when all are well.

use std::collections::HashMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use tcpdirector::config::{Address, GroupConfig, HostConfig};
use tcpdirector::scheduler::{Load, Rule, Scheduler};
use tcpdirector::state::{Group, Lease, Names, Reason};

use crate::common::backend::Backend;
use crate::common::left_out::may_open;
use crate::common::{TestDaemon, ask, one_service};

fn group(rule: Rule, hosts: usize) -> Group {
    let host = |i: usize| HostConfig {
        name: format!("h{i}"),
        address: Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1 + i as u16))),
    };
    Group::new(
        &GroupConfig { name: "main".into(), rule, hosts: (0..hosts).map(host).collect() },
        &Names::new(),
    )
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Picks without giving back.
fn pick(group: &Group) -> Lease {
    group.pick(CLIENT, &[]).expect("a host is up")
}

/// Clients of different networks.
fn clients(count: u32) -> impl Iterator<Item = IpAddr> {
    (0..count).map(|number| Ipv4Addr::from_bits(0x0a00_0001 + number * 77).into())
}

/// The name of the host that a client gets beside nobody else.
fn host_of(group: &Group, client: IpAddr) -> String {
    group.pick(client, &[]).expect("a host is up").host().name().to_owned()
}

fn names(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.host().name()).collect()
}

#[test]
fn roundrobin_goes_by_configuration_order() {
    let backends = [Backend::named("b"), Backend::named("c"), Backend::named("a")];
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let daemon = TestDaemon::start(&one_service("roundrobin", &addresses, ""));
    let served: String = (0..9).map(|_| ask(daemon.address())).collect();
    assert_eq!(served, "bcabcabca");
}

#[test]
fn roundrobin_skips_a_host_that_is_down_and_takes_it_in_again() {
    let group = group(Rule::RoundRobin, 3);
    let down = group.hosts().remove(1);
    assert!(down.failed(Reason::Refused, std::time::Instant::now()));
    let leases: Vec<Lease> = (0..4).map(|_| pick(&group)).collect();
    assert_eq!(names(&leases), ["h0", "h2", "h0", "h2"]);
    assert!(down.answered().is_some());
    let leases: Vec<Lease> = (0..3).map(|_| pick(&group)).collect();
    assert_eq!(names(&leases), ["h0", "h1", "h2"]);
}

#[test]
fn leastconns_ties_rotate() {
    let group = group(Rule::LeastConns, 3);
    let one_at_a_time: Vec<String> =
        (0..6).map(|_| pick(&group).host().name().to_owned()).collect();
    assert_eq!(one_at_a_time, ["h0", "h1", "h2", "h0", "h1", "h2"]);
}

#[test]
fn leastconns_takes_the_host_with_the_fewest_sessions() {
    let group = group(Rule::LeastConns, 3);
    let mut held: Vec<Lease> = (0..6).map(|_| pick(&group)).collect();
    held.retain(|lease| lease.host().name() != "h1");
    let more: Vec<Lease> = (0..2).map(|_| pick(&group)).collect();
    assert_eq!(names(&more), ["h1", "h1"]);
}

#[test]
fn leastconnsrr_ties_go_to_the_host_that_was_picked_longest_ago() {
    let group = group(Rule::LeastConnsRr, 3);
    let mut held: Vec<Option<Lease>> = (0..3).map(|_| Some(pick(&group))).collect();
    // given back in another order: the order of the picks counts
    held[2] = None;
    held[0] = None;
    held[1] = None;
    let again: Vec<Lease> = (0..3).map(|_| pick(&group)).collect();
    assert_eq!(names(&again), ["h0", "h1", "h2"]);
    let least = &again[1].host().clone();
    drop(again);
    let first = group.pick(CLIENT, &[]).unwrap();
    assert_ne!(first.host().name(), least.name());
}

#[test]
fn random_reaches_every_host_about_equally() {
    let group = group(Rule::Random, 3);
    let mut served: HashMap<String, u32> = HashMap::new();
    for _ in 0..3000 {
        *served.entry(pick(&group).host().name().to_owned()).or_default() += 1;
    }
    // five standard deviations of a binomial distribution with n = 3000, p = 1/3 are 129
    assert!(
        served.len() == 3 && served.values().all(|count| (870..=1130).contains(count)),
        "{served:?}"
    );
}

#[test]
fn leastconns_is_exact_under_a_burst() {
    if !may_open(320) {
        return;
    }
    let backends: Vec<Backend> = (0..4).map(|_| Backend::banner("hi")).collect();
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    for scheduler in ["leastconns", "leastconnsrr"] {
        let daemon = TestDaemon::start(&one_service(scheduler, &addresses, ""));
        let address = daemon.address();
        let clients: Vec<_> = (0..80)
            .map(|_| {
                thread::spawn(move || {
                    let mut client: TcpStream = crate::common::connect(address);
                    client.read_exact(&mut [0; 2]).unwrap();
                    client
                })
            })
            .collect();
        let held: Vec<TcpStream> =
            clients.into_iter().map(|client| client.join().unwrap()).collect();
        let open: Vec<usize> = daemon.hosts().iter().map(|host| host.open()).collect();
        assert_eq!(open, [20, 20, 20, 20], "{scheduler}");
        drop(held);
        daemon.settle();
    }
}

#[test]
fn of_two_choices_the_one_with_fewer_sessions_is_taken() {
    let group = group(Rule::TwoChoices, 100);
    let _held: Vec<Lease> = (0..10_000).map(|_| pick(&group)).collect();
    // any host at random would have up to 130: the average and three standard deviations
    let most = group.hosts().iter().map(|host| host.open()).max();
    assert!(most < Some(110), "{most:?}");
}

#[test]
fn with_hash_a_client_stays_with_its_host_and_clients_are_spread() {
    let group = group(Rule::Hash, 10);
    let mut served: HashMap<String, u32> = HashMap::new();
    for client in clients(10_000) {
        let host = host_of(&group, client);
        assert_eq!(host_of(&group, client), host);
        *served.entry(host).or_default() += 1;
    }
    let even = served.len() == 10 && served.values().all(|count| (750..=1250).contains(count));
    assert!(even, "{served:?}");
}

#[test]
fn with_hash_only_the_clients_of_a_host_that_goes_move_and_they_return() {
    let group = group(Rule::Hash, 5);
    let hosts = |group: &Group| clients(2000).map(|client| host_of(group, client)).collect();
    let before: Vec<String> = hosts(&group);
    let gone = group.hosts().remove(2);
    assert!(gone.failed(Reason::Refused, std::time::Instant::now()));
    let without: Vec<String> = hosts(&group);
    let moved: Vec<_> = before.iter().zip(&without).filter(|(was, is)| was != is).collect();
    assert!(moved.iter().all(|(was, _)| *was == gone.name()), "{moved:?}");
    assert!(moved.len() <= 2000 / 5 + 2000 / 50, "{} of 2,000", moved.len());
    assert!(gone.answered().is_some());
    assert_eq!(hosts(&group), before);
}

#[test]
fn with_hash_the_order_and_the_names_of_the_hosts_do_not_matter() {
    let file = |hosts: [&str; 3]| {
        let hosts = hosts.map(|host| format!("<host {host}/>")).concat();
        let xml = format!(
            "<pdconfig><service name='a'><listen ip='127.0.0.1:0'/>\
             <group name='main' scheduler='hash'>{hosts}</group></service></pdconfig>"
        );
        let config = crate::common::config(&xml);
        Group::new(&config.services[0].groups[0], &Names::new())
    };
    let one = file(["ip='10.0.0.1:80'", "ip='web.example:80'", "ip='[2001:db8::1]:80'"]);
    let other =
        file(["name='c' ip='[2001:db8:0::1]:80'", "ip='10.0.0.1:80'", "ip='web.example:80'"]);
    let address =
        |group: &Group, client| group.pick(client, &[]).unwrap().host().address().to_string();
    for client in clients(300) {
        assert_eq!(address(&one, client), address(&other, client));
    }
}

#[test]
fn with_hash_one_client_alone_does_not_overload_its_host() {
    let group = group(Rule::Hash, 5);
    let hosts = group.hosts();
    assert!(hosts[1].failed(Reason::Refused, std::time::Instant::now()));
    let mut held = Vec::new();
    for total in 1..=400_usize {
        held.push(pick(&group));
        // a quarter above the average of the four that are up
        let most = (5 * total).div_ceil(4 * 4);
        let open: Vec<usize> = hosts.iter().map(|host| host.open()).collect();
        assert!(open.iter().all(|open| *open <= most), "{total}: {open:?}");
    }
}

#[test]
fn a_failure_older_than_the_hosts_return_proves_nothing() {
    let group = group(Rule::RoundRobin, 1);
    let host = group.hosts().remove(0);
    let slow_attempt = std::time::Instant::now();
    assert!(host.failed(Reason::Refused, std::time::Instant::now()));
    assert!(host.answered().is_some());
    assert!(
        !host.failed(Reason::TimedOut, slow_attempt),
        "an old attempt took the host down again"
    );
    assert!(host.is_up());
}

#[test]
fn whether_a_host_is_able_is_asked_of_few() {
    let asked = std::cell::Cell::new(0);
    for (rule, times) in [
        (Rule::RoundRobin, 1),
        (Rule::LeastConns, 1),
        (Rule::LeastConnsRr, 1),
        (Rule::TwoChoices, 3),
    ] {
        asked.set(0);
        let mut scheduler = Scheduler::new(rule);
        let is_able = |_: &u64| {
            asked.set(asked.get() + 1);
            true
        };
        let all: Vec<u64> = (0..1000).collect();
        assert!(
            scheduler
                .pick(&all, |one| Load { open: 3, last_pick: *one }, |one| *one, is_able)
                .is_some()
        );
        assert!(asked.get() <= times, "{rule}: {}", asked.get());
    }
}

/// One step of a life of a group.
#[derive(Debug, Clone)]
enum Step {
    Pick,
    Release(usize),
    Down(usize),
    Up(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Pick),
        2 => (0..64_usize).prop_map(Step::Release),
        1 => (0..5_usize).prop_map(Step::Down),
        1 => (0..5_usize).prop_map(Step::Up),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_failure_persistence(
        FileFailurePersistence::SourceParallel("tests/regressions")
    ))]

    #[test]
    fn counts_always_equal_the_leases_that_live(steps in prop::collection::vec(step(), 1..200), rule in 0..Rule::ALL.len()) {
        let group = group(Rule::ALL[rule].1, 5);
        let hosts = group.hosts();
        let mut leases: Vec<Lease> = Vec::new();
        for step in steps {
            match step {
                Step::Pick => match group.pick(CLIENT, &[]) {
                    Some(lease) => {
                        prop_assert!(lease.host().is_up());
                        leases.push(lease);
                    }
                    None => prop_assert!(hosts.iter().all(|host| !host.is_up())),
                },
                Step::Release(i) if !leases.is_empty() => drop(leases.remove(i % leases.len())),
                Step::Release(_) => {}
                Step::Down(i) => { hosts[i].failed(Reason::Refused, std::time::Instant::now()); }
                Step::Up(i) => { hosts[i].answered(); }
            }
            for host in &hosts {
                prop_assert_eq!(host.open(), leases.iter().filter(|lease| Arc::ptr_eq(lease.host(), host)).count());
            }
        }
    }

    #[test]
    fn a_scheduler_picks_an_able_candidate_or_none_when_there_is_none(
        able in prop::collection::vec(prop::option::of(0..5_usize), 0..20), rule in 0..Rule::ALL.len(), turns in 1..30_usize,
    ) {
        let rule = Rule::ALL[rule].1;
        let mut scheduler = Scheduler::new(rule);
        for turn in 0..turns {
            // one that cannot be picked carries nothing, and so least
            let load = |one: &Option<usize>| Load { open: one.unwrap_or(0), last_pick: turn as u64 };
            let picked = scheduler.pick(&able, load, |_| 0, Option::is_some).map(|i| able[i]);
            match rule {
                Rule::LeastConns | Rule::LeastConnsRr => prop_assert_eq!(picked.flatten(), able.iter().copied().flatten().min()),
                _ => prop_assert!(picked != Some(None)),
            }
            prop_assert_eq!(picked.is_none(), able.iter().all(Option::is_none));
        }
    }
}
