//! What the catalogue's entries come to: the outbox, the roots, and who holds what. Pure.
//!
//! Made for a million chunks: a chunk with up to three holders costs 56 bytes and its share of a
//! tree, about 80 in all.

mod prune;

pub use prune::NotedSnapshot;

use super::entry::{
    BackupMade, ChunkAcked, Device, Entry, HeadKept, HeadSeen, JobDropped, JobId, Proven, PutRoot,
    PutStarted, SnapshotDue, Verified,
};
use super::made::Made;
use super::proven::Replicas;
use super::rebuild::{self, Rebuild};
use crate::core::types::{ChunkId, NodeId, SnapshotId, StoreEpoch};
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

/// A store of a node: index into [`State::stores`].
type StoreIndex = u32;

const NO_STORE: StoreIndex = StoreIndex::MAX;

/// A holder of a chunk, and when it last showed that it has it: seconds since 1970, 0 where that is
/// not known.
#[derive(Debug, Clone, Copy)]
struct Replica {
    store: StoreIndex,
    shown_s: u32,
}

const NO_REPLICA: Replica = Replica { store: NO_STORE, shown_s: 0 };

impl Replica {
    fn new(store: StoreIndex) -> Self {
        Self { store, shown_s: 0 }
    }

    fn is_proven(&self, (since_s, now_s): (u32, u32)) -> bool {
        self.shown_s > 0 && (since_s..=now_s).contains(&self.shown_s)
    }
}

/// Holders of a chunk that are kept without an allocation of their own.
const HOLDERS_INLINE: usize = 3;

/// One incarnation of a node's store.
#[derive(Debug)]
struct Store {
    node: NodeId,
    chunks: u64,
}

/// Everything that the entries so far say.
#[derive(Debug, Default)]
pub(super) struct State {
    jobs: BTreeMap<JobId, Job>,
    roots: BTreeMap<(ChunkId, String), PutRoot>,
    dropped: BTreeMap<JobId, JobDropped>,
    stores: Vec<Store>,
    index: BTreeMap<(NodeId, StoreEpoch), StoreIndex>,
    /// The store that each node acknowledged with last: the only one that counts.
    current: BTreeMap<NodeId, StoreIndex>,
    holders: BTreeMap<ChunkId, [Replica; HOLDERS_INLINE]>,
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
    /// How far it is filled anew, where it has to be.
    rebuild: Option<Rebuild>,
}

impl State {
    pub(super) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::PutStarted(started) => {
                self.saw(started.job);
                let job = Job { started, short: None, acked: false, away_since: None };
                self.jobs.insert(job.started.job, job);
            }
            Entry::ChunkAcked(acked) => self.on_acked(&acked),
            Entry::PutDone(root) => {
                self.saw(root.job);
                if let Some(Job { started, .. }) = self.jobs.remove(&root.job) {
                    self.dropped.retain(|_, dropped| dropped.path != started.path);
                }
                self.on_root(root);
            }
            Entry::PutShort(root) => {
                self.saw(root.job);
                if let Some(job) = self.jobs.get_mut(&root.job) {
                    job.acked |= root.replicas > 0;
                    job.short = Some(root);
                }
            }
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
            Entry::HeadKept(kept) => {
                let head = self.heads.get_mut(&(kept.generation, kept.index));
                if let Some(head) = head.filter(|head| head.seen.record.number() == kept.number) {
                    head.kept = Some(kept);
                }
            }
            Entry::SnapshotDue(due) => {
                self.saw(due.job);
                self.due.insert(due.job, due);
            }
            Entry::SnapshotDone(job) => drop(self.due.remove(&job)),
            Entry::LookedAround { at } => self.looked_around = Some(at),
            Entry::Prune(note) => self.on_prune(note),
            Entry::Rebuild(note) => rebuild::apply(&mut self.rebuild, note),
            Entry::Proven(proven) => self.on_proven(&proven),
        }
    }

    /// What was put without a snapshot stays so, whatever has the same content and name: a prune
    /// that lets the snapshot of that go would drop both.
    fn on_root(&mut self, root: PutRoot) {
        let name = (root.capability.id, root.name.clone());
        let was_named = self.roots.get(&name).is_none_or(|before| before.named);
        self.roots.insert(name, PutRoot { named: root.named && was_named, ..root });
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

    pub(super) fn holders_of(&self, chunk: &ChunkId) -> Vec<NodeId> {
        self.counting(chunk).map(|(node, _)| node).collect()
    }

    /// Who has the chunk, of those whose store is the one that acknowledged it.
    fn counting(&self, chunk: &ChunkId) -> impl Iterator<Item = (NodeId, Replica)> {
        let inline = self.holders.get(chunk).into_iter().flatten();
        let held = inline.chain(self.more.get(chunk).into_iter().flatten());
        let node = |held: &Replica| counting(&self.stores, &self.current, held.store);
        held.filter_map(move |held| Some((node(held)?, *held)))
    }

    pub(super) fn replicas_of(&self, chunk: &ChunkId, window: (u32, u32)) -> Replicas {
        self.counting(chunk).fold(Replicas::default(), |all, (_, held)| Replicas {
            acked: all.acked + 1,
            proven: all.proven + usize::from(held.is_proven(window)),
        })
    }

    pub(super) fn unproven_holders(
        &self,
        chunk: &ChunkId,
        window: (u32, u32),
    ) -> impl Iterator<Item = NodeId> {
        let open = self.counting(chunk).filter(move |(_, held)| !held.is_proven(window));
        open.map(|(node, _)| node)
    }

    pub(super) fn prove(
        &mut self,
        (node, epoch): (&NodeId, &StoreEpoch),
        chunk: &ChunkId,
        at_s: u32,
    ) {
        let Some(store) = self.index.get(&(*node, *epoch)).copied() else { return };
        self.set_shown(chunk, store, at_s);
    }

    pub(super) fn store_is_gone(&mut self, (node, epoch): (&NodeId, &StoreEpoch)) {
        let index = self.index.get(&(*node, *epoch));
        if index.is_some() && index == self.current.get(node) {
            self.current.remove(node);
        }
    }

    fn set_shown(&mut self, chunk: &ChunkId, store: StoreIndex, at_s: u32) {
        let inline = self.holders.get_mut(chunk).into_iter().flatten();
        let mut held = inline.chain(self.more.get_mut(chunk).into_iter().flatten());
        if let Some(held) = held.find(|held| held.store == store) {
            held.shown_s = at_s;
        }
    }

    fn on_proven(&mut self, proven: &Proven) {
        let store = self.index.get(&(proven.node, proven.epoch)).copied();
        let Some(store) = store else { return };
        for prefix in &proven.chunks {
            let [first, last] = [[0; 24], [u8::MAX; 24]].map(|rest| from_prefix(*prefix, rest));
            let alike = self.holders.range_mut(first..=last).flat_map(|(_, held)| held);
            let more = self.more.range_mut(first..=last).flat_map(|(_, held)| held);
            for held in alike.chain(more).filter(|held| held.store == store) {
                held.shown_s = proven.at_s;
            }
        }
    }

    /// What was shown when, by store and time.
    pub(super) fn proven(
        &self,
        window: (u32, u32),
    ) -> BTreeMap<(NodeId, StoreEpoch, u32), Vec<u64>> {
        let counts = |index: &StoreIndex| counting(&self.stores, &self.current, *index).is_some();
        let names = self.index.iter().filter(|(_, index)| counts(index));
        let names: BTreeMap<StoreIndex, (NodeId, StoreEpoch)> =
            names.map(|(name, index)| (*index, *name)).collect();
        let mut all: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        let more = self.more.iter().flat_map(|(id, held)| held.iter().map(move |held| (id, held)));
        let inline = self.holders.iter();
        let inline = inline.flat_map(|(id, held)| held.iter().map(move |held| (id, held)));
        for (id, held) in inline.chain(more).filter(|(_, held)| held.is_proven(window)) {
            if let Some((node, epoch)) = names.get(&held.store) {
                let of = all.entry((*node, *epoch, held.shown_s)).or_default();
                of.push(Proven::prefix(id));
            }
        }
        all
    }

    pub(super) fn chunk_ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.holders.keys()
    }

    pub(super) fn disbelieve_before(&mut self, at_s: u32) {
        let all = self.holders.values_mut().flatten().chain(self.more.values_mut().flatten());
        all.filter(|held| held.shown_s < at_s).for_each(|held| held.shown_s = 0);
    }

    #[cfg(test)]
    pub(super) fn forget_proofs(&mut self) {
        let all = self.holders.values_mut().flatten().chain(self.more.values_mut().flatten());
        all.for_each(|held| held.shown_s = 0);
    }

    pub(super) fn chunks_held_by(&self, node: &NodeId) -> u64 {
        let store = self.current.get(node).and_then(|index| store(&self.stores, *index));
        store.map_or(0, |store| store.chunks)
    }

    /// Chunks that somebody acknowledged.
    pub(super) fn chunks(&self) -> u64 {
        self.holders.len() as u64
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
        puts + acks + heads + due + drills + self.made.count() + rebuild + self.prune_entries()
    }

    /// The store that this node acknowledged with last.
    pub(super) fn store_of(&self, node: &NodeId) -> Option<StoreEpoch> {
        let current = self.current.get(node)?;
        let [first, last] =
            [[0; 16], [u8::MAX; 16]].map(|epoch| (*node, StoreEpoch::from_bytes(epoch)));
        let mut stores = self.index.range(first..=last);
        stores.find(|(_, index)| *index == current).map(|((_, epoch), _)| *epoch)
    }

    /// The store that every node acknowledged with last.
    pub(super) fn stores(&self) -> Vec<(NodeId, StoreEpoch)> {
        self.current.keys().filter_map(|node| Some((*node, self.store_of(node)?))).collect()
    }

    /// Whether an ack still says something: made by the store that its node has now, of a chunk
    /// that it has, or is to let go, as far as is known.
    pub(super) fn counts(&self, acked: &ChunkAcked) -> bool {
        let Some(index) = self.index.get(&(acked.node, acked.epoch)) else { return false };
        let inline = self.holders.get(&acked.chunk).into_iter().flatten();
        let mut held = inline.chain(self.more.get(&acked.chunk).into_iter().flatten());
        self.current.get(&acked.node) == Some(index)
            && (held.any(|held| held.store == *index) || self.is_waited_for(acked, *index))
    }

    fn saw(&mut self, job: JobId) {
        self.last_job = self.last_job.max(job.0);
    }

    fn on_acked(&mut self, acked: &ChunkAcked) {
        let Some(index) = self.index_of(acked) else {
            return;
        };
        self.current.insert(acked.node, index);
        if self.is_to_stay(acked) {
            self.hold(&acked.chunk, index);
        }
    }

    /// This store has the chunk.
    fn hold(&mut self, chunk: &ChunkId, index: StoreIndex) {
        let Self { stores, current, holders, more, .. } = self;
        let slots = holders.entry(*chunk).or_insert([NO_REPLICA; HOLDERS_INLINE]);
        let is_it = |held: &Replica| held.store == index;
        if slots.iter().any(is_it) {
            return;
        }
        // While a slot is free there are no others.
        if let Some(free) = slots.iter_mut().find(|held| held.store == NO_STORE) {
            *free = Replica::new(index);
            return self.count(index, 1);
        }
        let others = more.get(chunk).map_or(&[][..], Vec::as_slice);
        if others.iter().any(is_it) {
            return;
        }
        // A stale store's place is taken over: its node may be this one, back with a new store.
        let stale = |held: &Replica| counting(stores, current, held.store).is_none();
        if let Some(place) = slots.iter_mut().find(|held| stale(held)) {
            let before = std::mem::replace(place, Replica::new(index));
            self.count(before.store, -1);
        } else {
            let others = more.remove(chunk).unwrap_or_default();
            let (gone, mut others): (Vec<_>, Vec<_>) = others.into_iter().partition(stale);
            others.push(Replica::new(index));
            more.insert(*chunk, others);
            gone.into_iter().for_each(|held| self.count(held.store, -1));
        }
        self.count(index, 1);
    }

    fn count(&mut self, index: StoreIndex, change: i64) {
        let store = usize::try_from(index).ok().and_then(|index| self.stores.get_mut(index));
        if let Some(store) = store {
            store.chunks = store.chunks.saturating_add_signed(change);
        }
    }

    /// `None` only after four billion stores.
    fn index_of(&mut self, acked: &ChunkAcked) -> Option<StoreIndex> {
        let key = (acked.node, acked.epoch);
        if let Some(index) = self.index.get(&key) {
            return Some(*index);
        }
        let index = StoreIndex::try_from(self.stores.len()).ok().filter(|i| *i != NO_STORE)?;
        self.stores.push(Store { node: acked.node, chunks: 0 });
        self.index.insert(key, index);
        Some(index)
    }
}

/// The id that begins so and ends so.
fn from_prefix(prefix: u64, rest: [u8; 24]) -> ChunkId {
    let mut bytes = [0; 32];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&prefix.to_be_bytes());
    tail.copy_from_slice(&rest);
    ChunkId::from_bytes(bytes)
}

fn store(stores: &[Store], index: StoreIndex) -> Option<&Store> {
    stores.get(usize::try_from(index).ok()?)
}

/// The node of this store, where it is the node's current one.
fn counting(
    stores: &[Store],
    current: &BTreeMap<NodeId, StoreIndex>,
    index: StoreIndex,
) -> Option<NodeId> {
    let node = store(stores, index)?.node;
    (current.get(&node) == Some(&index)).then_some(node)
}

#[cfg(test)]
mod tests;
