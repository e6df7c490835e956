//! What a thread of the pool does next: lead at a poller, look at one in passing, rest, or end.
//!
//! All decisions are made under the lock of the pool's state. A thread that only polls may hear a
//! wake-up that was meant for the leader: so it looks at everything that one can be about before
//! it rests.

use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::leaders::NEGLECT;
use super::shared::{Shared, State};

/// How long a leader waits for something to do before it ends.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// How long a follower rests before it looks whether each poller has a leader.
const REST: Duration = NEGLECT;

/// How often a follower rests before it ends: sooner than a leader.
const RESTS: usize = 5;

/// What a thread is to do when it has run what it had.
pub(super) enum Step {
    /// Run the timers that are due, and look for events at this poller, without waiting.
    Timers(Option<usize>),
    /// Look for events at this poller, without waiting: there is other work. At none if each has
    /// its leader.
    Poll(Option<usize>),
    /// Wait for events at this poller, as its leader, for no longer than so.
    Lead(usize, Duration),
    /// Look for work: somebody has woken the thread.
    Again,
    /// Nothing any more.
    End,
}

impl Shared {
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
        let is_due = state.timers.is_due(now);
        if is_due || !self.ready.is_empty() || self.could_start(&state) {
            let at = state.leaders.next_free(before, open);
            at.into_iter().for_each(|at| state.leaders.look(at, now));
            return if is_due { Step::Timers(at) } else { Step::Poll(at) };
        }
        let Some(at) = state.leaders.vacant(before, open, now) else {
            // a wake-up for a timer may have been heard by one that only polled
            self.wake_for_timer(&state);
            return self.rest(state);
        };
        // whoever has another one that is free now may hang
        let is_other_free = state.leaders.next_free(at, open).is_some_and(|other| other != at);
        let most = now + if is_other_free { NEGLECT } else { IDLE_LIFE };
        let until = state.timers.next().map_or(most, |timer| timer.min(most));
        state.leaders.begin(at, until, now);
        Step::Lead(at, until - now)
    }

    /// The leader has something to do; or, after having waited `in_vain`, may have to end. Returns
    /// whether it does.
    pub(super) fn stop_leading(
        &self,
        at: usize,
        limit: Duration,
        in_vain: bool,
        now: Instant,
    ) -> bool {
        let mut state = self.state.lock();
        state.leaders.look(at, now);
        let ends = in_vain
            && limit == IDLE_LIFE
            && state.tasks == 0
            && self.ready.is_empty()
            && !self.could_start(&state);
        if ends {
            self.end(state);
        }
        ends
    }

    fn rest(&self, mut state: MutexGuard<'_, State>) -> Step {
        for _ in 0..RESTS {
            if !self.followers.wait_for(&mut state, REST).timed_out()
                || state.leaders.next_free(0, self.pollers.open()).is_some()
            {
                return Step::Again;
            }
        }
        if state.threads <= self.least_threads(&state) && state.tasks > 0 {
            return Step::Again;
        }
        self.end(state);
        Step::End
    }

    /// The calling thread ends. Another one may have to end, too, or to lead; and there is to be a
    /// thread for each poller.
    fn end(&self, mut state: MutexGuard<'_, State>) {
        state.threads -= 1;
        self.wake_leader(&state);
        self.followers.notify_one();
        let has_too_many = self.pollers.open() > state.threads;
        drop(state);
        if has_too_many {
            self.pollers.shrink();
        }
    }
}
