//! A root in, entries out. Never blocks: it says which chunks it needs and is given them, in any
//! order, so it runs the same over a mesh, a cache and a simulated world.
//!
//! Everything is checked in passing: levels, orders, first paths and sums against what the node
//! above says, each entry on its own, and that each lies in a folder that came before; behind what
//! is left out the folders are taken on trust. Memory: eight chunks a level that were asked for,
//! one node a level taken apart.

use super::check::{Order, TreeFault, ensure};
use super::decode::Leaf;
use super::node::{self, Child};
use super::writer::DoneLeaf;
use super::{ENTRIES_MAX, Entry, TreeRoot, path};
use crate::core::types::ChunkId;
use crate::repo::reference::ChunkRef;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

/// So many chunks are asked for ahead; what was asked for before a node was taken apart stays so.
const AHEAD: usize = 8;

/// So many parts of two trees are compared ahead: an inserted one moves those behind it.
const COMMON: usize = 4 * AHEAD;

/// A tree chunk that is needed.
#[derive(Debug)]
pub struct TreeChunk {
    /// Comes back with the plaintext; unique within one walk.
    pub index: u64,
    /// The chunk, of kind [`Tree`](crate::repo::frame::Kind::Tree).
    pub reference: ChunkRef,
}

/// What comes next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and used at once")]
pub enum Step {
    /// The next entry.
    Entry(Entry),
    /// Nothing before a chunk that was asked for, or is to be, comes.
    Wait,
    /// There are no more.
    End,
}

/// A part of the tree that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Its first path; empty where all of the tree is gone.
    pub first: Vec<u8>,
    /// How many entries are lost.
    pub entries: u64,
}

/// How far two walks are beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fronts {
    /// A chunk has to come before it can be told.
    Wait,
    /// What comes next differs, or one of the trees has no more.
    Differ,
}

/// Takes two walks past all that comes next in both and is the same: parts with equal ids are equal
/// entries. Does nothing in the midst of a leaf. Call it before chunks are asked for, so that what
/// is skipped is not fetched.
///
/// # Errors
/// [`TreeFault`], whatever the chunks say; the walks are then of no more use.
pub fn skip_equal(left: &mut TreeWalk, right: &mut TreeWalk) -> Result<Fronts, TreeFault> {
    left.end_leaf()?;
    right.end_leaf()?;
    loop {
        let (Some((one, height)), Some((other, depth))) = (left.front(), right.front()) else {
            return Ok(Fronts::Differ);
        };
        if one == other {
            left.leave_out(0);
            right.leave_out(0);
            continue;
        }
        if height.max(depth) == 0 {
            return Ok(Fronts::Differ);
        }
        // The higher one is taken apart, or both: equal parts are parts of equal height. Not one of
        // two alone: what is in it would be asked for before it is known to differ.
        let (first, second) = (height >= depth, depth >= height);
        if (first && !left.is_here()) || (second && !right.is_here()) {
            return Ok(Fronts::Wait);
        }
        if first {
            left.take_apart()?;
        }
        if second {
            right.take_apart()?;
        }
    }
}

/// Leaves out of both walks what both would read next and is the same, wherever in the trees it is.
/// [`skip_equal`] stops at the first difference, and chunks are asked for beyond it: call this
/// before.
pub fn skip_common(left: &mut TreeWalk, right: &mut TreeWalk) {
    let needed = |place: &Place| matches!(place.state, State::Needed);
    let near = |walk: &TreeWalk| -> BTreeSet<ChunkId> {
        let near = walk.ahead.iter().take(COMMON).filter(|place| needed(place));
        near.map(|place| place.child.reference.id).collect()
    };
    let common: BTreeSet<ChunkId> = near(left).intersection(&near(right)).copied().collect();
    if common.is_empty() {
        return;
    }
    for walk in [left, right] {
        let mut at = 0;
        while let Some(place) = walk.ahead.get(at).filter(|_| at < COMMON) {
            if common.contains(&place.child.reference.id) {
                walk.leave_out(at);
            } else {
                at += 1;
            }
        }
    }
}

/// Pulls the entries of a tree in their order.
#[derive(Debug)]
pub struct TreeWalk {
    /// What was not reached yet, in order: the next is in front.
    ahead: VecDeque<Place>,
    leaf: Option<OpenLeaf>,
    order: Order,
    /// Entries before this one are left out.
    from: Vec<u8>,
    next_index: u64,
}

/// A leaf or a node that was not reached yet.
#[derive(Debug)]
struct Place {
    child: Child,
    level: u8,
    state: State,
    /// Something was left out before it.
    jumped: bool,
}

#[derive(Debug)]
enum State {
    /// To be asked for.
    Needed,
    /// Asked for, under this index.
    Asked(u64),
    /// Given.
    Here(Bytes),
}

/// The leaf that entries come from.
#[derive(Debug)]
struct OpenLeaf {
    leaf: Leaf,
    said: Child,
    begun: bool,
}

impl TreeWalk {
    /// All entries from `from` on; from the first one where that is empty.
    pub fn new(root: &TreeRoot, from: &[u8]) -> Self {
        let reference = root.reference.duplicate();
        let child = Child { reference, entries: root.entries, first: Vec::new() };
        let root = Place { child, level: root.level, state: State::Needed, jumped: false };
        Self {
            ahead: VecDeque::from([root]),
            leaf: None,
            order: Order::default(),
            from: from.to_vec(),
            next_index: 0,
        }
    }

    /// All entries of leaves of one unfinished tree, in order; in which folders the first one of
    /// each lies is taken on trust.
    pub fn of_leaves(leaves: impl IntoIterator<Item = DoneLeaf>) -> Self {
        let place = |leaf: DoneLeaf| {
            let DoneLeaf { reference, entries, first, .. } = leaf;
            let child = Child { reference, entries, first };
            Place { child, level: 0, state: State::Needed, jumped: true }
        };
        let (order, from) = (Order::default(), Vec::new());
        let ahead = leaves.into_iter().map(place).collect();
        Self { ahead, leaf: None, order, from, next_index: 0 }
    }

    /// The next chunk to ask for, in the order of need; `None` where enough were.
    pub fn wanted(&mut self) -> Option<TreeChunk> {
        let mut near = self.ahead.iter_mut().take(AHEAD);
        let place = near.find(|place| matches!(place.state, State::Needed))?;
        let index = self.next_index;
        self.next_index += 1;
        place.state = State::Asked(index);
        Some(TreeChunk { index, reference: place.child.reference.duplicate() })
    }

    /// The plaintext of a chunk that was asked for. What was not, or was given up, is of no use.
    pub fn give(&mut self, index: u64, plaintext: Bytes) {
        if let Some(at) = self.position(index)
            && let Some(place) = self.ahead.get_mut(at)
        {
            place.state = State::Here(plaintext);
        }
    }

    /// A chunk that was asked for does not come: the walk goes on behind what lies below it.
    pub fn give_up(&mut self, index: u64) -> Option<Gap> {
        let place = self.leave_out(self.position(index)?)?;
        Some(Gap { first: place.child.first, entries: place.child.entries })
    }

    /// Leaves out what was not asked for yet and `known` picks by its id, as far as would be asked
    /// for now; says whether there was any. Call it before chunks are asked for.
    pub fn skip_known(&mut self, mut known: impl FnMut(&ChunkId) -> bool) -> bool {
        let before = self.ahead.len();
        let mut at = 0;
        while let Some(place) = self.ahead.get(at).filter(|_| at < AHEAD) {
            if matches!(place.state, State::Needed) && known(&place.child.reference.id) {
                self.leave_out(at);
            } else {
                at += 1;
            }
        }
        self.ahead.len() < before
    }

    /// Leaves out all entries before `from`, and the parts that hold no others.
    pub fn seek(&mut self, from: &[u8]) {
        if path::compare(&self.from, from) == Ordering::Less {
            self.from = from.to_vec();
        }
        let starts = |place: &Place| path::compare(&place.child.first, from) != Ordering::Greater;
        while self.ahead.get(1).is_some_and(starts) {
            self.leave_out(0);
        }
    }

    /// The next entry, or why there is none.
    ///
    /// # Errors
    /// [`TreeFault`], whatever the chunks say; the walk is then of no more use.
    pub fn step(&mut self) -> Result<Step, TreeFault> {
        loop {
            if let Some(entry) = self.next_of_leaf()? {
                if path::compare(&entry.path, &self.from) != Ordering::Less {
                    return Ok(Step::Entry(entry));
                }
                continue;
            }
            let Some(next) = self.ahead.front() else {
                return Ok(Step::End);
            };
            let State::Here(plaintext) = &next.state else {
                return Ok(Step::Wait);
            };
            let plaintext = plaintext.clone();
            let Some(place) = self.ahead.pop_front() else {
                return Ok(Step::End);
            };
            if place.level == 0 {
                self.open(place, plaintext)?;
            } else {
                self.descend(&place, plaintext)?;
            }
        }
    }

    /// The part that comes next, and its level; `None` in the midst of a leaf and at the end.
    fn front(&self) -> Option<(ChunkId, u8)> {
        let next = self.ahead.front().filter(|_| self.leaf.is_none())?;
        Some((next.child.reference.id, next.level))
    }

    /// Goes on behind a part: what comes then does not follow what comes before it.
    fn leave_out(&mut self, at: usize) -> Option<Place> {
        let place = self.ahead.remove(at)?;
        if let Some(next) = self.ahead.get_mut(at) {
            next.jumped = true;
        }
        Some(place)
    }

    /// Whether what is in front has come.
    fn is_here(&self) -> bool {
        matches!(self.ahead.front(), Some(Place { state: State::Here(_), .. }))
    }

    /// Puts the children of the node in front in its place, if it has come.
    fn take_apart(&mut self) -> Result<(), TreeFault> {
        let Some(Place { state: State::Here(plaintext), .. }) = self.ahead.front() else {
            return Ok(());
        };
        let plaintext = plaintext.clone();
        if let Some(place) = self.ahead.pop_front() {
            self.descend(&place, plaintext)?;
        }
        Ok(())
    }

    fn position(&self, index: u64) -> Option<usize> {
        let asked = |place: &Place| matches!(place.state, State::Asked(asked) if asked == index);
        self.ahead.iter().position(asked)
    }

    /// The next entry of the open leaf. At its end it must have been what was said of it.
    fn next_of_leaf(&mut self) -> Result<Option<Entry>, TreeFault> {
        let Some(OpenLeaf { leaf, said, begun }) = &mut self.leaf else {
            return Ok(None);
        };
        let Some(entry) = leaf.next(&mut self.order)? else {
            let totals = (said.entries, said.reference.bytes);
            ensure(leaf.totals() == totals, TreeFault::Child)?;
            self.leaf = None;
            return Ok(None);
        };
        let first = *begun || said.first.is_empty() || said.first == entry.path;
        ensure(first, TreeFault::Child)?;
        *begun = true;
        Ok(Some(entry))
    }

    /// Closes the open leaf where all its entries came.
    fn end_leaf(&mut self) -> Result<(), TreeFault> {
        if self.leaf.as_ref().is_some_and(|open| open.leaf.is_done()) {
            self.next_of_leaf()?;
        }
        Ok(())
    }

    fn open(&mut self, place: Place, plaintext: Bytes) -> Result<(), TreeFault> {
        let Place { child: said, jumped, .. } = place;
        if jumped {
            self.order.jump(path::parent(&said.first).unwrap_or_default());
        }
        self.leaf = Some(OpenLeaf { leaf: Leaf::decode(plaintext)?, said, begun: false });
        Ok(())
    }

    /// Puts the children of a node in its place, but those that end before `from`.
    fn descend(&mut self, place: &Place, plaintext: Bytes) -> Result<(), TreeFault> {
        let (above, mut jumped) = (&place.child, place.jumped);
        ensure(above.entries <= ENTRIES_MAX, TreeFault::TooLarge)?;
        let mut children = node::decode(plaintext, place.level, above)?;
        let starts = |child: &Child| path::compare(&child.first, &self.from) != Ordering::Greater;
        let before = children.iter().skip(1).take_while(|child| starts(child)).count();
        if before > 0 {
            children.drain(..before);
            jumped = true;
        }
        let level = place.level.saturating_sub(1);
        for child in children.into_iter().rev() {
            self.ahead.push_front(Place { child, level, state: State::Needed, jumped: false });
        }
        if let Some(first) = self.ahead.front_mut().filter(|_| jumped) {
            first.jumped = true;
        }
        Ok(())
    }
}
