//! The newest backup of each set of paths, as far as the catalogue goes: whether any chunk of it is
//! short of replicas, and whether something is missing in it. One that has all paths of an earlier
//! one, and perhaps more, takes its place: a path that was missing may be back.
//!
//! The journal of one device remembers what this device made. A device that was recovered begins
//! with none: its next backup of each set of paths is the first.

use super::Catalog;
use super::entry::BackupMade;
use crate::core::types::SnapshotId;
use std::collections::BTreeMap;

/// Sets of paths that are remembered. Beyond these the oldest goes of which all is well, if any.
const SETS_MAX: usize = 1_024;

/// By set of paths.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<Vec<u64>, BackupMade>);

impl Made {
    pub(super) fn apply(&mut self, made: BackupMade) {
        // An earlier one of more paths is noted again when more of it is stored.
        self.0.retain(|_, before| before.at > made.at || !before.is_covered_by(&made));
        self.0.insert(made.set.clone(), made);
        if self.0.len() > SETS_MAX {
            let oldest = self.0.values().min_by_key(|made| (!made.is_whole(), made.at));
            if let Some(set) = oldest.map(|made| made.set.clone()) {
                self.0.remove(&set);
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &BackupMade> {
        self.0.values()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Catalog {
    /// The newest backup of each set of paths by this device, of those whose snapshots were not
    /// forgotten since, newest first.
    pub fn made(&self) -> Vec<&BackupMade> {
        let mut made: Vec<&BackupMade> =
            self.state.made().filter(|made| !self.is_forgotten(&made.snapshot)).collect();
        made.sort_by_key(|made| (std::cmp::Reverse(made.at), made.snapshot));
        made
    }

    /// How this snapshot is stored, where it is the newest of its paths by this device.
    pub fn made_as(&self, snapshot: &SnapshotId) -> Option<&BackupMade> {
        self.state.made().find(|made| made.snapshot == *snapshot)
    }

    fn is_forgotten(&self, snapshot: &SnapshotId) -> bool {
        let noted = self.noted_snapshot(snapshot);
        noted.is_some_and(|noted| noted.forgotten.is_some())
            || self.pruned_snapshots().any(|pruned| pruned == snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::made;
    use super::*;

    #[test]
    fn a_later_backup_of_some_of_the_paths_outlives_what_is_noted_of_an_earlier_one_of_all() {
        let mut all = Made::default();
        let of = |set: &[u64], at, replicas| BackupMade {
            set: set.to_vec(),
            at,
            ..made(u8::try_from(at).unwrap(), 0, replicas)
        };
        all.apply(of(&[1, 2], 1, 1));
        all.apply(of(&[1], 2, 1));
        all.apply(of(&[1, 2], 1, 3));
        let kept: Vec<(u64, u8)> = all.all().map(|made| (made.at, made.replicas)).collect();
        assert_eq!(kept, [(2, 1), (1, 3)]);
        all.apply(of(&[1, 2], 3, 3));
        assert_eq!(all.count(), 1, "a later one of all takes the place of both");
    }

    #[test]
    fn what_is_well_and_old_makes_room_for_what_is_not() {
        let mut all = Made::default();
        let of = |number: u64, replicas, faults| BackupMade {
            set: vec![number],
            at: number,
            faults,
            ..made(0, 0, replicas)
        };
        all.apply(of(0, 1, 0));
        all.apply(of(1, 3, 1));
        (2..=SETS_MAX as u64).for_each(|number| all.apply(of(number, 3, 0)));
        let kept: Vec<u64> = {
            let mut kept: Vec<u64> = all.all().map(|made| made.at).collect();
            kept.sort_unstable();
            kept
        };
        assert_eq!(kept.len(), SETS_MAX);
        assert_eq!(kept[..4], [0, 1, 3, 4], "the oldest of which all is well went");
        all.apply(of(7, 2, 0));
        assert_eq!(all.count(), SETS_MAX as u64, "a set has one");
        all.apply(BackupMade { set: vec![3, 4, 5], ..of(9, 1, 0) });
        assert_eq!(all.count(), SETS_MAX as u64 - 2, "which has all paths of three others");
    }
}
