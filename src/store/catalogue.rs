//! The [`Catalogue`] on sled 0.34.7: the only file that names sled.
//!
//! What must be known of sled 0.34.7, each point measured:
//!
//! - `flush` ends in `sync_file_range`, which makes neither metadata nor the drive's cache
//!   durable: an `fsync` of `<index>/db` through our own descriptor follows each one.
//! - After a power cut it may open older or empty without an error: the position in the catalogue
//!   sums up the entries, and the log is the truth.
//! - It may panic on what it finds, and an interrupted open leaves a `snap.*.generating` that makes
//!   all later ones fail: then the folder is removed and the catalogue rebuilt.
//! - Values must stay under 1 KiB: a page above 128 KiB becomes a file that is never synced.

use super::disk::DiskError;
use super::index::{Catalogue, CatalogueError, Change};
use super::segments::sync_folder;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The largest value.
const VALUE_BYTES_MAX: usize = 1024;

/// A sled database with one tree.
pub struct SledCatalogue {
    db: sled::Db,
    /// Our own descriptor of the file behind it.
    file: fs::File,
}

impl std::fmt::Debug for SledCatalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SledCatalogue(..)")
    }
}

/// Whether an opened catalogue is what lay there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// Yes, or there was nothing.
    AsFound,
    /// It could not be opened: it was removed and is empty now.
    Anew,
}

impl SledCatalogue {
    /// Opens the catalogue in `dir`; one that does not open is replaced by an empty one. The
    /// caller holds the store's lock, so that no other process can be the reason.
    ///
    /// # Errors
    /// [`CatalogueError`] where an empty one cannot be made either.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<(Self, Opened), CatalogueError> {
        let unfinished = has_unfinished_snapshot(dir);
        if !unfinished && let Ok(catalogue) = Self::try_open(dir, cache_bytes) {
            return Ok((catalogue, Opened::AsFound));
        }
        Ok((Self::open_anew(dir, cache_bytes)?, Opened::Anew))
    }

    /// Removes whatever is in `dir` and makes an empty catalogue there.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn open_anew(dir: &Path, cache_bytes: u64) -> Result<Self, CatalogueError> {
        if let Err(error) = fs::remove_dir_all(dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        Self::try_open(dir, cache_bytes)
    }

    fn try_open(dir: &Path, cache_bytes: u64) -> Result<Self, CatalogueError> {
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes);
        // Flushed by us alone: a group is durable when we say so, not every half second.
        let db = guarded(|| config.flush_every_ms(None).open())?;
        let file = fs::File::open(dir.join("db")).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let durable = sync_folder(dir).and_then(|()| dir.parent().map_or(Ok(()), sync_folder));
        durable.map_err(|error: DiskError| failed(error))?;
        Ok(Self { db, file })
    }
}

fn has_unfinished_snapshot(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("snap.") && name.ends_with(".generating")
    })
}

fn failed(error: impl std::fmt::Display) -> CatalogueError {
    CatalogueError::Failed(error.to_string())
}

/// Runs `call`; a panic inside sled is an error like any other.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, CatalogueError> {
    // What sled leaves behind when it panics is not used again: the store turns read-only.
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed("sled panicked")),
    }
}

impl Catalogue for SledCatalogue {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        guarded(|| Ok(self.db.get(key)?.map(|value| value.to_vec())))
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        let mut batch = sled::Batch::default();
        for Change { key, value } in changes {
            match value.as_deref() {
                Some(value) if value.len() >= VALUE_BYTES_MAX => {
                    return Err(failed("a value is too long"));
                }
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
        }
        guarded(|| self.db.apply_batch(batch))
    }

    fn flush(&self) -> Result<(), CatalogueError> {
        guarded(|| self.db.flush())?;
        self.file.sync_all().map_err(failed)
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError> {
        guarded(|| {
            for pair in self.db.scan_prefix(prefix) {
                let (key, value) = pair?;
                visit(&key, &value);
            }
            Ok(())
        })
    }

    fn clear(&self) -> Result<(), CatalogueError> {
        guarded(|| self.db.clear())
    }
}
