//! The thread that looks up host names, so that no session ever waits for DNS. It always runs, and
//! looks for new names every second.
//!
//! Each name is looked up once, however many hosts have it, on a short-lived thread of its own, so
//! that one that is slow does not hold up the others.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;

use super::report;
use crate::config::{Address, AddressHost};
use crate::state::{Director, Names, Reason};
use crate::system::interfaces;
use crate::system::logging::value;
use crate::system::thread;

/// How often a name is looked up again.
const REFRESH: Duration = Duration::from_secs(60);
/// How often a name without any address is looked up.
const RETRY: Duration = Duration::from_secs(5);
/// How many addresses of one name are used.
pub const MOST_ADDRESSES: usize = 8;
/// How many look-ups run at once.
const AT_ONCE: usize = 16;
/// How often new names are looked for when nothing else is due.
const NEW_NAMES: Duration = Duration::from_secs(1);

/// The C library's resolver wants more stack than a session.
const LOOK_UP_STACK: usize = 256 * 1024;

/// A name, and what the look-up found.
type LookUp = (String, io::Result<Vec<SocketAddr>>);

/// Starts the thread. `wake` wakes the manager; the thread ends within a second after the sender of
/// `stop` is gone. What it returns gets a message when there is an answer for every name; `None`
/// when there is no name.
pub fn start(
    director: Arc<Director>,
    wake: Sender<()>,
    stop: Receiver<()>,
) -> io::Result<Option<Receiver<()>>> {
    let has_names = !names(&director).is_empty();
    let (ready, is_ready) = bounded(1);
    let (send, found) = unbounded();
    let mut resolver =
        Resolver { director, wake, looked_up: HashMap::new(), running: 0, send, found };
    thread::start("resolver", thread::LARGE, move || resolver.run(&stop, &ready))?;
    Ok(has_names.then_some(is_ready))
}

/// Looks several names up at once, and returns what has been found when `limit` is over.
pub fn look_up_all(wanted: HashSet<String>, limit: Duration) -> Names {
    let deadline = Instant::now() + limit;
    let (send, found) = unbounded();
    let count = wanted.len().min(AT_ONCE);
    let wanted = Arc::new(Mutex::new(wanted.into_iter()));
    for _ in 0..count {
        let (wanted, send) = (wanted.clone(), send.clone());
        let mut names = std::iter::from_fn(move || wanted.lock().next());
        let look_up =
            move || drop(names.try_for_each(|name| send.send((name.clone(), look_up(&name)))));
        let _ = thread::start("look-up", LOOK_UP_STACK, look_up);
    }
    drop(send);
    let results = std::iter::from_fn(|| found.recv_deadline(deadline).ok());
    results.filter_map(|(name, result)| Some((name, result.ok()?))).collect()
}

fn name_of(address: &Address) -> Option<&str> {
    match &address.place {
        AddressHost::Name(name) => Some(name),
        _ => None,
    }
}

/// Every name that a host has, and whether all of its hosts have an address.
fn names(director: &Director) -> HashMap<String, bool> {
    let mut names = HashMap::new();
    for host in director.groups().into_iter().flat_map(|(_, group)| group.hosts()) {
        if let Some(name) = name_of(host.address()) {
            *names.entry(name.to_owned()).or_insert(true) &= !host.resolved().is_empty();
        }
    }
    names
}

struct Resolver {
    director: Arc<Director>,
    wake: Sender<()>,
    /// When each name was last looked up; `None` while it is being looked up.
    looked_up: HashMap<String, Option<Instant>>,
    running: usize,
    send: Sender<LookUp>,
    found: Receiver<LookUp>,
}

impl Resolver {
    fn run(&mut self, stop: &Receiver<()>, ready: &Sender<()>) {
        while stop.try_recv() != Err(TryRecvError::Disconnected) {
            self.start_due();
            if self.running == 0 {
                let _ = ready.try_send(());
            }
            if let Ok((name, result)) = self.found.recv_timeout(NEW_NAMES) {
                self.running -= 1;
                self.note(&name, result);
                self.looked_up.insert(name, Some(Instant::now()));
            }
        }
    }

    /// Starts the look-ups that are due, of new names first of all; forgets names that no host has
    /// any more.
    fn start_due(&mut self) {
        let names = names(&self.director);
        self.looked_up.retain(|name, at| at.is_none() || names.contains_key(name));
        for (name, is_known) in names {
            // a host that came meanwhile has no address, though its name may have been known for
            // long
            let rest = if is_known { REFRESH } else { RETRY };
            let is_due = self
                .looked_up
                .get(&name)
                .is_none_or(|at| at.is_some_and(|at| at.elapsed() >= rest));
            if !is_due || self.running >= AT_ONCE {
                continue;
            }
            let (send, wanted) = (self.send.clone(), name.clone());
            let look_up = move || drop(send.send((wanted.clone(), look_up(&wanted))));
            if thread::start("look-up", LOOK_UP_STACK, look_up).is_ok() {
                self.running += 1;
                self.looked_up.insert(name, None);
            }
        }
    }

    /// Hands the addresses to every host of that name.
    fn note(&self, name: &str, result: io::Result<Vec<SocketAddr>>) {
        for (service, group) in &self.director.groups() {
            for host in group.hosts().iter().filter(|host| name_of(host.address()) == Some(name)) {
                if host.set_found(result.as_deref().unwrap_or_default()) {
                    let addresses: Vec<String> =
                        host.resolved().iter().map(SocketAddr::to_string).collect();
                    log::info!(
                        "name host={} name={} addresses={}",
                        value(host.name()),
                        value(name),
                        addresses.join(",")
                    );
                    let _ = self.wake.try_send(());
                }
                if host.resolved().is_empty() && host.failed(Reason::NoAddress, Instant::now()) {
                    report::host_down(
                        &self.director,
                        report::By::Resolver,
                        (service, group, host),
                        Reason::NoAddress,
                    );
                    let _ = self.wake.try_send(());
                }
            }
        }
        if let Err(e) = result {
            log::debug!("name name={} reason={}", value(name), value(&e.to_string()));
        }
    }
}

/// The addresses of a name, IPv4 and IPv6, each once, in the order of the system's resolver.
fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (name, 0).to_socket_addrs()?.map(interfaces::complete) {
        if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address);
        }
    }
    Ok(addresses)
}
