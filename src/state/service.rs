//! What clients connect to: its groups, which of them is enabled, and the tally of its sessions.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use parking_lot::RwLock;

use super::group::Group;
use crate::config::ServiceConfig;

/// A service.
#[derive(Debug)]
pub struct Service {
    name: String,
    groups: Vec<Arc<Group>>,
    enabled: RwLock<Arc<Group>>,
    connect: Duration,
    idle: Duration,
    served: AtomicCell<u64>,
    unserved: AtomicCell<u64>,
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
        let groups: Vec<Arc<Group>> = config.groups.iter().map(|group| Arc::new(Group::new(group))).collect();
        let enabled = groups.iter().find(|group| group.name() == config.enabled)?.clone();
        Some(Service {
            name: config.name.clone(),
            groups,
            enabled: RwLock::new(enabled),
            connect: config.connect,
            idle: config.idle,
            served: AtomicCell::new(0),
            unserved: AtomicCell::new(0),
        })
    }

    /// Its name, unique in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its groups, in configuration order.
    pub fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// The group that new sessions go to.
    pub fn enabled(&self) -> Arc<Group> {
        self.enabled.read().clone()
    }

    /// Sends new sessions to another of its groups; running ones stay where they are. Tells whether there is such a group.
    pub fn enable(&self, group: &str) -> bool {
        let found = self.groups.iter().find(|g| g.name() == group);
        if let Some(group) = found {
            *self.enabled.write() = group.clone();
        }
        found.is_some()
    }

    /// The limit for one connect attempt.
    pub fn connect_limit(&self) -> Duration {
        self.connect
    }

    /// The limit for silence in a session.
    pub fn idle_limit(&self) -> Duration {
        self.idle
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
