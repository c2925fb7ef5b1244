//! What losses mean: which files have one replica less, and which have none left. And what else has
//! fewer replicas than were wished for: after a recovery nobody tells who should have had it.

use super::ask::Heard;
use crate::core::types::{ChunkId, NodeId};
use crate::node::inner::Inner;
use crate::node::needed::{Named, Sought, Targets, files, named};
use crate::node::report::{AtStake, AuditDone, Failure, Progress};
use crate::repo::catalog::Loss;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Chunks of one look into the catalogue.
const PAGE_CHUNKS: usize = 4_096;

/// Chunks with too few replicas that are looked for: 33 bytes of memory and a share of a tree each.
const SHORT_MAX: usize = 1 << 17;

/// What is at stake.
#[derive(Debug, Default)]
pub(in crate::node) struct Stake {
    sought: Sought,
    /// What earlier audits found, and that has too few replicas still.
    earlier: Vec<(ChunkId, NodeId, Loss)>,
    unread: u64,
}

/// Reads which files name what was lost; and where `is_all` also what earlier audits found to be
/// lost, and whatever else is short.
///
/// # Errors
/// The node stops.
pub(super) async fn at_stake(
    inner: &Arc<Inner>,
    heard: &[Heard],
    is_all: bool,
    (patience, progress): (Duration, mpsc::Sender<Progress<AuditDone>>),
) -> Result<Stake, Failure> {
    let targets = Targets::wished(inner).await;
    let if_short = if is_all { short(inner, targets.most()) } else { BTreeMap::new() };
    let lost = heard.iter().flat_map(Heard::all_lost);
    let chunks: BTreeMap<ChunkId, bool> = inner
        .with_catalog(|catalog| lost.map(|id| (*id, catalog.holders_of(id).is_empty())).collect());
    if chunks.is_empty() && if_short.is_empty() {
        return Ok(Stake::default());
    }
    let sought = Sought::new(chunks, if_short, targets);
    let read = named(inner, None, sought, (patience, progress)).await?;
    let Named { reached: sought, unread, .. } = read;
    let is_now = |node: &NodeId, id: &ChunkId| {
        heard.iter().any(|heard| heard.node == *node && heard.all_lost().any(|lost| lost == id))
    };
    let earlier = inner.with_catalog(|catalog| {
        let before = catalog
            .losses()
            .filter(|(id, node, ..)| sought.short.contains(*id) && !is_now(node, id));
        before.map(|(id, node, why, _)| (*id, *node, why)).collect()
    });
    Ok(Stake { sought, earlier, unread })
}

/// What fewer nodes have than so many, as far as is known, and how many have it.
fn short(inner: &Inner, most: u8) -> BTreeMap<ChunkId, usize> {
    let (mut all, mut after) = (BTreeMap::new(), None);
    while all.len() < SHORT_MAX {
        let page =
            inner.with_catalog(|catalog| catalog.chunks_short(most, after.as_ref(), PAGE_CHUNKS));
        after = page.last().map(|(id, _)| *id);
        if after.is_none() {
            break;
        }
        all.extend(page);
    }
    all
}

impl Stake {
    /// Whether anything names this chunk that was lost, or may.
    pub(super) fn matters(&self, id: &ChunkId) -> bool {
        self.unread > 0 || self.sought.found.contains(id)
    }

    /// Chunks of which no replica is left.
    pub(super) fn lost(&self) -> u64 {
        self.sought.nowhere.len() as u64
    }

    /// Chunks that something names, with fewer replicas than were wished for.
    pub(super) fn short(&self) -> u64 {
        self.sought.short.len() as u64
    }

    /// What earlier audits found at this holder, and that nobody healed since.
    pub(super) fn earlier(&self, node: &NodeId, why: Loss) -> u64 {
        let it = self.earlier.iter().filter(|(_, of, loss)| of == node && *loss == why);
        it.count() as u64
    }

    /// Parts of snapshots that could not be read.
    pub(super) fn unread(&self) -> u64 {
        self.unread
    }

    /// How many names are at stake.
    pub(super) fn files_total(&self) -> u64 {
        self.sought.places.list().1
    }

    /// The first of them.
    pub(super) fn files(&self) -> Vec<AtStake> {
        files(&self.sought.places, &self.sought.lost)
    }
}
