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
use quloud::store::{OpenReport, Options, ReadOnly, Request, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};

type Store = Writer<FaultyDisk<MemoryDisk>, FaultyCatalogue<MemoryCatalogue>>;
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
struct World(Arc<MemoryDisk>, Arc<MemoryCatalogue>);

impl World {
    fn new() -> Self {
        Self(Arc::new(MemoryDisk::new(64 << 20)), Arc::new(MemoryCatalogue::new()))
    }

    fn open(&self, plan: &Arc<Plan>) -> (Store, OpenReport) {
        self.try_open(plan).expect("the store opens")
    }

    fn try_open(&self, plan: &Arc<Plan>) -> Option<(Store, OpenReport)> {
        self.open_with(plan, HeadBounds::default())
    }

    fn open_with(&self, plan: &Arc<Plan>, heads: HeadBounds) -> Option<(Store, OpenReport)> {
        let disk = FaultyDisk(Arc::clone(&self.0), Arc::clone(plan));
        let catalogue = FaultyCatalogue(Arc::clone(&self.1), Arc::clone(plan));
        let options = Options { segment_bytes: 96 << 10, heads, ..options() };
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

fn commit(store: &mut Store, requests: Vec<Request>) -> Results {
    let inputs = store.commit(requests);
    let results = inputs.into_iter().filter_map(|input| match input {
        Input::HeadsWritten(results) => Some(results.into_iter().map(|(_, result)| result)),
        _ => None,
    });
    let results = results.flatten().collect();
    tidy_up(store);
    results
}

fn put(store: &mut Store, index: u16, number: u64) -> Result<HeadWritten, StoreError> {
    commit(store, vec![head(index, number)]).remove(0)
}

fn pass(store: &mut Store, passed_s: u64) {
    store.commit(vec![Request::Uptime { passed_s }]);
    tidy_up(store);
}

fn numbers(store: &Store, index: u16) -> Vec<u64> {
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
fn rot_that_a_reader_finds_is_told_and_written_out_of_the_ledger() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    for number in 1..=3 {
        put(&mut store, 0, number).unwrap();
    }
    let (ledger, used) = (world.ledger(), store.space().used);
    world.0.flip_bit(ledger, world.0.len(ledger).unwrap() / 2, 5);
    assert_eq!(numbers(&store, 0), [3, 1]);
    tidy_up(&mut store);
    assert_ne!(world.ledger(), ledger, "it was written anew");
    let inputs = store.commit(vec![Request::Uptime { passed_s: 1 }]);
    let dropped: Vec<_> = inputs
        .iter()
        .filter_map(|input| match input {
            Input::HeadsDropped(dropped) => Some(dropped),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!((dropped.len(), dropped[0].account), (1, account(0)));
    assert_eq!(store.space().used, used - dropped[0].freed_bytes);
    drop(store);
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.ledger_damage.len(), numbers(&store, 0)), (0, vec![3, 1]));
}

#[test]
fn a_torn_ledger_tail_is_cut_and_a_rotten_middle_is_told() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    for number in 1..=3 {
        put(&mut store, 0, number).unwrap();
    }
    drop(store);
    let (ledger, length) = (world.ledger(), world.0.len(world.ledger()).unwrap());
    world.0.write_at(ledger, length, &[7; 1000]).unwrap();
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.cut_bytes, report.ledger_damage.len()), (1000, 0));
    assert_eq!(numbers(&store, 0), [3, 2, 1]);
    drop(store);
    world.0.flip_bit(ledger, length / 2, 5);
    let (mut store, report) = world.open(&Plan::none());
    assert_eq!((report.cut_bytes, report.ledger_damage.len()), (0, 1));
    assert_eq!(numbers(&store, 0), [3, 1]);
    put(&mut store, 0, 4).unwrap();
    drop(store);
    let (store, report) = world.open(&Plan::none());
    assert_eq!(report.ledger_damage, [], "it was written anew without the damage");
    assert_ne!(world.ledger(), ledger);
    assert_eq!(numbers(&store, 0), [4, 3, 1]);
    drop(store);
    // The end of what was durable is not a torn tail.
    world.0.flip_bit(world.ledger(), world.0.len(world.ledger()).unwrap() - 9, 5);
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.cut_bytes, report.ledger_damage.len()), (0, 1));
    assert_eq!(numbers(&store, 0), [3, 1]);
}

#[test]
fn a_lost_or_shortened_ledger_is_told() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    for number in 1..=3 {
        put(&mut store, 0, number).unwrap();
    }
    drop(store);
    let (ledger, length) = (world.ledger(), world.0.len(world.ledger()).unwrap());
    world.0.truncate(ledger, length - 100).unwrap();
    let (mut store, report) = world.open(&Plan::none());
    let [(from, to)] = report.ledger_damage[..] else { panic!("{:?}", report.ledger_damage) };
    assert!(from < length - 100 && to == length);
    assert_eq!(numbers(&store, 0), [2, 1]);
    tidy_up(&mut store);
    drop(store);
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.ledger_damage.len(), numbers(&store, 0)), (0, vec![2, 1]));
    drop(store);
    let (lost, length) = (world.ledger(), world.0.len(world.ledger()).unwrap());
    world.0.unlink(lost).unwrap();
    let (mut store, report) = world.open(&Plan::none());
    assert_eq!((report.ledger_damage, numbers(&store, 0).len()), (vec![(0, length)], 0));
    tidy_up(&mut store);
    assert!(world.ledger() > lost, "a name is never used again");
    put(&mut store, 0, 9).unwrap();
    drop(store);
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.ledger_damage.len(), numbers(&store, 0)), (0, vec![9]));
}

#[test]
fn a_block_of_the_ledger_that_cannot_be_read_for_a_time_costs_no_head() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    commit(&mut store, (1..=40).map(|number| head(0, number)).collect());
    let all = numbers(&store, 0);
    drop(store);
    for (from, to, hidden) in
        [(0, 4_096, 1..=2), (40_960, 45_056, 17..=20), (92_000, 92_100, 39..=41)]
    {
        let plan = Plan::none();
        plan.spoil_reads((world.ledger(), from, to));
        let (mut store, report) = world.open(&plan);
        assert_eq!(report.read_only, Some(ReadOnly::Ledger(DiskError::Io(5))), "{from}");
        let left = numbers(&store, 0);
        let missing: Vec<u64> =
            all.iter().filter(|number| !left.contains(number)).copied().collect();
        assert!(
            !missing.is_empty() && missing.iter().all(|number| hidden.contains(number)),
            "{missing:?}"
        );
        // What was promised is not known, so nothing is promised.
        assert_eq!(put(&mut store, 0, 41), Err(StoreError::ReadOnly));
        drop(store);
        let (store, report) = world.open(&Plan::none());
        assert_eq!((report.read_only, report.ledger_damage.len()), (None, 0), "{from}");
        assert_eq!(numbers(&store, 0), all, "{from}");
    }
}

#[test]
fn a_newer_ledger_that_cannot_be_read_for_a_time_is_not_passed_over() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    put(&mut store, 0, 1).unwrap();
    let (older, name) = (world.0.image(), world.ledger());
    commit(&mut store, (2..=40).map(|number| head(0, number)).collect());
    // It is written anew, and the older one comes back, as where its name was not removed for good.
    world.0.flip_bit(name, world.0.len(name).unwrap() / 2, 5);
    let left = numbers(&store, 0);
    tidy_up(&mut store);
    drop(store);
    let newer = world.ledger();
    assert_ne!(newer, name);
    let mut bytes = vec![0; usize::try_from(older.len(name).unwrap()).unwrap()];
    older.read_at(name, 0, &mut bytes).unwrap();
    world.0.create(name).unwrap();
    world.0.write_at(name, 0, &bytes).unwrap();
    world.wipe();
    let plan = Plan::none();
    plan.spoil_reads((newer, 0, u64::MAX));
    let (store, report) = world.open(&plan);
    assert_eq!(report.read_only, Some(ReadOnly::Ledger(DiskError::Io(5))));
    drop(store);
    assert_eq!(world.ledger(), newer, "it is there still");
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.read_only, numbers(&store, 0)), (None, left));
}

#[test]
fn a_ledger_is_not_written_anew_while_a_head_in_it_cannot_be_read() {
    let world = World::new();
    let plan = Plan::none();
    let (mut store, _) = world.open(&plan);
    commit(&mut store, (1..=40).map(|number| head(0, number)).collect());
    plan.spoil_reads((world.ledger(), 40_960, 45_056));
    assert_eq!(store.reader().read_heads(&keys(0).id(), 99).unwrap().len(), 37);
    let ledger = world.ledger();
    for first in (41..200).step_by(20) {
        commit(&mut store, (first..first + 20).map(|number| head(0, number)).collect());
    }
    assert_eq!(world.ledger(), ledger);
    drop(store);
    let (store, report) = world.open(&Plan::none());
    assert_eq!((report.read_only, report.ledger_damage.len()), (None, 0));
    assert_eq!(numbers(&store, 0).len(), 200);
}

#[test]
fn a_rebuilt_index_has_the_same_heads() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    commit(&mut store, (0..9).map(|index| head(index, 1)).collect());
    pass(&mut store, 1000);
    commit(&mut store, vec![head(3, 2), head(3, 3)]);
    let (space, usage, uptime) = (store.space(), store.usage().clone(), store.uptime());
    drop(store);
    world.wipe();
    let (store, report) = world.open(&Plan::none());
    assert!(report.rebuilt.is_some() && report.ledger_damage.is_empty());
    assert!(same_use(store.space(), space) && *store.usage() == usage);
    assert_eq!((store.uptime(), numbers(&store, 3)), (uptime, vec![3, 2, 1]));
    assert_eq!(uptime, 1000);
}

/// What was acknowledged, by head.
type Acked = BTreeMap<u16, BTreeSet<u64>>;

/// Heads among chunks, until the ledger is written anew.
fn script(store: &mut Store) -> Acked {
    let mut acked = Acked::new();
    let mut group = |store: &mut Store, heads: Vec<(u16, u64)>, others: Vec<Request>| {
        let requests = heads.iter().map(|(index, number)| head(*index, *number));
        let results = commit(store, requests.chain(others).collect());
        for ((index, number), _) in heads.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            acked.entry(*index).or_default().insert(*number);
        }
    };
    let chunk =
        |number| Request::Write { ticket: Ticket(number), chunk: Box::new(chunk(number, 3000)) };
    group(store, vec![(0, 1)], vec![]);
    group(store, vec![(0, 2), (1, 1)], vec![chunk(1)]);
    for first in (3..460).step_by(50) {
        group(store, (first..first + 50).map(|number| (0, number)).collect(), vec![]);
    }
    group(store, vec![(1, 2)], vec![Request::Uptime { passed_s: KEEP_SUPERSEDED_S }]);
    group(store, vec![(1, 3)], vec![chunk(2)]);
    group(store, vec![(0, 1000), (2, 1)], vec![Request::Uptime { passed_s: 600 }]);
    group(store, vec![(1, 4)], vec![]);
    acked
}

/// The newest that was acknowledged is there, and what is there can be read and stored again.
fn check(world: &World, acked: &Acked, what: &str) {
    let (mut store, report) = world.open(&Plan::none());
    assert!(report.rebuilt.is_some() || report.ledger_damage.is_empty(), "{what}: {report:?}");
    for (index, numbers_acked) in acked {
        let there = numbers(&store, *index);
        let newest = numbers_acked.last().unwrap();
        assert!(there.first() >= Some(newest), "head {index} went back {what}: {newest} {there:?}");
        // Head 1 alone is written again after a month, and what it superseded then is young.
        if *index != 0 || store.uptime() < KEEP_SUPERSEDED_S {
            let lost = numbers_acked.iter().find(|number| !there.contains(number));
            assert_eq!(lost, None, "head {index} lost one {what}");
        }
        assert!(put(&mut store, *index, there[0]).is_ok(), "{what}");
        assert!(put(&mut store, *index, there[0] + 1).is_ok(), "{what}");
    }
}

#[test]
fn acked_heads_survive_a_power_cut_at_every_step() {
    let (plan, world) = (Plan::none(), World::new());
    let (mut store, _) = world.open(&plan);
    let acked = script(&mut store);
    assert!(world.0.len(world.ledger()).unwrap() < 1 << 20, "the ledger was written anew");
    drop(store);
    check(&world, &acked, "without a fault");
    for at in 0..plan.calls() {
        for seed in 0..3 {
            let world = World::new();
            let opened = world.try_open(&Plan::stop_at(at));
            let acked = opened.map(|(mut store, _)| script(&mut store)).unwrap_or_default();
            let mut rng = rng(seed);
            world.0.power_cut(&mut rng);
            match seed {
                0 => world.wipe(),
                _ => world.1.power_cut(&mut rng),
            }
            check(&world, &acked, &format!("(stopped at {at}, seed {seed})"));
        }
    }
}

#[test]
fn a_full_disk_at_every_step_loses_no_acked_head() {
    let calls = {
        let (plan, world) = (Plan::none(), World::new());
        script(&mut world.open(&plan).0);
        plan.calls()
    };
    for full in 0..calls {
        let world = World::new();
        let plan = Plan::new(move |at, _| match at {
            at if at == full => Verdict::Fail(DiskError::Full),
            _ => Verdict::Do,
        });
        let opened = world.try_open(&plan);
        let acked = opened.map(|(mut store, _)| script(&mut store)).unwrap_or_default();
        check(&world, &acked, &format!("(full at {full})"));
    }
}

#[test]
fn a_full_disk_and_then_a_power_cut_lose_no_acked_head() {
    let calls = {
        let (plan, world) = (Plan::none(), World::new());
        script(&mut world.open(&plan).0);
        plan.calls()
    };
    for full in 0..calls {
        let world = World::new();
        let plan = Plan::new(move |at, _| match at {
            at if at == full => Verdict::Fail(DiskError::Full),
            at if at > full + 9 => Verdict::Fail(DiskError::Io(5)),
            _ => Verdict::Do,
        });
        let opened = world.try_open(&plan);
        let acked = opened.map(|(mut store, _)| script(&mut store)).unwrap_or_default();
        let mut rng = rng(full);
        world.0.power_cut(&mut rng);
        world.1.power_cut(&mut rng);
        check(&world, &acked, &format!("(full at {full}, and cut)"));
    }
}

#[test]
fn every_byte_of_a_ledger_that_changes_is_told_and_costs_one_record() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    for number in 1..=4 {
        put(&mut store, 0, number).unwrap();
    }
    drop(store);
    let (ledger, length) = (world.ledger(), world.0.len(world.ledger()).unwrap());
    for at in (0..length).step_by(29) {
        let image = World(Arc::new(world.0.image()), Arc::new(world.1.image()));
        image.0.flip_bit(ledger, at, 2);
        let (mut store, report) = image.open(&Plan::none());
        assert!(!report.ledger_damage.is_empty(), "byte {at}");
        let left = numbers(&store, 0);
        assert!(left.len() >= 3 && left.iter().all(|number| (1..=4).contains(number)), "byte {at}");
        tidy_up(&mut store);
        drop(store);
        let (store, report) = image.open(&Plan::none());
        assert_eq!((report.ledger_damage.len(), numbers(&store, 0)), (0, left), "byte {at}");
    }
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
