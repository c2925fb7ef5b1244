//! Of who holds what, through acks, losses, prunes and audits.

use super::super::super::entry::tests::{acked, lost};
use super::super::super::entry::{Entry, OpenPrune, Proven, PruneNote};
use super::*;
use crate::core::types::LeaseNonce;
use crate::crypto::keys::ChunkKey;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn id(chunk: u32) -> ChunkId {
    acked(chunk, 0, 0).chunk
}

fn epoch(number: u8) -> StoreEpoch {
    acked(0, 0, number).epoch
}

fn ack(chunk: u32, node: u8, epoch: u8) -> Entry {
    Entry::ChunkAcked(acked(chunk, node, epoch))
}

fn loss(chunk: u32, node: u8, epoch: u8) -> Entry {
    Entry::ReplicaLost(lost(chunk, node, epoch))
}

fn doom(chunk: u32, asked: &[u8]) -> Entry {
    let asked = asked.iter().map(|number| (node(*number), acked(0, 0, 0).lease)).collect();
    let (chunk, ck, awaited) = (id(chunk), ChunkKey::from_bytes([1; 32]), Vec::new());
    Entry::Prune(PruneNote::Doomed { chunk, ck, awaited, asked })
}

fn gone(number: u8, of: u8) -> Entry {
    Entry::StoreGone { node: node(number), epoch: epoch(of), at_s: 9 }
}

fn note(note: PruneNote) -> Entry {
    Entry::Prune(note)
}

fn state(entries: impl IntoIterator<Item = Entry>) -> State {
    let mut state = State::default();
    entries.into_iter().for_each(|entry| state.apply(entry));
    state
}

fn holders(state: &State, chunk: u32) -> BTreeSet<NodeId> {
    let holders = state.holders_of(&id(chunk));
    let all: BTreeSet<NodeId> = holders.iter().copied().collect();
    assert_eq!(all.len(), holders.len(), "nobody holds a chunk twice");
    all
}

fn short(state: &State, wanted: usize) -> Vec<(ChunkId, usize)> {
    state.chunks_short(wanted, None, usize::MAX)
}

/// What a compaction writes of all this, of acks that were all made in this order.
fn compacted(before: &State, acks: &[ChunkAcked]) -> State {
    let last: BTreeMap<(ChunkId, NodeId), ChunkAcked> = acks
        .iter()
        .filter(|acked| before.counts(acked))
        .map(|acked| ((acked.chunk, acked.node), *acked))
        .collect();
    let mut entries: Vec<Entry> = last.into_values().map(Entry::ChunkAcked).collect();
    entries.extend(before.nowhere().map(|chunk| Entry::ChunkNowhere(*chunk)));
    entries.extend(before.losses().copied().map(Entry::ReplicaLost));
    let gather = |entry| {
        entries.push(entry);
        Ok::<_, ()>(())
    };
    before.each_prune_entry(gather).unwrap();
    assert_eq!(entries.len() as u64, before.entries());
    state(entries)
}

/// What is counted by store is what a look at every replica counts.
fn assert_counted(state: &State) {
    let all: Vec<&Replica> =
        state.holders.iter().flat_map(|(id, slots)| state.all(id, slots)).collect();
    for (at, store) in state.stores.iter().enumerate() {
        let of: Vec<_> = all.iter().filter(|held| usize::try_from(held.store) == Ok(at)).collect();
        let unaudited = of.iter().filter(|held| held.audited_s == 0).count();
        assert_eq!((store.chunks, store.unaudited), (of.len() as u64, unaudited as u64));
    }
}

#[test]
fn a_chunk_with_three_holders_lies_in_68_bytes() {
    assert_eq!((size_of::<Replica>(), size_of::<(ChunkId, Slots)>()), (12, 68));
}

#[test]
fn a_lost_replica_counts_no_more_until_its_node_acknowledges_the_chunk_anew() {
    // The first three holders of a chunk lie elsewhere than the others.
    for number in 1..=5 {
        let all: BTreeSet<NodeId> = (1..=5).map(node).collect();
        let acks: Vec<ChunkAcked> = (1..=5).map(|number| acked(1, number, 1)).collect();
        let mut state = state(acks.iter().copied().map(Entry::ChunkAcked));
        state.apply(loss(1, number, 1));
        state.apply(loss(1, number, 1));
        let mut others = all.clone();
        others.remove(&node(number));
        assert_eq!(holders(&state, 1), others);
        assert_eq!((state.chunks_held_by(&node(number)), state.entries()), (0, 4 + 1));
        assert_eq!(state.replicas_of(&id(1), (0, 9)).acked, 4);
        assert!(!state.counts(&acked(1, number, 1)));
        assert!(state.held_by(&node(number), None, 9).is_empty());
        assert_eq!((short(&state, 4), short(&state, 5)), (vec![], vec![(id(1), 4)]));
        assert_eq!(holders(&compacted(&state, &acks), 1), others, "compaction revives nothing");
        // Of the same store, by the same lease.
        state.apply(ack(1, number, 1));
        assert_eq!((holders(&state, 1), state.entries()), (all, 5));
        assert_eq!(state.chunks_held_by(&node(number)), 1);
        for number in 1..=5 {
            state.apply(loss(1, number, 1));
        }
        assert!(holders(&state, 1).is_empty() && state.more.is_empty());
        assert_eq!(state.chunk_ids().collect::<Vec<_>>(), [&id(1)], "the chunk is known");
    }
}

#[test]
fn what_was_not_held_is_not_lost() {
    let mut state = state([ack(1, 1, 1), ack(2, 1, 1), ack(1, 1, 2)]);
    for loss in [loss(1, 2, 1), loss(9, 1, 2), loss(1, 1, 9), loss(1, 1, 1)] {
        state.apply(loss);
    }
    assert_eq!(holders(&state, 1), [node(1)].into(), "another store had it before");
    assert_eq!(state.chunk_ids().collect::<Vec<_>>(), [&id(1), &id(2)]);
    assert_eq!(state.chunks_held_by(&node(1)), 1);
}

#[test]
fn a_chunk_that_nobody_has_stays_known_and_short_through_a_compaction() {
    let acks = [acked(1, 1, 1), acked(2, 1, 1), acked(3, 2, 1), acked(3, 3, 1), acked(4, 1, 2)];
    let mut state = state(acks.map(Entry::ChunkAcked));
    // One had all of its holders' stores made anew, one lost its replicas.
    state.apply(loss(3, 2, 1));
    state.apply(loss(3, 3, 1));
    state.apply(ack(2, 4, 1));
    let all = [(id(1), 0), (id(2), 1), (id(3), 0), (id(4), 1)];
    for state in [&state, &compacted(&state, &[&acks[..], &[acked(2, 4, 1)]].concat())] {
        assert_eq!((short(state, 0), short(state, 1)), (vec![], vec![all[0], all[2]]));
        assert_eq!(short(state, 2), all);
        assert_eq!(state.chunks_short(2, None, 2), all[..2]);
        assert_eq!(state.chunks_short(2, Some(&id(2)), 9), all[2..]);
        assert!(state.chunks_short(2, Some(&id(4)), 9).is_empty());
        assert_eq!((state.chunks(), state.nowhere().count(), state.entries()), (4, 2, 4 + 2));
    }
}

#[test]
fn what_is_let_go_is_not_short_and_a_late_loss_does_not_bring_it_back() {
    let mut state = state([ack(1, 1, 1), ack(1, 2, 1), ack(2, 1, 1)]);
    let open = OpenPrune { prune: [1; 16], grace_s: 5, at: 6 };
    state.apply(note(PruneNote::Begun(open)));
    state.apply(loss(2, 1, 1));
    assert_eq!(short(&state, 3), [(id(1), 2), (id(2), 0)]);
    state.apply(doom(1, &[1, 2]));
    state.apply(doom(2, &[]));
    assert!(short(&state, 3).is_empty() && state.chunk_ids().next().is_none());
    assert!(state.waiting_for(&id(2)).is_empty(), "who lost it before has not to be asked");
    // An audit that was on its way comes upon them.
    let told = |state: &State| {
        let acked = [1, 2].map(|number| state.had_acked(&id(1), &node(number)));
        (state.waiting_for(&id(1)), state.unheard(&id(1)), acked, state.was_acked(&id(1)))
    };
    let before = told(&state);
    [loss(1, 1, 1), loss(1, 2, 1), loss(2, 1, 1)].into_iter().for_each(|it| state.apply(it));
    assert_eq!((told(&state), state.is_doomed(&id(1))), (before, true), "they are asked still");
    let acks = [acked(1, 1, 1), acked(1, 2, 1), acked(2, 1, 1)];
    assert_eq!(told(&compacted(&state, &acks)), told(&state));
    for number in [1, 2] {
        state.apply(note(PruneNote::LetGo { chunk: id(1), node: node(number) }));
    }
    state.apply(note(PruneNote::Ended([1; 16])));
    assert!(state.doomed().next().is_none());
    [loss(1, 1, 1), loss(2, 1, 1)].into_iter().for_each(|it| state.apply(it));
    assert!(short(&state, 3).is_empty() && state.chunks() == 0);
    assert_eq!((state.nowhere().count(), compacted(&state, &acks).chunks()), (0, 0));
}

#[test]
fn what_was_stored_again_while_it_was_let_go_and_lost_then_is_let_go() {
    let anew = ChunkAcked { lease: LeaseNonce::from_bytes([9; 16]), ..acked(1, 1, 1) };
    let acks = [acked(1, 1, 1), acked(1, 2, 1), anew];
    let begin = || {
        let mut state = state([ack(1, 1, 1), ack(1, 2, 1)]);
        state.apply(note(PruneNote::Begun(OpenPrune { prune: [1; 16], grace_s: 5, at: 6 })));
        state.apply(doom(1, &[1, 2]));
        state.apply(Entry::ChunkAcked(anew));
        assert_eq!(holders(&state, 1), [node(1)].into());
        assert!(short(&state, 3).is_empty(), "the next prune spares it, or lets it go");
        state.apply(loss(1, 1, 1));
        state
    };
    let mut state = begin();
    assert!(holders(&state, 1).is_empty() && state.chunks() == 0);
    assert_eq!(state.waiting_for(&id(1)), [node(2)].into());
    assert!(!state.had_acked(&id(1), &node(1)), "its word alone does not make it a holder");
    state.apply(note(PruneNote::HeldAgain { chunk: id(1), node: node(1) }));
    assert!(holders(&state, 1).is_empty());
    assert!(holders(&compacted(&state, &acks), 1).is_empty());
    state.apply(note(PruneNote::LetGo { chunk: id(1), node: node(2) }));
    state.apply(note(PruneNote::Ended([1; 16])));
    assert!(!state.is_doomed(&id(1)) && short(&state, 1).is_empty(), "nothing is left of it");

    // It is needed after all: then somebody is to be given it.
    let mut state = begin();
    state.apply(note(PruneNote::Spared(id(1))));
    assert_eq!(short(&state, 1), [(id(1), 0)]);
    assert_eq!(short(&compacted(&state, &acks), 1), [(id(1), 0)]);
    state.apply(note(PruneNote::Spared(id(7))));
    assert_eq!(state.chunks(), 1, "it was never let go");
}

#[test]
fn a_store_that_lost_a_chunk_and_is_asked_to_let_go_another_is_unheard_still() {
    let mut state = state([ack(1, 1, 1), ack(2, 1, 1), doom(1, &[1])]);
    state.apply(loss(2, 1, 1));
    assert_eq!(state.unheard(&id(1)), [(node(1), acked(0, 0, 0).lease)]);
    state.apply(ack(1, 1, 1));
    assert!(holders(&state, 1).is_empty(), "an ack under the lease that it is asked by");
    state.apply(ack(2, 1, 1));
    assert_eq!(holders(&state, 2), [node(1)].into());
}

#[test]
fn pages_of_what_a_node_holds_are_ascending_and_of_its_current_store() {
    let acks = (0..9).map(|chunk| ack(chunk, 1, 1));
    let others = (0..9).flat_map(|chunk| (2..=5).map(move |node| ack(chunk, node, 1)));
    // Of every other chunk the node is the fifth holder.
    let mut state = state(acks.step_by(2).chain(others));
    (1..9).step_by(2).for_each(|chunk| state.apply(ack(chunk, 1, 1)));
    let all: Vec<ChunkId> = (0..9).map(id).collect();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = state.held_by(&node(1), after.as_ref(), 4);
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        pages.push(page);
    }
    assert_eq!((pages.len(), pages.concat()), (3, all));
    state.apply(ack(4, 1, 2));
    assert_eq!(state.held_by(&node(1), None, 9), [id(4)]);
    state.store_is_gone((&node(1), &epoch(2)), 5);
    assert!(state.held_by(&node(1), None, 9).is_empty());
    assert!(state.held_by(&node(9), None, 9).is_empty());
}

#[test]
fn what_audits_proved_counts_until_the_replica_is_lost_or_its_holder_denies_it() {
    let mut state = state((1..=5).map(|number| ack(1, number, 1)).chain([ack(2, 5, 1)]));
    let window = (100, 200);
    let told = |state: &State| {
        let all = state.replicas_of(&id(1), window);
        (all.acked, all.proven, all.audited, state.audited_within(&id(1), window))
    };
    assert_eq!(told(&state), (5, 0, 0, 0));
    // One before, one within, one that lies ahead, one of another store.
    for (number, of, at_s) in [(1, 1, 99), (2, 1, 100), (5, 1, 150), (3, 1, 201), (4, 2, 150)] {
        state.prove_audited((&node(number), &epoch(of)), &[id(1), id(7)], at_s);
    }
    assert_eq!(told(&state), (5, 2, 3, 2), "a proof shows that it is there, too");
    let due = |state: &State, number| state.due_at(&node(number), window, None, 9);
    assert_eq!([1, 2, 3, 4].map(|number| due(&state, number).len()), [1, 0, 1, 1]);
    assert_eq!(due(&state, 5), [id(2)], "it was never proven");
    assert_eq!(state.due_at(&node(5), window, Some(&id(2)), 9), []);
    assert_eq!(state.due_at(&node(5), (151, 200), None, 1), [id(1)]);
    let counts = state.audit_counts(&node(5), (151, 200));
    assert_eq!((counts.held, counts.proven, counts.oldest_proven_s), (2, 0, Some(150)));
    let counts = [1, 3, 4].map(|number| state.audit_counts(&node(number), window));
    assert_eq!(counts.map(|it| (it.held, it.proven)), [(1, 0); 3]);
    assert_eq!(counts.map(|it| it.oldest_proven_s), [Some(99), None, None]);
    // What another device may have let go is not proven undone.
    state.disbelieve_before(200);
    assert_eq!(told(&state), (5, 0, 3, 2));
    // Said once more, and acknowledged once more.
    state.prove((&node(2), &epoch(1)), &id(1), 120);
    state.apply(ack(1, 2, 1));
    assert_eq!(told(&state), (5, 1, 3, 2));
    state.refute((&node(2), &epoch(1)), &id(1), 9);
    assert_eq!(told(&state), (4, 0, 2, 1), "it says that it does not have it");
    for entry in [loss(1, 5, 1), ack(1, 5, 1)] {
        state.apply(entry);
    }
    assert_eq!(told(&state), (4, 0, 1, 0), "of what it stored anew nothing is proven");
    state.apply(ack(3, 1, 2));
    assert_eq!(told(&state), (3, 0, 0, 0), "what its other store proved means nothing");
}

/// What is told by something that knows every replica of the stores that count, and no more.
#[derive(Default)]
struct Model {
    epochs: BTreeMap<u8, u8>,
    /// By chunk and node, when it was proven.
    held: BTreeMap<(u32, u8), u32>,
    known: BTreeSet<u32>,
    lost: BTreeSet<(u32, u8)>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ack(u32, u8),
    /// The same with a new store.
    AckAnew(u32, u8),
    Lose(u32, u8),
    /// By a store of before.
    LoseBefore(u32, u8),
    Audit(u32, u8, u32),
    Deny(u32, u8),
    /// As it is read back from its file.
    ReadBack(u32, u8, u32),
    Gone(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..17_u8, 0..5_u32, 1..7_u8, 1..9_u32);
    let step = step.prop_map(|(kind, chunk, node, at_s)| match kind {
        0..6 => Step::Ack(chunk, node),
        6 => Step::AckAnew(chunk, node),
        7..10 => Step::Lose(chunk, node),
        10 => Step::LoseBefore(chunk, node),
        11 | 12 => Step::Audit(chunk, node, at_s),
        13 => Step::ReadBack(chunk, node, at_s),
        14 => Step::Gone(node),
        _ => Step::Deny(chunk, node),
    });
    proptest::collection::vec(step, 0..150)
}

impl Model {
    /// Does the same in both, and says which ack that was.
    fn step(&mut self, step: Step, state: &mut State) -> Option<ChunkAcked> {
        let of = |model: &Self, number: u8| model.epochs.get(&number).copied().unwrap_or(0);
        match step {
            Step::Ack(chunk, number) | Step::AckAnew(chunk, number) => {
                if matches!(step, Step::AckAnew(..)) {
                    self.held.retain(|(_, holder), _| *holder != number);
                    *self.epochs.entry(number).or_default() += 1;
                }
                let epoch = *self.epochs.entry(number).or_default();
                self.held.entry((chunk, number)).or_insert(0);
                self.known.insert(chunk);
                self.lost.remove(&(chunk, number));
                state.apply(ack(chunk, number, epoch));
                return Some(acked(chunk, number, epoch));
            }
            Step::Lose(chunk, number) => {
                self.held.remove(&(chunk, number));
                self.lose(chunk, number);
                state.apply(loss(chunk, number, of(self, number)));
            }
            Step::LoseBefore(chunk, number) => {
                if let Some(before) = of(self, number).checked_sub(1) {
                    self.lose(chunk, number);
                    state.apply(loss(chunk, number, before));
                }
            }
            Step::Audit(chunk, number, at_s) => {
                self.held.entry((chunk, number)).and_modify(|proven| *proven = at_s);
                let epoch = epoch(of(self, number));
                state.prove_audited((&node(number), &epoch), &[id(chunk)], at_s);
            }
            Step::Deny(chunk, number) => {
                self.held.entry((chunk, number)).and_modify(|proven| *proven = 0);
                state.refute((&node(number), &epoch(of(self, number))), &id(chunk), 9);
            }
            Step::ReadBack(chunk, number, at_s) => {
                self.held.entry((chunk, number)).and_modify(|proven| *proven = at_s);
                let (node, epoch) = (node(number), epoch(of(self, number)));
                let chunks = vec![Proven::prefix(&id(chunk))];
                state.apply(Entry::Audited(Proven { node, epoch, at_s, chunks }));
            }
            Step::Gone(number) => {
                self.held.retain(|(_, holder), _| *holder != number);
                state.apply(gone(number, of(self, number)));
            }
        }
        None
    }

    fn lose(&mut self, chunk: u32, number: u8) {
        if self.known.contains(&chunk) && !self.held.contains_key(&(chunk, number)) {
            self.lost.insert((chunk, number));
        }
    }

    fn holders(&self, chunk: u32) -> BTreeSet<NodeId> {
        let of = self.held.keys().filter(|(held, _)| *held == chunk);
        of.map(|(_, number)| node(*number)).collect()
    }

    /// What must be so of both, but for the times.
    fn assert_holders(&self, state: &State) {
        let known: Vec<ChunkId> = self.known.iter().map(|chunk| id(*chunk)).collect();
        assert_eq!(state.chunk_ids().copied().collect::<Vec<_>>(), known);
        let held = |chunk: &u32| (id(*chunk), self.holders(*chunk).len());
        for wanted in 0..7 {
            let all = self.known.iter().map(held).filter(|(_, held)| *held < wanted);
            assert_eq!(short(state, wanted), all.collect::<Vec<_>>());
        }
        (0..5).for_each(|chunk| assert_eq!(holders(state, chunk), self.holders(chunk)));
        for number in 1..7 {
            let held = self.held.keys().filter(|(_, holder)| *holder == number);
            let held: Vec<ChunkId> = held.map(|(chunk, _)| id(*chunk)).collect();
            assert_eq!(state.held_by(&node(number), None, 9), held);
            assert_eq!(state.chunks_held_by(&node(number)), held.len() as u64);
        }
        let nowhere = self.known.iter().filter(|chunk| self.holders(**chunk).is_empty()).count();
        assert_eq!(state.nowhere().count(), nowhere);
        assert_eq!(state.entries(), (self.held.len() + nowhere + self.lost.len()) as u64);
        let lost: BTreeSet<_> = state.losses().map(|lost| (lost.chunk, lost.node)).collect();
        let expected = self.lost.iter().map(|(chunk, number)| (id(*chunk), node(*number)));
        assert_eq!(lost, expected.collect());
    }

    fn assert_times(&self, state: &State, window: (u32, u32)) {
        let is_within = |at_s: u32| at_s > 0 && (window.0..=window.1).contains(&at_s);
        for chunk in 0..5 {
            let of = self.held.iter().filter(|((held, _), _)| *held == chunk);
            let times: Vec<u32> = of.map(|(_, at_s)| *at_s).collect();
            let within = times.iter().filter(|at_s| is_within(**at_s)).count();
            assert_eq!(state.audited_within(&id(chunk), window), within);
            let ever = times.iter().filter(|at_s| (1..=window.1).contains(*at_s)).count();
            assert_eq!(state.replicas_of(&id(chunk), window).audited, ever);
        }
        for number in 1..7 {
            let of = self.held.iter().filter(|((_, holder), _)| *holder == number);
            let of: Vec<(u32, u32)> = of.map(|((chunk, _), at_s)| (*chunk, *at_s)).collect();
            let due = of.iter().filter(|(_, at_s)| !is_within(*at_s));
            let due: Vec<ChunkId> = due.map(|(chunk, _)| id(*chunk)).collect();
            assert_eq!(state.due_at(&node(number), window, None, 9), due);
            let is_open = of.iter().any(|(_, at_s)| *at_s == 0);
            assert_eq!(state.has_unaudited(&node(number)), is_open);
            let counts = state.audit_counts(&node(number), window);
            assert_eq!(
                (counts.held, counts.proven),
                (of.len() as u64, (of.len() - due.len()) as u64)
            );
            let oldest =
                of.iter().map(|(_, at_s)| *at_s).filter(|at_s| (1..=window.1).contains(at_s));
            assert_eq!(counts.oldest_proven_s, oldest.min().map(u64::from));
        }
    }
}

/// What happens around a prune: of a chunk, by or to a node.
#[derive(Debug, Clone, Copy)]
enum PruneStep {
    /// By the lease of before, or a new one.
    Ack(u32, u8, u8),
    Lose(u32, u8),
    /// Those of the nodes are asked whose bits are set.
    Doom(u32, u8),
    LetGo(u32, u8),
    HeldAgain(u32, u8),
    Spare(u32),
    End,
    /// A node's store is gone.
    Gone(u8),
}

fn prune_steps() -> impl Strategy<Value = Vec<PruneStep>> {
    let step = (0..15_u8, 0..2_u32, 1..5_u8, any::<u8>());
    let step = step.prop_map(|(kind, chunk, node, bits)| match kind {
        0..4 => PruneStep::Ack(chunk, node, bits % 2),
        4..7 => PruneStep::Lose(chunk, node),
        7 | 8 => PruneStep::Doom(chunk, bits),
        9 => PruneStep::LetGo(chunk, node),
        10 | 11 => PruneStep::HeldAgain(chunk, node),
        12 => PruneStep::Spare(chunk),
        13 => PruneStep::Gone(node),
        _ => PruneStep::End,
    });
    proptest::collection::vec(step, 0..40)
}

/// Returns the ack that it was.
fn prune_step(step: PruneStep, state: &mut State) -> Option<ChunkAcked> {
    let entry = match step {
        PruneStep::Ack(chunk, number, lease) => {
            let lease = LeaseNonce::from_bytes([1 + lease; 16]);
            let acked = ChunkAcked { lease, ..acked(chunk, number, 1) };
            state.apply(Entry::ChunkAcked(acked));
            return Some(acked);
        }
        PruneStep::Lose(chunk, number) => loss(chunk, number, 1),
        PruneStep::Doom(chunk, _) if state.is_doomed(&id(chunk)) => return None,
        PruneStep::Doom(chunk, bits) => {
            let asked: Vec<u8> = (1..5).filter(|number| bits & (1 << number) != 0).collect();
            doom(chunk, &asked)
        }
        PruneStep::LetGo(chunk, number) => {
            note(PruneNote::LetGo { chunk: id(chunk), node: node(number) })
        }
        PruneStep::HeldAgain(chunk, number) => {
            note(PruneNote::HeldAgain { chunk: id(chunk), node: node(number) })
        }
        PruneStep::Spare(chunk) => note(PruneNote::Spared(id(chunk))),
        PruneStep::End => note(PruneNote::Ended([1; 16])),
        PruneStep::Gone(number) => gone(number, 1),
    };
    state.apply(entry);
    None
}

/// All that is known of these chunks.
fn told(state: &State) -> Vec<String> {
    let of = |chunk| {
        let mut unheard = state.unheard(&id(chunk));
        unheard.sort_by_key(|(node, _)| *node);
        let acked: Vec<bool> =
            (1..5).map(|number| state.had_acked(&id(chunk), &node(number))).collect();
        let waiting = state.waiting_for(&id(chunk));
        let doomed = (state.is_doomed(&id(chunk)), waiting, unheard);
        format!("{:?}", (holders(state, chunk), doomed, acked, state.was_acked(&id(chunk))))
    };
    let short = format!("{:?} {}", short(state, 9), state.entries());
    let lost = format!("{:?}", state.losses().collect::<Vec<_>>());
    (0..2).map(of).chain([short, lost]).collect()
}

proptest! {
    #[test]
    fn a_compaction_at_any_time_around_a_prune_changes_nothing(
        steps in prune_steps(),
        more in prune_steps(),
    ) {
        let mut before = State::default();
        let acks: Vec<ChunkAcked> =
            steps.iter().filter_map(|step| prune_step(*step, &mut before)).collect();
        let mut after = compacted(&before, &acks);
        prop_assert_eq!(told(&after), told(&before));
        for step in more {
            prune_step(step, &mut before);
            prune_step(step, &mut after);
            assert_counted(&before);
            prop_assert_eq!(told(&after), told(&before), "{:?}", step);
        }
    }

    #[test]
    fn acks_losses_and_proofs_are_those_of_a_plain_model(steps in steps(), since_s in 0..9_u32) {
        let (mut model, mut state) = (Model::default(), State::default());
        let mut acks = Vec::new();
        for step in steps {
            acks.extend(model.step(step, &mut state));
            assert_counted(&state);
        }
        model.assert_holders(&state);
        model.assert_times(&state, (since_s, 6));
        let after = compacted(&state, &acks);
        model.assert_holders(&after);
        assert_eq!(after.audited((0, u32::MAX)).len(), 0, "times lie in another file");
    }
}
