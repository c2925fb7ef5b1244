//! Asking holders for proofs, and taking the verdicts down. All of them at once, each a batch of
//! its chunks at a time.

use super::super::account::{self, AccountError};
use crate::core::audit::{Question, Sift, Verdict};
use crate::core::codec::ACCOUNT_CHUNKS_MAX;
use crate::core::message::AuditKind;
use crate::core::types::{ChunkId, NodeId, StoreEpoch};
use crate::crypto::audit::BLOCK_BYTES;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::{AuditDone, Failure, Progress};
use crate::repo::catalog::{Catalog, Entry, HolderAudited, Loss, Proven, ReplicaLost};
use crate::repo::mark::LiveChunks;
use futures::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Chunks of one question: one answer of about 10 KiB for 2 GiB, as a rule.
pub(super) const BATCH_CHUNKS: usize = 2_048;

/// Holders that are asked at once.
const HOLDERS_AT_ONCE: usize = 16;

/// Of which chunks proofs are asked.
#[derive(Clone)]
pub(super) enum Which {
    /// Of all.
    All,
    /// Of what a snapshot names.
    Named(Arc<LiveChunks>),
    /// Of those that were not proven in a window of time (from, to: seconds since 1970), and at
    /// most so many of each holder.
    Due((u64, u64), usize),
    /// Of these, at each node.
    These(Arc<BTreeMap<NodeId, Vec<ChunkId>>>),
    /// Of those that do not begin like these at each node, of all or of what a snapshot names.
    Rest(Arc<BTreeMap<NodeId, BTreeSet<u64>>>, Option<Arc<LiveChunks>>),
    /// The part of one day: what was not proven from `since_s` to `now_s`, and one of `sample` of
    /// all, from an id drawn by chance on.
    Day {
        /// Seconds since 1970.
        since_s: u64,
        /// Seconds since 1970.
        now_s: u64,
        /// 1 or more.
        sample: usize,
    },
}

/// What one holder said.
#[derive(Debug)]
pub(in crate::node) struct Heard {
    pub(super) node: NodeId,
    /// The store that acknowledged what was asked for.
    pub(super) epoch: StoreEpoch,
    /// When it was asked first: seconds since 1970.
    pub(super) asked_s: u64,
    /// The last audit of it that had ended then.
    pub(super) before: Option<HolderAudited>,
    /// Replicas that are audited.
    pub(super) replicas: u64,
    /// Of these, those that it proved.
    pub(in crate::node) proven: u64,
    /// Those of which nothing was heard.
    pub(super) silent: u64,
    /// Those that it was too busy for.
    pub(super) busy: u64,
    /// The first of those, and of the silent ones: what it owes an answer for.
    pub(super) owed: Vec<ChunkId>,
    /// Nothing more is asked of it now.
    is_over: bool,
    /// The store that acknowledged is no more.
    is_gone: bool,
    /// Those in wrong answers that could not be told apart.
    pub(super) unproven: u64,
    /// Those that count no more, and why.
    lost: BTreeMap<ChunkId, Loss>,
    /// Of these, those that it acknowledged, never proved and admits to have lost: it says that it
    /// does not have them, or that they are damaged.
    never_proven: BTreeSet<ChunkId>,
    /// Answers that were wrong.
    pub(super) wrong: u32,
    /// Answers.
    pub(super) answers: u32,
    /// Bytes of blocks that were proven.
    pub(super) bytes_proven: u64,
    /// Bytes of questions and answers.
    pub(super) moved: u64,
    /// How the ids of what was audited begin.
    pub(super) prefixes: Vec<u64>,
    /// How those begin that were proven, where that is kept.
    pub(super) proofs: Option<Vec<u64>>,
}

impl Heard {
    /// Nothing yet.
    pub(in crate::node) fn of(inner: &Inner, node: NodeId, epoch: StoreEpoch) -> Self {
        Self {
            node,
            epoch,
            asked_s: seconds_since_1970(),
            before: inner.with_catalog(|catalog| catalog.audit_record(&node)?.last),
            replicas: 0,
            proven: 0,
            silent: 0,
            busy: 0,
            owed: Vec::new(),
            is_over: false,
            is_gone: false,
            unproven: 0,
            lost: BTreeMap::new(),
            never_proven: BTreeSet::new(),
            wrong: 0,
            answers: 0,
            bytes_proven: 0,
            moved: 0,
            prefixes: Vec::new(),
            proofs: None,
        }
    }

    /// The replicas that were lost for this reason.
    pub(super) fn lost(&self, why: Loss) -> impl Iterator<Item = &ChunkId> {
        self.lost.iter().filter(move |(_, of)| **of == why).map(|(id, _)| id)
    }

    /// All replicas that were lost.
    pub(in crate::node) fn all_lost(&self) -> impl Iterator<Item = &ChunkId> {
        self.lost.keys()
    }

    /// The replicas that it acknowledged, never proved and admits to have lost.
    pub(in crate::node) fn never_proven(&self) -> impl Iterator<Item = &ChunkId> {
        self.never_proven.iter()
    }

    /// What is proven is remembered.
    pub(super) fn keeping_proofs(self) -> Self {
        Self { proofs: Some(Vec::new()), ..self }
    }

    /// The same holder was asked for other chunks too.
    pub(super) fn absorb(&mut self, other: Self) {
        self.asked_s = self.asked_s.min(other.asked_s);
        self.replicas += other.replicas;
        self.proven += other.proven;
        self.silent += other.silent;
        self.busy += other.busy;
        self.owed.extend(other.owed);
        self.unproven += other.unproven;
        self.lost.extend(other.lost);
        self.never_proven.extend(other.never_proven);
        self.wrong += other.wrong;
        self.answers += other.answers;
        self.bytes_proven = self.bytes_proven.saturating_add(other.bytes_proven);
        self.moved = self.moved.saturating_add(other.moved);
        self.prefixes.extend(other.prefixes);
    }

    /// It does not answer for these, and is asked no more.
    fn owes(&mut self, ids: Vec<ChunkId>, is_busy: bool) {
        let count = ids.len() as u64;
        *(if is_busy { &mut self.busy } else { &mut self.silent }) += count;
        let room = BATCH_CHUNKS.saturating_sub(self.owed.len());
        self.owed.extend(ids.into_iter().take(room));
        self.is_over = true;
    }
}

/// Asks all who acknowledged anything for proofs, and takes down in the catalogue what they come
/// to; holders of which nothing is to be asked are left out.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn ask_all(
    inner: &Arc<Inner>,
    which: &Which,
    progress: Option<&mpsc::Sender<Progress<AuditDone>>>,
) -> Result<Vec<Heard>, Failure> {
    let stores = inner.with_catalog(|catalog| catalog.stores());
    ask_some(inner, stores, which, progress).await
}

/// The same of these holders, each with the store that it acknowledged with.
///
/// # Errors
/// As [`ask_all`].
pub(super) async fn ask_some(
    inner: &Arc<Inner>,
    stores: Vec<(NodeId, StoreEpoch)>,
    which: &Which,
    progress: Option<&mpsc::Sender<Progress<AuditDone>>>,
) -> Result<Vec<Heard>, Failure> {
    let all = stores.iter();
    let all = inner.with_catalog(|catalog| {
        all.map(|(node, _)| catalog.chunks_held_by(node)).fold(0, u64::saturating_add)
    });
    let teller = Teller { progress, all, asked: AtomicU64::new(0), proven: AtomicU64::new(0) };
    let asking = stream::iter(stores).map(|(node, epoch)| {
        let teller = &teller;
        async move { ask_holder(inner, (node, epoch), which, teller).await }
    });
    let mut heard = Vec::new();
    let mut asking = asking.buffer_unordered(HOLDERS_AT_ONCE);
    while let Some(of) = asking.next().await {
        heard.push(of?);
    }
    heard.retain(|heard| heard.replicas > 0);
    heard.sort_by_key(|heard| heard.node);
    Ok(heard)
}

/// Tells how far an audit is.
struct Teller<'a> {
    /// `None` where nobody asked.
    progress: Option<&'a mpsc::Sender<Progress<AuditDone>>>,
    all: u64,
    asked: AtomicU64,
    proven: AtomicU64,
}

impl Teller<'_> {
    fn tell(&self, replicas: u64, bytes: u64) {
        let asked = self.asked.fetch_add(replicas, Ordering::Relaxed).saturating_add(replicas);
        let bytes = self.proven.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let note = Some(format!("{asked} of {} replicas", self.all));
        let working = Progress::Working { bytes, total: None, chunks: asked, replicas: None, note };
        if let Some(progress) = self.progress {
            // A full queue means that the listener is slow: the next line tells more.
            drop(progress.try_send(working));
        }
    }
}

async fn ask_holder(
    inner: &Arc<Inner>,
    (node, epoch): (NodeId, StoreEpoch),
    which: &Which,
    teller: &Teller<'_>,
) -> Result<Heard, Failure> {
    let mut heard = Heard::of(inner, node, epoch);
    let mut pages = inner.with_catalog(|catalog| Pages::new(catalog, node, which));
    while let Some(ids) = inner.with_catalog(|catalog| pages.next(catalog, which)) {
        let (count, bytes) = (ids.len() as u64, heard.bytes_proven);
        heard.replicas += count;
        heard.prefixes.extend(ids.iter().map(Proven::prefix));
        // Whoever fell silent is not waited for at each batch.
        if heard.is_over {
            let is_busy = heard.silent == 0;
            heard.owes(ids, is_busy);
        } else if !ids.is_empty() {
            ask_batch(inner, ids, &mut heard).await?;
        }
        if heard.is_gone {
            break;
        }
        teller.tell(count, heard.bytes_proven.saturating_sub(bytes));
    }
    Ok(heard)
}

/// The chunks of one holder, a batch at a time: no more of them than a batch is in memory.
struct Pages {
    node: NodeId,
    after: Option<ChunkId>,
    /// How many chunks may still come.
    left: usize,
    /// After these, so many from an id drawn by chance on.
    sample: usize,
}

impl Pages {
    fn new(catalog: &Catalog, node: NodeId, which: &Which) -> Self {
        let held = usize::try_from(catalog.chunks_held_by(&node)).unwrap_or(usize::MAX);
        let (left, sample) = match which {
            Which::All | Which::Named(_) | Which::Rest(..) | Which::These(_) => (usize::MAX, 0),
            Which::Due(_, most) => (*most, 0),
            // What was stored on one day is due on one day: it has the five after that, too.
            Which::Day { sample, .. } => ((held / 5).max(BATCH_CHUNKS), held.div_ceil(*sample)),
        };
        Self { node, after: None, left, sample }
    }

    /// The next ones, perhaps none of a batch; `None` at the end.
    fn next(&mut self, catalog: &Catalog, which: &Which) -> Option<Vec<ChunkId>> {
        let limit = self.left.min(BATCH_CHUNKS);
        let (node, after) = (&self.node, self.after.as_ref());
        let page = match which {
            _ if limit == 0 => Vec::new(),
            Which::All | Which::Named(_) | Which::Rest(..) => catalog.held_by(node, after, limit),
            Which::These(these) => {
                let these = these.get(node).into_iter().flatten();
                let is_next = |id: &&ChunkId| {
                    after.is_none_or(|after| *id > after) && catalog.holders_of(id).contains(node)
                };
                let mut next: Vec<ChunkId> = these.filter(is_next).copied().collect();
                next.sort_unstable();
                next.truncate(limit);
                next
            }
            Which::Due(window, _) => catalog.due_at(node, *window, after, limit),
            Which::Day { since_s, now_s, .. } => {
                catalog.due_at(node, (*since_s, *now_s), after, limit)
            }
        };
        let Some(last) = page.last().copied() else { return self.drawn(catalog) };
        self.after = Some(last);
        self.left = self.left.saturating_sub(page.len());
        Some(match which {
            Which::Named(named) => page.into_iter().filter(|id| named.contains(id)).collect(),
            Which::Rest(before, named) => {
                let before = before.get(&self.node);
                let is_left = |id: &ChunkId| {
                    before.is_none_or(|before| !before.contains(&Proven::prefix(id)))
                        && named.as_ref().is_none_or(|named| named.contains(id))
                };
                page.into_iter().filter(is_left).collect()
            }
            Which::All | Which::These(_) | Which::Due(..) | Which::Day { .. } => page,
        })
    }

    /// A sample, once: ids are hashes, so any range of them is one.
    fn drawn(&mut self, catalog: &Catalog) -> Option<Vec<ChunkId>> {
        let count = std::mem::take(&mut self.sample).min(ACCOUNT_CHUNKS_MAX);
        self.left = 0;
        if count == 0 {
            return None;
        }
        let from = ChunkId::from_bytes(rand::random());
        let mut drawn = catalog.held_by(&self.node, Some(&from), count);
        if drawn.len() < count {
            let first = catalog.held_by(&self.node, None, count - drawn.len());
            drawn.extend(first.into_iter().filter(|id| *id <= from));
        }
        Some(drawn)
    }
}

/// Has some chunks of a holder proven, in as many questions as that takes.
async fn ask_batch(
    inner: &Arc<Inner>,
    ids: Vec<ChunkId>,
    heard: &mut Heard,
) -> Result<(), Failure> {
    let mut sift = Sift::new(heard.node, ids);
    while let Some(question) = next(&mut sift) {
        // What is proven was true when it was asked for.
        let at_s = seconds_since_1970();
        let page = account::audit(inner, heard.node, AuditKind::Compact, &question).await;
        let verdicts = match page {
            Ok(page) if page.epoch == heard.epoch => {
                heard.answers += 1;
                heard.moved = heard.moved.saturating_add(page.moved);
                let wrong = sift.wrong();
                let (verdicts, sifted, bytes) = judge(inner, sift, question, page).await?;
                sift = sifted;
                heard.wrong += sift.wrong().saturating_sub(wrong);
                heard.bytes_proven = heard.bytes_proven.saturating_add(bytes);
                verdicts
            }
            // What another store has, the one that acknowledged has not.
            Ok(_) | Err(AccountError::NoAccount) => return store_is_gone(inner, heard, at_s),
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(why) => {
                tracing::info!(holder = %heard.node, %why, "a holder was asked for proofs");
                let mut ids = question.ids;
                ids.extend(sift.rest());
                heard.owes(ids, why == AccountError::Busy);
                return Ok(());
            }
        };
        take(inner, &verdicts, heard, at_s)?;
    }
    Ok(())
}

/// All that a holder acknowledged with a store which is no more is lost at once.
fn store_is_gone(inner: &Inner, heard: &mut Heard, at_s: u64) -> Result<(), Failure> {
    let (node, epoch) = (heard.node, heard.epoch);
    tracing::warn!(holder = %node, "a holder has lost its store");
    heard.answers += 1;
    heard.is_gone = true;
    let mut all = Vec::new();
    inner.record_if(|catalog| {
        // Nothing is known of it where another audit found that first.
        if catalog.store_of(&node)? == epoch {
            all = catalog.held_by(&node, None, usize::MAX);
            let is_new = |id: &&ChunkId| !catalog.was_audited(&node, id);
            heard.never_proven.extend(all.iter().filter(is_new));
        }
        Some(Entry::StoreGone { node, epoch, at_s })
    })?;
    heard.lost.extend(all.into_iter().map(|id| (id, Loss::Missing)));
    // What was proven before is among it.
    (heard.proven, heard.unproven) = (0, 0);
    heard.replicas = heard.lost.len() as u64;
    Ok(())
}

/// The generator must not be held over a wait.
fn next(sift: &mut Sift) -> Option<Question> {
    sift.next(&mut rand::rng())
}

/// Checks an answer, on a thread of its own: 15 us for each MiB of the chunks.
async fn judge(
    inner: &Arc<Inner>,
    mut sift: Sift,
    question: Question,
    page: account::AuditedPage,
) -> Result<(Vec<(ChunkId, Verdict)>, Sift, u64), Failure> {
    let keys = Arc::clone(&inner.keys);
    let judged = tokio::task::spawn_blocking(move || {
        let verdicts = sift.judge(&keys.tag_key, &question, &page.audited);
        let is_proven = verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Proven);
        let blocks = page.audited.chunks.iter().map(|chunk| u64::from(chunk.blocks)).sum::<u64>();
        let bytes = if is_proven { blocks.saturating_mul(BLOCK_BYTES as u64) } else { 0 };
        (verdicts, sift, bytes)
    });
    judged.await.map_err(|error| failures::died("the checking thread", &error))
}

/// Takes verdicts down. Chunks that were let go meanwhile count for nothing.
pub(in crate::node) fn take(
    inner: &Inner,
    verdicts: &[(ChunkId, Verdict)],
    heard: &mut Heard,
    at_s: u64,
) -> Result<(), Failure> {
    let (node, epoch) = (heard.node, heard.epoch);
    let proven: Vec<ChunkId> = verdicts
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Proven)
        .map(|(id, _)| *id)
        .collect();
    heard.proven += proven.len() as u64;
    if let Some(proofs) = &mut heard.proofs {
        proofs.extend(proven.iter().map(Proven::prefix));
    }
    inner.with_catalog(|catalog| catalog.prove_audited(&node, &epoch, &proven, at_s));
    for (chunk, verdict) in verdicts {
        let why = match verdict {
            Verdict::Proven => continue,
            Verdict::Unproven => {
                heard.unproven += 1;
                continue;
            }
            Verdict::NotHeld => Loss::Missing,
            Verdict::Released => Loss::Released,
            Verdict::Damaged => Loss::Damaged,
            Verdict::Lied => Loss::Lied,
        };
        let (lost, mut is_new) = (ReplicaLost { chunk: *chunk, node, epoch, why, at_s }, false);
        let counted = inner.record_if(|catalog| {
            // What was stored there anew since it was asked for is not what was asked for; and what
            // another audit found at the same time is lost once.
            let since = (at_s.saturating_add(1), u64::MAX);
            let is_counted = catalog.store_of(&node) == Some(epoch)
                && catalog.unproven_holders(chunk, since).any(|old| old == node);
            is_new = !catalog.was_audited(&node, chunk);
            is_counted.then_some(Entry::ReplicaLost(lost))
        })?;
        if !counted {
            heard.replicas = heard.replicas.saturating_sub(1);
            continue;
        }
        tracing::warn!(holder = %node, %chunk, ?why, "a replica counts no more");
        if is_new && matches!(why, Loss::Missing | Loss::Damaged) {
            heard.never_proven.insert(*chunk);
        }
        heard.lost.insert(*chunk, why);
    }
    Ok(())
}
