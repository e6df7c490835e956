//! Who waits at which poller. A part of the pool's state, behind its lock.

use std::time::{Duration, Instant};

/// An open poller at which nobody has looked for so long is the first that is looked at: whoever
/// had it may hang, in a write to a log that is stuck for instance.
pub const NEGLECT: Duration = Duration::from_secs(1);

/// What is known of each poller, by its number.
#[derive(Default)]
pub struct Leaders(Vec<Leader>);

#[derive(Clone, Copy)]
struct Leader {
    /// Until when a thread waits there at most; `None` while none does.
    until: Option<Instant>,
    /// When somebody has last looked there.
    looked: Instant,
}

impl Leaders {
    /// A thread waits there until then at most.
    pub fn begin(&mut self, at: usize, until: Instant, now: Instant) {
        self.note(at, Leader { until: Some(until), looked: now });
    }

    /// Nobody waits there now, and somebody looks there.
    pub fn look(&mut self, at: usize, now: Instant) {
        self.note(at, Leader { until: None, looked: now });
    }

    fn note(&mut self, at: usize, leader: Leader) {
        if self.0.len() <= at {
            self.0.resize(at + 1, Leader { until: None, looked: leader.looked });
        }
        if let Some(known) = self.0.get_mut(at) {
            *known = leader;
        }
    }

    /// Whether nobody waits there.
    pub fn is_free(&self, at: usize) -> bool {
        self.0.get(at).is_none_or(|leader| leader.until.is_none())
    }

    /// The next of the open ones where nobody waits, after this one and in turn; this one last.
    pub fn next_free(&self, after: usize, open: usize) -> Option<usize> {
        (1..=open).map(|step| (after + step) % open).find(|at| self.is_free(*at))
    }

    /// Where a thread without anything else to do is to wait: where it was before, if nobody does
    /// and no other one is neglected.
    pub fn vacant(&self, before: usize, open: usize, now: Instant) -> Option<usize> {
        let is_neglected = |at: &usize| {
            let leader = self.0.get(*at);
            leader.is_some_and(|leader| {
                leader.until.is_none() && now.saturating_duration_since(leader.looked) > NEGLECT
            })
        };
        let neglected = (0..open).find(is_neglected);
        neglected.or_else(|| {
            if before < open && self.is_free(before) {
                Some(before)
            } else {
                self.next_free(before, open)
            }
        })
    }

    /// A poller at which a thread waits.
    pub fn led(&self) -> Option<usize> {
        self.0.iter().position(|leader| leader.until.is_some())
    }

    /// Whether all who wait, if any, do so beyond this moment.
    pub fn are_beyond(&self, moment: Instant) -> bool {
        self.0.iter().filter_map(|leader| leader.until).all(|until| moment < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_waits_where_it_was_unless_somebody_else_does() {
        let now = Instant::now();
        let mut leaders = Leaders::default();
        assert_eq!(leaders.vacant(1, 2, now), Some(1));
        leaders.begin(1, now + NEGLECT, now);
        assert_eq!((leaders.vacant(1, 2, now), leaders.vacant(7, 2, now)), (Some(0), Some(0)));
        leaders.begin(0, now + NEGLECT, now);
        assert_eq!((leaders.vacant(1, 2, now), leaders.led()), (None, Some(0)));
        leaders.look(0, now);
        assert_eq!((leaders.vacant(1, 2, now), leaders.led()), (Some(0), Some(1)));
    }

    #[test]
    fn one_that_is_neglected_comes_first() {
        let now = Instant::now();
        let mut leaders = Leaders::default();
        leaders.look(0, now);
        leaders.look(1, now);
        leaders.look(1, now + NEGLECT);
        assert_eq!(leaders.vacant(1, 2, now + NEGLECT), Some(1));
        assert_eq!(leaders.vacant(1, 2, now + NEGLECT + Duration::from_millis(1)), Some(0));
    }

    #[test]
    fn who_only_polls_comes_to_each_that_is_free() {
        let now = Instant::now();
        let mut leaders = Leaders::default();
        leaders.begin(1, now, now);
        assert_eq!(
            [0, 2, 3, 1, 9].map(|after| leaders.next_free(after, 4)),
            [2, 3, 0, 2, 2].map(Some)
        );
        assert_eq!(leaders.next_free(1, 1), Some(0));
    }

    #[test]
    fn a_timer_is_in_time_for_one_that_wakes_before_it() {
        let now = Instant::now();
        let mut leaders = Leaders::default();
        assert!(leaders.are_beyond(now));
        leaders.begin(3, now + NEGLECT, now);
        assert_eq!([now, now + NEGLECT].map(|moment| leaders.are_beyond(moment)), [true, false]);
    }
}
