//! The partial file of a get, and the journal by which a later run goes on from it.
//!
//! While a file is fetched its bytes lie in `<output>.quloud-part`, and
//! `<output>.quloud-part.journal` says which of them are right. Layout, integers little-endian:
//!
//! ```text
//! "quloud-part" | version u8 = 1 | root id 32 | total u64 | CRC-32 of all before u32
//! then records: offset u64 | length u32 | BLAKE3 of these bytes 32 | CRC-32 of all before u32
//! ```
//!
//! Nothing is synced before the end, because nothing is believed: a later run hashes what the
//! records name, and fetches again what does not match.
//!
//! How long the file is only its listings say, and whoever made the capability made those up. So
//! room is taken in small steps as verified bytes come, and never the last of the disk.

use super::{Output, OutputError};
use crate::core::types::ChunkId;
use crate::locked::Locked;
use crate::repo::blocks::allocate;
use crate::repo::frame::PLAINTEXT_BYTES_MAX;
use crate::repo::ranges::Ranges;
use crate::repo::record::{read_whole, with_checksum, without_checksum};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MAGIC: &[u8; 11] = b"quloud-part";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 11 + 1 + 32 + 8 + 4;
const RECORD_BYTES: usize = 8 + 4 + 32 + 4;

/// A partial file. Before [`Output::begin`] nothing is on disk.
pub(super) struct PartFile<'a> {
    output: &'a Path,
    path: PathBuf,
    journal_path: PathBuf,
    cancel: &'a AtomicBool,
    open: Option<Open>,
}

struct Open {
    file: Locked,
    journal: File,
    total: u64,
    ranges: Ranges,
    /// Up to here the file has its blocks.
    allocated: u64,
}

/// Room is taken so many bytes ahead of what is written.
const STEP_BYTES: u64 = 64 << 20;

/// So long a get waits for another of the same output to give way.
const GIVES_WAY: Duration = Duration::from_secs(5);

/// What a get leaves free on the disk for all else: this, or a twentieth of a small disk.
const RESERVE_BYTES: u64 = 256 << 20;

impl<'a> PartFile<'a> {
    pub(super) fn new(output: &'a Path, cancel: &'a AtomicBool) -> Self {
        let with = |suffix: &str| {
            let mut name = output.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (path, journal_path) = (with(".quloud-part"), with(".quloud-part.journal"));
        Self { output, path, journal_path, cancel, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that a later run can go on from.
    pub(super) fn verified_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.ranges.bytes())
    }

    /// Takes the partial file and its journal away.
    pub(super) fn discard(self) {
        if self.open.is_some() {
            // What cannot be removed is taken for what it is by the next run.
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_file(&self.journal_path);
        }
    }

    /// Makes the bytes durable and gives the file its name, which must be free unless `replace`.
    pub(super) fn finish(&mut self, replace: bool) -> Result<(), OutputError> {
        let failed = |path: &Path, source| OutputError::Io { path: path.to_owned(), source };
        let open = self.open.as_ref().ok_or_else(|| {
            failed(&self.path, io::Error::new(ErrorKind::NotFound, "the get never began"))
        })?;
        let lacking = open.total - open.ranges.bytes();
        if lacking > 0 {
            let what = format!("{lacking} bytes were never written");
            return Err(failed(&self.path, io::Error::new(ErrorKind::UnexpectedEof, what)));
        }
        open.file.sync_all().map_err(|source| failed(&self.path, source))?;
        let renamed = if replace {
            std::fs::rename(&self.path, self.output)
        } else {
            rename_to_new(&self.path, self.output)
        };
        renamed.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => OutputError::Exists { path: self.output.to_owned() },
            _ => failed(self.output, source),
        })?;
        // The file is complete under its name: what is left over is litter, not an error.
        let _ = std::fs::remove_file(&self.journal_path);
        let folder = folder_of(self.output);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|s| failed(folder, s))
    }

    /// The partial file, which is nobody else's until it is closed. One that another get has is
    /// waited for: a get that was called off a moment ago lets it go at its next step.
    fn open_alone(&self) -> Result<Locked, OutputError> {
        let deadline = Instant::now() + GIVES_WAY;
        loop {
            match Locked::new(self.open_ours(&self.path)?) {
                // Else another get finished between open and lock, and gave this very file its
                // name, or took it away.
                Ok(file) if is_still_named(&file, &self.path) => return Ok(file),
                Ok(_) | Err((_, TryLockError::WouldBlock)) => {}
                Err((_, TryLockError::Error(source))) => {
                    return Err(OutputError::Io { path: self.path.clone(), source });
                }
            }
            if Instant::now() >= deadline || self.cancel.load(Ordering::Relaxed) {
                return Err(OutputError::Busy { path: self.path.clone() });
            }
            std::thread::sleep(GIVES_WAY / 100);
        }
    }

    fn open_both(&self, root: &ChunkId, total: u64) -> Result<Open, OutputError> {
        let failed = |source| OutputError::Io { path: self.path.clone(), source };
        let mut file = self.open_alone()?;
        let mut journal = self.open_ours(&self.journal_path)?;
        let header = encode_header(root, total);
        let ranges = match self.verified(&mut file, &mut journal, &header, total) {
            Ok(ranges) => ranges,
            Err(source) => return Err(failed(source)),
        };
        if ranges.bytes() == 0 {
            let empty = |file: &mut File| file.set_len(0).and_then(|()| file.rewind());
            empty(&mut file).map_err(failed)?;
            empty(&mut journal).and_then(|()| journal.write_all(&header)).map_err(failed)?;
        }
        Ok(Open { file, journal, total, ranges, allocated: 0 })
    }

    /// Opens or makes a file that nobody else can read; what is a link or somebody else's is
    /// refused.
    fn open_ours(&self, path: &Path) -> Result<File, OutputError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use rustix::fs::OFlags;
            use std::os::unix::fs::OpenOptionsExt;
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            options.mode(0o600).custom_flags(flags.bits().cast_signed());
        }
        let file = options.open(path).map_err(|source| match source.raw_os_error() {
            #[cfg(unix)]
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
                OutputError::NotOurs { path: path.to_owned() }
            }
            _ => OutputError::Io { path: path.to_owned(), source },
        })?;
        if is_ours(&file) { Ok(file) } else { Err(OutputError::NotOurs { path: path.to_owned() }) }
    }

    /// What an earlier run wrote and what still hashes to what it recorded. Leaves the journal
    /// open at the end of its last whole record.
    fn verified(
        &self,
        file: &mut File,
        journal: &mut File,
        header: &[u8; HEADER_BYTES],
        total: u64,
    ) -> io::Result<Ranges> {
        let mut ranges = Ranges::default();
        let mut good = HEADER_BYTES as u64;
        {
            let mut reader = BufReader::new(&mut *journal);
            let mut found = [0; HEADER_BYTES];
            if !read_whole(&mut reader, &mut found)? || found != *header {
                return Ok(ranges);
            }
            let mut record = [0; RECORD_BYTES];
            let mut buffer = Vec::new();
            while read_whole(&mut reader, &mut record)? {
                let Some((range, hash)) = decode_record(&record, total) else {
                    break;
                };
                good += RECORD_BYTES as u64;
                if hash_of(file, &range, &mut buffer)? == Some(hash) {
                    ranges.add(&range);
                }
                if self.cancel.load(Ordering::Relaxed) {
                    return Err(ErrorKind::Interrupted.into());
                }
            }
        }
        journal.set_len(good)?;
        journal.seek(SeekFrom::Start(good))?;
        Ok(ranges)
    }
}

impl Output for PartFile<'_> {
    fn begin(&mut self, root: &ChunkId, total: u64) -> Result<(), OutputError> {
        let failed = |source| OutputError::Io { path: self.path.clone(), source };
        let open = self.open.insert(self.open_both(root, total)?);
        let room = Room::of(&open.file).map_err(failed)?;
        let needed = total.saturating_sub(room.taken);
        room.check(&self.path, needed)?;
        // A length without blocks: those come with the bytes.
        open.file.set_len(total).map_err(failed)
    }

    fn holds(&self, range: &Range<u64>) -> bool {
        self.open.as_ref().is_some_and(|open| open.ranges.contains(range))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let range = offset..offset.saturating_add(bytes.len() as u64);
        if range.end > open.allocated {
            open.allocate(&self.path, &range)?;
        }
        let write = |open: &mut Open| {
            open.file.seek(SeekFrom::Start(offset))?;
            open.file.write_all(bytes)?;
            open.journal.write_all(&encode_record(offset, bytes))
        };
        write(open).map_err(|source| no_room_or(&self.path, &open.file, source))?;
        open.ranges.add(&range);
        Ok(())
    }
}

impl Open {
    /// Takes room for `range` and some more. Refused where the disk has no more than its reserve:
    /// others filled it meanwhile.
    fn allocate(&mut self, path: &Path, range: &Range<u64>) -> Result<(), OutputError> {
        // What an earlier run wrote before the range has its blocks.
        let start = self.allocated.max(range.start);
        let end = range.end.saturating_add(STEP_BYTES).min(self.total.max(range.end));
        let step = end.saturating_sub(start);
        let failed = |source| OutputError::Io { path: path.to_owned(), source };
        Room::of(&self.file).map_err(failed)?.check(path, step)?;
        let allocated = allocate(&self.file, &(start..end.max(start)));
        allocated.map_err(|source| no_room_or(path, &self.file, source))?;
        self.allocated = end;
        Ok(())
    }
}

/// The disk below a file, in bytes.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// What the file takes already.
    taken: u64,
    /// Free for us.
    free: u64,
    /// The whole disk.
    disk: u64,
}

impl Room {
    #[cfg(unix)]
    fn of(file: &File) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let taken = file.metadata()?.blocks().saturating_mul(512);
        let disk = rustix::fs::fstatvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { taken, free: bytes(disk.f_bavail), disk: bytes(disk.f_blocks) })
    }

    #[cfg(not(unix))]
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { taken: file.metadata()?.len(), free: u64::MAX, disk: u64::MAX })
    }

    /// Free bytes that a get may take.
    fn available(self) -> u64 {
        self.free.saturating_sub(RESERVE_BYTES.min(self.disk / 20))
    }

    /// # Errors
    /// [`OutputError::Space`] where the disk has no room for `needed` bytes more.
    fn check(self, path: &Path, needed: u64) -> Result<(), OutputError> {
        let available = self.available();
        if needed <= available {
            return Ok(());
        }
        Err(OutputError::Space { path: path.to_owned(), needed, available })
    }
}

/// A disk that filled up between a look at it and a write says so like one that was full before.
fn no_room_or(path: &Path, file: &File, source: io::Error) -> OutputError {
    let path = path.to_owned();
    if source.kind() != ErrorKind::StorageFull {
        return OutputError::Io { path, source };
    }
    let available = Room::of(file).map_or(0, Room::available);
    OutputError::Space { path, needed: available.saturating_add(1), available }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_ours(file: &File) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mine = metadata.uid() == rustix::process::geteuid().as_raw();
        metadata.is_file() && metadata.nlink() == 1 && mine
    }
    #[cfg(not(unix))]
    {
        metadata.is_file()
    }
}

#[cfg(unix)]
fn is_still_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let opened = file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((named, opened), (Ok(named), Ok(opened)) if named == opened)
}

#[cfg(not(unix))]
fn is_still_named(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Renames without ever replacing something.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system does not know the flag: the way below does the same in two steps.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            outcome => return Ok(outcome?),
        }
    }
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

fn hash_of(
    file: &mut File,
    range: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<[u8; 32]>> {
    let length = usize::try_from(range.end - range.start).unwrap_or(PLAINTEXT_BYTES_MAX);
    buffer.resize(length, 0);
    file.seek(SeekFrom::Start(range.start))?;
    let whole = read_whole(file, buffer)?;
    Ok(whole.then(|| *blake3::hash(buffer).as_bytes()))
}

fn encode_header(root: &ChunkId, total: u64) -> [u8; HEADER_BYTES] {
    let parts: [&[u8]; 4] = [MAGIC, &[VERSION], root.as_bytes(), &total.to_le_bytes()];
    with_checksum(&parts)
}

fn encode_record(offset: u64, bytes: &[u8]) -> [u8; RECORD_BYTES] {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let hash = blake3::hash(bytes);
    with_checksum(&[&offset.to_le_bytes(), &length.to_le_bytes(), hash.as_bytes()])
}

/// Range and hash of a record; `None` where it is torn or damaged.
fn decode_record(record: &[u8; RECORD_BYTES], total: u64) -> Option<(Range<u64>, [u8; 32])> {
    let body = without_checksum(record)?;
    let (offset, rest) = body.split_first_chunk::<8>()?;
    let (length, hash) = rest.split_first_chunk::<4>()?;
    let (offset, length) = (u64::from_le_bytes(*offset), u64::from(u32::from_le_bytes(*length)));
    let end = offset.checked_add(length)?;
    let sound = length > 0 && length <= PLAINTEXT_BYTES_MAX as u64 && end <= total;
    sound.then_some((offset..end, hash.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[cfg(unix)]
    #[test]
    fn a_length_that_is_only_claimed_takes_no_room() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let cancel = AtomicBool::new(false);
        let mut part = PartFile::new(&output, &cancel);
        let blocks = |part: &PartFile<'_>| {
            std::fs::metadata(part.path()).unwrap().blocks().saturating_mul(512)
        };
        part.begin(&ChunkId::from_bytes([1; 32]), 3 * STEP_BYTES).unwrap();
        assert!(blocks(&part) < 1 << 20, "{}", blocks(&part));
        part.write(0, &[7; 1000]).unwrap();
        assert!(blocks(&part) <= STEP_BYTES + (1 << 20), "{}", blocks(&part));
        part.discard();
    }

    #[test]
    fn a_get_leaves_the_reserve_free() {
        let path = Path::new("out");
        let room = |free, disk| Room { taken: 0, free, disk };
        let large = room(1 << 40, 1 << 41);
        assert!(large.check(path, (1 << 40) - RESERVE_BYTES).is_ok());
        let refused = large.check(path, (1 << 40) - RESERVE_BYTES + 1).unwrap_err();
        let available = (1_u64 << 40) - RESERVE_BYTES;
        assert!(
            matches!(refused, OutputError::Space { available: found, .. } if found == available)
        );
        assert!(room(100, 1000).check(path, 50).is_ok());
        assert!(room(100, 1000).check(path, 51).is_err());
        assert!(room(49, 1000).check(path, 0).is_ok(), "what is there needs no room");
        assert!(room(49, 1000).check(path, 1).is_err());
    }

    proptest! {
        #[test]
        fn any_record_is_sound_or_refused(
            mut record in any::<[u8; RECORD_BYTES]>(),
            total in any::<u64>(),
        ) {
            prop_assert_eq!(decode_record(&record, total).map(|(range, _)| range), None);
            let checksum = crc32fast::hash(&record[..RECORD_BYTES - 4]).to_le_bytes();
            record[RECORD_BYTES - 4..].copy_from_slice(&checksum);
            if let Some((range, _)) = decode_record(&record, total) {
                prop_assert!(range.start < range.end && range.end <= total);
            }
        }
    }
}
