//! Sessions that wait for the first answer of a host and could go on to another one: they are woken
//! when the host goes down. Owns one lock, which is not held while they are woken.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use super::Host;
use crate::relay::seat::Seat;

/// The sessions that wait, with their hosts.
#[derive(Default)]
pub struct Waiting(Mutex<Slab<(Arc<Host>, Arc<Seat>)>>);

/// A session's place among them; dropping it takes the session out.
pub struct Wait {
    place: usize,
    waiting: Arc<Waiting>,
}

impl Waiting {
    /// From now on this session is woken when the host goes down.
    pub fn enter(self: &Arc<Self>, host: &Arc<Host>, seat: &Arc<Seat>) -> Wait {
        let place = self.0.lock().insert((host.clone(), seat.clone()));
        Wait { place, waiting: self.clone() }
    }

    /// Wakes the sessions that wait for this host.
    pub fn wake(&self, host: &Arc<Host>) {
        let waiting = self.0.lock();
        let meant = waiting.iter().filter(|(_, (other, _))| Arc::ptr_eq(other, host));
        let seats: Vec<Arc<Seat>> = meant.map(|(_, (_, seat))| seat.clone()).collect();
        drop(waiting);
        seats.iter().for_each(Seat::wake);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // dropped without the lock
        let _gone = self.waiting.0.lock().try_remove(self.place);
    }
}
