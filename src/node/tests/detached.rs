//! Backups at whole nodes that go on without whoever asked for them.

use super::backup::{folder, mesh, request};
use super::*;
use crate::node::report::{
    BackupRequest, DetachedBackup, DetachedState, FailureKind, SnapshotMade,
};

async fn told_until(
    owner: &TestNode,
    wanted: impl Fn(&DetachedState) -> bool,
) -> (DetachedBackup, Vec<String>) {
    let is_wanted =
        |status: &Status| status.detached.first().is_some_and(|first| wanted(&first.state));
    let mut status = owner.status_until(is_wanted).await;
    (status.detached.remove(0), status.attention)
}

fn is_running(state: &DetachedState) -> bool {
    matches!(state, DetachedState::Running { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_handed_over_goes_on_alone_to_its_snapshot() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    let request = request(&path, 2, 3600);
    let refused = owner.handle().start_backup(request.clone()).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Usage, "it ends with its command: {refused:?}");
    owner.handle().stays();
    let dry = BackupRequest { dry_run: true, ..request.clone() };
    assert_eq!(owner.handle().start_backup(dry).await.unwrap_err().kind, FailureKind::Usage);
    let started = owner.handle().start_backup(request.clone()).await.unwrap();
    assert!(!started.already && started.snapshot.is_none(), "{started:?}");
    // It waits for a second holder.
    let (told, attention) = told_until(&owner, |state| match state {
        DetachedState::Running { bytes, chunks, .. } => *bytes > 3 << 20 && *chunks > 0,
        _ => false,
    })
    .await;
    assert_eq!(told.paths, [path.display().to_string()]);
    assert!(attention.is_empty(), "{attention:?}");
    let again = owner.handle().start_backup(request.clone()).await.unwrap();
    assert!(again.already && again.began_at == started.began_at, "{again:?}");
    let other = BackupRequest { replicas: 1, ..request };
    let failure = owner.handle().start_backup(other).await.unwrap_err();
    assert!(failure.why.contains("runs already"), "{failure:?}");

    holders.push(TestNode::started(9, Some(&owner)).await);
    let (told, attention) = told_until(&owner, |state| !is_running(state)).await;
    let DetachedState::Done { made, .. } = told.state else { panic!("{told:?}") };
    let SnapshotMade { snapshot, files, replicas, partial, .. } = made;
    assert_eq!((files, replicas, partial), (41, 2, false));
    assert!(attention.is_empty(), "{attention:?}");
    let listed = owner.handle().snapshots().await.unwrap().snapshots;
    assert_eq!(listed.iter().map(|it| &it.snapshot).collect::<Vec<_>>(), [&snapshot]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_a_backup_failed_that_nobody_waited_for_is_told_until_one_is_made() {
    let owner = TestNode::started(1, None).await;
    owner.handle().stays();
    let path = folder(&owner);
    let nowhere = request(&owner.folder.path().join("nowhere"), 1, 1);
    let failure = owner.handle().start_backup(nowhere).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    assert!(owner.handle().status(0).await.detached.is_empty());

    owner.handle().start_backup(request(&path, 1, 1)).await.unwrap();
    let (told, attention) = told_until(&owner, |state| !is_running(state)).await;
    let DetachedState::Failed { failure, .. } = told.state else { panic!("{told:?}") };
    let name = path.display().to_string();
    assert!(tells(&attention, &[&name, "made no snapshot", &failure.why]), "{attention:?}");

    let _holder = TestNode::started(2, Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    end(owner.handle().backup(request(&path, 1, 60))).await.unwrap();
    let status = owner.handle().status(0).await;
    assert!(status.detached.is_empty() && status.attention.is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_cut_by_the_end_of_the_node_is_taken_up_by_the_next() {
    let (mut owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    owner.handle().stays();
    owner.handle().start_backup(request(&path, 2, 3600)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    // All but the snapshot is with the only holder, and the second one does not come.
    let waits = |state: &DetachedState| match state {
        DetachedState::Running { note: Some(note), .. } => note == "waiting for the last chunks",
        _ => false,
    };
    let (told, _) = told_until(&owner, waits).await;
    let DetachedState::Running { chunks, .. } = told.state else { panic!("{told:?}") };
    while owner.handle().peers().await[0].holds_chunks < chunks {
        assert!(Instant::now() < deadline, "the only holder takes all {chunks}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let handle = owner.handle().clone();
    owner.stop().await;
    assert!(handle.inner.detached.told().is_empty());
    let failure = handle.start_backup(request(&path, 2, 60)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    // Whoever breaks it off lets the folder go.
    drop(handle);
    while DataDir::open(&owner.data()).is_err() {
        assert!(Instant::now() < deadline, "the folder is in use");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    owner.start(None).await;
    owner.status_until(|status| status.peers == 1).await;
    let done = end(owner.handle().backup(request(&path, 1, 60))).await.unwrap();
    assert_eq!((done.replicas, done.files, done.new_chunks), (1, 41, 2), "{done:?}");
}
