//! What is drawn of what a holder has.

use crate::repo::reference::ChunkRef;

/// A run of what a holder has, from a chunk on that is drawn by chance: as likely as it is named.
#[derive(Debug)]
pub struct Run {
    most: usize,
    /// Names of chunks that it has, so far.
    seen: u32,
    chunks: Vec<ChunkRef>,
}

impl Run {
    /// One of so many chunks at most.
    pub fn of(most: usize) -> Self {
        Self { most, seen: 0, chunks: Vec::new() }
    }

    /// A chunk is named that the holder has. `is_drawn` is true once in as many times as it is
    /// given.
    pub fn add(&mut self, reference: &ChunkRef, is_drawn: impl FnOnce(u32) -> bool) {
        // Small files of one folder share a chunk, which is asked for once.
        if self.chunks.iter().any(|chunk| chunk.id == reference.id) {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        if is_drawn(self.seen) {
            self.chunks.clear();
        }
        if self.chunks.len() < self.most {
            self.chunks.push(reference.duplicate());
        }
    }

    /// What was drawn: nothing, where nothing was named that the holder has.
    pub fn into_chunks(self) -> Vec<ChunkRef> {
        self.chunks
    }
}
