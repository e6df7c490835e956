//! One direction of a relay: read, write, count, as far as that goes without waiting. Runs on a pool thread, at first on an accept
//! thread.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::pipe::Pipe;
use super::pool::{BUFFER, LEAST, Space};
use super::progress::{Progress, Rest};
use super::seat::{For, Next, Seat, Side};
use super::{Direction, End, Relay};
use nix::errno::Errno;

use crate::system::socket;

/// How much a flow moves in a row before others have their turn. With four times as much, small requests beside four bulk streams took
/// three times as long, and the bulk went no faster. On an accept thread it is what its small buffer holds: whoever has more to say is
/// better served by a thread of the pool.
const SHARE: usize = 1 << 20;

/// The smallest reads in a row before others have their turn.
const LEAST_READS: usize = 256;

/// One flow's view of its relay: where it reads, where it writes, and whom to blame on which side.
struct Flow<'a> {
    relay: &'a Relay,
    seat: &'a Seat,
    direction: Direction,
    source: &'a TcpStream,
    source_side: Side,
    sink: &'a TcpStream,
    sink_side: Side,
    source_reset: End,
    sink_reset: End,
    /// This flow has passed the end of stream on to its sink.
    sink_told: &'a AtomicBool,
    /// The other flow has passed the end of stream on to our source.
    source_told: &'a AtomicBool,
}

/// The flow is over; why is noted in the relay.
struct Over;

/// Goes on with the flow.
pub fn go(relay: &Relay, direction: Direction, seat: &Seat, progress: &mut Progress, space: &mut Space) -> Next {
    let flow = match direction {
        Direction::ToServer => Flow {
            relay,
            seat,
            direction,
            source: &relay.client,
            source_side: Side::Client,
            sink: &relay.server,
            sink_side: Side::Server,
            source_reset: End::ResetByClient,
            sink_reset: End::ResetByServer,
            sink_told: &relay.server_told,
            source_told: &relay.client_told,
        },
        Direction::ToClient => Flow {
            relay,
            seat,
            direction,
            source: &relay.server,
            source_side: Side::Server,
            sink: &relay.client,
            sink_side: Side::Client,
            source_reset: End::ResetByServer,
            sink_reset: End::ResetByClient,
            sink_told: &relay.client_told,
            source_told: &relay.server_told,
        },
    };
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
        if self.direction == Direction::ToClient && !self.seat.is_watched(self.source_side) {
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
            match socket::receive(self.source, room) {
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
                    if bytes.len() < most && !self.seat.is_odd(self.source_side) {
                        return self.wait_for_bytes();
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return self.wait_for_bytes(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.relay.cut(self.source_reset);
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

    /// Goes on by splice, as far as that goes; tells what is left of its share. If nothing comes, a plain read has the last word: splice
    /// tells neither an empty source from one whose next byte is urgent, nor that one from the end of the stream.
    fn splice(&self, progress: &mut Progress, mut share: usize) -> Result<usize, Over> {
        if !std::mem::replace(&mut progress.never_blocks, true) {
            // splice knows no flag for it
            progress.is_plain = [self.source, self.sink].iter().any(|socket| socket.set_nonblocking(true).is_err());
        }
        let Some(mut pipe) = self.seat.place.pipes().lend() else { return Ok(share) };
        while progress.is_bulk() && share > 0 {
            let count = self.fill(&mut pipe, progress)?;
            if count == 0 {
                break;
            }
            progress.note_read(count);
            share = share.saturating_sub(count);
            if !self.empty(&mut pipe)? {
                progress.rest = Some(Box::new(Rest::Piped(pipe)));
                break;
            }
            self.leave_if_cut()?;
        }
        Ok(share)
    }

    /// Reads by splice; tells how much that brought.
    fn fill(&self, pipe: &mut Pipe, progress: &mut Progress) -> Result<usize, Over> {
        match pipe.fill(self.source) {
            Ok(count) => Ok(count),
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOMEM | Errno::EPERM) => {
                progress.is_plain = true;
                Ok(0)
            }
            Err(_) => {
                self.relay.cut(self.source_reset);
                Err(Over)
            }
        }
    }

    /// Writes what is in the pipe, as much as there is room for; tells whether that was all.
    fn empty(&self, pipe: &mut Pipe) -> Result<bool, Over> {
        let mut is_wide = false;
        while pipe.holds() > 0 {
            match pipe.empty(self.sink) {
                Ok(count @ 1..) => self.relay.note_bytes(self.direction, count),
                Err(Errno::EAGAIN) if is_wide => return Ok(false),
                // room that comes after the next try will be told of
                Err(Errno::EAGAIN) => {
                    self.seat.widen(self.direction);
                    is_wide = true;
                }
                Err(Errno::EINTR) => {}
                _ => {
                    self.relay.fail(self.sink_reset);
                    return Err(Over);
                }
            }
        }
        Ok(true)
    }

    /// Writes as much as there is room for; tells how much that was.
    fn deliver(&self, bytes: &[u8]) -> Result<usize, Over> {
        let mut sent = 0;
        let mut is_wide = false;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match socket::send_now(self.sink, rest) {
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
                    self.relay.fail(self.sink_reset);
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
        if self.source_told.load(SeqCst) {
            // both have ended, and both sockets are about to be closed, which tells the sink
            self.sink_told.store(true, SeqCst);
            return Err(Over);
        }
        // told in between, it was closed in good order
        if socket::is_closed(self.source) && !self.source_told.load(SeqCst) {
            self.relay.cut(self.source_reset);
            return Err(Over);
        }
        progress.is_at_end = true;
        self.sink_told.store(true, SeqCst);
        // it fails only when the connection is gone, and then the other flow finds out
        let _ = self.sink.shutdown(Shutdown::Write);
        self.watch()
    }

    /// After the end of its stream a source may still reset the connection, which nobody would notice while the other flow has
    /// nothing to write to it. The other flow's own end wakes this, too: then both directions of the source are closed.
    fn watch(&self) -> Result<Next, Over> {
        if self.source_told.load(SeqCst) || self.relay.has_failed() {
            return Err(Over);
        }
        self.leave_if_reset()?;
        self.wait_for_bytes()
    }

    /// A source that is gone was reset, unless it was closed in both directions in good order.
    fn leave_if_reset(&self) -> Result<(), Over> {
        if self.seat.is_hung(self.source_side) && socket::is_gone(self.source) && !self.source_told.load(SeqCst) {
            self.relay.cut(self.source_reset);
            return Err(Over);
        }
        Ok(())
    }

    /// Parks until there is something to read.
    fn wait_for_bytes(&self) -> Result<Next, Over> {
        self.leave_if_short(self.seat.watch(self.source_side, self.source))?;
        Ok(Next::Wait(For::Source))
    }

    /// Parks until there is room to write; meanwhile the source may be reset.
    fn wait_for_room(&self) -> Result<Next, Over> {
        self.leave_if_reset()?;
        self.leave_if_short(self.seat.watch(self.source_side, self.source))?;
        self.leave_if_short(self.seat.watch_room(self.sink_side, self.sink))?;
        Ok(Next::Wait(For::Sink))
    }

    fn leave_if_short(&self, watched: io::Result<()>) -> Result<(), Over> {
        watched.map_err(|_| {
            self.relay.cut(End::Shortage);
            Over
        })
    }

    fn leave_if_cut(&self) -> Result<(), Over> {
        if self.relay.is_cut.load(SeqCst) { Err(Over) } else { Ok(()) }
    }
}
