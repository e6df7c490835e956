//! How far a flow is: what it keeps while it is parked, and whether it moves so much that it is
//! spliced.

use super::limits::BUFFER;
use super::pipe::Pipe;
use super::quota::Unsent;

/// A read of so much speaks for bulk.
const BIG: usize = BUFFER / 4;

/// A read of so little speaks against it.
const SMALL: usize = BUFFER / 16;

/// After so many big reads a flow goes on by splice. For less it does not pay.
const BIG_ENOUGH: u8 = 4;

/// What a flow has read and its sink has not taken yet.
pub enum Pending {
    /// Read into memory.
    Bytes(Unsent),
    /// Read by splice: a borrowed pipe with bytes in it.
    Piped(Pipe),
}

/// How far a flow is. Small, since each run of the flow takes it up and lays it down; nearly always
/// there is nothing pending.
#[derive(Default)]
pub struct Progress {
    /// What goes first.
    pub pending: Option<Box<Pending>>,
    /// Big reads without a small one in between.
    big: u8,
    /// The sockets are in the mode that splice needs.
    pub never_blocks: bool,
    /// The kernel does not splice these sockets.
    pub is_plain: bool,
    /// Nothing more comes from the source: it has ended its stream, which the sink knows, or it is
    /// lost.
    pub is_at_end: bool,
}

impl Progress {
    /// A flow that has read so much before it began, perhaps to the end, which was passed on.
    pub fn holding(unsent: Unsent, is_at_end: bool) -> Progress {
        let pending = (!unsent.bytes.is_empty()).then(|| Box::new(Pending::Bytes(unsent)));
        Progress { pending, is_at_end, ..Progress::default() }
    }

    /// A read has brought so much.
    pub fn note_read(&mut self, count: usize) {
        self.big = match count {
            0..=SMALL => 0,
            BIG.. => self.big.saturating_add(1).min(BIG_ENOUGH),
            _ => self.big,
        };
    }

    /// Whether the flow goes on by splice.
    pub fn is_bulk(&self) -> bool {
        self.big >= BIG_ENOUGH && !self.is_plain
    }
}
