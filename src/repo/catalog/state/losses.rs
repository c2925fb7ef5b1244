//! The replicas that were lost last, and why: each until its holder has the chunk again, or a prune
//! lets the chunk go. Pure.
//!
//! Whether anybody misses them is for others to see: others may have been given the chunk since.

use super::super::entry::ReplicaLost;
use super::State;
use crate::core::types::{ChunkId, NodeId};
use std::collections::BTreeMap;

/// Losses that are remembered: the newest. Each costs about 250 bytes.
const LOSSES_MAX: usize = 1 << 16;

/// Replicas that were lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// In the order in which they were found.
    all: BTreeMap<u64, ReplicaLost>,
    /// Where they stand in it.
    places: BTreeMap<(ChunkId, NodeId), u64>,
}

impl Losses {
    pub(super) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// One of each chunk and node: the newest.
    fn add(&mut self, lost: ReplicaLost) {
        let place = self.all.last_key_value().map_or(0, |(last, _)| last + 1);
        if let Some(before) = self.places.insert((lost.chunk, lost.node), place) {
            self.all.remove(&before);
        }
        self.all.insert(place, lost);
        if self.all.len() > LOSSES_MAX
            && let Some((_, oldest)) = self.all.pop_first()
        {
            self.places.remove(&(oldest.chunk, oldest.node));
        }
    }

    /// The node has the chunk.
    pub(super) fn remove(&mut self, chunk: &ChunkId, node: &NodeId) {
        if let Some(place) = self.places.remove(&(*chunk, *node)) {
            self.all.remove(&place);
        }
    }

    /// The chunk is let go.
    pub(super) fn remove_chunk(&mut self, chunk: &ChunkId) {
        let [first, last] = [[0; 32], [u8::MAX; 32]].map(|node| (*chunk, NodeId::from_bytes(node)));
        let of: Vec<NodeId> = self.places.range(first..=last).map(|((_, node), _)| *node).collect();
        of.iter().for_each(|node| self.remove(chunk, node));
    }
}

impl State {
    /// Not what the node has, in the store that it has now, nor what is let go: nobody misses that.
    pub(super) fn note_loss(&mut self, lost: &ReplicaLost) {
        let is_held = self.counting(&lost.chunk).any(|(node, _)| node == lost.node);
        let is_known = self.holders.contains_key(&lost.chunk) && !self.is_doomed(&lost.chunk);
        if is_known && !is_held {
            self.losses.add(*lost);
        }
    }

    pub(in super::super) fn losses(&self) -> impl Iterator<Item = &ReplicaLost> {
        self.losses.all.values()
    }

    pub(in super::super) fn settle_losses(&mut self, is_settled: impl Fn(&ChunkId) -> bool) {
        let Losses { all, places } = &mut self.losses;
        all.retain(|_, lost| !is_settled(&lost.chunk));
        places.retain(|_, place| all.contains_key(place));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::entry::tests::{acked, lost};
    use super::super::super::entry::{Entry, Loss, PruneNote};
    use super::*;
    use crate::crypto::keys::ChunkKey;

    fn told(state: &State) -> Vec<(ChunkId, NodeId, Loss, u64)> {
        assert_eq!(state.losses.places.len(), state.losses.all.len());
        state.losses().map(|lost| (lost.chunk, lost.node, lost.why, lost.at_s)).collect()
    }

    fn ack(state: &mut State, chunk: u32, node: u8, epoch: u8) {
        state.apply(Entry::ChunkAcked(acked(chunk, node, epoch)));
    }

    fn lose(state: &mut State, lost: ReplicaLost) -> (ChunkId, NodeId, Loss, u64) {
        state.apply(Entry::ReplicaLost(lost));
        (lost.chunk, lost.node, lost.why, lost.at_s)
    }

    #[test]
    fn a_loss_is_remembered_until_its_node_has_the_chunk_again() {
        let mut state = State::default();
        for (chunk, node) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
            ack(&mut state, chunk, node, 1);
        }
        let second = lose(&mut state, lost(2, 1, 1));
        let first = lose(&mut state, ReplicaLost { why: Loss::Damaged, ..lost(1, 1, 1) });
        assert_eq!(told(&state), [second, first], "in the order in which they were found");
        // Found once more: nothing is held, and the newest word counts.
        let again = ReplicaLost { why: Loss::Lied, at_s: 9, ..lost(2, 1, 1) };
        let again = lose(&mut state, again);
        assert_eq!(told(&state), [first, again]);
        lose(&mut state, lost(9, 1, 1));
        assert_eq!(told(&state), [first, again], "a chunk that nobody ever acknowledged");
        ack(&mut state, 1, 2, 1);
        ack(&mut state, 3, 1, 1);
        assert_eq!(told(&state), [first, again], "another node, another chunk");
        // Also in another store, of which the old one's losses say nothing.
        ack(&mut state, 1, 1, 2);
        assert_eq!(told(&state), [again]);
        lose(&mut state, lost(1, 1, 1));
        assert_eq!(told(&state), [again]);
        ack(&mut state, 2, 1, 2);
        assert_eq!((told(&state), state.losses.count()), (vec![], 0));
    }

    #[test]
    fn what_a_prune_lets_go_is_no_loss() {
        let mut state = State::default();
        for (chunk, node) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            ack(&mut state, chunk, node, 1);
        }
        let _one = lose(&mut state, lost(1, 1, 1));
        let _other = lose(&mut state, lost(1, 2, 1));
        let kept = lose(&mut state, lost(2, 1, 1));
        assert_eq!(state.losses.count(), 3);
        let (chunk, ck) = (acked(1, 1, 1).chunk, ChunkKey::from_bytes([1; 32]));
        let doomed = PruneNote::Doomed { chunk, ck, awaited: Vec::new(), asked: Vec::new() };
        state.apply(Entry::Prune(doomed));
        assert_eq!(told(&state), [kept]);
        lose(&mut state, lost(1, 3, 1));
        assert_eq!(told(&state), [kept], "nor is it later");
    }

    #[test]
    fn what_is_settled_is_told_no_more() {
        let mut state = State::default();
        (1..=4).for_each(|chunk| ack(&mut state, chunk, 1, 1));
        let all: Vec<_> = (1..=4).map(|chunk| lose(&mut state, lost(chunk, 1, 1))).collect();
        state.settle_losses(|chunk| *chunk == all[0].0 || *chunk == all[2].0);
        assert_eq!(told(&state), [all[1], all[3]]);
        assert_eq!(lose(&mut state, lost(1, 1, 1)), all[0]);
        assert_eq!(told(&state), [all[1], all[3], all[0]], "it is lost once more");
    }

    #[test]
    fn so_many_losses_are_remembered_and_the_oldest_go_first() {
        let mut state = State::default();
        let most = u32::try_from(LOSSES_MAX).unwrap();
        for chunk in 0..most + 2 {
            ack(&mut state, chunk, 1, 1);
            lose(&mut state, lost(chunk, 1, 1));
        }
        let all = told(&state);
        assert_eq!(all.len(), LOSSES_MAX);
        assert_eq!(all[0].0, acked(2, 1, 1).chunk);
        assert_eq!(all[LOSSES_MAX - 1].0, acked(most + 1, 1, 1).chunk);
    }
}
