//! Reads changes from admin URLs: `addHost?service=web&group=main&name=two&ip=10.0.0.12:80`. The
//! way back is in `url`.

use std::time::Duration;

use super::address::Address;
use super::admin_listen::AdminListen;
use super::admin_state::AdminState;
use super::change::{Change, ElementKey, HostKey, Refusal};
use super::model::{HostConfig, PoolConfig, UserConfig};
use super::{duration, value};
use crate::scheduler::Rule;

/// The group of a new service, and its rule, when nobody says.
const DEFAULT_GROUP: (&str, Rule) = ("main", Rule::RoundRobin);
/// How long a drain lasts when nobody says.
const DEFAULT_DRAIN: Duration = Duration::from_secs(300);

type Result<T> = std::result::Result<T, Refusal>;

impl Change {
    /// The paths that are changes, each with the parameters that it takes; a `?` marks one that may
    /// be left out.
    pub const PATHS: [(&'static str, &'static [&'static str]); 27] = [
        ("newService", &["service", "listen", "group?", "scheduler?"]),
        ("delService", &["service", "force?"]),
        ("addListen", &["service", "listen"]),
        ("delListen", &["service", "listen", "force?"]),
        ("setTimeout", &["service", "connect?", "idle?", "half?", "dead?"]),
        ("setReplay", &["service", "bytes?"]),
        ("newGroup", &["service", "group", "scheduler"]),
        ("delGroup", &["service", "group"]),
        ("enableGroup", &["service", "group"]),
        ("changeScheduler", &["service", "group", "scheduler"]),
        ("addHost", &["service", "group", "name?", "ip"]),
        ("delHost", &["service", "group", "name?", "ip?", "force?"]),
        ("changeHost", &["service", "group", "name?", "ip?", "newname?", "newip?"]),
        ("delAllHosts", &["service", "group"]),
        ("hostAdminDown", &["service", "group", "name?", "ip?"]),
        ("hostAdminUp", &["service", "group", "name?", "ip?"]),
        ("drainHost", &["service", "group", "name?", "ip?", "within?"]),
        ("retryHost", &["service", "group", "name?", "ip?", "host?"]),
        ("addUser", &["name", "password", "access"]),
        ("delUser", &["name", "force?"]),
        ("changeUser", &["name", "password?", "access?", "force?"]),
        ("setAdmin", &["listen"]),
        ("setLogging", &["file?"]),
        ("setChecktime", &["time"]),
        ("setPool", &["threads?", "sessions?", "queue?", "memory?"]),
        ("setStop", &["grace"]),
        ("move", &["service?", "listen?", "group?", "name?", "at"]),
    ];

    /// Reads a change from a path and its parameters, which must be known ones, each given once.
    /// `None` when the path is no change.
    pub fn from_query(path: &str, query: &[(String, String)]) -> Option<Result<Change>> {
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
    fn check(self, parameters: &[&str]) -> Result<Self> {
        let known = |name: &str| parameters.iter().any(|p| p.trim_end_matches('?') == name);
        for (i, (name, _)) in self.query.iter().enumerate() {
            if !known(name) {
                let all: Vec<&str> = parameters.iter().map(|p| p.trim_end_matches('?')).collect();
                return Err(Refusal::Bad(format!(
                    "unknown argument `{name}`: there may be {}",
                    all.join(", ")
                )));
            }
            if self.query.iter().take(i).any(|(other, _)| other == name) {
                return Err(Refusal::Bad(format!("argument `{name}` is given twice")));
            }
        }
        let missing: Vec<&str> = parameters
            .iter()
            .filter(|p| !p.ends_with('?') && self.get(p).is_none())
            .copied()
            .collect();
        match missing.is_empty() {
            true => Ok(self),
            false => Err(Refusal::Bad(format!("missing argument: {}", missing.join(", ")))),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn read<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        read(self.get(name).unwrap_or_default()).map_err(|why| blame(name, &why))
    }

    /// The same for a parameter that may be left out.
    fn maybe<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        self.get(name).map(|_| self.read(name, read)).transpose()
    }

    /// A change that changes nothing is a slip.
    fn some_of(&self, names: &[&str]) -> Result<()> {
        match names.iter().any(|name| self.get(name).is_some()) {
            true => Ok(()),
            false => Err(Refusal::Bad(format!("missing argument: {}", names.join(" or ")))),
        }
    }

    fn text(&self, name: &str) -> Result<String> {
        self.read(name, value::name)
    }

    fn force(&self) -> Result<bool> {
        let yes_or_no = |text: &str| match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(format!("`{text}` must be yes or no")),
        };
        Ok(self.maybe("force", yes_or_no)?.unwrap_or(false))
    }

    /// `host` is what the original's documents call the name in one place.
    fn host_key(&self) -> Result<HostKey> {
        let given: Vec<&str> =
            ["name", "host", "ip"].into_iter().filter(|name| self.get(name).is_some()).collect();
        match given[..] {
            ["ip"] => Ok(HostKey::Ip(self.read("ip", value::host_address)?)),
            [name] => Ok(HostKey::Name(self.text(name)?)),
            _ => Err(Refusal::Bad("name the host by `name` or by `ip`, one of them".into())),
        }
    }

    /// A host that nobody named is named by its address: a position means nothing to a running
    /// group.
    fn host(&self) -> Result<HostConfig> {
        let address: Address = self.read("ip", value::host_address)?;
        let default = address.to_string();
        let name =
            value::name(self.get("name").unwrap_or(&default)).map_err(|why| blame("name", &why))?;
        Ok(HostConfig { name, address })
    }

    fn change(self, path: &str) -> Result<Change> {
        match path {
            "addUser" => Ok(Change::AddUser {
                user: UserConfig {
                    name: self.read("name", value::user_name)?,
                    password: self.read("password", value::password)?,
                    access: self.read("access", value::access)?,
                },
            }),
            "delUser" => Ok(Change::DelUser { name: self.text("name")?, force: self.force()? }),
            "changeUser" => {
                self.some_of(&["password", "access"])?;
                Ok(Change::ChangeUser {
                    name: self.text("name")?,
                    password: self.maybe("password", value::password)?,
                    access: self.maybe("access", value::access)?,
                    force: self.force()?,
                })
            }
            "setAdmin" => Ok(Change::SetAdmin { listen: self.read("listen", admin_listen)? }),
            "setLogging" => Ok(Change::SetLogging { file: self.maybe("file", value::file)? }),
            "setChecktime" => {
                Ok(Change::SetChecktime { time: self.read("time", duration::parse_checktime)? })
            }
            "setPool" => Ok(Change::SetPool {
                pool: PoolConfig {
                    threads: self.maybe("threads", value::limit)?,
                    sessions: self.maybe("sessions", value::limit)?,
                    queue: self.maybe("queue", value::limit)?,
                    memory: self.maybe("memory", value::bytes)?,
                },
            }),
            "setStop" => Ok(Change::SetStop { grace: self.read("grace", duration::parse)? }),
            "move" => Ok(Change::Move { item: self.item()?, at: self.read("at", position)? }),
            _ => self.of_service(path, self.text("service")?),
        }
    }

    fn item(&self) -> Result<ElementKey> {
        let (service, group) =
            (self.maybe("service", value::name)?, self.maybe("group", value::name)?);
        match (service, self.maybe("listen", str::parse)?, group, self.maybe("name", value::name)?)
        {
            (Some(service), None, None, None) => Ok(ElementKey::Service { service }),
            (Some(service), Some(listen), None, None) => Ok(ElementKey::Listen { service, listen }),
            (Some(service), None, Some(group), None) => Ok(ElementKey::Group { service, group }),
            (Some(service), None, Some(group), Some(name)) => {
                Ok(ElementKey::Host { service, group, name })
            }
            (None, None, None, Some(name)) => Ok(ElementKey::User { name }),
            _ => Err(Refusal::Bad(
                "name one thing: a service, its group or listen address, a group's host, or a user"
                    .into(),
            )),
        }
    }

    fn of_service(self, path: &str, service: String) -> Result<Change> {
        match path {
            "newService" => {
                let (group, rule) = DEFAULT_GROUP;
                let group = self.maybe("group", value::name)?.unwrap_or_else(|| group.to_owned());
                let rule = self.maybe("scheduler", str::parse)?.unwrap_or(rule);
                Ok(Change::NewService {
                    service,
                    listen: self.read("listen", str::parse)?,
                    group,
                    rule,
                })
            }
            "delService" => Ok(Change::DelService { service, force: self.force()? }),
            "addListen" => {
                Ok(Change::AddListen { service, listen: self.read("listen", str::parse)? })
            }
            "delListen" => Ok(Change::DelListen {
                service,
                listen: self.read("listen", str::parse)?,
                force: self.force()?,
            }),
            "setTimeout" => {
                self.some_of(&["connect", "idle", "half", "dead"])?;
                Ok(Change::SetTimeout {
                    service,
                    connect: self.maybe("connect", duration::parse)?,
                    idle: self.maybe("idle", duration::parse)?,
                    half: self.maybe("half", duration::parse_half)?,
                    dead: self.maybe("dead", duration::parse_dead)?,
                })
            }
            "setReplay" => {
                Ok(Change::SetReplay { service, bytes: self.maybe("bytes", value::replay)? })
            }
            _ => self.of_group(path, service, self.text("group")?),
        }
    }

    fn of_group(self, path: &str, service: String, group: String) -> Result<Change> {
        match path {
            "newGroup" => {
                Ok(Change::NewGroup { service, group, rule: self.read("scheduler", str::parse)? })
            }
            "delGroup" => Ok(Change::DelGroup { service, group }),
            "enableGroup" => Ok(Change::EnableGroup { service, group }),
            "changeScheduler" => Ok(Change::ChangeScheduler {
                service,
                group,
                rule: self.read("scheduler", str::parse)?,
            }),
            "addHost" => Ok(Change::AddHost { service, group, host: self.host()? }),
            "delAllHosts" => Ok(Change::DelAllHosts { service, group }),
            _ => self.of_host(path, service, group, self.host_key()?),
        }
    }

    fn of_host(self, path: &str, service: String, group: String, host: HostKey) -> Result<Change> {
        let state = match path {
            "delHost" => return Ok(Change::DelHost { service, group, host, force: self.force()? }),
            "changeHost" => {
                self.some_of(&["newname", "newip"])?;
                let (name, address) = (
                    self.maybe("newname", value::name)?,
                    self.maybe("newip", value::host_address)?,
                );
                return Ok(Change::ChangeHost { service, group, host, name, address });
            }
            "retryHost" => return Ok(Change::RetryHost { service, group, host }),
            "hostAdminUp" => AdminState::Enabled,
            "hostAdminDown" => AdminState::Disabled,
            "drainHost" => AdminState::Draining {
                within: self.maybe("within", duration::parse)?.unwrap_or(DEFAULT_DRAIN),
            },
            _ => return Err(Refusal::NotFound(format!("no such change: {path}"))),
        };
        Ok(Change::SetHost { service, group, host, state })
    }
}

fn blame(parameter: &str, why: &str) -> Refusal {
    Refusal::Bad(format!("{parameter}: {why}"))
}

/// Where the admin pages are to be, or `none`.
fn admin_listen(text: &str) -> std::result::Result<Option<AdminListen>, String> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

/// A position in a list, from 0.
fn position(text: &str) -> std::result::Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no position: they count from 0"))
}
