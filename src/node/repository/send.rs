//! This device's newest head on its way to holders: at once by whoever publishes, and again for as
//! long as too few are known to keep it.

use super::{keys, known_heads, payload_of};
use crate::core::types::NodeId;
use crate::crypto::head::HeadRecord;
use crate::node::heads::{HeadStored, HeadWish};
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, HeadKept};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long a head that is sent again may wait for its quorum.
const AGAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How often a head that nobody keeps is sent again, if nobody comes before.
const AGAIN_EVERY: Duration = Duration::from_secs(60);

/// Holders that are remembered of one head.
const HOLDERS_MAX: usize = 32;

/// Sends a record of this device's head, which the catalogue has, and remembers who took it.
pub(super) async fn send(
    inner: &Arc<Inner>,
    index: u16,
    record: HeadRecord,
    wish: HeadWish,
) -> Result<HeadStored, Failure> {
    let number = record.number();
    // Once anybody has it, no other record may ever get its number.
    inner.commit_catalog().await?;
    let stored = inner.store_head(&keys(inner, index), record, wish).await?;
    if !stored.holders.is_empty()
        && unsent(inner).is_none_or(|(_, newest)| newest.number() == number)
    {
        inner.repository.is_sent.store(true, Ordering::Relaxed);
    }
    if !stored.superseded_by.is_empty() {
        tracing::warn!(number, by = stored.superseded_by.len(), "a newer head is said to be held");
    }
    if stored.is_stored {
        keep(inner, index, number, stored.holders.iter().copied().collect())?;
        inner.commit_catalog().await?;
    }
    Ok(stored)
}

/// Remembers who keeps a record.
pub(super) fn keep(
    inner: &Inner,
    index: u16,
    number: u64,
    mut holders: Vec<NodeId>,
) -> Result<(), Failure> {
    holders.truncate(HOLDERS_MAX);
    let generation = inner.keys.generation;
    inner.record(Entry::HeadKept(HeadKept { generation, index, number, holders }))
}

/// This device's newest record, where too few are known to keep it.
pub(super) fn unsent(inner: &Inner) -> Option<(u16, HeadRecord)> {
    let device = inner.with_catalog(|catalog| catalog.device())?;
    let head = known_heads(inner).remove(&device.index)?;
    head.kept.is_none().then_some((device.index, head.seen.record))
}

/// Sends the head of a publication that was broken off again, the very same, until it is kept.
/// Runs for the node's life.
pub(in crate::node) async fn send_again(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    loop {
        let somebody = !peers.borrow_and_update().is_empty();
        let Some(inner) = inner.upgrade() else { return };
        // Whoever publishes now sends a newer record, which this one makes way for.
        if somebody && let Some((index, record)) = unsent(&inner) {
            let payload = payload_of(&keys(&inner, index), &record);
            let replicas = payload.as_ref().map_or(1, |payload| payload.replicas).max(1);
            let mut held_by = payload.map(|payload| payload.holders).unwrap_or_default();
            held_by.retain(|node| inner.shared.is_connected(node));
            let wish = HeadWish { replicas, held_by, patience: AGAIN_PATIENCE };
            if let Err(failure) = send(&inner, index, record, wish).await {
                tracing::info!(why = failure.why, "a head was not sent again");
            }
        }
        drop(inner);
        tokio::select! {
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep(AGAIN_EVERY) => {}
        }
    }
}
