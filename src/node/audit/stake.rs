//! What losses mean: which files have one replica less, and which have none left. And what else has
//! fewer replicas than were wished for: after a recovery nobody tells who should have had it.

use super::ask::Heard;
use crate::core::types::ChunkId;
use crate::node::inner::Inner;
use crate::node::needed::{Named, Sought, files, named};
use crate::node::report::{AtStake, AuditDone, Failure, Progress};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Chunks of one look into the catalogue.
const PAGE_CHUNKS: usize = 4_096;

/// Chunks with too few replicas that are looked for: 33 bytes of memory and a share of a tree each.
const SHORT_MAX: usize = 1 << 17;

/// What is at stake.
#[derive(Debug, Default)]
pub(super) struct Stake {
    sought: Sought,
    /// Chunks with fewer replicas than were wished for.
    short: BTreeSet<ChunkId>,
    unread: u64,
}

/// Reads which files name what was lost and, where `is_all`, what else is short.
///
/// # Errors
/// The node stops.
pub(super) async fn at_stake(
    inner: &Arc<Inner>,
    heard: &[Heard],
    is_all: bool,
    (patience, progress): (Duration, mpsc::Sender<Progress<AuditDone>>),
) -> Result<Stake, Failure> {
    let wished = inner.repository.replicas_wished(inner).await;
    let short = if is_all { short(inner, wished) } else { BTreeSet::new() };
    let lost = heard.iter().flat_map(Heard::all_lost);
    let chunks: BTreeMap<ChunkId, bool> = inner.with_catalog(|catalog| {
        let is_nowhere = |id: &ChunkId| catalog.holders_of(id).is_empty();
        lost.chain(&short).map(|id| (*id, is_nowhere(id))).collect()
    });
    if chunks.is_empty() {
        return Ok(Stake::default());
    }
    let read = named(inner, None, Sought::new(chunks), (patience, progress)).await?;
    let Named { reached: sought, unread, .. } = read;
    Ok(Stake { sought, short, unread })
}

/// What fewer nodes have than were wished for, as far as is known.
fn short(inner: &Inner, wished: u8) -> BTreeSet<ChunkId> {
    let (mut all, mut after) = (BTreeSet::new(), None);
    while all.len() < SHORT_MAX {
        let page =
            inner.with_catalog(|catalog| catalog.chunks_short(wished, after.as_ref(), PAGE_CHUNKS));
        after = page.last().map(|(id, _)| *id);
        if after.is_none() {
            break;
        }
        all.extend(page.into_iter().map(|(id, _)| id));
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
        let named = self.sought.found.iter();
        named.filter(|id| self.sought.chunks.get(*id) == Some(&true)).count() as u64
    }

    /// Chunks that something names, with fewer replicas than were wished for.
    pub(super) fn short(&self) -> u64 {
        self.sought.found.intersection(&self.short).count() as u64
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
