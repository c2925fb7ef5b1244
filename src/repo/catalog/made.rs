//! The newest backup of each set of paths, as far as the catalogue goes: whether any chunk of it is
//! short of replicas, and whether something is missing in it. One that has all paths of an earlier
//! one, and perhaps more, takes its place: a path that was missing may be back.
//!
//! The journal of one device remembers what this device made. A device that was recovered begins
//! with none: its next backup of each set of paths is the first.

use super::entry::{BackupMade, Entry, SnapshotEvidence};
use super::{Catalog, CatalogError};
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::repo::evidence::Word;
use std::collections::{BTreeMap, BTreeSet};

/// Sets of paths that are remembered. Beyond these the oldest goes of which all is well, if any.
const SETS_MAX: usize = 1_024;

/// Looks that are remembered, each of another snapshot. Beyond these the oldest goes.
const EVIDENCE_MAX: usize = 2 * SETS_MAX;

/// Files that were put and that nobody looked at.
const NO_PUTS: SnapshotEvidence = SnapshotEvidence::nothing(SnapshotEvidence::PUTS);

/// What was made, and how it is stored.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// By set of paths.
    sets: BTreeMap<Vec<u64>, BackupMade>,
    /// Of these, of what other devices made, and of what was put.
    evidence: BTreeMap<SnapshotId, SnapshotEvidence>,
    /// How often something was found to be gone, since the catalogue was opened.
    losses: u64,
    /// All that was looked at is marked: another loss changes nothing.
    is_marked: bool,
    /// Files were put, or are being put.
    has_puts: bool,
    /// By something that no other entry of the journal says.
    is_unsaved: bool,
}

impl Made {
    pub(super) fn apply(&mut self, made: BackupMade) {
        let was_made: BTreeSet<SnapshotId> = self.sets.values().map(|made| made.snapshot).collect();
        // An earlier one of more paths is noted again when more of it is stored.
        self.sets.retain(|_, before| before.at > made.at || !before.is_covered_by(&made));
        self.sets.insert(made.set.clone(), made);
        if self.sets.len() > SETS_MAX {
            let oldest = self.sets.values().min_by_key(|made| (!made.is_whole(), made.at));
            if let Some(set) = oldest.map(|made| made.set.clone()) {
                self.sets.remove(&set);
            }
        }
        let is_made: BTreeSet<SnapshotId> = self.sets.values().map(|made| made.snapshot).collect();
        for id in was_made.difference(&is_made) {
            self.evidence.remove(id);
        }
        self.is_marked = false;
    }

    pub(super) fn look(&mut self, evidence: SnapshotEvidence) {
        if evidence.target == 0 {
            self.evidence.remove(&evidence.snapshot);
            return;
        }
        self.evidence.insert(evidence.snapshot, evidence);
        self.is_marked = false;
        if self.evidence.len() > EVIDENCE_MAX {
            let others = self.evidence.values().filter(|it| it.snapshot != evidence.snapshot);
            let oldest = others.min_by_key(|it| it.at_s).map(|it| it.snapshot);
            oldest.and_then(|oldest| self.evidence.remove(&oldest));
        }
    }

    /// A file was put, or is being put.
    pub(super) fn put(&mut self) {
        if !std::mem::replace(&mut self.has_puts, true) {
            self.is_marked = false;
        }
    }

    /// Something is gone, found at `at_s`, seconds since 1970, or
    /// [`SnapshotEvidence::AT_SOME_TIME`]: what was made or looked at before may be worse now.
    pub(super) fn lose(&mut self, at_s: u64) {
        self.losses = self.losses.saturating_add(1);
        // There may be a million of these.
        if std::mem::replace(&mut self.is_marked, true) {
            return;
        }
        for made in self.sets.values() {
            let unseen = || SnapshotEvidence::unseen(made, 0);
            self.evidence.entry(made.snapshot).or_insert_with(unseen);
        }
        if self.has_puts {
            let unseen = || SnapshotEvidence { word: Word::Stored, target: 1, ..NO_PUTS };
            self.evidence.entry(SnapshotEvidence::PUTS).or_insert_with(unseen);
        }
        self.evidence.values_mut().for_each(|evidence| evidence.lose(at_s));
    }

    /// As [`Self::lose`], by something that the journal does not have.
    pub(super) fn lose_unsaved(&mut self, at_s: u64) {
        let is_hit = !self.sets.is_empty() || !self.evidence.is_empty() || self.has_puts;
        self.is_unsaved |= !self.is_marked && is_hit;
        self.lose(at_s);
    }

    /// What the journal is to have, once.
    fn unsaved(&mut self) -> Vec<SnapshotEvidence> {
        match std::mem::take(&mut self.is_unsaved) {
            true => self.evidence.values().filter(|it| it.behind_s > 0).copied().collect(),
            false => Vec::new(),
        }
    }

    pub(super) fn evidence(&self) -> impl Iterator<Item = &SnapshotEvidence> {
        self.evidence.values()
    }

    pub(super) fn evidence_of(&self, snapshot: &SnapshotId) -> Option<&SnapshotEvidence> {
        self.evidence.get(snapshot)
    }

    pub(super) fn losses_seen(&self) -> u64 {
        self.losses
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &BackupMade> {
        self.sets.values()
    }

    pub(super) fn count(&self) -> u64 {
        (self.sets.len() + self.evidence.len()) as u64
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

    /// What the last look at all its replicas came to, where it was looked at.
    pub fn evidence_of(&self, snapshot: &SnapshotId) -> Option<&SnapshotEvidence> {
        self.state.evidence_of(snapshot)
    }

    /// What the last looks came to, by snapshot.
    pub fn evidence(&self) -> impl Iterator<Item = &SnapshotEvidence> {
        self.state.evidence()
    }

    /// How often a replica, a proof, a store or a holder was found to count no more since the
    /// catalogue was opened.
    pub fn losses_seen(&self) -> u64 {
        self.state.losses_seen()
    }

    /// Takes over what a look came to that began when so many losses were seen; nothing where more
    /// were seen since. Says whether it was.
    ///
    /// # Errors
    /// [`CatalogError`]; it was then not taken.
    pub fn record_evidence(
        &mut self,
        evidence: SnapshotEvidence,
        losses_seen: u64,
    ) -> Result<bool, CatalogError> {
        if self.losses_seen() != losses_seen {
            return Ok(false);
        }
        self.record(Entry::SnapshotEvidence(evidence))?;
        Ok(true)
    }

    /// Writes down which looks something makes look worse that the journal does not have.
    ///
    /// # Errors
    /// [`CatalogError`]; what was not taken is written down by a later call.
    pub(super) fn note_marks(&mut self) -> Result<(), CatalogError> {
        let unsaved = self.state.made_mut().unsaved();
        let noted = unsaved.into_iter().try_for_each(|it| self.record(Entry::SnapshotEvidence(it)));
        if noted.is_err() {
            self.state.made_mut().is_unsaved = true;
        }
        noted
    }

    /// Something was found to be gone while this snapshot was made, at `now_s`, seconds since 1970:
    /// what it has may be less than what was acknowledged.
    ///
    /// # Errors
    /// [`CatalogError`]; it was then not taken.
    pub fn doubt(&mut self, snapshot: &SnapshotId, now_s: u64) -> Result<(), CatalogError> {
        let made = self.made_as(snapshot).filter(|_| self.evidence_of(snapshot).is_none());
        let Some(made) = made else { return Ok(()) };
        self.record(Entry::SnapshotEvidence(SnapshotEvidence::unseen(made, now_s.max(1))))
    }

    /// Who acknowledged this chunk with the store that it has now, and did not take that back, and
    /// when an audit last proved it since: seconds since 1970.
    pub fn proofs_of(&self, chunk: &ChunkId) -> impl Iterator<Item = (NodeId, Option<u64>)> {
        self.state.proofs_of(chunk)
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
    fn evidence_is_of_what_was_made_and_says_when_something_was_lost_since() {
        use super::super::entry::tests::evidence;
        let mut all = Made::default();
        all.apply(made(1, 1, 3));
        all.look(evidence(1, Word::Safe));
        // What another device made stays until nothing is known of it any more.
        all.look(evidence(9, Word::Safe));
        assert_eq!(all.count(), 3);
        all.look(SnapshotEvidence::nothing(SnapshotId::from_bytes([9; 32])));
        let of_id = |all: &Made, id: u8| {
            let id = SnapshotId::from_bytes([id; 32]);
            all.evidence_of(&id).map(|it| (it.word, it.behind_s))
        };
        let of = |all: &Made| of_id(all, 1);
        assert_eq!((of(&all), all.count()), (Some((Word::Safe, 0)), 2));
        all.lose(7);
        all.lose(9);
        assert_eq!((of(&all), all.losses_seen()), (Some((Word::Safe, 7)), 2));
        all.apply(made(1, 1, 2));
        assert_eq!(of(&all), Some((Word::Safe, 7)), "the same snapshot");
        all.look(evidence(1, Word::Stored));
        assert_eq!(of(&all), Some((Word::Stored, 0)));
        all.apply(made(1, 2, 3));
        assert_eq!((of(&all), all.count()), (None, 1), "a later one took its place");
        all.lose(11);
        let unseen = Some((Word::Stored, 11));
        assert_eq!(
            (of_id(&all, 2), all.count()),
            (unseen, 2),
            "nobody looked at it, and it is hit"
        );
        all.look(evidence(2, Word::Safe));
        all.lose(12);
        assert_eq!(of_id(&all, 2), Some((Word::Safe, 12)), "each look may be hit anew");
    }

    #[test]
    fn what_the_journal_does_not_have_is_told_to_it_once() {
        use super::super::entry::tests::evidence;
        let mut all = Made::default();
        all.lose_unsaved(4);
        assert_eq!(all.unsaved(), [], "nothing was hit");
        all.put();
        all.lose(5);
        let puts = all.evidence_of(&SnapshotEvidence::PUTS).copied().unwrap();
        assert_eq!((puts.behind_s, puts.chunks, all.unsaved()), (5, 0, vec![]));
        all.look(NO_PUTS);
        (all.has_puts, all.is_marked) = (false, false);
        all.apply(made(1, 1, 3));
        all.look(evidence(9, Word::Safe));
        all.lose(7);
        assert_eq!(all.unsaved(), [], "the journal says that");
        all.look(evidence(9, Word::Safe));
        all.lose_unsaved(8);
        let told: Vec<u64> = all.unsaved().iter().map(|it| it.behind_s).collect();
        assert_eq!((told, all.unsaved()), (vec![7, 8], vec![]));
    }

    #[test]
    fn the_oldest_looks_make_room() {
        use super::super::entry::tests::evidence;
        let mut all = Made::default();
        for number in 0..EVIDENCE_MAX as u64 + 2 {
            let mut id = [1; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            // The newest look comes first: what is noted just now stays all the same.
            let (snapshot, at_s) = (SnapshotId::from_bytes(id), (number + 7) % 1_000);
            all.look(SnapshotEvidence { snapshot, at_s, ..evidence(0, Word::Safe) });
            assert!(all.evidence_of(&snapshot).is_some());
        }
        assert_eq!(all.count(), EVIDENCE_MAX as u64);
        assert!(all.evidence().all(|it| it.at_s > 0), "{all:?}");
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
