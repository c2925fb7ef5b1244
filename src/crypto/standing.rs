//! The MACs of a holder's question how it stands with an owner, and of the owner's answer.
//!
//! Both have the pair key of the account, so a MAC shows each that the other one speaks, and shows
//! nobody else anything. An answer's covers the question's nonce, so that none can be said again.
//! Layouts, integers little-endian:
//!
//! ```text
//! question: BLAKE3-keyed(Expand(pair, "quloud/v1/standing-request"),
//!             mesh 32 | holder 32 | owner's node 32 | account 32 | nonce 32 | request u64)
//! answer:   BLAKE3-keyed(Expand(pair, "quloud/v1/standing-answer"),
//!             mesh 32 | holder 32 | owner's node 32 | account 32 | nonce 32 | request u64
//!             | SHA-256(report) 32)
//! ```

use super::account::Mac;
use super::keys::PairKey;
use super::{expand, keyed_hash, sha256};
use crate::core::types::{Account, MeshId, NodeId};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// All that a holder says when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingQuestion {
    /// The mesh.
    pub mesh: MeshId,
    /// Who asks.
    pub holder: NodeId,
    /// The node that is asked.
    pub owner: NodeId,
    /// The owner's account at the holder.
    pub account: Account,
    /// Fresh in each question.
    pub nonce: [u8; 32],
    /// The holder's number of the question.
    pub request: u64,
}

impl StandingQuestion {
    /// See the module's documentation.
    pub fn mac(&self, pair: &PairKey) -> Mac {
        let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/standing-request"]));
        self.hash(&key, &[])
    }

    /// Whether `mac` is that of this question; in constant time.
    pub fn verify(&self, pair: &PairKey, mac: &Mac) -> bool {
        self.mac(pair).ct_eq(mac).into()
    }

    /// The MAC of the answer to this question that is `report`.
    pub fn answer_mac(&self, report: &[u8], pair: &PairKey) -> Mac {
        let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/standing-answer"]));
        self.hash(&key, &sha256(&[report]))
    }

    /// Whether `mac` is that of the answer to this question that is `report`; in constant time.
    pub fn verify_answer(&self, report: &[u8], pair: &PairKey, mac: &Mac) -> bool {
        self.answer_mac(report, pair).ct_eq(mac).into()
    }

    fn hash(&self, key: &[u8; 32], more: &[u8]) -> Mac {
        let parts: [&[u8]; 7] = [
            self.mesh.as_bytes(),
            self.holder.as_bytes(),
            self.owner.as_bytes(),
            self.account.as_bytes(),
            &self.nonce,
            &self.request.to_le_bytes(),
            more,
        ];
        keyed_hash(key, &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: StandingQuestion = StandingQuestion {
        mesh: MeshId::from_bytes([1; 32]),
        holder: NodeId::from_bytes([2; 32]),
        owner: NodeId::from_bytes([3; 32]),
        account: Account::from_bytes([4; 32]),
        nonce: [5; 32],
        request: 6,
    };

    #[test]
    fn question_and_answer_are_good_for_their_pair_and_for_all_that_is_said() {
        let (pair, other) = (PairKey::from_bytes([1; 32]), PairKey::from_bytes([2; 32]));
        let (asked, said) = (QUESTION.mac(&pair), QUESTION.answer_mac(b"report", &pair));
        assert!(QUESTION.verify(&pair, &asked) && !QUESTION.verify(&other, &asked));
        assert!(QUESTION.verify_answer(b"report", &pair, &said));
        assert!(!QUESTION.verify_answer(b"report", &other, &said));
        assert!(!QUESTION.verify_answer(b"reports", &pair, &said));
        // Neither is good for the other one.
        assert!(!QUESTION.verify(&pair, &said) && !QUESTION.verify_answer(b"", &pair, &asked));
        for wrong in [
            StandingQuestion { mesh: MeshId::from_bytes([0; 32]), ..QUESTION },
            StandingQuestion { holder: NodeId::from_bytes([0; 32]), ..QUESTION },
            StandingQuestion { owner: NodeId::from_bytes([0; 32]), ..QUESTION },
            StandingQuestion { account: Account::from_bytes([0; 32]), ..QUESTION },
            StandingQuestion { nonce: [0; 32], ..QUESTION },
            StandingQuestion { request: 7, ..QUESTION },
        ] {
            assert!(!wrong.verify(&pair, &asked), "{wrong:?}");
            assert!(!wrong.verify_answer(b"report", &pair, &said), "{wrong:?}");
        }
    }
}
