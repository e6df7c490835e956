//! The state of a flow that threads of the pool take turns to run: who may run it, and that no
//! event is lost. Knows nothing but an atomic. Used by [`super::task`], on whichever thread runs a
//! flow or hears of an event.
//!
//! Only the thread that has brought a flow to `RUNNING` or `RUNNING_ANY` runs it, so a flow is
//! never run by two threads. An event for a flow that runs makes it `NOTIFIED`, and when it wants
//! to wait it is told to go on instead: nothing depends on whether an event comes before or after
//! the decision to wait.
//!
//! | state | an event that concerns it makes it | and |
//! |---|---|---|
//! | `NOT_STARTED` | - | nobody has started it |
//! | `STARTED` | `RUNNING_ANY` | it has its first turn when the other flow pauses, or with its first event |
//! | `WAITING_SOURCE` | `RUNNING` | concerned by its source only |
//! | `WAITING_SINK` | `RUNNING` | concerned by room in its sink, and by the failure of its source |
//! | `WAITING_ANY` | `RUNNING_ANY` | concerned by everything |
//! | `RUNNING` | `NOTIFIED` | hears of its source only |
//! | `RUNNING_ANY` | `NOTIFIED` | hears of everything: must be so before it looks whether it has to wait for its sink |
//! | `NOTIFIED` | - | will go on, as `RUNNING_ANY`, when it wants to wait |
//! | `DONE` | - | not to be run any more |

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// What a flow waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Something to read from its source.
    Source,
    /// Room in its sink; or the failure of its source. See [`FlowState::widen`].
    Sink,
    /// Whatever happens to one of the two sockets.
    Anything,
}

/// Something that has happened, as a flow is concerned by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// To its source.
    Source {
        /// There are bytes, or an end, to read.
        can_read: bool,
        /// It is more than bytes.
        saw_rdhup: bool,
    },
    /// To its sink.
    Sink {
        /// It has room, or has failed.
        can_write: bool,
    },
    /// Somebody wants it to look again.
    Wake,
}

const NOT_STARTED: u8 = 0;
const STARTED: u8 = 1;
const WAITING_SOURCE: u8 = 2;
const WAITING_SINK: u8 = 3;
const WAITING_ANY: u8 = 4;
const RUNNING: u8 = 5;
const RUNNING_ANY: u8 = 6;
const NOTIFIED: u8 = 7;
const DONE: u8 = 8;

/// The state of one flow.
pub struct FlowState(AtomicU8);

impl FlowState {
    /// Of a flow that the calling thread runs.
    pub fn running() -> FlowState {
        FlowState(AtomicU8::new(RUNNING_ANY))
    }

    /// Of a flow that somebody will start, or nobody ever.
    pub fn not_started() -> FlowState {
        FlowState(AtomicU8::new(NOT_STARTED))
    }

    /// Starts it. Its first turn is whoever's [`FlowState::take_first_turn`] or [`FlowState::on`]
    /// says so.
    pub fn start(&self) {
        let _ = self.0.compare_exchange(NOT_STARTED, STARTED, SeqCst, SeqCst);
    }

    /// Whether it has been started and has had no turn; then the caller must run it now.
    pub fn take_first_turn(&self) -> bool {
        self.0.compare_exchange(STARTED, RUNNING_ANY, SeqCst, SeqCst).is_ok()
    }

    /// From now on the running flow hears of everything that happens, and may wait for its sink if
    /// it then finds it full.
    pub fn widen(&self) {
        // one that is notified goes on anyway
        let _ = self.0.compare_exchange(RUNNING, RUNNING_ANY, SeqCst, SeqCst);
    }

    /// Something has happened. Returns whether the caller must run the flow now.
    pub fn on(&self, trigger: Trigger) -> bool {
        let mut now = self.0.load(SeqCst);
        loop {
            let Some(then) = after(now, trigger) else { return false };
            match self.0.compare_exchange(now, then, SeqCst, SeqCst) {
                Ok(_) => return then != NOTIFIED,
                Err(other) => now = other,
            }
        }
    }

    /// The running flow wants to wait. Returns whether it does: not if something has happened
    /// meanwhile, and then it runs on.
    pub fn wait(&self, what: For) -> bool {
        let waiting = match what {
            For::Source => WAITING_SOURCE,
            For::Sink => WAITING_SINK,
            For::Anything => WAITING_ANY,
        };
        let does = [RUNNING, RUNNING_ANY]
            .into_iter()
            .any(|now| self.0.compare_exchange(now, waiting, SeqCst, SeqCst).is_ok());
        if !does {
            self.0.store(RUNNING_ANY, SeqCst);
        }
        does
    }

    /// The running flow is done.
    pub fn finish(&self) {
        self.0.store(DONE, SeqCst);
    }

    /// Whether nothing is left to do: it is done, or was never started.
    pub fn is_over(&self) -> bool {
        matches!(self.0.load(SeqCst), DONE | NOT_STARTED)
    }
}

/// The state after an event; `None` for one that does not concern the flow in the state that it is
/// in.
fn after(now: u8, trigger: Trigger) -> Option<u8> {
    let is_concerned = match (now, trigger) {
        (WAITING_SOURCE, Trigger::Source { can_read, .. }) => can_read,
        (WAITING_SINK, Trigger::Source { saw_rdhup, .. }) => saw_rdhup,
        (WAITING_SOURCE | RUNNING, Trigger::Sink { .. }) => false,
        (WAITING_SINK, Trigger::Sink { can_write }) => can_write,
        _ => true,
    };
    match now {
        RUNNING | RUNNING_ANY if is_concerned => Some(NOTIFIED),
        WAITING_SOURCE | WAITING_SINK if is_concerned => Some(RUNNING),
        WAITING_ANY | STARTED => Some(RUNNING_ANY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Trigger = Trigger::Source { can_read: true, saw_rdhup: false };
    const END: Trigger = Trigger::Source { can_read: true, saw_rdhup: true };
    const ROOM: Trigger = Trigger::Sink { can_write: true };

    fn waiting(what: For) -> FlowState {
        let state = FlowState::running();
        assert!(state.wait(what));
        state
    }

    #[test]
    fn a_flow_that_waits_is_run_by_what_it_waits_for_and_by_one_thread_only() {
        for (what, concerns, others) in [
            (
                For::Source,
                &[BYTES, END, Trigger::Wake][..],
                &[ROOM, Trigger::Sink { can_write: false }][..],
            ),
            (For::Sink, &[ROOM, END, Trigger::Wake], &[BYTES, Trigger::Sink { can_write: false }]),
            (
                For::Anything,
                &[BYTES, END, ROOM, Trigger::Wake, Trigger::Sink { can_write: false }],
                &[],
            ),
        ] {
            for event in others {
                assert!(!waiting(what).on(*event), "{what:?} {event:?}");
            }
            for event in concerns {
                let state = waiting(what);
                assert!(state.on(*event), "{what:?} {event:?}");
                assert!(!state.on(*event), "it runs already: {what:?} {event:?}");
            }
        }
    }

    #[test]
    fn events_that_come_while_a_flow_runs_make_it_go_on_instead_of_waiting() {
        let state = FlowState::running();
        assert!(!state.on(ROOM));
        assert!(!state.wait(For::Source), "something has happened");
        assert!(state.wait(For::Source), "nothing more has");
        assert!(state.on(BYTES));
        // concerned by its source only, until it is widened
        assert!(!state.on(ROOM) && state.wait(For::Source) && state.on(BYTES));
        state.widen();
        assert!(!state.on(ROOM) && !state.wait(For::Sink));
    }

    #[test]
    fn a_flow_has_its_first_turn_once_and_none_before_it_is_started_or_after_its_end() {
        let state = FlowState::not_started();
        assert!(state.is_over() && !state.on(Trigger::Wake) && !state.take_first_turn());
        state.start();
        assert!(!state.is_over() && state.take_first_turn() && !state.take_first_turn());
        state.start();
        assert!(!state.take_first_turn(), "it was started before");
        state.finish();
        assert!(state.is_over() && !state.on(END) && !state.take_first_turn());
        let other = FlowState::not_started();
        other.start();
        assert!(other.on(BYTES) && !other.take_first_turn());
    }
}
