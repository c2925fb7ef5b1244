//! Putting a file of the disk: opened once, read once, and noticed when it changes meanwhile.

use super::{PutContext, PutError, PutSummary, put_pieces};
use crate::buffers::{Buffer, Buffers};
use crate::crypto::keys::ChunkerKey;
use crate::repo::chunker::Chunker;
use crate::repo::sealer::{ChunkSink, SealedSoFar};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Pieces that wait between the reading thread and the sealing one: at most 12 MiB.
const PIECES_WAITING_MAX: usize = 2;

/// Memory of pieces that were sealed, kept for those to come: one of the longest.
const IDLE_BYTES_MAX: usize = 4 << 20;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length in bytes.
    pub bytes: u64,
    /// When its content was last changed: nanoseconds since 1970.
    pub modified_ns: i64,
    /// When its content, name, owner or mode was last changed, where the system knows.
    changed_ns: i64,
    /// Device and inode, where the system has them.
    file: (u64, u64),
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            file: (metadata.dev(), metadata.ino()),
        }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        let since = |time: std::io::Result<std::time::SystemTime>| {
            let since = time.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_nanos()).ok()
        };
        let modified_ns = since(metadata.modified()).unwrap_or_default();
        Self { bytes: metadata.len(), modified_ns, changed_ns: 0, file: (0, 0) }
    }
}

/// A regular file, opened for a put.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

impl SourceFile {
    /// Opens `path`, a link followed. Never waits: a pipe is refused like all that is no file.
    ///
    /// # Errors
    /// [`PutError::Open`], [`PutError::NotAFile`].
    pub fn open(path: &Path) -> Result<Self, PutError> {
        let failed = |source| PutError::Open { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = options.open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(PutError::NotAFile { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), file, stamp: Stamp::of(&metadata) })
    }

    /// How the file was when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The file's name, for the owner's catalogue.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` with what lies at `offset`.
    ///
    /// # Errors
    /// What the system says; the file ends before.
    #[cfg(unix)]
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.file.read_exact_at(bytes, offset)
    }

    /// What a snapshot of it alone records, but for its content.
    pub(crate) fn recorded(&self) -> Option<crate::repo::walk::Alone> {
        crate::repo::walk::alone(&self.file, &self.path)
    }

    /// # Errors
    /// [`PutError::Changed`] where the file is not what it was when it was opened.
    fn check_unchanged(&self, bytes_read: u64) -> Result<(), PutError> {
        let failed = |source| PutError::Read { path: self.path.clone(), source };
        let now = Stamp::of(&self.file.metadata().map_err(failed)?);
        let unchanged = now == self.stamp && bytes_read == self.stamp.bytes;
        if unchanged { Ok(()) } else { Err(PutError::Changed { path: self.path.clone() }) }
    }
}

/// Puts a file. Blocks: run it on a thread of its own; it uses a second one to read and cut.
///
/// The file is read up to the length it had when it was opened. No root is handed over for one
/// that changed meanwhile.
///
/// # Errors
/// [`PutError`].
pub fn put_file(
    source: &SourceFile,
    context: PutContext<'_>,
    sink: &mut impl ChunkSink,
    progress: impl FnMut(SealedSoFar),
) -> Result<PutSummary, PutError> {
    let reader = (&source.file).take(source.stamp.bytes);
    put(reader, &source.path, context, sink, progress, |bytes| source.check_unchanged(bytes))
}

/// Puts whatever `reader` yields, under `name` in errors. Blocks, like [`put_file`]; a put that
/// fails returns only when the reader's current read does.
///
/// # Errors
/// [`PutError`].
pub fn put_stream(
    reader: impl Read + Send,
    name: &Path,
    context: PutContext<'_>,
    sink: &mut impl ChunkSink,
    progress: impl FnMut(SealedSoFar),
) -> Result<PutSummary, PutError> {
    put(reader, name, context, sink, progress, |_| Ok(()))
}

/// `check` runs on the reading thread when all was read, and before any root is made.
fn put(
    reader: impl Read + Send,
    path: &Path,
    context: PutContext<'_>,
    sink: &mut impl ChunkSink,
    progress: impl FnMut(SealedSoFar),
    check: impl FnOnce(u64) -> Result<(), PutError> + Send,
) -> Result<PutSummary, PutError> {
    let (sender, receiver) = sync_channel(PIECES_WAITING_MAX);
    let key = &context.keys.chunker;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let outcome = cut(reader, path, key, &sender).and_then(check);
            if let Err(error) = outcome {
                // Nobody listens where the sealing side ended first, with its own error.
                let _ = sender.send(Err(error));
            }
        });
        put_pieces(receiver, context, sink, progress)
    })
}

/// Reads and cuts, until the stream ends or nobody takes pieces any more; says how many bytes.
fn cut(
    mut reader: impl Read,
    path: &Path,
    key: &ChunkerKey,
    pieces: &SyncSender<Result<Buffer, PutError>>,
) -> Result<u64, PutError> {
    let mut chunker = Chunker::new(key);
    let buffers = Buffers::new(IDLE_BYTES_MAX);
    let mut bytes = 0_u64;
    while hand_over(&mut chunker, &buffers, pieces) {
        match reader.read(chunker.space()) {
            Ok(0) => {
                chunker.end();
                hand_over(&mut chunker, &buffers, pieces);
                break;
            }
            Ok(read) => {
                chunker.filled(read);
                bytes = bytes.saturating_add(read as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(PutError::Read { path: path.to_owned(), source }),
        }
    }
    Ok(bytes)
}

/// Whether there was somebody to take the pieces that are ready.
fn hand_over(
    chunker: &mut Chunker,
    buffers: &Arc<Buffers>,
    pieces: &SyncSender<Result<Buffer, PutError>>,
) -> bool {
    while let Some(buffer) = chunker.next_buffer(buffers) {
        if pieces.send(Ok(buffer)).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::seal::SealedChunk;
    use crate::repo::fixture::{Mesh, context, noise, owner};
    use crate::repo::sealer::SinkClosed;
    use std::io::Write;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// Puts `path` and calls `meanwhile` when the first chunk is handed over.
    fn put_and(path: &Path, meanwhile: impl FnOnce()) -> (Result<PutSummary, PutError>, Mesh) {
        struct Sink<F> {
            mesh: Mesh,
            meanwhile: Option<F>,
        }
        impl<F: FnOnce()> ChunkSink for Sink<F> {
            fn store(&mut self, chunk: SealedChunk, bytes: u64) -> Result<(), SinkClosed> {
                if let Some(meanwhile) = self.meanwhile.take() {
                    meanwhile();
                }
                self.mesh.store(chunk, bytes)
            }
        }
        let mut sink = Sink { mesh: Mesh::default(), meanwhile: Some(meanwhile) };
        let keys = owner(1);
        let source = SourceFile::open(path).unwrap();
        let outcome = put_file(&source, context(&keys), &mut sink, |_| {});
        (outcome, sink.mesh)
    }

    #[test]
    fn a_file_becomes_its_chunks_and_a_root() {
        let bytes = noise(6 << 20, 1);
        let file = file(&bytes);
        let (outcome, mesh) = put_and(file.path(), || {});
        let summary = outcome.unwrap();
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(mesh.order.iter().map(|(_, bytes)| bytes).sum::<u64>(), summary.bytes);
        assert_eq!(mesh.order.len() as u64, summary.chunks);
    }

    #[test]
    fn a_stream_and_a_file_of_the_same_bytes_are_the_same() {
        let bytes = noise(3 << 20, 1);
        let file = file(&bytes);
        let (from_file, _) = put_and(file.path(), || {});
        let keys = owner(1);
        let name = Path::new("-");
        let mut mesh = Mesh::default();
        let from_stream =
            put_stream(bytes.as_slice(), name, context(&keys), &mut mesh, |_| {}).unwrap();
        assert_eq!(from_file.unwrap().capability.id, from_stream.capability.id);
    }

    /// More than the reading thread can be ahead, so that what comes later is still unread.
    const LONG: usize = 40 << 20;

    #[test]
    fn a_file_that_changes_while_it_is_read_gets_no_root() {
        let changes: [fn(&Path); 3] = [
            |path| {
                let mut file = OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(b"more").unwrap();
            },
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap(),
            |path| {
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                file.write_all(b"other bytes, same length").unwrap();
            },
        ];
        for change in changes {
            let file = file(&noise(LONG, 2));
            // Long ago, so that a change is seen however coarse the clock of the file system is.
            file.as_file().set_modified(std::time::UNIX_EPOCH).unwrap();
            let path = file.path().to_owned();
            let (outcome, mesh) = put_and(&path, || change(&path));
            assert!(matches!(outcome, Err(PutError::Changed { .. })), "{outcome:?}");
            assert!(mesh.order.iter().all(|(_, bytes)| *bytes > 0), "a listing was handed over");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let opened = SourceFile::open(folder.path());
        assert!(matches!(opened, Err(PutError::NotAFile { .. })), "{opened:?}");
        let pipe = folder.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
        assert!(matches!(SourceFile::open(&pipe), Err(PutError::NotAFile { .. })));
        let absent = SourceFile::open(&folder.path().join("absent"));
        assert!(matches!(absent, Err(PutError::Open { .. })), "{absent:?}");
    }

    #[test]
    fn a_reader_that_fails_names_the_file() {
        struct Failing(u32);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 == 3 {
                    Err(std::io::Error::other("rust"))
                } else {
                    Ok(buffer.len().min(9))
                }
            }
        }
        let (keys, name) = (owner(1), Path::new("/some/file"));
        let outcome = put_stream(Failing(0), name, context(&keys), &mut Mesh::default(), |_| {});
        assert!(matches!(&outcome, Err(PutError::Read { path, .. }) if path == name));
        assert_eq!(outcome.unwrap_err().to_string(), "cannot read /some/file");
    }

    #[test]
    fn a_sink_that_closes_stops_the_reading_thread() {
        struct Closed;
        impl ChunkSink for Closed {
            fn store(&mut self, _: SealedChunk, _: u64) -> Result<(), SinkClosed> {
                Err(SinkClosed)
            }
        }
        let keys = owner(1);
        let endless = std::io::repeat(7);
        let outcome = put_stream(endless, Path::new("-"), context(&keys), &mut Closed, |_| {});
        assert!(matches!(outcome, Err(PutError::Closed(SinkClosed))));
    }
}
