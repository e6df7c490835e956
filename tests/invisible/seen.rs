//! What one end of a connection has seen, and what it knows that it has done.

use std::fmt;
use std::time::Instant;

use nix::errno::Errno;

use super::script::Step;

/// How the stream of the peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An end of stream.
    Eof,
    /// ECONNRESET.
    Reset,
}

/// The last step of an end.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    pub at: Instant,
    /// By a reset of its own will.
    pub is_reset: bool,
    /// Bytes that had come and that it had not read: closing reset the connection.
    pub unread: usize,
    /// Bytes that the peer's kernel had acknowledged by then.
    pub acked: usize,
    /// The end of its stream was acknowledged, too.
    pub is_end_acked: bool,
}

/// The observation of one end.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Bytes that its kernel has taken.
    pub sent: usize,
    /// Bytes that it has read.
    pub received: usize,
    /// The position of the first byte that was not the peer's.
    pub wrong: Option<usize>,
    /// What it read when there was nothing more to read, and when.
    pub end: Option<(Ending, Instant)>,
    /// A write that failed.
    pub write_failed: Option<(Errno, Instant)>,
    /// The step whose wait came to its limit: a hang.
    pub stuck: Option<Step>,
    pub half_closed: Option<Instant>,
    pub left: Option<Left>,
}

impl Seen {
    /// How the stream of the peer ended, for one who has read to there. The kernel reports a reset
    /// once, by ECONNRESET: if a write got that, reads say end of stream afterwards.
    pub fn ending(&self) -> Option<(Ending, Instant)> {
        let (ending, at) = self.end?;
        match self.write_failed {
            Some((Errno::ECONNRESET, failed)) if failed < at => Some((Ending::Reset, failed)),
            _ => Some((ending, at)),
        }
    }

    /// When it ended its stream in good order, if it did: before it left, or by leaving.
    pub fn ended_well(&self) -> Option<Instant> {
        let by_leaving = self.left.filter(|left| !left.is_reset && left.unread == 0);
        self.half_closed.or(by_leaving.map(|left| left.at))
    }

    /// Whether its kernel may have sent a reset: by its will, for what it left unread, or for
    /// bytes that came after it had closed. `peer_sent` is what the peer sent in all.
    pub fn may_have_reset(&self, peer_sent: usize) -> bool {
        self.left.is_none_or(|left| left.is_reset || left.unread > 0 || self.received < peer_sent)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}", self.sent)?;
        if let Some(left) = self.left {
            write!(f, " ({} acknowledged)", left.acked)?;
        }
        if let Some((errno, _)) = self.write_failed {
            write!(f, ", a write failed with {errno:?}")?;
        }
        write!(f, "; read {}", self.received)?;
        match self.ending() {
            Some((Ending::Eof, _)) => write!(f, ", then end of stream")?,
            Some((Ending::Reset, _)) => write!(f, ", then a reset")?,
            None => write!(f, ", not to the end")?,
        }
        if let Some(wrong) = self.wrong {
            write!(f, ", wrong from byte {wrong}")?;
        }
        if let Some(step) = self.stuck {
            write!(f, "; stuck in `{step}`")?;
        }
        match self.left {
            Some(left) if left.is_reset => write!(f, "; reset the connection"),
            Some(left) if left.unread > 0 => write!(f, "; closed with {} unread", left.unread),
            _ => write!(f, "; closed"),
        }
    }
}
