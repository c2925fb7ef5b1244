//! Blocks of a file: taken before its bytes come, so that they lie together and a full disk is
//! found early, and given back where none came. Where the file system or the system can do neither,
//! nothing happens: it is all for the better alone.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Puts blocks behind `range` of the file, which becomes as long if it was shorter.
///
/// # Errors
/// The disk is full or broken, or no file may be that long.
pub(super) fn allocate(file: &File, range: &Range<u64>) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if !range.is_empty() {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::{Errno, retry_on_intr};
        let (flags, length) = (FallocateFlags::empty(), range.end - range.start);
        let taken = retry_on_intr(|| fallocate(file, flags, range.start, length));
        if let Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO | Errno::ROFS)) =
            taken
        {
            return Err(errno.into());
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (file, range);
    Ok(())
}

/// Gives the blocks behind `range` of the file back: it is a hole from then on.
pub(super) fn punch(file: &File, range: &Range<u64>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if !range.is_empty() {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = range.end - range.start;
        let _ = rustix::io::retry_on_intr(|| fallocate(file, flags, range.start, length));
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (file, range);
}
