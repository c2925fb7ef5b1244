//! What a node's user wants, kept as the daemon's outbox and catalogue keep it: across restarts.

use quloud::core::types::{ChunkId, LeaseNonce, Locality, NodeId, StoreEpoch, Ticket, Time};
use quloud::crypto::keys::ChunkKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a chunk that is put again waits for holders that may be about to let it go. Then these
/// are left out.
pub(crate) const SETTLES: Duration = Duration::from_secs(60);

/// A chunk the user put.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) key: ChunkKey,
    pub(crate) locality: Locality,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) replicas: u8,
    /// Who acknowledged it.
    pub(crate) acked: Vec<NodeId>,
    /// Under which lease, and of which store, of all that ever did.
    pub(crate) leases: BTreeMap<NodeId, (LeaseNonce, StoreEpoch)>,
    /// The quorum was reached, and the user was told so.
    pub(crate) stored: bool,
    /// When the user put it.
    pub(crate) since: Time,
    /// The user waits for it no longer, until the world is calm.
    pub(crate) resting: bool,
    /// It is part of a backup: nobody gives it up.
    pub(crate) backup: bool,
}

/// Strikes the holders out that are gone for ever, and says how many these were: an owner that
/// puts a chunk again counts on those that are left.
pub(crate) fn strike(holders: &mut Vec<NodeId>, gone: &BTreeSet<NodeId>) -> usize {
    let held = holders.len();
    holders.retain(|node| !gone.contains(node));
    held - holders.len()
}

/// What a running job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Put(ChunkId),
    Get(ChunkId),
    /// A record of this head is sent.
    Head(ChunkId),
    /// Heads are asked for.
    Look,
    /// A chunk that an owner's words lead to is fetched.
    Bring(ChunkId),
    /// A chunk is fetched that is short somewhere.
    Repair(ChunkId),
    /// A holder is asked for proofs.
    Audit(NodeId),
    /// A holder is asked to let chunks go, or to take that back.
    Let(NodeId, bool),
    /// A holder is asked for a chunk to try it.
    Try(ChunkId),
    /// Holders are looked for.
    Locate,
}

/// A chunk that a holder was, or is to be, asked to let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letting {
    pub(crate) lease: LeaseNonce,
    /// It is to take that back.
    pub(crate) undo: bool,
    /// It has answered.
    pub(crate) heard: bool,
    /// When the user wanted that.
    pub(crate) since: Time,
}

/// Chunks that a holder is being asked for, and by which leases.
pub(crate) type Asked = Vec<(ChunkId, LeaseNonce)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) puts: BTreeMap<ChunkId, Put>,
    /// Puts that were given up.
    pub(crate) dropped: BTreeMap<ChunkId, Put>,
    /// What holders let go, or may be about to: known whatever happens to the process.
    pub(crate) letting: BTreeMap<(NodeId, ChunkId), Letting>,
    /// Of jobs that let chunks go, or take that back.
    pub(crate) asked: BTreeMap<Ticket, Asked>,
    jobs: BTreeMap<Ticket, Job>,
    next: u64,
}

impl Wishes {
    /// A new job of this life.
    pub(crate) fn begin(&mut self, job: Job) -> Ticket {
        self.next += 1;
        self.jobs.insert(Ticket(self.next), job);
        Ticket(self.next)
    }

    /// The job is over.
    pub(crate) fn end(&mut self, ticket: Ticket) -> Option<Job> {
        self.jobs.remove(&ticket)
    }

    /// The job for this is over, where there is one.
    pub(crate) fn end_job(&mut self, job: Job) -> Option<Ticket> {
        let ticket =
            self.jobs.iter().find(|(_, other)| **other == job).map(|(ticket, _)| *ticket)?;
        self.jobs.remove(&ticket);
        Some(ticket)
    }

    /// The process ended, and all its jobs with it: the puts among them begin anew with the next.
    pub(crate) fn forget_jobs(&mut self) {
        self.jobs.clear();
        self.asked.clear();
    }

    /// Whether a job works on this.
    pub(crate) fn has_job(&self, job: Job) -> bool {
        self.jobs.values().any(|other| *other == job)
    }

    /// Whether this job is not over.
    pub(crate) fn is_running(&self, ticket: Ticket, job: Job) -> bool {
        self.jobs.get(&ticket) == Some(&job)
    }

    /// What jobs put: chunks, and heads.
    pub(crate) fn putting(&self) -> impl Iterator<Item = &ChunkId> {
        self.jobs.values().filter_map(|job| match job {
            Job::Put(id) | Job::Head(id) => Some(id),
            Job::Get(_) | Job::Look | Job::Bring(_) | Job::Repair(_) => None,
            Job::Audit(_) | Job::Let(..) | Job::Try(_) | Job::Locate => None,
        })
    }

    /// Whether a user waits for any chunk.
    pub(crate) fn is_waited_for(&self) -> bool {
        let is_wished = |job: &Job| matches!(job, Job::Put(_) | Job::Get(_) | Job::Bring(_));
        self.jobs.values().any(is_wished)
    }

    /// What this holder is just being asked to let go, or to take back.
    pub(crate) fn asked_of(&self, holder: NodeId, undo: bool) -> BTreeSet<ChunkId> {
        let is_of = |ticket: &&Ticket| self.is_running(**ticket, Job::Let(holder, undo));
        let asked = self.asked.iter().filter(|(ticket, _)| is_of(ticket));
        asked.flat_map(|(_, ids)| ids.iter().map(|(id, _)| *id)).collect()
    }

    /// Holders that may still let this chunk go: what they acknowledge counts for nothing.
    pub(crate) fn unsettled(&self, id: &ChunkId) -> Vec<NodeId> {
        let open = self.letting.iter().filter(|((_, of), letting)| of == id && !letting.heard);
        open.map(|((holder, _), _)| *holder).collect()
    }

    /// Chunks whose quorum is not reached yet and that no job works on, but for those that holders
    /// are just being asked to take back.
    pub(crate) fn unfinished(&self, now: Time) -> Vec<ChunkId> {
        let is_new = |letting: &Letting| letting.since.after(SETTLES) > now;
        let waits = self.letting.iter().filter(|(_, letting)| !letting.heard && is_new(letting));
        let waiting: BTreeSet<ChunkId> = waits.map(|((_, id), _)| *id).collect();
        let running = |id: &ChunkId| self.has_job(Job::Put(*id));
        let open = |put: &Put| !put.stored && !put.resting;
        let is_next = |id: &ChunkId| !running(id) && !waiting.contains(id);
        let unfinished = self.puts.iter().filter(|(id, put)| open(put) && is_next(id));
        unfinished.map(|(id, _)| *id).collect()
    }
}
