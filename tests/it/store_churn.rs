//! How much of the disk the store takes while chunks come and go.

use super::store_conformance::{Backend, Files, Memory, MemoryWithoutHoles, holds, open};
use super::store_faults::{Call, FaultyCatalogue, FaultyDisk, Plan, Verdict};
use super::store_fixtures::*;
use quloud::core::effect::StoredChunk;
use quloud::core::types::Ticket;
use quloud::store::disk::{Disk, File};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{Options, Request, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PUTS_PER_ROUND: u64 = 40;

/// The lengths of chunks: of all sorts, or as short as can be.
const MIXED: &[usize] = &[50, 3000, 9000, 30_000, 70_000];
const TINY: &[usize] = &[50];

fn small() -> Options {
    Options { segment_bytes: 256 << 10, capacity: 1 << 30, ..options() }
}

/// Chunks that come and go: most live for a round, some for a few, one in 32 for ever.
struct Churn {
    lengths: &'static [usize],
    next: u64,
    /// When each chunk that is held dies.
    held: BTreeMap<u64, u64>,
}

impl Churn {
    fn new(lengths: &'static [usize]) -> Self {
        Self { lengths, next: 0, held: BTreeMap::new() }
    }

    fn chunk(&self, number: u64) -> StoredChunk {
        chunk(number, self.lengths[usize::try_from(number / 7).unwrap() % self.lengths.len()])
    }

    /// Commits one round, which works.
    fn carry_out<D: Disk, C: Catalogue>(&mut self, store: &mut Writer<D, C>, round: u64) {
        let inputs = store.commit(self.group(round));
        assert!(written(&inputs).iter().all(|(_, result)| result.is_ok()));
        assert!(deleted(&inputs).iter().all(|(_, result)| result.is_ok()));
    }

    /// Everything that is held is there, and nothing else.
    fn check<D: Disk, C: Catalogue>(&self, store: &Writer<D, C>) {
        assert_eq!(store.chunks(), u64::try_from(self.held.len()).unwrap());
        assert!(self.held.keys().all(|number| holds(store, &self.chunk(*number))));
    }

    fn group(&mut self, round: u64) -> Vec<Request> {
        let dying = self.held.iter().filter(|(_, death)| **death <= round);
        let dying: Vec<u64> = dying.map(|(number, _)| *number).collect();
        let mut group = Vec::new();
        for number in dying {
            self.held.remove(&number);
            group.push(Request::Delete { ticket: Ticket(number), id: self.chunk(number).id() });
        }
        for number in self.next..self.next + PUTS_PER_ROUND {
            let chunk = Box::new(self.chunk(number));
            group.push(Request::Write { ticket: Ticket(number), chunk });
            let rounds = match number % 32 {
                0 => u64::MAX / 2,
                16 => 20,
                n if n % 4 == 1 => 3,
                _ => 1,
            };
            self.held.insert(number, round + rounds);
        }
        self.next += PUTS_PER_ROUND;
        group
    }
}

/// What the module `compact` states: the most that the segments may take when all is tidy.
fn bound<D: Disk, C: Catalogue>(store: &Writer<D, C>, disk: &D) -> u64 {
    let segments = disk.segments().unwrap();
    let newest = segments.iter().max().unwrap();
    let closed = u64::try_from(segments.len()).unwrap() - 1;
    let useful = store.space().used + 259 * store.chunks() + (12 * 1024 + 256) * closed;
    useful * 3 / 2 + disk.taken(File::Segment(*newest)).unwrap()
}

fn taken<D: Disk>(disk: &D) -> u64 {
    let segments = disk.segments().unwrap();
    segments.iter().map(|number| disk.taken(File::Segment(*number)).unwrap()).sum()
}

fn stays_within_its_bound<B: Backend>(lengths: &'static [usize], rounds: u64) {
    let backend = B::new();
    let (disk, catalogue) = backend.open();
    let opened = Writer::open(Arc::clone(&disk), catalogue, wrap_key(), small(), rng(1));
    let mut store = opened.unwrap().0;
    let mut churn = Churn::new(lengths);
    for round in 0..rounds {
        churn.carry_out(&mut store, round);
        tidy_up(&mut store);
        let (taken, bound) = (taken(&*disk), bound(&store, &*disk));
        assert!(taken <= bound, "round {round}: {taken} bytes where {bound} are the most");
    }
    churn.check(&store);
    drop((store, disk));
    forget_catalogue(&backend);
    let (store, report) = open(&backend, small());
    assert!(report.rebuilt.is_some() && report.damage.is_empty());
    churn.check(&store);
}

fn forget_catalogue<B: Backend>(backend: &B) {
    let (_, catalogue) = backend.open();
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
}

#[test]
fn disk_use_stays_within_its_bound() {
    stays_within_its_bound::<Memory>(MIXED, 60);
    stays_within_its_bound::<Memory>(TINY, 60);
}

#[test]
fn disk_use_stays_within_its_bound_without_holes() {
    stays_within_its_bound::<MemoryWithoutHoles>(MIXED, 60);
    stays_within_its_bound::<MemoryWithoutHoles>(TINY, 60);
}

#[test]
fn disk_use_stays_within_its_bound_on_files() {
    stays_within_its_bound::<Files>(MIXED, 20);
    stays_within_its_bound::<Files>(TINY, 20);
}

/// A busy store is tidied once a group and never more.
#[test]
fn one_call_a_group_keeps_up() {
    for disk in [MemoryDisk::new(1 << 30), MemoryDisk::without_holes(1 << 30)] {
        let (disk, catalogue) = (Arc::new(disk), Arc::new(MemoryCatalogue::new()));
        let opened = Writer::open(Arc::clone(&disk), catalogue, wrap_key(), small(), rng(1));
        let mut store = opened.unwrap().0;
        let mut churn = Churn::new(MIXED);
        for round in 0..60 {
            churn.carry_out(&mut store, round);
            store.tidy();
            let (taken, bound) = (taken(&*disk), bound(&store, &*disk));
            let most = bound + small().segment_bytes;
            assert!(taken <= most, "round {round}: {taken} bytes, tidy would be {bound}");
        }
    }
}

/// No commit waits long for the space of others, and no byte is moved again and again.
#[test]
fn one_call_moves_a_bounded_part() {
    const RECORD: u64 = 4096;
    let writes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&writes);
    let plan = Plan::new(move |_, call| {
        seen.fetch_add(u64::from(call == Call::Write), Ordering::Relaxed);
        Verdict::Do
    });
    let disk = FaultyDisk(Arc::new(MemoryDisk::without_holes(1 << 30)), Arc::clone(&plan));
    let catalogue = FaultyCatalogue(Arc::new(MemoryCatalogue::new()), plan);
    let options = Options { segment_bytes: 1 << 20, ..options() };
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng(1));
    let mut store = opened.unwrap().0;
    for n in 0..1000 {
        let chunk = Box::new(chunk(n, 3000));
        store.commit(vec![Request::Write { ticket: Ticket(n), chunk }]);
    }
    tidy_up(&mut store);
    // Two chunks of five die in each segment, not all at once.
    let dying: Vec<u64> = (0..1000).filter(|n| n % 5 < 2).collect();
    let (mut moved, mut calls) = (0, 0_u64);
    for group in dying.chunks(20) {
        let delete = |n: &u64| Request::Delete { ticket: Ticket(*n), id: id(*n, 3000) };
        store.commit(group.iter().map(delete).collect());
        let mut died = 2 * RECORD * u64::try_from(group.len()).unwrap();
        loop {
            writes.store(0, Ordering::Relaxed);
            let more = store.tidy();
            let now = writes.load(Ordering::Relaxed);
            // Closing a segment and starting the next takes three more.
            let most = (3 * died + (1 << 20) / 16) / RECORD + 1 + 3;
            assert!(now <= most, "{now} records were written, {most} are the most");
            (moved, calls, died) = (moved + now, calls + 1, 0);
            if !more {
                break;
            }
        }
    }
    let died = 2 * u64::try_from(dying.len()).unwrap();
    assert!(calls > 50 && moved > 100, "{moved} records were moved in {calls} calls");
    assert!(moved <= 3 * died, "{moved} records were moved where {died} blocks died");
}
