//! Getting a file: a capability in, its bytes out. Pure, but for the module
//! [`file`](mod@file), which writes the disk.
//!
//! The listings are walked lazily, one open listing a level, so memory does not grow with the file:
//! at most 2.4 MB of listings and [`GetLimits`] of chunks. Chunks come in any order and are written
//! at their offsets.
//!
//! What is checked of each chunk stands in [`open`](super::open); here its length is, against what
//! the listing said.

#[cfg(feature = "node")]
pub mod file;
#[cfg(feature = "node")]
mod part;
#[cfg(test)]
mod tests;

use super::frame::{Kind, PLAINTEXT_BYTES_MAX};
use super::listing::Listing;
use super::open::{Damage, open_chunk};
use super::reference::ChunkRef;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::capability::Capability;
use crate::crypto::header::Header;
use crate::crypto::keys::{ChunkKey, ChunkSecret};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// One chunk that is needed now.
#[derive(Debug)]
pub struct Wanted {
    /// Comes back in the answer; unique within one get.
    pub index: u64,
    /// The chunk.
    pub id: ChunkId,
    /// Where its topics are.
    pub locality: Locality,
    /// y: the right to fetch it.
    pub read: ChunkSecret,
}

/// One chunk that came.
#[derive(Debug)]
pub struct Fetched {
    /// Of the [`Wanted`].
    pub index: u64,
    /// What the id certifies.
    pub header: Header,
    /// The sealed bytes; the source has checked them against the id.
    pub sealed: Bytes,
}

/// Why a chunk did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// Nobody reachable served this chunk.
    Unavailable {
        /// Of the [`Wanted`].
        index: u64,
        /// In words for the user: who was asked, what they said.
        why: String,
    },
    /// Those who have to have this chunk were there, and theirs is damaged or gone.
    Spoiled {
        /// Of the [`Wanted`].
        index: u64,
        /// In words for the user: who was asked, what they said.
        why: String,
    },
    /// Nothing comes any more.
    Closed,
}

/// Where chunks come from: in the node the owner role.
pub trait ChunkSource {
    /// Asks for one chunk; never blocks. At most [`GetLimits`] are asked for and not answered.
    fn request(&mut self, wanted: Wanted);

    /// The next answer to any request, in any order; blocks until there is one.
    ///
    /// # Errors
    /// [`FetchError`]; the get then ends.
    fn next(&mut self) -> Result<Fetched, FetchError>;
}

/// Where the file's bytes go.
pub trait Output {
    /// The file is known now: its root and its length. Called once, before all else.
    ///
    /// # Errors
    /// [`OutputError`]; the get then ends.
    fn begin(&mut self, root: &ChunkId, total: u64) -> Result<(), OutputError>;

    /// Whether all of `range` is there from an earlier run.
    fn holds(&self, range: &Range<u64>) -> bool;

    /// Writes verified bytes at `offset`.
    ///
    /// # Errors
    /// [`OutputError`]; the get then ends.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), OutputError>;
}

/// Why the output does not take the file.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is something of that name, and replacing it was not asked for.
    #[error("{} exists", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// There is a folder of that name, which is never replaced.
    #[error("{} is a folder", path.display())]
    IsFolder {
        /// Which.
        path: PathBuf,
    },
    /// There is a device, a pipe, a socket, or a link to anything but a regular file: never
    /// replaced.
    #[error("{} is no regular file, and no link to one", path.display())]
    Special {
        /// Which.
        path: PathBuf,
    },
    /// Another get writes it.
    #[error("another get writes {}", path.display())]
    Busy {
        /// Its partial file.
        path: PathBuf,
    },
    /// The partial file is a link, belongs to somebody else or is no file.
    #[error("{} is not a partial file of ours", path.display())]
    NotOurs {
        /// Which file.
        path: PathBuf,
    },
    /// The disk has no room for the file and a reserve besides.
    #[error("{} needs {needed} bytes, the disk can give {available}", path.display())]
    Space {
        /// Which file.
        path: PathBuf,
        /// Bytes that the rest of the file needs.
        needed: u64,
        /// Bytes that are free, less the reserve.
        available: u64,
    },
    /// The system says no.
    #[error("cannot write {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// How much is asked for at once.
#[derive(Debug, Clone, Copy)]
pub struct GetLimits {
    /// Chunks that were asked for and have not come.
    pub chunks: usize,
    /// Their plaintext bytes.
    pub bytes: u64,
}

impl Default for GetLimits {
    /// 32 chunks, 48 MiB.
    fn default() -> Self {
        Self { chunks: 32, bytes: 48 << 20 }
    }
}

/// How far a get has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GetProgress {
    /// Bytes of the file that are written, those of an earlier run included.
    pub bytes: u64,
    /// Bytes of the file in all.
    pub total: u64,
    /// Chunks that came in this run, listings included.
    pub chunks: u64,
    /// Bytes that an earlier run had written.
    pub resumed_bytes: u64,
}

/// Which part of the file a chunk stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The root, without which nothing of the file is known.
    Root,
    /// A listing of these bytes of the file.
    Listing(Range<u64>),
    /// These bytes of the file.
    Piece(Range<u64>),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the root"),
            Self::Listing(range) => write!(f, "the list of bytes {}..{}", range.start, range.end),
            Self::Piece(range) => write!(f, "bytes {}..{}", range.start, range.end),
        }
    }
}

/// Why the file is not complete.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// A chunk is not what the listing says.
    #[error("{part} of the file: {damage} (chunk {id})")]
    Damaged {
        /// Which part of the file.
        part: Part,
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Nobody served a chunk.
    #[error("{part} of the file cannot be fetched: {why} (chunk {id})")]
    Unavailable {
        /// Which part of the file.
        part: Part,
        /// The chunk.
        id: ChunkId,
        /// In words: who was asked, what they said.
        why: String,
    },
    /// See [`OutputError`].
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The source gives nothing any more.
    #[error("the get was stopped: no chunks come any more")]
    Closed,
    /// It was cancelled.
    #[error("the get was cancelled")]
    Cancelled,
}

/// Fetches and writes everything below `capability` that `output` does not hold already. Runs on
/// the caller's thread, and blocks.
///
/// # Errors
/// [`GetError`]: the first fault ends it. What was written is right, and stays.
pub fn get_chunks(
    capability: &Capability,
    source: &mut impl ChunkSource,
    output: &mut impl Output,
    limits: GetLimits,
    cancel: &AtomicBool,
    mut progress: impl FnMut(GetProgress),
) -> Result<GetProgress, GetError> {
    let mut window = Window::new(source, limits);
    window.request_root(capability);
    let (asked, plaintext) = window.next()?;
    let root = Listing::root(plaintext).map_err(|error| asked.damaged(error.into()))?;
    let mut done = GetProgress { chunks: 1, total: root.total(), ..GetProgress::default() };
    output.begin(&capability.id, done.total)?;
    let mut walk = Walk::new(root);
    loop {
        while window.has_room() {
            let Some(step) = walk.next() else {
                break;
            };
            if output.holds(&step.range) {
                done.bytes += step.entry.bytes;
                done.resumed_bytes += step.entry.bytes;
            } else {
                window.request(step);
            }
        }
        progress(done);
        if window.pending.is_empty() {
            return Ok(done);
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(GetError::Cancelled);
        }
        let (asked, plaintext) = window.next()?;
        done.chunks += 1;
        if let Part::Piece(range) = &asked.part {
            output.write(range.start, &plaintext)?;
            done.bytes += asked.bytes;
        } else {
            let listing = Listing::below(plaintext, asked.level, asked.bytes);
            walk.enter(listing.map_err(|error| asked.damaged(error.into()))?);
        }
    }
}

/// The listings on the way to the next piece, the root first.
struct Walk {
    open: Vec<Listing>,
    /// Where in the file the next entry begins.
    offset: u64,
}

/// The next entry of the innermost listing.
struct Step {
    entry: ChunkRef,
    range: Range<u64>,
    /// Of the listing that names the entry.
    level: u8,
}

impl Walk {
    fn new(root: Listing) -> Self {
        Self { open: vec![root], offset: 0 }
    }

    fn next(&mut self) -> Option<Step> {
        loop {
            let innermost = self.open.last_mut()?;
            let level = innermost.level();
            if let Some(entry) = innermost.next() {
                let start = self.offset;
                // Cannot overflow: each listing's sum was checked when it was read.
                self.offset += entry.bytes;
                return Some(Step { entry, range: start..self.offset, level });
            }
            self.open.pop();
        }
    }

    /// Goes down into the listing that the last step named, which has as many bytes as it said.
    fn enter(&mut self, listing: Listing) {
        self.offset -= listing.total();
        self.open.push(listing);
    }
}

/// A chunk that was asked for.
struct Asked {
    part: Part,
    id: ChunkId,
    ck: ChunkKey,
    /// Bytes of the file in it or below it; not known of the root.
    bytes: u64,
    /// Of the listing that names it; of no meaning for the root.
    level: u8,
}

impl Asked {
    fn damaged(&self, damage: Damage) -> GetError {
        GetError::Damaged { part: self.part.clone(), id: self.id, damage }
    }

    /// The plaintext, after all checks.
    fn open(&self, fetched: &Fetched) -> Result<Bytes, Damage> {
        let piece = matches!(self.part, Part::Piece(_));
        let kind = if piece { Kind::File } else { Kind::Listing };
        let plaintext = open_chunk(&self.ck, &self.id, &fetched.header, &fetched.sealed, kind)?;
        let found = plaintext.len() as u64;
        if piece && found != self.bytes {
            return Err(Damage::Length { declared: self.bytes, found });
        }
        Ok(plaintext)
    }
}

/// What was asked for and has not come.
struct Window<'a, S> {
    source: &'a mut S,
    limits: GetLimits,
    pending: BTreeMap<u64, Asked>,
    /// Plaintext bytes of the pending pieces.
    bytes: u64,
    /// A listing is pending: nothing behind it can be asked for before it comes.
    listing: bool,
    next_index: u64,
}

impl<'a, S: ChunkSource> Window<'a, S> {
    fn new(source: &'a mut S, limits: GetLimits) -> Self {
        Self { source, limits, pending: BTreeMap::new(), bytes: 0, listing: false, next_index: 0 }
    }

    fn has_room(&self) -> bool {
        let fits = self.bytes.saturating_add(PLAINTEXT_BYTES_MAX as u64) <= self.limits.bytes;
        let room = fits && self.pending.len() < self.limits.chunks;
        !self.listing && (room || self.pending.is_empty())
    }

    fn request_root(&mut self, capability: &Capability) {
        let Capability { id, locality, ck } = capability;
        self.ask(Part::Root, *id, *locality, ck.duplicate(), 0, 0);
    }

    fn request(&mut self, step: Step) {
        let ChunkRef { ck, id, locality, bytes } = step.entry;
        if step.level == 0 {
            self.bytes += bytes;
            self.ask(Part::Piece(step.range), id, locality, ck, bytes, step.level);
        } else {
            self.listing = true;
            self.ask(Part::Listing(step.range), id, locality, ck, bytes, step.level);
        }
    }

    fn ask(
        &mut self,
        part: Part,
        id: ChunkId,
        locality: Locality,
        ck: ChunkKey,
        bytes: u64,
        level: u8,
    ) {
        let index = self.next_index;
        self.next_index += 1;
        let read = ck.read_secret();
        self.pending.insert(index, Asked { part, id, ck, bytes, level });
        self.source.request(Wanted { index, id, locality, read });
    }

    /// The next chunk that comes, checked and opened.
    fn next(&mut self) -> Result<(Asked, Bytes), GetError> {
        loop {
            match self.source.next() {
                Ok(fetched) => {
                    // What nobody asked for, or twice, is of no use.
                    let Some(asked) = self.pending.remove(&fetched.index) else {
                        continue;
                    };
                    match asked.part {
                        Part::Piece(_) => self.bytes -= asked.bytes,
                        Part::Root | Part::Listing(_) => self.listing = false,
                    }
                    let plaintext = asked.open(&fetched).map_err(|damage| asked.damaged(damage))?;
                    return Ok((asked, plaintext));
                }
                Err(
                    FetchError::Unavailable { index, why } | FetchError::Spoiled { index, why },
                ) => {
                    let Some(asked) = self.pending.remove(&index) else {
                        continue;
                    };
                    return Err(GetError::Unavailable { part: asked.part, id: asked.id, why });
                }
                Err(FetchError::Closed) => return Err(GetError::Closed),
            }
        }
    }
}
