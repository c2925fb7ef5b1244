//! How often something is done: `daily`, `6h`, `never`.

use std::fmt;

/// The shortest that can be set, in seconds: 10 minutes.
pub const EVERY_S_MIN: u64 = 600;

/// The longest, in seconds: a year.
pub const EVERY_S_MAX: u64 = 366 * 86_400;

/// How often something is done by itself. The shorter one is the smaller one, and `never` the
/// largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Every {
    /// Once in so many seconds.
    Seconds(u64),
    /// Not by itself.
    Never,
}

/// Words and what they stand for: a month has 30 days.
const WORDS: [(&str, Every); 5] = [
    ("hourly", Every::HOURLY),
    ("daily", Every::DAILY),
    ("weekly", Every::WEEKLY),
    ("monthly", Every::MONTHLY),
    ("never", Every::Never),
];

/// Units of a plain duration, the longest first, and their seconds.
const UNITS: [(&str, u64); 4] = [("w", 7 * 86_400), ("d", 86_400), ("h", 3_600), ("m", 60)];

impl Every {
    /// Each hour.
    pub const HOURLY: Self = Self::Seconds(3_600);
    /// Each day.
    pub const DAILY: Self = Self::Seconds(86_400);
    /// Once in 7 days.
    pub const WEEKLY: Self = Self::Seconds(7 * 86_400);
    /// Once in 30 days.
    pub const MONTHLY: Self = Self::Seconds(30 * 86_400);

    /// Once in so many seconds; `None` = never.
    pub fn seconds(self) -> Option<u64> {
        match self {
            Self::Seconds(seconds) => Some(seconds),
            Self::Never => None,
        }
    }

    /// From a word, or a whole number and a unit.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, every)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*every);
        }
        let wrong = || {
            "it is hourly, daily, weekly, monthly or never, or a whole number of m, h, d or w such \
             as 6h"
                .to_owned()
        };
        let of = |(unit, seconds): &(&str, u64)| Some((text.strip_suffix(unit)?, *seconds));
        let (digits, unit_s) = UNITS.iter().find_map(of).ok_or_else(wrong)?;
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
        match seconds {
            Some(seconds) if (EVERY_S_MIN..=EVERY_S_MAX).contains(&seconds) => {
                Ok(Self::Seconds(seconds))
            }
            _ => Err("it is 10 minutes (10m) at least and 366 days at most, or never".to_owned()),
        }
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = WORDS.iter().find(|(_, every)| every == self) {
            return f.write_str(word);
        }
        let Self::Seconds(seconds) = self else { return f.write_str("never") };
        match UNITS.iter().find(|(_, unit_s)| seconds.is_multiple_of(*unit_s)) {
            Some((unit, unit_s)) => write!(f, "{}{unit}", seconds / unit_s),
            None => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_durations_are_read_and_shown_as_they_are_written() {
        for text in ["hourly", "daily", "weekly", "monthly", "never", "10m", "90m", "6h", "3w"] {
            assert_eq!(Every::parse(text).unwrap().to_string(), text);
        }
        for (text, shown) in [("60m", "hourly"), ("24h", "daily"), ("7d", "weekly"), ("48h", "2d")]
        {
            assert_eq!(Every::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for bad in [
            "",
            "h",
            "6",
            "6 h",
            "-6h",
            "+6h",
            "1.5h",
            "9m",
            "367d",
            "0h",
            "yearly",
            "Daily",
            "6s",
            "99999999999999999999w",
            "18446744073709551615w",
        ] {
            assert!(Every::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_shorter_one_comes_first_and_never_last() {
        let mut all = [Every::Never, Every::MONTHLY, Every::HOURLY, Every::Seconds(900)];
        all.sort();
        assert_eq!(all, [Every::Seconds(900), Every::HOURLY, Every::MONTHLY, Every::Never]);
    }
}
