//! What two trees differ in: their entries side by side, without what both have in common. Pure.
//!
//! Parts with equal ids are equal entries, so they are neither asked for nor read: comparing two
//! snapshots costs what changed between them. Memory: two walks and two entries.

#[cfg(test)]
mod tests;

use super::look::{Look, LookFault, Seen, tree_need};
use super::plan::{Lost, Need};
use super::tree::walk::{Fronts, Step, TreeWalk, skip_common, skip_equal};
use super::tree::{Content, Entry, FileBody, TreeRoot, What, path};
use bytes::Bytes;
use std::cmp::Ordering;

/// How a name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is only in the second tree.
    Added,
    /// It is only in the first tree.
    Removed,
    /// What is in it differs, or where it leads to; perhaps what is recorded of it, too.
    Content,
    /// Mode, owner, group, time of change or extended attributes differ, and nothing else.
    Metadata,
    /// It is something else now.
    Type,
}

/// One name that differs.
#[derive(Debug)]
pub struct Difference {
    /// How.
    pub change: Change,
    /// As it is in the first tree.
    pub before: Option<Entry>,
    /// As it is in the second tree.
    pub after: Option<Entry>,
}

impl Difference {
    /// The name.
    pub fn path(&self) -> &[u8] {
        let entry = self.after.as_ref().or(self.before.as_ref());
        entry.map_or(&[], |entry| entry.path.as_slice())
    }
}

/// Names, and the bytes of the files among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Regular files, one name of each.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, pipes, devices, sockets.
    pub others: u64,
    /// Of the files, holes included.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, entry: &Entry) {
        let of = match entry.what {
            What::File(_) => &mut self.files,
            What::Folder(_) => &mut self.folders,
            _ => &mut self.others,
        };
        *of += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes());
    }
}

/// All differences in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// What is only in the second tree.
    pub added: Tally,
    /// What is only in the first tree.
    pub removed: Tally,
    /// What has other content or another type, as it is in the first tree.
    pub before: Tally,
    /// The same as it is in the second tree.
    pub after: Tally,
    /// Names of which only what is recorded differs.
    pub metadata: u64,
    /// Names that are something else; counted in `before` and `after`, too.
    pub types: u64,
}

/// Compares two trees.
#[derive(Debug)]
pub struct Diff {
    before: Side,
    after: Side,
    totals: Totals,
    /// The first fault that a chunk brought.
    fault: Option<LookFault>,
}

impl Diff {
    /// From the first tree to the second; a snapshot of nothing has none.
    pub fn new(before: Option<&TreeRoot>, after: Option<&TreeRoot>) -> Self {
        let (before, after) = (Side::new(before), Side::new(after));
        Self { before, after, totals: Totals::default(), fault: None }
    }

    /// The differences until now.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn found(&mut self, change: Change, before: Option<Entry>, after: Option<Entry>) -> Difference {
        let totals = &mut self.totals;
        let of = |tally: &mut Tally, entry: &Option<Entry>| {
            entry.iter().for_each(|entry| tally.add(entry));
        };
        match change {
            Change::Added => of(&mut totals.added, &after),
            Change::Removed => of(&mut totals.removed, &before),
            Change::Metadata => totals.metadata += 1,
            Change::Content | Change::Type => {
                totals.types += u64::from(change == Change::Type);
                of(&mut totals.before, &before);
                of(&mut totals.after, &after);
            }
        }
        Difference { change, before, after }
    }
}

impl Look for Diff {
    type Found = Difference;
    type Fault = LookFault;

    fn step(&mut self) -> Result<Seen<Difference>, LookFault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        loop {
            let sides = (self.before.between_entries(), self.after.between_entries());
            if let (Some(left), Some(right)) = sides
                && skip_equal(left, right)? == Fronts::Wait
            {
                return Ok(Seen::Wait);
            }
            if !(self.before.fill()? && self.after.fill()?) {
                return Ok(Seen::Wait);
            }
            let order = match (&self.before.entry, &self.after.entry) {
                (None, None) => return Ok(Seen::End),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(left), Some(right)) => path::compare(&left.path, &right.path),
            };
            let before = if order.is_le() { self.before.entry.take() } else { None };
            let after = if order.is_ge() { self.after.entry.take() } else { None };
            let change = match (&before, &after) {
                (Some(left), Some(right)) => change(left, right),
                (Some(_), None) => Some(Change::Removed),
                _ => Some(Change::Added),
            };
            if let Some(change) = change {
                return Ok(Seen::Found(self.found(change, before, after)));
            }
        }
    }

    /// Chunks of the first tree have even numbers, those of the second odd ones.
    fn wanted(&mut self) -> Option<Need> {
        if let (Some(left), Some(right)) = (&mut self.before.walk, &mut self.after.walk) {
            skip_common(left, right);
        }
        let of = |side: &mut Side, odd: u64| {
            let need = tree_need(side.walk.as_mut()?.wanted()?);
            Some(Need { index: need.index.checked_mul(2)?.checked_add(odd)?, ..need })
        };
        of(&mut self.before, 0).or_else(|| of(&mut self.after, 1))
    }

    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) {
        let side = if index.is_multiple_of(2) { &mut self.before } else { &mut self.after };
        let Some(walk) = &mut side.walk else { return };
        match plaintext {
            Ok(plaintext) => walk.give(index / 2, plaintext),
            // What is lost in one tree would look as if the other one had more.
            Err(why) => {
                if let Some(gap) = walk.give_up(index / 2) {
                    self.fault.get_or_insert(LookFault::Lost { first: gap.first, why });
                }
            }
        }
    }
}

/// One of the trees.
#[derive(Debug)]
struct Side {
    /// `None` at its end.
    walk: Option<TreeWalk>,
    /// The next entry, where it came.
    entry: Option<Entry>,
}

impl Side {
    fn new(root: Option<&TreeRoot>) -> Self {
        Self { walk: root.map(|root| TreeWalk::new(root, b"")), entry: None }
    }

    /// The walk, where it is to give the next entry.
    fn between_entries(&mut self) -> Option<&mut TreeWalk> {
        self.walk.as_mut().filter(|_| self.entry.is_none())
    }

    /// Takes the next entry if there is none; false where a chunk has to come before.
    fn fill(&mut self) -> Result<bool, LookFault> {
        if self.entry.is_some() {
            return Ok(true);
        }
        let Some(walk) = &mut self.walk else { return Ok(true) };
        match walk.step()? {
            Step::Entry(entry) => self.entry = Some(entry),
            Step::Wait => return Ok(false),
            Step::End => self.walk = None,
        }
        Ok(true)
    }
}

/// How two entries of one name differ; `None` where they do not. Inode number and the time of its
/// last change say nothing about the file and do not count.
fn change(before: &Entry, after: &Entry) -> Option<Change> {
    let is_equal = match (&before.what, &after.what) {
        (What::File(left), What::File(right)) => {
            before.unreadable == after.unreadable && is_equal_data(left, right)
        }
        (What::Symlink(left), What::Symlink(right))
        | (What::HardLink(left), What::HardLink(right)) => left == right,
        (What::Device { number: left, block }, What::Device { number: right, block: other })
            if block == other =>
        {
            left == right
        }
        (What::Folder(_), What::Folder(_))
        | (What::Fifo, What::Fifo)
        | (What::Socket, What::Socket) => true,
        _ => return Some(Change::Type),
    };
    if !is_equal {
        return Some(Change::Content);
    }
    let recorded = |entry: &Entry| {
        let Entry { mode, uid, gid, mtime_ns, implied, unreadable, .. } = *entry;
        (mode, uid, gid, mtime_ns, implied, unreadable)
    };
    let differs = recorded(before) != recorded(after) || before.xattrs != after.xattrs;
    differs.then_some(Change::Metadata)
}

/// Whether two files have the same bytes and holes. Equal content has equal chunks within one
/// generation of keys, and small files are told by their hash, whichever packs they are in.
fn is_equal_data(left: &FileBody, right: &FileBody) -> bool {
    let is_equal_content = match (&left.content, &right.content) {
        (Content::None, Content::None) => true,
        (Content::Packed { hash, .. }, Content::Packed { hash: other, .. }) => hash == other,
        (Content::Piece(chunk), Content::Piece(other))
        | (Content::Listing(chunk), Content::Listing(other)) => chunk.id == other.id,
        _ => false,
    };
    is_equal_content && left.bytes == right.bytes && left.extents == right.extents
}
