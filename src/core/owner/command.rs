//! What the user's side asks of the role: its commands, and the jobs in them.

use super::account::AccountJob;
use super::heads::HeadsJob;
use super::locate::LocateJob;
use super::payload::Load;
use crate::core::message::{StandingRefusal, StandingReport};
use crate::core::placement::Pair;
use crate::core::types::{ChunkId, Locality, NodeId, Standing, Ticket, Time};
use crate::crypto::keys::ChunkSecret;

/// What the user's side asks of the role.
#[derive(Debug)]
pub enum OwnerCommand {
    /// Store one chunk.
    Store(StoreJob),
    /// Fetch one chunk.
    Fetch(FetchJob),
    /// Find what is kept of heads.
    FindHeads(HeadsJob),
    /// Ask one holder about the owner's account there.
    Account(AccountJob),
    /// Look for nodes that hold some of the owner's chunks.
    Locate(LocateJob),
    /// Forget a job; nothing more is reported of it.
    Cancel(Ticket),
    /// What audits of a node say by now.
    Judge(NodeId, Standing),
    /// All pairs of nodes that are taken to share a failure domain by what was seen earlier,
    /// wherever they are seen now; the smaller id of each first.
    Bind(Vec<Pair>),
    /// What a holder is told that asked how it stands: to [`OwnerEvent::StandingAsked`].
    ///
    /// [`OwnerEvent::StandingAsked`]: super::OwnerEvent::StandingAsked
    TellStanding {
        /// Who asked.
        holder: NodeId,
        /// Its number of the question.
        request: u64,
        /// What it is told, or why nothing.
        outcome: Result<StandingReport, StandingRefusal>,
    },
}

/// One chunk, or one record of a head, to be stored.
#[derive(Debug)]
pub struct StoreJob {
    /// Comes back in every event of the job.
    pub ticket: Ticket,
    /// The chunk, or the record of a head.
    pub load: Load,
    /// How many distinct nodes shall hold it, 1 to 32.
    pub replicas: u8,
    /// Nodes that acknowledged it earlier. Those that are connected are asked first; one counts
    /// only if it says that it holds the chunk still, and is an ordinary candidate otherwise.
    pub held_by: Vec<NodeId>,
    /// Nodes that are not given it, and whose acks of it do not count: they may be about to let it
    /// go, and acknowledge it before they do.
    pub without: Vec<NodeId>,
    /// Holders of it that are not asked, as they are off line or left out, and count elsewhere:
    /// none of `replicas` is placed in a failure domain of theirs.
    pub beside: Vec<NodeId>,
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
    /// Whether nobody else is asked, guessed or searched for: for who wants to know whether these
    /// hand it over. The job ends as soon as all of them have failed.
    pub only: bool,
    /// When to give up.
    pub deadline: Time,
}
