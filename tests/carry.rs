//! What an accept thread does for a session itself, and what it leaves to the threads of the pool.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use tcpdirector::relay::pool::{AcceptWorker, Pool, PoolLimits, Space};
use tcpdirector::relay::task::{For, Job, Next, Task};
use tcpdirector::relay::{Direction, Meter, Relay, Timeouts};

use crate::common::{DEADLINE, accept, until};
use crate::pool::BadEnd;

/// A thread that sleeps would look for work by itself only after ten seconds: what comes sooner has
/// woken it.
const SOON: Duration = Duration::from_secs(5);

/// A session that does this in each of its turns, and wants to be looked at after so long.
struct Turns<F> {
    turn: F,
    look: Duration,
    looks: Arc<AtomicUsize>,
}

impl<F: Fn(usize) -> Next + Send + Sync> Job for Turns<F> {
    fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
        (self.turn)(self.looks.load(SeqCst))
    }

    fn on_timer(&self) -> Duration {
        self.looks.fetch_add(1, SeqCst);
        self.look
    }
}

/// A session that does this in each of its turns.
fn turns(turn: impl Fn(usize) -> Next + Send + Sync + 'static) -> Box<dyn Job> {
    Box::new(Turns { turn, look: DEADLINE, looks: Arc::default() })
}

/// A session that tells which threads it had its turns on; it is over after so many.
fn telling(turns_left: usize, then: Next) -> (Box<dyn Job>, Receiver<ThreadId>) {
    let (send, receive) = bounded(turns_left);
    let left = AtomicUsize::new(turns_left);
    let session = turns(move |_| {
        send.send(thread::current().id()).unwrap();
        if left.fetch_sub(1, SeqCst) == 1 { Next::Over } else { then }
    });
    (session, receive)
}

/// A pool whose one thread has slept once, and may carry one session.
fn pool() -> (Pool, AcceptWorker) {
    let pool = Pool::new(PoolLimits {
        threads: 1,
        pollers: 2,
        sessions: 1,
        queue: 9,
        pipes: 0,
        pipe_size: 1 << 16,
        held: 1 << 20,
    })
    .unwrap();
    let (first, came) = telling(1, Next::Over);
    pool.submit(first);
    came.recv_timeout(DEADLINE).unwrap();
    until("the first session has left", || pool.tasks() == 0);
    let worker = pool.accept_worker();
    (pool, worker)
}

#[test]
fn a_session_that_can_have_a_place_begins_on_the_thread_that_brings_it() {
    let (pool, mut worker) = pool();
    let (session, came) = telling(1, Next::Over);
    pool.run_or_submit(session, &mut worker);
    assert_eq!(came.try_recv(), Ok(thread::current().id()));
    assert_eq!(pool.tasks(), 0);
}

#[test]
fn without_a_thread_to_go_on_with_it_a_session_is_left_to_a_new_one() {
    let pool = Pool::new(PoolLimits {
        threads: 1,
        pollers: 2,
        sessions: 1,
        queue: 9,
        pipes: 0,
        pipe_size: 1 << 16,
        held: 1 << 20,
    })
    .unwrap();
    let (session, came) = telling(1, Next::Over);
    pool.run_or_submit(session, &mut pool.accept_worker());
    assert_ne!(came.recv_timeout(DEADLINE).unwrap(), thread::current().id());
}

#[test]
fn a_session_that_yields_goes_on_in_the_pool() {
    let (pool, mut worker) = pool();
    let (session, came) = telling(2, Next::Yield);
    let began = Instant::now();
    pool.run_or_submit(session, &mut worker);
    assert_eq!(came.recv_timeout(DEADLINE).unwrap(), thread::current().id());
    assert_ne!(came.recv_timeout(DEADLINE).unwrap(), thread::current().id());
    assert!(began.elapsed() < SOON, "nobody was woken for it");
}

/// A relay that tells after each turn on which thread it was, and how much it has moved.
struct Telling {
    relay: Relay,
    tell: Sender<(ThreadId, u64)>,
}

impl Job for Telling {
    fn run(&self, flow: Direction, task: &Arc<Task>, space: &mut Space) -> Next {
        let next = self.relay.run(flow, task, space);
        self.tell.send((thread::current().id(), self.relay.moved().to_server())).unwrap();
        next
    }

    fn on_timer(&self) -> Duration {
        self.relay.check_timeouts()
    }
}

/// The accept thread would keep other clients waiting; and its buffer is small.
#[test]
fn what_a_client_says_beyond_a_first_message_is_left_to_the_pool() {
    const SIZE: usize = 60_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect =
        || (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), accept(&listener));
    let ((mut client, near_client), (near_server, _server)) = (connect(), connect());
    client.write_all(&[7; SIZE]).unwrap();
    until("all of it is there", || near_client.peek(&mut [0; SIZE]).unwrap() == SIZE);
    let (pool, mut worker) = pool();
    let (tell, turns) = bounded(100);
    let relay =
        Relay::new(near_client, near_server, Timeouts::idle(DEADLINE), Arc::new(Meter::default()));
    pool.run_or_submit(Box::new(Telling { relay, tell }), &mut worker);
    let (first, moved) = turns.recv_timeout(DEADLINE).unwrap();
    assert!(
        first == thread::current().id() && (1000..SIZE as u64 / 2).contains(&moved),
        "{moved} bytes were moved"
    );
    let mut moved = moved;
    while moved < SIZE as u64 {
        let (then, so_far) =
            turns.recv_timeout(DEADLINE).expect("the pool goes on until all is moved");
        assert_ne!(then, thread::current().id());
        moved = so_far;
    }
}

#[test]
fn a_session_that_ends_at_once_leaves_its_place_to_one_that_waits() {
    let (pool, mut worker) = pool();
    let (waiting, came) = telling(1, Next::Over);
    let (first, began) = (std::sync::Mutex::new(Some(waiting)), Instant::now());
    let other = pool.clone();
    let session = turns(move |_| {
        // comes while the one place is taken
        first.lock().unwrap().take().into_iter().for_each(|session| other.submit(session));
        Next::Over
    });
    pool.run_or_submit(session, &mut worker);
    assert_ne!(came.recv_timeout(DEADLINE).unwrap(), thread::current().id());
    assert!(began.elapsed() < SOON, "nobody was woken for it");
}

#[test]
fn a_session_is_looked_at_in_time_though_all_threads_slept_when_it_came() {
    let (pool, mut worker) = pool();
    let looks = Arc::new(AtomicUsize::new(0));
    let turn = |looks| if looks > 3 { Next::Over } else { Next::Wait(For::Anything) };
    let began = Instant::now();
    pool.run_or_submit(
        Box::new(Turns { turn, look: Duration::from_millis(10), looks: looks.clone() }),
        &mut worker,
    );
    until("it was looked at", || looks.load(SeqCst) > 3 && pool.tasks() == 0);
    assert!(began.elapsed() < SOON, "nobody was woken for it");
}

#[test]
fn a_session_that_panics_at_its_end_does_not_end_the_thread_that_brings_it() {
    let (pool, mut worker) = pool();
    pool.run_or_submit(Box::new(BadEnd), &mut worker);
    assert_eq!(pool.tasks(), 0);
    let (session, came) = telling(1, Next::Over);
    pool.run_or_submit(session, &mut worker);
    assert_eq!(came.try_recv(), Ok(thread::current().id()));
}

#[test]
fn a_closed_pool_takes_no_session_from_an_accept_thread_either() {
    let (pool, mut worker) = pool();
    pool.close();
    let (session, came) = telling(1, Next::Over);
    pool.run_or_submit(session, &mut worker);
    assert!(came.recv_timeout(DEADLINE).is_err_and(|e| e.is_disconnected()), "it was run");
}
