//! What the catalogue is asked by whoever lets chunks go.

use super::entry::{OpenPrune, ToLookAfter};
use super::{Catalog, NotedSnapshot};
use crate::core::types::{ChunkId, LeaseNonce, NodeId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use std::collections::BTreeSet;

impl Catalog {
    /// The snapshots that were seen and whose chunks were not let go, by id.
    pub fn noted_snapshots(&self) -> impl Iterator<Item = &NotedSnapshot> {
        self.state.noted_snapshots()
    }

    /// One of them.
    pub fn noted_snapshot(&self, id: &SnapshotId) -> Option<&NotedSnapshot> {
        self.state.noted_snapshot(id)
    }

    /// The snapshots whose chunks were let go, and that some manifest may still name.
    pub fn pruned_snapshots(&self) -> impl Iterator<Item = &SnapshotId> {
        self.state.pruned_snapshots()
    }

    /// Whether this snapshot was seen, or let go.
    pub fn is_noted(&self, id: &SnapshotId) -> bool {
        self.state.is_noted(id)
    }

    /// The folder's age and what the clock showed, in seconds, when they were noted last.
    pub fn aged(&self) -> Option<(u64, u64)> {
        self.state.aged()
    }

    /// The prune that was announced and is not done.
    pub fn open_prune(&self) -> Option<OpenPrune> {
        self.state.open_prune()
    }

    /// The chunks that are being let go, with their keys, by id.
    pub fn doomed(&self) -> impl Iterator<Item = (&ChunkId, &ChunkKey)> {
        self.state.doomed()
    }

    /// The key of one of them.
    pub fn doomed_key(&self, chunk: &ChunkId) -> Option<&ChunkKey> {
        self.state.doomed_key(chunk)
    }

    /// Whether this chunk is being let go.
    pub fn is_doomed(&self, chunk: &ChunkId) -> bool {
        self.state.is_doomed(chunk)
    }

    /// Who has a chunk that is being let go, or may, and was not heard to have done it.
    pub fn waiting_for(&self, chunk: &ChunkId) -> BTreeSet<NodeId> {
        self.state.waiting_for(chunk)
    }

    /// Who was asked to let a chunk go, by which lease, and was not heard since: an ack of theirs
    /// under this lease does not count, as they may let the chunk go after it.
    pub fn unheard(&self, chunk: &ChunkId) -> Vec<(NodeId, LeaseNonce)> {
        self.state.unheard(chunk)
    }

    /// The nodes that such chunks wait for, or did, though no ack of theirs is known.
    pub fn awaited(&self) -> impl Iterator<Item = &NodeId> {
        self.state.awaited()
    }

    /// The snapshots of this device that are to be looked after, by id.
    pub fn to_look_after(&self) -> impl Iterator<Item = &ToLookAfter> {
        self.state.to_look_after()
    }

    /// Who was asked to let chunks go by this folder's prunes, as long as any of these is
    /// remembered: what is needed again has to be taken back at all of them.
    pub fn asked(&self) -> &BTreeSet<NodeId> {
        self.state.asked()
    }

    /// Whether this node acknowledged a chunk that is being let go, before that.
    pub fn had_acked(&self, chunk: &ChunkId, node: &NodeId) -> bool {
        self.state.had_acked(chunk, node)
    }

    /// Whether anybody did.
    pub fn was_acked(&self, chunk: &ChunkId) -> bool {
        self.state.was_acked(chunk)
    }

    /// Until which length the prunes in the chain of this head are accounted for.
    pub fn chain_checked(&self, index: u16) -> Option<u64> {
        self.state.chain_checked(index)
    }
}
