//! Finds a host for a client: pick, connect, and go on to the next one when a host fails. Runs on an accept thread or a pool thread, and never waits: an
//! attempt that takes its time is left to the poller.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ticket::Ending;
use super::{Traffic, report};
use crate::relay::seat::{Seat, Side};
use crate::state::{Group, Host, Lease, Reason, Service};
use crate::system::logging::value;
use crate::system::socket::{self, Connecting};

/// A host that answered.
pub struct Connected {
    pub group: Arc<Group>,
    pub server: TcpStream,
    pub address: SocketAddr,
    pub lease: Lease,
}

/// Which hosts of the group were tried for a client, each at most once, and which one is being tried.
pub struct Hunt {
    service: Arc<Service>,
    group: Arc<Group>,
    tried: Vec<Arc<Host>>,
    /// The client was there a moment ago.
    is_fresh: bool,
    is_short: bool,
    attempt: Option<Attempt>,
}

impl Hunt {
    /// No host was tried yet. `is_fresh`: the client has come so recently that nobody need ask whether it is still there.
    pub fn new(service: Arc<Service>, group: Arc<Group>, is_fresh: bool) -> Hunt {
        Hunt { service, group, tried: Vec::new(), is_fresh, is_short: false, attempt: None }
    }

    /// How many hosts were tried, the one that is being tried included.
    pub fn tries(&self) -> usize {
        self.tried.len()
    }

    /// Goes on with the connection to a host; `None` while that is open. A host that fails is marked down, and the next one is tried;
    /// what is our own shortage is not held against it.
    pub fn step(&mut self, client: &TcpStream, traffic: &Traffic, seat: &Seat) -> Result<Option<Connected>, Ending> {
        loop {
            let mut attempt = match self.attempt.take() {
                Some(attempt) => attempt,
                None => self.begin(client)?,
            };
            match attempt.step(seat) {
                Outcome::Open => {
                    self.attempt = Some(attempt);
                    return Ok(None);
                }
                Outcome::Done(server, address) => {
                    attempt.lease.host().prefer(address);
                    attempt.lease.connected();
                    return Ok(Some(Connected { group: self.group.clone(), server, address, lease: attempt.lease }));
                }
                Outcome::Ours(e) => {
                    log::debug!("shortage service={} reason={}", value(self.service.name()), value(&e.to_string()));
                    self.is_short = true;
                }
                Outcome::Theirs(reason) => {
                    let host = attempt.lease.host();
                    if host.failed(reason, attempt.began) {
                        report::host_down(&traffic.director, "session", (&self.service, &self.group, host), reason);
                        traffic.wake_manager();
                    }
                }
            }
        }
    }

    /// Picks the next host, if the client is still there: it may have waited for long.
    fn begin(&mut self, client: &TcpStream) -> Result<Attempt, Ending> {
        if !std::mem::take(&mut self.is_fresh) && socket::is_gone(client) {
            return Err(Ending::ClientGone);
        }
        let lease = self.group.pick(&self.tried);
        let lease = lease.ok_or(if self.is_short { Ending::Shortage } else { Ending::NoHost })?;
        self.tried.push(lease.host().clone());
        let bytes_at_hand = socket::unread(client).is_ok_and(|count| count > 0);
        Ok(Attempt::new(lease, self.service.connect_limit(), bytes_at_hand))
    }
}

/// The addresses of one host, tried in turn, each with its share of one time limit.
struct Attempt {
    lease: Lease,
    began: Instant,
    deadline: Instant,
    addresses: std::vec::IntoIter<SocketAddr>,
    /// The client has said something.
    bytes_at_hand: bool,
    /// One that is being tried, and until when.
    open: Option<(Connecting, Instant)>,
    theirs: Option<Reason>,
    ours: Option<io::Error>,
}

/// How an attempt stands, and whose fault it is that there is no connection.
enum Outcome {
    Open,
    Done(TcpStream, SocketAddr),
    Ours(io::Error),
    Theirs(Reason),
}

impl Attempt {
    fn new(lease: Lease, limit: Duration, bytes_at_hand: bool) -> Attempt {
        let began = Instant::now();
        let addresses = lease.host().resolved().into_iter();
        Attempt { lease, began, deadline: began + limit, addresses, bytes_at_hand, open: None, theirs: None, ours: None }
    }

    fn step(&mut self, seat: &Seat) -> Outcome {
        loop {
            if let Some((connecting, until)) = self.open.take() {
                match connecting.go_on() {
                    Some(Ok(())) => {
                        let address = connecting.address();
                        let server = connecting.into_stream();
                        // it fails only when the connection is gone, and then the relay finds out
                        let _ = server.set_nodelay(true);
                        return Outcome::Done(server, address);
                    }
                    Some(Err(e)) => self.note(e),
                    None if Instant::now() >= until => self.theirs = Some(Reason::TimedOut),
                    None => match seat.watch_room(Side::Server, &connecting) {
                        Ok(()) => {
                            self.open = Some((connecting, until));
                            return Outcome::Open;
                        }
                        Err(e) => self.ours = Some(e),
                    },
                }
                // closed first: its last news are not the next one's
                drop(connecting);
                seat.forget(Side::Server);
            }
            let remaining = self.addresses.len() as u32;
            let Some(address) = self.addresses.next() else { return self.failed() };
            let now = Instant::now();
            let share = self.deadline.saturating_duration_since(now) / remaining;
            match Connecting::start(address, self.bytes_at_hand) {
                Ok(connecting) => self.open = Some((connecting, now + share.max(Duration::from_millis(1)))),
                Err(e) => self.note(e),
            }
        }
    }

    fn note(&mut self, error: io::Error) {
        match socket::is_our_shortage(&error) {
            true => self.ours = Some(error),
            false => self.theirs = Some(Reason::from(&error)),
        }
    }

    /// An address that failed by the host's fault decides whose fault it is: without IPv6, for example, an IPv6 address always looks
    /// like a shortage of ours.
    fn failed(&mut self) -> Outcome {
        match (self.theirs, self.ours.take()) {
            (None, Some(e)) => Outcome::Ours(e),
            (reason, _) => Outcome::Theirs(reason.unwrap_or_else(|| self.lease.host().lacks())),
        }
    }
}
