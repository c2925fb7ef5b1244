//! Reads chunks, and lets none out that is not as it was stored.
//!
//! A chunk that is asked for is not hashed again: it was when it came, and what the node's own wrap
//! key opens is what was written then ([`record`](super::record)). Whoever gets it hashes it in any
//! case. The scrub does hash, and so does whoever is about to acknowledge a held chunk once more.
//!
//! Readers run beside the writer without a lock. A record that is deleted or moved while it is
//! read fails its checks; the catalogue, which the writer changes first, then says what happened.

use super::accounts::SharedAccounts;
use super::disk::{Disk, DiskError, File};
use super::heads::SharedHeads;
use super::index::{Catalogue, Entry, Index};
use super::record::{Kind, Prefix};
use super::releases::{SharedReleases, lock};
use super::scan::{Check, OpenChunk, open_chunk};
use super::scrub::Live;
use super::writer::Request;
use crate::core::effect::{Found, StoreError};
use crate::core::types::ChunkId;
use crate::crypto::header::Header;
use crate::crypto::keys::WrapKey;
use bytes::Bytes;
use std::sync::Arc;

/// How often a record is looked up anew when it does not hold: it may have been moved twice, and
/// one bad read is not yet damage.
const ATTEMPTS: u32 = 3;

/// Reads from a store; cheap to make, one per thread.
pub struct Reader<D, C> {
    pub(super) disk: Arc<D>,
    pub(super) index: Index<C>,
    pub(super) key: Arc<WrapKey>,
    pub(super) heads: SharedHeads,
    pub(super) releases: SharedReleases,
    pub(super) accounts: SharedAccounts,
    /// The record that is being read.
    buffer: Vec<u8>,
    /// What the scrub knows of the segment that it goes through.
    pub(super) live: Option<Live>,
}

/// What a read came to.
#[derive(Debug)]
pub struct Outcome {
    /// The header and the sealed bytes, which match the id.
    pub result: Result<(Header, Bytes), StoreError>,
    /// What the writer should be told: something in the record is damaged. The sealed bytes are
    /// handed out all the same where they match the id.
    pub rot: Option<Request>,
}

/// What one look at a record shows.
enum Look {
    Whole(OpenChunk),
    /// The sealed bytes match the id, something beside them does not hold.
    Marred(OpenChunk),
    Broken,
}

/// What all looks at a chunk's record came to.
pub(super) struct Looked {
    pub(super) result: Result<OpenChunk, StoreError>,
    /// As in an [`Outcome`]; where there is none, all of the record is as it should be.
    pub(super) rot: Option<Request>,
}

impl Looked {
    fn failed(error: StoreError) -> Self {
        Self { result: Err(error), rot: None }
    }
}

impl<D: Disk, C: Catalogue> Reader<D, C> {
    pub(super) fn new(
        disk: Arc<D>,
        index: Index<C>,
        key: Arc<WrapKey>,
        heads: SharedHeads,
        (releases, accounts): (SharedReleases, SharedAccounts),
    ) -> Self {
        let (buffer, live) = (Vec::new(), None);
        Self { disk, index, key, heads, releases, accounts, buffer, live }
    }

    /// What there is of each chunk or head, in the order of `ids`; what cannot be looked up counts
    /// as not there.
    pub fn find(&self, ids: &[ChunkId]) -> Vec<Option<Found>> {
        let chunk = |id| {
            let entry = self.index.get(id).ok().flatten()?;
            let released = lock(&self.releases).has(id, &entry.lease);
            entry.found(released)
        };
        ids.iter().map(|id| self.find_head(id).or_else(|| chunk(id))).collect()
    }

    /// Reads a chunk, which is as it was stored.
    pub fn read(&mut self, id: &ChunkId) -> Outcome {
        self.read_to(id, Check::Boxes)
    }

    /// Reads a chunk and hashes it: it matches its id.
    pub(super) fn read_and_hash(&mut self, id: &ChunkId) -> Outcome {
        self.read_to(id, Check::Hashes)
    }

    fn read_to(&mut self, id: &ChunkId, check: Check) -> Outcome {
        let Looked { result, rot } = self.look_again(id, check, |_| true);
        let result = result.map(|chunk| (chunk.header, Bytes::from(chunk.sealed)));
        Outcome { result, rot }
    }

    /// Looks at the record of a chunk whose entry is `wanted`, until it holds or has not held
    /// often enough; one that is not wanted is not found.
    pub(super) fn look_again(
        &mut self,
        id: &ChunkId,
        check: Check,
        mut wanted: impl FnMut(&Entry) -> bool,
    ) -> Looked {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let entry = match self.index.get(id) {
                Ok(Some(entry)) if wanted(&entry) => entry,
                Ok(_) => return Looked::failed(StoreError::NotFound),
                Err(_) => return Looked::failed(StoreError::Io),
            };
            let sequence = entry.sequence;
            match self.look(id, &entry, check) {
                Ok(Look::Whole(chunk)) => return Looked { result: Ok(chunk), rot: None },
                Ok(Look::Marred(chunk)) => last = Some((Ok(chunk), sequence)),
                Ok(Look::Broken) => last = Some((Err(StoreError::Damaged), sequence)),
                // Its segment may just have been unlinked.
                Err(DiskError::NotFound) => last = Some((Err(StoreError::Damaged), sequence)),
                Err(_) => return Looked::failed(StoreError::Io),
            }
        }
        let (result, sequence) = last.unwrap_or((Err(StoreError::NotFound), 0));
        Looked { result, rot: Some(Request::Quarantine { id: *id, sequence }) }
    }

    fn look(&mut self, id: &ChunkId, entry: &Entry, check: Check) -> Result<Look, DiskError> {
        let bytes = entry.locator.bytes as usize;
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        let (record, _) = self.buffer.split_at_mut(bytes);
        let file = File::Segment(entry.locator.segment);
        let read = self.disk.read_at(file, entry.locator.offset, record)?;
        let Ok(prefix) = Prefix::parse(record) else { return Ok(Look::Broken) };
        let right = read == bytes
            && prefix.kind == Kind::Chunk
            && prefix.locator() == entry.locator
            && prefix.place.sequence == entry.sequence;
        if !right {
            return Ok(Look::Broken);
        }
        if prefix.body_holds(record)
            && let Some(chunk) = open_chunk(&prefix, record, &self.key, check)
            && chunk.id == *id
        {
            return Ok(Look::Whole(chunk));
        }
        // The catalogue knows the header too: the sealed bytes may still be what the id says.
        let sealed = prefix.open(record, 2, &self.key);
        Ok(match (Header::decode(&entry.header), sealed) {
            (Ok(header), Some(sealed)) if header.id() == *id && header.certifies(&sealed) => {
                Look::Marred(OpenChunk { id: *id, header, tags: Vec::new(), sealed })
            }
            _ => Look::Broken,
        })
    }
}
