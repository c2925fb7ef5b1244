//! Backups that go on without the command that asked for them: `quloud backup --wait none`.
//!
//! Each is a backup as any other, whose listener is the node itself. What it tells is kept in
//! memory for `status`, and so is how the last one of each set of paths ended. Nothing of it is on
//! disk: where the node ends before the backup does, the next one of the same paths goes on from
//! what is stored (see [`unfinished`](crate::repo::unfinished)).
//!
//! A node that was started for a single command takes none: it ends with that command.
//!
//! Bounds: [`RUNNING_MAX`] run or wait, of each set of paths one; [`ENDED_MAX`] sets of paths are
//! remembered that ended. Beyond these the next one is refused, and the oldest is forgotten.

use super::failures;
use super::handle::NodeHandle;
use super::put::seconds_since_1970;
use super::report::{
    BackupDone, BackupRequest, BackupStarted, DetachedBackup, DetachedState, Failure, FailureKind,
    Progress, StartedState,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// So many run, or wait for their turn.
const RUNNING_MAX: usize = 8;

/// Of so many sets of paths it is remembered how the last one ended.
const ENDED_MAX: usize = 8;

/// So many bytes of the paths are told, and as many of what was wrong: all must fit one line of the
/// API, whatever is escaped there.
const TOLD_BYTES_MAX: usize = 4 << 10;

/// What is known of them.
#[derive(Default)]
pub(super) struct Detached(Mutex<Jobs>);

/// One set of paths, however they were ordered.
type Paths = BTreeSet<PathBuf>;

#[derive(Default)]
struct Jobs {
    /// The node stays when the command has ended that asks for one.
    is_open: bool,
    running: BTreeMap<Paths, Job>,
    /// Oldest first.
    ended: VecDeque<(Paths, DetachedBackup)>,
}

struct Job {
    request: BackupRequest,
    since: Instant,
    told: DetachedBackup,
    /// Stops listening, upon which the backup ends.
    listener: Option<AbortHandle>,
}

impl NodeHandle {
    /// From now on the node takes backups that go on by themselves: it is not of one command.
    pub fn stays(&self) {
        self.inner.detached.jobs().is_open = true;
    }

    /// Starts a backup that goes on by itself. Where the very same runs already, that is all.
    ///
    /// # Errors
    /// The request can be seen to be wrong; another one of the same paths runs, or too many do; the
    /// node is one of a single command, or stops.
    pub async fn start_backup(&self, request: BackupRequest) -> Result<BackupStarted, Failure> {
        if request.dry_run {
            return Err(dry());
        }
        let handle = self.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let checked = super::backup::check_request(&handle.inner, &request);
            checked.map(|()| (handle, request))
        });
        let checked = checked.await.map_err(|error| failures::died("the reader", &error))?;
        let (handle, request) = checked?;
        let detached = Arc::clone(&self.inner.detached);
        // Held until the listener is noted, which takes the lock for all that it hears.
        let mut jobs = detached.jobs();
        let paths = paths(&request.paths);
        if let Some(running) = jobs.admit(&paths, &request)? {
            return Ok(running);
        }
        let heard = handle.backup(request.clone());
        let job = Job::new(request);
        let started = job.started(false);
        jobs.running.insert(paths.clone(), job);
        let listener = tokio::spawn(listen(Arc::clone(&detached), paths.clone(), heard));
        if let Some(job) = jobs.running.get_mut(&paths) {
            job.listener = Some(listener.abort_handle());
        }
        Ok(started)
    }
}

/// Hears a backup to its end.
async fn listen(
    detached: Arc<Detached>,
    paths: Paths,
    mut heard: mpsc::Receiver<Progress<BackupDone>>,
) {
    loop {
        match heard.recv().await {
            Some(Progress::Working { bytes, total, chunks, replicas, note }) => {
                if let Some(job) = detached.jobs().running.get_mut(&paths) {
                    let target = job.request.replicas;
                    job.told.state =
                        DetachedState::Running { bytes, total, chunks, replicas, target, note };
                }
            }
            Some(Progress::Told { .. }) => {}
            Some(Progress::Done(done)) => return detached.jobs().end(&paths, Ok(done)),
            Some(Progress::Failed(failure)) => return detached.jobs().end(&paths, Err(failure)),
            None => return detached.jobs().end(&paths, Err(failures::backup_stopped())),
        }
    }
}

impl Detached {
    /// Those that run, oldest first, then those that ended, newest first.
    pub(super) fn told(&self) -> Vec<DetachedBackup> {
        let jobs = self.jobs();
        let mut running: Vec<&Job> = jobs.running.values().collect();
        running.sort_by_key(|job| job.since);
        let ended = jobs.ended.iter().rev().map(|(_, told)| told);
        running.into_iter().map(|job| &job.told).chain(ended).cloned().collect()
    }

    /// A backup of these paths was made: how the one before ended matters no more.
    pub(super) fn made(&self, of: &[PathBuf]) {
        let paths = paths(of);
        self.jobs().ended.retain(|(ended, _)| *ended != paths);
    }

    /// Whether the node is one that stays.
    pub(super) fn is_open(&self) -> bool {
        self.jobs().is_open
    }

    /// Ends those that run, and takes no more.
    pub(super) fn stop(&self) {
        let mut jobs = self.jobs();
        jobs.is_open = false;
        for job in std::mem::take(&mut jobs.running).into_values() {
            let paths = job.told.paths.join(" ");
            tracing::info!(paths, "a backup is broken off; the next one of these paths goes on");
            if let Some(listener) = job.listener {
                listener.abort();
            }
        }
    }

    /// Each change leaves it whole, even after a panic.
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    /// Whether one of these paths may start; the one that does not need to, because it runs.
    fn admit(
        &self,
        paths: &Paths,
        request: &BackupRequest,
    ) -> Result<Option<BackupStarted>, Failure> {
        if !self.is_open {
            return Err(nobody_stays());
        }
        match self.running.get(paths) {
            Some(job) if job.request == *request => Ok(Some(job.started(true))),
            Some(_) => Err(failures::backup(
                FailureKind::Failed,
                "a backup of these paths runs already, with other options",
                "wait until `quloud status` shows that it has ended, then run the same command \
                 again",
            )),
            None if self.running.len() >= RUNNING_MAX => Err(failures::backup(
                FailureKind::Failed,
                format!("{RUNNING_MAX} backups run already, or wait for their turn"),
                "wait until some have ended: `quloud status` shows them",
            )),
            None => Ok(None),
        }
    }

    fn end(&mut self, paths: &Paths, ended: Result<BackupDone, Failure>) {
        // The node stops.
        let Some(job) = self.running.remove(paths) else { return };
        let ended_at = seconds_since_1970();
        let state = match ended {
            Ok(done) => state_of(done, ended_at),
            Err(failure) => {
                let Failure { what, why, .. } = &failure;
                tracing::warn!(what, why, "a backup that nobody waited for failed");
                DetachedState::Failed { ended_at, failure }
            }
        };
        self.ended.retain(|(ended, _)| ended != paths);
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((paths.clone(), DetachedBackup { state, ..job.told }));
    }
}

impl Job {
    fn new(request: BackupRequest) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let (total, replicas, target, note) = (None, None, request.replicas, None);
        let told = DetachedBackup {
            paths: fitting(request.paths.iter().map(text)),
            began_at: seconds_since_1970(),
            state: DetachedState::Running { bytes: 0, total, chunks: 0, replicas, target, note },
        };
        Self { request, since: Instant::now(), told, listener: None }
    }

    fn started(&self, already: bool) -> BackupStarted {
        let bytes = match self.told.state {
            DetachedState::Running { bytes, .. } => bytes,
            DetachedState::Done { .. } | DetachedState::Failed { .. } => 0,
        };
        BackupStarted {
            state: StartedState::Running,
            already,
            began_at: self.told.began_at,
            snapshot: None,
            files: 0,
            bytes,
            new_bytes: 0,
            replicas: 0,
            seconds: self.since.elapsed().as_secs_f64(),
        }
    }
}

fn state_of(done: BackupDone, ended_at: u64) -> DetachedState {
    let made = done.made();
    let notes = fitting(done.fault_lines.into_iter().chain(done.notes));
    DetachedState::Done { ended_at, made, notes }
}

/// As many as fit, and `..` for the others. A path alone is no longer than the system lets it be.
fn fitting(lines: impl Iterator<Item = String>) -> Vec<String> {
    let (mut told, mut bytes) = (Vec::new(), 0);
    for line in lines {
        bytes += line.len();
        if bytes > TOLD_BYTES_MAX && !told.is_empty() {
            told.push("..".to_owned());
            break;
        }
        told.push(line);
    }
    told
}

fn paths(of: &[PathBuf]) -> Paths {
    of.iter().map(|path| Path::new(path).components().collect()).collect()
}

/// Nothing is left of it that could be told later.
fn dry() -> Failure {
    let why = "a dry run is for whoever waits for it";
    failures::backup(FailureKind::Usage, why, "ask for it without `--wait none`")
}

/// The node ends with the command that started it.
fn nobody_stays() -> Failure {
    failures::backup(
        FailureKind::Usage,
        "the node that runs ends with the command that started it, so nobody would go on",
        "start one that stays with `quloud up`, or leave `--wait none` away",
    )
}

/// What of these the user has to look after, until the next backup of the same paths. What is to be
/// said of one that made a snapshot stands in the catalogue.
pub(super) fn attention(detached: &[DetachedBackup]) -> Vec<String> {
    let told = |of: &DetachedBackup| match &of.state {
        DetachedState::Failed { failure: Failure { why, hint, .. }, .. } => {
            let paths = of.paths.join(" ");
            Some(format!("the backup of {paths} made no snapshot: {why}; {hint}"))
        }
        DetachedState::Running { .. } | DetachedState::Done { .. } => None,
    };
    detached.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests;
