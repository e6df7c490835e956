//! What may take its time while somebody may call it off. Called on the thread `main`, which hears
//! of signals by what it asks.

use std::io;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, bounded};

use crate::system::thread;

/// How often a wait looks whether it is called off.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Does what may take its time on a thread of its own, and returns what that returns; `None` when
/// it was called off meanwhile, and goes on unheard. `is_called_off` is asked now and then.
pub(super) fn aside<T: Send + 'static>(
    name: &'static str,
    act: impl FnOnce() -> T + Send + 'static,
    is_called_off: &mut dyn FnMut() -> bool,
) -> io::Result<Option<T>> {
    let (tell, told) = bounded(1);
    thread::start(name, thread::LARGE, move || drop(tell.send(act())))?;
    loop {
        match told.recv_timeout(LOOK) {
            Ok(done) => return Ok(Some(done)),
            Err(RecvTimeoutError::Timeout) if is_called_off() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("it ended early")),
        }
    }
}
