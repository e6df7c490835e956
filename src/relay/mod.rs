//! Moves bytes between two connected sockets, both ways at once, until both ways have ended.
//!
//! A [`Relay`] belongs to one session, which sits in a [`pool`]: threads of the pool run its two
//! flows as far as they can go without waiting ([`Relay::go`]). A flow that has nothing to read, or
//! nowhere to write, is *parked*: it holds no thread, and no buffer but for what its sink has not
//! taken yet. A flow that has read much several times in a row goes on by splice(2) through a pipe,
//! until less comes. What the flows share is here: the two sockets, the moment of the last byte,
//! and how the relay ended. The rules ([`Relay::end`] says which of them applied):
//!
//! * End of stream from one side is passed on as such; the other direction goes on. Both ended:
//!   `closed`.
//! * A reset of one side ends the flow to it at once. What it was told has arrived belongs to the
//!   other side: the flow from it goes on until everything that the dead socket still gives was
//!   written and acknowledged; then the other side is reset, so that a truncated answer never looks
//!   complete.
//! * A side that gives no sign of life though it was asked for one ([`Liveness`]) counts as reset.
//! * Silence in both directions for the idle time resets both sides; so does a shorter one of its
//!   own once a side has ended. A side that still takes what was written to it is not silent, and
//!   what waits to be read is looked at before the clock.
//! * [`Relay::cut`] does the same at any time, from any thread.
//! * Closing the sockets of a relay that has not come to a good end resets them, whoever closes
//!   them: be it the kernel, after a crash.
//!
//! Knows no service, host or session.

mod close_reason;
mod flow;
pub mod flow_state;
mod leaders;
mod limits;
mod liveness;
mod load;
mod meter;
mod party;
mod pipe;
mod poller;
mod pollers;
pub mod pool;
mod progress;
mod quota;
mod silence;
mod splice;
pub mod task;
mod task_table;
mod threads;
mod timers;
mod worker;

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use crossbeam::atomic::AtomicCell;
use parking_lot::Mutex;

pub use close_reason::CloseReason;
pub use liveness::Liveness;
pub use meter::Meter;
pub use quota::Unsent;
pub use silence::Timeouts;

use self::party::Party;
use self::pool::Space;
use self::progress::{Progress, Rest};
use self::task::{Next, Side, Task};
use crate::system::socket;

/// One of the two ways through a relay, named from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Direction {
    /// The way back.
    pub fn other(self) -> Direction {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }

    /// Its place in a set of flows.
    fn bit(self) -> u8 {
        match self {
            Direction::ToServer => 1,
            Direction::ToClient => 2,
        }
    }
}

/// The set of both flows.
const BOTH: u8 = 3;

/// Two sockets and what their two flows share.
pub struct Relay {
    client: Party,
    server: Party,
    timeouts: Arc<Timeouts>,
    began: Instant,
    /// Milliseconds from `began` to the last byte that moved either way, or the end of a side. A
    /// word, since 32-bit machines may lack 64-bit atomics; there it wraps after 49 days, and so it
    /// is only ever used for differences.
    last_byte: AtomicUsize,
    /// What the two sides had not acknowledged at the last look.
    unacknowledged: AtomicUsize,
    /// The time is up, as far as was known before the flows had another look at what there is to be
    /// read.
    is_warned: AtomicBool,
    /// The flows that have not had it yet, a bit for each.
    unaware: AtomicU8,
    /// The first cause to end other than [`CloseReason::Closed`].
    end: AtomicCell<Option<CloseReason>>,
    /// Both flows are to leave at once.
    is_cut: AtomicBool,
    /// The flows that are over, a bit for each.
    over: AtomicU8,
    /// The server's socket sends at once.
    is_server_prompt: AtomicBool,
    /// What this relay has moved, and the sum that it adds to.
    moved: Meter,
    total: Arc<Meter>,
    /// How far the flows are, while they are parked. A flow that runs has it in its hands.
    to_server: Mutex<Progress>,
    to_client: Mutex<Progress>,
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

    /// Goes on with one flow on the calling thread, through that thread's buffer, as far as it
    /// goes. Never called for the same flow by two threads at once: [`Task`] sees to that. The
    /// relay is over when both flows are.
    pub fn go(&self, direction: Direction, task: &Task, space: &mut Space) -> Next {
        let _guard = CutOnPanic(self);
        let parked = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        let mut progress = std::mem::take(&mut *parked.lock());
        let next = flow::go(self, direction, task, &mut progress, space);
        *parked.lock() = progress;
        if next == Next::Over {
            self.over.fetch_or(direction.bit(), SeqCst);
        }
        if self.is_warned.load(SeqCst) {
            self.unaware.fetch_and(!direction.bit(), SeqCst);
        }
        next
    }

    /// Ends both flows now and resets both sides; returns whether it was this that ended the relay.
    pub fn cut(&self, end: CloseReason) -> bool {
        let is_first = self.fail(end);
        if self.is_cut.swap(true, SeqCst) {
            // the client may belong to somebody else by now
            return is_first;
        }
        // the poller hears of it and rouses the flows; the other side hears nothing: that is left
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
        match self.to_server.lock().rest.take().map(|rest| *rest) {
            None => Some((client, Unsent::default())),
            Some(Rest::Bytes(unsent)) => Some((client, unsent)),
            Some(Rest::Piped(_)) => None,
        }
    }

    /// The socket of the client.
    pub fn client(&self) -> &TcpStream {
        &self.client.stream
    }

    /// Notes why the relay will end by a reset of both sides. The first cause stays; returns
    /// whether it is this one.
    fn fail(&self, end: CloseReason) -> bool {
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

    fn note_bytes(&self, direction: Direction, count: usize) {
        self.moved.add(direction, count);
        self.total.add(direction, count);
        self.note_life();
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    fn idle_relay() -> (Relay, TcpStream, TcpStream) {
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
    fn a_flow_that_waits_for_its_turn_is_not_taken_for_silent() {
        let (relay, ..) = idle_relay();
        // after a pause of the whole machine: flows that can go on have their turn one after the
        // other
        for _ in 0..3 {
            relay.look();
            assert_eq!((relay.end(), relay.unaware.load(SeqCst)), (CloseReason::Closed, BOTH));
        }
        relay.unaware.fetch_and(!Direction::ToServer.bit(), SeqCst);
        relay.look();
        assert_eq!(relay.end(), CloseReason::Closed);
        relay.over.fetch_or(Direction::ToClient.bit(), SeqCst);
        relay.look();
        assert_eq!(relay.end(), CloseReason::Idle);
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
