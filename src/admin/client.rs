//! One client of the admin address, from its first byte to its last: reading, ready, served,
//! writing, lingering, over.
//!
//! Owned by the thread `admin front`. No call blocks; each phase has a deadline, and no client can
//! make itself immortal: a request has one deadline for all of it, taking the answer another.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::penalty::source;
use super::wire::{self, Head, Refused};
use crate::system::memory;

/// How long a client may take to send a request, to be served, and to take the answer: for each.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait for a client to hang up by itself. Closing first would reset a client that is
/// still sending, and with that the answer that says why it should stop.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may send meanwhile.
const MAX_LINGER: usize = 1024 * 1024;
/// How much is read at once; more than the largest request, and on the stack.
const SPACE: usize = 16 * 1024;

/// A client.
pub struct Client {
    /// Which one; never used twice.
    pub id: u64,
    /// The address, without a port.
    pub address: String,
    /// Whom its share of the places is counted for.
    pub source: IpAddr,
    /// When it came.
    pub since: Instant,
    /// When the phase ends at the latest.
    pub deadline: Instant,
    stream: TcpStream,
    phase: Phase,
}

enum Phase {
    /// The request is coming in.
    Reading { bytes: Vec<u8>, head: Option<Head> },
    /// The request is complete, and clean.
    Ready { request: Vec<u8>, bodyless: bool, is_for_health: bool },
    /// The request is with tiny_http.
    Served,
    /// The answer is going out.
    Writing { answer: Vec<u8>, sent: usize },
    /// The answer is out; the client may hang up.
    Lingering { discarded: usize },
    /// To be dropped.
    Over,
}

impl Client {
    /// A client that has just connected. Its socket must not block.
    pub fn new(id: u64, stream: TcpStream, address: String, now: Instant) -> Client {
        let (phase, source) = (Phase::Reading { bytes: Vec::new(), head: None }, source(&address));
        Client { id, address, source, since: now, deadline: now + TIMEOUT, stream, phase }
    }

    /// What to wait for. A client that has gone altogether is noticed in every phase.
    pub fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Reading { .. } | Phase::Lingering { .. } => PollFlags::POLLIN,
            Phase::Writing { .. } => PollFlags::POLLOUT,
            _ => PollFlags::empty(),
        }
    }

    /// Goes on as far as possible after something has happened to the socket.
    pub fn act(&mut self, events: PollFlags, now: Instant) {
        match self.phase {
            Phase::Reading { .. } => self.read(now),
            Phase::Writing { .. } => self.write(now),
            Phase::Lingering { .. } => self.discard(),
            _ if events
                .intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) =>
            {
                self.phase = Phase::Over
            }
            _ => {}
        }
    }

    /// What the deadline of the phase means, once it is over.
    pub fn expire(&mut self, now: Instant) {
        if now < self.deadline {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            // a browser that has opened a connection in advance wants no answer to what it did not
            // ask
            Phase::Reading { bytes, .. } if !bytes.is_empty() => {
                self.refuse(Refused(408, "the request took longer than 10 seconds"), now);
            }
            Phase::Ready { .. } => self.refuse(wire::TOO_MANY, now),
            _ => {}
        }
    }

    /// Hands out the request, once it is complete, and whether the answer must have no body.
    pub fn take_request(&mut self, now: Instant) -> Option<(Vec<u8>, bool)> {
        match std::mem::replace(&mut self.phase, Phase::Served) {
            Phase::Ready { request, bodyless, .. } => {
                // the exchange has a deadline of its own, and it always ends with an answer for us
                self.deadline = now + TIMEOUT * 2;
                Some((request, bodyless))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Gives the client its answer.
    pub fn answer(&mut self, answer: Vec<u8>, now: Instant) {
        self.deadline = now + TIMEOUT;
        self.phase = Phase::Writing { answer, sent: 0 };
        self.write(now);
    }

    /// Answers why the request is not served.
    pub fn refuse(&mut self, refused: Refused, now: Instant) {
        self.answer(wire::refusal(refused), now);
    }

    /// Whether the request waits for its turn.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether that is a request for `/healthz`.
    pub fn is_for_health(&self) -> bool {
        matches!(self.phase, Phase::Ready { is_for_health: true, .. })
    }

    /// Whether the client has had its answer.
    pub fn is_lingering(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. })
    }

    /// Whether it can be dropped.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether the next step is the client's, so that another one may have its place. One that
    /// waits for us keeps it.
    pub fn may_be_dropped(&self) -> bool {
        !self.is_ready() && !matches!(self.phase, Phase::Served)
    }

    /// The bytes of an answer that the client has not taken yet.
    pub fn owed(&self) -> usize {
        match &self.phase {
            Phase::Writing { answer, .. } => answer.len(),
            _ => 0,
        }
    }

    fn read(&mut self, now: Instant) {
        let mut space = [0; SPACE];
        let Phase::Reading { bytes, head } = &mut self.phase else { return };
        let ended = match self.stream.read(&mut space) {
            Ok(0) => true,
            Ok(count) => {
                if memory::append(bytes, space.get(..count).unwrap_or_default()).is_err() {
                    return self.refuse(Refused(503, "this machine is short of memory"), now);
                }
                false
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => return self.phase = Phase::Over,
        };
        if head.is_none() {
            match Head::read(bytes) {
                Ok(read) => *head = read,
                Err(refused) => return self.refuse(refused, now),
            }
        }
        match head {
            Some(head) if head.is_complete(bytes) => {
                let request = head.rewrite(bytes, &self.address);
                self.deadline = now + TIMEOUT;
                self.phase = Phase::Ready {
                    request,
                    bodyless: head.bodyless,
                    is_for_health: head.is_for_health,
                };
            }
            _ if ended && bytes.is_empty() => self.phase = Phase::Over,
            _ if ended => self.refuse(Refused(400, "the request ends too early"), now),
            Some(head) if head.expects_continue => {
                head.expects_continue = false;
                self.invite();
            }
            _ => {}
        }
    }

    /// Asks for the body. Nothing has been sent before, so there is room for a line.
    fn invite(&mut self) {
        let line = b"HTTP/1.1 100 Continue\r\n\r\n";
        if !matches!(self.stream.write(line), Ok(count) if count == line.len()) {
            self.phase = Phase::Over;
        }
    }

    fn write(&mut self, now: Instant) {
        let Phase::Writing { answer, sent } = &mut self.phase else { return };
        while let Some(rest) = answer.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => *sent += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.phase = Phase::Over,
            }
        }
        self.deadline = now + LINGER;
        self.phase = match self.stream.shutdown(Shutdown::Write) {
            Ok(()) => Phase::Lingering { discarded: 0 },
            Err(_) => Phase::Over,
        };
    }

    fn discard(&mut self) {
        let Phase::Lingering { discarded } = &mut self.phase else { return };
        match self.stream.read(&mut [0; SPACE]) {
            Ok(count) if count > 0 && *discarded < MAX_LINGER => *discarded += count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            _ => self.phase = Phase::Over,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
