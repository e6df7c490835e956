//! Which of the pool's threads does what: one at most waits at each open poller and has *the watch*
//! there, the others run sessions, or rest.
//!
//! One thread at one poller is enough, and costs less than several: with each of them the kernel
//! would wake one more for every piece of news, only to find that the one that is awake would have
//! taken it a moment later. When it has no rest any more, another poller is opened
//! ([`super::pollers`]). Who rests is woken for that, when a thread begins with something that
//! takes its time, and when several things wait. All decisions are made under the lock of the
//! pool's state. A thread that only polls may hear a call that was meant for the one that has the
//! watch: so it looks at everything that a call can be about before it rests.
//!
//! As long as there is any thread, each open poller is looked at: by a thread that has the watch
//! there, by those that have other work and poll in turn where nobody has, or at the latest after a
//! second by one that has the watch elsewhere.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::leaders::NEGLECT;
use super::load::LoadLevel;
use super::pool::{Inner, STACK, State};
use super::worker::Worker;
use crate::system::thread;

/// How long the thread that has the watch waits for something to do before it ends.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// How long a thread rests before it looks whether anybody has the watch at each poller.
const REST: Duration = NEGLECT;

/// How often a thread rests before it ends: sooner than the one that has the watch.
const RESTS: usize = 5;

/// How long a poller stays open at least: all sockets of a poller are looked at when it is closed,
/// and those with news move.
const STAY: Duration = Duration::from_secs(5);

/// What a thread is to do when it has run what it had.
pub(super) enum Step {
    /// Sound the alarms that are due, and look for news at this poller, without waiting.
    Alarm(Option<usize>),
    /// Look for news at this poller, without waiting: there is other work. At none if somebody
    /// waits at each.
    Poll(Option<usize>),
    /// Wait for news at this poller, for no longer than so.
    Watch(usize, Duration),
    /// Look for work: somebody has called.
    Again,
    /// Nothing any more.
    End,
}

impl Inner {
    /// What the calling thread of the pool is to do now, which has last looked at this poller.
    /// Rests here if there is nothing.
    pub(super) fn step(&self, before: usize) -> Step {
        let mut state = self.state.lock();
        if state.threads > state.limits.threads || state.is_over() {
            self.end(state);
            return Step::End;
        }
        let (now, open) = (Instant::now(), self.pollers.open());
        // before the work: there may always be some
        let is_due = state.clock.is_due(now);
        if is_due || !self.ready.is_empty() || self.could_start(&state) {
            let at = state.watches.next_free(before, open);
            at.into_iter().for_each(|at| state.watches.look(at, now));
            return if is_due { Step::Alarm(at) } else { Step::Poll(at) };
        }
        let Some(at) = state.watches.vacant(before, open, now) else {
            // a call for an alarm may have been heard by one that only polled
            self.call_for_alarm(&state);
            return self.rest(state);
        };
        // whoever has another one that is free now may hang
        let is_other_free = state.watches.next_free(at, open).is_some_and(|other| other != at);
        let most = now + if is_other_free { NEGLECT } else { IDLE_LIFE };
        let until = state.clock.next().map_or(most, |alarm| alarm.min(most));
        state.watches.begin(at, until, now);
        Step::Watch(at, until - now)
    }

    /// The thread that had the watch has something to do; or, after having waited `in_vain`, may
    /// have to end. Tells whether it does.
    pub(super) fn leave_watch(
        &self,
        at: usize,
        limit: Duration,
        in_vain: bool,
        now: Instant,
    ) -> bool {
        let mut state = self.state.lock();
        state.watches.look(at, now);
        let ends = in_vain
            && limit == IDLE_LIFE
            && state.taken == 0
            && self.ready.is_empty()
            && !self.could_start(&state);
        if ends {
            self.end(state);
        }
        ends
    }

    fn rest(&self, mut state: MutexGuard<'_, State>) -> Step {
        for _ in 0..RESTS {
            if !self.called.wait_for(&mut state, REST).timed_out()
                || state.watches.next_free(0, self.pollers.open()).is_some()
            {
                return Step::Again;
            }
        }
        if state.threads <= self.few(&state) && state.taken > 0 {
            return Step::Again;
        }
        self.end(state);
        Step::End
    }

    /// The calling thread ends. Another one may have to end, too, or to take the watch; and there
    /// is to be a thread for each poller.
    fn end(&self, mut state: MutexGuard<'_, State>) {
        state.threads -= 1;
        self.call(&state);
        self.called.notify_one();
        let has_too_many = self.pollers.open() > state.threads;
        drop(state);
        if has_too_many {
            self.pollers.shrink();
        }
    }

    /// Threads that are kept while there are sessions, if the limits allow: if one hangs, there is
    /// another. If all hang, sessions wait until one goes on.
    pub(super) fn few(&self, state: &State) -> usize {
        (self.pollers.open() + 1).min(state.limits.threads)
    }

    /// Has a thread at a poller look at queues and limits. Without one, those that run will look.
    pub(super) fn call(&self, state: &State) {
        if let Some(at) = state.watches.watched() {
            self.pollers.call(at);
        }
    }

    /// Has a thread at a poller wake in time for the next alarm.
    fn call_for_alarm(&self, state: &State) {
        if state.clock.next().is_some_and(|next| state.watches.are_beyond(next)) {
            self.call(state);
        }
    }

    /// There is more to do than one thread can: has another one look for work, one that rests or a
    /// new one. A shortage of threads is told of by the next session that comes.
    pub(super) fn help(self: &Arc<Self>) -> io::Result<()> {
        let state = self.state.lock();
        if self.called.notify_one() { Ok(()) } else { self.start(state) }
    }

    /// What a thread that was at this poller has had to do lately: if it was much, another poller
    /// is opened and another thread called for it; if it was little, the last poller is closed by
    /// the thread that was there.
    pub(super) fn suit(self: &Arc<Self>, at: usize, load: LoadLevel) {
        match load {
            LoadLevel::High if self.pollers.grow() => {
                if self.help().is_err() {
                    return self.pollers.shrink();
                }
                let mut state = self.state.lock();
                state.grown = Some(Instant::now());
                // and one to spare
                if state.threads < self.few(&state) {
                    let _ = self.start(state);
                }
            }
            LoadLevel::Low if at + 1 == self.pollers.open() => {
                let has_stayed = self.state.lock().grown.is_none_or(|grown| grown.elapsed() > STAY);
                if has_stayed {
                    self.pollers.shrink();
                }
            }
            _ => {}
        }
    }

    /// The calling thread begins with something that takes its time: another one must watch this
    /// poller meanwhile, if anybody else is there to be waited for.
    pub(super) fn relieve(&self, at: usize) {
        let state = self.state.lock();
        if state.taken > 1 && state.watches.is_free(at) {
            self.called.notify_one();
        }
    }

    /// Sets an alarm; whoever has the watch must not sleep beyond it.
    pub(super) fn set_alarm(&self, number: usize, when: Instant) {
        let mut state = self.state.lock();
        state.clock.set(number, when);
        self.call_for_alarm(&state);
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
        if state.watches.watched().is_some() || self.called.notify_one() {
            Ok(())
        } else {
            self.start(state)
        }
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
        thread::start(name, STACK, move || Worker::live(&pool))
            .map(drop)
            .inspect_err(|_| self.state.lock().threads -= 1)
    }
}
