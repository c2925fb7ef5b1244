//! Which chunks are needed: all that live snapshots name, directly or through trees and listings.
//! What is not among them may be released, so nothing here ever errs on that side. Pure.
//!
//! Each tree and each listing is read once, however many snapshots share it. A single one that
//! cannot be read ends the work, and then there is no set: [`Mark::live`] gives one only when all
//! was read. Packs and pieces are named and not read.
//!
//! The same reading serves whoever has to know the keys of what snapshots name: see [`Reached`] and
//! [`prunes`](super::prunes).
//!
//! Memory: 8 bytes for each chunk (1 million are 8 MiB), 16 more for each tree chunk and listing,
//! what is open, and a sixteenth more of all while the set grows.

mod packed;
#[cfg(test)]
mod tests;

use super::frame::Kind;
use super::listing::{Listing, ListingError};
use super::look::{Look, Seen};
use super::names::Inert;
use super::plan::{Lost, Need};
use super::reference::ChunkRef;
use super::snapshot::{Snapshot, SnapshotFault};
use super::tree::walk::{Step, TreeWalk};
use super::tree::{Content, Entry, TreeFault, What};
use crate::core::types::{ChunkId, SnapshotId};
use bytes::Bytes;
use packed::Packed;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Chunks that are asked for at once.
const ASKED_MAX: usize = 16;

/// Chunks that must stay.
#[derive(Debug, Default)]
pub struct LiveChunks {
    /// The first 8 bytes of ids. Two that begin alike only keep more.
    prefixes: Packed<u64>,
}

impl LiveChunks {
    /// Whether this chunk must stay. False is certain; true may be another's, once in 2^64 for each
    /// chunk there is.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.prefixes.contains(prefix(id))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.prefixes.count()
    }

    fn add(&mut self, id: &ChunkId) {
        self.prefixes.insert(prefix(id));
    }
}

/// Of what a chunk is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Of this snapshot, or of its tree; what follows is so, too, until another one is told.
    Snapshot(&'a SnapshotId),
    /// Of the file with this path, in the snapshot that was told last.
    File(&'a [u8]),
    /// Of a file that no snapshot need name.
    Put(&'a [u8]),
    /// Of what lists the snapshots.
    Manifest,
}

/// Who is told of all that snapshots name.
pub trait Reached {
    /// Of what the chunks are a part that are told next. Told before each of them; what several
    /// snapshots share is told of the first alone.
    fn within(&mut self, _: Part<'_>) {}

    /// This chunk is named.
    fn reach(&mut self, reference: &ChunkRef);

    /// The same of one that leads to no other: the bytes of its reference are its own.
    fn reach_leaf(&mut self, reference: &ChunkRef) {
        self.reach(reference);
    }

    /// Whether a tree chunk or a listing, and all below it, need be neither told of nor read.
    fn is_known(&self, id: &ChunkId) -> bool;
}

impl Reached for LiveChunks {
    fn reach(&mut self, reference: &ChunkRef) {
        self.add(&reference.id);
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// A file of a snapshot that `is_named`, or one of none.
fn part(is_named: bool, path: &[u8]) -> Part<'_> {
    if is_named { Part::File(path) } else { Part::Put(path) }
}

fn prefix(id: &ChunkId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What was read already is told by 16 bytes: for two ids that begin alike one would not be read,
/// and what it names would go. Nobody finds such two, by chance or by work: ids are hashes over
/// keys.
fn long_prefix(id: &ChunkId) -> u128 {
    let (long, _) = id.as_bytes().split_at(16);
    long.iter().fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

/// Why it is not known what is needed. Nothing may be released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}{} cannot be read: {why}", of(snapshot.as_ref()))]
pub struct MarkFault {
    /// Of which snapshot; `None` of a file that none names.
    pub snapshot: Option<SnapshotId>,
    /// Of what in it.
    pub part: MarkPart,
    /// Why.
    pub why: MarkCause,
}

fn of(snapshot: Option<&SnapshotId>) -> String {
    snapshot.map(|id| format!(" of snapshot {id}")).unwrap_or_default()
}

/// What of a snapshot cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkPart {
    /// The snapshot's own chunk.
    Record,
    /// Its tree, from this path on; all of it where that is empty.
    Tree(Vec<u8>),
    /// The listing of the file with this path.
    File(Vec<u8>),
}

impl fmt::Display for MarkPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record => f.write_str("the record"),
            Self::Tree(first) if first.is_empty() => f.write_str("the tree"),
            Self::Tree(first) => write!(f, "the tree from {} on", Inert(first)),
            Self::File(path) => write!(f, "the list of chunks of {}", Inert(path)),
        }
    }
}

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkCause {
    /// The chunk does not come, or is damaged.
    #[error("{0}")]
    Lost(Lost),
    /// See [`SnapshotFault`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotFault),
    /// It is another snapshot.
    #[error("it is snapshot {0}")]
    Other(SnapshotId),
    /// See [`TreeFault`].
    #[error(transparent)]
    Tree(#[from] TreeFault),
    /// See [`ListingError`].
    #[error(transparent)]
    Listing(#[from] ListingError),
}

/// Finds what is needed. Add all live snapshots of all devices, and whatever else must stay; with
/// nothing added nothing is needed.
#[derive(Debug, Default)]
pub struct Mark<T = LiveChunks> {
    reached: T,
    /// Tree chunks and listings that were asked for: what they name is, or will be, in the set.
    read: Packed<u128>,
    starts: VecDeque<Start>,
    current: Option<Current>,
    /// To be asked for.
    needs: VecDeque<(Kind, ChunkRef, Asked)>,
    asked: BTreeMap<u64, Asked>,
    next_index: u64,
    fault: Option<MarkFault>,
}

/// What is read as a whole.
#[derive(Debug)]
enum Start {
    /// A snapshot.
    Snapshot(SnapshotId, ChunkRef),
    /// A file that no snapshot need name: its path, and its listing.
    File(Arc<[u8]>, ChunkRef),
}

/// The snapshot, or the file, that is being read.
#[derive(Debug)]
struct Current {
    id: Option<SnapshotId>,
    /// What is left of its tree.
    walk: Option<TreeWalk>,
    /// Listings that came, and of which files.
    open: Vec<(Arc<[u8]>, Listing)>,
}

/// What a chunk was asked for as.
#[derive(Debug)]
enum Asked {
    Record,
    /// Under the walk's own number.
    Tree(u64),
    /// `above` is the level of what names it, `None` for a file's root.
    Listing {
        path: Arc<[u8]>,
        above: Option<u8>,
        bytes: u64,
    },
}

impl Mark {
    /// Nothing is needed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// This chunk must stay, whatever it is; what it names is not looked at.
    pub fn add_chunk(&mut self, id: &ChunkId) {
        self.reached.add(id);
    }

    /// All that must stay; `None` until all of it is known, and for ever after a fault.
    pub fn live(&self) -> Option<&LiveChunks> {
        self.is_done().then_some(&self.reached)
    }
}

impl<T: Reached> Mark<T> {
    /// Tells `reached` of what comes.
    pub fn over(reached: T) -> Self {
        Self {
            reached,
            read: Packed::default(),
            starts: VecDeque::new(),
            current: None,
            needs: VecDeque::new(),
            asked: BTreeMap::new(),
            next_index: 0,
            fault: None,
        }
    }

    /// This snapshot, its chunk and all that it names must stay. Any number may be added, also
    /// after the end of those before.
    pub fn add_snapshot(&mut self, id: SnapshotId, reference: &ChunkRef) {
        self.starts.push_back(Start::Snapshot(id, reference.duplicate()));
    }

    /// The file with this listing, and all its pieces, must stay; `path` is for whoever is told
    /// that it cannot be read.
    pub fn add_file(&mut self, path: &[u8], root: &ChunkRef) {
        self.starts.push_back(Start::File(path.into(), root.duplicate()));
    }

    /// What was told until now.
    pub fn into_reached(self) -> T {
        self.reached
    }

    fn is_done(&self) -> bool {
        self.current.is_none() && self.starts.is_empty() && self.fault.is_none()
    }

    fn fail(&mut self, part: MarkPart, why: impl Into<MarkCause>) {
        if let Some(Current { id: snapshot, .. }) = self.current {
            let fault = MarkFault { snapshot, part, why: why.into() };
            self.fault.get_or_insert(fault);
        }
    }

    fn need(&mut self, kind: Kind, reference: ChunkRef, asked: Asked) {
        self.needs.push_back((kind, reference, asked));
    }

    /// Goes on with the next snapshot or file; false where there is none.
    fn begin(&mut self) -> bool {
        let Some(start) = self.starts.pop_front() else { return false };
        let begun = |id| Some(Current { id, walk: None, open: Vec::new() });
        match start {
            Start::Snapshot(id, reference) => {
                self.current = begun(Some(id));
                self.reached.within(Part::Snapshot(&id));
                self.reached.reach(&reference);
                self.need(Kind::Snapshot, reference, Asked::Record);
            }
            Start::File(path, root) => {
                self.current = begun(None);
                self.list(path, root, None);
            }
        }
        true
    }

    /// Takes the next chunk of a listing, or the next entry. False where a chunk has to come
    /// before.
    fn advance(&mut self) -> bool {
        let Some(current) = &mut self.current else { return true };
        if let Some((path, listing)) = current.open.last_mut() {
            let (path, level) = (Arc::clone(path), listing.level());
            match listing.next() {
                Some(chunk) if level > 0 => self.list(path, chunk, Some(level)),
                Some(piece) => {
                    self.reached.within(part(current.id.is_some(), &path));
                    self.reached.reach_leaf(&piece);
                }
                None => drop(current.open.pop()),
            }
            return true;
        }
        let Some(walk) = &mut current.walk else { return false };
        match walk.step() {
            Ok(Step::Entry(entry)) => self.take(entry),
            Ok(Step::End) => current.walk = None,
            Ok(Step::Wait) => {
                let (read, reached) = (&self.read, &self.reached);
                if walk.skip_known(|id| read.contains(long_prefix(id)) || reached.is_known(id)) {
                    return true;
                }
                let Some(chunk) = walk.wanted() else { return false };
                if let Some(id) = &current.id {
                    self.reached.within(Part::Snapshot(id));
                }
                self.reached.reach(&chunk.reference);
                self.read.insert(long_prefix(&chunk.reference.id));
                self.need(Kind::Tree, chunk.reference, Asked::Tree(chunk.index));
            }
            Err(fault) => self.fail(MarkPart::Tree(Vec::new()), fault),
        }
        true
    }

    /// An entry came: what it names must stay.
    fn take(&mut self, entry: Entry) {
        let What::File(body) = entry.what else { return };
        match body.content {
            Content::None => {}
            Content::Packed { pack: chunk, .. } | Content::Piece(chunk) => {
                self.reached.within(Part::File(&entry.path));
                self.reached.reach_leaf(&chunk);
            }
            Content::Listing(root) => self.list(entry.path.into(), root, None),
        }
    }

    /// A listing must stay, and what it names, unless that is known.
    fn list(&mut self, path: Arc<[u8]>, reference: ChunkRef, above: Option<u8>) {
        if self.reached.is_known(&reference.id) {
            return;
        }
        let is_named = self.current.as_ref().is_some_and(|current| current.id.is_some());
        self.reached.within(part(is_named, &path));
        self.reached.reach(&reference);
        if self.read.insert(long_prefix(&reference.id)) {
            let bytes = reference.bytes;
            self.need(Kind::Listing, reference, Asked::Listing { path, above, bytes });
        }
    }

    /// The snapshot's own chunk came.
    fn open_record(&mut self, plaintext: &Bytes) {
        let Some(current) = &mut self.current else { return };
        let id = Snapshot::id(plaintext);
        let why = match Snapshot::decode(plaintext) {
            Ok(_) if Some(id) != current.id => MarkCause::Other(id),
            Ok(snapshot) => {
                current.walk = snapshot.tree.map(|root| TreeWalk::new(&root, b""));
                return;
            }
            Err(fault) => fault.into(),
        };
        self.fail(MarkPart::Record, why);
    }

    /// A listing came.
    fn open_listing(&mut self, path: Arc<[u8]>, above: Option<u8>, bytes: u64, plaintext: Bytes) {
        let listing = match above {
            Some(above) => Listing::below(plaintext, above, bytes),
            None => Listing::root(plaintext).and_then(|listing| match listing.total() {
                total if total == bytes => Ok(listing),
                total => Err(ListingError::Total(total)),
            }),
        };
        match (listing, &mut self.current) {
            (Ok(listing), Some(current)) => current.open.push((path, listing)),
            (Err(fault), _) => self.fail(MarkPart::File(path.to_vec()), fault),
            (Ok(_), None) => {}
        }
    }

    /// A chunk does not come.
    fn lose(&mut self, asked: Asked, why: Lost) {
        let part = match asked {
            Asked::Record => MarkPart::Record,
            Asked::Listing { path, .. } => MarkPart::File(path.to_vec()),
            Asked::Tree(index) => {
                let walk = self.current.as_mut().and_then(|current| current.walk.as_mut());
                let gap = walk.and_then(|walk| walk.give_up(index));
                MarkPart::Tree(gap.map(|gap| gap.first).unwrap_or_default())
            }
        };
        self.fail(part, MarkCause::Lost(why));
    }
}

impl<T: Reached> Look for Mark<T> {
    /// A snapshot of which all is known.
    type Found = SnapshotId;
    type Fault = MarkFault;

    fn step(&mut self) -> Result<Seen<SnapshotId>, MarkFault> {
        loop {
            if let Some(fault) = &self.fault {
                return Err(fault.clone());
            }
            if self.current.is_none() && !self.begin() {
                return Ok(Seen::End);
            }
            if self.needs.len() + self.asked.len() >= ASKED_MAX {
                return Ok(Seen::Wait);
            }
            if self.advance() {
                continue;
            }
            // There is nothing more to take: of the snapshot, or before something comes.
            if !self.needs.is_empty() || !self.asked.is_empty() {
                return Ok(Seen::Wait);
            }
            if let Some(Current { id: Some(id), .. }) = self.current.take() {
                return Ok(Seen::Found(id));
            }
        }
    }

    fn wanted(&mut self) -> Option<Need> {
        let (kind, reference, asked) = self.needs.pop_front()?;
        let index = self.next_index;
        self.next_index += 1;
        self.asked.insert(index, asked);
        Some(Need { index, kind, reference })
    }

    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>) {
        let Some(asked) = self.asked.remove(&index) else { return };
        match (asked, plaintext) {
            (asked, Err(why)) => self.lose(asked, why),
            (Asked::Record, Ok(plaintext)) => self.open_record(&plaintext),
            (Asked::Listing { path, above, bytes }, Ok(plaintext)) => {
                self.open_listing(path, above, bytes, plaintext);
            }
            (Asked::Tree(index), Ok(plaintext)) => {
                if let Some(walk) = self.current.as_mut().and_then(|it| it.walk.as_mut()) {
                    walk.give(index, plaintext);
                }
            }
        }
    }
}
