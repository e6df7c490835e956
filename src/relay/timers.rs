//! When the sessions of a pool want to be looked at. A part of the pool's state, behind its lock.
//!
//! There is at most one entry in force for each place of a session, and a place keeps its entry
//! when the next session takes it: an alarm that comes too early costs a look, while entries of
//! sessions that have long ended would pile up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The alarms of all places.
#[derive(Default)]
pub struct Timers {
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each place its entry in force.
    in_force: Vec<Option<Instant>>,
}

impl Timers {
    /// The session at this place wants to be looked at no later than then.
    pub fn set(&mut self, place: usize, when: Instant) {
        if self.in_force.len() <= place {
            self.in_force.resize(place + 1, None);
        }
        let Some(known) = self.in_force.get_mut(place) else { return };
        if known.is_none_or(|known| when < known) {
            *known = Some(when);
            self.alarms.push(Reverse((when, place)));
            self.forget_superseded();
        }
    }

    /// An entry that an earlier one has replaced stays until its time, which may be far away: they
    /// must not pile up.
    fn forget_superseded(&mut self) {
        if self.alarms.len() > 2 * self.in_force.len() + 64 {
            let in_force = &self.in_force;
            self.alarms.retain(|Reverse((when, place))| in_force.get(*place) == Some(&Some(*when)));
        }
    }

    /// Whether an alarm is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.alarms.peek().is_some_and(|Reverse((when, _))| *when <= now)
    }

    /// The next place that is due, whose entry is then gone.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse((when, place))) =
            self.alarms.peek().copied().filter(|Reverse((when, _))| *when <= now)
        {
            self.alarms.pop();
            let known = self.in_force.get_mut(place);
            if let Some(known) = known.filter(|known| **known == Some(when)) {
                *known = None;
                return Some(place);
            }
        }
        None
    }

    /// When the next alarm is due.
    pub fn next(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((when, _))| *when)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drain(clock: &mut Timers, now: Instant) -> Vec<usize> {
        std::iter::from_fn(|| clock.due(now)).collect()
    }

    #[test]
    fn alarms_come_in_their_order_and_once() {
        let (mut clock, now) = (Timers::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        clock.set(3, at(3));
        clock.set(1, at(1));
        clock.set(2, at(9));
        clock.set(2, at(2));
        clock.set(1, at(8));
        assert!(drain(&mut clock, at(0)).is_empty());
        assert_eq!(clock.next(), Some(at(1)));
        assert_eq!(drain(&mut clock, at(3)), [1, 2, 3]);
        assert!(drain(&mut clock, at(99)).is_empty());
    }

    #[test]
    fn a_place_that_is_taken_again_and_again_keeps_one_entry() {
        let (mut clock, now) = (Timers::default(), Instant::now());
        for i in 0..1000 {
            clock.set(7, now + Duration::from_secs(i));
        }
        assert_eq!(clock.alarms.len(), 1);
    }

    #[test]
    fn far_alarms_that_earlier_ones_have_replaced_do_not_pile_up() {
        let (mut clock, now) = (Timers::default(), Instant::now());
        for i in 0..10_000 {
            let soon = now + Duration::from_millis(i);
            clock.set(0, now + Duration::from_secs(900));
            clock.set(0, soon);
            assert_eq!(drain(&mut clock, soon), [0]);
        }
        assert!(clock.alarms.len() < 100, "{}", clock.alarms.len());
    }
}
