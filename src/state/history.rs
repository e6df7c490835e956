//! What a service did in the last five minutes, for the plot on the admin page. A ring buffer of
//! fixed size, behind one lock; the manager writes it.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// One point of the plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sample {
    /// Open sessions.
    pub open: usize,
    /// Bytes a second from clients to servers.
    pub to_server: u64,
    /// Bytes a second from servers to clients.
    pub to_client: u64,
}

impl Sample {
    /// How far the points are apart.
    pub const EVERY: Duration = Duration::from_secs(5);
    /// How many are kept: five minutes.
    pub const KEPT: usize = 60;
}

/// The samples that are kept.
#[derive(Debug, Default)]
pub struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// Bytes each way at the last sample.
    before: (u64, u64),
}

impl History {
    /// Notes open sessions and bytes moved so far, `elapsed` after the last time.
    pub fn note(&self, (open, to_server, to_client): (usize, u64, u64), elapsed: Duration) {
        let mut ring = self.0.lock();
        // a host that was deleted has taken its bytes along: then the sum is smaller than before
        let rate = |now: u64, before: u64| {
            (now.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001)) as u64
        };
        let sample = Sample {
            open,
            to_server: rate(to_server, ring.before.0),
            to_client: rate(to_client, ring.before.1),
        };
        ring.before = (to_server, to_client);
        if ring.samples.len() >= Sample::KEPT {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
    }

    /// All samples, the oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.0.lock().samples.iter().copied().collect()
    }
}
