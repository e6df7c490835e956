//! Ends the sessions of draining hosts: idle ones as they become idle, the rest at the deadline.
//! Owned by the manager.

use std::sync::Arc;
use std::time::Duration;

use super::report;
use crate::relay::{CloseReason, Relay};
use crate::state::{Director, Host, Link};

/// A session of a draining host, or of a program that stops, is ended when it has been silent for
/// so long.
pub const IDLE: Duration = Duration::from_secs(10);

/// The drains that go on, and how many sessions each has ended so far.
#[derive(Default)]
pub struct Drains(Vec<(Arc<Host>, usize)>);

impl Drains {
    /// Looks at every draining host once; tells whether any is left. A drain is over when no
    /// session holds the host: one that was still connecting at the deadline is ended as soon as it
    /// is there.
    pub fn step(&mut self, director: &Director) -> bool {
        let before = std::mem::take(&mut self.0);
        for (service, group) in &director.groups() {
            for host in group.hosts() {
                let Some(since) = host.draining_since() else { continue };
                let is_over = host.is_drained();
                let is_meant = |link: &Link, relay: &Relay| {
                    Arc::ptr_eq(&link.host, &host) && (is_over || relay.is_at_rest(IDLE))
                };
                let known = before
                    .iter()
                    .find(|(other, _)| Arc::ptr_eq(other, &host))
                    .map_or(0, |(_, cut)| *cut);
                let cut = known + director.sessions.cut(CloseReason::Drained, is_meant);
                if host.open() > 0 {
                    self.0.push((host, cut));
                } else if host.end_drain(since) {
                    report::drained(director, (service, group, &host), cut);
                }
            }
        }
        !self.0.is_empty()
    }
}
