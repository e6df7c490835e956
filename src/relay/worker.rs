//! The inside of a pool thread: take what can go on, run it, wait for news when there is nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollEvent;

use super::Direction;
use super::poller;
use super::pool::{Inner, Space};
use super::seat::{Next, Seat};
use super::seats::Seats;

/// How long a thread waits for work before it ends.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// News taken at once: a few, so that other threads have something left to do.
const BATCH: usize = 8;

/// Work taken at once before the poller is asked: what can always go on must not keep those that wait for news.
const ROUND: usize = 8;

/// How often a half goes on because of news that came meanwhile, before others have their turn.
const TURNS: usize = 4;

/// A thread of the pool.
pub struct Worker {
    pool: Arc<Inner>,
    space: Space,
}

/// How long to wait for news.
enum Pause {
    /// Not at all: there is work.
    None,
    /// Not at all: an alarm is due.
    Alarm,
    /// This thread sees to the next alarm.
    UntilAlarm(Instant),
    Idle,
    /// There are too many threads.
    End,
}

impl Worker {
    /// With a buffer of this size. Counted among the threads by the caller, if it is one of them.
    pub(super) fn new(pool: Arc<Inner>, buffer: usize) -> Worker {
        Worker { pool, space: Space::with_capacity(buffer) }
    }

    /// Runs until there is nothing to do for a while.
    pub(super) fn live(mut self) {
        loop {
            self.do_what_waits();
            let pause = self.pause();
            let limit = match pause {
                Pause::None => Duration::ZERO,
                Pause::Alarm => {
                    self.sound_alarms();
                    Duration::ZERO
                }
                Pause::UntilAlarm(when) => when.saturating_duration_since(Instant::now()).min(IDLE_LIFE),
                Pause::Idle => IDLE_LIFE,
                Pause::End => return,
            };
            let mut events = [EpollEvent::empty(); BATCH];
            let count = self.pool.poller.wait(&mut events, limit);
            // counted up with the decision, whatever has become of the limit since
            if matches!(pause, Pause::UntilAlarm(_) | Pause::Idle) {
                self.pool.idle.fetch_sub(1, SeqCst);
            }
            if let Pause::UntilAlarm(when) = pause {
                self.pool.state.lock().clock.is_awake(when);
            }
            if count == 0 && limit == IDLE_LIFE && self.ends() {
                return;
            }
            self.spread(events.get(..count).unwrap_or_default());
        }
    }

    /// Decides under the lock, where nothing can be queued meanwhile, whether there is work.
    fn pause(&self) -> Pause {
        let mut state = self.pool.state.lock();
        if state.threads > state.limits.threads || state.is_closed() && state.taken == 0 {
            state.threads -= 1;
            drop(state);
            // another one may have to end, too, or to see to the alarms
            self.pool.poller.call();
            return Pause::End;
        }
        // before the work: there may always be some
        if state.clock.is_due(Instant::now()) {
            return Pause::Alarm;
        }
        if !self.pool.ready.is_empty() || self.pool.could_start(&state) {
            return Pause::None;
        }
        self.pool.idle.fetch_add(1, SeqCst);
        state.clock.plan().map_or(Pause::Idle, Pause::UntilAlarm)
    }

    fn ends(&self) -> bool {
        let mut state = self.pool.state.lock();
        let ends = state.can_spare_one() && !self.pool.could_start(&state) && self.pool.ready.is_empty();
        state.threads -= usize::from(ends);
        ends
    }

    /// Starts sessions and goes on with halves that had to let others go first.
    fn do_what_waits(&mut self) {
        for _ in 0..ROUND {
            let (session, half) = (self.pool.take_place(), self.pool.ready.pop());
            if session.is_none() && half.is_none() {
                return;
            }
            if let Some(seat) = session {
                self.call_for_the_rest();
                self.run(&seat, Direction::ToServer);
            }
            if let Some((seat, half)) = half {
                self.run(&seat, half);
            }
        }
    }

    /// A call wakes one thread, though more than one session may have come.
    fn call_for_the_rest(&self) {
        if self.pool.idle.load(SeqCst) > 0 && self.pool.could_start(&self.pool.state.lock()) {
            self.pool.poller.call();
        }
    }

    fn sound_alarms(&mut self) {
        let now = Instant::now();
        for _ in 0..ROUND {
            let Some(number) = self.pool.state.lock().clock.due(now) else { return };
            let Some(seat) = self.pool.seats.find(number) else { continue };
            let after = seat.carried.look();
            self.pool.state.lock().clock.set(number, now + after);
            for half in seat.rouse_all().into_iter().flatten() {
                self.run(&seat, half);
            }
        }
    }

    /// Runs what the news concern.
    fn spread(&mut self, events: &[EpollEvent]) {
        for (mark, news) in events.iter().filter_map(poller::read) {
            let (number, side) = Seats::read_mark(mark);
            let Some(seat) = self.pool.seats.find(number) else { continue };
            for half in seat.notice(side, news).into_iter().flatten() {
                self.run(&seat, half);
            }
        }
    }

    /// Runs a half until it waits, is over, or has had its share: news that come while it runs make it go on, but not for ever. When
    /// one half is over, the other one may have been waiting for that.
    pub(super) fn run(&mut self, seat: &Arc<Seat>, mut half: Direction) {
        for _ in 0..TURNS {
            let gone_on = AssertUnwindSafe(|| seat.carried.go(half, seat, &mut self.space));
            // a panic ends the session, which has seen to that; the panic hook has logged it
            match catch_unwind(gone_on).unwrap_or(Next::Over) {
                Next::Wait(what) if !seat.wait(half, what) => continue,
                Next::Wait(_) => {}
                Next::Yield => self.put_off(seat, half),
                Next::Over if seat.finish(half) => return self.pool.seats.rise(seat),
                Next::Over if seat.rouse_half(half.other()) => {
                    half = half.other();
                    continue;
                }
                Next::Over => {}
            }
            if !seat.other_begins() {
                return;
            }
            half = Direction::ToClient;
        }
        self.put_off(seat, half);
    }

    fn put_off(&self, seat: &Arc<Seat>, half: Direction) {
        let is_alone = self.pool.ready.is_empty();
        self.pool.ready.push((seat.clone(), half));
        if !is_alone && self.pool.idle.load(SeqCst) > 0 {
            self.pool.poller.call();
        }
    }
}
