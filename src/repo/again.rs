//! Sealed chunks made again from the files that they were cut from, where these are still what they
//! were: what an owner compares a holder's MAC with, and what it stores anew where no holder has
//! it.
//!
//! A piece of a file is where it was, or it is not found: what lies there is cut, keyed and sealed
//! once more, and counts only if that gives the very id. Whatever changed gives another key. Packs
//! of small files are not put together again; their holders prove them by other means.

use super::frame::{FrameEncoder, Kind};
use super::put::file::SourceFile;
use super::reference::ChunkRef;
use crate::core::types::CHUNK_SEALED_BYTES_MAX;
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::seal::{SEAL_OVERHEAD_BYTES, SealedChunk};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a piece was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceAt {
    /// In the file with this path.
    pub path: PathBuf,
    /// From this byte on.
    pub offset: u64,
}

impl PieceAt {
    /// `path` is as a tree has it, from the root.
    pub fn new(path: &[u8], offset: u64) -> Self {
        Self { path: Path::new("/").join(OsStr::from_bytes(path)), offset }
    }
}

/// Makes chunks again. Blocks on the disk.
#[derive(Debug, Default)]
pub struct Again {
    encoder: FrameEncoder,
    /// The file that was read last: pieces of one file come after each other.
    open: Option<SourceFile>,
    plaintext: Vec<u8>,
}

impl Again {
    /// The chunk that `reference` names, of a piece that was at this place; `None` where it is not
    /// there any more.
    pub fn piece(
        &mut self,
        keys: &OwnerKeys,
        at: &PieceAt,
        reference: &ChunkRef,
    ) -> Option<SealedChunk> {
        let bytes = usize::try_from(reference.bytes).ok()?;
        if bytes == 0 || bytes > CHUNK_SEALED_BYTES_MAX as usize {
            return None;
        }
        if self.open.as_ref().is_none_or(|open| open.path() != at.path) {
            self.open = None;
            self.open = Some(SourceFile::open(&at.path).ok()?);
        }
        self.plaintext.resize(bytes, 0);
        self.open.as_ref()?.read_at(at.offset, &mut self.plaintext).ok()?;
        let ck = ChunkKey::derive(
            &keys.dedup,
            super::sealer::VARIANT,
            Kind::File as u8,
            &self.plaintext,
        );
        if ck.expose() != reference.ck.expose() {
            return None;
        }
        let packed = self.encoder.pack(Kind::File, &self.plaintext).ok()?;
        let mut sealed = vec![0; SEAL_OVERHEAD_BYTES + packed.frame_bytes()];
        packed.write(sealed.get_mut(SEAL_OVERHEAD_BYTES..)?);
        let chunk = SealedChunk::in_place(keys, &ck, reference.locality, sealed);
        // An encoder of another version may make other bytes of the same plaintext.
        (chunk.id() == reference.id).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, Locality};
    use crate::crypto::keys::Master;
    use crate::repo::sealer::{ChunkSink, Sealer, SinkClosed};

    fn owner(seed: u8) -> OwnerKeys {
        OwnerKeys::derive(&Master::from_bytes([seed; 32]), 0)
    }

    struct One(Vec<SealedChunk>);

    impl ChunkSink for One {
        fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
            self.0.push(chunk);
            Ok(())
        }
    }

    #[test]
    fn a_piece_is_made_again_only_where_it_is_what_and_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, path) = (owner(1), folder.path().join("file"));
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &content).unwrap();
        let mut sink = One(Vec::new());
        let reference = Sealer::new(&keys, Locality(0), &mut sink).piece(&content[500..900_000]);
        let reference = reference.unwrap();
        let at =
            |offset| PieceAt::new(path.as_os_str().as_bytes().strip_prefix(b"/").unwrap(), offset);
        assert_eq!(at(1).path, path);
        let mut again = Again::default();
        let made = again.piece(&keys, &at(500), &reference).expect("it is there");
        assert_eq!(
            (made.id(), &made.sealed, &made.tags),
            (reference.id, &sink.0[0].sealed, &sink.0[0].tags)
        );
        assert!(again.piece(&keys, &at(501), &reference).is_none(), "elsewhere");
        assert!(
            again.piece(&keys, &at(content.len() as u64 - 9), &reference).is_none(),
            "too short"
        );
        assert!(again.piece(&owner(2), &at(500), &reference).is_none(), "other keys");
        let other = ChunkRef { id: ChunkId::from_bytes([7; 32]), ..reference.duplicate() };
        assert!(again.piece(&keys, &at(500), &other).is_none(), "another id");
        let huge = ChunkRef { bytes: u64::MAX, ..reference.duplicate() };
        assert!(again.piece(&keys, &at(500), &huge).is_none(), "no chunk is so large");
        let mut changed = content.clone();
        changed[700] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(Again::default().piece(&keys, &at(500), &reference).is_none(), "changed");
        std::fs::remove_file(&path).unwrap();
        assert!(Again::default().piece(&keys, &at(500), &reference).is_none(), "gone");
        std::fs::create_dir(&path).unwrap();
        assert!(Again::default().piece(&keys, &at(500), &reference).is_none(), "no file");
    }
}
