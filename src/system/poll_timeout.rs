//! The time limit of poll(2) and epoll_wait(2), which is in milliseconds.

use std::time::Duration;

use nix::poll::PollTimeout;

/// Rounded up: a wait of less than a millisecond would be none at all, and the caller would spin
/// until the time has come. At most 65.535 s: whoever wants to wait for longer waits again.
pub fn poll_timeout(limit: Duration) -> PollTimeout {
    let millis = limit.as_micros().div_ceil(1000);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_millisecond_is_waited_for_and_no_time_is_too_long() {
        let millis = |limit| poll_timeout(limit).as_millis();
        let micros = |count| millis(Duration::from_micros(count));
        assert_eq!([micros(0), micros(1), micros(1000), micros(1001)], [0, 1, 1, 2].map(Some));
        assert_eq!(millis(Duration::MAX), Some(65_535));
    }
}
