//! Any configuration, for tests: whatever a file could say or the admin pages could make of it.
//!
//! Names come from a small set half of the time, so that two configurations have something in
//! common.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::scheduler::Rule;

/// How properties are tried: cases that have failed are kept below `tests`.
pub fn runs() -> ProptestConfig {
    ProptestConfig::with_failure_persistence(FileFailurePersistence::SourceParallel(
        "tests/regressions",
    ))
}

fn name() -> impl Strategy<Value = String> {
    let strange = vec(
        prop_oneof![
            any::<char>(),
            Just('<'),
            Just('&'),
            Just('"'),
            Just('\''),
            Just(' '),
            Just('>')
        ],
        1..8,
    );
    let strange = strange
        .prop_map(String::from_iter)
        .prop_filter("not a name", |text| value::name(text).is_ok());
    prop_oneof![
        (0..4).prop_map(|n| format!("host.{n}")),
        (0..4).prop_map(|n| format!("n{n}")),
        strange
    ]
}

fn address(ports: std::ops::Range<u16>) -> impl Strategy<Value = Address> {
    let names = prop_oneof![Just("a"), Just("x_-1.example.")]
        .prop_map(|name| AddressHost::Name(name.to_owned()));
    let mapped = prop_oneof![
        Just("::ffff:10.0.0.1"),
        Just("10.0.0.1"),
        Just("0.0.0.0"),
        Just("127.0.0.1"),
        Just("::ffff:127.0.0.1")
    ];
    let mapped = mapped.prop_map(|ip| AddressHost::Ip(ip.parse().unwrap()));
    let zoned = prop_oneof![Just("1"), Just("eth0.7"), Just("x_-")]
        .prop_map(|zone| AddressHost::Zoned([0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), zone.into()));
    let place = prop_oneof![
        Just(AddressHost::Any),
        any::<IpAddr>().prop_map(AddressHost::Ip),
        names,
        mapped,
        zoned
    ];
    (place, ports).prop_map(|(place, port)| Address { place, port })
}

fn time(least: u64) -> impl Strategy<Value = Duration> {
    let millis = prop_oneof![
        Just(5_000),
        Just(3_600_000),
        Just(120_000),
        least..5_000,
        least..31_536_000_000
    ];
    millis.prop_map(Duration::from_millis)
}

/// The limit of what is dead.
fn dead() -> impl Strategy<Value = Option<Duration>> {
    option::of(prop_oneof![Just(120), 1..64_801_u64].prop_map(Duration::from_secs))
}

fn rule() -> impl Strategy<Value = Rule> {
    proptest::sample::select(Rule::ALL.map(|(_, rule)| rule).to_vec())
}

/// The first of each key.
fn unique<T, K: std::hash::Hash + Eq>(mut list: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    list.retain(|one| seen.insert(key(one)));
    list
}

fn group() -> impl Strategy<Value = GroupConfig> {
    let host = (name(), address(1..4)).prop_map(|(name, address)| HostConfig { name, address });
    (name(), rule(), vec(host, 0..5)).prop_map(|(name, rule, hosts)| {
        let hosts =
            unique(unique(hosts, |host| host.name.clone()), |host| host.address.canonical());
        GroupConfig { name, rule, hosts }
    })
}

fn service() -> impl Strategy<Value = ServiceConfig> {
    let replay = option::of((1..65_537_usize).prop_map(|bytes| NonZeroUsize::new(bytes).unwrap()));
    let groups = (vec(group(), 1..4), any::<prop::sample::Index>());
    let limits = (time(1), time(1), option::of(time(1)), dead());
    let parts = (name(), vec(address(0..4), 1..4), groups, limits, replay);
    parts.prop_map(|(name, listens, (groups, enabled), (connect, idle, half, dead), replay)| {
        let groups = unique(groups, |group| group.name.clone());
        let enabled = enabled.get(&groups).name.clone();
        ServiceConfig { name, listens, groups, enabled, connect, idle, half, dead, replay }
    })
}

fn admin() -> impl Strategy<Value = AdminConfig> {
    let access = prop_oneof![Just(Access::Full), Just(Access::ReadOnly)];
    let password = prop_oneof![Just("rom0wh951j8Sg".to_owned()), Just("$6$<&>\"'$x".to_owned())];
    let user_name = name().prop_filter("no user's name", |text| value::user_name(text).is_ok());
    let user = (user_name, password, access).prop_map(|(name, password, access)| UserConfig {
        name,
        password,
        access,
    });
    // ports of its own: no service may have the same address
    (address(9..12), vec(user, 0..4)).prop_map(|(listen, users)| AdminConfig {
        listen: listen.to_string().parse().unwrap(),
        users: unique(users, |user| user.name.clone()),
    })
}

/// Any configuration and another one, which has much in common with it half of the time.
pub fn two() -> impl Strategy<Value = (Config, Config)> {
    (config(), config(), any::<u8>()).prop_map(|(old, other, parts)| {
        let takes = |bit: u8| parts & (1 << bit) != 0;
        let mut new = if takes(0) { other.clone() } else { old.clone() };
        if takes(1) {
            new.admin = other.admin;
        }
        if takes(2) {
            new.services.reverse();
        }
        for service in new.services.iter_mut().filter(|_| takes(3)) {
            service.groups.reverse();
            service.groups.iter_mut().for_each(|group| group.hosts.reverse());
        }
        (old, new)
    })
}

/// No host is the program itself.
fn without_own_hosts(mut config: Config) -> Config {
    let whole = config.clone();
    let own = own::Own::of(&whole, &own::nowhere);
    let groups = config.services.iter_mut().flat_map(|service| &mut service.groups);
    groups.for_each(|group| group.hosts.retain(|host| own.meets(&host.address.clone()).is_none()));
    config
}

/// Any valid configuration.
pub fn config() -> impl Strategy<Value = Config> {
    let limit =
        || option::of((1..1_000_001_usize).prop_map(|limit| NonZeroUsize::new(limit).unwrap()));
    let memory = option::of(
        (1..5_000_u64, 10..22_u32)
            .prop_filter_map("no memory", |(count, unit)| NonZeroU64::new(count << unit)),
    );
    let pool = (limit(), limit(), memory, limit());
    let pool = pool.prop_map(|(threads, sessions, memory, queue)| PoolConfig {
        threads,
        sessions,
        memory,
        queue,
    });
    let file = vec(any::<char>(), 1..8)
        .prop_map(String::from_iter)
        .prop_filter("no file", |text| value::file(text).is_ok());
    let parts =
        (vec(service(), 1..4), option::of(admin()), option::of(file), time(1_000), pool, time(1));
    parts
        .prop_map(|(services, admin, logging, checktime, pool, grace)| {
            let mut services = unique(services, |service| service.name.clone());
            let mut seen = HashSet::new();
            services.iter_mut().for_each(|service| {
                service
                    .listens
                    .retain(|listen| listen.port == 0 || seen.insert(listen.canonical()));
            });
            services.retain(|service| !service.listens.is_empty());
            let config = Config { services, admin, logging, checktime, pool, grace };
            if config.services.is_empty() { None } else { Some(without_own_hosts(config)) }
        })
        .prop_filter_map("no service", |config| config)
}
