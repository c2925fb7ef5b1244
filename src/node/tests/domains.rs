//! Replicas in one failure domain count once, whenever two holders turn out to share one.

use super::account::{id_of, inner};
use super::audit::{audit, heal, tend, until};
use super::backup::{backup, folder, mesh};
use super::words::{seen, told, until_told};
use super::*;
use crate::node::report::ReplicasWord;

/// The holder starts again and declares a site.
async fn moves(owner: &TestNode, holder: &mut TestNode, site: &str, peers: usize) {
    holder.stop().await;
    owner.status_until(|status| status.peers == peers - 1).await;
    site.clone_into(&mut holder.site);
    holder.start(Some(owner)).await;
    owner.status_until(|status| status.peers == peers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_holders_in_one_place_are_two_replicas_until_a_fourth_has_one() {
    let (mut owner, mut holders) = mesh(3).await;
    let path = folder(&owner);
    backup(&owner, &path, 3).await;
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    assert_eq!((safe.has, safe.target), (3, 3));
    for holder in &mut holders[..2] {
        moves(&owner, holder, "Attic", 3).await;
    }
    until_told(&owner, ReplicasWord::AtRisk).await;
    // With the next look.
    owner.status_until(|status| tells(&status.attention, &["declared site", "elsewhere"])).await;
    let at_risk = told(&owner).await;
    assert_eq!((at_risk.word, at_risk.has), (ReplicasWord::AtRisk, 2), "{at_risk:?}");

    // Nobody else is there, and those who have it are not asked for another one.
    let healed = heal(&owner).await;
    assert_eq!((healed.healed, healed.lost), (0, 0), "{healed:?}");
    assert!(healed.still_short > 0 && healed.fewest == 2, "{healed:?}");

    // Who stands together is known again after a restart, also while one of them is away.
    owner.stop().await;
    holders[0].stop().await;
    owner.start(Some(&holders[2])).await;
    holders[1].stop().await;
    holders[1].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let near = |owner: &TestNode| inner(owner).with_catalog(|catalog| catalog.near().0.clone());
    until(&owner, "who stands together", |owner| !near(owner).is_empty()).await;
    let together = near(&owner).nodes().copied().collect::<Vec<_>>();
    let mut attic = [&holders[0], &holders[1]].map(id_of);
    attic.sort_unstable();
    assert_eq!(together, attic);
    assert_eq!(told(&owner).await.word, ReplicasWord::AtRisk);

    // And while both say something else.
    moves(&owner, &mut holders[1], "", 2).await;
    holders[0].site.clear();
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 3).await;
    assert_eq!(told(&owner).await.word, ReplicasWord::AtRisk);

    // A node in another place gets a replica of all.
    holders.push(TestNode::started(9, Some(&owner)).await);
    owner.status_until(|status| status.peers == 4).await;
    let healed = heal(&owner).await;
    assert!(healed.healed > 0 && healed.still_short == 0, "{healed:?}");
    assert!(audit(&owner).await.proven > 0);
    tend(&owner);
    let safe = until_told(&owner, ReplicasWord::Safe).await;
    assert_eq!((safe.has, seen(&safe).fewest_proven), (3, 3), "{safe:?}");
}
