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

use super::direction::Side;
use super::limits::MOST_POLLERS;
use crate::system::poll_timeout::poll_timeout;

/// What epoll says about a socket.
pub type Readiness = EpollFlags;

/// The mark of the event counter; sockets are marked with numbers that fit a `usize`, and never
/// with this one.
const WAKE: u64 = u64::MAX;

/// The mark of the last of other pollers; the others have the numbers before it, which no socket
/// has either.
const LAST_POLLER: u64 = WAKE - 1;

/// A socket, as its poller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The number of the task that it belongs to.
    pub number: usize,
    /// Which of the two it is.
    pub side: Side,
}

impl Token {
    fn mark(self) -> u64 {
        ((self.number << 1) | usize::from(self.side == Side::Server)) as u64
    }

    fn of(mark: u64) -> Token {
        let side = if mark & 1 == 0 { Side::Client } else { Side::Server };
        Token { number: mark as usize >> 1, side }
    }
}

/// What an event is about.
pub enum PollEvent {
    /// Somebody has woken the thread for other work.
    Wake,
    /// There are events at another poller.
    Poller(usize),
    /// What has happened to this socket.
    Socket(Token, Readiness),
}

/// A socket that is closed leaves it by itself.
pub struct Poller {
    epoll: Epoll,
    waker: EventFd,
}

impl Poller {
    /// Two descriptors.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&waker, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WAKE))?;
        Ok(Poller { epoll, waker })
    }

    /// Registers a socket: for what there is to read, and with `room` for room to
    /// write, too. What is so already is told as if it had happened now. For a socket that is
    /// registered already, room is all that changes anything.
    pub fn register(&self, socket: BorrowedFd<'_>, token: Token, room: bool) -> io::Result<()> {
        let reads =
            Readiness::EPOLLIN | Readiness::EPOLLRDHUP | Readiness::EPOLLPRI | Readiness::EPOLLET;
        let mut event =
            EpollEvent::new(if room { reads | Readiness::EPOLLOUT } else { reads }, token.mark());
        match self.epoll.add(socket, event) {
            Err(Errno::EEXIST) if room => Ok(self.epoll.modify(socket, &mut event)?),
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes a socket away.
    pub fn deregister(&self, socket: BorrowedFd<'_>) {
        // it fails only when the socket was not there
        let _ = self.epoll.delete(socket);
    }

    /// From now on the events of another poller are events of this one, as a [`PollEvent::Poller`]
    /// of this number.
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
        self.deregister(other.epoll.0.as_fd());
    }

    /// Makes one waiting thread return, or the next one that would wait.
    pub fn wake(&self) {
        // it fails only when the counter is full, and then somebody is woken already
        let _ = self.waker.write(1);
    }

    /// Waits for events, at most so long, and returns how many there are. A wake-up counts as one,
    /// a signal as none.
    pub fn wait(&self, events: &mut [EpollEvent], limit: Duration) -> usize {
        self.epoll.wait(events, poll_timeout(limit)).unwrap_or(0)
    }
}

/// What an event is about.
pub fn read(event: &EpollEvent) -> PollEvent {
    match event.data() {
        WAKE => PollEvent::Wake,
        mark if mark > LAST_POLLER - MOST_POLLERS as u64 => {
            PollEvent::Poller((LAST_POLLER - mark) as usize)
        }
        mark => PollEvent::Socket(Token::of(mark), event.events()),
    }
}
