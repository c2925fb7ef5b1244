//! Whole nodes that ask how they stand: what led there is theirs to read, and nobody else's.

use super::account::{id_of, inner};
use super::audit::{audit, until};
use super::backup::{backup, folder, mesh};
use super::recover::rot;
use super::*;
use crate::core::message::StandingRefusal;
use crate::net::peer_id_of;
use crate::node::report::{OwnerAnswer, OwnerSays, PeerReport, SaysOfUs, VerifyRequest};
use crate::node::standing::said_of;

/// What the one owner that was asked says.
async fn asks(holder: &TestNode, owner: &TestNode) -> SaysOfUs {
    let said = holder.handle().standings().await;
    let [OwnerSays { peer_id, says }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*peer_id, peer_id_of(&id_of(owner)));
    says.clone()
}

/// What the owner sees of a holder.
async fn sees(owner: &TestNode, holder: &TestNode) -> PeerReport {
    let peer_id = peer_id_of(&id_of(holder));
    let peers = owner.handle().peers().await;
    peers.into_iter().find(|peer| peer.peer_id == peer_id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_chunk_rotted_reads_what_its_owner_reads_and_when() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let holder = &holders[0];
    assert_eq!(audit(&owner).await.damaged, 0);
    rot(&holder.data().join("store/segments"));
    // Somebody reads it. What the holder comes upon it tells, and so has it audited.
    let request = VerifyRequest { snapshot: "latest".to_owned(), sample_ppm: None, timeout_s: 60 };
    let mut reading = owner.handle().verify(request);
    let reading = tokio::spawn(async move { while reading.recv().await.is_some() {} });
    let last = |owner: &TestNode| {
        let record = inner(owner).with_catalog(|catalog| catalog.audit_record(&id_of(holder)));
        record.and_then(|record| record.last)
    };
    let is_found = |owner: &TestNode| last(owner).is_some_and(|last| last.outcome.damaged == 1);
    until(&owner, "an audit of the damage", is_found).await;
    reading.abort();
    let says = asks(holder, &owner).await;
    let sees = sees(&owner, holder).await;
    assert_eq!((says.answer, says.standing.as_str()), (OwnerAnswer::Told, "damaged"));
    assert_eq!((&says.standing, &says.why), (&sees.standing, &sees.why));
    let at_s = last(&owner).unwrap().outcome.at_s;
    let day = crate::node::report::date(i64::try_from(at_s).unwrap());
    assert_eq!(says.why, format!("some was damaged or gone on {day}"));
    let incidents: Vec<_> = says.incidents.iter().map(|of| (of.at, of.damaged)).collect();
    assert_eq!((incidents, says.last), (vec![(at_s, 1)], says.incidents.first().copied()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_holder_is_proven_and_a_stranger_is_told_nothing() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let stranger = TestNode::started(9, Some(&owner)).await;
    stranger.status_until(|status| status.peers >= 1).await;
    let replicas = audit(&owner).await.replicas;
    let says = asks(&holders[0], &owner).await;
    assert_eq!((says.standing.as_str(), says.incidents.len()), ("proven", 0));
    assert!(says.why.starts_with("it proved what it was asked for on "), "{}", says.why);
    let last = says.last.unwrap();
    assert_eq!((last.asked, last.proven), (replicas, replicas));
    assert_eq!(says.why, sees(&owner, &holders[0]).await.why);
    // Nobody showed it an account of its own; and were it to ask, there is nothing to tell.
    assert!(stranger.handle().standings().await.is_empty());
    let refused = said_of(inner(&owner), &id_of(&stranger));
    assert_eq!(refused, Err(StandingRefusal::NoAccount));
    assert!(said_of(inner(&owner), &id_of(&holders[0])).is_ok());
    assert!(owner.handle().standings().await.is_empty(), "it keeps nothing for anybody");
}
