//! Why a session ended: one table. From it follow the `end` of the log line, the metric of ended
//! sessions, the list of the man page tcpdirector(8) and their tests. A relay ends for most of these
//! reasons; a session can also end before it has one.

use std::{fmt, io};

use super::direction::Side;
use crate::system::socket;

/// A row is a reason, its word in the log, and what that means in the words of the man page.
macro_rules! close_reasons {
    ($($reason:ident, $word:literal, $meaning:literal;)*) => {
        /// Why a session ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CloseReason {
            $(#[doc = $meaning] $reason,)*
        }

        impl CloseReason {
            /// All of them, in the order of the man page, which is also that of their numbers.
            pub const ALL: [CloseReason; [$($word),*].len()] = [$(CloseReason::$reason),*];

            /// What the log and the metrics call it.
            pub fn word(self) -> &'static str {
                match self {
                    $(CloseReason::$reason => $word,)*
                }
            }

            /// What the word means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(CloseReason::$reason => $meaning,)*
                }
            }
        }
    };
}

close_reasons! {
    Closed, "closed", "both sides were done";
    ResetByClient, "reset-by-client", "the client reset the connection";
    ResetByServer, "reset-by-server", "the server reset the connection";
    ClientDead, "client-dead", "the client gave no sign of life for the time dead of timeout";
    ServerDead, "server-dead", "the server gave no sign of life for that time";
    Idle, "idle", "silent for the idle time-out, or for half once one side had ended";
    NoHost, "no-host", "no host of the group took it";
    ClientGone, "client-gone", "the client left before a host had taken it";
    Shortage, "shortage", "this machine was short of descriptors, memory or ports";
    Stopped, "stopped", "reset because the program stopped";
    Drained, "drained", "reset because its host was drained";
    Panic, "panic", "a fault in tcpdirector: please report it; other sessions go on";
}

impl CloseReason {
    /// Why a relay ends when an operation on this side's socket fails so.
    pub fn by(side: Side, error: &io::Error) -> CloseReason {
        match side {
            _ if socket::is_dead(error) => CloseReason::dead(side),
            _ if socket::is_our_shortage(error) => CloseReason::Shortage,
            Side::Client => CloseReason::ResetByClient,
            Side::Server => CloseReason::ResetByServer,
        }
    }

    /// Why it ends when this side gives no sign of life.
    pub fn dead(side: Side) -> CloseReason {
        match side {
            Side::Client => CloseReason::ClientDead,
            Side::Server => CloseReason::ServerDead,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
