//! Of the catalogue's state.

use super::super::entry::tests::{acked, dropped, due, head, kept, made, root, started, verified};
use super::super::entry::{ChunkAcked, Proven};
use super::super::proven::Replicas;
use super::*;
use proptest::prelude::*;

fn state(acks: &[ChunkAcked]) -> State {
    let mut state = State::default();
    acks.iter().for_each(|ack| state.apply(Entry::ChunkAcked(*ack)));
    state
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

#[test]
fn a_put_is_in_the_outbox_until_it_is_done_or_dropped() {
    let mut state = State::default();
    state.apply(Entry::PutStarted(started(1)));
    state.apply(Entry::PutStarted(started(2)));
    state.apply(Entry::PutShort(root(2)));
    let jobs: Vec<_> = state.jobs().map(|job| (job.started.job.0, job.short.is_some())).collect();
    assert_eq!(jobs, [(1, false), (2, true)]);
    assert_eq!(state.roots().count(), 0);
    state.apply(Entry::PutDone(root(2)));
    state.apply(Entry::JobDropped(dropped(1)));
    assert_eq!((state.jobs().count(), state.roots().count()), (0, 1));
    assert_eq!(state.next_job(), JobId(3));
}

#[test]
fn a_given_up_put_is_remembered_until_its_file_is_put() {
    let mut state = State::default();
    for job in 1..=40 {
        state.apply(Entry::PutStarted(started(job)));
        state.apply(Entry::JobDropped(dropped(job)));
    }
    let jobs = |state: &State| state.dropped().map(|one| one.job.0).collect::<Vec<_>>();
    assert_eq!(jobs(&state), (9..=40).collect::<Vec<_>>(), "the newest");
    state.apply(Entry::PutStarted(PutStarted { path: started(40).path, ..started(41) }));
    assert_eq!(jobs(&state).len(), DROPPED_MAX, "a try is no success");
    state.apply(Entry::PutDone(root(41)));
    assert_eq!(jobs(&state), (9..=39).collect::<Vec<_>>());
    state.apply(Entry::JobDropped(JobDropped { path: started(9).path, ..dropped(50) }));
    assert_eq!(jobs(&state), (10..=39).chain([50]).collect::<Vec<_>>(), "one word a file");
}

#[test]
fn the_store_of_a_node_is_the_one_of_its_last_ack() {
    let state = state(&[acked(1, 1, 9), acked(1, 2, 200), acked(2, 1, 3)]);
    assert_eq!(state.store_of(&node(1)), Some(acked(2, 1, 3).epoch));
    assert_eq!(state.store_of(&node(2)), Some(acked(1, 2, 200).epoch));
    assert_eq!(state.store_of(&node(3)), None);
    let stores = [(node(1), acked(2, 1, 3).epoch), (node(2), acked(1, 2, 200).epoch)];
    assert_eq!(state.stores(), stores);
}

#[test]
fn a_head_goes_up_only_and_is_kept_by_those_of_its_newest_record() {
    let mut state = State::default();
    state.apply(Entry::HeadSeen(head(2, 5)));
    state.apply(Entry::HeadKept(kept(2, 4)));
    assert!(state.heads().all(|head| head.kept.is_none()));
    state.apply(Entry::HeadKept(kept(2, 5)));
    state.apply(Entry::HeadSeen(head(2, 3)));
    state.apply(Entry::HeadSeen(head(1, 1)));
    let heads: Vec<_> = state.heads().map(|head| (head.seen.index, head.kept.clone())).collect();
    assert_eq!(heads, [(1, None), (2, Some(kept(2, 5)))]);
    assert_eq!(state.entries(), 3);
    state.apply(Entry::HeadSeen(head(2, 6)));
    assert!(state.heads().all(|head| head.kept.is_none()), "nobody has the new one yet");
}

#[test]
fn a_snapshot_is_due_until_it_is_done() {
    let mut state = State::default();
    (3..6).for_each(|job| state.apply(Entry::SnapshotDue(due(job))));
    state.apply(Entry::SnapshotDone(JobId(4)));
    state.apply(Entry::SnapshotDone(JobId(9)));
    assert_eq!(state.due().map(|due| due.job.0).collect::<Vec<_>>(), [3, 5]);
    assert_eq!((state.entries(), state.next_job()), (2, JobId(6)));
}

#[test]
fn a_drill_that_found_damage_does_not_undo_the_proof_before_it() {
    let mut state = State::default();
    let snapshot = verified(1, 5, 0).snapshot;
    assert_eq!(state.drills_of(&snapshot), None);
    state.apply(Entry::Verified(verified(1, 5, 0)));
    assert_eq!(state.entries(), 1);
    state.apply(Entry::Verified(verified(1, 9, 3)));
    let drills = state.drills_of(&snapshot).unwrap();
    assert_eq!((drills.last.at, drills.proof.unwrap().at), (9, 5));
    assert_eq!((state.entries(), drills.each().count()), (2, 2));
    let mut copy = State::default();
    drills.each().for_each(|drill| copy.apply(Entry::Verified(drill)));
    assert_eq!(copy.drills_of(&snapshot), Some(drills));
}

#[test]
fn damage_is_remembered_until_all_of_the_snapshot_was_read_back_well() {
    let drill = |at, sample_ppm, damaged, away| {
        Entry::Verified(Verified { sample_ppm, damaged, away, ..verified(1, at, 0) })
    };
    let failed = |drills: &[Entry]| {
        let mut state = State::default();
        drills.iter().for_each(|drill| match drill {
            Entry::Verified(drill) => state.apply(Entry::Verified(*drill)),
            _ => unreachable!("all of these are drills"),
        });
        let drills = *state.drills().next().unwrap();
        let mut copy = State::default();
        drills.each().for_each(|drill| copy.apply(Entry::Verified(drill)));
        assert_eq!(copy.drills().next(), Some(&drills), "a compacted journal says the same");
        assert_eq!(state.entries(), drills.each().count() as u64);
        drills.failed.map(|drill| drill.at)
    };
    let (all, some) = (1_000_000, 50_000);
    assert_eq!(failed(&[drill(1, some, 2, 0), drill(2, some, 0, 0)]), Some(1), "others were drawn");
    assert_eq!(failed(&[drill(1, some, 2, 0), drill(2, all, 0, 0)]), None);
    assert_eq!(failed(&[drill(1, all, 1, 0), drill(2, some, 0, 1), drill(3, some, 0, 0)]), Some(1));
    assert_eq!(failed(&[drill(1, some, 0, 4), drill(2, some, 0, 0)]), None, "it was away");
    assert_eq!(failed(&[drill(1, all, 0, 4), drill(2, some, 0, 0)]), Some(1));
    let before = [drill(1, all, 0, 0), drill(2, some, 1, 0), drill(3, some, 0, 0)];
    assert_eq!(failed(&before), Some(2), "what was well before may not be now");
}

#[test]
fn a_set_of_paths_has_one_newest_backup() {
    let mut state = State::default();
    [made(1, 1, 1), made(2, 2, 2), made(1, 3, 3)]
        .into_iter()
        .for_each(|made| state.apply(Entry::BackupMade(made)));
    let told: Vec<_> = state.made().map(|made| (made.snapshot, made.replicas)).collect();
    let id = |number| SnapshotId::from_bytes([number; 32]);
    assert_eq!(told, [(id(3), 3), (id(2), 2)]);
    assert_eq!(state.entries(), 2);
}

#[test]
fn the_same_file_put_twice_is_one_root() {
    let mut state = State::default();
    state.apply(Entry::PutDone(root(2)));
    state.apply(Entry::PutDone(PutRoot { put_at: 5, ..root(2) }));
    assert_eq!(state.roots().map(|root| root.put_at).collect::<Vec<_>>(), [5]);
}

#[test]
fn a_root_that_was_ever_put_without_a_snapshot_is_one_without() {
    for named in [[true, false], [false, true], [false, false], [true, true]] {
        let mut state = State::default();
        for named in named {
            state.apply(Entry::PutDone(PutRoot { named, ..root(2) }));
        }
        let told: Vec<bool> = state.roots().map(|root| root.named).collect();
        assert_eq!(told, [named == [true, true]], "{named:?}");
    }
}

#[test]
fn a_store_made_anew_voids_the_acks_of_the_old_one() {
    let mut state = state(&[acked(1, 1, 1), acked(2, 1, 1), acked(1, 2, 1)]);
    assert_eq!(state.chunks_held_by(&node(1)), 2);
    let stale = acked(2, 1, 1);
    state.apply(Entry::ChunkAcked(acked(1, 1, 2)));
    assert_eq!(state.chunks_held_by(&node(1)), 1);
    assert_eq!(state.holders_of(&acked(1, 1, 1).chunk).len(), 2);
    assert!(state.holders_of(&stale.chunk).is_empty());
    assert!(!state.counts(&stale) && state.counts(&acked(1, 1, 2)));
    assert!(!state.counts(&acked(9, 1, 2)), "it never had that one");
}

#[test]
fn holders_beyond_three_are_kept() {
    let state = state(&(1..=9).map(|node| acked(1, node, 1)).collect::<Vec<_>>());
    let holders = state.holders_of(&acked(1, 1, 1).chunk);
    assert_eq!(holders, (1..=9).map(node).collect::<Vec<_>>());
    assert_eq!((state.chunks(), state.entries()), (1, 9));
}

#[test]
fn what_holders_showed_counts_from_one_time_to_another() {
    let mut state = state(&(1..=5).map(|node| acked(1, node, 1)).collect::<Vec<_>>());
    let (chunk, epoch) = (acked(1, 1, 1).chunk, acked(1, 1, 1).epoch);
    let counts = |state: &State, window| {
        let Replicas { acked, proven, .. } = state.replicas_of(&chunk, window);
        (acked, proven)
    };
    assert_eq!(counts(&state, (0, u32::MAX)), (5, 0), "an ack alone has no time");
    // The first three holders of a chunk lie elsewhere than the others.
    for holder in [2, 5] {
        state.prove((&node(holder), &epoch), &chunk, 100 + u32::from(holder));
    }
    let counted = [(102, 105), (103, 105), (102, 104), (106, 200), (0, 50)];
    assert_eq!(counted.map(|window| counts(&state, window).1), [2, 1, 1, 0, 0]);
    let open: Vec<NodeId> = state.unproven_holders(&chunk, (103, 200)).collect();
    assert_eq!(open, [1, 2, 3, 4].map(node));
    state.refute((&node(5), &epoch), &chunk, 9);
    assert_eq!(counts(&state, (0, u32::MAX)), (4, 1), "it does not have it any more");
    let other = acked(1, 1, 9).epoch;
    state.prove((&node(1), &other), &chunk, 105);
    state.prove((&node(2), &epoch), &acked(7, 1, 1).chunk, 105);
    assert_eq!(counts(&state, (103, 200)), (4, 0), "another store, another chunk");
    // Acknowledged once more, and kept where it was.
    state.apply(Entry::ChunkAcked(acked(1, 2, 1)));
    assert_eq!(counts(&state, (0, u32::MAX)), (4, 1));
    state.apply(Entry::ChunkAcked(acked(1, 5, 1)));
    assert_eq!(counts(&state, (0, u32::MAX)), (5, 1), "it acknowledged it anew");
}

#[test]
fn what_a_holder_takes_back_was_proven_where_it_was_until_it_acknowledges_it_anew() {
    let mut state = state(&[acked(1, 1, 1), acked(2, 1, 1)]);
    let (node, epoch) = (node(1), acked(1, 1, 1).epoch);
    let chunks = [1, 2].map(|number| acked(number, 1, 1).chunk);
    let was_audited = |state: &State| chunks.map(|chunk| state.was_audited(&node, &chunk));
    state.prove_audited((&node, &epoch), &chunks[..1], 100);
    for _ in 0..2 {
        chunks.iter().for_each(|chunk| state.refute((&node, &epoch), chunk, 200));
        assert_eq!(was_audited(&state), [true, false]);
        assert!(chunks.iter().all(|chunk| state.replicas_of(chunk, (0, u32::MAX)).acked == 0));
        assert!(state.has_unaudited(&node), "it is audited soon");
    }
    // Written down, and read.
    let mut after = super::State::default();
    for number in [1, 2] {
        after.apply(Entry::ChunkAcked(acked(number, 1, 1)));
    }
    for ((node, epoch, at_s), chunks) in state.proven((0, 300)) {
        after.on_proven(&Proven { node, epoch, at_s, chunks });
    }
    assert_eq!(was_audited(&after), [true, false]);
    for number in [1, 2] {
        after.apply(Entry::ChunkAcked(acked(number, 1, 1)));
    }
    assert_eq!(was_audited(&after), [false, false], "it is new");
}

#[test]
fn a_store_that_is_gone_counts_for_what_it_acknowledges_again_alone() {
    let acks = [acked(1, 1, 1), acked(2, 1, 1), acked(1, 2, 1), acked(3, 1, 1)];
    let mut state = state(&acks);
    let epoch = acks[0].epoch;
    let gone = |number: u8| {
        let (node, epoch) = (node(1), acked(1, 1, number).epoch);
        Entry::StoreGone { node, epoch, at_s: 5 }
    };
    state.prove((&node(1), &epoch), &acks[0].chunk, 100);
    state.prove_audited((&node(1), &epoch), &[acks[1].chunk], 100);
    state.apply(gone(2));
    assert_eq!(state.holders_of(&acks[0].chunk), [node(1), node(2)], "not the one that it has");
    state.apply(gone(1));
    assert_eq!((state.holders_of(&acks[0].chunk), state.store_of(&node(1))), (vec![node(2)], None));
    let Replicas { acked: counted, proven, .. } = state.replicas_of(&acks[0].chunk, (0, u32::MAX));
    assert_eq!((counted, proven, state.proven((0, u32::MAX)).len()), (1, 0, 0));
    state.apply(Entry::ChunkAcked(acks[1]));
    assert_eq!(state.holders_of(&acks[0].chunk), [node(2)]);
    assert_eq!(state.holders_of(&acks[1].chunk), [node(1)]);
    assert!(state.counts(&acks[1]) && !state.counts(&acks[0]) && !state.counts(&acks[3]));
    assert_eq!((state.chunks_held_by(&node(1)), state.store_of(&node(1))), (1, Some(epoch)));
    assert_eq!(state.replicas_of(&acks[1].chunk, (0, u32::MAX)).audited, 0, "nor is it proven");
    assert_eq!(state.nowhere().collect::<Vec<_>>(), [&acks[3].chunk], "it is known still");
    // A store of before does not come back with what it had either.
    state.apply(Entry::ChunkAcked(acked(4, 1, 2)));
    state.apply(gone(1));
    assert_eq!(state.store_of(&node(1)), Some(acked(4, 1, 2).epoch));
    state.apply(Entry::ChunkAcked(acks[0]));
    assert_eq!(state.chunks_held_by(&node(1)), 1);
    assert_eq!(state.holders_of(&acks[0].chunk).len(), 2);
}

proptest! {
    #[test]
    fn holders_are_those_of_a_plain_model(
        acks in proptest::collection::vec((0..6_u32, 0..7_u8, 0..3_u8), 0..120),
    ) {
        let acks: Vec<_> = acks.into_iter().map(|(c, n, e)| acked(c, n, e)).collect();
        let state = state(&acks);
        let mut model: BTreeMap<NodeId, (StoreEpoch, Vec<ChunkId>)> = BTreeMap::new();
        let mut all: BTreeMap<(NodeId, StoreEpoch), Vec<ChunkId>> = BTreeMap::new();
        for ack in &acks {
            let held = all.entry((ack.node, ack.epoch)).or_default();
            if !held.contains(&ack.chunk) {
                held.push(ack.chunk);
            }
            model.insert(ack.node, (ack.epoch, Vec::new()));
        }
        let mut held_by_all = 0;
        for chunk in 0..6 {
            let chunk = acked(chunk, 0, 0).chunk;
            let mut holders = state.holders_of(&chunk);
            holders.sort();
            holders.dedup();
            prop_assert_eq!(holders.len(), state.holders_of(&chunk).len());
            for holder in &holders {
                let (epoch, _) = &model[holder];
                prop_assert!(all[&(*holder, *epoch)].contains(&chunk));
            }
            // A store that was never replaced keeps every chunk it acknowledged.
            for ((node, epoch), held) in &all {
                let only = all.keys().filter(|(other, _)| other == node).count() == 1;
                let counted = holders.contains(node) || !only || !held.contains(&chunk);
                prop_assert!(counted, "{node:?} {epoch:?}");
            }
            held_by_all += holders.len() as u64;
        }
        let counted: u64 = model.keys().map(|node| state.chunks_held_by(node)).sum();
        prop_assert_eq!(counted, held_by_all);
        prop_assert_eq!(state.entries(), held_by_all + state.nowhere().count() as u64);
    }
}
