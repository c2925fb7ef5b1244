//! What small files are in packs already, by the hash of their content. Pure.
//!
//! A renamed, moved or copied small file is found here, whatever its path and whichever device
//! stored it, and takes no new bytes. Nothing of this is kept: a backup fills it from the trees of
//! earlier snapshots, the newest first, and from the packs of its own. Memory is 28 bytes a blob
//! and bounded; what does not fit is left out, counted, and at worst packed once more.

use super::pack::PackedBlob;
use super::reference::ChunkRef;
use super::tree::{BlobHash, Content, Entry, What};
use crate::core::types::ChunkId;
use std::collections::BTreeMap;

/// The most blobs: 56 MiB, and half as much while new ones are sorted in.
pub const BLOBS_MAX: usize = 1 << 21;

/// The most packs that they lie in: about 18 MiB.
pub const PACKS_MAX: usize = 1 << 17;

/// So many new blobs are sorted in at once.
const RECENT_MAX: usize = 64 << 10;

/// Who packed a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An earlier backup: whether the pack may be named depends on who holds it.
    Earlier,
    /// This one: the pack was handed over before whatever names it.
    ThisRun,
}

/// Small files that are in packs.
#[derive(Debug)]
pub struct Known {
    blobs_max: usize,
    packs_max: usize,
    packs: Vec<(ChunkRef, Origin)>,
    by_id: BTreeMap<ChunkId, u32>,
    /// In the order of their hashes.
    sorted: Vec<Row>,
    /// Not sorted in yet.
    recent: BTreeMap<BlobHash, Row>,
    left_out: u64,
}

/// One blob: 28 bytes.
#[derive(Debug, Clone, Copy)]
struct Row {
    hash: BlobHash,
    pack: u32,
    offset: u32,
    length: u32,
}

impl Known {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::with_most(BLOBS_MAX, PACKS_MAX)
    }

    fn with_most(blobs_max: usize, packs_max: usize) -> Self {
        Self {
            blobs_max,
            packs_max,
            packs: Vec::new(),
            by_id: BTreeMap::new(),
            sorted: Vec::new(),
            recent: BTreeMap::new(),
            left_out: 0,
        }
    }

    /// Where a small file's content is: the pack, who packed it, and where in it.
    pub fn find(&self, hash: &BlobHash, length: u64) -> Option<(&ChunkRef, Origin, u32)> {
        let row = self.row(hash).filter(|row| u64::from(row.length) == length)?;
        let (pack, origin) = self.packs.get(usize::try_from(row.pack).ok()?)?;
        Some((pack, *origin, row.offset))
    }

    /// Remembers where an entry's content is, if that is a pack.
    pub fn learn(&mut self, entry: &Entry) {
        let What::File(body) = &entry.what else { return };
        let Content::Packed { pack, offset, hash } = &body.content else { return };
        if let Ok(length) = u32::try_from(body.data_bytes()) {
            let blob = PackedBlob { hash: *hash, offset: *offset, length };
            self.add(pack, Origin::Earlier, &blob);
        }
    }

    /// Remembers where a blob is, if there is room. One that is known stays where it is, unless it
    /// was packed again by this run, because nobody holds where it was.
    pub fn add(&mut self, pack: &ChunkRef, origin: Origin, blob: &PackedBlob) {
        let known = self.row(&blob.hash).is_some();
        if known && origin == Origin::Earlier {
            return;
        }
        let room = known || self.len() < self.blobs_max;
        let pack = if room { self.pack(pack, origin) } else { None };
        let Some(pack) = pack else {
            self.left_out += 1;
            return;
        };
        let PackedBlob { hash, offset, length } = *blob;
        let row = Row { hash, pack, offset, length };
        if let Some(at) = self.sorted_at(&hash)
            && let Some(place) = self.sorted.get_mut(at)
        {
            *place = row;
            return;
        }
        self.recent.insert(hash, row);
        if self.recent.len() >= RECENT_MAX {
            self.sorted.extend(std::mem::take(&mut self.recent).into_values());
            // Two sorted runs, one behind the other: a stable sort merges them.
            self.sorted.sort_by_key(|row| row.hash);
        }
    }

    /// How many blobs are known.
    pub fn len(&self) -> usize {
        self.sorted.len() + self.recent.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it takes no more: what comes now is left out.
    pub fn is_full(&self) -> bool {
        self.len() >= self.blobs_max || self.packs.len() >= self.packs_max
    }

    /// How many blobs were left out: content that may be stored a second time.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn row(&self, hash: &BlobHash) -> Option<Row> {
        if let Some(row) = self.recent.get(hash) {
            return Some(*row);
        }
        self.sorted.get(self.sorted_at(hash)?).copied()
    }

    fn sorted_at(&self, hash: &BlobHash) -> Option<usize> {
        self.sorted.binary_search_by_key(hash, |row| row.hash).ok()
    }

    /// The pack's place; `None` where it is new and there is no room.
    fn pack(&mut self, pack: &ChunkRef, origin: Origin) -> Option<u32> {
        if let Some(at) = self.by_id.get(&pack.id) {
            let place = usize::try_from(*at).ok().and_then(|at| self.packs.get_mut(at));
            if let Some((_, known)) = place
                && origin == Origin::ThisRun
            {
                *known = origin;
            }
            return Some(*at);
        }
        if self.packs.len() >= self.packs_max {
            return None;
        }
        let at = u32::try_from(self.packs.len()).ok()?;
        self.packs.push((pack.duplicate(), origin));
        self.by_id.insert(pack.id, at);
        Some(at)
    }
}

impl Default for Known {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::Locality;
    use crate::crypto::keys::ChunkKey;

    fn pack(number: u8) -> ChunkRef {
        let (ck, id) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
        ChunkRef { ck, id, locality: Locality(0), bytes: 1 << 20 }
    }

    fn blob(number: u32) -> PackedBlob {
        let mut hash = [0; 16];
        hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
        PackedBlob { hash, offset: number, length: number + 1 }
    }

    #[test]
    fn a_row_is_28_bytes() {
        assert_eq!(size_of::<Row>(), 28);
    }

    #[test]
    fn what_was_added_is_found_by_hash_and_length() {
        let mut known = Known::new();
        // Twice as many as are sorted in at once, so that both halves are searched.
        let count = 2 * RECENT_MAX as u32 + 5;
        for number in 0..count {
            known.add(&pack((number % 3) as u8), Origin::Earlier, &blob(number));
        }
        assert_eq!((known.len(), known.packs.len()), (count as usize, 3));
        for number in (0..count).step_by(997) {
            let PackedBlob { hash, offset, length } = blob(number);
            let (found, origin, at) = known.find(&hash, length.into()).unwrap();
            assert_eq!((found.id, at), (pack((number % 3) as u8).id, offset));
            assert_eq!(origin, Origin::Earlier);
            assert!(known.find(&hash, u64::from(length) + 1).is_none());
        }
        assert!(known.find(&blob(count).hash, 1).is_none());
    }

    #[test]
    fn a_blob_that_is_packed_again_is_where_it_was_packed_last() {
        let mut known = Known::new();
        for number in 0..RECENT_MAX as u32 + 5 {
            known.add(&pack(1), Origin::Earlier, &blob(number));
        }
        // One that is sorted in, and one that is not.
        for number in [7, RECENT_MAX as u32 + 2] {
            let PackedBlob { hash, length, .. } = blob(number);
            let again = PackedBlob { offset: 99, ..blob(number) };
            known.add(&pack(2), Origin::Earlier, &again);
            assert_eq!(known.find(&hash, length.into()).unwrap().0.id, pack(1).id);
            known.add(&pack(3), Origin::ThisRun, &again);
            let (found, origin, at) = known.find(&hash, length.into()).unwrap();
            assert_eq!((found.id, origin, at), (pack(3).id, Origin::ThisRun, 99));
        }
        assert_eq!(known.len(), RECENT_MAX + 5);
    }

    #[test]
    fn known_is_bounded_and_says_so() {
        let mut known = Known::with_most(10, 2);
        for number in 0..15 {
            known.add(&pack((number % 2) as u8), Origin::Earlier, &blob(number));
        }
        assert_eq!((known.len(), known.left_out(), known.is_full()), (10, 5, true));
        // What is known already is not left out.
        known.add(&pack(1), Origin::Earlier, &blob(3));
        assert_eq!(known.left_out(), 5);
        let mut known = Known::with_most(10, 2);
        for number in 0..5 {
            known.add(&pack(number as u8), Origin::Earlier, &blob(number));
        }
        assert_eq!((known.len(), known.left_out(), known.is_full()), (2, 3, true));
    }
}
