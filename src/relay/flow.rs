//! One direction of a relay: read, write, count, until the source ends or something fails. Runs on a pool thread.

use std::io::{ErrorKind, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::pool::Space;
use super::{Direction, End, Relay, WRITE_LOOKS_UP, look_after};
use crate::system::socket;

/// One flow's view of its relay: where it reads, where it writes, and whom to blame on which side.
struct Flow<'a> {
    relay: &'a Relay,
    direction: Direction,
    source: &'a TcpStream,
    sink: &'a TcpStream,
    source_reset: End,
    sink_reset: End,
    /// This flow has passed the end of stream on to its sink.
    sink_told: &'a AtomicBool,
    /// The other flow has passed the end of stream on to our source.
    source_told: &'a AtomicBool,
}

/// The flow is over; why is noted in the relay.
struct Over;

/// Runs the flow to its end.
pub fn run(relay: &Relay, direction: Direction, first: &[u8], space: &mut Space) {
    let flow = match direction {
        Direction::ToServer => Flow {
            relay,
            direction,
            source: &relay.client,
            sink: &relay.server,
            source_reset: End::ResetByClient,
            sink_reset: End::ResetByServer,
            sink_told: &relay.server_told,
            source_told: &relay.client_told,
        },
        Direction::ToClient => Flow {
            relay,
            direction,
            source: &relay.server,
            sink: &relay.client,
            source_reset: End::ResetByServer,
            sink_reset: End::ResetByClient,
            sink_told: &relay.client_told,
            source_told: &relay.server_told,
        },
    };
    if flow.deliver(first).is_ok() {
        while flow.step(space.spare_capacity_mut()).is_ok() {}
    }
}

impl Flow<'_> {
    /// Waits for bytes and passes them on.
    fn step(&self, space: &mut [MaybeUninit<u8>]) -> Result<(), Over> {
        if self.relay.is_cut.load(SeqCst) {
            return Err(Over);
        }
        match socket::receive(self.source, space) {
            Ok([]) => self.finish(),
            Ok(bytes) => self.deliver(bytes),
            // a signal too: time-outs that begin anew with each one would never come
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => self.stay_silent(),
            Err(_) => {
                self.relay.cut(self.source_reset);
                Err(Over)
            }
        }
    }

    fn deliver(&self, mut bytes: &[u8]) -> Result<(), Over> {
        let mut sink = self.sink;
        while !bytes.is_empty() {
            match sink.write(bytes) {
                Ok(count) => {
                    self.relay.note_bytes(self.direction, count);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.leave_if_cut_or_idle()?;
                    self.leave_if_reset(socket::is_gone(self.source))?;
                }
                Err(_) => {
                    // no cut: what the dead side had sent before is read and delivered by the other flow first
                    self.relay.fail(self.sink_reset);
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    /// The source says that nothing more will come. That is so unless its connection was reset: the error is reported once, and
    /// the other flow, writing to the same socket, may have been the one to get it.
    fn finish(&self) -> Result<(), Over> {
        if self.relay.has_failed() {
            return Err(Over);
        }
        if socket::is_closed(self.source) && !self.source_told.load(SeqCst) {
            self.relay.cut(self.source_reset);
            return Err(Over);
        }
        self.sink_told.store(true, SeqCst);
        // it fails only when the connection is gone, and then the other flow finds out
        let _ = self.sink.shutdown(Shutdown::Write);
        self.watch()
    }

    /// After the end of its stream a source may still reset the connection, which nobody would notice while the other flow has
    /// nothing to write to it. The other flow's own end wakes this, too: then both directions of the source are closed.
    fn watch(&self) -> Result<(), Over> {
        while !self.source_told.load(SeqCst) && !self.relay.has_failed() {
            self.leave_if_reset(socket::wait_until_gone(self.source, WRITE_LOOKS_UP))?;
        }
        Err(Over)
    }

    /// A source that is gone was reset, unless it was closed in both directions in good order.
    fn leave_if_reset(&self, source_is_gone: bool) -> Result<(), Over> {
        if source_is_gone && !self.source_told.load(SeqCst) {
            self.relay.cut(self.source_reset);
            return Err(Over);
        }
        Ok(())
    }

    /// A read came back with nothing: the other direction decides whether that is silence.
    fn stay_silent(&self) -> Result<(), Over> {
        let left = self.leave_if_cut_or_idle()?;
        let next_look = left.min(look_after(self.relay.idle));
        // zero would mean "for ever", and setting fails only then
        let _ = self.source.set_read_timeout(Some(next_look.max(Duration::from_millis(1))));
        Ok(())
    }

    fn leave_if_cut_or_idle(&self) -> Result<Duration, Over> {
        let left = self.relay.silence_left();
        if left.is_zero() {
            self.relay.cut(End::Idle);
        }
        if self.relay.is_cut.load(SeqCst) { Err(Over) } else { Ok(left) }
    }
}
