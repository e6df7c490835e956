//! A set of hosts with one scheduler. The mutex here makes picking a host and counting the pick one
//! act, so that no two sessions of a burst decide by the same counts.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::affinity;
use super::host::{Host, Lease, Names};
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
    health: GroupHealth,
}

/// How a group is, all of its hosts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupHealth {
    /// It has a host, or is not enabled and has none that could be up.
    Up,
    /// It is not enabled, and all of its hosts are down.
    Down,
    /// It is enabled, and has no host that may be picked.
    NoHost,
}

#[derive(Debug)]
struct Member {
    host: Arc<Host>,
    last_pick: u64,
    /// See [`affinity::host`].
    affinity: u64,
}

impl Member {
    /// The host that is wanted: one of those before, or a new one.
    fn new(wanted: &HostConfig, before: &[Member], names: &Names) -> Member {
        let is_same = |member: &&Member| {
            member.host.name() == wanted.name && member.host.address() == &wanted.address
        };
        if let Some(Member { host, last_pick, affinity }) = before.iter().find(is_same) {
            return Member { host: host.clone(), last_pick: *last_pick, affinity: *affinity };
        }
        let host = match before.iter().find(|member| member.host.address() == &wanted.address) {
            Some(member) => member.host.renamed(&wanted.name),
            None => Host::new(wanted),
        };
        host.set_names(names);
        let affinity = affinity::host(&wanted.address.to_string());
        Member { host: Arc::new(host), last_pick: 0, affinity }
    }
}

impl Group {
    /// A group with its hosts, all up.
    pub fn new(config: &GroupConfig, names: &Names) -> Group {
        let hosts = config.hosts.iter().map(|wanted| Member::new(wanted, &[], names)).collect();
        Group {
            name: config.name.clone(),
            members: Mutex::new(Members {
                hosts,
                scheduler: Scheduler::new(config.rule),
                picks: 0,
                health: GroupHealth::Up,
            }),
        }
    }

    /// Has the hosts and the rule that the configuration wants, from the next pick on. A host that
    /// was there before goes on; one that is gone lives on until its sessions have ended. With
    /// another rule, the order of turns begins anew.
    pub(super) fn follow(&self, config: &GroupConfig, names: &Names) {
        let mut members = self.members.lock();
        members.hosts =
            config.hosts.iter().map(|wanted| Member::new(wanted, &members.hosts, names)).collect();
        if members.scheduler.rule() != config.rule {
            members.scheduler = Scheduler::new(config.rule);
        }
    }

    /// Its name, unique in the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Picks a host for a client that is available and not among those that the session has tried,
    /// and counts the pick. `None` when there is none.
    pub fn pick(&self, client: IpAddr, tried: &[Arc<Host>]) -> Option<Lease> {
        let client = affinity::client(client);
        let mut members = self.members.lock();
        let Members { hosts, scheduler, picks, .. } = &mut *members;
        let load = |member: &Member| Load { open: member.host.open(), last_pick: member.last_pick };
        let preference = |member: &Member| affinity::preference(member.affinity, client);
        let is_tried = |member: &Member| tried.iter().any(|host| Arc::ptr_eq(host, &member.host));
        let index = scheduler.pick(hosts, load, preference, |member| {
            member.host.is_available() && !is_tried(member)
        })?;
        let member = hosts.get_mut(index)?;
        *picks += 1;
        member.last_pick = *picks;
        Some(Lease::new(member.host.clone()))
    }

    /// How it is, if that has changed since the last call: not when it is better only because it is
    /// not enabled any more.
    pub fn health_change(&self, is_enabled: bool) -> Option<GroupHealth> {
        let mut members = self.members.lock();
        let mut hosts = members.hosts.iter().map(|member| &member.host);
        let now = match is_enabled {
            true if !hosts.any(|host| host.is_available()) => GroupHealth::NoHost,
            false if hosts.len() > 0 && !hosts.any(|host| host.is_up()) => GroupHealth::Down,
            _ => GroupHealth::Up,
        };
        let before = std::mem::replace(&mut members.health, now);
        (now != before && (before, now) != (GroupHealth::NoHost, GroupHealth::Down)).then_some(now)
    }

    /// The rule that picks its hosts.
    pub fn rule(&self) -> Rule {
        self.members.lock().scheduler.rule()
    }

    /// Its hosts, in configuration order.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.members.lock().hosts.iter().map(|member| member.host.clone()).collect()
    }
}
