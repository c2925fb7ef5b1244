//! The content of one file after another.

use super::{Data, Ended, Event, Out, Stopped};
use crate::buffers::Buffers;
use crate::crypto::keys::ChunkerKey;
use crate::repo::chunker::Chunker;
use crate::repo::tree::{Content, Entry, Extents, PACKED_BYTES_MAX, What};
use crate::repo::walk::{DataReader, Fault, FaultKind, OpenError, OpenFile, Walk};
use std::io::{ErrorKind, Read};
use std::sync::Arc;

/// Memory of pieces that were sealed, kept for those to come: one of the longest.
const IDLE_BYTES_MAX: usize = 4 << 20;

/// Reads files and cuts them. Memory: the chunker's 8 MiB.
#[derive(Debug)]
pub(super) struct FileReader {
    chunker: Chunker,
    buffers: Arc<Buffers>,
}

/// Which of two tries this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    Last,
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    Done,
    /// The file changed while it was read, and was not recorded.
    Changed,
}

impl FileReader {
    pub(super) fn new(key: &ChunkerKey) -> Self {
        Self { chunker: Chunker::new(key), buffers: Buffers::new(IDLE_BYTES_MAX) }
    }

    /// Sends the file that the walk found last; nothing where it is gone. `before` is what its
    /// content was in an earlier snapshot.
    pub(super) fn read(
        &mut self,
        walk: &mut Walk<'_>,
        found: Entry,
        before: Option<Content>,
        out: &mut Out<'_>,
    ) -> Result<(), Stopped> {
        let opened = walk.open();
        let first = self.try_once(walk, opened, &found, before, (Try::First, out))?;
        if first == Tried::Changed {
            let opened = walk.open();
            self.try_once(walk, opened, &found, None, (Try::Last, out))?;
        }
        Ok(())
    }

    fn try_once(
        &mut self,
        walk: &mut Walk<'_>,
        opened: Result<OpenFile, OpenError>,
        found: &Entry,
        before: Option<Content>,
        (which, out): (Try, &mut Out<'_>),
    ) -> Result<Tried, Stopped> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Gone) => {
                walk.leave_out();
                return Ok(Tried::Done);
            }
            Err(OpenError::Replaced) => {
                walk.leave_out();
                out.send(Event::Fault(Fault::new(&found.path, FaultKind::Replaced)))?;
                return Ok(Tried::Done);
            }
            Err(OpenError::Failed(error)) => {
                return unreadable(found.duplicate(), FaultKind::Read(error), out);
            }
        };
        let What::File(body) = &opened.entry.what else { return Ok(Tried::Done) };
        if body.data_bytes() < PACKED_BYTES_MAX {
            whole(opened, before, which, out)
        } else {
            let extents = body.extents.clone();
            self.pieces(opened, extents.as_ref(), before, (which, out))
        }
    }

    /// Sends a file in pieces.
    fn pieces(
        &mut self,
        opened: OpenFile,
        extents: Option<&Extents>,
        before: Option<Content>,
        (which, out): (Try, &mut Out<'_>),
    ) -> Result<Tried, Stopped> {
        let OpenFile { file, status, entry, fault } = opened;
        let path = entry.path.clone();
        out.send(Event::File { entry, before, data: Data::Pieces })?;
        self.chunker.restart();
        let mut data = DataReader::new(&file, status.bytes, extents);
        let mut ended = false;
        loop {
            while let Some(piece) = self.chunker.next_buffer(&self.buffers) {
                out.send(Event::Piece(piece))?;
            }
            if ended {
                break;
            }
            match data.read(self.chunker.space()) {
                Ok(0) => {
                    self.chunker.end();
                    ended = true;
                }
                Ok(read) => self.chunker.filled(read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    out.send(Event::End(Ended::Broken))?;
                    out.send(Event::Fault(Fault::new(&path, FaultKind::Read(error))))?;
                    return Ok(Tried::Done);
                }
            }
        }
        let changed = !status.is_still_of(&file) || !data.is_complete();
        if changed && which == Try::First {
            out.send(Event::End(Ended::Again))?;
            return Ok(Tried::Changed);
        }
        out.send(Event::End(Ended::Whole))?;
        said(&path, fault, changed, out)
    }
}

/// Sends a file whose data fits a pack.
fn whole(
    opened: OpenFile,
    before: Option<Content>,
    which: Try,
    out: &mut Out<'_>,
) -> Result<Tried, Stopped> {
    let OpenFile { file, status, entry, fault } = opened;
    let What::File(body) = &entry.what else { return Ok(Tried::Done) };
    let mut bytes = Vec::with_capacity(usize::try_from(body.data_bytes()).unwrap_or_default());
    let mut data = DataReader::new(&file, status.bytes, body.extents.as_ref());
    if let Err(error) = data.read_to_end(&mut bytes) {
        return unreadable(entry, FaultKind::Read(error), out);
    }
    let changed = !status.is_still_of(&file) || !data.is_complete();
    if changed && which == Try::First {
        return Ok(Tried::Changed);
    }
    let path = entry.path.clone();
    out.send(Event::File { entry, before, data: Data::Whole(bytes) })?;
    said(&path, fault, changed, out)
}

/// A file was sent; what is wrong with it is said.
fn said(
    path: &[u8],
    fault: Option<FaultKind>,
    changed: bool,
    out: &mut Out<'_>,
) -> Result<Tried, Stopped> {
    let changed = changed.then_some(FaultKind::Changed);
    for kind in fault.into_iter().chain(changed) {
        out.send(Event::Fault(Fault::new(path, kind)))?;
    }
    Ok(Tried::Done)
}

/// Sends a file that cannot be read, as an entry without content.
fn unreadable(mut entry: Entry, kind: FaultKind, out: &mut Out<'_>) -> Result<Tried, Stopped> {
    entry.unreadable = true;
    out.send(Event::Fault(Fault::new(&entry.path, kind)))?;
    out.send(Event::Keep(entry))?;
    Ok(Tried::Done)
}
