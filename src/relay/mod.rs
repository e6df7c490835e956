//! Moves bytes between two connected sockets, both ways at once, until both ways have ended.
//!
//! A [`Relay`] belongs to one session, which sits in a [`pool`]: threads of the pool run its two flows as far as they can go without
//! waiting ([`Relay::go`]). A flow that has nothing to read, or nowhere to write, is *parked*: it holds no thread, and no buffer but
//! for what its sink has not taken yet. A flow that has read much several times in a row goes on by splice(2) through a pipe, until
//! less comes. What the flows share is here: the two sockets, the moment of the last byte, and how the
//! relay ended. The rules ([`Relay::end`] says which of them applied):
//!
//! * End of stream from one side is passed on as such; the other direction goes on. Both ended: `closed`.
//! * A reset of one side is passed on as a reset to the other, so that a truncated answer never looks complete. What the
//!   dead side had sent before goes first, as far as the other side has taken it when the reset comes.
//! * Silence in both directions for the idle time resets both sides. A side that still takes what was written to it is not silent.
//! * [`Relay::cut`] does the same at any time, from any thread.
//!
//! Knows no service, host or session.

mod clock;
mod crew;
mod flow;
mod limits;
mod load;
mod meter;
mod pipe;
mod poller;
mod pollers;
pub mod pool;
mod progress;
mod purse;
pub mod seat;
mod seats;
mod splice;
mod watches;
mod worker;

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use parking_lot::Mutex;

pub use meter::Meter;

use self::pool::Space;
use self::progress::Progress;
use self::seat::{Next, Seat};
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
}

/// How a relay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides ended their stream.
    Closed,
    /// The client reset the connection.
    ResetByClient,
    /// The server reset the connection.
    ResetByServer,
    /// No byte went either way for the idle time.
    Idle,
    /// The program is stopping.
    Stopped,
    /// The operator drains the host.
    Drained,
    /// This machine gave the poller no memory for it.
    Shortage,
    /// A thread of the relay panicked.
    Panic,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Closed => "closed",
            End::ResetByClient => "reset-by-client",
            End::ResetByServer => "reset-by-server",
            End::Idle => "idle",
            End::Stopped => "stopped",
            End::Drained => "drained",
            End::Shortage => "shortage",
            End::Panic => "panic",
        })
    }
}

/// Two sockets and what their two flows share.
pub struct Relay {
    client: TcpStream,
    server: TcpStream,
    idle: Duration,
    began: Instant,
    /// Milliseconds from `began` to the last byte that moved either way. A word, since 32-bit machines may lack 64-bit atomics;
    /// there it wraps after 49 days, and so it is only ever used for differences.
    last_byte: AtomicUsize,
    /// What the two sides had not acknowledged at the last look.
    unacknowledged: AtomicUsize,
    /// The first cause to end other than [`End::Closed`].
    end: AtomicCell<Option<End>>,
    /// Both flows are to leave at once.
    is_cut: AtomicBool,
    /// End of stream was passed on to the server / to the client.
    server_told: AtomicBool,
    client_told: AtomicBool,
    /// What this relay has moved, and the sum that it adds to.
    moved: Meter,
    total: Arc<Meter>,
    /// How far the flows are, while they are parked. A flow that runs has it in its hands.
    to_server: Mutex<Progress>,
    to_client: Mutex<Progress>,
}

impl Relay {
    /// A relay of which nothing runs yet. Both sockets send at once (TCP_NODELAY); without it a side that writes twice would wait 40 ms
    /// for the delayed acknowledgement in between. `idle` is the limit for silence in both directions; `total` is counted up live.
    pub fn new(client: TcpStream, server: TcpStream, idle: Duration, total: Arc<Meter>) -> Relay {
        // more than the milliseconds of a word can tell would never come
        let idle = idle.min(Duration::from_millis(isize::MAX as u64));
        Relay {
            client,
            server,
            idle,
            began: Instant::now(),
            last_byte: AtomicUsize::new(0),
            unacknowledged: AtomicUsize::new(0),
            end: AtomicCell::new(None),
            is_cut: AtomicBool::new(false),
            server_told: AtomicBool::new(false),
            client_told: AtomicBool::new(false),
            moved: Meter::default(),
            total,
            to_server: Mutex::default(),
            to_client: Mutex::default(),
        }
    }

    /// Goes on with one flow on the calling thread, through that thread's buffer, as far as it goes. Never called for the same flow
    /// by two threads at once: [`Seat`] sees to that. The relay is over when both flows are.
    pub fn go(&self, direction: Direction, seat: &Seat, space: &mut Space) -> Next {
        let _guard = CutOnPanic(self);
        let parked = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        let mut progress = std::mem::take(&mut *parked.lock());
        let next = flow::go(self, direction, seat, &mut progress, space);
        if next != Next::Over {
            *parked.lock() = progress;
        }
        next
    }

    /// Ends the relay if it has been silent for too long; tells when to look again: so that the idle time is kept to a quarter.
    pub fn look(&self) -> Duration {
        let left = self.silence_left();
        if left.is_zero() {
            self.cut(End::Idle);
        }
        left.min(self.idle / 4).max(Duration::from_millis(1))
    }

    /// Ends both flows now and resets both sides; tells whether it was this that ended the relay.
    pub fn cut(&self, end: End) -> bool {
        let is_first = self.fail(end);
        self.is_cut.store(true, SeqCst);
        // the poller hears of it and rouses the flows; the other side hears nothing: that is left to the reset at the end
        let _ = self.client.shutdown(Shutdown::Read);
        let _ = self.server.shutdown(Shutdown::Read);
        is_first
    }

    /// How the relay ended, or is about to.
    pub fn end(&self) -> End {
        self.end.load().unwrap_or(End::Closed)
    }

    /// For how long no byte has moved.
    pub fn silent_for(&self) -> Duration {
        // the byte before the clock: a byte that moves in between must not lie in the future
        let last_byte = self.last_byte.load(SeqCst);
        let silent = self.now().wrapping_sub(last_byte);
        Duration::from_millis(if (silent as isize) < 0 { 0 } else { silent as u64 })
    }

    /// Whether nothing has moved for so long, and both sides have acknowledged all that was written to them: what a slow one has
    /// still to take would be lost by a cut.
    pub fn is_at_rest(&self, silent: Duration) -> bool {
        self.silent_for() >= silent && self.in_flight() == 0
    }

    /// What the relay has moved so far.
    pub fn moved(&self) -> &Meter {
        &self.moved
    }

    /// Notes that the relay will end by a reset of both sides. The first cause stays; tells whether it is this one.
    fn fail(&self, end: End) -> bool {
        let is_first = self.end.compare_exchange(None, Some(end)).is_ok();
        if is_first {
            socket::reset_on_close(&self.client, true);
            socket::reset_on_close(&self.server, true);
        }
        is_first
    }

    fn has_failed(&self) -> bool {
        self.end.load().is_some()
    }

    /// Takes over from somebody who has passed so many bytes to the server already, and perhaps the end of the stream, and who has
    /// read more from both sides. Must be called before the flows run: an end that nobody knows of would look like a reset.
    pub fn take_over(&self, sent: usize, is_all: bool, by_client: Vec<u8>, by_server: Vec<u8>) {
        self.note_bytes(Direction::ToServer, sent);
        self.server_told.store(is_all, SeqCst);
        *self.to_server.lock() = Progress::holding(by_client);
        *self.to_client.lock() = Progress::holding(by_server);
    }

    fn note_bytes(&self, direction: Direction, count: usize) {
        self.moved.add(direction, count);
        self.total.add(direction, count);
        self.last_byte.store(self.now(), SeqCst);
    }

    fn now(&self) -> usize {
        self.began.elapsed().as_millis() as usize
    }

    /// How long the relay may stay silent from now on; zero when its time is up. A side that takes what was written to it before is
    /// not silent, though no byte comes through here: the kernel may hold megabytes for a slow one.
    fn silence_left(&self) -> Duration {
        let unacknowledged = self.in_flight();
        if self.unacknowledged.swap(unacknowledged, SeqCst) != unacknowledged {
            self.last_byte.store(self.now(), SeqCst);
        }
        self.idle.saturating_sub(self.silent_for())
    }

    /// Bytes that were written and that the two sides have not acknowledged.
    fn in_flight(&self) -> usize {
        [&self.client, &self.server].iter().filter_map(|socket| socket::unacknowledged(socket).ok()).sum()
    }
}

/// A flow that panics takes its relay with it: the other flow would wait for the idle time-out otherwise.
struct CutOnPanic<'a>(&'a Relay);

impl Drop for CutOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cut(End::Panic);
        }
    }
}
