//! The signature of an answer on a topic.
//!
//! A sealed box says nothing about who made it. Without a signature any member of the mesh could
//! answer in the name of another node and so speak for it: refuse, promise what it does not hold,
//! or give an address where it is not. The node that an answer names signs it, for one request.

use super::keys::{AgreementKey, NodeKeys, verify_signature};
use super::sha256;
use crate::core::types::{MeshId, NodeId, RequestDigest};
use crate::planted::{self, Bug};

const DOMAIN: &[u8; 16] = b"quloud/v1/answer";

/// What kind of answer is signed; the number stands in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AnswerKind {
    /// To a store request.
    Claim = 1,
    /// To a retrieve request.
    Offer = 2,
}

/// What a node signs when it answers on a topic: all that the answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerStatement<'a> {
    /// The mesh.
    pub mesh: MeshId,
    /// The request that is answered, with all that stands in it: bits by position mean nothing
    /// without its list, and anybody may repeat the one-time key with another list.
    pub request: RequestDigest,
    /// Claim or offer.
    pub kind: AnswerKind,
    /// One bit per chunk of the request: would be stored; 0 in an offer.
    pub wants: u64,
    /// One bit per chunk of the request: is held.
    pub holds: u64,
    /// N.
    pub agreement: AgreementKey,
    /// The signed PeerRecord.
    pub record: &'a [u8],
    /// The declared site.
    pub site: &'a str,
    /// The declared operator.
    pub operator: &'a str,
}

impl AnswerStatement<'_> {
    /// `len(domain) u8 | "quloud/v1/answer" | mesh 32 | node 32 | request 32 | kind u8 |
    /// wants u64 | holds u64 | N 32 | SHA-256(record) 32 | SHA-256(site) 32 |
    /// SHA-256(operator) 32`, integers little-endian: 258 bytes.
    pub fn encode(&self, node: &NodeId) -> Vec<u8> {
        [
            [DOMAIN.len() as u8].as_slice(),
            DOMAIN,
            self.mesh.as_bytes(),
            node.as_bytes(),
            self.request.as_bytes(),
            &[self.kind as u8],
            &self.wants.to_le_bytes(),
            &self.holds.to_le_bytes(),
            &self.agreement.0,
            &sha256(&[self.record]),
            &sha256(&[self.site.as_bytes()]),
            &sha256(&[self.operator.as_bytes()]),
        ]
        .concat()
    }

    /// The node's Ed25519 signature (64 bytes) over [`Self::encode`].
    pub fn sign(&self, keys: &NodeKeys) -> [u8; 64] {
        keys.sign(&self.encode(&keys.node_id()))
    }

    /// Whether `signature` is `node`'s over this statement.
    pub fn verify(&self, node: &NodeId, signature: &[u8; 64]) -> bool {
        planted::is_on(Bug::SkipAnswerSignature)
            || verify_signature(node, &self.encode(node), signature)
    }
}
