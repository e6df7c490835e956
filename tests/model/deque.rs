//! `crossbeam::deque`, as far as it is used: each call takes effect at once.

use loom::sync::Mutex;
use std::collections::VecDeque;

pub struct Injector<T>(Mutex<VecDeque<T>>);

pub enum Steal<T> {
    Empty,
    Success(T),
    Retry,
}

impl<T> Injector<T> {
    pub fn new() -> Injector<T> {
        Injector(Mutex::new(VecDeque::new()))
    }

    pub fn push(&self, item: T) {
        self.0.lock().unwrap().push_back(item);
    }

    pub fn steal(&self) -> Steal<T> {
        self.0.lock().unwrap().pop_front().map_or(Steal::Empty, Steal::Success)
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}
