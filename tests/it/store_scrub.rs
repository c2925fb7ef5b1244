//! The scrub against the catalogue: what should be there and is not met is found, and that costs
//! no more than it may.

use super::store_conformance::{Backend, Memory, MemoryWithoutHoles, Store, open, put};
use super::store_faults::{FaultyDisk, Plan};
use super::store_fixtures::*;
use super::store_rot::records;
use quloud::core::effect::StoreError;
use quloud::core::types::{ChunkId, Ticket};
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::index::{Catalogue, CatalogueError, Change};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::record::{Kind, Prefix, relocate};
use quloud::store::scrub::{Cursor, Unread};
use quloud::store::{Damage, Request, Writer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CHUNKS: u64 = 60;
/// So many of them are put after the others.
const LATE: u64 = 6;
const LENGTH: usize = 2500;
/// Bytes of a step: a few records.
const STEP: u64 = 20_000;

/// What a round finds: damaged chunks and ranges, and how many steps it took.
fn round<D: Disk, C: Catalogue>(store: &Writer<D, C>) -> (BTreeSet<ChunkId>, usize, usize) {
    let (mut reader, mut cursor) = (store.reader(), Cursor::default());
    let (mut rotten, mut damaged) = (BTreeSet::new(), 0);
    for steps in 0..10_000 {
        let scrubbed = reader.scrub(cursor, STEP).unwrap();
        if scrubbed.round_is_over {
            return (rotten, damaged, steps);
        }
        damaged += scrubbed.damage.len();
        rotten.extend(scrubbed.rotten.into_iter().map(|request| match request {
            Request::Quarantine { id, .. } => id,
            other => panic!("{other:?}"),
        }));
        cursor = scrubbed.next;
    }
    panic!("a round ends");
}

/// Several segments; every third chunk is deleted again, not tidied up, and the last ones lie in
/// the newest segment.
fn filled<B: Backend>(backend: &B) -> Store<B> {
    let (mut store, _) = open(backend, options());
    put(&mut store, (0..CHUNKS - LATE).map(|n| chunk(n, LENGTH)));
    let delete = |n| Request::Delete { ticket: Ticket(n), id: id(n, LENGTH) };
    store.commit((0..CHUNKS - LATE).step_by(3).map(delete).collect());
    let write = |n| Request::Write { ticket: Ticket(n), chunk: Box::new(chunk(n, LENGTH)) };
    store.commit((CHUNKS - LATE..CHUNKS).map(write).collect());
    store
}

/// The records of chunks that the store has.
fn of_chunks(disk: &MemoryDisk, store: &Store<Memory>) -> Vec<(ChunkId, Prefix)> {
    let ids = (0..CHUNKS).map(|n| id(n, LENGTH));
    let records = records(disk).into_iter().filter(|record| record.kind == Kind::Chunk);
    let pairs = ids.zip(records);
    pairs.filter(|(id, _)| store.reader().find(&[*id])[0].is_some()).collect()
}

/// A copy of one record lies where another was, as if it had always been there.
fn supplant(disk: &MemoryDisk, (from, to): (&Prefix, &Prefix)) {
    let mut record = vec![0; from.record_bytes()];
    disk.read_at(File::Segment(from.place.segment), from.place.offset, &mut record).unwrap();
    relocate(&mut record, from, to.place);
    assert_eq!(from.record_bytes(), to.record_bytes());
    assert!(disk.spoil(File::Segment(to.place.segment), to.place.offset, &record));
}

#[test]
fn live_chunk_is_missed_where_a_whole_record_of_another_one_lies() {
    let backend = Memory::new();
    let store = filled(&backend);
    let (disk, _) = backend.open();
    let chunks = of_chunks(&disk, &store);
    let [(_, other), (first, one), .., (last, two)] = chunks.as_slice() else { panic!() };
    assert_ne!(one.place.segment, two.place.segment);
    supplant(&disk, (other, one));
    supplant(&disk, (other, two));
    let (rotten, damaged, _) = round(&store);
    assert_eq!((rotten, damaged), (BTreeSet::from([*first, *last]), 0));
}

#[test]
fn live_chunk_is_missed_where_an_older_record_of_its_own_lies() {
    let backend = Memory::new();
    let store = filled(&backend);
    let (disk, _) = backend.open();
    let chunks = of_chunks(&disk, &store);
    let (victim, record) = &chunks[3];
    let mut older = *record;
    older.place.sequence -= 1;
    supplant(&disk, (record, &older));
    let (rotten, damaged, _) = round(&store);
    assert_eq!((rotten, damaged), (BTreeSet::from([*victim]), 0));
}

#[test]
fn nothing_is_missed_in_a_sound_store_with_dead_records() {
    fn check<B: Backend>() {
        let backend = B::new();
        let mut store = filled(&backend);
        assert_eq!(round(&store).0, BTreeSet::new());
        tidy_up(&mut store);
        let (rotten, damaged, steps) = round(&store);
        assert_eq!((rotten, damaged), (BTreeSet::new(), 0));
        assert!(steps > 5);
    }
    check::<Memory>();
    check::<MemoryWithoutHoles>();
}

#[test]
fn what_lay_beyond_the_end_of_a_cut_segment_is_missed() {
    let backend = Memory::new();
    let store = filled(&backend);
    let (disk, _) = backend.open();
    let chunks = of_chunks(&disk, &store);
    let newest = disk.segments().unwrap().into_iter().max().unwrap();
    let tip = |record: &Prefix| record.place.segment == newest;
    assert!(chunks.iter().any(|(_, record)| tip(record)));
    for segment in disk.segments().unwrap() {
        let here = || chunks.iter().filter(move |(_, record)| record.place.segment == segment);
        let middle = here().count() / 2;
        let Some((_, cut)) = here().nth(middle) else { continue };
        let missed: BTreeSet<ChunkId> = here().skip(middle).map(|(id, _)| *id).collect();
        let file = File::Segment(segment);
        let mut bytes = vec![0; usize::try_from(disk.len(file).unwrap()).unwrap()];
        disk.read_at(file, 0, &mut bytes).unwrap();
        disk.truncate(file, cut.place.offset).unwrap();
        let (rotten, damaged, _) = round(&store);
        assert_eq!((rotten, damaged), (missed, 0));
        disk.write_at(file, 0, &bytes).unwrap();
    }
}

#[test]
fn chunk_that_is_known_to_be_damaged_is_not_told_again() {
    let backend = Memory::new();
    let mut store = filled(&backend);
    let (disk, _) = backend.open();
    let chunks = of_chunks(&disk, &store);
    supplant(&disk, (&chunks[0].1, &chunks[1].1));
    let rot = store.reader().read(&chunks[1].0).rot.unwrap();
    store.commit(vec![rot]);
    assert_eq!(round(&store).0, BTreeSet::new());
}

/// Counts how often it is gone through.
struct Counted(MemoryCatalogue, AtomicUsize);

impl Catalogue for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.0.get(key)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), CatalogueError> {
        self.0.apply(changes)
    }

    fn flush(&self) -> Result<(), CatalogueError> {
        self.0.flush()
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), CatalogueError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.scan(prefix, visit)
    }

    fn clear(&self) -> Result<(), CatalogueError> {
        self.0.clear()
    }
}

#[test]
fn catalogue_is_gone_through_only_on_suspicion_and_once_for_a_closed_segment() {
    let disk = Arc::new(MemoryDisk::without_holes(1 << 30));
    let catalogue = Arc::new(Counted(MemoryCatalogue::new(), AtomicUsize::new(0)));
    let shared = (Arc::clone(&disk), Arc::clone(&catalogue));
    let (mut store, _) = Writer::open(shared.0, shared.1, wrap_key(), options(), rng(1)).unwrap();
    put(&mut store, (0..CHUNKS).map(|n| chunk(n, LENGTH)));
    let scans = || catalogue.1.swap(0, Ordering::Relaxed);
    scans();
    round(&store);
    assert_eq!(scans(), 0, "nothing is suspicious");
    // Dead records everywhere but in the newest segment.
    let newest = disk.segments().unwrap().into_iter().max().unwrap();
    let delete = |n| Request::Delete { ticket: Ticket(n), id: id(n, LENGTH) };
    store.commit((0..CHUNKS / 2).step_by(2).map(delete).collect());
    let (_, _, steps) = round(&store);
    let scans = scans();
    let segments = usize::try_from(newest).unwrap() + 1;
    assert!((1..=segments).contains(&scans), "{scans} in {steps} steps, {segments} segments");
    assert!(steps > 2 * segments);
}

/// Several closed segments of chunks of `LONG` bytes, on a disk that fails as the plan says; where
/// the record of each chunk lies.
fn on_a_bad_disk(plan: &Arc<Plan>) -> (Faulty, Arc<MemoryDisk>, Vec<(ChunkId, Prefix)>) {
    let (disk, catalogue) = (Arc::new(MemoryDisk::new(64 << 20)), Arc::new(MemoryCatalogue::new()));
    let faulty = Arc::new(FaultyDisk(Arc::clone(&disk), Arc::clone(plan)));
    let (mut store, _) = Writer::open(faulty, catalogue, wrap_key(), options(), rng(1)).unwrap();
    put(&mut store, (0..20).map(|n| chunk(n, LONG)));
    let chunks = records(&disk).into_iter().filter(|record| record.kind == Kind::Chunk);
    let chunks = (0..20).map(|n| id(n, LONG)).zip(chunks).collect();
    (store, disk, chunks)
}

type Faulty = Writer<FaultyDisk<MemoryDisk>, MemoryCatalogue>;

/// Three records and more in a segment, each of several blocks.
const LONG: usize = 12_000;

/// What a round finds damaged, and what it could not read.
fn round_of_reads(store: &Faulty) -> (BTreeSet<ChunkId>, Vec<Unread>) {
    let (mut reader, mut cursor) = (store.reader(), Cursor::default());
    let (mut rotten, mut unread) = (BTreeSet::new(), Vec::new());
    for _ in 0..10_000 {
        let scrubbed = reader.scrub(cursor, STEP).unwrap();
        assert_eq!(scrubbed.damage, [], "what cannot be read is no damage");
        if scrubbed.round_is_over {
            return (rotten, unread);
        }
        unread.extend(scrubbed.unread);
        rotten.extend(scrubbed.rotten.into_iter().map(|request| match request {
            Request::Quarantine { id, .. } => id,
            other => panic!("{other:?}"),
        }));
        cursor = scrubbed.next;
    }
    panic!("a round ends");
}

/// The sector of the record that begins at this block of it.
fn sector(record: &Prefix, block: u64) -> (File, u64, u64) {
    let from = record.place.offset + block * 4_096;
    (File::Segment(record.place.segment), from, from + 512)
}

fn spoil(disk: &MemoryDisk, record: &Prefix) {
    assert!(disk.flip_bit(File::Segment(record.place.segment), record.place.offset + 6_000, 1));
}

fn unread(record: &Prefix) -> Unread {
    let (segment, from) = (record.place.segment, record.place.offset);
    let range = Damage { segment, from, to: record.locator().end() };
    Unread { range, error: DiskError::Io(5) }
}

#[test]
fn what_lies_behind_a_sector_that_cannot_be_read_is_scrubbed_in_the_same_round() {
    // The head of a record is read first, and then all of it.
    for block in [0, 1] {
        let plan = Plan::none();
        let (store, disk, chunks) = on_a_bad_disk(&plan);
        let first = chunks[0].1.place.segment;
        let here = chunks.iter().take_while(|(_, record)| record.place.segment == first);
        let [(bad, record), (_, behind), (rotten, last), ..] = &here.collect::<Vec<_>>()[..] else {
            panic!("a segment has three of them")
        };
        assert_eq!(record.locator().end(), behind.place.offset);
        plan.spoil_reads(sector(record, block));
        assert_eq!(round_of_reads(&store), (BTreeSet::new(), vec![unread(record)]), "{block}");
        spoil(&disk, last);
        let found = round_of_reads(&store);
        assert_eq!(found, (BTreeSet::from([*rotten]), vec![unread(record)]), "{block}");
        assert_eq!(store.reader().read(bad).result, Err(StoreError::Io), "nobody quarantines it");
    }
}

#[test]
fn behind_a_head_that_cannot_be_read_and_is_no_chunks_the_scrub_goes_on_at_the_next_chunk() {
    let plan = Plan::none();
    let (mut store, disk, chunks) = on_a_bad_disk(&plan);
    let [(gone, dead), (other, also), (rotten, next), ..] = &chunks[..] else { panic!() };
    assert!(dead.place.segment == next.place.segment);
    let ids = [*gone, *other];
    store.commit(ids.map(|id| Request::Delete { ticket: Ticket(1), id }).into());
    plan.spoil_reads(sector(dead, 0));
    spoil(&disk, next);
    let (found, passed) = round_of_reads(&store);
    assert_eq!(found, BTreeSet::from([*rotten]));
    let passed: Vec<_> = passed.iter().map(|unread| (unread.range.from, unread.range.to)).collect();
    assert_eq!(passed, [(dead.place.offset, next.place.offset)]);
    assert_eq!(also.locator().end(), next.place.offset);
}

#[test]
fn what_could_be_read_a_moment_later_is_judged_by_that() {
    let plan = Plan::none();
    let (store, disk, chunks) = on_a_bad_disk(&plan);
    let (rotten, record) = &chunks[1];
    spoil(&disk, record);
    plan.spoil_reads_once(sector(record, 1));
    assert_eq!(round_of_reads(&store), (BTreeSet::from([*rotten]), vec![unread(record)]));
}

#[test]
fn a_disk_that_gives_nothing_ends_a_round_and_condemns_nothing() {
    let plan = Plan::none();
    let (store, disk, chunks) = on_a_bad_disk(&plan);
    for segment in disk.segments().unwrap() {
        plan.spoil_reads((File::Segment(segment), 0, u64::MAX));
    }
    let (rotten, unread) = round_of_reads(&store);
    assert_eq!(rotten, BTreeSet::new());
    for (_, record) in &chunks {
        let (at, end) = (record.place, record.locator().end());
        assert!(unread.iter().any(|it| {
            let Damage { segment, from, to } = it.range;
            segment == at.segment && from <= at.offset && end <= to
        }));
    }
}
