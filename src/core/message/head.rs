//! Messages about heads, the records that an owner replaces.
//!
//! Records travel as bytes of their one length. Whether a signature holds costs as much as a proof
//! does, so whoever receives one looks at its rates first and then calls
//! [`HeadRecord::decode`](crate::crypto::head::HeadRecord::decode).

use crate::core::types::{Account, BatchId, ChunkId, LeaseTerms};
use crate::crypto::ownership::{self, Proof};
use bytes::Bytes;

/// A head on its way to a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHead {
    /// The owner's batch.
    pub batch: BatchId,
    /// The owner's account at this holder.
    pub account: Account,
    /// What is asked of the holder.
    pub terms: LeaseTerms,
    /// The proof's nonce.
    pub nonce: [u8; 32],
    /// Under Z_h, for the head's id: operation Store, verifier this holder, body hash
    /// [`StoreHead::body_hash`]. The record's own signature says whose it is; this says for which
    /// account it is kept, or whoever saw it could have it kept under its own.
    pub proof: Proof,
    /// Fresh: the receipt is over it.
    pub seed: [u8; 32],
    /// The record (the frame's payload), 2,221 bytes that were not looked at.
    pub record: Bytes,
}

impl StoreHead {
    /// What the proof covers besides the head: `account 32 | terms 12 | SHA-256(record) 32`.
    pub fn body_hash(account: &Account, terms: &LeaseTerms, record: &[u8]) -> [u8; 32] {
        let record = ownership::body_hash(&[record]);
        ownership::body_hash(&[account.as_bytes(), &terms.encode(), &record])
    }
}

/// A head, please. Turned down with a [`RetrieveReject`](super::RetrieveReject).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadGet {
    /// Chosen by the asker; the answer repeats it.
    pub request: u64,
    /// The head.
    pub id: ChunkId,
    /// The proof's nonce.
    pub nonce: [u8; 32],
    /// Under Y_h: operation Retrieve, verifier this holder, body = request as `u64` LE.
    pub proof: Proof,
    /// How many of the records before the newest are wanted, too: at most 16.
    pub superseded: u8,
}

/// What a holder keeps of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadData {
    /// The asker's number.
    pub request: u64,
    /// 1 to 17 records (the frame's payload), newest first, of 2,221 bytes each that were not
    /// looked at.
    pub records: Vec<Bytes>,
}
