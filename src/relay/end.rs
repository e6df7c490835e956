//! How a relay comes to its end: the word of the log.

use std::fmt;

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
