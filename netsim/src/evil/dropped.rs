//! What a cheat has stored honestly, acknowledged, and then got rid of: its headers, lengths and
//! tags stay, if it likes.

use super::Env;
use bytes::Bytes;
use quloud::core::effect::{Effect, Input};
use quloud::core::types::{ChunkId, Ticket};
use quloud::crypto::audit::blocks;
use rand::RngExt;
use std::collections::BTreeMap;

/// Marks the tickets of a cheat's own deletes.
const OWN: u64 = 1 << 62;

/// Chunks that are remembered.
const KEPT: usize = 256;

/// A chunk that was written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) sealed_bytes: usize,
    pub(super) tags: Bytes,
    /// It is there no more.
    pub(super) is_dropped: bool,
}

impl Written {
    /// As many as it says in an answer.
    pub(super) fn blocks(&self) -> u16 {
        u16::try_from(blocks(self.sealed_bytes)).unwrap_or(u16::MAX)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    writing: BTreeMap<Ticket, (ChunkId, Written)>,
    written: BTreeMap<ChunkId, Written>,
    deletes: u64,
}

impl Dropped {
    /// Notes what the role writes.
    pub(super) fn note_effect(&mut self, effect: &Effect) {
        if let Effect::WriteChunk { ticket, chunk } = effect
            && self.written.len() < KEPT
        {
            let (sealed_bytes, tags) = (chunk.sealed.len(), chunk.tags.clone());
            let written = Written { sealed_bytes, tags, is_dropped: false };
            self.writing.insert(*ticket, (chunk.id(), written));
        }
    }

    /// Notes what was written.
    pub(super) fn note_input(&mut self, input: &Input) {
        let Input::ChunksWritten(done) = input else { return };
        for (ticket, result) in done {
            let Some((id, written)) = self.writing.remove(ticket) else { continue };
            if result.is_ok() {
                self.written.insert(id, written);
            }
        }
    }

    /// Deletes one chunk of so many that are there, and one at least.
    pub(super) fn drop_one_of(&mut self, env: &mut Env<'_>, share: usize) -> Vec<Effect> {
        let (mut effects, first) = (Vec::new(), env.rng.random_range(0..share.max(1)));
        let there = self.written.iter_mut().filter(|(_, written)| !written.is_dropped);
        let mut there: Vec<_> = there.collect();
        let first = first.min(there.len().saturating_sub(1));
        for (id, written) in there.iter_mut().skip(first).step_by(share.max(1)) {
            written.is_dropped = true;
            self.deletes += 1;
            env.acts += 1;
            effects.push(Effect::DeleteChunk { ticket: Ticket(OWN | self.deletes), id: **id });
        }
        effects
    }

    /// Whether it got rid of anything.
    pub(super) fn is_any_dropped(&self) -> bool {
        self.written.values().any(|written| written.is_dropped)
    }

    /// A chunk that is there no more.
    pub(super) fn find(&self, id: &ChunkId) -> Option<&Written> {
        self.written.get(id).filter(|written| written.is_dropped)
    }
}
