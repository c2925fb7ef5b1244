//! Damage that a holder tells of is audited at once, and counted by what the audit comes to.

use super::account::{id_of, inner};
use super::audit::{tend, until};
use super::backup::{backup, folder, mesh};
use super::recover::rot;
use crate::node::report::VerifyRequest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_finds_damaged_it_tells_and_the_owner_has_it_proven_at_once() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    tend(&owner);
    let holder = id_of(&holders[0]);
    // The first audits are its doing, and show the holder whose node this is.
    let audited = |wanted: fn(&crate::repo::catalog::HolderAudited) -> bool| {
        let record = inner(&owner).with_catalog(|catalog| catalog.audit_record(&holder));
        record.is_some_and(|record| record.incidents.iter().chain(&record.last).any(wanted))
    };
    until(&owner, "the first audit", |_| audited(|last| last.outcome.proven > 0)).await;
    rot(&holders[0].data().join("store/segments"));
    // Somebody reads it, and the holder comes upon the damage. What is damaged may be stored anew
    // before the reading has given it up: so that comes to one thing or the other, sooner or later.
    let request = VerifyRequest { snapshot: "latest".to_owned(), sample_ppm: None, timeout_s: 60 };
    let mut reading = owner.handle().verify(request);
    let reading = tokio::spawn(async move { while reading.recv().await.is_some() {} });
    until(&owner, "an audit of the damage", |_| audited(|last| last.outcome.damaged == 1)).await;
    reading.abort();
}
