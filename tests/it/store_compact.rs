//! Emptying segments: what moves, what stays, and that nothing deleted comes back.
//!
//! Chunks here take one block, so that 15 of them and its first record fill a segment.

use super::store_conformance::{Backend, Memory, MemoryWithoutHoles, delete, holds, open, put};
use super::store_faults::{Call, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::{Found, StoreError};
use quloud::core::types::Ticket;
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::index::{Catalogue, Change};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::record::{Kind, Prefix};
use quloud::store::recovery::Rebuilt;
use quloud::store::{ReadOnly, Request, Writer};
use std::sync::Arc;

type Store = Writer<MemoryDisk, MemoryCatalogue>;

const LENGTH: usize = 2500;
const PER_SEGMENT: u64 = 15;
const FIRST: u64 = 1;

trait InMemory: Backend<Disk = MemoryDisk, Catalogue = MemoryCatalogue> {}
impl<B: Backend<Disk = MemoryDisk, Catalogue = MemoryCatalogue>> InMemory for B {}

/// Chunks 0 to 14 fill the first segment, the next is begun.
fn filled<B: InMemory>() -> (B, Store) {
    let backend = B::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..=PER_SEGMENT).map(|n| chunk(n, LENGTH)));
    (backend, store)
}

fn segments<B: InMemory>(backend: &B) -> Vec<u64> {
    let mut segments = backend.open().0.segments().unwrap();
    segments.sort_unstable();
    segments
}

/// The records in `segment` whose heads can be read: their places.
fn heads(disk: &MemoryDisk, segment: u64, kind: Kind) -> Vec<u64> {
    let file = File::Segment(segment);
    let mut block = vec![0; 4096];
    let blocks = (0..disk.len(file).unwrap()).step_by(4096);
    let of_kind = blocks.filter(|at| {
        disk.read_at(file, *at, &mut block).unwrap();
        Prefix::parse(&block).is_ok_and(|prefix| prefix.kind == kind)
    });
    of_kind.collect()
}

fn flip<B: InMemory>(backend: &B, number: u64, at: u64) {
    let (disk, _) = backend.open();
    let place = heads(&disk, FIRST, Kind::Chunk)[usize::try_from(number).unwrap()];
    assert!(disk.flip_bit(File::Segment(FIRST), place + at, 0));
}

fn remove(store: &mut Store, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        delete(store, id(number, LENGTH)).unwrap();
        tidy_up(store);
    }
}

/// Chunks come and go, so that segments do. Every other time the store is opened again.
fn churn<B: InMemory>(backend: &B, mut store: Store) -> Store {
    for round in 3..20 {
        put(&mut store, (0..8).map(|n| chunk(round * 10 + n, LENGTH)));
        remove(&mut store, (0..8).map(|n| round * 10 + n));
        if round % 2 == 0 {
            drop(store);
            let (opened, report) = open(backend, options());
            assert_eq!(report.rebuilt, None);
            store = opened;
        }
    }
    store
}

/// Opens a store again of which only the segments are left.
fn rebuild<B: InMemory>(backend: &B, store: Store) -> Store {
    drop(store);
    let (_, catalogue) = backend.open();
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
    open(backend, options()).0
}

fn is_gone(store: &Store, number: u64) -> bool {
    store.reader().read(&id(number, LENGTH)).result == Err(StoreError::NotFound)
}

/// The first segment cannot be emptied: the head of its last chunk is damaged. What lies before
/// that is moved, and then deleted.
///
/// The second segment ends with the tombstones of the first; the copies lie in the third, which
/// holds no tombstone that is needed: only that they are newer keeps it. Their tombstones and
/// whatever follows are in the fourth.
fn copies_stay_behind<B: InMemory>(rebuilt: bool) -> (B, Store) {
    let (backend, mut store) = filled::<B>();
    flip(&backend, PER_SEGMENT - 1, 1);
    commit(&mut store, (2..8).map(remove_one));
    commit(&mut store, (100..108).map(put_one));
    tidy_up(&mut store);
    let (disk, _) = backend.open();
    assert_eq!(segments(&backend), [1, 2, 3]);
    assert_eq!(heads(&disk, 3, Kind::Chunk).len(), 8, "what can be moved was moved");
    commit(&mut store, (110..117).map(put_one));
    if rebuilt {
        store = rebuild(&backend, store);
    }
    assert!([0, 1].iter().all(|n| holds(&store, &chunk(*n, LENGTH))));
    let moved = (0..2).chain(8..PER_SEGMENT - 1);
    commit(&mut store, moved.chain([PER_SEGMENT]).map(remove_one));
    assert_eq!(segments(&backend), [1, 2, 3, 4]);
    remove(&mut store, (100..108).chain(110..117));
    (backend, store)
}

fn put_one(number: u64) -> Request {
    Request::Write { ticket: Ticket(number), chunk: Box::new(chunk(number, LENGTH)) }
}

fn remove_one(number: u64) -> Request {
    Request::Delete { ticket: Ticket(number), id: id(number, LENGTH) }
}

/// A group that works, and nothing is tidied after it.
fn commit(store: &mut Store, requests: impl Iterator<Item = Request>) {
    let inputs = store.commit(requests.collect());
    assert!(written(&inputs).iter().all(|(_, result)| result.is_ok()));
    assert!(deleted(&inputs).iter().all(|(_, result)| result.is_ok()));
}

fn a_copy_that_stays_behind_never_comes_back<B: InMemory>() {
    for rebuilt in [false, true] {
        let (backend, store) = copies_stay_behind::<B>(rebuilt);
        let store = churn(&backend, store);
        assert!(segments(&backend).contains(&FIRST), "the damaged chunk lies there");
        let store = rebuild(&backend, store);
        assert!((0..PER_SEGMENT - 1).all(|n| is_gone(&store, n)));
    }
}

/// The same where the copy rots away after it was deleted, so that its tombstone ends the record
/// that stayed behind.
fn a_tombstone_of_a_lost_copy_stays<B: InMemory>() {
    let (backend, store) = copies_stay_behind::<B>(false);
    let (disk, _) = backend.open();
    for at in [Kind::Chunk, Kind::Trailer].into_iter().flat_map(|kind| heads(&disk, 3, kind)) {
        disk.flip_bit(File::Segment(3), at + 1, 0);
    }
    let store = rebuild(&backend, store);
    assert!((0..PER_SEGMENT - 1).all(|n| is_gone(&store, n)));
    let store = churn(&backend, store);
    assert!(segments(&backend).contains(&FIRST));
    let store = rebuild(&backend, store);
    assert!((0..PER_SEGMENT - 1).all(|n| is_gone(&store, n)));
}

/// A segment that goes leaves no tombstone behind that a record elsewhere still needs, however
/// often that is moved; and when the record's segment goes, so do its tombstones.
fn tombstones_move_as_long_as_they_are_needed<B: InMemory>() {
    let (backend, mut store) = filled::<B>();
    remove(&mut store, 0..2);
    let mut store = churn(&backend, store);
    let left = segments(&backend);
    assert_eq!(left[0], FIRST, "most of it lives");
    assert!(left.len() <= 4, "the others went: {left:?}");
    store = rebuild(&backend, store);
    assert!((0..2).all(|n| is_gone(&store, n)));
    assert!((2..=PER_SEGMENT).all(|n| holds(&store, &chunk(n, LENGTH))));
    // Once more after a rebuild has counted anew.
    store = churn(&backend, store);
    store = rebuild(&backend, store);
    assert!((0..2).all(|n| is_gone(&store, n)));
    remove(&mut store, 2..=PER_SEGMENT);
    let store = churn(&backend, store);
    assert!(segments(&backend).len() <= 2, "{:?}", segments(&backend));
    assert_eq!(rebuild(&backend, store).chunks(), 0);
}

/// What tombstones a segment holds is known again when the store is opened, and after a rebuild:
/// one in which nothing lives is not unlinked then.
fn a_segment_of_tombstones_outlives_a_restart<B: InMemory>() {
    let (backend, mut store) = filled::<B>();
    commit(&mut store, (0..2).map(remove_one));
    commit(&mut store, (20..40).map(put_one));
    let second = (20..32).chain([PER_SEGMENT]);
    commit(&mut store, second.map(remove_one));
    drop(store);
    let (mut store, report) = open(&backend, options());
    assert_eq!(report.rebuilt, None);
    for _ in 0..3 {
        assert!(segments(&backend).contains(&2));
        store = rebuild(&backend, store);
        assert!((0..2).all(|n| is_gone(&store, n)));
    }
    // They move one by one, where nothing has just died.
    assert!(store.tidy());
    tidy_up(&mut store);
    assert!(!segments(&backend).contains(&2));
    store = rebuild(&backend, store);
    assert!((0..2).all(|n| is_gone(&store, n)));
}

/// A damaged chunk that was written anew keeps no segment on the disk: the newer record guards
/// against the older one, so the older one's segment is emptied, although it is full of life.
fn the_old_segment_of_a_healed_chunk_is_emptied<B: InMemory>() {
    let (backend, mut store) = filled::<B>();
    flip(&backend, 3, 1000);
    let rot = store.reader().read(&id(3, LENGTH)).rot.unwrap();
    store.commit(vec![rot]);
    tidy_up(&mut store);
    assert!(segments(&backend).contains(&FIRST));
    put(&mut store, [chunk(3, LENGTH)]);
    tidy_up(&mut store);
    assert!(!segments(&backend).contains(&FIRST));
    let store = rebuild(&backend, store);
    assert!((0..=PER_SEGMENT).all(|n| holds(&store, &chunk(n, LENGTH))));
}

/// Rot in a record is no reason to keep its segment: it moves with the rest, and what can still be
/// served is.
fn a_damaged_chunk_moves_as_it_is<B: InMemory>() {
    let (backend, mut store) = filled::<B>();
    flip(&backend, 0, 4095);
    flip(&backend, 1, 1000);
    remove(&mut store, 2..8);
    assert!(!segments(&backend).contains(&FIRST));
    let marred = chunk(0, LENGTH);
    let read = store.reader().read(&marred.id()).result;
    assert_eq!(read, Ok((marred.header, marred.sealed)), "only what lies beside it is damaged");
    assert_eq!(store.reader().read(&id(1, LENGTH)).result, Err(StoreError::Damaged));
    let damaged =
        |n| Some(Found::Chunk { header: chunk(n, LENGTH).header, sound: false, released: false });
    assert_eq!(store.reader().find(&[id(0, LENGTH), id(1, LENGTH)]), [damaged(0), damaged(1)]);
    assert!((8..=PER_SEGMENT).all(|n| holds(&store, &chunk(n, LENGTH))));
    let healed = put(&mut store, [chunk(1, LENGTH)]).pop().unwrap().unwrap();
    assert_eq!(healed.lease, lease(1));
    assert!(holds(&store, &chunk(1, LENGTH)));
}

/// Moving needs space: where there is none it waits, and deletes do not.
fn a_move_that_does_not_fit_waits<B: InMemory>() {
    const LONG: usize = 9000;
    let backend = B::new();
    let (disk, _) = backend.open();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..40).map(|n| chunk(n, LONG)));
    tidy_up(&mut store);
    let used = (1 << 30) - disk.free_space().unwrap();
    let delete = |n: u64| Request::Delete { ticket: Ticket(n), id: id(n, LONG) };
    store.commit((0..2).map(delete).collect());
    drop(store);
    // One call moves one of these chunks where none has just died; then others take what is free
    // but for two blocks.
    let (mut store, _) = open(&backend, options());
    let free = disk.free_space().unwrap();
    disk.set_capacity((1 << 30) - free + 40_000);
    assert!(!store.tidy());
    assert_eq!(disk.free_space().unwrap(), 40_000, "no move is begun that does not fit");
    disk.set_capacity(1 << 30);
    assert!(store.tidy(), "there is more to do");
    let free = disk.free_space().unwrap();
    disk.set_capacity((1 << 30) - free + 8192);
    assert!(!store.tidy(), "there is no space to do more");
    let inputs = store.commit(vec![delete(39)]);
    assert_eq!(deleted(&inputs), [(Ticket(39), Ok(()))]);
    assert!(!store.tidy());
    assert!((2..39).all(|n| holds(&store, &chunk(n, LONG))));
    disk.set_capacity(1 << 30);
    tidy_up(&mut store);
    assert!((1 << 30) - disk.free_space().unwrap() < used, "it went on");
    let store = rebuild(&backend, store);
    assert!((0..40).all(|n| holds(&store, &chunk(n, LONG)) == (2..39).contains(&n)));
}

/// Without the index at its end and with a block that cannot be read, nobody knows what a segment
/// keeps dead: it stays as long as it may keep something.
fn a_segment_with_an_unreadable_tombstone_stays<B: InMemory>() {
    let (backend, mut store) = filled::<B>();
    remove(&mut store, 0..2);
    put(&mut store, (20..40).map(|n| chunk(n, LENGTH)));
    tidy_up(&mut store);
    let (disk, _) = backend.open();
    let second = segments(&backend)[1];
    let tombstones = heads(&disk, second, Kind::Tombstone);
    assert_eq!(tombstones.len(), 2);
    for at in heads(&disk, second, Kind::Trailer).into_iter().chain(tombstones) {
        disk.flip_bit(File::Segment(second), at + 1, 0);
    }
    remove(&mut store, (20..40).chain([PER_SEGMENT]));
    assert_eq!(segments(&backend)[..2], [FIRST, second]);
    remove(&mut store, 2..PER_SEGMENT);
    assert!(!segments(&backend).contains(&second), "there is nothing left to keep dead");
}

/// Every test of this file, with holes and without.
macro_rules! both {
    ($($test:ident),+ $(,)?) => {
        mod with_holes {
            $(#[test] fn $test() { super::$test::<super::Memory>(); })+
        }
        mod without_holes {
            $(#[test] fn $test() { super::$test::<super::MemoryWithoutHoles>(); })+
        }
    };
}

both!(
    a_copy_that_stays_behind_never_comes_back,
    a_tombstone_of_a_lost_copy_stays,
    tombstones_move_as_long_as_they_are_needed,
    the_old_segment_of_a_healed_chunk_is_emptied,
    a_segment_of_tombstones_outlives_a_restart,
    a_damaged_chunk_moves_as_it_is,
    a_move_that_does_not_fit_waits,
    a_segment_with_an_unreadable_tombstone_stays,
);

/// Found by netsim: the segment with the tombstones went before the records that they end, and a
/// later rebuild brought those back.
#[test]
fn a_lost_note_about_tombstones_is_noticed() {
    let (backend, mut store) = filled::<Memory>();
    remove(&mut store, [2]);
    drop(store);
    let (_, catalogue) = backend.open();
    let mut notes = Vec::new();
    catalogue.scan(b"t", &mut |key, _| notes.push(key.to_vec())).unwrap();
    let lost = notes.into_iter().map(|key| Change { key, value: None });
    let lost: Vec<Change> = lost.collect();
    assert_eq!(lost.len(), 1);
    catalogue.apply(&lost).unwrap();
    let (store, report) = open(&backend, options());
    assert_eq!(report.rebuilt, Some(Rebuilt::Inconsistent));
    assert!(is_gone(&store, 2));
    drop(store);
    assert_eq!(open(&backend, options()).1.rebuilt, None);
}

/// Of a store that takes no writes it is not known which names are gone for good: where one comes
/// back with the next power cut, the notes about its segment keep dead what it holds.
#[test]
fn a_store_that_is_opened_read_only_forgets_no_notes() {
    let (backend, mut store) = filled::<Memory>();
    let deletes = (0..PER_SEGMENT)
        .map(|n| Request::Delete { ticket: Ticket(n), id: id(n, LENGTH) })
        .collect();
    assert!(deleted(&store.commit(deletes)).iter().all(|(_, result)| result.is_ok()));
    drop(store);
    let (disk, catalogue) = backend.open();
    let notes = || {
        let mut notes = 0;
        catalogue.scan(b"t", &mut |_, _| notes += 1).unwrap();
        notes
    };
    let (before, with_the_name) = (notes(), disk.image());
    assert!(before > 0);
    // The last process ended between the unlink and the sync of names, which fails now.
    disk.unlink(File::Segment(FIRST)).unwrap();
    let plan = Plan::new(|_, call| match call {
        Call::SyncNames => Verdict::Fail(DiskError::Io(5)),
        _ => Verdict::Do,
    });
    let faulty = Arc::new(FaultyDisk(Arc::clone(&disk), plan));
    let opened = Writer::open(faulty, Arc::clone(&catalogue), wrap_key(), options(), rng(1));
    assert_eq!(opened.unwrap().1.read_only, Some(ReadOnly::Sync(DiskError::Io(5))));
    assert_eq!(notes(), before);
    // And the power goes.
    let opened = Writer::open(
        Arc::new(with_the_name),
        Arc::new(catalogue.image()),
        wrap_key(),
        options(),
        rng(1),
    );
    let (store, report) = opened.unwrap();
    assert_eq!(report.rebuilt, None);
    assert!((0..PER_SEGMENT).all(|n| is_gone(&store, n)));
    drop(store);
    // Where the name is gone for good, so are the notes.
    assert_eq!(open(&backend, options()).1.rebuilt, None);
    assert_eq!(notes(), 0);
}
