//! The files of the relay that decide which thread does what, compiled as they are, with what they
//! import replaced: `std`, `parking_lot` and `crossbeam` mean this crate, whose locks and atomics
//! are loom's. Time stands still, so that no time-out ever mends a wake-up that was lost: whoever
//! rests for ever is reported as a deadlock.

// `std` of the files is this crate, and all of the real one that is not replaced
extern crate self as crossbeam;
extern crate self as parking_lot;
extern crate self as std;
extern crate std as real_std;

pub use real_std::{cmp, collections, io, iter, mem, ops, os};

pub mod atomic;
pub mod channel;
pub mod deque;
mod locks;
pub mod panic;
pub mod thread;
pub mod time;

pub use locks::{Condvar, Mutex, MutexGuard, RwLock};

/// `std::sync`, as far as it is used. Reference counts and what is set once are not what is
/// checked.
pub mod sync {
    pub use crate::atomic;
    pub use real_std::sync::{Arc, OnceLock};
}

#[allow(dead_code, reason = "what is not here may use more of it")]
#[path = "../../src/system"]
mod system {
    pub mod shortage;
    pub mod thread;
}

#[allow(dead_code, reason = "what is not here may use more of it")]
#[path = "../../src/relay"]
pub mod relay {
    mod admission;
    mod direction;
    mod executor;
    pub mod flow_state;
    mod leaders;
    mod limits;
    mod load;
    #[path = "../../tests/model/pipe.rs"]
    mod pipe;
    #[path = "../../tests/model/poller.rs"]
    mod poller;
    mod pollers;
    pub mod pool;
    mod queue;
    #[path = "../../tests/model/quota.rs"]
    mod quota;
    mod shared;
    mod step;
    pub mod task;
    mod task_table;
    mod threads;
    mod timers;
    mod worker;

    pub use direction::{Direction, Side};
}
