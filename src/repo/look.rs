//! What all work has in common that reads trees and needs nothing but chunks: it says which ones,
//! is given them, and never blocks. So the same work runs over a mesh, a cache and a map. Pure.

#[cfg(test)]
pub(super) mod tests;

use super::frame::Kind;
use super::get::{ChunkSource, FetchError, Wanted};
use super::open::open_chunk;
use super::plan::{Lost, Need};
use super::reference::ChunkRef;
use super::tree::TreeFault;
use super::tree::walk::{Gap, TreeChunk};
use bytes::Bytes;
use std::collections::BTreeMap;

/// So many gaps are listed.
pub const GAPS_MAX: usize = 1_000;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// This.
    Found(T),
    /// Nothing before a chunk comes, which was asked for or is to be.
    Wait,
    /// There is no more.
    End,
}

/// Work that needs chunks.
pub trait Look {
    /// What it finds, one after the other.
    type Found;
    /// Why it cannot go on.
    type Fault;

    /// Goes on as far as it can.
    ///
    /// # Errors
    /// Whatever ends the work, which then is of no more use.
    fn step(&mut self) -> Result<Seen<Self::Found>, Self::Fault>;

    /// The next chunk to ask for; `None` where enough were. To be asked after each
    /// [`Seen::Wait`].
    fn wanted(&mut self) -> Option<Need>;

    /// The plaintext of a chunk that was asked for, or why there is none. What was not asked for is
    /// of no use.
    fn give(&mut self, index: u64, plaintext: Result<Bytes, Lost>);
}

/// Why a tree was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookFault {
    /// A chunk of it is not what a tree is made of.
    #[error(transparent)]
    Tree(#[from] TreeFault),
    /// A chunk of it does not come.
    #[error("a part of the tree cannot be read: {why}")]
    Lost {
        /// The first path in it; empty where all of the tree is lost.
        first: Vec<u8>,
        /// Why.
        why: Lost,
    },
    /// There is no such path in the tree.
    #[error("there is no such path in the snapshot")]
    NoSuchPath,
}

/// What of a tree could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Where: at most [`GAPS_MAX`] of them.
    pub listed: Vec<Gap>,
    /// How many entries are lost, of those that are not listed, too.
    pub entries: u64,
}

impl Gaps {
    pub(super) fn add(&mut self, gap: Option<Gap>) {
        let lost = gap.as_ref().map_or(0, |gap| gap.entries);
        self.entries = self.entries.saturating_add(lost);
        self.listed.extend(gap.filter(|_| self.listed.len() < GAPS_MAX));
    }

    /// Whether all could be read.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

/// Why work over a source ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<F> {
    /// The work's own reason.
    #[error(transparent)]
    Fault(F),
    /// Nothing comes any more.
    #[error("nothing comes any more")]
    Closed,
}

/// Asks a source for what work needs, and opens what comes.
#[derive(Debug)]
pub struct Reader<'a, S> {
    source: &'a mut S,
    /// Under our own number: the work's number, what the plaintext must be, and the chunk.
    asked: BTreeMap<u64, (u64, Kind, ChunkRef)>,
    /// Chunks that were asked for.
    chunks: u64,
}

impl<'a, S: ChunkSource> Reader<'a, S> {
    /// Over a source that nothing was asked of yet.
    pub fn new(source: &'a mut S) -> Self {
        Self { source, asked: BTreeMap::new(), chunks: 0 }
    }

    /// How many chunks were asked for.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Other work comes next: what was asked for until now is of no use to it.
    pub fn forget(&mut self) {
        self.asked.clear();
    }

    /// What the work finds next; `None` at its end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next<L: Look>(&mut self, work: &mut L) -> Result<Option<L::Found>, ReadError<L::Fault>> {
        loop {
            match work.step().map_err(ReadError::Fault)? {
                Seen::Found(found) => return Ok(Some(found)),
                Seen::End => return Ok(None),
                Seen::Wait => {}
            }
            while let Some(need) = work.wanted() {
                self.ask(need);
            }
            // Work that waits has asked; where it has not, nothing will ever come.
            if self.asked.is_empty() {
                return Err(ReadError::Closed);
            }
            self.take(work)?;
        }
    }

    fn ask(&mut self, need: Need) {
        let Need { index: theirs, kind, reference } = need;
        let (id, locality, read) = (reference.id, reference.locality, reference.ck.read_secret());
        let index = self.chunks;
        self.chunks += 1;
        self.asked.insert(index, (theirs, kind, reference));
        self.source.request(Wanted { index, id, locality, read });
    }

    /// Waits for one chunk.
    fn take<L: Look>(&mut self, work: &mut L) -> Result<(), ReadError<L::Fault>> {
        let (index, came) = match self.source.next() {
            Ok(fetched) => (fetched.index, Ok(fetched)),
            Err(FetchError::Unavailable { index, why }) => (index, Err(Lost::Unavailable(why))),
            Err(FetchError::Spoiled { index, why }) => (index, Err(Lost::Spoiled(why))),
            Err(FetchError::Closed) => return Err(ReadError::Closed),
        };
        // What nobody asked for, or twice, is of no use.
        if let Some((theirs, kind, ChunkRef { ck, id, .. })) = self.asked.remove(&index) {
            let opened = came.and_then(|fetched| {
                let opened = open_chunk(&ck, &id, &fetched.header, &fetched.sealed, kind);
                opened.map_err(Lost::Damaged)
            });
            work.give(theirs, opened);
        }
        Ok(())
    }
}

/// A chunk of a tree as something that is needed.
pub(super) fn tree_need(chunk: TreeChunk) -> Need {
    Need { index: chunk.index, kind: Kind::Tree, reference: chunk.reference }
}
