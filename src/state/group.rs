//! A set of hosts with one scheduler. The mutex here makes picking a host and counting the pick one act, so that no two
//! sessions of a burst decide by the same counts.

use std::sync::Arc;

use parking_lot::Mutex;

use super::host::{Host, Lease};
use crate::config::{GroupConfig, HostConfig};
use crate::scheduler::{Load, Rule, Scheduler};

/// A group of a service.
#[derive(Debug)]
pub struct Group {
    name: String,
    members: Mutex<Members>,
}

#[derive(Debug)]
struct Members {
    hosts: Vec<Member>,
    scheduler: Scheduler,
    /// Picks so far: the clock of [`Load::last_pick`].
    picks: u64,
}

#[derive(Debug)]
struct Member {
    host: Arc<Host>,
    last_pick: u64,
}

impl Member {
    fn new(config: &HostConfig) -> Member {
        Member { host: Arc::new(Host::new(config)), last_pick: 0 }
    }
}

impl Group {
    /// A group with its hosts, all up.
    pub fn new(config: &GroupConfig) -> Group {
        let hosts = config.hosts.iter().map(Member::new).collect();
        Group {
            name: config.name.clone(),
            members: Mutex::new(Members { hosts, scheduler: Scheduler::new(config.rule), picks: 0 }),
        }
    }

    /// Its name, unique in the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Picks a host that is available and not among those that the session has tried, and counts the pick. `None` when there is none.
    pub fn pick(&self, tried: &[Arc<Host>]) -> Option<Lease> {
        let mut members = self.members.lock();
        let Members { hosts, scheduler, picks } = &mut *members;
        let index = scheduler.pick(hosts.len(), |i| {
            let member = hosts.get(i)?;
            let may_be_picked = member.host.is_available() && !tried.iter().any(|host| Arc::ptr_eq(host, &member.host));
            may_be_picked.then(|| Load { open: member.host.open(), last_pick: member.last_pick })
        })?;
        let member = hosts.get_mut(index)?;
        *picks += 1;
        member.last_pick = *picks;
        Some(Lease::new(member.host.clone()))
    }

    /// The configuration that describes it as it is now.
    pub fn config(&self) -> GroupConfig {
        let hosts = self.hosts().iter().map(|host| host.config()).collect();
        GroupConfig { name: self.name.clone(), rule: self.rule(), hosts }
    }

    /// The rule that picks its hosts.
    pub fn rule(&self) -> Rule {
        self.members.lock().scheduler.rule()
    }

    /// Another rule. What the hosts carry stays; only the order of turns begins anew.
    pub(super) fn set_rule(&self, rule: Rule) {
        self.members.lock().scheduler = Scheduler::new(rule);
    }

    pub(super) fn add(&self, host: &HostConfig) {
        self.members.lock().hosts.push(Member::new(host));
    }

    /// Takes hosts out. They live on until their sessions have ended.
    pub(super) fn remove(&self, is_meant: impl Fn(&Arc<Host>) -> bool) {
        self.members.lock().hosts.retain(|member| !is_meant(&member.host));
    }

    /// Its hosts, in configuration order.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.members.lock().hosts.iter().map(|member| member.host.clone()).collect()
    }
}
