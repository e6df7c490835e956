//! What the threads of a pool share, and the accept threads with them. The one mutex guards the
//! counts, the timers and who leads; it is held across no call of the system but a wake-up.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::deque::{Injector, Steal};
use parking_lot::{Condvar, Mutex};

use super::direction::Direction;
use super::leaders::Leaders;
use super::limits::PoolLimits;
use super::pipe::Pipes;
use super::pollers::Pollers;
use super::queue::Queue;
use super::quota::Quota;
use super::task::Job;
use super::task_table::TaskTable;
use super::timers::Timers;

/// What a pool has.
pub struct Shared {
    pub(super) pollers: Pollers,
    pub(super) tasks: TaskTable,
    pub(super) pipes: Arc<Pipes>,
    pub(super) quota: Arc<Quota>,
    pub(super) state: Mutex<State>,
    /// Sessions that are no task yet.
    pub(super) waiting: Queue<Box<dyn Job>>,
    /// Flows that can go on, by the numbers of their tasks: two for each at most.
    pub(super) ready: Injector<(usize, Direction)>,
    /// Threads of the pool rest here: followers.
    pub(super) followers: Condvar,
    /// What a thread of the pool does as long as it lives. It stands above, with the workers.
    pub(super) thread_main: fn(&Arc<Shared>),
}

/// What changes under the mutex.
pub struct State {
    pub(super) limits: PoolLimits,
    /// Threads that exist.
    pub(super) threads: usize,
    /// Tasks that exist.
    pub(super) tasks: usize,
    pub(super) timers: Timers,
    pub(super) leaders: Leaders,
    /// When a poller was last opened beside another.
    pub(super) grown: Option<Instant>,
    /// The number in the name of the youngest thread.
    pub(super) last_id: usize,
    pub(super) is_closed: bool,
}

impl Shared {
    /// Without any thread yet. Fails when the system gives no poller.
    pub(super) fn new(
        limits: PoolLimits,
        thread_main: fn(&Arc<Shared>),
    ) -> std::io::Result<Shared> {
        let state = State {
            limits,
            threads: 0,
            tasks: 0,
            timers: Timers::default(),
            leaders: Leaders::default(),
            grown: None,
            last_id: 0,
            is_closed: false,
        };
        Ok(Shared {
            pollers: Pollers::new(limits.pollers)?,
            tasks: TaskTable::default(),
            pipes: Pipes::new(limits.pipes, limits.pipe_size),
            quota: Quota::new(limits.held),
            state: Mutex::new(state),
            waiting: Queue::new(limits.queue),
            ready: Injector::new(),
            followers: Condvar::new(),
            thread_main,
        })
    }

    /// The next flow that can go on.
    pub(super) fn next_ready(&self) -> Option<(usize, Direction)> {
        loop {
            match self.ready.steal() {
                Steal::Success(next) => return Some(next),
                Steal::Empty => return None,
                // another thread was faster
                Steal::Retry => {}
            }
        }
    }

    /// Whether a session waits that could be a task.
    pub(super) fn could_start(&self, state: &State) -> bool {
        !self.waiting.is_empty() && state.tasks < state.limits.sessions
    }

    /// Threads that are kept while there are sessions, if the limits allow: if one hangs, there is
    /// another. If all hang, sessions wait until one goes on.
    pub(super) fn least_threads(&self, state: &State) -> usize {
        (self.pollers.open() + 1).min(state.limits.threads)
    }

    /// Has a leader look at queues and limits. Without one, those that run will look.
    pub(super) fn wake_leader(&self, state: &State) {
        if let Some(at) = state.leaders.led() {
            self.pollers.wake(at);
        }
    }

    /// Has a leader wake in time for the next timer.
    pub(super) fn wake_for_timer(&self, state: &State) {
        if state.timers.next().is_some_and(|next| state.leaders.are_beyond(next)) {
            self.wake_leader(state);
        }
    }
}

impl State {
    /// Whether no session is left and none can come.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed && self.tasks == 0
    }
}
