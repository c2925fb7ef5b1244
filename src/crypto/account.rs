//! The MACs of account operations: what an owner asks a holder about its account, and the answer.
//!
//! Both sides have the pair key, so a MAC shows the owner that the holder speaks and the holder
//! that the owner does; to anybody else it shows nothing, unlike a signature. A holder looks
//! nothing up before the MAC of the question holds, and an answer's covers the question's nonce, so
//! that none can be said again. Layouts, integers little-endian, `operation` and `more` being `u8`:
//!
//! ```text
//! question: BLAKE3-keyed(Expand(pair, "quloud/v1/account-request"),
//!             operation | mesh 32 | asker 32 | holder 32 | account 32 | nonce 32 | request u64
//!             | after 32 | limit u32 | SHA-256(payload) 32)
//! answer:   BLAKE3-keyed(Expand(pair, "quloud/v1/account-answer"),
//!             operation | nonce 32 | request u64 | epoch 16 | more | SHA-256(payload) 32)
//! ```
//!
//! What a holder says of damage without being asked has a MAC of its own, under a third key:
//!
//! ```text
//! notice:   BLAKE3-keyed(Expand(pair, "quloud/v1/chunk-notice"),
//!             mesh 32 | holder 32 | owner's node 32 | account 32 | state u8 = 3
//!             | SHA-256(ids, 32 bytes each) 32)
//! ```
//!
//! Asker, holder and account are in the answer by its key, which is only theirs, and by the nonce.

use super::keys::PairKey;
use super::{expand, keyed_hash, sha256};
use crate::core::types::{Account, MeshId, NodeId, StoreEpoch};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What an owner asks. The number is part of the MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AccountOperation {
    /// Which chunks of mine do you hold?
    ListMine = 1,
    /// How is it with these chunks of mine?
    Query = 2,
    /// Prove these chunks of mine, all in one answer.
    AuditCompact = 3,
    /// Prove these chunks of mine, each with a MAC over its bytes.
    AuditMac = 4,
}

/// A MAC of 32 bytes.
pub type Mac = [u8; 32];

/// All that an owner says when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountQuestion<'a> {
    /// What is asked.
    pub operation: AccountOperation,
    /// The mesh.
    pub mesh: MeshId,
    /// The owner's node: the stream's authenticated peer.
    pub asker: NodeId,
    /// Who is asked.
    pub holder: NodeId,
    /// The owner's account there.
    pub account: Account,
    /// Fresh in each question; of an audit it is the seed.
    pub nonce: [u8; 32],
    /// The asker's number of the question.
    pub request: u64,
    /// Of a list: only ids behind this one. Zeros in all others.
    pub after: [u8; 32],
    /// Of a list: at most so many. 0 in all others.
    pub limit: u32,
    /// The payload as it travels.
    pub payload: &'a [u8],
}

impl AccountQuestion<'_> {
    /// See the module's documentation.
    pub fn mac(&self, pair: &PairKey) -> Mac {
        let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/account-request"]));
        let parts: [&[u8]; 10] = [
            &[self.operation as u8],
            self.mesh.as_bytes(),
            self.asker.as_bytes(),
            self.holder.as_bytes(),
            self.account.as_bytes(),
            &self.nonce,
            &self.request.to_le_bytes(),
            &self.after,
            &self.limit.to_le_bytes(),
            &sha256(&[self.payload]),
        ];
        keyed_hash(&key, &parts)
    }

    /// Whether `mac` is that of this question; in constant time.
    pub fn verify(&self, pair: &PairKey, mac: &Mac) -> bool {
        self.mac(pair).ct_eq(mac).into()
    }
}

/// All that a holder says when it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountReply<'a> {
    /// What was asked.
    pub operation: AccountOperation,
    /// Of the question.
    pub nonce: [u8; 32],
    /// Of the question.
    pub request: u64,
    /// The store that speaks.
    pub epoch: StoreEpoch,
    /// Whether there is more behind the last one.
    pub more: bool,
    /// The payload as it travels.
    pub payload: &'a [u8],
}

impl AccountReply<'_> {
    /// See the module's documentation.
    pub fn mac(&self, pair: &PairKey) -> Mac {
        let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/account-answer"]));
        let parts: [&[u8]; 6] = [
            &[self.operation as u8],
            &self.nonce,
            &self.request.to_le_bytes(),
            self.epoch.as_bytes(),
            &[u8::from(self.more)],
            &sha256(&[self.payload]),
        ];
        keyed_hash(&key, &parts)
    }

    /// Whether `mac` is that of this answer; in constant time.
    pub fn verify(&self, pair: &PairKey, mac: &Mac) -> bool {
        self.mac(pair).ct_eq(mac).into()
    }
}

/// All that a holder says when it tells of damaged chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeStatement<'a> {
    /// The mesh.
    pub mesh: MeshId,
    /// Who tells.
    pub holder: NodeId,
    /// The node that is told.
    pub owner: NodeId,
    /// The owner's account at the holder.
    pub account: Account,
    /// The chunks' ids, one behind the other.
    pub ids: &'a [u8],
}

/// Damaged: as in a list of an account.
const DAMAGED: u8 = 3;

impl NoticeStatement<'_> {
    /// See the module's documentation.
    pub fn mac(&self, pair: &PairKey) -> Mac {
        let key = Zeroizing::new(expand::<32>(pair.expose(), &[b"quloud/v1/chunk-notice"]));
        let parts: [&[u8]; 6] = [
            self.mesh.as_bytes(),
            self.holder.as_bytes(),
            self.owner.as_bytes(),
            self.account.as_bytes(),
            &[DAMAGED],
            &sha256(&[self.ids]),
        ];
        keyed_hash(&key, &parts)
    }

    /// Whether `mac` is that of this notice; in constant time.
    pub fn verify(&self, pair: &PairKey, mac: &Mac) -> bool {
        self.mac(pair).ct_eq(mac).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::NodeKeys;
    use crate::crypto::tests::{owner, rng};

    const QUESTION: AccountQuestion<'static> = AccountQuestion {
        operation: AccountOperation::Query,
        mesh: MeshId::from_bytes([1; 32]),
        asker: NodeId::from_bytes([2; 32]),
        holder: NodeId::from_bytes([3; 32]),
        account: Account::from_bytes([4; 32]),
        nonce: [5; 32],
        request: 6,
        after: [7; 32],
        limit: 8,
        payload: b"ids",
    };

    const REPLY: AccountReply<'static> = AccountReply {
        operation: AccountOperation::Query,
        nonce: [5; 32],
        request: 6,
        epoch: StoreEpoch::from_bytes([9; 16]),
        more: false,
        payload: b"states",
    };

    #[test]
    fn a_question_is_good_for_its_pair_and_for_all_that_it_says() {
        let pair = PairKey::from_bytes([1; 32]);
        let mac = QUESTION.mac(&pair);
        assert!(QUESTION.verify(&pair, &mac));
        assert!(!QUESTION.verify(&PairKey::from_bytes([2; 32]), &mac));
        let list = AccountOperation::ListMine;
        for other in [
            AccountQuestion { operation: list, ..QUESTION },
            AccountQuestion { mesh: MeshId::from_bytes([0; 32]), ..QUESTION },
            AccountQuestion { asker: NodeId::from_bytes([0; 32]), ..QUESTION },
            AccountQuestion { holder: NodeId::from_bytes([0; 32]), ..QUESTION },
            AccountQuestion { account: Account::from_bytes([0; 32]), ..QUESTION },
            AccountQuestion { nonce: [0; 32], ..QUESTION },
            AccountQuestion { request: 7, ..QUESTION },
            AccountQuestion { after: [0; 32], ..QUESTION },
            AccountQuestion { limit: 9, ..QUESTION },
            AccountQuestion { payload: b"idt", ..QUESTION },
        ] {
            assert!(!other.verify(&pair, &mac), "{other:?}");
        }
    }

    #[test]
    fn an_answer_is_good_for_its_question_and_for_all_that_it_says() {
        let pair = PairKey::from_bytes([1; 32]);
        let mac = REPLY.mac(&pair);
        assert!(REPLY.verify(&pair, &mac));
        assert!(!REPLY.verify(&PairKey::from_bytes([2; 32]), &mac));
        let list = AccountOperation::ListMine;
        for other in [
            AccountReply { operation: list, ..REPLY },
            AccountReply { nonce: [0; 32], ..REPLY },
            AccountReply { request: 7, ..REPLY },
            AccountReply { epoch: StoreEpoch::from_bytes([0; 16]), ..REPLY },
            AccountReply { more: true, ..REPLY },
            AccountReply { payload: b"stated", ..REPLY },
        ] {
            assert!(!other.verify(&pair, &mac), "{other:?}");
        }
    }

    #[test]
    fn a_notice_is_good_for_its_pair_and_for_all_that_it_says() {
        let notice = NoticeStatement {
            mesh: MeshId::from_bytes([1; 32]),
            holder: NodeId::from_bytes([2; 32]),
            owner: NodeId::from_bytes([3; 32]),
            account: Account::from_bytes([4; 32]),
            ids: b"ids",
        };
        let pair = PairKey::from_bytes([1; 32]);
        let mac = notice.mac(&pair);
        assert!(notice.verify(&pair, &mac));
        assert!(!notice.verify(&PairKey::from_bytes([2; 32]), &mac));
        for other in [
            NoticeStatement { mesh: MeshId::from_bytes([0; 32]), ..notice },
            NoticeStatement { holder: NodeId::from_bytes([0; 32]), ..notice },
            NoticeStatement { owner: NodeId::from_bytes([0; 32]), ..notice },
            NoticeStatement { account: Account::from_bytes([0; 32]), ..notice },
            NoticeStatement { ids: b"idt", ..notice },
        ] {
            assert!(!other.verify(&pair, &mac), "{other:?}");
        }
    }

    #[test]
    fn both_sides_of_a_pair_make_the_same_macs() {
        let (keys, node) = (owner(1), NodeKeys::generate(&mut rng()));
        let secret = keys.account(&node.node_id());
        let owners = secret.pair_key(&node.node_id(), &node.agreement_key()).unwrap();
        let holders = node.pair_key(&secret.account()).unwrap();
        assert!(QUESTION.verify(&holders, &QUESTION.mac(&owners)));
        assert!(REPLY.verify(&owners, &REPLY.mac(&holders)));
    }
}
