//! What a prune leaves in the state, whatever order its notes and acks come in.

use super::super::super::entry::tests::{acked, forgotten, root, seen, to_look_after};
use super::super::super::entry::{JobId, PutRoot};
use super::*;
use crate::core::types::NodeId;

fn doom(chunk: u32) -> Entry {
    let ck = ChunkKey::from_bytes([u8::try_from(chunk).unwrap(); 32]);
    let (chunk, awaited, asked) = (acked(chunk, 0, 0).chunk, Vec::new(), Vec::new());
    Entry::Prune(PruneNote::Doomed { chunk, ck, awaited, asked })
}

/// The same, while these nodes say that they have it, or are away.
fn doom_at(chunk: u32, nodes: impl IntoIterator<Item = u8>) -> Entry {
    let Entry::Prune(PruneNote::Doomed { chunk, ck, asked, .. }) = doom(chunk) else { panic!() };
    let awaited = nodes.into_iter().map(node).collect();
    Entry::Prune(PruneNote::Doomed { chunk, ck, awaited, asked })
}

/// The same, and these are asked to let it go by the lease that their acks name.
fn doom_asking(chunk: u32, nodes: impl IntoIterator<Item = u8>) -> Entry {
    let Entry::Prune(PruneNote::Doomed { chunk, ck, awaited, .. }) = doom(chunk) else { panic!() };
    let asked = nodes.into_iter().map(|number| (node(number), acked(0, 0, 0).lease));
    let asked = asked.collect();
    Entry::Prune(PruneNote::Doomed { chunk, ck, awaited, asked })
}

/// An ack of what was stored anew.
fn ack_anew(chunk: u32, node: u8, epoch: u8) -> Entry {
    let lease = LeaseNonce::from_bytes([9; 16]);
    Entry::ChunkAcked(ChunkAcked { lease, ..acked(chunk, node, epoch) })
}

fn unheard(state: &State, chunk: u32) -> BTreeSet<NodeId> {
    let unheard = state.unheard(&acked(chunk, 0, 0).chunk);
    unheard.into_iter().map(|(node, _)| node).collect()
}

fn note(note: PruneNote) -> Entry {
    Entry::Prune(note)
}

fn state(entries: Vec<Entry>) -> State {
    let mut state = State::default();
    entries.into_iter().for_each(|entry| state.apply(entry));
    state
}

fn ack(chunk: u32, node: u8, epoch: u8) -> Entry {
    Entry::ChunkAcked(acked(chunk, node, epoch))
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

#[test]
fn a_doomed_chunk_is_not_known_as_stored_until_it_is_acknowledged_again() {
    let acks = (1..=5).map(|node| ack(1, node, 1));
    let mut state = state(acks.chain([ack(2, 1, 1), doom(1)]).collect());
    let chunk = acked(1, 0, 0).chunk;
    assert!(state.holders_of(&chunk).is_empty() && state.is_doomed(&chunk));
    assert_eq!(state.waiting_for(&chunk), (1..=5).map(node).collect());
    assert_eq!((state.chunks_held_by(&node(1)), state.chunks_held_by(&node(5))), (1, 0));
    state.apply(note(PruneNote::LetGo { chunk, node: node(2) }));
    assert_eq!(state.waiting_for(&chunk), [1, 3, 4, 5].map(node).into());
    state.apply(ack(1, 7, 1));
    assert_eq!(state.holders_of(&chunk), [node(7)]);
    assert_eq!(state.waiting_for(&chunk), [1, 3, 4, 5].map(node).into(), "as before");
    state.apply(note(PruneNote::Spared(chunk)));
    assert!(!state.is_doomed(&chunk) && state.waiting_for(&chunk).is_empty());
    assert_eq!(state.holders_of(&chunk), [node(7)]);
}

/// What may happen at a node that was asked to let a chunk go, and what it comes to: whether it
/// counts as a holder, and whether it is unheard still.
#[test]
fn an_ack_under_the_lease_of_an_unanswered_release_does_not_count_in_any_order() {
    let chunk = acked(1, 0, 0).chunk;
    let (held_again, let_go) = (
        || note(PruneNote::HeldAgain { chunk, node: node(1) }),
        || note(PruneNote::LetGo { chunk, node: node(1) }),
    );
    let [old, anew] = [|| ack(1, 1, 1), || ack_anew(1, 1, 1)];
    let cases: [(&str, Vec<Entry>, bool, bool); 12] = [
        ("nothing", vec![], false, true),
        ("the old lease", vec![old()], false, true),
        ("twice", vec![old(), old()], false, true),
        ("stored anew", vec![anew()], true, false),
        ("the old lease, then stored anew", vec![old(), anew()], true, false),
        ("taken back", vec![held_again()], true, false),
        ("the old lease, then taken back", vec![old(), held_again()], true, false),
        ("taken back, then the old lease", vec![held_again(), old()], true, false),
        ("let go", vec![let_go()], false, false),
        ("the old lease, then let go", vec![old(), let_go()], false, false),
        ("let go, then stored anew", vec![let_go(), anew()], true, false),
        ("asked again", vec![old(), held_again(), doom_asking(1, [1]), old()], false, true),
    ];
    for (name, entries, is_held, is_unheard) in cases {
        // Another node is unheard all the while, or was never asked.
        for other_unheard in [false, true] {
            let mut state = state(vec![ack(1, 1, 1), ack(1, 2, 1), ack(1, 3, 1)]);
            let other = other_unheard.then_some(2);
            state.apply(doom_asking(1, [1].into_iter().chain(other)));
            for entry in &entries {
                // Entries hold keys, and are not cloned.
                let mut bytes = Vec::new();
                entry.encode(&mut bytes).unwrap();
                state.apply(Entry::decode(&mut bytes.as_slice()).unwrap());
            }
            let held: BTreeSet<NodeId> = state.holders_of(&chunk).into_iter().collect();
            assert_eq!(held.contains(&node(1)), is_held, "{name}");
            assert_eq!(unheard(&state, 1).contains(&node(1)), is_unheard, "{name}");
            assert_eq!(unheard(&state, 1).contains(&node(2)), other_unheard, "{name}");
            assert!(state.is_doomed(&chunk), "others are to be asked: {name}");
            state.apply(ack(1, 2, 1));
            let counts = state.holders_of(&chunk).contains(&node(2));
            assert_eq!(counts, !other_unheard, "{name}");
            state.apply(ack(1, 4, 1));
            assert!(state.holders_of(&chunk).contains(&node(4)), "it was never asked");
            assert_same_when_compacted(&state, &[1, 2, 3, 4]);
        }
    }
}

/// What a compaction writes comes to the same of the first chunk.
fn assert_same_when_compacted(before: &State, nodes: &[u8]) {
    let chunk = acked(1, 0, 0).chunk;
    let acks = nodes.iter().map(|node| acked(1, *node, 1)).filter(|ack| before.counts(ack));
    let mut entries: Vec<Entry> = acks.map(Entry::ChunkAcked).collect();
    let gather = |entry| {
        entries.push(entry);
        Ok::<_, ()>(())
    };
    before.each_prune_entry(gather).unwrap();
    assert_eq!(entries.len() as u64, before.entries());
    let after = state(entries);
    let sorted = |state: &State| state.holders_of(&chunk).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(sorted(&after), sorted(before));
    assert_eq!(unheard(&after, 1), unheard(before, 1));
    assert_eq!(after.waiting_for(&chunk), before.waiting_for(&chunk));
    for number in nodes.iter().map(|number| node(*number)) {
        assert_eq!(after.had_acked(&chunk, &number), before.had_acked(&chunk, &number));
    }
}

#[test]
fn who_was_asked_and_not_heard_is_remembered_after_the_end_of_the_prune() {
    let chunk = acked(1, 0, 0).chunk;
    let mut state = state(vec![ack(1, 1, 1), doom_asking(1, [1, 6])]);
    state.apply(note(PruneNote::Begun(OpenPrune { prune: [1; 16], grace_s: 5, at: 6 })));
    state.apply(note(PruneNote::LetGo { chunk, node: node(1) }));
    state.apply(note(PruneNote::Ended([1; 16])));
    assert_eq!(unheard(&state, 1), [node(6)].into());
    assert_eq!(state.waiting_for(&chunk), [node(6)].into(), "it says that it has the chunk");
    // It says that it keeps it, and has acknowledged nothing.
    state.apply(note(PruneNote::HeldAgain { chunk, node: node(6) }));
    assert!(unheard(&state, 1).is_empty() && state.holders_of(&chunk).is_empty());
    state.apply(ack(1, 6, 1));
    assert_eq!(state.holders_of(&chunk), [node(6)]);
    // Whether that is needed the next prune finds: it spares the chunk, or lets it go.
    let open = OpenPrune { prune: [2; 16], grace_s: 5, at: 6 };
    state.apply(note(PruneNote::Begun(open)));
    state.apply(note(PruneNote::Ended([2; 16])));
    assert!(state.is_doomed(&chunk) && state.waiting_for(&chunk).is_empty());
    state.apply(note(PruneNote::Spared(chunk)));
    assert!(!state.is_doomed(&chunk) && state.holders_of(&chunk) == [node(6)]);
}

#[test]
fn the_end_of_a_prune_leaves_what_somebody_is_still_to_be_asked_for() {
    let mut state = state(vec![ack(1, 1, 1), ack(2, 2, 1), ack(3, 3, 1)]);
    let open = OpenPrune { prune: [1; 16], grace_s: 5, at: 6 };
    state.apply(note(PruneNote::Begun(open)));
    (1..=3).for_each(|chunk| state.apply(doom(chunk)));
    let chunk = |number| acked(number, 0, 0).chunk;
    state.apply(note(PruneNote::LetGo { chunk: chunk(1), node: node(1) }));
    // The third node has another store by now.
    state.apply(ack(9, 3, 2));
    assert_eq!(state.open_prune(), Some(open));
    state.apply(note(PruneNote::Ended([1; 16])));
    assert_eq!(state.open_prune(), None);
    assert_eq!(state.doomed().map(|(id, _)| *id).collect::<Vec<_>>(), [chunk(2)]);
    state.apply(note(PruneNote::Spared(chunk(2))));
    assert!(state.doomed().next().is_none() && state.holders_of(&chunk(2)).is_empty());
}

#[test]
fn a_chunk_of_which_no_ack_is_known_waits_for_those_that_have_it_or_are_away() {
    let chunk = |number| acked(number, 0, 0).chunk;
    let mut state = state(vec![ack(1, 1, 1), doom_at(1, [1, 2]), doom_at(2, [2, 3])]);
    state.apply(note(PruneNote::Begun(OpenPrune { prune: [1; 16], grace_s: 5, at: 6 })));
    assert_eq!(state.waiting_for(&chunk(1)), [1, 2].map(node).into());
    state.apply(note(PruneNote::LetGo { chunk: chunk(1), node: node(1) }));
    state.apply(note(PruneNote::LetGo { chunk: chunk(2), node: node(3) }));
    state.apply(note(PruneNote::Ended([1; 16])));
    assert_eq!(state.doomed().count(), 2, "one node is to be asked for both");
    // The next prune finds another one away.
    state.apply(doom_at(2, [4, 2]));
    assert_eq!(state.waiting_for(&chunk(2)), [2, 4].map(node).into());
    for (number, by) in [(1, 2), (2, 2), (2, 4)] {
        state.apply(note(PruneNote::LetGo { chunk: chunk(number), node: node(by) }));
    }
    assert!(state.waiting_for(&chunk(1)).is_empty() && state.is_doomed(&chunk(1)));
    assert!(state.had_acked(&chunk(1), &node(1)) && !state.was_acked(&chunk(2)));
    state.apply(note(PruneNote::Begun(OpenPrune { prune: [2; 16], grace_s: 5, at: 6 })));
    state.apply(note(PruneNote::Ended([2; 16])));
    assert_eq!((state.doomed().count(), state.awaited().count()), (0, 0));
    // Nodes without end are not remembered.
    state.apply(doom_at(3, 0..=u8::MAX));
    assert_eq!(state.waiting_for(&chunk(3)).len(), AWAITED_MAX);
}

#[test]
fn a_snapshot_that_was_pruned_is_not_seen_anew() {
    let id = seen(1).id;
    let mut state = state(vec![note(PruneNote::SnapshotSeen(seen(1)))]);
    state.apply(note(PruneNote::SnapshotForgotten(forgotten(1))));
    state.apply(note(PruneNote::SnapshotForgotten(forgotten(9))));
    assert_eq!(state.noted_snapshot(&id).unwrap().forgotten, Some(forgotten(1)));
    assert_eq!((state.noted_snapshots().count(), state.entries()), (1, 2));
    state.apply(note(PruneNote::SnapshotKept(id)));
    assert_eq!(state.noted_snapshot(&id).unwrap().forgotten, None, "it is live again");
    state.apply(note(PruneNote::SnapshotPruned(id)));
    state.apply(note(PruneNote::SnapshotSeen(seen(1))));
    assert!(state.noted_snapshots().next().is_none() && state.is_noted(&id));
    assert_eq!((state.pruned_snapshots().collect::<Vec<_>>(), state.entries()), (vec![&id], 1));
    state.apply(note(PruneNote::SnapshotOver(id)));
    assert!(!state.is_noted(&id) && state.entries() == 0);
}

#[test]
fn a_root_that_was_let_go_is_listed_no_more() {
    let mut state = state(vec![Entry::PutDone(root(1)), Entry::PutDone(root(2))]);
    // The same content under another name is another file.
    let other = PutRoot { name: "other".to_owned(), ..root(1) };
    state.apply(Entry::PutDone(PutRoot { job: JobId(3), ..other }));
    state.apply(note(PruneNote::RootDropped(root(1).capability.id, root(1).name)));
    let mut left: Vec<u64> = state.roots().map(|root| root.job.0).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3]);
}

#[test]
fn what_a_compaction_writes_comes_to_the_same() {
    let chunk = acked(1, 0, 0).chunk;
    let acks = vec![ack(1, 1, 1), ack(1, 2, 1), ack(2, 1, 1)];
    let before = state(
        acks.into_iter()
            .chain([
                note(PruneNote::SnapshotSeen(seen(1))),
                note(PruneNote::SnapshotForgotten(forgotten(1))),
                note(PruneNote::SnapshotPruned(seen(2).id)),
                note(PruneNote::Aged { age_s: 3, wall_s: 4 }),
                note(PruneNote::Begun(OpenPrune { prune: [1; 16], grace_s: 5, at: 6 })),
                note(PruneNote::ChainChecked { index: 4, length: 9 }),
                note(PruneNote::ToLookAfter(to_look_after(1))),
                note(PruneNote::ToLookAfter(to_look_after(2))),
                note(PruneNote::LookedAfter(to_look_after(1).id)),
                doom_at(1, [5, 6]),
                note(PruneNote::LetGo { chunk, node: node(2) }),
                note(PruneNote::LetGo { chunk, node: node(5) }),
                note(PruneNote::Asked(node(8))),
            ])
            .collect(),
    );
    // The acks that count, then the rest.
    let all = [acked(1, 1, 1), acked(1, 2, 1), acked(2, 1, 1)];
    let mut entries: Vec<Entry> =
        all.into_iter().filter(|ack| before.counts(ack)).map(Entry::ChunkAcked).collect();
    assert_eq!(entries.len(), 3, "that of who has let it go, too");
    let gather = |entry| {
        entries.push(entry);
        Ok::<_, ()>(())
    };
    before.each_prune_entry(gather).unwrap();
    assert_eq!(entries.len() as u64, before.entries());
    let after = state(entries);
    let told = |state: &State| {
        let mut told = Vec::new();
        let each = state.each_prune_entry(|entry| {
            told.push(format!("{entry:?}"));
            Ok::<_, ()>(())
        });
        each.map(|()| told)
    };
    assert_eq!(told(&after), told(&before));
    assert_eq!(after.waiting_for(&chunk), [1, 6].map(node).into());
    let left: Vec<SnapshotId> = after.to_look_after().map(|it| it.id).collect();
    assert_eq!(left, [to_look_after(2).id]);
    assert!(after.had_acked(&chunk, &node(2)) && !after.had_acked(&chunk, &node(3)));
    assert_eq!(after.asked().iter().collect::<Vec<_>>(), [&node(8)]);
    assert_eq!(after.holders_of(&acked(2, 0, 0).chunk), [node(1)]);
}
