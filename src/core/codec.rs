//! Messages to protobuf bytes and back; size caps, version tag, reject reasons.
//!
//! Decoding is where peer data meets the program: whatever the bytes, it returns a message all of
//! whose fields are within the limits of the specification, or a [`Reject`]. Encoding cannot fail:
//! every legal message fits its cap, which the tests show for the largest ones.
//!
//! | file | what it holds |
//! |---|---|
//! | `codec/topic.rs` | gossiped messages and the bodies of sealed answers |
//! | `codec/stream.rs` | messages between two peers, with or without a payload |
//! | `codec/head.rs`, `codec/account.rs` | those about heads and accounts |
//! | `codec/standing.rs` | those about how a holder stands with an owner |
//! | `codec/field.rs` | the checks of single fields that both share |

mod account;
mod field;
mod head;
mod standing;
mod stream;
#[cfg(test)]
mod tests;
mod topic;

use super::message::{SignedAnswer, StreamMessage, TopicMessage};
use bytes::Bytes;
use prost::Message;

/// Why something from the network was turned down. Each is counted; none is an error of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Longer than its limit.
    Oversize,
    /// Not a message of this schema, or a field has a wrong length or value.
    Malformed,
    /// Another protocol version.
    WrongVersion,
    /// Another mesh.
    WrongMesh,
    /// A stream message that claims another node than its peer.
    WrongPeer,
    /// Bytes that do not match their id.
    WrongBytes,
    /// A proof, signature or receipt that does not verify.
    BadProof,
    /// Seen before.
    Replayed,
    /// An answer or ack to something never asked.
    Unsolicited,
    /// More than its rate.
    RateLimited,
    /// A table is full: globally or for this source.
    TableFull,
    /// Another record of a head's newest number than the one that is held.
    Forked,
}

impl Reject {
    /// The reason as one word for counters and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Malformed => "malformed",
            Self::WrongVersion => "wrong-version",
            Self::WrongMesh => "wrong-mesh",
            Self::WrongPeer => "wrong-peer",
            Self::WrongBytes => "wrong-bytes",
            Self::BadProof => "bad-proof",
            Self::Replayed => "replayed",
            Self::Unsolicited => "unsolicited",
            Self::RateLimited => "rate-limited",
            Self::TableFull => "table-full",
            Self::Forked => "forked",
        }
    }
}

/// The largest gossiped message.
pub const TOPIC_BYTES_MAX: usize = 4 << 10;

/// The largest encoded [`Answer`](super::message::Answer) message.
pub const ANSWER_BYTES_MAX: usize = 1 << 10;

/// The largest signed PeerRecord in an answer: a claim that holds it stays within
/// [`ANSWER_BYTES_MAX`].
pub const RECORD_BYTES_MAX: usize = 512;

/// The largest declared site or operator.
pub const LABEL_BYTES_MAX: usize = 32;

/// The largest hashcash stamp.
pub const STAMP_BYTES_MAX: usize = 64;

/// The largest number of chunks in one store request, and in one ack.
pub const OFFERS_MAX: usize = 64;

/// The largest number of chunks in one retrieve request on a topic.
pub const WANTED_MAX: usize = 32;

/// The largest number of replicas that a request can ask for.
pub const QUORUM_MAX: u8 = 32;

/// The largest number of chunks in one list or query of an account.
pub const ACCOUNT_CHUNKS_MAX: usize = 4_096;

/// The largest number of chunks in one release.
pub const RELEASES_MAX: usize = 256;

/// The largest number of chunks in one notice of damage.
pub const NOTICE_CHUNKS_MAX: usize = 256;

/// The largest number of head records in one answer: those of the newest number, and others before
/// it.
pub const HEAD_RECORDS_MAX: usize = 17;

/// The largest head of a stream frame.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The largest payload of a stream frame: one chunk's sealed bytes. All other payloads are shorter.
pub const PAYLOAD_BYTES_MAX: usize = super::types::CHUNK_SEALED_BYTES_MAX as usize;

/// Length of a stream frame's prefix: two lengths.
pub const FRAME_PREFIX_BYTES: usize = 8;

/// The protocol's version: the first field of every message.
const VERSION: u32 = 1;

/// One message on a stream: `head length u32 LE | payload length u32 LE | head | payload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The encoded message, at most [`HEAD_BYTES_MAX`].
    pub head: Bytes,
    /// What belongs to the message, at most [`PAYLOAD_BYTES_MAX`]; empty for most messages.
    pub payload: Bytes,
}

impl Frame {
    /// The two lengths that stand in front of the frame.
    pub fn prefix(&self) -> [u8; FRAME_PREFIX_BYTES] {
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let ([a, b, c, d], [e, f, g, h]) = (length(&self.head), length(&self.payload));
        [a, b, c, d, e, f, g, h]
    }

    /// Head and payload length of the frame that follows a prefix, before anything is allocated.
    ///
    /// # Errors
    /// [`Reject::Oversize`] where one of them is above its cap.
    pub fn lengths(prefix: [u8; FRAME_PREFIX_BYTES]) -> Result<(usize, usize), Reject> {
        let [a, b, c, d, e, f, g, h] = prefix;
        let within = |bytes: [u8; 4], cap: usize| {
            let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
            if length <= cap { Ok(length) } else { Err(Reject::Oversize) }
        };
        Ok((within([a, b, c, d], HEAD_BYTES_MAX)?, within([e, f, g, h], PAYLOAD_BYTES_MAX)?))
    }
}

/// A gossiped message as bytes, at most [`TOPIC_BYTES_MAX`].
pub fn encode_topic(message: &TopicMessage) -> Bytes {
    topic::encode(message).encode_to_vec().into()
}

/// Reads a gossiped message.
///
/// # Errors
/// [`Reject::Oversize`], [`Reject::WrongVersion`] or [`Reject::Malformed`].
pub fn decode_topic(bytes: &[u8]) -> Result<TopicMessage, Reject> {
    let message: crate::proto::TopicMessage = parse(bytes, TOPIC_BYTES_MAX)?;
    checked_version(message.version)?;
    let message = topic::decode(message)?;
    if matches!(message, TopicMessage::Answer(_)) && bytes.len() > ANSWER_BYTES_MAX {
        return Err(Reject::Oversize);
    }
    Ok(message)
}

/// What goes into the sealed box of an answer: small enough that the whole
/// [`Answer`](super::message::Answer) stays within [`ANSWER_BYTES_MAX`].
pub fn encode_answer(answer: &SignedAnswer) -> Bytes {
    topic::encode_answer(answer).encode_to_vec().into()
}

/// Reads what an answer's box held. The signature is the caller's to check: it knows the request.
///
/// # Errors
/// [`Reject::Oversize`], [`Reject::WrongVersion`] or [`Reject::Malformed`].
pub fn decode_answer(bytes: &[u8]) -> Result<SignedAnswer, Reject> {
    let body: crate::proto::AnswerBody = parse(bytes, ANSWER_BYTES_MAX)?;
    checked_version(body.version)?;
    topic::decode_answer(body)
}

/// A stream message as a frame; sealed bytes are passed on, not copied.
pub fn encode_stream(message: &StreamMessage) -> Frame {
    let (head, payload) = stream::encode(message);
    Frame { head: head.encode_to_vec().into(), payload }
}

/// How many bytes a message has as a frame, without what the transport adds.
pub fn frame_bytes(message: &StreamMessage) -> u64 {
    let (head, payload) = stream::encode(message);
    (head.encoded_len() as u64).saturating_add(payload.len() as u64)
}

/// Reads a frame.
///
/// # Errors
/// [`Reject::Oversize`], [`Reject::WrongVersion`] or [`Reject::Malformed`].
pub fn decode_stream(frame: Frame) -> Result<StreamMessage, Reject> {
    if frame.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Reject::Oversize);
    }
    let head: crate::proto::StreamMessage = parse_shared(frame.head, HEAD_BYTES_MAX)?;
    checked_version(head.version)?;
    stream::decode(head, frame.payload)
}

fn parse<M: Message + Default>(bytes: &[u8], cap: usize) -> Result<M, Reject> {
    if bytes.len() > cap {
        return Err(Reject::Oversize);
    }
    parse_shared(Bytes::copy_from_slice(bytes), cap)
}

/// Protobuf to a generated message. What another version made may not parse under this schema: its
/// version still tells it from noise.
fn parse_shared<M: Message + Default>(bytes: Bytes, cap: usize) -> Result<M, Reject> {
    if bytes.len() > cap {
        return Err(Reject::Oversize);
    }
    M::decode(bytes.clone()).map_err(|_| match OnlyVersion::decode(bytes) {
        Ok(OnlyVersion { version }) if version != VERSION && version != 0 => Reject::WrongVersion,
        _ => Reject::Malformed,
    })
}

/// The one field that every message of every version has.
#[derive(Clone, PartialEq, Message)]
struct OnlyVersion {
    #[prost(uint32, tag = "1")]
    version: u32,
}

fn checked_version(version: u32) -> Result<(), Reject> {
    if version == VERSION { Ok(()) } else { Err(Reject::WrongVersion) }
}
