//! Numbers as people read them, for the pages only: scripts get bytes and seconds.

use crate::system::logging::Tenths;

/// `0 B`, `999 B`, `1.2 kB`, `34 MB`: three digits at most, units of thousands.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let count = u128::from(count);
    let (mut scale, mut unit) = (1, 0);
    // what would be shown as 1000 is shown in the next unit
    while (count + scale / 2) / scale >= 1000 && unit + 1 < units.len() {
        scale *= 1000;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let tenths = (count * 10 + scale / 2) / scale;
    match unit == 0 || tenths >= 100 {
        true => format!("{} {name}", (count + scale / 2) / scale),
        false => format!("{} {name}", Tenths(tenths)),
    }
}

/// `0 s`, `40 s`, `12 min`, `3 h 5 min`, `4 d 2 h`.
pub fn age(seconds: u64) -> String {
    let two = |big: u64, unit: &str, small: u64, less: &str| match small {
        0 => format!("{big} {unit}"),
        _ => format!("{big} {unit} {small} {less}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// `1 host`, `2 hosts`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_at_most() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [count(0, "host"), count(1, "host"), count(2, "host")],
            ["0 hosts", "1 host", "2 hosts"]
        );
    }
}
