//! What a store job stores: a chunk, or a record of a head.
//!
//! Both are offered, granted, acknowledged and counted alike. What differs: the message that brings
//! them, the key that proves, that a head has an id over many records, so that an ack of one record
//! says nothing of another, and that nobody's word counts that it is held.

use crate::core::types::{ChunkId, LeaseNonce, Locality};
use crate::crypto::head::{HEAD_RECORD_BYTES, HeadKeys, HeadRecord};
use crate::crypto::keys::ChunkSecret;
use crate::crypto::seal::SealedChunk;
use bytes::Bytes;

/// What a store job stores.
#[derive(Debug)]
pub enum Load {
    /// One chunk.
    Chunk(SealedChunk),
    /// One record of a head.
    Head(HeadLoad),
}

/// A record of a head, on its way to its holders.
#[derive(Debug)]
pub struct HeadLoad {
    pub(super) record: HeadRecord,
    pub(super) locality: Locality,
    /// z_h.
    pub(super) sign: ChunkSecret,
}

impl Load {
    /// A record of the head with these keys.
    pub fn head(keys: &HeadKeys, record: HeadRecord) -> Self {
        Self::Head(HeadLoad { record, locality: keys.locality(), sign: keys.sign_secret() })
    }

    /// Of the chunk, or of the head.
    pub fn id(&self) -> ChunkId {
        match self {
            Self::Chunk(chunk) => chunk.id(),
            Self::Head(head) => head.record.id(),
        }
    }

    /// What a holder is to keep.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Chunk(chunk) => chunk.sealed.clone(),
            Self::Head(head) => head.record.encode(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Chunk(chunk) => chunk.sealed.len(),
            Self::Head(_) => HEAD_RECORD_BYTES,
        }
    }

    /// The same as an offer says it.
    pub(super) fn sealed_bytes(&self) -> u32 {
        match self {
            Self::Chunk(chunk) => chunk.header.sealed_bytes,
            Self::Head(_) => HEAD_RECORD_BYTES as u32,
        }
    }

    /// Where its topics are.
    pub fn locality(&self) -> Locality {
        match self {
            Self::Chunk(chunk) => chunk.locality,
            Self::Head(head) => head.locality,
        }
    }

    /// The lease that a holder of a head has to name; a chunk's is the holder's to choose.
    pub(super) fn lease(&self) -> Option<LeaseNonce> {
        match self {
            Self::Chunk(_) => None,
            Self::Head(head) => Some(head.record.lease()),
        }
    }

    pub(super) fn is_head(&self) -> bool {
        matches!(self, Self::Head(_))
    }

    /// The numbers of both where these are different records of one head.
    pub(super) fn other_record(&self, other: &Self) -> Option<(u64, u64)> {
        match (self, other) {
            (Self::Head(one), Self::Head(other)) if one.record != other.record => {
                Some((one.record.number(), other.record.number()))
            }
            _ => None,
        }
    }
}

impl From<SealedChunk> for Load {
    fn from(chunk: SealedChunk) -> Self {
        Self::Chunk(chunk)
    }
}
