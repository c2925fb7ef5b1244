//! Which replicas count while nobody asked for healing: a holder that is away for an evening is no
//! reason to send its chunks to others. Pure.
//!
//! | what is known of a holder | its replicas count |
//! |---|---|
//! | it lied | not |
//! | it is silent, and the only one of a chunk's holders that is | for [`ONE_S`] |
//! | it is silent, and another one of the chunk's holders is, too | for [`TWO_S`] |
//! | it fell silent within the same hour as many others | for [`ONE_S`] in any case |
//! | anything else | always |
//!
//! What an audit proved to be gone is no replica in any case, and waits for nothing. Silent means
//! suspect at least ([`standing`]): one clock that jumps makes nobody silent for long. Many are
//! three or more, and almost a third of all holders: then it is more likely this machine's line
//! that was down.

use crate::core::types::NodeId;
use crate::repo::catalog::{AuditRecord, Standing, standing};
use std::collections::{BTreeMap, BTreeSet};

/// How long the only silent holder of a chunk counts: 7 days, in seconds.
pub(super) const ONE_S: u64 = 7 * DAY_S;

/// How long two silent ones do: a day, in seconds.
pub(super) const TWO_S: u64 = DAY_S;

/// Whoever falls silent within such a time fell silent together: an hour, in seconds.
const TOGETHER_S: u64 = 3_600;

/// So many are many, and at least [`MANY_PERCENT`] of all.
const MANY: usize = 3;
const MANY_PERCENT: usize = 30;

const DAY_S: u64 = 24 * 3_600;

/// Whose replicas do not count.
#[derive(Debug, Default)]
pub(super) struct Uncounted {
    /// Not at all.
    never: BTreeSet<NodeId>,
    /// Who is silent: for how many seconds, and whether many fell silent with it.
    silent: BTreeMap<NodeId, (u64, bool)>,
}

impl Uncounted {
    /// These, whatever the reason.
    pub(super) fn these(never: BTreeSet<NodeId>) -> Self {
        Self { never, silent: BTreeMap::new() }
    }

    /// What audits of the owner's `holders` say at `now_s`, seconds since 1970.
    pub(super) fn with_grace<'a>(
        records: impl Iterator<Item = (&'a NodeId, &'a AuditRecord)>,
        holders: usize,
        now_s: u64,
    ) -> Self {
        let (mut never, mut since) = (BTreeSet::new(), BTreeMap::new());
        for (node, record) in records {
            match (standing(record, now_s), record.silence) {
                (Standing::Liar, _) => drop(never.insert(*node)),
                (Standing::Suspect | Standing::Lost, Some(silence)) => {
                    since.insert(*node, silence.since_s);
                }
                _ => {}
            }
        }
        let many = MANY.max((holders * MANY_PERCENT).div_ceil(100));
        let together =
            |at_s: u64| since.values().filter(|other| other.abs_diff(at_s) <= TOGETHER_S).count();
        let silent = since
            .iter()
            .map(|(node, at_s)| (*node, (now_s.saturating_sub(*at_s), together(*at_s) >= many)));
        Self { never, silent: silent.collect() }
    }

    /// Whether anybody's silence lasts long enough to count.
    pub(super) fn matters(&self) -> bool {
        self.silent.values().any(|(silent_s, _)| *silent_s >= TWO_S)
    }

    /// How many of a chunk's `holders` count.
    pub(super) fn count(&self, holders: &[NodeId]) -> usize {
        let silent = holders.iter().filter(|node| self.silent.contains_key(node)).count();
        let counts = |node: &&NodeId| {
            let grace_s =
                |is_together: bool| if silent >= 2 && !is_together { TWO_S } else { ONE_S };
            let is_in_grace = self
                .silent
                .get(node)
                .is_none_or(|(silent_s, is_together)| *silent_s < grace_s(*is_together));
            !self.never.contains(node) && is_in_grace
        };
        holders.iter().filter(counts).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::catalog::{HolderAudited, Silence};

    const NOW_S: u64 = 1_800_000_000;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    /// Silent for so long, asked often enough.
    fn silent(for_s: u64) -> AuditRecord {
        let silence = Silence { since_s: NOW_S - for_s, last_s: NOW_S, misses: 400, days: 30 };
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

    #[test]
    fn a_liar_never_counts() {
        let audited = HolderAudited {
            node: node(1),
            epoch: crate::core::types::StoreEpoch::from_bytes([0; 16]),
            at_s: NOW_S,
            asked: 2,
            proven: 1,
            missing: 0,
            damaged: 0,
            lied: 1,
            released: 0,
            bytes_moved: 0,
        };
        let liar = AuditRecord { last: Some(audited), ..AuditRecord::default() };
        assert_eq!(uncounted(&[(1, liar)], 3).count(&[node(1), node(2)]), 1);
        let these = Uncounted::these(BTreeSet::from([node(2)]));
        assert_eq!(these.count(&[node(1), node(2)]), 1);
    }
}
