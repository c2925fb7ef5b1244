//! `restore`: a snapshot becomes files again.
//!
//! 1. The heads are read, patiently: which snapshots there are, and how many holders agree.
//! 2. The snapshot and the root of its tree are fetched.
//! 3. One blocking thread walks the tree, asks for a window of chunks and writes what comes, see
//!    [`restore`](crate::repo::restore). A restore that was killed goes on by its journal.

mod tell;

use super::choose::{Chosen, Deed, Doubt, choose, tell_found, unread};
use super::failures;
use super::fetch::MeshSource;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::recover::nobody;
use super::report::{
    ExistingNames, Failure, FailureKind, HeadReport, Progress, RestoreDone, RestoreRequest,
};
use super::repository::{Breadth, HeadView, Look, earlier, look};
use crate::core::types::NodeId;
use crate::repo::exclude::{ExcludeFault, Excludes, Verdict};
use crate::repo::frame::Kind;
use crate::repo::restore::report::{RestoreProgress, RestoreReport};
use crate::repo::restore::target::{Existing, Target};
use crate::repo::restore::{RestoreError, RestoreOptions, restore};
use crate::repo::snapshot::Snapshot;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tell::{Came, Teller, done};
use tokio::sync::mpsc;

const DEED: Deed = Deed { undone: "nothing was restored", command: "restore" };

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

impl NodeHandle {
    /// Restores a snapshot. Dropping the receiver ends it; the same restore goes on from what is
    /// there.
    pub fn restore(&self, request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let Some(_place) = inner.getting.enter(&progress, None).await else { return };
            let last = run(&inner, request, &progress).await;
            // Nobody need be listening: the files are there, or the journal is.
            drop(progress.send(last.map_or_else(Progress::Failed, Progress::Done)).await);
        });
        heard
    }
}

/// What is to be restored, found.
struct Job {
    request: RestoreRequest,
    chosen: Chosen,
    snapshot: Snapshot,
    head: Option<HeadReport>,
    notes: Vec<String>,
    /// Nodes that are thought to hold something.
    hints: Vec<NodeId>,
    filter: Filter,
    started: Instant,
}

async fn run(
    inner: &Arc<Inner>,
    request: RestoreRequest,
    progress: &mpsc::Sender<Progress<RestoreDone>>,
) -> Result<RestoreDone, Failure> {
    let job = tokio::select! {
        job = find(inner, request, progress) => job?,
        () = progress.closed() => return Err(failures::stopped()),
    };
    let cancel = Arc::new(AtomicBool::new(false));
    let (inner, teller, cancelled) = (Arc::clone(inner), progress.clone(), Arc::clone(&cancel));
    let mut work = tokio::task::spawn_blocking(move || files(inner, job, &teller, &cancelled));
    let ended = tokio::select! {
        ended = &mut work => ended,
        // Whoever asked has gone: the thread ends, and what it wrote is kept.
        () = progress.closed() => {
            cancel.store(true, Ordering::Relaxed);
            work.await
        }
    };
    ended.map_err(|error| failures::died("the restoring thread", &error))?
}

/// Finds the snapshot, and what leads to its files.
async fn find(
    inner: &Arc<Inner>,
    request: RestoreRequest,
    progress: &mpsc::Sender<Progress<RestoreDone>>,
) -> Result<Job, Failure> {
    let started = Instant::now();
    let filter = Filter::new(&request)?;
    tell::note(progress, "looking for the snapshot");
    let Source { chosen, head, notes, hints } = source(inner, &request).await?;
    let patience = Duration::from_secs(request.timeout_s);
    let snapshot = inner.snapshot((chosen.id, &chosen.reference), patience).await?;
    if let Some(tree) = &snapshot.tree {
        let root = inner.chunk(&tree.reference, Kind::Tree, patience).await;
        root.map_err(|why| unread(&chosen.id, why))?;
    }
    // Before anything is written.
    tell_found(progress, (&chosen.id, &snapshot), head.as_ref(), &notes).await;
    Ok(Job { request, chosen, snapshot, head, notes, hints, filter, started })
}

/// The snapshot that is meant, and what led to it.
struct Source {
    chosen: Chosen,
    head: Option<HeadReport>,
    notes: Vec<String>,
    hints: Vec<NodeId>,
}

async fn source(inner: &Arc<Inner>, request: &RestoreRequest) -> Result<Source, Failure> {
    let wanted = request.snapshot.clone();
    if !request.heads.is_empty() {
        let earlier = earlier(inner, &request.heads).await?;
        let chosen = choose(&wanted, &earlier.live(), &Doubt::None, DEED)?;
        let head = earlier.head(chosen.index).map(HeadView::report);
        return Ok(Source { chosen, head, notes: Vec::new(), hints: earlier.hints });
    }
    // What replaces files must not be a snapshot that only seems to be the latest.
    let breadth = match request.existing {
        ExistingNames::Replace => Breadth::Everyone,
        ExistingNames::Refuse | ExistingNames::Keep => Breadth::Brief,
    };
    let look = look(inner, breadth).await?;
    let doubt = Doubt::after(&look);
    let Look { peers, heads, notes, hints, .. } = look;
    if peers == 0 {
        return Err(nobody(&inner.mesh_name));
    }
    let chosen =
        inner.repository.with_live(move |live| choose(&wanted, &live, &doubt, DEED)).await?;
    let head = heads.iter().find(|head| head.index == chosen.index).map(HeadView::report);
    Ok(Source { chosen, head, notes, hints })
}

/// Writes the files; blocks.
fn files(
    inner: Arc<Inner>,
    job: Job,
    progress: &mpsc::Sender<Progress<RestoreDone>>,
    cancel: &AtomicBool,
) -> Result<RestoreDone, Failure> {
    let request = &job.request;
    let (below, wants) =
        (recorded(&request.below), |path: &[u8], folder| job.filter.wants(path, folder));
    let patience = Duration::from_secs(request.timeout_s);
    let keys = Arc::clone(&inner.keys);
    let mut source = MeshSource::new(inner, patience, progress).with_hints(job.hints.clone());
    let options = RestoreOptions {
        below,
        wants: (!job.filter.is_empty()).then_some(&wants),
        fifos: request.fifos,
        dry_run: request.dry_run,
        dedup: Some(&keys.dedup),
        ..RestoreOptions::default()
    };
    let mut teller = Teller::new(progress);
    let mut restored = |target: &Target| -> Result<RestoreReport, RestoreError> {
        let mut moved = |now: RestoreProgress| teller.moved(now);
        match &job.snapshot.tree {
            Some(root) => restore(&mut source, root, target, &options, cancel, &mut moved),
            None if below.is_empty() => Ok(RestoreReport::default()),
            None => Err(RestoreError::NoSuchPath),
        }
    };
    let report = restored(&open(request)?).map_err(|error| failed(&request.target, &error))?;
    source.save_doubts();
    let (chunks, first_byte) = (teller.chunks(), teller.first_byte());
    let (damaged_at, away) = (source.faults().damaged_at(), source.faults().away());
    let came = Came { chunks, holders: source.served(), damaged_at, away, first_byte };
    Ok(done(&job, report, came))
}

/// A path of the snapshot as the tree has it: below the root of everything.
fn recorded(path: &[u8]) -> &[u8] {
    let begin = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(begin, |last| last + 1);
    path.get(begin..end).unwrap_or_default()
}

fn open(request: &RestoreRequest) -> Result<Target, Failure> {
    let existing = match request.existing {
        ExistingNames::Refuse => Existing::Refuse,
        ExistingNames::Keep => Existing::Keep,
        ExistingNames::Replace => Existing::Replace,
    };
    let target = match request.dry_run {
        true => Target::look_at(&request.target, existing),
        false => Target::open(&request.target, existing),
    };
    target.map_err(|error| unusable(&request.target, &error))
}

/// Which names are wanted.
struct Filter {
    includes: Excludes,
    excludes: Excludes,
}

impl Filter {
    fn new(request: &RestoreRequest) -> Result<Self, Failure> {
        let read = |patterns: &[Vec<u8>]| {
            let mut read = Excludes::default();
            patterns.iter().try_for_each(|pattern| read.add(pattern))?;
            Ok(read)
        };
        let refused = |fault: ExcludeFault| {
            let what = "nothing was restored";
            let hint = "`quloud restore --help` shows how patterns are given";
            Failure::new(FailureKind::Usage, what, fault.to_string(), hint)
        };
        let includes = read(&request.includes).map_err(refused)?;
        Ok(Self { includes, excludes: read(&request.excludes).map_err(refused)? })
    }

    fn is_empty(&self) -> bool {
        self.includes.is_empty() && self.excludes.is_empty()
    }

    /// What lies in a folder that matches does, too.
    fn wants(&self, path: &[u8], is_folder: bool) -> bool {
        let matched = |patterns: &Excludes| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let mut above = ends.filter_map(|(end, _)| path.get(..end));
            above.any(|above| patterns.decide(above, true) == Verdict::Excluded)
                || patterns.decide(path, is_folder) == Verdict::Excluded
        };
        (self.includes.is_empty() || matched(&self.includes)) && !matched(&self.excludes)
    }
}

fn unusable(target: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{} cannot be used", target.display());
    let hint = "name another folder with --target";
    Failure::new(FailureKind::Failed, what, error.to_string(), hint)
}

fn failed(target: &Path, error: &RestoreError) -> Failure {
    const AGAIN: &str = "run the same command again: it goes on from what is there";
    let (kind, hint) = match error {
        RestoreError::NotEmpty { .. } => (
            FailureKind::Failed,
            "name an empty or a new folder; --into restores beside what is there, --overwrite \
             replaces it",
        ),
        RestoreError::Busy { .. } => (FailureKind::Failed, "wait until it is done"),
        RestoreError::NotOurs { .. } => {
            (FailureKind::Failed, "move it away, or name another folder with --target")
        }
        RestoreError::FoldsCase { .. } => {
            (FailureKind::Failed, "name an empty folder with --target, without --overwrite")
        }
        RestoreError::Space { .. } => {
            (FailureKind::StoreFull, "free some space, or name a folder on another disk")
        }
        RestoreError::NoSuchPath => {
            (FailureKind::Usage, "give the path as it was recorded: `quloud snapshots` shows roots")
        }
        RestoreError::Tree(_) => {
            (FailureKind::Damage, "restore another snapshot, and report this with the node's log")
        }
        RestoreError::Closed | RestoreError::Cancelled => (FailureKind::Failed, AGAIN),
        RestoreError::Io { .. } => {
            (FailureKind::Failed, "check the disk and the folder's permissions, then run it again")
        }
    };
    let what = format!("the snapshot was not restored into {}", target.display());
    Failure::new(kind, what, failures::chain(error), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(includes: &[&str], excludes: &[&str]) -> impl Fn(&str) -> bool {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let (includes, excludes) = (texts(includes), texts(excludes));
        let request = RestoreRequest { includes, excludes, ..RestoreRequest::default() };
        let filter = Filter::new(&request).unwrap();
        move |path| filter.wants(path.trim_end_matches('/').as_bytes(), path.ends_with('/'))
    }

    #[test]
    fn what_lies_in_a_matching_folder_is_wanted_or_not_like_the_folder() {
        let all = wants(&[], &[]);
        assert!(all("a") && all("a/b/"));
        let some = wants(&["*.txt", "/data/music/"], &["old/", "!keep"]);
        for path in ["a.txt", "x/y/a.txt", "data/music/", "data/music/a/b.mp3", "old.txt"] {
            assert!(some(path), "{path}");
        }
        for path in ["a.md", "music/", "x/data/music/", "data/", "data/music/old/b", "old/a.txt"] {
            assert!(!some(path), "{path}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_match_is_refused() {
        let includes = vec![b"[a".to_vec(), Vec::new()];
        let request = RestoreRequest { includes, ..RestoreRequest::default() };
        let failure = Filter::new(&request).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Usage);
    }
}
