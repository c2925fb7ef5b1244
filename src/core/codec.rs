//! Messages to protobuf bytes and back; size caps, version tag, reject reasons.

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
}

/// The largest gossiped message.
pub const TOPIC_BYTES_MAX: usize = 4 << 10;

/// The largest encoded [`Answer`](super::message::Answer) message.
pub const ANSWER_BYTES_MAX: usize = 1 << 10;

/// The largest head of a stream frame.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The largest payload of a stream frame: one chunk's sealed bytes.
pub const PAYLOAD_BYTES_MAX: usize = super::types::CHUNK_SEALED_BYTES_MAX as usize;
