//! A listen address and its thread: accept, make a session, hand it to the pool. The loop ends only
//! when it is told to.
//!
//! The thread uses the socket by turns: it takes the socket out of [`Turn`], waits and accepts
//! without blocking in `accept`, and gives it back before it hands the client on, which may
//! take long. So a pause or a stop waits for no more than a system call, and nothing but closing is
//! ever done to the socket: its open file description may be shared with a successor. The mutex
//! around the turn is never held across a system call. A log that is stuck holds this thread up,
//! and nothing else here does but a full queue of the pool.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex, RwLock};

use super::Traffic;
use super::session::Session;
use crate::config::Address;
use crate::state::Service;
use crate::system::inherited::Inherited;
use crate::system::interfaces;
use crate::system::logging::value;
use crate::system::shortage::{self, Shortage};
use crate::system::socket::{self, Port};
use crate::system::thread;
use crate::system::waker::Waker;

/// Descriptors of a listener: its socket, its waker, and the client that it is handing on.
pub const DESCRIPTORS: usize = 3;

/// Opens the sockets of a listen address: one, or one for each address of a host name. Sockets that
/// are open already are taken.
pub fn open(address: &Address, inherited: &mut Inherited) -> io::Result<Vec<TcpListener>> {
    inherited.take_or_listen(&address.to_string(), address.spot(), address.port)
}

/// The same where nothing can be open already.
pub fn bind(address: &Address) -> io::Result<Vec<TcpListener>> {
    address.spot().listen(address.port, Port::Exclusive)
}

/// The same while sockets are still open that overlap with it on their port and are about to be
/// closed: `*:80` becomes `10.0.0.1:80` without a moment in which nobody listens. The kernel allows
/// it among sockets of one user alone.
pub fn bind_beside(
    address: &Address,
    leaving: &[Arc<TcpListener>],
) -> io::Result<Vec<TcpListener>> {
    leaving.iter().try_for_each(|socket| socket::share_port(socket))?;
    let opened = address.spot().listen(address.port, Port::Shared);
    let sockets = leaving.iter().map(|socket| &**socket).chain(opened.iter().flatten());
    sockets.map(socket::unshare_port).fold(Ok(()), Result::and).and(opened)
}

/// A listening socket whose thread accepts clients for a service. Dropping it stops it.
pub struct Listener {
    acceptor: Arc<Acceptor>,
}

/// What the thread and the handle share.
struct Acceptor {
    listen: Address,
    address: SocketAddr,
    service: RwLock<Arc<Service>>,
    traffic: Arc<Traffic>,
    turn: Mutex<Turn>,
    /// The turn has changed hands, or may be taken again.
    turned: Condvar,
    waker: Waker,
    /// Clients may wait whose connections came before the socket was prepared for them: while this
    /// program started, or to whoever had opened the socket for it.
    has_early_clients: AtomicBool,
    /// That it is open is in the log, and so its end is to be.
    is_announced: AtomicBool,
}

/// Whether the thread may use the socket, and whether it does.
struct Turn {
    /// `None` once it is stopped.
    socket: Option<Arc<TcpListener>>,
    is_paused: bool,
    is_taken: bool,
}

impl Turn {
    /// Whether the thread may come (back) to the socket.
    fn is_open(&self) -> bool {
        self.socket.is_some() && !self.is_paused
    }
}

impl Listener {
    /// Starts the accept thread and lets it accept. `listen` is the address as the configuration
    /// writes it.
    pub fn start(
        socket: TcpListener,
        listen: Address,
        service: Arc<Service>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Listener> {
        let listener = Listener::paused(socket, listen, service, traffic)?;
        listener.resume();
        listener.announce();
        Ok(listener)
    }

    /// The same, but nobody is accepted before [`Listener::resume`].
    pub fn paused(
        socket: TcpListener,
        listen: Address,
        service: Arc<Service>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        socket::prepare_clients(&socket)?;
        let address = interfaces::canonical(socket.local_addr()?);
        let turn =
            Mutex::new(Turn { socket: Some(Arc::new(socket)), is_paused: true, is_taken: false });
        let service = RwLock::new(service);
        let acceptor = Arc::new(Acceptor {
            listen,
            address,
            service,
            traffic,
            turn,
            turned: Condvar::new(),
            waker: Waker::new()?,
            has_early_clients: AtomicBool::new(true),
            is_announced: AtomicBool::default(),
        });
        let runner = acceptor.clone();
        // made before the thread: when that cannot be had, the socket is closed
        let listener = Listener { acceptor };
        thread::start(format!("listen {address}"), thread::SMALL, move || runner.run())?;
        Ok(listener)
    }

    /// The address as the configuration writes it.
    pub fn listen(&self) -> &Address {
        &self.acceptor.listen
    }

    /// Where it listens, with the port that the system chose when the configuration left that
    /// open.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address
    }

    /// The service that it accepts clients for.
    pub fn service(&self) -> Arc<Service> {
        self.acceptor.service()
    }

    /// From now on its clients belong to this service.
    pub fn serve(&self, service: Arc<Service>) {
        *self.acceptor.service.write() = service;
    }

    /// The socket, to hand it over; `None` when it is stopped. Whoever holds it keeps the address
    /// open.
    pub fn socket(&self) -> Option<Arc<TcpListener>> {
        self.acceptor.turn.lock().socket.clone()
    }

    /// Stops accepting without touching the socket: clients wait in the kernel's queue. No client
    /// is accepted any more when this returns.
    pub fn pause(&self) {
        self.acceptor.turn.lock().is_paused = true;
        self.acceptor.interrupt();
    }

    /// Accepts clients, again or for the first time; those first that have been waiting. Does
    /// nothing to one that is stopped.
    pub fn resume(&self) {
        self.acceptor.turn.lock().is_paused = false;
        self.acceptor.turned.notify_all();
    }

    /// Logs that it is open, once.
    pub fn announce(&self) {
        if self.acceptor.is_announced.swap(true, Relaxed) {
            return;
        }
        log::info!(
            "listen service={} address={} state=open",
            value(self.service().name()),
            self.address()
        );
    }

    /// Closes the address for good. Clients that the kernel holds already are taken in first, as
    /// far as the pool's queue has room; but while it is paused they are left for whoever else has
    /// the socket. Waits for nothing but a system call.
    pub fn stop(&self) {
        let (socket, is_paused) = {
            let mut turn = self.acceptor.turn.lock();
            (turn.socket.take(), turn.is_paused)
        };
        let Some(socket) = socket else { return };
        self.acceptor.interrupt();
        if !is_paused {
            self.acceptor.accept_backlog(&socket);
        }
        drop(socket);
        if !self.acceptor.is_announced.load(Relaxed) {
            return;
        }
        let state = if is_paused { "handed-over" } else { "closed" };
        log::info!(
            "listen service={} address={} state={state}",
            value(self.service().name()),
            self.address()
        );
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Acceptor {
    fn run(&self) {
        let (pool, mut worker) = (&self.traffic.pool, self.traffic.pool.accept_worker());
        let mut shortage = Shortage::default();
        while let Some(accepted) = self.accept() {
            match accepted {
                Ok(session) => {
                    shortage.end();
                    pool.run_or_submit(session, &mut worker);
                }
                // the client has gone again, or a signal came: nothing is wrong with the socket
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::ConnectionAborted
                            | ErrorKind::Interrupted
                            | ErrorKind::WouldBlock
                    ) => {}
                Err(e) => {
                    shortage.log_once(|| {
                        log::error!(
                            "listen service={} address={} state=short reason=\"{e}\"",
                            value(self.service().name()),
                            self.address
                        );
                    });
                    shortage::rest();
                }
            }
        }
    }

    /// One turn at the socket: the next client, or `WouldBlock` after a wait; `None` when it is
    /// stopped. The client is a session before the turn ends, so that whoever pauses this knows of
    /// everybody who came.
    fn accept(&self) -> Option<io::Result<Box<Session>>> {
        let socket = self.take_turn()?;
        let accepted = match socket.accept() {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.has_early_clients.store(false, Relaxed);
                self.waker.wait_at(socket.as_fd()).and(Err(e))
            }
            accepted => accepted.map(|(client, peer)| self.session(client, peer)),
        };
        // before the turn ends: whoever stops this has the last handle then, and closes the address
        // with it
        drop(socket);
        self.turn.lock().is_taken = false;
        self.turned.notify_all();
        Some(accepted)
    }

    fn take_turn(&self) -> Option<Arc<TcpListener>> {
        let mut turn = self.turn.lock();
        while !turn.is_open() {
            turn.socket.as_ref()?;
            self.turned.wait(&mut turn);
        }
        let socket = turn.socket.clone()?;
        turn.is_taken = true;
        Some(socket)
    }

    /// Waits until the thread is not at the socket. What keeps it from coming back has been set
    /// already.
    fn interrupt(&self) {
        self.waker.wake();
        let mut turn = self.turn.lock();
        while turn.is_taken && !turn.is_open() {
            self.turned.wait(&mut turn);
        }
        drop(turn);
        // a thread that rests may have to end
        self.turned.notify_all();
    }

    /// Takes in what the kernel holds, as far as the pool's queue has room.
    fn accept_backlog(&self, socket: &TcpListener) {
        while let Ok((client, peer)) = socket.accept() {
            if self.traffic.pool.try_submit(self.session(client, peer)).is_err() {
                return;
            }
        }
    }

    fn service(&self) -> Arc<Service> {
        self.service.read().clone()
    }

    fn session(&self, client: TcpStream, peer: SocketAddr) -> Box<Session> {
        if self.has_early_clients.load(Relaxed) {
            // it fails only when the connection is gone
            let _ = socket::prepare_clients(&client);
        }
        // an IPv4 client of a socket for everything has an IPv6 address of a kind that nobody wants
        // to read
        let peer = interfaces::canonical(peer);
        Box::new(Session::new(client, peer, self.address, self.service(), self.traffic.clone()))
    }
}
