//! What happens when there are more clients than threads.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crossbeam::channel::{bounded, unbounded};
use tcpdirector::relay::pool::{Limits, Pool};

use crate::common::backend::Backend;
use crate::common::{DEADLINE, TestDaemon, ask, ends_by_reset, one_service, until};

#[test]
fn clients_beyond_the_pool_wait_their_turn_and_are_served() {
    let (holding, good) = (Backend::banner("hi"), Backend::named("good"));
    let xml = one_service("roundrobin", &[holding.address(), good.address()], "");
    let daemon = TestDaemon::with_limits(&xml, Limits { threads: 2, queue: 1 });
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let address = daemon.address();
    let waiting: Vec<_> = (0..5).map(|_| std::thread::spawn(move || ask(address))).collect();
    // one is queued, one is in the hand of the accept thread, the others wait in the kernel
    until("the queue is full", || daemon.daemon.open_sessions() >= 3);
    assert!(daemon.daemon.pool_threads() <= 2);
    drop(holder);
    let mut served: Vec<String> = waiting.into_iter().map(|client| client.join().unwrap()).collect();
    served.sort();
    assert_eq!(served.iter().filter(|answer| *answer == "good").count(), 3, "{served:?}");
    daemon.settle();
}

#[test]
fn a_client_that_gave_up_in_the_queue_bothers_no_host() {
    let backend = Backend::banner("hi");
    let daemon = TestDaemon::with_limits(&one_service("random", &[backend.address()], ""), Limits { threads: 2, queue: 4 });
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let impatient = daemon.connect();
    until("it is queued", || daemon.daemon.open_sessions() == 2);
    crate::common::reset(impatient);
    drop(holder);
    daemon.settle();
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn threads_never_exceed_the_limit() {
    let pool = Pool::new(Limits { threads: 8, queue: 100 });
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (done, all_done) = unbounded();
    for _ in 0..200 {
        let (running, most, done) = (running.clone(), most.clone(), done.clone());
        pool.submit(Box::new(move |pair, _| {
            let work = move || {
                most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, SeqCst);
                done.send(()).unwrap();
            };
            let beside = work.clone();
            pair.run_beside(move |_| beside());
            work();
        }));
    }
    for _ in 0..400 {
        all_done.recv_timeout(DEADLINE).expect("every half runs");
    }
    assert!(most.load(SeqCst) <= 8, "{} halves ran at once", most.load(SeqCst));
    assert!(pool.threads() <= 8, "{} threads", pool.threads());
}

#[test]
fn a_panic_in_a_session_ends_that_session_only() {
    std::panic::set_hook(Box::new(|_| {}));
    let pool = Pool::new(Limits { threads: 2, queue: 10 });
    for _ in 0..5 {
        pool.submit(Box::new(|_, _| panic!("on purpose")));
        pool.submit(Box::new(|pair, _| pair.run_beside(|_| panic!("on purpose"))));
    }
    let (send, receive) = bounded(1);
    pool.submit(Box::new(move |pair, _| pair.run_beside(move |_| send.send(()).unwrap())));
    receive.recv_timeout(DEADLINE).expect("the pool still works, both places of it");
    let _ = std::panic::take_hook();
}

#[test]
fn a_closed_pool_drops_what_waits() {
    let pool = Pool::new(Limits { threads: 2, queue: 2 });
    let (release, held) = bounded::<()>(0);
    let (running, is_running) = bounded(1);
    pool.submit(Box::new(move |_, _| {
        running.send(()).unwrap();
        let _ = held.recv();
    }));
    is_running.recv_timeout(DEADLINE).unwrap();
    let (send, receive) = bounded::<()>(1);
    pool.submit(Box::new(move |_, _| drop(send)));
    assert_eq!(pool.waiting(), 1);
    pool.close();
    assert!(receive.recv_timeout(DEADLINE).is_err_and(|e| e.is_disconnected()), "the job still waits");
    drop(release);
}

#[test]
fn a_stop_closes_the_clients_that_wait() {
    let backend = Backend::banner("hi");
    let daemon = TestDaemon::with_limits(&one_service("random", &[backend.address()], ""), Limits { threads: 2, queue: 4 });
    let mut holder = daemon.connect();
    holder.read_exact(&mut [0; 2]).unwrap();
    let waiting = daemon.connect();
    until("it is queued", || daemon.daemon.open_sessions() == 2);
    daemon.daemon.close();
    daemon.daemon.cut();
    assert!(ends_by_reset(&waiting));
    daemon.settle();
}
