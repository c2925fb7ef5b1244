//! Proofs that a holder has chunks: compact ones, which the owner checks with its words alone, and
//! MACs, which it makes again from the bytes.
//!
//! **Compact**: the proof of retrievability with private verification of Shacham and Waters
//! (ASIACRYPT 2008, section 3.2) over p = 2^61 - 1, with two independent tags for each block.
//!
//! ```text
//! sealed ─▶ blocks of 3,584 B ─▶ 512 sectors m of 7 B, little-endian; zeros fill the last block
//! tag      tau_t,i = f_t,i + sum_j alpha_t,j * m_i,j                            t = 0, 1
//! answer   mu_j = sum nu_i * m_i,j      sigma_t = sum nu_i * tau_t,i
//! check    sigma_t = sum nu_i * f_t,i + sum_j alpha_t,j * mu_j
//! ```
//! `alpha` is one for all of an owner's chunks of one generation, `f` masks each tag and depends on
//! the chunk's id, so that the same block has another tag in another chunk; both come from the
//! owner's audit purpose alone: with a chunk's key one could forge. `f` depends on the number of
//! the chunk's blocks too: an owner that knows nothing but the id takes that number from the
//! holder, and masks of a false one fit no tags that there are. `nu` comes from a fresh seed, the
//! holder and the id. The sums go over all blocks of all chunks of one audit: one answer of
//! [`PROOF_BYTES`], however many there are. An answer other than the right one passes with 2^-122;
//! who lacks bytes and computes as it should, with 2^-61. PROTOCOL.md, section 28, says why.
//!
//! An owner makes tags with its [`TagKey`] when it seals a chunk, and checks with a [`Checker`]; a
//! holder does its [`Task`] chunk by chunk, and adds the [`Piece`]s up.
//!
//! Tags are no secret from the holder that keeps them, and are the same at every holder.
//!
//! **MAC**: HMAC-SHA-256 over seed, id and bytes. The seed comes first: after the bytes it could be
//! answered for ever from the hash's state, without the bytes.

mod answer;
mod field;
mod mac;
mod sums;

use super::header::Header;
use super::keys::AuditPurposeKey;
use super::{expand, keyed_hash};
use crate::core::types::{CHUNK_SEALED_BYTES_MAX, ChunkId, NodeId};
pub use answer::{PROOF_BYTES, Piece, Proof, Task};
use field::{Elements, P, add, mul, reduce};
pub use mac::MacKey;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of one sector: an element that needs no reduction.
const SECTOR_BYTES: usize = 7;

/// Sectors of one block.
const SECTORS: usize = 512;

/// Bytes of the sealed chunk that have one pair of tags.
pub const BLOCK_BYTES: usize = SECTOR_BYTES * SECTORS;

/// The most blocks that a chunk has.
pub const BLOCKS_MAX: u32 = blocks(CHUNK_SEALED_BYTES_MAX as usize);

/// Bytes of the two tags of a block.
pub const TAG_BYTES: usize = 2 * ELEMENT_BYTES;

/// Bytes of an element, little-endian.
const ELEMENT_BYTES: usize = 8;

/// Sectors that lie in whole 64-bit words together: 8 of 7 bytes.
const GROUP_BYTES: usize = 56;

/// The tags are not those of as many bytes, or no elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are no tags of a chunk of this length")]
pub struct BadTags;

/// Blocks of `sealed_bytes` sealed bytes, the last of them filled up.
pub const fn blocks(sealed_bytes: usize) -> u32 {
    sealed_bytes.div_ceil(BLOCK_BYTES) as u32
}

/// Bytes of the tags of `sealed_bytes` sealed bytes.
pub const fn tags_bytes(sealed_bytes: usize) -> usize {
    sealed_bytes.div_ceil(BLOCK_BYTES) * TAG_BYTES
}

/// Whether these can be tags of `sealed_bytes` sealed bytes: two for each block, all of them
/// elements. Whether they are the right ones, the owner alone can tell.
pub fn are_tags(sealed_bytes: usize, tags: &[u8]) -> bool {
    let (elements, _) = tags.as_chunks::<ELEMENT_BYTES>();
    let is_element = |bytes: &[u8; ELEMENT_BYTES]| u64::from_le_bytes(*bytes) < P;
    tags.len() == tags_bytes(sealed_bytes) && elements.iter().all(is_element)
}

/// What an owner tags its chunks of one generation with, and checks proofs by.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TagKey {
    generation: u32,
    /// alpha: as many elements for each of the two tags as a block has sectors.
    alpha: Box<[[u64; SECTORS]; 2]>,
    /// Keys the masks f.
    mask: [u8; 32],
}

impl TagKey {
    /// From the owner's audit purpose of `generation`.
    pub fn derive(generation: u32, purpose: &AuditPurposeKey) -> Self {
        let key = Zeroizing::new(expand::<32>(purpose.expose(), &[b"quloud/v1/por-alpha"]));
        let mut elements = Elements::new(&key, &[]);
        let mut alpha = Box::new([[0; SECTORS]; 2]);
        alpha.iter_mut().flatten().for_each(|alpha| *alpha = elements.take());
        let mask = expand(purpose.expose(), &[b"quloud/v1/por-mask"]);
        Self { generation, alpha, mask }
    }

    /// The tags of the chunk with this header, [`tags_bytes`] of its length. `None` where `sealed`
    /// are not the bytes that it certifies, or it is of another generation: two sets of tags under
    /// one id, of bytes that differ, would give alpha away.
    pub fn tags(&self, header: &Header, sealed: &[u8]) -> Option<Vec<u8>> {
        let certified = header.generation == self.generation && header.certifies(sealed);
        certified.then(|| self.tags_of_certified(header, sealed))
    }

    /// [`Self::tags`] of a header that was made of these very bytes just now, with the keys of this
    /// generation: there is nothing to check, and the bytes are not hashed a second time.
    pub(super) fn tags_of_certified(&self, header: &Header, sealed: &[u8]) -> Vec<u8> {
        let mut masks = self.masks(&header.id(), blocks(sealed.len()));
        let mut tags = Vec::with_capacity(tags_bytes(sealed.len()));
        for_each_block(sealed, |block| {
            for sum in self.combined(block) {
                tags.extend_from_slice(&add(sum, masks.take()).to_le_bytes());
            }
        });
        tags
    }

    /// f of the blocks of a chunk that has so many: of each the first, then the second.
    fn masks(&self, id: &ChunkId, blocks: u32) -> Elements {
        Elements::new(&self.mask, &[id.as_bytes(), &blocks.to_le_bytes()])
    }

    /// `sum_j alpha_t,j * m_j` of a block, for both t.
    fn combined(&self, block: &[u8; BLOCK_BYTES]) -> [u64; 2] {
        let [first, second] = &*self.alpha;
        let ((first, _), (second, _)) = (first.as_chunks::<8>(), second.as_chunks::<8>());
        let mut sums = [0_u128; 2];
        for ((group, first), second) in groups(block).zip(first).zip(second) {
            for ((sector, first), second) in group.into_iter().zip(first).zip(second) {
                let [one, two] = &mut sums;
                *one += u128::from(sector) * u128::from(*first);
                *two += u128::from(sector) * u128::from(*second);
            }
        }
        sums.map(reduce)
    }
}

impl std::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TagKey(..)")
    }
}

/// What one audit asks of one holder: a fresh seed, which is worth nothing to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge([u8; 32]);

impl Challenge {
    /// The challenge of `seed` (32 random bytes) for `holder`.
    pub fn new(seed: &[u8; 32], holder: &NodeId) -> Self {
        Self(keyed_hash(seed, &[b"quloud/v1/por-challenge", holder.as_bytes()]))
    }

    /// nu of a chunk's blocks.
    fn weights(&self, id: &ChunkId) -> Elements {
        Elements::new(&self.0, &[id.as_bytes()])
    }
}

/// What an owner expects of an answer, as it grows: chunk by chunk, in any order, each once.
pub struct Checker<'a> {
    key: &'a TagKey,
    challenge: Challenge,
    /// `sum nu_i * f_t,i`.
    masks: [u64; 2],
}

impl<'a> Checker<'a> {
    /// Of no chunk yet: an answer of zeros passes.
    pub fn new(key: &'a TagKey, challenge: Challenge) -> Self {
        Self { key, challenge, masks: [0; 2] }
    }

    /// Expects the chunk with this id, which must be of the key's generation: what is of several
    /// generations is audited one after the other. `blocks` may be what the holder says, 1 to
    /// [`BLOCKS_MAX`]; where the chunk has another number, or none can have this one, no answer
    /// passes.
    pub fn add(&mut self, id: &ChunkId, blocks: u32) {
        let (mut weights, mut masks) = (self.challenge.weights(id), self.key.masks(id, blocks));
        // Of no blocks nothing would be expected.
        for _ in 0..blocks.clamp(1, BLOCKS_MAX) {
            let weight = weights.take();
            for sum in &mut self.masks {
                *sum = add(*sum, mul(weight, masks.take()));
            }
        }
    }

    /// Whether the holder that made `proof` has all of these chunks.
    pub fn holds(&self, proof: &Proof) -> bool {
        let expected = |(alpha, masks): (&[u64; SECTORS], &u64)| {
            let products = alpha.iter().zip(proof.mu.iter());
            products.fold(*masks, |sum, (alpha, mu)| add(sum, mul(*alpha, *mu)))
        };
        let expected = self.key.alpha.iter().zip(&self.masks).map(expected);
        let wrong = expected
            .zip(proof.sigma)
            .fold(0, |wrong, (expected, sigma)| wrong | (expected ^ sigma));
        wrong.ct_eq(&0).into()
    }
}

impl std::fmt::Debug for Checker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checker(..)")
    }
}

/// Calls `work` with each block, the last one filled up with zeros.
fn for_each_block(sealed: &[u8], mut work: impl FnMut(&[u8; BLOCK_BYTES])) {
    let (blocks, rest) = sealed.as_chunks::<BLOCK_BYTES>();
    blocks.iter().for_each(&mut work);
    if !rest.is_empty() {
        let mut last = [0; BLOCK_BYTES];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        work(&last);
    }
}

/// The sectors of a block, eight at a time: these are seven words.
fn groups(block: &[u8; BLOCK_BYTES]) -> impl Iterator<Item = [u64; 8]> {
    const LOW: u64 = (1 << (8 * SECTOR_BYTES)) - 1;
    let (groups, _) = block.as_chunks::<GROUP_BYTES>();
    groups.iter().map(|group| {
        let mut words = [0; 7];
        let (bytes, _) = group.as_chunks::<8>();
        words.iter_mut().zip(bytes).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
        let [a, b, c, d, e, f, g] = words;
        [
            a & LOW,
            (a >> 56 | b << 8) & LOW,
            (b >> 48 | c << 16) & LOW,
            (c >> 40 | d << 24) & LOW,
            (d >> 32 | e << 32) & LOW,
            (e >> 24 | f << 40) & LOW,
            (f >> 16 | g << 48) & LOW,
            g >> 8,
        ]
    })
}

#[cfg(test)]
mod tests;
