//! All services, users and events: the root of the running state.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};

use super::events::Events;
use super::group::Group;
use super::roster::Roster;
use super::service::Service;
use crate::config::{AdminConfig, Config, UserConfig};

/// The root of the running state.
pub struct Director {
    services: RwLock<Vec<Arc<Service>>>,
    users: RwLock<Vec<UserConfig>>,
    /// What cannot be changed while the program runs; its services and users are those of the start.
    origin: Config,
    /// What the configuration file said when it was last read or written.
    saved: RwLock<Config>,
    /// What happened.
    pub events: Events,
    /// Who is connected.
    pub roster: Arc<Roster>,
    /// One change at a time, so that what was checked is still so when it is done.
    pub(super) changing: Mutex<()>,
    started: (Instant, SystemTime),
}

impl Director {
    /// The state that a configuration describes, with every host up and nothing counted.
    pub fn new(config: &Config) -> Director {
        let services = config.services.iter().filter_map(Service::new).map(Arc::new).collect();
        let users = config.admin.as_ref().map(|admin| admin.users.clone()).unwrap_or_default();
        Director {
            services: RwLock::new(services),
            users: RwLock::new(users),
            origin: config.clone(),
            saved: RwLock::new(config.clone()),
            events: Events::default(),
            roster: Arc::default(),
            changing: Mutex::new(()),
            started: (Instant::now(), SystemTime::now()),
        }
    }

    /// Its services, in configuration order.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.services.read().clone()
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<Arc<Service>> {
        self.services.read().iter().find(|service| service.name() == name).cloned()
    }

    pub(super) fn set_services(&self, services: Vec<Arc<Service>>) {
        *self.services.write() = services;
    }

    /// Who may use the admin pages.
    pub fn users(&self) -> Vec<UserConfig> {
        self.users.read().clone()
    }

    pub(super) fn set_users(&self, users: Vec<UserConfig>) {
        *self.users.write() = users;
    }

    /// How long a failed host rests before it is tried again.
    pub fn checktime(&self) -> Duration {
        self.origin.checktime
    }

    /// How long it has been running, and the wall clock at the start.
    pub fn running(&self) -> (Duration, SystemTime) {
        (self.started.0.elapsed(), self.started.1)
    }

    /// Every group, enabled or not, with its service.
    pub fn groups(&self) -> Vec<(Arc<Service>, Arc<Group>)> {
        let of = |service: Arc<Service>| service.groups().into_iter().map(move |group| (service.clone(), group));
        self.services().into_iter().flat_map(of).collect()
    }

    /// The configuration that describes the state as it is now; what the operator and the checks say of hosts is not in it.
    pub fn config(&self) -> Config {
        let admin = self.origin.admin.as_ref().map(|admin| AdminConfig { users: self.users(), ..admin.clone() });
        Config { services: self.services().iter().map(|service| service.config()).collect(), admin, ..self.origin.clone() }
    }

    /// The running state was written to the configuration file.
    pub fn note_saved(&self, config: Config) {
        *self.saved.write() = config;
    }

    /// Whether this is what the configuration file said when it was last read or written.
    pub fn is_saved(&self, config: &Config) -> bool {
        *self.saved.read() == *config
    }

    /// Whether the running state is another than what the configuration file said when it was last read or written.
    pub fn differs_from_file(&self) -> bool {
        !self.is_saved(&self.config())
    }

    /// The configuration of the start.
    pub fn origin(&self) -> &Config {
        &self.origin
    }
}
