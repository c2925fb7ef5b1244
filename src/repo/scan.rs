//! A walk beside the trees of earlier snapshots: which files are what they were, and the content of
//! the others, cut. Runs on a thread of its own, before the one that seals.
//!
//! A file is what it was where length, both times and inode number are, where its content, all
//! pieces of a large one, is held by as many as are wanted, and where it last changed more than two
//! seconds before that snapshot began: clocks of file systems are coarse, and what changes twice
//! within one tick looks the same. Such a file is not opened.
//!
//! Others are read up to the length that they have when they are opened, only data where they have
//! holes. One that changed meanwhile is read once more; when it changes then, too, it is recorded
//! as it was read, with the times from before the reading, so that the next backup reads it again.
//!
//! Which pieces a large file has, the thread that seals is asked: it has the listings.
//!
//! Events go through a short channel in batches. Memory: three batches, each at most 1 MiB and a
//! piece, and the chunker: 23 MiB in all.

mod read;

use super::engine::is_same;
use super::reference::ChunkRef;
use super::sealer::Held;
use super::tree::path;
use super::tree::{Content, Entry, What};
use super::walk::{Fault, Found, Walk};
use crate::buffers::Buffer;
use crate::crypto::keys::ChunkerKey;
use read::FileReader;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::mpsc::{Receiver, SyncSender};

/// Batches that wait between the scanning thread and the sealing one.
pub(crate) const BATCHES_WAITING_MAX: usize = 1;

/// A batch of so many events is handed over,
const BATCH_EVENTS_MAX: usize = 512;

/// or of so many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What an event takes beside what it holds.
const EVENT_BYTES: usize = 400;

/// Entries of a tree, in order.
pub type Entries<'a> = Box<dyn Iterator<Item = Entry> + Send + 'a>;

/// The tree of an earlier snapshot, or the beginning of one, as far as it can be had.
pub struct Parent<'a> {
    /// When that backup began: nanoseconds since 1970.
    pub started_ns: i64,
    /// Its entries, in order. Where they end early, the files behind are read.
    pub entries: Entries<'a>,
}

impl std::fmt::Debug for Parent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parent").field("started_ns", &self.started_ns).finish_non_exhaustive()
    }
}

/// What comes of a name.
#[derive(Debug)]
pub(crate) enum Event {
    /// An entry as it is recorded: no file, or one that is unchanged or cannot be read.
    Keep(Entry),
    /// A file, its content, and what its content was in an earlier snapshot.
    File { entry: Entry, before: Option<Content>, data: Data },
    /// The next piece of the file that came last.
    Piece(Buffer),
    /// The file that came last has no more pieces.
    End(Ended),
    /// Something is wrong with a name.
    Fault(Fault),
    /// The scan waits for the pieces that this listing names.
    Ask(ChunkRef),
    /// Links that are recorded as files, for lack of memory.
    LinksForgotten(u64),
}

/// The data of a file.
#[derive(Debug)]
pub(crate) enum Data {
    /// All of it.
    Whole(Vec<u8>),
    /// As [`Event::Piece`]s behind it.
    Pieces,
}

/// How the pieces of a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All were there.
    Whole,
    /// The file changed: it comes once more.
    Again,
    /// It cannot be read to its end.
    Broken,
}

/// Nobody takes events any more, or the work was cancelled.
#[derive(Debug)]
pub(crate) struct Stopped;

/// What a scan looks at beside the disk.
pub(crate) struct ScanContext<'a, H> {
    pub(crate) key: &'a ChunkerKey,
    pub(crate) held: &'a H,
    pub(crate) cancel: &'a AtomicBool,
    /// What comes of each [`Event::Ask`]; nothing where the pieces cannot be had.
    pub(crate) answers: Receiver<Vec<ChunkRef>>,
}

/// Scans until the end of the walk, or until nobody takes events any more.
pub(crate) fn scan<H: Held>(
    walk: Walk<'_>,
    parents: Vec<Parent<'_>>,
    context: &ScanContext<'_, H>,
    events: SyncSender<Vec<Event>>,
) -> Result<(), Stopped> {
    let mut out = Out { batch: Vec::new(), bytes: 0, events, cancel: context.cancel };
    let mut earlier = Earlier::new(parents);
    let mut files = FileReader::new(context.key);
    let mut walk = walk;
    while let Some(found) = walk.next() {
        match found {
            Found::Entry(entry) => out.send(Event::Keep(entry))?,
            Found::Fault(fault) => out.send(Event::Fault(fault))?,
            Found::File(entry) => match earlier.find(&entry, context, &mut out)? {
                Before::Same(before) => out.send(Event::Keep(before))?,
                Before::Other(before) => files.read(&mut walk, entry, before, &mut out)?,
            },
        }
    }
    if walk.links_forgotten() > 0 {
        out.send(Event::LinksForgotten(walk.links_forgotten()))?;
    }
    out.flush()
}

/// Where events go.
#[derive(Debug)]
struct Out<'a> {
    batch: Vec<Event>,
    bytes: usize,
    events: SyncSender<Vec<Event>>,
    cancel: &'a AtomicBool,
}

impl Out<'_> {
    fn send(&mut self, event: Event) -> Result<(), Stopped> {
        self.bytes += EVENT_BYTES + held_bytes(&event);
        self.batch.push(event);
        let full = self.batch.len() >= BATCH_EVENTS_MAX || self.bytes >= BATCH_BYTES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        if self.cancel.load(Memory::Relaxed) {
            return Err(Stopped);
        }
        self.bytes = 0;
        self.events.send(std::mem::take(&mut self.batch)).map_err(|_| Stopped)
    }
}

fn held_bytes(event: &Event) -> usize {
    let of = |entry: &Entry| {
        let xattrs = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48);
        let extents = match &entry.what {
            What::File(body) => body.extents.as_ref().map_or(0, |extents| 16 * extents.0.len()),
            _ => 0,
        };
        entry.path.len() + extents + xattrs.sum::<usize>()
    };
    match event {
        Event::Keep(entry) | Event::File { entry, data: Data::Pieces, .. } => of(entry),
        Event::File { entry, data: Data::Whole(data), .. } => of(entry) + data.len(),
        Event::Piece(piece) => piece.len(),
        Event::Fault(fault) => fault.path.len(),
        Event::Ask(_) | Event::End(_) | Event::LinksForgotten(_) => 0,
    }
}

/// The trees of earlier snapshots, beside the walk.
struct Earlier<'a> {
    parents: Vec<(i64, Peekable<Entries<'a>>)>,
}

/// What an earlier snapshot has of a file.
enum Before {
    /// The file itself.
    Same(Entry),
    /// Another content, or none.
    Other(Option<Content>),
}

impl<'a> Earlier<'a> {
    fn new(parents: Vec<Parent<'a>>) -> Self {
        let beside = |parent: Parent<'a>| (parent.started_ns, parent.entries.peekable());
        Self { parents: parents.into_iter().map(beside).collect() }
    }

    /// Moves on to the path of a file that the walk has found.
    fn find<H: Held>(
        &mut self,
        file: &Entry,
        context: &ScanContext<'_, H>,
        out: &mut Out<'_>,
    ) -> Result<Before, Stopped> {
        let mut other = None;
        for (started_ns, entries) in &mut self.parents {
            let behind = |entry: &Entry| path::compare(&entry.path, &file.path) == Ordering::Less;
            while entries.next_if(behind).is_some() {}
            let Some(entry) = entries.next_if(|entry| entry.path == file.path) else { continue };
            let same = is_same(file, &entry, *started_ns);
            if same && is_held(&entry, context, out)? {
                return Ok(Before::Same(entry));
            }
            if let What::File(body) = entry.what {
                other.get_or_insert(body.content);
            }
        }
        Ok(Before::Other(other))
    }
}

/// Whether all of a file's content is held: of a large one its listing and every piece.
fn is_held<H: Held>(
    entry: &Entry,
    context: &ScanContext<'_, H>,
    out: &mut Out<'_>,
) -> Result<bool, Stopped> {
    let What::File(body) = &entry.what else { return Ok(false) };
    let all = |reference: &ChunkRef| context.held.is_held(&reference.id);
    match &body.content {
        Content::None => Ok(true),
        Content::Packed { pack: chunk, .. } | Content::Piece(chunk) => Ok(all(chunk)),
        Content::Listing(root) if !all(root) => Ok(false),
        Content::Listing(root) => {
            out.send(Event::Ask(root.duplicate()))?;
            out.flush()?;
            let pieces = context.answers.recv().map_err(|_| Stopped)?;
            // What cannot be looked at is not believed: the file is read.
            Ok(!pieces.is_empty() && pieces.iter().all(all))
        }
    }
}
