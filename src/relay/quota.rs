//! How many bytes the sessions of a pool hold together that were read and could not be written yet.
//! Owns one lock, around a reserve of memory: an allocation that cannot fail would end the program.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;

use crate::system::memory;

/// The reserve: enough for what a few hundred sessions take until they have ended.
const RESERVE: usize = 1 << 20;

/// The sum and its limit. The sum may go over it by what each thread has in its hands when it is
/// reached.
pub struct Quota {
    now: AtomicUsize,
    most: AtomicUsize,
    /// Never touched, and empty once it was needed.
    reserve: Mutex<Vec<u8>>,
}

/// A part of the sum; dropping it takes it off again.
struct Reservation {
    bytes: usize,
    quota: Arc<Quota>,
}

impl Quota {
    /// Nothing is held.
    pub fn new(most: usize) -> Arc<Quota> {
        let mut reserve = Vec::new();
        // where there is none, nothing will be kept
        let _ = reserve.try_reserve_exact(RESERVE);
        Arc::new(Quota {
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            reserve: Mutex::new(reserve),
        })
    }

    /// Changes the limit.
    pub fn set_most(&self, most: usize) {
        self.most.store(most, SeqCst);
    }

    /// Whether more may be held.
    pub fn has_room(&self) -> bool {
        self.now.load(SeqCst) < self.most.load(SeqCst)
    }

    /// Keeps a copy of these bytes. When the system has no memory for one, the reserve is left to
    /// those who cannot do without, and nothing more is kept until half of it all is gone and the
    /// reserve is there again; no more is held from then on.
    pub fn copy(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Unsent> {
        self.restore_reserve()?;
        let copy = memory::copy(bytes).inspect_err(|_| self.give_up_reserve());
        copy.map(|bytes| self.keep(bytes))
    }

    fn restore_reserve(&self) -> io::Result<()> {
        let mut reserve = self.reserve.lock();
        if reserve.capacity() == 0 && self.now.load(SeqCst) > self.most.load(SeqCst) {
            return Err(ErrorKind::OutOfMemory.into());
        }
        Ok(reserve.try_reserve_exact(RESERVE)?)
    }

    fn give_up_reserve(&self) {
        self.most.fetch_min((self.now.load(SeqCst) / 2).max(1), SeqCst);
        *self.reserve.lock() = Vec::new();
    }

    /// Keeps these bytes, and counts them until they are dropped.
    pub fn keep(self: &Arc<Self>, bytes: Vec<u8>) -> Unsent {
        let size = bytes.capacity();
        self.now.fetch_add(size, SeqCst);
        let reservation = (size > 0).then(|| Reservation { bytes: size, quota: self.clone() });
        Unsent { bytes, _reservation: reservation }
    }
}

/// Bytes that were read and not written yet, with their part of the sum.
#[derive(Default)]
pub struct Unsent {
    /// The bytes.
    pub bytes: Vec<u8>,
    _reservation: Option<Reservation>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.quota.now.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let quota = Quota::new(100);
        let unsent = quota.copy(&[7; 100]).unwrap();
        assert!(!quota.has_room());
        drop(unsent);
        assert!(quota.has_room());
        quota.set_most(0);
        assert!(!quota.has_room());
    }

    #[test]
    fn after_a_shortage_nothing_is_kept_until_half_of_it_is_gone() {
        let quota = Quota::new(1000);
        let held = [quota.copy(&[7; 60]).unwrap(), quota.copy(&[7; 40]).unwrap()];
        quota.give_up_reserve();
        assert_eq!(quota.copy(b"one more").map(drop).unwrap_err().kind(), ErrorKind::OutOfMemory);
        let [large, _small] = held;
        drop(large);
        let kept = quota.copy(b"one more").unwrap();
        assert!(kept.bytes == b"one more" && quota.has_room());
        drop(quota.copy(&[7; 10]).unwrap());
        assert_eq!(quota.most.load(SeqCst), 50);
    }
}
