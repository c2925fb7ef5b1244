//! Holders that are tried: whether they hand over what they prove.

use super::account::{id_of, inner};
use super::audit::{audit, fewest, heal, until};
use super::backup::{backup, folder, mesh};
use super::recover::rot;
use super::*;
use crate::core::types::{ChunkId, LeaseNonce, NodeId, StoreEpoch};
use crate::node::audit::prove_new;
use crate::repo::catalog::{AuditRecord, ChunkAcked, Entry, Standing, standing};
use std::sync::atomic::Ordering;

fn record_of(owner: &TestNode, holder: &TestNode) -> AuditRecord {
    inner(owner).with_catalog(|catalog| catalog.audit_record(&id_of(holder))).unwrap_or_default()
}

fn misses(owner: &TestNode, holder: &TestNode) -> u32 {
    record_of(owner, holder).withheld.map_or(0, |withheld| withheld.misses)
}

fn try_holders(owner: &TestNode, is_on: bool) {
    inner(owner).tries.store(is_on, Ordering::Relaxed);
}

fn withhold(holder: &TestNode, is_on: bool) {
    inner(holder).shared.withholds.store(is_on, Ordering::Relaxed);
}

/// So many chunks come too late.
fn delay(holder: &TestNode, count: u32) {
    inner(holder).shared.late.store(count, Ordering::Relaxed);
}

/// Threat 10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostage_holder_detected_by_drill() {
    let (mut owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let [hostage, honest] = holders.as_slice() else { panic!() };
    withhold(hostage, true);
    let proven = audit(&owner).await;
    assert_eq!((proven.proven, proven.silent), (proven.replicas, 0), "{proven:?}");
    try_holders(&owner, true);
    until(&owner, "a miss", |owner| misses(owner, hostage) > 0).await;
    // Nothing that it proves makes up for it, nor does a restart.
    let proven = audit(&owner).await;
    assert_eq!((proven.proven, proven.silent), (proven.replicas, 0), "{proven:?}");
    let is_late = |holder: &crate::node::report::AuditedHolder| {
        holder.standing == "late" && holder.why.contains("withholds it since")
    };
    assert_eq!(proven.holders.iter().filter(|holder| is_late(holder)).count(), 1, "{proven:?}");
    owner.stop().await;
    owner.start(Some(honest)).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!((misses(&owner, hostage), misses(&owner, honest)), (1, 0));

    // The days pass.
    let (now_s, node) = (seconds_since_1970(), id_of(hostage));
    for at_s in [now_s + 12 * 3_600, now_s + 25 * 3_600] {
        inner(&owner).record(Entry::HolderWithheld { node, at_s }).unwrap();
    }
    let record = record_of(&owner, hostage);
    assert_eq!(standing(&record, now_s + 25 * 3_600), Standing::Suspect);
    // It thinks better of it.
    withhold(hostage, false);
    try_holders(&owner, true);
    until(&owner, "a chunk", |owner| record_of(owner, hostage).withheld.is_none()).await;
    assert_eq!(standing(&record_of(&owner, hostage), now_s), Standing::Proven);
}

/// Waits until it looked so often again whom to ask, each time to the end.
async fn looks(owner: &TestNode, count: u64) {
    let looks = |owner: &TestNode| inner(owner).looks.load(Ordering::Relaxed);
    // One may be under way.
    let wanted = looks(owner) + count + 1;
    until(owner, "looks", |owner| looks(owner) >= wanted).await;
}

/// An owner with two holders that proved all; at the first one a chunk is damaged since.
async fn rotten() -> (TestNode, Vec<TestNode>) {
    let (owner, mut holders) = mesh(2).await;
    end(owner.put(owner.file("file", 3 << 20), 2, 60)).await.unwrap();
    audit(&owner).await;
    assert_eq!(fewest(&owner), (2, 2));
    holders[0].stop().await;
    rot(&holders[0].data().join("store/segments"));
    holders[0].start(Some(&owner)).await;
    let node = id_of(&holders[0]);
    until(&owner, "the rotten one", |owner| inner(owner).shared.is_connected(&node)).await;
    (owner, holders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_tried_and_is_away_or_has_lost_the_chunk_withholds_nothing() {
    let (owner, mut holders) = rotten().await;
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    try_holders(&owner, true);
    until(&owner, "the loss", |owner| fewest(owner).0 < 2).await;
    looks(&owner, 2).await;
    assert!(holders.iter().all(|holder| misses(&owner, holder) == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_a_chunk_and_is_given_it_anew_withholds_nothing() {
    let (owner, holders) = rotten().await;
    try_holders(&owner, true);
    until(&owner, "the loss", |owner| fewest(owner).0 < 2).await;
    // Before it is asked again.
    let healed = heal(&owner).await;
    assert_eq!((healed.healed, healed.still_short), (1, 0), "{healed:?}");
    prove_new(inner(&owner)).await.unwrap();
    assert_eq!(fewest(&owner), (2, 2));
    looks(&owner, 3).await;
    assert!(holders.iter().all(|holder| misses(&owner, holder) == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_counts_no_more_at_a_holder_it_does_not_owe() {
    let (owner, holders) = rotten().await;
    let [rotten, _] = holders.as_slice() else { panic!() };
    try_holders(&owner, true);
    until(&owner, "the loss", |owner| fewest(owner).0 < 2).await;
    looks(&owner, 1).await;
    let (node, at_s) = (id_of(rotten), seconds_since_1970());
    inner(&owner).record(Entry::HolderWithheld { node, at_s }).unwrap();
    // It is asked for what else it has, and hands that over.
    until(&owner, "something fresh", |owner| record_of(owner, rotten).withheld.is_none()).await;
    assert_eq!(fewest(&owner).0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_late_while_nobody_hands_anything_over_withholds_nothing() {
    let (owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    audit(&owner).await;
    // Both hand something over, and then the owner's line goes bad for all that is large.
    try_holders(&owner, true);
    looks(&owner, 2).await;
    holders.iter().for_each(|holder| delay(holder, u32::MAX));
    looks(&owner, 1).await;
    let proven = audit(&owner).await;
    assert_eq!((proven.proven, proven.silent), (proven.replicas, 0), "{proven:?}");
    assert!(holders.iter().all(|holder| misses(&owner, holder) == 0));
    // It is well again, and one of them is as it was.
    let [hostage, honest] = holders.as_slice() else { panic!() };
    delay(honest, 0);
    until(&owner, "a miss", |owner| misses(owner, hostage) > 0).await;
    assert_eq!(misses(&owner, honest), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_late_and_hands_it_over_after_another_one_has_withholds_nothing() {
    let (owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    audit(&owner).await;
    delay(&holders[0], 1);
    try_holders(&owner, true);
    looks(&owner, 1).await;
    assert_eq!(inner(&holders[0]).shared.late.load(Ordering::Relaxed), 0);
    assert!(holders.iter().all(|holder| misses(&owner, holder) == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_nothing_any_more_that_anything_names_withholds_nothing() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let other = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let record = |entry| inner(&owner).record(entry).unwrap();
    let (chunk, node) = (ChunkId::from_bytes([9; 32]), id_of(&other));
    let (lease, epoch) = (LeaseNonce::from_bytes([9; 16]), StoreEpoch::from_bytes([9; 16]));
    record(Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch }));
    // It has nothing at all.
    let away = NodeId::from_bytes([99; 32]);
    let at_s = seconds_since_1970();
    for node in [id_of(&holders[0]), node, away] {
        record(Entry::HolderWithheld { node, at_s });
    }
    withhold(&holders[0], true);
    let is_withheld = |node: &NodeId| {
        let record = inner(&owner).with_catalog(|catalog| catalog.audit_record(node));
        record.is_some_and(|record| record.withheld.is_some())
    };
    try_holders(&owner, true);
    looks(&owner, 1).await;
    assert!(!is_withheld(&node) && !is_withheld(&away));
    assert!(is_withheld(&id_of(&holders[0])), "it has what is named");
}
