//! What happens when there are more clients than threads.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded, unbounded};
use tcpdirector::relay::Direction;
use tcpdirector::relay::pool::{AcceptWorker, Pool, PoolLimits, Space};
use tcpdirector::relay::task::{For, Job, Next, Task};

use crate::common::backend::Backend;
use crate::common::{DEADLINE, TestDaemon, ask, ends_by_reset, one_service, until};

#[test]
fn clients_beyond_the_pool_wait_their_turn_and_are_served() {
    let (holding, good) = (Backend::banner("hi"), Backend::named("good"));
    let xml = one_service("roundrobin", &[holding.address(), good.address()], "");
    let daemon = TestDaemon::with_limits(
        &xml,
        PoolLimits {
            threads: 2,
            pollers: 2,
            sessions: 1,
            queue: 1,
            pipes: 8,
            pipe_size: 1 << 20,
            held: 10_000_000,
        },
    );
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let address = daemon.address();
    let waiting: Vec<_> = (0..5).map(|_| std::thread::spawn(move || ask(address))).collect();
    // one is queued, one is in the hand of the accept thread, the others wait in the kernel
    until("the queue is full", || daemon.daemon.open_sessions() >= 3);
    assert!(daemon.daemon.pool_threads() <= 2);
    drop(holder);
    let mut served: Vec<String> =
        waiting.into_iter().map(|client| client.join().unwrap()).collect();
    served.sort();
    assert_eq!(served.iter().filter(|answer| *answer == "good").count(), 3, "{served:?}");
    daemon.settle();
}

#[test]
fn a_client_that_gave_up_in_the_queue_bothers_no_host() {
    let backend = Backend::banner("hi");
    let daemon = TestDaemon::with_limits(
        &one_service("random", &[backend.address()], ""),
        PoolLimits {
            threads: 2,
            pollers: 2,
            sessions: 1,
            queue: 4,
            pipes: 8,
            pipe_size: 1 << 20,
            held: 10_000_000,
        },
    );
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let impatient = daemon.connect();
    until("it is queued", || daemon.daemon.open_sessions() == 2);
    let queued = Instant::now();
    until("it has waited for more than a moment", || queued.elapsed() > Duration::from_millis(2));
    crate::common::reset(impatient);
    drop(holder);
    daemon.settle();
    assert_eq!(backend.accepted(), 1);
}

/// A session that does something with its thread, flow by flow.
struct Act<F>(F);

impl<F: Fn(Direction, &Arc<Task>) -> Next + Send + Sync> Job for Act<F> {
    fn run(&self, flow: Direction, task: &Arc<Task>, _: &mut Space) -> Next {
        (self.0)(flow, task)
    }

    fn on_timer(&self) -> Duration {
        DEADLINE
    }
}

fn pool(threads: usize, sessions: usize, queue: usize) -> Pool {
    Pool::new(PoolLimits {
        threads,
        pollers: 2,
        sessions,
        queue,
        pipes: 8,
        pipe_size: 1 << 20,
        held: 10_000_000,
    })
    .unwrap()
}

fn act(pool: &Pool, act: impl Fn(Direction, &Arc<Task>) -> Next + Send + Sync + 'static) {
    pool.submit(Box::new(Act(act)));
}

#[test]
fn threads_never_exceed_the_limit_and_every_flow_runs() {
    let pool = pool(8, 1000, 100);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, all_done) = unbounded();
    for _ in 0..200 {
        let (running, most, done) = (running.clone(), most.clone(), done.clone());
        act(&pool, move |flow, task| {
            if flow == Direction::ToServer {
                task.start_other();
            }
            most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::yield_now();
            running.fetch_sub(1, SeqCst);
            done.send(()).unwrap();
            Next::Over
        });
    }
    for _ in 0..400 {
        all_done.recv_timeout(DEADLINE).expect("every flow runs");
    }
    assert!(most.load(SeqCst) <= 8, "{} halves ran at once", most.load(SeqCst));
    assert!(pool.threads() <= 8, "{} threads", pool.threads());
    until("all places are free", || pool.tasks() == 0);
}

/// A session that waits until somebody has looked at the clock for it more than so many times,
/// which it wants every millisecond.
struct Looked(Arc<AtomicUsize>, usize);

impl Job for Looked {
    fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
        if self.0.load(SeqCst) > self.1 { Next::Over } else { Next::Wait(For::Anything) }
    }

    fn on_timer(&self) -> Duration {
        self.0.fetch_add(1, SeqCst);
        Duration::from_millis(1)
    }
}

#[test]
fn alarms_are_sounded_though_there_is_always_something_else_to_do() {
    let pool = pool(1, 1000, 100);
    let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stops = stop.clone();
    act(&pool, move |_, _| if stops.load(SeqCst) { Next::Over } else { Next::Yield });
    pool.submit(Box::new(Looked(looks.clone(), 3)));
    until("it was looked at", || looks.load(SeqCst) > 3);
    stop.store(true, SeqCst);
    until("all places are free", || pool.tasks() == 0);
}

/// A session whose end is a fault.
pub struct BadEnd;

impl Job for BadEnd {
    fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
        Next::Over
    }

    fn on_timer(&self) -> Duration {
        DEADLINE
    }
}

impl Drop for BadEnd {
    fn drop(&mut self) {
        panic!("this session ends badly, which is meant");
    }
}

#[test]
fn a_session_that_panics_at_its_end_takes_the_only_thread_from_nobody() {
    let pool = pool(1, 1000, 100);
    let looks = Arc::new(AtomicUsize::new(0));
    pool.submit(Box::new(Looked(looks.clone(), 500)));
    until("it waits", || looks.load(SeqCst) > 3);
    pool.submit(Box::new(BadEnd));
    until("it was looked at for long enough", || pool.tasks() == 0);
}

#[test]
fn a_pool_that_has_slept_after_many_alarms_wakes_again() {
    let pool = pool(2, 1000, 1000);
    for _ in 0..300 {
        pool.submit(Box::new(Looked(Arc::default(), 3)));
    }
    until("all places are free", || pool.tasks() == 0);
    until("all threads have ended", || pool.threads() == 0);
    let (send, receive) = bounded(1);
    act(&pool, move |_, _| {
        let _ = send.try_send(());
        Next::Over
    });
    receive.recv_timeout(DEADLINE).expect("a thread is started for it");
}

#[test]
fn a_flow_that_yields_for_ever_keeps_nobody_from_running() {
    let pool = pool(1, 1000, 100);
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..20 {
        let stop = stop.clone();
        act(&pool, move |_, _| if stop.load(SeqCst) { Next::Over } else { Next::Yield });
    }
    let (send, receive) = bounded(1);
    act(&pool, move |_, _| {
        send.send(()).unwrap();
        Next::Over
    });
    receive.recv_timeout(DEADLINE).expect("the last one has its turn");
    stop.store(true, SeqCst);
    until("all places are free", || pool.tasks() == 0);
}

#[test]
fn a_panic_in_a_session_ends_that_session_only() {
    std::panic::set_hook(Box::new(|_| {}));
    let pool = pool(2, 2, 10);
    for _ in 0..5 {
        act(&pool, |_, _| panic!("on purpose"));
        act(&pool, |flow, task| match flow {
            Direction::ToServer => {
                task.start_other();
                Next::Over
            }
            Direction::ToClient => panic!("on purpose"),
        });
    }
    let (send, receive) = bounded(1);
    act(&pool, move |_, _| {
        send.send(()).unwrap();
        Next::Over
    });
    receive.recv_timeout(DEADLINE).expect("the pool still works, both places of it");
    let _ = std::panic::take_hook();
}

/// Occupies a place until the answer is sent; tells when it has it.
fn occupy(pool: &Pool) -> Sender<()> {
    let (release, held) = bounded::<()>(0);
    let (running, is_running) = bounded(1);
    act(pool, move |_, _| {
        running.send(()).unwrap();
        let _ = held.recv_timeout(DEADLINE);
        Next::Over
    });
    is_running.recv_timeout(DEADLINE).unwrap();
    release
}

#[test]
fn two_threads_are_enough_for_sessions_that_come_one_after_the_other() {
    let pool = pool(8, 1000, 100);
    let mut worker = pool.accept_worker();
    for _ in 0..200 {
        let (send, receive) = bounded(1);
        let session = Act(move |_: Direction, _: &Arc<Task>| {
            send.send(()).unwrap();
            Next::Over
        });
        pool.run_or_submit(Box::new(session), &mut worker);
        receive.recv_timeout(DEADLINE).unwrap();
    }
    assert!(pool.threads() <= 2, "{} threads", pool.threads());
}

/// A session that wants to be looked at all the time.
struct Restless(Arc<AtomicBool>);

impl Job for Restless {
    fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
        if self.0.load(SeqCst) { Next::Over } else { Next::Wait(For::Anything) }
    }

    fn on_timer(&self) -> Duration {
        Duration::ZERO
    }
}

/// A pool with one thread that has run a session; more come only if they are wanted.
fn pool_with_one_thread(threads: usize) -> (Pool, AcceptWorker) {
    let pool = pool(threads, 1000, 1000);
    drop(occupy(&pool));
    until("the first session has left", || pool.tasks() == 0);
    assert_eq!(pool.threads(), 1);
    let worker = pool.accept_worker();
    (pool, worker)
}

#[test]
fn more_threads_come_while_those_that_are_there_have_no_pause() {
    let (pool, mut worker) = pool_with_one_thread(3);
    let is_over = Arc::new(AtomicBool::new(false));
    for _ in 0..50 {
        pool.run_or_submit(Box::new(Restless(is_over.clone())), &mut worker);
    }
    until("all are there", || pool.threads() == 3);
    is_over.store(true, SeqCst);
    until("all places are free", || pool.tasks() == 0);
}

#[test]
fn a_thread_that_hangs_holds_nobody_up_for_long() {
    let (pool, mut worker) = pool_with_one_thread(2);
    let looks = Arc::new(AtomicUsize::new(0));
    pool.run_or_submit(Box::new(Looked(looks.clone(), 10_000_000)), &mut worker);
    until("another thread has come, and rests by now", || {
        pool.threads() == 2 && looks.load(SeqCst) > 100
    });
    let release = occupy(&pool);
    let (began, before) = (Instant::now(), looks.load(SeqCst));
    until("the other one goes on", || looks.load(SeqCst) > before + 3);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "nobody took the watch for {:?}",
        began.elapsed()
    );
    drop(release);
    looks.store(10_000_000, SeqCst);
    until("all places are free", || pool.tasks() == 0);
}

#[test]
fn a_closed_pool_drops_what_waits() {
    let pool = pool(2, 1, 2);
    let release = occupy(&pool);
    let (send, receive) = bounded::<()>(1);
    act(&pool, move |_, _| {
        let _ = &send;
        Next::Over
    });
    assert_eq!(pool.waiting(), 1);
    pool.close();
    assert!(
        receive.recv_timeout(DEADLINE).is_err_and(|e| e.is_disconnected()),
        "the session still waits"
    );
    drop(release);
    until("the threads have ended", || pool.threads() == 0);
}

#[test]
fn limits_that_grow_let_in_who_waits_and_limits_that_shrink_end_threads() {
    let pool = pool(1, 1, 1);
    let first = occupy(&pool);
    let (send, receive) = bounded(2);
    let other = send.clone();
    act(&pool, move |_, _| {
        send.send(1).unwrap();
        Next::Over
    });
    // this one waits for room in the queue
    let waiting = std::thread::spawn({
        let pool = pool.clone();
        move || {
            act(&pool, move |_, _| {
                other.send(2).unwrap();
                Next::Over
            })
        }
    });
    assert_eq!(pool.waiting(), 1);
    pool.set_limits(PoolLimits {
        threads: 3,
        pollers: 2,
        sessions: 3,
        queue: 3,
        pipes: 8,
        pipe_size: 1 << 20,
        held: 10_000_000,
    });
    let mut came =
        [receive.recv_timeout(DEADLINE).unwrap(), receive.recv_timeout(DEADLINE).unwrap()];
    came.sort();
    assert_eq!(came, [1, 2]);
    waiting.join().unwrap();
    assert!(pool.threads() >= 2);
    drop(first);
    pool.set_limits(PoolLimits {
        threads: 1,
        pollers: 2,
        sessions: 1,
        queue: 1,
        pipes: 8,
        pipe_size: 1 << 20,
        held: 10_000_000,
    });
    let last = occupy(&pool);
    until("one thread is left", || pool.threads() == 1);
    drop(last);
}

#[test]
fn a_stop_closes_the_clients_that_wait() {
    let backend = Backend::banner("hi");
    let daemon = TestDaemon::with_limits(
        &one_service("random", &[backend.address()], ""),
        PoolLimits {
            threads: 2,
            pollers: 2,
            sessions: 1,
            queue: 4,
            pipes: 8,
            pipe_size: 1 << 20,
            held: 10_000_000,
        },
    );
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let waiting = daemon.connect();
    until("it is queued", || daemon.daemon.open_sessions() == 2);
    daemon.daemon.close();
    daemon.daemon.cut();
    assert!(ends_by_reset(&waiting));
    daemon.settle();
}
