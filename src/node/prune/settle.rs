//! Chunks that are to be stored while a holder may still be about to let them go: it was asked to
//! by a prune that was broken off, or that it did not answer.
//!
//! What such a holder acknowledges does not count (see the catalogue's
//! [`unheard`](crate::repo::catalog::Catalog::unheard)), so it is not given the chunk before it has
//! taken that back: it is asked to when the chunk comes to be stored, where it is connected. One
//! that does not answer is left out, and others take the chunk; where there are none who could, the
//! backup or the put is told that it is short, as if that holder was away. There is little of this:
//! at most the last batch that each holder was asked for.

use crate::core::message::ChunkState;
use crate::core::owner::ReleaseWish;
use crate::core::types::{ChunkId, LeaseNonce, NodeId};
use crate::crypto::keys::ChunkKey;
use crate::node::account::{AccountError, release};
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, PruneNote};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// A holder that was silent is not asked again for so long: what is stored meanwhile others get.
const SILENT_PAUSE: Duration = Duration::from_secs(60);

/// Asks before chunks are handed over, for one backup or put.
#[derive(Debug, Default)]
pub(in crate::node) struct Settled {
    /// When these were asked last, and did not answer.
    silent: BTreeMap<NodeId, Instant>,
}

impl Settled {
    /// Who must not be given this chunk: whoever may still let it go, after those that are
    /// connected were asked. Blocks: call it from a thread that may.
    pub(in crate::node) fn without(&mut self, inner: &Arc<Inner>, id: &ChunkId) -> Vec<NodeId> {
        let unheard = inner.with_catalog(|catalog| {
            let ck = catalog.doomed_key(id)?.duplicate();
            Some((ck, catalog.unheard(id))).filter(|(_, unheard)| !unheard.is_empty())
        });
        let Some((ck, unheard)) = unheard else { return Vec::new() };
        if let Err(failure) = Handle::current().block_on(self.settle(inner, (id, &ck), unheard)) {
            tracing::warn!(why = failure.why, "what a holder has taken back is not noted");
        }
        let left = inner.with_catalog(|catalog| catalog.unheard(id));
        left.into_iter().map(|(node, _)| node).collect()
    }

    async fn settle(
        &mut self,
        inner: &Arc<Inner>,
        (id, ck): (&ChunkId, &ChunkKey),
        unheard: Vec<(NodeId, LeaseNonce)>,
    ) -> Result<(), Failure> {
        self.silent.retain(|_, since| since.elapsed() < SILENT_PAUSE);
        let asked = unheard
            .into_iter()
            .filter(|(node, _)| inner.shared.is_connected(node) && !self.silent.contains_key(node));
        let answers = asked.map(|(node, lease)| async move {
            let wish = ReleaseWish { id: *id, ck: ck.duplicate(), lent: None, lease };
            (node, release(inner, node, true, vec![wish]).await)
        });
        for (node, answer) in join_all(answers).await {
            let (chunk, state) = (*id, answer.as_ref().map(|states| states.first()));
            let note = match state {
                Ok(Some(ChunkState::Live)) => PruneNote::HeldAgain { chunk, node },
                // Whatever it is given from now on it has under another lease; but for what is
                // damaged, of which no release is left either.
                Ok(Some(_)) => PruneNote::LetGo { chunk, node },
                Ok(None) | Err(AccountError::Stopped) => continue,
                Err(why) => {
                    tracing::info!(holder = %node, %why, "a holder may still let a chunk go");
                    self.silent.insert(node, Instant::now());
                    continue;
                }
            };
            let is_live = matches!(note, PruneNote::HeldAgain { .. });
            inner.record(Entry::Prune(note))?;
            if is_live {
                inner.shown(id, &[node]);
            }
        }
        Ok(())
    }
}
