//! What a node thinks of others, and how it repairs by that.

use super::account::{id_of, inner};
use super::audit::{audit, fewest, heal, until};
use super::backup::{backup, folder, mesh, request};
use super::recover::rot;
use super::*;
use crate::core::reputation::Losses;
use crate::core::types::{NodeId, Standing};
use crate::node::heal::heal_all;
use crate::node::report::{HealRequest, PeerReport};

/// The first report of this peer that is `wanted`. It is put together of what the transport, the
/// catalogue and the memory of others say when somebody asks, and none of them tells when one of
/// that changes: so it is asked for until it is there, or too late.
async fn peer_until(
    owner: &TestNode,
    peer: &TestNode,
    wanted: impl Fn(&PeerReport) -> bool,
) -> PeerReport {
    let (deadline, name) = (Instant::now() + PATIENCE, crate::net::peer_id_of(&id_of(peer)));
    loop {
        let found = owner.handle().peers().await.into_iter().find(|of| of.peer_id == name);
        if let Some(found) = found.clone().filter(&wanted) {
            return found;
        }
        assert!(Instant::now() < deadline, "still {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A holder starts again without anything that it held.
async fn empty(owner: &TestNode, holder: &mut TestNode, peers: usize) {
    holder.stop().await;
    std::fs::remove_dir_all(holder.data().join("store")).unwrap();
    owner.status_until(|status| status.peers == peers - 1).await;
    holder.start(Some(owner)).await;
    owner.status_until(|status| status.peers == peers).await;
}

/// An owner whose backup two holders proved to have, until one of them lost all of it.
async fn one_empty() -> (TestNode, Vec<TestNode>) {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    assert_eq!(audit(&owner).await.damaged, 0);
    empty(&owner, &mut holders[0], 2).await;
    assert!(audit(&owner).await.missing > 0);
    (owner, holders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_of_a_holder_shows_in_peers_and_outlives_a_restart() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    audit(&owner).await;
    let is_seen = |of: &PeerReport| of.conduct.acked > 0 && of.standing == "proven";
    let before = peer_until(&owner, &holders[0], is_seen).await.conduct;
    assert_eq!((&*before.trust, before.late), ("good", 0), "{before:?}");
    assert!(before.granted >= before.acked && before.ack_ms.is_some(), "{before:?}");
    assert!(before.score > Some(0), "{before:?}");
    let stranger = TestNode::started(9, Some(&owner)).await;
    let unknown = peer_until(&owner, &stranger, |_| true).await.conduct;
    assert_eq!((&*unknown.trust, unknown.score, unknown.granted), ("new", Some(0), 0));

    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    let after = peer_until(&owner, &holders[0], |_| true).await.conduct;
    // Acks of heads come after `before` was read, too.
    assert!(after.granted >= before.granted && after.acked >= before.acked, "{after:?} {before:?}");
    assert_eq!(after.trust, before.trust);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_without_what_it_acknowledged_is_given_it_again_on_asking_alone_for_a_day() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    empty(&owner, &mut holders[0], 2).await;
    let found = audit(&owner).await;
    assert!(found.missing > 0 && found.damaged == found.missing, "{found:?}");
    let told = peer_until(&owner, &holders[0], |of| of.conduct.rests_until.is_some()).await;
    assert!(told.conduct.score < Some(0), "{told:?}");
    // Nobody else is there who could have it.
    let alone = heal_all(inner(&owner)).await.unwrap();
    assert!(alone.short > 0 && alone.healed == 0, "{alone:?}");
    assert_eq!(fewest(&owner).0, 1);
    let asked = heal(&owner).await;
    assert!(asked.healed == asked.short && asked.short == alone.short, "{asked:?}");
    assert_eq!(fewest(&owner).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_rests_where_what_it_damaged_was_never_proven_and_not_where_it_was() {
    for was_proven in [false, true] {
        let (owner, mut holders) = mesh(1).await;
        let path = owner.folder.path().join("files");
        std::fs::create_dir(&path).unwrap();
        std::fs::rename(owner.file("large", 3 << 20), path.join("large")).unwrap();
        backup(&owner, &path, 1).await;
        if was_proven {
            assert_eq!(audit(&owner).await.damaged, 0);
        }
        holders[0].stop().await;
        rot(&holders[0].data().join("store/segments"));
        owner.status_until(|status| status.peers == 0).await;
        holders[0].start(Some(&owner)).await;
        owner.status_until(|status| status.peers == 1).await;
        let found = audit(&owner).await;
        assert_eq!((found.damaged, found.rotten), (1, 1), "{found:?}");
        // The holder tells of it as well, and is audited for that.
        let is_told = |of: &PeerReport| was_proven || of.conduct.rests_until.is_some();
        let told = peer_until(&owner, &holders[0], is_told).await;
        assert!(told.conduct.rests_until.is_none() || !was_proven, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_proved_and_lost_once_it_is_given_again_by_itself() {
    let (owner, mut holders) = one_empty().await;
    let healed = heal_all(inner(&owner)).await.unwrap();
    assert!(healed.short > 0 && healed.healed == healed.short, "{healed:?}");
    assert_eq!(fewest(&owner).0, 2);
    // Not a second time.
    empty(&owner, &mut holders[0], 2).await;
    assert!(audit(&owner).await.missing > 0);
    let alone = heal_all(inner(&owner)).await.unwrap();
    assert!(alone.short > 0 && alone.healed == 0, "{alone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repairs_by_itself_keep_to_what_they_may_move_in_a_day_and_a_heal_on_asking_does_not() {
    let (owner, _holders) = one_empty().await;
    let memory = &inner(&owner).shared.memory;
    let per_day = Config::default().repair_per_day.unwrap();
    assert_eq!(memory.repair_left(), per_day, "neither backups nor audits are repairs");
    memory.repaired(per_day);
    let bound = heal_all(inner(&owner)).await.unwrap();
    assert!(bound.short > 0 && bound.healed == 0 && bound.bytes_read == 0, "{bound:?}");
    let status = owner.status_until(|_| true).await;
    assert!(tells(&status.attention, &["repair_per_day", "quloud heal"]), "{status:?}");
    let asked = heal(&owner).await;
    assert!(asked.healed == asked.short && asked.short == bound.short, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_repairs_move_is_counted_once_for_each_copy_that_is_sent_or_fetched() {
    let (owner, _holders) = one_empty().await;
    let memory = &inner(&owner).shared.memory;
    let before = memory.repair_left();
    let healed = heal_all(inner(&owner)).await.unwrap();
    assert!(healed.short > 0 && healed.healed == healed.short, "{healed:?}");
    let moved = before - memory.repair_left();
    // Some is made again from its file, the rest is fetched and sent.
    assert!((healed.bytes_read..=2 * healed.bytes_read).contains(&moved), "{moved} {healed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_take_keeps_nothing_else_from_repair_and_costs_nothing() {
    let (owner, mut holders) = mesh(3).await;
    let path = folder(&owner);
    let other = owner.file("other", 1 << 20);
    // More than there are.
    let short = end(owner.handle().backup(request(&path, 4, 10))).await.unwrap();
    assert_eq!(short.replicas, 3, "{short:?}");
    backup(&owner, &other, 3).await;
    audit(&owner).await;
    empty(&owner, &mut holders[0], 3).await;
    assert!(audit(&owner).await.missing > 0);
    let memory = &inner(&owner).shared.memory;
    let heal = async || {
        let (before, request) =
            (memory.repair_left(), HealRequest { timeout_s: 5, replicas: None });
        let done = end(owner.handle().heal(request)).await.unwrap();
        (done, before - memory.repair_left())
    };
    let (healed, moved) = heal().await;
    assert!(healed.healed > 0 && healed.still_short > 0 && healed.lost == 0, "{healed:?}");
    assert_eq!(fewest(&owner).0, 3);
    // At least the other file; a short backup is looked after by whoever is first.
    assert!(moved > 1 << 20, "{moved}");
    let (again, moved) = heal().await;
    assert_eq!((again.healed, again.still_short), (0, healed.still_short), "{again:?}");
    // What is read on the way, of which copies lie here.
    assert!(moved < 1 << 20, "{moved}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_short_backup_lacks_is_sent_to_others_than_who_rests() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    let short = end(owner.handle().backup(request(&path, 3, 6))).await.unwrap();
    assert_eq!(short.replicas, 2, "{short:?}");
    let (at_s, rests) = (seconds_since_1970(), id_of(&holders[0]));
    inner(&owner).shared.memory.audited(rests, at_s, Losses::NeverProven);
    empty(&owner, &mut holders[0], 2).await;
    assert!(audit(&owner).await.missing > 0);
    let held = |holder: &NodeId| inner(&owner).with_catalog(|it| it.chunks_held_by(holder));
    assert_eq!(held(&rests), 0);
    holders.push(TestNode::started(9, Some(&owner)).await);
    let (whole, given) = (held(&id_of(&holders[1])), id_of(&holders[2]));
    until(&owner, "what is short", |_| held(&given) >= whole).await;
    assert_eq!(held(&rests), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_given_nothing_by_anybody_who_stores() {
    let (owner, holders) = mesh(2).await;
    let liar = id_of(&holders[0]);
    let lied = Entry::HolderLied { node: liar, at_s: seconds_since_1970() };
    inner(&owner).record(lied).unwrap();
    peer_until(&owner, &holders[0], |of| of.conduct.trust == "never").await;
    assert_eq!(inner(&owner).shared.memory.report(&liar, Standing::Liar).score, None);
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    assert_eq!(inner(&owner).with_catalog(|catalog| catalog.chunks_held_by(&liar)), 0);
}
