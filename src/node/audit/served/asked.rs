//! Replicas that holders were asked for to try them, each as long as it is the same: what a holder
//! proves of a replica that it was given since says nothing of the one that it did not hand over.

use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::repo::catalog::Entry;
use crate::repo::reference::ChunkRef;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's documentation. A few of each holder.
#[derive(Debug, Default)]
pub(in crate::node) struct Asked(Mutex<BTreeMap<(NodeId, ChunkId), StoreEpoch>>);

impl Asked {
    /// Takes down what the catalogue took: which replicas are no more, or were given anew.
    pub(in crate::node) fn on_entry(&self, entry: &Entry) {
        let (node, chunk) = match entry {
            Entry::ReplicaLost(lost) => (lost.node, lost.chunk),
            Entry::ChunkAcked(acked) => (acked.node, acked.chunk),
            Entry::StoreGone { node, .. } => return self.keep(node, &[]),
            _ => return,
        };
        self.all().remove(&(node, chunk));
    }

    /// The holder is asked for what it has of the chunk now.
    pub(super) fn ask(&self, (holder, epoch): (NodeId, StoreEpoch), chunk: ChunkId) {
        self.all().insert((holder, chunk), epoch);
    }

    /// Whether this replica is the one that the holder was asked for.
    pub(super) fn is_same(&self, (holder, epoch): (NodeId, StoreEpoch), chunk: &ChunkId) -> bool {
        self.all().get(&(holder, *chunk)) == Some(&epoch)
    }

    /// Of this holder only these matter from now on.
    pub(super) fn keep(&self, holder: &NodeId, chunks: &[ChunkRef]) {
        self.all()
            .retain(|(node, id), _| node != holder || chunks.iter().any(|chunk| chunk.id == *id));
    }

    /// Each change leaves it whole, even after a panic.
    fn all(&self) -> MutexGuard<'_, BTreeMap<(NodeId, ChunkId), StoreEpoch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::LeaseNonce;
    use crate::repo::catalog::{ChunkAcked, Loss, ReplicaLost};

    #[test]
    fn what_was_lost_or_given_anew_is_another_replica() {
        let [node, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let [chunk, kept] = [3, 4].map(|byte| ChunkId::from_bytes([byte; 32]));
        let [epoch, later] = [5, 6].map(|byte| StoreEpoch::from_bytes([byte; 16]));
        let lease = LeaseNonce::from_bytes([7; 16]);
        let lost = ReplicaLost { chunk, node, epoch, why: Loss::Damaged, at_s: 8 };
        let acked = Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch });
        for entry in [Entry::ReplicaLost(lost), acked] {
            let asked = Asked::default();
            [chunk, kept].into_iter().for_each(|chunk| asked.ask((node, epoch), chunk));
            asked.ask((other, epoch), chunk);
            assert!(asked.is_same((node, epoch), &chunk));
            assert!(!asked.is_same((node, later), &chunk), "another store");
            asked.on_entry(&entry);
            assert!(!asked.is_same((node, epoch), &chunk));
            assert!(asked.is_same((node, epoch), &kept) && asked.is_same((other, epoch), &chunk));
            asked.on_entry(&Entry::StoreGone { node, epoch, at_s: 9 });
            assert!(!asked.is_same((node, epoch), &kept) && asked.is_same((other, epoch), &chunk));
        }
    }
}
