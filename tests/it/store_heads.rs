//! Records of heads in a store: which are kept, how long, and that none is lost.

use super::store_faults::{FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::{HeadWritten, Input, StoreError};
use quloud::core::types::{Account, ChunkId, LeaseTerms, Ticket};
use quloud::crypto::head::{HeadKeys, HeadRecord, NUMBER_AHEAD_MAX};
use quloud::crypto::keys::{Master, OwnerKeys};
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::heads::{HeadBounds, KEEP_SUPERSEDED_S, SPARE_S};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{OpenReport, Options, Request, Writer};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};

pub(crate) type Store = Writer<FaultyDisk<MemoryDisk>, FaultyCatalogue<MemoryCatalogue>>;
type Results = Vec<Result<HeadWritten, StoreError>>;

static OWNER: LazyLock<OwnerKeys> =
    LazyLock::new(|| OwnerKeys::derive(&Master::from_bytes([1; 32]), 0));

/// By index, number and what the payload says.
type Made = BTreeMap<(u16, u64, u8), HeadRecord>;

/// Signing costs most of the time of these tests: each record is made once.
static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);

pub(crate) fn keys(index: u16) -> HeadKeys {
    HeadKeys::derive(&OWNER.head, 0, index)
}

pub(crate) fn record(index: u16, number: u64, says: u8) -> HeadRecord {
    let mut made = MADE.lock().unwrap();
    let make = || {
        let number = NonZeroU64::new(number).unwrap();
        keys(index).make(number, [0; 32], &[says], &mut rng(number.get())).unwrap()
    };
    made.entry((index, number, says)).or_insert_with(make).clone()
}

pub(crate) fn head(index: u16, number: u64) -> Request {
    let record = record(index, number, 0);
    kept_for(account(u64::from(index % 2)), number, record)
}

fn kept_for(account: Account, ticket: u64, record: HeadRecord) -> Request {
    Request::Head { ticket: Ticket(ticket), account, terms: LeaseTerms::default(), record }
}

/// Disk and catalogue, which outlive the store.
pub(crate) struct World(pub(crate) Arc<MemoryDisk>, pub(crate) Arc<MemoryCatalogue>);

impl World {
    pub(crate) fn new() -> Self {
        Self(Arc::new(MemoryDisk::new(64 << 20)), Arc::new(MemoryCatalogue::new()))
    }

    pub(crate) fn open(&self, plan: &Arc<Plan>) -> (Store, OpenReport) {
        self.try_open(plan).expect("the store opens")
    }

    pub(crate) fn try_open(&self, plan: &Arc<Plan>) -> Option<(Store, OpenReport)> {
        self.open_with(plan, HeadBounds::default())
    }

    pub(crate) fn open_with(
        &self,
        plan: &Arc<Plan>,
        heads: HeadBounds,
    ) -> Option<(Store, OpenReport)> {
        let disk = FaultyDisk(Arc::clone(&self.0), Arc::clone(plan));
        let catalogue = FaultyCatalogue(Arc::clone(&self.1), Arc::clone(plan));
        let options = Options { segment_bytes: 96 << 10, heads, ..options() };
        Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng(1)).ok()
    }

    pub(crate) fn ledger(&self) -> File {
        let newest = self.0.ledgers().unwrap().into_iter().max();
        File::Ledger(newest.expect("there is a ledger"))
    }

    pub(crate) fn wipe(&self) {
        self.1.clear().unwrap();
        self.1.flush().unwrap();
    }
}

pub(crate) fn commit(store: &mut Store, requests: Vec<Request>) -> Results {
    let inputs = store.commit(requests);
    let results = inputs.into_iter().filter_map(|input| match input {
        Input::HeadsWritten(results) => Some(results.into_iter().map(|(_, result)| result)),
        _ => None,
    });
    let results = results.flatten().collect();
    tidy_up(store);
    results
}

pub(crate) fn put(store: &mut Store, index: u16, number: u64) -> Result<HeadWritten, StoreError> {
    commit(store, vec![head(index, number)]).remove(0)
}

pub(crate) fn pass(store: &mut Store, passed_s: u64) {
    store.commit(vec![Request::Uptime { passed_s }]);
    tidy_up(store);
}

pub(crate) fn numbers(store: &Store, index: u16) -> Vec<u64> {
    let read = store.reader().read_heads(&keys(index).id(), usize::MAX);
    read.unwrap_or_default().iter().map(HeadRecord::number).collect()
}

#[test]
fn an_older_head_is_refused_as_superseded() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    assert!(put(&mut store, 0, 5).is_ok());
    assert_eq!(put(&mut store, 0, 4), Err(StoreError::Superseded));
    assert_eq!(put(&mut store, 0, 5 + NUMBER_AHEAD_MAX + 1), Err(StoreError::TooFarAhead));
    assert!(put(&mut store, 0, 9).is_ok());
    assert_eq!(put(&mut store, 0, 5), Err(StoreError::Superseded));
    let other = kept_for(account(7), 0, record(0, 10, 0));
    assert_eq!(commit(&mut store, vec![other]), [Err(StoreError::OtherAccount)]);
    let read = store.reader().read_heads(&keys(0).id(), 0).unwrap();
    assert_eq!(read, [record(0, 9, 0)]);
    assert_eq!(numbers(&store, 0), [9, 5]);
}

#[test]
fn the_same_head_is_acked_again() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    let first = put(&mut store, 0, 1).unwrap();
    assert!(first.added_bytes > 2_221 && !first.is_fork);
    assert_eq!(put(&mut store, 0, 1).unwrap().added_bytes, 0);
    let twice = commit(&mut store, vec![head(0, 2), head(0, 2)]);
    assert_eq!(twice[1].unwrap().added_bytes, 0);
    // What was promised first is what is promised.
    let terms = LeaseTerms { renew_every_s: 1, ..LeaseTerms::default() };
    let (ticket, account_of, again) = (Ticket(0), account(0), record(0, 2, 0));
    let again = Request::Head { ticket, account: account_of, terms, record: again };
    assert_eq!(commit(&mut store, vec![again])[0].unwrap().terms, LeaseTerms::default());
    assert_eq!(store.usage().get(&account(0)), Some(&(2 * first.added_bytes)));
    // Rot: it is written anew before it is acknowledged again.
    world.0.flip_bit(world.ledger(), world.0.len(world.ledger()).unwrap() - 9, 3);
    assert_eq!(numbers(&store, 0), [1]);
    assert_eq!(put(&mut store, 0, 2).unwrap().added_bytes, 0);
    assert_eq!(numbers(&store, 0), [2, 1]);
    drop(store);
    assert_eq!(numbers(&world.open(&Plan::none()).0, 0), [2, 1]);
}

#[test]
fn another_record_of_a_number_is_kept_as_evidence_and_not_acked() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    put(&mut store, 0, 1).unwrap();
    let fork = |says| vec![kept_for(account(0), 0, record(0, 1, says))];
    assert!(commit(&mut store, fork(1))[0].unwrap().is_fork);
    assert!(commit(&mut store, fork(1))[0].unwrap().is_fork);
    let both = [record(0, 1, 0), record(0, 1, 1)];
    // Whoever asks for the newest alone is shown both.
    assert_eq!(store.reader().read_heads(&keys(0).id(), 0).unwrap(), both);
    let kept = (2..20).filter(|says| commit(&mut store, fork(*says))[0].is_ok()).count();
    assert_eq!(kept, 3, "there is an end to evidence");
    drop(store);
    let (store, _) = world.open(&Plan::none());
    let shown = store.reader().read_heads(&keys(0).id(), 0).unwrap();
    assert_eq!((&shown[..2], shown.len()), (&both[..], 5), "in the order in which they came");
}

#[test]
fn superseded_heads_are_kept_thirty_days_of_uptime() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    put(&mut store, 0, 1).unwrap();
    pass(&mut store, 10 * KEEP_SUPERSEDED_S);
    put(&mut store, 0, 2).unwrap();
    pass(&mut store, KEEP_SUPERSEDED_S - 1);
    drop(store);
    let (mut store, _) = world.open(&Plan::none());
    assert_eq!(numbers(&store, 0), [2, 1]);
    let used = store.space().used;
    let inputs = store.commit(vec![Request::Uptime { passed_s: 1 }]);
    let freed = inputs.iter().find_map(|input| match input {
        Input::HeadsDropped(dropped) => Some(dropped.clone()),
        _ => None,
    });
    let freed = freed.expect("one is gone");
    assert_eq!((freed.len(), freed[0].account), (1, account(0)));
    assert_eq!(store.space().used, used - freed[0].freed_bytes);
    assert_eq!(numbers(&store, 0), [2], "the newest stays");
    drop(store);
    assert_eq!(numbers(&world.open(&Plan::none()).0, 0), [2]);
}

#[test]
fn young_versions_are_never_evicted() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    let heads = u16::try_from(HeadBounds::default().heads_per_account).unwrap();
    for index in 0..heads {
        put(&mut store, 2 * index, 1).unwrap();
    }
    assert_eq!(put(&mut store, 2 * heads, 1), Err(StoreError::TooManyHeads));
    put(&mut store, 1, 1).expect("another account has its own");
    put(&mut store, 0, 2).expect("heads that are there go on");
    assert_eq!(numbers(&store, 0), [2, 1]);
    assert_eq!(store.head_records(), u64::from(heads) + 2);
}

#[test]
fn a_head_that_is_written_often_is_thinned_and_never_stuck() {
    let world = World::new();
    let bounds =
        HeadBounds { versions_per_head: 5, versions_per_account: 8, ..HeadBounds::default() };
    let open = || world.open_with(&Plan::none(), bounds).unwrap().0;
    let mut store = open();
    for number in 1..=40 {
        put(&mut store, 0, number).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    assert_eq!(numbers(&store, 0), [40, 39, 38, 37, 1], "the oldest, and the newest ones");
    // Of those that came more than an hour apart none goes.
    for number in 41..=44 {
        pass(&mut store, SPARE_S);
        put(&mut store, 0, number).unwrap();
    }
    assert_eq!(numbers(&store, 0), [44, 43, 42, 41, 1]);
    pass(&mut store, SPARE_S);
    let used = (store.space().used, store.usage().clone());
    assert_eq!(put(&mut store, 0, 45), Err(StoreError::TooManyHeads));
    assert_eq!((store.space().used, store.usage().clone()), used);
    // What made room is in the ledger still, and makes room again.
    drop(store);
    let mut store = open();
    assert_eq!((store.head_records(), numbers(&store, 0)), (5, vec![44, 43, 42, 41, 1]));
    assert_eq!((store.space().used, store.usage().clone()), used);
    // A month later the old ones are gone.
    pass(&mut store, KEEP_SUPERSEDED_S);
    put(&mut store, 0, 45).unwrap();
    assert_eq!(numbers(&store, 0), [45, 44]);
    // The account's bound, over two heads.
    for number in 1..=40 {
        put(&mut store, 2, number).unwrap();
    }
    assert_eq!(store.head_records(), 7);
    for (index, number) in (4..8).step_by(2).zip(1..) {
        let fits = store.head_records() < 8;
        assert_eq!(put(&mut store, index, number).is_ok(), fits);
    }
}

#[test]
fn what_is_thinned_in_vain_comes_back() {
    let world = World::new();
    let bounds = HeadBounds { versions_per_head: 3, ..HeadBounds::default() };
    let fails = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&fails);
    let plan = Plan::new(move |_, call| match call {
        super::store_faults::Call::Write if flag.load(Relaxed) => Verdict::Fail(DiskError::Full),
        _ => Verdict::Do,
    });
    let mut store = world.open_with(&plan, bounds).unwrap().0;
    for number in 1..=3 {
        put(&mut store, 0, number).unwrap();
    }
    let used = store.space().used;
    fails.store(true, Relaxed);
    assert_eq!(put(&mut store, 0, 4), Err(StoreError::Full));
    assert_eq!((numbers(&store, 0), store.space().used), (vec![3, 2, 1], used));
    // One that is found damaged stays what it was where it cannot be written anew.
    world.0.flip_bit(world.ledger(), world.0.len(world.ledger()).unwrap() - 9, 3);
    assert_eq!(put(&mut store, 0, 3), Err(StoreError::Full));
    assert_eq!((store.head_records(), store.space().used), (3, used));
    assert_eq!(put(&mut store, 0, 2), Err(StoreError::Superseded), "the newest is not forgotten");
    fails.store(false, Relaxed);
    put(&mut store, 0, 3).unwrap();
    put(&mut store, 0, 4).unwrap();
    assert_eq!((numbers(&store, 0), store.space().used), (vec![4, 3, 1], used));
}

#[test]
fn a_few_accounts_do_not_shut_out_others() {
    let world = World::new();
    let bounds = HeadBounds { versions: 12, versions_per_account: 6, ..HeadBounds::default() };
    let mut store = world.open_with(&Plan::none(), bounds).unwrap().0;
    let head = |index, of| vec![kept_for(account(of), 0, record(index, 1, 0))];
    let mut fill = |of: u64| {
        let indexes = (0..20).map(|index| index + 20 * u16::try_from(of).unwrap());
        let kept = indexes.filter(|index| commit(&mut store, head(*index, of))[0].is_ok());
        kept.count()
    };
    assert_eq!([0, 1, 2, 3, 4].map(&mut fill), [6, 6, 4, 3, 2]);
    assert_eq!(store.head_records(), 21);
    assert_eq!(commit(&mut store, head(19, 0)), [Err(StoreError::TooManyHeads)]);
}

#[test]
fn a_full_store_has_room_for_heads() {
    // By its capacity, and by its disk, of which others took the rest.
    for (disk, capacity, reserve) in [(64 << 20, 100_000, 0), (400_000, 1 << 30, 200_000)] {
        let (disk, catalogue) = (MemoryDisk::new(disk), MemoryCatalogue::new());
        let options = Options { capacity, reserve, ..options() };
        let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng(1));
        let mut store = opened.unwrap().0;
        let write = |number| {
            let chunk = Box::new(chunk(number, 3_000));
            vec![Request::Write { ticket: Ticket(number), chunk }]
        };
        let is_full = |inputs: Vec<Input>| {
            matches!(inputs[..], [Input::ChunksWritten(ref results)]
                if results[0].1.is_err_and(|error| error == StoreError::Full))
        };
        let full = (0..100).find(|number| is_full(store.commit(write(*number))));
        assert!(full.is_some_and(|number| number > 3));
        for number in 1..=3 {
            let inputs = store.commit(vec![head(0, number)]);
            assert!(
                matches!(inputs[..], [Input::HeadsWritten(ref results)] if results[0].1.is_ok())
            );
        }
        assert!(is_full(store.commit(write(100))));
    }
}

#[test]
fn what_is_not_durable_is_not_shown() {
    let world = World::new();
    let plan = Plan::new(|_, call| match call {
        super::store_faults::Call::SyncData(File::Ledger(_)) => Verdict::Fail(DiskError::Io(5)),
        _ => Verdict::Do,
    });
    let (mut store, _) = world.open(&plan);
    assert_eq!(put(&mut store, 0, 1), Err(StoreError::Io));
    assert!(store.read_only().is_some());
    let id: ChunkId = keys(0).id();
    assert_eq!(store.reader().read_heads(&id, 0), Err(StoreError::NotFound));
    assert_eq!(store.reader().find(&[id]), [None]);
    assert_eq!(put(&mut store, 0, 2), Err(StoreError::ReadOnly));
    assert_eq!((store.space().used, store.usage().len()), (0, 0));
}
