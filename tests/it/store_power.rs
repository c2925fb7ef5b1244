//! Power cuts, failing syncs and full disks, at every single call in turn.
//!
//! One script of writes and deletes runs over a disk and a catalogue in memory. It is stopped at
//! each changing call, what was not synced is lost at random, and the store is opened again: what
//! was answered as durable must be there, what was answered as deleted must not.

use super::store_conformance::holds;
use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::{Input, StoreError};
use quloud::core::types::Ticket;
use quloud::store::disk::{Disk, DiskError, File};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::record::{Kind, Prefix};
use quloud::store::{OpenReport, Options, ReadOnly, Rebuilt, Request, StoreOpenError, Writer};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Store = Writer<FaultyDisk<MemoryDisk>, FaultyCatalogue<MemoryCatalogue>>;

/// What was promised about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    Held,
    Gone,
    /// A request about it failed: either may be true.
    Open,
}

struct World {
    disk: Arc<MemoryDisk>,
    catalogue: Arc<MemoryCatalogue>,
    promises: BTreeMap<u64, Promise>,
}

const LENGTHS: [usize; 4] = [50, 3000, 9000, 20_000];

fn length(number: u64) -> usize {
    LENGTHS[usize::try_from(number).unwrap() % LENGTHS.len()]
}

impl World {
    fn new(holes: bool) -> Self {
        let disk = if holes { MemoryDisk::new } else { MemoryDisk::without_holes };
        Self {
            disk: Arc::new(disk(1 << 30)),
            catalogue: Arc::new(MemoryCatalogue::new()),
            promises: BTreeMap::new(),
        }
    }

    fn open(&self, plan: &Arc<Plan>) -> Result<Store, StoreOpenError> {
        self.open_with_report(plan).map(|(store, _)| store)
    }

    fn open_with_report(&self, plan: &Arc<Plan>) -> Result<(Store, OpenReport), StoreOpenError> {
        let disk = FaultyDisk(Arc::clone(&self.disk), Arc::clone(plan));
        let catalogue = FaultyCatalogue(Arc::clone(&self.catalogue), Arc::clone(plan));
        Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), small(), rng(1))
    }

    fn commit(&mut self, store: &mut Store, requests: Vec<Request>) {
        let tickets = requests.iter().map(|request| match request {
            Request::Write { ticket, .. } | Request::Delete { ticket, .. } => *ticket,
            _ => unreachable!("the script has none"),
        });
        let open = tickets.map(|ticket| (ticket.0, Promise::Open));
        let before = self.promises.clone();
        self.promises.extend(open);
        for input in store.commit(requests) {
            match input {
                Input::ChunksWritten(results) => {
                    for (Ticket(number), result) in results {
                        self.settle(number, result.map(|_| Promise::Held), &before);
                    }
                }
                Input::ChunkDeleted { ticket: Ticket(number), result } => {
                    self.settle(number, result.map(|_| Promise::Gone), &before);
                }
                _ => unreachable!("a commit answers nothing else"),
            }
        }
        tidy_up(store);
    }

    fn settle(
        &mut self,
        number: u64,
        result: Result<Promise, StoreError>,
        before: &BTreeMap<u64, Promise>,
    ) {
        match result {
            Ok(promise) => drop(self.promises.insert(number, promise)),
            // It was not even tried.
            Err(StoreError::ReadOnly | StoreError::Full) => {
                let before = before.get(&number).copied();
                before.map(|before| self.promises.insert(number, before));
            }
            Err(_) => {}
        }
    }

    /// Writes in groups of different sizes, deletes most, writes some again.
    fn script(&mut self, store: &mut Store) {
        for group in 0..6 {
            let writes = (group * 5..group * 5 + 1 + group).map(write);
            self.commit(store, writes.collect());
        }
        self.commit(store, (0..16).map(delete).chain((40..43).map(write)).collect());
        self.commit(store, (3..6).map(write).chain((20..26).map(delete)).collect());
        self.commit(store, (40..42).map(delete).collect());
    }

    /// Writes and deletes until segments come and go.
    fn churn(&mut self, store: &mut Store) {
        for round in 0..9 {
            let old = (round * 4_u64).checked_sub(4).map(|first| (first..first + 3).map(delete));
            let new = (round * 4..round * 4 + 4).map(write);
            self.commit(store, new.chain(old.into_iter().flatten()).collect());
        }
        self.commit(store, (0..9).map(|round| delete(round * 4 + 3)).collect());
    }

    fn power_cut(&self, seed: u64) {
        let mut rng = rng(seed);
        self.disk.power_cut(&mut rng);
        match rng.random_range(0..4_u8) {
            // sled may come back empty.
            0 => wipe(&self.catalogue),
            _ => self.catalogue.power_cut(&mut rng),
        }
    }

    /// Takes the closed segments' indexes away.
    fn spoil_trailers(&self) {
        for file in self.disk.segments().unwrap().into_iter().map(File::Segment) {
            let last = self.disk.len(file).unwrap().saturating_sub(4096);
            let mut block = vec![0; 4096];
            self.disk.read_at(file, last, &mut block).unwrap();
            if Prefix::parse(&block).is_ok_and(|prefix| prefix.kind == Kind::Trailer) {
                self.disk.flip_bit(file, last, 0);
            }
        }
    }

    fn check(&self, what: &str) {
        let store = self.open(&Plan::none()).expect("a store opens after any power cut");
        for (number, promise) in &self.promises {
            let chunk = chunk(*number, length(*number));
            match promise {
                Promise::Held => assert!(holds(&store, &chunk), "chunk {number} lost {what}"),
                Promise::Gone => {
                    let read = store.reader().read(&chunk.id()).result;
                    assert_eq!(read, Err(StoreError::NotFound), "chunk {number} is back {what}");
                }
                // Held or not: what is said to be held must be whole, or a later ack would lie.
                Promise::Open => {
                    let found = store.reader().find(&[chunk.id()]) != [None];
                    assert_eq!(found, holds(&store, &chunk), "chunk {number} is half there {what}");
                }
            }
        }
        let (space, usage) = (store.space(), store.usage().clone());
        drop(store);
        // A second time from the log alone: the same.
        wipe(&self.catalogue);
        let store = self.open(&Plan::none()).expect("a rebuild works");
        assert!(same_use(store.space(), space), "a rebuild differs {what}");
        assert_eq!(store.usage(), &usage, "a rebuild differs {what}");
    }
}

fn small() -> Options {
    Options { segment_bytes: 96 << 10, ..options() }
}

fn write(number: u64) -> Request {
    let chunk = Box::new(chunk(number, length(number)));
    Request::Write { ticket: Ticket(number), chunk }
}

fn delete(number: u64) -> Request {
    Request::Delete { ticket: Ticket(number), id: id(number, length(number)) }
}

/// Forgets everything at once, durably.
fn wipe(catalogue: &MemoryCatalogue) {
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
}

/// What a world does before it is stopped.
type Script = fn(&mut World, &mut Store);

/// How many changing calls a script makes.
fn calls(holes: bool, script: Script) -> u64 {
    let (plan, mut world) = (Plan::none(), World::new(holes));
    let mut store = world.open(&plan).unwrap();
    script(&mut world, &mut store);
    drop(store);
    world.check("without a fault");
    plan.calls()
}

fn lose_unsynced(script: Script, seeds: u64) {
    for holes in [true, false] {
        for at in 0..calls(holes, script) {
            for seed in 0..seeds {
                let mut world = World::new(holes);
                if let Ok(mut store) = world.open(&Plan::stop_at(at)) {
                    script(&mut world, &mut store);
                }
                world.power_cut(seed);
                world.check(&format!("(holes {holes}, stopped at {at}, seed {seed})"));
            }
        }
    }
}

#[test]
fn lose_unsynced_at_every_point() {
    lose_unsynced(World::script, 4);
}

#[test]
fn lose_unsynced_while_space_is_reclaimed() {
    lose_unsynced(World::churn, 4);
}

/// What is unlinked is needed by nothing that a cut may bring back, so that the catalogue never
/// falls behind the segments.
#[test]
fn a_power_cut_needs_no_rebuild() {
    for (holes, at) in [true, false]
        .into_iter()
        .flat_map(|holes| (0..calls(holes, World::churn)).map(move |at| (holes, at)))
    {
        let mut world = World::new(holes);
        if let Ok(mut store) = world.open(&Plan::stop_at(at)) {
            world.churn(&mut store);
        }
        world.disk.power_cut(&mut rng(at));
        world.catalogue.power_cut(&mut rng(at));
        let (disk, catalogue) = (Arc::clone(&world.disk), Arc::clone(&world.catalogue));
        let opened = Writer::open(disk, catalogue, wrap_key(), small(), rng(1));
        let answered = world.promises.values().any(|promise| *promise != Promise::Open);
        let rebuilt = opened.unwrap().1.rebuilt;
        assert!(rebuilt.is_none() || !answered, "holes {holes}, stopped at {at}: {rebuilt:?}");
    }
}

/// The process dies, is started again, answers for what it finds, and only then the power fails.
#[test]
fn lose_unsynced_after_a_kill_and_a_restart() {
    for at in 0..calls(true, World::script) {
        let mut world = World::new(true);
        if let Ok(mut store) = world.open(&Plan::stop_at(at)) {
            world.script(&mut store);
        }
        let mut store = world.open(&Plan::none()).unwrap();
        world.commit(&mut store, (0..26).chain(40..43).map(write).collect());
        drop(store);
        world.power_cut(at);
        world.check(&format!("(killed at {at}, answered again, then cut)"));
    }
}

/// A torn record must not come to life later, when its segment is no longer the newest and has
/// lost its index.
#[test]
fn what_was_torn_stays_dead() {
    for at in 0..calls(true, World::script) {
        for seed in 0..3 {
            let mut world = World::new(true);
            if let Ok(mut store) = world.open(&Plan::stop_at(at)) {
                world.script(&mut store);
            }
            world.power_cut(seed);
            let mut store = world.open(&Plan::none()).unwrap();
            world.commit(&mut store, (60..72).map(write).collect());
            drop(store);
            world.spoil_trailers();
            wipe(&world.catalogue);
            let store = world.open(&Plan::none()).unwrap();
            for number in world.promises.keys() {
                let chunk = chunk(*number, length(*number));
                let found = store.reader().find(&[chunk.id()]) != [None];
                let what = format!("chunk {number} is half there (stopped at {at}, seed {seed})");
                assert!(!found || holds(&store, &chunk), "{what}");
            }
        }
    }
}

/// Cut while it recovers from a cut.
#[test]
fn lose_unsynced_while_opening() {
    for at in (0..calls(true, World::script)).step_by(3) {
        for during in 0..12 {
            let mut world = World::new(true);
            if let Ok(mut store) = world.open(&Plan::stop_at(at)) {
                world.script(&mut store);
            }
            world.power_cut(at);
            drop(world.open(&Plan::stop_at(during)));
            world.power_cut(at + 1);
            world.check(&format!("(stopped at {at}, then at {during})"));
        }
    }
}

/// The test above must be able to fail: a store on a disk that lies loses acked chunks.
#[test]
fn a_lying_sync_is_seen_by_the_power_cut() {
    let lost = (0..50).any(|seed| {
        let mut world = World::new(true);
        let plan = Plan::new(|_, call| match call {
            Call::SyncData(_) | Call::Flush => Verdict::Lie,
            _ => Verdict::Do,
        });
        let mut store = world.open(&plan).unwrap();
        world.script(&mut store);
        drop(store);
        world.power_cut(seed);
        let Ok(store) = world.open(&Plan::none()) else { return true };
        let held = world.promises.iter().filter(|(_, promise)| **promise == Promise::Held);
        held.into_iter().any(|(number, _)| !holds(&store, &chunk(*number, length(*number))))
    });
    assert!(lost);
}

#[test]
fn fsync_eio_no_ack() {
    for at in 0..calls(true, World::script) {
        let mut world = World::new(true);
        let (disk, hit) = (Arc::clone(&world.disk), Arc::new(Mutex::new(false)));
        let seen = Arc::clone(&hit);
        let plan = Plan::new(move |n, call| match call {
            Call::SyncData(file) if n == at => {
                disk.lose_unsynced(file);
                *seen.lock().unwrap() = true;
                Verdict::Fail(DiskError::Io(5))
            }
            Call::SyncNames | Call::Flush if n == at => {
                *seen.lock().unwrap() = true;
                Verdict::Fail(DiskError::Io(5))
            }
            _ => Verdict::Do,
        });
        let Ok(mut store) = world.open(&plan) else { continue };
        world.script(&mut store);
        if *hit.lock().unwrap() {
            assert!(store.read_only().is_some(), "call {at} failed and the store goes on");
            let results = written(&store.commit(vec![write(90)]));
            assert_eq!(results, [(Ticket(90), Err(StoreError::ReadOnly))]);
        }
        drop(store);
        // Opened again it must not answer for what only the cache still shows.
        let mut store = world.open(&Plan::none()).unwrap();
        world.commit(&mut store, (0..26).chain(40..43).map(write).collect());
        drop(store);
        world.power_cut(at);
        world.check(&format!("(sync {at} failed)"));
    }
}

#[test]
fn a_name_that_was_not_synced_is_synced_by_the_next_process() {
    for seed in 0..20 {
        let mut world = World::new(true);
        let plan = Plan::new(|_, call| match call {
            Call::SyncNames => Verdict::Fail(DiskError::Io(5)),
            _ => Verdict::Do,
        });
        assert!(world.open(&plan).is_err(), "a store without a name of its own is none");
        let mut store = world.open(&Plan::none()).unwrap();
        world.commit(&mut store, vec![write(0)]);
        assert_eq!(world.promises[&0], Promise::Held);
        drop(store);
        world.power_cut(seed);
        world.check(&format!("(cut {seed})"));

        // And where it cannot be synced, nothing is promised.
        let store = world.open(&plan).unwrap();
        assert_eq!(store.read_only(), Some(&ReadOnly::Sync(DiskError::Io(5))));
    }
}

#[test]
fn a_beginning_that_failed_twice_is_not_called_damage() {
    let world = World::new(true);
    let eio = DiskError::Io(5);
    let fails = |call: Call| {
        Plan::new(move |_, now| if now == call { Verdict::Fail(eio) } else { Verdict::Do })
    };
    let first = File::Segment(1);
    // The first block never reaches the disk, and what was cut off for it is there again.
    assert!(world.open(&fails(Call::SyncData(first))).is_err());
    assert!(world.disk.spoil(first, 0, &[0; 4096]));
    assert!(world.open(&fails(Call::Truncate)).is_err());
    assert!(world.open(&Plan::none()).is_ok());
    wipe(&world.catalogue);
    let (_, report) = world.open_with_report(&Plan::none()).unwrap();
    assert_eq!((report.rebuilt, report.damage), (Some(Rebuilt::Missing), Vec::new()));
}

#[test]
fn a_failed_sync_is_not_retried() {
    let mut world = World::new(true);
    let failed = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&failed);
    let plan = Plan::new(move |n, call| {
        let mut seen = seen.lock().unwrap();
        match (call, *seen) {
            (Call::SyncData(_), None) if n > 20 => {
                *seen = Some(n);
                Verdict::Fail(DiskError::Io(5))
            }
            (Call::SyncData(_), Some(_)) => panic!("synced again after a failure"),
            _ => Verdict::Do,
        }
    });
    let mut store = world.open(&plan).unwrap();
    world.script(&mut store);
    assert_eq!(store.read_only(), Some(&ReadOnly::Sync(DiskError::Io(5))));
    let held = world.promises.iter().find(|(_, promise)| **promise == Promise::Held).unwrap();
    let chunk = chunk(*held.0, length(*held.0));
    assert!(holds(&store, &chunk), "a read-only store still serves");
}

#[test]
fn enospc_every_write_call() {
    for error in [DiskError::Full, DiskError::Io(5)] {
        fail_every_write_call(error, true, World::script);
        fail_every_write_call(error, true, World::churn);
        fail_every_write_call(error, false, World::churn);
    }
}

fn fail_every_write_call(error: DiskError, holes: bool, script: Script) {
    for at in 0..calls(holes, script) {
        let mut world = World::new(holes);
        let plan = Plan::new(move |n, call| match call {
            Call::SyncData(_) | Call::SyncNames | Call::Flush => Verdict::Do,
            _ if n == at => Verdict::Fail(error),
            _ => Verdict::Do,
        });
        let Ok(mut store) = world.open(&plan) else { continue };
        script(&mut world, &mut store);
        drop(store);
        world.check(&format!("(call {at}: {error}, holes {holes})"));
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_and_takes_deletes() {
    let mut world = World::new(true);
    let disk = Arc::clone(&world.disk);
    let opened = |world: &World| {
        let (disk, catalogue) = (Arc::clone(&world.disk), Arc::clone(&world.catalogue));
        let options =
            Options { reserve: 200_000, ballast: 50_000, segment_bytes: 96 << 10, ..options() };
        let plan = Plan::none();
        let disk = Arc::new(FaultyDisk(disk, Arc::clone(&plan)));
        let catalogue = Arc::new(FaultyCatalogue(catalogue, plan));
        Writer::open(disk, catalogue, wrap_key(), options, rng(1)).unwrap().0
    };
    disk.set_capacity(1 << 20);
    let mut store = opened(&world);
    assert!(disk.len(File::Ballast).is_ok());
    for number in 0..200 {
        world.commit(&mut store, vec![write(number)]);
    }
    let full = written(&store.commit(vec![write(201)]));
    assert_eq!(full, [(Ticket(201), Err(StoreError::Full))]);
    let free = disk.free_space().unwrap();
    assert!((100_000..=250_000).contains(&free), "the reserve is left: {free}");
    // Somebody else takes all of it.
    disk.set_capacity((1 << 20) - free);
    for number in 0..8 {
        let gone = deleted(&store.commit(vec![delete(number)]));
        assert_eq!(gone, [(Ticket(number), Ok(()))], "a delete works at 0 bytes free");
        world.promises.insert(number, Promise::Gone);
        store.tidy();
    }
    assert!(disk.len(File::Ballast).is_err(), "the ballast was given back");
    disk.set_capacity(1 << 21);
    store.tidy();
    assert!(disk.len(File::Ballast).is_ok(), "and is set aside again");
    drop(store);
    world.check("(full disk)");
}
