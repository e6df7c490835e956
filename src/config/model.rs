//! The configuration as plain values: what a file says after it has been checked.
//!
//! A value of [`Config`] is always consistent: names are unique, the enabled group exists, ports
//! and durations are in range.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use super::address::Address;
use super::admin_listen::AdminListen;
use crate::scheduler::Rule;

/// How long one connect attempt may take, where a service does not say.
pub const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
/// How long a session may be silent in both directions, where a service does not say.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(3600);
/// How long a peer may give no sign of life, where a service does not say.
pub const DEFAULT_DEAD: Option<Duration> = Some(Duration::from_secs(120));
/// How long a failed host rests before it is tried again, where the file does not say (the
/// original's value).
pub const DEFAULT_CHECKTIME: Duration = Duration::from_secs(120);

/// How long running sessions may go on after TERM, where the file does not say.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// A whole file: `<pdconfig>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// In the order of the file.
    pub services: Vec<ServiceConfig>,
    /// The admin pages, when there are any.
    pub admin: Option<AdminConfig>,
    /// Where to log; `None` means standard error.
    pub logging: Option<String>,
    /// How long a failed host rests before it is tried again.
    pub checktime: Duration,
    /// Limits of the worker pool.
    pub pool: PoolConfig,
    /// How long running sessions may go on after TERM.
    pub grace: Duration,
}

/// `<service>`: what clients connect to.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// Unique in the file.
    pub name: String,
    /// Where to accept connections; at least one.
    pub listens: Vec<Address>,
    /// At least one; names are unique in the service.
    pub groups: Vec<GroupConfig>,
    /// The name of the group that new sessions go to; always one of `groups`.
    pub enabled: String,
    /// The limit for one connect attempt.
    pub connect: Duration,
    /// The limit for silence in both directions.
    pub idle: Duration,
    /// The same for a session of which one side has ended; `None`: the idle time alone holds.
    pub half: Option<Duration>,
    /// How long a peer may give no sign of life, in whole seconds; `None`: for ever.
    pub dead: Option<Duration>,
    /// How much of what a client sends is kept until a host answers, to be sent again to another
    /// host; `None`: nothing is.
    pub replay: Option<NonZeroUsize>,
}

/// `<group>`: a set of hosts with one scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// Unique in the service.
    pub name: String,
    /// The rule that picks a host.
    pub rule: Rule,
    /// In the order of the file; names and addresses are unique in the group. May be empty.
    pub hosts: Vec<HostConfig>,
}

/// `<host>`: a backend server.
#[derive(Debug, Clone, PartialEq)]
pub struct HostConfig {
    /// Unique in the group; `host.N` where the file gives none.
    pub name: String,
    /// Where it is; the port is never 0.
    pub address: Address,
}

/// `<admin>`: the management pages.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// Where to listen.
    pub listen: AdminListen,
    /// Names are unique.
    pub users: Vec<UserConfig>,
}

/// `<user>`: somebody who may see or change things on the admin pages.
#[derive(Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// Unique among the users.
    pub name: String,
    /// A crypt(3) hash, never the password.
    pub password: String,
    /// What the user may do.
    pub access: Access,
}

impl fmt::Debug for UserConfig {
    /// Without the hash: debug output ends up in logs and test reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserConfig {{ name: {:?}, access: {:?} }}", self.name, self.access)
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// See and change everything.
    Full,
    /// See, change nothing.
    ReadOnly,
}

impl fmt::Display for Access {
    /// As the configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Full => "full",
            Access::ReadOnly => "readonly",
        })
    }
}

/// `<pool>`: limits of the worker pool. `None` means: chosen for this machine at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolConfig {
    /// Most threads that sessions may use.
    pub threads: Option<NonZeroUsize>,
    /// Most sessions at the same time.
    pub sessions: Option<NonZeroUsize>,
    /// Bytes of memory that sessions may cost at most.
    pub memory: Option<NonZeroU64>,
    /// Most accepted connections that may wait for their session to begin.
    pub queue: Option<NonZeroUsize>,
}
