//! Counts bytes in both directions. One for each relay, and one for each host that all its relays
//! add to.

use crossbeam::atomic::AtomicCell;

use super::direction::Direction;

/// Bytes moved each way; counted when they are handed to the receiving side's kernel, not when they
/// are read.
#[derive(Debug, Default)]
pub struct Meter {
    // crossbeam's cell has 64 bits on machines without 64-bit atomics too (MIPS32, ARMv5)
    to_server: AtomicCell<u64>,
    to_client: AtomicCell<u64>,
}

impl Meter {
    /// Adds `count` bytes in one direction.
    pub fn add(&self, direction: Direction, count: usize) {
        match direction {
            Direction::ToServer => self.to_server.fetch_add(count as u64),
            Direction::ToClient => self.to_client.fetch_add(count as u64),
        };
    }

    /// Bytes in one direction.
    pub fn of(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToServer => self.to_server(),
            Direction::ToClient => self.to_client(),
        }
    }

    /// Adds what was counted elsewhere before.
    pub fn restore(&self, to_server: u64, to_client: u64) {
        self.to_server.fetch_add(to_server);
        self.to_client.fetch_add(to_client);
    }

    /// Bytes from clients to servers.
    pub fn to_server(&self) -> u64 {
        self.to_server.load()
    }

    /// Bytes from servers to clients.
    pub fn to_client(&self) -> u64 {
        self.to_client.load()
    }
}
