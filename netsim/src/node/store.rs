//! The real store of a node, in virtual time: one group commit after the other, and reads.

use crate::disk::SimDisk;
use quloud::core::effect::{Input, Space, StoredChunk};
use quloud::core::types::{Account, ChunkId, Ticket};
use quloud::crypto::header::Header;
use quloud::crypto::keys::WrapKey;
use quloud::store::memory::MemoryCatalogue;
use quloud::store::reader::{Outcome, Reader};
use quloud::store::recovery::OpenReport;
use quloud::store::writer::{Options, Request, Writer};
use quloud::store::{ReadOnly, StoreOpenError};
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most requests of one group, as in the daemon.
const GROUP_MAX: usize = 64;

/// See the module.
pub(crate) struct Store {
    writer: Writer<SimDisk, MemoryCatalogue>,
    reader: Reader<SimDisk, MemoryCatalogue>,
    queue: Vec<Request>,
    /// A group is on its way.
    busy: bool,
}

impl Store {
    /// Opens what the disk has.
    pub(crate) fn open(
        disk: Arc<SimDisk>,
        catalogue: Arc<MemoryCatalogue>,
        key: Arc<WrapKey>,
        options: Options,
        rng: ChaCha20Rng,
    ) -> Result<(Self, OpenReport), StoreOpenError> {
        let (writer, report) = Writer::open(disk, catalogue, key, options, rng)?;
        let reader = writer.reader();
        Ok((Self { writer, reader, queue: Vec::new(), busy: false }, report))
    }

    /// Queues a write; `true` where a group is to be begun for it.
    pub(crate) fn write(&mut self, ticket: Ticket, chunk: Box<StoredChunk>) -> bool {
        self.queue.push(Request::Write { ticket, chunk });
        self.begin()
    }

    /// Queues a delete likewise.
    pub(crate) fn delete(&mut self, ticket: Ticket, id: ChunkId) -> bool {
        self.queue.push(Request::Delete { ticket, id });
        self.begin()
    }

    fn begin(&mut self) -> bool {
        !self.queue.is_empty() && !std::mem::replace(&mut self.busy, true)
    }

    /// Carries a group out: its completions, and whether another group is to be begun.
    pub(crate) fn commit(&mut self) -> (Vec<Input>, bool) {
        let rest = self.queue.split_off(self.queue.len().min(GROUP_MAX));
        let group = std::mem::replace(&mut self.queue, rest);
        let done = self.writer.commit(group);
        // The daemon goes on with it while nothing else is to be done.
        while self.queue.is_empty() && self.writer.tidy() {}
        self.busy = false;
        (done, self.begin())
    }

    /// Looks headers up.
    pub(crate) fn find(&self, ids: &[ChunkId]) -> Vec<Option<Header>> {
        self.reader.find(ids)
    }

    /// Reads a chunk; also `true` where a group is to be begun, because rot was found.
    pub(crate) fn read(&mut self, ticket: Ticket, id: &ChunkId) -> (Input, bool) {
        let Outcome { result, rot } = self.reader.read(id);
        self.queue.extend(rot);
        (Input::ChunkRead { ticket, result }, self.begin())
    }

    /// Whether a chunk is held and can be read, now.
    pub(crate) fn holds(&mut self, id: &ChunkId) -> bool {
        self.reader.read(id).result.is_ok()
    }

    pub(crate) fn space(&self) -> Space {
        self.writer.space()
    }

    pub(crate) fn usage(&self) -> BTreeMap<Account, u64> {
        self.writer.usage().clone()
    }

    /// Why it takes no writes any more, where it does not: the daemon has to be restarted.
    pub(crate) fn read_only(&self) -> Option<&ReadOnly> {
        self.writer.read_only()
    }
}
