//! Finds a host for a client: pick, connect, and go on to the next one when a host fails. Runs on
//! an accept thread or a pool thread, and never waits: an attempt that takes its time is left to
//! the poller.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session_log::{Failure, SessionLog};
use super::{Traffic, report};
use crate::relay::task::Task;
use crate::relay::{CloseReason, Side};
use crate::state::{Group, Host, Lease, Reason};
use crate::system::connecting::{self, Connecting};
use crate::system::logging::value;
use crate::system::socket;

/// A host that answered.
pub struct Connected {
    pub group: Arc<Group>,
    pub server: TcpStream,
    pub address: SocketAddr,
    pub lease: Lease,
    /// How much of what had come from the client was sent.
    pub sent: usize,
    /// The connection is lost already, though something that the host sent can still be read.
    pub lost: Option<CloseReason>,
}

/// The search for a host of one group, each of which is tried at most once.
pub struct HostSearch {
    group: Arc<Group>,
    /// Those that were tried, the one that is being tried included.
    tried: Vec<Arc<Host>>,
    is_short: bool,
    attempt: Option<Attempt>,
}

impl HostSearch {
    /// Some hosts may have been tried before.
    pub fn new(group: Arc<Group>, tried: Vec<Arc<Host>>) -> HostSearch {
        HostSearch { group, tried, is_short: false, attempt: None }
    }

    /// How many hosts were tried.
    pub fn tries(&self) -> usize {
        self.tried.len()
    }

    /// Whether there is a host that was not tried and could be picked.
    pub fn has_another(&self) -> bool {
        let is_tried = |host: &Arc<Host>| self.tried.iter().any(|tried| Arc::ptr_eq(tried, host));
        self.group.hosts().iter().any(|host| host.is_available() && !is_tried(host))
    }

    /// Goes on with the connection to a host; `None` while that is open. A host that fails is
    /// marked down, and the next one is tried. What is our own shortage is not held against it, nor
    /// that it took the connection and reset it. `from_client` is what has come from the client
    /// already.
    pub fn step(
        &mut self,
        from_client: &[u8],
        traffic: &Traffic,
        task: &Task,
        session_log: &mut SessionLog,
    ) -> Result<Option<Connected>, CloseReason> {
        loop {
            let mut attempt = match self.attempt.take() {
                Some(attempt) => attempt,
                None => self.begin(session_log)?,
            };
            match attempt.step(from_client, task) {
                AttemptState::Open => {
                    self.attempt = Some(attempt);
                    return Ok(None);
                }
                AttemptState::Done { server, address, sent, lost } => {
                    let Attempt { lease, .. } = attempt;
                    lease.host().prefer(address);
                    lease.connected();
                    return Ok(Some(Connected {
                        group: self.group.clone(),
                        server,
                        address,
                        lease,
                        sent,
                        lost,
                    }));
                }
                AttemptState::Reset(address) => {
                    attempt.lease.connected();
                    session_log.note_left(
                        attempt.lease.host(),
                        address,
                        CloseReason::ResetByServer,
                        0,
                    );
                }
                AttemptState::OurShortage(e) => {
                    let service = value(session_log.service.name());
                    log::debug!("shortage service={service} reason={}", value(&e.to_string()));
                    self.is_short = true;
                    session_log.note_failed(attempt.lease.host(), Failure::Shortage);
                }
                AttemptState::HostFault(reason) => {
                    let host = attempt.lease.host();
                    session_log.note_failed(host, Failure::Down(reason));
                    if host.failed(reason, attempt.began) {
                        let by = report::By::Session(session_log.entry().id());
                        report::host_down(
                            &traffic.director,
                            by,
                            (&session_log.service, &self.group, host),
                            reason,
                        );
                        traffic.wake_manager();
                    }
                }
            }
        }
    }

    /// Picks the next host.
    fn begin(&mut self, session_log: &SessionLog) -> Result<Attempt, CloseReason> {
        let lease = self.group.pick(session_log.client.ip(), &self.tried);
        let lease = lease.ok_or_else(|| session_log.no_host_left(self.is_short))?;
        self.tried.push(lease.host().clone());
        Ok(Attempt::new(lease, session_log.service.connect_limit()))
    }
}

/// The addresses of one host, tried in turn, each with its share of one time limit.
struct Attempt {
    lease: Lease,
    began: Instant,
    deadline: Instant,
    addresses: std::vec::IntoIter<SocketAddr>,
    /// One that is being tried, and until when.
    open: Option<(Connecting, Instant)>,
    host_fault: Option<Reason>,
    our_shortage: Option<io::Error>,
}

/// How an attempt stands, and whose fault it is that there is no connection.
enum AttemptState {
    Open,
    Done {
        server: TcpStream,
        address: SocketAddr,
        sent: usize,
        lost: Option<CloseReason>,
    },
    /// The connection was made, and reset before anything was sent.
    Reset(SocketAddr),
    OurShortage(io::Error),
    HostFault(Reason),
}

impl Attempt {
    fn new(lease: Lease, limit: Duration) -> Attempt {
        let began = Instant::now();
        let addresses = lease.host().resolved().into_iter();
        Attempt {
            lease,
            began,
            deadline: began + limit,
            addresses,
            open: None,
            host_fault: None,
            our_shortage: None,
        }
    }

    fn step(&mut self, from_client: &[u8], task: &Task) -> AttemptState {
        loop {
            if let Some((connecting, until)) = self.open.take() {
                let outcome = connecting.outcome(from_client);
                let address = connecting.address();
                let is_reset = matches!(outcome, Some(connecting::ConnectOutcome::Reset));
                match outcome {
                    Some(connecting::ConnectOutcome::Connected { sent, lost }) => {
                        let lost = lost.map(|e| CloseReason::by(Side::Server, &e));
                        return AttemptState::Done {
                            server: connecting.into_stream(),
                            address,
                            sent,
                            lost,
                        };
                    }
                    Some(connecting::ConnectOutcome::Failed(e)) => self.note(e),
                    Some(connecting::ConnectOutcome::Reset) => {}
                    None if Instant::now() >= until => self.host_fault = Some(Reason::TimedOut),
                    None => match task.register_writable(Side::Server, &connecting) {
                        Ok(()) => {
                            self.open = Some((connecting, until));
                            return AttemptState::Open;
                        }
                        Err(e) => self.our_shortage = Some(e),
                    },
                }
                // closed first: its last news are not the next one's
                drop(connecting);
                task.note_closed(Side::Server);
                if is_reset {
                    return AttemptState::Reset(address);
                }
            }
            let remaining = self.addresses.len() as u32;
            let Some(address) = self.addresses.next() else { return self.failed() };
            let now = Instant::now();
            let share = self.deadline.saturating_duration_since(now) / remaining;
            match Connecting::start(address, !from_client.is_empty()) {
                Ok(connecting) => {
                    self.open = Some((connecting, now + share.max(Duration::from_millis(1))))
                }
                Err(e) => self.note(e),
            }
        }
    }

    fn note(&mut self, error: io::Error) {
        match socket::is_our_shortage(&error) {
            true => self.our_shortage = Some(error),
            false => self.host_fault = Some(Reason::from(&error)),
        }
    }

    /// An address that failed by the host's fault decides whose fault it is: without IPv6, for
    /// example, an IPv6 address always looks like a shortage of our_shortage.
    fn failed(&mut self) -> AttemptState {
        match (self.host_fault, self.our_shortage.take()) {
            (None, Some(e)) => AttemptState::OurShortage(e),
            (reason, _) => AttemptState::HostFault(
                reason.unwrap_or_else(|| self.lease.host().why_no_address()),
            ),
        }
    }
}
