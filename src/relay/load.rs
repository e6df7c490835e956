//! How much a thread has to do: by how much of its time it waits for news.

use std::time::{Duration, Instant};

/// For how long a thread is looked at before it is judged. Sockets move when pollers are opened and
/// closed, two calls each: not too often.
const WINDOW: Duration = Duration::from_millis(100);

/// What is to follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// More than seven eighths of the time: another thread would find something to do. With three
    /// quarters, new connections alone were enough to bring one, which cost them 3 % more processor
    /// time for nothing.
    Full,
    /// So little that one thread less would be busy for less than three fifths of the time, if all
    /// have the same to do.
    Little,
}

/// What one thread has done since it was judged last.
pub struct Shift {
    began: Instant,
    waited: Duration,
}

impl Shift {
    /// Begins now.
    pub fn new(now: Instant) -> Shift {
        Shift { began: now, waited: Duration::ZERO }
    }

    /// The thread has waited for so long, until now, as one of so many threads that share the work.
    /// The judgement, when it is time for one and there is something to say.
    pub fn note(&mut self, waited: Duration, now: Instant, threads: u32) -> Option<Load> {
        self.waited += waited;
        let whole = now.duration_since(self.began);
        if whole < WINDOW {
            return None;
        }
        let busy = whole.saturating_sub(self.waited);
        *self = Shift::new(now);
        if busy * 8 > whole * 7 {
            Some(Load::Full)
        } else if busy * threads * 5 < whole * 3 * (threads - 1) {
            Some(Load::Little)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(busy: u64, threads: u32) -> Option<Load> {
        let now = Instant::now();
        let waited = WINDOW - Duration::from_millis(busy);
        Shift::new(now).note(waited, now + WINDOW, threads)
    }

    #[test]
    fn who_is_busy_nearly_all_the_time_needs_help() {
        assert_eq!(
            [87, 88, 100].map(|busy| judge(busy, 1)),
            [None, Some(Load::Full), Some(Load::Full)]
        );
    }

    #[test]
    fn who_is_alone_never_has_too_little() {
        assert_eq!(judge(0, 1), None);
    }

    #[test]
    fn two_with_little_to_do_could_be_one_that_is_not_full() {
        assert_eq!([29, 31].map(|busy| judge(busy, 2)), [Some(Load::Little), None]);
        assert_eq!([51, 53].map(|busy| judge(busy, 8)), [Some(Load::Little), None]);
    }

    #[test]
    fn nobody_is_judged_by_a_moment() {
        let now = Instant::now();
        let mut shift = Shift::new(now);
        assert_eq!(shift.note(Duration::ZERO, now + WINDOW / 2, 1), None);
        assert_eq!(shift.note(WINDOW / 2, now + WINDOW, 1), None);
        assert_eq!(shift.note(Duration::ZERO, now + WINDOW * 2, 1), Some(Load::Full));
    }
}
