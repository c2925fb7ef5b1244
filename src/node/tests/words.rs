//! What a running node tells of how snapshots, and files that were put, are stored.

use super::account::inner;
use super::audit::{audit, fewest, heal, tend};
use super::backup::{backup, folder, mesh};
use super::recover::{machine, recover, rot};
use super::*;
use crate::node::report::{EvidenceReport, ReplicasReport, ReplicasWord, SnapshotsStatus};
use std::sync::atomic::Ordering;

fn rest(owner: &TestNode) {
    inner(owner).tends.store(false, Ordering::Relaxed);
}

/// What is told of the newest snapshot.
fn of_snapshot(found: &SnapshotsStatus) -> Option<ReplicasReport> {
    found.sets.first().and_then(|set| set.newest.replicas)
}

pub(super) async fn told(owner: &TestNode) -> ReplicasReport {
    of_snapshot(&owner.handle().status(9).await.snapshots).unwrap()
}

pub(super) async fn until_told(owner: &TestNode, word: ReplicasWord) -> ReplicasReport {
    let is_it = |it: ReplicasReport| it.word == word;
    owner.status_until(|status| of_snapshot(&status.snapshots).is_some_and(is_it)).await;
    told(owner).await
}

pub(super) fn seen(told: &ReplicasReport) -> EvidenceReport {
    told.evidence.unwrap()
}

/// A byte of what the holder has changes while it is away.
async fn damage(owner: &TestNode, holder: &mut TestNode, peers: usize) {
    holder.stop().await;
    rot(&holder.data().join("store/segments"));
    holder.start(Some(owner)).await;
    owner.status_until(|status| status.peers == peers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_safe_once_it_is_audited_at_risk_when_some_rots_and_safe_when_it_is_healed() {
    let (mut owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let acked = told(&owner).await;
    assert_eq!(acked.to_string(), "stored 2 of 2", "no proof yet");
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    assert_eq!((safe.has, safe.target, seen(&safe).fewest_proven), (2, 2, 2), "{safe:?}");
    assert_eq!((seen(&safe).acked_only, seen(&safe).lost), (0, 0), "{safe:?}");
    assert!(safe.since <= seen(&safe).looked_at && fewest(&owner) == (2, 2), "{safe:?}");
    rest(&owner);

    damage(&owner, &mut holders[0], 2).await;
    let found = audit(&owner).await;
    assert_eq!((found.damaged, found.rotten), (1, 1), "{found:?}");
    let at_risk = told(&owner).await;
    assert_eq!(at_risk.word, ReplicasWord::AtRisk, "before anybody looked: {at_risk:?}");
    assert_eq!(at_risk.since, seen(&at_risk).worse_since, "{at_risk:?}");
    assert!(at_risk.since >= safe.since, "{at_risk:?}");
    let status = owner.handle().status(9).await;
    assert!(tells(&status.attention, &["replicas were found to count no more", "perhaps of"]));
    owner.stop().await;
    let at_rest = of_snapshot(&owner.at_rest().snapshots);
    assert_eq!(at_rest, Some(at_risk), "a loss is remembered");
    owner.start(Some(&holders[1])).await;
    owner.status_until(|status| status.peers == 2).await;

    let healed = heal(&owner).await;
    assert_eq!((healed.healed, healed.still_short), (1, 0), "{healed:?}");
    let unseen = told(&owner).await;
    assert_eq!(unseen.word, ReplicasWord::AtRisk, "until it is looked at: {unseen:?}");
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    assert!(seen(&safe).fewest_proven == 2 && safe.since >= at_risk.since, "{safe:?}");
    let listed = owner.handle().snapshots().await.unwrap().snapshots;
    assert_eq!(listed[0].replicas.unwrap().word, ReplicasWord::Safe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_its_last_copy_is_lost_since_then_also_at_rest_until_it_is_stored_anew() {
    let (mut owner, mut holders) = mesh(1).await;
    let path = owner.folder.path().join("files");
    std::fs::create_dir(&path).unwrap();
    std::fs::rename(owner.file("large", 3 << 20), path.join("large")).unwrap();
    backup(&owner, &path, 1).await;
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    rest(&owner);
    let away = path.with_file_name("elsewhere");
    std::fs::rename(path.join("large"), &away).unwrap();
    damage(&owner, &mut holders[0], 1).await;
    assert_eq!(audit(&owner).await.lost, 1);
    tend(&owner);
    let lost = until_told(&owner, ReplicasWord::Lost).await;
    assert_eq!((seen(&lost).lost, lost.has), (1, 0), "{lost:?}");
    assert!(lost.since >= safe.since && lost.since <= seen(&lost).looked_at, "{lost:?}");
    let status = owner.handle().status(9).await;
    assert!(tells(&status.attention, &["no node is known to have some of", " since "]));
    owner.stop().await;
    let at_rest = of_snapshot(&owner.at_rest().snapshots).unwrap();
    assert_eq!((at_rest.word, at_rest.since), (ReplicasWord::Lost, lost.since));
    std::fs::rename(&away, path.join("large")).unwrap();
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 1).await;
    assert_eq!(told(&owner).await.word, ReplicasWord::Lost);
    let healed = heal(&owner).await;
    assert_eq!((healed.lost, healed.healed), (0, 1), "{healed:?}");
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    assert!(safe.since >= lost.since, "{safe:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_put_are_safe_once_they_are_audited_and_a_loss_takes_that_back() {
    let (owner, mut holders) = mesh(1).await;
    end(owner.put(owner.file("large", 3 << 20), 1, 60)).await.unwrap();
    let puts = |status: &Status| status.snapshots.puts_replicas.map(|it| it.word);
    let status = owner.handle().status(9).await;
    assert_eq!(puts(&status), Some(ReplicasWord::Stored), "no proof yet");
    tend(&owner);
    owner.status_until(|status| puts(status) == Some(ReplicasWord::Safe)).await;
    rest(&owner);
    damage(&owner, &mut holders[0], 1).await;
    assert_eq!(audit(&owner).await.lost, 1);
    let status = owner.handle().status(9).await;
    assert_eq!(puts(&status), Some(ReplicasWord::AtRisk));
    assert!(tells(&status.attention, &["perhaps of the files that were put"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_device_tells_how_what_the_lost_one_backed_up_is_stored() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    owner.stop().await;
    let new = machine(1, &holders[0]).await;
    recover(&new, None).await.unwrap();
    assert_eq!(of_snapshot(&new.handle().status(9).await.snapshots), None, "nobody looked");
    inner(&new).rebuild.pages.store(u64::MAX, Ordering::Relaxed);
    tend(&new);
    let safe = until_told(&new, ReplicasWord::Safe).await;
    assert_eq!((safe.target, seen(&safe).fewest_proven), (2, 2), "{safe:?}");
}
