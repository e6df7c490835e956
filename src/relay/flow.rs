//! One direction of a relay: read, write, count, as far as that goes without waiting. Runs on a pool thread, at first on an accept
//! thread.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::pool::{BUFFER, LEAST, Space};
use super::progress::{Progress, Rest};
use super::seat::{For, Next, Seat, Side};
use super::{Direction, End, Relay};
use crate::system::socket;

/// How much a flow moves in a row before others have their turn. With four times as much, small requests beside four bulk streams took
/// three times as long, and the bulk went no faster. On an accept thread it is what its small buffer holds: whoever has more to say is
/// better served by a thread of the pool.
const SHARE: usize = 1 << 20;

/// The smallest reads in a row before others have their turn.
const LEAST_READS: usize = 256;

/// One flow's view of its relay.
pub(super) struct Flow<'a> {
    pub(super) relay: &'a Relay,
    pub(super) seat: &'a Seat,
    pub(super) direction: Direction,
    /// Where it reads.
    pub(super) source: Party<'a>,
    /// Where it writes.
    pub(super) sink: Party<'a>,
}

/// One of the two that a relay connects.
pub(super) struct Party<'a> {
    pub(super) stream: &'a TcpStream,
    side: Side,
    /// How the relay ends if this one resets.
    pub(super) reset: End,
    /// The end of the other one's stream was passed on to this one.
    told: &'a AtomicBool,
}

/// The flow is over; why is noted in the relay.
pub(super) struct Over;

/// Goes on with the flow.
pub fn go(relay: &Relay, direction: Direction, seat: &Seat, progress: &mut Progress, space: &mut Space) -> Next {
    let client = Party { stream: &relay.client, side: Side::Client, reset: End::ResetByClient, told: &relay.client_told };
    let server = Party { stream: &relay.server, side: Side::Server, reset: End::ResetByServer, told: &relay.server_told };
    let (source, sink) = match direction {
        Direction::ToServer => (client, server),
        Direction::ToClient => (server, client),
    };
    let flow = Flow { relay, seat, direction, source, sink };
    flow.go(progress, space).unwrap_or(Next::Over)
}

impl Flow<'_> {
    fn go(&self, progress: &mut Progress, space: &mut Space) -> Result<Next, Over> {
        self.leave_if_cut()?;
        if progress.is_at_end {
            return self.watch();
        }
        if let Some(rest) = progress.rest.take() {
            progress.rest = self.deliver_rest(rest)?;
            if progress.rest.is_some() {
                return self.wait_for_room();
            }
        }
        // a server that was connected a moment ago has nothing to say yet; if it has, the poller says so
        if self.direction == Direction::ToClient && !self.seat.is_watched(self.source.side) {
            return self.wait_for_bytes();
        }
        self.pass_on(progress, space)
    }

    /// What it has read before; what is left of that, if it is not all.
    fn deliver_rest(&self, mut rest: Box<Rest>) -> Result<Option<Box<Rest>>, Over> {
        let is_all = match &mut *rest {
            Rest::Bytes { bytes, .. } => {
                let sent = self.deliver(bytes)?;
                bytes.drain(..sent);
                bytes.is_empty()
            }
            Rest::Piped(pipe) => self.empty(pipe)?,
        };
        Ok(if is_all { None } else { Some(rest) })
    }

    /// Reads and writes until there is nothing to read, or no room to write, or others have to have their turn.
    fn pass_on(&self, progress: &mut Progress, space: &mut Space) -> Result<Next, Over> {
        let whole = if space.capacity() < BUFFER { space.capacity() } else { SHARE };
        let mut share = whole;
        while share > 0 {
            if share < whole || progress.is_bulk() {
                self.seat.place.relieve();
            }
            if progress.is_bulk() {
                share = self.splice(progress, share)?;
                if progress.rest.is_some() {
                    return self.wait_for_room();
                }
                if share == 0 {
                    break;
                }
            }
            let most = if self.seat.place.purse().has_room() { BUFFER } else { LEAST };
            let room = space.spare_capacity_mut();
            let most = room.len().min(most);
            let room = room.get_mut(..most).unwrap_or_default();
            match socket::receive(self.source.stream, room) {
                Ok([]) => return self.finish(progress),
                Ok(bytes) => {
                    progress.note_read(bytes.len());
                    // small reads cost more than their bytes
                    share = share.saturating_sub(bytes.len().max(whole / LEAST_READS));
                    let sent = self.deliver(bytes)?;
                    if sent < bytes.len() {
                        self.keep(bytes.get(sent..).unwrap_or_default(), progress);
                        return self.wait_for_room();
                    }
                    if bytes.len() < most && !self.seat.is_odd(self.source.side) {
                        return self.wait_for_bytes();
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.wait_for_bytes(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.relay.cut(self.source.reset);
                    return Err(Over);
                }
            }
            self.leave_if_cut()?;
        }
        Ok(Next::Yield)
    }

    fn keep(&self, bytes: &[u8], progress: &mut Progress) {
        let _part = Some(self.seat.place.purse().hold(bytes.len()));
        progress.rest = Some(Box::new(Rest::Bytes { bytes: bytes.to_vec(), _part }));
    }

    /// Writes as much as there is room for; tells how much that was.
    fn deliver(&self, bytes: &[u8]) -> Result<usize, Over> {
        let mut sent = 0;
        let mut is_wide = false;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match socket::send_now(self.sink.stream, rest) {
                Ok(count) => {
                    self.relay.note_bytes(self.direction, count);
                    sent += count;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && is_wide => break,
                // room that comes after the next try will be told of
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.seat.widen(self.direction);
                    is_wide = true;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // no cut: what the dead side had sent before is read and delivered by the other flow first
                    self.relay.fail(self.sink.reset);
                    return Err(Over);
                }
            }
        }
        Ok(sent)
    }

    /// The source says that nothing more will come. That is so unless its connection was reset: the error is reported once, and
    /// the other flow, writing to the same socket, may have been the one to get it.
    fn finish(&self, progress: &mut Progress) -> Result<Next, Over> {
        if self.relay.has_failed() {
            return Err(Over);
        }
        if self.source.told.load(SeqCst) {
            // both have ended, and both sockets are about to be closed, which tells the sink
            self.sink.told.store(true, SeqCst);
            return Err(Over);
        }
        // told in between, it was closed in good order
        if socket::is_closed(self.source.stream) && !self.source.told.load(SeqCst) {
            self.relay.cut(self.source.reset);
            return Err(Over);
        }
        progress.is_at_end = true;
        self.sink.told.store(true, SeqCst);
        // it fails only when the connection is gone, and then the other flow finds out
        let _ = self.sink.stream.shutdown(Shutdown::Write);
        self.watch()
    }

    /// After the end of its stream a source may still reset the connection, which nobody would notice while the other flow has
    /// nothing to write to it. The other flow's own end wakes this, too: then both directions of the source are closed.
    fn watch(&self) -> Result<Next, Over> {
        if self.source.told.load(SeqCst) || self.relay.has_failed() {
            return Err(Over);
        }
        self.leave_if_reset()?;
        self.wait_for_bytes()
    }

    /// A source that is gone was reset, unless it was closed in both directions in good order.
    fn leave_if_reset(&self) -> Result<(), Over> {
        if self.seat.is_hung(self.source.side) && socket::is_gone(self.source.stream) && !self.source.told.load(SeqCst) {
            self.relay.cut(self.source.reset);
            return Err(Over);
        }
        Ok(())
    }

    /// Parks until there is something to read.
    fn wait_for_bytes(&self) -> Result<Next, Over> {
        self.leave_if_short(self.seat.watch(self.source.side, self.source.stream))?;
        Ok(Next::Wait(For::Source))
    }

    /// Parks until there is room to write; meanwhile the source may be reset.
    fn wait_for_room(&self) -> Result<Next, Over> {
        self.leave_if_reset()?;
        self.leave_if_short(self.seat.watch(self.source.side, self.source.stream))?;
        self.leave_if_short(self.seat.watch_room(self.sink.side, self.sink.stream))?;
        Ok(Next::Wait(For::Sink))
    }

    fn leave_if_short(&self, watched: io::Result<()>) -> Result<(), Over> {
        watched.map_err(|_| {
            self.relay.cut(End::Shortage);
            Over
        })
    }

    pub(super) fn leave_if_cut(&self) -> Result<(), Over> {
        if self.relay.is_cut.load(SeqCst) { Err(Over) } else { Ok(()) }
    }
}
