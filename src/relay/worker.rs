//! What a thread of the pool does, and an accept thread with a session's first steps: take what can
//! go on, run it, wait for events when there is nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollEvent;

use super::direction::{Direction, Side};
use super::executor::Executor;
use super::limits::{BUFFER, Space};
use super::load::Utilization;
use super::poller::{self, PollEvent, Readiness, Token};
use super::shared::Shared;
use super::step::Step;
use super::task::{Next, Task};

/// Events taken at once: as much as clients that take turns leave behind, so that one call
/// serves them all. Bulk among them costs the others no more than its turn.
const BATCH: usize = 64;

/// The same for a poller that was closed: sockets leave it as they have events.
const FEW: usize = 8;

/// Timers run at once before the poller is asked.
const TIMERS: usize = 8;

/// How often a flow goes on because of events that came meanwhile, before others have their turn.
const ROUNDS: usize = 4;

/// What a thread needs to run sessions.
pub struct Worker {
    pool: Arc<Shared>,
    space: Space,
}

impl Worker {
    /// With a buffer of this size.
    pub(super) fn new(pool: Arc<Shared>, buffer: usize) -> Worker {
        Worker { pool, space: Space::with_capacity(buffer) }
    }

    /// The life of a thread of the pool, until it has nothing to do for a while. A panic outside a
    /// session's run, of one that is dropped for instance, costs the thread no more than its
    /// buffer: the sessions that wait must not lose who waits for them.
    pub(super) fn thread_main(pool: &Arc<Shared>) {
        while catch_unwind(AssertUnwindSafe(|| Worker::new(pool.clone(), BUFFER).work())).is_err() {
        }
    }

    fn work(&mut self) {
        let (mut at, mut utilization) = (0, Utilization::new(Instant::now()));
        loop {
            self.run_next();
            let (poller, limit) = match self.pool.step(at) {
                Step::Timers(poller) => {
                    self.run_timers();
                    (poller, Duration::ZERO)
                }
                Step::Poll(poller) => (poller, Duration::ZERO),
                Step::Lead(poller, limit) => (Some(poller), limit),
                Step::Again => {
                    utilization = Utilization::new(Instant::now());
                    continue;
                }
                Step::End => return,
            };
            let mut events = [EpollEvent::empty(); BATCH];
            let began = Instant::now();
            let count =
                poller.map_or(0, |poller| self.pool.pollers.wait(poller, &mut events, limit));
            let now = Instant::now();
            at = poller.unwrap_or(at);
            let has_led = limit > Duration::ZERO;
            if has_led && self.pool.stop_leading(at, limit, count == 0, now) {
                return;
            }
            let waited = if has_led { now - began } else { Duration::ZERO };
            if let Some(load) = utilization.note(waited, now, self.pool.pollers.open() as u32) {
                self.pool.scale(at, load);
            }
            self.dispatch(events.get(..count).unwrap_or_default());
        }
    }

    /// Starts one session, and goes on with one flow that had to let others go first. No more
    /// before the poller is asked: what can always go on must not keep those that wait for events.
    fn run_next(&mut self) {
        if let Some(task) = self.pool.admit_next() {
            self.wake_for_others();
            self.run(&task, Direction::ToServer);
        }
        if let Some((number, flow)) = self.pool.next_ready() {
            // it is there as long as a flow of it is not over
            self.pool.tasks.find(number).into_iter().for_each(|task| self.run(&task, flow));
        }
    }

    /// A wake-up is for one thread, though more than one session may have come.
    fn wake_for_others(&self) {
        let has_more = self.pool.could_start(&self.pool.state.lock());
        if has_more {
            let _ = self.pool.wake_another();
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        for _ in 0..TIMERS {
            let Some(number) = self.pool.state.lock().timers.due(now) else { return };
            let Some(task) = self.pool.tasks.find(number) else { continue };
            let after = task.job.on_timer();
            self.pool.set_timer(number, now + after);
            for flow in task.wake_flows().into_iter().flatten() {
                self.run(&task, flow);
            }
        }
    }

    /// Runs what the events concern.
    fn dispatch(&mut self, events: &[EpollEvent]) {
        for event in events {
            match poller::read(event) {
                PollEvent::Wake => {}
                PollEvent::Poller(other) => self.poll_closed(other),
                PollEvent::Socket(Token { number, side }, readiness) => {
                    let Some(task) = self.pool.tasks.find(number) else { continue };
                    // those of the others must not be lost with a session that panics at its end
                    let _ = catch_unwind(AssertUnwindSafe(|| self.on_event(task, side, readiness)));
                }
            }
        }
    }

    /// Runs what has come to a poller that was closed; what is left then is told of again.
    fn poll_closed(&mut self, other: usize) {
        let mut events = [EpollEvent::empty(); FEW];
        let count = self.pool.pollers.wait(other, &mut events, Duration::ZERO);
        self.dispatch(events.get(..count).unwrap_or_default());
    }

    fn on_event(&mut self, task: Arc<Task>, side: Side, readiness: Readiness) {
        for flow in task.on_event(side, readiness).into_iter().flatten() {
            self.run(&task, flow);
        }
    }

    /// Runs a flow until it waits, is over, or has had its share: events that come while it runs
    /// make it go on, but not for ever. When one flow is over, the other one may have been waiting
    /// for that.
    pub(super) fn run(&mut self, task: &Arc<Task>, mut flow: Direction) {
        for _ in 0..ROUNDS {
            let gone_on = AssertUnwindSafe(|| task.job.run(flow, task, &mut self.space));
            // a panic ends the session, which has seen to that; the panic hook has logged it
            match catch_unwind(gone_on).unwrap_or(Next::Over) {
                Next::Wait(what) if !task.state(flow).wait(what) => continue,
                Next::Wait(_) => {}
                Next::Yield => self.run_later(task, flow),
                Next::Over if task.finish(flow) => return self.pool.tasks.finish(task),
                Next::Over if task.wake_flow(flow.other()) => {
                    flow = flow.other();
                    continue;
                }
                Next::Over => {}
            }
            if !task.take_other_first_turn() {
                return;
            }
            flow = Direction::ToClient;
        }
        self.run_later(task, flow);
    }

    fn run_later(&self, task: &Arc<Task>, flow: Direction) {
        let is_alone = self.pool.ready.is_empty();
        self.pool.ready.push((task.number(), flow));
        if !is_alone {
            let _ = self.pool.wake_another();
        }
    }
}
