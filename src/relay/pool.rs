//! The pool: sessions wait in a bounded queue for a place, and threads, started on demand up to a limit, run what can go on.
//!
//! The accept threads call [`Pool::submit`]. A thread without work waits on the poller (`relay::poller`) for news of the sockets
//! of all sessions; nothing that runs on it ever waits for a socket, so a few threads serve any number of sessions. The one mutex
//! here guards the counts and the clock; the two queues are crossbeam's.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use parking_lot::{Condvar, Mutex};

use super::Direction;
use super::clock::Clock;
use super::pipe::Pipes;
pub use super::pipe::USUAL as PIPE_SIZE;
use super::poller::Poller;
use super::purse::Purse;
use super::seat::{Carried, Seat, Side};
use super::seats::Seats;
use super::worker::Worker;

/// The stack of a pool thread. The buffer is not on it: the compiler's stack probes would touch every page of a large frame.
pub const STACK: usize = 64 * 1024;

/// Descriptors of a pool itself.
pub const POLLER_DESCRIPTORS: usize = 2;

/// Bytes that one flow reads at once.
pub const BUFFER: usize = 64 * 1024;

/// Bytes that a flow reads at once while others hold as much as they may.
pub const LEAST: usize = 1024;

/// The buffer of a pool thread: the capacity of an empty vector, which costs memory only as far as it was ever filled.
pub type Space = Vec<u8>;

/// How long an accept thread rests when the system gives no thread and none is running.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// The limits of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most threads; at least one.
    pub threads: usize,
    /// Most sessions that have a place; at least one.
    pub sessions: usize,
    /// Most sessions that wait for a place; at least one.
    pub queue: usize,
    /// Most pipes, which flows with much to move borrow; two descriptors each.
    pub pipes: usize,
    /// Most bytes in one of them.
    pub pipe_size: usize,
    /// Bytes that flows may hold for sinks without room. Beyond that each one reads [`LEAST`] bytes at a time.
    pub held: usize,
}

/// Threads and the queue before them. Cloning makes another handle to the same pool.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) poller: Poller,
    pub(super) seats: Seats,
    pub(super) pipes: Arc<Pipes>,
    purse: Arc<Purse>,
    pub(super) state: Mutex<State>,
    /// Accept threads wait here for room in the queue.
    room: Condvar,
    /// Sessions without a place. Its length is read and limited under the mutex.
    waiting: SegQueue<Box<dyn Carried>>,
    /// Halves that can go on.
    pub(super) ready: SegQueue<(Arc<Seat>, Direction)>,
    /// Threads that wait on the poller. Counted up under the mutex, so that nothing is queued unseen behind it.
    pub(super) idle: AtomicUsize,
}

pub(super) struct State {
    pub(super) limits: Limits,
    pub(super) threads: usize,
    /// Sessions that have a place.
    pub(super) taken: usize,
    pub(super) clock: Clock,
    closed: bool,
    last_id: usize,
}

/// The right of one session to be carried; dropping it gives it to the next one.
pub(super) struct Place {
    pub(super) number: usize,
    pool: Arc<Inner>,
}

impl Place {
    pub(super) fn watch(&self, side: Side, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.pool.poller.add(socket, Seats::mark(self.number, side))
    }

    pub(super) fn pipes(&self) -> &Arc<Pipes> {
        &self.pool.pipes
    }

    pub(super) fn purse(&self) -> &Arc<Purse> {
        &self.pool.purse
    }

    pub(super) fn run_soon(&self, seat: Arc<Seat>, half: Direction) {
        self.pool.ready.push((seat, half));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.seats.leave(self.number);
        // who drops a session is a thread of the pool, and looks at the queue before it waits again
        self.pool.state.lock().taken -= 1;
    }
}

impl Pool {
    /// A pool without any thread yet. Fails when the system gives no poller.
    pub fn new(limits: Limits) -> io::Result<Pool> {
        let state =
            State { limits: limits.at_least_one(), threads: 0, taken: 0, clock: Clock::default(), closed: false, last_id: 0 };
        Ok(Pool(Arc::new(Inner {
            poller: Poller::new()?,
            seats: Seats::default(),
            pipes: Pipes::new(limits.pipes, limits.pipe_size),
            purse: Purse::new(limits.held),
            state: Mutex::new(state),
            room: Condvar::new(),
            waiting: SegQueue::new(),
            ready: SegQueue::new(),
            idle: AtomicUsize::new(0),
        })))
    }

    /// Gives a session to the pool; waits while the queue is full, and while there is no thread at all. A closed pool drops it.
    pub fn submit(&self, session: Box<dyn Carried>) {
        let mut state = self.0.state.lock();
        while self.0.waiting.len() >= state.limits.queue && !state.closed {
            self.0.room.wait(&mut state);
        }
        if state.closed {
            drop(state);
            return drop(session);
        }
        self.0.waiting.push(session);
        drop(state);
        let mut is_known = false;
        while let Err(e) = self.summon() {
            if !std::mem::replace(&mut is_known, true) {
                log::error!("pool state=short threads={} reason=\"{e}\"", self.threads());
            }
            if self.threads() > 0 {
                return;
            }
            thread::sleep(SHORTAGE_PAUSE);
        }
    }

    /// The same without waiting; gives the session back when the queue is full.
    pub fn try_submit(&self, session: Box<dyn Carried>) -> Result<(), Box<dyn Carried>> {
        {
            let state = self.0.state.lock();
            if state.closed || self.0.waiting.len() >= state.limits.queue {
                return Err(session);
            }
            self.0.waiting.push(session);
        }
        let _ = self.summon();
        Ok(())
    }

    /// Changes the limits. What is over a lower one stays until it ends by itself.
    pub fn set_limits(&self, limits: Limits) {
        self.0.state.lock().limits = limits.at_least_one();
        self.0.pipes.set_limits(limits.pipes, limits.pipe_size);
        self.0.purse.set_most(limits.held);
        self.0.room.notify_all();
        // a shortage of threads is told of by the next session
        let _ = self.summon();
    }

    /// Sessions in the queue.
    pub fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    /// Sessions that have a place.
    pub fn carried(&self) -> usize {
        self.0.state.lock().taken
    }

    /// Threads now.
    pub fn threads(&self) -> usize {
        self.0.state.lock().threads
    }

    /// Takes no more sessions and drops those that wait; running ones go on, and threads end as they have nothing left to do.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.room.notify_all();
        while self.0.waiting.pop().is_some() {}
        // one after the other
        self.0.poller.call();
    }

    /// Sees to it that a thread looks at the queues: wakes one, or starts one if that is allowed and all are busy.
    fn summon(&self) -> io::Result<()> {
        {
            let mut state = self.0.state.lock();
            if self.0.waiting.is_empty() || state.taken >= state.limits.sessions {
                return Ok(());
            }
            if self.0.idle.load(SeqCst) == 0 {
                if state.threads >= state.limits.threads {
                    return Ok(());
                }
                state.threads += 1;
                state.last_id = state.last_id.wrapping_add(1);
                let pool = self.clone();
                let builder = thread::Builder::new().name(format!("worker {}", state.last_id)).stack_size(STACK);
                drop(state);
                return builder.spawn(move || pool.live()).map(drop).inspect_err(|_| self.0.state.lock().threads -= 1);
            }
        }
        self.0.poller.call();
        Ok(())
    }

    /// The life of one thread, until it has nothing to do. A panic outside a session's run, of one that is dropped for instance, costs
    /// the thread no more than its buffer: the sessions that wait must not lose who waits for them.
    fn live(self) {
        while catch_unwind(AssertUnwindSafe(|| Worker::new(self.0.clone()).live())).is_err() {}
    }
}

impl Inner {
    /// The next session of the queue, with a place for it.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Arc<Seat>> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut state = self.state.lock();
        if state.taken >= state.limits.sessions {
            return None;
        }
        let session = self.waiting.pop()?;
        state.taken += 1;
        drop(state);
        self.room.notify_one();
        let after = session.look();
        let seat = self.seats.sit(|number| Seat::new(session, Place { number, pool: self.clone() }));
        self.state.lock().clock.set(seat.place.number, Instant::now() + after);
        Some(seat)
    }

    /// Whether a session waits that could have a place.
    pub(super) fn could_start(&self, state: &State) -> bool {
        !self.waiting.is_empty() && state.taken < state.limits.sessions
    }
}

impl State {
    /// Whether a thread that had nothing to do for a while may end.
    pub(super) fn can_spare_one(&self) -> bool {
        self.taken == 0 || self.threads > 1 && self.clock.is_kept()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Limits {
    fn at_least_one(self) -> Limits {
        Limits { threads: self.threads.max(1), sessions: self.sessions.max(1), queue: self.queue.max(1), ..self }
    }
}
