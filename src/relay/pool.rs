//! The pool: sessions wait in a bounded queue for a place, and threads, started on demand up to a
//! limit, run what can go on.
//!
//! The accept threads call [`Pool::carry`]. A thread without work waits at a poller
//! (`relay::pollers`) for news of the sockets of sessions, or rests (`relay::threads`); nothing
//! that runs on it ever waits for a socket, so a few threads serve any number of sessions. The one
//! mutex here guards the counts and the clock; the two queues are crossbeam's.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use parking_lot::{Condvar, Mutex};

use super::Direction;
use super::leaders::Leaders;
pub use super::limits::{
    BUFFER, HAND_BUFFER, LEAST, MOST_POLLERS, POLLER_DESCRIPTORS, PoolLimits, STACK, Space,
};
use super::pipe::Pipes;
pub use super::pipe::USUAL as PIPE_SIZE;
use super::pollers::Pollers;
use super::quota::Quota;
use super::task::{Carried, Side, Task};
use super::task_table::TaskTable;
use super::timers::Timers;
use super::worker::Worker;
use crate::system::shortage::{self, Shortage};

/// Threads and the queue before them. Cloning makes another handle to the same pool.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) pollers: Pollers,
    pub(super) tasks: TaskTable,
    pub(super) pipes: Arc<Pipes>,
    quota: Arc<Quota>,
    pub(super) state: Mutex<State>,
    /// Accept threads wait here for room in the queue.
    room: Condvar,
    /// Sessions without a place. Its length is read and limited under the mutex.
    waiting: SegQueue<Box<dyn Carried>>,
    /// Halves that can go on.
    pub(super) ready: SegQueue<(Arc<Task>, Direction)>,
    /// Threads of the pool rest here.
    pub(super) called: Condvar,
}

pub(super) struct State {
    pub(super) limits: PoolLimits,
    pub(super) threads: usize,
    /// Sessions that have a place.
    pub(super) taken: usize,
    pub(super) clock: Timers,
    pub(super) watches: Leaders,
    /// When a poller was last opened beside another.
    pub(super) grown: Option<Instant>,
    pub(super) last_id: usize,
    closed: bool,
}

/// What a thread that is not the pool's own needs to run a session's first steps.
pub struct Hand(Worker);

/// The right of one session to be carried; dropping it gives it to the next one.
pub(super) struct Place {
    pub(super) number: usize,
    pool: Arc<Inner>,
}

impl Place {
    /// The poller that the sockets of this session belong to now.
    pub(super) fn poller(&self) -> usize {
        self.pool.pollers.of(self.number)
    }

    pub(super) fn watch(
        &self,
        at: usize,
        side: Side,
        socket: BorrowedFd<'_>,
        room: bool,
    ) -> io::Result<()> {
        self.pool.pollers.watch(at, socket, TaskTable::mark(self.number, side), room)
    }

    pub(super) fn forget(&self, at: usize, socket: BorrowedFd<'_>) {
        self.pool.pollers.forget(at, socket);
    }

    pub(super) fn set_alarm(&self, limit: Duration) {
        self.pool.set_alarm(self.number, Instant::now() + limit);
    }

    /// Has a thread go on with a half that was made to run.
    pub(super) fn run_soon(&self, task: &Arc<Task>, half: Direction) {
        self.pool.ready.push((task.clone(), half));
        let state = self.pool.state.lock();
        self.pool.call(&state);
        drop(state);
        let _ = self.pool.help();
    }

    pub(super) fn relieve(&self) {
        self.pool.relieve(self.poller());
    }

    pub(super) fn pipes(&self) -> &Arc<Pipes> {
        &self.pool.pipes
    }

    pub(super) fn quota(&self) -> &Arc<Quota> {
        &self.pool.quota
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.tasks.free(self.number);
        // who drops a session looks at the queue afterwards
        self.pool.state.lock().taken -= 1;
    }
}

impl Pool {
    /// A pool without any thread yet. Fails when the system gives no poller.
    pub fn new(limits: PoolLimits) -> io::Result<Pool> {
        let limits = limits.at_least_one();
        let state = State {
            limits,
            threads: 0,
            taken: 0,
            clock: Timers::default(),
            watches: Leaders::default(),
            grown: None,
            last_id: 0,
            closed: false,
        };
        Ok(Pool(Arc::new(Inner {
            pollers: Pollers::new(limits.pollers)?,
            tasks: TaskTable::default(),
            pipes: Pipes::new(limits.pipes, limits.pipe_size),
            quota: Quota::new(limits.held),
            state: Mutex::new(state),
            room: Condvar::new(),
            waiting: SegQueue::new(),
            ready: SegQueue::new(),
            called: Condvar::new(),
        })))
    }

    /// Gives a session to the pool; waits while the queue is full, and while there is no thread at
    /// all. A closed pool drops it.
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
        let mut shortage = Shortage::default();
        while let Err(e) = self.0.summon() {
            shortage.log_once(|| {
                log::error!("pool state=short threads={} reason=\"{e}\"", self.threads());
            });
            if self.threads() > 0 {
                return;
            }
            shortage::rest();
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
        let _ = self.0.summon();
        Ok(())
    }

    /// What an accept thread needs for [`Pool::carry`].
    pub fn hand(&self) -> Hand {
        Hand(Worker::new(self.0.clone(), HAND_BUFFER))
    }

    /// Gives a session to the pool like [`Pool::submit`]; but when it can have a place at once, the
    /// calling thread runs it itself as far as it goes without waiting: nobody has to be woken for
    /// that. From then on it is the pool's threads' own.
    pub fn carry(&self, session: Box<dyn Carried>, Hand(worker): &mut Hand) {
        match self.0.place_at_once(session) {
            // a panic at the end of the session must not end the thread of a listener
            Ok(task) => {
                drop(catch_unwind(AssertUnwindSafe(move || worker.run(&task, Direction::ToServer))))
            }
            Err(session) => return self.submit(session),
        }
        let state = self.0.state.lock();
        if state.is_over() || !self.0.waiting.is_empty() || !self.0.ready.is_empty() {
            self.0.call(&state);
        }
    }

    /// Changes the limits. What is over a lower one stays until it ends by itself.
    pub fn set_limits(&self, limits: PoolLimits) {
        let limits = limits.at_least_one();
        self.0.state.lock().limits = limits;
        self.0.pollers.set_most(limits.pollers);
        self.0.pipes.set_limits(limits.pipes, limits.pipe_size);
        self.0.quota.set_most(limits.held);
        self.0.room.notify_all();
        // a shortage of threads is told of by the next session
        let _ = self.0.summon();
        self.call_all();
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

    /// Takes no more sessions and drops those that wait; running ones go on, and threads end as
    /// they have nothing left to do.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.room.notify_all();
        while self.0.waiting.pop().is_some() {}
        self.call_all();
    }

    /// Has every thread look at the limits.
    fn call_all(&self) {
        self.0.pollers.call_all();
        self.0.called.notify_all();
    }
}

impl Inner {
    /// The next session of the queue, with a place for it.
    pub(super) fn take_place(self: &Arc<Self>) -> Option<Arc<Task>> {
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
        Some(self.insert(session))
    }

    /// A place for a session that need not wait for one, while there is a thread that will go on
    /// with it; else gives it back.
    fn place_at_once(
        self: &Arc<Self>,
        session: Box<dyn Carried>,
    ) -> Result<Arc<Task>, Box<dyn Carried>> {
        let mut state = self.state.lock();
        if state.closed
            || state.threads == 0
            || state.taken >= state.limits.sessions
            || !self.waiting.is_empty()
        {
            return Err(session);
        }
        state.taken += 1;
        let is_short_handed = state.threads < self.few(&state);
        drop(state);
        if is_short_handed {
            let _ = self.help();
        }
        Ok(self.insert(session))
    }

    /// Gives a session the place that was counted for it, and sets its alarm.
    fn insert(self: &Arc<Self>, session: Box<dyn Carried>) -> Arc<Task> {
        let when = Instant::now() + session.look();
        let task =
            self.tasks.insert(|number| Task::new(session, Place { number, pool: self.clone() }));
        self.set_alarm(task.place.number, when);
        task
    }

    /// Whether a session waits that could have a place.
    pub(super) fn could_start(&self, state: &State) -> bool {
        !self.waiting.is_empty() && state.taken < state.limits.sessions
    }
}

impl State {
    /// Whether no session is left and none can come.
    pub(super) fn is_over(&self) -> bool {
        self.closed && self.taken == 0
    }
}
