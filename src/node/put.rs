//! `put`: one file becomes chunks, each chunk finds its quorum, and the catalogue learns it all.
//!
//! A sealing thread reads the file and feeds the drive loop; it blocks while the owner role's
//! window is full. This task listens to the events of all chunks. When a chunk is short of its
//! quorum at the deadline, the job ends and stays in the catalogue as open work: the outbox
//! ([`super::outbox`]) takes it up again while the node runs, and skips what is held already. When
//! all is stored, the file becomes a snapshot.

mod again;
mod named;

pub(super) use named::{Names, publish_later};

use super::audit::liars;
use super::failures;
use super::handle::file_name;
use super::inner::Inner;
use super::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use super::outbox::RunningJob;
use super::prune::Settled;
use super::replicas::Replicas;
use super::report::{CapabilityText, Failure, Progress, PutDone};
use super::repository::now_ns;
use super::stores::Stores;
use crate::core::owner::{Load, OwnerEvent, Shortage, StoreJob};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::seal::SealedChunk;
use crate::net::peer_id_of;
use crate::repo::catalog::{
    Catalog, ChunkAcked, Entry, JobDropped, PutRoot, PutStarted, SnapshotDue,
};
use crate::repo::put::file::{SourceFile, put_file};
use crate::repo::put::{PutContext, PutError, PutSummary};
use crate::repo::sealer::{ChunkSink, SinkClosed};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// One run of a put job.
pub(super) struct PutRun {
    pub(super) inner: Arc<Inner>,
    /// What was promised.
    pub(super) job: PutStarted,
    pub(super) mark: RunningJob,
    /// How long a chunk may wait for its quorum.
    pub(super) patience: Duration,
    pub(super) progress: mpsc::Sender<Progress<PutDone>>,
}

impl PutRun {
    /// Runs to the end and tells the progress channel; the catalogue is up to date before that.
    pub(super) async fn run(self) -> RunningJob {
        let stays = super::prune::keep_out(&self.inner, &self.progress).await;
        let outcome = match self.store_file().await {
            Ok(done) => Ok(self.name(done).await),
            Err(failure) => Err(failure),
        };
        drop(stays);
        let is_open = self.inner.with_catalog(|catalog| catalog.job(self.job.job).is_some());
        let failure = outcome.as_ref().err().filter(|_| is_open);
        self.inner.shared.last_failure(self.job.job, failure.cloned());
        let last = match outcome {
            Ok(done) => Progress::Done(done),
            Err(failure) => Progress::Failed(failure),
        };
        // Nobody need be listening: the job's state is in the catalogue.
        drop(self.progress.send(last).await);
        self.mark
    }

    /// Waits for the snapshot of a file that is stored. It is stored whatever comes of this.
    async fn name(&self, mut done: PutDone) -> PutDone {
        let began = Instant::now();
        self.tell(done.bytes, done.chunks, Some(done.replicas), Some("storing its snapshot"));
        match named::publish(&self.inner, Some(self.job.job), self.patience).await {
            Ok(Some(id)) => done.snapshot = Some(id.to_string()),
            Ok(None) => done.notes.push(
                "it is no snapshot, because none takes its path: keep the capability".to_owned(),
            ),
            Err(Failure { why, .. }) => done.notes.push(format!(
                "its snapshot is not published yet ({why}); a running node goes on trying"
            )),
        }
        done.seconds += began.elapsed().as_secs_f64();
        done
    }

    async fn store_file(&self) -> Result<PutDone, Failure> {
        let started = Instant::now();
        let (sender, mut events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let handed_over = Arc::new(Mutex::new(BTreeMap::new()));
        let sink = Sink {
            inner: Arc::clone(&self.inner),
            events: sender,
            handed_over: Arc::clone(&handed_over),
            replicas: self.job.replicas,
            patience: self.patience,
            next: 0,
            settled: Settled::default(),
        };
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let mut sealing = tokio::task::spawn_blocking(self.seal(sink, Arc::clone(&cancel.0)));
        let mut tally = Tally::new(self, handed_over);
        let mut outcome = tally.listen(&mut events, &mut sealing).await;
        if let Err(Ended::Short(_)) = outcome {
            outcome = tally.catch_up(&mut events, &mut sealing).await.and(outcome);
        }
        // No chunk is handed over any more, and nobody hears of those that were.
        drop((events, cancel));
        self.conclude(outcome, tally, started).await
    }

    /// Records how the run ended.
    async fn conclude(
        &self,
        outcome: Result<(), Ended>,
        tally: Tally<'_>,
        started: Instant,
    ) -> Result<PutDone, Failure> {
        let lost =
            self.inner.with_catalog(|catalog| tally.stores.lost(|node| catalog.store_of(node)));
        let lost_some = || Err(Ended::ForNow(failures::lost_store(&self.job)));
        let outcome = outcome.and_then(|()| if lost == 0 { Ok(()) } else { lost_some() });
        let (replicas, all_sent) = (tally.fewest().saturating_sub(lost), tally.sealed.is_some());
        let Tally { sealed, holders, .. } = tally;
        let (root, due) = match sealed {
            Some(Sealed { summary, due, .. }) => {
                (Some(self.root(summary, replicas, due.is_some())), due)
            }
            None => (None, None),
        };
        let (ended, root) = match (outcome, root) {
            (Ok(()), Some(root)) => {
                let done = done(&root, &holders, started);
                if let Some(due) = due {
                    self.inner.record(Entry::SnapshotDue(due))?;
                }
                self.record(Entry::PutDone(root)).await?;
                return Ok(done);
            }
            (outcome, root) => (outcome.err().unwrap_or_else(Ended::stopped), root),
        };
        self.note_away(matches!(ended, Ended::Away(_)))?;
        let (wanted, failure) = match ended {
            Ended::Away(source) => self.away(&source),
            Ended::ForGood(failure) => (false, failure),
            Ended::Short(why) => {
                (true, failures::short(&self.job, self.patience, replicas, all_sent, why))
            }
            Ended::ForNow(failure) => (true, failure),
        };
        if !wanted {
            return self.give_up(failure).await;
        }
        // Still wanted: the outbox takes it up again.
        match root {
            Some(root) => self.record(Entry::PutShort(root)).await?,
            None => self.inner.commit_catalog().await?,
        }
        Err(failure)
    }

    async fn give_up(&self, failure: Failure) -> Result<PutDone, Failure> {
        let PutStarted { job, path, .. } = &self.job;
        tracing::warn!(path = %path.display(), why = failure.why, "a put was given up");
        let (job, path, why) = (*job, path.clone(), failure.why.clone());
        let dropped = JobDropped { job, path, why, dropped_at: seconds_since_1970() };
        self.record(Entry::JobDropped(dropped)).await?;
        Err(failure)
    }

    /// Remembers since when the file cannot be opened, through restarts too.
    fn note_away(&self, is_away: bool) -> Result<(), Failure> {
        if is_away == self.away_since().is_some() {
            return Ok(());
        }
        let since = is_away.then(seconds_since_1970);
        self.inner.record(Entry::SourceAway { job: self.job.job, since })
    }

    /// Whether a put whose file is away goes on, and what is told.
    fn away(&self, source: &std::io::Error) -> (bool, Failure) {
        let (path, now) = (&self.job.path, seconds_since_1970());
        match days_left(self.away_since().unwrap_or(now), now) {
            Some(days) => (true, failures::away(path, source, days)),
            None => (false, failures::gone(path, AWAY_DAYS_MAX)),
        }
    }

    fn away_since(&self) -> Option<u64> {
        self.inner.with_catalog(|catalog| catalog.job(self.job.job)?.away_since)
    }

    /// The blocking half: reads, seals and hands over; gives what it sealed.
    fn seal(
        &self,
        mut sink: Sink,
        cancel: Arc<AtomicBool>,
    ) -> impl FnOnce() -> Result<Sealed, Ended> + use<> {
        let inner = Arc::clone(&self.inner);
        let job = self.job.clone();
        move || {
            let began_ns = now_ns();
            let ended = |error| Ended::of(&job.path, error);
            let source = SourceFile::open(&job.path).map_err(ended)?;
            // The file that was promised, not another one that has its name by now.
            let stamp = source.stamp();
            if (stamp.bytes, stamp.modified_ns) != (job.bytes, job.modified_ns) {
                return Err(Ended::ForGood(failures::differs(&job.path)));
            }
            let context = PutContext { keys: &inner.keys, locality: job.locality, cancel: &cancel };
            let summary = put_file(&source, context, &mut sink, |_| {}).map_err(ended)?;
            let due = named::due(&source, &job, began_ns, &summary);
            Ok(Sealed { summary, handed: sink.next, due })
        }
    }

    fn root(&self, summary: PutSummary, replicas: u8, named: bool) -> PutRoot {
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
            named,
        }
    }

    async fn record(&self, entry: Entry) -> Result<(), Failure> {
        self.inner.record(entry)?;
        self.inner.commit_catalog().await
    }

    /// A progress line that may get lost where the listener is slow: the next one tells more.
    fn tell(&self, bytes: u64, chunks: u64, replicas: Option<u8>, note: Option<&str>) {
        let (total, note) = (Some(self.job.bytes), note.map(str::to_owned));
        let working = Progress::Working { bytes, total, chunks, replicas, note };
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
        snapshot: None,
        notes: Vec::new(),
    }
}

/// A file of which every chunk was handed over.
struct Sealed {
    summary: PutSummary,
    /// How many chunks were handed over.
    handed: u64,
    /// What names it; `None` where nothing can.
    due: Option<SnapshotDue>,
}

/// An open put whose file cannot be opened for so many days is given up.
const AWAY_DAYS_MAX: u64 = 7;

/// How many whole days are left to bring a file back that is away; `None` after the last.
fn days_left(since: u64, now: u64) -> Option<u64> {
    let day = 24 * 3600;
    (AWAY_DAYS_MAX * day).checked_sub(now.saturating_sub(since)).map(|left| left / day)
}

/// How a run ended short of its aim.
enum Ended {
    /// Another try may do.
    ForNow(Failure),
    /// No other try ever will.
    ForGood(Failure),
    /// A chunk waited too long.
    Short(Shortage),
    /// The file cannot be opened.
    Away(std::io::Error),
}

impl Ended {
    fn stopped() -> Self {
        Self::ForNow(failures::stopped())
    }

    fn of(path: &Path, error: PutError) -> Self {
        match error {
            PutError::Open { source, .. } => Self::Away(source),
            error if failures::is_final(&error) => Self::ForGood(failures::put(path, &error)),
            error => Self::ForNow(failures::put(path, &error)),
        }
    }
}

/// Counts what comes back from the drive loop.
struct Tally<'a> {
    run: &'a PutRun,
    /// Plaintext bytes of each chunk that was handed over and has no quorum yet, by its number.
    handed_over: Arc<Mutex<BTreeMap<u64, u64>>>,
    /// What was sealed, once that is all of it.
    sealed: Option<Sealed>,
    /// Chunks that each node acknowledged.
    holders: BTreeMap<NodeId, u64>,
    stores: Stores,
    replicas: Replicas,
    /// It is recorded that some chunk has a replica.
    acked: bool,
    bytes: u64,
    done: u64,
}

type Sealing = tokio::task::JoinHandle<Result<Sealed, Ended>>;
type Events = mpsc::Receiver<(u64, OwnerEvent)>;

impl<'a> Tally<'a> {
    fn new(run: &'a PutRun, handed_over: Arc<Mutex<BTreeMap<u64, u64>>>) -> Self {
        let job = run.job.job;
        let acked = |catalog: &mut Catalog| catalog.job(job).is_some_and(|job| job.acked);
        Self {
            run,
            handed_over,
            sealed: None,
            holders: BTreeMap::new(),
            stores: Stores::default(),
            replicas: Replicas::default(),
            acked: run.inner.with_catalog(acked),
            bytes: 0,
            done: 0,
        }
    }

    /// Returns when every chunk has its quorum, or with the first thing that went wrong.
    async fn listen(&mut self, events: &mut Events, sealing: &mut Sealing) -> Result<(), Ended> {
        while self.all() != Some(self.done) {
            tokio::select! {
                sealed = &mut *sealing, if self.sealed.is_none() => self.on_sealed(sealed)?,
                // The sink and the drive loop hold the other end: none of them is left.
                event = events.recv() => match event {
                    Some((index, event)) => {
                        self.on_event(index, event)?;
                        if events.is_empty() {
                            self.run.inner.write_catalog().map_err(Ended::ForNow)?;
                        }
                    }
                    None if self.sealed.is_some() => return Err(Ended::stopped()),
                    None => tokio::task::yield_now().await,
                },
            }
        }
        Ok(())
    }

    /// Takes note of what was told before a chunk was reported short, and is not heard yet.
    async fn catch_up(&mut self, events: &mut Events, sealing: &mut Sealing) -> Result<(), Ended> {
        if self.sealed.is_none() && sealing.is_finished() {
            self.on_sealed(sealing.await)?;
        }
        while let Ok((index, event)) = events.try_recv() {
            match self.on_event(index, event) {
                Ok(()) | Err(Ended::Short(_)) => {}
                Err(ended) => return Err(ended),
            }
        }
        Ok(())
    }

    fn on_sealed(
        &mut self,
        sealed: Result<Result<Sealed, Ended>, tokio::task::JoinError>,
    ) -> Result<(), Ended> {
        let sealed = sealed.map_err(|error| Ended::ForNow(failures::died("the sealer", &error)))?;
        self.sealed = Some(sealed?);
        self.tell_reached();
        Ok(())
    }

    fn on_event(&mut self, index: u64, event: OwnerEvent) -> Result<(), Ended> {
        match event {
            OwnerEvent::Acked { id: chunk, node, lease, epoch, replicas, .. } => {
                self.stores.saw(node, epoch);
                let acked = ChunkAcked { chunk, node, lease, epoch };
                self.run.inner.record(Entry::ChunkAcked(acked)).map_err(Ended::ForNow)?;
                self.on_reached(index, replicas)
            }
            OwnerEvent::Stored { id, replicas, holders, .. } => {
                self.run.inner.shown(&id, &holders);
                self.on_reached(index, replicas)?;
                self.on_stored(index, &holders);
                Ok(())
            }
            OwnerEvent::Short { replicas, why, .. } => {
                self.on_reached(index, replicas)?;
                Err(Ended::Short(why))
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
            | OwnerEvent::Account { .. } => Ok(()),
        }
    }

    fn on_reached(&mut self, index: u64, replicas: u8) -> Result<(), Ended> {
        self.replicas.reached(index, replicas);
        if !self.acked && self.replicas.any() {
            let acked = Entry::PutAcked(self.run.job.job);
            self.run.inner.record(acked).map_err(Ended::ForNow)?;
            self.acked = true;
        }
        self.tell_reached();
        Ok(())
    }

    fn on_stored(&mut self, index: u64, holders: &[NodeId]) {
        for node in holders {
            // One that held the chunk before the run counts with the store that it had.
            if !self.stores.knows(node)
                && let Some(epoch) = self.run.inner.with_catalog(|catalog| catalog.store_of(node))
            {
                self.stores.saw(*node, epoch);
            }
            let count = self.holders.entry(*node).or_default();
            *count = count.saturating_add(1);
        }
        self.done = self.done.saturating_add(1);
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = handed_over.remove(&index).unwrap_or_default();
        drop(handed_over);
        self.bytes = self.bytes.saturating_add(bytes);
        self.run.tell(self.bytes, self.done, Some(self.replicas.fewest(0)), None);
    }

    fn tell_reached(&self) {
        if let Some(all) = self.all() {
            self.run.mark.reached(self.replicas.fewest(all));
        }
    }

    /// How many chunks there are, once that is known.
    fn all(&self) -> Option<u64> {
        self.sealed.as_ref().map(|sealed| sealed.handed)
    }

    /// The smallest number of replicas of any chunk of the file, sent or not.
    fn fewest(&self) -> u8 {
        self.all().map_or(0, |all| self.replicas.fewest(all))
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
    settled: Settled,
}

impl ChunkSink for Sink {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        let index = self.next;
        self.next = self.next.saturating_add(1);
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index, plaintext_bytes);
        let mut without = self.settled.without(&self.inner, &chunk.id());
        without.extend(liars(&self.inner));
        let job = StoreJob {
            // The drive loop sets both.
            ticket: Ticket(0),
            deadline: Time::default(),
            held_by: self.inner.connected_holders(&chunk.id()),
            without,
            beside: Vec::new(),
            replicas: self.replicas,
            load: Load::Chunk(chunk),
        };
        let events = JobEvents::new(self.events.clone(), index);
        let command = DriveCommand::Store { job, events, patience: self.patience };
        self.inner.stores.blocking_send(command).map_err(|_| SinkClosed)
    }
}

/// Ends the sealing thread with the run, however the run ends.
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wall-clock seconds, for display only.
pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_be_away_for_seven_days() {
        let day = 24 * 3600;
        assert_eq!(days_left(5, 5), Some(7));
        assert_eq!(days_left(5, 6), Some(6));
        assert_eq!(days_left(5, 5 + 7 * day), Some(0));
        assert_eq!(days_left(5, 6 + 7 * day), None);
        assert_eq!(days_left(5, 4), Some(7), "a clock that was put back");
    }
}
