//! Whether a relay has been silent for too long, or one of its sides: looked at by the timer of its
//! session, on a pool thread.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::close_reason::CloseReason;
use super::direction::BOTH;
use super::party::Party;
use super::relay::Relay;
use super::timeouts::Timeouts;

impl Relay {
    /// Ends the relay if it has been silent for too long, notices a dead side; returns after what
    /// time to look again. The flows must go on afterwards, as far as they wait: the relay ends
    /// when both have read what there is since. One that can go on and waits for its turn may come
    /// to that much later.
    pub fn check_timeouts(&self) -> Duration {
        const SOON: Duration = Duration::from_millis(1);
        let (now, parties) = (self.now(), [&self.client, &self.server]);
        let unacknowledged = parties.map(Party::unacknowledged);
        let in_flight = unacknowledged.iter().sum();
        if self.unacknowledged.swap(in_flight, SeqCst) != in_flight {
            self.last_byte.store(now, SeqCst);
        }
        for (party, unacknowledged) in parties.into_iter().zip(unacknowledged) {
            let dead =
                self.timeouts.dead.and_then(|dead| party.check(dead, unacknowledged > 0, now));
            dead.map(|end| self.fail(end));
        }
        let limit = self.silence_limit();
        let left = limit.saturating_sub(self.silent_for());
        if left.is_zero() {
            if !self.is_warned.load(SeqCst) {
                self.unaware.store(BOTH, SeqCst);
                self.is_warned.store(true, SeqCst);
            } else if self.unaware.load(SeqCst) & !self.over.load(SeqCst) == 0 {
                self.cut(CloseReason::Idle);
            }
            return SOON;
        }
        self.is_warned.store(false, SeqCst);
        let dead = self.timeouts.dead.unwrap_or(limit);
        left.min(limit / 4).min(dead / 4).min(self.settling_pause().unwrap_or(limit)).max(SOON)
    }

    /// Whether nothing has moved for so long, nothing waits to be read, and both sides have
    /// acknowledged all that was written to them: what a slow one has still to take would be lost
    /// by a cut.
    pub fn is_at_rest(&self, silent: Duration) -> bool {
        let parties = [&self.client, &self.server];
        self.silent_for() >= silent
            && parties.iter().all(|party| party.unacknowledged() == 0 && !party.is_readable())
    }

    /// How long the relay may stay silent.
    fn silence_limit(&self) -> Duration {
        let Timeouts { idle, half, .. } = *self.timeouts;
        let limit = if self.client.has_left() || self.server.has_left() { half } else { idle };
        // more than the milliseconds of a word can tell would never come
        limit.min(Duration::from_millis(isize::MAX as u64))
    }

    /// While one side is lost: after what time to look whether the other one has acknowledged all.
    /// Rarer the longer it takes.
    pub(super) fn settling_pause(&self) -> Option<Duration> {
        let is_lost = self.client.is_lost() || self.server.is_lost();
        is_lost.then(|| {
            (self.silent_for() / 8).clamp(Duration::from_millis(1), Duration::from_secs(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::direction::Direction;
    use super::super::relay::tests::idle_relay;
    use super::*;

    #[test]
    fn a_flow_that_waits_for_its_turn_is_not_taken_for_silent() {
        let (relay, ..) = idle_relay();
        // after a pause of the whole machine: flows that can go on have their turn one after the
        // other
        for _ in 0..3 {
            relay.check_timeouts();
            assert_eq!((relay.end(), relay.unaware.load(SeqCst)), (CloseReason::Closed, BOTH));
        }
        relay.unaware.fetch_and(!Direction::ToServer.bit(), SeqCst);
        relay.check_timeouts();
        assert_eq!(relay.end(), CloseReason::Closed);
        relay.over.fetch_or(Direction::ToClient.bit(), SeqCst);
        relay.check_timeouts();
        assert_eq!(relay.end(), CloseReason::Idle);
    }
}
