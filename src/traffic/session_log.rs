//! The log line of a session. It goes with the session from accept to the end; dropping it writes
//! the line, whichever way the session ended. The wording is an interface: man page
//! tcpdirector(8), section LOG.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use nix::errno::Errno;

use crate::relay::CloseReason;
use crate::state::{Entry, Group, Host, Reason, Service, Sessions};
use crate::system::logging::{Tenths, value};

/// Why a host that was tried for a session did not keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached.
    Down(Reason),
    /// It was connected, and ended the connection so before it had answered; or it counts as dead,
    /// as somebody else found it down.
    Left(CloseReason),
    /// This machine had no descriptor, port or memory to connect with.
    Shortage,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Down(Reason::Refused) => f.write_str("refused"),
            Failure::Down(Reason::TimedOut) => f.write_str("timed-out"),
            Failure::Down(Reason::Unreachable) => f.write_str("unreachable"),
            Failure::Down(Reason::NoAddress) => f.write_str("no-address"),
            Failure::Down(Reason::NoInterface) => f.write_str("no-interface"),
            Failure::Down(Reason::Other(code)) => write!(f, "{:?}", Errno::from_raw(*code)),
            Failure::Left(CloseReason::ServerDead) => f.write_str("dead"),
            Failure::Left(CloseReason::Closed) => f.write_str("closed"),
            Failure::Left(_) => f.write_str("reset"),
            Failure::Shortage => f.write_str("shortage"),
        }
    }
}

/// What the log will say about a session.
pub struct SessionLog {
    entry: Entry,
    pub(super) service: Arc<Service>,
    pub(super) client: SocketAddr,
    listen: SocketAddr,
    accepted: Instant,
    pub(super) group: Option<Arc<Group>>,
    /// The host that the session is connected to, or was at last.
    pub(super) server: Option<(Arc<Host>, SocketAddr)>,
    /// How many hosts were tried, the one that is being tried included.
    pub(super) tries: u32,
    /// The hosts that did not keep the session, in the order in which they were tried.
    failed: Vec<(Arc<Host>, Failure)>,
    /// How long it took until a host was connected, or the last one had failed; in microseconds.
    connect: u32,
    pub(super) bytes: (u64, u64),
    /// Bytes of those that nobody has acknowledged.
    pub(super) undelivered: (u32, u32),
    pub(super) close_reason: Option<CloseReason>,
}

impl SessionLog {
    /// The log line of a session that was accepted now.
    pub fn new(
        sessions: &Arc<Sessions>,
        service: Arc<Service>,
        client: SocketAddr,
        listen: SocketAddr,
    ) -> SessionLog {
        SessionLog {
            entry: sessions.insert(service.clone(), client),
            service,
            client,
            listen,
            accepted: Instant::now(),
            group: None,
            server: None,
            tries: 0,
            failed: Vec::new(),
            connect: 0,
            bytes: (0, 0),
            undelivered: (0, 0),
            close_reason: None,
        }
    }

    /// How long ago the client was accepted.
    pub(super) fn age(&self) -> Duration {
        self.accepted.elapsed()
    }

    /// The session's entry among the open sessions.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The hosts that did not keep the session.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.failed.iter().map(|(host, _)| host)
    }

    /// This host was tried and does not keep the session.
    pub(super) fn note_failed(&mut self, host: &Arc<Host>, failure: Failure) {
        self.failed.push((host.clone(), failure));
    }

    /// The search for a host has come so far now.
    pub(super) fn note_search(&mut self, tries: usize) {
        self.tries = tries as u32;
        self.connect = u32::try_from(self.age().as_micros()).unwrap_or(u32::MAX);
    }

    /// The host was connected, was sent so many bytes, and has ended the connection so, or is taken
    /// for one that has. The session ends in the same way if no other host is left.
    pub(super) fn note_left(
        &mut self,
        host: &Arc<Host>,
        address: SocketAddr,
        reason: CloseReason,
        sent: u64,
    ) {
        self.note_failed(host, Failure::Left(reason));
        self.server = Some((host.clone(), address));
        self.bytes = (sent, 0);
        self.close_reason = Some(reason);
    }

    /// How the session ends without another host to try: as the last one that was connected has
    /// ended it.
    pub(super) fn no_host_left(&self, is_short: bool) -> CloseReason {
        self.close_reason.unwrap_or(if is_short {
            CloseReason::Shortage
        } else {
            CloseReason::NoHost
        })
    }

    /// The reason as noted; a session that was dropped before anybody noted one was not run at all,
    /// or has panicked.
    fn close_reason(&self) -> CloseReason {
        match self.close_reason {
            Some(reason) => reason,
            None if std::thread::panicking() => CloseReason::Panic,
            None if self.entry.is_stopping() => CloseReason::Stopped,
            None => CloseReason::Shortage,
        }
    }

    /// A client that was not served is worth a warning, unless it has left by itself.
    fn level(&self, reason: CloseReason) -> Level {
        let is_expected = self.server.is_some() || reason == CloseReason::ClientGone;
        if is_expected { Level::Info } else { Level::Warn }
    }

    fn write_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.server, self.failed.last()) {
            (Some((host, server)), _) => write!(f, " host={} server={server}", value(host.name())),
            (None, Some((host, _))) => {
                write!(f, " host={} server={}", value(host.name()), host.address())
            }
            (None, None) => f.write_str(" host=- server=-"),
        }
    }

    fn write_tried(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " tries={}", self.tries)?;
        if self.failed.is_empty() {
            return Ok(());
        }
        let failed = self.failed.iter().map(|(host, failure)| format!("{}:{failure}", host.name()));
        write!(f, " tried={}", value(&failed.collect::<Vec<_>>().join(",")))
    }
}

impl Drop for SessionLog {
    fn drop(&mut self) {
        let reason = self.close_reason();
        self.service.count(reason, self.server.is_some());
        log::log!(self.level(reason), "{self}");
    }
}

impl fmt::Display for SessionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionLog { client, listen, bytes, undelivered, .. } = self;
        write!(
            f,
            "session id={} service={} client={client} listen={listen}",
            self.entry.id(),
            value(self.service.name())
        )?;
        write!(f, " group={}", value(self.group.as_ref().map_or("-", |group| group.name())))?;
        self.write_host(f)?;
        self.write_tried(f)?;
        let connect = Duration::from_micros(self.connect.into());
        write!(f, " connect={} duration={}", Millis(connect), Millis(self.age()))?;
        write!(f, " to_server={} to_client={}", bytes.0, bytes.1)?;
        if *undelivered != (0, 0) {
            write!(f, " undelivered={}/{}", undelivered.0, undelivered.1)?;
        }
        write!(f, " end={}", self.close_reason())
    }
}

/// A duration in milliseconds with one decimal.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", Tenths((self.0.as_micros() + 50) / 100))
    }
}
