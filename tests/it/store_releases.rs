//! Chunks that are let go: how long they are kept, what takes that back, and that nothing that is
//! acknowledged is ever destroyed.

use super::store_conformance::holds;
use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use super::store_heads::head;
use quloud::core::effect::{ChunkState, Deleted, Found, Input, StoreError, StoredChunk, Written};
use quloud::core::types::{ChunkId, LeaseNonce, LeaseTerms, Ticket};
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::heads::KEEP_SUPERSEDED_S;
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::releases::{DESTROYED_MAX, RELEASE_SLACK_S, ReleaseBounds};
use quloud::store::{OpenReport, Options, Request, Writer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

mod damage;
mod steps;

type Store = Writer<FaultyDisk<MemoryDisk>, FaultyCatalogue<MemoryCatalogue>>;

const DAY_S: u64 = 86_400;
const LENGTH: usize = 3_000;

/// What was promised, and what the store adds to it.
fn delay() -> u64 {
    u64::from(LeaseTerms::default().release_delay_s) + RELEASE_SLACK_S
}

fn released(due_s: u64) -> ChunkState {
    ChunkState::Released { due_s: due_s.try_into().unwrap() }
}

/// Disk and catalogue, which outlive the store.
struct World(Arc<MemoryDisk>, Arc<MemoryCatalogue>);

impl World {
    fn new() -> Self {
        Self(Arc::new(MemoryDisk::new(64 << 20)), Arc::new(MemoryCatalogue::new()))
    }

    fn image(&self) -> Self {
        Self(Arc::new(self.0.image()), Arc::new(self.1.image()))
    }

    fn open(&self, plan: &Arc<Plan>) -> (Store, OpenReport) {
        self.open_with(plan, ReleaseBounds::default()).expect("the store opens")
    }

    fn again(&self) -> Store {
        self.open(&Plan::none()).0
    }

    fn open_with(&self, plan: &Arc<Plan>, releases: ReleaseBounds) -> Option<(Store, OpenReport)> {
        let disk = FaultyDisk(Arc::clone(&self.0), Arc::clone(plan));
        let catalogue = FaultyCatalogue(Arc::clone(&self.1), Arc::clone(plan));
        let options = Options { segment_bytes: 96 << 10, releases, ..options() };
        Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng(1)).ok()
    }

    fn ledger(&self) -> File {
        let newest = self.0.ledgers().unwrap().into_iter().max();
        File::Ledger(newest.expect("there is a ledger"))
    }

    fn wipe(&self) {
        self.1.clear().unwrap();
        self.1.flush().unwrap();
    }
}

fn write(store: &mut Store, chunk: StoredChunk) -> Result<Written, StoreError> {
    let request = Request::Write { ticket: Ticket(0), chunk: Box::new(chunk) };
    let inputs = store.commit(vec![request]);
    store.tidy();
    written(&inputs).pop().unwrap().1
}

fn put(store: &mut Store, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        write(store, chunk(number, LENGTH)).unwrap();
    }
}

fn request(undo: bool, items: &[(u64, LeaseNonce)]) -> Request {
    let items = items.iter().map(|(number, lease)| (id(*number, LENGTH), *lease)).collect();
    Request::Release { ticket: Ticket(9), undo, items }
}

type Answer = Result<Vec<ChunkState>, StoreError>;

/// The answers to the releases of a group.
fn answers(inputs: &[Input]) -> Vec<Answer> {
    let answer = |input: &Input| match input {
        Input::ChunksReleased { result, .. } => Some(result.clone()),
        _ => None,
    };
    inputs.iter().filter_map(answer).collect()
}

fn release(store: &mut Store, undo: bool, items: &[(u64, LeaseNonce)]) -> Answer {
    let inputs = store.commit(vec![request(undo, items)]);
    store.tidy();
    answers(&inputs).pop().unwrap()
}

/// Lets these go, each under its first lease.
fn let_go(store: &mut Store, numbers: impl IntoIterator<Item = u64>) -> Answer {
    let items: Vec<_> = numbers.into_iter().map(|number| (number, lease(number))).collect();
    release(store, false, &items)
}

/// Time passes, and what is due is destroyed.
fn pass(store: &mut Store, passed_s: u64) -> Vec<(ChunkId, Deleted)> {
    let mut inputs = store.commit(vec![Request::Uptime { passed_s }]);
    tidy_up(store);
    for _ in 0..1_000 {
        if !store.has_due() {
            break;
        }
        inputs.extend(store.commit(Vec::new()));
        tidy_up(store);
    }
    assert!(!store.has_due(), "it comes to an end");
    let gone = inputs.into_iter().filter_map(|input| match input {
        Input::ChunksDestroyed(gone) => Some(gone),
        _ => None,
    });
    gone.flatten().collect()
}

fn state(store: &Store, number: u64) -> ChunkState {
    query(store, number).0
}

fn query(store: &Store, number: u64) -> (ChunkState, LeaseNonce) {
    let account = chunk(number, LENGTH).account;
    store.reader().query(&account, &[id(number, LENGTH)]).unwrap().remove(0)
}

/// Kept while it is let go: it is found to be so, and its bytes are what they were.
fn waits(store: &Store, number: u64) -> bool {
    let StoredChunk { header, sealed, .. } = chunk(number, LENGTH);
    let found = store.reader().find(&[header.id()]);
    found == [Some(Found::Chunk { header, sound: true, released: true })]
        && store.reader().read(&header.id()).result == Ok((header, sealed))
}

fn is_gone(store: &Store, number: u64) -> bool {
    let id = id(number, LENGTH);
    store.reader().find(&[id]) == [None]
        && store.reader().read(&id).result == Err(StoreError::NotFound)
        && query(store, number) == (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16]))
}

#[test]
fn stolen_device_key_cannot_destroy() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..6);
    let (used, usage) = (store.space().used, store.usage().clone());
    assert_eq!(let_go(&mut store, 0..5), Ok(vec![released(delay()); 5]));
    // Whatever the clocks say between two lives of the store.
    for _ in 0..30 {
        drop(store);
        store = world.again();
    }
    assert_eq!(pass(&mut store, 6 * DAY_S), []);
    assert!((0..5).all(|number| waits(&store, number)), "day 6");
    assert_eq!((store.space().used, store.usage()), (used, &usage));
    assert_eq!(pass(&mut store, DAY_S), [], "seven days, and the uptime may be behind");
    assert_eq!(pass(&mut store, RELEASE_SLACK_S - 1), []);
    drop(store);
    let mut store = world.again();
    assert!((0..5).all(|number| waits(&store, number)));
    let mut gone = pass(&mut store, 1);
    gone.sort_by_key(|(id, _)| *id);
    let mut ids: Vec<ChunkId> = (0..5).map(|number| id(number, LENGTH)).collect();
    ids.sort();
    assert_eq!(gone.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    assert!(gone.iter().all(|(_, gone)| gone.freed_bytes == 4_096));
    assert!((0..5).all(|number| is_gone(&store, number)) && holds(&store, &chunk(5, LENGTH)));
    assert_eq!((store.space().used, store.releases()), (4_096, 0));
    for rebuilt in [false, true] {
        drop(store);
        if rebuilt {
            world.wipe();
        }
        store = world.again();
        assert!((0..5).all(|number| is_gone(&store, number)) && holds(&store, &chunk(5, LENGTH)));
    }
}

#[test]
fn a_release_is_of_the_lease_that_it_names_and_begins_its_delay_once() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..3);
    let wrong = [(0, lease(1)), (1, lease(1)), (7, lease(7))];
    let states = vec![ChunkState::Live, released(delay()), ChunkState::NotHeld];
    assert_eq!(release(&mut store, false, &wrong), Ok(states));
    pass(&mut store, 1_000);
    let left = released(delay() - 1_000);
    assert_eq!(let_go(&mut store, [1]), Ok(vec![left]));
    assert_eq!(release(&mut store, true, &[(1, lease(0)), (0, lease(0))]), {
        Ok(vec![left, ChunkState::Live])
    });
    drop(store);
    let mut store = world.again();
    assert_eq!((state(&store, 0), state(&store, 1)), (ChunkState::Live, left));
    assert_eq!(pass(&mut store, delay() - 1_000).len(), 1);
    assert!(is_gone(&store, 1) && holds(&store, &chunk(0, LENGTH)));
}

#[test]
fn what_is_taken_back_is_live_and_stays_so() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..3);
    let_go(&mut store, 0..3).unwrap();
    let back = release(&mut store, true, &[(0, lease(0)), (1, lease(1))]);
    assert_eq!(back, Ok(vec![ChunkState::Live; 2]));
    assert!(holds(&store, &chunk(0, LENGTH)) && waits(&store, 2));
    // Held as before, under the same lease.
    let again = write(&mut store, StoredChunk { lease: lease(50), ..chunk(0, LENGTH) }).unwrap();
    assert_eq!((again.lease, again.added_bytes), (lease(0), 0));
    drop(store);
    let mut store = world.again();
    assert_eq!(pass(&mut store, 2 * delay()).len(), 1);
    assert!(holds(&store, &chunk(0, LENGTH)) && holds(&store, &chunk(1, LENGTH)));
    // Let go again, the delay begins anew.
    assert_eq!(let_go(&mut store, [0]), Ok(vec![released(delay())]));
}

#[test]
fn a_chunk_that_is_stored_again_has_a_new_lease_and_outlives_the_old_release() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..3);
    let used = store.space().used;
    let_go(&mut store, 0..3).unwrap();
    let terms = LeaseTerms { release_delay_s: 60, renew_every_s: 1, ..LeaseTerms::default() };
    let anew = StoredChunk { lease: lease(50), terms, ..chunk(0, LENGTH) };
    let anew = write(&mut store, anew).unwrap();
    assert_eq!((anew.lease, anew.added_bytes), (lease(50), 0));
    let promised = LeaseTerms::default().release_delay_s;
    assert_eq!((anew.terms.release_delay_s, anew.terms.renew_every_s), (promised, 1));
    // Whoever sends the same lease once more gets another one.
    let second = write(&mut store, chunk(1, LENGTH)).unwrap();
    assert_ne!(second.lease, lease(1));
    assert!(holds(&store, &chunk(0, LENGTH)) && holds(&store, &chunk(1, LENGTH)));
    assert_eq!(store.space().used, used);
    // The old release means nothing any more, nor does the old lease.
    assert_eq!(let_go(&mut store, 0..2), Ok(vec![ChunkState::Live; 2]));
    assert_eq!(release(&mut store, true, &[(0, lease(0))]), Ok(vec![ChunkState::Live]));
    for rebuilt in [false, true] {
        drop(store);
        if rebuilt {
            world.wipe();
        }
        store = world.again();
        assert_eq!(query(&store, 0), (ChunkState::Live, lease(50)));
        assert_eq!(query(&store, 1), (ChunkState::Live, second.lease));
        assert!(waits(&store, 2));
    }
    assert_eq!(pass(&mut store, 2 * delay()).len(), 1);
    assert!(holds(&store, &chunk(0, LENGTH)) && holds(&store, &chunk(1, LENGTH)));
    let again = release(&mut store, false, &[(0, lease(50))]);
    assert_eq!(again, Ok(vec![released(delay())]));
}

/// In one group nothing depends on what the group itself may fail to do.
#[test]
fn one_group_may_write_let_go_and_take_back() {
    let world = World::new();
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let plan = Plan::new(move |_, call| match call {
        // The second write of a group is the ledger's.
        Call::Write if flag.swap(false, Relaxed) => Verdict::Fail(DiskError::Full),
        _ => Verdict::Do,
    });
    let mut store = world.open(&plan).0;
    let write = |number, of| {
        let chunk = StoredChunk { lease: lease(of), ..chunk(number, LENGTH) };
        Request::Write { ticket: Ticket(of), chunk: Box::new(chunk) }
    };
    let go = |undo, number, of| request(undo, &[(number, lease(of))]);
    let inputs = store.commit(vec![write(0, 0), go(false, 0, 0), go(true, 0, 0), go(false, 0, 0)]);
    let states = [released(delay()), ChunkState::Live, released(delay())];
    assert_eq!(answers(&inputs), states.map(|state| Ok(vec![state])));
    // It was let go before the group: stored anew, whatever else the group says.
    let inputs = store.commit(vec![go(true, 0, 0), write(0, 10), go(false, 0, 10)]);
    assert_eq!(written(&inputs)[0].1.unwrap().lease, lease(10));
    assert_eq!(query(&store, 0), (released(delay()), lease(10)));
    // What takes it back comes to nothing, and the write stands.
    fails.store(true, Relaxed);
    let inputs = store.commit(vec![go(true, 0, 10), go(false, 5, 5)]);
    assert_eq!(answers(&inputs), [Err(StoreError::Full), Err(StoreError::Full)]);
    assert_eq!(state(&store, 0), released(delay()));
    let delete = Request::Delete { ticket: Ticket(0), id: id(0, LENGTH) };
    store.commit(vec![delete, write(0, 11)]);
    assert_eq!(query(&store, 0), (ChunkState::Live, lease(11)));
    drop(store);
    let mut store = world.again();
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert!(holds(&store, &chunk(0, LENGTH)));
}

#[test]
fn the_longest_delay_that_was_promised_counts() {
    let world = World::new();
    let mut store = world.again();
    for (number, days) in [(0, 30), (1, 8)] {
        let terms = LeaseTerms { release_delay_s: days * 86_400, ..LeaseTerms::default() };
        write(&mut store, StoredChunk { terms, ..chunk(number, LENGTH) }).unwrap();
    }
    let_go(&mut store, 0..2).unwrap();
    assert_eq!(pass(&mut store, 8 * DAY_S + RELEASE_SLACK_S - 1), []);
    assert_eq!(pass(&mut store, 1).len(), 1);
    assert!(is_gone(&store, 1) && waits(&store, 0));
    assert_eq!(pass(&mut store, 22 * DAY_S).len(), 1);
}

#[test]
fn many_are_destroyed_a_few_at_a_time() {
    let world = World::new();
    let mut store = world.again();
    let count = 2 * DESTROYED_MAX as u64 + 9;
    put(&mut store, 0..count);
    for number in 0..count {
        let_go(&mut store, [number]).unwrap();
    }
    store.commit(vec![Request::Uptime { passed_s: delay() }]);
    let mut rounds = Vec::new();
    while store.has_due() {
        let before = store.chunks();
        store.commit(Vec::new());
        rounds.push(before - store.chunks());
    }
    assert_eq!(rounds, [DESTROYED_MAX as u64, DESTROYED_MAX as u64, 9]);
}

#[test]
fn releases_above_the_bound_are_busy_all_or_nothing() {
    let world = World::new();
    let bounds = ReleaseBounds { per_account: 4, all: 5 };
    let mut store = world.open_with(&Plan::none(), bounds).unwrap().0;
    put(&mut store, 0..30);
    // Chunks of one account are three apart.
    let own = |from: u64, count: u64| (0..count).map(move |at| from + 3 * at);
    assert_eq!(let_go(&mut store, own(0, 5)), Err(StoreError::Busy));
    assert_eq!(store.releases(), 0, "not even some of it");
    let_go(&mut store, own(0, 4)).unwrap();
    assert_eq!(let_go(&mut store, own(12, 1)), Err(StoreError::Busy));
    assert_eq!(let_go(&mut store, own(0, 4)).unwrap().len(), 4, "known ones take no room");
    let_go(&mut store, own(1, 1)).unwrap();
    assert_eq!(let_go(&mut store, own(4, 2)), Err(StoreError::Busy));
    let_go(&mut store, own(4, 1)).expect("its share, above what there is in all");
    drop(store);
    let mut store = world.open_with(&Plan::none(), bounds).unwrap().0;
    assert_eq!(store.releases(), 6);
    assert_eq!(pass(&mut store, delay()).len(), 6);
    let_go(&mut store, own(12, 4)).expect("there is room again");
}

#[test]
fn releases_survive_moves_rebuilds_and_a_ledger_that_is_written_anew() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..60);
    let_go(&mut store, (0..60).step_by(2)).unwrap();
    release(&mut store, true, &[(4, lease(4))]).unwrap();
    let deletes = (1..60)
        .step_by(2)
        .map(|number| Request::Delete { ticket: Ticket(number), id: id(number, LENGTH) });
    store.commit(deletes.collect());
    tidy_up(&mut store);
    assert!(store.moves().chunks > 0, "records moved");
    let ledger = world.ledger();
    for first in (1..460).step_by(51) {
        store.commit((first..first + 51).map(|number| head(0, number)).collect());
    }
    store.commit(vec![head(0, 460), Request::Uptime { passed_s: 1 }]);
    // The heads are waste after a month.
    assert_eq!(pass(&mut store, KEEP_SUPERSEDED_S - delay() + DAY_S).len(), 29);
    put(&mut store, (1..60).step_by(2));
    let_go(&mut store, (1..60).step_by(2)).unwrap();
    pass(&mut store, delay() - DAY_S);
    pass(&mut store, 60);
    assert_ne!(world.ledger(), ledger, "it was written anew");
    let check = |store: &Store| {
        assert_eq!(store.releases(), 30);
        assert!((1..60).step_by(2).all(|number| waits(store, number)));
        assert_eq!(state(store, 1), released(DAY_S - 60));
    };
    check(&store);
    for rebuilt in [false, true] {
        drop(store);
        if rebuilt {
            world.wipe();
        }
        let (opened, report) = world.open(&Plan::none());
        assert_eq!((report.releases_dropped, report.rebuilt.is_some()), (0, rebuilt));
        store = opened;
        check(&store);
    }
    assert_eq!(pass(&mut store, DAY_S).len(), 30);
}

#[test]
fn a_full_disk_lets_go_and_destroys() {
    let (disk, catalogue) = (MemoryDisk::new(600_000), MemoryCatalogue::new());
    let options = Options { ballast: 64 << 10, reserve: 64 << 10, ..options() };
    let disk = Arc::new(disk);
    let opened = Writer::open(Arc::clone(&disk), Arc::new(catalogue), wrap_key(), options, rng(1));
    let mut store = opened.unwrap().0;
    let large = |number| chunk(number, 20_000);
    let write = |number| Request::Write { ticket: Ticket(number), chunk: Box::new(large(number)) };
    let full = (0..200).find(|number| {
        let inputs = store.commit(vec![write(*number)]);
        written(&inputs)[0].1 == Err(StoreError::Full)
    });
    let count = full.expect("it is full");
    // Others take the rest of the disk, all but the ballast.
    let taken = 600_000 - disk.free_space().unwrap();
    disk.set_capacity(taken);
    let items = (0..count).map(|number| (large(number).id(), lease(number))).collect();
    let inputs = store.commit(vec![Request::Release { ticket: Ticket(0), undo: false, items }]);
    assert_eq!(answers(&inputs).pop().unwrap().unwrap().len() as u64, count);
    tidy_up(&mut store);
    // What cannot be buried now can when more time has passed, and space came back.
    store.commit(vec![Request::Uptime { passed_s: delay() }]);
    for _ in 0..count {
        while store.has_due() {
            store.commit(Vec::new());
            tidy_up(&mut store);
        }
        store.commit(vec![Request::Uptime { passed_s: 600 }]);
    }
    assert_eq!((store.chunks(), store.read_only()), (0, None));
}

#[test]
fn pages_list_what_an_account_has_and_nothing_of_others() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..50);
    let_go(&mut store, (0..50).step_by(5)).unwrap();
    store.commit(vec![Request::Delete { ticket: Ticket(0), id: id(6, LENGTH) }, head(0, 1)]);
    for rebuilt in [false, true] {
        let mut own: Vec<u64> = (0..50).filter(|number| number % 3 == 0 && *number != 6).collect();
        own.sort_by_key(|number| id(*number, LENGTH));
        for limit in [1, 2, 5, own.len(), 4_096] {
            let (mut after, mut listed) = (ChunkId::from_bytes([0; 32]), Vec::new());
            loop {
                let (page, more) = store.reader().list(&account(0), &after, limit).unwrap();
                assert!(page.len() == limit || !more, "a page is short only at the end");
                assert!(!more || !page.is_empty());
                after = page.last().map_or(after, |last| last.id);
                listed.extend(page);
                if !more {
                    break;
                }
            }
            let ids: Vec<ChunkId> = own.iter().map(|number| id(*number, LENGTH)).collect();
            assert_eq!(listed.iter().map(|chunk| chunk.id).collect::<Vec<_>>(), ids);
            for (chunk, number) in listed.iter().zip(&own) {
                let state = match number % 5 {
                    0 => released(delay()),
                    _ => ChunkState::Live,
                };
                assert_eq!((chunk.state, chunk.lease), (state, lease(*number)));
                assert_eq!(chunk.sealed_bytes as usize, LENGTH);
            }
        }
        assert_eq!(store.reader().list(&account(7), &id(0, LENGTH), 9), Ok((Vec::new(), false)));
        let nothing = (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16]));
        let ids = [0, 1, 6, 3].map(|number| id(number, LENGTH));
        let states = store.reader().query(&account(0), &ids).unwrap();
        let held = [(released(delay()), lease(0)), (ChunkState::Live, lease(3))];
        assert_eq!(states, [held[0], nothing, nothing, held[1]], "rebuilt {rebuilt}");
        drop(store);
        world.wipe();
        store = world.again();
    }
}

/// What a store of an earlier version left: it has no releases, and no room for them.
#[test]
fn a_ledger_of_an_earlier_version_is_written_anew_before_the_first_release() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..2);
    store.commit(vec![head(0, 1)]);
    drop(store);
    let ledger = world.ledger();
    let mut header = [0; 45];
    world.0.read_at(ledger, 0, &mut header).unwrap();
    header[8] = 1;
    let sum = crc32fast::hash(&header[..41]).to_le_bytes();
    header[41..].copy_from_slice(&sum);
    world.0.write_at(ledger, 0, &header).unwrap();
    let (mut store, report) = world.open(&Plan::none());
    assert!(report.ledger_damage.is_empty() && report.read_only.is_none());
    let inputs = store.commit(vec![request(false, &[(0, lease(0))])]);
    assert_eq!(answers(&inputs), [Err(StoreError::Busy)]);
    store.tidy();
    assert_ne!(world.ledger(), ledger);
    assert_eq!(let_go(&mut store, [0]), Ok(vec![released(delay())]));
    assert_eq!(store.head_records(), 1);
}
