//! One of the two sides of a relay: its socket, and what both flows must know of it.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crossbeam::atomic::AtomicCell;

use super::close_reason::CloseReason;
use super::direction::Side;
use super::liveness::Liveness;
use crate::system::socket;
use crate::system::tcp_info::TcpInfo;

/// What the kernel holds at most of bulk that it has not sent yet, for a side that has not taken
/// much so far.
const UNSENT: u32 = 512 * 1024;

/// A side that has taken so much reads: more than [`UNSENT`] and what its own kernel holds for it
/// as a rule.
const READS: u64 = 2 << 20;

/// A side of a relay.
pub struct Party {
    pub(super) stream: TcpStream,
    pub(super) side: Side,
    /// The end of the other side's stream was passed on to this one.
    is_shut: AtomicBool,
    /// Its stream has ended in good order, and all of it was read.
    ended: AtomicBool,
    /// The end of its stream, or a reset, has come, though not all that stands before it was read.
    is_ending: AtomicBool,
    /// A thread writes to it. The kernel tells an error once: it may be this thread that gets it.
    is_written: AtomicBool,
    bulk: AtomicCell<Bulk>,
    /// The connection is gone: it was reset, in the middle of the side's stream or after its end,
    /// or the side is dead.
    is_lost: AtomicBool,
    liveness: Liveness,
}

/// Whether bulk goes to a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bulk {
    No,
    /// With a limit on what the kernel holds.
    Limited,
    /// By splice. When that is interrupted by a reset, the kernel may drop the error.
    Spliced,
}

impl Party {
    pub(super) fn new(stream: TcpStream, side: Side) -> Party {
        Party {
            stream,
            side,
            is_shut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            is_written: AtomicBool::new(false),
            bulk: AtomicCell::new(Bulk::No),
            is_lost: AtomicBool::new(false),
            liveness: Liveness::default(),
        }
    }

    /// Writes to it by `send`, which must not wait. A failure is noted as the loss of this side;
    /// the end that it is for the relay comes back as an error. `None`: there is no room.
    pub(super) fn write(
        &self,
        send: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Result<Option<usize>, CloseReason> {
        self.is_written.store(true, SeqCst);
        let result = outcome(send(&self.stream));
        let result = result.map_err(|e| {
            self.lose();
            CloseReason::by(self.side, &e)
        });
        self.is_written.store(false, SeqCst);
        result
    }

    /// Whether a read that found the end of the stream may have found a reset, whose error the
    /// writer is about to note.
    pub(super) fn is_written(&self) -> bool {
        self.is_written.load(SeqCst)
    }

    /// Whether bulk may be spliced to it, after so many bytes that it was given: only when it has
    /// taken enough of it to show that it reads. One that asked for much and read nothing tied up
    /// 20 MB of the kernel when that was spliced at once (sockets of both connections and a pipe;
    /// HAProxy 8), and 5 so.
    pub(super) fn takes_bulk(&self, moved: u64) -> bool {
        let limit = match (self.bulk.load(), moved >= READS) {
            (Bulk::Spliced, _) => return true,
            (Bulk::Limited, false) => return false,
            (Bulk::No, false) => UNSENT,
            (_, true) => u32::MAX,
        };
        // if it fails, the kernel holds as much as net.ipv4.tcp_wmem allows
        let _ = socket::limit_unsent(&self.stream, limit);
        self.bulk.store(if limit == UNSENT { Bulk::Limited } else { Bulk::Spliced });
        limit != UNSENT
    }

    /// Whether the side has ended its stream, when a read says so after this many bytes of it were
    /// read. The error of a reset is told once, and it may have been told to the writer, or to
    /// nobody.
    pub(super) fn is_end(&self, read: u64) -> bool {
        let is_sure = !self.is_lost() && self.bulk.load() != Bulk::Spliced;
        // where the kernel does not count, a cut stream must not look whole
        let counted = || {
            TcpInfo::of(&self.stream)
                .is_ok_and(|info| info.has_come_to_end(read).unwrap_or(!self.is_lost()))
        };
        is_sure || counted()
    }

    /// Notes that the connection is lost.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, SeqCst);
    }

    /// Whether the connection is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(SeqCst)
    }

    /// Whether the end of the other side's stream was passed on to this one.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(SeqCst)
    }

    /// Notes that it was, or is about to be.
    pub(super) fn note_shut(&self) {
        self.is_shut.store(true, SeqCst);
    }

    /// Whether its stream has ended in good order.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    pub(super) fn note_end(&self) {
        self.ended.store(true, SeqCst);
    }

    /// Whether nothing more will be sent by it, though what it has sent may not be read yet.
    pub(super) fn has_left(&self) -> bool {
        self.has_ended() || self.is_lost() || self.is_ending.load(SeqCst)
    }

    /// Looks whether it has left; returns whether it has only now.
    pub(super) fn notices_end(&self) -> bool {
        let is_new = !self.has_left() && socket::has_left(&self.stream);
        if is_new {
            self.is_ending.store(true, SeqCst);
        }
        is_new
    }

    /// Bytes that were written to it and that it has not acknowledged, and the end of the stream,
    /// which the kernel counts as one. Also those that are lost with the connection.
    pub(super) fn unacknowledged(&self) -> usize {
        socket::unacknowledged(&self.stream).unwrap_or(0)
    }

    /// The same without the end of the stream.
    pub(super) fn undelivered(&self) -> usize {
        self.unacknowledged().saturating_sub(self.is_shut().into())
    }

    /// Whether something of it waits to be read, be it the end.
    pub(super) fn is_readable(&self) -> bool {
        !self.has_ended() && socket::is_readable(&self.stream)
    }

    /// Asks whether it is dead: see [`Liveness::check`]. The end that this is, if so; noted as a
    /// loss.
    pub(super) fn check(
        &self,
        dead: Duration,
        is_waited_for: bool,
        now: usize,
    ) -> Option<CloseReason> {
        let is_dead =
            !self.is_lost() && self.liveness.check(&self.stream, dead, is_waited_for, now);
        is_dead.then(|| {
            self.lose();
            CloseReason::dead(self.side)
        })
    }
}

/// Room or no room, and the failures of a connection.
fn outcome(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        // nothing was written, and the next try may go better
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(e) => Err(e),
    }
}
