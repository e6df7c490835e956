//! What the admin pages can make the program do: changes, with the listen addresses that go with them, saving, stopping.
//!
//! Called on the thread `admin`, one call at a time, so saving needs no lock.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::{Signal, raise};
use parking_lot::Mutex;

use crate::admin::control::Control;
use crate::config::{Address, Change, Refusal, read, write};
use crate::state::{Director, Service};
use crate::system::replace::replace_file;
use crate::system::sink::Sink;
use crate::traffic::{self, Listener, Traffic};

/// What the program was started with, for the admin pages to work on.
#[derive(Default)]
pub struct Office {
    /// The configuration file; without one, nothing can be saved.
    pub file: Option<PathBuf>,
    /// The log; without one, nothing can be reopened.
    pub log: Option<Arc<Sink>>,
}

/// The levers of the running balancer.
pub(super) struct Levers {
    pub director: Arc<Director>,
    pub traffic: Arc<Traffic>,
    pub listeners: Mutex<Vec<Listener>>,
    /// The program is stopping: no new address is opened.
    pub is_closed: AtomicBool,
    pub office: Office,
}

impl Levers {
    /// Opens the address first: a service that cannot listen is not made.
    fn new_service(&self, change: &Change, listen: &Address) -> Result<String, Refusal> {
        let cannot = |e: &dyn std::fmt::Display| Refusal::Conflict(format!("cannot listen on {listen}: {e}"));
        if self.is_closed.load(SeqCst) {
            return Err(cannot(&"the program is stopping"));
        }
        let sockets = traffic::bind(listen).map_err(|e| cannot(&e))?;
        let before = self.director.services();
        let done = self.director.apply(change)?;
        let services = self.director.services();
        let is_new = |service: &&Arc<Service>| !before.iter().any(|old| Arc::ptr_eq(old, service));
        let Some(service) = services.iter().find(is_new) else { return Ok(done) };
        for socket in sockets {
            match Listener::start(socket, listen.clone(), service.clone(), self.traffic.clone()) {
                Ok(listener) => self.listeners.lock().push(listener),
                Err(e) => {
                    let undone = self.director.apply(&Change::DelService { service: service.name().to_owned() });
                    self.close_orphans();
                    return undone.and(Err(cannot(&e)));
                }
            }
        }
        Ok(done)
    }

    /// Closes the listeners of services that are gone. Their sessions go on.
    fn close_orphans(&self) {
        let services = self.director.services();
        let is_orphan = |listener: &Listener| !services.iter().any(|service| Arc::ptr_eq(service, &listener.service()));
        let orphans: Vec<Listener> = {
            let mut listeners = self.listeners.lock();
            let (orphans, others) = std::mem::take(&mut *listeners).into_iter().partition(is_orphan);
            *listeners = others;
            orphans
        };
        orphans.iter().for_each(Listener::stop);
    }
}

impl Control for Levers {
    fn director(&self) -> &Director {
        &self.director
    }

    fn apply(&self, change: &Change) -> Result<String, Refusal> {
        let done = match change {
            Change::NewService { listen, .. } => self.new_service(change, listen)?,
            _ => self.director.apply(change)?,
        };
        if let Change::DelService { .. } = change {
            self.close_orphans();
        }
        // a host to retry or to drain is the manager's business, now rather than at its next look
        self.traffic.wake_manager();
        Ok(done)
    }

    fn save(&self) -> Result<String, Refusal> {
        let Some(file) = &self.office.file else {
            return Err(Refusal::Conflict("this program was started without a configuration file".into()));
        };
        let name = file.display();
        let cannot = |e: &dyn std::fmt::Display| Refusal::Conflict(format!("cannot save {name}: {e}"));
        let original = fs::read(file).map_err(|e| cannot(&e))?;
        if !read::parse(file, &original).is_ok_and(|there| self.director.is_saved(&there)) {
            return Err(cannot(&"somebody has changed the file since this program read or wrote it, and saving would undo that"));
        }
        let config = self.director.config();
        let text = write::merge(&original, &config);
        // what was written must mean what is running; a file that grew too large would not load any more
        match read::parse(file, text.as_bytes()) {
            Ok(written) if written == config => {}
            Ok(_) => return Err(cannot(&"the file would not say what is running")),
            Err(mistakes) => return Err(cannot(&mistakes)),
        }
        // what is there already is not written again: the backup stays the one of what was there before
        if text.as_bytes() != original {
            replace_file(file, text.as_bytes()).map_err(|e| cannot(&e))?;
        }
        self.director.note_saved(config);
        Ok(format!("config saved to {name}"))
    }

    fn reopen_log(&self) -> Result<String, Refusal> {
        let Some(log) = &self.office.log else { return Err(Refusal::Conflict("there is no log to reopen".into())) };
        log.reopen().map_err(|e| Refusal::Conflict(format!("the log is kept as it is: {e}")))?;
        Ok("log reopened".into())
    }

    fn shutdown(&self) -> Result<String, Refusal> {
        // the same way as from outside: sessions may finish
        raise(Signal::SIGTERM).map_err(|e| Refusal::Conflict(format!("cannot stop: {e}")))?;
        Ok("stopping".into())
    }

    fn config_xml(&self, with_hashes: bool) -> String {
        write::to_xml(self.director.origin(), with_hashes)
    }

    fn running_xml(&self, with_hashes: bool) -> String {
        write::to_xml(&self.director.config(), with_hashes)
    }
}
