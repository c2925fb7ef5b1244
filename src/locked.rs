//! Files that one process at a time may use.
//!
//! A lock of `flock(2)` belongs to the open file, not to the descriptor: a child that was forked
//! while the file was open has it too, until it becomes another program. Closing the file would
//! leave it locked for that long, and the next to open it would be told that somebody uses it. So
//! it is unlocked before it is closed.

use std::fs::{File, TryLockError};
use std::ops::{Deref, DerefMut};

/// A file that nobody else locks as long as this lives.
#[derive(Debug)]
pub(crate) struct Locked(File);

impl Locked {
    /// Locks the file, or says at once why not.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] where somebody has it; what the system says.
    pub(crate) fn new(file: File) -> Result<Self, (File, TryLockError)> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(error) => Err((file, error)),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it does the same, if later.
        let _ = self.0.unlock();
    }
}

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_though_a_child_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let locked = Locked::new(File::create(&path).unwrap()).unwrap();
        // As a child has it between fork and exec.
        let inherited = locked.try_clone().unwrap();
        let other = || Locked::new(File::open(&path).unwrap());
        assert!(matches!(other(), Err((_, TryLockError::WouldBlock))));
        drop(locked);
        assert!(other().is_ok());
        drop(inherited);
    }
}
