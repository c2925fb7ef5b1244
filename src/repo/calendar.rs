//! Days, years and times of day: the proleptic Gregorian calendar. Pure.
//!
//! A clock's time is nanoseconds since 1970 and what it showed beside UTC, in minutes. Every pair
//! of these has its place in the calendar.

use std::fmt;

const NS_PER_S: i64 = 1_000_000_000;
const S_PER_DAY: i64 = 86_400;

/// Days between 1 March of the year 0 and 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

/// Days of 400 years.
const DAYS_PER_ERA: i64 = 146_097;

/// What a clock on a wall shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime {
    /// Days since 1 January 1970.
    pub day: i64,
    /// Seconds since midnight.
    pub second: i64,
    /// Nanoseconds of the second.
    pub nanos: i64,
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Negative before the year 0.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

impl WallTime {
    /// What a clock that is `offset_min` minutes ahead of UTC shows at a time since 1970.
    pub fn of(ns: i64, offset_min: i16) -> Self {
        let seconds = ns.div_euclid(NS_PER_S) + i64::from(offset_min) * 60;
        let (day, second) = (seconds.div_euclid(S_PER_DAY), seconds.rem_euclid(S_PER_DAY));
        Self { day, second, nanos: ns.rem_euclid(NS_PER_S) }
    }

    /// The day's date.
    pub fn date(&self) -> Date {
        Date::of_day(self.day)
    }

    /// Hours since 1970: another number for each full hour on the clock.
    pub fn hours(&self) -> i64 {
        self.day * 24 + self.second / 3_600
    }

    /// Weeks since the one with 1 January 1970 in it. They begin on Mondays, as in ISO 8601: every
    /// one of these numbers is one of its weeks.
    pub fn weeks(&self) -> i64 {
        // 1970 began on a Thursday.
        (self.day + 3).div_euclid(7)
    }
}

impl fmt::Display for WallTime {
    /// `2026-11-21 15:04:05`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.date();
        let (minutes, second) = (self.second / 60, self.second % 60);
        let (hour, minute) = (minutes / 60, minutes % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl Date {
    /// The date of a day, counted from 1 January 1970.
    pub fn of_day(day: i64) -> Self {
        // Years begin with March here, so that a leap day is the last day of one.
        let day = day + DAYS_TO_1970;
        let (era, day) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        Self { year: year + 400 * era + next, month, day }
    }

    /// The day, counted from 1 January 1970. A month or a day that the year or the month does not
    /// have runs over into the next, or back into the one before: 31 February is 2 or 3 March.
    pub fn to_day(self) -> i64 {
        let months = self.year * 12 + self.month - 1;
        // March is 0; January and February are of the year before.
        let (year, month) = ((months - 2).div_euclid(12), (months - 2).rem_euclid(12));
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let days = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5;
        era * DAYS_PER_ERA + days + self.day - 1 - DAYS_TO_1970
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, offset, text) in [
            (0, 0, "1970-01-01 00:00:00"),
            (-1, 0, "1969-12-31 23:59:59"),
            (951_782_400, 0, "2000-02-29 00:00:00"),
            (951_868_800, 0, "2000-03-01 00:00:00"),
            (4_107_542_399, 0, "2100-02-28 23:59:59"),
            (4_107_542_400, 0, "2100-03-01 00:00:00"),
            (1_795_273_445, 120, "2026-11-21 17:04:05"),
            (1_795_273_445, -930, "2026-11-20 23:34:05"),
        ] {
            assert_eq!(WallTime::of(seconds * NS_PER_S, offset).to_string(), text);
        }
        for (ns, offset) in [(i64::MIN, i16::MIN), (i64::MAX, i16::MAX)] {
            assert!(!WallTime::of(ns, offset).to_string().is_empty());
        }
    }

    #[test]
    fn what_a_month_does_not_have_runs_over() {
        let shown = |year, month, day| {
            let Date { year, month, day } = Date::of_day(Date { year, month, day }.to_day());
            format!("{year}-{month}-{day}")
        };
        assert_eq!(shown(2023, 2, 31), "2023-3-3");
        assert_eq!(shown(2024, 2, 31), "2024-3-2");
        assert_eq!(shown(2024, 13, 1), "2025-1-1");
        assert_eq!(shown(2024, 0, 1), "2023-12-1");
        assert_eq!(shown(2024, -12, 1), "2022-12-1");
        assert_eq!(shown(2024, 3, 0), "2024-2-29");
        assert_eq!(shown(2024, 1, -364), "2023-1-1");
    }

    #[test]
    fn weeks_begin_on_mondays() {
        let week = |year, month, day| {
            let day = Date { year, month, day }.to_day();
            WallTime { day, second: 0, nanos: 0 }.weeks()
        };
        // 28 December 2026 is the Monday of week 53, which ends in the next year.
        assert_eq!(week(2026, 12, 28), week(2027, 1, 3));
        assert_ne!(week(2026, 12, 27), week(2026, 12, 28));
        assert_eq!(week(2027, 1, 4), week(2027, 1, 3) + 1);
        assert_eq!(week(1970, 1, 1), 0);
        assert_eq!(week(1969, 12, 28), -1);
    }

    proptest! {
        #[test]
        fn every_day_has_one_date(day in -4_000_000_i64..4_000_000) {
            let date = Date::of_day(day);
            prop_assert_eq!(date.to_day(), day);
            prop_assert!((1..=12).contains(&date.month) && (1..=31).contains(&date.day));
            prop_assert!(Date::of_day(day + 1) > date);
        }
    }
}
