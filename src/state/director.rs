//! All services, users and events: the root of the running state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

use super::events::Events;
use super::group::Group;
use super::host::Names;
use super::reloads::Reloads;
use super::service::Service;
use super::sessions::Sessions;
use super::waiting::Waiting;
use crate::config::{Config, ServiceConfig, UserConfig};

/// The root of the running state.
pub struct Director {
    services: RwLock<Vec<Arc<Service>>>,
    /// What describes it as it is now; what the operator and the checks say of hosts is not in it.
    config: RwLock<Config>,
    /// What the configuration file said when it was last read or written.
    saved: RwLock<Config>,
    /// What was there when the last edit by hand began: after a start, a reload, a roll-back or
    /// saving.
    unedited: RwLock<Config>,
    /// The last events.
    pub events: Events,
    /// How reading the configuration file went.
    pub reloads: Reloads,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Who waits for the first answer of a host.
    pub waiting: Arc<Waiting>,
    started: (Instant, SystemTime),
    /// When the last reload is rolled back, if nobody confirms it.
    confirm_by: RwLock<Option<Instant>>,
    /// Another process looks after the hosts now.
    retired: AtomicBool,
}

impl Director {
    /// The state that a configuration describes, with every host up and nothing counted.
    pub fn new(config: &Config) -> Director {
        let director = Director {
            services: RwLock::default(),
            config: RwLock::new(config.clone()),
            saved: RwLock::new(config.clone()),
            unedited: RwLock::new(config.clone()),
            events: Events::default(),
            reloads: Reloads::new(SystemTime::now()),
            sessions: Arc::default(),
            waiting: Arc::default(),
            started: (Instant::now(), SystemTime::now()),
            confirm_by: RwLock::default(),
            retired: AtomicBool::default(),
        };
        director.follow(config, &Names::new());
        director
    }

    /// Becomes what the configuration describes. A service, group or host that was there before
    /// goes on undisturbed, with all that is counted and known of it.
    pub(super) fn follow(&self, config: &Config, names: &Names) {
        let before = self.services();
        let service = |wanted: &ServiceConfig| match before
            .iter()
            .find(|service| service.name() == wanted.name)
        {
            Some(service) => {
                service.follow(wanted, names);
                service.clone()
            }
            None => Arc::new(Service::new(wanted, names)),
        };
        let services = config.services.iter().map(service).collect();
        *self.services.write() = services;
        *self.config.write() = config.clone();
    }

    /// Its services, in configuration order.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.read().clone()
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.read().iter().find(|service| service.name() == name).cloned()
    }

    /// Who may use the admin pages.
    pub fn users(&self) -> Vec<UserConfig> {
        self.config.read().admin.as_ref().map(|admin| admin.users.clone()).unwrap_or_default()
    }

    /// Whether there are admin pages.
    pub fn has_admin(&self) -> bool {
        self.config.read().admin.is_some()
    }

    /// How long a failed host rests before it is tried again.
    pub fn checktime(&self) -> Duration {
        self.config.read().checktime
    }

    /// How long sessions may go on after TERM.
    pub fn grace(&self) -> Duration {
        self.config.read().grace
    }

    /// How long it has been running, and the wall clock at the start.
    pub fn running(&self) -> (Duration, SystemTime) {
        (self.started.0.elapsed(), self.started.1)
    }

    /// The last reload has so much time left to be confirmed, or need not be.
    pub fn await_confirmation(&self, within: Option<Duration>) {
        *self.confirm_by.write() = within.map(|within| Instant::now() + within);
    }

    /// How much time is left to confirm the last reload, if it has to be.
    pub fn confirm_within(&self) -> Option<Duration> {
        self.confirm_by.read().map(|by| by.saturating_duration_since(Instant::now()))
    }

    /// Every group, enabled or not, with its service.
    pub fn groups(&self) -> Vec<(Arc<Service>, Arc<Group>)> {
        let of = |service: Arc<Service>| {
            service.groups().into_iter().map(move |group| (service.clone(), group))
        };
        self.services().into_iter().flat_map(of).collect()
    }

    /// The configuration that describes the state as it is now; what the operator and the checks
    /// say of hosts is not in it.
    pub fn config(&self) -> Config {
        self.config.read().clone()
    }

    /// The configuration file says this: it was read or written just now.
    pub fn note_saved(&self, config: Config) {
        self.note_unedited(config.clone());
        *self.saved.write() = config;
    }

    /// Nobody has edited this by hand: what comes after it are edits.
    pub fn note_unedited(&self, config: Config) {
        *self.unedited.write() = config;
    }

    /// What was there before all edits by hand that may be lost.
    pub fn unedited(&self) -> Config {
        self.unedited.read().clone()
    }

    /// What the configuration file said when it was last read or written.
    pub fn saved(&self) -> Config {
        self.saved.read().clone()
    }

    /// Whether the running state is another than what the configuration file said when it was last
    /// read or written.
    pub fn differs_from_file(&self) -> bool {
        *self.saved.read() != *self.config.read()
    }

    /// A successor has taken over: what is left here are the running sessions.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Whether a successor has taken over.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }
}
