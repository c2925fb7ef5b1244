//! Healing from holders that serve wrong bytes.

use super::account::{content, id_of, inner, known};
use super::audit::audit;
use super::backup::{backup, folder, mesh};
use super::*;
use crate::core::types::ChunkId;
use crate::node::report::HealRequest;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Chunks for which a holder was asked first, and served wrong bytes.
type Spoiled = Arc<Mutex<BTreeSet<ChunkId>>>;

/// Whoever of the holders is asked for a chunk first serves wrong bytes.
fn spoil(holders: &[TestNode]) -> Spoiled {
    let spoiled = Spoiled::default();
    for holder in holders {
        let spoiled = Arc::clone(&spoiled);
        let serve = move |id, sealed: &mut Vec<u8>| {
            if spoiled.lock().unwrap().insert(id) {
                let middle = sealed.len() / 2;
                sealed[middle] ^= 1;
            }
        };
        *inner(holder).shared.served.lock().unwrap() = Some(Box::new(serve));
    }
    spoiled
}

/// Threat 37: the owner checks what comes before it sends it on, and asks another holder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_repair_source_never_propagates() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let files: BTreeSet<ChunkId> = content(&owner).await.iter().map(|chunk| chunk.id).collect();
    // Nothing is made again from the files.
    std::fs::remove_dir_all(&path).unwrap();
    let spoiled = spoil(&holders);
    let new = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 3).await;
    let request = HealRequest { replicas: Some(3), timeout_s: 20 };
    let healed = end(owner.handle().heal(request)).await.unwrap();
    assert!(healed.short >= files.len() as u64 && healed.lost == 0, "{healed:?}");
    let spoiled = spoiled.lock().unwrap().clone();
    assert!(files.is_subset(&spoiled), "each was served wrong: {files:?} {spoiled:?}");
    // The new holder has all of it, and nothing that it was sent was wrong.
    let holds = |id: &ChunkId| {
        let holders = inner(&owner).with_catalog(|catalog| catalog.holders_of(id));
        holders.contains(&id_of(&new))
    };
    assert!(known(&owner).iter().all(holds), "{healed:?}");
    assert_eq!(inner(&new).shared.rejects(), BTreeMap::new());
    let found = audit(&owner).await;
    assert_eq!((found.damaged, found.proven), (0, found.replicas), "{found:?}");
}
