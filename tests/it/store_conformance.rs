//! What every backend of the store must do, the same for all.

use super::store_fixtures::*;
use super::store_heads::{head, keys};
use quloud::core::effect::{ChunkState, Found, Input, StoreError, StoredChunk, Written};
use quloud::core::types::{ChunkId, LeaseNonce, Ticket};
use quloud::crypto::head::HeadRecord;
use quloud::store::catalogue::SledCatalogue;
use quloud::store::disk::{Disk, File};
use quloud::store::heads::KEEP_SUPERSEDED_S;
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::releases::RELEASE_SLACK_S;
use quloud::store::segments::FileDisk;
use quloud::store::{OpenReport, Options, Request, Writer};
use std::sync::Arc;

/// A place where a store can be opened again and again.
pub(crate) trait Backend {
    type Disk: Disk;
    type Catalogue: Catalogue;

    fn new() -> Self;

    /// Opens disk and catalogue; whatever was opened before is dropped by then.
    fn open(&self) -> (Arc<Self::Disk>, Arc<Self::Catalogue>);
}

pub(crate) struct Memory(Arc<MemoryDisk>, Arc<MemoryCatalogue>);

impl Backend for Memory {
    type Disk = MemoryDisk;
    type Catalogue = MemoryCatalogue;

    fn new() -> Self {
        Self(Arc::new(MemoryDisk::new(1 << 30)), Arc::new(MemoryCatalogue::new()))
    }

    fn open(&self) -> (Arc<MemoryDisk>, Arc<MemoryCatalogue>) {
        (Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

pub(crate) struct MemoryWithoutHoles(Memory);

impl Backend for MemoryWithoutHoles {
    type Disk = MemoryDisk;
    type Catalogue = MemoryCatalogue;

    fn new() -> Self {
        let disk = Arc::new(MemoryDisk::without_holes(1 << 30));
        Self(Memory(disk, Arc::new(MemoryCatalogue::new())))
    }

    fn open(&self) -> (Arc<MemoryDisk>, Arc<MemoryCatalogue>) {
        self.0.open()
    }
}

pub(crate) struct Files(tempfile::TempDir);

impl Backend for Files {
    type Disk = FileDisk;
    type Catalogue = SledCatalogue;

    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> (Arc<FileDisk>, Arc<SledCatalogue>) {
        let disk = file_disk(self.0.path());
        let (catalogue, _) = SledCatalogue::open(&self.0.path().join("index"), 1 << 20).unwrap();
        (Arc::new(disk), Arc::new(catalogue))
    }
}

pub(crate) type Store<B> = Writer<<B as Backend>::Disk, <B as Backend>::Catalogue>;

pub(crate) fn open<B: Backend>(backend: &B, options: Options) -> (Store<B>, OpenReport) {
    let (disk, catalogue) = backend.open();
    Writer::open(disk, catalogue, wrap_key(), options, rng(1)).unwrap()
}

pub(crate) fn put<D: Disk, C: Catalogue>(
    store: &mut Writer<D, C>,
    chunks: impl IntoIterator<Item = StoredChunk>,
) -> Vec<Result<Written, StoreError>> {
    let writes = chunks.into_iter().zip(0..);
    let writes = writes.map(|(chunk, n)| Request::Write { ticket: Ticket(n), chunk: chunk.into() });
    let inputs = store.commit(writes.collect());
    store.tidy();
    written(&inputs).into_iter().map(|(_, result)| result).collect()
}

pub(crate) fn delete<D: Disk, C: Catalogue>(
    store: &mut Writer<D, C>,
    id: ChunkId,
) -> Result<(), StoreError> {
    let inputs = store.commit(vec![Request::Delete { ticket: Ticket(0), id }]);
    store.tidy();
    deleted(&inputs).pop().unwrap().1
}

fn put_one<D: Disk, C: Catalogue>(store: &mut Writer<D, C>, chunk: StoredChunk) -> Written {
    put(store, [chunk]).pop().unwrap().unwrap()
}

pub(crate) fn holds<D: Disk, C: Catalogue>(store: &Writer<D, C>, chunk: &StoredChunk) -> bool {
    let found = store.reader().find(&[chunk.id()])
        == [Some(Found::Chunk { header: chunk.header, sound: true, released: false })];
    let read = store.reader().read(&chunk.id()).result;
    found && read == Ok((chunk.header, chunk.sealed.clone()))
}

fn what_was_written_is_read_back<B: Backend>() {
    let backend = B::new();
    let (mut store, report) = open(&backend, options());
    assert!(report.created);
    let results = put(&mut store, (0..40).map(|n| chunk(n, 3000)));
    assert!(results.iter().all(|result| result.is_ok_and(|written| written.added_bytes == 4096)));
    assert!((0..40).all(|n| holds(&store, &chunk(n, 3000))));
    let epoch = store.epoch();
    drop(store);
    let (store, report) = open(&backend, options());
    assert_eq!((report.created, report.rebuilt, report.replayed), (false, None, 0));
    assert_eq!((report.chunks, store.epoch()), (40, epoch));
    assert!((0..40).all(|n| holds(&store, &chunk(n, 3000))));
}

fn a_second_write_answers_with_the_first_lease_and_terms<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    let first = put_one(&mut store, chunk(1, 5000));
    let mut again = StoredChunk { lease: lease(77), ..chunk(1, 5000) };
    again.terms.keep_after_silence_s += 1;
    let second = put_one(&mut store, again.clone());
    assert_eq!((second.lease, second.added_bytes), (first.lease, 0));
    assert_eq!((first.terms, second.terms), (chunk(1, 5000).terms, first.terms));
    let both =
        put(&mut store, [chunk(2, 5000), StoredChunk { lease: lease(78), ..chunk(2, 5000) }]);
    assert_eq!(both[0].unwrap().lease, both[1].unwrap().lease);
    let other = StoredChunk { account: account(9), ..chunk(1, 5000) };
    assert_eq!(put(&mut store, [other]), [Err(StoreError::OtherAccount)]);
    delete(&mut store, again.id()).unwrap();
    let anew = put_one(&mut store, again.clone());
    assert_eq!((anew.lease, anew.terms), (lease(77), again.terms));
}

fn a_deleted_chunk_stays_deleted<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..60).map(|n| chunk(n, 3000)));
    assert_eq!(delete(&mut store, id(100, 3000)), Err(StoreError::NotFound));
    for n in 0..59 {
        delete(&mut store, id(n, 3000)).unwrap();
    }
    let check = |store: &Store<B>| {
        assert_eq!(store.reader().read(&id(3, 3000)).result, Err(StoreError::NotFound));
        assert_eq!(store.reader().find(&[id(3, 3000)]), [None]);
        assert!(holds(store, &chunk(59, 3000)));
        assert_eq!((store.chunks(), store.space().used), (1, 4096));
        assert_eq!(store.usage().values().sum::<u64>(), 4096);
    };
    check(&store);
    drop(store);
    let (store, report) = open(&backend, options());
    assert_eq!(report.rebuilt, None);
    check(&store);
    drop(store);
    backend.open().1.clear().unwrap();
    backend.open().1.flush().unwrap();
    let (store, report) = open(&backend, options());
    assert!(report.rebuilt.is_some());
    check(&store);
}

fn space_comes_back_after_deletes<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    let mut most = 0;
    for round in 0..20 {
        put(&mut store, (0..10).map(|n| chunk(round * 10 + n, 9000)));
        most = most.max(store.space().used);
        for n in 0..10 {
            delete(&mut store, id(round * 10 + n, 9000)).unwrap();
        }
    }
    assert_eq!((store.space().used, store.chunks()), (0, 0));
    assert!(most <= 10 * 12288);
    drop(store);
    assert!(backend.open().0.segments().unwrap().len() <= 3, "dead segments are unlinked");
}

fn the_catalogue_is_rebuilt_from_the_segments<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    for n in 0..50 {
        put_one(&mut store, chunk(n, 4000));
    }
    for n in 10..30 {
        delete(&mut store, id(n, 4000)).unwrap();
    }
    let (space, usage, epoch) = (store.space(), store.usage().clone(), store.epoch());
    drop(store);
    let (_, catalogue) = backend.open();
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
    drop(catalogue);
    let (mut store, report) = open(&backend, options());
    assert_eq!(report.rebuilt, Some(quloud::store::Rebuilt::Missing));
    assert!(same_use(store.space(), space));
    assert_eq!((store.usage(), store.epoch()), (&usage, epoch));
    for n in 0..50 {
        assert_eq!(holds(&store, &chunk(n, 4000)), !(10..30).contains(&n), "chunk {n}");
    }
    assert_eq!(put_one(&mut store, chunk(5, 4000)).lease, lease(5), "leases are in the records");
}

fn heads_come_back_and_their_ledger_is_written_anew<B: Backend>() {
    let backend = B::new();
    let numbers = |store: &Store<B>, index| {
        let read = store.reader().read_heads(&keys(index).id(), usize::MAX).unwrap();
        read.iter().map(HeadRecord::number).collect::<Vec<u64>>()
    };
    let (mut store, _) = open(&backend, options());
    for first in (1..460).step_by(51) {
        store.commit((first..first + 51).map(|number| head(0, number)).collect());
    }
    store.commit(vec![head(1, 7)]);
    assert_eq!(numbers(&store, 0), (1..460).rev().collect::<Vec<u64>>());
    drop(store);
    let (mut store, report) = open(&backend, options());
    assert!(report.ledger_damage.is_empty());
    assert_eq!((numbers(&store, 0).len(), numbers(&store, 1)), (459, vec![7]));
    // Most of it is waste after a month.
    store.commit(vec![head(0, 460), Request::Uptime { passed_s: KEEP_SUPERSEDED_S }]);
    store.tidy();
    store.commit(vec![head(0, 461)]);
    let (uptime, used) = (store.uptime(), store.space().used);
    drop(store);
    let (disk, catalogue) = backend.open();
    assert_eq!(disk.ledgers().unwrap(), [2]);
    assert!(disk.len(File::Ledger(2)).unwrap() < 1 << 20);
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
    drop((disk, catalogue));
    let (store, report) = open(&backend, options());
    assert!(report.ledger_damage.is_empty());
    assert_eq!((numbers(&store, 0), numbers(&store, 1)), (vec![461, 460, 459], vec![7]));
    assert_eq!((store.uptime(), store.space().used), (uptime, used));
}

fn accounts_are_listed_in_pages_and_released_chunks_are_destroyed<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..40).map(|n| chunk(n, 3000)));
    let release = |undo, numbers: &[u64]| {
        let items = numbers.iter().map(|n| (id(*n, 3000), lease(*n))).collect();
        Request::Release { ticket: Ticket(0), undo, items }
    };
    let inputs = store.commit(vec![release(false, &[0, 3, 6]), release(true, &[3])]);
    let is_done = |input: &Input| matches!(input, Input::ChunksReleased { result: Ok(_), .. });
    assert!(inputs.len() == 2 && inputs.iter().all(is_done));
    let list = |store: &Store<B>, after: &ChunkId, limit| {
        let (page, more) = store.reader().list(&account(0), after, limit).unwrap();
        (page.into_iter().map(|listed| (listed.id, listed.state)).collect::<Vec<_>>(), more)
    };
    let mut own: Vec<ChunkId> = (0..40).step_by(3).map(|n| id(n, 3000)).collect();
    own.sort();
    for _ in 0..2 {
        let (first, more) = list(&store, &ChunkId::from_bytes([0; 32]), 9);
        assert!(first.len() == 9 && more);
        let (second, more) = list(&store, &first[8].0, 9);
        assert!(second.len() == 5 && !more);
        let all: Vec<_> = first.into_iter().chain(second).collect();
        assert_eq!(all.iter().map(|(id, _)| *id).collect::<Vec<_>>(), own);
        let is_released = |(_, state): &&(ChunkId, ChunkState)| *state != ChunkState::Live;
        assert_eq!(all.iter().filter(is_released).count(), 2);
        let ids = [id(0, 3000), id(1, 3000), id(3, 3000)];
        let states = store.reader().query(&account(0), &ids).unwrap();
        let nothing = (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16]));
        assert_eq!(states[1..], [nothing, (ChunkState::Live, lease(3))]);
        assert!(matches!(states[0], (ChunkState::Released { .. }, _)));
        drop(store);
        store = open(&backend, options()).0;
    }
    let passed_s = u64::from(chunk(0, 3000).terms.release_delay_s) + RELEASE_SLACK_S;
    store.commit(vec![Request::Uptime { passed_s }]);
    assert!(store.has_due());
    store.commit(Vec::new());
    store.tidy();
    drop(store);
    let (store, _) = open(&backend, options());
    assert_eq!((store.chunks(), store.releases()), (38, 0));
    assert_eq!(store.reader().read(&id(0, 3000)).result, Err(StoreError::NotFound));
    assert_eq!(list(&store, &ChunkId::from_bytes([0; 32]), 99).0.len(), 12);
}

fn a_full_store_says_so_and_still_deletes<B: Backend>() {
    let backend = B::new();
    let (mut store, _) = open(&backend, Options { capacity: 100_000, ..options() });
    let results = put(&mut store, (0..40).map(|n| chunk(n, 3000)));
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert!((15..25).contains(&stored));
    assert!(results[stored..].iter().all(|result| *result == Err(StoreError::Full)));
    delete(&mut store, id(0, 3000)).unwrap();
    delete(&mut store, id(1, 3000)).unwrap();
    put_one(&mut store, chunk(39, 3000));
}

/// Every test of this file for one backend.
macro_rules! conformance {
    ($module:ident, $backend:ty, $($test:ident),+ $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test::<$backend>();
                }
            )+
        }
    };
    ($($module:ident: $backend:ty),+ $(,)?) => {
        $(
            conformance!(
                $module,
                $backend,
                what_was_written_is_read_back,
                a_second_write_answers_with_the_first_lease_and_terms,
                a_deleted_chunk_stays_deleted,
                space_comes_back_after_deletes,
                the_catalogue_is_rebuilt_from_the_segments,
                heads_come_back_and_their_ledger_is_written_anew,
                accounts_are_listed_in_pages_and_released_chunks_are_destroyed,
                a_full_store_says_so_and_still_deletes,
            );
        )+
    };
}

conformance! {
    memory: super::Memory,
    memory_without_holes: super::MemoryWithoutHoles,
    files_and_sled: super::Files,
}
