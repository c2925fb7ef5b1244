//! A backup without a disk: entries and contents in, sealed chunks and a tree out. Pure.
//!
//! Whoever drives it walks the files in the tree's order, says of each whether it is the one that
//! an earlier snapshot has, and hands over the content of the others as the chunker cut it. It runs
//! on one thread, in the node as in the simulator.
//!
//! | a file's data | becomes |
//! |---|---|
//! | nothing | nothing |
//! | shorter than 256 KiB | a blob: named where it is in a pack already, else packed |
//! | one piece | that piece |
//! | more | a listing of its pieces |
//!
//! A blob is only named in an old pack, and a piece only named without being handed over, where
//! enough holders are known to have the chunk: [`Held`]. What turns out to be held only when it is
//! sealed is not handed over either, and is not new.

use super::frame::{FrameError, Kind};
use super::known::{Known, Origin};
use super::listing::{ClosedListing, ListingBuilder, TooManyChunks};
use super::pack::{Blob, BlobHasher, PackedBlob};
use super::reference::ChunkRef;
use super::sealer::{ChunkSink, Held, SealError, Sealer, SinkClosed};
use super::snapshot::Counts;
use super::tree::path::Cutter;
use super::tree::writer::{TreeSink, TreeWriter};
use super::tree::{Content, Entry, FileBody, PACKED_BYTES_MAX, TreeFault, TreeRoot, What};
use crate::core::types::Locality;
use crate::crypto::keys::OwnerKeys;
use crate::planted::{self, Bug};

pub use super::tree::writer::DoneLeaf;

/// A file's data as the chunker cut it: all pieces but the last are of 256 KiB or more.
pub trait Pieces {
    /// What bytes come in.
    type Piece: AsRef<[u8]>;

    /// The next piece, 1 to [`PLAINTEXT_BYTES_MAX`](super::frame::PLAINTEXT_BYTES_MAX) bytes;
    /// `None` at the end.
    ///
    /// # Errors
    /// [`Unreadable`]; nothing more is asked for then.
    fn next(&mut self) -> Result<Option<Self::Piece>, Unreadable>;

    /// After [`Unreadable`]: whether the file is read once more, from its beginning. Then nothing
    /// is recorded of it now.
    fn comes_again(&self) -> bool {
        false
    }
}

/// The data cannot be read to its end, or it changed all the while; why, its reader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content cannot be read")]
pub struct Unreadable;

/// How long before a snapshot a file must have changed last, for what the snapshot says of it to be
/// believed.
const SETTLED_NS: i64 = 2_000_000_000;

/// Whether the file is what `before` says, which stands in a snapshot that was begun at
/// `started_ns`. What it was read for then need not be read again.
pub fn is_same(file: &Entry, before: &Entry, started_ns: i64) -> bool {
    let settled_ns = started_ns.saturating_sub(SETTLED_NS);
    let (What::File(body), What::File(old)) = (&file.what, &before.what) else { return false };
    let inode = body.inode == old.inode || planted::is_on(Bug::TrustDates);
    let stamp = body.bytes == old.bytes && inode;
    let settled = before.mtime_ns < settled_ns && old.inode.ctime_ns < settled_ns;
    stamp && settled && file.mtime_ns == before.mtime_ns && !before.unreadable
}

/// Where a backup's chunks go.
pub trait BackupSink: ChunkSink {
    /// A leaf was handed over, and before it all that it names: when the mesh holds these, a later
    /// run need not read its files again.
    fn leaf_done(&mut self, leaf: &DoneLeaf);

    /// A large file is in the tree, and all of it was handed over; its leaf is not done for long.
    /// Of no interest where nothing is kept for a later run.
    fn large_file_done(&mut self, _file: &Entry) {}
}

/// What became of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was in a pack already, or there is none.
    Known,
    /// It is in this backup's own chunks.
    Stored,
    /// It could not be read: the file is recorded without it.
    Unreadable,
    /// It [comes again](Pieces::comes_again): the file is not recorded yet.
    ComesAgain,
}

/// Why a backup does not go on, or an entry is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// This entry cannot be part of a tree; it is left out, and the next may come.
    #[error(transparent)]
    Refused(#[from] TreeFault),
    /// The file has more pieces than a listing can name; it is left out, and the next may come.
    #[error(transparent)]
    TooManyChunks(#[from] TooManyChunks),
    /// A piece is longer than a chunk takes: whoever cut it did not use the chunker.
    #[error(transparent)]
    Frame(FrameError),
    /// See [`SinkClosed`].
    #[error(transparent)]
    Closed(SinkClosed),
}

impl From<SealError> for EngineError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Frame(error) => Self::Frame(error),
            SealError::Closed(error) => Self::Closed(error),
        }
    }
}

/// A tree whose every chunk was handed over.
#[derive(Debug)]
pub struct Built {
    /// `None` where there are no entries.
    pub root: Option<TreeRoot>,
    /// What is in it.
    pub counts: Counts,
    /// Files that were taken from an earlier snapshot, unread.
    pub unchanged: u64,
    /// Blobs that were not looked up for lack of memory: content that may be stored twice.
    pub left_out: u64,
}

/// Builds the tree of one snapshot.
pub struct Engine<'a, S, H> {
    sealer: Sealer<'a, S>,
    held: &'a H,
    hasher: BlobHasher,
    known: Known,
    writer: TreeWriter,
    counts: Counts,
    unchanged: u64,
}

impl<'a, S: BackupSink, H: Held> Engine<'a, S, H> {
    /// Seals under `keys`; the topics of all chunks are those of `locality`. `known` is what
    /// earlier snapshots have packed.
    pub fn new(
        (keys, locality): (&'a OwnerKeys, Locality),
        known: Known,
        held: &'a H,
        sink: &'a mut S,
    ) -> Self {
        Self {
            sealer: Sealer::new(keys, locality, sink).sparing(held),
            held,
            hasher: BlobHasher::new(&keys.dedup),
            known,
            writer: TreeWriter::new(Cutter::new(&keys.chunker)),
            counts: Counts::default(),
            unchanged: 0,
        }
    }

    /// Adds an entry as it is: what has no content, or a file that an earlier snapshot has and that
    /// did not change since.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn keep(&mut self, entry: &Entry) -> Result<(), EngineError> {
        self.known.learn(entry);
        self.add(entry, None)?;
        if matches!(&entry.what, What::File(body) if matches!(body.content, Content::Listing(_))) {
            self.sealer.sink().large_file_done(entry);
        }
        let file = matches!(entry.what, What::File(_)) && !entry.unreadable;
        self.unchanged += u64::from(file);
        Ok(())
    }

    /// A piece of the earlier version of the file that comes next: where it is in the new one, too,
    /// it is named and not handed over.
    pub fn recall(&mut self, piece: &ChunkRef) {
        if self.held.is_held(&piece.id) {
            self.sealer.remember(piece);
        }
    }

    /// Adds a file whose content is read now. Its length becomes what was read, unless it has
    /// holes: then it must be as long as its extents say.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn store(
        &mut self,
        mut entry: Entry,
        pieces: &mut impl Pieces,
    ) -> Result<Outcome, EngineError> {
        let read = match self.read(pieces) {
            Ok(read) => read,
            Err(ReadError::Engine(error)) => return Err(error),
            Err(ReadError::Unreadable) if pieces.comes_again() => return Ok(Outcome::ComesAgain),
            Err(ReadError::Unreadable) => return self.unreadable(entry),
        };
        let What::File(body) = &mut entry.what else {
            return Err(TreeFault::Data.into());
        };
        if body.extents.is_none() {
            body.bytes = read.bytes();
        } else if body.data_bytes() != read.bytes() {
            return self.unreadable(entry);
        }
        match read {
            Read::Nothing => {
                body.content = Content::None;
                self.add(&entry, None)?;
                Ok(Outcome::Known)
            }
            Read::Small(content) => self.small(entry, content.as_ref()),
            Read::Piece(piece) => {
                body.content = Content::Piece(piece);
                self.add(&entry, None)?;
                Ok(Outcome::Stored)
            }
            Read::Listing(root) => {
                body.content = Content::Listing(root);
                self.add(&entry, None)?;
                self.sealer.sink().large_file_done(&entry);
                Ok(Outcome::Stored)
            }
        }
    }

    /// Ends the tree: the last pack, leaf and nodes go to the sink, the root last.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn finish(mut self) -> Result<Built, EngineError> {
        let (sealer, known) = (&mut self.sealer, &mut self.known);
        let root = self.writer.finish(&mut Handing { sealer, known })?;
        let new_bytes = self.sealer.done().sealed_bytes;
        let counts = Counts { new_bytes, ..self.counts };
        let left_out = self.known.left_out();
        Ok(Built { root, counts, unchanged: self.unchanged, left_out })
    }

    /// What was done until now.
    pub fn counts(&self) -> Counts {
        Counts { new_bytes: self.sealer.done().sealed_bytes, ..self.counts }
    }

    /// A file that fits a pack: named where it is, or packed.
    fn small(&mut self, mut entry: Entry, content: &[u8]) -> Result<Outcome, EngineError> {
        let hash = self.hasher.hash(content);
        let place = self.known.find(&hash, content.len() as u64);
        let place = place
            .filter(|(pack, origin, _)| *origin == Origin::ThisRun || self.held.is_held(&pack.id));
        let What::File(FileBody { content: to, .. }) = &mut entry.what else {
            return Err(TreeFault::Data.into());
        };
        if let Some((pack, _, offset)) = place {
            *to = Content::Packed { pack: pack.duplicate(), offset, hash };
            self.add(&entry, None)?;
            return Ok(Outcome::Known);
        }
        *to = Content::None;
        self.add(&entry, Some(&Blob { hash, content }))?;
        Ok(Outcome::Stored)
    }

    fn unreadable(&mut self, mut entry: Entry) -> Result<Outcome, EngineError> {
        if let What::File(body) = &mut entry.what {
            body.content = Content::None;
        }
        entry.unreadable = true;
        self.add(&entry, None)?;
        Ok(Outcome::Unreadable)
    }

    fn add(&mut self, entry: &Entry, blob: Option<&Blob<'_>>) -> Result<(), EngineError> {
        let (sealer, known) = (&mut self.sealer, &mut self.known);
        self.writer.add(entry, blob, &mut Handing { sealer, known })?;
        let count = match &entry.what {
            What::File(_) => &mut self.counts.files,
            What::Folder(_) => &mut self.counts.folders,
            _ => &mut self.counts.others,
        };
        *count += 1;
        self.counts.bytes += entry.bytes();
        self.counts.unreadable += u64::from(entry.unreadable);
        Ok(())
    }

    /// Reads a file's data; pieces of a large one are handed over as they come.
    fn read<P: Pieces>(&mut self, pieces: &mut P) -> Result<Read<P::Piece>, ReadError> {
        let Some(first) = pieces.next()? else {
            return Ok(Read::Nothing);
        };
        let Some(second) = pieces.next()? else {
            let small = (first.as_ref().len() as u64) < PACKED_BYTES_MAX;
            return Ok(if small {
                Read::Small(first)
            } else {
                Read::Piece(self.sealer.piece(first.as_ref())?)
            });
        };
        let mut listing = ListingBuilder::new();
        let mut next = Some(second);
        let piece = self.sealer.piece(first.as_ref())?;
        listing.add(&piece, &mut |closed| self.listing(&closed))?;
        while let Some(content) = next {
            let piece = self.sealer.piece(content.as_ref())?;
            listing.add(&piece, &mut |closed| self.listing(&closed))?;
            next = pieces.next()?;
        }
        Ok(Read::Listing(listing.finish(&mut |closed| self.listing(&closed))?))
    }

    fn listing(&mut self, closed: &ClosedListing) -> Result<ChunkRef, ReadError> {
        Ok(self.sealer.meta(Kind::Listing, &closed.plaintext, closed.bytes)?)
    }
}

impl<S, H> std::fmt::Debug for Engine<'_, S, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// A file's data, read.
enum Read<P> {
    Nothing,
    Small(P),
    Piece(ChunkRef),
    Listing(ChunkRef),
}

impl<P: AsRef<[u8]>> Read<P> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Small(content) => content.as_ref().len() as u64,
            Self::Piece(reference) | Self::Listing(reference) => reference.bytes,
        }
    }
}

/// Why data was not read, or not handed over.
enum ReadError {
    Unreadable,
    Engine(EngineError),
}

impl From<Unreadable> for ReadError {
    fn from(Unreadable: Unreadable) -> Self {
        Self::Unreadable
    }
}

impl From<SealError> for ReadError {
    fn from(error: SealError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<TooManyChunks> for ReadError {
    fn from(error: TooManyChunks) -> Self {
        Self::Engine(error.into())
    }
}

/// Seals what the tree's writer hands over.
struct Handing<'e, 'a, S> {
    sealer: &'e mut Sealer<'a, S>,
    known: &'e mut Known,
}

impl<S: BackupSink> TreeSink for Handing<'_, '_, S> {
    type Error = EngineError;

    fn seal(&mut self, kind: Kind, plaintext: &[u8], bytes: u64) -> Result<ChunkRef, EngineError> {
        Ok(match kind {
            Kind::Pack => self.sealer.pack(plaintext)?,
            _ => self.sealer.meta(kind, plaintext, bytes)?,
        })
    }

    fn packed(&mut self, pack: &ChunkRef, blobs: &[PackedBlob]) {
        blobs.iter().for_each(|blob| self.known.add(pack, Origin::ThisRun, blob));
    }

    fn leaf_done(&mut self, leaf: &DoneLeaf) {
        self.sealer.sink().leaf_done(leaf);
    }
}

#[cfg(test)]
mod tests;
