//! `parking_lot`, made of loom's locks.

use loom::thread::{self, Thread};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub struct Mutex<T>(loom::sync::Mutex<T>);

/// Without the lock only while its thread rests at a [`Condvar`].
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    inner: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, inner: Some(self.0.lock().unwrap()) }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().unwrap()
    }
}

/// Who rests. Loom's own does not say whether it has woken anybody.
pub struct Condvar(loom::sync::Mutex<VecDeque<Thread>>);

pub struct WaitTimeoutResult;

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(loom::sync::Mutex::new(VecDeque::new()))
    }

    /// Rests until it is woken, however long that takes.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        self.0.lock().unwrap().push_back(thread::current());
        guard.inner = None;
        thread::park();
        guard.inner = Some(guard.mutex.0.lock().unwrap());
        WaitTimeoutResult
    }

    pub fn notify_one(&self) -> bool {
        let first = self.0.lock().unwrap().pop_front();
        first.as_ref().inspect(|thread| thread.unpark()).is_some()
    }

    pub fn notify_all(&self) {
        while self.notify_one() {}
    }
}

pub struct RwLock<T>(loom::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub fn new(value: T) -> RwLock<T> {
        RwLock(loom::sync::RwLock::new(value))
    }

    pub fn read(&self) -> loom::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap()
    }

    pub fn write(&self) -> loom::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap()
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}
