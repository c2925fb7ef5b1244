//! What the nodes of one attacker have in common: one machine, one plan.

use quloud::core::effect::StoredChunk;
use quloud::core::types::{ChunkId, Time};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module. Each clone is the same gang.
#[derive(Debug, Clone)]
pub(crate) struct Gang {
    /// When those strike that were honest until then.
    pub(super) strike: Time,
    /// Whether the shared machine has a disk.
    pub(super) has_disk: bool,
    hoard: Rc<RefCell<BTreeMap<ChunkId, Box<StoredChunk>>>>,
}

impl Gang {
    pub(crate) fn new(strike: Time, has_disk: bool) -> Self {
        Self { strike, has_disk, hoard: Rc::default() }
    }

    /// One of them was given a chunk: all of them have it.
    pub(super) fn keep(&self, chunk: Box<StoredChunk>) {
        self.hoard.borrow_mut().insert(chunk.id(), chunk);
    }

    /// What any of them was given.
    pub(super) fn look<R>(&self, id: &ChunkId, with: impl Fn(&StoredChunk) -> R) -> Option<R> {
        self.hoard.borrow().get(id).map(|chunk| with(chunk))
    }
}
