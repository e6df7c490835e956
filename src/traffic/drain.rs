//! Ends the sessions of draining hosts: idle ones as they become idle, the rest at the deadline. Called by the manager.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report;
use crate::relay::End;
use crate::state::{Director, Host, Operator};

/// A session of a draining host that has been silent for so long is ended.
const IDLE: Duration = Duration::from_secs(10);

/// Looks at every draining host once; tells whether any is left.
pub fn step(director: &Director) -> bool {
    let mut any = false;
    for (service, group) in &director.groups() {
        for host in group.hosts() {
            let Operator::Draining { deadline } = host.operator() else { continue };
            let is_over = Instant::now() >= deadline;
            let cut = end_sessions(director, &host, if is_over { Duration::ZERO } else { IDLE });
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

/// Ends the host's sessions that have been silent at least so long; tells how many.
fn end_sessions(director: &Director, host: &Arc<Host>, silent: Duration) -> usize {
    let links = director.roster.lines().into_iter().filter_map(|line| line.link);
    let relays = links.filter(|link| Arc::ptr_eq(&link.host, host)).filter_map(|link| link.relay());
    let ended = relays.filter(|relay| relay.silent_for() >= silent).inspect(|relay| relay.cut(End::Drained));
    ended.count()
}
