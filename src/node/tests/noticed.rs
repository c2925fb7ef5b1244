//! Damage that a holder tells of is audited at once, and counted by what the audit comes to.

use super::backup::{backup, folder, mesh};
use super::recover::rot;
use super::*;
use crate::node::report::VerifyRequest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_finds_damaged_it_tells_and_the_owner_has_it_proven_at_once() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let inner = &owner.handle().inner;
    inner.tends.store(true, std::sync::atomic::Ordering::Relaxed);
    let holder = NodeKeys::from_seeds([holders[0].seed; 32], [0; 32], [0; 32]).node_id();
    // The first audits are its doing, and show the holder whose node this is.
    let audited = |wanted: fn(&crate::repo::catalog::HolderAudited) -> bool| {
        let record = inner.with_catalog(|catalog| catalog.audit_record(&holder));
        record.is_some_and(|record| record.incidents.iter().chain(&record.last).any(wanted))
    };
    let until = async |wanted: fn(&crate::repo::catalog::HolderAudited) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !audited(wanted) {
            assert!(Instant::now() < deadline, "no such audit");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(|last| last.proven > 0).await;
    rot(&holders[0].data().join("store/segments"));
    // Somebody reads it, and the holder comes upon the damage. What is damaged may be stored anew
    // before the reading has given it up: so that comes to one thing or the other, sooner or later.
    let request = VerifyRequest { snapshot: "latest".to_owned(), sample_ppm: None, timeout_s: 60 };
    let mut reading = owner.handle().verify(request);
    let reading = tokio::spawn(async move { while reading.recv().await.is_some() {} });
    until(|last| last.damaged == 1).await;
    reading.abort();
}
