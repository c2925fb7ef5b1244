//! Chunks of the tree and of its files, from one source; and the tree's entries, as a restore wants
//! them.

use super::RestoreError;
use super::report::RestoreReport;
use crate::core::types::ChunkId;
use crate::repo::frame::Kind;
use crate::repo::get::{ChunkSource, FetchError, Wanted};
use crate::repo::open::open_chunk;
use crate::repo::plan::{Lost, Need};
use crate::repo::reference::ChunkRef;
use crate::repo::tree::walk::{Step, TreeChunk, TreeWalk};
use crate::repo::tree::{Entry, TreeRoot, What, path};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// So much of the tree is kept between the passes over it.
const CACHE_BYTES: usize = 16 << 20;

/// A chunk that came: its index, its plaintext.
pub(super) type Came = (u64, Result<Bytes, Lost>);

/// Asks the source, and opens what comes.
pub(super) struct Fetcher<'a, S> {
    source: &'a mut S,
    asked: BTreeMap<u64, (ChunkRef, Kind, u64)>,
    next_index: u64,
    /// What came before it was waited for.
    early: VecDeque<(Kind, Came)>,
    /// Chunks that came.
    pub(super) chunks: u64,
    cache: BTreeMap<ChunkId, Bytes>,
    cached: usize,
}

impl<'a, S: ChunkSource> Fetcher<'a, S> {
    pub(super) fn new(source: &'a mut S) -> Self {
        let (asked, cache) = (BTreeMap::new(), BTreeMap::new());
        let early = VecDeque::new();
        Self { source, asked, next_index: 0, early, chunks: 0, cache, cached: 0 }
    }

    /// Asks for a chunk.
    pub(super) fn ask(&mut self, need: Need) {
        let Need { index: theirs, kind, reference } = need;
        let index = self.next_index;
        self.next_index += 1;
        let (id, locality, read) = (reference.id, reference.locality, reference.ck.read_secret());
        self.asked.insert(index, (reference, kind, theirs));
        self.source.request(Wanted { index, id, locality, read });
    }

    /// The next plaintext that comes, of the tree or of the files, under its own index.
    ///
    /// # Errors
    /// [`RestoreError::Closed`].
    pub(super) fn next(&mut self, of_tree: bool) -> Result<Came, RestoreError> {
        // The walk asks ahead, so its chunks may come while those of files are waited for.
        let early = self.early.iter().position(|(kind, _)| (*kind == Kind::Tree) == of_tree);
        if let Some((_, came)) = early.and_then(|at| self.early.remove(at)) {
            return Ok(came);
        }
        loop {
            let (index, came) = match self.source.next() {
                Ok(fetched) => (fetched.index, Ok(fetched)),
                Err(FetchError::Unavailable { index, why }) => (index, Err(Lost::Unavailable(why))),
                Err(FetchError::Spoiled { index, why }) => (index, Err(Lost::Spoiled(why))),
                Err(FetchError::Closed) => return Err(RestoreError::Closed),
            };
            // What nobody asked for, or twice, is of no use.
            let Some((ChunkRef { ck, id, .. }, kind, theirs)) = self.asked.remove(&index) else {
                continue;
            };
            let plaintext = came.and_then(|fetched| {
                self.chunks += 1;
                let opened = open_chunk(&ck, &id, &fetched.header, &fetched.sealed, kind);
                opened.map_err(Lost::Damaged)
            });
            if let (Kind::Tree, Ok(plaintext)) = (kind, &plaintext) {
                self.keep(id, plaintext);
            }
            if (kind == Kind::Tree) == of_tree {
                return Ok((theirs, plaintext));
            }
            self.early.push_back((kind, (theirs, plaintext)));
        }
    }

    /// A new walk begins: what the last one asked for is of no use to it.
    fn forget_tree(&mut self) {
        self.asked.retain(|_, (_, kind, _)| *kind != Kind::Tree);
        self.early.retain(|(kind, _)| *kind != Kind::Tree);
    }

    fn waits_for_tree(&self) -> bool {
        let asked = self.asked.values().map(|(_, kind, _)| kind);
        asked.chain(self.early.iter().map(|(kind, _)| kind)).any(|kind| *kind == Kind::Tree)
    }

    fn keep(&mut self, id: ChunkId, plaintext: &Bytes) {
        if self.cached.saturating_add(plaintext.len()) <= CACHE_BYTES
            && self.cache.insert(id, plaintext.clone()).is_none()
        {
            self.cached += plaintext.len();
        }
    }
}

/// The entries of what is restored, in order, as often as it takes. Paths are those in the target.
pub(super) trait Entries {
    /// From the first one again.
    fn restart<S: ChunkSource>(&mut self, fetcher: &mut Fetcher<'_, S>);

    /// Whether there was anything at all of what is wanted.
    fn found(&self) -> bool;

    /// The next one; what does not come is said in the report.
    ///
    /// # Errors
    /// [`RestoreError`].
    fn next<S: ChunkSource>(
        &mut self,
        fetcher: &mut Fetcher<'_, S>,
        report: &mut RestoreReport,
    ) -> Result<Option<Entry>, RestoreError>;
}

/// The entries of a tree.
pub(super) struct TreeEntries<'a> {
    root: &'a TreeRoot,
    /// Only what is this or lies in it; all where it is empty.
    below: &'a [u8],
    walk: TreeWalk,
    found: bool,
}

impl<'a> TreeEntries<'a> {
    pub(super) fn new(root: &'a TreeRoot, below: &'a [u8]) -> Self {
        Self { root, below, walk: TreeWalk::new(root, below), found: false }
    }

    fn wants(&self, path: &[u8]) -> bool {
        self.below.is_empty() || path::is_within(path, self.below)
    }

    /// The entry with its path in the target; `None` where it is the target.
    fn moved(&self, mut entry: Entry) -> Option<Entry> {
        if self.below.is_empty() {
            return Some(entry);
        }
        let cut = if entry.path != self.below {
            self.below.len() + 1
        } else if matches!(entry.what, What::Folder(_)) {
            return None;
        } else {
            path::parent(self.below).map_or(0, |above| above.len() + 1)
        };
        entry.path = entry.path.get(cut..).unwrap_or_default().to_vec();
        if let What::HardLink(first) = &mut entry.what {
            // No file of this restore where the first name lies elsewhere.
            let within = path::is_within(first, self.below) && first != self.below;
            *first = if within { first.split_off(cut.min(first.len())) } else { Vec::new() };
        }
        Some(entry)
    }
}

impl Entries for TreeEntries<'_> {
    fn restart<S: ChunkSource>(&mut self, fetcher: &mut Fetcher<'_, S>) {
        fetcher.forget_tree();
        self.walk = TreeWalk::new(self.root, self.below);
    }

    fn found(&self) -> bool {
        self.found
    }

    fn next<S: ChunkSource>(
        &mut self,
        fetcher: &mut Fetcher<'_, S>,
        report: &mut RestoreReport,
    ) -> Result<Option<Entry>, RestoreError> {
        loop {
            while let Some(TreeChunk { index, reference }) = self.walk.wanted() {
                match fetcher.cache.get(&reference.id) {
                    Some(plaintext) => self.walk.give(index, plaintext.clone()),
                    None => fetcher.ask(Need { index, kind: Kind::Tree, reference }),
                }
            }
            match self.walk.step().map_err(RestoreError::Tree)? {
                Step::End => return Ok(None),
                Step::Entry(entry) if !self.wants(&entry.path) => return Ok(None),
                Step::Entry(entry) => {
                    self.found = true;
                    if let Some(entry) = self.moved(entry) {
                        return Ok(Some(entry));
                    }
                }
                Step::Wait if !fetcher.waits_for_tree() => {}
                Step::Wait => match fetcher.next(true)? {
                    (index, Ok(plaintext)) => self.walk.give(index, plaintext),
                    (index, Err(why)) => report.lose(self.walk.give_up(index), why),
                },
            }
        }
    }
}
