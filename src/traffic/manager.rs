//! The thread that tries failed hosts again: of every group, enabled or not, by connecting to them,
//! many at once.
//!
//! A host is due `checktime` after it was last tried; a second after that while its whole group is
//! down. A session that takes a host down wakes the thread; else it sleeps until a host is due. A
//! panic in a round is logged and the next round comes. Draining hosts are looked after here as
//! well, every second.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::drain::Drains;
use super::report;
use crate::state::{Director, Group, Health, Host, Reason, Sample, Service};
use crate::system::connecting::{ConnectOutcome, Connecting};
use crate::system::logging::value;
use crate::system::socket;
use crate::system::thread;

/// How many hosts are tried at once: bounds the descriptors, together with
/// [`super::MOST_ADDRESSES`].
pub const PROBES_AT_ONCE: usize = 64;

/// How often the hosts of a group are tried while all of them are down.
const ALL_DOWN_RETRY: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when all senders of `wake` are gone.
pub fn start(director: Arc<Director>, wake: Receiver<()>) -> io::Result<()> {
    let mut manager = Manager {
        director,
        probes: Vec::new(),
        drains: Drains::default(),
        sampled: Instant::now(),
    };
    thread::start("manager", thread::LARGE, move || manager.run(&wake)).map(drop)
}

struct Manager {
    director: Arc<Director>,
    probes: Vec<Probe>,
    drains: Drains,
    /// When the history of the services was last written.
    sampled: Instant,
}

/// A connect attempt to one address of a failed host.
struct Probe {
    service: Arc<Service>,
    group: Arc<Group>,
    host: Arc<Host>,
    connecting: Connecting,
    began: Instant,
}

impl Manager {
    fn run(&mut self, wake: &Receiver<()>) {
        loop {
            let round = catch_unwind(AssertUnwindSafe(|| self.round()));
            let pause = round.unwrap_or_else(|_| {
                self.probes.clear();
                ALL_DOWN_RETRY
            });
            let pause = if self.probes.is_empty() {
                pause
            } else {
                // a host that goes down meanwhile is not due before a second has gone by
                Connecting::wait_for_any(
                    self.probes.iter().map(|p| &p.connecting),
                    pause.min(ALL_DOWN_RETRY),
                );
                Duration::ZERO
            };
            if wake.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Collects what the probes have found, starts those that are due, and returns how long nothing
    /// new is due.
    fn round(&mut self) -> Duration {
        self.collect();
        let now = Instant::now();
        let mut next = now + Duration::from_secs(3600);
        let director = self.director.clone();
        if self.drains.step(&director) {
            next = now + ALL_DOWN_RETRY;
        }
        if let Some(due) = self.sample(now) {
            next = next.min(due);
        }
        if director.is_retired() {
            // a successor tries the hosts now; the drains here have to end all the same
            self.probes.clear();
            return next.saturating_duration_since(now);
        }
        let mut waiting = Vec::new();
        for (service, group) in director.groups() {
            let hosts = group.hosts();
            let pause = if hosts.iter().any(|host| host.is_up()) {
                director.checktime()
            } else {
                ALL_DOWN_RETRY
            };
            for host in hosts {
                if let Some(due) = due(&host, pause).filter(|_| !self.is_being_tried(&host)) {
                    waiting.push((due, service.clone(), group.clone(), host));
                }
            }
        }
        // the most overdue first, so that those at the end of the file get their turn
        waiting.sort_unstable_by_key(|(due, ..)| *due);
        for (due, service, group, host) in waiting {
            if due > now {
                next = next.min(due);
                break;
            }
            next = next.min(now + ALL_DOWN_RETRY);
            if self.probes.len() < PROBES_AT_ONCE {
                self.start_probes(&service, &group, &host);
            }
        }
        let deadlines = self.probes.iter().map(|probe| probe.began + probe.service.connect_limit());
        next.min(deadlines.min().unwrap_or(next)).saturating_duration_since(Instant::now())
    }

    fn is_being_tried(&self, host: &Arc<Host>) -> bool {
        self.probes.iter().any(|probe| Arc::ptr_eq(&probe.host, host))
    }

    /// Writes the history that the admin pages plot, when it is time; returns when the next time
    /// is, if there are pages.
    fn sample(&mut self, now: Instant) -> Option<Instant> {
        self.director.has_admin().then_some(())?;
        if now >= self.sampled + Sample::EVERY {
            self.director
                .services()
                .iter()
                .for_each(|service| service.history.note(service.load(), now - self.sampled));
            self.sampled = now;
        }
        Some(self.sampled + Sample::EVERY)
    }

    fn start_probes(&mut self, service: &Arc<Service>, group: &Arc<Group>, host: &Arc<Host>) {
        let addresses: Vec<SocketAddr> = host.resolved();
        let began = Instant::now();
        if addresses.is_empty() {
            host.failed(host.why_no_address(), began);
        }
        for address in addresses {
            match Connecting::probe(address) {
                Ok(connecting) => {
                    let (service, group, host) = (service.clone(), group.clone(), host.clone());
                    self.probes.push(Probe { service, group, host, connecting, began });
                }
                // our own shortage: it stays due, and is tried a second later
                Err(e) if socket::is_our_shortage(&e) => {
                    log::debug!("shortage reason={}", value(&e.to_string()))
                }
                Err(e) => {
                    host.failed(Reason::from(&e), began);
                }
            }
        }
    }

    fn collect(&mut self) {
        let mut answered = Vec::new();
        self.probes.retain(|probe| match probe.connecting.outcome(&[]) {
            // one that takes connections and resets some of them is there
            Some(ConnectOutcome::Connected { .. } | ConnectOutcome::Reset) => {
                answered.push(probe.host.clone());
                probe.answered(&self.director);
                false
            }
            Some(ConnectOutcome::Failed(e)) => {
                probe.host.failed(Reason::from(&e), probe.began);
                false
            }
            None if probe.began.elapsed() >= probe.service.connect_limit() => {
                probe.host.failed(Reason::TimedOut, probe.began);
                false
            }
            None => true,
        });
        self.probes.retain(|probe| !answered.iter().any(|host| Arc::ptr_eq(host, &probe.host)));
    }
}

impl Probe {
    fn answered(&self, director: &Director) {
        self.host.prefer(self.connecting.address());
        if let Some(after) = self.host.answered() {
            report::host_up(director, (&self.service, &self.group, &self.host), after);
        }
    }
}

/// When a host is to be tried again; `None` for one that is up. A host that had no address and has
/// one now is due at once.
fn due(host: &Host, pause: Duration) -> Option<Instant> {
    match host.health() {
        Health::Up { .. } => None,
        Health::Down { tried, asked: true, .. } => Some(tried),
        Health::Down { tried, reason: Reason::NoAddress | Reason::NoInterface, .. }
            if !host.resolved().is_empty() =>
        {
            Some(tried)
        }
        Health::Down { tried, .. } => Some(tried + pause),
    }
}
