//! The owner's copy of what leads to its files: trees, listings, snapshots, manifest entries, as
//! sealed as their holders have them, one file each:
//!
//! ```text
//! <data-dir>/owner/meta/<2 hex digits of the id>/<the other 62>      header 137 || sealed
//! ```
//!
//! It only saves fetches. So nothing here is synced, everything is checked against its id when it
//! is read, and all of it may be deleted at any time. What fails is not there.

use crate::core::types::{CHUNK_SEALED_BYTES_MAX, ChunkId};
use crate::crypto::header::{HEADER_BYTES, Header};
use bytes::Bytes;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is kept: the copies that were used last, so many bytes of them.
pub const META_BYTES_MAX: u64 = 1 << 30;

/// The longest file: a header and the longest chunk.
const FILE_BYTES_MAX: u64 = HEADER_BYTES as u64 + CHUNK_SEALED_BYTES_MAX as u64;

/// The copies of one data folder.
#[derive(Debug)]
pub struct MetaCache {
    folder: PathBuf,
}

impl MetaCache {
    /// Of this data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("owner/meta") }
    }

    /// Keeps a chunk. A crash leaves all of it or nothing under its name; a power cut may leave
    /// anything, which is found when it is read.
    ///
    /// # Errors
    /// What the system says; the chunk is then not kept, which costs a fetch.
    pub fn keep(&self, header: &Header, sealed: &[u8]) -> io::Result<()> {
        let path = self.path(&header.id());
        if path.exists() {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let aside = path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&header.encode())?;
        file.write_all(sealed)?;
        drop(file);
        fs::rename(&aside, &path)
    }

    /// A chunk, if it is here and sound.
    pub fn find(&self, id: &ChunkId) -> Option<(Header, Bytes)> {
        let path = self.path(id);
        let file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        (&file).take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let mut sealed = Bytes::from(bytes);
        let front = sealed.split_to(HEADER_BYTES.min(sealed.len()));
        let header = Header::decode(&front).ok();
        let Some(header) = header.filter(|header| header.id() == *id && header.certifies(&sealed))
        else {
            // It makes room for a sound one.
            drop(fs::remove_file(&path));
            return None;
        };
        // Used now: the last to be swept away. Where the time cannot be set, it goes earlier.
        drop(file.set_modified(SystemTime::now()));
        Some((header, sealed))
    }

    /// Takes away what was not used for longest, until `most` bytes are left.
    pub fn sweep(&self, most: u64) {
        let mut all: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in entries(&self.folder) {
            for path in entries(&folder) {
                let Ok(metadata) = path.symlink_metadata() else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                all.push((used, metadata.len(), path));
            }
        }
        all.sort();
        let mut bytes = all.iter().fold(0_u64, |sum, (_, length, _)| sum.saturating_add(*length));
        for (_, length, path) in all {
            if bytes <= most {
                return;
            }
            if fs::remove_file(path).is_ok() {
                bytes = bytes.saturating_sub(length);
            }
        }
    }

    fn path(&self, id: &ChunkId) -> PathBuf {
        let name = id.to_string();
        let (folder, file) = name.split_at(2);
        self.folder.join(folder).join(file)
    }
}

/// What is in a folder, if it can be listed.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::Locality;
    use crate::crypto::keys::ChunkKey;
    use crate::crypto::seal::SealedChunk;
    use crate::repo::fixture::{owner, scratch};

    fn chunk(number: u8) -> SealedChunk {
        let ck = ChunkKey::from_bytes([number; 32]);
        SealedChunk::new(&owner(1), &ck, Locality(0), &[number; 100])
    }

    #[test]
    fn what_was_kept_is_found_and_what_the_disk_altered_is_not() {
        let folder = scratch();
        let cache = MetaCache::new(folder.path());
        let (one, other) = (chunk(1), chunk(2));
        assert_eq!(cache.find(&one.id()), None);
        for chunk in [&one, &other, &one] {
            cache.keep(&chunk.header, &chunk.sealed).unwrap();
        }
        assert_eq!(cache.find(&one.id()), Some((one.header, one.sealed.clone())));
        let path = cache.path(&one.id());
        for damage in [&b""[..], &[0; 40], &[7; 400]] {
            fs::write(&path, damage).unwrap();
            assert_eq!(cache.find(&one.id()), None);
            assert!(!path.exists(), "it makes room for a sound one");
            cache.keep(&one.header, &one.sealed).unwrap();
            assert!(cache.find(&one.id()).is_some());
        }
        fs::copy(cache.path(&other.id()), &path).unwrap();
        assert_eq!(cache.find(&one.id()), None, "a sound chunk under another name");
    }

    #[test]
    fn what_was_used_last_is_swept_last() {
        let folder = scratch();
        let cache = MetaCache::new(folder.path());
        let chunks: Vec<SealedChunk> = (1..=4).map(chunk).collect();
        let long_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        for chunk in &chunks {
            cache.keep(&chunk.header, &chunk.sealed).unwrap();
            let file = File::open(cache.path(&chunk.id())).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        cache.find(&chunks[2].id()).unwrap();
        let one = HEADER_BYTES as u64 + chunks[2].sealed.len() as u64;
        cache.sweep(one + 5);
        let left = |chunk: &SealedChunk| cache.path(&chunk.id()).exists();
        assert_eq!(chunks.iter().map(left).collect::<Vec<_>>(), [false, false, true, false]);
    }
}
