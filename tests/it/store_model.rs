//! Random operations, cuts and rebuilds against a map that cannot fail.

use super::store_fixtures::*;
use proptest::prelude::*;
use quloud::core::effect::{ChunkState, Found, Input, StoreError, StoredChunk};
use quloud::core::types::{ChunkId, LeaseNonce, Ticket};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::releases::RELEASE_SLACK_S;
use quloud::store::{Options, Request, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    /// One group: a number, and whether to write or delete it.
    Commit(Vec<(u64, bool)>),
    /// Lets go of these, or takes that back.
    Release(Vec<u64>, bool),
    /// So many hours pass, and what is due is destroyed.
    Pass(u64),
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
        6 => (prop::collection::btree_set(0..24_u64, 1..8), prop::bool::weighted(0.3))
            .prop_map(|(numbers, undo)| Step::Release(numbers.into_iter().collect(), undo)),
        3 => (1..100_u64).prop_map(Step::Pass),
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
    held: BTreeMap<u64, Held>,
    leases: u64,
    squeezed: bool,
}

/// What is known of a chunk that is held.
#[derive(Debug, Clone, Copy)]
struct Held {
    lease: LeaseNonce,
    /// The store's uptime at which it is to be destroyed.
    due: Option<u64>,
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

/// From a release to the end.
const WAIT_S: u64 = 7 * 86_400 + RELEASE_SLACK_S;

/// Before all ids.
const FIRST: ChunkId = ChunkId::from_bytes([0; 32]);

/// Whether a chunk that is found sound is let go.
fn found(store: &Writer<MemoryDisk, MemoryCatalogue>, number: u64) -> Option<bool> {
    let chunk = numbered(number);
    match store.reader().find(&[chunk.id()])[..] {
        [Some(Found::Chunk { header, sound: true, released })] if header == chunk.header => {
            Some(released)
        }
        [None] => None,
        ref other => panic!("{number}: {other:?}"),
    }
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
            Step::Release(numbers, undo) => self.release(&numbers, undo),
            Step::Pass(hours) => self.pass(hours * 3_600),
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
                    (Ok(written), Some(Held { lease, due: None })) => {
                        assert_eq!((written.lease, written.added_bytes), (*lease, 0));
                    }
                    (Ok(written), held) => {
                        assert!(held.is_none_or(|held| held.lease != written.lease));
                        let held = Held { lease: written.lease, due: None };
                        self.held.insert(*number, held);
                    }
                    (
                        Err(StoreError::Full | StoreError::Busy),
                        None | Some(Held { due: Some(_), .. }),
                    ) if self.squeezed => {}
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

    /// All under the leases that are held.
    fn release(&mut self, numbers: &[u64], undo: bool) {
        let held = |number: &u64| Some((numbered(*number).id(), self.held.get(number)?.lease));
        let items: Vec<(ChunkId, LeaseNonce)> = numbers.iter().filter_map(held).collect();
        let due = self.store.uptime() + WAIT_S;
        let inputs = self.store.commit(vec![Request::Release { ticket: Ticket(0), undo, items }]);
        self.store.tidy();
        let [Input::ChunksReleased { result, .. }] = &inputs[..] else { panic!("{inputs:?}") };
        if let Err(error) = result {
            assert!(*error == StoreError::Full && self.squeezed, "{error}");
            return;
        }
        for number in numbers {
            let Some(held) = self.held.get_mut(number) else { continue };
            held.due = if undo { None } else { held.due.or(Some(due)) };
        }
    }

    fn pass(&mut self, passed_s: u64) {
        self.store.commit(vec![Request::Uptime { passed_s }]);
        self.store.tidy();
        while self.store.has_due() {
            self.store.commit(Vec::new());
            self.store.tidy();
        }
        let (store, squeezed, uptime) = (&self.store, self.squeezed, self.store.uptime());
        self.held.retain(|number, held| {
            let is_due = held.due.is_some_and(|due| due <= uptime);
            // On a full disk it has to wait.
            !is_due || squeezed && found(store, *number).is_some()
        });
    }

    /// What is listed of each account is what it has.
    fn check_lists(&self) {
        for account in (0..3).map(account) {
            let (listed, more) = self.store.reader().list(&account, &FIRST, 99).unwrap();
            let of_it = self.held.iter().filter(|(n, _)| numbered(**n).account == account);
            let mut expected: Vec<(ChunkId, LeaseNonce, ChunkState)> = of_it
                .map(|(number, held)| {
                    let left = held.due.map(|due| due.saturating_sub(self.store.uptime()));
                    let released =
                        |left: u64| ChunkState::Released { due_s: left.try_into().unwrap() };
                    let state = left.map_or(ChunkState::Live, released);
                    (numbered(*number).id(), held.lease, state)
                })
                .collect();
            expected.sort();
            let listed: Vec<_> = listed.iter().map(|it| (it.id, it.lease, it.state)).collect();
            assert_eq!((listed, more), (expected, false));
        }
    }

    fn check(&self) {
        assert_eq!(self.store.read_only(), None);
        assert_eq!(self.store.chunks(), u64::try_from(self.held.len()).unwrap());
        for number in 0..24 {
            let (held, chunk) = (self.held.get(&number), numbered(number));
            let released = held.map(|held| held.due.is_some());
            assert_eq!(found(&self.store, number), released, "chunk {number}");
            let read = self.store.reader().read(&chunk.id()).result.ok();
            assert_eq!(read, held.map(|_| (chunk.header, chunk.sealed)), "chunk {number}");
        }
        self.check_lists();
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
