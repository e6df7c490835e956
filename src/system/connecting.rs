//! A connection to a host that is being made without anybody waiting for it. Used by sessions and
//! by the manager.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{self, SockFlag, SockaddrStorage, setsockopt, sockopt};
use nix::{setsockopt_impl, sockopt_impl};

use super::poll_timeout::poll_timeout;
use super::raw::unread;
use super::socket::{open, send_now};
use super::tcp_info::{TcpInfo, TcpState};

sockopt_impl!(
    /// For the side that connects, TCP_DEFER_ACCEPT leaves the last segment of the handshake to the
    /// first bytes, or to a timer of the kernel (TCP_DELACK_MAX, 0.2 s). tcp(7) tells only what it
    /// does to a listening socket.
    DeferAck,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    bool
);

/// The socket of an attempt.
#[derive(Debug)]
pub struct Connecting {
    stream: TcpStream,
    address: SocketAddr,
}

/// How an attempt came out.
#[derive(Debug)]
pub enum ConnectOutcome {
    /// The connection is there, or was.
    Connected {
        /// So many of the first bytes were sent.
        sent: usize,
        /// It is lost by now, and only what the other side has said before can still be read.
        lost: Option<io::Error>,
    },
    /// The other side took the connection and has reset it since, without a word.
    Reset,
    /// There was no connection.
    Failed(io::Error),
}

impl Connecting {
    /// Begins to connect for a session. With `bytes_at_hand` the connection comes to the other side
    /// with the first bytes that are sent: a segment less, and one thing to wake up for, not two.
    /// Without them the other side would learn of it late. Closing the socket resets the connection
    /// until [`reset_on_close`](super::socket::reset_on_close) says otherwise, so that a crash, at
    /// whatever moment, does not look like an end in good order.
    pub fn start(address: SocketAddr, bytes_at_hand: bool) -> io::Result<Connecting> {
        Connecting::begin(address, |stream| {
            super::socket::reset_on_close(stream, true);
            // before anything can come: an urgent byte keeps its place among the others (RFC 6093,
            // section 6)
            let _ = setsockopt(stream, sockopt::OobInline, &true);
            if bytes_at_hand {
                // without it the connection is as good
                let _ = setsockopt(stream, DeferAck, &true);
            }
        })
    }

    /// Begins to connect to somebody of whom nobody wants more than the outcome: the connection
    /// ends in good order.
    pub fn probe(address: SocketAddr) -> io::Result<Connecting> {
        Connecting::begin(address, |_| {})
    }

    fn begin(address: SocketAddr, prepare: impl FnOnce(&TcpStream)) -> io::Result<Connecting> {
        let stream =
            TcpStream::from(open(address, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?);
        prepare(&stream);
        match socket::connect(stream.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Connecting { stream, address }),
            Err(e) => Err(e.into()),
        }
    }

    /// Where to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it came out; `None` while that is open. Not to be called again after that: the kernel
    /// tells an error once. `first` is sent as soon as the connection is there: for most that is
    /// the only question that has to be asked.
    pub fn outcome(&self, first: &[u8]) -> Option<ConnectOutcome> {
        if first.is_empty() || is_ephemeral(self.address.port()) {
            return self.outcome_alone();
        }
        match send_now(&self.stream, first) {
            Ok(sent) => Some(ConnectOutcome::Connected { sent, lost: None }),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(e) => Some(self.failed(e)),
        }
    }

    /// The same without sending anything.
    fn outcome_alone(&self) -> Option<ConnectOutcome> {
        let info = match TcpInfo::of(&self.stream) {
            Ok(info) => info,
            Err(e) => return Some(ConnectOutcome::Failed(e)),
        };
        // what the other side said before it left is still to be read, and then how it left
        if info.state == TcpState::Connected || self.has_spoken() {
            return Some(self.refuse_itself(info));
        }
        // SO_ERROR knows of an ICMP error that came while the socket was in a system call, too,
        // which ends nothing by itself
        match self.stream.take_error() {
            Ok(None) if info.state == TcpState::Connecting => None,
            Ok(None) => Some(ConnectOutcome::Failed(io::ErrorKind::ConnectionAborted.into())),
            Ok(Some(e)) | Err(e) => Some(self.failed(e)),
        }
    }

    /// Before a connection was made, a reset is a refusal; EPIPE is a reset after the end of the
    /// other side's stream, which is something that it said.
    fn failed(&self, error: io::Error) -> ConnectOutcome {
        match error.raw_os_error() {
            Some(libc::ECONNRESET) if !self.has_spoken() => ConnectOutcome::Reset,
            Some(libc::ECONNRESET | libc::EPIPE) => {
                ConnectOutcome::Connected { sent: 0, lost: Some(error) }
            }
            _ => ConnectOutcome::Failed(error),
        }
    }

    fn has_spoken(&self) -> bool {
        unread(&self.stream).is_ok_and(|count| count > 0)
    }

    /// A connection of a socket to itself, which the kernel makes now and then when nobody listens
    /// on an [ephemeral](is_ephemeral) port, counts as refused. It takes two segments at least, a
    /// SYN and the answer to it.
    fn refuse_itself(&self, info: TcpInfo) -> ConnectOutcome {
        let connected = ConnectOutcome::Connected { sent: 0, lost: None };
        if info.segments_in == 1 {
            return connected;
        }
        match self.stream.local_addr() {
            Ok(local) if local != self.address => connected,
            Ok(_) => ConnectOutcome::Failed(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
            Err(e) => ConnectOutcome::Failed(e),
        }
    }

    /// The connected socket.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Waits until the outcome of one of them may be known, or the time is up, or a signal comes.
    pub fn wait_for_any<'a>(several: impl Iterator<Item = &'a Connecting>, limit: Duration) {
        let mut polled: Vec<PollFd> =
            several.map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLOUT)).collect();
        let _ = poll(&mut polled, poll_timeout(limit));
    }
}

/// Whether the kernel may give this port to a socket that connects: net.ipv4.ip_local_port_range
/// (ip(7)), which holds for IPv6, too, as it was when this was first asked.
fn is_ephemeral(port: u16) -> bool {
    static FIRST: OnceLock<u16> = OnceLock::new();
    let first = FIRST.get_or_init(|| {
        let range =
            fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        range.split_ascii_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
    });
    port >= *first
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;
    use crate::system::socket::{listen, reset_on_close};

    fn outcome(connecting: &Connecting) -> ConnectOutcome {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(outcome) = connecting.outcome(&[]) {
                return outcome;
            }
            assert!(Instant::now() < deadline, "it takes for ever");
        }
    }

    fn until_connected(connecting: &Connecting) {
        assert!(matches!(outcome(connecting), ConnectOutcome::Connected { .. }));
    }

    #[test]
    fn a_connection_that_was_made_and_then_reset_is_not_one_that_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outcome_after = |goodbye: fn(&TcpStream)| {
            let connecting = Connecting::start(listener.local_addr().unwrap(), false).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            goodbye(&accepted);
            reset_on_close(&accepted, true);
            drop(accepted);
            let deadline = Instant::now() + Duration::from_secs(10);
            // until the reset has come
            while TcpInfo::of(&connecting.stream).unwrap().state != TcpState::Closed {
                assert!(Instant::now() < deadline);
            }
            outcome(&connecting)
        };
        assert!(matches!(outcome_after(|_| {}), ConnectOutcome::Reset));
        // an end is something that the other side has said, and so is a word
        let is_lost = |outcome| matches!(outcome, ConnectOutcome::Connected { lost: Some(_), .. });
        assert!(is_lost(outcome_after(|accepted| accepted
            .shutdown(std::net::Shutdown::Write)
            .unwrap())));
        assert!(matches!(
            outcome_after(|accepted| {
                send_now(accepted, b"no").unwrap();
            }),
            ConnectOutcome::Connected { .. }
        ));
    }

    #[test]
    fn a_session_that_is_dropped_is_reset_from_the_first_moment_on_and_a_probe_ends_in_good_order()
    {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let end_of = |connecting: Connecting| {
            let (mut accepted, _) = listener.accept().unwrap();
            drop(connecting);
            accepted.read(&mut [0]).map_err(|e| e.kind())
        };
        assert_eq!(
            end_of(Connecting::start(address, false).unwrap()),
            Err(io::ErrorKind::ConnectionReset)
        );
        assert_eq!(end_of(Connecting::probe(address).unwrap()), Ok(0));
    }

    #[test]
    fn a_port_without_a_listener_refuses() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failed = outcome(&Connecting::start(gone, false).unwrap());
        assert!(
            matches!(failed, ConnectOutcome::Failed(e) if e.kind() == io::ErrorKind::ConnectionRefused)
        );
    }

    #[test]
    fn a_connection_that_begins_with_bytes_comes_to_the_other_side_with_them() {
        let has_come = |bytes_at_hand| {
            // one of its own for each try, or a connection of the last one could be taken for this
            // one
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            listener.set_nonblocking(true).unwrap();
            let start = Instant::now();
            let connecting =
                Connecting::start(listener.local_addr().unwrap(), bytes_at_hand).unwrap();
            until_connected(&connecting);
            let has_come = listener.accept().is_ok();
            // the kernel waits for 0.2 s only
            let is_in_time = start.elapsed() < Duration::from_millis(100);
            assert_eq!(send_now(&connecting.into_stream(), b"word").unwrap(), 4);
            assert!(has_come || listener.accept().is_ok());
            is_in_time.then_some(has_come)
        };
        let has_come_before_its_bytes = |bytes_at_hand| {
            (0..100)
                .find_map(|_| has_come(bytes_at_hand))
                .expect("a machine that is not stopped all the time")
        };
        assert!(has_come_before_its_bytes(false));
        assert!(!has_come_before_its_bytes(true));
    }
}
