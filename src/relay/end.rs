//! How a relay comes to its end: the word of the log.

use std::{fmt, io};

use super::direction::Side;
use crate::system::socket;

/// How a relay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides ended their stream.
    Closed,
    /// The client reset the connection.
    ResetByClient,
    /// The server reset the connection.
    ResetByServer,
    /// The client gave no sign of life.
    ClientDead,
    /// The server gave no sign of life.
    ServerDead,
    /// No byte went either way for the idle time.
    Idle,
    /// The program is stopping.
    Stopped,
    /// The operator drains the host.
    Drained,
    /// This machine gave the poller no memory for it.
    Shortage,
    /// A thread of the relay panicked.
    Panic,
}

impl End {
    /// How a relay ends when an operation on this side's socket fails so.
    pub fn by(side: Side, error: &io::Error) -> End {
        match side {
            _ if socket::is_dead(error) => End::dead(side),
            _ if socket::is_our_shortage(error) => End::Shortage,
            Side::Client => End::ResetByClient,
            Side::Server => End::ResetByServer,
        }
    }

    /// How it ends when this side gives no sign of life.
    pub fn dead(side: Side) -> End {
        match side {
            Side::Client => End::ClientDead,
            Side::Server => End::ServerDead,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Closed => "closed",
            End::ResetByClient => "reset-by-client",
            End::ResetByServer => "reset-by-server",
            End::ClientDead => "client-dead",
            End::ServerDead => "server-dead",
            End::Idle => "idle",
            End::Stopped => "stopped",
            End::Drained => "drained",
            End::Shortage => "shortage",
            End::Panic => "panic",
        })
    }
}
