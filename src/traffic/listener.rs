//! A listen address and its thread: accept, make a session, hand it to the pool. The loop ends only when it is told to.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::Traffic;
use super::session::Session;
use crate::config::{Address, Place};
use crate::relay::pool::Job;
use crate::state::Service;
use crate::system::logging::value;
use crate::system::socket;

/// How long accept rests when this machine is short of something.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// The stack of an accept thread: it only makes sessions and writes log lines.
pub const STACK: usize = 64 * 1024;

/// Opens the sockets of a listen address: one, or one for each address of a host name.
pub fn bind(address: &Address) -> io::Result<Vec<TcpListener>> {
    match &address.place {
        Place::Any => Ok(vec![socket::listen_everywhere(address.port)?]),
        Place::Ip(ip) => Ok(vec![socket::listen(SocketAddr::new(*ip, address.port))?]),
        Place::Name(name) => socket::listen_by_name(name, address.port),
    }
}

/// A listening socket whose thread accepts clients for a service.
pub struct Listener {
    inner: Arc<Inner>,
}

struct Inner {
    socket: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    traffic: Arc<Traffic>,
    stopping: AtomicBool,
}

impl Listener {
    /// Starts the accept thread.
    pub fn start(socket: TcpListener, service: Arc<Service>, traffic: Arc<Traffic>) -> io::Result<Listener> {
        let address = socket.local_addr()?;
        let inner = Arc::new(Inner { socket, address, service, traffic, stopping: AtomicBool::new(false) });
        let runner = inner.clone();
        thread::Builder::new().name(format!("listen {address}")).stack_size(STACK).spawn(move || runner.live())?;
        log::info!("listen service={} address={address} state=open", value(inner.service.name()));
        Ok(Listener { inner })
    }

    /// The service that it accepts clients for.
    pub fn service(&self) -> &Arc<Service> {
        &self.inner.service
    }

    /// Where it listens; tells the port that the system chose when the configuration left that open.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Stops accepting, without waiting. Clients that the kernel holds already are taken in first, as far as the pool's queue has
    /// room.
    pub fn stop(&self) {
        let Inner { socket, service, traffic, stopping, address } = &*self.inner;
        if stopping.swap(true, SeqCst) {
            return;
        }
        // the accept thread is blocked only while there is nothing to accept; if it is busy, it is helped, and stops at the end
        if socket.set_nonblocking(true).is_ok() {
            while let Ok((client, peer)) = socket.accept() {
                if traffic.pool.try_submit(self.inner.job(client, peer)).is_err() {
                    break;
                }
            }
        }
        if let Err(e) = socket::stop_listening(socket) {
            log::error!("listen service={} address={address} state=open reason=\"{e}\"", value(service.name()));
        } else {
            log::info!("listen service={} address={address} state=closed", value(service.name()));
        }
    }
}

impl Inner {
    fn live(&self) {
        let mut short = false;
        while !self.stopping.load(SeqCst) {
            match self.socket.accept() {
                Ok((client, peer)) => {
                    short = false;
                    self.traffic.pool.submit(self.job(client, peer));
                }
                // the client has gone again, or a signal came: nothing is wrong with the socket
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) if self.stopping.load(SeqCst) => break,
                Err(e) => {
                    if !std::mem::replace(&mut short, true) {
                        log::error!(
                            "listen service={} address={} state=short reason=\"{e}\"",
                            value(self.service.name()),
                            self.address
                        );
                    }
                    thread::sleep(SHORTAGE_PAUSE);
                }
            }
        }
    }

    fn job(&self, client: TcpStream, peer: SocketAddr) -> Job {
        // an IPv4 client of a socket for everything has an IPv6 address of a kind that nobody wants to read
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let session = Session::new(client, peer, self.address, self.service.clone(), self.traffic.clone());
        Box::new(move |pair, space| session.run(pair, space))
    }
}
