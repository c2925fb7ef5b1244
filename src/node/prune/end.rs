//! How a prune ends: it is told that it is done, and one that was broken off is finished.

use super::holders::{Holders, TakenBack};
use super::plan::{Plan, Sought};
use super::tell::{self, Teller};
use super::{OnlyPrune, REPLICAS, Step, reached};
use crate::core::types::NodeId;
use crate::node::backup::Wish;
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, PruneNote};
use crate::repo::manifest::{Body, PruneId};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLockWriteGuard, watch};

/// A node that has just started finishes a prune so soon: one that is started for a single command
/// has other things to do, and ends.
const FINISH_AFTER: Duration = Duration::from_secs(20);

/// And so often, while it cannot.
const FINISH_EVERY: Duration = Duration::from_secs(300);

/// Writes entries. Returns how many nodes know of it.
pub(super) async fn publish(
    inner: &Arc<Inner>,
    wish: Wish,
    bodies: Vec<Body>,
) -> Result<usize, Failure> {
    let reins = (Arc::default(), Arc::default());
    let published = inner.repository.publish(inner, wish, reins, |_, _| Ok(bodies)).await?;
    Ok(published.head_replicas)
}

/// Publishes and notes that a prune is done.
pub(super) async fn done(
    inner: &Arc<Inner>,
    wish: Wish,
    prune: PruneId,
    released: u64,
) -> Result<(), Failure> {
    let left = inner.repository.own_open_prunes(inner).await.into_iter().map(|left| left.prune);
    let over = left.filter(|left| *left != prune).map(|prune| (prune, 0));
    let over = over.chain([(prune, released)]);
    let bodies = over.map(|(prune, released)| Body::PruneDone { prune, released }).collect();
    publish(inner, wish, bodies).await?;
    reached(inner, Step::Published)?;
    inner.record(Entry::Prune(PruneNote::Ended(prune)))?;
    inner.commit_catalog().await
}

/// Whether a prune was broken off after it had begun to let go.
pub(super) fn is_unfinished(inner: &Inner) -> bool {
    inner
        .with_catalog(|catalog| catalog.open_prune().is_some() && catalog.doomed().next().is_some())
}

/// Finishes a prune that was broken off after it had begun to let go: what is needed is taken back,
/// and the other devices are told that it is done. No delete key is needed for that. It stays open
/// while somebody who was asked to let go what is needed does not answer. One that has let nothing
/// go stays open, too: its intent counts.
pub(super) async fn finish(
    inner: &Arc<Inner>,
    wish: Wish,
    teller: &Teller,
    alone: RwLockWriteGuard<'_, ()>,
) -> Result<TakenBack, Failure> {
    let open = inner.with_catalog(|catalog| catalog.open_prune());
    let Some(open) = open else { return Ok(TakenBack::default()) };
    teller.note("finishing a prune that was broken off");
    // What the user accepted stands in the catalogue.
    let sought = Sought::now(inner, &BTreeSet::new()).await?;
    let plan = Plan::of(inner, sought, teller.clone(), wish.patience).await?;
    let needed = plan.needed_again(inner);
    let all = inner.with_catalog(|catalog| catalog.doomed().count());
    let mut holders = Holders::new(inner).await;
    let back = holders.take_back(&needed, wish.replicas, teller).await?;
    if back.open > 0 {
        return Ok(back);
    }
    let released = u64::try_from(all.saturating_sub(needed.len())).unwrap_or(u64::MAX);
    let over = plan.noted_whole(inner);
    done(inner, wish, open.prune, released).await?;
    over.into_iter().try_for_each(|note| inner.record(Entry::Prune(note)))?;
    inner.commit_catalog().await?;
    drop(alone);
    Ok(back)
}

/// Finishes what an earlier run of this folder broke off. Runs for the node's life.
pub(in crate::node) async fn finish_later(
    inner: Weak<Inner>,
    peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let mut pause = FINISH_AFTER;
    loop {
        tokio::time::sleep(pause).await;
        pause = FINISH_EVERY;
        let Some(inner) = inner.upgrade() else { return };
        let somebody = !peers.borrow().is_empty();
        if !somebody || !is_unfinished(&inner) {
            continue;
        }
        // One that a user waits for finishes it itself.
        let Some(_only) = OnlyPrune::begin(&inner) else { continue };
        // Nobody stands in line behind this, or is kept out by it while a backup runs.
        let Ok(alone) = inner.letting_go.try_write() else { continue };
        let replicas = inner.repository.replicas(&inner).unwrap_or(REPLICAS);
        let wish = Wish { replicas, patience: Duration::from_secs(60) };
        let back = finish(&inner, wish, &Teller::silent(), alone).await;
        if let Err(failure) = back.and_then(tell::whole) {
            tracing::info!(why = failure.why, "a prune that was broken off is not finished yet");
        }
    }
}
