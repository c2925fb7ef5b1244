//! Leases: what is promised to whoever is heard of is kept, and what goes is what nobody asked for,
//! in its order, where room is needed, and no more of it.

use super::store_fixtures::*;
use proptest::prelude::*;
use quloud::core::effect::{Deleted, Input, StoreError, StoredChunk, Written};
use quloud::core::types::{ChunkId, LeaseTerms, Ticket};
use quloud::store::disk::{Disk, File};
use quloud::store::index::Catalogue;
use quloud::store::leases::{HEARD_EVERY_S, LEASE_SLACK_S};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::releases::RELEASE_SLACK_S;
use quloud::store::{OpenReport, Options, Request, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

type Store = Writer<MemoryDisk, MemoryCatalogue>;

const DAY_S: u64 = 86_400;
const LENGTH: usize = 11_000;
/// What a record of such a chunk takes.
const RECORD_BYTES: u64 = 12 << 10;
/// What the store wants to have for one beside that.
const ROUNDED_BYTES: u64 = 8 << 10;
const YEAR_S: u64 = 365 * DAY_S;
/// After so long without a word the leases of the default terms are over.
const OVER_S: u64 = YEAR_S + LEASE_SLACK_S;
const DISK_BYTES: u64 = 4 << 20;

/// Disk and catalogue, which outlive the store.
struct World {
    disk: Arc<MemoryDisk>,
    catalogue: Arc<MemoryCatalogue>,
    options: Options,
}

impl World {
    /// Room for so many records.
    fn of(records: u64) -> Self {
        Self::with(Options { capacity: records * RECORD_BYTES + ROUNDED_BYTES, ..options() })
    }

    fn with(options: Options) -> Self {
        let catalogue = Arc::new(MemoryCatalogue::new());
        Self { disk: Arc::new(MemoryDisk::new(DISK_BYTES)), catalogue, options }
    }

    fn open(&self) -> (Store, OpenReport) {
        let (disk, catalogue) = (Arc::clone(&self.disk), Arc::clone(&self.catalogue));
        Writer::open(disk, catalogue, wrap_key(), self.options, rng(1)).unwrap()
    }

    fn again(&self) -> Store {
        self.open().0
    }

    fn ledger(&self) -> File {
        File::Ledger(self.disk.ledgers().unwrap().into_iter().max().expect("there is a ledger"))
    }
}

/// A chunk of this account, kept in silence for so long.
fn of(number: u64, owner: u64, keep_s: u64) -> StoredChunk {
    let keep_after_silence_s = u32::try_from(keep_s).unwrap();
    let terms = LeaseTerms { keep_after_silence_s, ..LeaseTerms::default() };
    StoredChunk { account: account(owner), terms, ..chunk(number, LENGTH) }
}

fn write(store: &mut Store, chunk: StoredChunk) -> (Result<Written, StoreError>, Gone) {
    let inputs = store.commit(vec![Request::Write { ticket: Ticket(0), chunk: Box::new(chunk) }]);
    (super::store_fixtures::written(&inputs)[0].1, gone(&inputs))
}

type Gone = Vec<(ChunkId, Deleted)>;

fn gone(inputs: &[Input]) -> Gone {
    let gone = inputs.iter().filter_map(|input| match input {
        Input::ChunksDestroyed(gone) => Some(gone.clone()),
        _ => None,
    });
    gone.flatten().collect()
}

/// Stores chunks of an account, which must come in without anything going for them.
fn put(store: &mut Store, owner: u64, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let (result, gone) = write(store, of(number, owner, YEAR_S));
        assert!(result.is_ok() && gone.is_empty(), "{number}: {result:?}");
    }
}

fn hear(store: &mut Store, owner: u64, audited: bool) {
    let inputs = store.commit(vec![Request::Heard { account: account(owner), audited }]);
    assert!(gone(&inputs).is_empty());
}

/// Lets time pass, and what is due go.
fn pass(store: &mut Store, passed_s: u64) -> Gone {
    let mut inputs = store.commit(vec![Request::Uptime { passed_s }]);
    while store.has_due() {
        inputs.extend(store.commit(Vec::new()));
    }
    gone(&inputs)
}

fn holds(store: &Store, number: u64) -> bool {
    store.reader().find(&[id(number, LENGTH)]) != [None]
}

fn held(store: &Store, numbers: std::ops::Range<u64>) -> usize {
    numbers.filter(|number| holds(store, *number)).count()
}

#[test]
fn never_audited_junk_is_reclaimed_first() {
    let world = World::of(12);
    let mut store = world.again();
    // The oldest silence, but an audit was answered; then a shorter one; then junk.
    put(&mut store, 1, 0..4);
    hear(&mut store, 1, true);
    pass(&mut store, DAY_S);
    put(&mut store, 2, 4..8);
    hear(&mut store, 2, true);
    pass(&mut store, DAY_S);
    put(&mut store, 3, 8..12);
    assert_eq!(write(&mut store, of(20, 4, YEAR_S)).0, Err(StoreError::Full));
    pass(&mut store, OVER_S);
    assert_eq!(store.reclaimable(), 12 * RECORD_BYTES);
    assert_eq!(store.space().reclaimable, store.reclaimable());
    let mut all = BTreeSet::new();
    for (number, who) in (20..32).zip([3, 3, 3, 3, 1, 1, 1, 1, 2, 2, 2, 2]) {
        let (result, gone) = write(&mut store, of(number, 4, YEAR_S));
        assert!(result.is_ok(), "{number}: {result:?}");
        let [(id, Deleted { account: whose, freed_bytes })] = gone[..] else {
            panic!("{number}: one for one, not {gone:?}");
        };
        assert_eq!((whose, freed_bytes), (account(who), RECORD_BYTES));
        assert!(all.insert(id));
    }
    assert_eq!((held(&store, 0..12), held(&store, 20..32)), (0, 12));
    assert_eq!(write(&mut store, of(32, 5, YEAR_S)).0, Err(StoreError::Full));
    // As one that was deleted: it does not come back with a rebuild.
    drop(store);
    world.catalogue.clear().unwrap();
    let (store, report) = world.open();
    assert!(report.rebuilt.is_some());
    assert_eq!((held(&store, 0..12), held(&store, 20..32)), (0, 12));
}

#[test]
fn nothing_goes_while_there_is_room_however_long_the_silence() {
    let world = World::of(12);
    let mut store = world.again();
    put(&mut store, 1, 0..8);
    pass(&mut store, 100 * YEAR_S);
    put(&mut store, 2, 8..12);
    tidy_up(&mut store);
    assert_eq!(held(&store, 0..12), 12);
}

#[test]
fn released_chunks_that_are_due_go_before_leases_that_are_over() {
    let world = World::of(4);
    let mut store = world.again();
    put(&mut store, 1, 0..2);
    pass(&mut store, 2 * YEAR_S);
    put(&mut store, 2, 2..4);
    let items = vec![(id(2, LENGTH), lease(2))];
    store.commit(vec![Request::Release { ticket: Ticket(0), undo: false, items }]);
    // Due with the very group that needs the room.
    let passed_s = u64::from(LeaseTerms::default().release_delay_s) + RELEASE_SLACK_S;
    let write = |number| Request::Write { ticket: Ticket(0), chunk: Box::new(of(number, 3, 0)) };
    store.commit(vec![Request::Uptime { passed_s: passed_s - 1 }]);
    store.commit(vec![Request::Uptime { passed_s: 1 }]);
    let inputs = store.commit(vec![write(10)]);
    assert!(written(&inputs)[0].1.is_ok());
    assert!(!holds(&store, 2) && holds(&store, 0) && holds(&store, 1) && holds(&store, 3));
    let inputs = store.commit(vec![write(11)]);
    assert!(written(&inputs)[0].1.is_ok());
    assert_eq!(held(&store, 0..2), 1);
}

#[test]
fn what_was_let_go_is_kept_for_its_delay_though_its_lease_is_over() {
    let world = World::of(2);
    let mut store = world.again();
    assert!(write(&mut store, of(0, 1, 0)).0.is_ok());
    assert!(write(&mut store, of(1, 1, 0)).0.is_ok());
    let items = vec![(id(0, LENGTH), lease(0))];
    store.commit(vec![Request::Release { ticket: Ticket(0), undo: false, items }]);
    pass(&mut store, LEASE_SLACK_S);
    assert!(write(&mut store, of(2, 2, YEAR_S)).0.is_ok());
    assert!(holds(&store, 0) && !holds(&store, 1));
    assert_eq!(write(&mut store, of(3, 2, YEAR_S)).0, Err(StoreError::Full));
}

/// Whatever the disk says, chunks whose owners are there stay.
#[test]
fn a_full_disk_reclaims_no_live_lease() {
    let reserve = 256 << 10;
    let world = World::with(Options { reserve, ballast: 32 << 10, ..options() });
    let mut store = world.again();
    put(&mut store, 1, 0..40);
    put(&mut store, 2, 40..80);
    pass(&mut store, OVER_S - DAY_S);
    hear(&mut store, 1, true);
    hear(&mut store, 2, false);
    pass(&mut store, OVER_S - 1);
    for capacity in [DISK_BYTES, 1 << 20, 512 << 10, 0] {
        world.disk.set_capacity(capacity);
        for number in 100..400 {
            let (result, gone) = write(&mut store, of(number, 3, YEAR_S));
            assert_eq!(gone, [], "{capacity}");
            tidy_up(&mut store);
            if result.is_err() {
                assert_eq!(result, Err(StoreError::Full));
                break;
            }
        }
        assert_eq!(pass(&mut store, 0), []);
        assert_eq!(held(&store, 0..80), 80);
        assert_eq!(store.read_only(), None);
    }
}

#[test]
fn a_disk_that_others_fill_has_its_reserve_back_and_not_more_than_that() {
    let reserve = 256 << 10;
    let world = World::with(Options { reserve, segment_bytes: 1 << 20, ..options() });
    let mut store = world.again();
    put(&mut store, 1, 0..40);
    put(&mut store, 2, 40..80);
    pass(&mut store, OVER_S);
    hear(&mut store, 2, false);
    tidy_up(&mut store);
    assert!(!store.has_due());
    let free = store.space().free;
    world.disk.set_capacity(DISK_BYTES - free - (100 << 10));
    assert!(store.has_due(), "the reserve is touched");
    let gone = pass(&mut store, 600);
    // Nine records are 108 KiB, and what is written of their end takes space as well.
    assert!((9..=12).contains(&gone.len()), "{}", gone.len());
    assert!(gone.iter().all(|(_, gone)| gone.account == account(1)));
    tidy_up(&mut store);
    assert_eq!(held(&store, 40..80), 40);
    // What the disk has not given back by then is asked for in the next ten minutes, no sooner.
    for _ in 0..20 {
        store.commit(Vec::new());
    }
    assert_eq!(held(&store, 0..40), 40 - gone.len());
    for _ in 0..10 {
        pass(&mut store, 600);
        tidy_up(&mut store);
    }
    assert!(store.space().free > 0 && !store.has_due());
    // The smaller a chunk, the more of it stays until its segment is emptied.
    let left = held(&store, 0..40);
    assert!((4..=31).contains(&left), "{left}");
}

#[test]
fn a_write_waits_until_the_disk_has_the_room_back() {
    let reserve = 64 << 10;
    let world = World::with(Options { reserve, segment_bytes: 1 << 20, ..options() });
    let mut store = world.again();
    put(&mut store, 1, 0..40);
    pass(&mut store, OVER_S);
    tidy_up(&mut store);
    let free = store.space().free;
    world.disk.set_capacity(DISK_BYTES - free);
    let mut stored = 0;
    for number in 100..110 {
        for _ in 0..8 {
            let before = held(&store, 0..40);
            match write(&mut store, of(number, 2, YEAR_S)).0 {
                Ok(_) => {
                    stored += 1;
                    break;
                }
                Err(error) => assert_eq!(error, StoreError::Busy),
            }
            assert!(before - held(&store, 0..40) <= 2, "no more than it takes");
            tidy_up(&mut store);
        }
    }
    assert_eq!(stored, 10);
    assert!(held(&store, 0..40) >= 4, "{}", held(&store, 0..40));
    assert_eq!(held(&store, 100..110), 10);
}

#[test]
fn silence_goes_on_over_restarts_and_a_word_is_remembered_to_the_hour() {
    let world = World::of(2);
    let mut store = world.again();
    put(&mut store, 1, 0..1);
    put(&mut store, 2, 1..2);
    for day in 0..365 {
        pass(&mut store, DAY_S);
        // Often, and it is written down once.
        for _ in 0..5 {
            hear(&mut store, 2, day > 100);
        }
        drop(store);
        store = world.again();
    }
    assert_eq!(store.reclaimable(), 0);
    pass(&mut store, LEASE_SLACK_S);
    drop(store);
    let mut store = world.again();
    assert_eq!(store.reclaimable(), RECORD_BYTES);
    assert!(write(&mut store, of(2, 3, YEAR_S)).0.is_ok());
    assert!(!holds(&store, 0) && holds(&store, 1));
    let length = |world: &World| world.disk.len(world.ledger()).unwrap();
    hear(&mut store, 2, true);
    let before = length(&world);
    for _ in 0..100 {
        hear(&mut store, 2, true);
    }
    assert_eq!(length(&world), before);
    store.commit(vec![Request::Uptime { passed_s: HEARD_EVERY_S }]);
    let before = length(&world);
    hear(&mut store, 2, true);
    assert!(length(&world) > before);
}

/// What a damaged ledger says of an owner may not be the newest.
#[test]
fn damage_in_the_ledger_gives_everybody_a_full_term() {
    let world = World::of(2);
    let mut store = world.again();
    put(&mut store, 1, 0..1);
    pass(&mut store, YEAR_S);
    hear(&mut store, 1, true);
    put(&mut store, 2, 1..2);
    drop(store);
    let length = world.disk.len(world.ledger()).unwrap();
    for at in (0..length).step_by(7) {
        let (disk, catalogue) = (world.disk.image(), world.catalogue.image());
        let (disk, catalogue) = (Arc::new(disk), Arc::new(catalogue));
        let image = World { disk, catalogue, options: world.options };
        image.disk.flip_bit(image.ledger(), at, 3);
        let (mut store, report) = image.open();
        assert!(!report.ledger_damage.is_empty(), "{at}");
        pass(&mut store, YEAR_S - 1);
        tidy_up(&mut store);
        drop(store);
        let mut store = image.again();
        assert_eq!(store.reclaimable(), 0, "{at}");
        pass(&mut store, LEASE_SLACK_S + 1);
        assert_eq!(store.reclaimable(), 2 * RECORD_BYTES, "{at}");
    }
}

/// An account that was here before leases were written down has its full term from then on, also
/// where the store is opened again and again.
#[test]
fn an_account_of_which_nothing_is_known_begins_when_the_store_is_opened() {
    let world = World::of(1);
    let mut store = world.again();
    put(&mut store, 1, 0..1);
    drop(store);
    world.disk.unlink(world.ledger()).unwrap();
    world.catalogue.clear().unwrap();
    for _ in 0..366 {
        let mut store = world.again();
        assert_eq!(store.reclaimable(), 0);
        pass(&mut store, DAY_S);
    }
    assert_eq!(world.again().reclaimable(), RECORD_BYTES);
}

/// The clock on the wall may say what it likes: nobody who decides what goes asks it.
#[test]
fn clock_jump_pm_10y() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![top.join("store.rs"), top.join("core.rs")];
    let mut folders = vec![top.join("store"), top.join("core")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 40);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["SystemTime", "UNIX_EPOCH", "chrono", "jiff"] {
            assert!(!text.contains(word), "{} in {}", word, path.display());
        }
        let is_paced = path.ends_with("store/thread.rs");
        assert!(is_paced || !text.contains("Instant"), "{}", path.display());
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Stores this chunk; whose it is, and for how long it is kept, follows from its number.
    Write(u64),
    /// This owner asks about its account; whether it is an audit.
    Hear(u64, bool),
    /// Lets go of this chunk.
    Release(u64),
    /// So many tenths of an hour pass.
    Pass(u64),
    Reopen,
    Rebuild,
    PowerCut(u64),
    Tidy,
    /// Others take some of the disk, or give it back.
    Squeeze(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        14 => (0..48_u64).prop_map(Step::Write),
        4 => (0..OWNERS, any::<bool>()).prop_map(|(owner, audited)| Step::Hear(owner, audited)),
        1 => (0..48_u64).prop_map(Step::Release),
        4 => (1..30_u64).prop_map(Step::Pass),
        3 => (1..4_000_u64).prop_map(Step::Pass),
        2 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
        2 => any::<u64>().prop_map(Step::PowerCut),
        2 => Just(Step::Tidy),
        1 => any::<bool>().prop_map(Step::Squeeze),
    ];
    prop::collection::vec(step, 1..80)
}

const OWNERS: u64 = 4;

/// How long a chunk is kept in silence.
fn keep_s(number: u64) -> u64 {
    [0, 3_600, DAY_S, 10 * DAY_S][usize::try_from(number / OWNERS % 4).unwrap()]
}

/// What nobody can be wrong about: when each owner was heard, and what it was promised.
struct Model {
    world: World,
    store: Store,
    now: u64,
    heard: BTreeMap<u64, u64>,
    /// By their numbers: until when it was let go to be kept, where it was.
    held: BTreeMap<u64, Option<u64>>,
    /// Chunks that went while nobody needed room.
    was_needed: bool,
    leases: u64,
}

impl Model {
    fn new() -> Self {
        let options = Options {
            capacity: 24 * RECORD_BYTES + ROUNDED_BYTES,
            reserve: 64 << 10,
            ballast: 8 << 10,
            segment_bytes: 96 << 10,
            ..options()
        };
        let world = World::with(options);
        let store = world.again();
        let (heard, held) = (BTreeMap::new(), BTreeMap::new());
        Self { world, store, now: 0, heard, held, was_needed: false, leases: 1_000 }
    }

    fn step(&mut self, step: Step) -> usize {
        self.was_needed = false;
        match step {
            Step::Write(number) => self.write(number),
            Step::Hear(owner, audited) => {
                self.heard.insert(owner, self.now);
                let account = account(owner);
                self.store.commit(vec![Request::Heard { account, audited }]);
            }
            Step::Release(number) => self.release(number),
            Step::Pass(tenths) => {
                self.now += tenths * 360;
                self.store.commit(vec![Request::Uptime { passed_s: tenths * 360 }]);
            }
            Step::Reopen => self.store = self.world.again(),
            Step::Rebuild => {
                self.world.catalogue.clear().unwrap();
                self.store = self.world.again();
            }
            Step::PowerCut(seed) => {
                self.world.disk.power_cut(&mut rng(seed));
                self.world.catalogue.power_cut(&mut rng(seed));
                self.store = self.world.again();
            }
            Step::Tidy => tidy_up(&mut self.store),
            Step::Squeeze(squeezed) => {
                self.was_needed = true;
                self.world.disk.set_capacity(if squeezed { 500 << 10 } else { DISK_BYTES });
            }
        }
        self.check()
    }

    fn write(&mut self, number: u64) {
        let owner = number % OWNERS;
        self.heard.insert(owner, self.now);
        self.leases += 1;
        let chunk = StoredChunk { lease: lease(self.leases), ..of(number, owner, keep_s(number)) };
        let (result, gone) = write(&mut self.store, chunk);
        self.was_needed = !gone.is_empty();
        if result.is_ok() {
            self.held.insert(number, None);
        }
    }

    fn release(&mut self, number: u64) {
        let entry = self.store.reader().query(&account(number % OWNERS), &[id(number, LENGTH)]);
        let (_, lease) = entry.unwrap()[0];
        let items = vec![(id(number, LENGTH), lease)];
        self.store.commit(vec![Request::Release { ticket: Ticket(0), undo: false, items }]);
        if let Some(until) = self.held.get_mut(&number) {
            self.heard.insert(number % OWNERS, self.now);
            // Released again, its delay does not begin anew.
            let delay_s = u64::from(LeaseTerms::default().release_delay_s);
            until.get_or_insert(self.now + delay_s);
        }
    }

    /// How many have gone.
    fn check(&mut self) -> usize {
        let squeezed = self.store.space().free == 0;
        let mut gone = Vec::new();
        for (number, released) in &self.held {
            if holds(&self.store, *number) {
                continue;
            }
            let silent_s = self.now - self.heard[&(number % OWNERS)];
            match released {
                Some(until) => assert!(self.now >= *until, "{number} was to be kept still"),
                None => {
                    assert!(silent_s > keep_s(*number), "{number}: silent for {silent_s} s");
                    assert!(self.was_needed || squeezed, "nobody needed the room of {number}");
                }
            }
            gone.push(*number);
        }
        self.held.retain(|number, _| !gone.contains(number));
        assert_eq!(self.store.read_only(), None);
        gone.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens to the store, no chunk goes within the time that was promised after its
    /// owner was heard of last, and none whose room nobody needs.
    #[test]
    fn renewed_never_reclaimed(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}

/// The property says nothing where nothing ever goes: in long histories hundreds do.
#[test]
fn leases_do_end_in_random_histories() {
    use rand::RngExt;
    let (mut rng, mut model, mut gone) = (rng(7), Model::new(), 0);
    for _ in 0..4_000 {
        gone += model.step(match rng.random_range(0..20) {
            0..10 => Step::Write(rng.random_range(0..48)),
            10..13 => Step::Hear(rng.random_range(0..OWNERS), rng.random()),
            13..17 => Step::Pass(rng.random_range(1..40)),
            17 => Step::Pass(rng.random_range(1..4_000)),
            18 => Step::Tidy,
            _ => Step::PowerCut(rng.random()),
        });
    }
    assert!(gone > 200, "{gone}");
}
