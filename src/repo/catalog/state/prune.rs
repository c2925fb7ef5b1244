//! What prunes have to know, come to from the catalogue's entries: the snapshots and who forgot
//! them, the prune that is open, the chunks that are being let go. Pure.
//!
//! # Which acks count of a chunk that is being let go
//! A holder may come to a release late: the node that sent it was killed, or waited long enough,
//! and the message lies in the holder's queue. Meanwhile the chunk is stored again, as some backup
//! needs it. The holder has it still, says so, and acknowledges it; then it carries the release
//! out. Such an ack says nothing of what comes.
//!
//! Leases tell the two apart. A release names the lease that it ends, and does nothing under
//! another one; a chunk that was let go and is stored again has a lease that it never had before.
//! So the lease by which each node is asked is noted before it is asked, with the chunk, and until
//! that node was heard an ack of its under **this** lease does not count, whenever it comes. What
//! counts:
//! - an ack under any other lease: the release came first, and means nothing from then on;
//! - that the node says, when the release is taken back, that the chunk is live
//!   ([`PruneNote::HeldAgain`]): a holder carries out what one peer sends it in the order in which
//!   it came, so that no release of before is left;
//! - any ack once the node said that it has let the chunk go, or lacks it ([`PruneNote::LetGo`]):
//!   it has no lease then, or one that has ended, and the next one is new;
//! - acks of nodes that were not asked: nobody asks them to let go what they have.
//!
//! Each node counts for itself: that one has the chunk again does not end the wait for another, or
//! an ack of that one would count afterwards. So a chunk can be held by some and be let go by
//! others, until the prune that needs it spares it, or one that does not asks them all once more.
//!
//! # Replicas that audits find lost
//! Such a replica leaves the holders and nothing else, and is no loss that anybody misses. Who is
//! asked to let the chunk go is asked still, under the same lease: that it lacks the chunk now, or
//! has it damaged, says nothing of the release that it may come to. A doomed chunk that was stored
//! again and then lost everywhere is let go, and known no more. One that is spared is known from
//! then on, also where nobody has it: something needs it.

use super::{Replica, State, StoreIndex, counting, holders};
use crate::core::types::{ChunkId, LeaseNonce, NodeId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use crate::repo::catalog::entry::{
    AWAITED_MAX, ChunkAcked, Entry, OpenPrune, PruneNote, SnapshotForgotten, SnapshotSeen,
    ToLookAfter,
};
use std::collections::{BTreeMap, BTreeSet};

/// A snapshot that was seen in a manifest.
#[derive(Debug)]
pub struct NotedSnapshot {
    /// What it is.
    pub seen: SnapshotSeen,
    /// How it was first seen to be forgotten.
    pub forgotten: Option<SnapshotForgotten>,
}

/// What prunes have to know.
#[derive(Debug, Default)]
pub(super) struct Prunes {
    /// `None` where its chunks were let go: the name keeps it from being seen anew.
    snapshots: BTreeMap<SnapshotId, Option<NotedSnapshot>>,
    /// Age and clock in seconds, when they were noted last.
    aged: Option<(u64, u64)>,
    open: Option<OpenPrune>,
    doomed: BTreeMap<ChunkId, Doomed>,
    /// Nodes that these wait for though no ack of theirs is known; see [`Doomed::also`].
    awaited: Vec<NodeId>,
    /// Who was asked to let any of these go.
    asked: BTreeSet<NodeId>,
    /// By head, until which length a chain's prunes are accounted for.
    checked: BTreeMap<u16, u64>,
    /// Snapshots of this device that are to be looked after.
    to_look_after: BTreeMap<SnapshotId, ToLookAfter>,
}

/// A chunk that is being let go.
#[derive(Debug)]
struct Doomed {
    ck: ChunkKey,
    /// The stores that acknowledged it and were not heard to have let it go.
    at: Vec<StoreIndex>,
    /// Those that acknowledged it, too, and were.
    gone: Vec<StoreIndex>,
    /// Whoever else has it or may, and was not heard to have let it go: an index into
    /// [`Prunes::awaited`].
    also: Vec<u32>,
    /// Those of all these that were asked to let it go, by an index into [`Prunes::awaited`], and
    /// were not heard: each may do so yet, under this lease alone.
    asked: Vec<(u32, LeaseNonce)>,
}

impl Prunes {
    fn awaited(&mut self, node: NodeId) -> Option<u32> {
        let at = self.awaited.iter().position(|known| *known == node);
        let at = at.unwrap_or_else(|| {
            self.awaited.push(node);
            self.awaited.len() - 1
        });
        u32::try_from(at).ok()
    }

    fn known(&self, node: &NodeId) -> Option<u32> {
        u32::try_from(self.awaited.iter().position(|known| known == node)?).ok()
    }

    fn node(&self, awaited: u32) -> Option<NodeId> {
        self.awaited.get(usize::try_from(awaited).ok()?).copied()
    }
}

impl State {
    pub(super) fn on_prune(&mut self, note: PruneNote) {
        let prunes = &mut self.prunes;
        match note {
            PruneNote::SnapshotSeen(seen) => {
                let of = prunes.snapshots.entry(seen.id);
                of.or_insert(Some(NotedSnapshot { seen, forgotten: None }));
            }
            PruneNote::SnapshotForgotten(forgotten) => {
                if let Some(Some(noted)) = prunes.snapshots.get_mut(&forgotten.id) {
                    noted.forgotten = Some(forgotten);
                }
            }
            PruneNote::SnapshotKept(id) => {
                if let Some(Some(noted)) = prunes.snapshots.get_mut(&id) {
                    noted.forgotten = None;
                }
            }
            PruneNote::SnapshotPruned(id) => drop(prunes.snapshots.insert(id, None)),
            PruneNote::SnapshotOver(id) => drop(prunes.snapshots.remove(&id)),
            PruneNote::Aged { age_s, wall_s } => prunes.aged = Some((age_s, wall_s)),
            PruneNote::Begun(open) => prunes.open = Some(open),
            PruneNote::Ended(prune) => {
                if prunes.open.is_some_and(|open| open.prune == prune) {
                    prunes.open = None;
                }
                let (stores, current, holders) = (&self.stores, &self.current, &self.holders);
                prunes.doomed.retain(|chunk, doomed| {
                    doomed.at.retain(|held| counting(stores, current, *held).is_some());
                    // What was stored again, and that nothing needs after all, is to go as well.
                    doomed.is_waited_for() || holders.contains_key(chunk)
                });
                if prunes.doomed.is_empty() {
                    prunes.asked.clear();
                    prunes.awaited.clear();
                }
            }
            PruneNote::Asked(node) => {
                prunes.asked.insert(node);
            }
            PruneNote::Doomed { chunk, ck, awaited, asked } => {
                self.on_doomed(chunk, ck, (awaited, asked));
            }
            PruneNote::LetGo { chunk, node } => self.on_let_go(&chunk, &node),
            PruneNote::HeldAgain { chunk, node } => self.on_held_again(&chunk, &node),
            PruneNote::Spared(chunk) => {
                if prunes.doomed.remove(&chunk).is_some() {
                    self.know(chunk);
                }
            }
            PruneNote::ChainChecked { index, length } => {
                prunes.checked.insert(index, length);
            }
            PruneNote::RootDropped(root, name) => drop(self.roots.remove(&(root, name))),
            PruneNote::ToLookAfter(it) => drop(prunes.to_look_after.insert(it.id, it)),
            PruneNote::LookedAfter(id) => drop(prunes.to_look_after.remove(&id)),
        }
    }

    /// Nobody is known to have the chunk from now on, but as those who are asked to let it go.
    fn on_doomed(
        &mut self,
        chunk: ChunkId,
        ck: ChunkKey,
        (awaited, asked): (Vec<NodeId>, Vec<(NodeId, LeaseNonce)>),
    ) {
        self.losses.remove_chunk(&chunk);
        let inline = self.holders.remove(&chunk).into_iter().flatten();
        let held = inline.chain(self.more.remove(&chunk).into_iter().flatten());
        let held: Vec<Replica> = held.filter(|held| held.store != super::NO_STORE).collect();
        held.iter().for_each(|held| self.count(held, -1));
        let stores = held.iter().map(|held| held.store);
        let all: Vec<StoreIndex> =
            stores.filter(|held| !holders::is_gone(&self.stores, *held)).collect();
        let awaited: Vec<u32> =
            awaited.into_iter().filter_map(|node| self.prunes.awaited(node)).collect();
        let asked = asked.into_iter();
        let asked = asked.filter_map(|(node, lease)| Some((self.prunes.awaited(node)?, lease)));
        let asked: Vec<(u32, LeaseNonce)> = asked.collect();
        let (at, gone, also) = (Vec::new(), Vec::new(), Vec::new());
        let new = Doomed { ck, at, gone, also, asked: Vec::new() };
        let doomed = self.prunes.doomed.entry(chunk).or_insert(new);
        for held in all {
            if !doomed.at.contains(&held) {
                doomed.at.push(held);
            }
        }
        for node in awaited {
            if !doomed.also.contains(&node) && doomed.also.len() < AWAITED_MAX {
                doomed.also.push(node);
            }
        }
        // The lease that a node has now is the only one that it has: what it was asked before under
        // another one means nothing any more.
        for (node, lease) in asked {
            doomed.asked.retain(|(known, _)| *known != node);
            doomed.asked.push((node, lease));
        }
    }

    /// This store has nothing that is being let go, and nobody waits for it. Returns what is, and
    /// was stored again.
    pub(super) fn forget_in_doomed(&mut self, index: StoreIndex) -> Vec<ChunkId> {
        for doomed in self.prunes.doomed.values_mut() {
            doomed.at.retain(|held| *held != index);
            doomed.gone.retain(|held| *held != index);
        }
        let doomed = self.prunes.doomed.keys();
        doomed.filter(|chunk| self.holders.contains_key(*chunk)).copied().collect()
    }

    fn on_let_go(&mut self, chunk: &ChunkId, node: &NodeId) {
        let (stores, place) = (&self.stores, self.prunes.known(node));
        let Some(doomed) = self.prunes.doomed.get_mut(chunk) else { return };
        let is_it = |held: &mut StoreIndex| is_of(stores, *held, node);
        doomed.gone.extend(doomed.at.extract_if(.., is_it));
        doomed.is_heard(place);
    }

    /// The node is not asked any more, and was not.
    fn on_held_again(&mut self, chunk: &ChunkId, node: &NodeId) {
        let had_acked = self.had_acked(chunk, node);
        if self.ends_for(chunk, node)
            && had_acked
            && let Some(index) = self.current.get(node).copied()
        {
            self.hold(chunk, index);
        }
    }

    /// Whether this ack counts. One under the lease by which the node is asked to let the chunk go
    /// does not: the node has what it may be about to let go.
    pub(super) fn is_to_stay(&mut self, acked: &ChunkAcked) -> bool {
        let Some(doomed) = self.prunes.doomed.get(&acked.chunk) else { return true };
        let (place, mut asked) = (self.prunes.known(&acked.node), doomed.asked.iter());
        if asked.any(|(node, lease)| Some(*node) == place && *lease == acked.lease) {
            return false;
        }
        self.ends_for(&acked.chunk, &acked.node);
        true
    }

    /// Nobody waits for this node to let the chunk go any more. Returns whether it is doomed.
    fn ends_for(&mut self, chunk: &ChunkId, node: &NodeId) -> bool {
        let (stores, place) = (&self.stores, self.prunes.known(node));
        let Some(doomed) = self.prunes.doomed.get_mut(chunk) else { return false };
        doomed.at.retain(|held| !is_of(stores, *held, node));
        doomed.gone.retain(|held| !is_of(stores, *held, node));
        doomed.is_heard(place);
        true
    }

    /// How many entries say all of it.
    pub(super) fn prune_entries(&self) -> u64 {
        let Prunes { snapshots, aged, open, doomed, asked, checked, to_look_after, .. } =
            &self.prunes;
        let of = |noted: &Option<NotedSnapshot>| {
            let forgotten = noted.as_ref().is_some_and(|noted| noted.forgotten.is_some());
            1 + u64::from(forgotten)
        };
        // Each that let it go is an ack and that it did.
        let acks = |doomed: &Doomed| (doomed.at.len() + 2 * doomed.gone.len()) as u64;
        let held = |chunk: &ChunkId| self.counting(chunk).count() as u64;
        let waiting = doomed.iter().map(|(chunk, doomed)| 1 + acks(doomed) + held(chunk));
        let waiting = waiting.sum::<u64>();
        snapshots.values().map(of).sum::<u64>()
            + waiting
            + checked.len() as u64
            + to_look_after.len() as u64
            + asked.len() as u64
            + u64::from(aged.is_some())
            + u64::from(open.is_some())
    }

    /// What says all of it but the acks of chunks that are being let go, which stand before. One
    /// entry is handed to `each` at a time.
    ///
    /// # Errors
    /// What `each` fails with.
    pub(in super::super) fn each_prune_entry<E>(
        &self,
        mut each: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let Prunes { snapshots, aged, open, doomed, asked, checked, to_look_after, .. } =
            &self.prunes;
        let mut each = |note| each(Entry::Prune(note));
        for (id, noted) in snapshots {
            let Some(noted) = noted else {
                each(PruneNote::SnapshotPruned(*id))?;
                continue;
            };
            each(PruneNote::SnapshotSeen(noted.seen.duplicate()))?;
            if let Some(forgotten) = noted.forgotten {
                each(PruneNote::SnapshotForgotten(forgotten))?;
            }
        }
        if let Some((age_s, wall_s)) = *aged {
            each(PruneNote::Aged { age_s, wall_s })?;
        }
        if let Some(open) = *open {
            each(PruneNote::Begun(open))?;
        }
        for (chunk, doomed) in doomed {
            let ck = doomed.ck.duplicate();
            let awaited = doomed.also.iter().filter_map(|at| self.prunes.node(*at)).collect();
            let asked = doomed.asked.iter();
            let asked = asked.filter_map(|(at, lease)| Some((self.prunes.node(*at)?, *lease)));
            let asked = asked.collect();
            each(PruneNote::Doomed { chunk: *chunk, ck, awaited, asked })?;
            let gone = doomed.gone.iter();
            for node in gone.filter_map(|held| counting(&self.stores, &self.current, *held)) {
                each(PruneNote::LetGo { chunk: *chunk, node })?;
            }
            for (node, _) in self.counting(chunk) {
                each(PruneNote::HeldAgain { chunk: *chunk, node })?;
            }
        }
        asked.iter().try_for_each(|node| each(PruneNote::Asked(*node)))?;
        for (index, length) in checked {
            each(PruneNote::ChainChecked { index: *index, length: *length })?;
        }
        for it in to_look_after.values() {
            each(PruneNote::ToLookAfter(it.duplicate()))?;
        }
        Ok(())
    }

    /// Whether the store of this ack is one that is asked to let the chunk go, or has done so.
    pub(super) fn is_waited_for(&self, acked: &ChunkAcked, index: StoreIndex) -> bool {
        let doomed = self.prunes.doomed.get(&acked.chunk);
        doomed.is_some_and(|doomed| doomed.at.contains(&index) || doomed.gone.contains(&index))
    }

    pub(in super::super) fn asked(&self) -> &BTreeSet<NodeId> {
        &self.prunes.asked
    }

    pub(in super::super) fn had_acked(&self, chunk: &ChunkId, node: &NodeId) -> bool {
        let doomed = self.prunes.doomed.get(chunk);
        let mut all = doomed.into_iter().flat_map(|doomed| doomed.at.iter().chain(&doomed.gone));
        all.any(|held| counting(&self.stores, &self.current, *held) == Some(*node))
            || self.counting(chunk).any(|(holder, _)| holder == *node)
    }

    pub(in super::super) fn was_acked(&self, chunk: &ChunkId) -> bool {
        let doomed = self.prunes.doomed.get(chunk);
        doomed.is_some_and(|doomed| !doomed.at.is_empty() || !doomed.gone.is_empty())
            || self.counting(chunk).next().is_some()
    }

    pub(in super::super) fn noted_snapshots(&self) -> impl Iterator<Item = &NotedSnapshot> {
        self.prunes.snapshots.values().flatten()
    }

    pub(in super::super) fn noted_snapshot(&self, id: &SnapshotId) -> Option<&NotedSnapshot> {
        self.prunes.snapshots.get(id)?.as_ref()
    }

    pub(in super::super) fn pruned_snapshots(&self) -> impl Iterator<Item = &SnapshotId> {
        self.prunes.snapshots.iter().filter(|(_, noted)| noted.is_none()).map(|(id, _)| id)
    }

    pub(in super::super) fn is_noted(&self, id: &SnapshotId) -> bool {
        self.prunes.snapshots.contains_key(id)
    }

    pub(in super::super) fn aged(&self) -> Option<(u64, u64)> {
        self.prunes.aged
    }

    pub(in super::super) fn open_prune(&self) -> Option<OpenPrune> {
        self.prunes.open
    }

    pub(in super::super) fn doomed(&self) -> impl Iterator<Item = (&ChunkId, &ChunkKey)> {
        self.prunes.doomed.iter().map(|(chunk, doomed)| (chunk, &doomed.ck))
    }

    pub(in super::super) fn doomed_key(&self, chunk: &ChunkId) -> Option<&ChunkKey> {
        Some(&self.prunes.doomed.get(chunk)?.ck)
    }

    pub(in super::super) fn is_doomed(&self, chunk: &ChunkId) -> bool {
        self.prunes.doomed.contains_key(chunk)
    }

    pub(in super::super) fn waiting_for(&self, chunk: &ChunkId) -> BTreeSet<NodeId> {
        let Some(doomed) = self.prunes.doomed.get(chunk) else { return BTreeSet::new() };
        let acked = doomed.at.iter();
        let acked = acked.filter_map(|held| counting(&self.stores, &self.current, *held));
        let others = doomed.also.iter().chain(doomed.asked.iter().map(|(node, _)| node));
        acked.chain(others.filter_map(|at| self.prunes.node(*at))).collect()
    }

    pub(in super::super) fn unheard(&self, chunk: &ChunkId) -> Vec<(NodeId, LeaseNonce)> {
        let asked = self.prunes.doomed.get(chunk).into_iter().flat_map(|doomed| &doomed.asked);
        asked.filter_map(|(at, lease)| Some((self.prunes.node(*at)?, *lease))).collect()
    }

    pub(in super::super) fn awaited(&self) -> impl Iterator<Item = &NodeId> {
        self.prunes.awaited.iter()
    }

    pub(in super::super) fn to_look_after(&self) -> impl Iterator<Item = &ToLookAfter> {
        self.prunes.to_look_after.values()
    }

    pub(in super::super) fn chain_checked(&self, index: u16) -> Option<u64> {
        self.prunes.checked.get(&index).copied()
    }
}

impl Doomed {
    /// Whether somebody is to be asked still.
    fn is_waited_for(&self) -> bool {
        !self.at.is_empty() || !self.also.is_empty() || !self.asked.is_empty()
    }

    /// This node has answered, or need not.
    fn is_heard(&mut self, place: Option<u32>) {
        self.also.retain(|at| Some(*at) != place);
        self.asked.retain(|(at, _)| Some(*at) != place);
        if self.asked.is_empty() {
            // Most are heard moments after they were asked, and there may be a million chunks.
            self.asked = Vec::new();
        }
    }
}

/// Whether this is a store of the node's, or of nobody's.
fn is_of(stores: &[super::Store], index: StoreIndex, node: &NodeId) -> bool {
    super::store(stores, index).is_none_or(|store| store.node == *node)
}

#[cfg(test)]
mod tests;
