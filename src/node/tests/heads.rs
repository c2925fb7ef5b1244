//! What an owner does about heads that somebody else wrote.

use super::backup::{backup, folder, mesh};
use super::prune::{forget, kept, prune};
use super::recover::{contents, machine, recover, restore, restored, wanted};
use super::*;
use crate::node::heads::HeadWish;
use crate::node::report::{FailureKind, Heads, HeadsRequest, RestoreRequest};
use std::fs;

async fn heads(node: &TestNode, records: &[&str]) -> Result<Heads, Failure> {
    let records = records.iter().map(|name| (*name).to_owned()).collect();
    node.handle().heads(HeadsRequest { records }).await
}

/// The names of the records of this head, newest first.
fn names(heads: &Heads, index: u16) -> Vec<String> {
    let of = heads.records.iter().filter(|record| record.index == index);
    of.map(|record| record.name.clone()).collect()
}

async fn snapshots(node: &TestNode) -> Vec<String> {
    let found = node.handle().snapshots().await.unwrap();
    found.snapshots.into_iter().map(|snapshot| snapshot.snapshot).collect()
}

/// What these records lead to.
async fn snapshots_of(node: &TestNode, records: &[&str]) -> Vec<String> {
    let found = heads(node, records).await.unwrap();
    found.snapshots.into_iter().map(|snapshot| snapshot.snapshot).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_thief_forgot_and_let_go_is_restored_within_the_release_delay() {
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
    let listed = heads(&new, &[]).await.unwrap();
    let [first] = names(&listed, 0).try_into().unwrap();
    assert_eq!(snapshots_of(&new, &[&first]).await, [made.as_str()]);
    let thiefs = names(&listed, 1);
    assert_eq!(snapshots_of(&new, &[&first, &thiefs[0]]).await, [""; 0]);

    let target = new.folder.path().join("back");
    let request = RestoreRequest { heads: vec![first], ..wanted(&target) };
    let done = restore(&new, request).await.unwrap();
    assert_eq!((done.files, done.damaged), (41, 0), "{done:?}");
    assert_eq!(contents(&restored(&target, &path)), before);
    assert_eq!(snapshots(&new).await, [""; 0], "nothing of it is remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overwritten_head_leads_to_what_was_there_by_its_earlier_record() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 2).await.snapshot;
    owner.stop().await;
    let mut thief = machine(1, &holders[0]).await;
    assert_eq!(recover(&thief, Some(0)).await.unwrap().index, 0);
    forget(&thief, &made).await;
    thief.stop().await;

    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(snapshots(&owner).await, [""; 0]);
    let listed = heads(&owner, &[]).await.unwrap();
    let numbers: Vec<(u64, bool)> =
        listed.records.iter().map(|record| (record.number, record.newest)).collect();
    assert_eq!(numbers, [(2, true), (1, false)], "{listed:?}");
    let [second, first] = names(&listed, 0).try_into().unwrap();
    assert_eq!(snapshots_of(&owner, &[&first]).await, [made.as_str()]);
    assert_eq!(snapshots_of(&owner, &["0:1"]).await, [made.as_str()], "there is one alone");
    for wrong in ["0:1:ffffffff", "0:9", "nonsense", "0:1:0:0", "9:1"] {
        let refused = heads(&owner, &[wrong]).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Usage, "{wrong}: {refused:?}");
    }
    let refused = heads(&owner, &[&first, &second]).await.unwrap_err();
    assert!(refused.why.contains("two records of head 0"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_records_of_a_forked_head_lead_to_their_snapshots_on_a_new_machine() {
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
    let listed = heads(&new, &[]).await.unwrap();
    let forked = listed.records.iter().filter(|record| record.forked);
    let forked: Vec<&str> = forked.map(|record| record.name.as_str()).collect();
    assert_eq!(forked.len(), 2, "{listed:?}");
    let ambiguous = heads(&new, &["0:2"]).await.unwrap_err();
    assert!(ambiguous.why.contains(" or "), "{ambiguous:?}");
    let mut found = Vec::new();
    for name in forked {
        found.push(snapshots_of(&new, &[name]).await);
    }
    found.sort_by_key(|ids| made.iter().position(|id| ids.last() == Some(id)));
    let expected = made.into_iter().map(|second| vec![first.clone(), second]).collect::<Vec<_>>();
    assert_eq!(found, expected);
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
    let listed = heads(&owner, &[]).await.unwrap();
    let seen = listed.records.iter().map(|record| (record.index, record.device.is_some()));
    assert_eq!(seen.collect::<Vec<_>>(), [(16, false), (32, false)], "33 to 48 are nobody's");
    let refused = heads(&owner, &["16:1"]).await.unwrap_err();
    assert!(refused.why.contains("cannot be read"), "{refused:?}");
    let new = machine(1, &holders[0]).await;
    let failure = recover(&new, None).await.unwrap_err();
    assert!(failure.why.contains("device 32") && !failure.why.contains("device 49"), "{failure:?}");
}
