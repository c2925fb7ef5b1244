//! Forgetting snapshots on several devices of one owner.

use super::backup::{backup, folder, mesh};
use super::look::rows;
use super::recover::{machine, recover};
use super::*;
use crate::node::report::{
    BackupRequest, FailureKind, ForgetDone, ForgetRequest, ForgetRow, KeepOptions,
};
use std::fs;

fn keep_last(count: u32) -> ForgetRequest {
    let keep = KeepOptions { last: Some(count.to_string()), ..KeepOptions::default() };
    ForgetRequest { keep, timeout_s: 20, ..ForgetRequest::default() }
}

fn named(snapshots: &[&str]) -> ForgetRequest {
    let snapshots = snapshots.iter().map(|id| (*id).to_owned()).collect();
    ForgetRequest { snapshots, timeout_s: 20, ..ForgetRequest::default() }
}

async fn forget(
    node: &TestNode,
    request: ForgetRequest,
) -> Result<(Vec<ForgetRow>, ForgetDone), Failure> {
    rows(node.handle().forget(request)).await
}

async fn ids(node: &TestNode) -> Vec<String> {
    let found = node.handle().snapshots().await.unwrap();
    found.snapshots.into_iter().map(|snapshot| snapshot.snapshot).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_device_forgets_is_gone_for_all_of_them() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 2).await.snapshot;
    let second = backup(&owner, &path, 2).await.snapshot;
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    let third = backup(&other, &path, 2).await.snapshot;
    assert_eq!(ids(&other).await, [first.as_str(), &second, &third]);

    let dry = ForgetRequest { dry_run: true, ..keep_last(1) };
    let (told, done) = forget(&other, dry).await.unwrap();
    assert_eq!((done.dry_run, done.kept, done.forgotten, done.replicas), (true, 1, 2, None));
    let fates: Vec<(&str, bool)> =
        told.iter().map(|row| (row.snapshot.snapshot.as_str(), row.kept)).collect();
    assert_eq!(fates, [(third.as_str(), true), (&second, false), (&first, false)]);
    assert_eq!(told[0].reasons, ["last snapshot"]);
    assert!(told[0].group.contains(path.to_str().unwrap()), "{told:?}");
    assert_eq!(ids(&owner).await.len(), 3, "nothing was forgotten");

    // As many replicas as this device's last snapshot was to have.
    let (_, done) = forget(&other, keep_last(1)).await.unwrap();
    assert_eq!((done.forgotten, done.replicas, done.replicas_wished), (2, Some(2), 2), "{done:?}");
    for device in [&other, &owner] {
        assert_eq!(ids(device).await, std::slice::from_ref(&third));
    }
    let new = machine(1, &holders[1]).await;
    assert_eq!(recover(&new, None).await.unwrap().snapshots_total, 1);
    let (_, again) = forget(&other, keep_last(1)).await.unwrap();
    assert_eq!((again.forgotten, again.replicas), (0, None), "nothing is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_keeps_nothing_forgets_nothing_and_ids_mean_what_they_say() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await.snapshot;
    let second = backup(&owner, &path, 1).await.snapshot;
    let keep = KeepOptions { tags: vec!["none has it".to_owned()], ..KeepOptions::default() };
    for request in [
        ForgetRequest { timeout_s: 5, ..ForgetRequest::default() },
        ForgetRequest { keep, timeout_s: 5, ..ForgetRequest::default() },
        ForgetRequest { keep: keep_last(1).keep, ..named(&[&first]) },
        ForgetRequest { group_by: Some("colour".to_owned()), ..keep_last(1) },
        ForgetRequest { replicas: Some(0), ..keep_last(1) },
        named(&["ffffff"]),
        named(&[&first, "nothing"]),
    ] {
        let failure = forget(&owner, request.clone()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{failure:?} of {request:?}");
    }
    assert_eq!(ids(&owner).await.len(), 2);
    let path_of = |path: String| ForgetRequest { paths: vec![path], ..keep_last(1) };
    let (_, done) = forget(&owner, path_of("/misspelt/".to_owned())).await.unwrap();
    assert_eq!((done.groups, done.forgotten), (0, 0), "{done:?}");
    assert!(tells(&done.notes, &["is of /misspelt:", "`quloud snapshots`"]), "{done:?}");
    let dry = ForgetRequest { dry_run: true, ..path_of(format!("{}/", path.display())) };
    let (_, done) = forget(&owner, dry).await.unwrap();
    assert_eq!((done.groups, done.kept), (1, 1), "{done:?}");
    assert!(!tells(&done.notes, &["no snapshot"]), "{done:?}");
    let elsewhere = ForgetRequest { hosts: vec!["elsewhere".to_owned()], ..keep_last(1) };
    assert_eq!(forget(&owner, elsewhere).await.unwrap().1.forgotten, 0);
    // The same one twice is one.
    let (told, done) = forget(&owner, named(&[&first[..10], &first])).await.unwrap();
    assert_eq!((told.len(), done.forgotten, done.replicas), (1, 1, Some(1)), "{told:?}");
    assert_eq!(ids(&owner).await, std::slice::from_ref(&second));
    forget(&owner, named(&["latest"])).await.unwrap();
    assert!(ids(&owner).await.is_empty(), "whoever names the last one means it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_stays_so_over_a_checkpoint() {
    let (owner, holders) = mesh(1).await;
    let path = owner.file("only one", 1_000);
    let mut made = Vec::new();
    for _ in 0..15 {
        made.push(backup(&owner, &path, 1).await.snapshot);
    }
    // The head has room for one more entry: the checkpoint in its place says what is forgotten.
    let (_, done) = forget(&owner, keep_last(3)).await.unwrap();
    assert_eq!((done.kept, done.forgotten), (3, 12));
    assert_eq!(ids(&owner).await, made[12..]);
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    assert_eq!(ids(&other).await, made[12..]);
    // And what another device forgets of them, over a checkpoint of its own.
    forget(&other, named(&[&made[12]])).await.unwrap();
    for _ in 0..15 {
        made.push(backup(&other, &path, 1).await.snapshot);
    }
    // A look that hears too little shows what was seen last; the next one hears more.
    let deadline = Instant::now() + PATIENCE;
    while ids(&owner).await != made[13..] && Instant::now() < deadline {}
    assert_eq!(ids(&owner).await, made[13..]);
    let new = machine(1, &holders[0]).await;
    recover(&new, None).await.unwrap();
    assert_eq!(ids(&new).await, made[13..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_grouped_by_all_of_their_paths_however_many() {
    let (owner, _holders) = mesh(1).await;
    let paths: Vec<PathBuf> = (0..8)
        .map(|number| {
            let path = owner.folder.path().join(format!("{number}{}", "x".repeat(200)));
            fs::create_dir(&path).unwrap();
            path
        })
        .collect();
    // Entries of the manifest have 1 KiB for paths: these differ behind that.
    let mut made = Vec::new();
    for paths in [&paths[..7], &paths[..8], &paths[..7]] {
        let paths = paths.to_vec();
        let request =
            BackupRequest { paths, replicas: 1, timeout_s: 20, ..BackupRequest::default() };
        made.push(end(owner.handle().backup(request)).await.unwrap().snapshot);
    }
    let last = vec![paths[7].to_str().unwrap().to_owned()];
    let of_last = ForgetRequest { paths: last, dry_run: true, ..keep_last(1) };
    let (_, done) = forget(&owner, of_last).await.unwrap();
    assert_eq!((done.groups, done.kept), (1, 1), "{done:?}");
    assert!(!tells(&done.notes, &["no snapshot"]), "{done:?}");
    let (_, done) = forget(&owner, keep_last(1)).await.unwrap();
    assert_eq!((done.groups, done.kept, done.forgotten), (2, 2, 1), "{done:?}");
    assert_eq!(ids(&owner).await, made[1..]);
    let by_host = ForgetRequest { group_by: Some("host".to_owned()), ..keep_last(1) };
    let (told, _) = forget(&owner, by_host).await.unwrap();
    assert!(!told[0].group.contains("paths"), "{told:?}");
    assert_eq!(ids(&owner).await, made[2..]);
}
