//! Writes changes as admin URLs, which `query` reads back as they were.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::admin_state::AdminState;
use super::change::{Change, ElementKey, HostKey};
use super::duration::{format, format_limit};
use super::model::{HostConfig, PoolConfig, UserConfig};
use super::value::format_bytes;
use crate::system::logging::value;

/// What stays as it is: nothing that curl or a shell would take for its own between double quotes.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b':')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'*')
    .remove(b'~');

impl fmt::Display for Change {
    /// The URL that does it, from its slash on. A password is its hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.to_query();
        write!(f, "/{path}")?;
        for (i, (name, text)) in query.iter().enumerate() {
            write!(
                f,
                "{}{name}={}",
                if i == 0 { '?' } else { '&' },
                utf8_percent_encode(text, PLAIN)
            )?;
        }
        Ok(())
    }
}

impl Change {
    /// The change as pairs for the log, without any password.
    pub fn described(&self) -> String {
        let (path, query) = self.to_query();
        described(path, query.iter().map(|(name, text)| (*name, text.as_str())))
    }

    /// The path and the parameters that [`Change::from_query`] reads as this change. A password is
    /// its hash.
    pub fn to_query(&self) -> (&'static str, Vec<(&'static str, String)>) {
        let none = Query(Vec::new());
        let of = |service| Query(Vec::new()).with("service", service);
        let (path, Query(query)) = match self {
            Change::NewService { service, listen, group, rule } => (
                "newService",
                of(service).with("listen", listen).with("group", group).with("scheduler", rule),
            ),
            Change::DelService { service, force } => ("delService", of(service).force(*force)),
            Change::AddListen { service, listen } => {
                ("addListen", of(service).with("listen", listen))
            }
            Change::DelListen { service, listen, force } => {
                ("delListen", of(service).with("listen", listen).force(*force))
            }
            Change::SetTimeout { service, connect, idle, half, dead } => {
                let query = of(service)
                    .maybe("connect", &connect.map(format))
                    .maybe("idle", &idle.map(format));
                let (half, dead) = (half.map(format_limit), dead.map(format_limit));
                ("setTimeout", query.maybe("half", &half).maybe("dead", &dead))
            }
            Change::SetReplay { service, bytes } => {
                ("setReplay", of(service).maybe("bytes", bytes))
            }
            Change::NewGroup { service, group, rule } => {
                ("newGroup", of(service).with("group", group).with("scheduler", rule))
            }
            Change::DelGroup { service, group } => ("delGroup", of(service).with("group", group)),
            Change::EnableGroup { service, group } => {
                ("enableGroup", of(service).with("group", group))
            }
            Change::ChangeScheduler { service, group, rule } => {
                ("changeScheduler", of(service).with("group", group).with("scheduler", rule))
            }
            Change::AddHost { service, group, host: HostConfig { name, address } } => {
                ("addHost", of(service).with("group", group).with("name", name).with("ip", address))
            }
            Change::DelHost { service, group, host, force } => {
                ("delHost", of(service).with("group", group).host(host).force(*force))
            }
            Change::ChangeHost { service, group, host, name, address } => (
                "changeHost",
                of(service)
                    .with("group", group)
                    .host(host)
                    .maybe("newname", name)
                    .maybe("newip", address),
            ),
            Change::DelAllHosts { service, group } => {
                ("delAllHosts", of(service).with("group", group))
            }
            Change::SetHost { service, group, host, state } => {
                let query = of(service).with("group", group).host(host);
                match state {
                    AdminState::Enabled => ("hostAdminUp", query),
                    AdminState::Disabled => ("hostAdminDown", query),
                    AdminState::Draining { within } => {
                        ("drainHost", query.with("within", &format(*within)))
                    }
                }
            }
            Change::RetryHost { service, group, host } => {
                ("retryHost", of(service).with("group", group).host(host))
            }
            Change::AddUser { user: UserConfig { name, password, access } } => (
                "addUser",
                none.with("name", name).with("password", password).with("access", access),
            ),
            Change::DelUser { name, force } => ("delUser", none.with("name", name).force(*force)),
            Change::ChangeUser { name, password, access, force } => (
                "changeUser",
                none.with("name", name)
                    .maybe("password", password)
                    .maybe("access", access)
                    .force(*force),
            ),
            Change::SetAdmin { listen: Some(listen) } => ("setAdmin", none.with("listen", listen)),
            Change::SetAdmin { listen: None } => ("setAdmin", none.with("listen", &"none")),
            Change::SetLogging { file } => ("setLogging", none.maybe("file", file)),
            Change::SetChecktime { time } => ("setChecktime", none.with("time", &format(*time))),
            Change::SetPool { pool: PoolConfig { threads, sessions, queue, memory } } => {
                let limits = none
                    .maybe("threads", threads)
                    .maybe("sessions", sessions)
                    .maybe("queue", queue);
                ("setPool", limits.maybe("memory", &memory.map(format_bytes)))
            }
            Change::SetStop { grace } => ("setStop", none.with("grace", &format(*grace))),
            Change::Move { item, at } => ("move", none.item(item).with("at", at)),
        };
        (path, query)
    }
}

/// A path and its parameters as pairs for the log; what may be a password is not shown.
pub fn described<'a>(path: &str, query: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = format!("path={path}");
    for (name, given) in query {
        let given = if name == "password" || name == "plain" { "***" } else { given };
        text.push_str(&format!(" {name}={}", value(given)));
    }
    text
}

/// Parameters as they are written down.
struct Query(Vec<(&'static str, String)>);

impl Query {
    fn with(mut self, name: &'static str, text: &impl ToString) -> Query {
        self.0.push((name, text.to_string()));
        self
    }

    fn maybe(self, name: &'static str, text: &Option<impl ToString>) -> Query {
        match text {
            Some(text) => self.with(name, text),
            None => self,
        }
    }

    fn force(self, force: bool) -> Query {
        if force { self.with("force", &"yes") } else { self }
    }

    fn host(self, host: &HostKey) -> Query {
        match host {
            HostKey::Name(name) => self.with("name", name),
            HostKey::Ip(address) => self.with("ip", address),
        }
    }

    fn item(self, item: &ElementKey) -> Query {
        match item {
            ElementKey::Service { service } => self.with("service", service),
            ElementKey::Listen { service, listen } => {
                self.with("service", service).with("listen", listen)
            }
            ElementKey::Group { service, group } => {
                self.with("service", service).with("group", group)
            }
            ElementKey::Host { service, group, name } => {
                self.with("service", service).with("group", group).with("name", name)
            }
            ElementKey::User { name } => self.with("name", name),
        }
    }
}
