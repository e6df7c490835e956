//! Reloading: the running state becomes what the configuration file says, by changes, all of them
//! or none.
//!
//! A reload that has to be confirmed is rolled back by the thread `confirm` when nobody does in
//! time: for the box at the end of a long wire.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};

use super::core::{Core, PendingReload};
use crate::budget;
use crate::config::{Change, Config, HostKey, Refusal, duration, read};
use crate::state::{Director, Host, RefusedReload};
use crate::system::limits::Limits;
use crate::system::logging::value;
use crate::system::thread;

/// What a roll-back leads to, which is what there was before a reload: the configuration, and the
/// hosts that were not enabled, which are in no configuration.
struct Rollback {
    config: Config,
    out_of_use: Vec<OutOfUse>,
}

/// A host that the operator has taken out of use.
struct OutOfUse {
    service: String,
    group: String,
    host: Arc<Host>,
}

impl Rollback {
    /// What takes hosts out again that are to come back and are not there now. One that is there is
    /// as it is wanted now.
    fn out_of_use_again(&self, director: &Director) -> Vec<Change> {
        let is_there = |out: &&OutOfUse| {
            let group =
                director.service(&out.service).and_then(|service| service.group(&out.group));
            group.is_some_and(|group| {
                group.hosts().iter().any(|host| host.address() == out.host.address())
            })
        };
        let again = |out: &OutOfUse| {
            let (host, state) = (HostKey::Name(out.host.name().to_owned()), out.host.admin_state());
            Change::SetHost { service: out.service.clone(), group: out.group.clone(), host, state }
        };
        self.out_of_use.iter().filter(|out| !is_there(out)).map(again).collect()
    }
}

fn out_of_use(director: &Director) -> Vec<OutOfUse> {
    let mut all = Vec::new();
    for (service, group) in director.groups() {
        let out = |host: Arc<Host>| OutOfUse {
            service: service.name().to_owned(),
            group: group.name().to_owned(),
            host,
        };
        let hosts = group.hosts().into_iter();
        all.extend(hosts.filter(|host| !host.admin_state().is_enabled()).map(out));
    }
    all
}

impl Core {
    /// What the configuration file says now, and its bytes.
    pub(super) fn read_file(&self) -> Result<(Config, Vec<u8>), Refusal> {
        let file = self.environment.file.as_ref();
        let file = file.ok_or_else(|| {
            Refusal::Conflict("this program was started without a configuration file".into())
        })?;
        let loaded = read::load_with_source(file)
            .map_err(|mistakes| Refusal::Conflict(mistakes.to_string()))?;
        match budget::refused_hashes(&loaded.0, &Limits::read()) {
            refused if refused.is_empty() => Ok(loaded),
            refused => Err(Refusal::Conflict(refused.join("\n"))),
        }
    }

    /// See [`crate::admin::control::Control::reload`].
    pub(super) fn reload_file(
        &self,
        by: &str,
        confirm: Option<Duration>,
    ) -> Result<String, Refusal> {
        let _one_at_a_time = self.changing.lock();
        let done = self.become_file(by, confirm);
        match &done {
            Ok(words) => {
                log::info!("reload by={} state=done message={}", value(by), value(words));
                self.director.reloads.note_done();
                self.warn();
            }
            Err(refusal) => self.note_refused(by, &refusal.to_string()),
        }
        done
    }

    /// Reports a reload that was refused, for reasons of one line each: in the log, the events and
    /// the state.
    pub(super) fn note_refused(&self, by: &str, reasons: &str) {
        for reason in reasons.lines() {
            log::error!("reload by={} state=refused reason={}", value(by), value(reason));
        }
        self.director.reloads.note_refused(by, reasons);
        if let Some(RefusedReload { reasons, .. }) = self.director.reloads.refused() {
            let reasons = reasons.join("; ");
            self.director
                .events
                .note(by, format!("reload state=refused reason={}", value(&reasons)));
        }
    }

    /// See [`super::Daemon::status`].
    pub(super) fn status(&self) -> String {
        let names: Vec<String> =
            self.director.services().iter().map(|service| service.name().to_owned()).collect();
        let serving = format!("serving {}", names.join(", "));
        match self.director.reloads.refused() {
            Some(RefusedReload { by, reasons, .. }) => {
                let reason = reasons.first().map_or("", String::as_str);
                format!("the last reload, by {by}, was refused: {reason}; {serving}")
            }
            None => serving,
        }
    }

    fn become_file(&self, by: &str, confirm: Option<Duration>) -> Result<String, Refusal> {
        if self.pending.lock().is_some() {
            let why =
                "the last reload is not confirmed yet: confirm it, or wait until it is rolled back";
            return Err(Refusal::Conflict(why.to_owned()));
        }
        let (now, (new, source)) = (self.director.config(), self.read_file()?);
        let changes = Change::between(&now, &new);
        let overwritten = overwritten(&self.director.unedited(), &now, &new);
        let before = Rollback { config: now, out_of_use: out_of_use(&self.director) };
        let pending =
            confirm.map(|within| self.start_confirmation_timer(within, before)).transpose()?;
        self.reconfigure(&changes)?;
        *self.environment.source.lock() = source;
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
            pending.iter().for_each(PendingReload::begin);
            *self.pending.lock() = pending;
        }
        Ok(words)
    }

    /// Starts the thread that rolls back to `before`.
    fn start_confirmation_timer(
        &self,
        within: Duration,
        before: Rollback,
    ) -> Result<PendingReload, Refusal> {
        let (pending, over) = bounded(1);
        let me = self.me.clone();
        let wait = move || {
            // a reload that is refused never begins
            if over.recv().is_ok() && over.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
                me.upgrade().inspect(|core| core.roll_back(&before, &over));
            }
        };
        let spawned = thread::start("confirm", thread::LARGE, wait);
        spawned.map_err(|e| Refusal::Conflict(format!("cannot wait for a confirmation: {e}")))?;
        Ok(PendingReload::new(pending))
    }

    fn roll_back(&self, before: &Rollback, over: &Receiver<()>) {
        let _one_at_a_time = self.changing.lock();
        // confirmed at the last moment, and what waits now may be a later reload: that one has a
        // thread of its own
        let is_confirmed = over.try_recv() == Err(TryRecvError::Disconnected);
        if is_confirmed || self.pending.lock().take().is_none() {
            return;
        }
        self.director.await_confirmation(None);
        let mut changes = Change::between(&self.director.config(), &before.config);
        changes.extend(before.out_of_use_again(&self.director));
        match self.reconfigure(&changes) {
            Ok(_) => {
                log::warn!(
                    "reload by=confirm state=rolled-back message=\"nobody has confirmed it\""
                );
                self.note("change", "confirm", &changes);
                self.director.reloads.note_refused("confirm", "nobody has confirmed it");
                self.director.note_unedited(before.config.clone());
            }
            Err(refusal) => {
                log::error!(
                    "reload by=confirm state=kept reason={}",
                    value(&format!("cannot be rolled back: {refusal}"))
                );
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

    /// Notes in the log and among the events the changes that are part of a reload.
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
