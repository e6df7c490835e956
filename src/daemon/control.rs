//! What the admin pages can make the program do: changes, reloading, saving, stopping.
//!
//! Called on the thread `admin`, one call at a time; only while new admin pages take over from old
//! ones there may be two of them. A reload also comes from the thread `reload`, one that is taken
//! back from `confirm`. `changing` makes all of that safe.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::reload::Pending;
use crate::admin::control::Control;
use crate::admin::{Admin, Cost};
use crate::budget;
use crate::config::{Change, Refusal, read, write};
use crate::state::Director;
use crate::system::atomic_write::replace_file;
use crate::system::limits::Limits;
use crate::system::log_output::{LogOutput, Target};
use crate::system::notify;
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

/// Tells where a log of that name is; `None` stands for no `<logging>`.
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
    pub lent: Vec<SocketAddr>,
    /// One change at a time, so that what was checked is still so when it is done. Held while
    /// addresses are opened and names looked up: only who wants to change something waits for it.
    pub changing: Mutex<()>,
    /// A reload that waits to be confirmed.
    pub pending: Mutex<Option<Pending>>,
}

impl Control for Core {
    fn director(&self) -> &Director {
        &self.director
    }

    fn password_limit(&self) -> Cost {
        budget::password(&self.director.config(), &Limits::read())
    }

    fn apply(&self, change: &Change) -> Result<String, Refusal> {
        let _one_at_a_time = self.changing.lock();
        let before = self.director.config();
        let words = self.carry_out(std::slice::from_ref(change))?.pop();
        self.warn_of_news(Some(&before));
        Ok(words.unwrap_or_default())
    }

    fn plan(&self) -> Result<Vec<Change>, Refusal> {
        Ok(Change::between(&self.director.config(), &self.read_file()?.0))
    }

    fn reload(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal> {
        let done = self.reload_file(by, confirm);
        notify::status(&self.status());
        done
    }

    fn confirm(&self) -> Result<String, Refusal> {
        self.confirm_reload()
    }

    fn save(&self) -> Result<String, Refusal> {
        let Some(file) = &self.environment.file else {
            return Err(Refusal::Conflict(
                "this program was started without a configuration file".into(),
            ));
        };
        let name = file.display();
        let cannot =
            |e: &dyn std::fmt::Display| Refusal::Conflict(format!("cannot save {name}: {e}"));
        let _one_at_a_time = self.changing.lock();
        self.refuse_when_replaced()?;
        let original = fs::read(file).map_err(|e| cannot(&e))?;
        if !read::parse(file, &original).is_ok_and(|there| there == self.director.saved()) {
            return Err(cannot(
                &"somebody has changed the file since this program read or wrote it, and saving would undo that",
            ));
        }
        let config = self.director.config();
        let text = write::merge(&original, &config);
        // what was written must mean what is running; a file that grew too large would not load any
        // more
        match read::parse(file, text.as_bytes()) {
            Ok(written) if written == config => {}
            Ok(_) => return Err(cannot(&"the file would not say what is running")),
            Err(mistakes) => return Err(cannot(&mistakes)),
        }
        // what is there already is not written again: the backup stays the one of what was there
        // before
        if text.as_bytes() != original {
            replace_file(file, text.as_bytes()).map_err(|e| cannot(&e))?;
        }
        *self.environment.source.lock() = text.into_bytes();
        self.director.note_saved(config);
        Ok(format!("config saved to {name}"))
    }

    fn lost_lines(&self) -> usize {
        self.environment.log.as_ref().map_or(0, |log| log.lost())
    }

    fn reopen_log(&self) -> Result<String, Refusal> {
        let Some(log) = &self.environment.log else {
            return Err(Refusal::Conflict("there is no log to reopen".into()));
        };
        log.reopen().map_err(|e| Refusal::Conflict(format!("the log is kept as it is: {e}")))?;
        Ok("log reopened".into())
    }

    fn shutdown(&self) -> Result<String, Refusal> {
        // the same way as from outside: sessions may finish
        kill(Pid::this(), Signal::SIGTERM)
            .map_err(|e| Refusal::Conflict(format!("cannot stop: {}", std::io::Error::from(e))))?;
        Ok("stopping".into())
    }

    fn config_xml(&self, with_hashes: bool) -> String {
        write::show(&self.environment.source.lock(), &self.director.saved(), with_hashes)
    }

    fn running_xml(&self, with_hashes: bool) -> String {
        write::to_xml(&self.director.config(), with_hashes)
    }
}
