//! What the catalogue remembers of what holders said they keep: when that was, for many chunks of
//! one store at once.

use super::Fields;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};

/// Chunks of one entry, at most.
pub(in super::super) const PROVEN_CHUNKS_MAX: usize = 4_096;

/// A holder acknowledged these chunks, or said that it keeps them, or an audit proved it, at about
/// one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Who.
    pub node: NodeId,
    /// Which store of it.
    pub epoch: StoreEpoch,
    /// When: seconds since 1970.
    pub at_s: u32,
    /// The first 8 bytes of the ids, at most `PROVEN_CHUNKS_MAX` of them. No two chunks of an
    /// owner begin alike but by chance, once in 2^64 for each pair.
    pub chunks: Vec<u64>,
}

impl Proven {
    /// How a chunk is named here.
    pub fn prefix(id: &ChunkId) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Its tag says which of these it was.
    pub(super) fn encode(&self, tag: u8, out: &mut Vec<u8>) {
        out.push(tag);
        out.extend_from_slice(self.node.as_bytes());
        out.extend_from_slice(self.epoch.as_bytes());
        out.extend_from_slice(&self.at_s.to_le_bytes());
        let count = self.chunks.len().min(PROVEN_CHUNKS_MAX);
        out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
        for chunk in self.chunks.iter().take(count) {
            out.extend_from_slice(&chunk.to_be_bytes());
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let (node, epoch) = (NodeId::from_bytes(from.array()?), from.array()?);
        let at_s = u32::from_le_bytes(from.array()?);
        let count = usize::from(u16::from_le_bytes(from.array()?));
        if count > PROVEN_CHUNKS_MAX {
            return None;
        }
        let chunk = |_| from.array().map(u64::from_be_bytes);
        let chunks = (0..count).map(chunk).collect::<Option<Vec<u64>>>()?;
        Some(Self { node, epoch: StoreEpoch::from_bytes(epoch), at_s, chunks })
    }
}
