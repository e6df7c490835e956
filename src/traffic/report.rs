//! The log lines of hosts and groups that go and come: one wording for sessions, manager, resolver
//! and `daemon`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use crate::state::{Director, Group, GroupHealth, Host, Reason, Service};
use crate::system::logging::{Tenths, value};

/// A host with the place it has in the configuration, as the log names it.
struct Named<'a>(&'a Service, &'a Group, &'a Host);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(service, group, host) = self;
        write!(f, "service={} group={}", value(service.name()), value(group.name()))?;
        write!(f, " host={} server={}", value(host.name()), host.address())
    }
}

/// Who has found something out.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// The session of this number.
    Session(u64),
    /// The resolver.
    Resolver,
}

/// Logs every group that has no host any more or has one again, for whatever reason.
pub fn groups(director: &Director) {
    director.groups().iter().for_each(|(service, group)| self::group(service, group));
}

fn group(service: &Service, group: &Arc<Group>) {
    let Some(health) = group.health_change(service.is_enabled(group)) else { return };
    let (level, state) = match health {
        GroupHealth::Up => (Level::Info, "up"),
        GroupHealth::Down => (Level::Warn, "down"),
        GroupHealth::NoHost => (Level::Error, "down"),
    };
    log::log!(
        level,
        "group service={} group={} state={state}",
        value(service.name()),
        value(group.name())
    );
}

/// A host went down, as `by` has found; says too when it was the last of its group. Sessions that
/// wait for its first answer learn of it.
pub fn host_down(
    director: &Director,
    by: By,
    (service, group, host): (&Service, &Arc<Group>, &Arc<Host>),
    reason: Reason,
) {
    let mut what = format!(
        "host {} state=down reason={}",
        Named(service, group, host),
        value(&reason.to_string())
    );
    let by = match by {
        By::Session(id) => {
            what.push_str(&format!(" session={id}"));
            "session"
        }
        By::Resolver => "resolver",
    };
    log::warn!("{what}");
    director.events.note(by, what);
    director.waiting.wake(host);
    self::group(service, group);
}

/// A host is back; says too when it is the first of its group.
pub fn host_up(
    director: &Director,
    (service, group, host): (&Service, &Arc<Group>, &Host),
    after: Duration,
) {
    let seconds = Tenths((after.as_millis() + 50) / 100);
    let what = format!("host {} state=up after={seconds}s", Named(service, group, host));
    log::info!("{what}");
    director.events.note("manager", what);
    self::group(service, group);
}

/// A drain is over: how many sessions it had to end.
pub fn drained(director: &Director, (service, group, host): (&Service, &Group, &Host), cut: usize) {
    let what = format!("host {} state=drained cut={cut}", Named(service, group, host));
    log::info!("{what}");
    director.events.note("manager", what);
}
