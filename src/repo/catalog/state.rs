//! What the catalogue's entries come to: the outbox, the roots, and who holds what. Pure.
//!
//! Made for a million chunks: a chunk with up to three holders costs 44 bytes and its share of a
//! tree, about 65 in all.

use super::entry::{
    ChunkAcked, Device, Entry, HeadKept, HeadSeen, JobDropped, JobId, PutRoot, PutStarted,
    SnapshotDue, Verified,
};
use crate::core::types::{ChunkId, NodeId, SnapshotId, StoreEpoch};
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
    /// The last one that found all that it drew.
    pub proof: Option<Verified>,
}

impl Drills {
    /// As few of them as say all of it, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = Verified> {
        let proof = self.proof.filter(|proof| *proof != self.last);
        proof.into_iter().chain([self.last])
    }
}

/// Snapshots whose drills are remembered: those that were read back last.
const DRILLED_MAX: usize = 4_096;

/// Given-up puts that are remembered: the newest.
const DROPPED_MAX: usize = 32;

/// A store of a node: index into [`State::stores`].
type StoreIndex = u32;

const NO_STORE: StoreIndex = StoreIndex::MAX;

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
    holders: BTreeMap<ChunkId, [StoreIndex; HOLDERS_INLINE]>,
    /// Holders beyond the third.
    more: BTreeMap<ChunkId, Vec<StoreIndex>>,
    last_job: u64,
    device: Option<Device>,
    /// By generation and index.
    heads: BTreeMap<(u32, u16), KnownHead>,
    /// Files that were put and have no snapshot yet.
    due: BTreeMap<JobId, SnapshotDue>,
    /// See [`Entry::LookedAround`].
    looked_around: Option<u64>,
    drills: BTreeMap<SnapshotId, Drills>,
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
                self.roots.insert((root.capability.id, root.name.clone()), root);
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
        }
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
        let drills = of.or_insert(Drills { last: verified, proof: None });
        drills.last = verified;
        // A sample does not take the place of more than it looked at.
        let is_more = drills.proof.is_none_or(|before| before.sample_ppm <= verified.sample_ppm);
        if verified.is_proof() && is_more {
            drills.proof = Some(verified);
        }
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
        let inline = self.holders.get(chunk).into_iter().flatten();
        let more = self.more.get(chunk).into_iter().flatten();
        let held = inline.chain(more);
        held.filter_map(|index| counting(&self.stores, &self.current, *index)).collect()
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
        puts + acks + heads + due + drills
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

    /// Whether an ack still says something: made by the store that its node has now.
    pub(super) fn counts(&self, acked: &ChunkAcked) -> bool {
        let index = self.index.get(&(acked.node, acked.epoch));
        index.is_some() && index == self.current.get(&acked.node)
    }

    fn saw(&mut self, job: JobId) {
        self.last_job = self.last_job.max(job.0);
    }

    fn on_acked(&mut self, acked: &ChunkAcked) {
        let Some(index) = self.index_of(acked) else {
            return;
        };
        self.current.insert(acked.node, index);
        let Self { stores, current, holders, more, .. } = self;
        let slots = holders.entry(acked.chunk).or_insert([NO_STORE; HOLDERS_INLINE]);
        if slots.contains(&index) {
            return;
        }
        // While a slot is free there are no others.
        if let Some(free) = slots.iter_mut().find(|held| **held == NO_STORE) {
            *free = index;
            return self.count(index, 1);
        }
        let others = more.get(&acked.chunk).map_or(&[][..], Vec::as_slice);
        if others.contains(&index) {
            return;
        }
        // A stale store's place is taken over: its node may be this one, back with a new store.
        let stale = |held: &StoreIndex| counting(stores, current, *held).is_none();
        if let Some(place) = slots.iter_mut().find(|held| stale(held)) {
            let before = std::mem::replace(place, index);
            self.count(before, -1);
        } else {
            let others = more.remove(&acked.chunk).unwrap_or_default();
            let (gone, mut others): (Vec<_>, Vec<_>) = others.into_iter().partition(stale);
            others.push(index);
            more.insert(acked.chunk, others);
            gone.into_iter().for_each(|held| self.count(held, -1));
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
mod tests {
    use super::super::entry::tests::{acked, dropped, due, head, kept, root, started, verified};
    use super::*;
    use proptest::prelude::*;

    fn state(acks: &[ChunkAcked]) -> State {
        let mut state = State::default();
        acks.iter().for_each(|ack| state.apply(Entry::ChunkAcked(*ack)));
        state
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn a_put_is_in_the_outbox_until_it_is_done_or_dropped() {
        let mut state = State::default();
        state.apply(Entry::PutStarted(started(1)));
        state.apply(Entry::PutStarted(started(2)));
        state.apply(Entry::PutShort(root(2)));
        let jobs: Vec<_> =
            state.jobs().map(|job| (job.started.job.0, job.short.is_some())).collect();
        assert_eq!(jobs, [(1, false), (2, true)]);
        assert_eq!(state.roots().count(), 0);
        state.apply(Entry::PutDone(root(2)));
        state.apply(Entry::JobDropped(dropped(1)));
        assert_eq!((state.jobs().count(), state.roots().count()), (0, 1));
        assert_eq!(state.next_job(), JobId(3));
    }

    #[test]
    fn a_given_up_put_is_remembered_until_its_file_is_put() {
        let mut state = State::default();
        for job in 1..=40 {
            state.apply(Entry::PutStarted(started(job)));
            state.apply(Entry::JobDropped(dropped(job)));
        }
        let jobs = |state: &State| state.dropped().map(|one| one.job.0).collect::<Vec<_>>();
        assert_eq!(jobs(&state), (9..=40).collect::<Vec<_>>(), "the newest");
        state.apply(Entry::PutStarted(PutStarted { path: started(40).path, ..started(41) }));
        assert_eq!(jobs(&state).len(), DROPPED_MAX, "a try is no success");
        state.apply(Entry::PutDone(root(41)));
        assert_eq!(jobs(&state), (9..=39).collect::<Vec<_>>());
        state.apply(Entry::JobDropped(JobDropped { path: started(9).path, ..dropped(50) }));
        assert_eq!(jobs(&state), (10..=39).chain([50]).collect::<Vec<_>>(), "one word a file");
    }

    #[test]
    fn the_store_of_a_node_is_the_one_of_its_last_ack() {
        let state = state(&[acked(1, 1, 9), acked(1, 2, 200), acked(2, 1, 3)]);
        assert_eq!(state.store_of(&node(1)), Some(acked(2, 1, 3).epoch));
        assert_eq!(state.store_of(&node(2)), Some(acked(1, 2, 200).epoch));
        assert_eq!(state.store_of(&node(3)), None);
        let stores = [(node(1), acked(2, 1, 3).epoch), (node(2), acked(1, 2, 200).epoch)];
        assert_eq!(state.stores(), stores);
    }

    #[test]
    fn a_head_goes_up_only_and_is_kept_by_those_of_its_newest_record() {
        let mut state = State::default();
        state.apply(Entry::HeadSeen(head(2, 5)));
        state.apply(Entry::HeadKept(kept(2, 4)));
        assert!(state.heads().all(|head| head.kept.is_none()));
        state.apply(Entry::HeadKept(kept(2, 5)));
        state.apply(Entry::HeadSeen(head(2, 3)));
        state.apply(Entry::HeadSeen(head(1, 1)));
        let heads: Vec<_> =
            state.heads().map(|head| (head.seen.index, head.kept.clone())).collect();
        assert_eq!(heads, [(1, None), (2, Some(kept(2, 5)))]);
        assert_eq!(state.entries(), 3);
        state.apply(Entry::HeadSeen(head(2, 6)));
        assert!(state.heads().all(|head| head.kept.is_none()), "nobody has the new one yet");
    }

    #[test]
    fn a_snapshot_is_due_until_it_is_done() {
        let mut state = State::default();
        (3..6).for_each(|job| state.apply(Entry::SnapshotDue(due(job))));
        state.apply(Entry::SnapshotDone(JobId(4)));
        state.apply(Entry::SnapshotDone(JobId(9)));
        assert_eq!(state.due().map(|due| due.job.0).collect::<Vec<_>>(), [3, 5]);
        assert_eq!((state.entries(), state.next_job()), (2, JobId(6)));
    }

    #[test]
    fn a_drill_that_found_damage_does_not_undo_the_proof_before_it() {
        let mut state = State::default();
        let snapshot = verified(1, 5, 0).snapshot;
        assert_eq!(state.drills_of(&snapshot), None);
        state.apply(Entry::Verified(verified(1, 5, 0)));
        assert_eq!(state.entries(), 1);
        state.apply(Entry::Verified(verified(1, 9, 3)));
        let drills = state.drills_of(&snapshot).unwrap();
        assert_eq!((drills.last.at, drills.proof.unwrap().at), (9, 5));
        assert_eq!((state.entries(), drills.each().count()), (2, 2));
        let mut copy = State::default();
        drills.each().for_each(|drill| copy.apply(Entry::Verified(drill)));
        assert_eq!(copy.drills_of(&snapshot), Some(drills));
    }

    #[test]
    fn the_same_file_put_twice_is_one_root() {
        let mut state = State::default();
        state.apply(Entry::PutDone(root(2)));
        state.apply(Entry::PutDone(PutRoot { put_at: 5, ..root(2) }));
        assert_eq!(state.roots().map(|root| root.put_at).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_store_made_anew_voids_the_acks_of_the_old_one() {
        let mut state = state(&[acked(1, 1, 1), acked(2, 1, 1), acked(1, 2, 1)]);
        assert_eq!(state.chunks_held_by(&node(1)), 2);
        let stale = acked(2, 1, 1);
        state.apply(Entry::ChunkAcked(acked(1, 1, 2)));
        assert_eq!(state.chunks_held_by(&node(1)), 1);
        assert_eq!(state.holders_of(&acked(1, 1, 1).chunk).len(), 2);
        assert!(state.holders_of(&stale.chunk).is_empty());
        assert!(!state.counts(&stale) && state.counts(&acked(9, 1, 2)));
    }

    #[test]
    fn holders_beyond_three_are_kept() {
        let state = state(&(1..=9).map(|node| acked(1, node, 1)).collect::<Vec<_>>());
        let holders = state.holders_of(&acked(1, 1, 1).chunk);
        assert_eq!(holders, (1..=9).map(node).collect::<Vec<_>>());
        assert_eq!((state.chunks(), state.entries()), (1, 9));
    }

    proptest! {
        #[test]
        fn holders_are_those_of_a_plain_model(
            acks in proptest::collection::vec((0..6_u32, 0..7_u8, 0..3_u8), 0..120),
        ) {
            let acks: Vec<_> = acks.into_iter().map(|(c, n, e)| acked(c, n, e)).collect();
            let state = state(&acks);
            let mut model: BTreeMap<NodeId, (StoreEpoch, Vec<ChunkId>)> = BTreeMap::new();
            let mut all: BTreeMap<(NodeId, StoreEpoch), Vec<ChunkId>> = BTreeMap::new();
            for ack in &acks {
                let held = all.entry((ack.node, ack.epoch)).or_default();
                if !held.contains(&ack.chunk) {
                    held.push(ack.chunk);
                }
                model.insert(ack.node, (ack.epoch, Vec::new()));
            }
            let mut held_by_all = 0;
            for chunk in 0..6 {
                let chunk = acked(chunk, 0, 0).chunk;
                let mut holders = state.holders_of(&chunk);
                holders.sort();
                holders.dedup();
                prop_assert_eq!(holders.len(), state.holders_of(&chunk).len());
                for holder in &holders {
                    let (epoch, _) = &model[holder];
                    prop_assert!(all[&(*holder, *epoch)].contains(&chunk));
                }
                // A store that was never replaced keeps every chunk it acknowledged.
                for ((node, epoch), held) in &all {
                    let only = all.keys().filter(|(other, _)| other == node).count() == 1;
                    let counted = holders.contains(node) || !only || !held.contains(&chunk);
                    prop_assert!(counted, "{node:?} {epoch:?}");
                }
                held_by_all += holders.len() as u64;
            }
            let counted: u64 = model.keys().map(|node| state.chunks_held_by(node)).sum();
            prop_assert_eq!(counted, held_by_all);
            prop_assert_eq!(state.entries(), held_by_all);
        }
    }
}
