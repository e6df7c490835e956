//! How many bytes the flows of a pool hold together for sinks without room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The sum and its limit. The sum may go over it by what each thread has in its hands when it is reached.
pub struct Purse {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A part of the sum; dropping it takes it off again.
pub struct Part {
    bytes: usize,
    purse: Arc<Purse>,
}

impl Purse {
    /// Nothing is held.
    pub fn new(most: usize) -> Arc<Purse> {
        Arc::new(Purse { now: AtomicUsize::new(0), most: AtomicUsize::new(most) })
    }

    /// Changes the limit.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, SeqCst);
    }

    /// Whether more may be held.
    pub fn has_room(&self) -> bool {
        self.now.load(SeqCst) < self.most.load(SeqCst)
    }

    /// Counts so many bytes.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Part {
        self.now.fetch_add(bytes, SeqCst);
        Part { bytes, purse: self.clone() }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.purse.now.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let purse = Purse::new(100);
        let part = purse.hold(100);
        assert!(!purse.has_room());
        drop(part);
        assert!(purse.has_room());
        purse.set_most(0);
        assert!(!purse.has_room());
    }
}
