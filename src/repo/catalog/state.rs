//! What the catalogue's entries come to: the outbox, the roots, and who holds what. Pure.
//!
//! Made for a million chunks: a chunk with up to three holders costs 68 bytes and its share of a
//! tree, 103 in all where a million came in any order. Where they came in the order of their ids it
//! is 130: the tree's leaves are half full then. So a rewritten journal has them in another order.

mod holders;
mod losses;
mod prune;
mod shown;

pub use prune::NotedSnapshot;
pub(super) use shown::Times;

use super::audit::Audits;
use super::entry::{
    BackupMade, Device, Entry, HeadKept, HeadSeen, JobDropped, JobId, Loss, PutRoot, PutStarted,
    SnapshotDue, SnapshotEvidence, Verified,
};
use super::made::Made;
use super::rebuild::{self, Rebuild};
use crate::core::types::{ChunkId, NodeId, SnapshotId, StoreEpoch};
use crate::repo::near::Near;
use holders::{NO_STORE, Replica, Slots, Store, StoreIndex, counting, store};
use losses::Losses;
use prune::Prunes;
use std::collections::BTreeMap;

/// A put that has not reached its quorum.
#[derive(Debug)]
pub struct Job {
    /// What it is.
    pub started: PutStarted,
    /// Where it stands, once all of it was handed over.
    pub short: Option<PutRoot>,
    /// At least one of its chunks has a replica.
    pub acked: bool,
    /// Since when its file cannot be opened: seconds since 1970.
    pub away_since: Option<u64>,
}

impl Job {
    /// How many entries say all of it.
    fn entries(&self) -> u64 {
        [true, self.short.is_some(), self.acked, self.away_since.is_some()]
            .into_iter()
            .map(u64::from)
            .sum()
    }
}

/// The newest record of a head, and who keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHead {
    /// The record.
    pub seen: HeadSeen,
    /// Who keeps it; `None` where nobody is known to, so that it is to be sent again if it is
    /// this device's own.
    pub kept: Option<HeadKept>,
}

/// What drills of one snapshot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drills {
    /// The last one.
    pub last: Verified,
    /// The last one that found all that it drew, of those that drew most.
    pub proof: Option<Verified>,
    /// The last one that found something damaged, or else out of reach, and that no later one
    /// refutes: what a sample did not draw may still be damaged.
    pub failed: Option<Verified>,
}

impl Drills {
    /// As few of them as say all of it, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = Verified> {
        let mut before: Vec<Verified> = self.proof.into_iter().chain(self.failed).collect();
        before.retain(|drill| *drill != self.last);
        before.sort_by_key(|drill| drill.at);
        before.into_iter().chain([self.last])
    }

    fn add(&mut self, drill: Verified) {
        self.last = drill;
        if !drill.is_proof() {
            let is_worse = |before: Verified| before.damaged > 0 && drill.damaged == 0;
            if !self.failed.is_some_and(is_worse) {
                self.failed = Some(drill);
            }
            return;
        }
        self.failed = self.failed.filter(|failed| !drill.refutes(failed));
        // A sample does not take the place of more than it looked at.
        if self.proof.is_none_or(|before| before.sample_ppm <= drill.sample_ppm) {
            self.proof = Some(drill);
        }
    }
}

/// Snapshots whose drills are remembered: those that were read back last.
const DRILLED_MAX: usize = 4_096;

/// Given-up puts that are remembered: the newest.
const DROPPED_MAX: usize = 32;

/// Everything that the entries so far say.
#[derive(Debug, Default)]
pub(super) struct State {
    jobs: BTreeMap<JobId, Job>,
    roots: BTreeMap<(ChunkId, String), PutRoot>,
    dropped: BTreeMap<JobId, JobDropped>,
    stores: Vec<Store>,
    /// All but those that are gone.
    index: BTreeMap<(NodeId, StoreEpoch), StoreIndex>,
    /// The store that each node acknowledged with last: the only one that counts.
    current: BTreeMap<NodeId, StoreIndex>,
    /// Every chunk that is known.
    holders: BTreeMap<ChunkId, Slots>,
    /// Holders beyond the third.
    more: BTreeMap<ChunkId, Vec<Replica>>,
    last_job: u64,
    device: Option<Device>,
    /// By generation and index.
    heads: BTreeMap<(u32, u16), KnownHead>,
    /// Files that were put and have no snapshot yet.
    due: BTreeMap<JobId, SnapshotDue>,
    /// See [`Entry::LookedAround`].
    looked_around: Option<u64>,
    drills: BTreeMap<SnapshotId, Drills>,
    made: Made,
    prunes: Prunes,
    /// What audits came to, by node.
    audits: Audits,
    losses: Losses,
    /// Which holders share a failure domain. Told by whoever sees them, and not written down.
    near: Near,
    /// How often that was told.
    drawn: u64,
    /// How far it is filled anew, where it has to be.
    rebuild: Option<Rebuild>,
}

impl State {
    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::PutStarted(started) => self.on_started(started),
            Entry::ChunkAcked(acked) => self.on_acked(&acked),
            Entry::SnapshotEvidence(evidence) => self.made.look(evidence),
            Entry::PutDone(root) => self.on_done(root),
            Entry::PutShort(root) => self.on_short(root),
            Entry::PutAcked(job) => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.acked = true;
                }
            }
            Entry::SourceAway { job, since } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.away_since = since;
                }
            }
            Entry::JobDropped(dropped) => self.on_dropped(dropped),
            Entry::Device(device) => self.device = Some(device),
            Entry::HeadSeen(seen) => self.on_head(seen),
            Entry::Verified(verified) => self.on_verified(verified),
            Entry::BackupMade(made) => self.made.apply(made),
            Entry::HeadKept(kept) => self.on_kept(kept),
            Entry::SnapshotDue(due) => {
                self.saw(due.job);
                self.due.insert(due.job, due);
            }
            Entry::SnapshotDone(job) => drop(self.due.remove(&job)),
            Entry::LookedAround { at } => self.looked_around = Some(at),
            Entry::Prune(note) => self.on_prune(note),
            Entry::Rebuild(note) => rebuild::apply(&mut self.rebuild, note),
            Entry::Proven(proven) => self.on_proven(&proven),
            Entry::Audited(proven) => self.on_audited(&proven),
            // The catalogue looks at that itself.
            Entry::ShownUpTo { .. } => {}
            Entry::ReplicaLost(lost) => {
                self.on_lost(&lost);
                if lost.why == Loss::Lied {
                    self.on_lied((lost.node, lost.at_s));
                }
            }
            Entry::ChunkNowhere(chunk) => self.know(chunk),
            Entry::HolderAudited(it) => {
                self.hear((it.node, it.outcome.at_s), |audits| audits.on_audited(it));
            }
            Entry::HolderSilent { node, at_s } => {
                self.hear((node, at_s), |audits| audits.on_silent(node, at_s));
            }
            Entry::HolderSilence { node, silence } => self.audits.on_silence(node, silence),
            Entry::HolderWithheld { node, at_s } => {
                self.hear((node, at_s), |audits| audits.on_withheld(node, at_s));
            }
            Entry::HolderWithholds { node, silence } => self.audits.on_withholds(node, silence),
            Entry::HolderServed { node } => self.audits.on_served(&node),
            Entry::HolderHadDay { node, at_s } => self.audits.on_day(node, at_s),
            Entry::HolderOwes { node, debt } => self.audits.on_debt(node, debt),
            Entry::StoreGone { node, epoch, at_s } => {
                if self.drop_store((&node, &epoch)) {
                    self.made.lose(at_s);
                }
            }
            Entry::HolderLied { node, at_s } => self.on_lied((node, at_s)),
        }
    }

    fn on_started(&mut self, started: PutStarted) {
        self.saw(started.job);
        let job = Job { started, short: None, acked: false, away_since: None };
        self.jobs.insert(job.started.job, job);
        self.made.put();
    }

    fn on_done(&mut self, root: PutRoot) {
        self.saw(root.job);
        if let Some(Job { started, .. }) = self.jobs.remove(&root.job) {
            self.dropped.retain(|_, dropped| dropped.path != started.path);
        }
        self.on_root(root);
    }

    fn on_short(&mut self, root: PutRoot) {
        self.saw(root.job);
        if let Some(job) = self.jobs.get_mut(&root.job) {
            job.acked |= root.replicas > 0;
            job.short = Some(root);
        }
    }

    fn on_kept(&mut self, kept: HeadKept) {
        let head = self.heads.get_mut(&(kept.generation, kept.index));
        if let Some(head) = head.filter(|head| head.seen.record.number() == kept.number) {
            head.kept = Some(kept);
        }
    }

    fn on_lied(&mut self, (node, at_s): (NodeId, u64)) {
        self.hear((node, at_s), |audits| audits.on_lied(node, at_s));
    }

    /// A holder answered, or did not, at `at_s`: what it holds may count no more from then on.
    fn hear(&mut self, (node, at_s): (NodeId, u64), note: impl FnOnce(&mut Audits)) {
        let counts = |audits: &Audits| audits.standing_of(&node, at_s).counts();
        let did_count = counts(&self.audits);
        note(&mut self.audits);
        if did_count && !counts(&self.audits) && self.chunks_held_by(&node) > 0 {
            self.made.lose(at_s);
        }
    }

    /// What was put without a snapshot stays so, whatever has the same content and name: a prune
    /// that lets the snapshot of that go would drop both.
    fn on_root(&mut self, root: PutRoot) {
        let name = (root.capability.id, root.name.clone());
        let was_named = self.roots.get(&name).is_none_or(|before| before.named);
        self.roots.insert(name, PutRoot { named: root.named && was_named, ..root });
        self.made.put();
    }

    /// Only a higher number is news: the first record with a number is the one that counts.
    fn on_head(&mut self, seen: HeadSeen) {
        let name = (seen.record.generation(), seen.index);
        let number = seen.record.number();
        if self.heads.get(&name).is_none_or(|head| head.seen.record.number() < number) {
            self.heads.insert(name, KnownHead { seen, kept: None });
        }
    }

    fn on_verified(&mut self, verified: Verified) {
        let of = self.drills.entry(verified.snapshot);
        of.or_insert(Drills { last: verified, proof: None, failed: None }).add(verified);
        if self.drills.len() > DRILLED_MAX {
            let oldest = self.drills.iter().min_by_key(|(_, drills)| drills.last.at);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.drills.remove(&id);
            }
        }
    }

    pub(super) fn drills(&self) -> impl Iterator<Item = &Drills> {
        self.drills.values()
    }

    pub(super) fn made(&self) -> impl Iterator<Item = &BackupMade> {
        self.made.all()
    }

    pub(super) fn evidence(&self) -> impl Iterator<Item = &SnapshotEvidence> {
        self.made.evidence()
    }

    pub(super) fn evidence_of(&self, snapshot: &SnapshotId) -> Option<&SnapshotEvidence> {
        self.made.evidence_of(snapshot)
    }

    pub(super) fn made_mut(&mut self) -> &mut Made {
        &mut self.made
    }

    pub(super) fn losses_seen(&self) -> u64 {
        self.made.losses_seen()
    }

    pub(super) fn drills_of(&self, snapshot: &SnapshotId) -> Option<Drills> {
        self.drills.get(snapshot).copied()
    }

    pub(super) fn device(&self) -> Option<Device> {
        self.device
    }

    pub(super) fn heads(&self) -> impl Iterator<Item = &KnownHead> {
        self.heads.values()
    }

    pub(super) fn due(&self) -> impl Iterator<Item = &SnapshotDue> {
        self.due.values()
    }

    pub(super) fn rebuild(&self) -> Option<&Rebuild> {
        self.rebuild.as_ref()
    }

    pub(super) fn looked_around(&self) -> Option<u64> {
        self.looked_around
    }

    /// The latest word on a file is the one that counts.
    fn on_dropped(&mut self, dropped: JobDropped) {
        self.saw(dropped.job);
        self.jobs.remove(&dropped.job);
        self.dropped.retain(|_, other| other.path != dropped.path);
        if !dropped.why.is_empty() {
            self.dropped.insert(dropped.job, dropped);
        }
        if self.dropped.len() > DROPPED_MAX {
            self.dropped.pop_first();
        }
    }

    pub(super) fn next_job(&self) -> JobId {
        JobId(self.last_job.saturating_add(1))
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub(super) fn job(&self, job: JobId) -> Option<&Job> {
        self.jobs.get(&job)
    }

    pub(super) fn dropped(&self) -> impl Iterator<Item = &JobDropped> {
        self.dropped.values()
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = &PutRoot> {
        self.roots.values()
    }

    pub(super) fn audits(&self) -> &Audits {
        &self.audits
    }

    /// For how many chunks holders owe answers.
    pub(super) fn owed(&self) -> u64 {
        self.audits.owed()
    }

    /// What this node owes an answer for, of what counts there.
    pub(super) fn owed_by(&mut self, node: &NodeId) -> Option<Vec<ChunkId>> {
        let mut debt = self.audits.take_debt(node)?;
        let owed = debt.due(|chunk| self.holders_of(chunk).contains(node));
        self.audits.on_debt(*node, debt);
        owed
    }

    /// How many entries a journal of nothing but this state has.
    pub(super) fn entries(&self) -> u64 {
        let jobs = self.jobs.values().map(Job::entries).sum::<u64>();
        let acks = self.current.keys().map(|node| self.chunks_held_by(node)).sum::<u64>();
        let kept = self.heads.values().filter(|head| head.kept.is_some()).count() as u64;
        let heads = self.heads.len() as u64 + kept + u64::from(self.device.is_some());
        let due = self.due.len() as u64 + u64::from(self.looked_around.is_some());
        let drills = self.drills.values().map(|drills| drills.each().count() as u64).sum::<u64>();
        let puts = jobs + self.roots.len() as u64 + self.dropped.len() as u64;
        let rebuild = self.rebuild.as_ref().map_or(0, Rebuild::entries);
        let chunks = acks + self.nowhere().count() as u64 + self.prune_entries();
        let others = self.made.count() + rebuild + self.audits.entries() + self.losses.count();
        puts + chunks + heads + due + drills + others
    }

    fn saw(&mut self, job: JobId) {
        self.last_job = self.last_job.max(job.0);
    }
}

#[cfg(test)]
mod tests;
