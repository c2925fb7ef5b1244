//! Releases at every single call of a disk and a catalogue that fail or lose power: nothing that
//! was acknowledged is destroyed, now or when all delays are over.

use super::super::store_conformance::holds;
use super::super::store_faults::{Plan, Verdict};
use super::super::store_fixtures::*;
use super::{LENGTH, Store, World, answers, delay, is_gone, pass, query, request};
use quloud::core::effect::{ChunkState, StoredChunk};
use quloud::core::types::{LeaseNonce, Ticket};
use quloud::store::Request;
use quloud::store::disk::DiskError;
use quloud::store::releases::ReleaseBounds;
use std::collections::{BTreeMap, BTreeSet};

/// What was answered.
#[derive(Debug, Default, Clone)]
struct Said {
    /// Held under this lease, and not let go since.
    live: BTreeMap<u64, LeaseNonce>,
    /// Let go under this lease.
    released: BTreeMap<u64, LeaseNonce>,
    /// A request about it failed.
    open: BTreeSet<u64>,
    /// How long it went on, and when each was let go.
    time: u64,
    since: BTreeMap<u64, u64>,
}

impl Said {
    fn write(&mut self, store: &mut Store, numbers: &[u64], of: u64) {
        let write = |number: &u64| {
            let chunk = StoredChunk { lease: lease(of + number), ..chunk(*number, LENGTH) };
            Request::Write { ticket: Ticket(*number), chunk: Box::new(chunk) }
        };
        let inputs = store.commit(numbers.iter().map(write).collect());
        for (Ticket(number), result) in written(&inputs) {
            match result {
                Ok(written) => {
                    self.released.remove(&number);
                    self.open.remove(&number);
                    self.live.insert(number, written.lease);
                }
                Err(_) => drop(self.open.insert(number)),
            }
        }
        tidy_up(store);
    }

    fn release(&mut self, store: &mut Store, undo: bool, numbers: &[u64]) {
        let (from, to) = match undo {
            true => (&mut self.released, &mut self.live),
            false => (&mut self.live, &mut self.released),
        };
        let lease = |number: &u64| Some((*number, *from.get(number)?));
        let items: Vec<_> = numbers.iter().filter_map(lease).collect();
        let inputs = store.commit(vec![request(undo, &items)]);
        let answer = answers(&inputs).pop().unwrap();
        for (at, (number, lease)) in items.into_iter().enumerate() {
            let state = answer.as_ref().map(|states| states[at]);
            match (undo, state) {
                (false, Ok(ChunkState::Released { .. })) | (true, Ok(ChunkState::Live)) => {
                    from.remove(&number);
                    to.insert(number, lease);
                    self.since.insert(number, self.time);
                }
                (_, Ok(state)) => panic!("{number}: {state:?}"),
                (_, Err(_)) => drop(self.open.insert(number)),
            }
        }
        tidy_up(store);
    }

    /// It may have been destroyed, and nobody was told.
    fn may_be_gone(&self, number: u64) -> bool {
        self.since.get(&number).is_some_and(|since| self.time - since >= delay())
    }

    fn pass(&mut self, store: &mut Store, passed_s: u64) {
        self.time += passed_s;
        for (gone, _) in pass(store, passed_s) {
            let number = (0..20).find(|number| id(*number, LENGTH) == gone).unwrap();
            assert!(!self.live.contains_key(&number) || self.open.contains(&number));
            self.released.remove(&number);
        }
    }
}

/// Chunks come, are let go, taken back, stored again, destroyed and stored once more.
fn script(store: &mut Store) -> Said {
    let mut said = Said::default();
    said.write(store, &[0, 1, 2, 3], 0);
    said.write(store, &[4, 5, 6, 7], 0);
    said.release(store, false, &[0, 1, 2, 3, 4, 5]);
    said.release(store, true, &[0, 1]);
    said.write(store, &[0, 2, 3], 20);
    said.pass(store, 600);
    said.release(store, false, &[2, 6]);
    said.pass(store, delay() - 600);
    said.write(store, &[4, 8], 40);
    said.release(store, true, &[2]);
    said.release(store, false, &[8]);
    said.pass(store, 599);
    said
}

/// Nothing that was acknowledged is lost, now or when all delays are over; and nothing that was let
/// go stays for ever, unless the doubt of a damaged ledger lets it.
fn check(world: &World, said: &Said, what: &str) {
    let (mut store, report) = world.open(&Plan::none());
    assert_eq!(report.read_only, None, "{what}");
    let dropped = report.releases_dropped > 0;
    let sure = |number: &&u64| !said.open.contains(number);
    for (number, lease) in said.live.iter().filter(|(number, _)| sure(number)) {
        assert_eq!(query(&store, *number), (ChunkState::Live, *lease), "chunk {number} {what}");
    }
    for (number, lease) in said.released.iter().filter(|(number, _)| sure(number)) {
        let (state, held) = query(&store, *number);
        if state == ChunkState::NotHeld && said.may_be_gone(*number) {
            continue;
        }
        let waits = matches!(state, ChunkState::Released { .. });
        assert!(waits || dropped, "chunk {number} is {state:?} {what}");
        assert_eq!(held, *lease, "{what}");
    }
    // What a write is answered with is as good as what was answered before.
    let mut later = said.clone();
    later.write(&mut store, &[0, 5, 7], 60);
    let sure = |number: &&u64| !later.open.contains(number);
    for rebuilt in [false, true] {
        for _ in 0..2 {
            pass(&mut store, delay());
        }
        for number in later.live.keys().filter(sure) {
            assert!(holds(&store, &chunk(*number, LENGTH)), "chunk {number} is destroyed {what}");
        }
        let released = later.released.keys().filter(sure);
        for number in released.filter(|_| !dropped) {
            assert!(is_gone(&store, *number), "chunk {number} stays {what}");
        }
        drop(store);
        if !rebuilt {
            world.wipe();
        }
        store = world.again();
    }
}

fn calls() -> u64 {
    let (plan, world) = (Plan::none(), World::new());
    let (mut store, _) = world.open(&plan);
    let said = script(&mut store);
    drop(store);
    assert_eq!(said.open.len(), 0);
    assert_eq!(said.live.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 7]);
    assert_eq!(said.released.keys().copied().collect::<Vec<_>>(), [6, 8], "5 is destroyed");
    check(&world, &said, "without a fault");
    plan.calls()
}

#[test]
fn releases_survive_a_power_cut_at_every_step() {
    for at in 0..calls() {
        for seed in 0..4 {
            let world = World::new();
            let opened = world.open_with(&Plan::stop_at(at), ReleaseBounds::default());
            let said = opened.map(|(mut store, _)| script(&mut store)).unwrap_or_default();
            let mut rng = rng(seed);
            world.0.power_cut(&mut rng);
            match seed {
                0 => world.wipe(),
                _ => world.1.power_cut(&mut rng),
            }
            check(&world, &said, &format!("(stopped at {at}, seed {seed})"));
        }
    }
}

#[test]
fn releases_survive_a_full_disk_or_a_failed_sync_at_every_step() {
    let calls = calls();
    for error in [DiskError::Full, DiskError::Io(5)] {
        for failed in 0..calls {
            for cut in [false, true] {
                let world = World::new();
                let plan = Plan::new(move |at, _| match at {
                    at if at == failed => Verdict::Fail(error),
                    at if cut && at > failed + 9 => Verdict::Fail(DiskError::Io(5)),
                    _ => Verdict::Do,
                });
                let opened = world.open_with(&plan, ReleaseBounds::default());
                let said = opened.map(|(mut store, _)| script(&mut store)).unwrap_or_default();
                let mut rng = rng(failed);
                world.0.power_cut(&mut rng);
                world.1.power_cut(&mut rng);
                check(&world, &said, &format!("({error:?} at {failed}, cut: {cut})"));
            }
        }
    }
}
