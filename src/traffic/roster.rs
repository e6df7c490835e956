//! Who is connected: every session from accept to its log line, so that a stop can wait for them, or end them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::session::Running;
use crate::relay::End;

/// The open sessions.
#[derive(Default)]
pub struct Roster {
    book: Mutex<Book>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Book {
    last_id: u64,
    /// Every open session; those that are connected can be reached.
    open: HashMap<u64, Option<Weak<Running>>>,
}

/// A line in the roster; dropping it strikes the session out.
pub struct Entry {
    id: u64,
    roster: Arc<Roster>,
}

impl Roster {
    /// Writes a new session in.
    pub(super) fn enter(self: &Arc<Self>) -> Entry {
        let mut book = self.book.lock();
        book.last_id += 1;
        let id = book.last_id;
        book.open.insert(id, None);
        Entry { id, roster: self.clone() }
    }

    /// Sessions from accept to log line, waiting ones included.
    pub fn open(&self) -> usize {
        self.book.lock().open.len()
    }

    /// Sessions that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.book.lock().last_id
    }

    /// Whether the program is ending its sessions.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// Ends all connected sessions, and those that connect from now on.
    pub fn cut_all(&self) {
        self.stopping.store(true, SeqCst);
        let running: Vec<_> = self.book.lock().open.values().flatten().filter_map(Weak::upgrade).collect();
        running.iter().for_each(|session| session.relay().cut(End::Stopped));
    }
}

impl Entry {
    /// The session's number, unique in this run of the program.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether the program is ending its sessions.
    pub(super) fn is_stopping(&self) -> bool {
        self.roster.is_stopping()
    }

    /// The session is connected: it can be ended from outside now.
    pub(super) fn connected(&self, session: &Arc<Running>) {
        if let Some(line) = self.roster.book.lock().open.get_mut(&self.id) {
            *line = Some(Arc::downgrade(session));
        }
        // after the entry: a stop either finds the session in the book or is seen here
        if self.roster.is_stopping() {
            session.relay().cut(End::Stopped);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.book.lock().open.remove(&self.id);
    }
}
