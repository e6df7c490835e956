//! How a session becomes a task: at once, or from the queue when another one has ended.

use std::sync::Arc;
use std::time::Instant;

use super::executor::Executor;
use super::shared::Shared;
use super::task::{Job, Task};

impl Shared {
    /// The next session of the queue, if there may be one task more.
    pub(super) fn admit_next(self: &Arc<Self>) -> Option<Arc<Task>> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut state = self.state.lock();
        if state.tasks >= state.limits.sessions {
            return None;
        }
        let session = self.waiting.pop()?;
        state.tasks += 1;
        drop(state);
        Some(self.insert(session))
    }

    /// A task for a session that need not wait, while there is a thread that will go on with it;
    /// else gives it back.
    pub(super) fn admit_at_once(
        self: &Arc<Self>,
        session: Box<dyn Job>,
    ) -> Result<Arc<Task>, Box<dyn Job>> {
        let mut state = self.state.lock();
        if state.is_closed
            || state.threads == 0
            || state.tasks >= state.limits.sessions
            || !self.waiting.is_empty()
        {
            return Err(session);
        }
        state.tasks += 1;
        let is_short_handed = state.threads < self.least_threads(&state);
        drop(state);
        if is_short_handed {
            let _ = self.wake_another();
        }
        Ok(self.insert(session))
    }

    /// Makes the task that was counted, and sets its timer.
    fn insert(self: &Arc<Self>, session: Box<dyn Job>) -> Arc<Task> {
        let when = Instant::now() + session.on_timer();
        let task = self.tasks.insert(|number| Task::new(session, number, self.clone()));
        self.set_timer(task.number(), when);
        task
    }
}
