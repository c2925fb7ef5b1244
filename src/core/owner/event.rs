//! What the role tells the user's side, and why something did not come to what was asked for.

use super::account::{AccountDone, AccountFailure};
use crate::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch, Ticket};
use crate::crypto::head::HeadRecord;
use crate::crypto::header::Header;
use bytes::Bytes;

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
        /// How many replicas count: one per failure domain.
        replicas: u8,
        /// Who acknowledged it, counted or not.
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
    /// A record of a head is not the newest: a holder says that it holds a higher number, or this
    /// one in other bytes. The job goes on, as that may not be true; whoever wants to know reads
    /// the head anew.
    Superseded {
        /// Of the job.
        ticket: Ticket,
        /// The head.
        id: ChunkId,
        /// Who says so; `None` where another command brought another record of this head: the job
        /// with the lower number, or the earlier one of two, is over then.
        by: Option<NodeId>,
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
        /// Who was asked before it came and did not serve it, and what each said last. Whoever
        /// still owes an answer is not among them, unless it was passed over as late.
        asked: Vec<(NodeId, FetchFailure)>,
    },
    /// A record of a head, of which id and signature were checked. One for each record of each
    /// holder: what they come to is for whoever asked to judge.
    HeadSeen {
        /// Of the job.
        ticket: Ticket,
        /// Who served it.
        from: NodeId,
        /// The record.
        record: HeadRecord,
    },
    /// Everyone who could be asked for the heads has answered, or is late; the job is over.
    HeadsDone {
        /// Of the job.
        ticket: Ticket,
        /// For each head who served records of it.
        answered: Vec<(ChunkId, Vec<NodeId>)>,
        /// Nodes that were named or made an offer, and said nothing of use: not even no.
        silent: Vec<NodeId>,
    },
    /// A node says that it holds these of the owner's chunks, which nobody has checked. It is
    /// dialed where it is not connected. Of each node a chunk is told once.
    Located {
        /// Of the job.
        ticket: Ticket,
        /// Who says so.
        node: NodeId,
        /// 1 to 32 chunks.
        ids: Vec<ChunkId>,
    },
    /// Nobody else is expected to say where chunks are; the job is over.
    LocateDone {
        /// Of the job.
        ticket: Ticket,
    },
    /// A holder says, without being asked, that it found these chunks of ours damaged. It belongs
    /// to no job, and proves nothing: they are to be audited.
    Noticed {
        /// Who says so.
        holder: NodeId,
        /// 1 to 256 chunks.
        ids: Vec<ChunkId>,
    },
    /// A holder asks how it stands with this owner, and has shown which account it keeps. It
    /// belongs to no job, and is to be answered by [`OwnerCommand::TellStanding`], once.
    ///
    /// [`OwnerCommand::TellStanding`]: super::OwnerCommand::TellStanding
    StandingAsked {
        /// Who asks.
        holder: NodeId,
        /// Its number of the question.
        request: u64,
    },
    /// What one holder says of the owner's account there; the job is over.
    Account {
        /// Of the job.
        ticket: Ticket,
        /// Who was asked.
        holder: NodeId,
        /// What it says, or why that is not known.
        outcome: Result<AccountDone, AccountFailure>,
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
    /// No connected peer is at home in the chunk's shard.
    NoPeers,
    /// Peers were asked and too few volunteered.
    TooFewVolunteers,
    /// Volunteers were granted and have not acknowledged yet.
    AcksOutstanding,
    /// Holders refused: full.
    HoldersFull,
    /// Holders take no more chunks of this owner.
    OverQuota,
    /// Nodes volunteered that share a failure domain with a holder that counts already.
    SharedDomains,
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

impl FetchFailure {
    /// Whether it said anything, so that it was there and heard the request.
    pub fn is_answer(self) -> bool {
        match self {
            Self::WrongBytes | Self::Damaged | Self::NotHeld | Self::Busy => true,
            Self::Late | Self::Unreachable => false,
        }
    }
}
