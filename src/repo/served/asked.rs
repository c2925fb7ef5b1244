//! Replicas that holders were asked for to try them, each as long as it is the same: what a holder
//! proves of a replica that it was given since says nothing of the one that it did not hand over.

use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::planted::{Bug, is_on};
use crate::repo::reference::ChunkRef;
use std::collections::BTreeMap;

/// See the module's documentation. A few of each holder.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<(NodeId, ChunkId), StoreEpoch>);

impl Asked {
    /// The holder is asked for what it has of the chunk now.
    pub(super) fn ask(&mut self, (holder, epoch): (NodeId, StoreEpoch), chunk: ChunkId) {
        self.0.insert((holder, chunk), epoch);
    }

    /// This replica is no more, or was given anew.
    pub(super) fn forget(&mut self, holder: &NodeId, chunk: &ChunkId) {
        self.0.remove(&(*holder, *chunk));
    }

    /// Whether this replica is the one that the holder was asked for.
    pub(super) fn is_same(&self, (holder, epoch): (NodeId, StoreEpoch), chunk: &ChunkId) -> bool {
        self.0.get(&(holder, *chunk)) == Some(&epoch) || is_on(Bug::OldProofOfNew)
    }

    /// Of this holder only these matter from now on.
    pub(super) fn keep(&mut self, holder: &NodeId, chunks: &[ChunkRef]) {
        self.0.retain(|(node, id), _| node != holder || chunks.iter().any(|chunk| chunk.id == *id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_or_given_anew_is_another_replica() {
        let [node, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let [chunk, kept] = [3, 4].map(|byte| ChunkId::from_bytes([byte; 32]));
        let [epoch, later] = [5, 6].map(|byte| StoreEpoch::from_bytes([byte; 16]));
        let mut asked = Asked::default();
        [chunk, kept].into_iter().for_each(|chunk| asked.ask((node, epoch), chunk));
        asked.ask((other, epoch), chunk);
        assert!(asked.is_same((node, epoch), &chunk));
        assert!(!asked.is_same((node, later), &chunk), "another store");
        asked.forget(&node, &chunk);
        assert!(!asked.is_same((node, epoch), &chunk));
        assert!(asked.is_same((node, epoch), &kept) && asked.is_same((other, epoch), &chunk));
        asked.keep(&node, &[]);
        assert!(!asked.is_same((node, epoch), &kept) && asked.is_same((other, epoch), &chunk));
    }
}
