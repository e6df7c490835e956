//! Reloading: the running state becomes what the configuration file says, by changes, all of them or none.
//!
//! A reload that has to be confirmed is rolled back by the thread `confirm` when nobody does in time: for the box at the end of a
//! long wire.

use std::thread;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};

use super::control::Levers;
use crate::config::{Change, Config, Refusal, duration, read};
use crate::system::logging::value;

/// A reload that waits to be confirmed. Dropping it tells its thread that nobody waits any more.
pub(super) struct Pending(Sender<()>);

impl Pending {
    /// The reload is done: from now on its time runs.
    fn begin(&self) {
        // there is room for the one message
        let _ = self.0.try_send(());
    }
}

impl Levers {
    /// The configuration file as it is now.
    pub(super) fn read_file(&self) -> Result<Config, Refusal> {
        let file = self.office.file.as_ref();
        let file = file.ok_or_else(|| Refusal::Conflict("this program was started without a configuration file".into()))?;
        read::load(file).map_err(|mistakes| Refusal::Conflict(mistakes.to_string()))
    }

    /// See [`crate::admin::control::Control::reload`].
    pub(super) fn reload_file(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal> {
        let _one_at_a_time = self.changing.lock();
        let done = self.become_file(by, confirm);
        match &done {
            Ok(words) => log::info!("reload by={} state=done message={}", value(by), value(words)),
            Err(refusal) => {
                for line in refusal.to_string().lines() {
                    log::error!("reload by={} state=refused reason={}", value(by), value(line));
                }
            }
        }
        done
    }

    fn become_file(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal> {
        if self.pending.lock().is_some() {
            let why = "the last reload is not confirmed yet: confirm it, or wait until it is rolled back";
            return Err(Refusal::Conflict(why.to_owned()));
        }
        let (now, new) = (self.director.config(), self.read_file()?);
        let changes = Change::between(&now, &new);
        let overwritten = overwritten(&self.director.unedited(), &now, &new);
        let pending = confirm.map(|within| self.start_waiting(within, now)).transpose()?;
        self.carry_out(&changes)?;
        self.director.note_saved(new);
        self.note("reload overwrites", by, &overwritten);
        self.note("change", by, &changes);
        let mut words = format!("reloaded: {}", count(changes.len(), "change"));
        if !overwritten.is_empty() {
            words += &format!(", {} overwritten", count(overwritten.len(), "edit"));
        }
        if let Some(within) = confirm {
            words += &format!(", rolled back in {} unless confirmed", duration::format(within));
            self.director.await_confirmation(Some(within));
            pending.iter().for_each(Pending::begin);
            *self.pending.lock() = pending;
        }
        Ok(words)
    }

    /// Starts the thread that rolls back to `before`.
    fn start_waiting(&self, within: Duration, before: Config) -> Result<Pending, Refusal> {
        let (pending, over) = bounded(1);
        let me = self.me.clone();
        let wait = move || {
            // a reload that is refused never begins
            if over.recv().is_ok() && over.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
                me.upgrade().inspect(|levers| levers.roll_back(&before));
            }
        };
        let spawned = thread::Builder::new().name("confirm".into()).spawn(wait);
        spawned.map_err(|e| Refusal::Conflict(format!("cannot wait for a confirmation: {e}")))?;
        Ok(Pending(pending))
    }

    fn roll_back(&self, before: &Config) {
        let _one_at_a_time = self.changing.lock();
        if self.pending.lock().take().is_none() {
            return;
        }
        self.director.await_confirmation(None);
        let changes = Change::between(&self.director.config(), before);
        match self.carry_out(&changes) {
            Ok(_) => {
                log::warn!("reload by=confirm state=rolled-back message=\"nobody has confirmed it\"");
                self.note("change", "confirm", &changes);
                self.director.note_unedited(before.clone());
            }
            Err(refusal) => {
                log::error!("reload by=confirm state=kept reason={}", value(&format!("cannot be rolled back: {refusal}")));
            }
        }
    }

    /// See [`crate::admin::control::Control::confirm`].
    pub(super) fn confirm_reload(&self) -> Result<String, Refusal> {
        match self.pending.lock().take() {
            Some(_) => {
                self.director.await_confirmation(None);
                Ok("reload confirmed".to_owned())
            }
            None => Err(Refusal::Conflict("no reload waits to be confirmed".to_owned())),
        }
    }

    /// Tells the log and the events about changes that no request tells about.
    fn note(&self, what: &str, by: &str, changes: &[Change]) {
        for change in changes {
            let change = change.described();
            log::info!("{what} by={} {change}", value(by));
            self.director.events.note(by, format!("{what} {change}"));
        }
    }
}

/// The edits that were made by hand and that the new file does not make.
fn overwritten(unedited: &Config, now: &Config, new: &Config) -> Vec<Change> {
    let wanted = Change::between(unedited, new);
    Change::between(unedited, now).into_iter().filter(|edit| !wanted.contains(edit)).collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
