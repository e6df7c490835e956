//! The pollers of a pool. One is open at first; while its threads have no rest another is opened,
//! up to one for each processor, and closed again when fewer will do ([`super::load`] judges that).
//! Two threads with a poller each do more than two at one: neither wakes for what the other has in
//! its hands. With little to do, one that hears of everything does it with fewer wake-ups.
//!
//! A socket is registered with the open poller that its session's number falls to. When another
//! number of them is open, it moves when its flow parks the next time. What never moves is not
//! lost: a poller that is closed is itself a member of the first one, and each open one is looked
//! at (`super::threads` tells by whom).
//!
//! The one lock here is held while pollers are opened and closed, across calls that do not wait;
//! nothing on the way of a byte takes it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use parking_lot::Mutex;

use super::limits::MOST_POLLERS;
use super::poller::{Poller, Token};

/// All that were ever needed.
pub struct Pollers {
    made: [OnceLock<Poller>; MOST_POLLERS],
    open: AtomicUsize,
    /// How many may be open.
    most: Mutex<usize>,
}

impl Pollers {
    /// With one that is open.
    pub fn new(most: usize) -> io::Result<Pollers> {
        let pollers = Pollers {
            made: [const { OnceLock::new() }; MOST_POLLERS],
            open: AtomicUsize::new(1),
            most: Mutex::new(most),
        };
        pollers.make(0)?;
        Ok(pollers)
    }

    /// How many are open: those with lower numbers than this.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// The one for the session of this number, now.
    pub fn of(&self, session: usize) -> usize {
        session % self.open()
    }

    /// Opens another one, if there may be one more; tells whether it has.
    pub fn grow(&self) -> bool {
        let most = self.most.lock();
        let open = self.open();
        if open >= *most || self.make(open).is_err() {
            return false;
        }
        if let (Some(first), Some(next)) = (self.get(0), self.get(open)) {
            first.release(next);
        }
        self.open.store(open + 1, SeqCst);
        true
    }

    /// Closes the last one, unless it is the only one. Its leader may stay there until there is
    /// something else to do.
    pub fn shrink(&self) {
        self.close_last(&self.most.lock());
    }

    /// Changes the limit.
    pub fn set_most(&self, new: usize) {
        let mut most = self.most.lock();
        *most = new;
        while self.open() > new.max(1) && self.close_last(&most) {}
    }

    /// Registers a socket with this one; see [`Poller::register`].
    pub fn register(
        &self,
        at: usize,
        socket: BorrowedFd<'_>,
        token: Token,
        room: bool,
    ) -> io::Result<()> {
        self.get(at).ok_or(io::ErrorKind::NotFound)?.register(socket, token, room)
    }

    /// Takes a socket away from this one.
    pub fn deregister(&self, at: usize, socket: BorrowedFd<'_>) {
        if let Some(poller) = self.get(at) {
            poller.deregister(socket);
        }
    }

    /// Waits at this one; see [`Poller::wait`].
    pub fn wait(&self, at: usize, events: &mut [EpollEvent], limit: Duration) -> usize {
        self.get(at).map_or(0, |poller| poller.wait(events, limit))
    }

    /// Makes one thread return that waits at this one, or the next one that would.
    pub fn wake(&self, at: usize) {
        if let Some(poller) = self.get(at) {
            poller.wake();
        }
    }

    /// The same at each of them.
    pub fn wake_all(&self) {
        self.made.iter().filter_map(OnceLock::get).for_each(Poller::wake);
    }

    fn close_last(&self, _most: &usize) -> bool {
        let last = self.open() - 1;
        let (Some(first), Some(poller), true) = (self.get(0), self.get(last), last > 0) else {
            return false;
        };
        // before nobody is bound to look at it
        if first.adopt(poller, last).is_err() {
            return false;
        }
        self.open.store(last, SeqCst);
        // whoever waits there is of more use elsewhere
        poller.wake();
        true
    }

    fn make(&self, number: usize) -> io::Result<()> {
        let entry = self.made.get(number).ok_or(io::ErrorKind::NotFound)?;
        if entry.get().is_none() {
            // under the lock, so that nobody else has set it meanwhile
            let _ = entry.set(Poller::new()?);
        }
        Ok(())
    }

    fn get(&self, number: usize) -> Option<&Poller> {
        self.made.get(number)?.get()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::super::direction::Side;
    use super::super::poller::{self, PollEvent, Readiness};
    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// The first event that comes to a poller and is no wake-up.
    fn event(pollers: &Pollers, at: usize, limit: Duration) -> Option<PollEvent> {
        let mut events = [EpollEvent::empty()];
        while pollers.wait(at, &mut events, limit) == 1 {
            match events.first().map(poller::read) {
                Some(PollEvent::Wake) => {}
                event => return event,
            }
        }
        None
    }

    #[test]
    fn there_is_one_at_first_and_there_are_never_more_than_allowed() {
        let pollers = Pollers::new(2).unwrap();
        assert_eq!([pollers.open(), pollers.of(7)], [1, 0]);
        assert_eq!([pollers.grow(), pollers.grow()], [true, false]);
        assert_eq!([pollers.open(), pollers.of(6), pollers.of(7)], [2, 0, 1]);
        pollers.set_most(1);
        assert_eq!((pollers.open(), pollers.grow()), (1, false));
        pollers.shrink();
        assert_eq!(pollers.open(), 1);
    }

    #[test]
    fn what_is_left_at_a_poller_that_is_closed_is_told_by_the_first_one() {
        const LONG: Duration = Duration::from_secs(20);
        let pollers = Pollers::new(2).unwrap();
        let (socket, mut other) = pair();
        assert!(pollers.grow());
        let token = Token { number: 21, side: Side::Server };
        pollers.register(1, socket.as_fd(), token, false).unwrap();
        pollers.shrink();
        other.write_all(b"x").unwrap();
        assert!(matches!(event(&pollers, 0, LONG), Some(PollEvent::Poller(1))));
        assert!(matches!(
            event(&pollers, 1, Duration::ZERO),
            Some(PollEvent::Socket(found, Readiness::EPOLLIN)) if found == token
        ));
        // and not any more when it is open again
        assert!(pollers.grow());
        other.write_all(b"x").unwrap();
        assert!(
            matches!(event(&pollers, 1, LONG), Some(PollEvent::Socket(found, _)) if found == token)
        );
        assert!(event(&pollers, 0, Duration::ZERO).is_none());
    }
}
