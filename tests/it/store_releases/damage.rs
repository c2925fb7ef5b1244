//! Releases where the ledger, or what was let go, is damaged: what is in doubt is kept.

use super::super::store_conformance::holds;
use super::super::store_faults::{Call, Plan, Verdict};
use super::super::store_fixtures::*;
use super::{LENGTH, World, delay, let_go, pass, put, release, released, state, waits, write};
use quloud::core::effect::{ChunkState, StoreError};
use quloud::store::ReadOnly;
use quloud::store::disk::{Disk, DiskError, File};

#[test]
fn damage_in_the_ledger_destroys_nothing() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..4);
    let_go(&mut store, 0..4).unwrap();
    release(&mut store, true, &[(0, lease(0)), (1, lease(1))]).unwrap();
    drop(store);
    let (ledger, length) = (world.ledger(), world.0.len(world.ledger()).unwrap());
    let check = |image: &World, what: &str| {
        let (mut store, report) = image.open(&Plan::none());
        assert!(!report.ledger_damage.is_empty() && report.read_only.is_none(), "{what}");
        assert!(report.releases_dropped <= 4, "{what}");
        assert_eq!(store.releases(), 0, "{what}");
        assert_eq!(write(&mut store, chunk(0, LENGTH)).unwrap().lease, lease(0), "{what}");
        pass(&mut store, 2 * delay());
        drop(store);
        // It is as if they never had been, also where the damage is seen no more.
        let (mut store, report) = image.open(&Plan::none());
        assert_eq!((report.ledger_damage.len(), report.releases_dropped), (0, 0), "{what}");
        assert_eq!(pass(&mut store, 2 * delay()), [], "{what}");
        assert!((0..4).all(|number| holds(&store, &chunk(number, LENGTH))), "{what}");
    };
    for at in (0..length).step_by(17) {
        let image = world.image();
        image.0.flip_bit(ledger, at, 2);
        check(&image, &format!("byte {at}"));
    }
    let image = world.image();
    image.0.truncate(ledger, length - 10).unwrap();
    check(&image, "cut off");
    let image = world.image();
    image.0.unlink(ledger).unwrap();
    check(&image, "lost");
}

/// Where nobody knows how long the ledger was, a torn tail may have been more than that.
#[test]
fn a_torn_tail_drops_what_it_may_have_taken_back() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..2);
    let_go(&mut store, 0..2).unwrap();
    release(&mut store, true, &[(0, lease(0))]).unwrap();
    drop(store);
    world.wipe();
    world.0.flip_bit(world.ledger(), world.0.len(world.ledger()).unwrap() - 9, 1);
    let (mut store, report) = world.open(&Plan::none());
    assert!(report.cut_bytes > 0 && report.ledger_damage.is_empty());
    assert_eq!((report.releases_dropped, store.releases()), (2, 0));
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert!(holds(&store, &chunk(0, LENGTH)) && holds(&store, &chunk(1, LENGTH)));
    drop(store);
    let mut store = world.again();
    assert_eq!(pass(&mut store, 2 * delay()), []);
}

#[test]
fn a_doubt_that_cannot_be_settled_leaves_the_store_read_only() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..2);
    let_go(&mut store, 0..2).unwrap();
    release(&mut store, true, &[(0, lease(0))]).unwrap();
    pass(&mut store, delay() - 1);
    drop(store);
    let ledger = world.ledger();
    // Its last item but one: nobody knows what it said.
    world.0.flip_bit(ledger, world.0.len(ledger).unwrap() - 57 - 9, 1);
    let full = Plan::new(|_, call| match call {
        Call::Write => Verdict::Fail(DiskError::Full),
        _ => Verdict::Do,
    });
    let (mut store, report) = world.open(&full);
    assert_eq!(report.read_only, Some(ReadOnly::Log(DiskError::Full)));
    assert_eq!(write(&mut store, chunk(0, LENGTH)), Err(StoreError::ReadOnly));
    assert_eq!(let_go(&mut store, [0]), Err(StoreError::ReadOnly));
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert!((0..2).all(|number| store.reader().read(&id(number, LENGTH)).result.is_ok()));
    drop(store);
    let (mut store, report) = world.open(&Plan::none());
    assert_eq!((report.read_only, store.releases()), (None, 0));
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert!((0..2).all(|number| holds(&store, &chunk(number, LENGTH))));
}

#[test]
fn a_ledger_that_cannot_be_read_destroys_nothing_and_costs_no_release() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..2);
    let_go(&mut store, [0]).unwrap();
    pass(&mut store, delay() - 1);
    drop(store);
    let plan = Plan::none();
    plan.spoil_reads((world.ledger(), 0, 4_096));
    let (mut store, report) = world.open(&plan);
    assert!(report.read_only.is_some());
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert_eq!(let_go(&mut store, [1]), Err(StoreError::ReadOnly));
    drop(store);
    let mut store = world.again();
    assert!(waits(&store, 0));
    assert_eq!(pass(&mut store, 1).len(), 1);
}

#[test]
fn damage_is_told_of_what_is_not_let_go() {
    let world = World::new();
    let mut store = world.again();
    put(&mut store, 0..2);
    let_go(&mut store, [1]).unwrap();
    world.0.flip_bit(File::Segment(1), 4_096 + 2_000, 1);
    world.0.flip_bit(File::Segment(1), 8_192 + 2_000, 1);
    for number in 0..2 {
        let rot = store.reader().read(&id(number, LENGTH)).rot.expect("it is damaged");
        store.commit(vec![rot]);
    }
    assert_eq!((state(&store, 0), state(&store, 1)), (ChunkState::Damaged, released(delay())));
    // One that is stored again is whole, and has a new lease where it was let go.
    assert_eq!(write(&mut store, chunk(0, LENGTH)).unwrap().lease, lease(0));
    assert_ne!(write(&mut store, chunk(1, LENGTH)).unwrap().lease, lease(1));
    assert_eq!(pass(&mut store, 2 * delay()), []);
    assert!(holds(&store, &chunk(0, LENGTH)) && holds(&store, &chunk(1, LENGTH)));
}
