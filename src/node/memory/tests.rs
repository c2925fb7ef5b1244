//! What is remembered is bounded, outlives a restart, and is nothing but a convenience.

use super::*;
use crate::core::reputation::Deed;

fn node(number: u64) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("owner")).unwrap();
    folder
}

fn did(deed: Deed) -> Conduct {
    let mut conduct = Conduct::default();
    conduct.on(deed);
    conduct
}

fn acked() -> Conduct {
    did(Deed::Acked { after: Duration::from_millis(40), in_time: true })
}

#[test]
fn what_was_seen_is_the_same_after_a_restart_and_rests_go_on() {
    let folder = folder();
    let memory = Memory::open(folder.path(), Some(1_000));
    assert!(memory.acquaintances().is_empty());
    memory.saw(node(1), acked(), Duration::from_secs(600));
    memory.saw(node(2), did(Deed::WrongBytes), Duration::ZERO);
    memory.audited(node(3), seconds_since_1970(), Losses::NeverProven);
    memory.audited(node(4), seconds_since_1970(), Losses::None);
    memory.repaired(700);
    memory.save().unwrap();

    let after = Memory::open(folder.path(), Some(1_000));
    let (state, before) = (after.state(), memory.state());
    assert_eq!((&state.nodes, &state.repaired), (&before.nodes, &before.repaired));
    assert_eq!(state.nodes.len(), 3, "of whom nothing is to be said nothing is kept");
    drop((state, before));
    let age = |name| after.acquaintances().iter().find(|it| it.0 == node(name)).unwrap().2;
    assert!((600..660).contains(&age(1).as_secs()), "{:?}", age(1));
    assert_eq!(after.resting(0), BTreeSet::from([node(3)]));
    assert!(after.resting(seconds_since_1970()).is_empty(), "it began before");
    assert_eq!(after.repair_left(), 300);
}

#[test]
fn a_file_that_cannot_be_read_is_a_new_beginning() {
    let folder = folder();
    let path = folder.path().join("owner/memory.json");
    let other = r#"{"version":2,"nodes":[],"repaired":[]}"#;
    for text in ["", "{", "[]", other] {
        std::fs::write(&path, text).unwrap();
        assert!(Memory::open(folder.path(), None).acquaintances().is_empty());
    }
    // What lies out of bounds is taken for the bound.
    let memory = Memory::open(folder.path(), None);
    memory.saw(node(1), Conduct { credit: 99, ..acked() }, Duration::ZERO);
    memory.save().unwrap();
    let [(_, conduct, _)] = Memory::open(folder.path(), None).acquaintances()[..] else {
        panic!("one node")
    };
    assert_eq!(conduct.credit, reputation::CREDIT_BEST);
}

#[test]
fn nodes_are_bounded_and_new_names_go_before_those_that_did_something() {
    let folder = folder();
    let memory = Memory::open(folder.path(), None);
    memory.saw(node(0), did(Deed::WrongBytes), Duration::ZERO);
    memory.audited(node(1), seconds_since_1970(), Losses::Proven);
    memory.saw(node(2), acked(), Duration::ZERO);
    for name in 3..3_000 {
        memory.saw(node(name), did(Deed::Unreachable), Duration::ZERO);
    }
    let state = memory.state();
    assert_eq!(state.nodes.len(), NODES_MAX);
    assert!([0, 1, 2].iter().all(|name| state.nodes.contains_key(&node(*name))));
    drop(state);
    memory.save().unwrap();
    let bytes = std::fs::metadata(folder.path().join("owner/memory.json")).unwrap().len();
    assert!(bytes < FILE_BYTES_MAX / 2, "{bytes} bytes");
}

#[test]
fn a_day_of_repairs_is_any_24_hours_and_a_clock_that_jumps_blocks_none_for_longer() {
    let mut state = State::default();
    state.repaired.extend([(100, 5), (110, 7), (124, 1)]);
    let lately = |state: &mut State, hour| state.repaired_lately(hour);
    assert_eq!(lately(&mut state, 124), 13);
    assert_eq!(lately(&mut state, 125), 8, "an hour of yesterday is over");
    // Ten years ahead, and back.
    state.repaired.insert(87_000, 99);
    assert_eq!(lately(&mut state, 125), 8);
    assert_eq!(lately(&mut state, 87_001), 0);
}

#[test]
fn hours_of_repairs_are_bounded_also_where_what_they_move_is_not() {
    let folder = folder();
    let memory = Memory::open(folder.path(), None);
    let now = seconds_since_1970() / HOUR_S;
    memory.state().repaired.extend((now - 100..now).map(|hour| (hour, 1)));
    memory.repaired(1);
    let state = memory.state();
    // An hour may have begun meanwhile.
    assert!((24..=25).contains(&state.repaired.len()), "{:?}", state.repaired);
    assert!(state.repaired.keys().all(|hour| *hour >= now - 24));
}

#[test]
fn repairs_stop_at_the_bound_and_wait_for_a_part_of_a_day_worth_the_look() {
    let folder = folder();
    let memory = Memory::open(folder.path(), Some(2_400));
    assert_eq!(memory.repair_left(), 2_400);
    memory.repaired(2_300);
    assert_eq!(memory.repair_left(), 100);
    memory.repaired(1);
    assert_eq!(memory.repair_left(), 0, "not worth the look");
    memory.repaired(u64::MAX);
    assert_eq!(memory.repair_left(), 0);
    let unbounded = Memory::open(folder.path(), None);
    unbounded.repaired(u64::MAX);
    assert_eq!(unbounded.repair_left(), u64::MAX);
}

#[test]
fn a_report_says_what_was_seen_and_what_came_of_it() {
    let folder = folder();
    let memory = Memory::open(folder.path(), None);
    let stranger = memory.report(&node(1), Standing::Unknown);
    assert_eq!((&*stranger.trust, stranger.score, stranger.ack_ms), ("new", Some(0), None));
    memory.saw(node(1), acked(), Duration::ZERO);
    let good = memory.report(&node(1), Standing::Proven);
    assert_eq!((&*good.trust, good.acked, good.ack_ms), ("good", 1, Some(40)));
    assert_eq!((good.score, good.rests_until.clone()), (Some(2), None));
    memory.audited(node(1), seconds_since_1970(), Losses::NeverProven);
    let damaged = memory.report(&node(1), Standing::Damaged);
    assert_eq!((&*damaged.trust, damaged.rests_until.is_some()), ("later", true));
    assert_eq!(memory.report(&node(1), Standing::Liar).trust, "never");
}
