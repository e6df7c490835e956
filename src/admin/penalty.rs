//! What wrong passwords cost the address that they come from.
//!
//! Called by `auth` on the thread `admin`. Owns a bounded table behind a lock that is held for a
//! look or a note.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Wrong passwords from one address that cost nothing.
const FREE_TRIES: u32 = 5;
/// How long the address is penalised for the first one that does; each further one doubles it.
const FIRST_PENALTY: Duration = Duration::from_millis(250);
/// The longest penalty.
const LAST_PENALTY: Duration = Duration::from_secs(8);
/// A check that takes longer is slow: its address is penalised for [`PAUSE`] times as long, so that
/// on an old box, too, a flood of wrong passwords from it leaves most of the time to others.
const SLOW: Duration = Duration::from_millis(50);
const PAUSE: u32 = 4;
/// How long after the last wrong password an address is forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 1024;

/// The addresses that have sent wrong passwords.
#[derive(Default)]
pub struct Penalties(Mutex<HashMap<IpAddr, Wrong>>);

/// The wrong passwords of an address.
#[derive(Clone, Copy)]
struct Wrong {
    tries: u32,
    /// When the check of the last one was over, and how long it took.
    last: Instant,
    took: Duration,
}

impl Penalties {
    /// How long an address is still penalised, if it is.
    pub fn left(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        self.0.lock().get(&source)?.penalty(now)
    }

    /// A right password makes up for all.
    pub fn forgive(&self, source: IpAddr) {
        self.0.lock().remove(&source);
    }

    /// Notes a wrong password, whose check is over now and has taken so long.
    pub fn count(&self, address: IpAddr, now: Instant, took: Duration) {
        let mut wrong = self.0.lock();
        if !wrong.contains_key(&address) && wrong.len() >= MAX_ADDRESSES {
            wrong.retain(|_, wrong| wrong.is_fresh(now));
            // still full: the one that has been quiet longest is forgotten
            if wrong.len() >= MAX_ADDRESSES {
                let oldest =
                    wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(address, _)| *address);
                oldest.and_then(|oldest| wrong.remove(&oldest));
            }
        }
        let entry = wrong.entry(address).or_insert(Wrong { tries: 0, last: now, took });
        let tries = if entry.is_fresh(now) { entry.tries.saturating_add(1) } else { 1 };
        *entry = Wrong { tries, last: now, took };
    }
}

impl Wrong {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < MEMORY
    }

    /// How long the penalty still lasts.
    fn penalty(&self, now: Instant) -> Option<Duration> {
        let doublings = self.tries.checked_sub(FREE_TRIES + 1);
        let for_tries = doublings
            .map(|times| FIRST_PENALTY.saturating_mul(1 << times.min(8)).min(LAST_PENALTY));
        let for_time =
            Some(self.took).filter(|took| *took > SLOW).map(|took| took.saturating_mul(PAUSE));
        for_tries
            .max(for_time)?
            .checked_sub(now.saturating_duration_since(self.last))
            .filter(|left| !left.is_zero())
    }
}

/// Whom tries and places are counted for: an IPv6 client has a whole /64 to come from. Clients of a
/// Unix socket count as one.
pub fn source(client: &str) -> IpAddr {
    // a link-local address has its interface behind it
    match client.split('%').next().unwrap_or_default().parse() {
        Ok(IpAddr::V6(ip)) => {
            let network = u128::from(ip) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        Ok(ip) => ip,
        Err(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn ten_minutes_after_the_last_wrong_password_all_is_forgotten() {
        let (penalties, now) = (Penalties::default(), Instant::now());
        let later = now + MEMORY;
        for _ in 0..6 {
            assert_eq!(penalties.left(SOURCE, now), None);
            penalties.count(SOURCE, now, SLOW);
        }
        assert_eq!(penalties.left(SOURCE, now), Some(FIRST_PENALTY));
        (0..5).for_each(|_| penalties.count(SOURCE, later, SLOW));
        assert_eq!(penalties.left(SOURCE, later), None);
    }

    /// Five slow checks in a row held up everybody else.
    #[test]
    fn a_check_that_takes_long_is_penalised_from_the_first_one_on() {
        let (penalties, now, took) = (Penalties::default(), Instant::now(), Duration::from_secs(3));
        penalties.count(SOURCE, now, took);
        assert_eq!(penalties.left(SOURCE, now + took), Some(Duration::from_secs(9)));
        assert_eq!(penalties.left(SOURCE, now + 4 * took), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:2"));
        assert_eq!(source("fe80::1%2"), source("fe80::2%2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("127.0.0.1"), source("127.0.0.2"));
        assert_eq!(source("unix"), source("unix"));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let penalties = Penalties::default();
        for number in 0..3000u32 {
            penalties.count(IpAddr::from(number.to_be_bytes()), Instant::now(), Duration::ZERO);
        }
        assert_eq!(penalties.0.lock().len(), MAX_ADDRESSES);
    }
}
