//! A readiness poller, at which one pool thread waits: epoll(7), edge-triggered, so that a socket
//! is registered once in its life, or twice if somebody has to wait for room in it, and again when
//! it moves to another poller, and no message costs another call. Beside the sockets it holds one
//! event counter, which wakes a thread for other work.
//!
//! Edge-triggered means: something is told once, when it happens. Who stops reading before the
//! socket says that there is nothing left must not wait for it (see [`super::task`], which keeps
//! the account of who has been told what).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::limits::MOST_POLLERS;
use crate::system::poll_timeout::poll_timeout;

/// What epoll says about a socket.
pub type News = EpollFlags;

/// The mark of the event counter; sockets are marked with numbers that fit a `usize`, and never
/// with this one.
const CALL: u64 = u64::MAX;

/// The mark of the last of other pollers; the others have the numbers before it, which no socket
/// has either.
const LAST_POLLER: u64 = CALL - 1;

/// What an event is about.
pub enum PollEvent {
    /// Somebody has called.
    Call,
    /// There are news at another poller.
    Poller(usize),
    /// What has happened to the socket that has this mark.
    Socket(usize, News),
}

/// A socket that is closed leaves it by itself.
pub struct Poller {
    epoll: Epoll,
    call: EventFd,
}

impl Poller {
    /// Two descriptors.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let call = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&call, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, CALL))?;
        Ok(Poller { epoll, call })
    }

    /// Registers a socket under a mark: for what there is to read, and with `room` for room to
    /// write, too. What is so already is told as if it had happened now. For a socket that is
    /// registered already, room is all that changes anything.
    pub fn watch(&self, socket: BorrowedFd<'_>, mark: usize, room: bool) -> io::Result<()> {
        let reads = News::EPOLLIN | News::EPOLLRDHUP | News::EPOLLPRI | News::EPOLLET;
        let mut event =
            EpollEvent::new(if room { reads | News::EPOLLOUT } else { reads }, mark as u64);
        match self.epoll.add(socket, event) {
            Err(Errno::EEXIST) if room => Ok(self.epoll.modify(socket, &mut event)?),
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes a socket away.
    pub fn forget(&self, socket: BorrowedFd<'_>) {
        // it fails only when the socket was not there
        let _ = self.epoll.delete(socket);
    }

    /// From now on the news of another poller are news of this one, as an [`PollEvent::Poller`] of
    /// this number.
    pub fn adopt(&self, other: &Poller, number: usize) -> io::Result<()> {
        match self
            .epoll
            .add(&other.epoll.0, EpollEvent::new(EpollFlags::EPOLLIN, LAST_POLLER - number as u64))
        {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The other way round.
    pub fn release(&self, other: &Poller) {
        self.forget(other.epoll.0.as_fd());
    }

    /// Makes one waiting thread return, or the next one that would wait.
    pub fn call(&self) {
        // it fails only when the counter is full, and then somebody is called already
        let _ = self.call.write(1);
    }

    /// Waits for news, at most so long; they are put into `events`, and the number of them is
    /// returned. A call counts as one, a signal as none.
    pub fn wait(&self, events: &mut [EpollEvent], limit: Duration) -> usize {
        self.epoll.wait(events, poll_timeout(limit)).unwrap_or(0)
    }
}

/// What an event is about.
pub fn read(event: &EpollEvent) -> PollEvent {
    match event.data() {
        CALL => PollEvent::Call,
        mark if mark > LAST_POLLER - MOST_POLLERS as u64 => {
            PollEvent::Poller((LAST_POLLER - mark) as usize)
        }
        mark => PollEvent::Socket(mark as usize, event.events()),
    }
}
