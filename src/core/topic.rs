//! The map from (mesh, locality, b) to gossip topics.
//!
//! `/quloud/1/<mesh>/<shard>/<kind>`: `<mesh>` = the first 16 hexadecimal digits of the mesh id,
//! `<shard>` = the first b bits of the locality as four hexadecimal digits. Where b is 0
//! there is one shard, `0000`. Who serves which shard: [`super::shard`].

use super::types::{AnswerTag, Locality, MeshId, PROTOCOL_VERSION};

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKind {
    /// Store requests.
    Store,
    /// Retrieve requests.
    Retrieve,
    /// Audit `locate` requests.
    Audit,
    /// Sealed answers.
    Answer,
}

impl TopicKind {
    /// All kinds, in the order of their names here.
    pub const ALL: [Self; 4] = [Self::Store, Self::Retrieve, Self::Audit, Self::Answer];

    /// The last segment of the topic's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Retrieve => "retrieve",
            Self::Audit => "audit",
            Self::Answer => "answer",
        }
    }
}

/// One topic of the mesh this node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// What it is for.
    pub kind: TopicKind,
    /// The first b bits of a locality, in the low bits; 0 where b is 0.
    pub shard: u16,
}

impl Topic {
    /// The topic of `kind` for a locality, at `bits` shard bits (0 to 16).
    pub fn new(kind: TopicKind, locality: Locality, bits: u32) -> Self {
        let shard = u32::from(locality.0) >> 16u32.saturating_sub(bits.min(16));
        Self { kind, shard: shard as u16 }
    }

    /// The topic of the answers with `tag`, at `bits` shard bits: the tag's first 16 bits, in
    /// big-endian order, stand for a locality. An asker picks a key whose tag leads to a shard that
    /// it subscribes to.
    pub fn answer(tag: &AnswerTag, bits: u32) -> Self {
        let [high, low, ..] = *tag.as_bytes();
        Self::new(TopicKind::Answer, Locality(u16::from_be_bytes([high, low])), bits)
    }

    /// The topic's full name in `mesh`.
    pub fn name(&self, mesh: &MeshId) -> String {
        let mesh: String = mesh.to_string().chars().take(16).collect();
        format!("/quloud/{PROTOCOL_VERSION}/{mesh}/{:04x}/{}", self.shard, self.kind.name())
    }
}
