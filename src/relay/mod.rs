//! Moves bytes between two connected sockets, both ways at once, until both ways have ended.
//!
//! A [`Relay`] belongs to one session. Two pool threads each run one of its flows ([`Relay::run`]); what they share is here:
//! the two sockets, the moment of the last byte, and how the relay ended. The rules ([`Relay::end`] says which of them applied):
//!
//! * End of stream from one side is passed on as such; the other direction goes on. Both ended: `closed`.
//! * A reset of one side is passed on as a reset to the other, so that a truncated answer never looks complete. What the
//!   dead side had sent before goes first, as far as the other side has taken it when the reset comes.
//! * Silence in both directions for the idle time resets both sides. A side that still takes what was written to it is not silent.
//! * [`Relay::cut`] does the same at any time, from any thread.
//!
//! Knows no service, host or session.

mod flow;
mod meter;
pub mod pool;

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;

pub use meter::Meter;

use self::pool::Space;
use crate::system::socket;

/// How often a blocked write looks up whether its relay has been cut meanwhile: no portable call wakes it.
pub const WRITE_LOOKS_UP: Duration = Duration::from_secs(1);

/// How long a blocked read waits before it looks whether a side still takes bytes: so the idle time is kept to a quarter.
fn look_after(left: Duration) -> Duration {
    (left / 4).max(Duration::from_millis(1))
}

/// One of the two ways through a relay, named from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
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
}

impl Relay {
    /// Prepares both sockets. `idle` is the limit for silence in both directions; `total` is counted up live.
    pub fn new(client: TcpStream, server: TcpStream, idle: Duration, total: Arc<Meter>) -> io::Result<Relay> {
        for stream in [&client, &server] {
            // without it a side that writes twice waits 40 ms for the delayed acknowledgement in between
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(look_after(idle)))?;
            stream.set_write_timeout(Some(look_after(idle).min(WRITE_LOOKS_UP)))?;
        }
        Ok(Relay {
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
        })
    }

    /// Runs one flow on the calling thread, through that thread's buffer, and returns when it is over. `first` is what was read from
    /// the source before. The relay is over when both flows have returned.
    pub fn run(&self, direction: Direction, first: &[u8], space: &mut Space) {
        let _guard = CutOnPanic(self);
        flow::run(self, direction, first, space);
    }

    /// Ends both flows now and resets both sides; tells whether it was this that ended the relay.
    pub fn cut(&self, end: End) -> bool {
        let is_first = self.fail(end);
        self.is_cut.store(true, SeqCst);
        // wakes blocked reads, and tells the other side nothing: that is left to the reset at the end
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

    /// Takes over from somebody who has passed so many bytes to the server already, and perhaps the end of the stream. Must be
    /// called before the flows run: an end that nobody knows of would look like a reset.
    pub fn take_over(&self, sent: usize, is_all: bool) {
        self.note_bytes(Direction::ToServer, sent);
        self.server_told.store(is_all, SeqCst);
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
