//! The pool: jobs wait in a bounded queue for threads that start on demand, up to a limit, and end when they have nothing to do.
//!
//! A job is a session. It needs two threads, one for each of its flows, so it is started only when it can have both: no session
//! ever waits for the second half of itself. The accept threads call [`Pool::submit`]; a job calls [`Pair::run_beside`] for its
//! second half. The one mutex here guards the list of idle threads and the counts; the queue is a crossbeam channel.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
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

/// How long an accept thread rests when the system gives no thread and none is running.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

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
    /// The one that became idle last is at the end: it has the warmest caches, and the others get to end.
    idle: Vec<Thread>,
    threads: usize,
    /// Jobs that have started and not ended in both halves.
    pairs: usize,
    closed: bool,
    last_id: usize,
}

/// A thread without work, in the list of idle ones or taken for a job. The only sender of its channel: dropping it ends the thread.
struct Thread {
    id: usize,
    give: Sender<Work>,
}

/// What is handed to a thread: a half of a job, the job's place, and the thread itself, to go back to the list with.
struct Work {
    run: Box<dyn FnOnce(&mut Space) + Send>,
    place: Arc<Place>,
    thread: Thread,
}

/// The place of one job. It is given back when both halves have ended and their threads are idle again; then the next job starts.
struct Place(Pool);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.state.lock().pairs -= 1;
        // with a shortage of threads the jobs stay in the queue, for the next place that is given back
        let _ = self.0.start_waiting_jobs();
    }
}

/// The thread for the second half of a job.
pub struct Pair {
    place: Arc<Place>,
    thread: Option<Thread>,
}

impl Pair {
    /// Runs the second half on its thread.
    pub fn run_beside(mut self, half: impl FnOnce(&mut Space) + Send + 'static) {
        if let Some(thread) = self.thread.take() {
            thread.work(Box::new(half), self.place.clone());
        }
    }
}

impl Drop for Pair {
    /// A job that needed no second half gives the thread back.
    fn drop(&mut self) {
        self.place.0.0.state.lock().rest(self.thread.take());
    }
}

/// What a job gets when it asks to start.
enum Turn {
    Start(Thread, Thread),
    Full,
    Closed,
}

impl Pool {
    /// A pool without any thread yet.
    pub fn new(limits: Limits) -> Pool {
        let (queue_in, queue_out) = bounded(limits.queue.max(1));
        Pool(Arc::new(Inner { state: Mutex::default(), most_pairs: (limits.threads / 2).max(1), queue_in, queue_out }))
    }

    /// Gives a job to the pool; waits while the queue is full, and while the system gives no thread. A closed pool drops it.
    pub fn submit(&self, job: Job) {
        // the pool holds the receiver too, so that the channel is never disconnected
        let _ = self.0.queue_in.send(job);
        let mut is_known = false;
        while let Err(e) = self.start_waiting_jobs() {
            if !std::mem::replace(&mut is_known, true) {
                log::error!("pool state=short threads={} reason=\"{e}\"", self.threads());
            }
            if self.0.state.lock().pairs > 0 {
                return;
            }
            thread::sleep(SHORTAGE_PAUSE);
        }
    }

    /// The same without waiting; gives the job back when the queue is full.
    pub fn try_submit(&self, job: Job) -> Result<(), Job> {
        self.0.queue_in.try_send(job).map_err(|e| e.into_inner())?;
        let _ = self.start_waiting_jobs();
        Ok(())
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
        let _ = self.start_waiting_jobs();
    }

    /// Starts what can start. Fails when the system gives no thread; nothing is lost then.
    fn start_waiting_jobs(&self) -> io::Result<()> {
        while !self.0.queue_out.is_empty() {
            match self.take_turn()? {
                Turn::Full => return Ok(()),
                Turn::Closed => self.0.queue_out.try_iter().for_each(drop),
                Turn::Start(first, second) => match self.0.queue_out.try_recv() {
                    Ok(job) => self.start(job, first, second),
                    // another thread was faster: whoever queued a job meanwhile saw no place, so look again
                    Err(_) => self.give_back([first, second]),
                },
            }
        }
        Ok(())
    }

    fn start(&self, job: Job, first: Thread, second: Thread) {
        let place = Arc::new(Place(self.clone()));
        let pair = Pair { place: place.clone(), thread: Some(second) };
        first.work(Box::new(move |space| job(pair, space)), place);
    }

    /// Counts a job and takes two threads for it, idle ones or new ones.
    fn take_turn(&self) -> io::Result<Turn> {
        let mut threads = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Ok(Turn::Closed);
            }
            if state.pairs >= self.0.most_pairs {
                return Ok(Turn::Full);
            }
            state.pairs += 1;
            let rest = state.idle.len().saturating_sub(2);
            state.idle.split_off(rest).into_iter()
        };
        let first = threads.next_back().map_or_else(|| self.start_thread(), Ok);
        let second = threads.next().map_or_else(|| self.start_thread(), Ok);
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(Turn::Start(first, second)),
            (Err(e), one) | (one, Err(e)) => {
                self.give_back(one);
                Err(e)
            }
        }
    }

    fn give_back(&self, threads: impl IntoIterator<Item = Thread>) {
        let mut state = self.0.state.lock();
        state.pairs -= 1;
        threads.into_iter().for_each(|thread| state.rest(Some(thread)));
    }

    fn start_thread(&self) -> io::Result<Thread> {
        let id = {
            let mut state = self.0.state.lock();
            state.threads += 1;
            state.last_id = state.last_id.wrapping_add(1);
            state.last_id
        };
        let (give, take) = bounded(1);
        let worker = Worker { id, take, pool: self.clone() };
        let spawned = thread::Builder::new().name(format!("worker {id}")).stack_size(STACK).spawn(move || worker.live());
        if let Err(e) = spawned {
            self.0.state.lock().threads -= 1;
            return Err(e);
        }
        Ok(Thread { id, give })
    }
}

impl State {
    /// A thread has nothing to do; in a closed pool it ends.
    fn rest(&mut self, thread: Option<Thread>) {
        match thread {
            Some(_) if self.closed => self.threads -= 1,
            thread => self.idle.extend(thread),
        }
    }
}

impl Thread {
    /// Gives the thread something to do.
    fn work(self, run: Box<dyn FnOnce(&mut Space) + Send>, place: Arc<Place>) {
        let give = self.give.clone();
        // a thread without work waits for exactly this message, and ends only when its sender is gone
        let _ = give.send(Work { run, place, thread: self });
    }
}

/// The inside of a thread of the pool.
struct Worker {
    id: usize,
    take: Receiver<Work>,
    pool: Pool,
}

impl Worker {
    fn live(self) {
        let mut space = Space::with_capacity(BUFFER);
        while let Some(Work { run, place, thread }) = self.next() {
            // a session's panic ends that session; what it held is dropped by the unwinding, and the panic hook has logged it
            let _ = catch_unwind(AssertUnwindSafe(|| run(&mut space)));
            self.pool.0.state.lock().rest(Some(thread));
            // after the thread is idle: it may be the one that the next job gets
            drop(place);
        }
    }

    /// The next work; `None` when it is time to end.
    fn next(&self) -> Option<Work> {
        loop {
            match self.take.recv_timeout(IDLE_LIFE) {
                Ok(work) => return Some(work),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut state = self.pool.0.state.lock();
            // one that is not in the list was taken for a job, and will hear of it
            if let Some(position) = state.idle.iter().position(|thread| thread.id == self.id) {
                state.idle.remove(position);
                state.threads -= 1;
                return None;
            }
        }
    }
}
