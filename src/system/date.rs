//! Moments as the clock on the wall shows them: for log lines, for syslog, for the pages. What hour
//! it is where is the C library's business: it goes by `TZ` or /etc/localtime.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::raw;

/// After so many years the days of the calendar fall on the same days of the week, up to the year
/// 2099.
const CYCLE_YEARS: i64 = 28;
const CYCLE: i64 = (CYCLE_YEARS * 365 + CYCLE_YEARS / 4) * 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: i64,
    /// From 0 to 11.
    month: usize,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
    /// Minutes east of Greenwich.
    offset: libc::c_long,
}

impl Date {
    /// The date of a moment. One before 1970 counts as the beginning of that year.
    pub fn of(time: SystemTime) -> Date {
        Date::of_seconds(since_1970(time).as_secs())
    }

    fn of_seconds(seconds: u64) -> Date {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // a C library that counts seconds in 32 bits knows the rules of earlier years, and they are
        // those of later ones
        let cycles = (0..4)
            .find(|cycles| raw::Seconds::try_from(seconds - cycles * CYCLE).is_ok())
            .unwrap_or(0);
        let known = raw::Seconds::try_from(seconds - cycles * CYCLE).unwrap_or(0);
        let Some(time) = raw::local_time(known) else { return Date::GREENWICH };
        Date {
            year: i64::from(time.tm_year) + 1900 + cycles * CYCLE_YEARS,
            month: usize::try_from(time.tm_mon).unwrap_or(0),
            day: time.tm_mday,
            hour: time.tm_hour,
            minute: time.tm_min,
            second: time.tm_sec,
            offset: time.tm_gmtoff / 60,
        }
    }

    /// When time begins; stands for a year that the C library cannot tell, two thousand million
    /// years from now.
    const GREENWICH: Date =
        Date { year: 1970, month: 0, day: 1, hour: 0, minute: 0, second: 0, offset: 0 };

    /// As RFC 3164 (syslog) has it.
    pub fn for_syslog(self) -> String {
        let Date { month, day, hour, minute, second, .. } = self;
        format!("{} {day:2} {hour:02}:{minute:02}:{second:02}", MONTHS.get(month).unwrap_or(&"Jan"))
    }

    /// What stands before a fraction of the second.
    fn head(self) -> String {
        let Date { year, month, day, hour, minute, second, .. } = self;
        format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", month + 1)
    }

    /// What stands after it.
    fn zone(self) -> String {
        let (sign, offset) = if self.offset < 0 { ('-', -self.offset) } else { ('+', self.offset) };
        format!("{sign}{:02}:{:02}", offset / 60, offset % 60)
    }
}

/// As RFC 3339 has it, with the zone.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        f.write_str(&self.zone())
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time again and again, and works each second out once.
#[derive(Default)]
pub struct Clock(Mutex<Arc<Second>>);

#[derive(Default)]
struct Second {
    /// Since 1970; `None` before the first one.
    number: Option<u64>,
    head: String,
    zone: String,
}

/// A moment of a [`Clock`]; shown as RFC 3339 has it, with milliseconds and the zone.
pub struct Moment {
    second: Arc<Second>,
    millis: u32,
}

impl Clock {
    /// What time it is now.
    pub fn now(&self) -> Moment {
        self.at(SystemTime::now())
    }

    fn at(&self, time: SystemTime) -> Moment {
        let since = since_1970(time);
        let (number, millis) = (Some(since.as_secs()), since.subsec_millis());
        let last = self.0.lock().clone();
        if last.number == number {
            return Moment { second: last, millis };
        }
        let date = Date::of_seconds(since.as_secs());
        let second = Arc::new(Second { number, head: date.head(), zone: date.zone() });
        *self.0.lock() = second.clone();
        Moment { second, millis }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}{}", self.second.head, self.millis, self.second.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64, millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + millis)
    }

    #[test]
    fn dates_are_those_of_another_library_winter_and_summer() {
        // every fifty days for two hundred years: every month, and leap years
        for seconds in (0..200 * 366 * 86_400).step_by(50 * 86_400 + 3_607) {
            let other = chrono::DateTime::<chrono::Local>::from(time(seconds, 0));
            let date = Date::of(time(seconds, 0));
            // it has its own idea of the years after 2037
            if seconds < 1 << 31 {
                assert_eq!(date.to_string(), other.to_rfc3339());
                assert_eq!(date.for_syslog(), other.format("%b %e %H:%M:%S").to_string());
            }
        }
    }

    #[test]
    fn a_cycle_of_years_changes_nothing_but_the_year() {
        for seconds in (1_700_000_000..1_900_000_000).step_by(9_999_991) {
            let (now, then) =
                (Date::of_seconds(seconds), Date::of_seconds(seconds + 2 * CYCLE as u64));
            assert_eq!(
                then.head().split_once('-').unwrap().1,
                now.head().split_once('-').unwrap().1
            );
            assert_eq!(then.year, now.year + 2 * CYCLE_YEARS);
        }
    }

    #[test]
    fn a_clock_tells_each_moment_by_its_own_second() {
        let clock = Clock::default();
        let told = [(0, 1), (5, 7), (5, 999), (6, 0), (5, 1)]
            .map(|(seconds, millis)| clock.at(time(seconds, millis)).to_string());
        let expected = [(0, "001"), (5, "007"), (5, "999"), (6, "000"), (5, "001")];
        for (told, (seconds, millis)) in told.iter().zip(expected) {
            let date = Date::of(time(seconds, 0));
            assert_eq!(*told, format!("{}.{millis}{}", date.head(), date.zone()));
        }
    }

    #[test]
    fn zones_on_both_sides_of_greenwich() {
        let zones = [0, 345, -210].map(|offset| Date { offset, ..Date::GREENWICH }.to_string());
        assert_eq!(
            zones,
            ["1970-01-01T00:00:00+00:00", "1970-01-01T00:00:00+05:45", "1970-01-01T00:00:00-03:30"]
        );
    }
}
