//! How much a thread has to do: by how much of its time it waits for events.

use std::time::{Duration, Instant};

/// For how long a thread is looked at before it is judged. Sockets move when pollers are opened and
/// closed, two calls each: not too often.
const WINDOW: Duration = Duration::from_millis(100);

/// What is to follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadLevel {
    /// More than seven eighths of the time: another thread would find something to do. With three
    /// quarters, new connections alone were enough to bring one, which cost them 3 % more processor
    /// time for nothing.
    High,
    /// So little that one thread less would be busy for less than three fifths of the time, if all
    /// have the same to do.
    Low,
}

/// What one thread has done since it was judged last.
pub struct Utilization {
    began: Instant,
    waited: Duration,
}

impl Utilization {
    /// Begins now.
    pub fn new(now: Instant) -> Utilization {
        Utilization { began: now, waited: Duration::ZERO }
    }

    /// The thread has waited for so long, until now, as one of so many threads that share the work.
    /// The judgement, when it is time for one and there is something to say.
    pub fn note(&mut self, waited: Duration, now: Instant, threads: u32) -> Option<LoadLevel> {
        self.waited += waited;
        let whole = now.duration_since(self.began);
        if whole < WINDOW {
            return None;
        }
        let busy = whole.saturating_sub(self.waited);
        *self = Utilization::new(now);
        if busy * 8 > whole * 7 {
            Some(LoadLevel::High)
        } else if busy * threads * 5 < whole * 3 * (threads - 1) {
            Some(LoadLevel::Low)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(busy: u64, threads: u32) -> Option<LoadLevel> {
        let now = Instant::now();
        let waited = WINDOW - Duration::from_millis(busy);
        Utilization::new(now).note(waited, now + WINDOW, threads)
    }

    #[test]
    fn who_is_busy_nearly_all_the_time_needs_help() {
        assert_eq!(
            [87, 88, 100].map(|busy| judge(busy, 1)),
            [None, Some(LoadLevel::High), Some(LoadLevel::High)]
        );
    }

    #[test]
    fn who_is_alone_never_has_too_little() {
        assert_eq!(judge(0, 1), None);
    }

    #[test]
    fn two_with_little_to_do_could_be_one_that_is_not_full() {
        assert_eq!([29, 31].map(|busy| judge(busy, 2)), [Some(LoadLevel::Low), None]);
        assert_eq!([51, 53].map(|busy| judge(busy, 8)), [Some(LoadLevel::Low), None]);
    }

    #[test]
    fn nobody_is_judged_by_a_moment() {
        let now = Instant::now();
        let mut utilization = Utilization::new(now);
        assert_eq!(utilization.note(Duration::ZERO, now + WINDOW / 2, 1), None);
        assert_eq!(utilization.note(WINDOW / 2, now + WINDOW, 1), None);
        assert_eq!(utilization.note(Duration::ZERO, now + WINDOW * 2, 1), Some(LoadLevel::High));
    }
}
