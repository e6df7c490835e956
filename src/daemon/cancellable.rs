//! Work that may take its time and can be cancelled. Called on the thread `main`, which looks at
//! signals when it is asked whether to cancel.

use std::io;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};

use crate::system::thread;

/// How often a wait asks whether it is cancelled.
pub(super) const CANCEL_CHECK: Duration = Duration::from_millis(20);

/// Runs `act` on a thread of its own, and returns what that returns; `None` when it was cancelled
/// meanwhile: then it runs to its end, and its result is dropped. `is_cancelled` is asked every
/// [`CANCEL_CHECK`].
pub(super) fn cancellable<T: Send + 'static>(
    name: &'static str,
    act: impl FnOnce() -> T + Send + 'static,
    is_cancelled: &mut dyn FnMut() -> bool,
) -> io::Result<Option<T>> {
    let (send, done) = bounded(1);
    thread::start(name, thread::LARGE, move || drop(send.send(act())))?;
    loop {
        match done.recv_timeout(CANCEL_CHECK) {
            Ok(result) => return Ok(Some(result)),
            Err(RecvTimeoutError::Timeout) if is_cancelled() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it ended early")),
        }
    }
}
