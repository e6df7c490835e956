//! What a pool may use: its limits, and the sizes of what its threads need. The pool keeps them;
//! the budget of the program adds them up.

use crate::system::thread;

/// The stack of a pool thread. The buffer is not on it: the compiler's stack probes would touch
/// every page of a large frame.
pub const STACK: usize = thread::SMALL;

/// Descriptors of each poller.
pub const POLLER_DESCRIPTORS: usize = 2;

/// Most pollers.
pub const MOST_POLLERS: usize = 64;

/// Bytes that one flow reads at once.
pub const BUFFER: usize = 64 * 1024;

/// Bytes that a flow reads at once while others hold as much as they may.
pub const LEAST: usize = 1024;

/// The buffer of a thread that runs only the first steps of sessions: enough for what a client says
/// first. With a quarter of it an upload of 10 KB took 1.07 times as long on the processor.
pub const ACCEPT_BUFFER: usize = 16 * 1024;

/// The buffer of a pool thread: the capacity of an empty vector, which costs memory only as far as
/// it was ever filled.
pub type Space = Vec<u8>;

/// The limits of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most threads; at least one.
    pub threads: usize,
    /// Most pollers that are open; fewer than threads, so that there is one for each and one more,
    /// and at least one.
    pub pollers: usize,
    /// Most sessions that run or are parked; at least one.
    pub sessions: usize,
    /// Most sessions that wait until there may be one more; at least one.
    pub queue: usize,
    /// Most pipes, which flows with much to move borrow; two descriptors each.
    pub pipes: usize,
    /// Most bytes in one of them.
    pub pipe_size: usize,
    /// Bytes that flows may hold for sinks without room. Beyond that each one reads [`LEAST`] bytes
    /// at a time.
    pub held: usize,
}

impl PoolLimits {
    pub(super) fn at_least_one(self) -> PoolLimits {
        let threads = self.threads.max(1);
        let pollers = self.pollers.clamp(1, (threads - 1).clamp(1, MOST_POLLERS));
        PoolLimits {
            threads,
            pollers,
            sessions: self.sessions.max(1),
            queue: self.queue.max(1),
            ..self
        }
    }
}
