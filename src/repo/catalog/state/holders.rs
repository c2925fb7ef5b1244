//! Who holds which chunk, come to from acks, losses and prunes. Pure.
//!
//! A chunk is known from its first ack on, and stays so when its last replica is lost, or its last
//! holder has another store: then nobody is known to have it, and somebody is to be given it again.
//! What a prune lets go is known no more, from [`PruneNote::Doomed`](super::super::PruneNote) on,
//! until it is acknowledged anew, or spared: something needs it after all.
//!
//! A store that is gone is another one when it acknowledges anything again, though it has the same
//! epoch: what it had before is of a store that nobody names any more, and counts in no case.

use super::super::entry::{ChunkAcked, ReplicaLost, SnapshotEvidence};
use super::State;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::repo::debt::Debt;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A store of a node: index into [`State::stores`].
pub(super) type StoreIndex = u32;

pub(super) const NO_STORE: StoreIndex = StoreIndex::MAX;

/// In the place of the time at which a holder showed a chunk: it took that back since. No other
/// field has room for it, and a version that does not know it takes it for a time that lies ahead,
/// which counts as none.
pub(super) const REFUTED: u32 = u32::MAX;

/// The same of what an audit had proven since it was acknowledged.
pub(super) const REFUTED_PROVEN: u32 = REFUTED - 1;

/// The last time at which anything can be shown: seconds since 1970.
pub(super) const SHOWN_MAX_S: u32 = REFUTED_PROVEN - 1;

/// A holder of a chunk. Times are seconds since 1970, 0 where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replica {
    pub(super) store: StoreIndex,
    /// When it last showed that it has the chunk, or [`REFUTED`], or [`REFUTED_PROVEN`].
    pub(super) shown_s: u32,
    /// When an audit last proved it.
    pub(super) audited_s: u32,
}

const NO_REPLICA: Replica = Replica { store: NO_STORE, shown_s: 0, audited_s: 0 };

impl Replica {
    fn new(store: StoreIndex) -> Self {
        Self { store, ..NO_REPLICA }
    }

    /// Its holder said that it does not have it, and did not acknowledge or show it since.
    pub(super) fn is_refuted(&self) -> bool {
        self.shown_s >= REFUTED_PROVEN
    }

    /// Its holder says that it does not have it.
    pub(super) fn refute(&mut self) {
        if !self.is_refuted() {
            self.shown_s = if self.audited_s > 0 { REFUTED_PROVEN } else { REFUTED };
        }
        self.audited_s = 0;
    }

    /// Its holder acknowledged it once more, or proved it.
    pub(super) fn acknowledge(&mut self) {
        if self.is_refuted() {
            self.shown_s = 0;
        }
    }
}

/// Holders of a chunk that are kept without an allocation of their own.
const HOLDERS_INLINE: usize = 3;

/// The first holders of a chunk.
pub(super) type Slots = [Replica; HOLDERS_INLINE];

/// One incarnation of a node's store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) node: NodeId,
    chunks: u64,
    /// Of these, those that no audit proved since they were acknowledged.
    unaudited: u64,
    /// No ack brings it back.
    is_gone: bool,
}

impl Store {
    /// It has one chunk more, or less.
    fn count(&mut self, held: &Replica, change: i64) {
        self.chunks = self.chunks.saturating_add_signed(change);
        if held.audited_s == 0 {
            self.unaudited = self.unaudited.saturating_add_signed(change);
        }
    }
}

impl State {
    pub(in super::super) fn holders_of(&self, chunk: &ChunkId) -> Vec<NodeId> {
        self.counting(chunk).map(|(node, _)| node).collect()
    }

    /// Who has the chunk, of those whose store is the one that acknowledged it.
    pub(super) fn counting(&self, chunk: &ChunkId) -> impl Iterator<Item = (NodeId, Replica)> {
        let node = |held: &Replica| counting(&self.stores, &self.current, held.store);
        let held = self.holders.get(chunk).into_iter().flat_map(|slots| self.all(chunk, slots));
        held.filter_map(move |held| Some((node(held)?, *held)))
    }

    /// All replicas of a chunk, also those of stores that do not count.
    pub(super) fn all<'a>(
        &'a self,
        chunk: &ChunkId,
        slots: &'a Slots,
    ) -> impl Iterator<Item = &'a Replica> {
        // While a slot is free there are no others.
        let is_full = slots.iter().all(|held| held.store != NO_STORE);
        let more = is_full.then(|| self.more.get(chunk)).flatten();
        let slots = slots.iter().filter(|held| held.store != NO_STORE);
        slots.chain(more.into_iter().flatten())
    }

    /// The chunks after this id, in the order of their ids.
    fn chunks_after(&self, after: Option<&ChunkId>) -> impl Iterator<Item = (&ChunkId, &Slots)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.holders.range::<ChunkId, _>((from, Bound::Unbounded))
    }

    /// What the node's current store holds, in the order of the ids.
    pub(super) fn held(
        &self,
        node: &NodeId,
        after: Option<&ChunkId>,
    ) -> impl Iterator<Item = (&ChunkId, &Replica)> {
        let store = self.current.get(node).copied();
        let all = store.map(|_| self.chunks_after(after)).into_iter().flatten();
        all.filter_map(move |(id, slots)| {
            let mut all = self.all(id, slots);
            Some((id, all.find(|held| Some(held.store) == store)?))
        })
    }

    pub(in super::super) fn held_by(
        &self,
        node: &NodeId,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Vec<ChunkId> {
        self.held(node, after).map(|(id, _)| *id).take(limit).collect()
    }

    pub(in super::super) fn chunks_short(
        &self,
        wanted: usize,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Vec<(ChunkId, usize)> {
        let counts = self.which_count();
        let held = |(id, slots): (&ChunkId, _)| (*id, self.counted(&counts, id, slots));
        let all = self.chunks_after(after).map(held);
        let short = all.filter(|(id, held)| *held < wanted && !self.is_doomed(id));
        short.take(limit).collect()
    }

    /// The chunks that were acknowledged and that nobody is known to have, by id.
    pub(in super::super) fn nowhere(&self) -> impl Iterator<Item = &ChunkId> {
        let counts = self.which_count();
        let all = self.holders.iter();
        let bare = all.filter(move |(id, slots)| self.counted(&counts, id, slots) == 0);
        bare.map(|(id, _)| id).filter(|id| !self.is_doomed(id))
    }

    fn counted(&self, counts: &[bool], id: &ChunkId, slots: &Slots) -> usize {
        let is_current = |held: &&Replica| {
            usize::try_from(held.store).is_ok_and(|at| counts.get(at).copied().unwrap_or(false))
        };
        let current = self.all(id, slots).filter(is_current);
        if self.near.is_empty() {
            return current.count();
        }
        let node = |held: &Replica| Some(self.stores.get(usize::try_from(held.store).ok()?)?.node);
        self.near.apart(current.filter_map(node)).len()
    }

    /// By store, whether it is the one that its node has now.
    fn which_count(&self) -> Vec<bool> {
        let counts = |(at, store): (usize, &Store)| {
            let current = self.current.get(&store.node);
            current.is_some_and(|current| usize::try_from(*current) == Ok(at))
        };
        self.stores.iter().enumerate().map(counts).collect()
    }

    pub(in super::super) fn chunk_ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.holders.keys()
    }

    pub(in super::super) fn is_known(&self, chunk: &ChunkId) -> bool {
        self.holders.contains_key(chunk) && !self.is_doomed(chunk)
    }

    pub(in super::super) fn chunks_held_by(&self, node: &NodeId) -> u64 {
        let store = self.current.get(node).and_then(|index| store(&self.stores, *index));
        store.map_or(0, |store| store.chunks)
    }

    /// Whether an ack of its is younger than any audit's proof of that chunk.
    pub(in super::super) fn has_unaudited(&self, node: &NodeId) -> bool {
        let store = self.current.get(node).and_then(|index| store(&self.stores, *index));
        store.is_some_and(|store| store.unaudited > 0)
    }

    /// Chunks that somebody acknowledged.
    pub(in super::super) fn chunks(&self) -> u64 {
        self.holders.len() as u64
    }

    /// The store that this node acknowledged with last.
    pub(in super::super) fn store_of(&self, node: &NodeId) -> Option<StoreEpoch> {
        let current = self.current.get(node)?;
        let [first, last] =
            [[0; 16], [u8::MAX; 16]].map(|epoch| (*node, StoreEpoch::from_bytes(epoch)));
        let mut stores = self.index.range(first..=last);
        stores.find(|(_, index)| *index == current).map(|((_, epoch), _)| *epoch)
    }

    /// The store that every node acknowledged with last.
    pub(in super::super) fn stores(&self) -> Vec<(NodeId, StoreEpoch)> {
        self.current.keys().filter_map(|node| Some((*node, self.store_of(node)?))).collect()
    }

    /// Whether an ack still says something: made by the store that its node has now, of a chunk
    /// that it has, or is to let go, as far as is known.
    pub(in super::super) fn counts(&self, acked: &ChunkAcked) -> bool {
        let Some(index) = self.index.get(&(acked.node, acked.epoch)) else { return false };
        let inline = self.holders.get(&acked.chunk).into_iter().flatten();
        let mut held = inline.chain(self.more.get(&acked.chunk).into_iter().flatten());
        self.current.get(&acked.node) == Some(index)
            && (held.any(|held| held.store == *index) || self.is_waited_for(acked, *index))
    }

    /// As [`Self::drop_store`], found at `at_s`, and no entry says so.
    pub(in super::super) fn store_is_gone(&mut self, store: (&NodeId, &StoreEpoch), at_s: u64) {
        if self.drop_store(store) {
            self.made.lose_unsaved(at_s);
        }
    }

    /// What this store had counts no more; false where it had nothing that did.
    pub(super) fn drop_store(&mut self, (node, epoch): (&NodeId, &StoreEpoch)) -> bool {
        // Its next ack makes another one of it, and brings nothing back. The places of its replicas
        // are taken over one by one: there may be a million.
        let Some(index) = self.index.remove(&(*node, *epoch)) else { return false };
        let had = store(&self.stores, index).is_some_and(|store| store.chunks > 0);
        if let Some(store) = store_mut(&mut self.stores, index) {
            store.is_gone = true;
        }
        let did_count = self.current.get(node) == Some(&index);
        if did_count {
            self.current.remove(node);
            // Of what it had nothing counts, so nothing is owed.
            self.audits.on_debt(*node, Debt::default());
        }
        for chunk in self.forget_in_doomed(index) {
            self.drop_replica(&chunk, index);
            self.drop_if_let_go(&chunk);
        }
        had && did_count
    }

    pub(super) fn on_acked(&mut self, acked: &ChunkAcked) {
        let Some(index) = self.index_of(acked) else {
            return;
        };
        let before = self.current.insert(acked.node, index);
        if before.is_some_and(|before| before != index) {
            // What it acknowledged with another store counts no more. No ack says when it came.
            self.made.lose(SnapshotEvidence::AT_SOME_TIME);
        }
        if self.is_to_stay(acked) {
            self.hold(&acked.chunk, index);
        }
    }

    /// This store has the chunk.
    pub(super) fn hold(&mut self, chunk: &ChunkId, index: StoreIndex) {
        let Self { stores, current, holders, more, losses, .. } = self;
        if let Some(store) = store(stores, index) {
            losses.remove(chunk, &store.node);
        }
        let slots = holders.entry(*chunk).or_insert([NO_REPLICA; HOLDERS_INLINE]);
        let is_it = |held: &Replica| held.store == index;
        if let Some(held) = slots.iter_mut().find(|held| is_it(held)) {
            return held.acknowledge();
        }
        // While a slot is free there are no others.
        if let Some(free) = slots.iter_mut().find(|held| held.store == NO_STORE) {
            *free = Replica::new(index);
            return self.count(&Replica::new(index), 1);
        }
        let mut others = more.get_mut(chunk).into_iter().flatten();
        if let Some(held) = others.find(|held| is_it(held)) {
            return held.acknowledge();
        }
        // A stale store's place is taken over: its node may be this one, back with a new store.
        let stale = |held: &Replica| counting(stores, current, held.store).is_none();
        if let Some(place) = slots.iter_mut().find(|held| stale(held)) {
            let before = std::mem::replace(place, Replica::new(index));
            self.count(&before, -1);
        } else {
            let others = more.remove(chunk).unwrap_or_default();
            let (gone, mut others): (Vec<_>, Vec<_>) = others.into_iter().partition(stale);
            others.push(Replica::new(index));
            more.insert(*chunk, others);
            gone.iter().for_each(|held| self.count(held, -1));
        }
        self.count(&Replica::new(index), 1);
    }

    /// A replica is there no more. What is known of its chunk else, and what a prune waits for, is
    /// as before: a store that is asked to let the chunk go is no holder of it, and asked still.
    pub(super) fn on_lost(&mut self, lost: &ReplicaLost) {
        let index = self.index.get(&(lost.node, lost.epoch)).copied();
        let is_dropped = index.is_some_and(|index| self.drop_replica(&lost.chunk, index));
        if is_dropped && !self.is_doomed(&lost.chunk) {
            self.made.lose(lost.at_s);
        }
        self.drop_if_let_go(&lost.chunk);
        self.note_loss(lost);
    }

    /// What is being let go and has no replica left is known no more.
    fn drop_if_let_go(&mut self, chunk: &ChunkId) {
        let is_bare = |slots: &Slots| slots.iter().all(|held| held.store == NO_STORE);
        if self.is_doomed(chunk) && self.holders.get(chunk).is_some_and(is_bare) {
            self.holders.remove(chunk);
        }
    }

    /// Drops this store's replica of the chunk; false where there is none.
    fn drop_replica(&mut self, chunk: &ChunkId, index: StoreIndex) -> bool {
        let Some(slots) = self.holders.get_mut(chunk) else { return false };
        let is_it = |held: &Replica| held.store == index;
        let others = self.more.get_mut(chunk);
        let dropped = if let Some(place) = slots.iter_mut().find(|held| is_it(held)) {
            // While a slot is free there are no others.
            let next = others.and_then(Vec::pop).unwrap_or(NO_REPLICA);
            Some(std::mem::replace(place, next))
        } else {
            let at = |others: &Vec<Replica>| others.iter().position(is_it);
            others.and_then(|others| at(others).map(|at| others.remove(at)))
        };
        if self.more.get(chunk).is_some_and(Vec::is_empty) {
            self.more.remove(chunk);
        }
        dropped.inspect(|dropped| self.count(dropped, -1)).is_some()
    }

    /// The chunk is known, and who has it is not, unless that is.
    pub(super) fn know(&mut self, chunk: ChunkId) {
        self.holders.entry(chunk).or_insert([NO_REPLICA; HOLDERS_INLINE]);
    }

    /// The replica's store has it from now on, or no more.
    pub(super) fn count(&mut self, held: &Replica, change: i64) {
        if let Some(store) = store_mut(&mut self.stores, held.store) {
            store.count(held, change);
        }
    }

    /// `None` only after four billion stores.
    fn index_of(&mut self, acked: &ChunkAcked) -> Option<StoreIndex> {
        let key = (acked.node, acked.epoch);
        if let Some(index) = self.index.get(&key) {
            return Some(*index);
        }
        let index = StoreIndex::try_from(self.stores.len()).ok().filter(|i| *i != NO_STORE)?;
        self.stores.push(Store { node: acked.node, chunks: 0, unaudited: 0, is_gone: false });
        self.index.insert(key, index);
        Some(index)
    }
}

pub(super) fn store(stores: &[Store], index: StoreIndex) -> Option<&Store> {
    stores.get(usize::try_from(index).ok()?)
}

fn store_mut(stores: &mut [Store], index: StoreIndex) -> Option<&mut Store> {
    stores.get_mut(usize::try_from(index).ok()?)
}

pub(super) fn is_gone(stores: &[Store], index: StoreIndex) -> bool {
    store(stores, index).is_none_or(|store| store.is_gone)
}

/// Sets a replica's times, and counts what that means for its store.
pub(super) fn set(stores: &mut [Store], held: &mut Replica, set: impl FnOnce(&mut Replica)) {
    let before = *held;
    set(held);
    if let Some(store) = store_mut(stores, held.store) {
        store.count(&before, -1);
        store.count(held, 1);
    }
}

/// The node of this store, where it is the node's current one.
pub(super) fn counting(
    stores: &[Store],
    current: &BTreeMap<NodeId, StoreIndex>,
    index: StoreIndex,
) -> Option<NodeId> {
    let node = store(stores, index)?.node;
    (current.get(&node) == Some(&index)).then_some(node)
}

#[cfg(test)]
mod tests;
