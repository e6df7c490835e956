//! One backend server: where it is, whether it is up, and what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use parking_lot::RwLock;

use super::{Health, Names, Reason};
use crate::config::{Address, AddressHost, AdminState, HostConfig};
use crate::relay::Meter;

/// A backend server of one group. Lives on until its last lease is dropped, whatever happens to the
/// group.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Address,
    /// Where a connect is tried, the most promising first; empty while the name is not resolved.
    resolved: RwLock<Vec<SocketAddr>>,
    record: RwLock<Record>,
    open: AtomicUsize,
    total: AtomicCell<u64>,
    failures: AtomicCell<u64>,
    meter: Arc<Meter>,
}

/// What is known and wanted of a host. It is picked only when both agree.
#[derive(Debug, Clone)]
struct Record {
    health: Health,
    admin_state: AdminState,
    /// When that was set: the time of a drain runs from then on.
    set: Instant,
}

impl Host {
    /// A host that counts as up until somebody finds otherwise.
    pub fn new(config: &HostConfig) -> Host {
        let now = Instant::now();
        Host {
            name: config.name.clone(),
            address: config.address.clone(),
            resolved: RwLock::new(config.address.targets()),
            record: RwLock::new(Record {
                health: Health::Up { since: now },
                admin_state: AdminState::Enabled,
                set: now,
            }),
            open: AtomicUsize::new(0),
            total: AtomicCell::new(0),
            failures: AtomicCell::new(0),
            meter: Arc::default(),
        }
    }

    /// The same server under another name: what is known and wanted of it stays, and nothing is
    /// counted yet.
    pub(super) fn renamed(&self, name: &str) -> Host {
        let host = Host::new(&HostConfig { name: name.to_owned(), address: self.address.clone() });
        *host.resolved.write() = self.resolved();
        *host.record.write() = self.record.read().clone();
        host
    }

    /// Takes its addresses from names that were looked up for it, if its own is among them.
    pub(super) fn set_names(&self, names: &Names) {
        if let AddressHost::Name(name) = &self.address.place {
            self.set_found(names.get(name).map(Vec::as_slice).unwrap_or_default());
        }
    }

    /// Its name, unique in the group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address as configured.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The addresses to try, in this order; empty while the name is not resolved or the network
    /// interface is missing.
    pub fn resolved(&self) -> Vec<SocketAddr> {
        // interfaces come and go
        if self.address.is_link_local() {
            self.address.targets()
        } else {
            self.resolved.read().clone()
        }
    }

    /// Why there is no address to try, when there is none.
    pub fn lacks(&self) -> Reason {
        if self.address.is_link_local() { Reason::NoInterface } else { Reason::NoAddress }
    }

    /// [`Host::set_resolved`] with what was found for the name, which has no port.
    pub fn set_found(&self, found: &[SocketAddr]) -> bool {
        let mut addresses = found.to_vec();
        addresses.iter_mut().for_each(|address| address.set_port(self.address.port));
        self.set_resolved(addresses)
    }

    /// Sets what the name stands for; an empty list changes nothing, so that the last good
    /// addresses stay. The address that is first now stays first while it is among the new ones.
    /// Tells whether anything changed.
    pub fn set_resolved(&self, mut addresses: Vec<SocketAddr>) -> bool {
        let mut resolved = self.resolved.write();
        if let Some(position) =
            resolved.first().and_then(|first| addresses.iter().position(|a| a == first))
        {
            addresses.swap(0, position);
        }
        // as sets: many a DNS server rotates its answers
        let same = addresses.len() == resolved.len()
            && addresses.iter().all(|address| resolved.contains(address));
        let changes = !addresses.is_empty() && !same;
        if changes {
            *resolved = addresses;
        }
        changes
    }

    /// This address has answered: it is tried first from now on.
    pub fn prefer(&self, address: SocketAddr) {
        if self.resolved.read().first() != Some(&address) {
            let mut resolved = self.resolved.write();
            if let Some(position) = resolved.iter().position(|a| *a == address) {
                resolved.swap(0, position);
            }
        }
    }

    /// What is known of it.
    pub fn health(&self) -> Health {
        self.record.read().health.clone()
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        matches!(self.record.read().health, Health::Up { .. })
    }

    /// Whether new sessions may go to it: it answers, and the operator lets them.
    pub fn is_available(&self) -> bool {
        let record = self.record.read();
        record.admin_state.is_enabled() && matches!(record.health, Health::Up { .. })
    }

    /// What the operator wants of it, with the time that a drain has left.
    pub fn admin_state(&self) -> AdminState {
        let (admin_state, set) = {
            let record = self.record.read();
            (record.admin_state, record.set)
        };
        admin_state.after(set.elapsed())
    }

    /// Sets what the operator wants of it, from now on.
    pub fn set_admin_state(&self, admin_state: AdminState) {
        let now = Instant::now();
        let mut record = self.record.write();
        (record.admin_state, record.set) = (admin_state, now);
    }

    /// Whether a drain has given its sessions all the time that they get.
    pub fn is_drained(&self) -> bool {
        self.admin_state() == AdminState::Draining { within: Duration::ZERO }
    }

    /// When the drain began, if one goes on.
    pub fn draining_since(&self) -> Option<Instant> {
        let record = self.record.read();
        matches!(record.admin_state, AdminState::Draining { .. }).then_some(record.set)
    }

    /// Disables it at the end of the drain that began then. Returns whether that one still went on:
    /// the operator may want something else by now.
    pub fn end_drain(&self, since: Instant) -> bool {
        let mut record = self.record.write();
        let is_so =
            record.set == since && matches!(record.admin_state, AdminState::Draining { .. });
        if is_so {
            record.admin_state = AdminState::Disabled;
        }
        is_so
    }

    /// An attempt that began at `began` has failed. Tells whether that took the host down: an
    /// attempt that is older than the host's return proves nothing, and a host that is down only
    /// has its reason renewed.
    pub fn failed(&self, reason: Reason, began: Instant) -> bool {
        let now = Instant::now();
        let health = &mut self.record.write().health;
        match health {
            Health::Up { since } if began < *since => false,
            Health::Up { .. } => {
                *health = Health::Down { since: now, tried: now, reason, asked: false };
                self.failures.fetch_add(1);
                true
            }
            Health::Down { tried, reason: last, asked, .. } => {
                (*tried, *last, *asked) = (now, reason, false);
                false
            }
        }
    }

    /// A probe has connected. Tells for how long the host was down, if it was.
    pub fn answered(&self) -> Option<Duration> {
        let now = Instant::now();
        let health = &mut self.record.write().health;
        let Health::Down { since, .. } = *health else { return None };
        *health = Health::Up { since: now };
        Some(now - since)
    }

    /// Takes over what a predecessor knew of it.
    pub(super) fn restore(&self, health: Health, total: u64, failures: u64) {
        self.record.write().health = health;
        self.total.fetch_add(total);
        self.failures.fetch_add(failures);
    }

    /// Lets the manager try it at its next look.
    pub fn try_soon(&self) {
        if let Health::Down { asked, .. } = &mut self.record.write().health {
            *asked = true;
        }
    }

    /// Sessions that hold it now.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Sessions that it was picked for and that connected.
    pub fn total(&self) -> u64 {
        self.total.load()
    }

    /// How often it went down.
    pub fn failures(&self) -> u64 {
        self.failures.load()
    }

    /// Bytes that its sessions have moved.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }
}

/// One counted use of a host by a session; dropping it un-counts it.
#[derive(Debug)]
pub struct Lease(Arc<Host>);

impl Lease {
    /// Counts a use. Only [`super::Group::pick`] makes leases, under the mutex that makes picking
    /// and counting one act.
    pub(super) fn new(host: Arc<Host>) -> Lease {
        host.open.fetch_add(1, SeqCst);
        Lease(host)
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.0
    }

    /// The session has connected: it counts in the host's total.
    pub fn connected(&self) {
        self.0.total.fetch_add(1);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
