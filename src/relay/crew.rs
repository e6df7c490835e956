//! Which of the pool's threads does what: one at most waits at the poller and has *the watch*, the others run sessions, or rest.
//!
//! One thread at the poller is enough, and costs less than several: with each of them the kernel would wake one more for every piece
//! of news, only to find that the one that is awake would have taken it a moment later. Who rests is woken when there is more to do
//! than the others can: when one of them has had no pause for a while, when it begins with something that takes its time, when
//! several things wait. All decisions are made under the lock of the pool's state. A thread that only polls may hear a call that was
//! meant for the one that has the watch: so it looks at everything that a call can be about before it rests.
//!
//! As long as there is any thread, one of them has the watch or runs something, and comes by here after that.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::pool::{Inner, STACK, State};
use super::worker::Worker;
use crate::system::thread;

/// How long the thread that has the watch waits for something to do before it ends.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// How long a thread rests before it looks whether anybody has the watch: the others may hang in a write to a log that is stuck.
const REST: Duration = Duration::from_secs(1);

/// How often a thread rests before it ends: sooner than the one that has the watch.
const RESTS: usize = 5;

/// Threads that are kept while there are sessions, if the limits allow: if one hangs, there is another. If all hang, sessions wait
/// until one goes on.
pub(super) const FEW: usize = 2;

/// What a thread is to do when it has run what it had.
pub(super) enum Step {
    /// Sound the alarms that are due.
    Alarm,
    /// Look for news, without waiting: there is other work.
    Poll,
    /// Wait for news, for no longer than so.
    Watch(Duration),
    /// Look for work: somebody has called.
    Again,
    /// Nothing any more.
    End,
}

impl Inner {
    /// What the calling thread of the pool is to do now. Rests here if there is nothing.
    pub(super) fn step(&self) -> Step {
        let mut state = self.state.lock();
        if state.threads > state.limits.threads || state.is_over() {
            self.end(state);
            return Step::End;
        }
        let now = Instant::now();
        // before the work: there may always be some
        if state.clock.is_due(now) {
            return Step::Alarm;
        }
        if !self.ready.is_empty() || self.could_start(&state) {
            return Step::Poll;
        }
        if let Some(until) = state.watch {
            // a call for an alarm may have been heard by one that only polled
            if state.clock.next().is_some_and(|next| next < until) {
                self.poller.call();
            }
            return self.rest(state);
        }
        let until = state.clock.next().map_or(now + IDLE_LIFE, |alarm| alarm.min(now + IDLE_LIFE));
        state.watch = Some(until);
        Step::Watch(until - now)
    }

    /// The thread that had the watch has something to do; or, after having waited `in_vain`, may have to end. Tells whether it does.
    pub(super) fn leave_watch(&self, limit: Duration, in_vain: bool) -> bool {
        let mut state = self.state.lock();
        state.watch = None;
        let ends = in_vain && limit == IDLE_LIFE && state.taken == 0 && self.ready.is_empty() && !self.could_start(&state);
        if ends {
            self.end(state);
        }
        ends
    }

    fn rest(&self, mut state: MutexGuard<'_, State>) -> Step {
        for _ in 0..RESTS {
            if !self.called.wait_for(&mut state, REST).timed_out() || state.watch.is_none() {
                return Step::Again;
            }
        }
        if state.threads <= FEW && state.taken > 0 {
            return Step::Again;
        }
        self.end(state);
        Step::End
    }

    /// The calling thread ends. Another one may have to end, too, or to take the watch.
    fn end(&self, mut state: MutexGuard<'_, State>) {
        state.threads -= 1;
        self.call(&state);
        self.called.notify_one();
    }

    /// Has the thread at the poller look at queues and limits. Without one, those that run will look.
    pub(super) fn call(&self, state: &State) {
        if state.watch.is_some() {
            self.poller.call();
        }
    }

    /// There is more to do than one thread can: has another one look for work, one that rests or a new one.
    pub(super) fn help(self: &Arc<Self>) {
        let state = self.state.lock();
        if !self.called.notify_one() {
            // a shortage of threads is told of by the next session
            let _ = self.start(state);
        }
    }

    /// The calling thread has had no pause for long: another one is to help, unless one has nothing to do but to wait for news.
    pub(super) fn help_tired(self: &Arc<Self>) {
        let is_enough = self.state.lock().watch.is_some() && self.ready.is_empty();
        if !is_enough {
            self.help();
        }
    }

    /// The calling thread begins with something that takes its time: another one must have the watch meanwhile, if anybody else
    /// is there to be waited for.
    pub(super) fn relieve(&self) {
        let state = self.state.lock();
        if state.taken > 1 && state.watch.is_none() {
            self.called.notify_one();
        }
    }

    /// Sets an alarm; whoever has the watch must not sleep beyond it.
    pub(super) fn set_alarm(&self, number: usize, when: Instant) {
        let mut state = self.state.lock();
        state.clock.set(number, when);
        if state.watch.is_some_and(|until| state.clock.next().is_some_and(|next| next < until)) {
            self.poller.call();
        }
    }

    /// Sees to it that a session that waits is looked at.
    pub(super) fn summon(self: &Arc<Self>) -> io::Result<()> {
        let state = self.state.lock();
        // a full pool that has no thread may owe that to one that could not be started
        if !self.could_start(&state) && (state.threads > 0 || state.taken == 0) {
            return Ok(());
        }
        self.call(&state);
        // otherwise all who do not rest are busy
        if state.watch.is_some() || self.called.notify_one() { Ok(()) } else { self.start(state) }
    }

    /// Starts a thread, if there may be one more.
    fn start(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> io::Result<()> {
        if state.threads >= state.limits.threads {
            return Ok(());
        }
        state.threads += 1;
        state.last_id = state.last_id.wrapping_add(1);
        let (name, pool) = (format!("worker {}", state.last_id), self.clone());
        drop(state);
        thread::start(name, STACK, move || Worker::live(&pool)).map(drop).inspect_err(|_| self.state.lock().threads -= 1)
    }
}
