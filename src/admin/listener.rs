//! The admin address: TCP or a Unix socket, opened before anything starts, accepted from by the
//! thread `admin front`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::config::AdminListen;
use crate::system::inherited::Inherited;
use crate::system::interfaces;
use crate::system::unix_socket::UnixSocketListener;

/// A listening socket that does not block. The address is closed, and the file of a Unix socket
/// removed, with the last clone.
#[derive(Clone)]
pub struct AdminSocket {
    listen: AdminListen,
    kind: Arc<SocketKind>,
}

enum SocketKind {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixSocketListener),
}

impl AdminSocket {
    /// Opens the sockets of an admin address: one, or one for each address of a host name. Those
    /// that are open already are taken.
    pub fn open(listen: &AdminListen, inherited: &mut Inherited) -> io::Result<Vec<AdminSocket>> {
        let path = match listen {
            AdminListen::Tcp(address) => {
                let sockets = inherited
                    .take_or_listen(&listen.to_string(), address.spot(), address.port)?
                    .into_iter();
                return sockets.map(|socket| AdminSocket::tcp(listen.clone(), socket)).collect();
            }
            AdminListen::Unix(path) => path,
        };
        // a file that somebody has removed leads nobody to the socket that is open
        let taken = inherited
            .take_unix(&listen.to_string())
            .and_then(|socket| UnixSocketListener::inherit(socket, path).ok());
        let local = taken.map_or_else(|| UnixSocketListener::open(path), Ok)?;
        local.socket().set_nonblocking(true)?;
        Ok(vec![AdminSocket { listen: listen.clone(), kind: Arc::new(SocketKind::Unix(local)) }])
    }

    fn tcp(listen: AdminListen, socket: TcpListener) -> io::Result<AdminSocket> {
        socket.set_nonblocking(true)?;
        let address = interfaces::canonical(socket.local_addr()?);
        Ok(AdminSocket { listen, kind: Arc::new(SocketKind::Tcp(socket, address)) })
    }

    /// The address as the configuration writes it.
    pub fn listen(&self) -> &AdminListen {
        &self.listen
    }

    /// Where it listens, if that is TCP, with the port that the system chose when the
    /// configuration left that open.
    pub fn address(&self) -> Option<SocketAddr> {
        match &*self.kind {
            SocketKind::Tcp(_, address) => Some(*address),
            SocketKind::Unix(_) => None,
        }
    }

    /// The file of a Unix socket: before root is given up, it has to be given to the user who may
    /// connect.
    pub fn path(&self) -> Option<&Path> {
        match &*self.kind {
            SocketKind::Tcp(..) => None,
            SocketKind::Unix(local) => Some(local.path()),
        }
    }

    /// Whether the file of a Unix socket is this process's to remove: not while another one is the
    /// service.
    pub fn set_ours(&self, is_ours: bool) {
        if let SocketKind::Unix(local) = &*self.kind {
            local.set_ours(is_ours);
        }
    }

    /// The next client and its address without a port, both ready for the front.
    pub fn accept(&self) -> io::Result<(TcpStream, String)> {
        let (stream, address) = match &*self.kind {
            SocketKind::Tcp(socket, _) => {
                let (stream, peer) = socket.accept()?;
                // small answers should not wait for more to come
                let _ = stream.set_nodelay(true);
                (stream, without_port(interfaces::canonical(peer)))
            }
            SocketKind::Unix(local) => {
                let (stream, _) = local.socket().accept()?;
                // only a descriptor with read, write and shutdown is wanted, and those are the same
                // for both families
                (TcpStream::from(OwnedFd::from(stream)), "unix".to_owned())
            }
        };
        stream.set_nonblocking(true)?;
        Ok((stream, address))
    }
}

/// Two networks may have the same link-local address.
fn without_port(client: SocketAddr) -> String {
    match client {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => client.ip().to_string(),
    }
}

impl AsFd for AdminSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &*self.kind {
            SocketKind::Tcp(socket, _) => socket.as_fd(),
            SocketKind::Unix(local) => local.socket().as_fd(),
        }
    }
}

impl fmt::Display for AdminSocket {
    /// As the configuration would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            SocketKind::Tcp(_, address) => write!(f, "{address}"),
            SocketKind::Unix(local) => write!(f, "unix:{}", local.path().display()),
        }
    }
}
