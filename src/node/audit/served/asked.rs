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
