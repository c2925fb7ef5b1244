//! What nodes say to each other, as domain types. [`super::codec`] turns them into bytes.
//!
//! Two kinds, and they never mix: a [`TopicMessage`] is gossiped, anonymous and at most 4 KiB; a
//! [`StreamMessage`] travels between two authenticated peers, and only two of its kinds carry a
//! payload (the sealed bytes of one chunk, never copied).

use super::types::{Account, AnswerTag, BatchId, ChunkId, LeaseTerms, MeshId, StoreEpoch};
use crate::crypto::ack::AckedChunk;
use crate::crypto::header::Header;
use crate::crypto::keys::AgreementKey;
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
    /// "Who holds these, and may I have them?" on the retrieve topic.
    RetrieveRequest(RetrieveRequest),
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

/// One chunk on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The chunk.
    pub id: ChunkId,
    /// Length of its sealed bytes.
    pub sealed_bytes: u32,
}

/// "Who holds these chunks?" with a proof for anyone under each chunk's Y.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrieveRequest {
    /// The asker's one-time X25519 key, to which offers are sealed.
    pub ephemeral: [u8; 32],
    /// 0, then one more with each publication.
    pub attempt: u32,
    /// The nonce of all proofs of this request.
    pub nonce: [u8; 32],
    /// 1 to 32 chunks, each with its proof (operation Retrieve, verifier Anyone, no asker, body =
    /// attempt as `u32` LE).
    pub wanted: Vec<(ChunkId, Proof)>,
}

/// An answer that only the asker can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whose it is.
    pub tag: AnswerTag,
    /// Sealed box of an encoded [`AnswerBody`], at most 1 KiB.
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
pub enum AnswerBody {
    /// To a store request.
    Claim(StoreClaim),
    /// To a retrieve request.
    Offer(RetrieveOffer),
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
    /// Audit tags; empty until audits come.
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
    /// The bytes, header or proof do not verify.
    Invalid = 3,
    /// The disk failed; the store is read-only.
    Failed = 4,
    /// This node does not hold chunks for this owner (policy).
    Unwilling = 5,
    /// The account has as much here as one account may have.
    OverQuota = 6,
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
