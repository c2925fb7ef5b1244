//! The chains that heads name, of all devices at once.
//!
//! A chunk that is away is waited for as long as any other one: read one after the other, the lists
//! of three devices that miss a chunk each would take three times as long. What is read is only
//! checked here; [`learn`](super::learn) takes it over in the order of the heads, so that nothing
//! depends on what came first.
//!
//! Bounds: [`OF_A_CHAIN_MAX`] chunks of a chain at once, [`AT_ONCE_MAX`] of all chains. Once a
//! chunk of a chain is not to be had, none is begun any more for that chain.

use super::pick::Picked;
use crate::core::types::ChunkId;
use crate::node::inner::Inner;
use crate::repo::frame::Kind;
use crate::repo::head::HeadPayload;
use crate::repo::manifest::chain::{Chain, Seen};
use crate::repo::manifest::draft::DeviceView;
use crate::repo::reference::ChunkRef;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a manifest chunk may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// Chunks of one chain that are fetched at once.
const OF_A_CHAIN_MAX: usize = 8;

/// The same of all chains: fewer than the owner role fetches at once, so that other jobs go on.
const AT_ONCE_MAX: usize = 24;

/// A head whose chain is to be read.
pub(super) struct Wanted {
    pub(super) picked: Picked,
    /// Its chain was read before, and is in memory.
    pub(super) is_read: bool,
    /// As the chain was when it was seen last.
    pub(super) seen: Option<Seen>,
    /// What to do with where that cannot be read.
    pub(super) before: Option<Picked>,
}

/// What reading a chain came to.
pub(super) struct Found {
    pub(super) picked: Picked,
    /// Its chain, `None` where it is in memory; or why it is not used.
    pub(super) newest: Result<Option<DeviceView>, String>,
    /// The chain of before, where the newest is not used.
    pub(super) before: Option<(Picked, DeviceView)>,
}

/// Reads what heads name, in their order.
pub(super) async fn read_chains(inner: &Arc<Inner>, wanted: Vec<Wanted>) -> Vec<Found> {
    let fetch =
        |at: ChunkRef| async move { inner.chunk(&at, Kind::Manifest, CHUNK_PATIENCE).await };
    let lanes =
        Lanes { places: Semaphore::new(AT_ONCE_MAX), fetch, generation: inner.keys.generation };
    join_all(wanted.into_iter().map(|wanted| lanes.read(wanted))).await
}

/// Why a chain is not used.
struct Unread {
    why: String,
    /// Chunks that were not to be had.
    away: BTreeSet<ChunkId>,
}

/// The checkpoint and the recent entries.
fn references(payload: &HeadPayload) -> impl Iterator<Item = &ChunkRef> {
    payload.checkpoint.iter().map(|(_, reference)| reference).chain(&payload.recent)
}

/// Where chunks come from, for all chains.
struct Lanes<F> {
    places: Semaphore,
    fetch: F,
    generation: u32,
}

impl<F, R> Lanes<F>
where
    F: Fn(ChunkRef) -> R,
    R: Future<Output = Result<Bytes, String>>,
{
    async fn read(&self, wanted: Wanted) -> Found {
        let Wanted { picked, is_read, seen, before } = wanted;
        if is_read {
            return Found { picked, newest: Ok(None), before: None };
        }
        match self.chain(&picked, seen).await {
            Ok(view) => Found { picked, newest: Ok(Some(view)), before: None },
            Err(Unread { why, away }) => {
                // What was waited for in vain is not waited for again.
                let is_away = |at: &ChunkRef| away.contains(&at.id);
                let before = before.filter(|it| !references(&it.payload).any(is_away));
                let before = match before {
                    Some(before) => {
                        let view = self.chain(&before, seen).await.ok();
                        view.map(|view| (before, view))
                    }
                    None => None,
                };
                Found { picked, newest: Err(why), before }
            }
        }
    }

    /// The chain of one record, checked against what was seen before.
    async fn chain(&self, picked: &Picked, seen: Option<Seen>) -> Result<DeviceView, Unread> {
        let Picked { record, payload, .. } = picked;
        let entries = self.entries(payload).await?;
        let read = Chain::verify(payload, self.generation, &entries, seen);
        let (chain, view) = read.map_err(|fault| {
            let (why, away) = (fault.to_string(), BTreeSet::new());
            Unread { why, away }
        })?;
        Ok(DeviceView { record: record.clone(), device: payload.device, chain, view })
    }

    /// The plaintexts of the checkpoint and the recent entries, in their order. What is on its way
    /// when one turns out to be away is still waited for: it need not be fetched the next time.
    async fn entries(&self, payload: &HeadPayload) -> Result<Vec<Bytes>, Unread> {
        let mut waiting = references(payload).enumerate();
        let (mut running, mut read) = (FuturesUnordered::new(), BTreeMap::new());
        let mut failed = BTreeMap::new();
        loop {
            while failed.is_empty() && running.len() < OF_A_CHAIN_MAX {
                let Some((at, reference)) = waiting.next() else { break };
                let (id, reference) = (reference.id, reference.duplicate());
                running.push(async move { (at, id, self.chunk(reference).await) });
            }
            match running.next().await {
                Some((at, _, Ok(plaintext))) => drop(read.insert(at, plaintext)),
                Some((at, id, Err(why))) => drop(failed.insert(at, (id, why))),
                None => break,
            }
        }
        let away = failed.values().map(|(id, _)| *id).collect();
        match failed.pop_first() {
            Some((_, (_, why))) => {
                let why = format!("its list of snapshots cannot be read: {why}");
                Err(Unread { why, away })
            }
            None => Ok(read.into_values().collect()),
        }
    }

    async fn chunk(&self, reference: ChunkRef) -> Result<Bytes, String> {
        // Nobody closes it.
        let _place = self.places.acquire().await;
        (self.fetch)(reference).await
    }
}

#[cfg(test)]
mod tests;
