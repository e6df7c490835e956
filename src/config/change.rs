//! One edit of the running state: the single way in which anything is changed while the program runs.
//!
//! The admin URLs are read into a [`Change`] here, and `state::Director::apply` carries it out or refuses it.

use std::fmt;
use std::time::Duration;

use super::address::Address;
use super::model::{HostConfig, UserConfig};
use super::{duration, value};
use crate::scheduler::Rule;

/// How long a drain lasts when nobody says.
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);

/// Which host of a group is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// By its name.
    Name(String),
    /// By its address.
    Ip(Address),
}

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// New sessions may go to it.
    Enabled,
    /// No new sessions; running ones go on.
    Disabled,
    /// No new sessions; idle ones are ended, and the rest when the time is up; then it is disabled.
    Draining {
        /// How long sessions may go on.
        within: Duration,
    },
}

/// One edit.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the parameters of the URLs")]
pub enum Change {
    /// A service with one listen address and one empty group.
    NewService { service: String, listen: Address, group: String, rule: Rule },
    /// The service, its listen addresses and groups.
    DelService { service: String },
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
    DelHost { service: String, group: String, host: HostKey },
    /// All hosts of a group that is not enabled.
    DelAllHosts { service: String, group: String },
    /// What the operator wants of a host.
    SetHost { service: String, group: String, host: HostKey, wish: Wish },
    /// Try a failed host now.
    RetryHost { service: String, group: String, host: HostKey },
    /// Somebody who may use the admin pages.
    AddUser { user: UserConfig },
    /// Nobody any more.
    DelUser { name: String },
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

impl Change {
    /// The paths that are changes, each with the parameters that it takes; a `?` marks one that may be left out.
    pub const PATHS: [(&'static str, &'static [&'static str]); 15] = [
        ("newService", &["service", "listen", "group", "scheduler"]),
        ("delService", &["service"]),
        ("newGroup", &["service", "group", "scheduler"]),
        ("delGroup", &["service", "group"]),
        ("enableGroup", &["service", "group"]),
        ("changeScheduler", &["service", "group", "scheduler"]),
        ("addHost", &["service", "group", "name?", "ip"]),
        ("delHost", &["service", "group", "name?", "ip?"]),
        ("delAllHosts", &["service", "group"]),
        ("hostAdminDown", &["service", "group", "name?", "ip?"]),
        ("hostAdminUp", &["service", "group", "name?", "ip?"]),
        ("drainHost", &["service", "group", "name?", "ip?", "within?"]),
        ("retryHost", &["service", "group", "name?", "ip?"]),
        ("addUser", &["name", "password", "access"]),
        ("delUser", &["name"]),
    ];

    /// Reads a change from a path and its parameters, which must be known ones, each given once. `None` when the path is no change.
    pub fn from_query(path: &str, query: &[(String, String)]) -> Option<Result<Change, Refusal>> {
        let (_, parameters) = Change::PATHS.iter().find(|(name, _)| *name == path)?;
        Some(Arguments { query }.check(parameters).and_then(|arguments| arguments.change(path)))
    }
}

/// The parameters of one request.
#[derive(Clone, Copy)]
struct Arguments<'a> {
    query: &'a [(String, String)],
}

impl Arguments<'_> {
    /// All that must be there is there, nothing twice, nothing unknown.
    fn check(self, parameters: &[&str]) -> Result<Self, Refusal> {
        let known = |name: &str| parameters.iter().any(|p| p.trim_end_matches('?') == name);
        for (i, (name, _)) in self.query.iter().enumerate() {
            if !known(name) {
                let all: Vec<&str> = parameters.iter().map(|p| p.trim_end_matches('?')).collect();
                return Err(Refusal::Bad(format!("unknown argument `{name}`: there may be {}", all.join(", "))));
            }
            if self.query.iter().take(i).any(|(other, _)| other == name) {
                return Err(Refusal::Bad(format!("argument `{name}` is given twice")));
            }
        }
        let missing: Vec<&str> = parameters.iter().filter(|p| !p.ends_with('?') && self.get(p).is_none()).copied().collect();
        match missing.is_empty() {
            true => Ok(self),
            false => Err(Refusal::Bad(format!("missing argument: {}", missing.join(", ")))),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn read<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Refusal> {
        read(self.get(name).unwrap_or_default()).map_err(|why| Refusal::Bad(format!("{name}: {why}")))
    }

    fn text(&self, name: &str) -> Result<String, Refusal> {
        self.read(name, value::name)
    }

    fn host_key(&self) -> Result<HostKey, Refusal> {
        match (self.get("name"), self.get("ip")) {
            (Some(_), None) => Ok(HostKey::Name(self.text("name")?)),
            (None, Some(_)) => Ok(HostKey::Ip(self.read("ip", value::host_address)?)),
            _ => Err(Refusal::Bad("name the host by `name` or by `ip`, one of them".into())),
        }
    }

    fn change(self, path: &str) -> Result<Change, Refusal> {
        let service = || self.text("service");
        let group = || self.text("group");
        let rule = || self.read("scheduler", str::parse);
        let set = |wish| Ok(Change::SetHost { service: service()?, group: group()?, host: self.host_key()?, wish });
        match path {
            "newService" => {
                let listen = self.read("listen", str::parse)?;
                Ok(Change::NewService { service: service()?, listen, group: group()?, rule: rule()? })
            }
            "delService" => Ok(Change::DelService { service: service()? }),
            "newGroup" => Ok(Change::NewGroup { service: service()?, group: group()?, rule: rule()? }),
            "delGroup" => Ok(Change::DelGroup { service: service()?, group: group()? }),
            "enableGroup" => Ok(Change::EnableGroup { service: service()?, group: group()? }),
            "changeScheduler" => Ok(Change::ChangeScheduler { service: service()?, group: group()?, rule: rule()? }),
            "addHost" => {
                let address: Address = self.read("ip", value::host_address)?;
                // a host that nobody named is named by its address: a position means nothing to a running group
                let default = address.to_string();
                let name = self.get("name").unwrap_or(&default);
                let name = value::name(name).map_err(|why| Refusal::Bad(format!("name: {why}")))?;
                Ok(Change::AddHost { service: service()?, group: group()?, host: HostConfig { name, address } })
            }
            "delHost" => Ok(Change::DelHost { service: service()?, group: group()?, host: self.host_key()? }),
            "delAllHosts" => Ok(Change::DelAllHosts { service: service()?, group: group()? }),
            "hostAdminDown" => set(Wish::Disabled),
            "hostAdminUp" => set(Wish::Enabled),
            "drainHost" => {
                let within = self.get("within").map_or(Ok(DEFAULT_DRAIN), |_| self.read("within", duration::parse))?;
                set(Wish::Draining { within })
            }
            "retryHost" => Ok(Change::RetryHost { service: service()?, group: group()?, host: self.host_key()? }),
            "addUser" => {
                let password = self.read("password", value::password)?;
                Ok(Change::AddUser {
                    user: UserConfig {
                        name: self.read("name", value::user_name)?,
                        password,
                        access: self.read("access", value::access)?,
                    },
                })
            }
            "delUser" => Ok(Change::DelUser { name: self.text("name")? }),
            _ => Err(Refusal::NotFound(format!("no such change: {path}"))),
        }
    }
}
