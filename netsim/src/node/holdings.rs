//! What an owner knows of its replicas, kept as the daemon's catalogue keeps it: which were
//! acknowledged, which of these count, when audits proved them, and which they found to be gone.

use super::audits::loss;
use quloud::core::audit::Verdict;
use quloud::core::types::{ChunkId, NodeId, StoreEpoch};
use quloud::repo::standing::Loss;
use rand::{Rng, RngExt};
use std::collections::{BTreeMap, BTreeSet};

/// A replica that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Replica {
    epoch: StoreEpoch,
    /// When an audit last proved it, by the owner's clock.
    proven_s: Option<u64>,
}

/// What of a holder is to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All.
    All,
    /// What no audit proved since it was acknowledged.
    New,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// The store that each holder acknowledged with last: the only one that counts.
    stores: BTreeMap<NodeId, StoreEpoch>,
    replicas: BTreeMap<(NodeId, ChunkId), Replica>,
    /// Replicas that audits found to be there no more, and that were not acknowledged since.
    lost: BTreeMap<(NodeId, ChunkId), Loss>,
}

impl Holdings {
    /// A holder acknowledged a chunk with this store; whether it is another one than before, with
    /// which what that one had is gone.
    pub(super) fn on_acked(&mut self, node: NodeId, chunk: ChunkId, epoch: StoreEpoch) -> bool {
        let before = self.stores.insert(node, epoch);
        self.lost.remove(&(node, chunk));
        let replica = Replica { epoch, proven_s: None };
        let known = self.replicas.entry((node, chunk)).or_insert(replica);
        if known.epoch != epoch {
            *known = replica;
        }
        before.is_some_and(|before| before != epoch)
    }

    /// Takes a verdict of an audit down that ended at `now_s`. Returns whether it says anything of
    /// a replica that counts: what does not any more, or of which another store speaks by now, is
    /// nobody's loss.
    pub(super) fn take(
        &mut self,
        (holder, epoch): (NodeId, StoreEpoch),
        (chunk, verdict): (ChunkId, Verdict),
        now_s: u64,
    ) -> bool {
        let of = (holder, chunk);
        let replica = self.replicas.get_mut(&of).filter(|replica| replica.epoch == epoch);
        let Some(replica) = replica else { return false };
        if self.stores.get(&holder) != Some(&epoch) {
            return false;
        }
        if verdict == Verdict::Proven {
            replica.proven_s = Some(now_s);
        } else if let Some(why) = loss(verdict) {
            self.replicas.remove(&of);
            self.lost.insert(of, why);
        }
        true
    }

    /// The chunk was let go.
    pub(super) fn forget(&mut self, chunk: &ChunkId) {
        self.replicas.retain(|(_, of), _| of != chunk);
        self.lost.retain(|(_, of), _| of != chunk);
    }

    /// Each chunk that anybody ever acknowledged, some more than once.
    pub(super) fn chunks(&self) -> impl Iterator<Item = ChunkId> {
        self.replicas.keys().chain(self.lost.keys()).map(|(_, chunk)| *chunk)
    }

    /// Holders of anything.
    pub(crate) fn holders(&self) -> Vec<NodeId> {
        let holders: BTreeSet<NodeId> = self.counting().map(|(node, _, _)| node).collect();
        holders.into_iter().collect()
    }

    /// Each that acknowledged anything, and how many of its replicas count.
    pub(super) fn counts_of_all(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.stores.keys().map(|node| (*node, self.held(node)))
    }

    /// The store that a holder acknowledged with last.
    pub(crate) fn store_of(&self, node: &NodeId) -> Option<StoreEpoch> {
        self.stores.get(node).copied()
    }

    /// Replicas that count: who, what, and when it was proven.
    pub(crate) fn counting(&self) -> impl Iterator<Item = (NodeId, ChunkId, Option<u64>)> {
        let counts =
            |node: &NodeId, replica: &Replica| self.stores.get(node) == Some(&replica.epoch);
        let counting =
            self.replicas.iter().filter(move |((node, _), replica)| counts(node, replica));
        counting.map(|((node, chunk), replica)| (*node, *chunk, replica.proven_s))
    }

    /// Whether this replica counts.
    pub(crate) fn counts(&self, node: &NodeId, chunk: &ChunkId) -> bool {
        let replica = self.replicas.get(&(*node, *chunk));
        replica.is_some_and(|replica| self.stores.get(node) == Some(&replica.epoch))
    }

    /// What of this holder's counts, and when it was proven.
    pub(super) fn counting_at(
        &self,
        holder: &NodeId,
    ) -> impl Iterator<Item = (ChunkId, Option<u64>)> {
        let [first, last] = [[0; 32], [u8::MAX; 32]].map(|id| (*holder, ChunkId::from_bytes(id)));
        let store = self.stores.get(holder).copied();
        let its = self.replicas.range(first..=last);
        let counting = its.filter(move |(_, replica)| Some(replica.epoch) == store);
        counting.map(|((_, chunk), replica)| (*chunk, replica.proven_s))
    }

    /// What of this holder's is to be asked for.
    pub(crate) fn of(&self, holder: &NodeId, which: Which) -> Vec<ChunkId> {
        let is_it = |proven: Option<u64>| which == Which::All || proven.is_none();
        let its = self.counting_at(holder).filter(|(_, proven)| is_it(*proven));
        its.map(|(chunk, _)| chunk).collect()
    }

    /// So many of a holder's, from an id drawn by chance on.
    pub(super) fn drawn(
        &self,
        holder: &NodeId,
        count: impl Fn(usize) -> usize,
        rng: &mut impl Rng,
    ) -> Vec<ChunkId> {
        let from = ChunkId::from_bytes(rng.random());
        let its = self.of(holder, Which::All);
        let (before, behind): (Vec<_>, Vec<_>) = its.iter().partition(|id| **id <= from);
        behind.into_iter().chain(before).take(count(its.len())).copied().collect()
    }

    /// How many replicas of a holder count.
    pub(crate) fn held(&self, holder: &NodeId) -> u64 {
        self.counting_at(holder).count() as u64
    }

    /// When an audit last proved this replica, which counts.
    pub(crate) fn proven_s(&self, holder: &NodeId, chunk: &ChunkId) -> Option<u64> {
        let replica = self.replicas.get(&(*holder, *chunk));
        replica.filter(|_| self.counts(holder, chunk))?.proven_s
    }

    /// How many replicas were lost for this reason and not acknowledged since.
    pub(crate) fn lost(&self, why: Loss) -> usize {
        self.lost.values().filter(|of| **of == why).count()
    }
}
