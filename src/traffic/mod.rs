//! The way of a connection, listener -> session -> connect, and the threads that look after the
//! hosts. Started by `daemon`.

mod connect;
mod drain;
mod listener;
mod manager;
mod replay;
mod report;
mod resolver;
mod search;
mod session;
mod session_log;

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};

pub use drain::IDLE as DRAIN_IDLE;
pub use listener::{DESCRIPTORS as LISTENER_DESCRIPTORS, Listener, bind, bind_beside, open};
pub use manager::{PROBES_AT_ONCE, start as start_manager};
pub use report::groups as report_groups;
pub use resolver::{MOST_ADDRESSES, look_up_all, start as start_resolver};

use crate::relay::pool::Pool;
use crate::state::Director;

/// What all listeners and sessions share.
pub struct Traffic {
    /// The threads that sessions run on.
    pub pool: Pool,
    /// The running state.
    pub director: Arc<Director>,
    wake: Sender<()>,
}

impl Traffic {
    /// Traffic on a pool, and the end of the channel on which its sessions wake the manager. The
    /// manager ends when the last session and listener are gone.
    pub fn new(pool: Pool, director: Arc<Director>) -> (Traffic, Receiver<()>) {
        let (wake, woken) = bounded(1);
        (Traffic { pool, director, wake }, woken)
    }

    /// Another handle to wake the manager with.
    pub fn waker(&self) -> Sender<()> {
        self.wake.clone()
    }

    /// Makes the manager look at the hosts now. One message that waits is as good as many.
    pub fn wake_manager(&self) {
        let _ = self.wake.try_send(());
    }
}
