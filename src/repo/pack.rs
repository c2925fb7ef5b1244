//! Packs: small files side by side in one chunk. Pure.
//!
//! A blob is the whole data of a file shorter than
//! [`PACKED_BYTES_MAX`](super::tree::PACKED_BYTES_MAX); a pack's plaintext is blobs end to end and
//! nothing else. Which blob is where stands in the tree, together with a hash by which the same
//! content is found again under any name:
//!
//! ```text
//! hash = first 16 bytes of BLAKE3-keyed(Expand(dedup, "quloud/v1/blob"), content)
//! ```
//!
//! It is keyed like a chunk's key: whoever has the tree and not the dedup key cannot confirm a
//! guess of a file with it, and 16 bytes are as many as it takes that two contents of one owner
//! never meet.

use super::tree::BlobHash;
use crate::crypto::keys::DedupKey;
use crate::crypto::{expand, keyed_hash};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A pack is closed from here on: large enough that a chunk costs little beside it, small enough
/// that one file of it does not cost much to fetch.
pub const PACK_BYTES: usize = 2 << 20;

/// Makes the hashes of blobs.
pub struct BlobHasher(Zeroizing<[u8; 32]>);

impl BlobHasher {
    /// The hasher of one owner.
    pub fn new(key: &DedupKey) -> Self {
        Self(Zeroizing::new(expand(key.expose(), &[b"quloud/v1/blob"])))
    }

    /// The hash of a small file's content.
    pub fn hash(&self, content: &[u8]) -> BlobHash {
        let hash = keyed_hash(&self.0, &[content]);
        let mut out = [0; 16];
        out.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        out
    }
}

impl std::fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobHasher(..)")
    }
}

/// A small file's data on its way into a pack.
#[derive(Debug, Clone, Copy)]
pub struct Blob<'a> {
    /// Of the content.
    pub hash: BlobHash,
    /// All of it.
    pub content: &'a [u8],
}

/// Where a blob lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// Of its content.
    pub hash: BlobHash,
    /// Where it begins.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

/// A pack that is full: its plaintext, and what lies where.
#[derive(Debug)]
pub struct ClosedPack {
    /// Blobs end to end.
    pub plaintext: Vec<u8>,
    /// In the order of their offsets.
    pub blobs: Vec<PackedBlob>,
}

/// The pack that is being filled.
#[derive(Debug, Default)]
pub struct Packer {
    plaintext: Vec<u8>,
    blobs: Vec<PackedBlob>,
    offsets: BTreeMap<BlobHash, u32>,
}

impl Packer {
    /// Adds a blob; returns where it begins. One that is in the pack already is not added again.
    pub fn add(&mut self, blob: &Blob<'_>) -> u32 {
        if let Some(offset) = self.offsets.get(&blob.hash) {
            return *offset;
        }
        let (offset, length) = (self.plaintext.len() as u32, blob.content.len() as u32);
        self.plaintext.extend_from_slice(blob.content);
        self.blobs.push(PackedBlob { hash: blob.hash, offset, length });
        self.offsets.insert(blob.hash, offset);
        offset
    }

    /// Whether it has its size and is to be closed.
    pub fn is_full(&self) -> bool {
        self.plaintext.len() >= PACK_BYTES
    }

    /// Closes the pack, if there is anything in it, and begins the next.
    pub fn close(&mut self) -> Option<ClosedPack> {
        let Self { plaintext, blobs, .. } = std::mem::take(self);
        (!blobs.is_empty()).then_some(ClosedPack { plaintext, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::{noise, owner};

    fn hasher() -> BlobHasher {
        BlobHasher::new(&owner(1).dedup)
    }

    #[test]
    fn blobs_lie_end_to_end_and_each_once() {
        let mut packer = Packer::default();
        let mut add = |content: &[u8]| packer.add(&Blob { hash: hasher().hash(content), content });
        assert_eq!((add(b"one"), add(b"three"), add(b"one"), add(b"x")), (0, 3, 0, 8));
        let pack = packer.close().unwrap();
        assert_eq!(pack.plaintext, b"onethreex");
        let places: Vec<(u32, u32)> =
            pack.blobs.iter().map(|blob| (blob.offset, blob.length)).collect();
        assert_eq!(places, [(0, 3), (3, 5), (8, 1)]);
        assert!(packer.close().is_none());
    }

    #[test]
    fn a_pack_is_full_at_two_mebibytes_and_never_longer_than_a_chunk() {
        let mut packer = Packer::default();
        let mut count = 0;
        while !packer.is_full() {
            let content = noise(262_143, count);
            packer.add(&Blob { hash: hasher().hash(&content), content: &content });
            count += 1;
        }
        let length = packer.close().unwrap().plaintext.len();
        assert_eq!(count, 9);
        assert!(length < super::super::frame::PLAINTEXT_BYTES_MAX);
    }

    #[test]
    fn equal_content_has_equal_hashes_of_one_owner_only() {
        assert_eq!(hasher().hash(b"x"), hasher().hash(b"x"));
        assert_ne!(hasher().hash(b"x"), hasher().hash(b"y"));
        assert_ne!(hasher().hash(b"x"), BlobHasher::new(&owner(2).dedup).hash(b"x"));
    }
}
