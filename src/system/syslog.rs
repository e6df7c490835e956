//! The syslog daemon of this machine, and how syslog and the journal call the levels.
//!
//! A line is written as RFC 3164 has it to the daemon's local socket. That takes datagrams or, with
//! syslog-ng's `unix-stream` and the like, a stream. Used by `log_output`; owns no lock, and never
//! waits for the daemon.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use log::Level;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd;

use super::date::Date;
use super::lines::LineWriter;

/// Where syslog daemons listen.
pub const SOCKET: &str = "/dev/log";
/// The facility `daemon` of RFC 3164.
const FACILITY: u8 = 3;

/// A connection with the daemon.
pub(super) struct Syslog {
    socket: OwnedFd,
    /// For a stream, in which nothing but line ends tells the lines apart.
    stream: Option<LineWriter>,
}

impl Syslog {
    /// Connects, as syslog(3) does: with a socket for datagrams, else with one for a stream.
    pub fn connect(path: &Path) -> io::Result<Syslog> {
        match open(path, SockType::Datagram) {
            Err(Errno::EPROTOTYPE) => Ok(Syslog {
                socket: open(path, SockType::Stream)?,
                stream: Some(LineWriter::default()),
            }),
            socket => Ok(Syslog { socket: socket?, stream: None }),
        }
    }

    /// Sends a line that begins with a [`head`].
    pub fn write(&self, line: &str) -> io::Result<()> {
        match &self.stream {
            Some(lines) => lines.write(&self.socket, line),
            None => {
                Ok(unistd::write(&self.socket, line.trim_end_matches('\n').as_bytes()).map(drop)?)
            }
        }
    }
}

/// One that does not wait: a daemon that does not read must not hold up a session.
fn open(path: &Path, kind: SockType) -> nix::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Unix, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// What stands before the text of a line.
pub(super) fn head(level: Level) -> String {
    let now = Date::of(SystemTime::now()).for_syslog();
    format!("<{}>{now} tcpdirector[{}]: ", FACILITY * 8 + severity(level), std::process::id())
}

/// The severities of RFC 3164, which are also the priorities of sd-daemon(3).
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
