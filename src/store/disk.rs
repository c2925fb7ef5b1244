//! What the store asks of a disk: a handful of calls on files named by number.
//!
//! The adapters are [`super::segments`] (a folder) and [`super::memory`]; the simulator and the
//! tests wrap either with faults. Every call is by `&self`, so that readers share the disk with
//! the writer. Nothing here is retried by the store: an error is a fact.

use crate::planted::{Bug, is_on};

/// The files of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// A segment; numbers only grow.
    Segment(u64),
    /// A generation of the ledger; numbers only grow.
    Ledger(u64),
    /// Space set aside, given back when the disk is nearly full.
    Ballast,
}

/// Why the disk did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space, or a quota is used up.
    #[error("no space is left on the disk")]
    Full,
    /// There is no such file.
    #[error("the file does not exist")]
    NotFound,
    /// This disk cannot do that at all.
    #[error("the disk does not support this")]
    Unsupported,
    /// Anything else; the operating system's error number, 0 where there is none.
    #[error("the disk failed (error {0})")]
    Io(i32),
}

/// A disk as the store sees it.
pub trait Disk {
    /// The numbers of all segments, in no particular order.
    ///
    /// # Errors
    /// [`DiskError`].
    fn segments(&self) -> Result<Vec<u64>, DiskError>;

    /// The numbers of all generations of the ledger, in no particular order.
    ///
    /// # Errors
    /// [`DiskError`].
    fn ledgers(&self) -> Result<Vec<u64>, DiskError>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] and others.
    fn len(&self, file: File) -> Result<u64, DiskError>;

    /// The space that a file takes in bytes: its length without the holes.
    ///
    /// # Errors
    /// As [`Self::len`].
    fn taken(&self, file: File) -> Result<u64, DiskError>;

    /// Makes an empty file; its name is durable after [`Self::sync_names`].
    ///
    /// # Errors
    /// [`DiskError`].
    fn create(&self, file: File) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`, which may be the end. On an error any part of it may
    /// have been written.
    ///
    /// # Errors
    /// [`DiskError`].
    fn write_at(&self, file: File, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Fills `bytes` from `offset` as far as the file goes; returns how many bytes that were.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read_at(&self, file: File, offset: u64, bytes: &mut [u8]) -> Result<usize, DiskError>;

    /// Contents and length are durable on return.
    ///
    /// # Errors
    /// [`DiskError`]; what was written since the last success may then be lost, and a second call
    /// proves nothing.
    fn sync_data(&self, file: File) -> Result<(), DiskError>;

    /// Created and unlinked names are durable on return.
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    fn sync_names(&self) -> Result<(), DiskError>;

    /// Cuts a file to `length` bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    fn truncate(&self, file: File, length: u64) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`DiskError`].
    fn unlink(&self, file: File) -> Result<(), DiskError>;

    /// Gives the space of a range back; the range then reads as zeros and the length stays.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] where the file system cannot.
    fn punch_hole(&self, file: File, offset: u64, length: u64) -> Result<(), DiskError>;

    /// Makes `file` a file of `length` bytes whose space is really taken.
    ///
    /// # Errors
    /// [`DiskError::Unsupported`] where the file system cannot.
    fn allocate(&self, file: File, length: u64) -> Result<(), DiskError>;

    /// Bytes that could still be written.
    ///
    /// # Errors
    /// [`DiskError`].
    fn free_space(&self) -> Result<u64, DiskError>;

    /// After this, reads come from the medium and not from a cache, as far as the system allows:
    /// after a failed sync a cache may show what the medium does not have.
    fn forget_cached(&self, file: File) {
        let _ = file;
    }
}

/// Makes names durable that were found: an earlier process may have ended between making or
/// removing a file and that.
///
/// # Errors
/// As [`Disk::sync_names`].
pub(super) fn sync_found_names(disk: &impl Disk) -> Result<(), DiskError> {
    match is_on(Bug::LeaveNames) {
        true => Ok(()),
        false => disk.sync_names(),
    }
}
