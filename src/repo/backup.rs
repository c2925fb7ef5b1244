//! A backup without a mesh: files of the disk in, sealed chunks and a tree out.
//!
//! One thread [scans](super::scan), the caller's seals. What a backup could not do as it was asked
//! to is said while it goes on; where anything was, the snapshot is partial.
//!
//! Cancelling ends it at the next batch. What was handed over is of use to the next run: the leaves
//! that were done are [parents](Parent) of it.

use super::engine::{BackupSink, Built, Engine, EngineError, Outcome, Pieces, Unreadable};
use super::frame::FrameError;
use super::known::Known;
use super::reference::ChunkRef;
use super::scan::{BATCHES_WAITING_MAX, Data, Ended, Event, ScanContext, scan};
use super::sealer::{Held, SinkClosed};
use super::tree::{Content, Entry, TreeFault, What};
use super::walk::{Fault, FaultKind, Found, RootError, Walk, WalkOptions};
use crate::buffers::Buffer;
use crate::core::types::Locality;
use crate::crypto::keys::OwnerKeys;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

pub use super::scan::{Entries, Parent};

/// Under what a backup is made.
#[derive(Debug)]
pub struct BackupContext<'a, H> {
    /// The owner's keys.
    pub keys: &'a OwnerKeys,
    /// Where the topics of all its chunks are.
    pub locality: Locality,
    /// Which chunks need not be handed over. Asked on both threads.
    pub held: &'a H,
    /// Set by another thread to end the backup.
    pub cancel: &'a AtomicBool,
}

/// What is known from before.
#[derive(Debug)]
pub struct Earlier<'a> {
    /// What tells unchanged files from others: what an unfinished run of the same roots has done,
    /// then the newest snapshot of them.
    pub parents: Vec<Parent<'a>>,
    /// Small files that are in packs.
    pub known: Known,
    /// How much there will be, if anybody knows: a guess by the snapshot before, or a [`count`].
    pub expected: Option<Totals>,
}

/// Files, and their bytes with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files that are done, and bytes: those of the file that is read now as far as it is.
    pub done: Totals,
    /// See [`Earlier::expected`].
    pub expected: Option<Totals>,
    /// Sealed bytes that were new, one copy.
    pub new_bytes: u64,
    /// Names that something is wrong with.
    pub faults: u64,
}

/// Who runs a backup; called on the caller's thread.
pub trait Watch {
    /// Called for every name and every piece: it should return soon.
    fn moved(&mut self, progress: &Progress);

    /// Something is wrong with a name.
    fn fault(&mut self, fault: Fault);

    /// The pieces that a listing of an earlier snapshot names, if they can be had without waiting
    /// long. Those that are held are not handed over again, and a file that seems unchanged is read
    /// again unless all of them are: also where none can be had.
    fn pieces_before(&mut self, listing: &ChunkRef) -> Vec<ChunkRef> {
        let _ = listing;
        Vec::new()
    }
}

/// A backup of which every chunk was handed over.
#[derive(Debug)]
pub struct BackedUp {
    /// The tree.
    pub built: Built,
    /// What was walked: absolute, in order, none in another.
    pub roots: Vec<Vec<u8>>,
    /// How many names something is wrong with: where any is, the snapshot is partial.
    pub faults: u64,
    /// Names that are recorded as files of their own though they are hard links, because too many
    /// files have names outside of what is backed up.
    pub links_forgotten: u64,
}

/// Why a backup ended without a tree. What was handed over before is of no harm.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// See [`RootError`].
    #[error(transparent)]
    Root(#[from] RootError),
    /// There is more than a tree can hold.
    #[error(transparent)]
    TooLarge(TreeFault),
    /// A piece is longer than a chunk takes: the chunker is broken.
    #[error(transparent)]
    Frame(FrameError),
    /// See [`SinkClosed`].
    #[error(transparent)]
    Closed(SinkClosed),
    /// [`BackupContext::cancel`] was set.
    #[error("the backup was cancelled")]
    Cancelled,
}

/// Backs up. Blocks: run it on a thread of its own; it uses a second one to scan.
///
/// # Errors
/// [`BackupError`].
pub fn backup<S: BackupSink, H: Held + Sync, W: Watch>(
    options: &WalkOptions,
    earlier: Earlier<'_>,
    context: &BackupContext<'_, H>,
    sink: &mut S,
    watch: &mut W,
) -> Result<BackedUp, BackupError> {
    let BackupContext { keys, locality, held, cancel } = *context;
    let Earlier { parents, known, expected } = earlier;
    let walk = Walk::new(options)?;
    let roots = walk.roots().to_vec();
    let mut driver = Driver {
        engine: Engine::new((keys, locality), known, held, sink),
        watch,
        progress: Progress { expected, ..Progress::default() },
        refused: BTreeSet::new(),
        links_forgotten: 0,
    };
    let (sender, receiver) = sync_channel(BATCHES_WAITING_MAX);
    let (pieces, answers) = channel();
    let complete: Result<bool, BackupError> = thread::scope(|scope| {
        let scanning = scope.spawn(move || {
            let key = &keys.chunker;
            scan(walk, parents, &ScanContext { key, held, cancel, answers }, sender).is_ok()
        });
        // The channels close with this, so the scan ends whatever it is at.
        driver.drive(Events { receiver, pieces, batch: Vec::new().into_iter() }, cancel)?;
        match scanning.join() {
            Ok(complete) => Ok(complete),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    if !complete? {
        return Err(BackupError::Cancelled);
    }
    let Driver { engine, progress: Progress { faults, .. }, links_forgotten, .. } = driver;
    let built = engine.finish().map_err(fatal)?;
    Ok(BackedUp { built, roots, faults, links_forgotten })
}

/// Counts what a backup would find, without opening a file; `None` where it was cancelled.
///
/// # Errors
/// [`RootError`].
pub fn count(options: &WalkOptions, cancel: &AtomicBool) -> Result<Option<Totals>, RootError> {
    let (mut walk, mut totals) = (Walk::new(options)?, Totals::default());
    while let Some(found) = walk.next() {
        if cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Found::File(entry) = found {
            totals.files += 1;
            totals.bytes = totals.bytes.saturating_add(entry.bytes());
        }
    }
    Ok(Some(totals))
}

/// Feeds the engine.
struct Driver<'d, 'a, S, H, W> {
    engine: Engine<'a, S, H>,
    watch: &'d mut W,
    progress: Progress,
    /// Files that the tree did not take: no link may name them.
    refused: BTreeSet<Vec<u8>>,
    links_forgotten: u64,
}

impl<S: BackupSink, H: Held, W: Watch> Driver<'_, '_, S, H, W> {
    fn drive(&mut self, mut events: Events, cancel: &AtomicBool) -> Result<(), BackupError> {
        while let Some(event) = events.next() {
            if cancel.load(Ordering::Relaxed) {
                return Err(BackupError::Cancelled);
            }
            match event {
                Event::Keep(entry) => self.keep(&entry)?,
                Event::File { entry, before, data } => {
                    self.recall(before);
                    self.store(entry, data, &mut events)?;
                }
                Event::Fault(fault) => self.fault(fault),
                Event::Ask(listing) => {
                    // Nobody waits where the scan was stopped.
                    let _ = events.pieces.send(self.watch.pieces_before(&listing));
                }
                Event::LinksForgotten(count) => self.links_forgotten = count,
                // Left over from a file that the engine asked no more pieces of.
                Event::Piece(_) | Event::End(_) => {}
            }
            let counts = self.engine.counts();
            self.progress.done = Totals { files: counts.files, bytes: counts.bytes };
            self.progress.new_bytes = counts.new_bytes;
            self.watch.moved(&self.progress);
        }
        Ok(())
    }

    fn keep(&mut self, entry: &Entry) -> Result<(), BackupError> {
        if let What::HardLink(first) = &entry.what
            && self.refused.contains(first)
        {
            self.fault(Fault::new(&entry.path, FaultKind::FirstName));
            return Ok(());
        }
        match self.engine.keep(entry) {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(entry.path.clone(), error),
        }
    }

    fn store(&mut self, entry: Entry, data: Data, events: &mut Events) -> Result<(), BackupError> {
        let path = entry.path.clone();
        let (watch, progress) = (&mut *self.watch, &mut self.progress);
        let mut feed = Feed { data, events, ended: None, watch, progress };
        match self.engine.store(entry, &mut feed) {
            Ok(Outcome::Known | Outcome::Stored | Outcome::Unreadable | Outcome::ComesAgain) => {
                Ok(())
            }
            Err(error) => self.refuse(path, error),
        }
    }

    /// The pieces of the version before need not be handed over where they are held.
    fn recall(&mut self, before: Option<Content>) {
        match before {
            Some(Content::Piece(piece)) => self.engine.recall(&piece),
            Some(Content::Listing(root)) => {
                let pieces = self.watch.pieces_before(&root);
                pieces.iter().for_each(|piece| self.engine.recall(piece));
            }
            Some(Content::Packed { .. } | Content::None) | None => {}
        }
    }

    /// What the engine did not take is left out, or ends the backup.
    fn refuse(&mut self, path: Vec<u8>, error: EngineError) -> Result<(), BackupError> {
        let kind = match error {
            EngineError::Refused(fault) if fault != TreeFault::TooLarge => {
                FaultKind::Refused(fault)
            }
            EngineError::TooManyChunks(_) => FaultKind::TooLong,
            error => return Err(fatal(error)),
        };
        self.fault(Fault::new(&path, kind));
        self.refused.insert(path);
        Ok(())
    }

    fn fault(&mut self, fault: Fault) {
        self.progress.faults += 1;
        self.watch.fault(fault);
    }
}

fn fatal(error: EngineError) -> BackupError {
    match error {
        EngineError::Refused(fault) => BackupError::TooLarge(fault),
        EngineError::TooManyChunks(_) => BackupError::TooLarge(TreeFault::TooLarge),
        EngineError::Frame(error) => BackupError::Frame(error),
        EngineError::Closed(error) => BackupError::Closed(error),
    }
}

/// What the scan found, in order.
struct Events {
    receiver: Receiver<Vec<Event>>,
    /// Where the scan waits for what a listing names.
    pieces: Sender<Vec<ChunkRef>>,
    batch: std::vec::IntoIter<Event>,
}

impl Events {
    /// `None` where the scan ended.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.batch.next() {
                return Some(event);
            }
            self.batch = self.receiver.recv().ok()?.into_iter();
        }
    }
}

/// The content of one file, as it comes from the scan.
struct Feed<'f, W> {
    data: Data,
    events: &'f mut Events,
    ended: Option<Ended>,
    watch: &'f mut W,
    progress: &'f mut Progress,
}

impl<W: Watch> Feed<'_, W> {
    fn pass(&mut self, piece: Piece) -> Piece {
        let bytes = piece.as_ref().len() as u64;
        self.progress.done.bytes = self.progress.done.bytes.saturating_add(bytes);
        self.watch.moved(self.progress);
        piece
    }
}

impl<W: Watch> Pieces for Feed<'_, W> {
    type Piece = Piece;

    fn next(&mut self) -> Result<Option<Piece>, Unreadable> {
        if let Data::Whole(data) = &mut self.data {
            let data = std::mem::take(data);
            return Ok((!data.is_empty()).then(|| self.pass(Piece::Whole(data))));
        }
        match self.ended {
            Some(Ended::Whole) => return Ok(None),
            Some(Ended::Again | Ended::Broken) => return Err(Unreadable),
            None => {}
        }
        match self.events.next() {
            Some(Event::Piece(piece)) => Ok(Some(self.pass(Piece::Cut(piece)))),
            Some(Event::End(ended)) => {
                self.ended = Some(ended);
                if ended == Ended::Whole { Ok(None) } else { Err(Unreadable) }
            }
            // The scan was stopped, and so is the backup.
            _ => Err(Unreadable),
        }
    }

    fn comes_again(&self) -> bool {
        self.ended == Some(Ended::Again)
    }
}

/// Some of a file's content.
enum Piece {
    Whole(Vec<u8>),
    Cut(Buffer),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Whole(data) => data,
            Self::Cut(piece) => piece,
        }
    }
}

#[cfg(test)]
mod tests;
