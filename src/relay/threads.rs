//! The threads of a pool: when one is woken, and when one is started. They are leaders and
//! followers: one at most, the leader, waits at each open poller, the others run sessions, or rest
//! ([`super::step`] decides).
//!
//! One thread at one poller is enough, and costs less than several: with each of them the kernel
//! would wake one more for every event, only to find that the one that is awake would have taken it
//! a moment later. When the leader is busy all the time, another poller is opened
//! ([`super::pollers`]). A follower is woken for that, when a thread begins with something that
//! takes its time, and when several things wait.
//!
//! As long as there is any thread, each open poller is looked at: by its leader, by those that have
//! other work and poll in turn where there is none, or at the latest after a second by the leader
//! of another one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::direction::Direction;
use super::executor::Executor;
use super::limits::STACK;
use super::load::LoadLevel;
use super::pipe::Pipes;
use super::pollers::Pollers;
use super::quota::Quota;
use super::shared::{Shared, State};
use crate::system::thread;

/// How long a poller stays open at least: all sockets of a poller are looked at when it is closed,
/// and those with events move.
const STAY: Duration = Duration::from_secs(5);

impl Shared {
    /// There is more to do than one thread can: has another one look for work, one that rests or a
    /// new one. A shortage of threads is reported for the next session that comes.
    pub(super) fn wake_another(self: &Arc<Self>) -> io::Result<()> {
        let state = self.state.lock();
        if self.followers.notify_one() { Ok(()) } else { self.start(state) }
    }

    /// What a thread that was at this poller has had to do lately: if it was much, another poller
    /// is opened and another thread woken for it; if it was little, the last poller is closed by
    /// the thread that was there.
    pub(super) fn scale(self: &Arc<Self>, at: usize, load: LoadLevel) {
        match load {
            LoadLevel::High if self.pollers.grow() => {
                if self.wake_another().is_err() {
                    return self.pollers.shrink();
                }
                let mut state = self.state.lock();
                state.grown = Some(Instant::now());
                // and one to spare
                if state.threads < self.least_threads(&state) {
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

    /// Sees to it that a session that waits is looked at.
    pub(super) fn wake_or_start(self: &Arc<Self>) -> io::Result<()> {
        let state = self.state.lock();
        // a full pool that has no thread may owe that to one that could not be started
        if !self.could_start(&state) && (state.threads > 0 || state.tasks == 0) {
            return Ok(());
        }
        self.wake_leader(&state);
        // otherwise all who do not rest are busy
        if state.leaders.led().is_some() || self.followers.notify_one() {
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
        thread::start(name, STACK, move || (pool.thread_main)(&pool))
            .map(drop)
            .inspect_err(|_| self.state.lock().threads -= 1)
    }
}

impl Executor for Shared {
    fn pollers(&self) -> &Pollers {
        &self.pollers
    }

    fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    fn pipes(&self) -> &Arc<Pipes> {
        &self.pipes
    }

    fn set_timer(&self, number: usize, when: Instant) {
        let mut state = self.state.lock();
        state.timers.set(number, when);
        self.wake_for_timer(&state);
    }

    fn run_soon(self: Arc<Self>, number: usize, flow: Direction) {
        self.ready.push((number, flow));
        let state = self.state.lock();
        self.wake_leader(&state);
        drop(state);
        let _ = self.wake_another();
    }

    fn promote_follower(&self, poller: usize) {
        let state = self.state.lock();
        if state.tasks > 1 && state.leaders.is_free(poller) {
            self.followers.notify_one();
        }
    }

    fn free(self: Arc<Self>, number: usize) {
        self.tasks.free(number);
        let mut state = self.state.lock();
        state.tasks -= 1;
        if state.is_over() {
            self.wake_leader(&state);
            self.followers.notify_one();
        } else if self.could_start(&state) {
            drop(state);
            // a shortage of threads is reported for the next session that comes
            let _ = self.wake_or_start();
        }
    }
}
