//! Plaintexts in, sealed chunks out: what every writer of chunks shares. Pure.
//!
//! A chunk's key is that of its content, so equal plaintexts of one kind are one chunk. Pieces of
//! files repeat, and the last 32 to 64 thousand distinct ones are remembered by their keys: such a
//! piece is sealed and handed over once. What is not remembered any more is handed over again, with
//! the same id.

use super::frame::{FrameEncoder, FrameError, Kind};
use super::reference::ChunkRef;
use crate::buffers::Buffers;
use crate::core::types::{ChunkId, Locality};
use crate::crypto::keys::{ChunkKey, OwnerKeys};
use crate::crypto::seal::{SEAL_OVERHEAD_BYTES, SealedChunk};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many distinct pieces one half of the memory for repeats holds; 5 MiB for both.
const SEEN_HALF_MAX: usize = 32 << 10;

/// Memory of chunks that have all their replicas, kept for those to come.
const IDLE_BYTES_MAX: usize = 16 << 20;

/// Replicas are not made distinct yet: `variant` of the chunk key's derivation.
pub(super) const VARIANT: u8 = 0;

/// Where sealed chunks go: in the node the owner role, behind a bounded channel.
pub trait ChunkSink {
    /// Takes one chunk over; blocks while the window is full, which is how backpressure reaches
    /// the disk. `plaintext_bytes` is how much of a file the chunk holds, 0 for what only names
    /// other chunks.
    ///
    /// A piece that repeats after very many others comes again, with the same id.
    ///
    /// # Errors
    /// [`SinkClosed`] where nobody takes chunks any more; the work then ends.
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed>;
}

/// Nobody takes chunks any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped: nobody takes its chunks any more")]
pub struct SinkClosed;

/// Whether a chunk need not be handed over, because enough holders acknowledged it.
pub trait Held {
    /// Of this chunk.
    fn is_held(&self, id: &ChunkId) -> bool;
}

/// Why a plaintext did not become a chunk in other hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than a chunk takes.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// See [`SinkClosed`].
    #[error(transparent)]
    Closed(#[from] SinkClosed),
}

/// What a sealer has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealedSoFar {
    /// Bytes of files, repeats included.
    pub bytes: u64,
    /// Chunks handed over: neither repeats nor what is held already.
    pub chunks: u64,
    /// Their sealed bytes, one copy.
    pub sealed_bytes: u64,
}

/// Makes sealed chunks of plaintexts and hands them over.
pub struct Sealer<'a, S> {
    keys: &'a OwnerKeys,
    locality: Locality,
    held: Option<&'a dyn Held>,
    sink: &'a mut S,
    encoder: FrameEncoder,
    /// What chunks are sealed in.
    buffers: Arc<Buffers>,
    seen: Seen,
    done: SealedSoFar,
}

impl<'a, S: ChunkSink> Sealer<'a, S> {
    /// Seals under `keys`; the topics of all its chunks are those of `locality`.
    pub fn new(keys: &'a OwnerKeys, locality: Locality, sink: &'a mut S) -> Self {
        let (encoder, buffers) = (FrameEncoder::new(), Buffers::new(IDLE_BYTES_MAX));
        let (seen, done) = (Seen::default(), SealedSoFar::default());
        Self { keys, locality, held: None, sink, encoder, buffers, seen, done }
    }

    /// Does not hand over what is `held`.
    pub fn sparing(self, held: &'a dyn Held) -> Self {
        Self { held: Some(held), ..self }
    }

    /// What was done until now.
    pub fn done(&self) -> SealedSoFar {
        self.done
    }

    /// Seals and hands over a piece of a file, unless it was seen before.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn piece(&mut self, plaintext: &[u8]) -> Result<ChunkRef, SealError> {
        let bytes = plaintext.len() as u64;
        let ck = ChunkKey::derive(&self.keys.dedup, VARIANT, Kind::File as u8, plaintext);
        let name = Seen::name(&ck);
        let id = match self.seen.find(&name) {
            Some(id) => id,
            None => {
                let id = self.seal(&ck, Kind::File, plaintext, bytes)?;
                self.seen.add(name, id);
                id
            }
        };
        self.done.bytes += bytes;
        Ok(ChunkRef { ck, id, locality: self.locality, bytes })
    }

    /// A piece that need not be handed over when it comes: enough holders have it.
    pub fn remember(&mut self, piece: &ChunkRef) {
        self.seen.add(Seen::name(&piece.ck), piece.id);
    }

    /// Seals and hands over a pack.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn pack(&mut self, plaintext: &[u8]) -> Result<ChunkRef, SealError> {
        let bytes = plaintext.len() as u64;
        let ck = ChunkKey::derive(&self.keys.dedup, VARIANT, Kind::Pack as u8, plaintext);
        let id = self.seal(&ck, Kind::Pack, plaintext, bytes)?;
        self.done.bytes += bytes;
        Ok(ChunkRef { ck, id, locality: self.locality, bytes })
    }

    /// Where chunks go.
    pub fn sink(&mut self) -> &mut S {
        self.sink
    }

    /// Seals and hands over what names other chunks. `bytes` is what its reference will say: how
    /// many bytes of files lie below it.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn meta(
        &mut self,
        kind: Kind,
        plaintext: &[u8],
        bytes: u64,
    ) -> Result<ChunkRef, SealError> {
        let ck = ChunkKey::derive(&self.keys.dedup, VARIANT, kind as u8, plaintext);
        let id = self.seal(&ck, kind, plaintext, 0)?;
        Ok(ChunkRef { ck, id, locality: self.locality, bytes })
    }

    fn seal(
        &mut self,
        ck: &ChunkKey,
        kind: Kind,
        plaintext: &[u8],
        plaintext_bytes: u64,
    ) -> Result<ChunkId, SealError> {
        let packed = self.encoder.pack(kind, plaintext)?;
        let mut bytes = self.buffers.take(SEAL_OVERHEAD_BYTES + packed.frame_bytes());
        bytes.lengthen(SEAL_OVERHEAD_BYTES + packed.frame_bytes());
        if let Some(frame) = bytes.get_mut(SEAL_OVERHEAD_BYTES..) {
            packed.write(frame);
        }
        let chunk = SealedChunk::in_place(self.keys, ck, self.locality, bytes);
        let id = chunk.id();
        if self.held.is_some_and(|held| held.is_held(&id)) {
            return Ok(id);
        }
        let sealed_bytes = chunk.sealed.len() as u64;
        self.sink.store(chunk, plaintext_bytes)?;
        self.done.chunks += 1;
        self.done.sealed_bytes += sealed_bytes;
        Ok(id)
    }
}

impl<S> std::fmt::Debug for Sealer<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("done", &self.done).finish_non_exhaustive()
    }
}

/// The pieces of this run, by a hash of their keys: the last 32 to 64 thousand distinct ones.
#[derive(Default)]
struct Seen {
    recent: BTreeMap<[u8; 32], ChunkId>,
    older: BTreeMap<[u8; 32], ChunkId>,
}

impl Seen {
    /// Chunk keys themselves are not kept: this memory is not wiped.
    fn name(ck: &ChunkKey) -> [u8; 32] {
        *blake3::hash(ck.expose()).as_bytes()
    }

    fn find(&self, name: &[u8; 32]) -> Option<ChunkId> {
        self.recent.get(name).or_else(|| self.older.get(name)).copied()
    }

    fn add(&mut self, name: [u8; 32], id: ChunkId) {
        if self.recent.len() >= SEEN_HALF_MAX {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(name, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_repeats_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..(3 * SEEN_HALF_MAX as u64) {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            seen.add(name, ChunkId::from_bytes(name));
            assert!(seen.recent.len() + seen.older.len() <= 2 * SEEN_HALF_MAX);
            assert_eq!(seen.find(&name), Some(ChunkId::from_bytes(name)));
        }
    }
}
