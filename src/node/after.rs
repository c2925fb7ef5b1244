//! Looks after what was published: whether another device let go, meanwhile, what it names.
//!
//! Whoever prunes takes back what a snapshot needs that it finds published; what was let go before
//! and is not taken back by then is for the device that published. So each snapshot is noted in the
//! catalogue before the record of the head that names it, and the note stays until it was looked
//! after: at the end of its backup or put, or else by the next look of this device, after a restart
//! too. A look takes all that are noted:
//! 1. The heads of all devices are read, those also that nobody here has heard of.
//! 2. Where one prunes, or did since the last look, holders are asked for all that the snapshots
//!    name. What they have let go is taken back: their files may have changed or gone since.
//! 3. What is short after that is told: whoever has the files can store it again.
//!
//! While a prune is open, or something speaks against a head, or too few have this device's own,
//! or a holder is silent that may have let something go, the notes stay.
//!
//! To read all heads takes a second and a half at least. A device that knows of no other asks the
//! holders at once: where all of them still have all that its snapshots name nobody let anything go
//! before, and whoever does after that finds the snapshots at its own last look. So a device that
//! nobody here has heard of, because it was recovered an hour ago, does no harm either.

use super::account::AccountError;
use super::backup::note_at_most;
use super::check::{Belief, check, recheck};
use super::failures;
use super::fetch::MeshSource;
use super::inner::Inner;
use super::prune::take_back;
use super::put::seconds_since_1970;
use super::report::Failure;
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use crate::repo::catalog::{ChunkAcked, Entry, PruneNote, ToLookAfter};
use crate::repo::look::{ReadError, Reader};
use crate::repo::mark::{LiveChunks, Mark, MarkFault, Reached};
use crate::repo::reference::ChunkRef;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLockWriteGuard, mpsc, watch};

/// How long a part of a snapshot's tree may take; its copies are here.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// Snapshots whose holders were not all heard, and that can wait for the next look.
const WAITING_MAX: usize = 8;

/// Of so many chunks holders are asked at once rather than that heads are read: 4 questions.
const CHUNKS_MAX: usize = 1 << 14;

/// How often a running node sees whether something is left to be looked after.
const LATER_EVERY: Duration = Duration::from_secs(5);

/// The same after a look that left something, at first; then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// And at least so often.
const AGAIN_EVERY: Duration = Duration::from_secs(6 * 3600);

/// What a look came to.
#[derive(Debug, Default)]
pub(super) struct LookedAfter {
    /// Chunks that were let go, or were short, and are not any more.
    pub(super) taken_back: u64,
    /// Snapshots that are short still.
    pub(super) short: Vec<Short>,
    /// So many have to be looked after once more.
    pub(super) left: usize,
}

/// A snapshot that names chunks of which too few replicas are known.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) id: SnapshotId,
    /// Which chunks had too few before releases were taken back; few of them may have still.
    pub(super) chunks: Vec<ChunkId>,
    /// So many of them have still.
    pub(super) count: u64,
    /// Some connected node could be given one of these.
    pub(super) is_storable: bool,
}

/// Looks after all that was published and is noted.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn look_after(inner: &Arc<Inner>) -> Result<LookedAfter, Failure> {
    let _alone = inner.repository.look_alone().await;
    let mut looked = LookedAfter::default();
    let mut noted = noted(inner);
    if noted.is_empty() {
        return Ok(looked);
    }
    if let Some(done) = held_by_all(inner, &noted).await? {
        for id in done {
            inner.record(Entry::Prune(PruneNote::LookedAfter(id)))?;
        }
        looked.left = inner.with_catalog(|catalog| catalog.to_look_after().count());
        inner.commit_catalog().await?;
        return Ok(looked);
    }
    let prunes = inner.repository.prunes_of_others(inner, &noted).await?;
    noted.retain(|it| !prunes.over.contains(&it.id));
    let mut done: BTreeSet<SnapshotId> = noted.iter().map(|it| it.id).collect();
    if prunes.is_due {
        tracing::info!(snapshots = noted.len(), "another device prunes: asking holders");
        let mut by_replicas: BTreeMap<u8, Vec<ToLookAfter>> = BTreeMap::new();
        noted.into_iter().for_each(|it| by_replicas.entry(it.replicas).or_default().push(it));
        for (replicas, alike) in by_replicas {
            for unsure in looked.ask(inner, replicas, &alike).await? {
                done.remove(&unsure);
            }
        }
    }
    let done = done.into_iter().filter(|_| prunes.is_settled);
    for id in done.chain(prunes.over.iter().copied()) {
        inner.record(Entry::Prune(PruneNote::LookedAfter(id)))?;
    }
    looked.left = inner.with_catalog(|catalog| catalog.to_look_after().count());
    match looked.left {
        // While any is left the prunes that were seen count as new.
        0 => inner.repository.account_for(inner, &prunes).await?,
        _ => inner.commit_catalog().await?,
    }
    Ok(looked)
}

fn noted(inner: &Inner) -> Vec<ToLookAfter> {
    inner.with_catalog(|catalog| catalog.to_look_after().map(ToLookAfter::duplicate).collect())
}

/// Which of these snapshots are whole at all their holders, where that is enough to know: no other
/// device is known, and nobody says that something is gone.
async fn held_by_all(
    inner: &Arc<Inner>,
    noted: &[ToLookAfter],
) -> Result<Option<BTreeSet<SnapshotId>>, Failure> {
    if !inner.repository.is_alone(inner).await {
        return Ok(None);
    }
    let (named, unread) = read(inner, noted, LiveChunks::default()).await?;
    if !unread.is_empty() || named.count() > CHUNKS_MAX {
        return Ok(None);
    }
    // Whether there are as many replicas as were wished for is not asked here: whoever stored them
    // told that.
    let checked = recheck(inner, &named, 1).await?;
    Ok(match (checked.gone.max(checked.short), checked.silent.is_empty()) {
        (0, true) => Some(noted.iter().map(|it| it.id).collect()),
        (0, false) if noted.len() <= WAITING_MAX => Some(BTreeSet::new()),
        _ => None,
    })
}

impl LookedAfter {
    /// Asks for all that these name, and takes back what was let go. Returns those of which not
    /// all was heard.
    async fn ask(
        &mut self,
        inner: &Arc<Inner>,
        replicas: u8,
        snapshots: &[ToLookAfter],
    ) -> Result<BTreeSet<SnapshotId>, Failure> {
        let (named, mut unsure) = read(inner, snapshots, LiveChunks::default()).await?;
        let since_s = seconds_since_1970();
        let checked = recheck(inner, &named, replicas).await?;
        drop(named);
        if checked.short == 0 {
            return Ok(unsure);
        }
        for it in snapshots {
            let lacking = Lacking::new(inner, replicas, since_s);
            let (lacking, unread) = read(inner, std::slice::from_ref(it), lacking).await?;
            unsure.extend(unread);
            let lacking: Vec<(ChunkId, ChunkKey)> = lacking.found.into_iter().collect();
            if lacking.is_empty() {
                continue;
            }
            if !take_back_from_all(inner, &lacking, &checked.silent).await? {
                unsure.insert(it.id);
            }
            let chunks: Vec<ChunkId> = lacking.into_iter().map(|(id, _)| id).collect();
            let still = check(inner, &chunks, replicas, Belief::ADay).await?;
            self.taken_back += (chunks.len() as u64).saturating_sub(still.short);
            if still.short > 0 {
                let (id, count) = (it.id, still.short);
                // Who is silent counts until it says otherwise.
                if still.silent.is_empty() && checked.silent.is_empty() {
                    note_at_most(inner, &id, still.fewest)?;
                }
                tracing::warn!(snapshot = %id, count, "chunks that a snapshot names lack replicas");
                self.short.push(Short { id, chunks, count, is_storable: still.storable > 0 });
            }
        }
        Ok(unsure)
    }

    /// How one snapshot is, if it is short.
    pub(super) fn short_of(&self, id: &SnapshotId) -> Option<&Short> {
        self.short.iter().find(|short| short.id == *id)
    }
}

/// Takes back what anybody who acknowledged anything has let go of these, and notes who has them;
/// also of those that this device's own prune asked, and did not hear.
/// Returns whether all of them answered: who was `silent` is not asked again.
async fn take_back_from_all(
    inner: &Arc<Inner>,
    needed: &[(ChunkId, ChunkKey)],
    silent: &BTreeSet<NodeId>,
) -> Result<bool, Failure> {
    let stores = inner.with_catalog(|catalog| catalog.stores());
    let holders: BTreeSet<NodeId> = stores.into_iter().map(|(node, _)| node).collect();
    let ask = async |node: NodeId| (node, take_back(inner, node, true, needed).await);
    let answers = holders.difference(silent).map(|node| ask(*node));
    let mut are_heard = silent.is_empty();
    for (node, answer) in join_all(answers).await {
        match answer {
            Ok(back) => {
                are_heard &= back.open.is_empty();
                let held = |(chunk, lease, epoch)| ChunkAcked { chunk, node, lease, epoch };
                back.live.into_iter().map(held).try_for_each(|it| note_held(inner, it))?;
            }
            Err(AccountError::NoAccount) => {}
            Err(AccountError::Stopped) => return Err(failures::stopped()),
            Err(_) => are_heard = false,
        }
    }
    inner.commit_catalog().await?;
    Ok(are_heard)
}

fn note_held(inner: &Inner, it: ChunkAcked) -> Result<(), Failure> {
    let ChunkAcked { chunk, node, epoch, .. } = it;
    let is_unheard = inner
        .with_catalog(|catalog| catalog.unheard(&chunk).iter().any(|(asked, _)| *asked == node));
    if is_unheard {
        inner.record(Entry::Prune(PruneNote::HeldAgain { chunk, node }))?;
    }
    let is_known = inner.with_catalog(|catalog| {
        catalog.store_of(&node) == Some(epoch) && catalog.holders_of(&chunk).contains(&node)
    });
    if is_known {
        inner.shown(&chunk, &[node]);
        return Ok(());
    }
    inner.record(Entry::ChunkAcked(it))
}

/// Gathers the chunks, with their keys, of which too few replicas were shown since a look began.
struct Lacking {
    inner: Arc<Inner>,
    replicas: usize,
    since_s: u64,
    found: BTreeMap<ChunkId, ChunkKey>,
}

impl Lacking {
    fn new(inner: &Arc<Inner>, replicas: u8, since_s: u64) -> Self {
        let (inner, replicas) = (Arc::clone(inner), usize::from(replicas));
        Self { inner, replicas, since_s, found: BTreeMap::new() }
    }
}

impl Reached for Lacking {
    fn reach(&mut self, reference: &ChunkRef) {
        let window = (self.since_s, seconds_since_1970());
        let shown = self.inner.with_catalog(|catalog| catalog.replicas_of(&reference.id, window));
        if shown.proven < self.replicas {
            self.found.entry(reference.id).or_insert_with(|| reference.ck.duplicate());
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// Tells `reached` of all that these snapshots name. Also returns those that could not be read to
/// their ends.
async fn read<T: Reached + Send + 'static>(
    inner: &Arc<Inner>,
    snapshots: &[ToLookAfter],
    reached: T,
) -> Result<(T, BTreeSet<SnapshotId>), Failure> {
    // The reading ends when nobody is left who listens.
    let (progress, _heard) = mpsc::channel::<()>(1);
    let node = Arc::clone(inner);
    let snapshots: Vec<ToLookAfter> = snapshots.iter().map(ToLookAfter::duplicate).collect();
    let work = tokio::task::spawn_blocking(move || {
        let (mut reached, mut unread) = (reached, BTreeSet::new());
        for it in &snapshots {
            let mut mark = Mark::over(reached);
            mark.add_snapshot(it.id, &it.reference);
            let read = read_on(&node, &mut mark, &progress);
            reached = mark.into_reached();
            match read {
                Ok(()) => {}
                Err(ReadError::Closed) => return Err(failures::stopped()),
                Err(ReadError::Fault(fault)) => {
                    tracing::warn!(%fault, "a snapshot cannot be looked after now");
                    unread.insert(it.id);
                }
            }
        }
        Ok((reached, unread))
    });
    work.await.map_err(|error| failures::died("the reading thread", &error))?
}

/// Reads all that was added, and keeps copies of what leads to files. Blocks.
pub(super) fn read_on<T: Reached>(
    inner: &Arc<Inner>,
    mark: &mut Mark<T>,
    progress: &mpsc::Sender<()>,
) -> Result<(), ReadError<MarkFault>> {
    let mut source = MeshSource::new(Arc::clone(inner), CHUNK_PATIENCE, progress).keeping();
    let mut reader = Reader::new(&mut source);
    while reader.next(mark)?.is_some() {}
    Ok(())
}

/// Looks after what an earlier run of this folder published, and what could not be looked after at
/// once. Runs for the node's life.
pub(super) async fn look_after_later(inner: Weak<Inner>, peers: watch::Receiver<BTreeSet<NodeId>>) {
    let (mut wait, mut again) = (LATER_EVERY, AGAIN_FIRST);
    loop {
        tokio::time::sleep(wait).await;
        wait = LATER_EVERY;
        let Some(inner) = inner.upgrade() else { return };
        let is_noted = inner.with_catalog(|catalog| catalog.to_look_after().next().is_some());
        if !is_noted || peers.borrow().is_empty() || !inner.repository.is_out(&inner) {
            continue;
        }
        // A backup or a put that runs looks itself, and has the files.
        let Ok(alone) = inner.letting_go.try_write() else { continue };
        let _stays = RwLockWriteGuard::downgrade(alone);
        let is_done = match look_after(&inner).await {
            Ok(looked) => looked.left == 0,
            Err(failure) => {
                tracing::info!(why = failure.why, "what was published is not looked after yet");
                false
            }
        };
        if is_done {
            again = AGAIN_FIRST;
        } else {
            wait = again;
            again = AGAIN_EVERY.min(2 * again);
        }
    }
}
