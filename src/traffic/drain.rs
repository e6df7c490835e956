//! Ends the sessions of draining hosts: idle ones as they become idle, the rest at the deadline. Called by the manager.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report;
use crate::relay::{End, Relay};
use crate::state::{Director, Link, Operator};

/// A session of a draining host, or of a program that stops, is ended when it has been silent for so long.
pub const IDLE: Duration = Duration::from_secs(10);

/// Looks at every draining host once; tells whether any is left.
pub fn step(director: &Director) -> bool {
    let mut any = false;
    for (service, group) in &director.groups() {
        for host in group.hosts() {
            let Operator::Draining { deadline } = host.operator() else { continue };
            let is_over = Instant::now() >= deadline;
            let silent = if is_over { Duration::ZERO } else { IDLE };
            let is_meant = |link: &Link, relay: &Relay| Arc::ptr_eq(&link.host, &host) && relay.silent_for() >= silent;
            let cut = director.roster.cut(End::Drained, is_meant);
            if is_over || host.open() == 0 {
                host.set_operator(Operator::Disabled);
                report::drained(director, (service, group, &host), cut);
            } else {
                any = true;
            }
        }
    }
    any
}
