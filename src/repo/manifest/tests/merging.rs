//! Several devices' chains as one view.

use super::*;
use crate::repo::manifest::chain::ChainView;
use crate::repo::manifest::merge::{Coverage, Merged};

fn id(number: u8) -> SnapshotId {
    added(number).id
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

/// A chain of these bodies, whose Lamport times go up from `lamport`.
fn view(lamport: u64, bodies: Vec<Body>) -> ChainView {
    let entry = |(number, body): (usize, Body)| ManifestEntry {
        number: number as u64,
        lamport: lamport + number as u64,
        ..entry(body)
    };
    let entries = bodies.into_iter().enumerate().map(entry).collect();
    ChainView { checkpoint: None, entries }
}

fn live(merged: &Merged) -> Vec<SnapshotId> {
    merged.live().map(|live| live.added.id).collect()
}

fn merged(views: &[(u16, &ChainView)]) -> Merged {
    let mut merged = Merged::new();
    for (index, view) in views {
        merged.add_device(*index, device(index.to_le_bytes()[0]), view);
    }
    merged
}

fn intent(prune: u8) -> Body {
    Body::PruneIntent(PruneIntent { prune: [prune; 16], grace_s: 60 })
}

#[test]
fn devices_merge_without_order() {
    let one = view(1, vec![Body::Add(added(1)), Body::Add(added(2)), intent(1)]);
    let two = view(2, vec![Body::Forget(vec![id(1)]), Body::Add(added(3)), intent(2)]);
    let three = view(5, vec![Body::PruneDone { prune: [1; 16], released: 0 }]);
    let told = |merged: &Merged| {
        let intents: Vec<_> = merged.open_intents().copied().collect();
        let devices: Vec<_> = merged.devices().collect();
        format!("{:?} {intents:?} {devices:?} {}", live(merged), merged.lamport())
    };
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let all = [(0, &one), (1, &two), (2, &three)];
    let views: Vec<String> =
        orders.iter().map(|order| told(&merged(&order.map(|at| all[at])))).collect();
    assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "{views:#?}");
    let merged = merged(&all);
    assert_eq!((live(&merged), merged.lamport()), (vec![id(2), id(3)], 5));
    let open: Vec<_> = merged.open_intents().map(|intent| (intent.index, intent.prune)).collect();
    assert_eq!(open, [(1, [2; 16])]);
}

#[test]
fn a_checkpoint_says_what_is_forgotten_without_an_entry() {
    let own = view(1, vec![Body::Add(added(1)), Body::Add(added(2))]);
    let other = view(1, vec![Body::Add(added(3))]);
    let mut merged = merged(&[(0, &own), (1, &other)]);
    merged.forget(0, id(1));
    merged.forget(0, id(3));
    merged.saw(70);
    let said = merged.checkpoint(0, Coverage::All, vec![]);
    assert_eq!(said.live.iter().map(|added| added.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!((said.forgets, merged.lamport()), (vec![id(3)], 70));
}

#[test]
fn a_forget_wins_over_a_late_add() {
    let forgets = view(1, vec![Body::Forget(vec![id(1)])]);
    let adds = view(9, vec![Body::Add(added(1))]);
    let both = merged(&[(0, &forgets), (1, &adds)]);
    assert!(live(&both).is_empty() && both.is_forgotten(&id(1)));
}

#[test]
fn the_prune_with_the_lowest_lamport_time_goes_first() {
    let (late, early) = (view(9, vec![intent(1)]), view(3, vec![intent(2)]));
    let both = merged(&[(0, &late), (1, &early)]);
    let order: Vec<u64> = both.open_intents().map(|intent| intent.lamport).collect();
    assert_eq!(order, [3, 9]);
}

#[test]
fn a_checkpoint_says_all_that_still_matters() {
    let own = view(
        1,
        vec![
            Body::Add(added(1)),
            Body::Add(added(2)),
            Body::Forget(vec![id(2), id(3), id(4)]),
            intent(1),
            intent(2),
            Body::PruneDone { prune: [1; 16], released: 0 },
        ],
    );
    let other = view(1, vec![Body::Add(added(3)), Body::Add(added(5))]);
    let all = merged(&[(0, &own), (1, &other)]);
    let checkpoint = all.checkpoint(0, Coverage::All, vec![]);
    // Its own live one; of what it forgot, what another device still has; the open prune.
    let ids: Vec<SnapshotId> = checkpoint.live.iter().map(|added| added.id).collect();
    assert_eq!((ids, checkpoint.forgets.as_slice()), (vec![id(1)], [id(3)].as_slice()));
    let intents: Vec<_> =
        checkpoint.intents.iter().map(|(intent, at)| (intent.prune, *at)).collect();
    assert_eq!(intents, [([2; 16], 5)]);
    // The view of the checkpoint in the place of the entries is the same.
    let after = ChainView { checkpoint: Some(checkpoint), entries: vec![] };
    let again = merged(&[(0, &after), (1, &other)]);
    assert_eq!(live(&again), live(&all));
    assert_eq!(again.open_intents().collect::<Vec<_>>(), all.open_intents().collect::<Vec<_>>());
    assert_eq!(again.lamport(), all.lamport());
}

#[test]
fn what_was_forgotten_of_a_device_that_did_not_answer_stays_forgotten() {
    let own = view(1, vec![Body::Forget(vec![id(3)])]);
    let alone = merged(&[(0, &own)]);
    assert_eq!(alone.checkpoint(0, Coverage::Some, vec![]).forgets, [id(3)]);
    assert!(alone.checkpoint(0, Coverage::All, vec![]).forgets.is_empty());
}

#[test]
fn a_retired_device_stays_retired_and_a_new_one_takes_its_head() {
    let keys = |what, number| {
        Body::Keys(KeyEvent { what, device: device(number), index: 4, generation: 0 })
    };
    let known = |views: &[(u16, &ChainView)]| -> Vec<(DeviceId, bool)> {
        let merged = merged(views);
        let of = merged.devices().filter(|known| known.index == 4);
        of.map(|known| (known.device, known.retired)).collect()
    };
    let says = view(1, vec![keys(KeyChange::Joined, 4), keys(KeyChange::Retired, 4)]);
    let own = view(1, vec![Body::Add(added(1))]);
    for views in [[(0, &says), (4, &own)], [(4, &own), (0, &says)]] {
        assert_eq!(known(&views), [(device(4), true)]);
    }
}

#[test]
fn a_snapshot_that_two_devices_list_is_of_both_and_stays_in_the_lists_of_both() {
    let sealed_anew = || {
        let reference = ChunkRef { id: ChunkId::from_bytes([99; 32]), ..added(1).reference };
        Added { reference, ..added(1) }
    };
    let thief = view(1, vec![Body::Add(sealed_anew()), Body::Forget(vec![id(2)])]);
    let own = view(1, vec![Body::Add(added(1)), Body::Add(added(2))]);
    for all in [[(0, &thief), (1, &own)], [(1, &own), (0, &thief)]] {
        let merged = merged(&all);
        assert_eq!(live(&merged), [id(1)], "once");
        let mut references: Vec<ChunkId> = merged.references().map(|of| of.id).collect();
        references.sort_unstable();
        let mut both = vec![added(1).reference.id, sealed_anew().reference.id];
        both.sort_unstable();
        assert_eq!(references, both);
        for (index, at) in [(0, sealed_anew()), (1, added(1))] {
            let said = merged.checkpoint(index, Coverage::All, vec![]);
            let said: Vec<ChunkId> = said.live.iter().map(|of| of.reference.id).collect();
            assert_eq!(said, [at.reference.id], "what its own list says of it");
        }
        // What one forgets stays forgotten as long as the other lists it.
        assert_eq!(merged.checkpoint(0, Coverage::All, vec![]).forgets, [id(2)]);
    }
    let forgets_own = view(1, vec![Body::Add(added(1)), Body::Forget(vec![id(1)])]);
    let both = merged(&[(0, &forgets_own), (1, &own)]);
    assert_eq!(both.checkpoint(0, Coverage::All, vec![]).forgets, [id(1)]);
}
