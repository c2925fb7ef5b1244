//! Retention: which snapshots a policy keeps, and why. Pure; nothing is forgotten here.
//!
//! What the options mean is what they mean in restic. Snapshots are put into groups, of one host
//! and the same paths unless asked otherwise, and the policy is applied to each group by itself. A
//! snapshot is kept where any of the options keeps it:
//!
//! - *last*: the newest ones, so many.
//! - *hourly* to *yearly*: of the newest hours (days, weeks, ..) that have snapshots, so many, the
//!   newest snapshot of each. Hours without any do not count. While the number is not used up, the
//!   oldest snapshot is kept, too.
//! - *within*: all that are younger than a span, from the newest snapshot on, not from now; its
//!   forms *hourly* to *yearly*: of these, the newest of each hour and so on, and the oldest.
//! - *tags*: all that have every tag of one of the lists; an empty tag means to have none.
//!
//! Hours, days and so on are those of the clock of the device that made the snapshot, weeks begin
//! on Mondays. The clock of whoever asks matters only in one way: a snapshot from its future is
//! never the newest one that spans begin at.
//!
//! Whatever would forget all is refused: a policy without options, and one that keeps nothing of a
//! group.

mod options;
#[cfg(test)]
mod tests;

pub use options::{GroupBy, OptionFault, Quota, Span, TagList};

use super::calendar::{Date, WallTime};
use super::manifest::merge;
use super::names::Inert;
use crate::core::types::SnapshotId;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

/// The tag of what was put, besides the user's own.
const PUT_TAG: &str = "put";

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest ones.
    pub last: Quota,
    /// One an hour.
    pub hourly: Quota,
    /// One a day.
    pub daily: Quota,
    /// One a week.
    pub weekly: Quota,
    /// One a month.
    pub monthly: Quota,
    /// One a year.
    pub yearly: Quota,
    /// All of this time.
    pub within: Span,
    /// One an hour of this time.
    pub within_hourly: Span,
    /// One a day of this time.
    pub within_daily: Span,
    /// One a week of this time.
    pub within_weekly: Span,
    /// One a month of this time.
    pub within_monthly: Span,
    /// One a year of this time.
    pub within_yearly: Span,
    /// All with the tags of one of these.
    pub tags: Vec<TagList>,
}

impl Policy {
    /// Whether no option keeps anything.
    pub fn is_empty(&self) -> bool {
        let unused = |(_, quota): &(Period, Quota)| *quota == Quota::None;
        let quotas = self.quotas().iter().all(unused);
        let spans = self.spans().iter().all(|(_, span)| span.is_zero());
        quotas && spans && self.within.is_zero() && self.tags.is_empty()
    }

    fn quotas(&self) -> [(Period, Quota); 6] {
        [
            (Period::Snapshot, self.last),
            (Period::Hour, self.hourly),
            (Period::Day, self.daily),
            (Period::Week, self.weekly),
            (Period::Month, self.monthly),
            (Period::Year, self.yearly),
        ]
    }

    fn spans(&self) -> [(Period, Span); 5] {
        [
            (Period::Hour, self.within_hourly),
            (Period::Day, self.within_daily),
            (Period::Week, self.within_weekly),
            (Period::Month, self.within_monthly),
            (Period::Year, self.within_yearly),
        ]
    }
}

/// A snapshot that may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: SnapshotId,
    /// When it began: nanoseconds since 1970.
    pub created_ns: i64,
    /// What its device's clock showed beside UTC, in minutes.
    pub utc_offset_min: i16,
    /// The device's name.
    pub host: String,
    /// What was backed up.
    pub roots: Vec<Vec<u8>>,
    /// There are more roots than stand here: [`retain`] does not group it by paths.
    pub roots_cut: bool,
    /// The user's labels; `put` among them where it was put.
    pub tags: Vec<String>,
}

impl Candidate {
    /// A live snapshot. Where its roots are cut, whoever asks has to read the snapshot for them.
    pub fn of(live: &merge::Live) -> Self {
        let added = &live.added;
        let put = added.put.then(|| PUT_TAG.to_owned());
        Self {
            id: added.id,
            created_ns: added.created_ns,
            utc_offset_min: added.utc_offset_min,
            host: added.host.clone(),
            roots: added.roots.clone(),
            roots_cut: added.roots_cut,
            tags: put.into_iter().chain(added.tags.iter().cloned()).collect(),
        }
    }

    fn wall_time(&self) -> WallTime {
        WallTime::of(self.created_ns, self.utc_offset_min)
    }
}

/// What the snapshots of a group have in common; `None` where they need not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The device's name.
    pub host: Option<String>,
    /// What was backed up, ascending.
    pub roots: Option<Vec<Vec<u8>>>,
    /// The labels, ascending.
    pub tags: Option<Vec<String>>,
}

impl fmt::Display for GroupKey {
    /// `host attic, paths /data /home`; inert on a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.host.as_ref().map(|host| format!("host {}", Inert(host.as_bytes()))));
        let listed = |what: &str, names: Vec<String>| format!("{what} {}", names.join(" "));
        let shown = |name: &[u8]| Inert(name).to_string();
        parts.extend(
            self.roots
                .as_ref()
                .map(|roots| listed("paths", roots.iter().map(|root| shown(root)).collect())),
        );
        parts.extend(
            self.tags
                .as_ref()
                .map(|tags| listed("tags", tags.iter().map(|tag| shown(tag.as_bytes())).collect())),
        );
        if parts.is_empty() { f.write_str("all") } else { f.write_str(&parts.join(", ")) }
    }
}

/// What becomes of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which.
    pub key: GroupKey,
    /// Newest first.
    pub kept: Vec<Kept>,
    /// What nothing keeps, newest first.
    pub forgotten: Vec<SnapshotId>,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub id: SnapshotId,
    /// At least one.
    pub reasons: Vec<Reason>,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It has all of these.
    Tags(TagList),
    /// It is younger than this.
    Within(Span),
    /// It is the newest of its period, and the period is among the newest.
    Newest(Period),
    /// It is the oldest of all, and the number of periods was not used up.
    Oldest(Period),
    /// It is younger than this, and the newest of its period or the oldest of all.
    WithinPeriod(Period, Span),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(tags) => write!(f, "has tags {tags}"),
            Self::Within(span) => write!(f, "within {span}"),
            Self::Newest(period) => write!(f, "{period} snapshot"),
            Self::Oldest(period) => write!(f, "oldest {period} snapshot"),
            Self::WithinPeriod(period, span) => write!(f, "{period} within {span}"),
        }
    }
}

/// Of what one snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Each snapshot is one of its own.
    Snapshot,
    /// A full hour on the clock.
    Hour,
    /// Midnight to midnight.
    Day,
    /// Monday to Sunday.
    Week,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

impl Period {
    /// Another number for each period.
    fn number(self, place: usize, at: &WallTime) -> i64 {
        let Date { year, month, .. } = at.date();
        match self {
            Self::Snapshot => i64::try_from(place).unwrap_or(i64::MAX),
            Self::Hour => at.hours(),
            Self::Day => at.day,
            Self::Week => at.weeks(),
            Self::Month => year * 12 + month,
            Self::Year => year,
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        })
    }
}

/// Why nothing may be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetainFault {
    /// The policy has no option that keeps anything.
    #[error("the policy keeps nothing")]
    Empty,
    /// All of a group would go.
    #[error("the policy keeps nothing of {0}")]
    Group(GroupKey),
    /// It is not known whose paths these are.
    #[error("not all paths of snapshot {0} are known")]
    RootsCut(SnapshotId),
}

/// Applies a policy to snapshots. `now_ns`, nanoseconds since 1970, tells which ones are from the
/// future. Groups come in the order of what they have in common.
///
/// # Errors
/// [`RetainFault`]; then nothing may be forgotten.
pub fn retain(
    candidates: &[Candidate],
    policy: &Policy,
    by: GroupBy,
    now_ns: i64,
) -> Result<Vec<Group>, RetainFault> {
    if policy.is_empty() {
        return Err(RetainFault::Empty);
    }
    let mut groups: BTreeMap<GroupKey, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        if by.paths && candidate.roots_cut {
            return Err(RetainFault::RootsCut(candidate.id));
        }
        groups.entry(key_of(candidate, by)).or_default().push(candidate);
    }
    let group = |(key, members)| {
        let group = apply(key, members, policy, now_ns);
        if group.kept.is_empty() { Err(RetainFault::Group(group.key)) } else { Ok(group) }
    };
    groups.into_iter().map(group).collect()
}

fn key_of(candidate: &Candidate, by: GroupBy) -> GroupKey {
    let sorted = |mut tags: Vec<String>| {
        tags.sort_unstable();
        tags
    };
    let mut roots = candidate.roots.clone();
    roots.sort_unstable();
    GroupKey {
        host: by.host.then(|| candidate.host.clone()),
        roots: by.paths.then_some(roots),
        tags: by.tags.then(|| sorted(candidate.tags.clone())),
    }
}

/// Goes through a group from its newest snapshot to its oldest.
fn apply(key: GroupKey, mut members: Vec<&Candidate>, policy: &Policy, now_ns: i64) -> Group {
    members.sort_by_key(|member| (Reverse(member.created_ns), member.id));
    let newest = members.iter().find(|member| member.created_ns < now_ns).copied();
    let begins = |span: Span| newest.and_then(|newest| span.before(newest.wall_time()));
    let within_begins = begins(policy.within);
    let mut counted = policy.quotas().map(|(period, quota)| Counted { period, quota, last: None });
    let mut spanned = policy.spans().map(|(period, span)| {
        let counted = Counted { period, quota: Quota::All, last: None };
        (counted, span, begins(span))
    });
    let oldest = members.len().saturating_sub(1);
    let mut group = Group { key, kept: Vec::new(), forgotten: Vec::new() };
    for (place, member) in members.iter().enumerate() {
        let at = member.wall_time();
        // On the clock that the span was taken off, which may be another one's.
        let offset = newest.map_or(0, |newest| newest.utc_offset_min);
        let there = WallTime::of(member.created_ns, offset);
        // Where all are from the future, none is too old.
        let is_within = |begins: &Option<WallTime>| begins.is_none_or(|begins| there > begins);
        let with = policy.tags.iter().filter(|tags| tags.are_all_in(&member.tags));
        let mut reasons: Vec<Reason> = with.map(|tags| Reason::Tags(tags.clone())).collect();
        if !policy.within.is_zero() && is_within(&within_begins) {
            reasons.push(Reason::Within(policy.within));
        }
        for counted in &mut counted {
            reasons.extend(counted.take(place, &at, place == oldest));
        }
        for (counted, span, begins) in &mut spanned {
            if !span.is_zero() && is_within(begins) {
                let reason = counted.take(place, &at, place == oldest);
                reasons.extend(reason.map(|_| Reason::WithinPeriod(counted.period, *span)));
            }
        }
        if reasons.is_empty() {
            group.forgotten.push(member.id);
        } else {
            group.kept.push(Kept { id: member.id, reasons });
        }
    }
    group
}

/// How many of a period are still to be kept.
struct Counted {
    period: Period,
    quota: Quota,
    /// The period of the snapshot that was kept last.
    last: Option<i64>,
}

impl Counted {
    /// Whether the next older snapshot is kept.
    fn take(&mut self, place: usize, at: &WallTime, is_oldest: bool) -> Option<Reason> {
        let number = Some(self.period.number(place, at));
        let is_new = self.last != number;
        if self.quota == Quota::None || !(is_new || is_oldest) {
            return None;
        }
        self.quota = self.quota.less_one();
        self.last = number;
        let of = if is_new { Reason::Newest } else { Reason::Oldest };
        Some(of(self.period))
    }
}
