//! Audits: what a holder says of the chunks that it is asked to prove.

use crate::crypto::account::AccountOperation;
use bytes::Bytes;

/// How a holder is to prove that it has chunks; see [`crate::crypto::audit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditKind {
    /// One answer of 4,112 bytes for all of them, which the owner checks with its keys alone.
    Compact,
    /// 32 bytes for each, which the owner makes again from the sealed bytes.
    Mac,
}

impl AuditKind {
    /// Its number as an operation on an account.
    pub fn operation(self) -> AccountOperation {
        match self {
            Self::Compact => AccountOperation::AuditCompact,
            Self::Mac => AccountOperation::AuditMac,
        }
    }
}

/// What a holder answers to an audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// What it was asked for.
    pub kind: AuditKind,
    /// One for each id, in its order: 1 to 4,096.
    pub chunks: Vec<AuditedChunk>,
    /// Proves those that are said to be proven, and no other: 4,112 bytes in the compact kind,
    /// empty where none is; 32 bytes for each of them in the other.
    pub proof: Bytes,
}

/// What a holder says of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedChunk {
    /// How it is with it.
    pub state: AuditState,
    /// How many blocks it has: 1 to 1,171 where it is proven, or else 0. The tags bind it, so that
    /// the owner need not know it.
    pub blocks: u16,
}

/// How it is with a chunk that is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum AuditState {
    /// Not held.
    NotHeld = 0,
    /// Held: the proof covers it.
    Proven = 1,
    /// Let go: it is not proven, and does not count.
    Released = 2,
    /// Held, and damaged: the holder admits it.
    Damaged = 3,
}

impl Audited {
    /// `count u16 | count * (state u8 | blocks u16) | proof`, integers little-endian.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.chunks.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for AuditedChunk { state, blocks } in &self.chunks {
            out.push(*state as u8);
            out.extend_from_slice(&blocks.to_le_bytes());
        }
        out.extend_from_slice(&self.proof);
    }

    /// How many chunks the proof covers.
    pub fn proven(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.state == AuditState::Proven).count()
    }
}
