//! A holder's half: what it is asked to do with each chunk, and the answers that come of it.

use super::field::{P, add, mul};
use super::sums::Sums;
use super::{
    BLOCK_BYTES, BadTags, Challenge, ELEMENT_BYTES, MacKey, SECTORS, TAG_BYTES, are_tags,
    for_each_block,
};
use crate::core::types::ChunkId;
use crate::planted::{Bug, is_on};

/// Bytes of a compact proof: 512 sums of sectors, two of tags.
pub const PROOF_BYTES: usize = (SECTORS + 2) * ELEMENT_BYTES;

/// What one audit asks of each of its chunks. Its clones go where the chunks are read.
#[derive(Debug, Clone)]
pub enum Task {
    /// A share of one compact proof.
    Compact(Challenge),
    /// A MAC of its own.
    Mac {
        /// Of the owner and this holder.
        key: MacKey,
        /// The owner's, fresh.
        seed: [u8; 32],
    },
}

impl Task {
    /// The piece of the chunk `id`, of its bytes and the tags that came with it. A MAC is of the
    /// bytes alone.
    ///
    /// # Errors
    /// [`BadTags`], of a compact task only.
    pub fn piece(&self, id: &ChunkId, sealed: &[u8], tags: &[u8]) -> Result<Piece, BadTags> {
        match self {
            Self::Compact(challenge) => prove(challenge, id, sealed, tags).map(Piece::Compact),
            Self::Mac { key, seed } => Ok(Piece::Mac(key.mac(seed, id, sealed))),
        }
    }
}

/// What one chunk gives of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// To be added to those of the other chunks: [`Proof::add`].
    Compact(Proof),
    /// The answer for this chunk.
    Mac([u8; 32]),
}

/// A compact proof: of any number of chunks, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub(super) mu: Box<[u64; SECTORS]>,
    pub(super) sigma: [u64; 2],
}

impl Proof {
    /// Of no chunk.
    pub fn zero() -> Self {
        Self { mu: Box::new([0; SECTORS]), sigma: [0; 2] }
    }

    /// Takes in what `other` proves, for the same challenge.
    pub fn add(&mut self, other: &Self) {
        let sums = self.mu.iter_mut().chain(&mut self.sigma);
        for (sum, value) in sums.zip(other.mu.iter().chain(&other.sigma)) {
            *sum = add(*sum, *value);
        }
    }

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

/// The compact proof of one chunk.
fn prove(
    challenge: &Challenge,
    id: &ChunkId,
    sealed: &[u8],
    tags: &[u8],
) -> Result<Proof, BadTags> {
    if !are_tags(sealed.len(), tags) {
        return Err(BadTags);
    }
    let (pairs, _) = tags.as_chunks::<TAG_BYTES>();
    let (mut weights, mut pairs) = (challenge.weights(id), pairs.iter());
    let (mut mu, mut sigma) = (Sums::new(), [0; 2]);
    let skipped = if is_on(Bug::ProofSkipsTail) { sealed.len() % BLOCK_BYTES } else { 0 };
    let sealed = sealed.get(..sealed.len() - skipped).unwrap_or(sealed);
    for_each_block(sealed, |block| {
        let weight = weights.take();
        let (tags, _) = pairs.next().map_or(&[][..], |pair| pair).as_chunks::<ELEMENT_BYTES>();
        for (sigma, tag) in sigma.iter_mut().zip(tags) {
            *sigma = add(*sigma, mul(weight, u64::from_le_bytes(*tag)));
        }
        mu.add_block(weight, block);
    });
    Ok(Proof { mu: mu.reduced(), sigma })
}
