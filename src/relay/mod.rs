//! Moves bytes between two connected sockets, both ways at once, until both ways have ended.
//!
//! A [`Relay`] belongs to one session, which is a [`task`] of a [`pool`]: threads of the pool run
//! its two flows as far as they can go without waiting ([`Relay::run`]). A flow that has nothing to
//! read, or nowhere to write, is *parked*: it holds no thread, and no buffer but for what its sink
//! has not taken yet. A flow that has read much several times in a row goes on by splice(2) through
//! a pipe, until less comes. What the flows share is here: the two sockets, the moment of the last
//! byte, and how the relay ended. The rules ([`Relay::end`] says which of them applied):
//!
//! * CloseReason of stream from one side is passed on as such; the other direction goes on. Both ended:
//!   `closed`.
//! * A reset of one side ends the flow to it at once. What it was told has arrived belongs to the
//!   other side: the flow from it goes on until everything that the dead socket still gives was
//!   written and acknowledged; then the other side is reset, so that a truncated answer never looks
//!   complete.
//! * A side that gives no sign of life though it was asked for one ([`Liveness`]) counts as reset.
//! * Silence in both directions for the idle time resets both sides; so does a shorter one of its
//!   own once a side has ended. A side that still takes what was written to it is not silent, and
//!   what waits to be read is looked at before the clock.
//! * [`Relay::cut`] does the same at any time, from any thread.
//! * Closing the sockets of a relay that has not come to a good end resets them, whoever closes
//!   them: be it the kernel, after a crash.
//!
//! Knows no service, host or session.

mod admission;
mod close_reason;
mod copy;
mod direction;
mod executor;
mod flow;
pub mod flow_state;
mod leaders;
mod limits;
mod liveness;
mod load;
mod meter;
mod party;
mod pipe;
mod poller;
mod pollers;
pub mod pool;
mod progress;
mod queue;
mod quota;
#[allow(clippy::module_inception, reason = "it is what this module is about")]
mod relay;
mod shared;
mod silence;
mod splice;
mod step;
pub mod task;
mod task_table;
mod threads;
mod timeouts;
mod timers;
mod worker;

pub use close_reason::CloseReason;
pub use direction::{Direction, Side};
pub use liveness::Liveness;
pub use meter::Meter;
pub use quota::Unsent;
pub use relay::Relay;
pub use timeouts::Timeouts;
