//! All that may enter or leave a role.
//!
//! ```text
//! role.handle(now, input)                     never blocks, never fails because of a peer
//! while let Some(effect) = role.poll_effect() drain before the next handle
//! role.next_timeout() -> Option<Time>         when to feed Input::Tick
//! ```

use super::holder::HolderEvent;
pub use super::message::{ChunkState, ListedChunk};
use super::message::{Message, StreamMessage, TopicMessage};
use super::owner::{OwnerCommand, OwnerEvent};
use super::topic::Topic;
use super::types::{Account, ChunkId, LeaseNonce, LeaseTerms, NodeId, StoreEpoch, Ticket};
use crate::crypto::audit::{Piece, Task};
use crate::crypto::head::HeadRecord;
use crate::crypto::header::Header;
use bytes::Bytes;

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over gossip; `from` is then only the neighbour that forwarded it.
    Topic,
    /// Over a stream; `from` is then the authenticated peer.
    Stream,
}

/// Everything that happens to a role.
#[derive(Debug)]
pub enum Input {
    /// Time has passed: at or after [`next_timeout`](super).
    Tick,
    /// A decoded message.
    Message {
        /// The stream's peer, or the forwarder.
        from: NodeId,
        /// How it came.
        via: Via,
        /// What it says.
        message: Message,
    },
    /// The user wants something (owner role only).
    Command(OwnerCommand),
    /// A peer is connected and its [`super::message::Hello`] was checked.
    PeerUp(Peer),
    /// Its last connection closed, or could not be made.
    PeerDown(NodeId),
    /// A peer subscribed to this topic: what was published before did not reach it.
    PeerSubscribed(Topic),
    /// The node's own contact for sealed answers has changed.
    OwnRecord(Bytes),
    /// How full the store is, at the start and after each change that matters.
    Space(Space),
    /// [`Effect::FindChunks`] is done: for each id, what the catalogue has.
    ChunksFound {
        /// Of the effect.
        ticket: Ticket,
        /// In the order of the ids.
        found: Vec<Option<Found>>,
    },
    /// One group commit is done: each of these was durable, or failed.
    ChunksWritten(Vec<(Ticket, Result<Written, StoreError>)>),
    /// [`Effect::ReadChunk`] is done; bytes are verified against the id.
    ChunkRead {
        /// Of the effect.
        ticket: Ticket,
        /// The sealed bytes with their header.
        result: Result<(Header, Bytes), StoreError>,
    },
    /// [`Effect::DeleteChunk`] is done.
    ChunkDeleted {
        /// Of the effect.
        ticket: Ticket,
        /// Whether the tombstone is durable, and what it freed.
        result: Result<Deleted, StoreError>,
    },
    /// One group commit is done: each of these heads was durable, or was not taken.
    HeadsWritten(Vec<(Ticket, Result<HeadWritten, StoreError>)>),
    /// [`Effect::ReadHeads`] is done.
    HeadsRead {
        /// Of the effect.
        ticket: Ticket,
        /// The records, the newest number first.
        result: Result<Vec<HeadRecord>, StoreError>,
    },
    /// Records of heads were superseded long enough and are gone: so much less each account has.
    HeadsDropped(Vec<Deleted>),
    /// [`Effect::ListChunks`] is done: ids ascending, and whether there are more behind the last.
    ChunksListed {
        /// Of the effect.
        ticket: Ticket,
        /// Not empty where there are more.
        result: Result<(Vec<ListedChunk>, bool), StoreError>,
    },
    /// [`Effect::QueryChunks`] is done.
    ChunksQueried {
        /// Of the effect.
        ticket: Ticket,
        /// In the order of the ids; with a lease nonce of zeros where nothing is held.
        result: Result<Vec<(ChunkState, LeaseNonce)>, StoreError>,
    },
    /// [`Effect::ProveChunk`] is done.
    ChunkProven {
        /// Of the effect.
        ticket: Ticket,
        /// What goes into the answer.
        result: Result<ProvenChunk, Unproven>,
    },
    /// [`Effect::ReleaseChunks`] is done.
    ChunksReleased {
        /// Of the effect.
        ticket: Ticket,
        /// How it is now with each item, in their order, once that is durable. On an error nothing
        /// of it was done.
        result: Result<Vec<ChunkState>, StoreError>,
    },
    /// Chunks that were released long enough, or whose leases had to end, are destroyed: so much
    /// less each account has. No effect asked for it just now.
    ChunksDestroyed(Vec<(ChunkId, Deleted)>),
    /// Chunks were found damaged, each with whose it is: by a read, an audit or the scrub, or
    /// before the store was opened. Of many not all.
    ChunksDamaged(Vec<(Account, ChunkId)>),
    /// How long the store was in use over all its lives, in seconds, to about ten minutes.
    Uptime(u64),
    /// The user wants to know how this node stands with those for whom it keeps chunks (holder role
    /// only). Comes back as [`HolderEvent`]s.
    AskOwners,
}

/// A connected, authenticated peer of our mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// What it said of itself; the agreement key's signature was checked.
    pub hello: super::message::Hello,
    /// Where it was observed.
    pub reach: Reach,
}

/// Where a peer was observed; decides its failure domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// A public IPv4 address, cut to /24.
    PublicV4([u8; 3]),
    /// A public IPv6 address, cut to /48.
    PublicV6([u8; 6]),
    /// Loopback, private or link-local.
    Local,
    /// Behind a relay: the domain is unknown.
    Relayed,
}

/// What is kept under an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A chunk that stands in the catalogue.
    Chunk {
        /// Its header.
        header: Header,
        /// Nothing is known against its record. Where a read found it damaged the chunk no longer
        /// counts as held, so that it is taken again when it is offered; but its bytes may still
        /// be whole, and whoever asks for it is not turned away before they were read.
        sound: bool,
        /// It was let go and waits out its delay: it does not count as held, and is still handed
        /// out to whoever proves a right to it.
        released: bool,
    },
    /// A head. It never counts as held: whoever asks may have a newer one.
    Head {
        /// Y_h, under which a request for it is proved.
        read: [u8; 32],
    },
}

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// What the user gives, in bytes.
    pub capacity: u64,
    /// What is used of it.
    pub used: u64,
    /// Bytes the disk could still take above the reserve.
    pub free: u64,
    /// Bytes of chunks whose leases are over: they go where room is needed for others.
    pub reclaimable: u64,
    /// Chunks held.
    pub chunks: u64,
    /// The store takes no writes (a failed sync, a lost disk).
    pub read_only: bool,
}

/// What a durable write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The lease's name: the same as before where the chunk was held already; a new one where it
    /// had been released.
    pub lease: LeaseNonce,
    /// What the store promises: the terms of the first write where the chunk was held already. A
    /// release delay that was promised once for a record that is replaced does not shrink.
    pub terms: LeaseTerms,
    /// Of the store.
    pub epoch: StoreEpoch,
    /// Bytes this write added to what the account has; 0 where the chunk was held already.
    pub added_bytes: u64,
}

/// What the durable write of a head came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadWritten {
    /// What the store promises: the terms of the first write where the record was held already.
    pub terms: LeaseTerms,
    /// Of the store.
    pub epoch: StoreEpoch,
    /// Bytes this write added to what the account has; 0 where the record was held already.
    pub added_bytes: u64,
    /// Another record of the same number is held. This one is kept beside it as evidence and is
    /// not acknowledged.
    pub is_fork: bool,
}

/// What a durable delete came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Whose chunk it was.
    pub account: Account,
    /// Bytes that no longer count as this account's.
    pub freed_bytes: u64,
}

/// What a store can prove of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenChunk {
    /// How many blocks it has: 1 to 1,171.
    pub blocks: u16,
    /// Its part of the answer.
    pub piece: Piece,
}

/// Why a store cannot prove a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unproven {
    /// It is not held, or for another account.
    NotHeld,
    /// It was let go, and waits out its delay.
    Released,
    /// Its bytes or tags are not what was stored.
    Damaged,
    /// The disk did not read it this time: nothing is known of it.
    Unread,
    /// Too much to do: nothing was looked at.
    Busy,
}

/// Why the store did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum StoreError {
    /// Not held.
    #[error("the chunk is not held here")]
    NotFound,
    /// The bytes on disk no longer match the id; they are quarantined.
    #[error("the chunk is damaged on disk")]
    Damaged,
    /// No space above the reserve.
    #[error("the store is full")]
    Full,
    /// A sync failed earlier: nothing is written until the store is reopened and verified.
    #[error("the store is read-only")]
    ReadOnly,
    /// The disk said no to this one operation.
    #[error("the disk failed")]
    Io,
    /// More work is queued than the stated bound.
    #[error("the store is busy")]
    Busy,
    /// Another account holds a lease on the chunk already.
    #[error("the chunk is held for another account")]
    OtherAccount,
    /// Of a head: a newer number is held, or this one in other bytes.
    #[error("a newer record of the head is held")]
    Superseded,
    /// Of a head: its number is too far above the newest that is held.
    #[error("the head's number is too far ahead")]
    TooFarAhead,
    /// Of a head: the account has as many heads, or records of them, as it may have here.
    #[error("the account has too many heads here")]
    TooManyHeads,
}

/// A chunk as a holder keeps it, before the wrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// What the id certifies.
    pub header: Header,
    /// Nonce of the store proof.
    pub proof_nonce: [u8; 32],
    /// The owner's store proof.
    pub proof: crate::crypto::ownership::Proof,
    /// For whom.
    pub account: Account,
    /// The lease's name if the chunk is new here.
    pub lease: LeaseNonce,
    /// What was promised.
    pub terms: LeaseTerms,
    /// The owner's audit tags: [`are_tags`](crate::crypto::audit::are_tags) of the sealed bytes.
    pub tags: Bytes,
    /// The owner's sealed bytes.
    pub sealed: Bytes,
}

impl StoredChunk {
    /// The chunk's id, computed from the header.
    pub fn id(&self) -> ChunkId {
        self.header.id()
    }
}

/// Everything that a role can do.
#[derive(Debug)]
pub enum Effect {
    /// Gossip this.
    Publish {
        /// Where.
        topic: Topic,
        /// What.
        message: TopicMessage,
    },
    /// Say this to one peer, over the stream to it. Dropped, with `PeerDown`, where it is away.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: StreamMessage,
    },
    /// Connect to a node. Answered by `PeerUp` or `PeerDown`.
    Dial {
        /// Whom.
        node: NodeId,
        /// Its signed PeerRecord; empty where the node's addresses are known already.
        record: Bytes,
    },
    /// Look up what is known of these chunks and heads; no bytes of theirs are read.
    FindChunks {
        /// Comes back with the completion.
        ticket: Ticket,
        /// At most 256: what one [`Release`](super::message::Release) may name.
        ids: Vec<ChunkId>,
    },
    /// Make this chunk durable. Completed only when it is.
    WriteChunk {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The chunk.
        chunk: Box<StoredChunk>,
    },
    /// Read a chunk and verify it against its id.
    ReadChunk {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
    },
    /// Delete a chunk.
    DeleteChunk {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
    },
    /// List what is kept for an account. Completed by [`Input::ChunksListed`].
    ListChunks {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Whose chunks.
        account: Account,
        /// Only ids above this one.
        after: ChunkId,
        /// At most so many, 1 to 4,096.
        limit: u32,
    },
    /// Look up how it is with chunks of an account; one of another account is not held. Completed
    /// by [`Input::ChunksQueried`].
    QueryChunks {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Whose chunks.
        account: Account,
        /// 1 to 4,096.
        ids: Vec<ChunkId>,
    },
    /// Read a chunk of an account and prove it. Completed by [`Input::ChunkProven`].
    ProveChunk {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Whose chunk.
        account: Account,
        /// Which.
        id: ChunkId,
        /// How.
        task: Task,
        /// Hash it against its id first. Without that the bytes are those that this node wrapped.
        closely: bool,
    },
    /// Let chunks go, or take that back; whoever asks for it has shown that it may. Completed by
    /// [`Input::ChunksReleased`].
    ReleaseChunks {
        /// Comes back with the completion.
        ticket: Ticket,
        /// Takes a release back.
        undo: bool,
        /// 1 to 256, each with the lease that is meant: where it is not the one held, nothing
        /// changes.
        items: Vec<(ChunkId, LeaseNonce)>,
    },
    /// An owner proved to be there: whoever asked about this account has its key. What is kept for
    /// it is kept for as long again. No completion.
    OwnerHeard {
        /// Which.
        account: Account,
        /// An audit of it was answered with a proof.
        audited: bool,
    },
    /// Make this record of a head durable, where it is the newest. Completed by
    /// [`Input::HeadsWritten`].
    WriteHead {
        /// Comes back with the completion.
        ticket: Ticket,
        /// For whom.
        account: Account,
        /// What is promised.
        terms: LeaseTerms,
        /// The record; its signature was checked.
        record: HeadRecord,
    },
    /// Read what is kept of a head. Completed by [`Input::HeadsRead`].
    ReadHeads {
        /// Comes back with the completion.
        ticket: Ticket,
        /// The head.
        id: ChunkId,
        /// All records of the newest number, and at most so many that it superseded.
        superseded: usize,
    },
    /// Something the user, a log or a metric should know.
    Report(Event),
}

/// What a role reports.
#[derive(Debug)]
pub enum Event {
    /// From the owner role.
    Owner(OwnerEvent),
    /// From the holder role.
    Holder(HolderEvent),
    /// Somebody's message was turned down, for a counted reason.
    Rejected {
        /// Whose.
        from: NodeId,
        /// Why; a metric's label.
        reason: super::codec::Reject,
    },
}
