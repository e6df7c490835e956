//! The two directions of a session and its two sockets, named from the client.

/// One of the two ways through a relay, named from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Direction {
    /// The way back.
    pub fn other(self) -> Direction {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }

    /// Its place in a set of flows.
    pub(super) fn bit(self) -> u8 {
        match self {
            Direction::ToServer => 1,
            Direction::ToClient => 2,
        }
    }
}

/// The set of both flows.
pub(super) const BOTH: u8 = 3;

/// One of the two sockets of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The socket of the client: the source of the flow to the server.
    Client,
    /// The socket of the server: the source of the flow to the client.
    Server,
}

impl Side {
    /// What a pair holds for this side.
    pub(super) fn of<T>(self, [client, server]: &[T; 2]) -> &T {
        match self {
            Side::Client => client,
            Side::Server => server,
        }
    }
}
