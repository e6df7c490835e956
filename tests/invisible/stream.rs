//! The bytes that an end sends: a known stream, so that what arrives is checked by comparing it
//! with the part that should have come.

use std::sync::OnceLock;

use super::script::Side;

/// Bytes until the stream repeats itself: a prime number, so that no loss or repetition of whole
/// buffers goes unseen.
const PERIOD: usize = 1_048_573;

/// The longest part that can be had at once.
pub const LONGEST: usize = 64 * 1024;

/// One direction of one connection. Different connections have different streams.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    start: usize,
}

impl Stream {
    /// What this side says on the connection with this number.
    pub fn new(connection: u64, side: Side) -> Stream {
        let start = fastrand::Rng::with_seed(connection * 2 + side as u64).usize(..PERIOD);
        Stream { start }
    }

    /// The bytes from a position on, at most [`LONGEST`].
    pub fn part(self, position: usize, count: usize) -> &'static [u8] {
        let from = (self.start + position) % PERIOD;
        &table()[from..from + count.min(LONGEST)]
    }

    /// Where these bytes differ from the stream at that position.
    pub fn first_difference(self, position: usize, bytes: &[u8]) -> Option<usize> {
        let expected = self.part(position, bytes.len());
        if expected == bytes {
            return None;
        }
        let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        Some(position + same)
    }
}

/// One period and, once more, its beginning.
fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut bytes = vec![0; PERIOD];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        bytes.extend_from_within(..LONGEST);
        bytes
    })
}
