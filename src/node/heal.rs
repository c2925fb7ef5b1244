//! `heal`: what has too few replicas gets them back, from this machine or from whoever has it
//! whole.
//!
//! ```text
//! all that is named ─▶ too few that count ─▶ its sealed bytes ─▶ nodes that do not have it ─▶ acks
//! ```
//! Which replicas count: those that were acknowledged and that no audit found gone or damaged
//! since, at holders that neither lied nor are silent by their last audit. So whoever wants to know
//! what is there runs an audit first. A replica whose holder comes back counts again with its next
//! audit: it is not thrown away.
//!
//! Sealed bytes are taken as they are, checked against their id, and handed on: the id stays what
//! snapshots name. New replicas are audited at once. A chunk of which nobody has anything is lost,
//! and the files that need it are named: a backup of these files stores it anew, where they are.

mod grace;
mod later;

use super::audit::{not_counted, prove_new};
use super::backup::{Handed, StoreSink, Wish, store_all};
use super::failures;
use super::fetch::MeshSource;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::needed::{Named, Places, Within, files, named};
use super::rebuild;
use super::recover::nobody;
use super::report::{Failure, FailureKind, HealDone, HealRequest, Progress};
use super::repository::{Breadth, look};
use crate::core::codec::QUORUM_MAX;
use crate::core::types::ChunkId;
use crate::crypto::seal::SealedChunk;
use crate::repo::again::{Again, PieceAt};
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::ChunkSink;
use grace::Uncounted;
pub(super) use later::heal_later;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

/// Replicas where nothing says how many were wished.
const REPLICAS: u8 = 3;

/// How long one chunk, or a part of a snapshot's tree, may take to come.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// Chunks that are on their way here at once: up to 4 MiB each.
const FETCHES: usize = 8;

/// Chunks that are healed in one pass: each costs about 150 bytes of memory.
const PASS_CHUNKS: usize = 1 << 16;

impl NodeHandle {
    /// Stores anew what has too few replicas. Dropping the receiver ends it; the next one goes on.
    pub fn heal(&self, request: HealRequest) -> mpsc::Receiver<Progress<HealDone>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let last = tokio::select! {
                done = run(&inner, &request, &progress) => {
                    done.map_or_else(Progress::Failed, Progress::Done)
                }
                () = progress.closed() => return,
            };
            drop(progress.send(last).await);
        });
        heard
    }
}

async fn run(
    inner: &Arc<Inner>,
    request: &HealRequest,
    progress: &mpsc::Sender<Progress<HealDone>>,
) -> Result<HealDone, Failure> {
    let started = Instant::now();
    // All that the heads name by now, whoever made it.
    let look = look(inner, Breadth::Everyone).await?;
    if look.peers == 0 {
        return Err(nobody(&inner.mesh_name));
    }
    let mut done = HealDone { notes: look.notes.clone(), ..HealDone::default() };
    if !rebuild::fill_now(inner).await? {
        done.notes.push(
            "not all holders were listed since this device was recovered: replicas of theirs are \
             not known yet"
                .to_owned(),
        );
    }
    let wished = inner.repository.replicas_wished(inner).await;
    let wished = if wished == 0 { REPLICAS } else { wished };
    let wanted = request.replicas.unwrap_or(wished);
    if !(1..=QUORUM_MAX).contains(&wanted) {
        let why = format!("{wanted} replicas are asked for, and a chunk has 1 to {QUORUM_MAX}");
        return Err(Failure::new(FailureKind::Usage, "nothing was healed", why, "see --help"));
    }
    done.wanted = wanted;
    // Nothing is let go meanwhile.
    let stays = inner.letting_go.read().await;
    let wish = Wish { replicas: wanted, patience: Duration::from_secs(request.timeout_s) };
    let counts = || Uncounted::these(not_counted(inner));
    heal(inner, (wish, &counts), progress, &mut done).await?;
    drop(stays);
    prove_new(inner).await?;
    done.seconds = started.elapsed().as_secs_f64();
    Ok(done)
}

/// Passes, as long as they store anything; then a last look at what is short.
async fn heal(
    inner: &Arc<Inner>,
    (wish, uncounted): (Wish, &(dyn Fn() -> Uncounted + Send + Sync)),
    progress: &mpsc::Sender<Progress<HealDone>>,
    done: &mut HealDone,
) -> Result<(), Failure> {
    let moved = Arc::new(AtomicU64::new(0));
    let mut before: Option<(u64, u64)> = None;
    let mut first: Option<u64> = None;
    loop {
        let short = Short::new(inner, (wish.replicas, uncounted()));
        let read = named(inner, None, short, (FETCH_PATIENCE, progress.clone())).await?;
        let Named { reached: mut short, unread, why } = read;
        let state = (short.count, short.missing);
        let first = *first.get_or_insert(short.count);
        let is_stuck = before.is_some_and(|before| state >= before);
        if short.count == 0 || is_stuck {
            (done.chunks, done.unread, done.short) = (short.all.len() as u64, unread, first);
            done.notes.extend(why);
            short.sum_up(first, done);
            done.bytes_read = moved.load(Ordering::Relaxed);
            return Ok(());
        }
        before = Some(state);
        let lacking = std::mem::take(&mut short.found).into_values().collect();
        let passing = Passing { lacking, all: short.count, moved: Arc::clone(&moved) };
        let work = {
            let (node, progress) = (Arc::clone(inner), progress.clone());
            move |sink: &mut StoreSink| pass_on(&node, passing, sink, &progress)
        };
        let (handed, cancel): (Arc<Handed>, _) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        if let Err(failure) = store_all(inner, wish, (handed, cancel), work).await {
            if progress.is_closed() {
                return Err(failures::stopped());
            }
            tracing::info!(why = failure.why, "not all that is short was stored");
            done.notes.push(failure.why);
        }
        inner.commit_catalog().await?;
    }
}

/// What is on its way in one pass.
struct Passing {
    lacking: VecDeque<(ChunkRef, Option<PieceAt>)>,
    /// How many chunks are short in all.
    all: u64,
    /// Sealed bytes that came.
    moved: Arc<AtomicU64>,
}

impl Passing {
    /// One more to store, and to tell of.
    fn hand_on(
        &self,
        chunk: SealedChunk,
        plaintext_bytes: u64,
        came: u64,
        (sink, progress): (&mut StoreSink, &mpsc::Sender<Progress<HealDone>>),
    ) -> Result<(), Failure> {
        let length = chunk.sealed.len() as u64;
        let bytes = self.moved.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        // What leads to others was kept here when it was read.
        sink.store(chunk, plaintext_bytes.max(1)).map_err(|_| failures::stopped())?;
        let note = Some(format!("{came} of {} chunks", self.all));
        let working = Progress::Working { bytes, total: None, chunks: came, replicas: None, note };
        // A full queue means that the listener is slow: the next line tells more.
        drop(progress.try_send(working));
        Ok(())
    }
}

/// Makes what is short again from its file, or fetches it, and hands it on. Blocks. What does not
/// come is left out.
fn pass_on(
    inner: &Arc<Inner>,
    mut passing: Passing,
    sink: &mut StoreSink,
    progress: &mpsc::Sender<Progress<HealDone>>,
) -> Result<(), Failure> {
    let mut source = MeshSource::new(Arc::clone(inner), FETCH_PATIENCE, progress);
    let mut asked: BTreeMap<u64, ChunkRef> = BTreeMap::new();
    let (mut next, mut came, mut again) = (0_u64, 0_u64, Again::default());
    loop {
        while asked.len() < FETCHES
            && let Some((at, piece)) = passing.lacking.pop_front()
        {
            let here = piece.and_then(|piece| again.piece(&inner.keys, &piece, &at));
            if let Some(chunk) = here {
                came += 1;
                passing.hand_on(chunk, at.bytes, came, (sink, progress))?;
                continue;
            }
            let (id, locality, read) = (at.id, at.locality, at.ck.read_secret());
            source.request(Wanted { index: next, id, locality, read });
            asked.insert(next, at);
            next += 1;
        }
        if asked.is_empty() {
            return Ok(());
        }
        match source.next() {
            Ok(Fetched { index, header, sealed }) => {
                let Some(at) = asked.remove(&index) else { continue };
                came += 1;
                let chunk =
                    SealedChunk::fetched(&inner.keys, &at.ck, at.locality, (header, sealed));
                let Some(chunk) = chunk else {
                    tracing::warn!(chunk = %at.id, "a chunk of other keys is not stored anew");
                    continue;
                };
                passing.hand_on(chunk, at.bytes, came, (sink, progress))?;
            }
            Err(FetchError::Unavailable { index, why } | FetchError::Spoiled { index, why }) => {
                if let Some(at) = asked.remove(&index) {
                    tracing::info!(chunk = %at.id, why, "a chunk that is short does not come");
                }
            }
            Err(FetchError::Closed) => return Err(failures::stopped()),
        }
    }
}

/// Gathers what is short.
struct Short {
    inner: Arc<Inner>,
    wanted: usize,
    uncounted: Uncounted,
    /// All that is named, by how the ids begin.
    all: BTreeSet<u64>,
    /// What is to be fetched, of a pass.
    found: BTreeMap<ChunkId, (ChunkRef, Option<PieceAt>)>,
    /// How many chunks are short.
    count: u64,
    /// How many replicas are missing.
    missing: u64,
    /// The fewest replicas of a chunk that has any.
    fewest: usize,
    /// Chunks without any.
    lost: BTreeSet<ChunkId>,
    within: Within,
    places: Places,
}

impl Short {
    fn new(inner: &Arc<Inner>, (wanted, uncounted): (u8, Uncounted)) -> Self {
        Self {
            uncounted,
            inner: Arc::clone(inner),
            wanted: usize::from(wanted),
            all: BTreeSet::new(),
            found: BTreeMap::new(),
            count: 0,
            missing: 0,
            fewest: usize::from(wanted),
            lost: BTreeSet::new(),
            within: Within::default(),
            places: Places::default(),
        }
    }

    /// What it came to: so many were short at `first`.
    fn sum_up(&self, first: u64, done: &mut HealDone) {
        done.lost = self.lost.len() as u64;
        done.still_short = self.count.saturating_sub(done.lost);
        done.healed = first.saturating_sub(self.count);
        done.fewest = u8::try_from(self.fewest).unwrap_or(u8::MAX);
        done.files = files(&self.places, &self.places);
        done.files_total = self.places.list().1;
    }
}

impl Reached for Short {
    fn within(&mut self, part: Part<'_>) {
        self.within.enter(part);
    }

    fn reach_leaf(&mut self, reference: &ChunkRef) {
        let piece = self.within.piece(reference);
        self.add(reference, piece);
    }

    fn reach(&mut self, reference: &ChunkRef) {
        self.add(reference, None);
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

impl Short {
    fn add(&mut self, reference: &ChunkRef, piece: Option<PieceAt>) {
        let id = reference.id;
        if self.lost.contains(&id) {
            return self.places.add(self.within.place());
        }
        if !self.all.insert(crate::repo::catalog::Proven::prefix(&id)) {
            return;
        }
        let holders = self.inner.with_catalog(|catalog| catalog.holders_of(&id));
        let counted = self.uncounted.count(&holders);
        if counted >= self.wanted {
            return;
        }
        self.count += 1;
        self.missing += (self.wanted - counted) as u64;
        if counted == 0 {
            self.lost.insert(id);
            self.places.add(self.within.place());
        } else {
            self.fewest = self.fewest.min(counted);
        }
        if self.found.len() < PASS_CHUNKS {
            self.found.insert(id, (reference.duplicate(), piece));
        }
    }
}
