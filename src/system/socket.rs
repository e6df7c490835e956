//! TCP sockets: how they are opened, prepared, read, reset, and whose fault an error is.
//!
//! Called by `relay` (reading, resetting), by `traffic` and `admin` (listening, connecting). Holds
//! no state.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind,
    listen as nix_listen, setsockopt, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};

use super::interfaces;
pub use super::raw::{discard, receive, unacknowledged, unread};

/// Whether a listening socket may overlap with others on the same port that say so too, such as
/// `*:80` with `10.0.0.1:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// With nobody else.
    Exclusive,
    /// Until [`unshare_port`].
    Shared,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenOn<'a> {
    /// Every address of this machine.
    Everywhere,
    /// One address, with the interface of a link-local one by its name or number.
    Ip(IpAddr, Option<&'a str>),
    /// Every address of a host name.
    Name(&'a str),
}

impl ListenOn<'_> {
    /// Opens the sockets: one, or one for each address of a name.
    pub fn listen(self, number: u16, port: Port) -> io::Result<Vec<TcpListener>> {
        match self {
            ListenOn::Everywhere => Ok(vec![listen_everywhere(number, port)?]),
            ListenOn::Ip(ip, zone) => {
                let address =
                    interfaces::locate(ip, zone, number).ok_or_else(|| no_interface(zone))?;
                Ok(vec![listening(address, true, port)?])
            }
            ListenOn::Name(name) => listen_by_name(name, number, port),
        }
    }

    /// The addresses that a socket for it may have, each in its canonical form.
    pub fn addresses(self, port: u16) -> Vec<SocketAddr> {
        match self {
            ListenOn::Everywhere => {
                vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
            }
            ListenOn::Ip(ip, zone) => interfaces::locate(ip, zone, port).into_iter().collect(),
            ListenOn::Name(name) => (name, port)
                .to_socket_addrs()
                .into_iter()
                .flatten()
                .map(interfaces::complete)
                .collect(),
        }
    }
}

fn no_interface(zone: Option<&str>) -> io::Error {
    let why = match zone {
        Some(zone) => format!("there is no network interface `{zone}`"),
        None => "it must name its network interface, as [fe80::1%eth0]:80 does".to_owned(),
    };
    io::Error::new(io::ErrorKind::NotFound, why)
}

/// Opens a listening socket on one address. An IPv6 address takes IPv6 clients only.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listening(address, true, Port::Exclusive)
}

/// Lets others of the same user share the port of this socket. Does nothing to sockets that are
/// open already.
pub fn share_port(socket: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePort, &true)?)
}

/// The other way round.
pub fn unshare_port(socket: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePort, &false)?)
}

/// Opens a listening socket on every address of this machine, IPv6 and IPv4 (IPv4 alone where the
/// kernel has no IPv6).
fn listen_everywhere(number: u16, port: Port) -> io::Result<TcpListener> {
    match listening(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), number), false, port) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            listening(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), number), true, port)
        }
        result => result,
    }
}

/// Opens a listening socket on each address of a host name. The name may stand for an address that
/// this machine cannot use, such as `::1` without IPv6: one that works is enough.
fn listen_by_name(name: &str, number: u16, port: Port) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    let mut unusable = None;
    let mut addresses: Vec<SocketAddr> =
        (name, number).to_socket_addrs()?.map(interfaces::complete).collect();
    // /etc/hosts may give one address twice
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        match listening(address, true, port) {
            Ok(socket) => sockets.push(socket),
            Err(e)
                if matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) =>
            {
                unusable = Some(e)
            }
            Err(e) => return Err(e),
        }
    }
    match unusable {
        Some(e) if sockets.is_empty() => Err(e),
        _ if sockets.is_empty() => {
            Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        }
        _ => Ok(sockets),
    }
}

fn listening(address: SocketAddr, only_v6: bool, port: Port) -> io::Result<TcpListener> {
    let address = interfaces::canonical(address);
    let socket = open(address, SockFlag::SOCK_CLOEXEC)?;
    // without it a restart would have to wait for old connections in TIME_WAIT
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &(port == Port::Shared))?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &only_v6)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    // as long as the system allows (net.core.somaxconn): std's 128 drops clients in a burst
    nix_listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}

pub(super) fn open(address: SocketAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket::socket(family, SockType::Stream, flags, None)?)
}

/// Decides for a client, or for all whose connections will come to a listening socket, who inherit
/// its options: what is written goes out at once; an urgent byte keeps its place among the others
/// (RFC 6093, section 6); and a client that is closed without [`reset_on_close`] having been taken
/// back is reset: it must not take that for an empty answer.
pub fn prepare_clients(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::OobInline, &true)?;
    Ok(setsockopt(socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

/// Whether the error is a shortage of this machine, so that nobody else is to blame for it.
pub fn is_our_shortage(error: &io::Error) -> bool {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
    ];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// Whether the error says that the other side has not answered for long: ETIMEDOUT, or the last
/// ICMP error that came meanwhile (tcp(7)).
pub fn is_dead(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH))
}

/// Writes as much as the kernel takes at once. An error of the kind `WouldBlock` says that this was
/// nothing.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(socket::send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
}

/// Whether the other side has reset the connection or left it in both directions, as far as the
/// kernel knows by now. A half-closed connection is not gone: its owner may still wait for an
/// answer.
pub fn is_gone(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
}

/// Whether the other side has ended its stream or reset the connection, though what it sent before
/// may not be read yet.
pub fn has_left(stream: &TcpStream) -> bool {
    // poll(2); nix does not know it
    let end = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut polled = [PollFd::new(stream.as_fd(), end)];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
}

/// Whether there is anything to be read at once: bytes, the end of the stream, or an error.
pub fn is_readable(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
}

/// Has the kernel ask a silent other side for a sign of life (tcp(7)): after half of this time, and
/// four times in the other half; without an answer the connection fails with ETIMEDOUT. In whole
/// seconds, two at least.
pub fn keep_alive(stream: &TcpStream, dead: Duration) -> io::Result<()> {
    /// The kernel takes no more seconds than this (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL).
    const MOST: u64 = 32767;
    let seconds = dead.as_secs().max(2);
    let interval = (seconds / 8).clamp(1, MOST);
    let count = (seconds - 1).min(4);
    let idle = (seconds - count * interval).clamp(1, MOST);
    setsockopt(stream, sockopt::TcpKeepIdle, &(idle as u32))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &(interval as u32))?;
    setsockopt(stream, sockopt::TcpKeepCount, &(count as u32))?;
    Ok(setsockopt(stream, sockopt::KeepAlive, &true)?)
}

sockopt_impl!(
    /// See tcp(7).
    NotSentLowat,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_NOTSENT_LOWAT,
    u32
);

/// The socket takes no more while it holds this many bytes that it has not sent yet. Those that
/// were sent and not acknowledged come on top.
pub fn limit_unsent(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    Ok(setsockopt(stream, NotSentLowat, &bytes)?)
}

/// Whether closing this socket shall reset the connection instead of ending it politely.
pub fn reset_on_close(stream: &TcpStream, resets: bool) {
    // it can fail only for a descriptor that is not a socket
    let _ =
        setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: resets.into(), l_linger: 0 });
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn clients_inherit_what_was_prepared_for_them() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        prepare_clients(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap() && getsockopt(&accepted, sockopt::OobInline).unwrap());
        let linger = getsockopt(&accepted, sockopt::Linger).unwrap();
        assert_eq!((linger.l_onoff, linger.l_linger), (1, 0));
    }
}
