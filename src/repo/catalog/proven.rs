//! When each holder last said that it keeps a chunk, by an ack or when it was asked.
//!
//! The times lie in memory, four bytes beside each holder of a chunk, and in a file of their own,
//! `<data-dir>/owner/proven`: a journal like the catalogue's, written anew as a whole, with what is
//! no older than [`BELIEVED_S`]. Without it, or with less in it, more is asked again: so it is
//! written now and then, and nothing is lost with it. Nobody waits for the catalogue meanwhile: see
//! [`ProvenFile`].
//!
//! Times are the wall clock's, in seconds. One that lies ahead counts as none.

use super::entry::{Entry, PROVEN_CHUNKS_MAX, Proven};
use super::journal::{Journal, Seal};
use super::{Catalog, CatalogError, append};
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::crypto::keys::OwnerKeys;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How long it is believed that a holder keeps a chunk: 24 hours, in seconds.
pub const BELIEVED_S: u64 = 24 * 3600;

/// How many nodes have a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// They acknowledged it, with the stores that they have now.
    pub acked: usize,
    /// And that was, or they said so again, since the given time.
    pub proven: usize,
}

impl Catalog {
    /// How many nodes have this chunk, and of how many that was shown from `since_s` to `now_s`:
    /// seconds since 1970.
    pub fn replicas_of(&self, chunk: &ChunkId, (since_s, now_s): (u64, u64)) -> Replicas {
        self.state.replicas_of(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// Who acknowledged this chunk, and did not show since `since_s` that it has it still.
    pub fn unproven_holders(
        &self,
        chunk: &ChunkId,
        (since_s, now_s): (u64, u64),
    ) -> impl Iterator<Item = NodeId> {
        self.state.unproven_holders(chunk, (seconds(since_s), seconds(now_s)))
    }

    /// This node said at `at_s` that it keeps the chunk; or, with `None`, that it does not. Another
    /// store than the one that acknowledged it says nothing of that.
    pub fn prove(&mut self, node: &NodeId, epoch: &StoreEpoch, chunk: &ChunkId, at_s: Option<u64>) {
        self.state.prove((node, epoch), chunk, at_s.map_or(0, seconds));
    }

    /// This node has lost that store, or all that it held of the owner's: what it acknowledged with
    /// it counts no more, until it acknowledges something with it again. Not remembered by the
    /// journal: the node says so again when it is asked after a restart.
    pub fn store_is_gone(&mut self, node: &NodeId, epoch: &StoreEpoch) {
        self.state.store_is_gone((node, epoch));
    }

    /// Every chunk that anybody acknowledged, in the order of their ids.
    pub fn chunk_ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.state.chunk_ids()
    }

    /// What is worth it of the times, as [`ProvenFile::save`] writes it without the catalogue: one
    /// file is saved after the other, or an earlier one may take the place of a later one.
    pub fn proven_file(&self, now_s: u64) -> ProvenFile {
        let since = seconds(now_s.saturating_sub(BELIEVED_S));
        let (path, seal) = (self.path.with_file_name("proven"), self.journal.seal());
        ProvenFile { path, seal, proven: self.state.proven((since, seconds(now_s))) }
    }

    /// What was shown before `at_s` counts no more: another device may have let chunks go since. It
    /// counts again after a restart, where the file of before is not replaced.
    pub fn disbelieve_before(&mut self, at_s: u64) {
        self.state.disbelieve_before(seconds(at_s));
    }

    /// Reads the times back, as far as they can be read.
    pub(super) fn load_proven(&mut self, keys: &OwnerKeys) {
        let path = self.path.with_file_name("proven");
        if !path.exists() {
            return;
        }
        let state = &mut self.state;
        let read = Journal::open(&path, keys, &mut |entry| {
            if let Entry::Proven(proven) = entry {
                state.apply(Entry::Proven(proven));
            }
        });
        // Whatever is wrong with it, more is asked, and the next one takes its place.
        drop(read);
    }

    /// As if the last day had passed without a word of any holder.
    #[cfg(test)]
    pub(crate) fn forget_proofs(&mut self) {
        self.state.forget_proofs();
    }
}

/// When holders showed what, on its way to its file.
pub struct ProvenFile {
    path: PathBuf,
    seal: Seal,
    /// By store and time, how the ids begin.
    proven: BTreeMap<(NodeId, StoreEpoch, u32), Vec<u64>>,
}

impl ProvenFile {
    /// Takes the place of the file that is there. Blocks on the disk.
    ///
    /// # Errors
    /// [`CatalogError`]; the file is then as it was.
    pub fn save(self) -> Result<(), CatalogError> {
        let Self { path, seal, proven } = self;
        let mut fresh = Journal::create_aside(&path, seal)?;
        for ((node, epoch, at_s), chunks) in proven {
            for chunks in chunks.chunks(PROVEN_CHUNKS_MAX) {
                let proven = Proven { node, epoch, at_s, chunks: chunks.to_vec() };
                append(&mut fresh, |out| {
                    proven.encode(out);
                    Ok(())
                })?;
            }
        }
        fresh.put_in_place(&path)
    }
}

/// As many as a number of four bytes holds: until 2106.
fn seconds(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
