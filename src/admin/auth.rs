//! Who is asking: Basic authentication against the users of the moment.
//!
//! Called by the pages on the thread `admin`. Owns a small bounded table behind a lock that is
//! never held while a password is checked. No password is kept, logged or shown.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use super::crypt::{self, Cost};
use super::penalty::{Penalties, source};
use crate::config::{Access, UserConfig};
use crate::system::logging::value;
use crate::system::random;

/// How long a good password need not be checked again, so that a page that refreshes itself does
/// not cost a hash each time.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// The most good passwords that are remembered.
const MAX_GOOD: usize = 64;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user.
    Allowed {
        /// The name.
        user: String,
        /// What the user may do.
        access: Access,
    },
    /// Nobody we know, or nobody at all.
    Denied,
    /// Nothing was looked at: the address is penalised for its wrong passwords, for so long from
    /// now.
    Penalised(Duration),
    /// There is no memory for the check at the moment.
    Short,
}

/// The memory of the checks.
pub struct Auth {
    key: [u8; 16],
    penalties: Penalties,
    /// Keyed hashes of name, password and hash, and when each was good.
    good: Mutex<HashMap<u128, Instant>>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Nobody has tried anything yet. Fails where the kernel gives no random bytes.
    pub fn new() -> io::Result<Auth> {
        Ok(Auth { key: random::secret()?, penalties: Penalties::default(), good: Mutex::default() })
    }

    /// Checks what a client sent as `Authorization`. Without it the answer is no, and costs
    /// nothing: that is how every browser begins. `limit` returns what the check of a hash may
    /// take, and is called before one; a hash beyond it fits no password.
    pub fn check(
        &self,
        authorization: Option<&str>,
        client: &str,
        users: &[UserConfig],
        limit: impl Fn() -> Cost,
    ) -> Verdict {
        self.check_at(authorization, client, users, limit, Instant::now())
    }

    fn check_at(
        &self,
        authorization: Option<&str>,
        client: &str,
        users: &[UserConfig],
        limit: impl Fn() -> Cost,
        now: Instant,
    ) -> Verdict {
        let Some((name, password)) = authorization.and_then(decode) else { return Verdict::Denied };
        let source = source(client);
        // not even the memory of good passwords is asked, or an attacker could go through a list of
        // them in it
        if let Some(left) = self.penalties.left(source, now) {
            return Verdict::Penalised(left);
        }
        let user = users.iter().find(|user| user.name == name);
        let fingerprint = user.map(|user| self.fingerprint(&name, &password, &user.password));
        if let (Some(user), true) =
            (user, fingerprint.is_some_and(|print| self.is_known(print, now)))
        {
            return Verdict::Allowed { user: name, access: user.access };
        }
        let start = Instant::now();
        let fits = to_check(user, users, password.len(), limit())
            .map_or(Ok(false), |hash| crypt::verify(password.as_bytes(), hash));
        let took = start.elapsed();
        match (user, fits) {
            (Some(user), Ok(true)) => {
                self.penalties.forgive(source);
                fingerprint.into_iter().for_each(|print| self.remember(print, now));
                Verdict::Allowed { user: name, access: user.access }
            }
            (_, Ok(_)) => {
                // the name only of users that there are: people type their password there, too
                let known = user.map_or("-", |user| user.name.as_str());
                log::warn!("login by={} client={} outcome=refused", value(known), value(client));
                self.penalties.count(source, now + took, took);
                Verdict::Denied
            }
            (_, Err(e)) => {
                // counted as well, or the log would fill with it
                self.penalties.count(source, now + took, took);
                log::warn!(
                    "login client={} outcome=unchecked reason={}",
                    value(client),
                    value(&e.to_string())
                );
                Verdict::Short
            }
        }
    }

    fn is_known(&self, fingerprint: u128, now: Instant) -> bool {
        self.good
            .lock()
            .get(&fingerprint)
            .is_some_and(|since| now.saturating_duration_since(*since) < GOOD_FOR)
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

/// The hash to check with a password of so many bytes: of a user, if that is affordable; for an
/// unknown name the cheapest of all, which cannot be told from a wrong password for that user.
fn to_check<'a>(
    user: Option<&'a UserConfig>,
    users: &'a [UserConfig],
    password: usize,
    limit: Cost,
) -> Option<&'a str> {
    let affordable = |user: &'a UserConfig| {
        let cost = Cost::of(&user.password)?.with_password(password);
        cost.excess(limit).is_none().then_some(())?;
        Some((cost, user.password.as_str()))
    };
    let cheapest = || users.iter().filter_map(affordable).min_by_key(|(cost, _)| *cost);
    user.map_or_else(cheapest, affordable).map(|(_, hash)| hash)
}

/// Name and password of `Basic` credentials.
fn decode(authorization: &str) -> Option<(String, String)> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let decoded = STANDARD
        .decode(credentials.trim())
        .ok()
        .filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password is `test`.
    const HASH: &str = "aZGJuE6EXrjEE";
    const CLIENT: &str = "192.0.2.1";

    fn users() -> Vec<UserConfig> {
        let user = |name: &str, access| UserConfig {
            name: name.to_owned(),
            password: HASH.to_owned(),
            access,
        };
        vec![user("ann", Access::Full), user("bob", Access::ReadOnly)]
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", STANDARD.encode(credentials))
    }

    /// What costs nothing to speak of is affordable.
    const LIMIT: Cost = Cost { rounds: 10_000, memory: 0 };

    fn allowed(user: &str, access: Access) -> Verdict {
        Verdict::Allowed { user: user.to_owned(), access }
    }

    fn check(auth: &Auth, credentials: &str, client: &str, now: Instant) -> Verdict {
        auth.check_at(Some(&basic(credentials)), client, &users(), || LIMIT, now)
    }

    #[test]
    fn a_user_is_known_by_name_and_password() {
        let (auth, now) = (Auth::new().unwrap(), Instant::now());
        assert_eq!(check(&auth, "ann:test", CLIENT, now), allowed("ann", Access::Full));
        assert_eq!(check(&auth, "bob:test", CLIENT, now), allowed("bob", Access::ReadOnly));
        for (number, wrong) in
            ["ann:Test", "ann:", "ann", ":test", "eve:test", "ann:test:"].into_iter().enumerate()
        {
            assert_eq!(
                check(&auth, wrong, &format!("192.0.2.{number}"), now),
                Verdict::Denied,
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_no_basic_authorization_is_denied_and_not_counted() {
        let auth = Auth::new().unwrap();
        let check = |header: Option<&str>| auth.check(header, CLIENT, &users(), || LIMIT);
        for header in ["", "Basic", "Basic !", "Bearer eA==", "Basic //8=", "basic"] {
            (0..20).for_each(|_| assert_eq!(check(Some(header)), Verdict::Denied));
        }
        assert_eq!(check(None), Verdict::Denied);
        let odd = basic("ann:test").replace("Basic ", "bASIC  ");
        assert_eq!(check(Some(&odd)), allowed("ann", Access::Full));
    }

    #[test]
    fn without_users_nobody_is_allowed() {
        let auth = Auth::new().unwrap();
        assert_eq!(auth.check(Some(&basic("ann:test")), CLIENT, &[], || LIMIT), Verdict::Denied);
    }

    #[test]
    fn after_five_wrong_passwords_an_address_is_penalised_ever_longer_and_a_right_one_is_not_looked_at_meanwhile()
     {
        let (auth, mut now) = (Auth::new().unwrap(), Instant::now());
        for penalty in
            [0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000].map(Duration::from_millis)
        {
            assert_eq!(check(&auth, "ann:x", CLIENT, now), Verdict::Denied);
            if !penalty.is_zero() {
                for credentials in ["ann:x", "ann:test", "eve:x"] {
                    assert_eq!(check(&auth, credentials, CLIENT, now), Verdict::Penalised(penalty));
                }
                let moment = Duration::from_millis(1);
                let last = check(&auth, "ann:test", CLIENT, now + penalty - moment);
                assert!(matches!(last, Verdict::Penalised(left) if left >= moment), "{last:?}");
            }
            // the penalty begins when the check is over
            now += penalty + Duration::from_secs(1);
        }
        assert_eq!(
            check(&auth, "ann:x", "192.0.2.2", now),
            Verdict::Denied,
            "another address pays nothing"
        );
        assert_eq!(check(&auth, "ann:test", CLIENT, now), allowed("ann", Access::Full));
        assert_eq!(check(&auth, "ann:x", CLIENT, now), Verdict::Denied);
        assert_eq!(
            check(&auth, "ann:test", CLIENT, now),
            allowed("ann", Access::Full),
            "a right one makes up for wrong ones"
        );
    }

    #[test]
    fn an_unknown_name_costs_what_the_cheapest_user_does_and_a_hash_beyond_the_limit_is_not_computed()
     {
        let hash = |rounds: u32| format!("$6$rounds={rounds}$saltsalt$x");
        let user = |password: &str| UserConfig {
            name: "u".to_owned(),
            password: password.to_owned(),
            access: Access::Full,
        };
        let users = [hash(9000), hash(1000), hash(5000), "$7$x".to_owned()].map(|hash| user(&hash));
        let limit = |rounds| Cost { rounds, ..LIMIT };
        let check = |user, users| to_check(user, users, 8, limit(5000));
        assert_eq!(check(None, &users), Some(users[1].password.as_str()));
        assert_eq!(check(None, &users[..1]), None);
        assert_eq!(check(Some(&users[2]), &users), Some(users[2].password.as_str()));
        assert_eq!([0, 3].map(|i| check(Some(&users[i]), &users)), [None, None]);
        assert_eq!(
            to_check(Some(&users[2]), &users, 100, limit(5000)),
            None,
            "a long password makes it longer"
        );
    }

    #[test]
    fn a_good_password_is_not_checked_again_for_a_minute_unless_the_hash_changes() {
        let (auth, mut users, now) = (Auth::new().unwrap(), users(), Instant::now());
        let check = |users: &[UserConfig]| {
            auth.check_at(Some(&basic("ann:test")), CLIENT, users, || LIMIT, now)
        };
        assert_eq!(check(&users), allowed("ann", Access::Full));
        let print = auth.fingerprint("ann", "test", HASH);
        assert!(auth.is_known(print, now + GOOD_FOR / 2) && !auth.is_known(print, now + GOOD_FOR));
        assert!(!auth.is_known(auth.fingerprint("ann", "tes", HASH), now));
        users[0].access = Access::ReadOnly;
        assert_eq!(check(&users), allowed("ann", Access::ReadOnly));
        users[0].password = "aaGJuE6EXrjEE".to_owned();
        assert_eq!(check(&users), Verdict::Denied);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Auth::new().unwrap()), "Auth { .. }");
    }
}
