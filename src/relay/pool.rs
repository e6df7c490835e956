//! The pool: jobs wait in a bounded queue for threads that start on demand, up to a limit, and end when they have nothing to do.
//!
//! A job is a session. It needs two threads, one for each of its flows, so it is started only when two are free or may be
//! started, and it takes both places at once: no session ever waits for the second half of itself. The accept threads call
//! [`Pool::submit`]; a job calls [`Pair::run_beside`] for its second half. The one mutex here guards the list of idle threads and the
//! counts; the queue is a crossbeam channel.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

/// The stack of a pool thread. The buffer is not on it: the compiler's stack probes would touch every page of a large frame, and
/// 5,000 idle sessions took 149 KB each that way.
pub const STACK: usize = 64 * 1024;

/// Bytes that one flow can hold.
pub const BUFFER: usize = 64 * 1024;

/// The buffer of a pool thread: the capacity of an empty vector, which costs memory only as far as it was ever filled.
pub type Space = Vec<u8>;

/// How long a thread waits for work before it ends.
const IDLE_LIFE: Duration = Duration::from_secs(10);

/// A session's first half; it is given the place for its second, and its thread's buffer.
pub type Job = Box<dyn FnOnce(Pair, &mut Space) + Send>;

/// The limits of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most threads; two for each job that runs, so an odd one is never used.
    pub threads: usize,
    /// Most jobs that wait.
    pub queue: usize,
}

/// Threads and the queue before them. Cloning makes another handle to the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    most_pairs: usize,
    queue_in: Sender<Job>,
    queue_out: Receiver<Job>,
}

#[derive(Default)]
struct State {
    /// Idle threads, the one that became idle last at the end: it has the warmest caches, and the others get to end.
    idle: Vec<(usize, Sender<Work>)>,
    threads: usize,
    /// Jobs that have started and not ended in both halves.
    pairs: usize,
    closed: bool,
    last_id: usize,
}

/// What is handed to a thread: a half of a job, and its share in the job's place.
struct Work {
    run: Box<dyn FnOnce(&mut Space) + Send>,
    place: Arc<Place>,
}

/// The two places of one job. They are given back when both halves have ended and their threads are idle again.
struct Place;

/// The right to run the second half of a job on a thread of its own.
pub struct Pair {
    pool: Pool,
    place: Arc<Place>,
}

impl Pair {
    /// Runs the second half on another thread. Fails only when the system gives no thread; the half is dropped then.
    pub fn run_beside(self, half: impl FnOnce(&mut Space) + Send + 'static) -> io::Result<()> {
        self.pool.hand_over(Work { run: Box::new(half), place: self.place })
    }
}

impl Pool {
    /// A pool without any thread yet.
    pub fn new(limits: Limits) -> Pool {
        let (queue_in, queue_out) = bounded(limits.queue.max(1));
        Pool(Arc::new(Inner { state: Mutex::default(), most_pairs: (limits.threads / 2).max(1), queue_in, queue_out }))
    }

    /// Gives a job to the pool; waits while the queue is full. A job that the pool cannot run (it was closed, or the system gives
    /// no thread) is dropped.
    pub fn submit(&self, job: Job) {
        // the pool holds the receiver too, so that the channel is never disconnected
        let _ = self.0.queue_in.send(job);
        self.start_waiting_jobs();
    }

    /// Whether [`Pool::submit`] would not have to wait.
    pub fn has_room(&self) -> bool {
        !self.0.queue_in.is_full()
    }

    /// Jobs in the queue.
    pub fn waiting(&self) -> usize {
        self.0.queue_out.len()
    }

    /// Threads now.
    pub fn threads(&self) -> usize {
        self.0.state.lock().threads
    }

    /// Takes no more jobs and drops those that wait; running ones go on, idle threads end.
    pub fn close(&self) {
        let idle = {
            let mut state = self.0.state.lock();
            state.closed = true;
            state.threads -= state.idle.len();
            std::mem::take(&mut state.idle)
        };
        drop(idle);
        self.start_waiting_jobs();
    }

    fn start_waiting_jobs(&self) {
        while let Some((job, place)) = self.next_job() {
            let pair = Pair { pool: self.clone(), place: place.clone() };
            if let Err(e) = self.hand_over(Work { run: Box::new(move |space| job(pair, space)), place }) {
                log::error!("pool state=short reason=\"no thread for a session: {e}\"");
            }
        }
    }

    /// The next job that may start, with its place taken. A closed pool drops the jobs that wait.
    fn next_job(&self) -> Option<(Job, Arc<Place>)> {
        while !self.0.queue_out.is_empty() {
            let place = self.take_place()?;
            match (self.0.queue_out.try_recv(), place) {
                (Ok(job), Some(place)) => return Some((job, place)),
                (Ok(job), None) => drop(job),
                // another thread was faster: whoever queued a job meanwhile saw no place, so look again
                (Err(_), Some(place)) => self.end_of(place, |_| {}),
                (Err(_), None) => {}
            }
        }
        None
    }

    /// `None`: all places are taken. `Some(None)`: the pool is closed.
    fn take_place(&self) -> Option<Option<Arc<Place>>> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Some(None);
        }
        if state.pairs >= self.0.most_pairs {
            return None;
        }
        state.pairs += 1;
        Some(Some(Arc::new(Place)))
    }

    /// Gives work to the thread that became idle last, or to a new one.
    fn hand_over(&self, work: Work) -> io::Result<()> {
        let idle = {
            let mut state = self.0.state.lock();
            let idle = state.idle.pop();
            if idle.is_none() {
                state.threads += 1;
                state.last_id = state.last_id.wrapping_add(1);
            }
            idle.ok_or(state.last_id)
        };
        match idle {
            // a thread that was idle waits for exactly this message
            Ok((_, thread)) => thread.send(work).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(id) => self.start_thread(id, work),
        }
    }

    fn start_thread(&self, id: usize, work: Work) -> io::Result<()> {
        let (give, take) = bounded(1);
        let worker = Worker { id, give: give.clone(), take, pool: self.clone() };
        match thread::Builder::new().name(format!("worker {id}")).stack_size(STACK).spawn(move || worker.live()) {
            Ok(_) => give.send(work).map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(e) => {
                // the half holds a share of the place as well, so it goes first
                drop(work.run);
                self.end_of(work.place, |state| state.threads -= 1);
                Err(e)
            }
        }
    }

    /// Gives up a share in a place, and the place with the last share, while `also` changes the state under the same lock: so the
    /// thread that ends a job is idle in the moment in which the next job may start.
    fn end_of(&self, place: Arc<Place>, also: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock();
        also(&mut state);
        if Arc::into_inner(place).is_some() {
            state.pairs -= 1;
        }
    }
}

/// A thread of the pool.
struct Worker {
    id: usize,
    give: Sender<Work>,
    take: Receiver<Work>,
    pool: Pool,
}

impl Worker {
    fn live(self) {
        let mut space = Space::with_capacity(BUFFER);
        while let Some(Work { run, place }) = self.next() {
            // a session's panic ends that session; what it held is dropped by the unwinding, and the panic hook has logged it
            let _ = catch_unwind(AssertUnwindSafe(|| run(&mut space)));
            self.rest(place);
        }
    }

    /// Becomes idle, or ends when the pool is closed.
    fn rest(&self, place: Arc<Place>) {
        self.pool.end_of(place, |state| match state.closed {
            true => state.threads -= 1,
            false => state.idle.push((self.id, self.give.clone())),
        });
        self.pool.start_waiting_jobs();
    }

    fn next(&self) -> Option<Work> {
        if let Ok(work) = self.take.recv_timeout(IDLE_LIFE) {
            return Some(work);
        }
        let mut state = self.pool.0.state.lock();
        match state.idle.iter().position(|(id, _)| *id == self.id) {
            Some(i) => {
                state.idle.remove(i);
                state.threads -= 1;
                None
            }
            None if state.closed => None,
            None => {
                // somebody has just taken us from the list, and is about to give us work
                drop(state);
                self.take.recv().ok()
            }
        }
    }
}
