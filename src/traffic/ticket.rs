//! The log line of a session. A ticket goes with the session from accept to the end; dropping it writes the line, whichever way
//! the session ended. The wording is an interface: man page tcpdirector(8), section LOG.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::relay::End;
use crate::state::{Entry, Fate, Group, Host, Roster, Service};
use crate::system::logging::{Tenths, value};

/// How a session ended: as its relay did, or before there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The relay ran.
    Relayed(End),
    /// No host of the enabled group could be reached.
    NoHost,
    /// The client had gone before a host was connected.
    ClientGone,
    /// This machine had no descriptor, port or memory for it.
    Shortage,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Relayed(end) => end.fmt(f),
            Ending::NoHost => f.write_str("no-host"),
            Ending::ClientGone => f.write_str("client-gone"),
            Ending::Shortage => f.write_str("shortage"),
        }
    }
}

/// What the log will say about a session.
pub struct Ticket {
    entry: Entry,
    pub(super) service: Arc<Service>,
    client: SocketAddr,
    listen: SocketAddr,
    accepted: Instant,
    pub(super) group: Option<Arc<Group>>,
    pub(super) server: Option<(Arc<Host>, SocketAddr)>,
    pub(super) tries: usize,
    pub(super) connect: Duration,
    pub(super) bytes: (u64, u64),
    pub(super) ending: Option<Ending>,
}

impl Ticket {
    /// The ticket of a session that was accepted now.
    pub fn new(roster: &Arc<Roster>, service: Arc<Service>, client: SocketAddr, listen: SocketAddr) -> Ticket {
        Ticket {
            entry: roster.enter(service.clone(), client),
            service,
            client,
            listen,
            accepted: Instant::now(),
            group: None,
            server: None,
            tries: 0,
            connect: Duration::ZERO,
            bytes: (0, 0),
            ending: None,
        }
    }

    /// How long ago the client was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// The session's line in the roster.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The ending as noted; a session that was dropped before anybody noted one was not run at all, or has panicked.
    fn ending(&self) -> Ending {
        match self.ending {
            Some(ending) => ending,
            None if std::thread::panicking() => Ending::Relayed(End::Panic),
            None if self.entry.is_stopping() => Ending::Relayed(End::Stopped),
            None => Ending::Shortage,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.service.count(if self.server.is_some() { Fate::Served } else { Fate::Unserved });
        log::info!("{self}");
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticket { client, listen, tries, .. } = self;
        write!(f, "session id={} service={} client={client} listen={listen}", self.entry.id(), value(self.service.name()))?;
        write!(f, " group={}", value(self.group.as_ref().map_or("-", |group| group.name())))?;
        match &self.server {
            Some((host, server)) => write!(f, " host={} server={server}", value(host.name()))?,
            None => write!(f, " host=- server=-")?,
        }
        write!(f, " tries={tries} connect={} duration={}", Millis(self.connect), Millis(self.age()))?;
        write!(f, " to_server={} to_client={} end={}", self.bytes.0, self.bytes.1, self.ending())
    }
}

/// A duration in milliseconds with one decimal.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", Tenths((self.0.as_micros() + 50) / 100))
    }
}
