//! Latencies, in buckets whose width is 1/64 of their value: exact enough for a percentile, and no
//! allocation while measuring.

use std::fmt;
use std::time::Duration;

/// Buckets for each power of two.
const PARTS: usize = 64;
/// Powers of two of nanoseconds: up to an hour.
const OCTAVES: usize = 42;

pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub fn new() -> Histogram {
        Histogram { buckets: vec![0; PARTS * OCTAVES], count: 0 }
    }

    pub fn note(&mut self, latency: Duration) {
        let nanos = (latency.as_nanos() as u64).max(PARTS as u64);
        let octave = nanos.ilog2() - PARTS.ilog2();
        // the leading one of the value falls into the octave, the bits after it say which part
        let bucket = octave as usize * PARTS + (nanos >> octave) as usize;
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
            self.count += 1;
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency in microseconds that so many of a thousand do not exceed.
    fn permille(&self, permille: u64) -> f64 {
        let rank = (self.count * permille).div_ceil(1000);
        let mut sum = 0;
        let bucket = self.buckets.iter().position(|count| {
            sum += count;
            sum >= rank && sum > 0
        });
        let bucket = bucket.unwrap_or(0).max(PARTS);
        // from PARTS on, the buckets of an octave hold values that begin with a one
        let octave = bucket / PARTS - 1;
        let value = (bucket % PARTS + PARTS) << octave;
        value as f64 / 1000.0
    }
}

/// As the middle of a JSON object.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999] = [500, 990, 999].map(|permille| self.permille(permille));
        write!(
            f,
            "\"count\": {}, \"p50\": {p50:.1}, \"p99\": {p99:.1}, \"p999\": {p999:.1}",
            self.count
        )
    }
}
