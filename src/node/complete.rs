//! Snapshots that ended below their replicas: a running node stores what is missing of them.
//!
//! The catalogue says which snapshots these are: the newest of each set of paths by this device,
//! see [`BackupMade`]. Their files may have changed or gone since, so a chunk that too few have is
//! taken from one who has it, as sealed as it is, and handed to others. Where nobody who has it can
//! be reached it stays as it is: the next backup of the same paths stores it from its files.
//!
//! A look asks for all that a snapshot names, and for the list that leads to it, as a backup does
//! for what it did not send: what holders said within a day is believed. It is made when somebody
//! connects, and now and then; while a prune waits, it makes room.

use super::after::read_on;
use super::backup::{Handed, StoreSink, Wish, note_replicas, store_all};
use super::check::{Belief, Checked, check};
use super::failures;
use super::fetch::MeshSource;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::Failure;
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::crypto::seal::SealedChunk;
use crate::repo::catalog::{BELIEVED_S, BackupMade, Catalog};
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use crate::repo::look::ReadError;
use crate::repo::mark::{LiveChunks, Mark, Reached};
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::ChunkSink;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLockWriteGuard, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How often a running node sees whether a snapshot is short, and how soon it looks when somebody
/// has connected.
const SOON: Duration = Duration::from_secs(5);

/// The same after a look that left something; then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// And at least so often.
const AGAIN_EVERY: Duration = Duration::from_secs(600);

/// How long a chunk may take to come.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// How long chunks are waited for while nothing is acknowledged.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// Chunks that are on their way here at once: up to 4 MiB each.
const FETCHES: usize = 8;

/// Chunks that are stored between two looks: each costs about 150 bytes of memory.
const LACKING_MAX: usize = 1 << 16;

/// Looks after short snapshots for the node's life.
pub(super) async fn complete_later(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let (mut due, mut again) = (Instant::now() + SOON, AGAIN_FIRST);
    let mut known = peers.borrow_and_update().clone();
    loop {
        tokio::select! {
            () = sleep_until(due) => due = Instant::now() + SOON,
            changed = peers.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = peers.borrow_and_update().clone();
                if !now.is_subset(&known) {
                    // Soon, however many more come until then.
                    (due, again) = (due.min(Instant::now() + SOON), AGAIN_FIRST);
                }
                known = now;
                continue;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        let short = inner.with_catalog(|catalog| short(catalog));
        if short.is_empty() || known.is_empty() {
            continue;
        }
        // A backup that runs stores what it names by itself.
        let Ok(alone) = inner.letting_go.try_write() else { continue };
        let _stays = RwLockWriteGuard::downgrade(alone);
        let mut left = 0;
        for made in short {
            match complete(&inner, &made).await {
                Ok(Ended::Whole) => tracing::info!(snapshot = %made.snapshot, "all is stored"),
                Ok(Ended::Short) => left += 1,
                Err(failure) => {
                    let (snapshot, why) = (&made.snapshot, failure.why);
                    tracing::info!(%snapshot, why, "what a snapshot lacks is not stored yet");
                    left += 1;
                }
            }
        }
        if left > 0 {
            due = Instant::now() + again;
            again = AGAIN_EVERY.min(2 * again);
        } else {
            again = AGAIN_FIRST;
        }
    }
}

fn short(catalog: &Catalog) -> Vec<BackupMade> {
    catalog.made().into_iter().filter(|made| made.is_short()).cloned().collect()
}

/// How a snapshot is after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// All its chunks have their replicas.
    Whole,
    /// Some do not, and nobody can be given more of them now.
    Short,
}

/// Stores what can be stored of what one snapshot lacks.
async fn complete(inner: &Arc<Inner>, made: &BackupMade) -> Result<Ended, Failure> {
    let (id, wanted) = (made.snapshot, made.target);
    // One that nobody knows of was never published.
    let Some(at) = inner.with_catalog(|catalog| reference(catalog, &id)) else {
        return Ok(Ended::Short);
    };
    let mut before = u64::MAX;
    loop {
        let named = read(inner, (id, &at), LiveChunks::default()).await?;
        let ids: Vec<ChunkId> = inner.with_catalog(|catalog| {
            catalog.chunk_ids().filter(|id| named.contains(id)).copied().collect()
        });
        let unknown = named.count().saturating_sub(ids.len()) as u64;
        drop(named);
        let checked = check(inner, &ids, wanted, Belief::ADay).await?;
        drop(ids);
        note_replicas(inner, &id, replicas(made, &checked, unknown))?;
        inner.commit_catalog().await?;
        let lacks = checked.short.saturating_add(unknown);
        if lacks == 0 {
            return Ok(Ended::Whole);
        }
        let can_go_on = checked.storable > 0 || unknown > 0;
        if !can_go_on || lacks >= before || inner.prune_waits.load(Ordering::Relaxed) {
            return Ok(Ended::Short);
        }
        before = lacks;
        let lacking = read(inner, (id, &at), Lacking::new(inner, wanted)).await?.found;
        store(inner, wanted, lacking.into_values().collect()).await?;
    }
}

/// How many replicas the worst chunk has, as far as is known. A holder that is silent has what it
/// acknowledged until it says otherwise.
fn replicas(made: &BackupMade, checked: &Checked, unknown: u64) -> u8 {
    let are_heard = checked.silent.is_empty() || checked.fewest > made.replicas;
    match unknown == 0 && are_heard {
        true => checked.fewest,
        false => made.replicas,
    }
}

/// Where the snapshot's own chunk is.
fn reference(catalog: &Catalog, id: &SnapshotId) -> Option<ChunkRef> {
    let seen = catalog.noted_snapshot(id).map(|noted| noted.seen.reference.duplicate());
    let published = || catalog.to_look_after().find(|it| it.id == *id);
    seen.or_else(|| published().map(|it| it.reference.duplicate()))
}

/// Tells `reached` of all that the snapshot names, and of the list that leads to it.
async fn read<T: Reached + Send + 'static>(
    inner: &Arc<Inner>,
    (id, at): (SnapshotId, &ChunkRef),
    reached: T,
) -> Result<T, Failure> {
    // The reading ends when nobody is left who listens.
    let (progress, _heard) = mpsc::channel::<()>(1);
    let (node, at) = (Arc::clone(inner), at.duplicate());
    let work = tokio::task::spawn_blocking(move || {
        let mut mark = Mark::over(reached);
        mark.add_snapshot(id, &at);
        read_on(&node, &mut mark, &progress).map_err(|error| match error {
            ReadError::Closed => failures::stopped(),
            ReadError::Fault(fault) => {
                failures::repository(fault.to_string(), "start more of the mesh's nodes")
            }
        })?;
        let mut reached = mark.into_reached();
        if let Some(device) = node.with_catalog(|catalog| catalog.device()) {
            let manifest = node.repository.manifest_of(&node, device.index);
            manifest.iter().for_each(|at| reached.reach(at));
        }
        Ok(reached)
    });
    work.await.map_err(|error| failures::died("the reading thread", &error))?
}

/// Gathers the chunks of which too few replicas were shown within a day: not more of them than are
/// stored between two looks.
struct Lacking {
    inner: Arc<Inner>,
    replicas: usize,
    found: BTreeMap<ChunkId, ChunkRef>,
}

impl Lacking {
    fn new(inner: &Arc<Inner>, replicas: u8) -> Self {
        let (inner, replicas) = (Arc::clone(inner), usize::from(replicas));
        Self { inner, replicas, found: BTreeMap::new() }
    }
}

impl Reached for Lacking {
    fn reach(&mut self, reference: &ChunkRef) {
        let now_s = seconds_since_1970();
        let window = (now_s.saturating_sub(BELIEVED_S), now_s);
        let shown = self.inner.with_catalog(|catalog| catalog.replicas_of(&reference.id, window));
        if shown.proven < self.replicas && self.found.len() < LACKING_MAX {
            self.found.entry(reference.id).or_insert_with(|| reference.duplicate());
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// Fetches these chunks, and hands them to as many nodes as are wanted. Those that do not come are
/// left out.
async fn store(inner: &Arc<Inner>, replicas: u8, lacking: Vec<ChunkRef>) -> Result<(), Failure> {
    let node = Arc::clone(inner);
    let cancel = Arc::new(AtomicBool::new(false));
    let (handed, is_over): (Arc<Handed>, _) = (Arc::default(), Arc::clone(&cancel));
    let work = move |sink: &mut StoreSink| pass_on(&node, lacking, &is_over, sink);
    let wish = Wish { replicas, patience: STORE_PATIENCE };
    let ((), stored) = store_all(inner, wish, (handed, cancel), work).await?;
    let (chunks, replicas) = (stored.chunks, stored.replicas);
    tracing::info!(chunks, replicas, "chunks that were short of replicas were stored again");
    Ok(())
}

/// Blocks. Ends early where a prune waits, or nobody listens any more.
fn pass_on(
    inner: &Arc<Inner>,
    lacking: Vec<ChunkRef>,
    is_over: &AtomicBool,
    sink: &mut StoreSink,
) -> Result<(), Failure> {
    let (progress, _heard) = mpsc::channel::<()>(1);
    let mut source = MeshSource::new(Arc::clone(inner), FETCH_PATIENCE, &progress);
    let mut rest = lacking.into_iter().enumerate();
    let mut asked: BTreeMap<u64, ChunkRef> = BTreeMap::new();
    loop {
        let stops = is_over.load(Ordering::Relaxed) || inner.prune_waits.load(Ordering::Relaxed);
        while !stops
            && asked.len() < FETCHES
            && let Some((index, at)) = rest.next()
        {
            let index = index as u64;
            let (id, locality, read) = (at.id, at.locality, at.ck.read_secret());
            source.request(Wanted { index, id, locality, read });
            asked.insert(index, at);
        }
        if asked.is_empty() {
            return Ok(());
        }
        match source.next() {
            Ok(Fetched { index, header, sealed }) => {
                let Some(at) = asked.remove(&index) else { continue };
                let admin = inner.keys.admin.chunk_secret(&at.ck);
                let chunk = SealedChunk { header, locality: at.locality, admin, sealed };
                // What leads to others was kept here when it was read.
                let bytes = at.bytes.max(1);
                sink.store(chunk, bytes).map_err(|_| failures::stopped())?;
            }
            Err(FetchError::Unavailable { index, why } | FetchError::Spoiled { index, why }) => {
                if let Some(at) = asked.remove(&index) {
                    tracing::debug!(chunk = %at.id, why, "a chunk that is short does not come");
                }
            }
            Err(FetchError::Closed) => return Err(failures::stopped()),
        }
    }
}
