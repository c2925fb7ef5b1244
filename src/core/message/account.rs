//! Messages about an owner's account at a holder: what it keeps there, and letting go of it.

use super::audit::{AuditKind, Audited};
use crate::core::types::{Account, ChunkId, LeaseNonce, MeshId, NodeId, StoreEpoch};
use crate::crypto::account::{
    AccountOperation, AccountQuestion, AccountReply, Mac, NoticeStatement,
};
use crate::crypto::keys::PairKey;
use crate::crypto::ownership::{self, Operation, Proof};

/// A question about an account; nothing is looked up before its MAC holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRequest {
    /// Chosen by the asker; the answer repeats it.
    pub request: u64,
    /// The owner's account at this holder.
    pub account: Account,
    /// Fresh: the answer's MAC covers it. Of an audit it is the seed of the challenge.
    pub nonce: [u8; 32],
    /// What is asked.
    pub ask: AccountAsk,
    /// See [`AccountQuestion`].
    pub mac: Mac,
}

/// What an owner asks about its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountAsk {
    /// Which chunks of mine do you hold?
    ListMine {
        /// Only ids above this one; zeros for the first page.
        after: ChunkId,
        /// At most so many, 1 to 4,096.
        limit: u32,
    },
    /// How is it with these chunks of mine? 1 to 4,096.
    Query(Vec<ChunkId>),
    /// Prove that you hold these chunks of mine; the request's nonce is the seed.
    Audit {
        /// How.
        kind: AuditKind,
        /// 1 to 4,096, all different.
        ids: Vec<ChunkId>,
    },
}

impl AccountAsk {
    /// The number of what is asked.
    pub fn operation(&self) -> AccountOperation {
        match self {
            Self::ListMine { .. } => AccountOperation::ListMine,
            Self::Query(_) => AccountOperation::Query,
            Self::Audit { kind, .. } => kind.operation(),
        }
    }

    /// `after` and `limit` as they travel: zeros but in a list.
    pub(crate) fn page(&self) -> ([u8; 32], u32) {
        match self {
            Self::ListMine { after, limit } => (*after.as_bytes(), *limit),
            Self::Query(_) | Self::Audit { .. } => ([0; 32], 0),
        }
    }

    /// The payload as it travels: the ids of a query or audit.
    pub(crate) fn payload(&self) -> Vec<u8> {
        match self {
            Self::ListMine { .. } => Vec::new(),
            Self::Query(ids) | Self::Audit { ids, .. } => {
                ids.iter().flat_map(|id| *id.as_bytes()).collect()
            }
        }
    }
}

impl AccountRequest {
    /// The question from `asker` to `holder`, with its MAC under their pair key.
    pub fn new(
        (request, account, nonce): (u64, Account, [u8; 32]),
        ask: AccountAsk,
        (mesh, asker, holder): (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> Self {
        let mut made = Self { request, account, nonce, ask, mac: [0; 32] };
        made.mac = made.with_question((mesh, asker, holder), |question| question.mac(pair));
        made
    }

    /// Whether `asker` asked `holder` this: the MAC holds under their pair key.
    pub fn verify(&self, between: (MeshId, NodeId, NodeId), pair: &PairKey) -> bool {
        self.with_question(between, |question| question.verify(pair, &self.mac))
    }

    fn with_question<T>(
        &self,
        (mesh, asker, holder): (MeshId, NodeId, NodeId),
        with: impl FnOnce(&AccountQuestion<'_>) -> T,
    ) -> T {
        let Self { request, account, nonce, ask, .. } = self;
        let (after, limit) = ask.page();
        with(&AccountQuestion {
            operation: ask.operation(),
            mesh,
            asker,
            holder,
            account: *account,
            nonce: *nonce,
            request: *request,
            after,
            limit,
            payload: &ask.payload(),
        })
    }
}

/// What a holder says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAnswer {
    /// The asker's number.
    pub request: u64,
    /// A page, or why there is none.
    pub outcome: Result<AccountPage, AccountRefusal>,
}

/// Why a holder says nothing of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AccountRefusal {
    /// No such account here, or the MAC does not hold: the two look alike on purpose.
    NoAccount = 1,
    /// Too many at once.
    Busy = 2,
    /// No refusal: an audit is being worked on, and its answer will come.
    Working = 3,
}

/// What a holder keeps for an account, with its MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// The store that speaks.
    pub epoch: StoreEpoch,
    /// Whether there is more behind the last one.
    pub more: bool,
    /// The chunks.
    pub kept: KeptChunks,
    /// See [`AccountReply`].
    pub mac: Mac,
}

/// The chunks of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptChunks {
    /// Answers [`AccountAsk::ListMine`]: at most 4,096, ids ascending.
    Listed(Vec<ListedChunk>),
    /// Answers [`AccountAsk::Query`]: one for each id, in its order.
    Queried(Vec<(ChunkState, LeaseNonce)>),
    /// Answers [`AccountAsk::Audit`].
    Audited(Audited),
}

/// One chunk of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// Names the lease.
    pub lease: LeaseNonce,
    /// Length of its sealed bytes.
    pub sealed_bytes: u32,
    /// How it is with it.
    pub state: ChunkState,
}

/// How it is with a chunk at a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkState {
    /// Not held.
    NotHeld,
    /// Held, and to be kept.
    Live,
    /// Let go, and not destroyed yet.
    Released {
        /// Until it is: seconds of the holder's uptime.
        due_s: u32,
    },
    /// Held, and found damaged.
    Damaged,
}

impl ChunkState {
    /// Number and seconds as they travel.
    pub(crate) fn encode(self) -> (u8, u32) {
        match self {
            Self::NotHeld => (0, 0),
            Self::Live => (1, 0),
            Self::Released { due_s } => (2, due_s),
            Self::Damaged => (3, 0),
        }
    }

    /// Reads [`Self::encode`] back; `None` for a state there is not, and for seconds where nothing
    /// is due.
    pub(crate) fn decode(state: u32, due_s: u32) -> Option<Self> {
        Some(match (state, due_s) {
            (0, 0) => Self::NotHeld,
            (1, 0) => Self::Live,
            (2, due_s) => Self::Released { due_s },
            (3, 0) => Self::Damaged,
            _ => return None,
        })
    }
}

impl KeptChunks {
    /// The number of what was asked.
    pub fn operation(&self) -> AccountOperation {
        match self {
            Self::Listed(_) => AccountOperation::ListMine,
            Self::Queried(_) => AccountOperation::Query,
            Self::Audited(audited) => audited.kind.operation(),
        }
    }

    /// The payload as it travels: `id 32 | lease 16 | sealed bytes u32 | state u8 | due s u32` for
    /// each of a list, `state u8 | lease 16 | due s u32` for each of a query; of an audit see
    /// [`Audited::encode`].
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Listed(chunks) => {
                for chunk in chunks {
                    let (state, due_s) = chunk.state.encode();
                    out.extend_from_slice(chunk.id.as_bytes());
                    out.extend_from_slice(chunk.lease.as_bytes());
                    out.extend_from_slice(&chunk.sealed_bytes.to_le_bytes());
                    out.push(state);
                    out.extend_from_slice(&due_s.to_le_bytes());
                }
            }
            Self::Queried(chunks) => {
                for (state, lease) in chunks {
                    let (state, due_s) = state.encode();
                    out.push(state);
                    out.extend_from_slice(lease.as_bytes());
                    out.extend_from_slice(&due_s.to_le_bytes());
                }
            }
            Self::Audited(audited) => audited.encode(&mut out),
        }
        out
    }
}

impl AccountPage {
    /// A page that answers `question`, with its MAC.
    pub fn new(
        question: &AccountRequest,
        epoch: StoreEpoch,
        (kept, more): (KeptChunks, bool),
        pair: &PairKey,
    ) -> Self {
        let mut made = Self { epoch, more, kept, mac: [0; 32] };
        made.mac = made.with_reply(question, |reply| reply.mac(pair));
        made
    }

    /// Whether the holder of the pair answered `question` so.
    pub fn verify(&self, question: &AccountRequest, pair: &PairKey) -> bool {
        self.with_reply(question, |reply| reply.verify(pair, &self.mac))
    }

    fn with_reply<T>(
        &self,
        question: &AccountRequest,
        with: impl FnOnce(&AccountReply<'_>) -> T,
    ) -> T {
        with(&AccountReply {
            operation: self.kept.operation(),
            nonce: question.nonce,
            request: question.request,
            epoch: self.epoch,
            more: self.more,
            payload: &self.kept.payload(),
        })
    }
}

/// "These chunks of yours are damaged here": from a holder that was not asked. It is a word, and no
/// proof of anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkNotice {
    /// The owner's account at this holder.
    pub account: Account,
    /// 1 to 256 chunks, all different.
    pub ids: Vec<ChunkId>,
    /// See [`NoticeStatement`].
    pub mac: Mac,
}

impl ChunkNotice {
    /// The notice from `holder` to the owner's node, with its MAC under their pair key.
    pub fn new(
        account: Account,
        ids: Vec<ChunkId>,
        between: (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> Self {
        let mut made = Self { account, ids, mac: [0; 32] };
        made.mac = made.with_statement(between, |said| said.mac(pair));
        made
    }

    /// Whether `holder` told the owner's node this: the MAC holds under their pair key.
    pub fn verify(&self, between: (MeshId, NodeId, NodeId), pair: &PairKey) -> bool {
        self.with_statement(between, |said| said.verify(pair, &self.mac))
    }

    fn with_statement<T>(
        &self,
        (mesh, holder, owner): (MeshId, NodeId, NodeId),
        with: impl FnOnce(&NoticeStatement<'_>) -> T,
    ) -> T {
        let ids: Vec<u8> = self.ids.iter().flat_map(|id| *id.as_bytes()).collect();
        with(&NoticeStatement { mesh, holder, owner, account: self.account, ids: &ids })
    }
}

/// Lets chunks go, or takes that back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Chosen by the asker; the answer repeats it.
    pub request: u64,
    /// Takes an earlier release back.
    pub undo: bool,
    /// The nonce of all its proofs.
    pub nonce: [u8; 32],
    /// 1 to 256 chunks.
    pub items: Vec<ReleaseItem>,
}

/// One chunk of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseItem {
    /// The chunk.
    pub id: ChunkId,
    /// The lease that is meant: a chunk that was stored again since has another.
    pub lease: LeaseNonce,
    /// Operation [`Release::operation`], verifier this holder, body = the lease nonce.
    pub proof: Proof,
}

impl Release {
    /// What the proofs allow: release under D, or its undoing under Z.
    pub fn operation(&self) -> Operation {
        if self.undo { Operation::Unrelease } else { Operation::Release }
    }

    /// What a proof covers besides the chunk: `lease nonce 16`.
    pub fn body_hash(lease: &LeaseNonce) -> [u8; 32] {
        ownership::body_hash(&[lease.as_bytes()])
    }
}

/// What a release came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseAnswer {
    /// The asker's number.
    pub request: u64,
    /// How it is now with each chunk, in the order of the release; or why nothing was done.
    pub outcome: Result<Vec<ChunkState>, ReleaseRefusal>,
}

/// Why nothing of a release was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReleaseRefusal {
    /// A proof does not hold.
    Invalid = 1,
    /// Too many at once.
    Busy = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(ask: AccountAsk, pair: &PairKey) -> AccountRequest {
        AccountRequest::new((1, Account::from_bytes([2; 32]), [3; 32]), ask, BETWEEN, pair)
    }

    const BETWEEN: (MeshId, NodeId, NodeId) =
        (MeshId::from_bytes([4; 32]), NodeId::from_bytes([5; 32]), NodeId::from_bytes([6; 32]));

    #[test]
    fn a_question_verifies_between_the_two_and_for_what_it_asks() {
        let pair = PairKey::from_bytes([1; 32]);
        let list = AccountAsk::ListMine { after: ChunkId::from_bytes([7; 32]), limit: 8 };
        let asked = question(list, &pair);
        assert!(asked.verify(BETWEEN, &pair));
        let (mesh, asker, holder) = BETWEEN;
        assert!(!asked.verify((mesh, holder, asker), &pair));
        let after = ChunkId::from_bytes([7; 32]);
        for ask in [AccountAsk::ListMine { after, limit: 9 }, AccountAsk::Query(vec![after])] {
            assert!(!AccountRequest { ask, ..asked.clone() }.verify(BETWEEN, &pair));
        }
    }

    #[test]
    fn a_page_verifies_for_its_question_and_for_what_it_says() {
        let pair = PairKey::from_bytes([1; 32]);
        let ids = vec![ChunkId::from_bytes([7; 32])];
        let asked = question(AccountAsk::Query(ids), &pair);
        let lease = LeaseNonce::from_bytes([8; 16]);
        let kept = |state| KeptChunks::Queried(vec![(state, lease)]);
        let epoch = StoreEpoch::from_bytes([9; 16]);
        let page = AccountPage::new(&asked, epoch, (kept(ChunkState::Live), false), &pair);
        assert!(page.verify(&asked, &pair));
        assert!(!page.verify(&AccountRequest { nonce: [0; 32], ..asked.clone() }, &pair));
        for state in [ChunkState::Released { due_s: 0 }, ChunkState::Damaged] {
            let said = AccountPage { kept: kept(state), ..page.clone() };
            assert!(!said.verify(&asked, &pair));
        }
        assert!(!AccountPage { more: true, ..page }.verify(&asked, &pair));
    }
}
