//! A shortage of this machine: of descriptors, memory or threads. Whoever meets one says so once,
//! and rests before the next try, which would most likely end in the same way.

use std::thread;
use std::time::Duration;

/// How long to rest. What is short may be there again with the end of any session.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Whether the shortage that goes on is in the log.
#[derive(Debug, Default)]
pub struct Shortage {
    is_logged: bool,
}

impl Shortage {
    /// Calls `log` unless it was called since the last [`Shortage::end`].
    pub fn log_once(&mut self, log: impl FnOnce()) {
        if !std::mem::replace(&mut self.is_logged, true) {
            log();
        }
    }

    /// What was tried has worked again.
    pub fn end(&mut self) {
        self.is_logged = false;
    }
}

/// Holds this thread up for [`PAUSE`].
pub fn rest() {
    thread::sleep(PAUSE);
}
