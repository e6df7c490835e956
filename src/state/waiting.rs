//! Sessions that wait for the first answer of a host and could go on to another one: they are woken
//! when the host goes down. Owns one lock, which is not held while they are woken.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use super::Host;
use crate::relay::task::Task;

/// The sessions that wait, with their hosts.
#[derive(Default)]
pub struct Waiting(Mutex<Slab<(Arc<Host>, Arc<Task>)>>);

/// A session's entry among them; dropping it takes the session out.
pub struct Wait {
    key: usize,
    waiting: Arc<Waiting>,
}

impl Waiting {
    /// From now on this session is woken when the host goes down.
    pub fn insert(self: &Arc<Self>, host: &Arc<Host>, task: &Arc<Task>) -> Wait {
        let key = self.0.lock().insert((host.clone(), task.clone()));
        Wait { key, waiting: self.clone() }
    }

    /// Wakes the sessions that wait for this host.
    pub fn wake(&self, host: &Arc<Host>) {
        let waiting = self.0.lock();
        let meant = waiting.iter().filter(|(_, (other, _))| Arc::ptr_eq(other, host));
        let tasks: Vec<Arc<Task>> = meant.map(|(_, (_, task))| task.clone()).collect();
        drop(waiting);
        tasks.iter().for_each(|task| task.wake());
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // dropped without the lock
        let _gone = self.waiting.0.lock().try_remove(self.key);
    }
}
