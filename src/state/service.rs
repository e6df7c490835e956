//! What clients connect to: its groups, which of them is enabled, and the tally of its sessions.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use parking_lot::RwLock;

use super::group::Group;
use super::history::History;
use crate::config::{Address, ServiceConfig};

/// A service.
#[derive(Debug)]
pub struct Service {
    name: String,
    listens: Vec<Address>,
    groups: RwLock<Groups>,
    connect: Duration,
    idle: Duration,
    replay: Option<NonZeroUsize>,
    served: AtomicCell<u64>,
    unserved: AtomicCell<u64>,
    /// What it did in the last minutes.
    pub history: History,
}

#[derive(Debug)]
struct Groups {
    all: Vec<Arc<Group>>,
    enabled: Arc<Group>,
}

/// What became of a session, as the service counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was connected to a host.
    Served,
    /// It was closed without having reached one.
    Unserved,
}

impl Service {
    /// A service with its groups. `None` only for a configuration whose enabled group is not among its groups.
    pub fn new(config: &ServiceConfig) -> Option<Service> {
        let all: Vec<Arc<Group>> = config.groups.iter().map(|group| Arc::new(Group::new(group))).collect();
        let enabled = all.iter().find(|group| group.name() == config.enabled)?.clone();
        Some(Service {
            name: config.name.clone(),
            listens: config.listens.clone(),
            groups: RwLock::new(Groups { all, enabled }),
            connect: config.connect,
            idle: config.idle,
            replay: config.replay,
            served: AtomicCell::new(0),
            unserved: AtomicCell::new(0),
            history: History::default(),
        })
    }

    /// The configuration that describes it as it is now.
    pub fn config(&self) -> ServiceConfig {
        ServiceConfig {
            name: self.name.clone(),
            listens: self.listens.clone(),
            groups: self.groups().iter().map(|group| group.config()).collect(),
            enabled: self.enabled().name().to_owned(),
            connect: self.connect,
            idle: self.idle,
            replay: self.replay,
        }
    }

    /// Its name, unique in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its listen addresses, as configured.
    pub fn listens(&self) -> &[Address] {
        &self.listens
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

    /// Sends new sessions to this group, one of its own; running ones stay where they are.
    pub(super) fn enable(&self, group: Arc<Group>) {
        self.groups.write().enabled = group;
    }

    pub(super) fn add_group(&self, group: Group) {
        self.groups.write().all.push(Arc::new(group));
    }

    pub(super) fn remove_group(&self, group: &Arc<Group>) {
        self.groups.write().all.retain(|other| !Arc::ptr_eq(other, group));
    }

    /// The limit for one connect attempt.
    pub fn connect_limit(&self) -> Duration {
        self.connect
    }

    /// The limit for silence in a session.
    pub fn idle_limit(&self) -> Duration {
        self.idle
    }

    /// How much of what a client sends is kept until a host answers.
    pub fn replay_limit(&self) -> Option<NonZeroUsize> {
        self.replay
    }

    /// Sessions that hold a host of any of its groups now, and the bytes that its hosts have moved each way.
    pub fn load(&self) -> (usize, u64, u64) {
        let hosts = self.groups().into_iter().flat_map(|group| group.hosts());
        hosts.fold((0, 0, 0), |(open, to_server, to_client), host| {
            (open + host.open(), to_server + host.meter().to_server(), to_client + host.meter().to_client())
        })
    }

    /// Counts a session that has ended.
    pub fn count(&self, fate: Fate) {
        match fate {
            Fate::Served => self.served.fetch_add(1),
            Fate::Unserved => self.unserved.fetch_add(1),
        };
    }

    /// Sessions that have ended with this fate.
    pub fn counted(&self, fate: Fate) -> u64 {
        match fate {
            Fate::Served => self.served.load(),
            Fate::Unserved => self.unserved.load(),
        }
    }
}
