//! crypt(3) hashes of passwords: checking and making them. Called by `auth` and, for `--passwd`, by `main`.
//!
//! The algorithms are those of the crates `pwhash` and `yescrypt`; here is which of them we take, and how much one may cost.

use std::io;

use pwhash::{HashSetup, bcrypt, md5_crypt, sha256_crypt, sha512_crypt, unix_crypt};
use yescrypt::{Params, PasswordVerifier, Yescrypt};

use crate::system::random;
use crate::system::terminal::MAX_PASSWORD;

/// Rounds of a hash that we make: four times what crypt(3) does when nobody says, and still no wait on an old box.
const ROUNDS: u32 = 20_000;
/// The most rounds of a hash that we check: one check must not stop the admin pages for minutes.
const MAX_ROUNDS: u32 = 1_000_000;
/// The most memory that one check may take.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
/// The highest cost of a `$2b$` hash.
const MAX_COST: u32 = 15;
/// The characters of a salt, and of a yescrypt hash.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether the password is the one of this hash; compared in constant time. A hash of an unknown kind, one that costs too much
/// and one that is no hash at all fit no password.
pub fn verify(password: &[u8], hash: &str) -> bool {
    if password.len() > MAX_PASSWORD || !is_affordable(hash) {
        return false;
    }
    match kind(hash) {
        None => unix_crypt::verify(password, hash),
        Some("1") => md5_crypt::verify(password, hash),
        Some("5") => sha256_crypt::verify(password, hash),
        Some("6") => sha512_crypt::verify(password, hash),
        Some("y") => Yescrypt::default().verify_password(password, hash).is_ok(),
        Some(_) => bcrypt::verify(password, hash),
    }
}

/// What is to be said about a hash in a configuration, if anything.
pub fn complaint(hash: &str) -> Option<&'static str> {
    match hash {
        _ if !is_affordable(hash) => Some("of an unknown kind, or too costly to check: no password fits it"),
        _ if hash.starts_with("$1$") || !hash.starts_with('$') => Some("of an old kind that is quickly guessed: make a new one"),
        _ => None,
    }
}

/// The kind of a hash: what stands between the first two `$`.
fn kind(hash: &str) -> Option<&str> {
    hash.split('$').nth(1)
}

/// Whether checking this hash takes a bounded time and bounded memory.
pub(super) fn is_affordable(hash: &str) -> bool {
    let mut fields = hash.split('$').skip(2);
    let settings = fields.next().unwrap_or_default();
    let rounds = |text: &str| text.parse().is_ok_and(|rounds: u32| rounds <= MAX_ROUNDS);
    match kind(hash) {
        None => hash.len() == 13,
        Some("1") => true,
        Some("5" | "6") => settings.strip_prefix("rounds=").is_none_or(rounds),
        Some("2a" | "2b" | "2y") => settings.parse().is_ok_and(|cost: u32| cost <= MAX_COST),
        Some("y") => {
            // three characters: no time or parallelism beyond the defaults. The hash itself must be whole: an empty one would
            // be equal to the first no bytes of any
            let whole = fields.nth(1).is_some_and(|hash| hash.len() == 43) && fields.next().is_none();
            let memory = |params: Params| params.n().saturating_mul(u64::from(params.r())).saturating_mul(128);
            let params = Some(settings).filter(|text| text.len() == 3).and_then(|text| text.parse().ok());
            whole && params.is_some_and(|params| memory(params) <= MAX_MEMORY)
        }
        Some(_) => false,
    }
}

/// A new `$6$` hash of a password, with a salt from the kernel.
pub fn hash(password: &str) -> io::Result<String> {
    let random: [u8; 16] = random::secret()?;
    let salt: String = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63))).map(|c| char::from(*c)).collect();
    sha512_crypt::hash_with(HashSetup { salt: Some(&salt), rounds: Some(ROUNDS) }, password).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification of SHA-crypt, Openwall's test vectors for bcrypt and the tests of libxcrypt, which makes all of them
    /// as they stand here.
    const GOOD: [(&str, &str); 10] = [
        ("Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"),
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
        ("pleaseletmein", "$y$j9T$LdJMENpBABJJ3hIHjB1Bi.$iofk68xbXBoXKsxTyMBCh2qkQuzQZ2Zik521F9TsTq6"),
        ("test", "$y$j75$LdJMENpBABJJ3hIHjB1Bi.$YHtrg5JwVUTWV0NoyCEtFoufzPCIyF7PGqZxL86OqT7"),
    ];

    #[test]
    fn every_kind_of_hash_fits_its_password_and_no_other() {
        for (password, hash) in GOOD {
            assert!(verify(password.as_bytes(), hash), "{hash}");
            let (start, last) = hash.split_at(hash.len() - 1);
            assert!(!verify(b"another", hash), "{hash}");
            assert!(!verify(password.as_bytes(), &format!("{start}{}", if last == "x" { "y" } else { "x" })), "{hash} changed");
        }
    }

    #[test]
    fn a_hash_that_we_make_fits() {
        let (one, two) = (hash("päss").unwrap(), hash("päss").unwrap());
        assert!(one.starts_with("$6$rounds=20000$") && one != two, "{one}");
        assert!(verify("päss".as_bytes(), &one) && !verify(b"pass", &one));
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
            assert!(!verify(b"", hash) && !verify(b"x", hash), "{hash}");
        }
    }

    #[test]
    fn weak_hashes_and_useless_ones_are_complained_about() {
        for (hash, words) in
            [("aZGJuE6EXrjEE", "old kind"), ("$1$5pZSV9va$azf", "old kind"), ("$7$x", "unknown kind"), ("", "unknown")]
        {
            assert!(complaint(hash).is_some_and(|complaint| complaint.contains(words)), "{hash}");
        }
        assert_eq!(complaint("$6$salt$x"), None);
    }

    #[test]
    fn a_hash_that_costs_too_much_is_not_computed() {
        let whole = "x".repeat(43);
        for hash in [
            "$6$rounds=999999999$salt$x",
            "$6$rounds=$salt$x",
            "$5$rounds=1000001$salt$x",
            "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            &format!("$y$jzT$salt$${whole}"),
            &format!("$y$jzT$salt${whole}"),
            &format!("$y$j9TT....$salt${whole}"),
        ] {
            assert!(!is_affordable(hash), "{hash}");
        }
        assert!(is_affordable(&format!("$y$j9T$salt${whole}")) && is_affordable("$6$rounds=1000000$s$x"));
    }
}
