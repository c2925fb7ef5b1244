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
//! owner's audit purpose alone: with a chunk's key one could forge. `nu` comes from a fresh seed,
//! the holder and the id. The sums go over all blocks of all chunks of one audit: one answer of
//! [`PROOF_BYTES`], however many there are. An answer other than the right one passes with 2^-122;
//! who lacks bytes and computes as it should, with 2^-61. PROTOCOL.md, section 28, says why.
//!
//! Tags are no secret from the holder that keeps them, and are the same at every holder.
//!
//! **MAC**: HMAC-SHA-256 over seed, id and bytes. The seed comes first: after the bytes it could be
//! answered for ever from the hash's state, without the bytes.

mod field;

use super::header::Header;
use super::keys::{OwnerKeys, PairKey};
use super::{expand, keyed_hash};
use crate::core::types::{ChunkId, NodeId};
use field::{Elements, P, PRODUCTS_MAX, add, mul, reduce};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of one sector: an element that needs no reduction.
const SECTOR_BYTES: usize = 7;

/// Sectors of one block.
const SECTORS: usize = 512;

/// Bytes of the sealed chunk that have one pair of tags.
pub const BLOCK_BYTES: usize = SECTOR_BYTES * SECTORS;

/// Bytes of the two tags of a block.
pub const TAG_BYTES: usize = 2 * ELEMENT_BYTES;

/// Bytes of a compact proof: 512 sums of sectors, two of tags.
pub const PROOF_BYTES: usize = (SECTORS + 2) * ELEMENT_BYTES;

/// Bytes of an element, little-endian.
const ELEMENT_BYTES: usize = 8;

/// Sectors that lie in whole 64-bit words together: 8 of 7 bytes.
const GROUP_BYTES: usize = 56;

/// The tags are not those of as many bytes, or no elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are no tags of a chunk of this length")]
pub struct BadTags;

/// Bytes of the tags of `sealed_bytes` sealed bytes.
pub const fn tags_bytes(sealed_bytes: usize) -> usize {
    sealed_bytes.div_ceil(BLOCK_BYTES) * TAG_BYTES
}

/// The chunk was made with the keys of another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunk is of another generation than the key")]
pub struct OtherGeneration;

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
    /// From the owner's audit purpose.
    pub fn derive(keys: &OwnerKeys) -> Self {
        let purpose = &keys.audit;
        let key = Zeroizing::new(expand::<32>(purpose.expose(), &[b"quloud/v1/por-alpha"]));
        let mut elements = Elements::new(&key, &[]);
        let mut alpha = Box::new([[0; SECTORS]; 2]);
        alpha.iter_mut().flatten().for_each(|alpha| *alpha = elements.take());
        let mask = expand(purpose.expose(), &[b"quloud/v1/por-mask"]);
        Self { generation: keys.generation, alpha, mask }
    }

    /// The tags of the chunk with this header, [`tags_bytes`] of its length. `None` where `sealed`
    /// are not the bytes that it certifies, or it is of another generation: two sets of tags under
    /// one id, of bytes that differ, would give alpha away.
    pub fn tags(&self, header: &Header, sealed: &[u8]) -> Option<Vec<u8>> {
        if header.generation != self.generation || !header.certifies(sealed) {
            return None;
        }
        let mut masks = self.masks(&header.id());
        let mut tags = Vec::with_capacity(tags_bytes(sealed.len()));
        for_each_block(sealed, |block| {
            for sum in self.combined(block) {
                tags.extend_from_slice(&add(sum, masks.take()).to_le_bytes());
            }
        });
        Some(tags)
    }

    /// f of a chunk's blocks: of each the first, then the second.
    fn masks(&self, id: &ChunkId) -> Elements {
        Elements::new(&self.mask, id.as_bytes())
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
        Elements::new(&self.0, id.as_bytes())
    }
}

/// A holder's answer, as it grows: chunk by chunk, in any order.
pub struct Prover {
    challenge: Challenge,
    mu: Box<[u128; SECTORS]>,
    sigma: [u64; 2],
    /// Products in each of `mu` since it was reduced.
    products: usize,
}

impl Prover {
    /// Of no chunk yet.
    pub fn new(challenge: Challenge) -> Self {
        Self { challenge, mu: Box::new([0; SECTORS]), sigma: [0; 2], products: 0 }
    }

    /// Takes a chunk in, with the tags that came with it.
    ///
    /// # Errors
    /// [`BadTags`]; nothing of the chunk is in the answer then.
    pub fn add(&mut self, id: &ChunkId, sealed: &[u8], tags: &[u8]) -> Result<(), BadTags> {
        let tags = read_tags(sealed, tags).ok_or(BadTags)?;
        let (mut weights, mut tags) = (self.challenge.weights(id), tags.into_iter());
        for_each_block(sealed, |block| {
            let weight = weights.take();
            for (sigma, tag) in self.sigma.iter_mut().zip(tags.next().unwrap_or_default()) {
                *sigma = add(*sigma, mul(weight, tag));
            }
            self.add_block(weight, block);
        });
        Ok(())
    }

    fn add_block(&mut self, weight: u64, block: &[u8; BLOCK_BYTES]) {
        if self.products == PRODUCTS_MAX {
            self.mu.iter_mut().for_each(|mu| *mu = reduce(*mu).into());
            self.products = 0;
        }
        self.products += 1;
        let (mu, _) = self.mu.as_chunks_mut::<8>();
        for (group, mu) in groups(block).zip(mu) {
            for (sector, mu) in group.into_iter().zip(mu) {
                *mu += u128::from(sector) * u128::from(weight);
            }
        }
    }

    /// The answer.
    pub fn finish(self) -> Proof {
        let mut mu = Box::new([0; SECTORS]);
        mu.iter_mut().zip(self.mu.iter()).for_each(|(to, from)| *to = reduce(*from));
        Proof { mu, sigma: self.sigma }
    }
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prover(..)")
    }
}

/// A compact proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    mu: Box<[u64; SECTORS]>,
    sigma: [u64; 2],
}

impl Proof {
    /// `mu 512 * u64 | sigma 2 * u64`, little-endian: [`PROOF_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let elements = self.mu.iter().chain(&self.sigma);
        elements.flat_map(|element| element.to_le_bytes()).collect()
    }

    /// Reads [`Self::encode`]; `None` for another length, and where one is not below p.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PROOF_BYTES] = bytes.try_into().ok()?;
        let (elements, _) = bytes.as_chunks::<ELEMENT_BYTES>();
        let elements: Vec<u64> = elements.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        if elements.iter().any(|element| *element >= P) {
            return None;
        }
        let (mu, sigma) = elements.split_first_chunk::<SECTORS>()?;
        Some(Self { mu: Box::new(*mu), sigma: sigma.try_into().ok()? })
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

    /// Expects the chunk with this header.
    ///
    /// # Errors
    /// [`OtherGeneration`]; the chunk is not expected then. What is of several generations is
    /// audited one after the other.
    pub fn add(&mut self, header: &Header) -> Result<(), OtherGeneration> {
        if header.generation != self.key.generation {
            return Err(OtherGeneration);
        }
        let blocks = (header.sealed_bytes as usize).div_ceil(BLOCK_BYTES);
        let id = header.id();
        let (mut weights, mut masks) = (self.challenge.weights(&id), self.key.masks(&id));
        for _ in 0..blocks {
            let weight = weights.take();
            for sum in &mut self.masks {
                *sum = add(*sum, mul(weight, masks.take()));
            }
        }
        Ok(())
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

/// The other kind of answer, of one chunk: 32 bytes,
/// `HMAC-SHA256(Expand(pair, "quloud/v1/audit-mac"), seed 32 | id 32 | sealed)`.
pub fn mac(pair: &PairKey, seed: &[u8; 32], id: &ChunkId, sealed: &[u8]) -> [u8; 32] {
    hmac(pair, seed, id, sealed).finalize().into_bytes().into()
}

/// Whether `answer` is the [`mac`] of these; in constant time.
pub fn mac_holds(
    pair: &PairKey,
    seed: &[u8; 32],
    (id, sealed): (&ChunkId, &[u8]),
    answer: &[u8; 32],
) -> bool {
    hmac(pair, seed, id, sealed).verify_slice(answer).is_ok()
}

fn hmac(pair: &PairKey, seed: &[u8; 32], id: &ChunkId, sealed: &[u8]) -> Hmac<Sha256> {
    let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/audit-mac"]));
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    [seed, id.as_bytes(), sealed].iter().for_each(|part| mac.update(part));
    mac
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

/// Two tags for each block, all of them elements.
fn read_tags(sealed: &[u8], tags: &[u8]) -> Option<Vec<[u64; 2]>> {
    let (pairs, _) = tags.as_chunks::<TAG_BYTES>();
    let read = |pair: &[u8; TAG_BYTES]| {
        let (elements, _) = pair.as_chunks::<ELEMENT_BYTES>();
        let mut tags = [0; 2];
        tags.iter_mut().zip(elements).for_each(|(to, from)| *to = u64::from_le_bytes(*from));
        tags.iter().all(|tag| *tag < P).then_some(tags)
    };
    let fits = tags.len() == tags_bytes(sealed.len());
    fits.then(|| pairs.iter().map(read).collect()).flatten()
}

#[cfg(test)]
mod tests;
