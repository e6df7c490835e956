//! crypt(3) hashes of passwords: checking and making them. Called by `auth` and, for `--passwd`, by
//! `main`.
//!
//! The algorithms are those of the crates `pwhash` and `yescrypt`; here is which of them we take,
//! and how much one may cost.

use std::fmt;
use std::hint::black_box;
use std::io;

use pwhash::{HashSetup, bcrypt, md5_crypt, sha256_crypt, sha512_crypt, unix_crypt};
use yescrypt::{Params, PasswordVerifier, Yescrypt};

use crate::config::UserConfig;
use crate::system::random;
use crate::system::terminal::MAX_PASSWORD;

/// Rounds of a hash that we make: four times what crypt(3) does when nobody says, and still no wait
/// on an old box.
const ROUNDS: u32 = 20_000;
/// The longest that one check may take, in rounds of `$6$`: 0.34 s where the costs below were
/// measured. Other requests wait meanwhile.
const MAX_ROUNDS: u64 = 1_000_000;
/// The most memory that one check may take, where there is plenty: four times what crypt(3) does
/// for `$y$` when nobody says.
const MAX_MEMORY: u64 = 64 * 1024 * 1024;
/// Rounds of `$5$` and `$6$` where the hash does not say (its specification).
const DEFAULT_ROUNDS: u64 = 5_000;
/// What other kinds cost in rounds of `$6$`: all of `$1$` and of DES, one of the 2^cost turns of
/// `$2b$`, and a KiB of the memory of `$y$`. Measured on 2026-11-25 (AMD EPYC, opt-level z): 0.34
/// us a round, 206 us, 2.7 us, 54 us a turn, 3.4 us a KiB.
const MD5: u64 = 600;
const DES: u64 = 8;
const BLOWFISH: u64 = 160;
const YESCRYPT: u64 = 10;
/// The characters of a salt, and of a yescrypt hash.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What one check of a hash takes; ordered by the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// The time, in rounds of `$6$`.
    pub rounds: u64,
    /// Bytes of memory, beyond a few KiB.
    pub memory: u64,
}

impl Cost {
    /// The most that a check may take where so many bytes of memory can be had.
    pub fn limit(memory: u64) -> Cost {
        Cost { rounds: MAX_ROUNDS, memory: memory.min(MAX_MEMORY) }
    }

    /// As the hash says by itself; `None` for what is never checked: a hash of an unknown kind, or
    /// none at all.
    pub fn of(hash: &str) -> Option<Cost> {
        let mut fields = hash.split('$').skip(2);
        let settings = fields.next().unwrap_or_default();
        let time = |rounds| Some(Cost { rounds, memory: 0 });
        match kind(hash) {
            None => time(DES).filter(|_| hash.len() == 13),
            Some("1") => time(MD5),
            Some("5" | "6") => time(
                settings
                    .strip_prefix("rounds=")
                    .map_or(Some(DEFAULT_ROUNDS), |text| text.parse().ok())?,
            ),
            Some("2a" | "2b" | "2y") => {
                time(BLOWFISH.saturating_mul(1_u64.checked_shl(settings.parse().ok()?)?))
            }
            Some("y") => {
                // three characters: no time or parallelism beyond the defaults. The hash itself
                // must be whole: an empty one would be equal to the first no bytes of any
                let is_whole =
                    fields.nth(1).is_some_and(|hash| hash.len() == 43) && fields.next().is_none();
                let params: Params =
                    Some(settings).filter(|text| is_whole && text.len() == 3)?.parse().ok()?;
                let memory = params.n().saturating_mul(u64::from(params.r())).saturating_mul(128);
                Some(Cost { rounds: (memory / 1024).saturating_mul(YESCRYPT), memory })
            }
            Some(_) => None,
        }
    }

    /// The same for a password of so many bytes, which a client chooses: each round of SHA-crypt
    /// and `$1$` goes over all of it, nearly twice, so that 511 bytes take some 9 times (`$6$`) to
    /// 15 times (`$5$`) as long as 8. Too much for the kinds that do not care.
    pub fn with_password(self, bytes: usize) -> Cost {
        let times = 1 + bytes as u64 / 32;
        Cost {
            rounds: if self.memory > 0 { self.rounds } else { self.rounds.saturating_mul(times) },
            ..self
        }
    }

    /// In words, by what it is beyond a limit; `None` when it is within.
    pub fn excess(self, limit: Cost) -> Option<String> {
        let Cost { rounds, memory } = self;
        let words = |what: String, most| {
            Some(format!("checking it takes {what}, and the budget gives {most}"))
        };
        match limit {
            Cost { memory: most, .. } if memory > most => {
                words(format!("{memory} bytes of memory"), most)
            }
            Cost { rounds: most, .. } if rounds > most => {
                words(format!("the time of {rounds} rounds of $6$"), most)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cost {
    /// As `--test` prints a limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} bytes of memory and the time of {} rounds of $6$ for one check",
            self.memory, self.rounds
        )
    }
}

/// Why a new hash for a user is not taken, if that is so; in one line.
pub fn refusal(user: &str, hash: &str, limit: Cost) -> Option<String> {
    let why = match Cost::of(hash) {
        None => "a hash of this kind is never accepted at a login".to_owned(),
        Some(cost) => cost.excess(limit)?,
    };
    Some(format!("the password hash of user `{user}` is refused: {why}"))
}

/// The same for all users of a configuration; a hash of an unknown kind is worth a [`complaint`]
/// there, and no refusal.
pub fn refusals(users: &[UserConfig], limit: Cost) -> impl Iterator<Item = String> {
    let known = users.iter().filter(|user| Cost::of(&user.password).is_some());
    known.filter_map(move |user| refusal(&user.name, &user.password, limit))
}

/// Whether the password is the one of this hash; compared in constant time. A hash of an unknown
/// kind and one that is no hash at all fit no password. What the check costs is the caller's
/// business; an error says that there is no memory for it.
pub fn verify(password: &[u8], hash: &str) -> io::Result<bool> {
    let Some(cost) = Cost::of(hash).filter(|_| password.len() <= MAX_PASSWORD) else {
        return Ok(false);
    };
    // the crates that compute it would end the process; between this and that, others may still
    // take it, which is unlikely
    let memory = usize::try_from(cost.memory).map_err(io::Error::other)?;
    Vec::<u8>::new().try_reserve_exact(black_box(memory)).map_err(io::Error::other)?;
    Ok(match kind(hash) {
        None => unix_crypt::verify(password, hash),
        Some("1") => md5_crypt::verify(password, hash),
        Some("5") => sha256_crypt::verify(password, hash),
        Some("6") => sha512_crypt::verify(password, hash),
        Some("y") => Yescrypt::default().verify_password(password, hash).is_ok(),
        Some(_) => bcrypt::verify(password, hash),
    })
}

/// What is to be said about a hash in a configuration, if anything.
pub fn complaint(hash: &str) -> Option<&'static str> {
    match hash {
        _ if Cost::of(hash).is_none() => Some("of an unknown kind: no password fits it"),
        _ if hash.starts_with("$1$") || !hash.starts_with('$') => {
            Some("of an old kind that is quickly guessed: make a new one")
        }
        _ => None,
    }
}

/// The kind of a hash: what stands between the first two `$`.
fn kind(hash: &str) -> Option<&str> {
    hash.split('$').nth(1)
}

/// A new `$6$` hash of a password, with a salt from the kernel.
pub fn hash(password: &str) -> io::Result<String> {
    let random: [u8; 16] = random::secret()?;
    let salt: String = random
        .iter()
        .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)))
        .map(|c| char::from(*c))
        .collect();
    sha512_crypt::hash_with(HashSetup { salt: Some(&salt), rounds: Some(ROUNDS) }, password)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification of SHA-crypt, Openwall's test vectors for bcrypt and the tests of
    /// libxcrypt, which makes all of them as they stand here.
    const GOOD: [(&str, &str); 10] = [
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "Hello world!",
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        ),
        ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("U*U*", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
        ("€é", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.kedzWsJMGVE4G7K7fXunt9FQssleaJm"),
        ("password", "$1$5pZSV9va$azfrPr6af3Fc7dLblQXVa0"),
        ("test", "aZGJuE6EXrjEE"),
        (
            "pleaseletmein",
            "$y$j9T$LdJMENpBABJJ3hIHjB1Bi.$iofk68xbXBoXKsxTyMBCh2qkQuzQZ2Zik521F9TsTq6",
        ),
        ("test", "$y$j75$LdJMENpBABJJ3hIHjB1Bi.$YHtrg5JwVUTWV0NoyCEtFoufzPCIyF7PGqZxL86OqT7"),
    ];

    #[test]
    fn every_kind_of_hash_fits_its_password_and_no_other() {
        for (password, hash) in GOOD {
            let fits = |password: &[u8], hash: &str| verify(password, hash).unwrap();
            assert!(fits(password.as_bytes(), hash), "{hash}");
            let (start, last) = hash.split_at(hash.len() - 1);
            assert!(!fits(b"another", hash), "{hash}");
            assert!(
                !fits(
                    password.as_bytes(),
                    &format!("{start}{}", if last == "x" { "y" } else { "x" })
                ),
                "{hash} changed"
            );
        }
    }

    #[test]
    fn a_hash_that_we_make_fits() {
        let (one, two) = (hash("päss").unwrap(), hash("päss").unwrap());
        assert!(one.starts_with("$6$rounds=20000$") && one != two, "{one}");
        assert!(verify("päss".as_bytes(), &one).unwrap() && !verify(b"pass", &one).unwrap());
    }

    #[test]
    fn what_is_no_hash_fits_nothing() {
        for hash in [
            "",
            "$",
            "$$",
            "x",
            "$sha1$40000$jtNX3nZ2$hBNaIXkt4wBI2o5rsi8KejSjNqIq",
            "$6$",
            "$6$put-your-own-hash-here",
            "$7$abc",
            "$y$j9T$salt$",
            "$y$j9T$$",
            "$2b$05$",
            "*",
            "!",
        ] {
            assert!(
                [b"".as_slice(), b"x"].iter().all(|password| !verify(password, hash).unwrap()),
                "{hash}"
            );
        }
    }

    #[test]
    fn weak_hashes_and_useless_ones_are_complained_about() {
        for (hash, words) in [
            ("aZGJuE6EXrjEE", "old kind"),
            ("$1$5pZSV9va$azf", "old kind"),
            ("$7$x", "unknown kind"),
            ("", "unknown"),
        ] {
            assert!(complaint(hash).is_some_and(|complaint| complaint.contains(words)), "{hash}");
        }
        assert_eq!(complaint("$6$salt$x"), None);
    }

    #[test]
    fn a_hash_tells_what_its_check_costs_and_one_beyond_the_budget_is_refused_in_words() {
        let (whole, limit) = ("x".repeat(43), Cost::limit(32 << 20));
        let excess = |hash: &str| Cost::of(hash).unwrap_or_else(|| panic!("{hash}")).excess(limit);
        for (hash, words) in [
            (
                "$6$rounds=999999999$salt$x",
                "the time of 999999999 rounds of $6$, and the budget gives 1000000",
            ),
            ("$5$rounds=1000001$salt$x", "the time of 1000001 rounds of $6$, and"),
            ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "rounds of $6$"),
            (
                &format!("$y$jDT$salt${whole}"),
                "268435456 bytes of memory, and the budget gives 33554432",
            ),
            (&format!("$y$jZT$salt${whole}"), "bytes of memory"),
        ] {
            assert!(
                excess(hash).is_some_and(|excess| excess.contains(words)),
                "{hash}: {:?}",
                excess(hash)
            );
        }
        for hash in [
            &format!("$y$j9T$salt${whole}"),
            "$6$rounds=1000000$s$x",
            "$6$s$x",
            "$2b$12$x",
            "$1$x",
            "aZGJuE6EXrjEE",
        ] {
            assert_eq!(excess(hash), None, "{hash}");
        }
    }

    #[test]
    fn a_long_password_takes_longer() {
        let cost = Cost::of("$6$rounds=20000$s$x").unwrap();
        assert_eq!(cost.with_password(31), cost);
        assert_eq!(cost.with_password(MAX_PASSWORD).rounds, 16 * 20_000);
        let memory = Cost { memory: 1, ..cost };
        assert_eq!(memory.with_password(MAX_PASSWORD), memory);
    }

    #[test]
    fn what_is_never_checked_costs_nothing() {
        let whole = "x".repeat(43);
        for hash in [
            "$6$rounds=$salt$x",
            "$2b$64$x",
            "$2b$-1$x",
            &format!("$y$jzT$salt$${whole}"),
            &format!("$y$j9TT....$salt${whole}"),
        ] {
            assert_eq!(Cost::of(hash), None, "{hash}");
        }
    }

    #[test]
    fn a_check_for_which_there_is_no_memory_is_an_error_and_not_the_end_of_the_process() {
        let hash = format!("$y$jZT$salt${}", "x".repeat(43));
        assert!(Cost::of(&hash).is_some_and(|cost| cost.memory > 1 << 40));
        assert!(verify(b"x", &hash).is_err());
    }
}
