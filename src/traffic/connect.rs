//! Finds a host for a client: pick, connect, and go on to the next one when a host fails. Runs on the session's pool thread.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ticket::Ending;
use super::{Traffic, report};
use crate::state::{Group, Host, Lease, Reason, Service};
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
    let mut none_left = Ending::NoHost;
    loop {
        if socket::is_gone(client) {
            return Err(Ending::ClientGone);
        }
        let lease = group.pick(tried).ok_or(none_left)?;
        tried.push(lease.host().clone());
        let began = Instant::now();
        let host = lease.host();
        match connect_to(host, service.connect_limit()) {
            Ok((server, address)) => {
                host.prefer(address);
                lease.connected();
                return Ok(Connected { server, address, lease });
            }
            Err(Failure::Ours(e)) => {
                log::warn!("shortage service={} reason=\"{e}\"", crate::system::logging::value(service.name()));
                none_left = Ending::Shortage;
            }
            Err(Failure::Theirs(reason)) => {
                if host.failed(reason, began) {
                    report::host_down(&traffic.director, "session", (service, group, host), reason);
                    traffic.wake_manager();
                }
            }
        }
    }
}

/// Whose fault it is that there is no connection.
enum Failure {
    Ours(io::Error),
    Theirs(Reason),
}

/// Tries the addresses of one host in turn, all within one time limit.
fn connect_to(host: &Host, limit: Duration) -> Result<(TcpStream, SocketAddr), Failure> {
    let deadline = Instant::now() + limit;
    let mut failure = Failure::Theirs(Reason::NoAddress);
    for address in host.resolved() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match socket::connect(address, left) {
            Ok(stream) => return Ok((stream, address)),
            Err(e) if socket::is_our_shortage(&e) => return Err(Failure::Ours(e)),
            Err(e) => failure = Failure::Theirs(Reason::from(&e)),
        }
    }
    Err(failure)
}
