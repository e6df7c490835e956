//! What the admin pages can make the program do: changes, reloading, saving, stopping.
//!
//! Called on the thread `admin`, one call at a time; only while new admin pages take over from old
//! ones there may be two of them. A reload also comes from the thread `reload`, one that is taken
//! back from `confirm`. `changing` makes all of that safe.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::core::Core;
use crate::admin::Cost;
use crate::admin::control::Control;
use crate::budget;
use crate::config::{Change, Refusal, read, write};
use crate::state::Director;
use crate::system::atomic_write::replace_file;
use crate::system::limits::Limits;
use crate::system::notify;

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
        let words = self.reconfigure(std::slice::from_ref(change))?.pop();
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
