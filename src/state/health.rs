//! What connecting to a host has shown, and why it is down.

use std::fmt;
use std::io;
use std::time::Instant;

/// What connecting to the host has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers, or was not tried yet.
    Up {
        /// Since when.
        since: Instant,
    },
    /// It did not answer.
    Down {
        /// Since when.
        since: Instant,
        /// When it was last tried.
        tried: Instant,
        /// What was wrong at the last try.
        reason: Reason,
        /// Somebody has asked to try it without waiting any longer.
        asked: bool,
    },
}

/// Why a host is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Reason {
    /// Nobody listens on the port.
    Refused,
    /// No answer within the connect time-out.
    TimedOut,
    /// No way there: network or host unreachable.
    Unreachable,
    /// The name has no address, as far as the resolver could tell.
    NoAddress,
    /// A link-local address leads nowhere without its interface.
    NoInterface,
    /// Another error number.
    Other(i32),
}

impl From<&io::Error> for Reason {
    fn from(error: &io::Error) -> Reason {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::ConnectionRefused, _) => Reason::Refused,
            (io::ErrorKind::TimedOut, _) => Reason::TimedOut,
            (
                _,
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EHOSTDOWN),
            ) => Reason::Unreachable,
            (_, code) => Reason::Other(code.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Refused => f.write_str("connection refused"),
            Reason::TimedOut => f.write_str("connect timed out"),
            Reason::Unreachable => f.write_str("host unreachable"),
            Reason::NoAddress => f.write_str("name has no address"),
            Reason::NoInterface => f.write_str("its network interface is missing or not named"),
            Reason::Other(code) => write!(f, "{}", io::Error::from_raw_os_error(*code)),
        }
    }
}
