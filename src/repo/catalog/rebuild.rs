//! Filling the catalogue anew on a device that was recovered, as far as the catalogue goes: how far
//! the lists of holders were read, and what a page of them comes to.

use super::entry::{ChunkAcked, Entry, Listing, ListingState, RebuildNote};
use super::{Catalog, CatalogError};
use crate::core::types::NodeId;
use crate::repo::standing::AuditRecord;
use std::collections::BTreeMap;

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuild {
    /// No holder can sensibly have more of the owner's chunks.
    pub ids_max: u64,
    /// So many holders there are at least.
    pub holders_min: u8,
    /// Whose lists are read.
    pub holders: BTreeMap<NodeId, Listing>,
}

impl Rebuild {
    /// Chunks that nobody was known to have before they were listed.
    pub fn new_chunks(&self) -> u64 {
        self.holders.values().map(|listing| listing.new).fold(0, u64::saturating_add)
    }

    /// How many entries say all of it.
    pub(super) fn entries(&self) -> u64 {
        1 + self.holders.len() as u64
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = RebuildNote> {
        let begun = RebuildNote::Begun { ids_max: self.ids_max, holders: self.holders_min };
        let listings = self.holders.values().map(|listing| RebuildNote::Listing(*listing));
        std::iter::once(begun).chain(listings)
    }
}

/// What an entry makes of it.
pub(super) fn apply(rebuild: &mut Option<Rebuild>, note: RebuildNote) {
    match (note, rebuild) {
        (RebuildNote::Begun { ids_max, holders }, rebuild) => {
            let rebuild = rebuild.get_or_insert_default();
            (rebuild.ids_max, rebuild.holders_min) = (ids_max, holders);
        }
        (RebuildNote::Listing(listing), Some(rebuild)) => {
            rebuild.holders.insert(listing.node, listing);
        }
        (RebuildNote::Listing(_), None) => {}
        (RebuildNote::Done, rebuild) => *rebuild = None,
    }
}

impl Catalog {
    /// How far the catalogue is filled anew; `None` where it need not be.
    pub fn rebuild(&self) -> Option<&Rebuild> {
        self.state.rebuild()
    }

    /// How many holders there are at least beside those that are named, and others that proved
    /// something in their last audits: nobody's word makes up for one. 0 where nothing is filled.
    pub fn rebuild_missing(&self) -> usize {
        let Some(Rebuild { holders_min, holders, .. }) = self.rebuild() else { return 0 };
        let has_proven = |record: &AuditRecord| {
            record.last.is_some_and(|last| last.outcome.proven > 0) && !record.has_lied()
        };
        let others = self.audit_records().filter(|(node, of)| {
            !holders.contains_key(node) && self.store_of(node).is_some() && has_proven(of)
        });
        usize::from(*holders_min).saturating_sub(holders.len() + others.count())
    }

    /// Whether nobody who is named is left to be asked, and nobody is missing.
    pub fn rebuild_is_over(&self) -> bool {
        let is_listed = |listing: &Listing| listing.state != ListingState::Open;
        self.rebuild_missing() == 0
            && self.rebuild().is_some_and(|rebuild| rebuild.holders.values().all(is_listed))
    }

    /// A node said at `at_s`, seconds since 1970, that it keeps this chunk, and was not known to.
    /// That counts as what it says when it is asked for the chunk: for a day, and then it is asked.
    /// Returns whether nobody was known to have the chunk; `None` where it is not taken down: it is
    /// being let go, or nobody is known to have it and there is no `room` for more of these, or the
    /// node was caught lying: its word brings no replica back.
    ///
    /// # Errors
    /// [`CatalogError`]; it was then not taken down.
    pub fn record_claim(
        &mut self,
        claim: ChunkAcked,
        at_s: u64,
        room: bool,
    ) -> Result<Option<bool>, CatalogError> {
        let ChunkAcked { chunk, node, epoch, .. } = claim;
        if self.is_doomed(&chunk) || self.is_liar(&node) {
            return Ok(None);
        }
        let holders = self.holders_of(&chunk);
        let is_new = holders.is_empty();
        if is_new && !room {
            return Ok(None);
        }
        if self.store_of(&node) != Some(epoch) || !holders.contains(&node) {
            self.record(Entry::ChunkAcked(claim))?;
        }
        self.prove(&node, &epoch, &chunk, at_s);
        Ok(Some(is_new))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{acked, audited, found};
    use super::super::entry::{Loss, PruneNote, ReplicaLost};
    use super::*;
    use crate::crypto::keys::ChunkKey;
    use crate::repo::fixture::owner;

    const DAY: (u64, u64) = (1_000, 2_000);

    fn listing(node: u8, state: ListingState) -> Listing {
        let ChunkAcked { node, epoch, chunk, .. } = acked(7, node, 2);
        Listing { node, store: Some(epoch), after: chunk, listed: 5, live: 4, new: 3, state }
    }

    fn open(folder: &tempfile::TempDir) -> Catalog {
        Catalog::open(folder.path(), &owner(1)).unwrap().0
    }

    #[test]
    fn how_far_lists_were_read_outlives_a_restart_and_a_compaction() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = open(&folder);
        let record = |catalog: &mut Catalog, note| catalog.record(Entry::Rebuild(note)).unwrap();
        let first = listing(1, ListingState::Open);
        record(&mut catalog, RebuildNote::Listing(first));
        assert_eq!(catalog.rebuild(), None, "a listing of none");
        record(&mut catalog, RebuildNote::Begun { ids_max: 9, holders: 2 });
        record(&mut catalog, RebuildNote::Listing(Listing::new(first.node)));
        record(&mut catalog, RebuildNote::Listing(first));
        record(&mut catalog, RebuildNote::Listing(listing(2, ListingState::Whole)));
        catalog.commit().unwrap();
        drop(catalog);
        let mut catalog = open(&folder);
        let rebuild = catalog.rebuild().unwrap().clone();
        assert_eq!((rebuild.ids_max, rebuild.holders.len(), rebuild.new_chunks()), (9, 2, 6));
        assert_eq!(rebuild.holders[&first.node], first);
        assert!(!catalog.rebuild_is_over());
        catalog.compact().unwrap();
        assert_eq!(catalog.entries, 3);
        drop(catalog);
        let mut catalog = open(&folder);
        assert_eq!(catalog.rebuild(), Some(&rebuild));
        record(&mut catalog, RebuildNote::Listing(listing(1, ListingState::GivenUp)));
        assert!(catalog.rebuild_is_over());
        record(&mut catalog, RebuildNote::Begun { ids_max: 9, holders: 3 });
        let missing = |catalog: &Catalog| (catalog.rebuild_missing(), catalog.rebuild_is_over());
        assert_eq!(missing(&catalog), (1, false), "somebody is not known yet");
        // Another one lists what it likes: it has to prove it.
        let other = acked(7, 3, 1);
        catalog.record_claim(other, 1_500, true).unwrap();
        assert_eq!(missing(&catalog), (1, false));
        let nothing = found(3, 1_600, |of| of.proven = 0);
        catalog.record(Entry::HolderAudited(nothing)).unwrap();
        assert_eq!(missing(&catalog), (1, false));
        catalog.record(Entry::HolderAudited(audited(3, 1_700))).unwrap();
        assert_eq!(missing(&catalog), (0, true));
        catalog.record(Entry::HolderAudited(found(3, 1_800, |of| of.lied = 1))).unwrap();
        assert_eq!(missing(&catalog), (1, false));
        record(&mut catalog, RebuildNote::Done);
        assert_eq!(catalog.rebuild(), None);
    }

    #[test]
    fn a_claim_counts_as_shown_since_it_was_asked_for_and_no_longer_than_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = open(&folder);
        let claim = acked(1, 1, 1);
        assert_eq!(catalog.record_claim(claim, 1_500, true).unwrap(), Some(true));
        assert_eq!(catalog.record_claim(acked(1, 2, 1), 900, true).unwrap(), Some(false));
        let replicas = catalog.replicas_of(&claim.chunk, DAY);
        assert_eq!((replicas.acked, replicas.proven), (2, 1));
        let entries = catalog.entries;
        assert_eq!(catalog.record_claim(claim, 1_600, false).unwrap(), Some(false));
        assert_eq!(catalog.entries, entries, "what is known is not written again");
        // The store of before is gone, and what it had.
        assert_eq!(catalog.record_claim(acked(2, 1, 9), 1_600, true).unwrap(), Some(true));
        assert_eq!(catalog.holders_of(&claim.chunk), [acked(1, 2, 1).node]);
    }

    #[test]
    fn a_liars_word_brings_no_replica_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = open(&folder);
        let claim = acked(1, 1, 1);
        catalog.record(Entry::ChunkAcked(claim)).unwrap();
        let ChunkAcked { chunk, node, epoch, .. } = claim;
        let lost = |why| Entry::ReplicaLost(ReplicaLost { chunk, node, epoch, why, at_s: 1_200 });
        catalog.record(lost(Loss::Damaged)).unwrap();
        assert_eq!(catalog.record_claim(claim, 1_500, true).unwrap(), Some(true), "who is honest");
        catalog.record(lost(Loss::Lied)).unwrap();
        for (claim, room) in [(claim, true), (acked(1, 1, 2), true), (acked(2, 1, 1), false)] {
            assert_eq!(catalog.record_claim(claim, 1_600, room).unwrap(), None);
        }
        assert!(catalog.holders_of(&chunk).is_empty());
        assert_eq!(catalog.losses().count(), 1, "it stays lost");
        let other = acked(1, 2, 1);
        assert_eq!(catalog.record_claim(other, 1_600, true).unwrap(), Some(true));
    }

    #[test]
    fn what_is_being_let_go_and_what_there_is_no_room_for_is_not_taken_down() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = open(&folder);
        assert_eq!(catalog.record_claim(acked(1, 1, 1), 1_500, false).unwrap(), None);
        let (chunk, ck) = (acked(2, 1, 1).chunk, ChunkKey::from_bytes([1; 32]));
        let (awaited, asked) = (Vec::new(), Vec::new());
        let doomed = PruneNote::Doomed { chunk, ck, awaited, asked };
        catalog.record(Entry::Prune(doomed)).unwrap();
        assert_eq!(catalog.record_claim(acked(2, 1, 1), 1_500, true).unwrap(), None);
        assert!(catalog.is_doomed(&chunk) && catalog.chunks() == 0);
    }
}
