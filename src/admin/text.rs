//! `running.txt` and `config.txt` in the original's grammar, and `healthz`. For scripts: one line
//! is always one thing, fields are separated by one space, and a space, a control character or a
//! `%` in a field is written as `%XX`.

use std::fmt::Write;

use crate::config::{AdminState, Config};
use crate::state::snapshot::{HostView, ServiceView, Snapshot};
use crate::system::logging::is_control;

/// The state, a line for each listen address, group and host:
///
/// ```text
/// service NAME LISTEN ENABLED-GROUP
/// group NAME enabled|inactive
/// host NAME IP:PORT OPEN -
/// disabled NAME IP:PORT REASON -
/// ```
pub fn running(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for service in &snapshot.services {
        for listen in &service.listens {
            line(&mut text, &["service", &service.name, listen, &service.enabled]);
        }
        for group in &service.groups {
            line(
                &mut text,
                &["group", &group.name, if group.enabled { "enabled" } else { "inactive" }],
            );
            for host in &group.hosts {
                match why_not(host) {
                    None => line(
                        &mut text,
                        &["host", &host.name, &host.ip, &host.open.to_string(), "-"],
                    ),
                    Some(reason) => {
                        line(&mut text, &["disabled", &host.name, &host.ip, &reason, "-"])
                    }
                }
            }
        }
    }
    text
}

/// The same lines for what a file says. Nothing is open in a file: `-` stands for the number.
pub fn config(config: &Config) -> String {
    let mut text = String::new();
    for service in &config.services {
        for listen in &service.listens {
            line(&mut text, &["service", &service.name, &listen.to_string(), &service.enabled]);
        }
        for group in &service.groups {
            line(
                &mut text,
                &[
                    "group",
                    &group.name,
                    if group.name == service.enabled { "enabled" } else { "inactive" },
                ],
            );
            for host in &group.hosts {
                line(&mut text, &["host", &host.name, &host.address.to_string(), "-", "-"]);
            }
        }
    }
    text
}

/// Why no new session goes to a host, or `None` when they do.
pub fn why_not(host: &HostView) -> Option<String> {
    let down = (!host.up).then(|| host.reason.as_deref().unwrap_or("down"));
    let state = Some(host.admin_state).filter(|state| !state.is_enabled());
    let reasons: Vec<&str> = state.map(AdminState::word).into_iter().chain(down).collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

/// Whether every service has a host that may be picked; else which have none. Anybody may ask, so
/// it says nothing more.
pub fn health(snapshot: &Snapshot) -> Result<&'static str, String> {
    if snapshot.is_healthy() {
        return Ok("OK");
    }
    let sick: Vec<&str> = snapshot
        .services
        .iter()
        .filter(|s| !s.is_healthy())
        .map(|s: &ServiceView| s.name.as_str())
        .collect();
    Err(format!("no host for {}", sick.join(", ")))
}

fn line(text: &mut String, fields: &[&str]) {
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            text.push(' ');
        }
        encode(text, field);
    }
    text.push('\n');
}

fn encode(text: &mut String, field: &str) {
    for c in field.chars() {
        if c.is_whitespace() || is_control(c) || c == '%' {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // writing to a string cannot fail
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(c);
        }
    }
}
