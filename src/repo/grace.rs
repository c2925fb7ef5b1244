//! Which replicas count while nobody asked for healing: a holder that is away for an evening is no
//! reason to send its chunks to others. Pure.
//!
//! | what is known of a holder | its replicas count |
//! |---|---|
//! | it lied | not |
//! | it is silent, and the only one of a chunk's holders that is | for `ONE` |
//! | it is silent, and another one of the chunk's holders is, too | for `TWO` |
//! | it fell silent within the same hour as many others | for `ONE` in any case |
//! | anything else | always |
//!
//! What an audit proved to be gone is no replica in any case, and waits for nothing. Silent means
//! suspect at least ([`standing`]), for what it does not answer or what it withholds. Many are
//! three or more, and almost a third of all holders: then it is more likely this machine's line
//! that was down.
//!
//! A grace is over when both are: its time by the clock, and its days of the calendar on which the
//! holder was asked in vain. A clock that jumps ahead ends the first and adds one day at most.

use super::near::Near;
use crate::core::types::NodeId;
use crate::repo::standing::{AuditRecord, Standing, standing};
use std::collections::{BTreeMap, BTreeSet};

/// How long the only silent holder of a chunk counts: 7 days, in seconds.
pub const ONE_S: u64 = 7 * DAY_S;

/// How long two silent ones do: a day, in seconds.
pub const TWO_S: u64 = DAY_S;

/// How long a silent holder counts.
#[derive(Debug, Clone, Copy)]
struct Grace {
    /// Seconds since it fell silent.
    silent_s: u64,
    /// Days of the calendar on which it was asked in vain.
    days: u32,
}

/// How long the only silent holder of a chunk counts: 7 days.
const ONE: Grace = Grace { silent_s: ONE_S, days: 7 };

/// How long two silent ones do: a day, which is two of the calendar's.
const TWO: Grace = Grace { silent_s: TWO_S, days: 2 };

/// Whoever falls silent within such a time fell silent together: an hour, in seconds.
const TOGETHER_S: u64 = 3_600;

/// So many are many, and at least [`MANY_PERCENT`] of all.
const MANY: usize = 3;
const MANY_PERCENT: usize = 30;

const DAY_S: u64 = 24 * 3_600;

/// Whose replicas do not count.
#[derive(Debug, Default)]
pub struct Uncounted {
    /// Not at all.
    never: BTreeSet<NodeId>,
    /// Who is silent.
    silent: BTreeMap<NodeId, Silent>,
}

/// A holder's silence.
#[derive(Debug, Clone, Copy)]
struct Silent {
    /// Seconds.
    for_s: u64,
    /// Days of the calendar on which it was asked in vain.
    days: u32,
    /// Many fell silent with it.
    is_together: bool,
}

impl Silent {
    fn is_beyond(self, grace: Grace) -> bool {
        self.for_s >= grace.silent_s && self.days >= grace.days
    }
}

impl Uncounted {
    /// These, whatever the reason.
    pub fn these(never: BTreeSet<NodeId>) -> Self {
        Self { never, silent: BTreeMap::new() }
    }

    /// What audits of the owner's `holders` say at `now_s`, seconds since 1970.
    pub fn with_grace<'a>(
        records: impl Iterator<Item = (&'a NodeId, &'a AuditRecord)>,
        holders: usize,
        now_s: u64,
    ) -> Self {
        let (mut never, mut since) = (BTreeSet::new(), BTreeMap::new());
        for (node, record) in records {
            match (standing(record, now_s), record.worst_silence(now_s)) {
                (Standing::Liar, _) => drop(never.insert(*node)),
                (Standing::Suspect | Standing::Lost, Some(silence)) => {
                    since.insert(*node, silence);
                }
                _ => {}
            }
        }
        let many = MANY.max((holders * MANY_PERCENT).div_ceil(100));
        let together = |at_s: u64| {
            since.values().filter(|other| other.since_s.abs_diff(at_s) <= TOGETHER_S).count()
        };
        let silent = since.iter().map(|(node, silence)| {
            let is_together = together(silence.since_s) >= many;
            let for_s = now_s.saturating_sub(silence.since_s);
            (*node, Silent { for_s, days: silence.days, is_together })
        });
        Self { never, silent: silent.collect() }
    }

    /// Whether anybody's silence lasts long enough to count.
    pub fn matters(&self) -> bool {
        self.silent.values().any(|silent| silent.is_beyond(TWO))
    }

    /// All of whom anything is wrong: they are not asked to hold more, whether their replicas count
    /// still or not. Whoever does not answer audits may well answer a store request.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.never.iter().chain(self.silent.keys()).copied().collect()
    }

    /// Those of a chunk's `holders` that count, one in each failure domain: several that are silent
    /// in one house are one.
    pub fn counted(&self, near: &Near, holders: &[NodeId]) -> Vec<NodeId> {
        let silent = holders.iter().filter(|node| self.silent.contains_key(node)).copied();
        let silent = near.apart(silent).len();
        let counts = move |node: &NodeId| {
            let grace = |it: &Silent| if silent >= 2 && !it.is_together { TWO } else { ONE };
            let is_over = self.silent.get(node).is_some_and(|it| it.is_beyond(grace(it)));
            !self.never.contains(node) && !is_over
        };
        near.apart(holders.iter().copied().filter(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::AuditOutcome;
    use crate::repo::standing::{HolderAudited, Silence};

    const NOW_S: u64 = 1_800_000_000;

    impl Uncounted {
        /// How many count where all stand apart.
        fn count(&self, holders: &[NodeId]) -> usize {
            self.counted(&Near::default(), holders).len()
        }
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    /// Silent for so long, asked every day.
    fn silent(for_s: u64) -> AuditRecord {
        asked(for_s, u32::try_from(for_s / DAY_S).unwrap() + 1)
    }

    /// Silent for so long, asked often, and on so many days.
    fn asked(for_s: u64, days: u32) -> AuditRecord {
        let silence = Silence { since_s: NOW_S - for_s, last_s: NOW_S, misses: 400, days };
        AuditRecord { silence: Some(silence), ..AuditRecord::default() }
    }

    fn uncounted(records: &[(u8, AuditRecord)], holders: usize) -> Uncounted {
        let records: Vec<(NodeId, AuditRecord)> =
            records.iter().map(|(number, record)| (node(*number), record.clone())).collect();
        Uncounted::with_grace(records.iter().map(|(node, record)| (node, record)), holders, NOW_S)
    }

    #[test]
    fn one_silent_holder_counts_for_a_week_and_two_for_a_day() {
        let all = [node(1), node(2), node(3)];
        for (for_s, count) in [(DAY_S, 3), (7 * DAY_S - 1, 3), (7 * DAY_S, 2)] {
            let one = uncounted(&[(1, silent(for_s))], 3);
            assert_eq!((one.count(&all), one.matters()), (count, true), "{for_s}");
        }
        let two = [(1, silent(DAY_S)), (2, silent(3 * DAY_S))];
        let two = uncounted(&two, 9);
        assert_eq!((two.count(&all), two.count(&[node(1), node(3)])), (1, 2));
        let hour = uncounted(&[(1, silent(3_600))], 3);
        assert_eq!((hour.count(&all), hour.matters()), (3, false), "a nap costs nothing");
        assert_eq!(uncounted(&[], 3).count(&all), 3);
        // Whoever hands nothing over is no better, whatever else it answers since yesterday.
        let AuditRecord { silence: withheld, .. } = silent(7 * DAY_S);
        let hostage = AuditRecord { withheld, ..silent(DAY_S) };
        assert_eq!(uncounted(&[(1, hostage)], 3).count(&all), 2);
    }

    #[test]
    fn a_clock_that_jumps_ends_no_grace_until_holders_were_asked_on_as_many_days() {
        let all = [node(1), node(2), node(3)];
        let both = |days| uncounted(&[(1, asked(8 * DAY_S, days)), (2, asked(9 * DAY_S, days))], 9);
        // Three misses within a day, and then the clock is eight days ahead.
        let since_s = NOW_S - 8 * DAY_S;
        let silence = Silence { since_s, last_s: since_s + 2 * 3_600, misses: 3, days: 1 };
        let hourly = AuditRecord { silence: Some(silence), ..AuditRecord::default() };
        let jumped = uncounted(&[(1, hourly.clone()), (2, hourly)], 9);
        assert_eq!((jumped.count(&all), jumped.matters()), (3, false));
        assert_eq!((both(1).count(&all), both(1).matters()), (3, false));
        assert_eq!((both(2).count(&all), both(2).matters()), (1, true));
        let one = |days| uncounted(&[(1, asked(8 * DAY_S, days))], 9).count(&all);
        // With a miss after the jump: the second day.
        assert_eq!([1, 2, 6, 7].map(one), [3, 3, 3, 2]);
    }

    #[test]
    fn many_that_fall_silent_together_are_given_a_week() {
        let all = [node(1), node(2), node(3), node(4)];
        let together: Vec<(u8, AuditRecord)> =
            (1..=3).map(|number| (number, silent(2 * DAY_S + 600 * u64::from(number)))).collect();
        assert_eq!(uncounted(&together, 4).count(&all), 4);
        // Of many more holders three are few.
        assert_eq!(uncounted(&together, 20).count(&all), 1);
        let apart: Vec<(u8, AuditRecord)> =
            (1..=3).map(|number| (number, silent(DAY_S + 7_300 * u64::from(number)))).collect();
        assert_eq!(uncounted(&apart, 4).count(&all), 1);
    }

    /// One of two replicas was proven, and so was the other, but for lies.
    fn audited(at_s: u64, lied: u64) -> HolderAudited {
        let of = (node(1), crate::core::types::StoreEpoch::from_bytes([0; 16]));
        let begun = HolderAudited::begun(of, at_s, 2);
        let outcome = AuditOutcome { proven: 2 - lied, lied, ..begun.outcome };
        HolderAudited { outcome, ..begun }
    }

    /// What 30 days cost a chunk of three replicas whose holders are asked every hour, and answer
    /// as `is_up` says of each: copies at others, in the order of their numbers, and how many count
    /// in the end.
    fn month(is_up: impl Fn(u8, u64) -> bool) -> (usize, usize) {
        const TARGET: usize = 3;
        let mut records: Vec<(u8, AuditRecord)> =
            (0..3).map(|number| (number, AuditRecord::default())).collect();
        let mut counted = 0;
        for hour in 0..30 * 24 {
            let now_s = NOW_S + hour * 3_600;
            for (number, record) in &mut records {
                match is_up(*number, hour) {
                    true => record.on_audited(audited(now_s, 0)),
                    false => record.on_silent(now_s),
                }
            }
            let of: Vec<(NodeId, AuditRecord)> =
                records.iter().map(|(number, record)| (node(*number), record.clone())).collect();
            let audits = of.iter().map(|(node, record)| (node, record));
            let uncounted = Uncounted::with_grace(audits, of.len(), now_s);
            let holders: Vec<NodeId> = of.iter().map(|(node, _)| *node).collect();
            counted = uncounted.count(&holders);
            let others = (records.len()..).take(TARGET.saturating_sub(counted));
            records
                .extend(others.map(|next| (u8::try_from(next).unwrap(), AuditRecord::default())));
        }
        (records.len() - 3, counted)
    }

    /// Threat 36. A copy that is made stays, and one that comes back counts again.
    #[test]
    fn flapping_holder_repair_bounded() {
        // All of them come and go, each at its own time, whoever gets a copy too.
        for hours in [2, 3, 5, 8, 12] {
            let flaps =
                |number: u8, hour: u64| (hour / hours + u64::from(number)).is_multiple_of(2);
            assert_eq!(month(flaps), (0, 3), "every {hours} hours");
        }
        // Days away cost nothing either, as long as it is the only one.
        assert_eq!(month(|number, hour| number != 0 || hour % 144 < 24), (0, 3));
        // It is there only while nobody asks.
        assert_eq!(month(|number, _| number != 0), (1, 3));
        // A week and a day away, and a few hours back: the second time costs nothing.
        let long = |number: u8, hour: u64| (hour + 1 + u64::from(number) * 70) % (9 * 24) < 12;
        assert_eq!(month(|number, hour| number != 0 || long(0, hour + 100)).0, 1);
        assert_eq!(month(|number, hour| number != 0 || !(50..=600).contains(&hour)), (1, 4));
        // All three do so: one for each.
        assert!((1..=3).contains(&month(|number, hour| number > 2 || long(number, hour)).0));
    }

    #[test]
    fn a_liar_never_counts() {
        let audited = audited(NOW_S, 1);
        let liar = AuditRecord { last: Some(audited), ..AuditRecord::default() };
        assert_eq!(uncounted(&[(1, liar)], 3).count(&[node(1), node(2)]), 1);
        let these = Uncounted::these(BTreeSet::from([node(2)]));
        assert_eq!(these.count(&[node(1), node(2)]), 1);
    }
}
