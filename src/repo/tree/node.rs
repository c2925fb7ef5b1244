//! Nodes: which leaves or nodes lie side by side. Layout, integers little-endian:
//!
//! ```text
//! version u8 = 1 | level u8 = 1..=4 | scheme u8 = 0 | reserved u8 = 0
//! | children u32 | references u32 = children | classes u16 = 0 | reserved u16 = 0
//! then for each child: reference 74 | entries u64 | length of its first path u16 | first path
//! ```
//!
//! The bytes of a reference are those of all files below it, `entries` how many entries are. First
//! paths ascend, so whoever looks for a path reads one node a level.

use super::check::{TreeFault, ensure};
use super::leaf::{HEAD_BYTES, SCHEME_SINGLE, TREE_VERSION};
use super::path;
use super::{ENTRIES_MAX, TREE_LEVEL_MAX};
use crate::repo::reference::{ChunkRef, REF_BYTES};
use bytes::{Buf, Bytes};
use std::cmp::Ordering;
use zeroize::Zeroizing;

/// The most children of a node.
pub(super) const CHILDREN_MAX: usize = 2_048;

/// A node is closed from here on.
const NODE_BYTES: usize = 1 << 20;

/// A child besides its first path.
const CHILD_BYTES: usize = REF_BYTES + 8 + 2;

/// One child of a node.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) reference: ChunkRef,
    pub(super) entries: u64,
    pub(super) first: Vec<u8>,
}

/// A node that is being filled.
#[derive(Debug, Default)]
pub(super) struct OpenNode {
    children: Vec<Child>,
    bytes: usize,
}

impl OpenNode {
    pub(super) fn add(&mut self, child: Child) {
        self.bytes += CHILD_BYTES + child.first.len();
        self.children.push(child);
    }

    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// Whether it takes no more, wherever the cut may be.
    pub(super) fn is_full(&self) -> bool {
        self.children.len() >= CHILDREN_MAX || self.bytes >= NODE_BYTES
    }

    /// The only child, where there is one.
    pub(super) fn into_only_child(mut self) -> Option<Child> {
        self.children.pop().filter(|_| self.children.is_empty())
    }

    /// The node's bytes, and what they come to. `None` where that is beyond all numbers.
    pub(super) fn close(self, level: u8) -> Option<ClosedNode> {
        let count = (self.children.len() as u32).to_le_bytes();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + self.bytes));
        plaintext.extend([TREE_VERSION, level, SCHEME_SINGLE, 0]);
        plaintext.extend([count, count, [0; 4]].concat());
        let (mut bytes, mut entries) = (0_u64, 0_u64);
        for child in &self.children {
            child.reference.put(&mut plaintext);
            plaintext.extend(child.entries.to_le_bytes());
            plaintext.extend((child.first.len() as u16).to_le_bytes());
            plaintext.extend_from_slice(&child.first);
            bytes = bytes.checked_add(child.reference.bytes)?;
            entries = entries.checked_add(child.entries)?;
        }
        let first = self.children.into_iter().next()?.first;
        Some(ClosedNode { plaintext, bytes, entries, first })
    }
}

/// A node that is full: a child of the next level, once it has a reference.
pub(super) struct ClosedNode {
    pub(super) plaintext: Zeroizing<Vec<u8>>,
    /// Bytes of the files below.
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) first: Vec<u8>,
}

/// What stands in front of leaves and nodes.
pub(super) struct Head {
    pub(super) entries: u32,
    pub(super) references: u32,
    pub(super) classes: u16,
    pub(super) rest: Bytes,
}

/// Reads the front of a tree chunk that must be of this level.
pub(super) fn head(plaintext: Bytes, level: u8) -> Result<Head, TreeFault> {
    let length = TreeFault::Length(plaintext.len());
    let mut rest = plaintext;
    let version = rest.try_get_u8().map_err(|_| length)?;
    ensure(version == TREE_VERSION, TreeFault::Version(version))?;
    ensure(rest.len() >= HEAD_BYTES - 1, length)?;
    let found = rest.get_u8();
    ensure(found == level && found <= TREE_LEVEL_MAX, TreeFault::Level(found))?;
    let scheme = rest.get_u8();
    ensure(scheme == SCHEME_SINGLE, TreeFault::Scheme(scheme))?;
    let reserved = rest.get_u8();
    let (entries, references) = (rest.get_u32_le(), rest.get_u32_le());
    let classes = rest.get_u16_le();
    ensure(reserved == 0 && rest.get_u16_le() == 0, TreeFault::Reserved)?;
    Ok(Head { entries, references, classes, rest })
}

/// Reads the node that `above` says: its children, their first paths ascending, all sums right.
pub(super) fn decode(plaintext: Bytes, level: u8, above: &Child) -> Result<Vec<Child>, TreeFault> {
    let length = TreeFault::Length(plaintext.len());
    let Head { entries: count, references, classes, mut rest } = head(plaintext, level)?;
    let children = usize::try_from(count).ok().filter(|n| (1..=CHILDREN_MAX).contains(n));
    let children = children.ok_or(TreeFault::Count(count))?;
    ensure(references == count && classes == 0, TreeFault::Form)?;
    let mut found: Vec<Child> = Vec::new();
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    for _ in 0..children {
        let reference = ChunkRef::take(&mut rest).ok_or(length)?;
        let below = rest.try_get_u64_le().map_err(|_| length)?;
        let path_bytes = usize::from(rest.try_get_u16_le().map_err(|_| length)?);
        ensure(rest.len() >= path_bytes, length)?;
        let first = rest.split_to(path_bytes).to_vec();
        path::check(&first)?;
        let behind = found
            .last()
            .is_none_or(|last: &Child| path::compare(&last.first, &first) == Ordering::Less);
        ensure(behind, TreeFault::Order)?;
        ensure((1..=ENTRIES_MAX).contains(&below), TreeFault::Child)?;
        bytes = bytes.checked_add(reference.bytes).ok_or(TreeFault::Child)?;
        entries = entries.checked_add(below).ok_or(TreeFault::Child)?;
        found.push(Child { reference, entries: below, first });
    }
    ensure(rest.is_empty(), length)?;
    let begins = found.first().is_some_and(|child| {
        // Of a root nobody says where it begins.
        above.first.is_empty() || child.first == above.first
    });
    let agrees = bytes == above.reference.bytes && entries == above.entries;
    ensure(begins && agrees, TreeFault::Child)?;
    Ok(found)
}
