//! Looking on a topic for whoever holds some chunks: to fetch them, or to have them audited.
//!
//! On the wire these are two messages, RetrieveRequest and LocateRequest, with the same fields.
//! They stand on topics of their own, are proven under points of their own, and are answered alike:
//! by a sealed [`RetrieveOffer`](super::RetrieveOffer).

use super::request_digest;
use crate::core::topic::TopicKind;
use crate::core::types::{ChunkId, MeshId, RequestDigest};
use crate::crypto::ownership::{Context, Operation, Proof, Verifier, body_hash};

/// What holders are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchKind {
    /// To fetch: whoever may read a chunk asks, under Y. Heads are looked for in the same way.
    Retrieve,
    /// To ask about the owner's account: the chunk's owner alone asks, under Z.
    Locate,
}

impl SearchKind {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Retrieve, Self::Locate];

    /// What its proofs allow.
    pub fn operation(self) -> Operation {
        match self {
            Self::Retrieve => Operation::Retrieve,
            Self::Locate => Operation::Locate,
        }
    }

    /// The kind of the topics on which it may stand.
    pub fn topic_kind(self) -> TopicKind {
        match self {
            Self::Retrieve => TopicKind::Retrieve,
            Self::Locate => TopicKind::Audit,
        }
    }

    /// Its number in the digest of a request.
    fn number(self) -> u8 {
        match self {
            Self::Retrieve => 2,
            Self::Locate => 3,
        }
    }

    /// What the proofs of one request are bound to.
    pub fn context(
        self,
        mesh: MeshId,
        ephemeral: [u8; 32],
        attempt: u32,
        nonce: [u8; 32],
    ) -> Context {
        Context {
            operation: self.operation(),
            mesh,
            verifier: Verifier::Anyone(ephemeral),
            asker: None,
            nonce,
            body_hash: body_hash(&[&attempt.to_le_bytes()]),
        }
    }
}

/// "Who holds these chunks?" with a proof for anyone for each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchRequest {
    /// What for.
    pub kind: SearchKind,
    /// The asker's one-time X25519 key, to which offers are sealed.
    pub ephemeral: [u8; 32],
    /// 0, then one more with each publication.
    pub attempt: u32,
    /// The nonce of all proofs of this request.
    pub nonce: [u8; 32],
    /// 1 to 32 chunks, each with its proof in [`Self::context`].
    pub wanted: Vec<(ChunkId, Proof)>,
}

impl SearchRequest {
    /// What its proofs are bound to: verifier Anyone, no asker, body = attempt as `u32` LE.
    pub fn context(&self, mesh: MeshId) -> Context {
        self.kind.context(mesh, self.ephemeral, self.attempt, self.nonce)
    }

    /// The request's name: `SHA-256("quloud/v1/request" | kind u8 | ephemeral 32 | attempt u32 |
    /// nonce 32 | count u16 | count * (id 32 | proof 64))`, integers little-endian; kind is 2 of a
    /// RetrieveRequest and 3 of a LocateRequest.
    pub fn digest(&self) -> RequestDigest {
        let mut list = Vec::with_capacity(self.wanted.len() * 96);
        for (id, proof) in &self.wanted {
            list.extend_from_slice(id.as_bytes());
            list.extend_from_slice(proof);
        }
        let wanted = (self.wanted.len(), list.as_slice());
        request_digest(self.kind.number(), &self.ephemeral, self.attempt, &self.nonce, wanted)
    }
}
