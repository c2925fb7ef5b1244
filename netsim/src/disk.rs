//! A store as a holder sees it: writes are durable with the next sync, and a crash loses the rest.

use quloud::core::effect::{Space, StoreError, StoredChunk, Written};
use quloud::core::types::{Account, ChunkId, StoreEpoch, Ticket};
use quloud::crypto::header::Header;
use std::collections::BTreeMap;

/// One node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    epoch: StoreEpoch,
    durable: BTreeMap<ChunkId, StoredChunk>,
    unsynced: Vec<(Ticket, StoredChunk)>,
}

impl Disk {
    pub(crate) fn new(epoch: StoreEpoch) -> Self {
        Self { epoch, durable: BTreeMap::new(), unsynced: Vec::new() }
    }

    /// Queues a write; `true` where it is the first since the last sync.
    pub(crate) fn write(&mut self, ticket: Ticket, chunk: StoredChunk) -> bool {
        self.unsynced.push((ticket, chunk));
        self.unsynced.len() == 1
    }

    /// Makes every queued write durable but those that fail.
    pub(crate) fn sync(
        &mut self,
        mut fails: impl FnMut() -> bool,
    ) -> Vec<(Ticket, Result<Written, StoreError>)> {
        let mut results = Vec::new();
        for (ticket, chunk) in std::mem::take(&mut self.unsynced) {
            let result = if fails() { Err(StoreError::Io) } else { self.keep(chunk) };
            results.push((ticket, result));
        }
        results
    }

    fn keep(&mut self, chunk: StoredChunk) -> Result<Written, StoreError> {
        let epoch = self.epoch;
        let added_bytes = match self.durable.get(&chunk.id()) {
            Some(held) if held.account != chunk.account => return Err(StoreError::OtherAccount),
            Some(held) => {
                let (lease, terms) = (held.lease, held.terms);
                return Ok(Written { lease, terms, epoch, added_bytes: 0 });
            }
            None => chunk.sealed.len() as u64,
        };
        let (lease, terms) = (chunk.lease, chunk.terms);
        self.durable.insert(chunk.id(), chunk);
        Ok(Written { lease, terms, epoch, added_bytes })
    }

    /// The power fails: what was not synced is gone.
    pub(crate) fn crash(&mut self) {
        self.unsynced.clear();
    }

    pub(crate) fn find(&self, ids: &[ChunkId]) -> Vec<Option<Header>> {
        ids.iter().map(|id| self.held(id).map(|chunk| chunk.header)).collect()
    }

    /// What is durable under this id.
    pub(crate) fn held(&self, id: &ChunkId) -> Option<&StoredChunk> {
        self.durable.get(id)
    }

    pub(crate) fn used_by_account(&self) -> BTreeMap<Account, u64> {
        let mut used = BTreeMap::new();
        for chunk in self.durable.values() {
            *used.entry(chunk.account).or_insert(0) += chunk.sealed.len() as u64;
        }
        used
    }

    pub(crate) fn space(&self) -> Space {
        let used = self.durable.values().map(|chunk| chunk.sealed.len() as u64).sum();
        let chunks = self.durable.len() as u64;
        Space { capacity: 1 << 40, used, free: 1 << 40, chunks, read_only: false }
    }
}
