//! A wait for clients that another thread can end: what a blocked `accept` cannot offer without
//! touching the socket, which the program's successor may share.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Somebody waits at a socket and can be called away.
pub struct Waker(EventFd);

impl Waker {
    /// Nobody is woken yet.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    /// Ends the wait that goes on, or the next one.
    pub fn wake(&self) {
        // it can fail only when it was woken 2^64 times with nobody there
        let _ = self.0.write(1);
    }

    /// Waits until the socket has something to read or to accept, or somebody wakes, or a signal
    /// comes.
    pub fn wait_at(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut polled = [
            PollFd::new(socket, PollFlags::POLLIN),
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        if polled.iter().skip(1).any(|waker| waker.any() == Some(true)) {
            // the next wait is a new one
            let _ = self.0.read();
        }
        Ok(())
    }
}
