//! The other kind of proof: a MAC over each chunk's bytes, which are made again from what is on
//! this machine: copies of trees and lists in the data folder, and pieces of files that are still
//! what they were. It believes nothing but HMAC-SHA-256, and costs each holder and this machine a
//! hash of every byte. What cannot be made again is left to compact proofs.

use super::ask::{Heard, take};
use crate::core::audit::{Question, Verdict, judge_macs};
use crate::core::message::AuditKind;
use crate::core::types::{ChunkId, NodeId, SnapshotId, StoreEpoch};
use crate::crypto::audit::{BLOCK_BYTES, MacKey, blocks};
use crate::crypto::keys::random;
use crate::node::account::{self, AccountError};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::needed::{Within, named};
use crate::node::put::seconds_since_1970;
use crate::node::report::{AuditDone, Failure, Progress};
use crate::repo::again::Again;
use crate::repo::catalog::Proven;
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
use bytes::Bytes;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Sealed bytes of one batch, roughly; as many wait while it is asked for.
const BATCH_BYTES: usize = 16 << 20;

/// Chunks of one batch.
const BATCH_CHUNKS: usize = 256;

/// Chunks that were made again.
type Batch = BTreeMap<ChunkId, Bytes>;

/// Has holders prove, by MACs, what can be made again here of all that is named, or of what `only`
/// names; holders that do not answer are left to whoever asks them next.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn ask_by_mac(
    inner: &Arc<Inner>,
    only: Option<(SnapshotId, ChunkRef)>,
    (patience, progress): (Duration, &mpsc::Sender<Progress<AuditDone>>),
) -> Result<Vec<Heard>, Failure> {
    let (sender, mut batches) = mpsc::channel(1);
    let makes = Makes {
        inner: Arc::clone(inner),
        again: Again::default(),
        within: Within::default(),
        seen: BTreeSet::new(),
        batch: Batch::new(),
        bytes: 0,
        sender,
    };
    let making = async {
        let made = named(inner, only, makes, (patience, progress.clone())).await?;
        // What is left goes out where waiting is allowed; then the other side ends.
        let Makes { batch, sender, .. } = made.reached;
        drop(sender.send(batch).await);
        Ok::<(), Failure>(())
    };
    let asking = async {
        let mut all: BTreeMap<NodeId, Heard> = BTreeMap::new();
        while let Some(batch) = batches.recv().await {
            ask(inner, &Arc::new(batch), &mut all).await?;
            let (mut proven, mut bytes) = (0_u64, 0_u64);
            for heard in all.values() {
                proven = proven.saturating_add(heard.proven);
                bytes = bytes.saturating_add(heard.bytes_proven);
            }
            let note = Some(format!("{proven} replicas by MACs"));
            let (total, replicas) = (None, None);
            let working = Progress::Working { bytes, total, chunks: proven, replicas, note };
            // A full queue means that the listener is slow: the next line tells more.
            drop(progress.try_send(working));
        }
        Ok::<_, Failure>(all)
    };
    let (made, heard) = tokio::join!(making, asking);
    made?;
    Ok(heard?.into_values().collect())
}

/// Asks everybody who acknowledged any chunk of a batch for it.
async fn ask(
    inner: &Arc<Inner>,
    batch: &Arc<Batch>,
    all: &mut BTreeMap<NodeId, Heard>,
) -> Result<(), Failure> {
    let mut of: BTreeMap<NodeId, (StoreEpoch, Vec<ChunkId>)> = BTreeMap::new();
    inner.with_catalog(|catalog| {
        for id in batch.keys() {
            for node in catalog.holders_of(id) {
                if let Some(epoch) = catalog.store_of(&node) {
                    of.entry(node).or_insert((epoch, Vec::new())).1.push(*id);
                }
            }
        }
    });
    let asked = of.into_iter().map(|(node, (epoch, ids))| async move {
        let question = Question { seed: random(&mut rand::rng()), ids };
        let at_s = seconds_since_1970();
        let page = account::audit(inner, node, AuditKind::Mac, &question).await;
        (node, epoch, question, at_s, page)
    });
    for (node, epoch, question, at_s, page) in join_all(asked).await {
        let page = match page {
            Ok(page) if page.epoch == epoch => page,
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            // Whatever it is, the next question finds it too.
            Ok(_) | Err(_) => continue,
        };
        let Some(key) = page.key else { continue };
        let heard =
            all.entry(node).or_insert_with(|| Heard::of(inner, node, epoch).keeping_proofs());
        heard.answers += 1;
        heard.moved = heard.moved.saturating_add(page.moved);
        heard.replicas += question.ids.len() as u64;
        heard.prefixes.extend(question.ids.iter().map(Proven::prefix));
        let (verdicts, bytes) = judge(key, question, page.audited, Arc::clone(batch)).await?;
        heard.bytes_proven = heard.bytes_proven.saturating_add(bytes);
        take(inner, &verdicts, heard, at_s)?;
    }
    Ok(())
}

/// Hashes the bytes, on a thread of its own.
async fn judge(
    key: MacKey,
    question: Question,
    audited: crate::core::message::Audited,
    batch: Arc<Batch>,
) -> Result<(Vec<(ChunkId, Verdict)>, u64), Failure> {
    let judged = tokio::task::spawn_blocking(move || {
        let sealed = |id: &ChunkId| batch.get(id).map(Bytes::as_ref);
        let verdicts = judge_macs(&key, &question, &audited, sealed);
        let proven = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Proven);
        let blocks =
            proven.filter_map(|(id, _)| batch.get(id)).map(|it| u64::from(blocks(it.len())));
        let bytes = blocks.sum::<u64>().saturating_mul(BLOCK_BYTES as u64);
        (verdicts, bytes)
    });
    judged.await.map_err(|error| failures::died("the checking thread", &error))
}

/// Makes again what is named, as far as that can be done here.
struct Makes {
    inner: Arc<Inner>,
    again: Again,
    within: Within,
    /// How the ids begin of what was tried.
    seen: BTreeSet<u64>,
    batch: Batch,
    bytes: usize,
    sender: mpsc::Sender<Batch>,
}

impl Makes {
    fn add(&mut self, id: ChunkId, sealed: Bytes) {
        self.bytes += sealed.len();
        self.batch.insert(id, sealed);
        if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_CHUNKS {
            self.bytes = 0;
            // Where nobody listens any more the reading ends by itself.
            drop(self.sender.blocking_send(std::mem::take(&mut self.batch)));
        }
    }
}

impl Reached for Makes {
    fn within(&mut self, part: Part<'_>) {
        self.within.enter(part);
    }

    fn reach(&mut self, reference: &ChunkRef) {
        if self.seen.insert(Proven::prefix(&reference.id))
            && let Some((_, sealed)) = self.inner.meta.find(&reference.id)
        {
            self.add(reference.id, sealed);
        }
    }

    fn reach_leaf(&mut self, reference: &ChunkRef) {
        let piece = self.within.piece(reference);
        if let Some(piece) = piece
            && !self.seen.contains(&Proven::prefix(&reference.id))
            && let Some(chunk) = self.again.piece(&self.inner.keys, &piece, reference)
        {
            // A piece that is not here may be in another file.
            self.seen.insert(Proven::prefix(&reference.id));
            self.add(reference.id, chunk.sealed);
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}
