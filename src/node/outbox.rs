//! The durable outbox: puts that are still short of their replicas are taken up again.
//!
//! The catalogue remembers each put by its path until every chunk reached its quorum. While the
//! node runs, open puts are tried again, two at a time: when peers have joined, and otherwise
//! after 1, 2, 4 .. 60 s and then every 10 minutes, which begins anew at 8 s when somebody joins.
//! A try skips what connected nodes hold already. A file that changed in the meantime is not the
//! file that was promised: it is dropped and said.

use super::inner::Inner;
use super::put::PutRun;
use super::report::Progress;
use crate::repo::catalog::{ChunkAcked, Entry, JobId, PutStarted};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long one chunk may wait for its quorum in a retry.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts that are tried again at once. Each may hold a part of the owner role's window for as long
/// as it waits, so that few leave room for the puts of a user who waits too.
const TRIES_AT_ONCE: usize = 2;

/// The jobs that run now, so that the outbox does not start one twice, and the smallest number of
/// replicas of any chunk of theirs, once all of the file was handed over.
#[derive(Default)]
pub(super) struct Running(Mutex<BTreeMap<JobId, Option<u8>>>);

impl Running {
    /// Marks the job as running; `None` where it runs already.
    pub(super) fn begin(self: &Arc<Self>, job: JobId) -> Option<RunningJob> {
        let mut jobs = self.jobs();
        if jobs.contains_key(&job) {
            return None;
        }
        jobs.insert(job, None);
        Some(RunningJob { running: Arc::clone(self), job })
    }

    /// See [`Running`]; `None` also where the job does not run.
    pub(super) fn replicas(&self, job: JobId) -> Option<u8> {
        self.jobs().get(&job).copied().flatten()
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Option<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the mark when dropped.
pub(super) struct RunningJob {
    running: Arc<Running>,
    job: JobId,
}

impl RunningJob {
    /// All of the file was handed over, and no chunk of it has fewer replicas.
    pub(super) fn reached(&self, replicas: u8) {
        self.running.jobs().insert(self.job, Some(replicas));
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.running.jobs().remove(&self.job);
    }
}

/// When a job is due again.
struct Retry {
    tries: u32,
    due: Instant,
}

impl Retry {
    /// Somebody came or went: what failed for want of holders may work soon, and where somebody
    /// came, also if it does not at once.
    fn on_peers(&mut self, now: Instant, came: bool) {
        self.due = self.due.min(now + COALESCE);
        if came {
            self.tries = self.tries.min(TRIES_ANEW);
        }
    }
}

/// Runs for the node's life.
pub(super) async fn run(inner: Arc<Inner>, running: Arc<Running>) {
    let mut retries: BTreeMap<JobId, Retry> = BTreeMap::new();
    let mut tries: JoinSet<JobId> = JoinSet::new();
    let mut peers = inner.shared.watch_peers();
    let mut known = peers.borrow_and_update().clone();
    loop {
        let open: Vec<PutStarted> = inner
            .with_catalog(|catalog| catalog.open_jobs().map(|job| job.started.clone()).collect());
        retries.retain(|job, _| open.iter().any(|open| open.job == *job));
        let now = Instant::now();
        for open in in_turn(open, |open| retries.get(&open.job).map(|retry| retry.due)) {
            let due = retries.get(&open.job).is_none_or(|retry| retry.due <= now);
            let may_begin = !inner.prune_waits.load(Ordering::Relaxed);
            if !due || !may_begin || tries.len() >= TRIES_AT_ONCE {
                continue;
            }
            // A put that a user waits for runs already.
            if let Some(mark) = running.begin(open.job) {
                tries.spawn(try_again(Arc::clone(&inner), open, mark));
            }
        }
        let next = retries.values().map(|retry| retry.due).filter(|due| *due > now).min();
        let next = next.unwrap_or(now + IDLE).min(now + IDLE);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            Some(Ok(job)) = tries.join_next() => {
                let retry = retries.entry(job).or_insert(Retry { tries: 0, due: now });
                retry.due = Instant::now() + backoff(retry.tries);
                retry.tries = retry.tries.saturating_add(1);
            }
            changed = peers.changed() => {
                if changed.is_err() {
                    return;
                }
                let now_known = peers.borrow_and_update().clone();
                let came = !now_known.is_subset(&known);
                known = now_known;
                let now = Instant::now();
                retries.values_mut().for_each(|retry| retry.on_peers(now, came));
            }
        }
    }
}

/// Records acks that came after their put was done; ends with the drive loop.
pub(super) async fn record_late_acks(inner: Weak<Inner>, mut acks: mpsc::Receiver<ChunkAcked>) {
    while let Some(acked) = acks.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        // Of what is being let go it would be taken for stored anew.
        if inner.with_catalog(|catalog| catalog.is_doomed(&acked.chunk)) {
            continue;
        }
        // Durable with the next commit: nobody was told of it. Where it is not taken the copy is
        // not lost, only not known until it is asked for.
        if let Err(failure) = inner.record(Entry::ChunkAcked(acked)) {
            tracing::error!(why = failure.why, "a late ack was not recorded");
        }
    }
}

async fn try_again(inner: Arc<Inner>, job: PutStarted, mark: RunningJob) -> JobId {
    let (progress, mut heard) = mpsc::channel(16);
    let (id, path) = (job.job, job.path.clone());
    let put = PutRun { inner, job, mark, patience: PATIENCE, progress };
    let put = tokio::spawn(put.run());
    while let Some(progress) = heard.recv().await {
        match progress {
            Progress::Done(done) => {
                tracing::info!(path = %path.display(), done.replicas, "put completed");
            }
            Progress::Failed(failure) => {
                tracing::info!(path = %path.display(), why = failure.why, "put is not complete");
            }
            Progress::Working { .. } | Progress::Told { .. } => {}
        }
    }
    match put.await {
        Ok(mark) => drop(mark),
        Err(error) => tracing::error!(%error, "a put ended badly"),
    }
    id
}

/// 1, 2, 4 .. 60 s, then 10 minutes.
fn backoff(tries: u32) -> Duration {
    match 1_u64.checked_shl(tries) {
        Some(seconds) if tries < 6 => Duration::from_secs(seconds),
        _ if tries == 6 => Duration::from_secs(60),
        _ => Duration::from_secs(600),
    }
}

/// How often the outbox looks for work that nobody told it of.
const IDLE: Duration = Duration::from_secs(2);

/// Peers come in groups: wait for the group.
const COALESCE: Duration = Duration::from_secs(5);

/// Where the backoff begins anew when somebody came: 8 s.
const TRIES_ANEW: u32 = 3;

/// What was never tried first, then what has waited longest: two tries at a time would else always
/// go to the oldest puts, however hopeless.
fn in_turn<T>(mut open: Vec<T>, due: impl Fn(&T) -> Option<Instant>) -> Vec<T> {
    open.sort_by_key(due);
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopeless_puts_do_not_keep_later_ones_from_their_turn() {
        let now = Instant::now();
        let seconds = |after| Some(now + Duration::from_secs(after));
        let due = BTreeMap::from([(1, seconds(7)), (2, seconds(5)), (3, None), (4, None)]);
        assert_eq!(in_turn(vec![1, 2, 3, 4], |put| due[put]), [3, 4, 2, 1]);
    }

    #[test]
    fn backoff_doubles_to_a_minute_and_then_rests() {
        let seconds: Vec<u64> = (0..9).map(|tries| backoff(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 600, 600]);
    }

    #[test]
    fn backoff_begins_anew_when_somebody_came_and_not_when_somebody_went() {
        let now = Instant::now();
        let mut retry = Retry { tries: 20, due: now + Duration::from_secs(600) };
        retry.on_peers(now, false);
        assert_eq!((retry.tries, retry.due), (20, now + COALESCE));
        retry.on_peers(now + Duration::from_secs(2), true);
        assert_eq!(backoff(retry.tries).as_secs(), 8);
        assert_eq!(retry.due, now + COALESCE, "a hundred more do not put it off");
    }
}
