//! The options of a policy, as the user writes them.

use crate::repo::calendar::{Date, WallTime};
use crate::repo::names::Inert;
use std::fmt;

/// Why an option cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OptionFault {
    /// Not a number that snapshots can be counted with.
    #[error("write a number, or unlimited")]
    Quota,
    /// Not a span of time.
    #[error("write a span like 1y6m7d12h: years, months, days, hours, each once")]
    Span,
    /// Not what snapshots are grouped by.
    #[error("write some of host, paths and tags, with commas between them")]
    GroupBy,
}

/// How many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quota {
    /// None: the option is not used.
    #[default]
    None,
    /// At most so many, at least one.
    Some(std::num::NonZeroU32),
    /// However many there are.
    All,
}

impl Quota {
    /// So many; none at all where that is 0.
    pub fn of(count: u32) -> Self {
        std::num::NonZeroU32::new(count).map_or(Self::None, Self::Some)
    }

    /// A number, or `unlimited`, for which `-1` may stand.
    ///
    /// # Errors
    /// [`OptionFault::Quota`].
    pub fn parse(text: &str) -> Result<Self, OptionFault> {
        match text {
            "unlimited" | "-1" => Ok(Self::All),
            _ => number(text).map(Self::of).ok_or(OptionFault::Quota),
        }
    }

    pub(super) fn less_one(self) -> Self {
        match self {
            Self::Some(count) => Self::of(count.get() - 1),
            other => other,
        }
    }
}

/// Some time, by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Span {
    /// Reads `1y6m7d12h`: any of these, in any order, each once.
    ///
    /// # Errors
    /// [`OptionFault::Span`].
    pub fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut fields = [None; 4];
        let mut rest = text;
        while !rest.is_empty() {
            let unit = rest.find(|c: char| !c.is_ascii_digit()).ok_or(OptionFault::Span)?;
            let (digits, behind) = rest.split_at_checked(unit).ok_or(OptionFault::Span)?;
            let unit = behind.chars().next().ok_or(OptionFault::Span)?;
            let place = "ymdh".find(unit).ok_or(OptionFault::Span)?;
            let field = fields.get_mut(place).filter(|field| field.is_none());
            let field = field.ok_or(OptionFault::Span)?;
            *field = Some(number(digits).ok_or(OptionFault::Span)?);
            rest = behind.strip_prefix(unit).ok_or(OptionFault::Span)?;
        }
        if fields == [None; 4] {
            return Err(OptionFault::Span);
        }
        let [years, months, days, hours] = fields.map(Option::unwrap_or_default);
        Ok(Self { years, months, days, hours })
    }

    /// Whether it is no time at all: the option is not used.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The time that lies so far before: years and months by their names, days and hours by their
    /// number. A day that its month does not have runs over, as restic has it: a month before 31
    /// March is 3 March, or 2. `None` where the span is none.
    pub(super) fn before(&self, newest: WallTime) -> Option<WallTime> {
        if self.is_zero() {
            return None;
        }
        let Self { years, months, days, hours } = self;
        let Date { year, month, day } = newest.date();
        let (year, month) = (year - i64::from(*years), month - i64::from(*months));
        let day = Date { year, month, day: day - i64::from(*days) }.to_day();
        let second = newest.second - i64::from(*hours) * 3_600;
        let (day, second) = (day + second.div_euclid(86_400), second.rem_euclid(86_400));
        Some(WallTime { day, second, nanos: newest.nanos })
    }
}

impl fmt::Display for Span {
    /// As [`Span::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { years, months, days, hours } = *self;
        let fields = [(years, 'y'), (months, 'm'), (days, 'd'), (hours, 'h')];
        let mut used = fields.iter().filter(|(count, _)| *count > 0);
        used.try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

/// Tags that a snapshot must have, all of them. An empty one means that it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagList(pub Vec<String>);

impl TagList {
    /// Tags with commas between them.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(str::to_owned).collect())
    }

    pub(super) fn are_all_in(&self, tags: &[String]) -> bool {
        let holds = |wanted: &String| match wanted.as_str() {
            "" => tags.is_empty(),
            _ => tags.contains(wanted),
        };
        self.0.iter().all(holds)
    }
}

impl fmt::Display for TagList {
    /// `[a, b]`; inert on a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<String> =
            self.0.iter().map(|tag| Inert(tag.as_bytes()).to_string()).collect();
        write!(f, "[{}]", tags.join(", "))
    }
}

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The device's name.
    pub host: bool,
    /// What was backed up.
    pub paths: bool,
    /// The labels.
    pub tags: bool,
}

impl Default for GroupBy {
    /// Host and paths.
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

impl GroupBy {
    /// `host`, `paths` and `tags` with commas between them; nothing is one group of all.
    ///
    /// # Errors
    /// [`OptionFault::GroupBy`].
    pub fn parse(text: &str) -> Result<Self, OptionFault> {
        let mut by = Self { host: false, paths: false, tags: false };
        for name in text.split(',').filter(|name| !name.is_empty()) {
            match name {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                _ => return Err(OptionFault::GroupBy),
            }
        }
        Ok(by)
    }
}

/// Digits alone, as many as fit.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
