//! Who is connected: every session from accept to its log line. A stop waits for them or ends them,
//! a drain ends some, and the admin pages show them. Owns one lock, around the book; nothing is
//! ended while it is held.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use slab::Slab;

use super::{Group, Host, Service};
use crate::relay::{CloseReason, Relay};

/// The open sessions.
#[derive(Default)]
pub struct Sessions {
    book: Mutex<Book>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Book {
    last_id: u64,
    open: Slab<Line>,
}

/// What the sessions knows of a session.
#[derive(Clone)]
pub struct Line {
    /// The session's number, unique in this run of the program.
    pub id: u64,
    /// What it came to.
    pub service: Arc<Service>,
    /// Where the client is.
    pub client: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// Where it is connected to, once it is.
    pub link: Option<Link>,
}

/// A session's connection with a host.
#[derive(Clone)]
pub struct Link {
    /// The group that the host was picked from.
    pub group: Arc<Group>,
    /// The host.
    pub host: Arc<Host>,
    /// The address of the host that answered.
    pub server: SocketAddr,
    relay: Weak<Relay>,
}

impl Link {
    /// A connection that lives as long as somebody else holds the relay.
    pub fn new(group: Arc<Group>, host: Arc<Host>, server: SocketAddr, relay: &Arc<Relay>) -> Link {
        Link { group, host, server, relay: Arc::downgrade(relay) }
    }

    /// The relay, while it runs.
    pub fn relay(&self) -> Option<Arc<Relay>> {
        self.relay.upgrade()
    }
}

/// A session's place in the sessions; dropping it strikes the session out.
pub struct Entry {
    id: u64,
    /// Where its line is in the book.
    place: usize,
    sessions: Arc<Sessions>,
}

impl Sessions {
    /// Writes a new session in.
    pub fn enter(self: &Arc<Self>, service: Arc<Service>, client: SocketAddr) -> Entry {
        let mut book = self.book.lock();
        book.last_id += 1;
        let id = book.last_id;
        let place =
            book.open.insert(Line { id, service, client, accepted: Instant::now(), link: None });
        Entry { id, place, sessions: self.clone() }
    }

    /// How many sessions are open, waiting ones included.
    pub fn open(&self) -> usize {
        self.book.lock().open.len()
    }

    /// Sessions that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.book.lock().last_id
    }

    /// Numbers go on after this one, which a predecessor has given last.
    pub fn go_on_after(&self, id: u64) {
        let mut book = self.book.lock();
        book.last_id = book.last_id.max(id);
    }

    /// The open sessions, in the order of their arrival.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> =
            self.book.lock().open.iter().map(|(_, line)| line.clone()).collect();
        lines.sort_unstable_by_key(|line| line.id);
        lines
    }

    /// Ends those of the connected sessions that are meant; tells how many.
    pub fn cut(&self, reason: CloseReason, is_meant: impl Fn(&Link, &Relay) -> bool) -> usize {
        let links = self.lines().into_iter().filter_map(|line| line.link);
        links
            .filter(|link| {
                link.relay().is_some_and(|relay| is_meant(link, &relay) && relay.cut(reason))
            })
            .count()
    }

    /// Ends all connected sessions, and those that connect from now on; tells how many there were.
    pub fn cut_all(&self) -> usize {
        self.stopping.store(true, SeqCst);
        self.cut(CloseReason::Stopped, |_, _| true)
    }
}

impl Entry {
    /// The session's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the program is ending its sessions.
    pub fn is_stopping(&self) -> bool {
        self.sessions.stopping.load(SeqCst)
    }

    /// The session is connected: it can be seen and ended from outside now.
    pub fn connected(&self, link: Link) {
        let relay = link.relay();
        if let Some(line) = self.sessions.book.lock().open.get_mut(self.place) {
            line.link = Some(link);
        }
        // after the entry: a stop either finds the session in the book or is seen here
        if self.is_stopping() {
            relay.inspect(|relay| {
                relay.cut(CloseReason::Stopped);
            });
        }
    }

    /// The session looks for another host.
    pub fn disconnected(&self) {
        // dropped without the lock
        let _link =
            self.sessions.book.lock().open.get_mut(self.place).and_then(|line| line.link.take());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // dropped without the lock
        let _line = self.sessions.book.lock().open.try_remove(self.place);
    }
}
