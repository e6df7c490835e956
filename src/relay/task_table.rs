//! The tasks of a pool by their numbers: whom an event of a poller is about. Owns one lock.
//!
//! An event may be older than the task that has the number now: it is taken as a hint, never as a
//! fact, so that it only costs a look at a socket.

use std::sync::Arc;

use parking_lot::RwLock;
use slab::Slab;

use super::task::Task;

/// Tasks, by number. An entry is empty, and not free yet, while a task that is over is still in
/// somebody's hands.
#[derive(Default)]
pub struct TaskTable(RwLock<Slab<Option<Arc<Task>>>>);

impl TaskTable {
    /// Makes a task that is told its number.
    pub fn insert(&self, make: impl FnOnce(usize) -> Task) -> Arc<Task> {
        let mut tasks = self.0.write();
        let entry = tasks.vacant_entry();
        let task = Arc::new(make(entry.key()));
        entry.insert(Some(task.clone()));
        task
    }

    /// The task of a number.
    pub fn find(&self, number: usize) -> Option<Arc<Task>> {
        self.0.read().get(number)?.clone()
    }

    /// The task is over: its number means nobody from now on. It ends when the last thread has let
    /// go of it.
    pub fn finish(&self, task: &Arc<Task>) {
        let _gone = self
            .0
            .write()
            .get_mut(task.number())
            .and_then(|entry| entry.take_if(|there| Arc::ptr_eq(there, task)));
    }

    /// The number is free again.
    pub fn free(&self, number: usize) {
        self.0.write().try_remove(number);
    }
}
