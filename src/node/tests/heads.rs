//! What an owner does about heads that somebody else wrote.

use super::backup::{backup, folder, mesh};
use super::prune::{forget, kept, prune, prune_with, pruning};
use super::recover::{contents, machine, recover, restore, restored, wanted};
use super::*;
use crate::node::heads::HeadWish;
use crate::node::report::{FailureKind, Heads, HeadsRequest, RecordState};
use std::fs;

async fn heads(node: &TestNode, request: HeadsRequest) -> Heads {
    node.handle().heads(request).await.unwrap()
}

async fn look(node: &TestNode) -> Heads {
    heads(node, HeadsRequest::default()).await
}

fn accept(name: &str) -> HeadsRequest {
    HeadsRequest { accept: vec![name.to_owned()], ..HeadsRequest::default() }
}

/// Index, number and state of each record.
fn states(heads: &Heads) -> Vec<(u16, u64, RecordState)> {
    heads.records.iter().map(|of| (of.index, of.number, of.state)).collect()
}

async fn snapshots(node: &TestNode) -> Vec<String> {
    let found = node.handle().snapshots().await.unwrap();
    found.snapshots.into_iter().map(|snapshot| snapshot.snapshot).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_thief_forgot_and_let_go_comes_back_within_the_release_delay() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 2).await.snapshot;
    let before = contents(&path);
    let mut thief = machine(1, &holders[0]).await;
    recover(&thief, None).await.unwrap();
    forget(&thief, &made).await;
    assert!(prune(&thief).await.copies > 0);
    assert!(!kept(&thief, &holders[1]).await.1.is_empty(), "holders have let go of chunks");
    owner.stop().await;
    thief.stop().await;

    let new = machine(1, &holders[0]).await;
    let found = recover(&new, None).await.unwrap();
    assert_eq!((found.index, found.snapshots_total), (2, 0), "{found:?}");
    let listed = look(&new).await;
    let counting = listed.records.iter().filter(|of| of.state == RecordState::Counts);
    assert_eq!(counting.map(|of| of.index).collect::<Vec<_>>(), [0, 1], "{listed:?}");

    let ignore = |index| HeadsRequest { ignore: vec![index], ..HeadsRequest::default() };
    let chosen = heads(&new, ignore(1)).await;
    assert!(chosen.whole && chosen.own == Some(2), "{chosen:?}");
    assert!(chosen.notes.iter().any(|note| note.contains("--follow 1")), "{chosen:?}");
    assert_eq!(snapshots(&new).await, [made.as_str()]);
    let target = new.folder.path().join("back");
    let done = restore(&new, wanted(&target)).await.unwrap();
    assert_eq!((done.files, done.damaged), (41, 0), "{done:?}");
    assert_eq!(contents(&restored(&target, &path)), before);
    let refused = prune_with(&new, pruning()).await.unwrap_err();
    assert!(refused.why.contains("--follow 1"), "{refused:?}");

    let follow = HeadsRequest { follow: vec![1], ..HeadsRequest::default() };
    assert!(heads(&new, follow.clone()).await.notes.is_empty());
    assert_eq!(snapshots(&new).await, [""; 0]);
    let twice = new.handle().heads(follow).await.unwrap_err();
    assert_eq!(twice.kind, FailureKind::Usage, "{twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_record_of_an_overwritten_head_can_be_chosen_and_outlives_a_restart() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 2).await.snapshot;
    owner.stop().await;
    let mut thief = machine(1, &holders[0]).await;
    assert_eq!(recover(&thief, Some(0)).await.unwrap().index, 0);
    forget(&thief, &made).await;
    thief.stop().await;

    // The stolen device itself is found again: its head is not its own any more.
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(snapshots(&owner).await, [""; 0]);
    let listed = look(&owner).await;
    let expected = [(0, 2, RecordState::Counts), (0, 1, RecordState::Older)];
    assert_eq!(states(&listed), expected, "{listed:?}");
    let chosen = heads(&owner, accept(&listed.records[1].name)).await;
    let expected = [(0, 2, RecordState::Other), (0, 1, RecordState::Chosen)];
    assert_eq!((states(&chosen).as_slice(), chosen.own), (&expected[..], Some(1)), "{chosen:?}");
    assert_eq!(snapshots(&owner).await, [made.as_str()]);

    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(snapshots(&owner).await, [made.as_str()]);
    let told = owner.handle().status(0).await.attention;
    assert!(tells(&told, &["head of device 0", "as was chosen here"]), "{told:?}");
    // It goes on with a head of its own.
    let second = backup(&owner, &path, 2).await.snapshot;
    assert_eq!(snapshots(&owner).await, [made, second]);
    for name in ["0:1:ffffffff", "0:9", "nonsense", "0:1:0:0", "9:1"] {
        let refused = owner.handle().heads(accept(name)).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Usage, "{name}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_the_records_of_a_forked_head_can_be_chosen_on_a_new_machine() {
    let (mut owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 2).await.snapshot;
    owner.stop().await;
    let copy = owner.folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(owner.data()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let mut made = Vec::new();
    for at in [0, 1] {
        // Each half goes on where the other one is not.
        let away = 1 - at;
        holders[away].stop().await;
        owner.start(Some(&holders[at])).await;
        owner.status_until(|status| status.peers == 1).await;
        made.push(backup(&owner, &path, 1).await.snapshot);
        owner.stop().await;
        fs::remove_dir_all(owner.data()).unwrap();
        let _ = std::process::Command::new("cp").arg("-a").arg(&copy).arg(owner.data()).status();
        let (one, other) = holders.split_at_mut(1);
        let (back, there) =
            if at == 0 { (&mut other[0], &one[0]) } else { (&mut one[0], &other[0]) };
        back.start(Some(there)).await;
    }
    let new = machine(1, &holders[0]).await;
    new.status_until(|status| status.peers == 2).await;
    let failure = recover(&new, None).await.unwrap_err();
    assert!(failure.hint.contains("quloud heads"), "{failure:?}");
    let listed = look(&new).await;
    let of_two = listed.records.iter().filter(|of| of.number == 2);
    assert_eq!(of_two.clone().count(), 2, "{listed:?}");
    assert!(of_two.clone().all(|of| of.state == RecordState::Other), "{listed:?}");
    let ambiguous = new.handle().heads(accept("0:2")).await.unwrap_err();
    assert!(ambiguous.why.contains(" or "), "{ambiguous:?}");

    let mut listed_in = Vec::new();
    for of in of_two {
        assert!(heads(&new, accept(&of.name)).await.whole);
        let found = recover(&new, None).await.unwrap();
        assert_eq!((found.snapshots_total, found.index), (2, 1), "{found:?}");
        listed_in.push(snapshots(&new).await);
    }
    listed_in.sort_by_key(|ids| made.iter().position(|id| ids.last() == Some(id)));
    let expected = made.into_iter().map(|second| vec![first.clone(), second]).collect::<Vec<_>>();
    assert_eq!(listed_in, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_are_found_as_long_as_no_sixteen_in_a_row_are_nobodys() {
    let (owner, holders) = mesh(1).await;
    for index in [16, 32, 49] {
        let keys = HeadKeys::derive(&owner.owner().head, 0, index);
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([7; 32]);
        let record = keys.make(std::num::NonZeroU64::MIN, [0; 32], b"?", &mut rng).unwrap();
        let wish = HeadWish { replicas: 1, held_by: Vec::new(), patience: PATIENCE };
        assert!(owner.handle().store_head(&keys, record, wish).await.unwrap().is_stored);
    }
    let expected = [(16, 1, RecordState::Unreadable), (32, 1, RecordState::Unreadable)];
    assert_eq!(states(&look(&owner).await), expected, "from 33 to 48 there is none");
    let new = machine(1, &holders[0]).await;
    let failure = recover(&new, None).await.unwrap_err();
    assert!(failure.why.contains("device 32") && !failure.why.contains("device 49"), "{failure:?}");
}
