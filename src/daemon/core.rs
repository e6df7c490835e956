//! What the parts of the running balancer share: [`Core`], whose methods are in the other files of
//! this folder, by what they do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use crossbeam::channel::Sender;
use parking_lot::Mutex;

use crate::admin::Admin;
use crate::state::Director;
use crate::system::log_output::{LogOutput, Target};
use crate::traffic::{Listener, Traffic};

/// What the program was started with, for the admin pages to work on.
#[derive(Default)]
pub struct Environment {
    /// The configuration file; without one, nothing can be saved.
    pub file: Option<PathBuf>,
    /// What stood in it when it was last read or written; empty without one.
    pub source: Mutex<Vec<u8>>,
    /// Whom the program has become after its start as root.
    pub user: Option<String>,
    /// The log; without one, nothing can be reopened.
    pub log: Option<Arc<LogOutput>>,
    /// What `<logging>` means for this program; `None` where it means nothing, because a flag said
    /// where to log.
    pub target: Option<Box<Targeting>>,
}

/// Returns where a log of that name is; `None` stands for no `<logging>`.
pub type Targeting = dyn Fn(Option<&str>) -> Target + Send + Sync;

/// The core of the running balancer.
pub(super) struct Core {
    pub me: Weak<Core>,
    pub director: Arc<Director>,
    pub traffic: Arc<Traffic>,
    pub listeners: Mutex<Vec<Listener>>,
    pub admin: Mutex<Option<Admin>>,
    /// The program is stopping: no new address is opened.
    pub is_closed: AtomicBool,
    /// Another program is about to take over, or has: a change would be lost.
    pub is_replaced: AtomicBool,
    pub environment: Environment,
    /// Where systemd goes on listening when this program does not.
    pub activated: Vec<SocketAddr>,
    /// One change at a time, so that what was checked is still so when it is done. Held while
    /// addresses are opened and names looked up: only who wants to change something waits for it.
    pub changing: Mutex<()>,
    /// A reload that waits to be confirmed.
    pub pending: Mutex<Option<PendingReload>>,
}

/// A reload that waits to be confirmed. Dropping it ends the wait of its thread.
pub(super) struct PendingReload(Sender<()>);

impl PendingReload {
    /// Of the thread that has the other end.
    pub fn new(thread: Sender<()>) -> PendingReload {
        PendingReload(thread)
    }

    /// The reload is done: from now on its time runs.
    pub fn begin(&self) {
        // there is room for the one message
        let _ = self.0.try_send(());
    }
}
