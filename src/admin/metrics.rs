//! `metrics`: the state in the text format 0.0.4 of Prometheus. Base units, counters end in
//! `_total`, labels are escaped here.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::relay::CloseReason;
use crate::state::Director;
use crate::state::snapshot::{GroupView, HostView, ServiceView, Snapshot};

/// What an answer with this text calls itself.
pub const MIME: &str = "text/plain; version=0.0.4";

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// All metrics of this moment, of which the snapshot is.
pub fn render(director: &Director, snapshot: &Snapshot) -> String {
    let mut text = Text(String::new());
    text.gauge(
        "build_info",
        "The version that runs; always 1.",
        [(vec![("version", snapshot.version.as_str())], 1)],
    );
    text.gauge(
        "uptime_seconds",
        "How long the program has been running.",
        [(vec![], snapshot.uptime)],
    );
    text.gauge(
        "config_changed",
        "Whether the running state is another than in the configuration file.",
        [(vec![], snapshot.changed.into())],
    );
    let is_good = snapshot.reload_refused.is_none();
    text.gauge(
        "last_reload_successful",
        "Whether the last reload was not refused.",
        [(vec![], is_good.into())],
    );
    text.gauge(
        "last_reload_success_timestamp_seconds",
        "When the configuration file was last loaded, since 1970.",
        [(vec![], since_1970(director.reloads.loaded()))],
    );
    text.counter(
        "reloads_refused_total",
        "Reloads that were refused.",
        [(vec![], snapshot.reloads_refused)],
    );
    text.counter(
        "log_lost_lines_total",
        "Lines that could not be written to the log.",
        [(vec![], snapshot.log_lost as u64)],
    );
    text.gauge(
        "sessions_open",
        "Client connections, waiting ones included.",
        [(vec![], director.sessions.open() as u64)],
    );
    text.counter(
        "sessions_accepted_total",
        "Client connections ever accepted.",
        [(vec![], director.sessions.accepted())],
    );
    services(&mut text, snapshot);
    ended(&mut text, director);
    groups(&mut text, snapshot);
    hosts(&mut text, snapshot);
    text.0
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn services(text: &mut Text, snapshot: &Snapshot) {
    let each = |value: fn(&ServiceView) -> u64| {
        snapshot
            .services
            .iter()
            .map(move |service| (vec![("service", service.name.as_str())], value(service)))
    };
    text.gauge(
        "service_healthy",
        "Whether a host of the enabled group may be picked.",
        each(|s| s.is_healthy().into()),
    );
    text.gauge("service_open_sessions", "Sessions that hold a host.", each(|s| s.open as u64));
    text.counter(
        "service_served_sessions_total",
        "Sessions that ended after having reached a host.",
        each(|s| s.served),
    );
    text.counter(
        "service_unserved_sessions_total",
        "Sessions that ended without having reached one.",
        each(|s| s.unserved),
    );
}

fn ended(text: &mut Text, director: &Director) {
    let services = director.services();
    let samples = services.iter().flat_map(|service| {
        CloseReason::ALL.map(|reason| {
            let labels = vec![("service", service.name()), ("reason", reason.word())];
            (labels, service.ended(reason))
        })
    });
    text.counter(
        "service_ended_sessions_total",
        "Sessions that ended, by the reason that their log lines have as their end.",
        samples,
    );
}

fn groups(text: &mut Text, snapshot: &Snapshot) {
    let of = |service| move |group: &GroupView| (service, group.name.clone(), group.enabled);
    let all: Vec<(&str, String, bool)> =
        snapshot.services.iter().flat_map(|s| s.groups.iter().map(of(s.name.as_str()))).collect();
    let samples = all.iter().map(|(service, group, on)| {
        (vec![("service", *service), ("group", group.as_str())], (*on).into())
    });
    text.gauge("group_enabled", "Whether new sessions of the service go to this group.", samples);
}

fn hosts(text: &mut Text, snapshot: &Snapshot) {
    let mut all: Vec<(Labels, &HostView)> = Vec::new();
    for service in &snapshot.services {
        for group in &service.groups {
            for host in &group.hosts {
                let labels = vec![
                    ("service", &*service.name),
                    ("group", &*group.name),
                    ("host", &*host.name),
                    ("ip", &*host.ip),
                ];
                all.push((labels, host));
            }
        }
    }
    let each = |value: fn(&HostView) -> u64| {
        all.iter().map(move |(labels, host)| (labels.clone(), value(host)))
    };
    text.gauge("host_up", "Whether the host answers.", each(|h| h.up.into()));
    let available = each(|h| (h.up && h.admin_state.is_enabled()).into());
    text.gauge(
        "host_available",
        "Whether it answers and the operator lets new sessions go to it.",
        available,
    );
    text.gauge("host_state_seconds", "How long it has been up or down.", each(|h| h.since));
    text.gauge("host_open_sessions", "Sessions that hold it.", each(|h| h.open as u64));
    text.counter("host_sessions_total", "Sessions that it has taken.", each(|h| h.total));
    text.counter("host_failures_total", "How often it went down.", each(|h| h.failures));
    text.counter("host_to_server_bytes_total", "Bytes from clients.", each(|h| h.to_server));
    text.counter("host_to_client_bytes_total", "Bytes to clients.", each(|h| h.to_client));
}

struct Text(String);

impl Text {
    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        self.family(name, "gauge", help, samples);
    }

    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        self.family(name, "counter", help, samples);
    }

    fn family<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        // writing to a string cannot fail
        let _ =
            write!(self.0, "# HELP tcpdirector_{name} {help}\n# TYPE tcpdirector_{name} {kind}\n");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
                .collect();
            let labels =
                if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.0, "tcpdirector_{name}{labels} {value}");
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
