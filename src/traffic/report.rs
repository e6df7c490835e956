//! The log lines of host state changes: one wording for sessions, manager and resolver.

use std::fmt;
use std::time::Duration;

use crate::state::{Group, Host, Reason, Service};
use crate::system::logging::value;

/// A host with the place it has in the configuration, as the log names it.
struct Named<'a>(&'a Service, &'a Group, &'a Host);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(service, group, host) = self;
        write!(f, "service={} group={}", value(service.name()), value(group.name()))?;
        write!(f, " host={} server={}", value(host.name()), host.address())
    }
}

/// A host went down; says too when it was the last of its group.
pub fn host_down(service: &Service, group: &Group, host: &Host, reason: Reason) {
    log::warn!("host {} state=down reason={}", Named(service, group, host), value(&reason.to_string()));
    if !group.hosts().iter().any(|other| other.is_up()) {
        log::warn!("group service={} group={} state=down", value(service.name()), value(group.name()));
    }
}

/// A host is back; says too when it is the first of its group.
pub fn host_up(service: &Service, group: &Group, host: &Host, after: Duration) {
    log::info!("host {} state=up after={:.1}s", Named(service, group, host), after.as_secs_f64());
    if group.hosts().iter().filter(|other| other.is_up()).count() == 1 && group.hosts().len() > 1 {
        log::info!("group service={} group={} state=up", value(service.name()), value(group.name()));
    }
}
