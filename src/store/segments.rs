//! The [`Disk`] over a folder of files.

use super::disk::{Disk, DiskError, File};
use crate::locked::Locked;
use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files that are kept open at most, besides those with writes that are not synced.
const OPEN_FILES_MAX: usize = 32;

/// A folder as a disk.
#[derive(Debug)]
pub struct FileDisk {
    dir: PathBuf,
    segments: PathBuf,
    open: Mutex<OpenFiles>,
    /// Held as long as the disk is; the kernel lets it go with the process.
    _lock: Locked,
}

#[derive(Debug, Default)]
struct OpenFiles {
    files: BTreeMap<File, Handle>,
    uses: u64,
}

#[derive(Debug)]
struct Handle {
    file: Arc<fs::File>,
    used: u64,
    /// A sync through another descriptor could miss an error of these writes.
    unsynced: bool,
    /// Written, and the kernel was not yet asked to begin with it.
    waiting: Range<u64>,
}

/// The kernel is asked to begin writing after this many bytes: the disk then works while the next
/// chunks are wrapped, and the sync at the end of a group has less left to wait for.
const WRITE_BEHIND_BYTES: u64 = 4 << 20;

/// What `st_blocks` counts in, whatever the file system's blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

impl FileDisk {
    /// Opens `dir`, making it where it is missing, and locks it. `None`: another process has it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(dir: &Path) -> Result<Option<Self>, DiskError> {
        let segments = dir.join("segments");
        fs::create_dir_all(&segments).map_err(io)?;
        let lock = open(&dir.join("lock"), OFlags::RDWR | OFlags::CREATE)?;
        let lock = match Locked::new(lock) {
            Ok(lock) => lock,
            Err((_, fs::TryLockError::WouldBlock)) => return Ok(None),
            Err((_, fs::TryLockError::Error(error))) => return Err(io(error)),
        };
        let open = Mutex::new(OpenFiles::default());
        let disk = Self { dir: dir.to_owned(), segments, open, _lock: lock };
        sync_folder(&disk.dir)?;
        if let Some(parent) = disk.dir.parent() {
            sync_folder(parent)?;
        }
        Ok(Some(disk))
    }

    fn path(&self, file: File) -> PathBuf {
        match file {
            File::Segment(number) => self.segments.join(format!("{number:016x}.seg")),
            File::Ledger(number) => self.segments.join(format!("{number:016x}.ledger")),
            File::Ballast => self.dir.join("ballast"),
        }
    }

    /// Of the files whose names end so.
    fn numbers(&self, suffix: &str) -> Result<Vec<u64>, DiskError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.segments).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
            let number = number.filter(|digits| digits.len() == 16);
            numbers.extend(number.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        }
        Ok(numbers)
    }

    fn files(&self) -> MutexGuard<'_, OpenFiles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, file: File) -> Result<Arc<fs::File>, DiskError> {
        let mut open_files = self.files();
        open_files.uses = open_files.uses.saturating_add(1);
        let used = open_files.uses;
        if let Some(handle) = open_files.files.get_mut(&file) {
            handle.used = used;
            return Ok(Arc::clone(&handle.file));
        }
        let opened = Arc::new(open(&self.path(file), OFlags::RDWR)?);
        let handle = Handle { file: Arc::clone(&opened), used, unsynced: false, waiting: 0..0 };
        open_files.files.insert(file, handle);
        open_files.close_oldest();
        Ok(opened)
    }

    fn mark(&self, file: File, unsynced: bool) {
        if let Some(handle) = self.files().files.get_mut(&file) {
            handle.unsynced = unsynced;
        }
    }
}

impl FileDisk {
    /// Notes a write; the range to begin with, once that is long enough.
    fn write_behind(&self, file: File, range: Range<u64>) -> Option<Range<u64>> {
        let mut files = self.files();
        let handle = files.files.get_mut(&file)?;
        let from =
            if handle.waiting.end == range.start { handle.waiting.start } else { range.start };
        handle.waiting = from..range.end;
        let enough = range.end.saturating_sub(from) >= WRITE_BEHIND_BYTES;
        enough.then(|| std::mem::replace(&mut handle.waiting, range.end..range.end))
    }
}

impl OpenFiles {
    fn close_oldest(&mut self) {
        if self.files.len() > OPEN_FILES_MAX {
            let idle = self.files.iter().filter(|(_, handle)| !handle.unsynced);
            let oldest = idle.min_by_key(|(_, handle)| handle.used).map(|(file, _)| *file);
            oldest.map(|file| self.files.remove(&file));
        }
    }
}

/// Opens without following a link, and closed to child processes.
fn open(path: &Path, flags: OFlags) -> Result<fs::File, DiskError> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(fs::File::from).map_err(errno)
}

/// Names in `dir` are durable on return.
pub(super) fn sync_folder(dir: &Path) -> Result<(), DiskError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
}

fn io(error: std::io::Error) -> DiskError {
    error.raw_os_error().map_or(DiskError::Io(0), |code| errno(Errno::from_raw_os_error(code)))
}

fn errno(error: Errno) -> DiskError {
    match error {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => DiskError::Full,
        Errno::NOENT => DiskError::NotFound,
        Errno::OPNOTSUPP | Errno::NOSYS => DiskError::Unsupported,
        error => DiskError::Io(error.raw_os_error()),
    }
}

impl Disk for FileDisk {
    fn segments(&self) -> Result<Vec<u64>, DiskError> {
        self.numbers(".seg")
    }

    fn ledgers(&self) -> Result<Vec<u64>, DiskError> {
        self.numbers(".ledger")
    }

    fn len(&self, file: File) -> Result<u64, DiskError> {
        fs::symlink_metadata(self.path(file)).map(|metadata| metadata.len()).map_err(io)
    }

    fn taken(&self, file: File) -> Result<u64, DiskError> {
        let metadata = fs::symlink_metadata(self.path(file)).map_err(io)?;
        Ok(metadata.blocks().saturating_mul(STAT_BLOCK_BYTES))
    }

    fn create(&self, file: File) -> Result<(), DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let opened = Arc::new(open(&self.path(file), flags)?);
        let mut open_files = self.files();
        let used = open_files.uses;
        let handle = Handle { file: opened, used, unsynced: true, waiting: 0..0 };
        open_files.files.insert(file, handle);
        Ok(())
    }

    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let handle = self.handle(file)?;
        self.mark(file, true);
        handle.write_all_at(bytes, offset).map_err(io)?;
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(range) = self.write_behind(file, offset..end) {
            // On Linux this advice begins to write what is dirty. Advice only: the sync decides.
            let length = NonZeroU64::new(range.end.saturating_sub(range.start));
            let _ = rustix::fs::fadvise(&*handle, range.start, length, Advice::DontNeed);
        }
        Ok(())
    }

    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError> {
        let handle = self.handle(file)?;
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            match handle.read_at(rest, at) {
                Ok(0) => break,
                Ok(more) => read = read.saturating_add(more),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
        Ok(read)
    }

    fn sync_data(&self, file: File) -> Result<(), DiskError> {
        let handle = self.handle(file)?;
        rustix::fs::fdatasync(&*handle).map_err(errno)?;
        self.mark(file, false);
        Ok(())
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        sync_folder(&self.segments)
    }

    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError> {
        let handle = self.handle(file)?;
        self.mark(file, true);
        handle.set_len(length).map_err(io)
    }

    fn unlink(&self, file: File) -> Result<(), DiskError> {
        self.files().files.remove(&file);
        fs::remove_file(self.path(file)).map_err(io)
    }

    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError> {
        let handle = self.handle(file)?;
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&*handle, mode, offset, length).map_err(errno)
    }

    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError> {
        let made = open(&self.path(file), OFlags::RDWR | OFlags::CREATE)?;
        let taken = rustix::fs::fallocate(&made, FallocateFlags::empty(), 0, length);
        taken.map_err(errno).inspect_err(|_| {
            // Half of it helps nobody, and the error is on its way already.
            let _ = fs::remove_file(self.path(file));
        })
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        let space = rustix::fs::statvfs(&self.segments).map_err(errno)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn forget_cached(&self, file: File) {
        if let Ok(handle) = self.handle(file) {
            // Advice only: where it is not taken, reads are no worse than without it.
            let _ = rustix::fs::fadvise(&*handle, 0, None, Advice::DontNeed);
        }
    }
}
