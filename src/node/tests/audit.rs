//! Audits and healing that nobody asked for, and what they leave in the catalogue.

use super::account::{content, id_of, inner, known, let_go};
use super::backup::{backup, folder, mesh};
use super::recover::rot;
use super::*;
use crate::node::report::{AuditDone, AuditRequest, HealDone, HealRequest};
use crate::repo::catalog::{Standing, standing};
use std::sync::atomic::Ordering;

/// Waits until the catalogue says so.
async fn until(owner: &TestNode, what: &str, is_so: impl Fn(&TestNode) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so(owner) {
        assert!(tokio::time::Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn tend(owner: &TestNode) {
    inner(owner).tends.store(true, Ordering::Relaxed);
}

/// The fewest acknowledged, and the fewest proven, replicas of any chunk.
fn fewest(owner: &TestNode) -> (usize, usize) {
    let ids = known(owner);
    inner(owner).with_catalog(|catalog| {
        let all = ids.iter().map(|id| catalog.replicas_of(id, (0, u64::MAX)));
        all.fold((usize::MAX, usize::MAX), |(acked, audited), of| {
            (acked.min(of.acked), audited.min(of.audited))
        })
    })
}

async fn audit(owner: &TestNode) -> AuditDone {
    let request = AuditRequest { timeout_s: 20, ..AuditRequest::default() };
    end(owner.handle().audit(request)).await.unwrap()
}

async fn heal(owner: &TestNode) -> HealDone {
    end(owner.handle().heal(HealRequest { replicas: None, timeout_s: 20 })).await.unwrap()
}

fn standing_of(owner: &TestNode, holder: &TestNode) -> Standing {
    let record = inner(owner).with_catalog(|catalog| catalog.audit_record(&id_of(holder)));
    standing(&record.unwrap_or_default(), seconds_since_1970())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_replicas_are_audited_and_the_proofs_outlive_a_restart() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    assert_eq!(fewest(&owner), (2, 0), "an ack is no proof");
    tend(&owner);
    until(&owner, "first audits", |owner| fewest(owner) == (2, 2)).await;
    let is_proven = |owner: &TestNode| {
        holders.iter().all(|holder| standing_of(owner, holder) == Standing::Proven)
    };
    until(&owner, "its record", is_proven).await;
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    assert_eq!(fewest(&owner), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_let_go_is_stored_anew_by_a_running_node_that_needs_it() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let chunks = content(&owner).await;
    let_go(&owner, &holders[0], &chunks).await;
    let found = audit(&owner).await;
    assert_eq!(found.missing, chunks.len() as u64, "{found:?}");
    assert_eq!((found.damaged, found.lied, found.silent), (found.missing, 0, 0), "{found:?}");
    assert!(found.files.iter().any(|file| file.name.ends_with("/large")), "{found:?}");
    assert_eq!(fewest(&owner).0, 1);
    tend(&owner);
    until(&owner, "healing", |owner| fewest(owner) == (2, 2)).await;
    let clean = audit(&owner).await;
    assert_eq!((clean.damaged, clean.proven), (0, clean.replicas), "{clean:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_holder_is_late_its_replicas_are_replaced_on_asking_and_count_when_it_is_back() {
    let (owner, mut holders) = mesh(3).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let away = {
        let held = |holder: &&mut TestNode| {
            let node = id_of(holder);
            inner(&owner).with_catalog(|catalog| catalog.chunks_held_by(&node)) > 0
        };
        holders.iter_mut().find(held).unwrap()
    };
    away.stop().await;
    owner.status_until(|status| status.peers == 2).await;
    let found = audit(&owner).await;
    assert!(found.silent > 0 && found.damaged == 0, "{found:?}");
    assert_eq!(standing_of(&owner, away), Standing::Late);
    let healed = heal(&owner).await;
    assert!(healed.short > 0 && healed.healed == healed.short, "{healed:?}");
    assert_eq!((healed.lost, healed.still_short), (0, 0), "{healed:?}");
    away.start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 3).await;
    let back = audit(&owner).await;
    assert_eq!((back.proven, back.silent), (back.replicas, 0), "{back:?}");
    assert_eq!(standing_of(&owner, away), Standing::Proven);
    assert_eq!(heal(&owner).await.short, 0, "it counts again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_holder_has_any_more_is_made_again_from_its_file_or_told_as_lost() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    let holder = &mut holders[0];
    holder.stop().await;
    rot(&holder.data().join("store/segments"));
    holder.start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    let found = audit(&owner).await;
    assert_eq!((found.damaged, found.rotten, found.lost), (1, 1, 1), "{found:?}");
    let away = path.with_file_name("elsewhere");
    std::fs::rename(path.join("large"), &away).unwrap();
    let lost = heal(&owner).await;
    assert_eq!((lost.lost, lost.healed), (1, 0), "{lost:?}");
    assert!(lost.files[0].name.ends_with("/large") && lost.files[0].lost > 0, "{lost:?}");
    std::fs::rename(&away, path.join("large")).unwrap();
    let healed = heal(&owner).await;
    assert_eq!((healed.lost, healed.healed), (0, 1), "{healed:?}");
    let clean = audit(&owner).await;
    assert_eq!((clean.damaged, clean.proven), (0, clean.replicas), "{clean:?}");
}
