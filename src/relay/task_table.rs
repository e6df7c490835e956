//! The sessions that have a place, by its number: what an event of the poller is about. Owns one
//! lock.
//!
//! An event may be older than the session that has the number now: news are taken as hints, never
//! as facts, so that it only costs a look at a socket.

use std::sync::Arc;

use parking_lot::RwLock;
use slab::Slab;

use super::task::Task;

/// Places, by number. One is empty, and not free yet, while a session that is over is still in
/// somebody's hands.
#[derive(Default)]
pub struct TaskTable(RwLock<Slab<Option<Arc<Task>>>>);

impl TaskTable {
    /// Makes a session that is told its number, and lets it sit there.
    pub fn insert(&self, make: impl FnOnce(usize) -> Task) -> Arc<Task> {
        let mut tasks = self.0.write();
        let place = tasks.vacant_entry();
        let task = Arc::new(make(place.key()));
        place.insert(Some(task.clone()));
        task
    }

    /// The session of a number.
    pub fn find(&self, number: usize) -> Option<Arc<Task>> {
        self.0.read().get(number)?.clone()
    }

    /// The session is over: its number means nobody from now on. It ends when the last thread has
    /// let go of it.
    pub fn finish(&self, task: &Arc<Task>) {
        let _gone = self
            .0
            .write()
            .get_mut(task.number())
            .and_then(|place| place.take_if(|there| Arc::ptr_eq(there, task)));
    }

    /// The number is free again.
    pub fn free(&self, number: usize) {
        self.0.write().try_remove(number);
    }
}
