//! Whether holders still have what a snapshot names and nobody sent for it: they are asked, many
//! chunks at once, before anything is promised.
//!
//! A chunk that was stored before may have been released since, by another device that prunes, and
//! its holder may have lost it. So what holders said counts for a day; a chunk of which fewer than
//! the wanted replicas were shown within that is asked for at all others that acknowledged it,
//! whether they are connected or not. What they say stands in the catalogue: see
//! [`crate::repo::catalog::Catalog::prove`].
//!
//! Nobody asks liars, nor are they given anything; what they and those hold who are silent for so
//! long that they are suspect counts for nothing: see
//! [`Replicas`](crate::repo::catalog::Replicas).
//!
//! What to do about chunks that are short is for whoever asks to decide.

use super::account::{self, AccountError};
use super::audit::liars;
use super::failures;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::Failure;
use crate::core::codec::ACCOUNT_CHUNKS_MAX;
use crate::core::message::ChunkState;
use crate::core::types::{ChunkId, NodeId};
use crate::repo::catalog::{BELIEVED_S, Catalog, Entry};
use crate::repo::mark::LiveChunks;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many chunks are looked at before their holders are asked: 2 MiB of ids for each replica.
const PART_CHUNKS: usize = 1 << 16;

/// How far back words of holders count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// For a day.
    ADay,
    /// Only what they say now.
    Nothing,
}

/// What asking came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checked {
    /// Questions about one chunk to one holder.
    pub(super) asked: u64,
    /// The smallest number of replicas that were shown of any chunk, no more than were wanted.
    pub(super) fewest: u8,
    /// Chunks of which fewer than the wanted replicas were shown.
    pub(super) short: u64,
    /// Of these, those that some connected node could be given which does not have them, and is
    /// not spared.
    pub(super) storable: u64,
    /// Answers that a holder has a chunk no more, or is about to; in [`recheck`] also chunks that
    /// nobody acknowledged to this device.
    pub(super) gone: u64,
    /// Who did not answer, or not in a way that holds.
    pub(super) silent: BTreeSet<NodeId>,
}

/// Asks who still has these chunks: distinct ids, each of which `wanted` nodes are to have.
///
/// # Errors
/// The node is being shut down.
pub(super) async fn check(
    inner: &Arc<Inner>,
    ids: &[ChunkId],
    wanted: u8,
    belief: Belief,
) -> Result<Checked, Failure> {
    check_sparing(inner, ids, (wanted, belief), &BTreeSet::new()).await
}

/// The same where `spared` are given nothing.
///
/// # Errors
/// The node is being shut down.
pub(super) async fn check_sparing(
    inner: &Arc<Inner>,
    ids: &[ChunkId],
    (wanted, belief): (u8, Belief),
    spared: &BTreeSet<NodeId>,
) -> Result<Checked, Failure> {
    let mut checked = Checked { fewest: wanted, ..Checked::default() };
    let (began_s, liars) = (seconds_since_1970(), liars(inner));
    for part in ids.chunks(PART_CHUNKS) {
        let open = |catalog: &mut Catalog| questions(catalog, part, wanted, belief);
        let mut open = inner.with_catalog(open);
        open.retain(|node, _| !checked.silent.contains(node) && !liars.contains(node));
        checked.asked += open.values().map(|ids| ids.len() as u64).sum::<u64>();
        let answers = open.into_iter().map(|(node, ids)| ask(inner, node, ids));
        for answer in join_all(answers).await {
            let Heard { gone, silent } = answer?;
            checked.gone += gone;
            checked.silent.extend(silent);
        }
    }
    let now_s = seconds_since_1970();
    let since_s = match belief {
        Belief::ADay => now_s.saturating_sub(BELIEVED_S),
        Belief::Nothing => began_s,
    };
    let connected = inner.shared.watch_peers().borrow().clone();
    let heard = connected.difference(&checked.silent).copied();
    let is_able = |node: &NodeId| !liars.contains(node) && !spared.contains(node);
    let able: Vec<NodeId> = heard.filter(is_able).collect();
    for part in ids.chunks(PART_CHUNKS) {
        inner.with_catalog(|catalog| {
            part.iter()
                .for_each(|id| judge(catalog, id, (since_s, now_s), wanted, &able, &mut checked));
        });
    }
    if checked.asked > 0 {
        save(inner).await;
    }
    Ok(checked)
}

/// The same of all chunks that a snapshot names, whatever was said before: for when another device
/// is about to release chunks. What turns out short the next backup of its files stores again.
/// Chunks that nobody acknowledged to this device cannot be asked for, and are short.
///
/// # Errors
/// The node is being shut down.
pub(super) async fn recheck(
    inner: &Arc<Inner>,
    named: &LiveChunks,
    wanted: u8,
) -> Result<Checked, Failure> {
    let ids: Vec<ChunkId> = inner.with_catalog(|catalog| {
        catalog.chunk_ids().filter(|id| named.contains(id)).copied().collect()
    });
    let mut checked = check(inner, &ids, wanted, Belief::Nothing).await?;
    let unknown = named.count().saturating_sub(ids.len()) as u64;
    if unknown > 0 {
        (checked.short, checked.fewest) = (checked.short.saturating_add(unknown), 0);
        checked.gone = checked.gone.saturating_add(unknown);
    }
    Ok(checked)
}

/// Writes down what was shown; without that it is asked for again after a restart.
pub(super) async fn save(inner: &Arc<Inner>) {
    let catalogue = Arc::clone(inner);
    let saved = tokio::task::spawn_blocking(move || catalogue.save_proven(|_| {}));
    if let Ok(Err(error)) = saved.await {
        tracing::warn!(%error, "what holders showed was not written down");
    }
}

/// Whom to ask for what.
fn questions(
    catalog: &Catalog,
    part: &[ChunkId],
    wanted: u8,
    belief: Belief,
) -> BTreeMap<NodeId, Vec<ChunkId>> {
    let now_s = seconds_since_1970();
    let window = match belief {
        Belief::ADay => (now_s.saturating_sub(BELIEVED_S), now_s),
        // Nothing was shown after the end of time.
        Belief::Nothing => (u64::MAX, 0),
    };
    let mut open: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
    for id in part {
        if catalog.replicas_of(id, window).proven >= usize::from(wanted) {
            continue;
        }
        for node in catalog.unproven_holders(id, window) {
            open.entry(node).or_default().push(*id);
        }
    }
    open
}

/// What one holder said.
#[derive(Default)]
struct Heard {
    /// So many chunks it has no more, or lets go.
    gone: u64,
    /// Itself, where it did not answer for all.
    silent: Option<NodeId>,
}

/// Asks one holder for all of these, and takes down what it says.
async fn ask(inner: &Arc<Inner>, holder: NodeId, ids: Vec<ChunkId>) -> Result<Heard, Failure> {
    let mut heard = Heard::default();
    for ids in ids.chunks(ACCOUNT_CHUNKS_MAX) {
        // What is shown was true when it was asked for.
        let at_s = seconds_since_1970();
        let store = inner.with_catalog(|catalog| catalog.store_of(&holder));
        let Some(epoch) = store else { break };
        let page = match account::query(inner, holder, ids.to_vec()).await {
            Ok(page) if page.epoch == epoch => page,
            // What another store has, the one that acknowledged has not.
            Ok(_) | Err(AccountError::NoAccount) => {
                tracing::warn!(%holder, "a holder has lost its store");
                inner.record(Entry::StoreGone { node: holder, epoch, at_s })?;
                heard.gone += 1;
                break;
            }
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(why) => {
                tracing::info!(%holder, %why, "a holder was asked what it keeps");
                heard.silent = Some(holder);
                break;
            }
        };
        inner.with_catalog(|catalog| {
            for (id, (state, _)) in ids.iter().zip(&page.chunks) {
                if *state == ChunkState::Live {
                    catalog.prove(&holder, &epoch, id, at_s);
                } else {
                    heard.gone += 1;
                    catalog.refute(&holder, &epoch, id, at_s);
                }
            }
        });
    }
    Ok(heard)
}

/// Counts a chunk of which too little was shown. `able` are connected, did answer, never lied and
/// are not spared.
fn judge(
    catalog: &Catalog,
    id: &ChunkId,
    window: (u64, u64),
    wanted: u8,
    able: &[NodeId],
    checked: &mut Checked,
) {
    let proven = catalog.replicas_of(id, window).proven;
    if proven >= usize::from(wanted) {
        return;
    }
    checked.short += 1;
    checked.fewest = checked.fewest.min(u8::try_from(proven).unwrap_or(u8::MAX));
    let open: BTreeSet<NodeId> = catalog.unproven_holders(id, window).collect();
    let holders = catalog.holders_of(id);
    let has_it = |node: &NodeId| holders.contains(node) && !open.contains(node);
    let near = catalog.near().0;
    let shown = catalog.shown_holders(id, window);
    // One more there may hide one that counts, and show another one.
    let would_count = |node: &NodeId| {
        near.apart(shown.iter().copied().chain([*node])).len()
            > near.apart(shown.iter().copied()).len()
    };
    checked.storable += u64::from(able.iter().any(|node| !has_it(node) && would_count(node)));
}
