//! What was published is looked after at whole nodes: whatever another device let go meanwhile.

use super::account::content;
use super::backup::{backup, folder, mesh, records, refuse, request};
use super::prune::{comes_back, end_at, forget, inner, kept, prune, prune_with, pruning};
use super::recover::{contents, machine, machine_with, recover};
use super::*;
use crate::crypto::head::HeadKeys;
use crate::node::after::look_after;
use crate::node::heads::HeadWish;
use crate::node::prune::Step;
use crate::node::report::{BackupDone, PruneRequest};
use crate::repo::catalog::{HeadSeen, PruneNote, ToLookAfter};
use crate::repo::head::HeadPayload;
use std::fs;
use tokio::sync::mpsc;

/// So many snapshots are to be looked after.
fn noted(node: &TestNode) -> usize {
    inner(node).with_catalog(|catalog| catalog.to_look_after().count())
}

/// Whether the holder keeps all files of the newest snapshot, and has let none of them go.
async fn keeps_newest(owner: &TestNode, holder: &TestNode) -> bool {
    let (live, _) = kept(owner, holder).await;
    content(owner).await.iter().all(|chunk| live.contains(&chunk.id))
}

/// An owner, and the only node that keeps anything.
async fn one_keeper() -> (TestNode, TestNode) {
    let mut owner = TestNode::new(1);
    owner.start_with(None, 0).await;
    let holder = TestNode::started(2, Some(&owner)).await;
    (owner, holder)
}

/// Two devices that know all chunks of a folder, and the only node that keeps any. No snapshot
/// needs the large file any more once the ones returned are forgotten; it is back in the folder.
async fn two_devices() -> (TestNode, TestNode, TestNode, PathBuf, [String; 2]) {
    let (owner, holder) = one_keeper().await;
    let path = folder(&owner);
    let large = fs::read(path.join("large")).unwrap();
    let other = machine_with(1, &holder, 0).await;
    owner.status_until(|status| status.peers == 2).await;
    let first = backup(&owner, &path, 1).await;
    recover(&other, None).await.unwrap();
    let own = backup(&other, &path, 1).await;
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, 1).await;
    fs::write(path.join("large"), &large).unwrap();
    (owner, other, holder, path, [first.snapshot, own.snapshot])
}

/// The device forgets these, and prunes.
async fn prune_all(owner: &TestNode, forgets: [String; 2]) {
    for snapshot in &forgets {
        forget(owner, snapshot).await;
    }
    let done = prune(owner).await;
    assert!(done.bytes >= 3 << 20, "{done:?}");
}

/// As [`two_devices`]; the first one has let the large file go.
async fn pruned() -> (TestNode, TestNode, TestNode, PathBuf) {
    let (owner, other, holder, path, forgets) = two_devices().await;
    prune_all(&owner, forgets).await;
    (owner, other, holder, path)
}

/// Until a backup stores its snapshot.
async fn until_storing(backup: &mut mpsc::Receiver<Progress<BackupDone>>) {
    loop {
        match backup.recv().await.unwrap() {
            Progress::Working { note: Some(note), .. } if note == "storing the snapshot" => return,
            Progress::Working { .. } => {}
            ended => panic!("{ended:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_and_not_looked_after_gets_its_chunks_back_without_its_files() {
    let (owner, mut other, holder, path) = pruned().await;
    // What the heads say now is known, so that the record that is refused is the device's own.
    other.handle().snapshots().await.unwrap();
    refuse(&other, |entry| matches!(entry, Entry::HeadKept(_)));
    // The snapshot is published, and the node does not live to look.
    end(other.handle().backup(request(&path, 1, 60))).await.unwrap_err();
    assert_eq!(noted(&other), 1);
    let files = contents(&path);
    fs::remove_dir_all(&path).unwrap();
    assert!(!kept(&owner, &holder).await.1.is_empty());
    other.stop().await;

    other.start(Some(&holder)).await;
    let deadline = Instant::now() + PATIENCE;
    while noted(&other) > 0 {
        assert!(Instant::now() < deadline, "it is not looked after");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut all = other.handle().snapshots().await.unwrap().snapshots;
    let newest = all.pop().unwrap();
    assert!(keeps_newest(&other, &holder).await);
    comes_back(&holder, &newest.snapshot, &path, &files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_takes_back_what_another_device_let_go() {
    let (_owner, other, holder, path) = pruned().await;
    let done = backup(&other, &path, 1).await;
    assert!(tells(&done.notes, &["had chunks let go", "taken back"]), "{done:?}");
    assert!(!tells(&done.notes, &["stored again"]), "{done:?}");
    assert!(keeps_newest(&other, &holder).await);
    assert_eq!(noted(&other), 0);
    let again = backup(&other, &path, 1).await;
    assert!(!tells(&again.notes, &["another device prunes"]), "accounted for: {again:?}");
    let alone = inner(&other);
    let is_due = async || alone.repository.prunes_of_others(alone, &[]).await.unwrap().is_due;
    assert!(!is_due().await);
    alone.repository.account_anew(alone).unwrap();
    assert!(is_due().await, "until something cannot be stored again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_another_publication_accounted_for_is_not_accounted_for_here() {
    let (owner, other, holder, path, forgets) = two_devices().await;
    let inner = inner(&other);
    let mut backup = {
        // All is taken for stored, and it is on its way to its publication.
        let _waits = inner.repository.look_alone().await;
        let mut backup = other.handle().backup(request(&path, 1, 60));
        until_storing(&mut backup).await;
        prune_all(&owner, forgets).await;
        // What a put that was published meanwhile does at the end of its look.
        let prunes = inner.repository.prunes_of_others(inner, &[]).await.unwrap();
        assert!(prunes.is_due);
        inner.repository.account_for(inner, &prunes).await.unwrap();
        assert!(!inner.repository.prunes_of_others(inner, &[]).await.unwrap().is_due);
        backup
    };
    let done = loop {
        match backup.recv().await.unwrap() {
            Progress::Working { .. } | Progress::Told { .. } => {}
            Progress::Done(done) => break done,
            Progress::Failed(failure) => panic!("{failure:?}"),
        }
    };
    assert!(tells(&done.notes, &["had chunks let go", "taken back"]), "{done:?}");
    assert!(keeps_newest(&other, &holder).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_know_of_yet_is_looked_after_once_it_is_out() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    backup(&other, &path, 1).await;
    let inner = inner(&other);
    assert_eq!(look_after(inner).await.unwrap().left, 0);

    // The next record of its head stands in the catalogue, and was sent to nobody.
    let keys = HeadKeys::derive(&other.owner().head, 0, 1);
    let before = records(&other, 1).await.pop().unwrap();
    let mut payload = HeadPayload::decode(&keys.open(&before).unwrap()).unwrap();
    payload.number += 1;
    let number = payload.number.try_into().unwrap();
    let bytes = payload.encode().unwrap();
    let record = keys.make(number, before.hash(), &bytes, &mut rand::rng()).unwrap();
    let (id, reference) = inner.with_catalog(|all| {
        let noted = all.noted_snapshots().next().unwrap();
        (noted.seen.id, noted.seen.reference.duplicate())
    });
    let note = ToLookAfter { id, reference, replicas: 1 };
    inner.record(Entry::Prune(PruneNote::ToLookAfter(note))).unwrap();
    inner.record(Entry::HeadSeen(HeadSeen { index: 1, record: record.clone() })).unwrap();
    assert_eq!(look_after(inner).await.unwrap().left, 1, "who prunes now does not see it");
    let wish = HeadWish { replicas: 1, held_by: Vec::new(), patience: PATIENCE };
    assert!(other.handle().store_head(&keys, record, wish).await.unwrap().is_stored);
    assert_eq!(look_after(inner).await.unwrap().left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_record_of_its_own_head_in_its_own_store_is_no_doubt() {
    let mut owner = TestNode::started(1, None).await;
    let path = folder(&owner);
    let second = machine(1, &owner).await;
    owner.status_until(|status| status.peers == 1).await;
    backup(&owner, &path, 1).await;
    let holder = TestNode::started(2, Some(&second)).await;
    second.status_until(|status| status.peers == 2).await;
    owner.stop().await;
    second.status_until(|status| status.peers == 1).await;
    recover(&second, Some(0)).await.unwrap();
    // Its head has one of the two holders that it wishes for, and its own store has the one before.
    let done = end(second.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert_eq!((done.replicas, noted(&second)), (1, 0), "{done:?}");
    drop(holder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prune_of_a_device_that_nobody_heard_of_is_seen() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await;
    let new = machine(1, &holders[0]).await;
    recover(&new, None).await.unwrap();
    forget(&new, &first.snapshot).await;
    let request = PruneRequest { replicas: Some(1), ..pruning() };
    let done = prune_with(&new, request).await.unwrap();
    assert!(done.bytes > 3 << 20, "{done:?}");
    let done = backup(&owner, &path, 1).await;
    assert!(tells(&done.notes, &["another device prunes"]), "{done:?}");
    assert!(keeps_newest(&owner, &holders[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_looked_after_until_no_prune_is_open() {
    let (owner, holder) = one_keeper().await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await;
    let other = machine_with(1, &holder, 0).await;
    recover(&other, None).await.unwrap();
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, 1).await;
    forget(&owner, &first.snapshot).await;
    end_at(&owner, Some(Step::Begun));
    prune_with(&owner, pruning()).await.unwrap_err();
    for count in 1..=2 {
        backup(&other, &path, 1).await;
        assert_eq!(noted(&other), count, "it may let go at any time");
    }
    end_at(&owner, None);
    prune(&owner).await;
    backup(&other, &path, 1).await;
    assert_eq!(noted(&other), 0);
    assert!(keeps_newest(&other, &holder).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_single_device_no_note_stays() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    for _ in 0..2 {
        assert_eq!(backup(&owner, &path, 1).await.notes, [""; 0]);
        assert_eq!(noted(&owner), 0);
    }
    let put = end(owner.put(owner.file("a file", 300_000), 1, 60)).await.unwrap();
    assert!(put.snapshot.is_some(), "{put:?}");
    assert_eq!(noted(&owner), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_waits_for_its_look_and_is_not_named_twice() {
    let (owner, _holders) = mesh(1).await;
    refuse(&owner, |entry| {
        matches!(entry, Entry::Prune(crate::repo::catalog::PruneNote::LookedAfter(_)))
    });
    let put = end(owner.put(owner.file("a file", 300_000), 1, 60)).await.unwrap();
    assert!(put.snapshot.is_none(), "{put:?}");
    let due = || inner(&owner).with_catalog(|catalog| catalog.snapshots_due().count());
    assert_eq!((due(), noted(&owner)), (1, 1));
    refuse(&owner, |_| false);
    let deadline = Instant::now() + PATIENCE;
    while due() > 0 {
        assert!(Instant::now() < deadline, "it is due still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(noted(&owner), 0);
    assert_eq!(owner.handle().snapshots().await.unwrap().snapshots.len(), 1);
}
