//! What clients connect to: its groups, which of them is enabled, and how many sessions have ended.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use parking_lot::RwLock;

use super::Names;
use super::group::Group;
use super::history::History;
use crate::config::{Address, GroupConfig, ServiceConfig};
use crate::relay::{CloseReason, Timeouts};
use crate::scheduler::Rule;

/// A service.
#[derive(Debug)]
pub struct Service {
    name: String,
    config: RwLock<ServiceConfig>,
    /// What follows from it for a session.
    timeouts: RwLock<Arc<Timeouts>>,
    groups: RwLock<Groups>,
    served: AtomicCell<u64>,
    unserved: AtomicCell<u64>,
    /// The same sessions, by the number of their [`CloseReason`].
    ended: [AtomicCell<u64>; CloseReason::ALL.len()],
    /// What it did in the last minutes.
    pub history: History,
}

/// How long a session may wait for what.
fn timeouts(config: &ServiceConfig) -> Arc<Timeouts> {
    let ServiceConfig { idle, half, dead, .. } = *config;
    Arc::new(Timeouts { idle, half: half.map_or(idle, |half| half.min(idle)), dead })
}

#[derive(Debug)]
struct Groups {
    all: Vec<Arc<Group>>,
    enabled: Arc<Group>,
}

impl Groups {
    /// The groups that are wanted: those that are there go on, with their hosts as they are wanted
    /// now.
    fn new(config: &ServiceConfig, before: &[Arc<Group>], names: &Names) -> Groups {
        let group =
            |wanted: &GroupConfig| match before.iter().find(|group| group.name() == wanted.name) {
                Some(group) => {
                    group.follow(wanted, names);
                    group.clone()
                }
                None => Arc::new(Group::new(wanted, names)),
            };
        let all: Vec<Arc<Group>> = config.groups.iter().map(group).collect();
        let enabled = all.iter().find(|group| group.name() == config.enabled).cloned();
        // a valid configuration enables one of its groups; sessions of any other would reach nobody
        let nobody = || {
            Group::new(
                &GroupConfig {
                    name: config.enabled.clone(),
                    rule: Rule::Random,
                    hosts: Vec::new(),
                },
                names,
            )
        };
        Groups { all, enabled: enabled.unwrap_or_else(|| Arc::new(nobody())) }
    }
}

impl Service {
    /// A service with its groups.
    pub fn new(config: &ServiceConfig, names: &Names) -> Service {
        Service {
            name: config.name.clone(),
            config: RwLock::new(config.clone()),
            timeouts: RwLock::new(timeouts(config)),
            groups: RwLock::new(Groups::new(config, &[], names)),
            served: AtomicCell::new(0),
            unserved: AtomicCell::new(0),
            ended: Default::default(),
            history: History::default(),
        }
    }

    /// Becomes what the configuration describes, from the next session on.
    pub(super) fn follow(&self, config: &ServiceConfig, names: &Names) {
        *self.config.write() = config.clone();
        *self.timeouts.write() = timeouts(config);
        let groups = Groups::new(config, &self.groups(), names);
        *self.groups.write() = groups;
    }

    /// Its name, unique in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its listen addresses, as configured.
    pub fn listens(&self) -> Vec<Address> {
        self.config.read().listens.clone()
    }

    /// Its groups, in configuration order.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().all.clone()
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.read().all.iter().find(|group| group.name() == name).cloned()
    }

    /// The group that new sessions go to.
    pub fn enabled(&self) -> Arc<Group> {
        self.groups.read().enabled.clone()
    }

    /// Whether new sessions go to this group.
    pub fn is_enabled(&self, group: &Arc<Group>) -> bool {
        Arc::ptr_eq(&self.groups.read().enabled, group)
    }

    /// The limit for one connect attempt.
    pub fn connect_limit(&self) -> Duration {
        self.config.read().connect
    }

    /// How long a session of it may wait for what.
    pub fn timeouts(&self) -> Arc<Timeouts> {
        self.timeouts.read().clone()
    }

    /// How much of what a client sends is kept until a host answers.
    pub fn replay_limit(&self) -> Option<NonZeroUsize> {
        self.config.read().replay
    }

    /// Sessions that hold a host of any of its groups now, and the bytes that its hosts have moved
    /// each way.
    pub fn load(&self) -> (usize, u64, u64) {
        let hosts = self.groups().into_iter().flat_map(|group| group.hosts());
        hosts.fold((0, 0, 0), |(open, to_server, to_client), host| {
            (
                open + host.open(),
                to_server + host.meter().to_server(),
                to_client + host.meter().to_client(),
            )
        })
    }

    /// Counts a session that has ended; `is_served`: it had reached a host.
    pub fn count(&self, reason: CloseReason, is_served: bool) {
        let counter = if is_served { &self.served } else { &self.unserved };
        counter.fetch_add(1);
        self.add_ended(reason, 1);
    }

    /// Takes over what a predecessor has counted.
    pub(super) fn add_counts(&self, served: u64, unserved: u64) {
        self.served.fetch_add(served);
        self.unserved.fetch_add(unserved);
    }

    /// The same for the sessions that have ended for this reason.
    pub(super) fn add_ended(&self, reason: CloseReason, count: u64) {
        self.ended.get(reason as usize).map(|ended| ended.fetch_add(count));
    }

    /// Sessions that ended after having reached a host.
    pub fn served(&self) -> u64 {
        self.served.load()
    }

    /// Sessions that ended without having reached one.
    pub fn unserved(&self) -> u64 {
        self.unserved.load()
    }

    /// Sessions that ended for this reason.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.ended.get(reason as usize).map_or(0, AtomicCell::load)
    }
}
