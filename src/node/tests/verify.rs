//! Drills: what is proven, what is damaged, and what is only out of reach.

use super::backup::{backup, folder, mesh};
use super::recover::{machine, recover, rot};
use super::*;
use crate::node::report::{
    FailureKind, RestoreRequest, SnapshotReport, VerifyDone, VerifyKind, VerifyRequest,
};
use std::fs;

fn latest(timeout_s: u64) -> VerifyRequest {
    VerifyRequest { snapshot: "latest".to_owned(), sample_ppm: None, timeout_s }
}

async fn verify(node: &TestNode, request: VerifyRequest) -> Result<VerifyDone, Failure> {
    end(node.handle().verify(request)).await
}

async fn listed(node: &TestNode) -> SnapshotReport {
    node.handle().snapshots().await.unwrap().snapshots.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_comes_back_whole_is_proven_and_the_proof_is_remembered() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 2).await;
    assert_eq!(listed(&owner).await.proven, None);
    let done = verify(&owner, latest(20)).await.unwrap();
    assert!(done.proven && done.faults.is_empty() && done.away.is_empty(), "{done:?}");
    assert_eq!((&done.snapshot, done.files, done.bytes), (&made.snapshot, 41, made.bytes));
    let served: u64 = done.holders.iter().map(|(_, count)| count).sum();
    assert_eq!(served, done.chunks);
    assert!(done.head.is_some_and(|head| head.agree == 2));

    let sample = VerifyRequest { sample_ppm: Some(300_000), ..latest(20) };
    let some = verify(&owner, sample).await.unwrap();
    assert_eq!(some.bytes + some.skipped_bytes, made.bytes, "{some:?}");
    assert!(some.proven && some.chunks <= done.chunks, "{some:?}");
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    let listed = listed(&owner).await;
    let proven = listed.proven.unwrap();
    assert_eq!((proven.sample_ppm, proven.damaged, listed.failed), (1_000_000, 0, None));
    for (sample_ppm, snapshot) in [(Some(0), "latest"), (Some(1_000_001), "latest"), (None, "ffff")]
    {
        let request = VerifyRequest { snapshot: snapshot.to_owned(), sample_ppm, ..latest(1) };
        let failure = verify(&owner, request).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_reads_from_holders_only() {
    let (owner, mut holders) = mesh(1).await;
    // Another device of the same owner, whose node holds all of it as well.
    let other = machine(1, &owner).await;
    other.status_until(|status| status.peers == 2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    recover(&other, None).await.unwrap();
    assert!(other.handle().status(0).await.store.unwrap().chunks > 3);
    holders[0].stop().await;
    other.status_until(|status| status.peers == 1).await;

    // What it needs for a restore is here, and proves nothing.
    let target = other.folder.path().join("back");
    let snapshot = "latest".to_owned();
    let (dry_run, timeout_s) = (false, 5);
    let request = RestoreRequest { snapshot, target, dry_run, timeout_s, ..Default::default() };
    let restored = end(other.handle().restore(request)).await;
    // It is not certain to be the latest with a holder of the head away.
    assert!(restored.is_err() || restored.is_ok_and(|done| done.files == 41));
    let done = verify(&other, latest(2)).await.unwrap();
    assert!(!done.proven && done.unreachable > 0, "{done:?}");
    assert_eq!((done.damaged, done.bytes, done.chunks), (0, 0, 0), "{done:?}");
    assert!(done.holders.is_empty(), "{done:?}");
    assert!(done.faults.iter().any(|fault| fault.kind == VerifyKind::Record), "{done:?}");
    assert!(done.faults.iter().any(|fault| fault.kind == VerifyKind::Tree), "{done:?}");

    holders[0].start(Some(&owner)).await;
    other.status_until(|status| status.peers == 2).await;
    let done = verify(&other, latest(20)).await.unwrap();
    assert!(done.proven && done.files == 41, "{done:?}");
    assert_eq!(done.holders.len(), 1, "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_told_from_holders_that_are_away() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    // The large file is stored first, whichever chunk would come first otherwise.
    backup(&owner, &path.join("large"), 1).await;
    backup(&owner, &path, 1).await;
    assert!(verify(&owner, latest(20)).await.unwrap().proven);
    holders[0].stop().await;
    rot(&holders[0].data().join("store/segments"));
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;

    let done = verify(&owner, latest(4)).await.unwrap();
    assert_eq!((done.damaged, done.unreachable, done.proven), (1, 0, false), "{done:?}");
    let [fault] = done.faults.as_slice() else { panic!("{done:?}") };
    assert!(fault.damaged && fault.name.ends_with("files/large"), "{fault:?}");
    assert!(fault.missing_bytes > 0 && !fault.missing.is_empty(), "{fault:?}");
    assert_eq!(done.damaged_at.len(), 1, "{done:?}");
    let snapshot = listed(&owner).await;
    assert!(snapshot.proven.is_some(), "it was proven before");
    assert_eq!(snapshot.failed.map(|drill| (drill.damaged, drill.unreachable)), Some((1, 0)));

    // With its only holder away nothing is known of damage.
    let _stranger = TestNode::started(9, Some(&owner)).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let done = verify(&owner, latest(2)).await.unwrap();
    assert_eq!((done.damaged, done.damaged_at.len(), done.proven), (0, 0, false), "{done:?}");
    assert!(done.unreachable > 0 && done.away.len() == 1, "{done:?}");
}

/// The first drill that asks for a damaged replica: which holder of a chunk is asked is chance.
async fn verify_until_damaged(node: &TestNode) -> VerifyDone {
    for _ in 0..40 {
        let done = verify(node, latest(20)).await.unwrap();
        if !done.damaged_at.is_empty() {
            return done;
        }
    }
    panic!("nobody is found to have anything damaged");
}

async fn peer_id(node: &TestNode) -> String {
    node.handle().status(0).await.peer_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_thrown_away_is_found_though_another_holder_has_all() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    fs::remove_dir_all(holders[0].data().join("store")).unwrap();
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;

    let done = verify_until_damaged(&owner).await;
    assert_eq!((done.damaged, done.unreachable, done.proven), (0, 0, true), "{done:?}");
    let [(holder, chunks)] = done.damaged_at.as_slice() else { panic!("{done:?}") };
    assert_eq!((holder, *chunks), (&peer_id(&holders[0]).await, done.covered), "{done:?}");
    assert!(done.faults.is_empty() && done.away.is_empty(), "{done:?}");

    // The next backup does not believe any more that it is there.
    let again = backup(&owner, &path, 2).await;
    assert!(again.replicas == 2 && again.new_bytes > 3 << 20, "{again:?}");
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let done = verify(&owner, latest(20)).await.unwrap();
    assert!(done.proven && done.damaged_at.is_empty(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rotten_replica_is_found_and_stored_again_by_the_next_backup() {
    let (mut owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    // The large file is stored first, whichever chunk would come first otherwise.
    backup(&owner, &path.join("large"), 2).await;
    backup(&owner, &path, 2).await;
    holders[0].stop().await;
    rot(&holders[0].data().join("store/segments"));
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let done = verify_until_damaged(&owner).await;
    assert_eq!((done.damaged, done.covered, done.proven), (0, 1, true), "{done:?}");
    assert_eq!(done.damaged_at, [(peer_id(&holders[0]).await, 1)], "{done:?}");

    // A restart does not bring the belief back.
    owner.stop().await;
    owner.start(Some(&holders[1])).await;
    owner.status_until(|status| status.peers == 2).await;
    let again = backup(&owner, &path, 2).await;
    assert!(again.replicas == 2 && again.new_chunks > 2, "{again:?}");
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let done = verify(&owner, latest(20)).await.unwrap();
    assert!(done.proven && done.damaged_at.is_empty(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_and_its_agreement_are_told_before_anything_is_read() {
    let (owner, _holders) = mesh(2).await;
    let made = backup(&owner, &folder(&owner), 2).await;
    let mut events = owner.handle().verify(latest(20));
    let Some(Progress::Told { line }) = events.recv().await else { panic!("it is told first") };
    assert!(line.starts_with(&format!("snapshot {} of ", &made.snapshot[..8])), "{line}");
    assert!(line.contains("head 0, number 1 of ") && line.contains("2 holders agree"), "{line}");
    assert!(end(events).await.unwrap().proven);
}
