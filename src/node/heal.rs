//! `heal`: what has too few replicas gets them back, from this machine or from whoever has it
//! whole.
//!
//! ```text
//! all that is named ─▶ too few that count ─▶ its sealed bytes ─▶ nodes that do not have it ─▶ acks
//! ```
//! Which replicas count: those that were acknowledged and that no audit found gone or damaged
//! since, at holders that neither lied nor are silent by their last audit. So whoever wants to know
//! what is there runs an audit first. A replica whose holder comes back counts again with its next
//! audit: it is not thrown away. Of those in one failure domain one counts.
//!
//! Who lost replicas of late is given none of what is repaired by itself for a time, and nothing
//! that it lost meanwhile by whoever heals at once: see
//! [`Setback`](crate::core::reputation::Setback). Repairs that nobody asked for keep to the bytes
//! that the user allows them in a day; a heal at once does not, and counts.
//!
//! Sealed bytes are taken as they are, checked against their id, and handed on: the id stays what
//! snapshots name. New replicas are audited at once. A chunk of which nobody has anything is lost,
//! and the files that need it are named: a backup of these files stores it anew, where they are.

mod later;

use super::audit::{not_counted, prove_new};
use super::backup::{Handed, Hopeless, StoreSink, Wish, store_all};
use super::fetch::MeshSource;
use super::handle::NodeHandle;
use super::heard::heard;
use super::inner::Inner;
use super::needed::{Named, Places, Targets, Within, files, named};
use super::put::seconds_since_1970;
use super::rebuild;
use super::recover::nobody;
use super::report::{Failure, FailureKind, HealDone, HealRequest, Progress};
use super::repository::{Breadth, look};
use super::{failures, memory};
use crate::core::codec::QUORUM_MAX;
use crate::core::types::{ChunkId, NodeId};
use crate::crypto::seal::SealedChunk;
use crate::repo::again::{Again, PieceAt};
use crate::repo::catalog::Proven;
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use crate::repo::grace::Uncounted;
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
#[cfg(test)]
pub(super) use later::heal_all;
pub(super) use later::heal_later;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long one chunk, or a part of a snapshot's tree, may take to come.
const FETCH_PATIENCE: Duration = Duration::from_secs(20);

/// Chunks that are on their way here at once: up to 4 MiB each.
const FETCHES: usize = 8;

/// Chunks that are healed in one pass: each costs about 150 bytes of memory.
const PASS_CHUNKS: usize = 1 << 14;

/// No chunk has so many replicas: that of those which nobody has. There is one pass of them.
const LOST: usize = usize::MAX - 1;

/// How often it begins anew where the first audit of what was stored finds it gone.
const ROUNDS_MAX: u32 = 3;

impl NodeHandle {
    /// Stores anew what has too few replicas. Dropping the receiver ends it; the next one goes on.
    pub fn heal(&self, request: HealRequest) -> mpsc::Receiver<Progress<HealDone>> {
        let inner = Arc::clone(&self.inner);
        heard(move |progress| async move { run(&inner, &request, &progress).await })
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
    if !rebuild::fill_now(inner, rebuild::By::User).await? {
        done.notes.push(
            "not all holders were listed since this device was recovered: replicas of theirs are \
             not known yet"
                .to_owned(),
        );
    }
    let targets = match request.replicas {
        Some(wanted) if (1..=QUORUM_MAX).contains(&wanted) => Targets::all(wanted),
        Some(wanted) => {
            let why = format!("{wanted} replicas are asked for, and a chunk has 1 to {QUORUM_MAX}");
            return Err(Failure::new(FailureKind::Usage, "nothing was healed", why, "see --help"));
        }
        None => Targets::wished(inner).await,
    };
    done.wanted = targets.most();
    let _alone = inner.healing.lock().await;
    let counts = || Uncounted::these(not_counted(inner));
    let rules = Rules {
        targets: &targets,
        patience: Duration::from_secs(request.timeout_s),
        uncounted: &counts,
        by: By::User { since_s: seconds_since_1970() },
    };
    let mut short = None;
    for _ in 0..ROUNDS_MAX {
        heal(inner, &rules, progress, &mut done).await?;
        short.get_or_insert(done.short);
        // Only what is there counts.
        if prove_new(inner).await? == 0 {
            break;
        }
    }
    let first = short.unwrap_or(done.short);
    (done.short, done.healed) = (first, first.saturating_sub(done.still_short + done.lost));
    done.seconds = started.elapsed().as_secs_f64();
    Ok(done)
}

/// Who wants it healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The user, since then: seconds since 1970.
    User { since_s: u64 },
    /// Nobody.
    Itself,
}

impl By {
    /// Who rests since then is given nothing.
    fn resting_since_s(self) -> u64 {
        match self {
            Self::User { since_s } => since_s,
            Self::Itself => 0,
        }
    }

    /// Whether more may be moved now.
    fn may_move(self, inner: &Inner) -> bool {
        self != Self::Itself || inner.shared.memory.repair_left() > 0
    }
}

/// How to heal.
struct Rules<'a> {
    targets: &'a Targets,
    /// How long nodes that take chunks are waited for.
    patience: Duration,
    /// Whose replicas do not count by now.
    uncounted: &'a (dyn Fn() -> Uncounted + Send + Sync),
    by: By,
}

/// Passes, those with the fewest replicas first, until each chunk that is short was tried; then a
/// last look at what is short.
async fn heal(
    inner: &Arc<Inner>,
    rules: &Rules<'_>,
    progress: &mpsc::Sender<Progress<HealDone>>,
    done: &mut HealDone,
) -> Result<(), Failure> {
    memory::draw_near(inner).await;
    let moved = Arc::new(AtomicU64::new(0));
    let (mut tried, hopeless) = (Some(BTreeSet::new()), Hopeless::default());
    let mut first: Option<u64> = None;
    loop {
        // Nothing is let go meanwhile; a prune that waits has its turn between two passes.
        let _stays = inner.letting_go.read().await;
        let short = Short::new(inner, rules, std::mem::take(&mut tried));
        let read = named(inner, None, short, (FETCH_PATIENCE, progress.clone())).await?;
        let Named { reached: mut short, unread, why } = read;
        let first = *first.get_or_insert(short.count);
        if short.found.is_empty() || !rules.by.may_move(inner) {
            (done.chunks, done.unread, done.short) = (short.all.len() as u64, unread, first);
            done.notes.extend(why);
            short.sum_up(first, done);
            done.bytes_read = moved.load(Ordering::Relaxed);
            return Ok(());
        }
        tried = short.begin_pass();
        let passing = Passing {
            lacking: std::mem::take(&mut short.found).into_values().collect(),
            all: short.count,
            moved: Arc::clone(&moved),
            avoided: std::mem::take(&mut short.avoided),
            hopeless: Arc::clone(&hopeless),
            by: rules.by,
        };
        let work = {
            let (node, progress) = (Arc::clone(inner), progress.clone());
            move |sink: &mut StoreSink| pass_on(&node, passing, sink, &progress)
        };
        let wish = Wish { replicas: short.most, patience: rules.patience };
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

/// A chunk with too few replicas.
struct Lacking {
    at: ChunkRef,
    /// Where it was cut from.
    piece: Option<PieceAt>,
    /// How many nodes are to hold it,
    target: u8,
    /// and those of them that do.
    counted: Vec<NodeId>,
    /// The same for all that are wanted as often, and have the same holders: where nobody takes one
    /// of these, nobody takes the others.
    kind: u64,
}

/// What is on its way in one pass.
struct Passing {
    lacking: VecDeque<Lacking>,
    /// Who is given none of it.
    avoided: BTreeSet<NodeId>,
    /// How many chunks are short in all.
    all: u64,
    /// Sealed bytes that came.
    moved: Arc<AtomicU64>,
    hopeless: Hopeless,
    by: By,
}

impl Passing {
    /// The next one that somebody may take.
    fn next(&mut self) -> Option<Lacking> {
        let hopeless = self.hopeless.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(lacking) = self.lacking.pop_front() {
            if !hopeless.contains(&lacking.kind) {
                return Some(lacking);
            }
        }
        None
    }

    /// One more to store, and to tell of.
    fn hand_on(
        &self,
        chunk: SealedChunk,
        it: &Lacking,
        came: Came,
        (sink, progress): (&mut StoreSink, &mpsc::Sender<Progress<HealDone>>),
    ) -> Result<(), Failure> {
        let length = chunk.sealed.len() as u64;
        if came.is_fetched {
            sink.node().shared.memory.repaired(length);
        }
        let bytes = self.moved.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        // What leads to others was kept here when it was read.
        let wish = (it.target, it.counted.as_slice(), &self.avoided);
        let stored = sink.repair(chunk, it.at.bytes.max(1), wish, (it.kind, &self.hopeless));
        stored.map_err(|_| failures::stopped())?;
        let (note, chunks) = (Some(format!("{} of {} chunks", came.count, self.all)), came.count);
        let working = Progress::Working { bytes, total: None, chunks, replicas: None, note };
        // A full queue means that the listener is slow: the next line tells more.
        drop(progress.try_send(working));
        Ok(())
    }
}

/// The how many-th chunk it is, and from where.
#[derive(Debug, Clone, Copy)]
struct Came {
    count: u64,
    /// From a holder, and not from here.
    is_fetched: bool,
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
    let mut asked: BTreeMap<u64, Lacking> = BTreeMap::new();
    let (mut next, mut came, mut again) = (0_u64, 0_u64, Again::default());
    loop {
        while asked.len() < FETCHES
            && passing.by.may_move(inner)
            && let Some(next_one) = passing.next()
        {
            let Lacking { at, piece, .. } = &next_one;
            let here = piece.as_ref().and_then(|piece| again.piece(&inner.keys, piece, at));
            if let Some(chunk) = here {
                came += 1;
                let came = Came { count: came, is_fetched: false };
                passing.hand_on(chunk, &next_one, came, (sink, progress))?;
                continue;
            }
            let (id, locality, read) = (at.id, at.locality, at.ck.read_secret());
            source.request(Wanted { index: next, id, locality, read });
            asked.insert(next, next_one);
            next += 1;
        }
        if asked.is_empty() {
            return Ok(());
        }
        match source.next() {
            Ok(Fetched { index, header, sealed }) => {
                let Some(it) = asked.remove(&index) else { continue };
                let at = &it.at;
                came += 1;
                let chunk =
                    SealedChunk::fetched(&inner.keys, &at.ck, at.locality, (header, sealed));
                let Some(chunk) = chunk else {
                    tracing::warn!(chunk = %at.id, "a chunk of other keys is not stored anew");
                    continue;
                };
                let came = Came { count: came, is_fetched: true };
                passing.hand_on(chunk, &it, came, (sink, progress))?;
            }
            Err(FetchError::Unavailable { index, why } | FetchError::Spoiled { index, why }) => {
                if let Some(it) = asked.remove(&index) {
                    tracing::info!(chunk = %it.at.id, why, "a chunk that is short does not come");
                }
            }
            Err(FetchError::Closed) => return Err(failures::stopped()),
        }
    }
}

/// Gathers what is short.
struct Short {
    inner: Arc<Inner>,
    /// All those of whom anything is wrong, and those that rest.
    avoided: BTreeSet<NodeId>,
    uncounted: Uncounted,
    connected: BTreeSet<NodeId>,
    targets: Targets,
    /// The most replicas that are wanted of anything in this pass.
    most: u8,
    /// How many replicas count of what is in this pass; of what nobody has [`LOST`], which comes
    /// last.
    level: usize,
    /// What earlier passes tried, by how the ids begin. After one of what is lost that is all.
    tried: Option<BTreeSet<u64>>,
    /// All that is named, by how the ids begin.
    all: BTreeSet<u64>,
    /// What is to be fetched, of a pass.
    found: BTreeMap<ChunkId, Lacking>,
    /// How many chunks are short.
    count: u64,
    /// The fewest replicas of a chunk that has any.
    fewest: usize,
    /// Chunks without any.
    lost: BTreeSet<ChunkId>,
    within: Within,
    places: Places,
}

impl Short {
    fn new(inner: &Arc<Inner>, rules: &Rules<'_>, tried: Option<BTreeSet<u64>>) -> Self {
        let (targets, uncounted) = (rules.targets.clone(), (rules.uncounted)());
        let mut avoided = uncounted.nodes();
        avoided.extend(inner.shared.memory.resting(rules.by.resting_since_s()));
        Self {
            avoided,
            uncounted,
            connected: inner.shared.watch_peers().borrow().clone(),
            most: 0,
            level: usize::MAX,
            tried,
            inner: Arc::clone(inner),
            all: BTreeSet::new(),
            found: BTreeMap::new(),
            count: 0,
            fewest: usize::from(targets.most()),
            targets,
            lost: BTreeSet::new(),
            within: Within::default(),
            places: Places::default(),
        }
    }

    /// What was tried when this pass is over; `None` where no other one is to come.
    fn begin_pass(&mut self) -> Option<BTreeSet<u64>> {
        let mut tried = self.tried.take()?;
        tried.extend(self.found.keys().map(Proven::prefix));
        (self.level < LOST).then_some(tried)
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
        if !self.all.insert(Proven::prefix(&id)) {
            return;
        }
        let (holders, counting) = self.inner.with_catalog(|catalog| {
            let mut holders = catalog.holders_of(&id);
            // Of two in one failure domain that one counts which can be asked.
            holders.sort_by_key(|node| !self.connected.contains(node));
            let counting = self.uncounted.counted(catalog.near().0, &holders);
            (holders, counting)
        });
        let counted = counting.len();
        let target = self.targets.of(self.within.snapshot());
        let wanted = usize::from(target);
        if counted >= wanted {
            return;
        }
        self.count += 1;
        let is_lost = holders.is_empty();
        if is_lost {
            self.lost.insert(id);
            self.places.add(self.within.place());
        } else {
            self.fewest = self.fewest.min(counted);
        }
        let prefix = Proven::prefix(&id);
        if self.tried.as_ref().is_none_or(|tried| tried.contains(&prefix)) {
            return;
        }
        // What is nearest to be lost comes first.
        let level = if is_lost { LOST } else { counted };
        if level < self.level {
            (self.level, self.most) = (level, 0);
            self.found.clear();
        }
        if level == self.level && self.found.len() < PASS_CHUNKS {
            self.most = self.most.max(target);
            let kind = kind(&holders, target);
            let (at, counted) = (reference.duplicate(), counting);
            self.found.insert(id, Lacking { at, piece, target, counted, kind });
        }
    }
}

/// See [`Lacking::kind`].
fn kind(holders: &[NodeId], target: u8) -> u64 {
    let holders: BTreeSet<&NodeId> = holders.iter().collect();
    let mut hasher = DefaultHasher::new();
    (holders, target).hash(&mut hasher);
    hasher.finish()
}
