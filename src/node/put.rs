//! `put`: one file becomes chunks, each chunk finds its quorum, and the catalogue learns it all.
//!
//! A sealing thread reads the file and feeds the drive loop; it blocks while the owner role's
//! window is full. This task listens to the events of all chunks. When a chunk is short of its
//! quorum at the deadline, the job ends and stays in the catalogue as open work: the outbox
//! ([`super::outbox`]) takes it up again while the node runs, and skips what is held already.

use super::failures;
use super::handle::file_name;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use super::report::{CapabilityText, Failure, Progress, PutDone};
use crate::core::owner::{OwnerEvent, StoreJob};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::seal::SealedChunk;
use crate::net::peer_id_of;
use crate::repo::catalog::{ChunkAcked, Entry, PutRoot, PutStarted};
use crate::repo::put::file::{SourceFile, put_file};
use crate::repo::put::{ChunkSink, PutContext, PutError, PutSummary, SinkClosed};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// One run of a put job.
pub(super) struct PutRun {
    pub(super) inner: Arc<Inner>,
    /// What was promised.
    pub(super) job: PutStarted,
    /// How long a chunk may wait for its quorum.
    pub(super) patience: Duration,
    pub(super) progress: mpsc::Sender<Progress<PutDone>>,
}

impl PutRun {
    /// Runs to the end and tells the progress channel; the catalogue is up to date before that.
    pub(super) async fn run(self) {
        let progress = self.progress.clone();
        let last = match self.store_file().await {
            Ok(done) => Progress::Done(done),
            Err(failure) => Progress::Failed(failure),
        };
        // Nobody need be listening: the job's state is in the catalogue.
        drop(progress.send(last).await);
    }

    async fn store_file(self) -> Result<PutDone, Failure> {
        let started = Instant::now();
        let (sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let handed_over = Arc::new(Mutex::new(BTreeMap::new()));
        let sink = Sink {
            inner: Arc::clone(&self.inner),
            events: sender,
            handed_over: Arc::clone(&handed_over),
            replicas: self.job.replicas,
            patience: self.patience,
            next: 0,
        };
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let sealing = tokio::task::spawn_blocking(self.seal(sink, Arc::clone(&cancel.0)));
        let mut tally = Tally {
            run: &self,
            handed_over,
            summary: None,
            holders: BTreeMap::new(),
            fewest: None,
            bytes: 0,
            done: 0,
        };
        let outcome = tally.listen(events, sealing).await;
        let Tally { summary, holders, fewest, .. } = tally;
        let root = summary.map(|summary| self.root(summary, fewest.unwrap_or_default()));
        let (failure, root) = match (outcome, root) {
            (Ok(()), Some(root)) => {
                let done = done(&root, &holders, started);
                self.record(Entry::PutDone(root)).await?;
                return Ok(done);
            }
            (outcome, root) => (outcome.err().unwrap_or_else(Ended::stopped), root),
        };
        match (failure, root) {
            (Ended::ForGood(failure), _) => {
                self.inner.shared.dropped(&self.job.path, &failure.why);
                self.record(Entry::JobDropped(self.job.job)).await?;
                Err(failure)
            }
            // Still wanted: the outbox takes it up again.
            (Ended::ForNow(failure), Some(root)) => {
                self.record(Entry::PutShort(root)).await?;
                Err(failure)
            }
            (Ended::ForNow(failure), None) => {
                self.inner.commit_catalog().await?;
                Err(failure)
            }
        }
    }

    /// The blocking half: reads, seals and hands over; gives how many chunks it handed over.
    fn seal(
        &self,
        mut sink: Sink,
        cancel: Arc<AtomicBool>,
    ) -> impl FnOnce() -> Result<(PutSummary, u64), PutError> + use<> {
        let inner = Arc::clone(&self.inner);
        let job = self.job.clone();
        move || {
            let source = SourceFile::open(&job.path)?;
            // The file that was promised, not another one that has its name by now.
            let stamp = source.stamp();
            if (stamp.bytes, stamp.modified_ns) != (job.bytes, job.modified_ns) {
                return Err(PutError::Changed { path: job.path });
            }
            let context = PutContext { keys: &inner.keys, locality: job.locality, cancel: &cancel };
            let summary = put_file(&source, context, &mut sink, |_| {})?;
            Ok((summary, sink.next))
        }
    }

    fn root(&self, summary: PutSummary, replicas: u8) -> PutRoot {
        PutRoot {
            job: self.job.job,
            name: file_name(&self.job.path),
            capability: summary.capability,
            bytes: summary.bytes,
            chunks: summary.chunks,
            sealed_bytes: summary.sealed_bytes,
            target: self.job.replicas,
            replicas,
            put_at: seconds_since_1970(),
        }
    }

    async fn record(&self, entry: Entry) -> Result<(), Failure> {
        self.inner.record(entry);
        self.inner.commit_catalog().await
    }

    /// A progress line that may get lost where the listener is slow: the next one tells more.
    fn tell(&self, bytes: u64, chunks: u64, replicas: Option<u8>) {
        let total = Some(self.job.bytes);
        let working = Progress::Working { bytes, total, chunks, replicas, note: None };
        drop(self.progress.try_send(working));
    }
}

fn done(root: &PutRoot, holders: &BTreeMap<NodeId, u64>, started: Instant) -> PutDone {
    PutDone {
        capability: CapabilityText::new(root.capability.encode().to_string()),
        bytes: root.bytes,
        chunks: root.chunks,
        replicas: root.replicas,
        seconds: started.elapsed().as_secs_f64(),
        holders: holders.iter().map(|(node, count)| (peer_id_of(node), *count)).collect(),
        sealed_bytes: root.sealed_bytes,
    }
}

/// How a run ended short of its aim.
enum Ended {
    /// Another try may do.
    ForNow(Failure),
    /// No other try ever will.
    ForGood(Failure),
}

impl Ended {
    fn stopped() -> Self {
        Self::ForNow(failures::stopped())
    }
}

/// Counts what comes back from the drive loop.
struct Tally<'a> {
    run: &'a PutRun,
    /// Plaintext bytes of each chunk that was handed over and has no quorum yet, by its number.
    handed_over: Arc<Mutex<BTreeMap<u64, u64>>>,
    summary: Option<PutSummary>,
    /// Chunks that each node acknowledged.
    holders: BTreeMap<NodeId, u64>,
    /// The smallest number of replicas of any chunk.
    fewest: Option<u8>,
    bytes: u64,
    done: u64,
}

type Sealing = tokio::task::JoinHandle<Result<(PutSummary, u64), PutError>>;

impl Tally<'_> {
    /// Returns when every chunk has its quorum, or with the first thing that went wrong.
    async fn listen(
        &mut self,
        mut events: mpsc::Receiver<(u64, OwnerEvent)>,
        mut sealing: Sealing,
    ) -> Result<(), Ended> {
        let mut handed_over = None;
        while handed_over != Some(self.done) {
            tokio::select! {
                result = &mut sealing, if handed_over.is_none() => {
                    let result = result
                        .map_err(|error| Ended::ForNow(failures::died("the sealer", &error)))?;
                    let (summary, all) = result.map_err(|error| self.unsealed(&error))?;
                    self.summary = Some(summary);
                    handed_over = Some(all);
                }
                // The sink and the drive loop hold the other end: none of them is left.
                event = events.recv() => match event {
                    Some((index, event)) => self.on_event(index, event)?,
                    None if handed_over.is_some() => return Err(Ended::stopped()),
                    None => tokio::task::yield_now().await,
                },
            }
        }
        Ok(())
    }

    fn on_event(&mut self, index: u64, event: OwnerEvent) -> Result<(), Ended> {
        match event {
            OwnerEvent::Acked { id: chunk, node, lease, epoch, .. } => {
                let acked = ChunkAcked { chunk, node, lease, epoch };
                self.run.inner.record(Entry::ChunkAcked(acked));
            }
            OwnerEvent::Stored { replicas, holders, .. } => {
                self.on_stored(index, replicas, &holders)
            }
            OwnerEvent::Short { replicas, why, .. } => {
                self.fewest = Some(self.fewest.map_or(replicas, |fewest| fewest.min(replicas)));
                let run = self.run;
                return Err(Ended::ForNow(failures::short(&run.job, run.patience, replicas, why)));
            }
            OwnerEvent::Fetched { .. } | OwnerEvent::NotFetched { .. } => {}
        }
        Ok(())
    }

    fn unsealed(&self, error: &PutError) -> Ended {
        let failure = failures::put(&self.run.job.path, error);
        if failures::is_final(error) { Ended::ForGood(failure) } else { Ended::ForNow(failure) }
    }

    fn on_stored(&mut self, index: u64, replicas: u8, holders: &[NodeId]) {
        self.fewest = Some(self.fewest.map_or(replicas, |fewest| fewest.min(replicas)));
        for node in holders {
            let count = self.holders.entry(*node).or_default();
            *count = count.saturating_add(1);
        }
        self.done = self.done.saturating_add(1);
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = handed_over.remove(&index).unwrap_or_default();
        drop(handed_over);
        self.bytes = self.bytes.saturating_add(bytes);
        self.run.tell(self.bytes, self.done, self.fewest);
    }
}

/// Hands sealed chunks to the drive loop; blocks while the owner role's window is full.
struct Sink {
    inner: Arc<Inner>,
    events: mpsc::Sender<(u64, OwnerEvent)>,
    handed_over: Arc<Mutex<BTreeMap<u64, u64>>>,
    replicas: u8,
    patience: Duration,
    next: u64,
}

impl ChunkSink for Sink {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, plaintext_bytes);
        let job = StoreJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            held_by: self.inner.connected_holders(&chunk.id()),
            replicas: self.replicas,
            chunk,
        };
        let events = JobEvents::new(self.events.clone(), index);
        let command = DriveCommand::Store { job, events, patience: self.patience };
        self.inner.stores.blocking_send(command).map_err(|_| SinkClosed)
    }
}

/// Ends the sealing thread with the run, however the run ends.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wall-clock seconds, for display only.
pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
