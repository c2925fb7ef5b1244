//! Snapshots that ended below their replicas: a running node stores what is missing of them.
//!
//! The catalogue says which snapshots these are: the newest of each set of paths by this device,
//! see [`BackupMade`]. Their files may have changed or gone since, so a chunk that too few have is
//! taken from one who has it, as sealed as it is, and handed to others. Where nobody who has it can
//! be reached it stays as it is: the next backup of the same paths stores it from its files.
//!
//! A look asks for all that a snapshot names, and for the list that leads to it, as a backup does
//! for what it did not send: what holders said within a day is believed. It is made when somebody
//! connects, and now and then, see [`looks`]. What is asked for and stored is so in rounds, see
//! [`hold`]: nothing else that needs chunks to stay, or lets some go, waits for all of it.
//!
//! A chunk is fetched only where somebody who is connected has it, and where it may come to have
//! more replicas: once nobody takes another one, those that have as many as others got are left.
//! Who rests from repairs is given none of it: what it lost and is short is not to be sent to it
//! again and again, see [`Setback`](crate::core::reputation::Setback).

mod hold;
mod looks;

use super::after::read_on;
use super::backup::{Handed, StoreSink, Wish, note_replicas, store_all};
use super::check::{Belief, Checked, check_sparing};
use super::failures;
use super::fetch::MeshSource;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::Failure;
use crate::core::owner::Shortage;
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::crypto::seal::SealedChunk;
use crate::repo::catalog::{BELIEVED_S, BackupMade, Catalog};
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use crate::repo::look::ReadError;
use crate::repo::mark::{LiveChunks, Mark, Reached};
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::ChunkSink;
use hold::Hold;
use looks::Looks;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How often a running node sees whether a snapshot is short, and how soon it looks when somebody
/// has connected.
const SOON: Duration = Duration::from_secs(5);

/// How long a chunk may take to come.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// How long chunks are waited for while nothing is acknowledged.
const STORE_PATIENCE: Duration = Duration::from_secs(20);

/// Chunks that are on their way here at once: up to 4 MiB each.
const FETCHES: usize = 8;

/// Chunks that are stored between two looks: each costs about 150 bytes of memory.
const LACKING_MAX: usize = 1 << 16;

/// Chunks whose holders are asked at once: 4 questions to each.
const ASKED_MAX: usize = 1 << 14;

/// Looks after short snapshots for the node's life.
pub(super) async fn complete_later(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let (mut looks, mut tick) = (Looks::default(), Instant::now() + SOON);
    loop {
        tokio::select! {
            () = sleep_until(tick) => tick = Instant::now() + SOON,
            changed = peers.changed() => {
                if changed.is_err() {
                    return;
                }
                looks.connected(&peers.borrow_and_update(), Instant::now());
                continue;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        let mut due = inner.with_catalog(|catalog| short(catalog));
        looks.keep(&due.iter().map(|made| made.snapshot).collect());
        due.retain(|made| looks.is_due(&made.snapshot, Instant::now()));
        if due.is_empty() || peers.borrow().is_empty() {
            continue;
        }
        let Some(mut hold) = Hold::begin(&inner.letting_go, &inner.prune_waits) else { continue };
        for made in due {
            if !hold.go_on().await {
                break;
            }
            let before = peers.borrow().clone();
            let how = ended(complete(&inner, &made, &mut hold).await, &made.snapshot);
            let stayed = before.is_subset(&peers.borrow());
            looks.ended(made.snapshot, how, (before, stayed), Instant::now());
        }
        tick = Instant::now() + SOON;
    }
}

fn ended(how: Result<Ended, Failure>, snapshot: &SnapshotId) -> Ended {
    match how {
        Ok(how) => {
            tracing::info!(%snapshot, ?how, "what a snapshot lacks was looked after");
            how
        }
        Err(Failure { why, .. }) => {
            tracing::info!(%snapshot, why, "what a snapshot lacks is not stored yet");
            Ended::Later
        }
    }
}

fn short(catalog: &Catalog) -> Vec<BackupMade> {
    catalog.made().into_iter().filter(|made| made.is_short()).cloned().collect()
}

/// Whether this snapshot is short still, and nobody has forgotten it or made a newer one of the
/// same paths.
fn is_short(inner: &Inner, id: &SnapshotId) -> bool {
    let is_it = |made: &&BackupMade| made.snapshot == *id && made.is_short();
    inner.with_catalog(|catalog| catalog.made().iter().any(is_it))
}

/// How a snapshot is after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// All its chunks have their replicas.
    Whole,
    /// Some do not; something was stored, or the look was broken off.
    GoesOn,
    /// Nothing was stored, and something was in the way: somebody did not answer, or what was
    /// asked for did not come.
    Later,
    /// Nothing was stored: those who are connected have none of what is missing, or take no more.
    Stuck,
}

/// Stores what can be stored of what one snapshot lacks.
async fn complete(
    inner: &Arc<Inner>,
    made: &BackupMade,
    hold: &mut Hold<'_>,
) -> Result<Ended, Failure> {
    let (id, wanted) = (made.snapshot, made.target);
    // One that nobody knows of was never published.
    let Some(at) = inner.with_catalog(|catalog| reference(catalog, &id)) else {
        return Ok(Ended::Later);
    };
    let (mut aim, mut first, mut in_the_way) = (wanted, None, false);
    let mut before: Option<(u64, u8)> = None;
    loop {
        // Reading takes as long as it takes.
        hold.let_go();
        let named = read(inner, (id, &at), LiveChunks::default()).await?;
        let Some(found) = look(inner, made, named, hold).await? else {
            return Ok(Ended::GoesOn);
        };
        if found.lacking == 0 {
            return Ok(Ended::Whole);
        }
        let first = *first.get_or_insert(found.lacking);
        let falls = before.is_none_or(|(lacking, under)| found.lacking < lacking || aim < under);
        if !found.is_storable || !falls {
            return Ok(match found.lacking.cmp(&first) {
                std::cmp::Ordering::Less => Ended::GoesOn,
                std::cmp::Ordering::Equal if !found.is_silent && !in_the_way => Ended::Stuck,
                _ => Ended::Later,
            });
        }
        before = Some((found.lacking, aim));
        hold.let_go();
        let lacking = read(inner, (id, &at), Lacking::new(inner, aim)).await?.into_chunks();
        match store(inner, (&id, aim), lacking, hold).await {
            Some(stored) => (aim, in_the_way) = (stored.aim, stored.in_the_way),
            None => return Ok(Ended::GoesOn),
        }
    }
}

/// What a look found.
struct Found {
    /// Replicas that are missing, of all chunks.
    lacking: u64,
    /// Somebody who is connected could be given one.
    is_storable: bool,
    /// Somebody who is connected did not answer.
    is_silent: bool,
}

/// Asks who has what the snapshot names, and notes how many replicas it has. `None` where it has to
/// make room, or there is nothing to be done any more.
async fn look(
    inner: &Arc<Inner>,
    made: &BackupMade,
    named: LiveChunks,
    hold: &mut Hold<'_>,
) -> Result<Option<Found>, Failure> {
    let (id, wanted) = (made.snapshot, made.target);
    let ids: Vec<ChunkId> = inner.with_catalog(|catalog| {
        catalog.chunk_ids().filter(|id| named.contains(id)).copied().collect()
    });
    let unknown = named.count().saturating_sub(ids.len()) as u64;
    drop(named);
    let mut all = Checked { fewest: wanted, ..Checked::default() };
    let mut lacking = unknown.saturating_mul(u64::from(wanted));
    for part in ids.chunks(ASKED_MAX) {
        if !hold.go_on().await || !is_short(inner, &id) {
            return Ok(None);
        }
        let resting = inner.shared.memory.resting(0);
        let checked = check_sparing(inner, part, (wanted, Belief::ADay), &resting).await?;
        all.fewest = all.fewest.min(checked.fewest);
        all.storable = all.storable.saturating_add(checked.storable);
        all.silent.extend(checked.silent);
        lacking = lacking.saturating_add(missing(inner, part, wanted));
    }
    if !hold.go_on().await || !is_short(inner, &id) {
        return Ok(None);
    }
    note_replicas(inner, &id, replicas(made, &all, unknown))?;
    inner.commit_catalog().await?;
    let is_silent = all.silent.iter().any(|node| inner.shared.is_connected(node));
    Ok(Some(Found { lacking, is_storable: all.storable > 0 || unknown > 0, is_silent }))
}

fn missing(inner: &Inner, ids: &[ChunkId], wanted: u8) -> u64 {
    let wanted = usize::from(wanted);
    ids.iter().map(|id| wanted.saturating_sub(proven(inner, id)) as u64).sum()
}

/// How many nodes showed within a day that they have the chunk.
fn proven(inner: &Inner, id: &ChunkId) -> usize {
    let now_s = seconds_since_1970();
    let window = (now_s.saturating_sub(BELIEVED_S), now_s);
    inner.with_catalog(|catalog| catalog.replicas_of(id, window).proven)
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
pub(super) fn reference(catalog: &Catalog, id: &SnapshotId) -> Option<ChunkRef> {
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

/// Gathers the chunks of which too few replicas were shown within a day and that somebody who is
/// connected has, or this node itself: not more of them than are stored between two looks. What
/// nobody is known to have comes last.
pub(super) struct Lacking {
    inner: Arc<Inner>,
    replicas: usize,
    most: usize,
    found: BTreeMap<ChunkId, ChunkRef>,
    unknown: BTreeMap<ChunkId, ChunkRef>,
}

impl Lacking {
    fn new(inner: &Arc<Inner>, replicas: u8) -> Self {
        Self::at_most(inner, replicas, LACKING_MAX)
    }

    pub(super) fn at_most(inner: &Arc<Inner>, replicas: u8, most: usize) -> Self {
        let (inner, replicas) = (Arc::clone(inner), usize::from(replicas));
        Self { inner, replicas, most, found: BTreeMap::new(), unknown: BTreeMap::new() }
    }

    fn add(&mut self, reference: &ChunkRef, may_be_here: bool) {
        let id = &reference.id;
        if self.found.len() >= self.most || proven(&self.inner, id) >= self.replicas {
            return;
        }
        let is_here = || may_be_here && self.inner.meta.find(id).is_some();
        if !self.inner.connected_holders(id).is_empty() || is_here() {
            self.found.entry(*id).or_insert_with(|| reference.duplicate());
        } else if self.unknown.len() < self.most
            && self.inner.with_catalog(|catalog| catalog.holders_of(id)).is_empty()
        {
            self.unknown.entry(*id).or_insert_with(|| reference.duplicate());
        }
    }

    pub(super) fn into_chunks(self) -> VecDeque<ChunkRef> {
        let Self { most, found, unknown, .. } = self;
        found.into_values().chain(unknown.into_values()).take(most).collect()
    }
}

impl Reached for Lacking {
    fn reach(&mut self, reference: &ChunkRef) {
        self.add(reference, true);
    }

    fn reach_leaf(&mut self, reference: &ChunkRef) {
        // Copies are kept of what leads to others.
        self.add(reference, false);
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// What storing came to.
struct Stored {
    /// How many replicas can be had, as far as was seen.
    aim: u8,
    /// None of what was asked for came, or it was taken and not acknowledged yet.
    in_the_way: bool,
}

/// Fetches these chunks, and hands them to as many nodes as are wanted, in rounds. Those that do
/// not come are left out. `None` where it has to make room.
async fn store(
    inner: &Arc<Inner>,
    (id, mut aim): (&SnapshotId, u8),
    mut lacking: VecDeque<ChunkRef>,
    hold: &mut Hold<'_>,
) -> Option<Stored> {
    let (mut asked, mut came, mut is_late) = (0, 0, false);
    while !lacking.is_empty() {
        if !hold.go_on().await || !is_short(inner, id) {
            return None;
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let (handed, is_over): (Arc<Handed>, _) = (Arc::default(), Arc::clone(&cancel));
        let (node, until, room) = (Arc::clone(inner), hold.until(), hold.room());
        let work = move |sink: &mut StoreSink| {
            sink.spare(node.shared.memory.resting(0));
            let passing = Passing { until, room, lacking, asked: 0, came: 0 };
            Ok((pass_on(&node, passing, &is_over, sink)?, sink.aim()))
        };
        let wish = Wish { replicas: aim, patience: STORE_PATIENCE };
        let ((passed, now), short) = match store_all(inner, wish, (handed, cancel), work).await {
            Ok((passed, stored)) => (passed, stored.why),
            Err(Failure { why, .. }) => {
                tracing::info!(why, "chunks that are short of replicas were not stored");
                return Some(Stored { aim, in_the_way: true });
            }
        };
        hold.used(passed.asked);
        (asked, came) = (asked + passed.asked, came + passed.came);
        is_late |= short == Some(Shortage::AcksOutstanding);
        aim = aim.min(now.load(Ordering::Relaxed));
        lacking = passed.lacking;
    }
    tracing::info!(asked, came, aim, "chunks that were short of replicas were stored again");
    Some(Stored { aim, in_the_way: is_late || (asked > 0 && came == 0) })
}

/// What is passed on in one round.
struct Passing {
    /// No more is asked for from then on.
    until: Instant,
    /// Nor are more chunks.
    room: usize,
    /// What was not asked for yet.
    lacking: VecDeque<ChunkRef>,
    /// How many chunks were asked for.
    asked: usize,
    /// How many of them came.
    came: usize,
}

impl Passing {
    /// The next chunk that can come to have more replicas.
    fn next(&mut self, inner: &Inner, aim: u8) -> Option<ChunkRef> {
        if self.asked >= self.room || Instant::now() >= self.until {
            return None;
        }
        while let Some(at) = self.lacking.pop_front() {
            if proven(inner, &at.id) < usize::from(aim) {
                self.asked += 1;
                return Some(at);
            }
        }
        None
    }
}

/// Blocks. Ends early where a prune waits, the round ends, or nobody listens any more.
fn pass_on(
    inner: &Arc<Inner>,
    mut passing: Passing,
    is_over: &AtomicBool,
    sink: &mut StoreSink,
) -> Result<Passing, Failure> {
    let (progress, _heard) = mpsc::channel::<()>(1);
    let mut source = MeshSource::new(Arc::clone(inner), FETCH_PATIENCE, &progress);
    let (mut asked, aim): (BTreeMap<u64, ChunkRef>, _) = (BTreeMap::new(), sink.aim());
    loop {
        let stops = is_over.load(Ordering::Relaxed) || inner.prune_waits.load(Ordering::Relaxed);
        while !stops
            && asked.len() < FETCHES
            && let Some(at) = passing.next(inner, aim.load(Ordering::Relaxed))
        {
            let index = passing.asked as u64;
            let (id, locality, read) = (at.id, at.locality, at.ck.read_secret());
            source.request(Wanted { index, id, locality, read });
            asked.insert(index, at);
        }
        if asked.is_empty() {
            return Ok(passing);
        }
        match source.next() {
            Ok(Fetched { index, header, sealed }) => {
                let Some(at) = asked.remove(&index) else { continue };
                passing.came += 1;
                let came = (header, sealed);
                let chunk = SealedChunk::fetched(&inner.keys, &at.ck, at.locality, came);
                let Some(chunk) = chunk else {
                    tracing::debug!(chunk = %at.id, "a chunk that is short has no tags");
                    continue;
                };
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
