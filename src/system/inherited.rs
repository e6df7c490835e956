//! Listening sockets that were open before this program was: from its predecessor, or from systemd
//! (sd_listen_fds(3)).
//!
//! Filled by `main` and `daemon`; whoever binds an address asks here first.

use std::env;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::socket::{ListenOn, Port};
use super::{interfaces, raw};

/// Sockets that nobody has taken yet. Those that are left are closed when this is dropped.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
    activated: Vec<SocketAddr>,
}

struct Socket {
    /// What the predecessor's configuration called it; `None` for one from systemd, which is known
    /// by its address alone.
    name: Option<String>,
    descriptor: OwnedFd,
}

impl Inherited {
    /// What systemd has passed to this process, if it has. To be called first of all: it owns the
    /// descriptors from 3 on.
    pub fn from_systemd() -> io::Result<Inherited> {
        let number = |key| env::var(key).ok().and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Ok(Inherited::default());
        }
        let count = number("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
        let descriptors = raw::passed_descriptors(count)?;
        let sockets: Vec<Socket> =
            descriptors.into_iter().map(|descriptor| Socket { name: None, descriptor }).collect();
        let activated = sockets.iter().filter_map(Socket::address).collect();
        Ok(Inherited { sockets, activated })
    }

    /// Adds a socket that a predecessor has handed over.
    pub fn add(&mut self, name: String, descriptor: OwnedFd) {
        self.sockets.push(Socket { name: Some(name), descriptor });
    }

    /// Adds addresses of a predecessor that are [`activated`](Inherited::activated).
    pub fn add_activated(&mut self, addresses: Vec<SocketAddr>) {
        self.activated.extend(addresses);
    }

    /// The TCP addresses on which systemd goes on listening, whatever is done here: no process can
    /// close them but systemd.
    pub fn activated(&self) -> &[SocketAddr] {
        &self.activated
    }

    /// Takes the sockets of a TCP address, which the configuration calls `name`; opens them if
    /// there are none.
    pub fn take_or_listen(
        &mut self,
        name: &str,
        spot: ListenOn<'_>,
        port: u16,
    ) -> io::Result<Vec<TcpListener>> {
        let addresses = if self.sockets.is_empty() { Vec::new() } else { spot.addresses(port) };
        let is_many = matches!(spot, ListenOn::Name(_));
        let (mut taken, mut others) = (Vec::new(), Vec::new());
        for socket in std::mem::take(&mut self.sockets) {
            // port 0 may be there twice under one name
            let is_meant = (is_many || taken.is_empty()) && socket.fits(name, spot, &addresses);
            if is_meant { &mut taken } else { &mut others }.push(socket);
        }
        self.sockets = others;
        match taken.is_empty() {
            true => spot.listen(port, Port::Exclusive),
            false => taken.into_iter().map(Socket::into_tcp).collect(),
        }
    }

    /// Takes the Unix socket of that name.
    pub fn take_unix(&mut self, name: &str) -> Option<UnixListener> {
        let position =
            self.sockets.iter().position(|socket| socket.name.as_deref() == Some(name))?;
        Some(UnixListener::from(self.sockets.swap_remove(position).descriptor))
    }

    /// Those of these names whose sockets have all been taken.
    pub fn taken_of(&self, mut names: Vec<String>) -> Vec<String> {
        names.retain(|name| self.sockets.iter().all(|socket| socket.name.as_ref() != Some(name)));
        names
    }

    /// Closes the sockets from systemd that nobody has taken; returns their addresses, `None` for
    /// one that is not a TCP socket.
    pub fn close_unwanted(&mut self) -> Vec<Option<SocketAddr>> {
        let (named, unwanted): (_, Vec<Socket>) =
            std::mem::take(&mut self.sockets).into_iter().partition(|socket| socket.name.is_some());
        self.sockets = named;
        unwanted.iter().map(Socket::address).collect()
    }
}

impl Socket {
    fn address(&self) -> Option<SocketAddr> {
        TcpListener::from(self.descriptor.try_clone().ok()?)
            .local_addr()
            .ok()
            .map(interfaces::canonical)
    }

    /// A predecessor may have called one address by another name; of more than one address, only
    /// the name tells which those are.
    fn fits(&self, name: &str, spot: ListenOn<'_>, addresses: &[SocketAddr]) -> bool {
        let is_one = matches!(spot, ListenOn::Ip(ip, _) if !ip.is_unspecified());
        match &self.name {
            Some(own) if own == name => true,
            Some(_) if !is_one => false,
            _ => self.address().is_some_and(|address| addresses.contains(&address)),
        }
    }

    fn into_tcp(self) -> io::Result<TcpListener> {
        let socket = self.descriptor.as_fd();
        if getsockopt(&socket, sockopt::SockType)? != SockType::Stream
            || !getsockopt(&socket, sockopt::AcceptConn)?
        {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the socket that was passed for it does not listen",
            ));
        }
        Ok(TcpListener::from(self.descriptor))
    }
}
