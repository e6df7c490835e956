//! Finds a host for a client: pick, connect, and go on to the next one when a host fails. Runs on the session's pool thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ticket::Ending;
use super::{Traffic, report};
use crate::state::{Group, Host, Lease, Reason, Service};
use crate::system::logging::value;
use crate::system::socket;

/// A host that answered.
pub struct Connected {
    pub server: TcpStream,
    pub address: SocketAddr,
    pub lease: Lease,
}

/// Connects to a host of the group, each tried at most once. A host that fails is marked down; what is our own shortage is
/// not held against it. `tried` tells afterwards which hosts were asked.
pub fn connect(
    service: &Service,
    group: &Group,
    client: &TcpStream,
    traffic: &Traffic,
    tried: &mut Vec<Arc<Host>>,
) -> Result<Connected, Ending> {
    let mut is_short = false;
    while !socket::is_gone(client) {
        let Some(lease) = group.pick(tried) else {
            return Err(if is_short { Ending::Shortage } else { Ending::NoHost });
        };
        let host = lease.host();
        tried.push(host.clone());
        let began = Instant::now();
        match connect_to(host, service.connect_limit()) {
            Ok((server, address)) => {
                host.prefer(address);
                lease.connected();
                return Ok(Connected { server, address, lease });
            }
            Err(Failure::Ours(e)) => {
                log::debug!("shortage service={} reason={}", value(service.name()), value(&e.to_string()));
                is_short = true;
            }
            Err(Failure::Theirs(reason)) => {
                if host.failed(reason, began) {
                    report::host_down(&traffic.director, "session", (service, group, host), reason);
                    traffic.wake_manager();
                }
            }
        }
    }
    Err(Ending::ClientGone)
}

/// Whose fault it is that there is no connection.
enum Failure {
    Ours(io::Error),
    Theirs(Reason),
}

/// Tries the addresses of one host in turn, each with its share of one time limit. One that fails by the host's fault decides whose
/// fault it is: without IPv6, for example, an IPv6 address always looks like a shortage of ours.
fn connect_to(host: &Host, limit: Duration) -> Result<(TcpStream, SocketAddr), Failure> {
    let deadline = Instant::now() + limit;
    let addresses = host.resolved();
    let mut theirs = None;
    let mut ours = None;
    for (address, remaining) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / remaining;
        match socket::connect(*address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok((stream, *address)),
            Err(e) if socket::is_our_shortage(&e) => ours = Some(e),
            Err(e) => theirs = Some(Reason::from(&e)),
        }
    }
    match (theirs, ours) {
        (None, Some(e)) => Err(Failure::Ours(e)),
        (reason, _) => Err(Failure::Theirs(reason.unwrap_or(Reason::NoAddress))),
    }
}
