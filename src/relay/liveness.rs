//! Finds out whether the other side of a connection is dead: whether it gives no sign of life
//! though it was asked for one.
//!
//! One that is silent is asked by the kernel's keepalive, and the connection fails with ETIMEDOUT.
//! While bytes wait for an acknowledgement keepalive rests, and the kernel alone takes a quarter of
//! an hour. TCP_USER_TIMEOUT would also end one that is alive and does not read. So the time of the
//! last acknowledgement is looked at now and then: every answer to the kernel's question about a
//! window of zero is one.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use crate::system::socket;
use crate::system::tcp_info::TcpInfo;

/// Nobody has looked yet.
const NEW: u32 = 0;

/// The other side gives signs of life, as far as is known, and keepalive asks for them.
const ALIVE: u32 = 1;

/// What is known of one connection.
#[derive(Default)]
pub struct Liveness {
    /// [`NEW`], [`ALIVE`], or when it was first found to have given no sign of life for too long:
    /// in milliseconds.
    state: AtomicU32,
}

impl Liveness {
    /// Looks at the socket; to be called every quarter of `dead` or so, with a clock in
    /// milliseconds. It is dead when it has left the kernel's questions without an answer for
    /// `dead`, and did so at two looks in a row: a question may have been asked just before the
    /// first.
    pub fn check(
        &self,
        socket: &TcpStream,
        dead: Duration,
        is_waited_for: bool,
        now: usize,
    ) -> bool {
        let before = self.state.load(SeqCst);
        if before == NEW {
            // it fails only for a connection that is gone
            let _ = socket::keep_alive(socket, dead);
        }
        let info = if is_waited_for { TcpInfo::of(socket).ok() } else { None };
        if !info.is_some_and(|info| info.silent_for() >= dead && info.has_asked()) {
            self.state.store(ALIVE, SeqCst);
            return false;
        }
        // the clock of 49 days goes round: only differences mean something
        let now = (now as u32).max(ALIVE + 1);
        if before <= ALIVE {
            self.state.store(now, SeqCst);
            return false;
        }
        u128::from(now.wrapping_sub(before)) >= (dead / 8).as_millis()
    }
}
