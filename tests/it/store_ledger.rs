//! The ledger of a store: what becomes of the heads in it when it is torn, rotten, cut off or lost.

use super::store_faults::{Plan, Verdict};
use super::store_fixtures::*;
use super::store_heads::{Store, World, commit, head, keys, numbers, pass, put};
use quloud::core::effect::{Input, StoreError};
use quloud::core::types::Ticket;
use quloud::store::disk::{Disk, DiskError};
use quloud::store::heads::KEEP_SUPERSEDED_S;
use quloud::store::{ReadOnly, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
fn a_ledger_of_which_nothing_can_be_read_for_a_time_is_not_called_lost() {
    let world = World::new();
    let (mut store, _) = world.open(&Plan::none());
    put(&mut store, 0, 1).unwrap();
    drop(store);
    let plan = Plan::none();
    plan.spoil_reads((world.ledger(), 0, u64::MAX));
    let (store, report) = world.open(&plan);
    assert_eq!(report.read_only, Some(ReadOnly::Ledger(DiskError::Io(5))));
    assert_eq!(report.ledger_damage, []);
    drop(store);
    assert_eq!(numbers(&world.open(&Plan::none()).0, 0), [1]);
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
