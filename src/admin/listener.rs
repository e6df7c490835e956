//! The admin address: TCP or a Unix socket, opened before anything starts, accepted from by the thread `admin front`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::config::{AdminListen, Place};
use crate::system::local::LocalListener;
use crate::system::socket::{self, Port};

/// A listening socket that does not block. The file of a Unix socket is removed when this is dropped.
pub struct Listener(Kind);

enum Kind {
    Tcp(TcpListener, SocketAddr),
    Unix(LocalListener),
}

impl Listener {
    /// Opens the sockets of an admin address: one, or one for each address of a host name.
    pub fn bind(listen: &AdminListen) -> io::Result<Vec<Listener>> {
        let address = match listen {
            AdminListen::Tcp(address) => address,
            AdminListen::Unix(path) => {
                let local = LocalListener::open(path)?;
                local.socket().set_nonblocking(true)?;
                return Ok(vec![Listener(Kind::Unix(local))]);
            }
        };
        let sockets = match &address.place {
            Place::Any => vec![socket::listen_everywhere(address.port, Port::Own)?],
            Place::Ip(ip) => vec![socket::listen(SocketAddr::new(*ip, address.port), Port::Own)?],
            Place::Name(name) => socket::listen_by_name(name, address.port, Port::Own)?,
        };
        sockets.into_iter().map(Listener::tcp).collect()
    }

    fn tcp(socket: TcpListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Listener(Kind::Tcp(socket, address)))
    }

    /// Where it listens, if that is TCP; tells the port that the system chose when the configuration left that open.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(_, address) => Some(*address),
            Kind::Unix(_) => None,
        }
    }

    /// The file of a Unix socket: before root is given up, it has to be given to the user who may connect.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Tcp(..) => None,
            Kind::Unix(local) => Some(local.path()),
        }
    }

    /// The next client and its address without a port, both ready for the front.
    pub fn accept(&self) -> io::Result<(TcpStream, String)> {
        let (stream, address) = match &self.0 {
            Kind::Tcp(socket, _) => {
                let (stream, peer) = socket.accept()?;
                // small answers should not wait for more to come
                let _ = stream.set_nodelay(true);
                (stream, peer.ip().to_canonical().to_string())
            }
            Kind::Unix(local) => {
                let (stream, _) = local.socket().accept()?;
                // only a descriptor with read, write and shutdown is wanted, and those are the same for both families
                (TcpStream::from(OwnedFd::from(stream)), "unix".to_owned())
            }
        };
        stream.set_nonblocking(true)?;
        Ok((stream, address))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Tcp(socket, _) => socket.as_fd(),
            Kind::Unix(local) => local.socket().as_fd(),
        }
    }
}

impl fmt::Display for Listener {
    /// As the configuration would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(_, address) => write!(f, "{address}"),
            Kind::Unix(local) => write!(f, "unix:{}", local.path().display()),
        }
    }
}
