//! How long a relay may wait for what.

use std::sync::Arc;
use std::time::Duration;

/// How long a relay may wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a byte, either way.
    pub idle: Duration,
    /// The same once a side has ended; no longer than the idle time.
    pub half: Duration,
    /// For a sign of life of either side; `None`: for ever.
    pub dead: Option<Duration>,
}

impl Timeouts {
    /// Only for silence.
    pub fn idle(limit: Duration) -> Arc<Timeouts> {
        Arc::new(Timeouts { idle: limit, half: limit, dead: None })
    }
}
