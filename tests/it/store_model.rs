//! Random operations, cuts and rebuilds against a map that cannot fail.

use super::store_conformance::holds;
use super::store_fixtures::*;
use proptest::prelude::*;
use quloud::core::effect::{StoreError, StoredChunk};
use quloud::core::types::{LeaseNonce, Ticket};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{Options, Request, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    /// One group: a number, and whether to write or delete it.
    Commit(Vec<(u64, bool)>),
    Reopen,
    Rebuild,
    /// What is not synced is lost; between groups that is nothing.
    PowerCut(u64),
    /// Gives back all that can be given back.
    Tidy,
    /// Half of the space is taken by others, or given back.
    Squeeze(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = prop::collection::vec((0..24_u64, prop::bool::weighted(0.6)), 1..8);
    let step = prop_oneof![
        12 => group.prop_map(Step::Commit),
        2 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
        2 => any::<u64>().prop_map(Step::PowerCut),
        2 => Just(Step::Tidy),
        1 => any::<bool>().prop_map(Step::Squeeze),
    ];
    prop::collection::vec(step, 1..60)
}

struct Model {
    disk: Arc<MemoryDisk>,
    catalogue: Arc<MemoryCatalogue>,
    store: Writer<MemoryDisk, MemoryCatalogue>,
    held: BTreeMap<u64, LeaseNonce>,
    leases: u64,
    squeezed: bool,
}

const DISK_BYTES: u64 = 4 << 20;

fn numbered(number: u64) -> StoredChunk {
    chunk(number, [50, 3000, 9000, 30_000][usize::try_from(number % 4).unwrap()])
}

fn open(
    disk: &Arc<MemoryDisk>,
    catalogue: &Arc<MemoryCatalogue>,
) -> Writer<MemoryDisk, MemoryCatalogue> {
    let options =
        Options { segment_bytes: 96 << 10, reserve: 64 << 10, ballast: 8 << 10, ..options() };
    let (disk, catalogue) = (Arc::clone(disk), Arc::clone(catalogue));
    Writer::open(disk, catalogue, wrap_key(), options, rng(1)).unwrap().0
}

impl Model {
    fn new(holes: bool) -> Self {
        let disk = if holes { MemoryDisk::new } else { MemoryDisk::without_holes };
        let (disk, catalogue) = (Arc::new(disk(DISK_BYTES)), Arc::new(MemoryCatalogue::new()));
        let store = open(&disk, &catalogue);
        Self { disk, catalogue, store, held: BTreeMap::new(), leases: 1000, squeezed: false }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit(group) => self.commit(&group),
            Step::Reopen => self.store = open(&self.disk, &self.catalogue),
            Step::Rebuild => {
                self.catalogue.clear().unwrap();
                self.store = open(&self.disk, &self.catalogue);
            }
            Step::PowerCut(seed) => {
                self.disk.power_cut(&mut rng(seed));
                self.catalogue.power_cut(&mut rng(seed));
                self.store = open(&self.disk, &self.catalogue);
            }
            Step::Tidy => tidy_up(&mut self.store),
            Step::Squeeze(squeezed) => {
                self.squeezed = squeezed;
                self.disk.set_capacity(if squeezed { 400 << 10 } else { DISK_BYTES });
            }
        }
        self.check();
    }

    fn commit(&mut self, group: &[(u64, bool)]) {
        let requests = group.iter().zip(0..).map(|((number, write), n)| match write {
            true => {
                self.leases += 1;
                let chunk = StoredChunk { lease: lease(self.leases), ..numbered(*number) };
                Request::Write { ticket: Ticket(n), chunk: Box::new(chunk) }
            }
            false => Request::Delete { ticket: Ticket(n), id: numbered(*number).id() },
        });
        let inputs = self.store.commit(requests.collect());
        self.store.tidy();
        let (written, deleted) = (written(&inputs), deleted(&inputs));
        for ((number, write), n) in group.iter().zip(0..) {
            if *write {
                let (_, result) = written.iter().find(|(ticket, _)| *ticket == Ticket(n)).unwrap();
                match (result, self.held.get(number)) {
                    (Ok(written), Some(lease)) => {
                        assert_eq!((written.lease, written.added_bytes), (*lease, 0));
                    }
                    (Ok(written), None) => drop(self.held.insert(*number, written.lease)),
                    (Err(StoreError::Full), None) if self.squeezed => {}
                    (result, held) => panic!("{number}: {result:?} while held is {held:?}"),
                }
            } else {
                let (_, result) = deleted.iter().find(|(ticket, _)| *ticket == Ticket(n)).unwrap();
                match (result, self.held.remove(number)) {
                    (Ok(()), Some(_)) | (Err(StoreError::NotFound), None) => {}
                    (Err(StoreError::Full), Some(lease)) if self.squeezed => {
                        self.held.insert(*number, lease);
                    }
                    (result, held) => panic!("{number}: {result:?} while held was {held:?}"),
                }
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.store.read_only(), None);
        assert_eq!(self.store.chunks(), u64::try_from(self.held.len()).unwrap());
        for number in 0..24 {
            let held = holds(&self.store, &numbered(number));
            assert_eq!(held, self.held.contains_key(&number), "chunk {number}");
        }
        let used: u64 = self.store.usage().values().sum();
        assert_eq!(used, self.store.space().used);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_is_a_map(steps in steps(), holes in any::<bool>()) {
        let mut model = Model::new(holes);
        for step in steps {
            model.step(step);
        }
    }
}
