//! The real store of a node, in virtual time: one group commit after the other, what is tidied
//! between them as the daemon's writer thread does it, and reads.

mod scrub;

pub(crate) use scrub::Scrubbed;

use crate::catalogue::SimCatalogue;
use crate::disk::SimDisk;
use crate::oracle::Seen;
use quloud::core::effect::{ChunkState, Found, Input, ListedChunk, Space, StoreError, StoredChunk};
use quloud::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, Ticket};
use quloud::crypto::audit::Task;
use quloud::crypto::head::HeadRecord;
use quloud::crypto::keys::WrapKey;
use quloud::store::bounds::{GROUP_MAX, WRITE_QUEUE_BYTES_MAX};
use quloud::store::reader::{Outcome, Reader};
use quloud::store::writer::{Moves, Options, Request, Writer};
use quloud::store::{OpenReport, ReadOnly, StoreOpenError};
use rand_chacha::ChaCha20Rng;
use scrub::Scrub;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub(crate) struct Store {
    writer: Writer<SimDisk, SimCatalogue>,
    reader: Reader<SimDisk, SimCatalogue>,
    queue: Vec<Request>,
    /// Requests that may wait.
    queue_max: usize,
    refused: VecDeque<Input>,
    /// Owners that were heard of since the last group, as in the daemon.
    heard: BTreeMap<Account, bool>,
    /// Seconds that it ran and was not told of yet.
    passed_s: u64,
    /// A group is on its way, or there is more to tidy.
    busy: bool,
    /// What was known of it when the roles were told last.
    told: Space,
    scrub: Scrub,
}

/// A group that was carried out.
#[derive(Debug)]
pub(crate) struct Committed {
    /// The completions.
    pub(crate) done: Vec<Input>,
    /// What may have become of chunks, in the order of the requests.
    pub(crate) changes: Vec<(ChunkId, Change)>,
}

/// What may have become of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A write was tried: it may be there.
    Written,
    /// It is not there any more, for good.
    Deleted,
    /// The same, as its delay is over.
    Destroyed,
    /// It was not there.
    WasMissing,
}

/// What comes after a group, or after a step of tidying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next group waits.
    Commit,
    /// Nobody waits, and there is more to tidy.
    Tidy,
    /// Nothing.
    Rest,
}

impl Store {
    /// Opens what the disk has, and lets so many requests wait. Begins with a step of tidying.
    pub(crate) fn open(
        disk: Arc<SimDisk>,
        catalogue: Arc<SimCatalogue>,
        key: Arc<WrapKey>,
        (options, queue_max): (Options, usize),
        rng: ChaCha20Rng,
    ) -> Result<(Self, OpenReport), StoreOpenError> {
        let (writer, report) = Writer::open(disk, catalogue, key, options, rng)?;
        let (reader, told) = (writer.reader(), writer.space());
        let (queue, refused, heard) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        let scrub = Scrub::at(reader.scrub_cursor());
        let (passed_s, busy) = (0, true);
        let store =
            Self { writer, reader, queue, queue_max, refused, heard, passed_s, busy, told, scrub };
        Ok((store, report))
    }

    /// Queues a write; `true` where a group is to be begun for it. Where too much waits it is
    /// refused as busy, as in the daemon: see [`Self::refused`].
    pub(crate) fn write(&mut self, ticket: Ticket, chunk: Box<StoredChunk>) -> bool {
        let queued: u64 = self.queue.iter().map(bytes_of).sum();
        let request = Request::Write { ticket, chunk };
        let fits = queued == 0 || queued + bytes_of(&request) <= WRITE_QUEUE_BYTES_MAX;
        if fits && self.submit(request) {
            return self.begin();
        }
        self.refused.push_back(Input::ChunksWritten(vec![(ticket, Err(StoreError::Busy))]));
        false
    }

    /// Queues a record of a head likewise.
    pub(crate) fn write_head(
        &mut self,
        ticket: Ticket,
        (account, terms): (Account, LeaseTerms),
        record: HeadRecord,
    ) -> bool {
        if self.submit(Request::Head { ticket, account, terms, record }) {
            return self.begin();
        }
        self.refused.push_back(Input::HeadsWritten(vec![(ticket, Err(StoreError::Busy))]));
        false
    }

    /// Queues a delete likewise.
    pub(crate) fn delete(&mut self, ticket: Ticket, id: ChunkId) -> bool {
        if self.submit(Request::Delete { ticket, id }) {
            return self.begin();
        }
        let result = Err(StoreError::Busy);
        self.refused.push_back(Input::ChunkDeleted { ticket, result });
        false
    }

    /// Queues a release, or what takes one back, likewise.
    pub(crate) fn release(
        &mut self,
        ticket: Ticket,
        undo: bool,
        items: Vec<(ChunkId, LeaseNonce)>,
    ) -> bool {
        if self.submit(Request::Release { ticket, undo, items }) {
            return self.begin();
        }
        let result = Err(StoreError::Busy);
        self.refused.push_back(Input::ChunksReleased { ticket, result });
        false
    }

    /// An owner was heard of: said with the next group.
    pub(crate) fn heard(&mut self, account: Account, audited: bool) {
        *self.heard.entry(account).or_default() |= audited;
    }

    fn take_heard(&mut self) -> impl Iterator<Item = Request> + use<> {
        let heard = std::mem::take(&mut self.heard).into_iter();
        heard.map(|(account, audited)| Request::Heard { account, audited })
    }

    /// It ran for so long: said with the next group; `true` where one is to be begun for it.
    pub(crate) fn pass(&mut self, passed: Duration) -> bool {
        self.passed_s += passed.as_secs();
        self.begin()
    }

    /// Chunks that were let go and not destroyed yet.
    pub(crate) fn releases(&self) -> usize {
        self.writer.releases()
    }

    /// The completion of what was refused: an input like any other, after the one that wanted it.
    pub(crate) fn refused(&mut self) -> Option<Input> {
        self.refused.pop_front()
    }

    /// Queues a request where there is room; whether there is.
    fn submit(&mut self, request: Request) -> bool {
        let fits = self.has_room();
        self.queue.extend(fits.then_some(request));
        fits
    }

    fn has_room(&self) -> bool {
        self.queue.len() < self.queue_max
    }

    fn begin(&mut self) -> bool {
        self.waits() && !std::mem::replace(&mut self.busy, true)
    }

    /// Whether there is something for a group.
    fn waits(&self) -> bool {
        !self.queue.is_empty() || self.passed_s > 0
    }

    /// Carries a group out; [`Self::tidy`] is to follow.
    pub(crate) fn commit(&mut self) -> Committed {
        let rest = self.queue.split_off(self.queue.len().min(GROUP_MAX));
        let group = std::mem::replace(&mut self.queue, rest);
        let asked: Vec<(Option<Ticket>, ChunkId)> = group.iter().filter_map(asked).collect();
        let passed_s = std::mem::take(&mut self.passed_s);
        let passed = (passed_s > 0).then_some(Request::Uptime { passed_s });
        let group = self.take_heard().chain(passed).chain(group).collect();
        let done = self.writer.commit(group);
        let deleted = |ticket: Ticket| {
            done.iter().find_map(|input| match input {
                Input::ChunkDeleted { ticket: other, result } if *other == ticket => Some(*result),
                _ => None,
            })
        };
        let change = |ticket: Option<Ticket>| match ticket.map(deleted) {
            None => Some(Change::Written),
            Some(Some(Ok(_))) => Some(Change::Deleted),
            Some(Some(Err(StoreError::NotFound))) => Some(Change::WasMissing),
            Some(_) => None,
        };
        let changes = asked.into_iter().filter_map(|(ticket, id)| Some((id, change(ticket)?)));
        let destroyed = done.iter().filter_map(|input| match input {
            Input::ChunksDestroyed(gone) => {
                Some(gone.iter().map(|(id, _)| (*id, Change::Destroyed)))
            }
            _ => None,
        });
        // Last: what was written with the same group was not due.
        let changes = changes.chain(destroyed.flatten()).collect();
        Committed { changes, done }
    }

    /// A group with nothing in it, such as the daemon commits every ten minutes.
    pub(crate) fn commit_nothing(&mut self) -> Vec<Input> {
        let time = Request::Uptime { passed_s: 0 };
        let group = self.take_heard().chain([time]).collect();
        self.writer.commit(group)
    }

    /// One step of what the daemon does between groups, and what comes then.
    pub(crate) fn tidy(&mut self) -> Next {
        let untidy = self.writer.tidy();
        let next = match (self.waits(), untidy) {
            (true, _) => Next::Commit,
            // What was let go long enough is destroyed with an empty group, too.
            (false, _) if self.writer.has_due() => Next::Commit,
            (false, true) => Next::Tidy,
            (false, false) => Next::Rest,
        };
        self.busy = next != Next::Rest;
        next
    }

    /// Looks how full the disk is although nobody asks for anything; `true` where a step of
    /// tidying is to be begun for it.
    pub(crate) fn look(&mut self) -> bool {
        !std::mem::replace(&mut self.busy, true)
    }

    /// How full it is, where that has changed.
    pub(crate) fn news(&mut self) -> Option<Space> {
        let now = self.writer.space();
        (std::mem::replace(&mut self.told, now) != now).then_some(now)
    }

    /// What its node was told last, or is to be told first: a question to the disk may fail, and
    /// another answer would be no news.
    pub(crate) fn told(&self) -> Space {
        self.told
    }

    /// Chunks that are known to be damaged.
    pub(crate) fn damaged(&self) -> Vec<(Account, ChunkId)> {
        self.writer.damaged()
    }

    /// What was moved between segments so far.
    pub(crate) fn moves(&self) -> Moves {
        self.writer.moves()
    }

    /// Looks chunks up.
    pub(crate) fn find(&self, ids: &[ChunkId]) -> Vec<Option<Found>> {
        self.reader.find(ids)
    }

    /// Reads a chunk; also `true` where a group is to be begun, because rot was found.
    pub(crate) fn read(&mut self, ticket: Ticket, id: &ChunkId) -> (Input, bool) {
        let Outcome { result, rot } = self.reader.read(id);
        // Where the queue is full the next read finds it again.
        let begins = rot.is_some_and(|rot| self.submit(rot) && self.begin());
        (Input::ChunkRead { ticket, result }, begins)
    }

    /// Does a chunk's part of an audit; also `true` where a group is to be begun, as in a read.
    pub(crate) fn prove(
        &mut self,
        ticket: Ticket,
        account: &Account,
        id: &ChunkId,
        (task, closely): (&Task, bool),
    ) -> (Input, bool) {
        let (result, rot) = self.reader.prove(account, id, task, closely);
        let begins = rot.is_some_and(|rot| self.submit(rot) && self.begin());
        (Input::ChunkProven { ticket, result }, begins)
    }

    /// Reads what is kept of a head.
    pub(crate) fn read_heads(
        &self,
        id: &ChunkId,
        superseded: usize,
    ) -> Result<Vec<HeadRecord>, StoreError> {
        self.reader.read_heads(id, superseded)
    }

    /// A page of what is kept for an account.
    pub(crate) fn list(
        &self,
        account: &Account,
        after: &ChunkId,
        limit: usize,
    ) -> Result<(Vec<ListedChunk>, bool), StoreError> {
        self.reader.list(account, after, limit)
    }

    /// How it is with chunks of an account.
    pub(crate) fn query(
        &self,
        account: &Account,
        ids: &[ChunkId],
    ) -> Result<Vec<(ChunkState, LeaseNonce)>, StoreError> {
        self.reader.query(account, ids)
    }

    /// Whether a chunk is not there, and not only not to be found because something fails now.
    /// Whoever is no part of the world asks [`super::Node::lacks`], and so of the next two.
    pub(super) fn lacks(&self, id: &ChunkId) -> bool {
        self.writer.reader().read(id).result == Err(StoreError::NotFound)
    }

    /// What the catalogue has of a chunk.
    pub(super) fn seen(&self, id: &ChunkId) -> Seen {
        let found = self.reader.find(std::slice::from_ref(id));
        Seen::of(found.into_iter().next().flatten())
    }

    /// Whether a chunk is held and can be read, now.
    pub(super) fn holds(&self, id: &ChunkId) -> bool {
        self.writer.reader().read(id).result.is_ok()
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

/// Of its chunk.
fn bytes_of(request: &Request) -> u64 {
    match request {
        Request::Write { chunk, .. } => chunk.sealed.len() as u64,
        Request::Delete { .. }
        | Request::Quarantine { .. }
        | Request::Head { .. }
        | Request::Release { .. }
        | Request::Heard { .. }
        | Request::Uptime { .. } => 0,
    }
}

/// What a request is about: a delete's ticket, and the chunk.
fn asked(request: &Request) -> Option<(Option<Ticket>, ChunkId)> {
    match request {
        Request::Write { chunk, .. } => Some((None, chunk.id())),
        Request::Delete { ticket, id } => Some((Some(*ticket), *id)),
        Request::Quarantine { .. }
        | Request::Head { .. }
        | Request::Release { .. }
        | Request::Heard { .. }
        | Request::Uptime { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::CatalogueFaults;
    use crate::chance::Chance;
    use crate::disk::DiskFaults;
    use quloud::core::types::{LeaseNonce, Locality};
    use quloud::crypto::head::HeadKeys;
    use quloud::crypto::keys::{ChunkKey, Master, OwnerKeys};
    use quloud::crypto::seal::SealedChunk;
    use rand::SeedableRng;

    fn chunk(plaintext: u8) -> Box<StoredChunk> {
        let keys = OwnerKeys::derive(&Master::generate(&mut ChaCha20Rng::seed_from_u64(1)), 0);
        let key = ChunkKey::derive(&keys.dedup, 0, 1, &[plaintext]);
        let SealedChunk { header, sealed, tags, .. } =
            SealedChunk::new(&keys, &key, Locality(0), &[plaintext]);
        Box::new(StoredChunk {
            header,
            proof_nonce: [0; 32],
            proof: [0; 64],
            account: Account::from_bytes([1; 32]),
            lease: LeaseNonce::from_bytes([plaintext; 16]),
            terms: LeaseTerms::default(),
            tags,
            sealed,
        })
    }

    /// A store on a good disk, for which two requests may wait.
    fn empty() -> (Store, Arc<SimDisk>) {
        let rng = || ChaCha20Rng::seed_from_u64(1);
        let disk = Arc::new(SimDisk::new(8 << 20, DiskFaults::default(), rng()));
        let catalogue = Arc::new(SimCatalogue::new(CatalogueFaults::default(), rng()));
        let options = Options { segment_bytes: 1 << 20, ..Options::with_reserve(4 << 20, 0) };
        let key = Arc::new(WrapKey::from_bytes([1; 32]));
        let opened = Store::open(Arc::clone(&disk), catalogue, key, (options, 2), rng());
        let (mut store, _) = opened.unwrap();
        store.tidy();
        (store, disk)
    }

    #[test]
    fn what_waits_for_a_store_is_bounded_and_more_is_refused_as_busy() {
        let (mut store, _) = empty();
        for number in 0..3 {
            store.write(Ticket(number.into()), chunk(number));
        }
        let busy = |ticket| Input::ChunksWritten(vec![(Ticket(ticket), Err(StoreError::Busy))]);
        let refused = store.refused();
        assert_eq!(format!("{refused:?}"), format!("{:?}", Some(busy(2))));
        assert!(store.refused().is_none());
        store.delete(Ticket(3), chunk(0).id());
        let refused = store.refused();
        assert!(matches!(
            refused,
            Some(Input::ChunkDeleted { ticket: Ticket(3), result: Err(StoreError::Busy) })
        ));
        assert_eq!(store.commit().changes.len(), 2);
        store.write(Ticket(4), chunk(2));
        assert!(store.refused().is_none());
    }

    #[test]
    fn what_a_scrub_finds_waits_for_room_in_the_queue() {
        let (mut store, disk) = empty();
        for number in 0..3 {
            store.write(Ticket(number.into()), chunk(number));
            store.commit();
            store.tidy();
        }
        assert_eq!(disk.chip(), 3);
        let found = store.scrub();
        assert!(found.rotten == 3 && found.begins && !found.is_over);
        assert!(store.scrub().rotten == 0 && !store.is_scrubbed(), "it does not go on");
        store.commit();
        store.tidy();
        let ends = (0..9).any(|_| store.scrub().is_over);
        assert!(ends && store.is_scrubbed());
        store.commit();
        assert!((0..3).all(|number| store.seen(&chunk(number).id()) == Seen::Damaged));
    }

    fn record(number: u64) -> HeadRecord {
        let keys = OwnerKeys::derive(&Master::generate(&mut ChaCha20Rng::seed_from_u64(1)), 0);
        let keys = HeadKeys::derive(&keys.head, 0, 0);
        let number = std::num::NonZeroU64::new(number).unwrap();
        keys.make(number, [0; 32], b"payload", &mut ChaCha20Rng::seed_from_u64(2)).unwrap()
    }

    /// World 21 of the default frame: the ledger's header could not be read when the store was
    /// opened, and was called damaged.
    #[test]
    fn a_ledger_that_cannot_be_read_now_is_not_called_damaged() {
        let options = Options { segment_bytes: 1 << 20, ..Options::with_reserve(4 << 20, 0) };
        let key = Arc::new(WrapKey::from_bytes([1; 32]));
        let mut unread = 0;
        for seed in 0..64 {
            let rng = || ChaCha20Rng::seed_from_u64(seed);
            let disk = Arc::new(SimDisk::new(8 << 20, DiskFaults::default(), rng()));
            let catalogue = Arc::new(SimCatalogue::new(CatalogueFaults::default(), rng()));
            let open = || {
                let (disk, catalogue) = (Arc::clone(&disk), Arc::clone(&catalogue));
                Store::open(disk, catalogue, Arc::clone(&key), (options, 2), rng())
            };
            let (mut store, _) = open().unwrap();
            let account = Account::from_bytes([1; 32]);
            store.write_head(Ticket(1), (account, LeaseTerms::default()), record(1));
            store.commit();
            drop(store);
            disk.power_cut();
            let read_error = Chance::per_mille(150);
            disk.set_faults(DiskFaults { read_error, ..DiskFaults::default() });
            let Ok((_, report)) = open() else { continue };
            assert_eq!(report.ledger_damage, Vec::new(), "seed {seed}");
            unread += u32::from(matches!(report.read_only, Some(ReadOnly::Ledger(_))));
        }
        assert!(unread > 0, "no ledger was unreadable");
    }
}
