//! How reading the configuration file has gone since the start. The log has each reload as it
//! comes; this is what the pages, the metrics and the service manager show afterwards. `daemon`
//! notes it. Owns one lock.

use std::time::SystemTime;

use parking_lot::Mutex;

/// How many reasons of one refusal are kept: a file may have any number of mistakes, and the log
/// has them all.
const MOST_REASONS: usize = 4;
/// The most characters of one reason that are kept.
const LONGEST_REASON: usize = 400;

/// A reload that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReload {
    /// When, for people: the wall clock.
    pub at: SystemTime,
    /// Who had asked: `HUP`, or `user@address`.
    pub by: String,
    /// Why: the first of the reasons.
    pub reasons: Vec<String>,
    /// How many more there were.
    pub more: usize,
}

/// How the reloads went.
#[derive(Debug)]
pub struct Reloads(Mutex<Record>);

#[derive(Debug)]
struct Record {
    loaded: SystemTime,
    refusals: u64,
    refused: Option<RefusedReload>,
}

impl Reloads {
    /// The file was loaded at this moment, by the start.
    pub(super) fn new(loaded: SystemTime) -> Reloads {
        Reloads(Mutex::new(Record { loaded, refusals: 0, refused: None }))
    }

    /// A reload is done.
    pub fn note_done(&self) {
        let mut record = self.0.lock();
        record.loaded = SystemTime::now();
        record.refused = None;
    }

    /// A reload was refused, for reasons of one line each.
    pub fn note_refused(&self, by: &str, reasons: &str) {
        let kept = reasons
            .lines()
            .take(MOST_REASONS)
            .map(|reason| reason.chars().take(LONGEST_REASON).collect());
        let more = reasons.lines().count().saturating_sub(MOST_REASONS);
        let refused = RefusedReload {
            at: SystemTime::now(),
            by: by.to_owned(),
            reasons: kept.collect(),
            more,
        };
        let mut record = self.0.lock();
        record.refusals += 1;
        record.refused = Some(refused);
    }

    /// When the file was last loaded.
    pub fn loaded(&self) -> SystemTime {
        self.0.lock().loaded
    }

    /// How many were refused since the start.
    pub fn refusals(&self) -> u64 {
        self.0.lock().refusals
    }

    /// The last one, if it was refused.
    pub fn refused(&self) -> Option<RefusedReload> {
        self.0.lock().refused.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_kept_until_the_next_good_reload_and_never_grows_large() {
        let reloads = Reloads::new(SystemTime::UNIX_EPOCH);
        reloads.note_refused("HUP", &vec!["x".repeat(10_000); 10].join("\n"));
        let refused = reloads.refused().unwrap();
        assert_eq!((refused.by.as_str(), refused.reasons.len(), refused.more), ("HUP", 4, 6));
        assert!(refused.reasons.iter().all(|reason| reason.len() == 400));
        assert_eq!((reloads.loaded(), reloads.refusals()), (SystemTime::UNIX_EPOCH, 1));
        reloads.note_done();
        assert_eq!((reloads.refused(), reloads.refusals()), (None, 1));
        assert!(reloads.loaded() > SystemTime::UNIX_EPOCH);
    }
}
