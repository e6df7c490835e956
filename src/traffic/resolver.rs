//! The thread that looks up host names, so that no session ever waits for DNS. It runs only when the configuration has names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::report;
use crate::config::{Address, Place};
use crate::state::{Director, Reason};
use crate::system::logging::value;

/// How often names are looked up again.
const REFRESH: Duration = Duration::from_secs(60);
/// How often a name without any address is looked up.
const RETRY: Duration = Duration::from_secs(5);
/// How many addresses of one name are used.
const MOST_ADDRESSES: usize = 8;

/// Starts the thread if there is a name to look up, and waits at most `patience` for the first answers. `wake` wakes the
/// manager; the thread ends when the sender of `stop` is gone.
pub fn start(director: Arc<Director>, wake: Sender<()>, stop: Receiver<()>, patience: Duration) -> io::Result<()> {
    let has_names =
        director.groups().into_iter().flat_map(|(_, group)| group.hosts()).any(|host| name_of(host.address()).is_some());
    if !has_names {
        return Ok(());
    }
    let (ready, is_ready) = bounded(1);
    thread::Builder::new().name("resolver".into()).spawn(move || {
        loop {
            let all_known = look_up_all(&director, &wake);
            let _ = ready.try_send(());
            let pause = if all_known { REFRESH } else { RETRY };
            if stop.recv_timeout(pause).is_err_and(|e| e.is_disconnected()) {
                return;
            }
        }
    })?;
    let _ = is_ready.recv_timeout(patience);
    Ok(())
}

fn name_of(address: &Address) -> Option<&str> {
    match &address.place {
        Place::Name(name) => Some(name),
        _ => None,
    }
}

/// Looks every name up once; tells whether each host has an address now.
fn look_up_all(director: &Director, wake: &Sender<()>) -> bool {
    let mut all_known = true;
    for (service, group) in &director.groups() {
        for host in group.hosts() {
            let Some(name) = name_of(host.address()) else { continue };
            let began = Instant::now();
            match look_up(name, host.address().port) {
                Ok(addresses) => {
                    if host.set_resolved(addresses.clone()) {
                        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
                        log::info!("name host={} name={} addresses={}", value(host.name()), value(name), addresses.join(","));
                        let _ = wake.try_send(());
                    }
                }
                Err(e) => {
                    log::debug!("name host={} name={} reason={}", value(host.name()), value(name), value(&e.to_string()));
                    if host.resolved().is_empty() && host.failed(Reason::NoAddress, began) {
                        report::host_down(director, "resolver", (service, group, &host), Reason::NoAddress);
                        let _ = wake.try_send(());
                    }
                }
            }
            all_known &= !host.resolved().is_empty();
        }
    }
    all_known
}

/// The addresses of a name, IPv4 and IPv6, each once, in the order of the system's resolver.
fn look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (name, port).to_socket_addrs()? {
        if !addresses.contains(&address) && addresses.len() < MOST_ADDRESSES {
            addresses.push(address);
        }
    }
    Ok(addresses)
}
