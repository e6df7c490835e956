//! TCP sockets: how they are opened, prepared, read, reset, and whose fault an error is.
//!
//! Called by `relay` (reading, resetting), by `traffic` and `admin` (listening, connecting). Holds no state.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, listen as nix_listen, setsockopt, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};

use super::interfaces;
pub use super::raw::{receive, unacknowledged, unread};

/// Whether a listening socket may overlap with others on the same port that say so too, such as `*:80` with `10.0.0.1:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Nobody else's.
    Own,
    /// Until [`own_port`] says otherwise.
    Shared,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot<'a> {
    /// Every address of this machine.
    Everywhere,
    /// One address, with the interface of a link-local one by its name or number.
    Ip(IpAddr, Option<&'a str>),
    /// Every address of a host name.
    Name(&'a str),
}

impl Spot<'_> {
    /// Opens the sockets: one, or one for each address of a name.
    pub fn listen(self, number: u16, port: Port) -> io::Result<Vec<TcpListener>> {
        match self {
            Spot::Everywhere => Ok(vec![listen_everywhere(number, port)?]),
            Spot::Ip(ip, zone) => {
                let address = interfaces::locate(ip, zone, number).ok_or_else(|| no_interface(zone))?;
                Ok(vec![listening(address, true, port)?])
            }
            Spot::Name(name) => listen_by_name(name, number, port),
        }
    }

    /// The addresses that a socket for it may have, each in its canonical form.
    pub fn addresses(self, port: u16) -> Vec<SocketAddr> {
        match self {
            Spot::Everywhere => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
            Spot::Ip(ip, zone) => interfaces::locate(ip, zone, port).into_iter().collect(),
            Spot::Name(name) => (name, port).to_socket_addrs().into_iter().flatten().map(interfaces::complete).collect(),
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
    listening(address, true, Port::Own)
}

/// Lets others of the same user share the port of this socket. Does nothing to sockets that are open already.
pub fn share_port(socket: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePort, &true)?)
}

/// The other way round.
pub fn own_port(socket: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::ReusePort, &false)?)
}

/// Opens a listening socket on every address of this machine, IPv6 and IPv4 (IPv4 alone where the kernel has no IPv6).
fn listen_everywhere(number: u16, port: Port) -> io::Result<TcpListener> {
    match listening(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), number), false, port) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            listening(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), number), true, port)
        }
        result => result,
    }
}

/// Opens a listening socket on each address of a host name. The name may stand for an address that this machine cannot use, such
/// as `::1` without IPv6: one that works is enough.
fn listen_by_name(name: &str, number: u16, port: Port) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    let mut unusable = None;
    let mut addresses: Vec<SocketAddr> = (name, number).to_socket_addrs()?.map(interfaces::complete).collect();
    // /etc/hosts may give one address twice
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        match listening(address, true, port) {
            Ok(socket) => sockets.push(socket),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) => unusable = Some(e),
            Err(e) => return Err(e),
        }
    }
    match unusable {
        Some(e) if sockets.is_empty() => Err(e),
        _ if sockets.is_empty() => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
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

fn open(address: SocketAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket::socket(family, SockType::Stream, flags, None)?)
}

/// Decides for all clients that this socket will accept, who inherit its options: what is written goes out at once, and a client that
/// is closed without [`reset_on_close`] having been taken back is reset: it must not take that for an empty answer.
pub fn prepare_clients(listener: &TcpListener) -> io::Result<()> {
    setsockopt(listener, sockopt::TcpNoDelay, &true)?;
    Ok(setsockopt(listener, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

/// A connection of a socket to itself, which the kernel makes now and then when nobody listens on a port of the ephemeral range,
/// counts as refused.
fn refuse_itself(stream: &TcpStream, address: SocketAddr) -> io::Result<()> {
    if stream.local_addr()? == address {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(())
}

sockopt_impl!(
    /// For the side that connects, TCP_DEFER_ACCEPT leaves the last segment of the handshake to the first bytes, or to a timer of
    /// the kernel (TCP_DELACK_MAX, 0.2 s). tcp(7) tells only what it does to a listening socket.
    DeferAck,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    bool
);

/// A connection that is being made without anybody waiting for it.
#[derive(Debug)]
pub struct Connecting {
    stream: TcpStream,
    address: SocketAddr,
}

impl Connecting {
    /// Begins to connect. With `bytes_at_hand` the connection comes to the other side with the first bytes that are sent: a segment
    /// less, and one thing to wake up for, not two. Without them the other side would learn of it late.
    pub fn start(address: SocketAddr, bytes_at_hand: bool) -> io::Result<Connecting> {
        let socket = open(address, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        if bytes_at_hand {
            // without it the connection is as good
            let _ = setsockopt(&socket, DeferAck, &true);
        }
        match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Connecting { stream: TcpStream::from(socket), address }),
            Err(e) => Err(e.into()),
        }
    }

    /// Where to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the kernel to go on, which tells how it went in one call; `None` while that is open. Not to be called again after that.
    pub fn go_on(&self) -> Option<io::Result<()>> {
        match socket::connect(self.stream.as_raw_fd(), &SockaddrStorage::from(self.address)) {
            Ok(()) | Err(Errno::EISCONN) => Some(refuse_itself(&self.stream, self.address)),
            Err(Errno::EALREADY | Errno::EINPROGRESS | Errno::EINTR) => None,
            Err(e) => Some(Err(e.into())),
        }
    }

    /// The connected socket.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// How it went; `None` while that is open.
    pub fn result(&self) -> Option<io::Result<()>> {
        let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        if !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1)) {
            return None;
        }
        Some(match self.stream.take_error() {
            Ok(None) => refuse_itself(&self.stream, self.address),
            Ok(Some(e)) | Err(e) => Err(e),
        })
    }

    /// Waits until the result of one of them is known, or the time is up, or a signal comes.
    pub fn wait_for_any<'a>(several: impl Iterator<Item = &'a Connecting>, limit: Duration) {
        let mut polled: Vec<PollFd> = several.map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLOUT)).collect();
        // rounded up: a wait of less than a millisecond would be none at all, and the caller would spin
        let millis = u16::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let _ = poll(&mut polled, PollTimeout::from(millis));
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether the error tells of a shortage of this machine, so that nobody else is to blame for it.
pub fn is_our_shortage(error: &io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// Writes as much as the kernel takes at once. An error of the kind `WouldBlock` says that this was nothing.
pub fn send_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(socket::send(stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?)
}

/// Whether the other side has reset the connection or left it in both directions, as far as the kernel knows by now.
/// A half-closed connection is not gone: its owner may still wait for an answer.
pub fn is_gone(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
}

/// Whether the connection is over at the level of TCP: reset, or closed by both sides.
pub fn is_closed(stream: &TcpStream) -> bool {
    // getpeername(2) fails with ENOTCONN in the state CLOSE and only there, for a socket that was connected
    stream.peer_addr().is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
}

/// Whether closing this socket shall reset the connection instead of ending it politely.
pub fn reset_on_close(stream: &TcpStream, resets: bool) {
    // it can fail only for a descriptor that is not a socket
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: resets.into(), l_linger: 0 });
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::sys::socket::getsockopt;

    use super::*;

    fn until_connected(connecting: &Connecting) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while connecting.go_on().map(Result::unwrap).is_none() {
            assert!(Instant::now() < deadline, "it takes for ever");
        }
    }

    #[test]
    fn a_connection_that_begins_with_bytes_comes_to_the_other_side_with_them() {
        let has_come = |bytes_at_hand| {
            // one of its own for each try, or a connection of the last one could be taken for this one
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            listener.set_nonblocking(true).unwrap();
            let start = Instant::now();
            let connecting = Connecting::start(listener.local_addr().unwrap(), bytes_at_hand).unwrap();
            until_connected(&connecting);
            let has_come = listener.accept().is_ok();
            // the kernel waits for 0.2 s only
            let is_in_time = start.elapsed() < Duration::from_millis(100);
            assert_eq!(send_now(&connecting.into_stream(), b"word").unwrap(), 4);
            assert!(has_come || listener.accept().is_ok());
            is_in_time.then_some(has_come)
        };
        let has_come_before_its_bytes =
            |bytes_at_hand| (0..100).find_map(|_| has_come(bytes_at_hand)).expect("a machine that is not stopped all the time");
        assert!(has_come_before_its_bytes(false));
        assert!(!has_come_before_its_bytes(true));
    }

    #[test]
    fn clients_inherit_what_was_prepared_for_them() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        prepare_clients(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        let linger = getsockopt(&accepted, sockopt::Linger).unwrap();
        assert_eq!((linger.l_onoff, linger.l_linger), (1, 0));
    }
}
