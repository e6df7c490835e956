//! Backends that behave in a known way, each on a free port of loopback, each with its threads
//! ended when it is dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::Receiver;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, shutdown,
    socket, sockopt,
};

use super::{DEADLINE, pattern};

/// A server with a fixed behaviour.
pub struct Backend {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    /// Accepts, with another handle to what it accepts from.
    thread: Option<(JoinHandle<()>, TcpListener)>,
    /// Sockets that only have to exist.
    _held: Vec<OwnedFd>,
    _clients: Vec<TcpStream>,
}

impl Backend {
    /// Serves each connection with `behave` on a thread of its own.
    pub fn with(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> Backend {
        Backend::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behave)
    }

    /// The same at a given address.
    pub fn at(address: SocketAddr, behave: impl Fn(TcpStream) + Send + Sync + 'static) -> Backend {
        let listener = tcpdirector::system::socket::listen(address).expect("the address is free");
        let address = listener.local_addr().unwrap();
        let (accepted, stopping) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let waits = listener.try_clone().unwrap();
        let (count, stop, behave) = (accepted.clone(), stopping.clone(), Arc::new(behave));
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(SeqCst) {
                    return;
                }
                let (Ok(client), behave) = (client, behave.clone()) else { continue };
                count.fetch_add(1, SeqCst);
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                client.set_write_timeout(Some(DEADLINE)).unwrap();
                thread::spawn(move || behave(client));
            }
        });
        Backend {
            address,
            accepted,
            stopping,
            thread: Some((thread, waits)),
            _held: Vec::new(),
            _clients: Vec::new(),
        }
    }

    /// Sends back what it gets, and ends when the client ends.
    pub fn echo() -> Backend {
        Backend::with(|client| {
            let _ = std::io::copy(&mut &client, &mut &client);
            let _ = client.shutdown(Shutdown::Write);
        })
    }

    /// Says nothing; what it has heard of each client, and whether that ended by a reset, comes out
    /// of the channel.
    pub fn hearing() -> (Backend, Receiver<(Vec<u8>, bool)>) {
        Backend::hearing_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// The same at a given address.
    pub fn hearing_at(address: SocketAddr) -> (Backend, Receiver<(Vec<u8>, bool)>) {
        let (tell, heard) = crossbeam::channel::unbounded();
        let backend = Backend::at(address, move |client| {
            let _ = tell.send(super::read_out(&client));
        });
        (backend, heard)
    }

    /// Reads to the end, then says its name.
    pub fn named(name: &'static str) -> Backend {
        Backend::with(|client| say(client, name))
    }

    /// The same at a given address.
    pub fn named_at(address: SocketAddr, name: &'static str) -> Backend {
        Backend::at(address, |client| say(client, name))
    }

    /// Reads to the end, then says how many bytes came and their checksum.
    pub fn sink() -> Backend {
        Backend::with(|mut client| {
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all);
            let _ = write!(client, "{} {:x}", all.len(), checksum(&all));
        })
    }

    /// Speaks first, then echoes.
    pub fn banner(text: &'static str) -> Backend {
        Backend::with(move |mut client| {
            let _ = client.write_all(text.as_bytes());
            let _ = std::io::copy(&mut &client, &mut &client);
        })
    }

    /// Sends so many bytes, and resets the connection once the client has sent one byte to say that
    /// it has them.
    pub fn reset_after(count: usize) -> Backend {
        Backend::with(move |mut client| {
            let _ = client.write_all(&pattern(count));
            let _ = client.read(&mut [0]);
            super::reset(client);
        })
    }

    /// Keeps the connection open and says nothing until the client ends it.
    pub fn silent() -> Backend {
        Backend::with(|mut client| {
            let _ = client.read_to_end(&mut Vec::new());
        })
    }

    /// An address where connections are refused, and which nobody else can take meanwhile.
    pub fn refuse() -> Backend {
        let (held, address) = bound();
        Backend::held(address, vec![held], Vec::new())
    }

    /// An address where nobody answers: the queue of its listener is full, so that the kernel drops
    /// what arrives.
    pub fn black_hole() -> Backend {
        let (held, address) = bound();
        listen(&held, Backlog::new(0).unwrap()).unwrap();
        let mut clients = Vec::new();
        while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            clients.push(client);
        }
        Backend::held(address, vec![held], clients)
    }

    fn held(address: SocketAddr, held: Vec<OwnedFd>, clients: Vec<TcpStream>) -> Backend {
        Backend {
            address,
            accepted: Arc::default(),
            stopping: Arc::default(),
            thread: None,
            _held: held,
            _clients: clients,
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, SeqCst);
        if let Some((thread, listener)) = self.thread.take() {
            // wakes the accept; connecting would not, from another network
            let _ = shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
            let _ = thread.join();
        }
    }
}

fn say(mut client: TcpStream, name: &str) {
    let _ = client.read_to_end(&mut Vec::new());
    let _ = client.write_all(name.as_bytes());
}

/// A bound socket that does not listen.
fn bound() -> (OwnedFd, SocketAddr) {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &false).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let address: SockaddrIn = nix::sys::socket::getsockname(fd.as_raw_fd()).unwrap();
    (fd, SocketAddr::from((address.ip(), address.port())))
}

/// FNV-1a, enough to tell any difference that a relay could make.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
