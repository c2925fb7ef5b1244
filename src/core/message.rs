//! What nodes say to each other, as domain types. [`super::codec`] turns them into bytes.
//!
//! Two kinds, and they never mix: a [`TopicMessage`] is gossiped, anonymous and at most 4 KiB; a
//! [`StreamMessage`] travels between two authenticated peers, and some of its kinds carry a
//! payload: the sealed bytes of one chunk, never copied, or records of a fixed length.
//!
//! | file | what it holds |
//! |---|---|
//! | `message/head.rs` | heads: storing and fetching them |
//! | `message/account.rs` | an owner's account at a holder, and letting go of chunks |
//! | `message/audit.rs` | what a holder proves of an account |
//! | `message/search.rs` | looking for whoever holds some chunks, on topics |
//! | `message/standing.rs` | how a holder stands with an owner |

mod account;
mod audit;
mod head;
mod search;
mod standing;

pub use account::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, ChunkNotice,
    ChunkState, KeptChunks, ListedChunk, Release, ReleaseAnswer, ReleaseItem, ReleaseRefusal,
};
pub use audit::{AuditKind, AuditState, Audited, AuditedChunk};
pub use head::{HeadData, HeadGet, StoreHead};
pub use search::{SearchKind, SearchRequest};
pub use standing::{
    ReportedSilence, STANDING_INCIDENTS_MAX, SilenceKind, StandingAnswer, StandingRefusal,
    StandingReport, StandingRequest, StandingSaid,
};

use super::types::{
    Account, AnswerTag, BatchId, ChunkId, LeaseTerms, MeshId, RequestDigest, StoreEpoch,
};
use crate::crypto::ack::AckedChunk;
use crate::crypto::answer::{AnswerKind, AnswerStatement};
use crate::crypto::header::Header;
use crate::crypto::keys::{AgreementKey, NodeKeys};
use crate::crypto::ownership::Proof;
use bytes::Bytes;

/// Anything that enters a role from the network.
#[derive(Debug, Clone)]
pub enum Message {
    /// From a topic.
    Topic(TopicMessage),
    /// From a stream.
    Stream(StreamMessage),
}

/// A gossiped message: names no node and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicMessage {
    /// "Who would hold these?" on the store topic.
    StoreRequest(StoreRequest),
    /// "Who holds these?" on the retrieve or the audit topic.
    SearchRequest(SearchRequest),
    /// A sealed [`StoreClaim`] or [`RetrieveOffer`] on the answer topic.
    Answer(Answer),
}

/// "Who would hold these chunks?"
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    /// The asker's one-time X25519 key, to which claims are sealed.
    pub ephemeral: [u8; 32],
    /// 0, then one more with each publication of the same batch.
    pub attempt: u32,
    /// With which probability a willing node volunteers, in 1/65535.
    pub probability: u16,
    /// How many replicas are wanted, 1 to 32.
    pub quorum: u8,
    /// What is asked of a holder; it may promise more in its ack, never less.
    pub terms: LeaseTerms,
    /// The chunks: 1 to 64.
    pub offers: Vec<Offer>,
    /// Hashcash over the request, empty where the mesh asks for none.
    pub stamp: Bytes,
}

impl StoreRequest {
    /// The request's name: `SHA-256("quloud/v1/request" | 1 u8 | ephemeral 32 | attempt u32 |
    /// probability u16 | quorum u8 | terms 12 | SHA-256(stamp) 32 | count u16 |
    /// count * (id 32 | sealed bytes u32))`, integers little-endian.
    pub fn digest(&self) -> RequestDigest {
        let mut list = Vec::with_capacity(self.offers.len() * 36);
        for offer in &self.offers {
            list.extend_from_slice(offer.id.as_bytes());
            list.extend_from_slice(&offer.sealed_bytes.to_le_bytes());
        }
        let terms = self.terms.encode();
        let stamp = crate::crypto::sha256(&[&self.stamp]);
        let quorum = [self.quorum];
        let probability = self.probability.to_le_bytes();
        let fields: [&[u8]; 4] = [&probability, &quorum, &terms, &stamp];
        let (ephemeral, attempt) = (&self.ephemeral, self.attempt);
        request_digest(1, ephemeral, attempt, &fields.concat(), (self.offers.len(), &list))
    }
}

fn request_digest(
    kind: u8,
    ephemeral: &[u8; 32],
    attempt: u32,
    fields: &[u8],
    (count, list): (usize, &[u8]),
) -> RequestDigest {
    let domain = b"quloud/v1/request";
    let attempt = attempt.to_le_bytes();
    let count = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    let parts: [&[u8]; 7] = [domain, &[kind], ephemeral, &attempt, fields, &count, list];
    RequestDigest::from_bytes(crate::crypto::sha256(&parts))
}

/// One chunk on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The chunk.
    pub id: ChunkId,
    /// Length of its sealed bytes.
    pub sealed_bytes: u32,
}

/// An answer that only the asker can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whose it is.
    pub tag: AnswerTag,
    /// Sealed box of an encoded [`SignedAnswer`], at most 1 KiB.
    pub sealed: Bytes,
}

impl AnswerTag {
    /// The tag of answers to the asker with this one-time key.
    pub fn of(ephemeral: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] =
            crate::crypto::sha256(&[b"quloud/v1/answer-tag", ephemeral]);
        Self::from_bytes([a, b, c, d, e, f, g, h])
    }
}

/// What an [`Answer`]'s box holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAnswer {
    /// What is said.
    pub body: AnswerBody,
    /// Ed25519 by the node of the body's contact, see [`AnswerStatement`].
    pub signature: [u8; 64],
}

impl SignedAnswer {
    /// The answer `body` to this request, signed. The body has a contact, which is the node's own.
    pub fn new(body: AnswerBody, request: RequestDigest, keys: &NodeKeys) -> Self {
        let signature = body.statement(request).map_or([0; 64], |(_, said)| said.sign(keys));
        Self { body, signature }
    }

    /// Whether the node of the contact gave this answer to this request.
    pub fn verify(&self, request: RequestDigest) -> bool {
        let statement = self.body.statement(request);
        statement.is_some_and(|(node, said)| said.verify(&node, &self.signature))
    }
}

/// What a node says to a nameless asker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerBody {
    /// To a store request.
    Claim(StoreClaim),
    /// To a search request.
    Offer(RetrieveOffer),
}

impl AnswerBody {
    /// Who answers.
    pub fn contact(&self) -> Option<&Contact> {
        match self {
            Self::Claim(claim) => claim.contact.as_ref(),
            Self::Offer(offer) => offer.contact.as_ref(),
        }
    }

    /// What the node of the contact signs; `None` where there is no contact.
    fn statement(
        &self,
        request: RequestDigest,
    ) -> Option<(super::types::NodeId, AnswerStatement<'_>)> {
        let (kind, wants, holds) = match self {
            Self::Claim(claim) => (AnswerKind::Claim, claim.wants, claim.holds),
            Self::Offer(offer) => (AnswerKind::Offer, 0, offer.holds.into()),
        };
        let Contact { record, hello } = self.contact()?;
        let (mesh, agreement) = (hello.mesh, hello.agreement);
        let (site, operator) = (hello.site.as_str(), hello.operator.as_str());
        let said = AnswerStatement {
            mesh,
            request,
            kind,
            wants,
            holds,
            agreement,
            record,
            site,
            operator,
        };
        Some((hello.node, said))
    }
}

/// Who answers, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The answerer's libp2p signed PeerRecord (RFC 0002/0003 of libp2p), opaque here.
    pub record: Bytes,
    /// Who it is, its agreement key and where it says it stands.
    pub hello: Hello,
}

/// "I would hold these."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreClaim {
    /// Who claims; `None` on a stream, whose peer is known.
    pub contact: Option<Contact>,
    /// The ephemeral key of the request this answers.
    pub ephemeral: [u8; 32],
    /// One bit per offer, in its order: 1 = I would store it (or hold it already).
    pub wants: u64,
    /// One bit per offer: 1 = I hold it already.
    pub holds: u64,
}

/// "I hold these."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrieveOffer {
    /// Who offers.
    pub contact: Option<Contact>,
    /// One bit per wanted chunk, in its order.
    pub holds: u32,
}

/// A message between two authenticated peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMessage {
    /// First on every stream, in both directions.
    Hello(Hello),
    /// A store request to a holder that the owner knows: no gossip needed.
    StoreRequest(StoreRequest),
    /// The answer to it.
    StoreClaim(StoreClaim),
    /// One chunk to store.
    StoreChunk(Box<StoreChunk>),
    /// Durable: the holder's signature.
    StoreAck(StoreAck),
    /// Not stored, and why.
    StoreReject(StoreReject),
    /// One chunk, please.
    Retrieve(Retrieve),
    /// Here it is.
    ChunkData(ChunkData),
    /// No, and why.
    RetrieveReject(RetrieveReject),
    /// A head to store.
    StoreHead(StoreHead),
    /// A head, please.
    HeadGet(HeadGet),
    /// Here it is.
    HeadData(HeadData),
    /// A question about the asker's account.
    AccountRequest(AccountRequest),
    /// The answer to it.
    AccountAnswer(AccountAnswer),
    /// Let these chunks go, or take that back.
    Release(Release),
    /// What it came to.
    ReleaseAnswer(ReleaseAnswer),
    /// Chunks of yours are damaged here.
    ChunkNotice(ChunkNotice),
    /// How do I stand with you?
    StandingRequest(StandingRequest),
    /// The answer to it.
    StandingAnswer(StandingAnswer),
}

/// Who speaks: checked before anything else is read from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The speaker's node id; equals the stream's authenticated peer.
    pub node: super::types::NodeId,
    /// The speaker's mesh.
    pub mesh: MeshId,
    /// N.
    pub agreement: AgreementKey,
    /// Ed25519 over N, see [`crate::crypto::keys::NodeKeys::sign_agreement`].
    pub agreement_signature: [u8; 64],
    /// The speaker's declared site, at most 32 bytes of UTF-8; empty where it declares none.
    pub site: String,
    /// The speaker's declared operator, likewise.
    pub operator: String,
}

/// One chunk on its way to a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreChunk {
    /// The owner's batch.
    pub batch: BatchId,
    /// The owner's account at this holder.
    pub account: Account,
    /// What the id certifies.
    pub header: Header,
    /// What is asked of the holder.
    pub terms: LeaseTerms,
    /// The proof's nonce.
    pub nonce: [u8; 32],
    /// Under Z: operation Store, verifier this holder, body hash [`StoreChunk::body_hash`].
    pub proof: Proof,
    /// Fresh: the receipt is over it.
    pub seed: [u8; 32],
    /// Audit tags: [`are_tags`](crate::crypto::audit::are_tags) of the sealed bytes.
    pub tags: Bytes,
    /// The sealed bytes (the frame's payload).
    pub sealed: Bytes,
}

impl StoreChunk {
    /// What the proof covers besides the chunk: `account 32 | terms 12 | SHA-256(tags) 32`.
    pub fn body_hash(account: &Account, terms: &LeaseTerms, tags: &[u8]) -> [u8; 32] {
        let tags = crate::crypto::ownership::body_hash(&[tags]);
        crate::crypto::ownership::body_hash(&[account.as_bytes(), &terms.encode(), &tags])
    }
}

/// A holder's signed acknowledgement; the statement is [`crate::crypto::ack::AckStatement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAck {
    /// The owner's batch.
    pub batch: BatchId,
    /// The owner's account.
    pub account: Account,
    /// The store that holds the chunks.
    pub epoch: StoreEpoch,
    /// What is promised.
    pub terms: LeaseTerms,
    /// 1 to 64 chunks.
    pub chunks: Vec<AckedChunk>,
    /// Ed25519.
    pub signature: [u8; 64],
}

/// Why a holder did not store a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StoreRefusal {
    /// No room.
    Full = 1,
    /// Too many at once: try again later.
    Busy = 2,
    /// The bytes, header, tags or proof do not verify.
    Invalid = 3,
    /// The disk failed; the store is read-only.
    Failed = 4,
    /// This node does not hold chunks for this owner (policy).
    Unwilling = 5,
    /// The account has as much here as one account may have.
    OverQuota = 6,
    /// Of a head: a newer number is held, or this one in other bytes.
    Superseded = 7,
    /// Of a head: the account has as many heads here, or records of them, as it may have. It says
    /// nothing of chunks.
    TooManyHeads = 8,
}

/// Not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreReject {
    /// The owner's batch.
    pub batch: BatchId,
    /// The chunk.
    pub id: ChunkId,
    /// Why.
    pub reason: StoreRefusal,
}

/// One chunk, please.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrieve {
    /// Chosen by the asker; the answer repeats it.
    pub request: u64,
    /// The chunk.
    pub id: ChunkId,
    /// The proof's nonce.
    pub nonce: [u8; 32],
    /// Under Y: operation Retrieve, verifier this holder, body = request as `u64` LE.
    pub proof: Proof,
}

/// The chunk asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkData {
    /// The asker's number.
    pub request: u64,
    /// What the id certifies.
    pub header: Header,
    /// The sealed bytes (the frame's payload).
    pub sealed: Bytes,
}

/// Why a holder did not hand a chunk out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetrieveRefusal {
    /// Not here, or the proof does not verify: the two look alike on purpose.
    NotHeld = 1,
    /// Too many at once.
    Busy = 2,
    /// It was here, and it is damaged.
    Damaged = 3,
}

/// Not handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrieveReject {
    /// The asker's number.
    pub request: u64,
    /// Why.
    pub reason: RetrieveRefusal,
}
