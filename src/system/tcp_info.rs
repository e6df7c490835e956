//! What the kernel knows of a connection: the part of TCP_INFO (tcp(7), linux/tcp.h) that somebody
//! asks for.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::raw;

/// A look at one socket.
#[derive(Debug, Clone, Copy)]
pub struct TcpInfo {
    /// How far the connection is.
    pub state: TcpState,
    /// Segments that were sent again since the last acknowledgement.
    retransmits: u8,
    /// Questions about a window of zero that were sent since the last acknowledgement.
    probes: u8,
    last_data_received: Duration,
    last_acknowledgement: Duration,
    /// Segments that have come; 0 before Linux 4.2, which does not count them.
    pub segments_in: u32,
    /// Bytes of the other side's stream that have come, its end counted as one; 0 before Linux 4.1.
    received: u64,
}

/// The states of a connection that make a difference here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpState {
    /// The other side has not answered yet.
    Connecting,
    /// It was made, and has not ended in both directions.
    Connected,
    /// It failed, was reset, or has ended.
    Closed,
}

impl TcpInfo {
    /// Asks the kernel.
    pub fn of(socket: &TcpStream) -> io::Result<TcpInfo> {
        let bytes = raw::tcp_info(socket)?;
        let word = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_ne_bytes)
        };
        let received = bytes.get(128..136).and_then(|words| words.try_into().ok());
        let millis = |at| Duration::from_millis(word(at).into());
        let [state, _, retransmits, probes, ..] = bytes;
        // TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE of linux/tcp_states.h
        let state = match state {
            2 | 3 => TcpState::Connecting,
            7 => TcpState::Closed,
            _ => TcpState::Connected,
        };
        Ok(TcpInfo {
            state,
            retransmits,
            probes,
            last_data_received: millis(52),
            last_acknowledgement: millis(56),
            segments_in: word(140),
            received: received.map_or(0, u64::from_ne_bytes),
        })
    }

    /// For how long nothing has come from the other side, neither bytes nor an acknowledgement.
    pub fn silent_for(&self) -> Duration {
        self.last_acknowledgement.min(self.last_data_received)
    }

    /// Whether the other side's stream has come to its end, when so many bytes of it were read and
    /// no more come. `None`: this kernel does not count them, and the connection is closed, so that
    /// it cannot tell an end from a reset.
    pub fn has_come_to_end(&self, read: u64) -> Option<bool> {
        let is_counted = self.received > 0 || self.segments_in > 0;
        match self.state {
            TcpState::Closed => is_counted.then_some(self.received == read + 1),
            TcpState::Connecting | TcpState::Connected => Some(true),
        }
    }

    /// Whether the kernel has asked the other side for a sign of life since the last one. One that
    /// reads nothing answers, though it leaves no room. It is asked ever more seldom, up to every
    /// two minutes, and so one question that was lost on its way says nothing.
    pub fn has_asked(&self) -> bool {
        self.retransmits > 0 || self.probes > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_from_a_reset_by_the_bytes_that_have_come_where_they_are_counted() {
        let closed = |received, segments_in| TcpInfo {
            state: TcpState::Closed,
            retransmits: 0,
            probes: 0,
            last_data_received: Duration::ZERO,
            last_acknowledgement: Duration::ZERO,
            segments_in,
            received,
        };
        let end = |received, segments| closed(received, segments).has_come_to_end(5);
        assert_eq!(
            [end(6, 9), end(6, 0), end(5, 9), end(0, 2)],
            [true, true, false, false].map(Some)
        );
        assert_eq!(end(0, 0), None);
    }
}
