//! Receipts and signed acknowledgements.
//!
//! A **receipt** shows that the sealed bytes arrived at a holder that shares the pairwise key; it
//! says nothing about storing. An **ack** is the holder's signature, given only after its store
//! reported the bytes durable, over everything the owner must be able to hold it to.

use super::keys::{NodeKeys, PairKey, verify_signature};
use super::{expand, keyed_hash};
use crate::core::types::{
    Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, MeshId, NodeId, StoreEpoch,
};
use crate::planted::{self, Bug};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The largest number of chunks in one ack.
pub const ACK_CHUNKS_MAX: usize = 64;

const DOMAIN: &[u8; 13] = b"quloud/v1/ack";

/// `keyed BLAKE3(receipt key, seed 32 || id 32 || sealed)`, 32 bytes.
pub type Receipt = [u8; 32];

/// The receipt of `sealed` for the fresh `seed` that came with it.
pub fn receipt(pair: &PairKey, seed: &[u8; 32], id: &ChunkId, sealed: &[u8]) -> Receipt {
    let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/receipt"]));
    keyed_hash(&key, &[seed, id.as_bytes(), sealed])
}

/// Compares two receipts in constant time.
pub fn receipts_match(left: &Receipt, right: &Receipt) -> bool {
    planted::is_on(Bug::SkipReceipt) || left.ct_eq(right).into()
}

/// One chunk of an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// Names this lease; a release must cite it.
    pub lease: LeaseNonce,
    /// See [`receipt`].
    pub receipt: Receipt,
}

/// What a holder signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckStatement {
    /// The mesh.
    pub mesh: MeshId,
    /// The owner's account at this holder.
    pub account: Account,
    /// The owner's batch that brought the chunks.
    pub batch: BatchId,
    /// The store that holds them: a store that lost its data has another epoch.
    pub epoch: StoreEpoch,
    /// What the holder promises.
    pub terms: LeaseTerms,
    /// The chunks, 1 to [`ACK_CHUNKS_MAX`].
    pub chunks: Vec<AckedChunk>,
}

impl AckStatement {
    /// `len(domain) u8 | "quloud/v1/ack" | mesh 32 | holder 32 | account 32 | batch 16 | epoch 16 |
    /// renew-every s u32 | keep-after-silence s u32 | release delay s u32 | count u16 |
    /// count * (id 32 | lease nonce 16 | receipt 32)`, integers little-endian.
    pub fn encode(&self, holder: &NodeId) -> Vec<u8> {
        let count = u16::try_from(self.chunks.len()).unwrap_or(u16::MAX);
        let mut out = Vec::with_capacity(192 + self.chunks.len() * 80);
        out.push(DOMAIN.len() as u8);
        out.extend_from_slice(DOMAIN);
        out.extend_from_slice(self.mesh.as_bytes());
        out.extend_from_slice(holder.as_bytes());
        out.extend_from_slice(self.account.as_bytes());
        out.extend_from_slice(self.batch.as_bytes());
        out.extend_from_slice(self.epoch.as_bytes());
        out.extend_from_slice(&self.terms.encode());
        out.extend_from_slice(&count.to_le_bytes());
        for chunk in &self.chunks {
            out.extend_from_slice(chunk.id.as_bytes());
            out.extend_from_slice(chunk.lease.as_bytes());
            out.extend_from_slice(&chunk.receipt);
        }
        out
    }

    /// The holder's Ed25519 signature (64 bytes) over [`Self::encode`].
    pub fn sign(&self, keys: &NodeKeys) -> [u8; 64] {
        keys.sign(&self.encode(&keys.node_id()))
    }

    /// Whether `signature` is `holder`'s over this statement, and the statement is within its
    /// limits.
    pub fn verify(&self, holder: &NodeId, signature: &[u8; 64]) -> bool {
        (1..=ACK_CHUNKS_MAX).contains(&self.chunks.len())
            && verify_signature(holder, &self.encode(holder), signature)
    }
}

#[cfg(test)]
mod tests;
