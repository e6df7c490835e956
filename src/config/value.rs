//! What one attribute may say: from its text to a value, or to words on what is wrong with it.
//!
//! `read` calls these for each attribute that is not an address, a scheduler or a duration, which
//! have their own readers. None knows where the attribute stands.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;

use xml::common::is_xml10_char;

use super::address::Address;
use super::model::Access;

/// The most characters of a name.
const MAX_NAME: usize = 128;
/// The most characters of a crypt(3) hash, as crypt(3) itself has it.
const MAX_HASH: usize = 384;

/// The name of a service, group, host or user.
pub fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("a name must not be empty".to_owned()),
        _ if text.chars().any(char::is_control) => {
            Err(format!("the name `{text}` has a control character in it"))
        }
        _ if !text.chars().all(is_xml10_char) => {
            Err(format!("the name `{text}` has a character in it that XML cannot hold"))
        }
        1..=MAX_NAME => Ok(text.to_owned()),
        length => Err(format!("a name may have {MAX_NAME} characters, this one has {length}")),
    }
}

/// The name of a user, without the colon that ends it in the Authorization header (RFC 7617).
pub fn user_name(text: &str) -> Result<String, String> {
    if text.contains(':') {
        Err(format!("the name `{text}` has a colon in it: such a user could not log in"))
    } else {
        name(text)
    }
}

/// The address of a host: a real port, and `*` is this machine, as in the original.
pub fn host_address(text: &str) -> Result<Address, String> {
    match text.parse()? {
        Address { port: 0, .. } => {
            Err(format!("`{text}` has port 0: the port of a host is from 1 to 65535"))
        }
        address => Ok(address),
    }
}

/// The file of a log.
pub fn file(text: &str) -> Result<String, String> {
    match text.chars().all(is_xml10_char) {
        true if text.is_empty() => Err("the file needs a name".to_owned()),
        true => Ok(text.to_owned()),
        // XML 1.1 could, but what is written is XML 1.0
        false => Err(format!("the file `{text}` has a character in it that XML cannot hold")),
    }
}

/// A limit of the pool: threads, sessions, or connections that wait.
pub fn limit(text: &str) -> Result<NonZeroUsize, String> {
    count(text, 1..=1_000_000)
}

/// Most bytes that are kept to be sent again: what a thread's buffer holds.
pub fn replay(text: &str) -> Result<NonZeroUsize, String> {
    count(text, 1..=65_536)
}

/// An amount of memory: a whole number and K, M or G, each 1024 of the one before.
pub fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30)];
    let parse = |(unit, bits)| {
        let digits = text.strip_suffix(unit)?;
        let number: u64 =
            digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        NonZeroU64::new(number.checked_mul(1_u64 << bits)?)
    };
    let mistake = || format!("`{text}` must be a whole number and K, M or G, such as 16M");
    units.into_iter().find_map(parse).ok_or_else(mistake)
}

/// As [`bytes`] reads it, in the largest unit that is exact.
pub fn format_bytes(bytes: NonZeroU64) -> String {
    match bytes.trailing_zeros() {
        30.. => format!("{}G", bytes.get() >> 30),
        20.. => format!("{}M", bytes.get() >> 20),
        _ => format!("{}K", bytes.get() >> 10),
    }
}

fn count(text: &str, range: RangeInclusive<usize>) -> Result<NonZeroUsize, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text
        .parse()
        .ok()
        .filter(|number| plain && range.contains(number))
        .and_then(NonZeroUsize::new);
    number.ok_or_else(|| {
        format!("`{text}` must be a whole number from {} to {}", range.start(), range.end())
    })
}

/// What a user may do.
pub fn access(text: &str) -> Result<Access, String> {
    match text {
        "full" => Ok(Access::Full),
        "readonly" => Ok(Access::ReadOnly),
        _ => Err(format!("unknown access `{text}`: it must be full or readonly")),
    }
}

/// A crypt(3) hash: 13 characters of the old DES kind, or `$` and what a newer kind writes. The
/// message never shows the text: it may be a password that somebody forgot to hash.
pub fn password(text: &str) -> Result<String, String> {
    let is_des = text.len() == 13
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/');
    let is_newer =
        text.len() > 1 && text.starts_with('$') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if (is_des || is_newer) && text.len() <= MAX_HASH {
        return Ok(text.to_owned());
    }
    Err("the password is not a crypt(3) hash: make one with `tcpdirector --passwd`".to_owned())
}

/// The original's `secure`: only what is true of this program is accepted.
pub fn not_secure(text: &str) -> Result<(), String> {
    match text {
        "no" => Ok(()),
        "yes" => {
            Err("this build has no TLS, so `secure` cannot be yes: the admin pages would be plain HTTP all the same".to_owned())
        }
        _ => Err(format!("unknown value `{text}`: secure must be no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_128_characters_of_any_script() {
        let longest = "é".repeat(128);
        for text in ["a", " ", "Größe 🦀", "日本語", "<&\"'>", longest.as_str()] {
            assert_eq!(name(text), Ok(text.to_owned()));
        }
        assert_eq!(name(""), Err("a name must not be empty".to_owned()));
        assert_eq!(
            name(&"é".repeat(129)),
            Err("a name may have 128 characters, this one has 129".to_owned())
        );
    }

    #[test]
    fn a_name_has_no_control_characters() {
        for text in ["a\nb", "\t", "\u{7f}", "\u{85}"] {
            assert_eq!(name(text), Err(format!("the name `{text}` has a control character in it")));
        }
    }

    #[test]
    fn what_cannot_be_saved_is_no_name() {
        for text in ["\u{fffe}", "a\u{ffff}"] {
            assert_eq!(
                name(text),
                Err(format!("the name `{text}` has a character in it that XML cannot hold"))
            );
            assert_eq!(
                file(text),
                Err(format!("the file `{text}` has a character in it that XML cannot hold"))
            );
        }
        assert!(file("a\u{1}").is_err() && password(&format!("$6${}", "x".repeat(381))).is_ok());
        assert!(password(&format!("$6${}", "x".repeat(382))).is_err());
    }

    #[test]
    fn a_host_has_one_place_and_a_real_port() {
        for text in ["127.0.0.1:1", "[::1]:65535", "localhost:80", "*:80"] {
            assert_eq!(host_address(text).unwrap().to_string(), text);
        }
        assert_eq!(host_address(":80").unwrap().to_string(), "*:80");
        for text in ["a:0", "*:0"] {
            assert!(
                host_address(text).is_err_and(|message| message.contains("has port 0")),
                "{text}"
            );
        }
        assert!(host_address("a").is_err_and(|message| message.contains("has no port")));
    }

    #[test]
    fn limits_of_the_pool_are_whole_numbers_in_their_range() {
        for (text, expected) in [
            ("0", None),
            ("1", Some(1)),
            ("002", Some(2)),
            ("1000000", Some(1_000_000)),
            ("1000001", None),
        ] {
            assert_eq!(limit(text).ok().map(usize::from), expected, "{text}");
        }
        for text in ["", "-1", "+8", "8.0", "eight", " 8", "99999999999999999999999"] {
            assert_eq!(
                limit(text),
                Err(format!("`{text}` must be a whole number from 1 to 1000000"))
            );
        }
    }

    #[test]
    fn memory_has_a_unit() {
        for (text, expected) in [
            ("16M", 16 << 20),
            ("1K", 1024),
            ("03G", 3 << 30),
            ("1025K", 1025 << 10),
            ("16G", 16 << 30),
        ] {
            assert_eq!(bytes(text).map(u64::from), Ok(expected), "{text}");
        }
        for text in [
            "",
            "16",
            "M",
            "0M",
            "-1M",
            "+1M",
            "1.5M",
            "16m",
            "16 M",
            "16MB",
            "99999999999G",
            "99999999999999999999G",
        ] {
            assert_eq!(
                bytes(text),
                Err(format!("`{text}` must be a whole number and K, M or G, such as 16M"))
            );
        }
        for text in ["16M", "1K", "3G", "1025K", "1023M"] {
            assert_eq!(format_bytes(bytes(text).unwrap()), text);
        }
    }

    #[test]
    fn a_file_needs_a_name() {
        assert_eq!(file("log/ä.log"), Ok("log/ä.log".to_owned()));
        assert!(file("").is_err());
    }

    #[test]
    fn access_is_full_or_readonly() {
        assert_eq!(access("full"), Ok(Access::Full));
        assert_eq!(access("readonly"), Ok(Access::ReadOnly));
        for text in ["", "Full", "root", "read-only"] {
            assert_eq!(
                access(text),
                Err(format!("unknown access `{text}`: it must be full or readonly"))
            );
        }
    }

    #[test]
    fn a_password_is_a_hash() {
        for text in [
            "rom0wh951j8Sg",
            "./azAZ09./azA",
            "$1$salt$hash",
            "$6$rounds=5000$salt$x/y.z",
            "$y$j9T$salt$hash",
        ] {
            assert_eq!(password(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_password_in_the_clear_is_refused_and_not_shown() {
        for text in [
            "",
            "opensesame",
            "rom0wh951j8S",
            "rom0wh951j8Sgg",
            "rom0wh951j8S!",
            "$",
            "$6$a b",
            "$6$é",
            "six letters é",
        ] {
            let message = password(text).unwrap_err();
            assert!(text.is_empty() || !message.contains(text), "{message}");
        }
    }

    #[test]
    fn secure_is_accepted_only_as_far_as_it_is_true() {
        assert_eq!(not_secure("no"), Ok(()));
        assert!(
            not_secure("yes")
                .is_err_and(|message| message.contains("no TLS") && message.contains("plain"))
        );
        assert_eq!(not_secure("maybe"), Err("unknown value `maybe`: secure must be no".to_owned()));
    }
}
