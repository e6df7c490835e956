//! The management pages over HTTP, behind an acceptor of our own: tiny_http never faces the
//! network.
//!
//! ```text
//! client --TCP or Unix--> front: bounds, deadlines, checks --one clean request--> tiny_http --> serve --> Handler
//! ```
//!
//! Two threads: `admin front` looks after all clients, `admin` calls the [`Handler`]; tiny_http has
//! a few of its own that only ever meet the front. None of them touches a session, so the admin
//! side can neither stall nor starve the data path.

mod access;
mod answer;
pub mod auth;
mod client;
pub mod control;
mod crypt;
pub mod csrf;
mod exchange;
mod front;
pub mod http;
mod human;
mod listener;
pub mod metrics;
mod page;
mod penalty;
mod places;
mod plot;
pub mod routes;
mod serve;
mod show;
pub mod text;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

pub use crypt::{Cost, complaint, hash, refusals};
pub use http::{Handler, Method, Request, Response};
pub use listener::AdminSocket;
pub use places::MAX_CLIENTS;

use crate::system::logging::value;
use crate::system::thread;

use front::Front;
use serve::Backend;

/// The stack of the front: it holds two buffers of 16 KiB at most.
const FRONT_STACK: usize = 128 * 1024;
/// The stack of the thread that makes the pages.
const STACK: usize = 512 * 1024;
/// The most descriptors that the admin side uses: clients, both ends of the connection to
/// tiny_http, which has one of them twice, and those of the next one, the socket that they wait on,
/// two to stop it.
pub const DESCRIPTORS: usize = MAX_CLIENTS + 8;

/// The most threads: the front, the one that makes the pages, and tiny_http's own (an acceptor and
/// a pool of four; all but one of them end soon).
pub const THREADS: usize = 7;

/// Address space: stacks, those of tiny_http as large as std makes them, and what a request and its
/// answer take.
pub const SPACE: usize = FRONT_STACK + STACK + 5 * thread::LARGE + serve::ROOM;

/// The running admin side. Dropping it stops it.
pub struct Admin {
    listeners: Vec<AdminSocket>,
    backend: Arc<Backend>,
    /// Closing this end stops the front.
    stop: Option<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

/// Serves what the handler answers to the clients of these listeners.
pub fn start(listeners: Vec<AdminSocket>, handler: Arc<dyn Handler>) -> io::Result<Admin> {
    let backend = Arc::new(Backend::default());
    // what there is none of is better found out at the start than by the first request
    let line = backend.connect()?;
    let (stop, stopped) = UnixStream::pair()?;
    let front = Front::new(listeners.clone(), backend.clone(), line, stopped);
    // from here on, an error drops this and with it ends what has been started
    let mut admin =
        Admin { listeners, backend: backend.clone(), stop: Some(stop), threads: Vec::new() };
    admin.spawn("admin", STACK, move || backend.run(&*handler))?;
    admin.spawn("admin front", FRONT_STACK, move || front::run(front))?;
    Ok(admin)
}

impl Admin {
    fn spawn(
        &mut self,
        name: &str,
        stack: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.threads.push(thread::start(name, stack, body)?);
        Ok(())
    }

    /// Where it listens, as far as that is TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(AdminSocket::address).collect()
    }

    /// Logs where it listens.
    pub fn announce(&self) {
        for listener in &self.listeners {
            log::info!("admin address={} state=open", value(&listener.to_string()));
        }
    }

    /// Its listeners, to hand their sockets over; none when it has stopped.
    pub fn listeners(&self) -> &[AdminSocket] {
        &self.listeners
    }

    /// Closes the listeners and drops the clients; those that wait for their answer get it, if that
    /// takes less than a second. The file of a Unix socket is gone when this returns. Not to be
    /// called by the handler, which is one of the things that this waits for.
    pub fn stop(&mut self) {
        if self.stop.take().is_none() {
            return;
        }
        self.listeners.clear();
        // the front, which was started last, ends by itself now, and needs the other one until it
        // has
        let front = if self.threads.len() > 1 { self.threads.pop() } else { None };
        join(front);
        self.backend.stop();
        join(self.threads.pop());
        log::info!("admin state=closed");
    }
}

/// Waits for the end of a thread. If that was a panic, it is in the log.
fn join(thread: Option<JoinHandle<()>>) {
    let _ = thread.map(JoinHandle::join);
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop();
    }
}
