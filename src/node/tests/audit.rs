//! Audits and healing that nobody asked for, and what they leave in the catalogue.

use super::account::{content, id_of, inner, known, let_go};
use super::backup::{backup, folder, mesh};
use super::recover::rot;
use super::*;
use crate::core::audit::Verdict;
use crate::core::types::{AuditOutcome, LeaseNonce, StoreEpoch};
use crate::node::audit::ask::{Heard, take};
use crate::node::audit::{Stake, prove_new, record};
use crate::node::report::{AuditDone, AuditRequest, HealDone, HealRequest};
use crate::repo::catalog::{ChunkAcked, HolderAudited, Loss, ReplicaLost, Standing, standing};
use crate::repo::debt::Debt;
use std::sync::atomic::Ordering;

/// Waits until the catalogue says so.
pub(super) async fn until(owner: &TestNode, what: &str, is_so: impl Fn(&TestNode) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so(owner) {
        assert!(tokio::time::Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn tend(owner: &TestNode) {
    inner(owner).tends.store(true, Ordering::Relaxed);
}

/// The fewest acknowledged, and the fewest proven, replicas of any chunk.
pub(super) fn fewest(owner: &TestNode) -> (usize, usize) {
    let ids = known(owner);
    inner(owner).with_catalog(|catalog| {
        let all = ids.iter().map(|id| catalog.replicas_of(id, (0, u64::MAX)));
        all.fold((usize::MAX, usize::MAX), |(acked, audited), of| {
            (acked.min(of.acked), audited.min(of.audited))
        })
    })
}

pub(super) async fn audit(owner: &TestNode) -> AuditDone {
    let request = AuditRequest { timeout_s: 20, ..AuditRequest::default() };
    end(owner.handle().audit(request)).await.unwrap()
}

pub(super) async fn heal(owner: &TestNode) -> HealDone {
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

/// Threat 8: it cannot choose the questions that suit it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_owes_an_answer_is_silent_whatever_else_it_answers() {
    let (mut owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    audit(&owner).await;
    let node = id_of(&holders[0]);
    let owed = inner(&owner).with_catalog(|catalog| catalog.held_by(&node, None, 1));
    inner(&owner).record(Entry::HolderOwes { node, debt: Debt::of(owed.clone()) }).unwrap();
    let silent = Entry::HolderSilent { node, at_s: seconds_since_1970() };
    inner(&owner).record(silent).unwrap();
    assert_eq!(standing_of(&owner, &holders[0]), Standing::Late);
    backup(&owner, &owner.file("other", 5_000), 2).await;
    assert_eq!(prove_new(inner(&owner)).await.unwrap(), 0);
    assert_eq!(fewest(&owner), (2, 2), "it proved what is new");
    assert_eq!(standing_of(&owner, &holders[0]), Standing::Late);
    // Nor does it pay to wait for a restart.
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers > 0).await;
    assert_eq!(inner(&owner).with_catalog(|catalog| catalog.owed_by(&node)), Some(owed));
    let all = audit(&owner).await;
    assert_eq!((all.proven, all.silent), (all.replicas, 0), "{all:?}");
    assert_eq!(standing_of(&owner, &holders[0]), Standing::Proven);
    assert!(!inner(&owner).with_catalog(|catalog| catalog.has_debtors()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_long_gone_or_has_nothing_excuses_nobodys_silence() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    // Neither was ever seen: they share a domain with nobody.
    let [gone, other] = [77, 78].map(|byte| NodeId::from_bytes([byte; 32]));
    let (chunk, epoch) = (known(&owner)[0], StoreEpoch::from_bytes([7; 16]));
    let record = |entry| inner(&owner).record(entry).unwrap();
    for node in [gone, other] {
        let lease = LeaseNonce::from_bytes([node.as_bytes()[0]; 16]);
        record(Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch }));
    }
    let (now_s, day_s) = (seconds_since_1970(), 24 * 3_600);
    for days in (6..=20).rev() {
        record(Entry::HolderSilent { node: gone, at_s: now_s - days * day_s });
    }
    let long_gone = inner(&owner).with_catalog(|catalog| catalog.audit_record(&gone)).unwrap();
    assert_eq!(standing(&long_gone, now_s), Standing::Lost);

    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    assert!(audit(&owner).await.silent > 0);
    assert_eq!(standing_of(&owner, &holders[1]), Standing::Unknown, "another one is silent, too");
    let (why, at_s) = (Loss::Missing, seconds_since_1970());
    record(Entry::ReplicaLost(ReplicaLost { chunk, node: other, epoch, why, at_s }));
    assert!(audit(&owner).await.silent > 0);
    assert_eq!(standing_of(&owner, &holders[1]), Standing::Late);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_holder_has_any_more_is_made_again_from_its_file_or_told_as_lost() {
    let (owner, mut holders) = mesh(1).await;
    let path = owner.folder.path().join("files");
    std::fs::create_dir(&path).unwrap();
    std::fs::rename(owner.file("large", 3 << 20), path.join("large")).unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_audits_find_at_once_is_lost_once_and_was_proven() {
    let (owner, _holders) = mesh(1).await;
    // A node that keeps much, and that nobody asks.
    let (node, epoch) = (NodeId::from_bytes([77; 32]), StoreEpoch::from_bytes([7; 16]));
    let lease = LeaseNonce::from_bytes([7; 16]);
    let name = |at: u64| {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&at.to_be_bytes());
        ChunkId::from_bytes(bytes)
    };
    let chunks: Vec<ChunkId> = (0..2_000).map(name).collect();
    let at_s = seconds_since_1970();
    for chunk in &chunks {
        let acked = ChunkAcked { chunk: *chunk, node, lease, epoch };
        inner(&owner).record(Entry::ChunkAcked(acked)).unwrap();
    }
    inner(&owner).with_catalog(|all| all.prove_audited(&node, &epoch, &chunks, at_s));
    let verdicts: Vec<_> = chunks.iter().map(|chunk| (*chunk, Verdict::Damaged)).collect();
    let begin = std::sync::Barrier::new(2);
    let find = || {
        let mut heard = Heard::of(inner(&owner), node, epoch);
        begin.wait();
        take(inner(&owner), &verdicts, &mut heard, at_s).unwrap();
        heard
    };
    let found = std::thread::scope(|scope| {
        let both = [scope.spawn(find), scope.spawn(find)];
        both.map(|one| one.join().unwrap())
    });
    let lost: usize = found.iter().map(|heard| heard.all_lost().count()).sum();
    let new: usize = found.iter().map(|heard| heard.never_proven().count()).sum();
    assert_eq!((lost, new), (chunks.len(), 0));
}

/// A notice of damage is followed up at once, while the holder is asked for all that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_smaller_audit_found_stands_when_the_larger_one_ends() {
    let (owner, _holders) = mesh(1).await;
    let (node, epoch) = (NodeId::from_bytes([77; 32]), StoreEpoch::from_bytes([7; 16]));
    let sound = || {
        let mut heard = Heard::of(inner(&owner), node, epoch);
        heard.proven = 9;
        heard
    };
    let end = |heard| record(inner(&owner), &heard, &Stake::default(), 0).unwrap();
    let larger = sound();
    let begun = HolderAudited::begun((node, epoch), seconds_since_1970(), 1);
    let outcome = AuditOutcome { damaged: 1, ..begun.outcome };
    let notice = Entry::HolderAudited(HolderAudited { outcome, ..begun });
    inner(&owner).record(notice).unwrap();
    end(larger);
    let last = || inner(&owner).with_catalog(|all| all.audit_record(&node)?.last).unwrap().outcome;
    assert_eq!((last().proven, last().damaged), (9, 1));
    end(sound());
    assert_eq!((last().proven, last().damaged), (9, 0), "that one began later");
}
