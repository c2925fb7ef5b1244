//! Entries in, sealed packs, leaves and nodes out.
//!
//! The sink sees a pack before the leaf that names it, leaves before the node that names them, the
//! root last. So whatever was handed over can be read when the work is cut off, and the leaves of
//! an unfinished tree are of use to the next run.
//!
//! Where a leaf ends only paths say: after a path that the [`Cutter`] picks, one in 1,024, unless
//! the leaf has fewer than 256 entries. So a change of what is recorded of a file moves no cut, and
//! an added or removed name moves at most the next. A leaf that grows beyond 256 KiB, 16,384
//! entries or 4,096 classes ends all the same, and so does a node beyond 1 MiB or 2,048 children. A
//! small file's data is in a pack of its leaf's own, or in an older one.

use super::check::{Order, TreeFault, check, ensure};
use super::encode::{ClosedLeaf, OpenLeaf, Slot};
use super::node::{Child, ClosedNode, OpenNode};
use super::path::Cutter;
use super::{ENTRIES_MAX, Entry, TREE_LEVEL_MAX, TreeRoot};
use crate::repo::frame::Kind;
use crate::repo::listing::FILE_BYTES_MAX;
use crate::repo::pack::{Blob, PackedBlob, Packer};
use crate::repo::reference::ChunkRef;

/// Where finished parts of a tree go.
pub trait TreeSink {
    /// Why it does not go on.
    type Error: From<TreeFault>;

    /// Makes a chunk of a plaintext of kind [`Kind::Pack`] or [`Kind::Tree`] and hands it over;
    /// returns its reference, with these bytes.
    ///
    /// # Errors
    /// Whatever ends the work.
    fn seal(&mut self, kind: Kind, plaintext: &[u8], bytes: u64) -> Result<ChunkRef, Self::Error>;

    /// A pack was handed over: what lies where in it.
    fn packed(&mut self, pack: &ChunkRef, blobs: &[PackedBlob]);

    /// A leaf was handed over, and all that it names.
    fn leaf_done(&mut self, leaf: &DoneLeaf);
}

/// A leaf that was handed over, of a tree that may never be finished.
#[derive(Debug)]
pub struct DoneLeaf {
    /// The leaf, with the bytes of all files in it.
    pub reference: ChunkRef,
    /// How many entries it has.
    pub entries: u64,
    /// Its first path.
    pub first: Vec<u8>,
    /// Its last path.
    pub last: Vec<u8>,
}

/// How rarely leaves and nodes are cut; the same in all trees but those of tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    /// One path in two to the power of this ends a leaf.
    pub(crate) leaf_bits: u32,
    /// Entries below which it does not.
    pub(crate) leaf_entries_min: usize,
    /// One child in two to the power of this ends a node.
    pub(crate) node_bits: u32,
    /// Children below which it does not.
    pub(crate) node_children_min: usize,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { leaf_bits: 10, leaf_entries_min: 256, node_bits: 8, node_children_min: 32 }
    }
}

/// Builds one tree. Memory: one leaf, one pack, one node a level.
pub struct TreeWriter {
    cutter: Cutter,
    cuts: Cuts,
    order: Order,
    packer: Packer,
    leaf: OpenLeaf,
    /// Of level 1 and up.
    nodes: Vec<OpenNode>,
    entries: u64,
    bytes: u64,
}

impl TreeWriter {
    /// A writer of an owner's trees.
    pub fn new(cutter: Cutter) -> Self {
        Self::with_cuts(cutter, Cuts::default())
    }

    /// With smaller leaves, so that tests see trees.
    pub(crate) fn with_cuts(cutter: Cutter, cuts: Cuts) -> Self {
        let (order, packer, leaf) = (Order::default(), Packer::default(), OpenLeaf::default());
        Self { cutter, cuts, order, packer, leaf, nodes: Vec::new(), entries: 0, bytes: 0 }
    }

    /// Adds the next entry in the order of [`path::compare`](super::path::compare). With `blob` the
    /// entry is a small file whose data is not in any pack yet: it says [`Content::None`], and the
    /// writer packs the data.
    ///
    /// [`Content::None`]: super::Content::None
    ///
    /// # Errors
    /// Those of the sink, and [`TreeFault`] where the entry cannot be part of the tree: it is then
    /// left out, and the tree can go on.
    pub fn add<S: TreeSink>(
        &mut self,
        entry: &Entry,
        blob: Option<&Blob<'_>>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        check(entry, blob.map(|blob| blob.content))?;
        let bytes = self.bytes.checked_add(entry.bytes()).filter(|sum| *sum <= FILE_BYTES_MAX);
        let bytes = bytes.filter(|_| self.entries < ENTRIES_MAX).ok_or(TreeFault::TooLarge)?;
        self.order.admit(entry)?;
        self.entries += 1;
        self.bytes = bytes;
        let slot = blob.map(|blob| Slot { offset: self.packer.add(blob), hash: blob.hash });
        self.leaf.add(entry, slot);
        if self.packer.is_full() {
            self.close_pack(sink)?;
        }
        let cut = self.leaf.count() >= self.cuts.leaf_entries_min
            && self.cutter.cuts_after(&entry.path, self.cuts.leaf_bits);
        if cut || self.leaf.is_full() { self.close_leaf(sink) } else { Ok(()) }
    }

    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the tree: what is open goes to the sink, the root last. `None` where nothing was added.
    ///
    /// # Errors
    /// Those of the sink, and [`TreeFault::TooLarge`].
    pub fn finish<S: TreeSink>(mut self, sink: &mut S) -> Result<Option<TreeRoot>, S::Error> {
        if self.leaf.count() > 0 {
            self.close_leaf(sink)?;
        }
        let mut level = 0;
        while let Some(node) = self.nodes.get_mut(usize::from(level)) {
            let (count, node) = (node.count(), std::mem::take(node));
            let top = self.nodes.len() == usize::from(level) + 1;
            if top && count == 1 {
                let root = node.into_only_child().map(|child| TreeRoot {
                    level,
                    entries: child.entries,
                    reference: child.reference,
                });
                return Ok(root);
            }
            level += 1;
            if count > 0 {
                self.close_node(node, level, sink)?;
            }
        }
        Ok(None)
    }

    fn close_pack<S: TreeSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        if let Some(closed) = self.packer.close() {
            let length = closed.plaintext.len() as u64;
            let pack = sink.seal(Kind::Pack, &closed.plaintext, length)?;
            sink.packed(&pack, &closed.blobs);
            self.leaf.pack_closed(&pack);
        }
        Ok(())
    }

    fn close_leaf<S: TreeSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.close_pack(sink)?;
        let ClosedLeaf { plaintext, entries, bytes, first, last } =
            std::mem::take(&mut self.leaf).close();
        let reference = sink.seal(Kind::Tree, &plaintext, bytes)?;
        let leaf = DoneLeaf { reference, entries, first, last };
        sink.leaf_done(&leaf);
        let DoneLeaf { reference, first, .. } = leaf;
        self.add_child(Child { reference, entries, first }, 1, sink)
    }

    /// Adds a child to the open node of `level`.
    fn add_child<S: TreeSink>(
        &mut self,
        child: Child,
        level: u8,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        ensure(level <= TREE_LEVEL_MAX + 1, TreeFault::TooLarge)?;
        let index = usize::from(level) - 1;
        if self.nodes.len() == index {
            self.nodes.push(OpenNode::default());
        }
        let Some(node) = self.nodes.get_mut(index) else { return Ok(()) };
        let picked = self.cutter.cuts_after(&child.first, self.cuts.node_bits);
        node.add(child);
        let cut = picked && node.count() >= self.cuts.node_children_min;
        if cut || node.is_full() {
            let full = std::mem::take(node);
            self.close_node(full, level, sink)?;
        }
        Ok(())
    }

    fn close_node<S: TreeSink>(
        &mut self,
        node: OpenNode,
        level: u8,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        ensure(level <= TREE_LEVEL_MAX, TreeFault::TooLarge)?;
        let ClosedNode { plaintext, bytes, entries, first } =
            node.close(level).ok_or(TreeFault::TooLarge)?;
        let reference = sink.seal(Kind::Tree, &plaintext, bytes)?;
        self.add_child(Child { reference, entries, first }, level + 1, sink)
    }
}

impl std::fmt::Debug for TreeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeWriter").field("entries", &self.entries).finish_non_exhaustive()
    }
}
