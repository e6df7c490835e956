//! When the tasks of a pool want to be looked at. A part of the pool's state, behind its lock.
//!
//! There is at most one entry in force for each number of a task, and a number keeps its entry when
//! the next task takes it: a timer that comes too early costs a look, while entries of tasks that
//! have long ended would pile up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The timers of all tasks.
#[derive(Default)]
pub struct Timers {
    entries: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each number its entry in force.
    in_force: Vec<Option<Instant>>,
}

impl Timers {
    /// The task of this number wants to be looked at no later than then.
    pub fn set(&mut self, number: usize, when: Instant) {
        if self.in_force.len() <= number {
            self.in_force.resize(number + 1, None);
        }
        let Some(known) = self.in_force.get_mut(number) else { return };
        if known.is_none_or(|known| when < known) {
            *known = Some(when);
            self.entries.push(Reverse((when, number)));
            self.forget_superseded();
        }
    }

    /// An entry that an earlier one has replaced stays until its time, which may be far away: they
    /// must not pile up.
    fn forget_superseded(&mut self) {
        if self.entries.len() > 2 * self.in_force.len() + 64 {
            let in_force = &self.in_force;
            self.entries
                .retain(|Reverse((when, number))| in_force.get(*number) == Some(&Some(*when)));
        }
    }

    /// Whether a timer is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.entries.peek().is_some_and(|Reverse((when, _))| *when <= now)
    }

    /// The next number that is due, whose entry is then gone.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse((when, number))) =
            self.entries.peek().copied().filter(|Reverse((when, _))| *when <= now)
        {
            self.entries.pop();
            let known = self.in_force.get_mut(number);
            if let Some(known) = known.filter(|known| **known == Some(when)) {
                *known = None;
                return Some(number);
            }
        }
        None
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((when, _))| *when)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drain(timers: &mut Timers, now: Instant) -> Vec<usize> {
        std::iter::from_fn(|| timers.due(now)).collect()
    }

    #[test]
    fn timers_come_in_their_order_and_once() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        timers.set(3, at(3));
        timers.set(1, at(1));
        timers.set(2, at(9));
        timers.set(2, at(2));
        timers.set(1, at(8));
        assert!(drain(&mut timers, at(0)).is_empty());
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(drain(&mut timers, at(3)), [1, 2, 3]);
        assert!(drain(&mut timers, at(99)).is_empty());
    }

    #[test]
    fn a_number_that_is_taken_again_and_again_keeps_one_entry() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for i in 0..1000 {
            timers.set(7, now + Duration::from_secs(i));
        }
        assert_eq!(timers.entries.len(), 1);
    }

    #[test]
    fn far_timers_that_earlier_ones_have_replaced_do_not_pile_up() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        for i in 0..10_000 {
            let soon = now + Duration::from_millis(i);
            timers.set(0, now + Duration::from_secs(900));
            timers.set(0, soon);
            assert_eq!(drain(&mut timers, soon), [0]);
        }
        assert!(timers.entries.len() < 100, "{}", timers.entries.len());
    }
}
