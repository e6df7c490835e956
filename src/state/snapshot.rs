//! The running state as plain values, taken at one moment: what the admin pages show, as HTML,
//! text, JSON and metrics.
//!
//! The names of the fields are those of `running.json`. No password hash is in it.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::{Director, Group, Health, Host, Refused, Sample, Service};
use crate::config::AdminState;
use crate::system::date::Date;

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// When it was started: RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub uptime: u64,
    /// Whether the running state differs from the configuration file.
    pub changed: bool,
    /// Seconds until the last reload is rolled back, if it has to be confirmed.
    pub confirm_within: Option<u64>,
    /// When the configuration file was last loaded: RFC 3339.
    pub loaded: String,
    /// Why the last reload was refused, if it was.
    pub reload_refused: Option<RefusedView>,
    /// Reloads that were refused since the start.
    pub reloads_refused: u64,
    /// Lines since the start that could not be written to the log.
    pub log_lost: usize,
    /// In configuration order.
    pub services: Vec<ServiceView>,
}

/// A reload that was refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the state")]
pub struct RefusedView {
    /// RFC 3339, local time with zone.
    pub at: String,
    pub by: String,
    pub reasons: Vec<String>,
    /// How many more reasons the log has.
    pub more: usize,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the state")]
pub struct ServiceView {
    pub name: String,
    pub listens: Vec<String>,
    pub enabled: String,
    /// Open sessions on all of its hosts.
    pub open: usize,
    /// Sessions that ended after having reached a host.
    pub served: u64,
    /// Sessions that ended without having reached one.
    pub unserved: u64,
    pub groups: Vec<GroupView>,
    /// The last five minutes, the oldest first, [`Sample::EVERY`] apart.
    pub history: Vec<Sample>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the state")]
pub struct GroupView {
    pub name: String,
    pub scheduler: String,
    pub enabled: bool,
    pub hosts: Vec<HostView>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the state")]
pub struct HostView {
    pub name: String,
    pub ip: String,
    /// Whether it answers.
    pub up: bool,
    /// Seconds since it went up or down.
    pub since: u64,
    /// Why it is down.
    pub reason: Option<String>,
    #[serde(rename = "operator", serialize_with = "as_word")]
    pub admin_state: AdminState,
    /// Seconds until a drain ends what is left.
    pub deadline: Option<u64>,
    pub open: usize,
    pub total: u64,
    pub failures: u64,
    pub to_server: u64,
    pub to_client: u64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are those of the log")]
pub struct SessionView {
    pub id: u64,
    pub service: String,
    pub client: String,
    /// Seconds since it was accepted.
    pub age: u64,
    /// Where it is connected to, once it is.
    pub group: Option<String>,
    pub host: Option<String>,
    pub server: Option<String>,
    /// Seconds since a byte last moved.
    pub idle: Option<u64>,
    pub to_server: u64,
    pub to_client: u64,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EventView {
    /// RFC 3339, local time with zone.
    pub at: String,
    pub by: String,
    pub what: String,
}

impl Snapshot {
    /// The state at this moment. `log_lost`: lines that the log has lost.
    pub fn take(director: &Director, log_lost: usize) -> Snapshot {
        let (uptime, started) = director.running();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: local(started),
            uptime: uptime.as_secs(),
            changed: director.differs_from_file(),
            confirm_within: director.confirm_within().map(|left| left.as_secs()),
            loaded: local(director.reloads.loaded()),
            reload_refused: director.reloads.refused().map(refused_view),
            reloads_refused: director.reloads.refusals(),
            log_lost,
            services: director.services().iter().map(|service| service_view(service)).collect(),
        }
    }

    /// Whether every service has a host that may be picked.
    pub fn is_healthy(&self) -> bool {
        self.services.iter().all(ServiceView::is_healthy)
    }
}

impl ServiceView {
    /// Whether its enabled group has a host that may be picked.
    pub fn is_healthy(&self) -> bool {
        let enabled = self.groups.iter().filter(|group| group.enabled);
        enabled.flat_map(|group| &group.hosts).any(|host| host.up && host.admin_state.is_enabled())
    }
}

fn refused_view(refused: Refused) -> RefusedView {
    let Refused { at, by, reasons, more } = refused;
    RefusedView { at: local(at), by, reasons, more }
}

fn service_view(service: &Service) -> ServiceView {
    let (open, ..) = service.load();
    let group_view = |group: &std::sync::Arc<Group>| GroupView {
        name: group.name().to_owned(),
        scheduler: group.rule().to_string(),
        enabled: service.is_enabled(group),
        hosts: group.hosts().iter().map(|host| host_view(host)).collect(),
    };
    ServiceView {
        name: service.name().to_owned(),
        listens: service.listens().iter().map(ToString::to_string).collect(),
        enabled: service.enabled().name().to_owned(),
        open,
        served: service.served(),
        unserved: service.unserved(),
        groups: service.groups().iter().map(group_view).collect(),
        history: service.history.samples(),
    }
}

fn host_view(host: &Host) -> HostView {
    let (up, since, reason) = match host.health() {
        Health::Up { since } => (true, since, None),
        Health::Down { since, reason, .. } => (false, since, Some(reason.to_string())),
    };
    let admin_state = host.admin_state();
    let deadline = match admin_state {
        AdminState::Draining { within } => Some(within.as_secs()),
        AdminState::Enabled | AdminState::Disabled => None,
    };
    HostView {
        name: host.name().to_owned(),
        ip: host.address().to_string(),
        up,
        since: since.elapsed().as_secs(),
        reason,
        admin_state,
        deadline,
        open: host.open(),
        total: host.total(),
        failures: host.failures(),
        to_server: host.meter().to_server(),
        to_client: host.meter().to_client(),
    }
}

/// Who is connected, in the order of arrival.
pub fn sessions(director: &Director) -> Vec<SessionView> {
    let view = |line: super::Line| {
        let relay = line.link.as_ref().and_then(|link| link.relay());
        SessionView {
            id: line.id,
            service: line.service.name().to_owned(),
            client: line.client.to_string(),
            age: line.accepted.elapsed().as_secs(),
            group: line.link.as_ref().map(|link| link.group.name().to_owned()),
            host: line.link.as_ref().map(|link| link.host.name().to_owned()),
            server: line.link.as_ref().map(|link| link.server.to_string()),
            idle: relay.as_ref().map(|relay| relay.silent_for().as_secs()),
            to_server: relay.as_ref().map_or(0, |relay| relay.moved().to_server()),
            to_client: relay.as_ref().map_or(0, |relay| relay.moved().to_client()),
        }
    };
    director.sessions.lines().into_iter().map(view).collect()
}

/// What happened, the latest first.
pub fn events(director: &Director) -> Vec<EventView> {
    let view =
        |event: super::Event| EventView { at: local(event.at), by: event.by, what: event.what };
    director.events.latest().into_iter().map(view).collect()
}

fn as_word<S: Serializer>(state: &AdminState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.word())
}

fn local(time: SystemTime) -> String {
    Date::of(time).to_string()
}
