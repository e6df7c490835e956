//! The pool: whatever its threads do meanwhile, no session and no flow is left lying, and none is
//! run twice at once. Whoever waits here waits for ever, so that the checker calls it a deadlock.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use model::relay::Direction;
use model::relay::pool::{Pool, PoolLimits, Space};
use model::relay::task::{For, Job, Next, Task};
use model::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

fn pool(threads: usize, sessions: usize, queue: usize) -> Pool {
    Pool::new(limits(threads, sessions, queue)).unwrap()
}

fn limits(threads: usize, sessions: usize, queue: usize) -> PoolLimits {
    PoolLimits { threads, pollers: 1, sessions, queue, pipes: 0, pipe_size: 0, held: 0 }
}

/// Runs this with at most so many switches of threads that none of them asked for.
fn check(preemptions: usize, act: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 10_000;
    model.check(act);
}

/// What sessions have done, and who waits for that.
#[derive(Default)]
struct Done(Mutex<usize>, Condvar);

impl Done {
    fn note(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let mut done = self.0.lock().unwrap();
        while *done < count {
            done = self.1.wait(done).unwrap();
        }
    }
}

/// A session that does this in its turns; dropping it is noted.
struct Act<F> {
    turn: F,
    /// Of each flow: how many turns it has had, and whether a thread is at it.
    flows: [(AtomicUsize, AtomicBool); 2],
    gone: Arc<Done>,
}

fn act(
    gone: &Arc<Done>,
    turn: impl Fn(Direction, usize, &Arc<Task>) -> Next + Send + Sync + 'static,
) -> Box<dyn Job> {
    let flows = [(); 2].map(|()| (AtomicUsize::new(0), AtomicBool::new(false)));
    Box::new(Act { turn, flows, gone: gone.clone() })
}

impl<F: Fn(Direction, usize, &Arc<Task>) -> Next + Send + Sync> Job for Act<F> {
    fn run(&self, flow: Direction, task: &Arc<Task>, _: &mut Space) -> Next {
        let (turns, is_run) = &self.flows[usize::from(flow == Direction::ToClient)];
        assert!(!is_run.swap(true, SeqCst), "two threads run one flow");
        let next = (self.turn)(flow, turns.fetch_add(1, SeqCst), task);
        is_run.store(false, SeqCst);
        next
    }

    fn on_timer(&self) -> Duration {
        Duration::from_secs(600)
    }
}

impl<F> Drop for Act<F> {
    fn drop(&mut self) {
        self.gone.note();
    }
}

/// A session that shows its task, parks, and is over when it is woken after it was told so.
#[derive(Clone)]
struct Parked {
    task: Arc<Mutex<Option<Arc<Task>>>>,
    is_shown: Arc<Done>,
    is_told: Arc<AtomicBool>,
}

impl Parked {
    fn new() -> Parked {
        Parked {
            task: Arc::new(Mutex::new(None)),
            is_shown: Arc::default(),
            is_told: Arc::new(AtomicBool::new(false)),
        }
    }

    fn session(&self, gone: &Arc<Done>) -> Box<dyn Job> {
        let me = self.clone();
        act(gone, move |_, turn, task| {
            if turn == 0 {
                *me.task.lock().unwrap() = Some(task.clone());
                me.is_shown.note();
            }
            if me.is_told.load(SeqCst) { Next::Over } else { Next::Wait(For::Anything) }
        })
    }

    fn wake(&self) {
        self.is_shown.wait_for(1);
        let task = self.task.lock().unwrap().take().unwrap();
        self.is_told.store(true, SeqCst);
        task.wake();
    }
}

#[test]
fn sessions_that_come_while_threads_lead_hand_over_and_rest_are_all_run() {
    check(2, || {
        let (pool, gone) = (pool(2, 9, 9), Arc::new(Done::default()));
        for _ in 0..2 {
            pool.submit(act(&gone, |_, _, _| Next::Over));
        }
        gone.wait_for(2);
        pool.close();
    });
}

#[test]
fn a_flow_that_is_woken_while_a_session_comes_goes_on() {
    check(2, || {
        let (pool, gone) = (pool(2, 9, 9), Arc::new(Done::default()));
        let parked = Parked::new();
        pool.submit(parked.session(&gone));
        let (other, also_gone) = (pool.clone(), gone.clone());
        let submits = thread::spawn(move || other.submit(act(&also_gone, |_, _, _| Next::Over)));
        parked.wake();
        submits.join().unwrap();
        gone.wait_for(2);
        pool.close();
    });
}

#[test]
fn a_session_that_waits_for_a_place_has_it_whoever_drops_the_one_before_it() {
    check(3, || {
        let (pool, gone) = (pool(1, 1, 9), Arc::new(Done::default()));
        let parked = Parked::new();
        pool.submit(parked.session(&gone));
        pool.submit(act(&gone, |_, _, _| Next::Over));
        // the pool may be through with it before this thread lets go of it
        parked.wake();
        gone.wait_for(2);
        pool.close();
    });
}

#[test]
fn a_pool_that_is_closed_ends_whoever_drops_its_last_session() {
    check(3, || {
        let (pool, gone) = (pool(1, 9, 9), Arc::new(Done::default()));
        let parked = Parked::new();
        pool.submit(parked.session(&gone));
        parked.is_shown.wait_for(1);
        pool.close();
        parked.wake();
    });
}

#[test]
fn what_an_accept_thread_leaves_for_later_is_run_by_a_thread_of_the_pool() {
    check(2, || {
        let (pool, gone) = (pool(2, 9, 9), Arc::new(Done::default()));
        pool.submit(act(&gone, |_, _, _| Next::Over));
        pool.run_or_submit(
            act(&gone, |_, turn, _| if turn < 2 { Next::Yield } else { Next::Over }),
            &mut pool.accept_worker(),
        );
        gone.wait_for(2);
        pool.close();
    });
}

#[test]
fn both_flows_of_a_session_are_run_to_their_ends() {
    check(2, || {
        let (pool, gone) = (pool(2, 9, 9), Arc::new(Done::default()));
        pool.submit(act(&gone, |flow, turn, task| {
            if flow == Direction::ToServer && turn == 0 {
                task.start_other();
            }
            if turn == 0 { Next::Yield } else { Next::Over }
        }));
        gone.wait_for(1);
        pool.close();
    });
}

#[test]
fn sessions_that_wait_for_room_in_the_queue_come_in_while_the_limits_change() {
    check(2, || {
        let (pool, gone) = (pool(1, 1, 1), Arc::new(Done::default()));
        let (other, also_gone) = (pool.clone(), gone.clone());
        let submits = thread::spawn(move || {
            (0..3).for_each(|_| other.submit(act(&also_gone, |_, _, _| Next::Over)))
        });
        pool.set_limits(limits(1, 1, 2));
        submits.join().unwrap();
        gone.wait_for(3);
        pool.close();
    });
}

#[test]
fn sessions_that_come_while_the_pool_is_closed_are_run_or_dropped() {
    check(2, || {
        let (pool, gone) = (pool(1, 1, 1), Arc::new(Done::default()));
        let (other, also_gone) = (pool.clone(), gone.clone());
        let submits = thread::spawn(move || {
            (0..3).for_each(|_| other.submit(act(&also_gone, |_, _, _| Next::Over)))
        });
        pool.close();
        submits.join().unwrap();
        gone.wait_for(3);
    });
}

#[test]
fn no_session_is_lost_with_a_thread_that_is_one_too_many() {
    check(2, || {
        let (pool, gone) = (pool(2, 9, 9), Arc::new(Done::default()));
        (0..2).for_each(|_| pool.submit(act(&gone, |_, _, _| Next::Over)));
        pool.set_limits(limits(1, 9, 9));
        pool.submit(act(&gone, |_, _, _| Next::Over));
        gone.wait_for(3);
        pool.close();
    });
}
