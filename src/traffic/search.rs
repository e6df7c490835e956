//! A client that has no server yet: the search for one goes on until a host is connected; with
//! `<replay>`, until one has answered. Runs on an accept thread or a pool thread, and never waits.
//! Owns no lock: one thread at a time has it.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::Traffic;
use super::connect::{Connected, HostSearch};
use super::replay::{ReplayBuffer, ReplayOutcome};
use super::session_log::SessionLog;
use crate::relay::pool::Space;
use crate::relay::task::Task;
use crate::relay::{CloseReason, Direction, Liveness, Side, Unsent};
use crate::state::{Health, Wait};
use crate::system::socket;

/// A client that has no server yet.
pub(super) struct Search {
    pub(super) client: TcpStream,
    pub(super) traffic: Arc<Traffic>,
    pub(super) session_log: Box<SessionLog>,
    hosts: Option<HostSearch>,
    /// What has come from the client already. Without `<replay>` that is what came before there was
    /// a server.
    pub(super) unsent: Unsent,
    /// With `<replay>`: what the client has sent so far.
    pub(super) replay: Option<ReplayBuffer>,
    /// With `<replay>`: a host that is connected and has not answered yet.
    candidate: Option<Candidate>,
}

/// A host that has not answered yet.
struct Candidate {
    connected: Connected,
    since: Instant,
    /// Of the host, and of the client.
    liveness: [Liveness; 2],
    _wait: Wait,
}

/// A host for the client, and what it has answered.
pub(super) struct Found {
    pub(super) connected: Connected,
    pub(super) answer: Vec<u8>,
    pub(super) is_client_lost: bool,
    /// How the connection to the host was lost, if it was.
    pub(super) server_lost: Option<CloseReason>,
}

impl Search {
    /// Begins. `unsent`: what was read from the client before, and passed on to nobody.
    pub(super) fn new(
        client: TcpStream,
        traffic: Arc<Traffic>,
        session_log: Box<SessionLog>,
        unsent: Unsent,
        replay: Option<ReplayBuffer>,
    ) -> Search {
        Search { client, traffic, session_log, hosts: None, unsent, replay, candidate: None }
    }

    /// Goes on until a host is connected; with `<replay>`, until one has answered. `None`: it takes
    /// its time.
    pub(super) fn step(
        &mut self,
        task: &Arc<Task>,
        space: &mut Space,
    ) -> Result<Option<Found>, CloseReason> {
        loop {
            let candidate = match self.candidate.take() {
                Some(candidate) => candidate,
                None => match (self.connect(task, space)?, &mut self.replay) {
                    (None, _) => return Ok(None),
                    (Some(connected), None) => return Ok(Some(Found::new(connected))),
                    (Some(connected), Some(replay)) => {
                        replay.begin(connected.sent, connected.lost);
                        self.candidate(connected, task)
                    }
                },
            };
            match self.exchange(&candidate, task, space) {
                Ok(Some(ReplayOutcome::Answer(answer))) => {
                    return Ok(Some(Found { answer, ..Found::new(candidate.connected) }));
                }
                Ok(Some(ReplayOutcome::ClientLost)) => {
                    return Ok(Some(Found {
                        is_client_lost: true,
                        ..Found::new(candidate.connected)
                    }));
                }
                Ok(Some(ReplayOutcome::Left(reason))) if self.has_another() => {
                    self.note_left(&candidate, reason);
                    drop(candidate);
                    task.note_closed(Side::Server);
                }
                // nobody else is left: the session goes on as it would without replay
                Ok(Some(ReplayOutcome::Left(reason))) => {
                    let server_lost = Some(reason).filter(|reason| *reason != CloseReason::Closed);
                    return Ok(Some(Found { server_lost, ..Found::new(candidate.connected) }));
                }
                Ok(None) => {
                    self.candidate = Some(candidate);
                    return Ok(None);
                }
                Err(reason) => {
                    self.session_log.server = Some((
                        candidate.connected.lease.host().clone(),
                        candidate.connected.address,
                    ));
                    self.session_log.bytes.0 = self.count_sent(&candidate);
                    return Err(reason);
                }
            }
        }
    }

    /// Connects to a host of the enabled group, or to the next one of the group that was enabled
    /// when the search began.
    fn connect(
        &mut self,
        task: &Task,
        space: &mut Space,
    ) -> Result<Option<Connected>, CloseReason> {
        self.listen(task, space)?;
        let Search { traffic, session_log, hosts, unsent, replay, .. } = self;
        let hosts = hosts.get_or_insert_with(|| {
            let group =
                session_log.group.get_or_insert_with(|| session_log.service.enabled()).clone();
            HostSearch::new(group, session_log.failed().cloned().collect())
        });
        let from_client = replay.as_ref().map_or(unsent.bytes.as_slice(), ReplayBuffer::bytes);
        let result = hosts.step(from_client, traffic, task, session_log);
        session_log.note_search(hosts.tries());
        match &result {
            Ok(None) if session_log.entry().is_stopping() => Err(CloseReason::Stopped),
            _ => result,
        }
    }

    /// Reads from the client if nothing has come from it yet. Its end is read again by the relay.
    fn listen(&mut self, task: &Task, space: &mut Space) -> Result<(), CloseReason> {
        let Search { client, unsent, replay, .. } = self;
        match replay {
            Some(replay) => replay.receive_first(client, space),
            None if unsent.bytes.is_empty() => match socket::receive(client, task.room(space)) {
                Ok(bytes) => {
                    *unsent = task.copy(bytes).map_err(|_| CloseReason::Shortage)?;
                    Ok(())
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    Ok(())
                }
                Err(_) => Err(CloseReason::ClientGone),
            },
            None => Ok(()),
        }
    }

    /// Begins the first exchange with a host.
    fn candidate(&self, connected: Connected, task: &Arc<Task>) -> Candidate {
        // what is kept may go out in pieces
        let _ = connected.server.set_nodelay(true);
        let wait = self.traffic.director.waiting.insert(connected.lease.host(), task);
        Candidate { connected, since: Instant::now(), liveness: Default::default(), _wait: wait }
    }

    /// With `<replay>`, the first exchange with a host.
    fn exchange(
        &mut self,
        candidate: &Candidate,
        task: &Task,
        space: &mut Space,
    ) -> Result<Option<ReplayOutcome>, CloseReason> {
        let Candidate { connected: Connected { server, lease, .. }, .. } = candidate;
        let Search { client, session_log, replay: Some(replay), .. } = self else {
            return Ok(None);
        };
        let is_over = || match session_log.entry().is_stopping() {
            true => Some(CloseReason::Stopped),
            false => lease.host().is_drained().then_some(CloseReason::Drained),
        };
        let outcome =
            replay.step(client, server, session_log.service.timeouts().idle, &is_over, space)?;
        if outcome.is_none() {
            task.register_readable(Side::Client, client).map_err(|_| CloseReason::Shortage)?;
            task.register_writable(Side::Server, server).map_err(|_| CloseReason::Shortage)?;
        }
        let is_lost = || self.is_dead(candidate) || self.is_elsewhere_better(candidate);
        Ok(match outcome {
            None if is_lost() => Some(ReplayOutcome::Left(CloseReason::ServerDead)),
            outcome => outcome,
        })
    }

    /// Whether the host gives no sign of life. The client, to whom nothing was written, is
    /// candidate by the kernel alone: see [`ReplayBuffer::step`] for what becomes of one that is
    /// dead.
    fn is_dead(&self, candidate: &Candidate) -> bool {
        let server = &candidate.connected.server;
        let is_waited_for = socket::unacknowledged(server).is_ok_and(|count| count > 0);
        let now = candidate.since.elapsed().as_millis() as usize;
        let [of_host, of_client] = &candidate.liveness;
        self.session_log.service.timeouts().dead.is_some_and(|dead| {
            of_client.check(&self.client, dead, false, now);
            of_host.check(server, dead, is_waited_for, now)
        })
    }

    /// Whether the host went down since it was connected, and there is another one to try.
    fn is_elsewhere_better(&self, candidate: &Candidate) -> bool {
        let is_down = match candidate.connected.lease.host().health() {
            Health::Down { since, .. } => since > candidate.since,
            Health::Up { .. } => false,
        };
        is_down && self.has_another()
    }

    /// Whether there is another host to try.
    fn has_another(&self) -> bool {
        self.hosts.as_ref().is_some_and(|hosts| hosts.has_another())
    }

    /// The host has left without an answer.
    fn note_left(&mut self, candidate: &Candidate, reason: CloseReason) {
        let Connected { address, lease, .. } = &candidate.connected;
        let sent = self.count_sent(candidate);
        self.session_log.note_left(lease.host(), *address, reason, sent);
    }

    /// What was sent to a host that did not answer, which counts for it all the same.
    fn count_sent(&self, candidate: &Candidate) -> u64 {
        let sent = self.replay.as_ref().map_or(0, ReplayBuffer::sent);
        candidate.connected.lease.host().meter().add(Direction::ToServer, sent);
        sent as u64
    }
}

impl Found {
    fn new(connected: Connected) -> Found {
        let server_lost = connected.lost;
        Found { connected, answer: Vec::new(), is_client_lost: false, server_lost }
    }
}
