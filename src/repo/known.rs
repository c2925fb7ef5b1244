//! What small files are in packs already, by the hash of their content. Pure.
//!
//! A renamed, moved or copied small file is found here, whatever its path and whichever device stored
//! it, and takes no new bytes. Nothing of this is kept: a backup fills it from the trees of earlier
//! snapshots, the newest first, and from the packs of its own. Memory is 28 bytes a blob and bounded;
//! what does not fit is left out, counted, and at worst packed once more.

use super::pack::PackedBlob;
use super::reference::ChunkRef;
use super::tree::{BlobHash, Content, Entry, What};
use crate::core::types::ChunkId;
use std::collections::BTreeMap;

/// The most blobs: 56 MiB.
pub const BLOBS_MAX: usize = 1 << 21;

/// The most packs that they lie in: about 16 MiB.
pub const PACKS_MAX: usize = 1 << 17;

/// So many new blobs are sorted in at once.
const RECENT_MAX: usize = 64 << 10;

/// Small files that are in packs.
#[derive(Debug)]
pub struct Known {
    blobs_max: usize,
    packs_max: usize,
    packs: Vec<ChunkRef>,
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

    /// Where a small file's content is: the pack, and where in it.
    pub fn find(&self, hash: &BlobHash, length: u64) -> Option<(&ChunkRef, u32)> {
        let row = self.row(hash).filter(|row| u64::from(row.length) == length)?;
        let pack = self.packs.get(usize::try_from(row.pack).ok()?)?;
        Some((pack, row.offset))
    }

    /// Remembers where an entry's content is, if that is a pack.
    pub fn learn(&mut self, entry: &Entry) {
        let What::File(body) = &entry.what else { return };
        let Content::Packed { pack, offset, hash } = &body.content else { return };
        if let Ok(length) = u32::try_from(body.data_bytes()) {
            self.add(pack, &PackedBlob { hash: *hash, offset: *offset, length });
        }
    }

    /// Remembers where a blob is, unless it is known already or there is no room.
    pub fn add(&mut self, pack: &ChunkRef, blob: &PackedBlob) {
        if self.row(&blob.hash).is_some() {
            return;
        }
        let pack = if self.len() < self.blobs_max { self.pack(pack) } else { None };
        let Some(pack) = pack else {
            self.left_out += 1;
            return;
        };
        let PackedBlob { hash, offset, length } = *blob;
        self.recent.insert(hash, Row { hash, pack, offset, length });
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
        let at = self.sorted.binary_search_by_key(hash, |row| row.hash).ok()?;
        self.sorted.get(at).copied()
    }

    /// The pack's place; `None` where it is new and there is no room.
    fn pack(&mut self, pack: &ChunkRef) -> Option<u32> {
        if let Some(at) = self.by_id.get(&pack.id) {
            return Some(*at);
        }
        if self.packs.len() >= self.packs_max {
            return None;
        }
        let at = u32::try_from(self.packs.len()).ok()?;
        self.packs.push(pack.duplicate());
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
            known.add(&pack((number % 3) as u8), &blob(number));
        }
        assert_eq!((known.len(), known.packs.len()), (count as usize, 3));
        for number in (0..count).step_by(997) {
            let PackedBlob { hash, offset, length } = blob(number);
            let (found, at) = known.find(&hash, length.into()).unwrap();
            assert_eq!((found.id, at), (pack((number % 3) as u8).id, offset));
            assert!(known.find(&hash, u64::from(length) + 1).is_none());
        }
        assert!(known.find(&blob(count).hash, 1).is_none());
    }

    #[test]
    fn known_is_bounded_and_says_so() {
        let mut known = Known::with_most(10, 2);
        for number in 0..15 {
            known.add(&pack((number % 2) as u8), &blob(number));
        }
        assert_eq!((known.len(), known.left_out(), known.is_full()), (10, 5, true));
        // What is known already is not left out.
        known.add(&pack(1), &blob(3));
        assert_eq!(known.left_out(), 5);
        let mut known = Known::with_most(10, 2);
        for number in 0..5 {
            known.add(&pack(number as u8), &blob(number));
        }
        assert_eq!((known.len(), known.left_out(), known.is_full()), (2, 3, true));
    }
}
