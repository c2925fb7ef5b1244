//! The owner role: stores and fetches this node's own chunks. One small machine per flow.
//!
//! What it holds is bounded: at most [`OwnerLimits::window_bytes`] of sealed bytes that wait for
//! their quorum; whoever feeds it asks [`OwnerRole::window_free`](self) first, and so backpressure
//! reaches the chunker.

use super::types::{ChunkId, LeaseNonce, Locality, NodeId, StoreEpoch, Ticket, Time};
use crate::crypto::header::Header;
use crate::crypto::keys::ChunkSecret;
use crate::crypto::seal::SealedChunk;
use bytes::Bytes;

/// What the user's side asks of the role.
#[derive(Debug)]
pub enum OwnerCommand {
    /// Store one chunk.
    Store(StoreJob),
    /// Fetch one chunk.
    Fetch(FetchJob),
    /// Forget a job; nothing more is reported of it.
    Cancel(Ticket),
}

/// One chunk to be stored.
#[derive(Debug)]
pub struct StoreJob {
    /// Comes back in every event of the job.
    pub ticket: Ticket,
    /// The chunk.
    pub chunk: SealedChunk,
    /// How many distinct nodes shall hold it, 1 to 32.
    pub replicas: u8,
    /// Nodes that acknowledged it earlier and still count.
    pub held_by: Vec<NodeId>,
    /// When to report that it is short; the job goes on after that.
    pub deadline: Time,
}

/// One chunk to be fetched.
#[derive(Debug)]
pub struct FetchJob {
    /// Comes back in every event of the job.
    pub ticket: Ticket,
    /// The chunk.
    pub id: ChunkId,
    /// Where its topics are.
    pub locality: Locality,
    /// y.
    pub read: ChunkSecret,
    /// Who is thought to hold it, best first; may be empty.
    pub holders: Vec<NodeId>,
    /// When to give up.
    pub deadline: Time,
}

/// What the role tells the user's side.
#[derive(Debug)]
pub enum OwnerEvent {
    /// One more verified ack. Every one is recorded, also those above the quorum.
    Acked {
        /// Of the job.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
        /// Who acknowledged.
        node: NodeId,
        /// The lease's name there.
        lease: LeaseNonce,
        /// The store that holds it.
        epoch: StoreEpoch,
        /// Distinct nodes so far.
        replicas: u8,
    },
    /// The quorum is reached; the job is over.
    Stored {
        /// Of the job.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
        /// Who holds it.
        holders: Vec<NodeId>,
    },
    /// The deadline passed and the quorum is not reached; the job goes on.
    Short {
        /// Of the job.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
        /// Distinct nodes so far.
        replicas: u8,
        /// Why there are not more.
        why: Shortage,
    },
    /// Here it is, verified against its id; the job is over.
    Fetched {
        /// Of the job.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
        /// What the id certifies.
        header: Header,
        /// The sealed bytes.
        sealed: Bytes,
        /// Who served it.
        from: NodeId,
    },
    /// Nobody reachable served it before the deadline; the job is over.
    NotFetched {
        /// Of the job.
        ticket: Ticket,
        /// The chunk.
        id: ChunkId,
        /// Who was asked, and what each said last.
        asked: Vec<(NodeId, FetchFailure)>,
    },
}

/// Why a chunk has too few replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// No peer is subscribed to the store topic.
    NoPeers,
    /// Peers were asked and too few volunteered.
    TooFewVolunteers,
    /// Volunteers were granted and have not acknowledged yet.
    AcksOutstanding,
    /// Holders refused: full.
    HoldersFull,
}

/// Why a holder did not serve a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FetchFailure {
    /// It could not be reached.
    Unreachable,
    /// It does not hold the chunk, or did not accept the proof.
    NotHeld,
    /// It did not answer in time.
    Late,
    /// Its bytes do not match the id.
    WrongBytes,
    /// It says that its copy is damaged.
    Damaged,
    /// It was too busy.
    Busy,
}
