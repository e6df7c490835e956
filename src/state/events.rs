//! The last events: hosts that went down and came up, and who changed what. A ring buffer of fixed
//! size, behind one lock.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// How many events are kept.
pub const KEPT: usize = 1000;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, for people: the wall clock.
    pub at: SystemTime,
    /// Who or what did it: `user@address`, `session`, `manager`, `resolver`, `start`.
    pub by: String,
    /// What, as `key=value` pairs like the log.
    pub what: String,
}

/// The events that are kept.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Events {
    /// Notes an event; the oldest is forgotten when there are too many.
    pub fn note(&self, by: &str, what: String) {
        let mut ring = self.0.lock();
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(Event { at: SystemTime::now(), by: by.to_owned(), what });
    }

    /// All that are kept, the latest first.
    pub fn latest(&self) -> Vec<Event> {
        self.0.lock().iter().rev().cloned().collect()
    }
}
