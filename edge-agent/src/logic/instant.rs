//! Times as people read them.

use protocol::time::UnixSeconds;

const DAY_SECONDS: u64 = 86_400;

/// The first second after the year 9999, behind which RFC 3339 has no words for a time.
const END: u64 = 253_402_300_800;

/// A time in UTC (RFC 3339), or in seconds where that ends.
pub fn instant(at: UnixSeconds) -> String {
    if at.0 >= END {
        return at.to_string();
    }
    let (year, month, day) = date(at.0 / DAY_SECONDS);
    let second = at.0 % DAY_SECONDS;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The day that is so many days after 1970-01-01. A library that knows all calendars and zones takes 40 KB.
fn date(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_in(month, year) {
        days -= days_in(month, year);
        month += 1;
    }
    (year, month, days + 1)
}

fn days_of(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_in(month: u64, year: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn days_are_named_as_in_the_calendar() {
        // All of four centuries, behind which the calendar repeats itself, and some of the rest. Jiff ends a day before
        // the year does, for the sake of zones.
        let repeated = 400 * 366;
        for day in (0..repeated).chain((repeated..END / DAY_SECONDS - 1).step_by(1009)) {
            let second = day * DAY_SECONDS + day * 7919 % DAY_SECONDS;
            let expected = Timestamp::from_second(second.cast_signed()).unwrap().to_string();
            assert_eq!(instant(UnixSeconds(second)), expected);
        }
    }

    #[test]
    fn the_last_time_is_followed_by_a_number() {
        assert_eq!(instant(UnixSeconds(END - 1)), "9999-12-31T23:59:59Z");
        assert_eq!(instant(UnixSeconds(END)), "253402300800");
        assert_eq!(instant(UnixSeconds(u64::MAX)), u64::MAX.to_string());
    }
}
