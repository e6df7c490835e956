//! How many bytes the sessions of a pool hold together that were read and could not be written yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The sum and its limit. The sum may go over it by what each thread has in its hands when it is reached.
pub struct Purse {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A part of the sum; dropping it takes it off again.
struct Part {
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

    /// Keeps these bytes, and counts them until they are dropped.
    pub fn keep(self: &Arc<Self>, bytes: &[u8]) -> Unsent {
        self.now.fetch_add(bytes.len(), SeqCst);
        let part = (!bytes.is_empty()).then(|| Part { bytes: bytes.len(), purse: self.clone() });
        Unsent { bytes: bytes.to_vec(), _part: part }
    }
}

/// Bytes that were read and not written yet, with their part of the sum.
#[derive(Default)]
pub struct Unsent {
    /// The bytes.
    pub bytes: Vec<u8>,
    _part: Option<Part>,
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
        let unsent = purse.keep(&[7; 100]);
        assert!(!purse.has_room());
        drop(unsent);
        assert!(purse.has_room());
        purse.set_most(0);
        assert!(!purse.has_room());
    }
}
