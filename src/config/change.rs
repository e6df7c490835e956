//! One edit of the running state: the single way in which anything is changed while the program
//! runs.
//!
//! A change comes from an admin URL (`query` reads those, `url` writes them) or from comparing two
//! configurations (`between`). What it makes of a configuration is in `edit`;
//! `state::Director::apply` carries it out.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::address::Address;
use super::admin_listen::AdminListen;
use super::admin_state::AdminState;
use super::model::{Access, HostConfig, PoolConfig, UserConfig};
use crate::scheduler::Rule;

/// Which host of a group is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// By its name, or by its address when no host has that name.
    Name(String),
    /// By its address.
    Ip(Address),
}

impl HostKey {
    /// Which of these hosts it is.
    pub fn position<'a>(
        &self,
        mut hosts: impl Iterator<Item = (&'a str, &'a Address)> + Clone,
    ) -> Option<usize> {
        let named = match self {
            HostKey::Name(wanted) => hosts.clone().position(|(name, _)| name == wanted),
            HostKey::Ip(_) => None,
        };
        named.or_else(|| {
            let wanted = self.address()?;
            hosts.position(|(_, address)| wanted.is_same(address))
        })
    }

    fn address(&self) -> Option<Address> {
        match self {
            HostKey::Name(name) => name.parse().ok(),
            HostKey::Ip(address) => Some(address.clone()),
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostKey::Name(name) => f.write_str(name),
            HostKey::Ip(address) => address.fmt(f),
        }
    }
}

/// Something that has a position among its like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the parameters of the URL")]
pub enum ElementKey {
    Service { service: String },
    Listen { service: String, listen: Address },
    Group { service: String, group: String },
    Host { service: String, group: String, name: String },
    User { name: String },
}

/// One edit. `force` carries out what is refused otherwise because nothing of its kind would be
/// left.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the parameters of the URLs")]
pub enum Change {
    /// A service with one listen address and one empty group.
    NewService { service: String, listen: Address, group: String, rule: Rule },
    /// The service, its listen addresses and groups.
    DelService { service: String, force: bool },
    /// One more address on which the service accepts connections.
    AddListen { service: String, listen: Address },
    /// One address less; its sessions go on.
    DelListen { service: String, listen: Address, force: bool },
    /// The limits of the service's sessions from now on; `Some(None)` takes one away.
    SetTimeout {
        service: String,
        connect: Option<Duration>,
        idle: Option<Duration>,
        half: Option<Option<Duration>>,
        dead: Option<Option<Duration>>,
    },
    /// How much of what a client sends is kept until a host answers.
    SetReplay { service: String, bytes: Option<NonZeroUsize> },
    /// An empty group.
    NewGroup { service: String, group: String, rule: Rule },
    /// A group that is not enabled.
    DelGroup { service: String, group: String },
    /// New sessions go to this group.
    EnableGroup { service: String, group: String },
    /// Another rule for the group; counts stay.
    ChangeScheduler { service: String, group: String, rule: Rule },
    /// One more host.
    AddHost { service: String, group: String, host: HostConfig },
    /// One host less; its sessions go on.
    DelHost { service: String, group: String, host: HostKey, force: bool },
    /// Another name or address for a host, in one act; its sessions go on where they are.
    ChangeHost {
        service: String,
        group: String,
        host: HostKey,
        name: Option<String>,
        address: Option<Address>,
    },
    /// All hosts of a group that is not enabled.
    DelAllHosts { service: String, group: String },
    /// What the operator wants of a host.
    SetHost { service: String, group: String, host: HostKey, state: AdminState },
    /// Try a failed host now.
    RetryHost { service: String, group: String, host: HostKey },
    /// Somebody who may use the admin pages.
    AddUser { user: UserConfig },
    /// Nobody any more.
    DelUser { name: String, force: bool },
    /// Another password or other rights.
    ChangeUser { name: String, password: Option<String>, access: Option<Access>, force: bool },
    /// Where the admin pages are; without an address there are none, and no users.
    SetAdmin { listen: Option<AdminListen> },
    /// Where to log; without a file, to standard error.
    SetLogging { file: Option<String> },
    /// How long a failed host rests.
    SetChecktime { time: Duration },
    /// The limits of the pool.
    SetPool { pool: PoolConfig },
    /// How long sessions may go on after TERM.
    SetStop { grace: Duration },
    /// To another position among its like, from 0: roundrobin goes by the order of the hosts.
    Move { item: ElementKey, at: usize },
}

/// Why a change was not made. The words name the wrong thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The request itself is wrong.
    Bad(String),
    /// It names something that does not exist.
    NotFound(String),
    /// It does not fit the state: a duplicate, the last host, a port in use.
    Conflict(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::Bad(why) | Refusal::NotFound(why) | Refusal::Conflict(why)) = self;
        f.write_str(why)
    }
}
