//! `relay::poller` without sockets: all that ever happens is that somebody wakes a thread. As in
//! the kernel, a wake-up is for one thread, and for the next one if none waits.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::Side;

pub type Readiness = EpollFlags;

#[derive(Clone, Copy)]
pub struct Token {
    pub number: usize,
    pub side: Side,
}

#[allow(dead_code, reason = "without sockets there is nothing but wake-ups")]
pub enum PollEvent {
    Wake,
    Poller(usize),
    Socket(Token, Readiness),
}

pub struct Poller {
    is_woken: Mutex<bool>,
    has_changed: Condvar,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { is_woken: Mutex::new(false), has_changed: Condvar::new() })
    }

    pub fn register(&self, _: BorrowedFd<'_>, _: Token, _room: bool) -> io::Result<()> {
        Ok(())
    }

    pub fn deregister(&self, _: BorrowedFd<'_>) {}

    pub fn adopt(&self, _: &Poller, _number: usize) -> io::Result<()> {
        Ok(())
    }

    pub fn release(&self, _: &Poller) {}

    pub fn wake(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.has_changed.notify_one();
    }

    /// Waits until somebody wakes it, however long that takes, unless it is not to wait at all.
    pub fn wait(&self, _: &mut [EpollEvent], limit: Duration) -> usize {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken && !limit.is_zero() {
            is_woken = self.has_changed.wait(is_woken).unwrap();
        }
        usize::from(std::mem::take(&mut *is_woken))
    }
}

pub fn read(_: &EpollEvent) -> PollEvent {
    PollEvent::Wake
}
