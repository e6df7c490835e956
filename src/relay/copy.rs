//! Runs one direction of a relay: read, write, count, as far as that goes without waiting. On a
//! pool thread, at first on an accept thread.

use std::io::ErrorKind;
use std::sync::atomic::Ordering::SeqCst;

use super::close_reason::CloseReason;
use super::direction::Direction;
use super::flow::{Flow, Over, SHARE};
use super::limits::{BUFFER, Space};
use super::progress::{Pending, Progress};
use super::relay::Relay;
use super::task::{Next, Task};
use crate::system::socket;

/// The smallest reads in a row before others have their turn.
const LEAST_READS: usize = 256;

impl Relay {
    /// Goes on with one flow on the calling thread, through that thread's buffer, as far as it
    /// goes. Never called for the same flow by two threads at once: [`Task`] sees to that. The
    /// relay is over when both flows are.
    pub fn run(&self, direction: Direction, task: &Task, space: &mut Space) -> Next {
        let _guard = CutOnPanic(self);
        let parked = self.progress(direction);
        let mut progress = std::mem::take(&mut *parked.lock());
        let (source, sink) = match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        };
        let flow = Flow { relay: self, task, direction, source, sink };
        let next = flow.run(&mut progress, space).unwrap_or(Next::Over);
        *parked.lock() = progress;
        if next == Next::Over {
            self.over.fetch_or(direction.bit(), SeqCst);
        }
        if self.is_warned.load(SeqCst) {
            self.unaware.fetch_and(!direction.bit(), SeqCst);
        }
        next
    }
}

/// A flow that panics takes its relay with it: the other flow would wait for the idle time-out
/// otherwise.
struct CutOnPanic<'a>(&'a Relay);

impl Drop for CutOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cut(CloseReason::Panic);
        }
    }
}

impl Flow<'_> {
    fn run(&self, progress: &mut Progress, space: &mut Space) -> Result<Next, Over> {
        self.leave_if_over()?;
        if let Some(rest) = &mut progress.pending {
            if !self.deliver_pending(rest)? {
                return self.wait_for_room();
            }
            progress.pending = None;
        }
        if progress.is_at_end {
            return self.wait_for_loss();
        }
        // a server that was connected a moment ago has nothing to say yet, nor has a client that
        // was read before; if one has, the poller says so
        let was_read = self.direction == Direction::ToClient || self.relay.moved.to_server() > 0;
        if was_read && !self.task.is_registered(self.source.side) {
            return self.wait_for_bytes();
        }
        self.pass_on(progress, space)
    }

    /// Delivers what was read before, as far as there is room; returns whether that was all.
    fn deliver_pending(&self, rest: &mut Pending) -> Result<bool, Over> {
        match rest {
            Pending::Bytes(unsent) => {
                let sent = self.deliver(&unsent.bytes)?;
                unsent.bytes.drain(..sent);
                Ok(unsent.bytes.is_empty())
            }
            Pending::Piped(pipe) => self.empty(pipe),
        }
    }

    /// Reads and writes until there is nothing to read, or no room to write, or others have to have
    /// their turn.
    fn pass_on(&self, progress: &mut Progress, space: &mut Space) -> Result<Next, Over> {
        let whole = if space.capacity() < BUFFER { space.capacity() } else { SHARE };
        let mut share = whole;
        while share > 0 {
            if share < whole || progress.is_bulk() {
                self.task.promote_follower();
            }
            if progress.is_bulk() && self.sink.takes_bulk(self.relay.moved.of(self.direction)) {
                share = self.splice(progress, share)?;
                if progress.pending.is_some() {
                    return self.wait_for_room();
                }
                if share == 0 {
                    break;
                }
            }
            let room = self.task.room(space);
            let most = room.len();
            match socket::receive(&self.source.stream, room) {
                Ok([]) => return self.end_of_stream(progress),
                Ok(bytes) => {
                    progress.note_read(bytes.len());
                    // small reads cost more than their bytes
                    share = share.saturating_sub(bytes.len().max(whole / LEAST_READS));
                    let sent = self.deliver_or_keep(bytes, progress)?;
                    if sent < bytes.len() {
                        return self.wait_for_room();
                    }
                    if bytes.len() < most
                        && !self.task.saw_rdhup(self.source.side)
                        && !self.source.is_lost()
                    {
                        return self.wait_for_bytes();
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && !self.source.is_lost() => {
                    return self.wait_for_bytes();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return self.source_is_lost(progress);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    self.lose_source(CloseReason::by(self.source.side, &e));
                    return self.source_is_lost(progress);
                }
            }
            self.leave_if_over()?;
        }
        Ok(Next::Yield)
    }
}
