//! Who holds what, as far as those who are connected tell, at once: for whoever audits or heals.
//!
//! A device that was recovered knows the nodes that keep its heads, and those that the lists of its
//! snapshots name; others may hold chunks too, and so may those that only another device of the
//! owner gave some. So everyone who is connected and has acknowledged nothing to this folder is
//! asked for its list. Most have no account of the owner's, which is one question and one answer.
//! Who is not connected, or gave acknowledgements for other chunks, is [looked for](super::locate)
//! by what is short after that: it is asked for what it says that it has, and for its list.

use super::locate::{By, Claims, Short, distance, locate, pace};
use super::{Did, HOLDERS_MAX, Memory, PAGE_IDS, PAGE_PAUSE, end, ids_max, look};
use crate::core::codec::ACCOUNT_CHUNKS_MAX;
use crate::core::message::ChunkState;
use crate::core::owner::SoughtChunk;
use crate::core::types::{ChunkId, NodeId};
use crate::net::node_of_peer_id;
use crate::node::account::{AccountError, list_mine, query};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::needed::named;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, ChunkAcked};
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Chunks that are asked for, of those of which nothing is known: 32 MiB of ids.
const UNKNOWN_MAX: usize = 1 << 20;

/// How long the lists of those who were found may take, all in all: of what is behind it another
/// look learns.
const LISTS_PATIENCE: Duration = Duration::from_secs(600);

/// How long a part of a snapshot's tree may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);

/// Fills the catalogue, where that has begun, and asks those of whom nothing is known. Returns
/// whether all are listed that are known to hold something.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(in crate::node) async fn fill_now(inner: &Arc<Inner>, by: By) -> Result<bool, Failure> {
    let mut memory = Memory::default();
    let is_open = || inner.with_catalog(|catalog| catalog.rebuild().is_some());
    let mut did = Did::Later;
    while is_open() {
        did = look(inner, &mut memory, false).await?;
        if matches!(did, Did::Nothing | Did::Later) {
            break;
        }
    }
    let most = inner.repository.with_live(|live| ids_max(&live)).await;
    for node in strangers(inner).await.into_iter().take(HOLDERS_MAX) {
        list(inner, (node, most), Duration::ZERO).await?;
    }
    let short = learn(inner).await?;
    look_further(inner, by, short).await?;
    if did == Did::Nothing {
        end(inner, &memory)?;
    }
    inner.commit_catalog().await?;
    Ok(!is_open())
}

/// Looks for holders of what is short, and takes down what they say and list. Returns whether
/// anything came of it.
///
/// # Errors
/// As [`fill_now`].
pub(super) async fn look_further(
    inner: &Arc<Inner>,
    by: By,
    short: Vec<SoughtChunk>,
) -> Result<bool, Failure> {
    let Some(found) = locate(inner, by, short).await? else { return Ok(false) };
    let mut nodes: Vec<NodeId> = claim(inner, found).await?.into_iter().collect();
    pace(inner).end(!nodes.is_empty());
    // Nobody comes first by its name.
    let point = rand::random();
    nodes.sort_by_cached_key(|node| distance(node.as_bytes(), &point));
    let most = inner.repository.with_live(|live| ids_max(&live)).await;
    let pause = if by == By::User { Duration::ZERO } else { PAGE_PAUSE };
    let lists = async {
        for node in nodes.iter().take(HOLDERS_MAX) {
            list(inner, (*node, most), pause).await?;
        }
        Ok::<(), Failure>(())
    };
    // Whoever makes its list long takes no more of the time than that.
    match timeout(LISTS_PATIENCE, lists).await {
        Ok(listed) => listed?,
        Err(_) => tracing::info!("the lists of those who were found were not read to the end"),
    }
    Ok(!nodes.is_empty())
}

/// Asks everybody who is connected for what is named and of which nothing is known here: another
/// device of the owner stored it, or nobody who was listed has it. Returns some of what is short
/// then.
async fn learn(inner: &Arc<Inner>) -> Result<Vec<SoughtChunk>, Failure> {
    // The reading ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel::<()>(1);
    let short = Short::new(inner).await;
    let unknown = Unknown { inner: Arc::clone(inner), ids: BTreeSet::new(), short };
    let read = named(inner, None, unknown, (CHUNK_PATIENCE, progress)).await?;
    let Unknown { ids, short, .. } = read.reached;
    let ids: Vec<ChunkId> = ids.into_iter().collect();
    let own = node_of_peer_id(&inner.net.snapshot().await.peer_id);
    let mut nodes = inner.shared.watch_peers().borrow().clone();
    nodes.retain(|node| Some(*node) != own);
    for part in ids.chunks(ACCOUNT_CHUNKS_MAX) {
        let part: BTreeSet<ChunkId> = part.iter().copied().collect();
        claim(inner, nodes.iter().map(|node| (*node, part.clone())).collect()).await?;
    }
    Ok(short.into_sought())
}

/// Asks nodes how it is with some chunks that are named, each for at most 4,096, and takes down
/// which they say that they have. Returns who said so of any.
async fn claim(inner: &Arc<Inner>, asked: Claims) -> Result<BTreeSet<NodeId>, Failure> {
    let at_s = seconds_since_1970();
    let asked = asked.into_iter().map(|(node, ids)| async move {
        let ids: Vec<ChunkId> = ids.into_iter().collect();
        (node, query(inner, node, ids.clone()).await, ids)
    });
    let mut holders = BTreeSet::new();
    for (node, page, ids) in join_all(asked).await {
        let page = match page {
            Ok(page) => page,
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(_) => continue,
        };
        let claims = |catalog: &mut Catalog| {
            for (id, (state, lease)) in ids.iter().zip(&page.chunks) {
                if *state == ChunkState::Live {
                    let (chunk, lease, epoch) = (*id, *lease, page.epoch);
                    let claim = ChunkAcked { chunk, node, lease, epoch };
                    if catalog.record_claim(claim, at_s, true)?.is_some() {
                        holders.insert(node);
                    }
                }
            }
            Ok(())
        };
        inner.with_catalog(claims).map_err(|error| failures::catalog(&error))?;
    }
    Ok(holders)
}

/// Gathers what is named and nobody is known to have, and some of what is short.
struct Unknown {
    inner: Arc<Inner>,
    ids: BTreeSet<ChunkId>,
    short: Short,
}

impl Reached for Unknown {
    fn within(&mut self, part: Part<'_>) {
        self.short.within(part);
    }

    fn reach(&mut self, reference: &ChunkRef) {
        let id = reference.id;
        if self.ids.len() < UNKNOWN_MAX && !self.inner.with_catalog(|catalog| catalog.is_known(&id))
        {
            self.ids.insert(id);
        }
        self.short.reach(reference);
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// Who is connected, acknowledged nothing, and is not listed in any case.
async fn strangers(inner: &Inner) -> BTreeSet<NodeId> {
    let own = node_of_peer_id(&inner.net.snapshot().await.peer_id);
    let mut nodes = inner.shared.watch_peers().borrow().clone();
    inner.with_catalog(|catalog| {
        let listed = |node: &NodeId| {
            catalog.rebuild().is_some_and(|rebuild| rebuild.holders.contains_key(node))
        };
        let has_acked = |node: &NodeId| catalog.store_of(node).is_some();
        nodes.retain(|node| Some(*node) != own && !listed(node) && !has_acked(node));
    });
    nodes
}

/// Takes down what a node lists of chunks that others are known to have: whoever makes ids up adds
/// nothing. Nor does its word bring back what it was found to have lost. No more than `most` ids
/// are read, and `pause` is between two pages.
async fn list(
    inner: &Arc<Inner>,
    (node, most): (NodeId, u64),
    pause: Duration,
) -> Result<(), Failure> {
    let (mut after, mut left) = (ChunkId::from_bytes([0; 32]), most);
    let lost: BTreeSet<ChunkId> = inner.with_catalog(|catalog| {
        catalog.losses().filter(|(_, of, ..)| **of == node).map(|(id, ..)| *id).collect()
    });
    loop {
        // What is listed was true when it was asked for.
        let at_s = seconds_since_1970();
        let page = match list_mine(inner, node, after, PAGE_IDS).await {
            Ok(page) => page,
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(AccountError::NoAccount) => return Ok(()),
            Err(why) => {
                tracing::info!(holder = %node, %why, "a node was asked for its list");
                return Ok(());
            }
        };
        let (epoch, more) = (page.epoch, page.more);
        // A list without an end is no list.
        let listed = page.chunks.len() as u64;
        let Some(rest) = left.checked_sub(listed) else {
            tracing::warn!(holder = %node, "a holder lists more than it can have");
            return Ok(());
        };
        left = rest;
        let claims = |catalog: &mut Catalog| {
            let live = page.chunks.iter().filter(|chunk| chunk.state == ChunkState::Live);
            for chunk in live.filter(|chunk| !lost.contains(&chunk.id)) {
                let claim = ChunkAcked { chunk: chunk.id, node, lease: chunk.lease, epoch };
                catalog.record_claim(claim, at_s, false)?;
            }
            Ok(())
        };
        inner.with_catalog(claims).map_err(|error| failures::catalog(&error))?;
        match page.chunks.last().filter(|_| more) {
            Some(last) => after = last.id,
            None => return Ok(()),
        }
        sleep(pause).await;
    }
}
