//! What a task needs of the pool that runs it. Implemented by the pool's threads
//! ([`super::threads`]), which stand above.

use std::sync::Arc;
use std::time::Instant;

use super::direction::Direction;
use super::pipe::Pipes;
use super::pollers::Pollers;
use super::quota::Quota;

/// The pool, as its tasks see it.
pub trait Executor: Send + Sync {
    /// Where the sockets of tasks are registered.
    fn pollers(&self) -> &Pollers;

    /// What all tasks may hold together.
    fn quota(&self) -> &Arc<Quota>;

    /// The pipes that are lent to flows.
    fn pipes(&self) -> &Arc<Pipes>;

    /// The task of this number wants to be looked at no later than then.
    fn set_timer(&self, number: usize, when: Instant);

    /// Has a thread of the pool run a flow that was made to run.
    fn run_soon(self: Arc<Self>, number: usize, flow: Direction);

    /// The calling thread begins with something that takes its time: another one is to wait at this
    /// poller meanwhile, if there is anything to wait for.
    fn promote_follower(&self, poller: usize);

    /// The task of this number was dropped, by whichever thread: its number and its part of the
    /// limit are free again.
    fn free(self: Arc<Self>, number: usize);
}
