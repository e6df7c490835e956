//! Durations as a configuration writes them: `250ms`, `5s`, `10m`, `1h`.
//!
//! Called by `read` for every time in a file, and by whoever shows a duration to somebody. A unit
//! is always written, so that nobody has to guess; `checktime` alone also takes the bare seconds of
//! the original's files.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const YEAR: Duration = Duration::from_secs(8760 * 3600);
/// Any duration but for a few.
const ANY: RangeInclusive<Duration> = Duration::from_millis(1)..=YEAR;
/// Linux counts the waits of keepalive in seconds, up to 32767; the first one is half of all.
const DEAD: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(18 * 3600);

/// Reads a duration from 1ms to 8760h; the error says what is wrong and how it should look.
pub fn parse(text: &str) -> Result<Duration, String> {
    within(text, with_unit(text)?, ANY)
}

/// Reads the `half` of a `<timeout>`: a duration, or `0` for no limit of its own.
pub fn parse_half(text: &str) -> Result<Option<Duration>, String> {
    unless_off(text, ANY)
}

/// Reads the `dead` of a `<timeout>`, from 1s to 18h, rounded up to whole seconds, or `0` for no
/// limit.
pub fn parse_dead(text: &str) -> Result<Option<Duration>, String> {
    let limit = unless_off(text, DEAD)?;
    let seconds = |limit: Duration| limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    Ok(limit.map(|limit| Duration::from_secs(seconds(limit))))
}

/// Reads the time of a `checktime`, from 1s to 8760h: whole seconds without a unit, or a duration.
pub fn parse_checktime(text: &str) -> Result<Duration, String> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let read = if is_number(unsigned) {
        Some(Duration::from_secs(count(unsigned)))
    } else {
        number_and_unit(unsigned)
    };
    let read = read.ok_or_else(|| {
        format!(
            "`{text}` is not a time: write whole seconds, as in `120`, or a duration, as in `2m`"
        )
    })?;
    within(
        text,
        if unsigned == text { read } else { Duration::ZERO },
        Duration::from_secs(1)..=YEAR,
    )
}

/// Writes a duration in the largest unit that is exact: what [`parse`] reads, as long as it holds
/// whole milliseconds.
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    let exact = |(_, length): &&(&str, u64)| millis > 0 && millis % u128::from(*length) == 0;
    let (unit, length) = UNITS.iter().find(exact).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / u128::from(*length))
}

/// Writes a limit as [`parse_half`] and [`parse_dead`] read it.
pub fn format_limit(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "0".to_owned(), format)
}

fn unless_off(text: &str, range: RangeInclusive<Duration>) -> Result<Option<Duration>, String> {
    if text == "0" {
        return Ok(None);
    }
    within(text, with_unit(text)?, range).map(Some).map_err(|why| format!("{why}, or 0"))
}

fn with_unit(text: &str) -> Result<Duration, String> {
    if is_number(text) {
        return Err(format!(
            "`{text}` has no unit: write ms, s, m or h behind the number, as in `5s`"
        ));
    }
    number_and_unit(text).ok_or_else(|| {
        format!("`{text}` is not a duration: write a whole number and ms, s, m or h, as in `5s`")
    })
}

fn number_and_unit(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
    is_number(number).then(|| Duration::from_millis(count(number).saturating_mul(*length)))
}

/// A number that does not fit is out of every range anyway.
fn count(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn within(
    text: &str,
    duration: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    if range.contains(&duration) {
        return Ok(duration);
    }
    Err(format!(
        "`{text}` is out of range: it must be from {} to {}",
        format(*range.start()),
        format(*range.end())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis) in [
            ("1ms", 1),
            ("250ms", 250),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("007s", 7_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("8760h"), Ok(YEAR));
    }

    #[test]
    fn a_missing_unit_is_named_and_an_example_is_given() {
        assert_eq!(
            parse("30"),
            Err("`30` has no unit: write ms, s, m or h behind the number, as in `5s`".to_owned())
        );
    }

    #[test]
    fn anything_else_is_not_a_duration() {
        for text in [
            "", "s", "-5s", "+5s", "1.5s", "5 s", " 5s", "5s ", "5S", "5sec", "5d", "1h30m", "٥s",
            "5µs", "0x5s",
        ] {
            let message = format!(
                "`{text}` is not a duration: write a whole number and ms, s, m or h, as in `5s`"
            );
            assert_eq!(parse(text), Err(message));
        }
    }

    #[test]
    fn a_duration_is_from_a_millisecond_to_a_year() {
        for text in
            ["0ms", "0h", "8761h", "31536001s", "18446744073709551616ms", "18446744073709551615h"]
        {
            assert_eq!(
                parse(text),
                Err(format!("`{text}` is out of range: it must be from 1ms to 8760h"))
            );
        }
    }

    #[test]
    fn a_limit_may_be_off_in_one_way() {
        for parse in [parse_half, parse_dead] {
            assert_eq!(parse("0"), Ok(None));
            assert_eq!(parse("2m"), Ok(Some(Duration::from_secs(120))));
            for text in ["00", "1", "30"] {
                assert!(
                    parse(text).is_err_and(|message| message.contains("has no unit")),
                    "{text}"
                );
            }
            for text in ["", "-1", "-1s", "off", "no", "1.5s"] {
                assert!(
                    parse(text).is_err_and(|message| message.contains("is not a duration")),
                    "{text}"
                );
            }
        }
        assert_eq!(parse_half("1ms"), Ok(Some(Duration::from_millis(1))));
        for text in ["0s", "8761h"] {
            let message = format!("`{text}` is out of range: it must be from 1ms to 8760h, or 0");
            assert_eq!(parse_half(text), Err(message));
        }
    }

    #[test]
    fn the_dead_are_found_in_whole_seconds_up_to_what_the_kernel_can_count() {
        for (text, seconds) in
            [("1s", 1), ("1000ms", 1), ("1001ms", 2), ("1999ms", 2), ("2m", 120), ("18h", 64_800)]
        {
            assert_eq!(parse_dead(text), Ok(Some(Duration::from_secs(seconds))), "{text}");
        }
        for text in
            ["0ms", "0h", "500ms", "999ms", "64801s", "64800001ms", "19h", "18446744073709551615h"]
        {
            let message = format!("`{text}` is out of range: it must be from 1s to 18h, or 0");
            assert_eq!(parse_dead(text), Err(message));
        }
    }

    #[test]
    fn a_checktime_may_be_bare_seconds() {
        for (text, seconds) in [
            ("120", 120),
            ("1", 1),
            ("2m", 120),
            ("1000ms", 1),
            ("31536000", 31_536_000),
            ("8760h", 31_536_000),
        ] {
            assert_eq!(parse_checktime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn a_checktime_is_from_a_second_to_a_year() {
        for text in ["0", "-5", "-2m", "0s", "999ms", "31536001", "8761h", "99999999999999999999"] {
            assert_eq!(
                parse_checktime(text),
                Err(format!("`{text}` is out of range: it must be from 1s to 8760h"))
            );
        }
        for text in ["", "-", "--5", "soon", "1.5", "2 m"] {
            assert!(
                parse_checktime(text)
                    .is_err_and(|message| message.starts_with(&format!("`{text}` is not a time"))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_is_written_in_its_largest_exact_unit() {
        for (millis, text) in [
            (1, "1ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (60_000, "1m"),
            (86_400_000, "24h"),
            (0, "0ms"),
        ] {
            assert_eq!(format(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in (1..5_000).chain((0..200).map(|n| n * 30_000 + 1_000)) {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)), Ok(duration));
            assert_eq!(parse_half(&format_limit(Some(duration))), Ok(Some(duration)));
        }
        assert_eq!(parse_half(&format_limit(None)), Ok(None));
    }
}
