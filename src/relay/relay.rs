//! Two connected sockets and what their two flows share.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use parking_lot::Mutex;

use super::close_reason::CloseReason;
use super::direction::{BOTH, Direction, Side};
use super::meter::Meter;
use super::party::Party;
use super::progress::{Pending, Progress};
use super::quota::Unsent;
use super::timeouts::Timeouts;
use crate::system::socket;

/// Two sockets and what their two flows share.
pub struct Relay {
    pub(super) client: Party,
    pub(super) server: Party,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) began: Instant,
    /// Milliseconds from `began` to the last byte that moved either way, or the end of a side. A
    /// word, since 32-bit machines may lack 64-bit atomics; there it wraps after 49 days, and so it
    /// is only ever used for differences.
    pub(super) last_byte: AtomicUsize,
    /// What the two sides had not acknowledged at the last look.
    pub(super) unacknowledged: AtomicUsize,
    /// The time is up, as far as was known before the flows had another look at what there is to be
    /// read.
    pub(super) is_warned: AtomicBool,
    /// The flows that have not had it yet, a bit for each.
    pub(super) unaware: AtomicU8,
    /// The first cause to end other than [`CloseReason::Closed`].
    pub(super) end: AtomicCell<Option<CloseReason>>,
    /// Both flows are to leave at once.
    pub(super) is_cut: AtomicBool,
    /// The flows that are over, a bit for each.
    pub(super) over: AtomicU8,
    /// The server's socket sends at once.
    pub(super) is_server_prompt: AtomicBool,
    /// What this relay has moved, and the sum that it adds to.
    pub(super) moved: Meter,
    pub(super) total: Arc<Meter>,
    /// How far the flows are, while they are parked. A flow that runs has it in its hands.
    pub(super) to_server: Mutex<Progress>,
    pub(super) to_client: Mutex<Progress>,
}

impl Relay {
    /// A relay of which nothing runs yet. Both sockets must reset their connections when they are
    /// closed ([`socket::reset_on_close`]): the relay takes that back when it comes to a good end.
    /// The client's must send at once (TCP_NODELAY). `total` is counted up live.
    pub fn new(
        client: TcpStream,
        server: TcpStream,
        timeouts: Arc<Timeouts>,
        total: Arc<Meter>,
    ) -> Relay {
        Relay {
            client: Party::new(client, Side::Client),
            server: Party::new(server, Side::Server),
            timeouts,
            began: Instant::now(),
            last_byte: AtomicUsize::new(0),
            unacknowledged: AtomicUsize::new(0),
            is_warned: AtomicBool::new(false),
            unaware: AtomicU8::new(0),
            end: AtomicCell::new(None),
            is_cut: AtomicBool::new(false),
            over: AtomicU8::new(0),
            is_server_prompt: AtomicBool::new(false),
            moved: Meter::default(),
            total,
            to_server: Mutex::default(),
            to_client: Mutex::default(),
        }
    }

    /// Ends both flows now and resets both sides; returns whether it was this that ended the relay.
    pub fn cut(&self, end: CloseReason) -> bool {
        let is_first = self.fail(end);
        if self.is_cut.swap(true, SeqCst) {
            // the client may belong to somebody else by now
            return is_first;
        }
        // the poller hears of it and wakes the flows; the other side hears nothing: that is left
        // to the reset at the end
        let _ = self.client.stream.shutdown(Shutdown::Read);
        let _ = self.server.stream.shutdown(Shutdown::Read);
        is_first
    }

    /// How the relay ended, or is about to.
    pub fn end(&self) -> CloseReason {
        self.end.load().unwrap_or(CloseReason::Closed)
    }

    /// Whether both flows are over.
    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst) == BOTH
    }

    /// Whether the server has ended its stream, or its connection is lost: it has no work with the
    /// session any more.
    pub fn has_server_left(&self) -> bool {
        self.server.has_left()
    }

    /// What the relay has moved so far.
    pub fn moved(&self) -> &Meter {
        &self.moved
    }

    /// Bytes that were written and that the other side's kernel has not acknowledged: to the
    /// server, to the client. After a reset, those are lost.
    pub fn undelivered(&self) -> (usize, usize) {
        (self.server.undelivered(), self.client.undelivered())
    }

    /// For a relay that is over because its server went before a byte moved either way: another
    /// handle to the client's socket, and what was read from it. `None` for any other, and if there
    /// is no descriptor.
    pub fn take_untouched_client(&self) -> Option<(TcpStream, Unsent)> {
        let has_server_failed =
            matches!(self.end(), CloseReason::ResetByServer | CloseReason::ServerDead);
        // the end of the server's stream is an answer, too
        let has_moved =
            self.moved.to_server() > 0 || self.moved.to_client() > 0 || self.client.is_shut();
        if !has_server_failed || has_moved || self.client.has_ended() || self.client.is_lost() {
            return None;
        }
        // who has a handle of this relay still and cuts it now must leave the client alone
        if self.is_cut.swap(true, SeqCst) {
            return None;
        }
        let client = self.client.stream.try_clone().ok()?;
        match self.to_server.lock().pending.take().map(|pending| *pending) {
            None => Some((client, Unsent::default())),
            Some(Pending::Bytes(unsent)) => Some((client, unsent)),
            Some(Pending::Piped(_)) => None,
        }
    }

    /// The socket of the client.
    pub fn client(&self) -> &TcpStream {
        &self.client.stream
    }

    /// Notes why the relay will end by a reset of both sides. The first cause stays; returns
    /// whether it is this one.
    pub(super) fn fail(&self, end: CloseReason) -> bool {
        self.end.compare_exchange(None, Some(end)).is_ok()
    }

    /// Takes over from somebody who has passed so many bytes to the server already, and perhaps the
    /// end of the stream, and who has read more from both sides. Must be called before the flows
    /// run: an end that nobody knows of would look like a reset.
    pub fn take_over(&self, sent: usize, is_all: bool, by_client: Unsent, by_server: Unsent) {
        self.note_bytes(Direction::ToServer, sent);
        if is_all {
            self.client.note_end();
            self.server.note_shut();
        }
        *self.to_server.lock() = Progress::holding(by_client, is_all);
        *self.to_client.lock() = Progress::holding(by_server, false);
    }

    /// The connection to a side is lost, as somebody has found out who has used the socket before:
    /// the kernel tells that once. Must be called before the flows run.
    pub fn note_loss(&self, side: Side, end: CloseReason) {
        let party = if side == Side::Client { &self.client } else { &self.server };
        party.lose();
        self.fail(end);
    }

    /// How far a flow is that does not run.
    pub(super) fn progress(&self, direction: Direction) -> &Mutex<Progress> {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    pub(super) fn note_bytes(&self, direction: Direction, count: usize) {
        self.moved.add(direction, count);
        self.total.add(direction, count);
        self.note_life();
    }

    /// For how long no byte has moved.
    pub fn silent_for(&self) -> Duration {
        // the byte before the clock: a byte that moves in between must not lie in the future
        let last_byte = self.last_byte.load(SeqCst);
        let silent = self.now().wrapping_sub(last_byte);
        Duration::from_millis(if (silent as isize) < 0 { 0 } else { silent as u64 })
    }

    /// Something has happened that begins the silence anew.
    pub(super) fn note_life(&self) {
        self.last_byte.store(self.now(), SeqCst);
    }

    pub(super) fn now(&self) -> usize {
        self.began.elapsed().as_millis() as usize
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.end.load().is_none() && self.is_over() {
            socket::reset_on_close(&self.client.stream, false);
            socket::reset_on_close(&self.server.stream, false);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// Silent for longer than it may be; its client and its server.
    pub fn idle_relay() -> (Relay, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            (
                TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
                listener.accept().unwrap().0,
            )
        };
        let ((client, near), (server, far)) = (pair(), pair());
        let relay =
            Relay::new(near, server, Timeouts::idle(Duration::from_millis(1)), Arc::default());
        while relay.silent_for() < Duration::from_millis(1) {}
        (relay, client, far)
    }

    #[test]
    fn a_client_that_was_given_away_is_neither_given_twice_nor_cut() {
        let (relay, _client, _host) = idle_relay();
        relay.note_loss(Side::Server, CloseReason::ResetByServer);
        let (given, _) = relay.take_untouched_client().expect("it is untouched");
        assert!(relay.take_untouched_client().is_none());
        // by a drain that has found the relay before
        relay.cut(CloseReason::Drained);
        assert!(!socket::is_readable(&given), "it looks as if it had ended");
    }

    #[test]
    fn a_client_that_was_told_of_an_end_is_not_given_away() {
        let (relay, ..) = idle_relay();
        relay.client.note_shut();
        relay.note_loss(Side::Server, CloseReason::ResetByServer);
        assert!(relay.take_untouched_client().is_none());
    }

    #[test]
    fn a_client_that_was_cut_is_not_given_away() {
        let (relay, ..) = idle_relay();
        relay.note_loss(Side::Server, CloseReason::ResetByServer);
        relay.cut(CloseReason::Drained);
        assert!(relay.take_untouched_client().is_none());
    }
}
