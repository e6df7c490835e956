//! Who is asking: Basic authentication against the users of the moment, and what wrong passwords cost.
//!
//! Called by the pages on the thread `admin`. Owns two small bounded tables behind locks that are never held while a password is
//! checked. No password is kept, logged or shown.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use super::crypt;
use crate::config::{Access, UserConfig};
use crate::system::logging::value;
use crate::system::random;

/// Wrong passwords from one address that cost nothing.
const FREE_TRIES: u32 = 5;
/// The delay of the first one that does; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest delay.
const LAST_DELAY: Duration = Duration::from_secs(8);
/// How long after the last wrong password an address is forgotten.
const MEMORY: Duration = Duration::from_secs(600);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 1024;
/// How long a good password need not be checked again, so that a page that refreshes itself does not cost a hash each time.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// The most good passwords that are remembered.
const MAX_GOOD: usize = 64;

/// What came of a check. A delay is how long the answer has to be held back; that is nothing but for addresses with many wrong
/// passwords, whose right ones are delayed as well, or hanging up early would tell them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user.
    Allowed {
        /// The name.
        user: String,
        /// What the user may do.
        access: Access,
        /// How long to hold the answer back.
        delay: Duration,
    },
    /// Nobody we know, or nobody at all.
    Denied {
        /// How long to hold the answer back.
        delay: Duration,
    },
}

/// The memory of the checks.
pub struct Auth {
    key: [u8; 16],
    wrong: Mutex<HashMap<IpAddr, Wrong>>,
    /// Keyed hashes of name, password and hash, and when each was good.
    good: Mutex<HashMap<u128, Instant>>,
}

/// The wrong passwords of an address.
#[derive(Clone, Copy)]
struct Wrong {
    tries: u32,
    last: Instant,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Nobody has tried anything yet. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<Auth> {
        Ok(Auth { key: random::secret()?, wrong: Mutex::default(), good: Mutex::default() })
    }

    /// Checks what a client sent as `Authorization`. Without it the answer is no, and costs nothing: that is how every browser
    /// begins.
    pub fn check(&self, authorization: Option<&str>, client: &str, users: &[UserConfig]) -> Verdict {
        self.check_at(authorization, client, users, Instant::now())
    }

    fn check_at(&self, authorization: Option<&str>, client: &str, users: &[UserConfig], now: Instant) -> Verdict {
        let Some((name, password)) = authorization.and_then(decode) else { return Verdict::Denied { delay: Duration::ZERO } };
        let user = users.iter().find(|user| user.name == name);
        let fingerprint = user.map(|user| self.fingerprint(&name, &password, &user.password));
        let address = address(client);
        let delay = self.wrong.lock().get(&address).map_or(Duration::ZERO, |wrong| wrong.delay(now));
        if let (Some(user), true) = (user, fingerprint.is_some_and(|print| self.is_known(print, now))) {
            return Verdict::Allowed { user: name, access: user.access, delay };
        }
        // an unknown name costs what a wrong password does
        let hash = user.or(users.first()).map_or("", |user| user.password.as_str());
        let fits = crypt::verify(password.as_bytes(), hash);
        match user.filter(|_| fits) {
            Some(user) => {
                // while the address is slowed down nothing is learnt from a good try: whoever hangs up early and tries again would
                // find out by the quick answer
                if delay.is_zero() {
                    self.wrong.lock().remove(&address);
                    fingerprint.into_iter().for_each(|print| self.remember(print, now));
                }
                Verdict::Allowed { user: name, access: user.access, delay }
            }
            None => {
                // the name only of users that there are: people type their password there, too
                let known = user.map_or("-", |user| user.name.as_str());
                log::warn!("login by={} client={} outcome=refused", value(known), value(client));
                Verdict::Denied { delay: self.count(address, now) }
            }
        }
    }

    /// Notes a wrong password; tells what it costs.
    fn count(&self, address: IpAddr, now: Instant) -> Duration {
        let mut wrong = self.wrong.lock();
        if !wrong.contains_key(&address) && wrong.len() >= MAX_ADDRESSES {
            wrong.retain(|_, wrong| wrong.is_fresh(now));
            // still full: the one that has been quiet longest is forgotten
            if wrong.len() >= MAX_ADDRESSES {
                let oldest = wrong.iter().min_by_key(|(_, wrong)| wrong.last).map(|(address, _)| *address);
                oldest.and_then(|oldest| wrong.remove(&oldest));
            }
        }
        let entry = wrong.entry(address).or_insert(Wrong { tries: 0, last: now });
        let tries = if entry.is_fresh(now) { entry.tries.saturating_add(1) } else { 1 };
        *entry = Wrong { tries, last: now };
        entry.delay(now)
    }

    fn is_known(&self, fingerprint: u128, now: Instant) -> bool {
        self.good.lock().get(&fingerprint).is_some_and(|since| now.saturating_duration_since(*since) < GOOD_FOR)
    }

    fn remember(&self, fingerprint: u128, now: Instant) {
        let mut good = self.good.lock();
        good.retain(|_, since| now.saturating_duration_since(*since) < GOOD_FOR);
        if good.len() < MAX_GOOD {
            good.insert(fingerprint, now);
        }
    }

    /// Another hash makes another fingerprint, so a changed password counts at once.
    fn fingerprint(&self, name: &str, password: &str, hash: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        for part in [name, password, hash] {
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part.as_bytes());
        }
        hasher.finish128().as_u128()
    }
}

impl Wrong {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < MEMORY
    }

    fn delay(&self, now: Instant) -> Duration {
        match self.tries.checked_sub(FREE_TRIES + 1) {
            Some(doublings) if self.is_fresh(now) => FIRST_DELAY.saturating_mul(1 << doublings.min(8)).min(LAST_DELAY),
            _ => Duration::ZERO,
        }
    }
}

/// Name and password of `Basic` credentials.
fn decode(authorization: &str) -> Option<(String, String)> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let decoded = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Whom tries are counted for: an IPv6 client has a whole /64 to try from. Clients of a Unix socket count as one.
fn address(client: &str) -> IpAddr {
    match client.parse() {
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

    /// The password is `test`.
    const HASH: &str = "aZGJuE6EXrjEE";
    const CLIENT: &str = "192.0.2.1";

    fn users() -> Vec<UserConfig> {
        let user = |name: &str, access| UserConfig { name: name.to_owned(), password: HASH.to_owned(), access };
        vec![user("ann", Access::Full), user("bob", Access::ReadOnly)]
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    fn allowed(user: &str, access: Access, millis: u64) -> Verdict {
        Verdict::Allowed { user: user.to_owned(), access, delay: Duration::from_millis(millis) }
    }

    fn denied(millis: u64) -> Verdict {
        Verdict::Denied { delay: Duration::from_millis(millis) }
    }

    #[test]
    fn a_user_is_known_by_name_and_password() {
        let auth = Auth::new().unwrap();
        let check = |credentials: &str| auth.check(Some(&basic(credentials)), CLIENT, &users());
        assert_eq!(check("ann:test"), allowed("ann", Access::Full, 0));
        assert_eq!(check("bob:test"), allowed("bob", Access::ReadOnly, 0));
        for wrong in ["ann:Test", "ann:", "ann", ":test", "eve:test", "ann:test:"] {
            assert_eq!(check(wrong), denied(0), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_basic_authorization_is_denied_and_not_counted() {
        let auth = Auth::new().unwrap();
        for header in ["", "Basic", "Basic !", "Bearer eA==", "Basic //8=", "basic"] {
            for _ in 0..20 {
                assert_eq!(auth.check(Some(header), CLIENT, &users()), denied(0));
            }
        }
        assert_eq!(auth.check(None, CLIENT, &users()), denied(0));
        assert_eq!(
            auth.check(Some(&basic("ann:test").replace("Basic ", "bASIC  ")), CLIENT, &users()),
            allowed("ann", Access::Full, 0)
        );
    }

    #[test]
    fn without_users_nobody_is_allowed() {
        assert_eq!(Auth::new().unwrap().check(Some(&basic("ann:test")), CLIENT, &[]), denied(0));
    }

    #[test]
    fn after_five_wrong_passwords_the_next_ones_are_delayed_ever_longer() {
        let (auth, users, now) = (Auth::new().unwrap(), users(), Instant::now());
        let wrong = |client| auth.check_at(Some(&basic("ann:x")), client, &users, now);
        for millis in [0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000] {
            assert_eq!(wrong(CLIENT), denied(millis));
        }
        (0..300).for_each(|_| assert_eq!(wrong(CLIENT), denied(8000)));
        assert_eq!(wrong("192.0.2.2"), denied(0), "another address pays nothing");
        for _ in 0..2 {
            // the second time as slowly as the first: the quick answer would tell whoever hung up on the first
            assert_eq!(auth.check_at(Some(&basic("ann:test")), CLIENT, &users, now), allowed("ann", Access::Full, 8000));
        }
        assert_eq!(auth.check_at(Some(&basic("ann:test")), "192.0.2.2", &users, now), allowed("ann", Access::Full, 0));
        assert_eq!(wrong("192.0.2.2"), denied(0), "a right one makes up for a few wrong ones");
        let later = now + MEMORY;
        assert_eq!(auth.check_at(Some(&basic("eve:x")), CLIENT, &users, later), denied(0), "ten minutes later all is forgotten");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:0:0:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("127.0.0.1"), address("127.0.0.2"));
        assert_eq!(address("unix"), address("unix"));
    }

    #[test]
    fn the_memory_of_addresses_is_bounded() {
        let auth = Auth::new().unwrap();
        for number in 0..3000u32 {
            auth.count(IpAddr::from(number.to_be_bytes()), Instant::now());
        }
        assert_eq!(auth.wrong.lock().len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_good_password_is_not_checked_again_for_a_minute_unless_the_hash_changes() {
        let (auth, mut users, now) = (Auth::new().unwrap(), users(), Instant::now());
        let check = |users: &[UserConfig], now| auth.check_at(Some(&basic("ann:test")), CLIENT, users, now);
        assert_eq!(check(&users, now), allowed("ann", Access::Full, 0));
        let print = auth.fingerprint("ann", "test", HASH);
        assert!(auth.is_known(print, now + GOOD_FOR / 2) && !auth.is_known(print, now + GOOD_FOR));
        assert!(!auth.is_known(auth.fingerprint("ann", "tes", HASH), now));
        users[0].access = Access::ReadOnly;
        assert_eq!(check(&users, now), allowed("ann", Access::ReadOnly, 0));
        users[0].password = "aaGJuE6EXrjEE".to_owned();
        assert_eq!(check(&users, now), denied(0));
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Auth::new().unwrap()), "Auth { .. }");
    }
}
