//! The pool: sessions wait in a bounded queue, and threads, started on demand up to a limit, run
//! those that can go on.
//!
//! The accept threads call [`Pool::run_or_submit`]. A thread without work waits at a poller
//! (`relay::pollers`) for events of the sockets of sessions, or rests (`relay::threads`); nothing
//! that runs on it ever waits for a socket, so a few threads serve any number of sessions. What
//! they share is in `relay::shared`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::direction::Direction;
pub use super::limits::{
    ACCEPT_BUFFER, BUFFER, LEAST, MOST_POLLERS, POLLER_DESCRIPTORS, PoolLimits, STACK, Space,
};
pub use super::pipe::USUAL as PIPE_SIZE;
use super::shared::Shared;
use super::task::Job;
use super::worker::Worker;
use crate::system::shortage::{self, Shortage};

/// Threads and the queue before them. Cloning makes another handle to the same pool.
#[derive(Clone)]
pub struct Pool(pub(super) Arc<Shared>);

/// What a thread that is not the pool's own needs to run a session's first steps.
pub struct AcceptWorker(Worker);

impl Pool {
    /// A pool without any thread yet. Fails when the system gives no poller.
    pub fn new(limits: PoolLimits) -> io::Result<Pool> {
        let shared = Shared::new(limits.at_least_one(), Worker::thread_main)?;
        Ok(Pool(Arc::new(shared)))
    }

    /// Gives a session to the pool; waits while the queue is full, and while there is no thread at
    /// all. A closed pool drops it.
    pub fn submit(&self, session: Box<dyn Job>) {
        if let Err(refused) = self.0.waiting.push(session) {
            return drop(refused);
        }
        let mut shortage = Shortage::default();
        while let Err(e) = self.0.wake_or_start() {
            shortage.log_once(|| {
                log::error!("pool state=short threads={} reason=\"{e}\"", self.threads());
            });
            if self.threads() > 0 {
                return;
            }
            shortage::rest();
        }
    }

    /// The same without waiting; gives the session back when the queue is full.
    pub fn try_submit(&self, session: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        self.0.waiting.try_push(session)?;
        let _ = self.0.wake_or_start();
        Ok(())
    }

    /// What an accept thread needs for [`Pool::run_or_submit`].
    pub fn accept_worker(&self) -> AcceptWorker {
        AcceptWorker(Worker::new(self.0.clone(), ACCEPT_BUFFER))
    }

    /// Gives a session to the pool like [`Pool::submit`]; but when there may be one task more, the
    /// calling thread runs it itself as far as it goes without waiting: nobody has to be woken for
    /// that. From then on it is the pool's threads' own.
    pub fn run_or_submit(&self, session: Box<dyn Job>, AcceptWorker(worker): &mut AcceptWorker) {
        match self.0.admit_at_once(session) {
            // a panic at the end of the session must not end the thread of a listener
            Ok(task) => {
                drop(catch_unwind(AssertUnwindSafe(move || worker.run(&task, Direction::ToServer))))
            }
            Err(session) => return self.submit(session),
        }
        let state = self.0.state.lock();
        if state.is_over() || !self.0.waiting.is_empty() || !self.0.ready.is_empty() {
            self.0.wake_leader(&state);
        }
    }

    /// Changes the limits. What is over a lower one stays until it ends by itself.
    pub fn set_limits(&self, limits: PoolLimits) {
        let limits = limits.at_least_one();
        self.0.state.lock().limits = limits;
        self.0.pollers.set_most(limits.pollers);
        self.0.pipes.set_limits(limits.pipes, limits.pipe_size);
        self.0.quota.set_most(limits.held);
        self.0.waiting.set_limit(limits.queue);
        // a shortage of threads is reported for the next session
        let _ = self.0.wake_or_start();
        self.wake_all();
    }

    /// Sessions in the queue.
    pub fn waiting(&self) -> usize {
        self.0.waiting.len()
    }

    /// Sessions that run or are parked.
    pub fn tasks(&self) -> usize {
        self.0.state.lock().tasks
    }

    /// Threads now.
    pub fn threads(&self) -> usize {
        self.0.state.lock().threads
    }

    /// Takes no more sessions and drops those that wait; running ones go on, and threads end as
    /// they have nothing left to do.
    pub fn close(&self) {
        self.0.state.lock().is_closed = true;
        self.0.waiting.close();
        self.wake_all();
    }

    /// Has every thread look at the limits.
    fn wake_all(&self) {
        self.0.pollers.wake_all();
        self.0.followers.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Instant;

    use super::super::load::LoadLevel;
    use super::super::meter::Meter;
    use super::super::relay::Relay;
    use super::super::task::{Next, Task};
    use super::super::timeouts::Timeouts;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// A relay that nothing but events of its sockets wakes.
    struct Alone(Relay);

    impl Job for Alone {
        fn run(&self, flow: Direction, task: &Arc<Task>, space: &mut Space) -> Next {
            task.start_other();
            self.0.run(flow, task, space)
        }

        fn on_timer(&self) -> Duration {
            Duration::from_secs(600)
        }
    }

    fn pool(threads: usize, pollers: usize) -> Pool {
        Pool::new(PoolLimits {
            threads,
            pollers,
            sessions: 99,
            queue: 99,
            pipes: 0,
            pipe_size: 0,
            held: 1 << 20,
        })
        .unwrap()
    }

    /// A session that is relayed to an echo, and its client, who waits for no more than 20 s.
    fn relay() -> (Alone, TcpStream) {
        let ((client, near), (server, far)) = (pair(), pair());
        thread::spawn(move || io::copy(&mut &far, &mut &far));
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (
            Alone(Relay::new(
                near,
                server,
                Timeouts::idle(Duration::MAX),
                Arc::new(Meter::default()),
            )),
            client,
        )
    }

    fn say(mut client: &TcpStream, word: u32) {
        let mut answer = [0; 4];
        client.write_all(&word.to_le_bytes()).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(u32::from_le_bytes(answer), word);
    }

    #[test]
    fn no_event_is_lost_while_pollers_are_opened_and_closed() {
        let pool = pool(4, 3);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (relay, client) = relay();
                pool.submit(Box::new(relay));
                thread::spawn(move || (0..2000).for_each(|word| say(&client, word)))
            })
            .collect();
        let mut opened = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            for _ in 0..2 {
                pool.0.scale(0, LoadLevel::High);
                opened = opened.max(pool.0.pollers.open());
                thread::yield_now();
            }
            for _ in 0..2 {
                pool.0.pollers.shrink();
                thread::yield_now();
            }
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(opened, 3);
    }

    /// A session that can always go on, until it is told not to.
    struct Busy(Arc<AtomicBool>);

    impl Job for Busy {
        fn run(&self, _: Direction, _: &Arc<Task>, _: &mut Space) -> Next {
            if self.0.load(SeqCst) { Next::Over } else { Next::Yield }
        }

        fn on_timer(&self) -> Duration {
            Duration::from_secs(600)
        }
    }

    #[test]
    fn sessions_of_every_poller_are_served_though_others_never_pause() {
        for (threads, pollers) in [(3, 2), (3, 1), (5, 4)] {
            let (pool, is_over) = (pool(threads, pollers), Arc::new(AtomicBool::new(false)));
            for _ in 0..threads {
                pool.submit(Box::new(Busy(is_over.clone())));
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            while pool.0.pollers.open() < pollers {
                assert!(Instant::now() < deadline, "{} pollers are open", pool.0.pollers.open());
                thread::yield_now();
            }
            let clients: Vec<TcpStream> = (0..2 * pollers)
                .map(|_| {
                    let (relay, client) = relay();
                    pool.submit(Box::new(relay));
                    client
                })
                .collect();
            for word in 0..20 {
                clients.iter().for_each(|client| say(client, word));
            }
            is_over.store(true, SeqCst);
        }
    }
}
