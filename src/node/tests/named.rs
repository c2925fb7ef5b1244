//! Files that were put are snapshots.

use super::backup::{mesh, records, refuse};
use super::recover::{machine, recover, restore, restored, wanted};
use super::*;
use crate::node::report::{CapabilityText, RestoreRequest, SnapshotReport};
use std::fs;

async fn put(owner: &TestNode, path: PathBuf, replicas: u8) -> PutDone {
    end(owner.put(path, replicas, 60)).await.unwrap()
}

async fn snapshots(owner: &TestNode) -> Vec<SnapshotReport> {
    owner.handle().snapshots().await.unwrap().snapshots
}

/// Waits until there are so many snapshots.
async fn snapshots_until(owner: &TestNode, count: usize) -> Vec<SnapshotReport> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = snapshots(owner).await;
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "still {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the capability brings back.
async fn get(node: &TestNode, capability: &CapabilityText) -> Vec<u8> {
    let output = node.folder.path().join("got");
    let capability = capability.clone();
    let (output, overwrite) = (output.clone(), true);
    let request = GetRequest { capability, output: output.clone(), overwrite, timeout_s: 30 };
    end(node.handle().get(request)).await.unwrap();
    fs::read(output).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_is_a_snapshot_tagged_put() {
    let (owner, holders) = mesh(2).await;
    for (name, bytes) in [("large", 3 << 20), ("small", 1_000), ("empty", 0)] {
        let path = owner.file(name, bytes);
        let content = fs::read(&path).unwrap();
        let done = put(&owner, path.clone(), 2).await;
        assert_eq!(done.notes, [""; 0]);
        assert_eq!(get(&owner, &done.capability).await, content, "{name}");
        let id = done.snapshot.unwrap();
        let listed = snapshots(&owner).await;
        let of_it = listed.iter().find(|one| one.snapshot == id).unwrap();
        assert_eq!(of_it.roots, [path.display().to_string()]);
        assert_eq!((&of_it.tags[..], of_it.partial), (&["put".to_owned()][..], false));
        assert_eq!((of_it.files, of_it.bytes), (1, content.len() as u64), "{of_it:?}");

        let target = owner.folder.path().join(format!("{name} is back"));
        let request = RestoreRequest { snapshot: id, ..wanted(&target) };
        let done = restore(&owner, request).await.unwrap();
        assert_eq!((done.files, done.damaged), (1, 0), "{done:?}");
        let back = restored(&target, &path);
        assert_eq!(fs::read(&back).unwrap(), content);
        let modified = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&back), modified(&path));
    }
    assert_eq!(snapshots(&owner).await.len(), 3);
    assert!(owner.handle().inner.with_catalog(|all| all.snapshots_due().next().is_none()));
    drop(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_at_once_are_named_by_few_records() {
    let (owner, _holders) = mesh(1).await;
    let files: Vec<PathBuf> = (0..6).map(|number| owner.file(&number.to_string(), 900)).collect();
    let all = files.into_iter().map(|path| put(&owner, path, 1));
    let all = futures::future::join_all(all).await;
    let mut ids: Vec<String> = all.into_iter().map(|done| done.snapshot.unwrap()).collect();
    let mut listed: Vec<String> =
        snapshots(&owner).await.into_iter().map(|one| one.snapshot).collect();
    ids.sort();
    listed.sort();
    assert_eq!(ids, listed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_died_before_its_snapshot_is_published() {
    let (mut owner, holders) = mesh(2).await;
    let path = owner.file("short-lived", 300_000);
    let content = fs::read(&path).unwrap();
    refuse(&owner, |entry| matches!(entry, Entry::HeadSeen(_)));
    let done = put(&owner, path.clone(), 2).await;
    assert!(done.snapshot.is_none() && done.notes[0].contains("not published yet"), "{done:?}");
    owner.stop().await;
    fs::remove_file(&path).unwrap();

    owner.start(Some(&holders[0])).await;
    let [one] = snapshots_until(&owner, 1).await.try_into().unwrap();
    assert_eq!((one.roots, one.bytes), (vec![path.display().to_string()], 300_000));
    assert_eq!(records(&owner, 0).await.len(), 1);
    let target = owner.folder.path().join("back");
    let request = RestoreRequest { snapshot: one.snapshot, ..wanted(&target) };
    assert_eq!(restore(&owner, request).await.unwrap().files, 1);
    assert_eq!(fs::read(restored(&target, &path)).unwrap(), content);
    assert_eq!(get(&owner, &done.capability).await, content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_died_after_its_snapshot_is_not_named_twice() {
    let (mut owner, holders) = mesh(1).await;
    refuse(&owner, |entry| matches!(entry, Entry::SnapshotDone(_)));
    let done = put(&owner, owner.file("once", 5_000), 1).await;
    assert!(done.snapshot.is_none(), "{done:?}");
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    let deadline = Instant::now() + PATIENCE;
    while owner.handle().inner.with_catalog(|all| all.snapshots_due().next().is_some()) {
        assert!(Instant::now() < deadline, "it is due still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(snapshots(&owner).await.len(), 1);
    assert_eq!(records(&owner, 0).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_comes_back_on_a_new_machine_without_its_capability() {
    let (mut owner, holders) = mesh(2).await;
    let path = owner.file("letter", 40_000);
    let content = fs::read(&path).unwrap();
    let made = put(&owner, path.clone(), 2).await;
    owner.stop().await;
    let new = machine(1, &holders[1]).await;
    let found = recover(&new, None).await.unwrap();
    assert_eq!(found.snapshots_total, 1, "{found:?}");
    assert_eq!(snapshots(&new).await[0].tags, ["put"]);
    let target = new.folder.path().join("back");
    let request = RestoreRequest { snapshot: made.snapshot.unwrap(), ..wanted(&target) };
    let done = restore(&new, request).await.unwrap();
    assert_eq!((done.files, done.damaged), (1, 0), "{done:?}");
    assert_eq!(fs::read(restored(&target, &path)).unwrap(), content);
}
