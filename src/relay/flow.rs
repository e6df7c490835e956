//! What each step of a flow is made of: writing, waiting, the ends and losses of its two sides.
//! Used by [`super::copy`] and [`super::splice`], on the thread that runs the flow.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::SeqCst;

use super::close_reason::CloseReason;
use super::direction::Direction;
use super::flow_state::For;
use super::party::Party;
use super::progress::{Pending, Progress};
use super::relay::Relay;
use super::task::{Next, Task};
use crate::system::socket;
use crate::system::tcp_info::{TcpInfo, TcpState};

/// How much a flow moves in a row before others have their turn. With four times as much, small
/// requests beside four bulk streams took three times as long, and the bulk went no faster. On an
/// accept thread it is what its small buffer holds: whoever has more to say is better served by a
/// thread of the pool.
pub(super) const SHARE: usize = 1 << 20;

/// One flow's view of its relay.
pub(super) struct Flow<'a> {
    pub(super) relay: &'a Relay,
    pub(super) task: &'a Task,
    pub(super) direction: Direction,
    /// Where it reads.
    pub(super) source: &'a Party,
    /// Where it writes.
    pub(super) sink: &'a Party,
}

/// The flow is over; why is noted in the relay.
pub(super) struct Over;

impl Flow<'_> {
    /// Delivers what there is room for and keeps the rest; returns how much was delivered.
    pub(super) fn deliver_or_keep(
        &self,
        bytes: &[u8],
        progress: &mut Progress,
    ) -> Result<usize, Over> {
        let delivered = self.deliver(bytes);
        // also if the sink is lost: with nothing delivered, another one may get it
        let rest = bytes.get(*delivered.as_ref().unwrap_or(&0)..).unwrap_or_default();
        if !rest.is_empty() {
            let unsent = self.leave_if_short(self.task.copy(rest))?;
            progress.pending = Some(Box::new(Pending::Bytes(unsent)));
        }
        delivered
    }

    /// Writes as much as there is room for; returns how much that was.
    pub(super) fn deliver(&self, bytes: &[u8]) -> Result<usize, Over> {
        let mut sent = 0;
        let mut is_wide = false;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.write(|sink| socket::send_now(sink, rest))? {
                Some(count) => {
                    self.relay.note_bytes(self.direction, count);
                    sent += count;
                }
                None if is_wide => break,
                // room that comes after the next try will be told of
                None => {
                    self.task.state(self.direction).widen();
                    is_wide = true;
                }
            }
        }
        Ok(sent)
    }

    /// Writes to the sink; `None` if there is no room. A sink that is lost ends this flow at once;
    /// what it had sent before is read and delivered by the other flow.
    pub(super) fn write(
        &self,
        send: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> Result<Option<usize>, Over> {
        self.make_prompt();
        self.sink.write(send).map_err(|end| {
            self.relay.note_life();
            self.relay.fail(end);
            Over
        })
    }

    /// From its second write on, a server's socket sends at once (TCP_NODELAY): a side that writes
    /// twice would wait 40 ms for the delayed acknowledgement in between. The first write never
    /// waits, and many a session has but one.
    pub(super) fn make_prompt(&self) {
        let is_second = self.direction == Direction::ToServer && self.relay.moved.to_server() > 0;
        if is_second && !self.relay.is_server_prompt.load(SeqCst) {
            self.relay.is_server_prompt.store(true, SeqCst);
            // it fails only when the connection is gone
            let _ = self.sink.stream.set_nodelay(true);
        }
    }

    /// A read says that nothing more will come: the end of the stream, unless the connection was
    /// reset and the other flow, writing to the same socket, was told.
    pub(super) fn end_of_stream(&self, progress: &mut Progress) -> Result<Next, Over> {
        self.leave_if_over()?;
        if self.source.is_written() {
            return Ok(Next::Yield);
        }
        if !self.source.is_end(self.relay.moved.of(self.direction)) {
            self.lose_source(CloseReason::by(self.source.side, &ErrorKind::ConnectionReset.into()));
            return self.source_is_lost(progress);
        }
        progress.is_at_end = true;
        // an end is an event like a byte: the other side has its time to answer that
        self.relay.note_life();
        self.source.note_end();
        self.sink.note_shut();
        if self.source.is_shut() {
            // both have ended, and both sockets are about to be closed, which tells the sink
            return Err(Over);
        }
        // it fails only when the connection is gone, and then the other flow finds out
        let _ = self.sink.stream.shutdown(Shutdown::Write);
        self.task.set_timer(self.relay.timeouts.half / 4);
        self.wait_for_loss()
    }

    /// After the end of its stream a source may still reset the connection, which nobody would
    /// notice while the other flow has nothing to write to it. The other flow's own end wakes this,
    /// too: then both directions of the source are closed.
    pub(super) fn wait_for_loss(&self) -> Result<Next, Over> {
        if self.source.is_shut() && !self.source.is_lost() {
            return Err(Over);
        }
        let has_hung_up = || {
            !self.source.is_lost()
                && self.task.saw_hup(self.source.side)
                && socket::is_gone(&self.source.stream)
        };
        if has_hung_up() && !self.source.is_shut() {
            self.lose_source(CloseReason::by(self.source.side, &ErrorKind::ConnectionReset.into()));
        }
        if self.source.is_lost() {
            return self.settle();
        }
        self.wait_for_bytes()
    }

    pub(super) fn lose_source(&self, end: CloseReason) {
        if !self.source.is_lost() {
            self.relay.note_life();
        }
        self.source.lose();
        self.relay.fail(end);
    }

    /// Nothing more comes from a source that is lost, and what it gave is written.
    pub(super) fn source_is_lost(&self, progress: &mut Progress) -> Result<Next, Over> {
        progress.is_at_end = true;
        self.settle()
    }

    /// Waits until the sink has acknowledged all that the lost source had sent; the relay then
    /// resets it. The kernel does not tell of that: the timer has this asked again.
    pub(super) fn settle(&self) -> Result<Next, Over> {
        let is_sink_closed =
            || TcpInfo::of(&self.sink.stream).is_ok_and(|info| info.state == TcpState::Closed);
        if self.sink.unacknowledged() == 0 || is_sink_closed() {
            return Err(Over);
        }
        self.task.set_timer(self.relay.settling_pause().unwrap_or_default());
        self.wait_for_sink_alone()
    }

    /// Parks until there is something to read.
    pub(super) fn wait_for_bytes(&self) -> Result<Next, Over> {
        self.leave_if_short(self.task.register_readable(self.source.side, &self.source.stream))?;
        Ok(Next::Wait(For::Source))
    }

    /// Parks until there is room to write; meanwhile the source may be lost, which changes nothing:
    /// what it had sent goes first.
    pub(super) fn wait_for_room(&self) -> Result<Next, Over> {
        if self.source.is_lost() {
            return self.wait_for_sink_alone();
        }
        self.leave_if_short(self.task.register_readable(self.source.side, &self.source.stream))?;
        self.leave_if_short(self.task.register_writable(self.sink.side, &self.sink.stream))?;
        if self.task.saw_rdhup(self.source.side) && self.source.notices_end() {
            self.task.set_timer(self.relay.timeouts.half / 4);
        }
        Ok(Next::Wait(For::Sink))
    }

    /// Parks a flow whose source is lost. Its sink may have something to say that nobody is left to
    /// hear, and not read before that was taken: it is dropped.
    pub(super) fn wait_for_sink_alone(&self) -> Result<Next, Over> {
        self.leave_if_short(self.task.register_readable(self.source.side, &self.source.stream))?;
        self.leave_if_short(self.task.register_writable(self.sink.side, &self.sink.stream))?;
        // what comes after the next call will be told of
        self.task.state(self.direction).widen();
        match socket::discard(&self.sink.stream, SHARE) {
            Ok(0) => Ok(Next::Wait(For::Anything)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Next::Wait(For::Anything)),
            Ok(_) => Ok(Next::Yield),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(Next::Yield),
            Err(_) => {
                self.sink.lose();
                Err(Over)
            }
        }
    }

    /// A descriptor or memory that cannot be had ends both flows.
    pub(super) fn leave_if_short<T>(&self, had: io::Result<T>) -> Result<T, Over> {
        had.map_err(|_| {
            self.relay.cut(CloseReason::Shortage);
            Over
        })
    }

    /// A relay that is cut ends both flows, and a sink that is lost the flow to it.
    pub(super) fn leave_if_over(&self) -> Result<(), Over> {
        if self.relay.is_cut.load(SeqCst) || self.sink.is_lost() { Err(Over) } else { Ok(()) }
    }
}
