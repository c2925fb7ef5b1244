//! The durable outbox: puts that are still short of their replicas are taken up again.
//!
//! The catalogue remembers each put by its path until every chunk reached its quorum. While the
//! node runs, open puts are tried again one after another: when peers have joined, and otherwise
//! after 1, 2, 4 .. 60 s and then every 10 minutes. A try skips what connected nodes hold already.
//! A file that changed in the meantime is not the file that was promised: it is dropped and said.

use super::inner::Inner;
use super::put::PutRun;
use super::report::{FailureKind, Progress};
use crate::repo::catalog::{ChunkAcked, Entry, JobId, PutStarted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long one chunk may wait for its quorum in a retry.
const PATIENCE: Duration = Duration::from_secs(60);

/// The jobs that run now, so that the outbox does not start one twice.
#[derive(Default)]
pub(super) struct Running(Mutex<BTreeSet<JobId>>);

impl Running {
    /// Marks the job as running; `None` where it runs already.
    pub(super) fn begin(self: &Arc<Self>, job: JobId) -> Option<RunningJob> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(job).then(|| RunningJob { running: Arc::clone(self), job })
    }
}

/// Ends the mark when dropped.
pub(super) struct RunningJob {
    running: Arc<Running>,
    job: JobId,
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        let mut jobs = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.remove(&self.job);
    }
}

/// When a job is due again.
struct Retry {
    tries: u32,
    due: Instant,
}

/// Runs for the node's life.
pub(super) async fn run(
    inner: Arc<Inner>,
    running: Arc<Running>,
    mut late_acks: mpsc::Receiver<ChunkAcked>,
) {
    let mut retries: BTreeMap<JobId, Retry> = BTreeMap::new();
    let mut peers = inner.shared.watch_peers();
    loop {
        let open: Vec<PutStarted> =
            inner.catalog().open_jobs().map(|job| job.started.clone()).collect();
        retries.retain(|job, _| open.iter().any(|open| open.job == *job));
        let now = Instant::now();
        let due =
            open.iter().find(|open| retries.get(&open.job).is_none_or(|retry| retry.due <= now));
        if let Some(open) = due {
            if let Some(mark) = running.begin(open.job) {
                try_again(&inner, open).await;
                drop(mark);
            }
            let retry = retries.entry(open.job).or_insert(Retry { tries: 0, due: now });
            retry.due = Instant::now() + backoff(retry.tries);
            retry.tries = retry.tries.saturating_add(1);
            continue;
        }
        let next = retries.values().map(|retry| retry.due).min();
        let next = next.unwrap_or_else(|| now + IDLE);
        tokio::select! {
            () = tokio::time::sleep_until(next.min(now + IDLE)) => {}
            // Durable with the next commit: nobody was told of it.
            Some(acked) = late_acks.recv() => inner.record(Entry::ChunkAcked(acked)),
            changed = peers.changed() => {
                if changed.is_err() {
                    return;
                }
                // Somebody came or went: what failed for want of holders may work now.
                let soon = Instant::now() + COALESCE;
                retries.values_mut().for_each(|retry| retry.due = retry.due.min(soon));
            }
        }
    }
}

async fn try_again(inner: &Arc<Inner>, open: &PutStarted) {
    let (progress, mut heard) = mpsc::channel(16);
    let put = PutRun { inner: Arc::clone(inner), job: open.clone(), patience: PATIENCE, progress };
    let put = tokio::spawn(put.run());
    while let Some(progress) = heard.recv().await {
        match progress {
            Progress::Done(done) => {
                tracing::info!(path = %open.path.display(), done.replicas, "put completed");
            }
            Progress::Failed(failure) if failure.kind == FailureKind::NotEnoughHolders => {
                tracing::debug!(path = %open.path.display(), why = failure.why, "put still short");
            }
            Progress::Failed(failure) => {
                tracing::warn!(path = %open.path.display(), why = failure.why, "put given up");
            }
            Progress::Working { .. } => {}
        }
    }
    if let Err(error) = put.await {
        tracing::error!(%error, "a put ended badly");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_minute_and_then_rests() {
        let seconds: Vec<u64> = (0..9).map(|tries| backoff(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 600, 600]);
    }
}
