//! All services: the root of the running state.

use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::service::Service;
use crate::config::Config;

/// The root of the running state.
#[derive(Debug)]
pub struct Director {
    services: Vec<Arc<Service>>,
    checktime: Duration,
}

impl Director {
    /// The state that a configuration describes, with every host up and nothing counted.
    pub fn new(config: &Config) -> Director {
        Director {
            services: config.services.iter().filter_map(Service::new).map(Arc::new).collect(),
            checktime: config.checktime,
        }
    }

    /// Its services, in configuration order.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// How long a failed host rests before it is tried again.
    pub fn checktime(&self) -> Duration {
        self.checktime
    }

    /// Every group, enabled or not, with its service.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<Service>, &Arc<Group>)> {
        self.services.iter().flat_map(|service| service.groups().iter().map(move |group| (service, group)))
    }
}
