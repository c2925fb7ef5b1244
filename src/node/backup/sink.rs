//! From a sealing thread to the mesh: chunks through the node's window, and their acks back.
//!
//! A slow line is no shortage: as long as anything is acknowledged, chunks wait for as long as it
//! takes. When nothing was for the whole patience, those that are overdue are given up. What they
//! have reached is then asked for the chunks behind them, too, until another node connects: a
//! backup waits once, and not at each window.

use crate::core::owner::{Load, OwnerEvent, Shortage, StoreJob};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::seal::SealedChunk;
use crate::node::audit::liars;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use crate::node::prune::Settled;
use crate::node::put::{CancelOnDrop, seconds_since_1970};
use crate::node::replicas::Replicas;
use crate::node::report::Failure;
use crate::node::stores::Stores;
use crate::repo::catalog::{BELIEVED_S, ChunkAcked, Entry};
use crate::repo::engine::{BackupSink, DoneLeaf};
use crate::repo::sealer::{ChunkSink, Held, SinkClosed};
use crate::repo::tree::Entry as TreeEntry;
use crate::repo::unfinished::Recorder;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How often acks are made durable: what came since is asked for again after a crash of the system.
/// They are written as they come, so that the end of this process costs none.
const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// How chunks are stored.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Wish {
    /// How many distinct nodes shall hold each, 1 to 32.
    pub(in crate::node) replicas: u8,
    /// How long they are waited for while nothing is acknowledged.
    pub(in crate::node) patience: Duration,
}

/// What storing came to: every chunk that was handed over has at least one replica.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Stored {
    /// The smallest number of replicas of any chunk. What was [held](HeldByMesh) already has as
    /// many as were wished for; a store that was lost meanwhile counts for none of it.
    pub(in crate::node) replicas: u8,
    /// How many chunks were handed over.
    pub(in crate::node) chunks: u64,
    /// Why some have fewer than were wished for, as far as the owner role said.
    pub(in crate::node) why: Option<Shortage>,
}

/// How far storing is, for whoever tells of it.
#[derive(Debug, Default)]
pub(in crate::node) struct Handed {
    chunks: AtomicU64,
    /// 0 where it is not known.
    fewest: AtomicU8,
}

impl Handed {
    /// Chunks that were handed over.
    pub(in crate::node) fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// The smallest number of replicas of any chunk that is done, or overdue; `None` before the
    /// first.
    pub(in crate::node) fn fewest(&self) -> Option<u8> {
        Some(self.fewest.load(Ordering::Relaxed)).filter(|fewest| *fewest > 0)
    }
}

/// Which words of holders count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Trust {
    /// Their acks, however old: whoever names what they hold asks them before that is published.
    Acks,
    /// What they acknowledged or said within a day.
    Today,
}

/// What is held by as many as are wanted, with the stores that they have now; and what was taken
/// to be held by whoever asked.
pub(in crate::node) struct HeldByMesh {
    inner: Arc<Inner>,
    replicas: u8,
    trust: Trust,
    reused: Mutex<Reused>,
}

/// Ids, most of them once: 32 bytes each, and twice that while they are put in order.
#[derive(Default)]
struct Reused {
    ids: Vec<ChunkId>,
    distinct: usize,
}

impl Reused {
    fn add(&mut self, id: ChunkId) {
        // Small files lie in one pack, one after the other.
        if self.ids.last() == Some(&id) {
            return;
        }
        self.ids.push(id);
        if self.ids.len() >= 2 * self.distinct + REUSED_UNSORTED {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.ids.sort_unstable();
        self.ids.dedup();
        self.distinct = self.ids.len();
    }
}

/// Ids that are gathered before they are put in order.
const REUSED_UNSORTED: usize = 1 << 16;

impl HeldByMesh {
    pub(in crate::node) fn new(inner: &Arc<Inner>, replicas: u8, trust: Trust) -> Self {
        Self { inner: Arc::clone(inner), replicas, trust, reused: Mutex::default() }
    }

    /// What was asked for and taken to be held, each once.
    pub(in crate::node) fn into_reused(self) -> Vec<ChunkId> {
        let mut reused = self.reused.into_inner().unwrap_or_else(PoisonError::into_inner);
        reused.sort();
        reused.ids
    }
}

impl Held for HeldByMesh {
    fn is_held(&self, id: &ChunkId) -> bool {
        let now_s = seconds_since_1970();
        let window = (now_s.saturating_sub(BELIEVED_S), now_s);
        let replicas = self.inner.with_catalog(|catalog| catalog.replicas_of(id, window));
        let holders = match self.trust {
            Trust::Acks => replicas.acked,
            Trust::Today => replicas.proven,
        };
        let is_held = holders >= usize::from(self.replicas.max(1));
        if is_held {
            self.reused.lock().unwrap_or_else(PoisonError::into_inner).add(*id);
        }
        is_held
    }
}

/// Runs `work` on a thread of its own, which hands chunks over, and waits until each has its
/// quorum or was given up. One without any replica ends the work.
///
/// # Errors
/// What the work fails with; a chunk that nobody took; a node that stops.
pub(in crate::node) async fn store_all<T: Send + 'static>(
    inner: &Arc<Inner>,
    wish: Wish,
    (handed, cancel): (Arc<Handed>, Arc<AtomicBool>),
    work: impl FnOnce(&mut StoreSink) -> Result<T, Failure> + Send + 'static,
) -> Result<(T, Stored), Failure> {
    let (sender, mut events) = mpsc::channel(EVENTS_QUEUED_MAX);
    let mut tally = Tally::new(inner, wish, Arc::clone(&handed));
    let mut sink = StoreSink {
        inner: Arc::clone(inner),
        events: sender,
        open: Arc::clone(&tally.open),
        aim: Arc::clone(&tally.aim),
        patience: wish.patience,
        next: 0,
        handed,
        recorder: None,
        settled: Settled::default(),
        spared: BTreeSet::new(),
    };
    // However this ends, the thread ends too.
    let _cancel = CancelOnDrop(cancel);
    let mut working = tokio::task::spawn_blocking(move || {
        let result = work(&mut sink)?;
        Ok::<_, Failure>((result, sink.next))
    });
    let mut peers = inner.shared.watch_peers();
    let mut known = peers.borrow_and_update().clone();
    let mut commits = interval(COMMIT_EVERY);
    commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut result: Option<(T, u64)> = None;
    while result.as_ref().is_none_or(|(_, all)| *all != tally.done) {
        let gives_up = tally.gives_up_at();
        tokio::select! {
            ended = &mut working, if result.is_none() => {
                result = Some(ended.map_err(|error| failures::died("the sealer", &error))??);
            }
            // The sink and the drive loop hold the other end.
            event = events.recv() => match event {
                Some((index, event)) => {
                    tally.on_event(index, event)?;
                    if events.is_empty() {
                        inner.write_catalog()?;
                    }
                }
                None if result.is_some() => return Err(failures::backup_stopped()),
                None => tokio::task::yield_now().await,
            },
            () = sleep_until(gives_up.unwrap_or(tally.heard)), if gives_up.is_some() => {
                tally.give_up()?;
            }
            Ok(()) = peers.changed() => {
                let now = peers.borrow_and_update().clone();
                if !now.is_subset(&known) {
                    tally.aim.store(wish.replicas, Ordering::Relaxed);
                }
                known = now;
            }
            _ = commits.tick() => inner.commit_catalog().await?,
        }
    }
    // Durable before anything names these chunks.
    inner.commit_catalog().await?;
    let stored = tally.stored()?;
    let (result, _) = result.ok_or_else(failures::backup_stopped)?;
    Ok((result, stored))
}

/// Chunks that were handed over and have neither their quorum nor been given up, by their number.
type Open = Arc<Mutex<BTreeMap<u64, OpenChunk>>>;

/// Each change of the map is one insertion or removal, or leaves a chunk whole: so it is even after
/// a panic.
fn lock(open: &Open) -> MutexGuard<'_, BTreeMap<u64, OpenChunk>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`Open`].
struct OpenChunk {
    /// Setting it gives the chunk up.
    given_up: Arc<AtomicBool>,
    /// How many have it and were not asked: see [`Counts`].
    beside: u8,
    /// Where it is stored anew.
    repair: Option<Repair>,
}

/// One more replica of a chunk, on its way.
struct Repair {
    sealed_bytes: u64,
    /// Who had it, and who has it now.
    had: BTreeSet<NodeId>,
    /// See [`StoreSink::repair`].
    kind: u64,
    /// Somebody took it.
    is_placed: bool,
    hopeless: Hopeless,
}

/// How many nodes are asked to have a chunk, and who has it and counts without being asked.
struct Counts {
    replicas: u8,
    beside: Vec<NodeId>,
}

/// Kinds of chunks of which nobody took one.
pub(in crate::node) type Hopeless = Arc<Mutex<BTreeSet<u64>>>;

/// Counts what comes back from the drive loop.
struct Tally<'a> {
    inner: &'a Arc<Inner>,
    wish: Wish,
    open: Open,
    /// How many nodes are asked for; less than wished for where more are not to be had.
    aim: Arc<AtomicU8>,
    replicas: Replicas,
    stores: Stores,
    /// When the last ack came.
    heard: Instant,
    /// What waited for its quorum as long as the patience is, and its replicas.
    overdue: BTreeMap<u64, u8>,
    short: Option<Shortage>,
    done: u64,
    /// The smallest number of replicas of what is done.
    fewest_done: Option<u8>,
    handed: Arc<Handed>,
}

impl<'a> Tally<'a> {
    fn new(inner: &'a Arc<Inner>, wish: Wish, handed: Arc<Handed>) -> Self {
        Self {
            inner,
            wish,
            open: Open::default(),
            aim: Arc::new(AtomicU8::new(wish.replicas)),
            replicas: Replicas::default(),
            // What is held already counts with them: see `HeldByMesh`.
            stores: Stores::of(inner.with_catalog(|catalog| catalog.stores())),
            heard: Instant::now(),
            overdue: BTreeMap::new(),
            short: None,
            done: 0,
            fewest_done: None,
            handed,
        }
    }

    fn on_event(&mut self, index: u64, event: OwnerEvent) -> Result<(), Failure> {
        match event {
            OwnerEvent::Acked { id: chunk, node, lease, epoch, replicas, .. } => {
                self.heard = Instant::now();
                self.stores.saw(node, epoch);
                self.inner.record(Entry::ChunkAcked(ChunkAcked { chunk, node, lease, epoch }))?;
                let replicas = self.with_beside(index, replicas);
                self.replicas.reached(index, replicas);
                self.on_taken(index, node);
                if let Some(known) = self.overdue.get_mut(&index) {
                    *known = replicas.max(*known);
                }
            }
            OwnerEvent::Stored { id, replicas, holders, .. } => {
                self.heard = Instant::now();
                self.inner.shown(&id, &holders);
                let replicas = self.with_beside(index, replicas);
                self.replicas.reached(index, replicas);
                self.overdue.remove(&index);
                // One that was given up is done already.
                if lock(&self.open).remove(&index).is_some() {
                    self.done_with(replicas);
                }
                self.tell();
            }
            OwnerEvent::Short { replicas, why, .. } => {
                let replicas = self.with_beside(index, replicas);
                self.replicas.reached(index, replicas);
                self.short = Some(why);
                if lock(&self.open).contains_key(&index) {
                    self.overdue.insert(index, replicas);
                    self.tell();
                }
            }
            OwnerEvent::Fetched { .. }
            | OwnerEvent::NotFetched { .. }
            | OwnerEvent::Superseded { .. }
            | OwnerEvent::HeadSeen { .. }
            | OwnerEvent::HeadsDone { .. }
            | OwnerEvent::Located { .. }
            | OwnerEvent::LocateDone { .. }
            | OwnerEvent::Noticed { .. }
            | OwnerEvent::StandingAsked { .. }
            | OwnerEvent::Account { .. } => {}
        }
        Ok(())
    }

    /// So many of those who were asked have it: how many have it in all. Of a repair only those are
    /// told who were asked: whether it found anybody.
    fn with_beside(&self, index: u64, replicas: u8) -> u8 {
        let open = lock(&self.open);
        let stored = open.get(&index).filter(|open| open.repair.is_none());
        replicas.saturating_add(stored.map_or(0, |open| open.beside))
    }

    /// What is repaired is counted when it has moved.
    fn on_taken(&self, index: u64, node: NodeId) {
        let mut open = lock(&self.open);
        let repair = open.get_mut(&index).and_then(|open| open.repair.as_mut());
        if let Some(repair) = repair.filter(|repair| !repair.had.contains(&node)) {
            repair.had.insert(node);
            repair.is_placed = true;
            self.inner.shared.memory.repaired(repair.sealed_bytes);
        }
    }

    fn done_with(&mut self, replicas: u8) {
        self.done += 1;
        let replicas = replicas.min(self.wish.replicas);
        self.fewest_done = Some(self.fewest_done.map_or(replicas, |fewest| fewest.min(replicas)));
    }

    fn tell(&self) {
        let fewest = self.overdue.values().copied().chain(self.fewest_done).min();
        self.handed.fewest.store(fewest.unwrap_or(0), Ordering::Relaxed);
    }

    /// When what is overdue is given up, if nothing is acknowledged until then.
    fn gives_up_at(&self) -> Option<Instant> {
        (!self.overdue.is_empty()).then(|| self.heard + self.wish.patience)
    }

    fn give_up(&mut self) -> Result<(), Failure> {
        let overdue = std::mem::take(&mut self.overdue);
        for (index, replicas) in &overdue {
            let Some(open) = lock(&self.open).remove(index) else { continue };
            match open.repair {
                Some(repair) if !repair.is_placed => {
                    let hopeless = repair.hopeless.lock();
                    hopeless.unwrap_or_else(PoisonError::into_inner).insert(repair.kind);
                }
                None if *replicas == 0 => return Err(self.nobody()),
                _ => {}
            }
            open.given_up.store(true, Ordering::Relaxed);
            self.done_with(*replicas);
        }
        self.tell();
        let most = overdue.into_values().max().unwrap_or(1);
        self.aim.fetch_min(most, Ordering::Relaxed);
        Ok(())
    }

    /// What all of it has, without the stores that were lost meanwhile.
    fn stored(&self) -> Result<Stored, Failure> {
        let lost =
            self.inner.with_catalog(|catalog| self.stores.lost(|node| catalog.store_of(node)));
        let fewest = match self.done {
            0 => self.wish.replicas,
            chunks => self.replicas.fewest(chunks).min(self.wish.replicas),
        };
        match fewest.saturating_sub(lost) {
            0 => Err(self.nobody()),
            replicas => Ok(Stored { replicas, chunks: self.done, why: self.short }),
        }
    }

    fn nobody(&self) -> Failure {
        failures::backup_short(self.wish.patience, self.short)
    }
}

/// Hands sealed chunks to the drive loop; blocks while the owner role's window is full.
pub(in crate::node) struct StoreSink {
    inner: Arc<Inner>,
    events: mpsc::Sender<(u64, OwnerEvent)>,
    open: Open,
    aim: Arc<AtomicU8>,
    patience: Duration,
    next: u64,
    handed: Arc<Handed>,
    /// Where what is done is noted for a later run.
    recorder: Option<Recorder>,
    settled: Settled,
    /// See [`StoreSink::spare`].
    spared: BTreeSet<NodeId>,
}

impl StoreSink {
    /// Gives these nothing from now on, beside those who get nothing from anybody. What they showed
    /// within a day that they have counts.
    pub(in crate::node) fn spare(&mut self, nodes: BTreeSet<NodeId>) {
        self.spared = nodes;
    }

    /// Notes what is done from now on, in case that this run is broken off.
    pub(in crate::node) fn record(&mut self, recorder: Option<Recorder>) {
        self.recorder = recorder;
    }

    /// How many nodes are asked for now; it goes on changing until all is stored.
    pub(in crate::node) fn aim(&self) -> Arc<AtomicU8> {
        Arc::clone(&self.aim)
    }
}

impl StoreSink {
    pub(in crate::node) fn node(&self) -> &Inner {
        &self.inner
    }

    /// Hands a chunk over that is stored anew: so many nodes are to hold it, of whom these count
    /// already; none of the others is one of `avoided`. Its `kind` is named `hopeless` where nobody
    /// takes it; what is taken counts as repaired.
    pub(in crate::node) fn repair(
        &mut self,
        chunk: SealedChunk,
        plaintext_bytes: u64,
        (target, counted, avoided): (u8, &[NodeId], &BTreeSet<NodeId>),
        (kind, hopeless): (u64, &Hopeless),
    ) -> Result<(), SinkClosed> {
        let counts = self.counts(target, counted, avoided);
        let sealed_bytes = chunk.sealed.len() as u64;
        let had = self.inner.with_catalog(|catalog| catalog.holders_of(&chunk.id()));
        let (had, hopeless) = (had.into_iter().collect(), Arc::clone(hopeless));
        let repair = Repair { sealed_bytes, had, kind, is_placed: false, hopeless };
        self.store_around(chunk, plaintext_bytes, (counts, avoided), Some(repair))
    }

    /// How many are to be asked where `target` nodes are to have a chunk and these of them do: who
    /// is off line, or left out, counts without being asked.
    fn counts(&self, target: u8, counted: &[NodeId], avoided: &BTreeSet<NodeId>) -> Counts {
        let is_asked = |node| self.inner.shared.is_connected(node) && !avoided.contains(node);
        let beside: Vec<NodeId> = counted.iter().filter(|it| !is_asked(it)).copied().collect();
        let others = u8::try_from(beside.len()).unwrap_or(u8::MAX);
        Counts { replicas: target.saturating_sub(others).max(1), beside }
    }

    fn store_around(
        &mut self,
        chunk: SealedChunk,
        plaintext_bytes: u64,
        (Counts { replicas, beside }, avoided): (Counts, &BTreeSet<NodeId>),
        repair: Option<Repair>,
    ) -> Result<(), SinkClosed> {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.handed.chunks.fetch_add(1, Ordering::Relaxed);
        if plaintext_bytes == 0 {
            // It leads to others: the next backup reads it.
            self.inner.keep_chunk(&chunk.header, &chunk.sealed);
        }
        let mut without = self.settled.without(&self.inner, &chunk.id());
        without.extend(avoided.iter().copied());
        let mut held_by = self.inner.connected_holders(&chunk.id());
        held_by.retain(|node| !avoided.contains(node));
        let given_up = Arc::new(AtomicBool::new(false));
        let others = u8::try_from(beside.len()).unwrap_or(u8::MAX);
        let open = OpenChunk { given_up: Arc::clone(&given_up), beside: others, repair };
        lock(&self.open).insert(index, open);
        let job = StoreJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            held_by,
            without,
            beside,
            replicas,
            load: Load::Chunk(chunk),
        };
        let events = JobEvents::new(self.events.clone(), index).until(given_up);
        let command = DriveCommand::Store { job, events, patience: self.patience };
        self.inner.stores.blocking_send(command).map_err(|_| SinkClosed)
    }
}

impl ChunkSink for StoreSink {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        let (aim, mut avoided) = (self.aim.load(Ordering::Relaxed), liars(&self.inner));
        let mut counted = Vec::new();
        if !self.spared.is_empty() {
            let now_s = seconds_since_1970();
            let window = (now_s.saturating_sub(BELIEVED_S), now_s);
            let id = chunk.id();
            counted = self.inner.with_catalog(|catalog| {
                let proven = catalog.proven_holders(&id, window);
                proven.filter(|node| self.spared.contains(node)).collect()
            });
            avoided.extend(&self.spared);
        }
        let counts = self.counts(aim, &counted, &avoided);
        self.store_around(chunk, plaintext_bytes, (counts, &avoided), None)
    }
}

impl BackupSink for StoreSink {
    fn leaf_done(&mut self, leaf: &DoneLeaf) {
        if let Some(recorder) = &mut self.recorder {
            recorder.leaf(leaf);
        }
    }

    fn large_file_done(&mut self, file: &TreeEntry) {
        if let Some(recorder) = &mut self.recorder {
            recorder.file(file);
        }
    }
}
