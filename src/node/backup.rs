//! `backup`: files and folders become a snapshot.
//!
//! 1. The heads of all devices are read: which snapshots there are.
//! 2. The newest snapshot of the same paths tells what is unchanged.
//! 3. A thread walks and reads, another one seals; chunks that enough holders have are not sent.
//! 4. All chunks have their quorum before the snapshot, its entry and the head are stored.
//!
//! A backup that is broken off, however, leaves chunks that no snapshot names; the next one finds
//! them in the catalogue and does not send them again.

mod earlier;
mod rehearsal;
mod sink;
mod watch;

pub(super) use sink::{HeldByMesh, StoreSink, Stored, Wish, store_all};

use super::chunks::Chunks;
use super::failures;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::report::{BackupDone, BackupRequest, Failure, FailureKind, Progress};
use super::repository::{Published, now_ns, utc_offset_min};
use crate::core::codec::QUORUM_MAX;
use crate::core::types::{DeviceId, SnapshotId};
use crate::repo::backup::{BackedUp, BackupContext, BackupError, backup};
use crate::repo::engine::BackupSink;
use crate::repo::exclude::Excludes;
use crate::repo::frame::Kind;
use crate::repo::manifest::{Added, Body};
use crate::repo::meta::META_BYTES_MAX;
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::Sealer;
use crate::repo::snapshot::{Snapshot, check_tags};
use crate::repo::walk::{RootError, Walk, WalkOptions};
use earlier::{Before, cut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use watch::Teller;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

/// When files had to do with fewer replicas, what names them waits no longer than this for more.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);

/// The longest that anything waits: a week.
const TIMEOUT_S_MAX: u64 = 604_800;

impl NodeHandle {
    /// Backs files and folders up. Dropping the receiver ends it; what was stored is not sent
    /// again by the next one.
    pub fn backup(&self, request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let work = run(&inner, &request, &progress);
            let last = tokio::select! {
                done = work => done.map_or_else(Progress::Failed, Progress::Done),
                // Whoever asked has gone: what runs is dropped, and its threads end.
                () = progress.closed() => return,
            };
            drop(progress.send(last).await);
        });
        heard
    }
}

async fn run(
    inner: &Arc<Inner>,
    request: &BackupRequest,
    progress: &mpsc::Sender<Progress<BackupDone>>,
) -> Result<BackupDone, Failure> {
    let started = Instant::now();
    let Some(_place) = inner.backing_up.enter(progress, None).await else {
        return Err(failures::backup_stopped());
    };
    let (wish, options) = (wish(request)?, options(inner, request)?);
    let all = Walk::new(&options).map_err(|error| roots(&error))?.roots().to_vec();
    let handed: Arc<AtomicU64> = Arc::default();
    let chunks = Chunks::fetched(inner, Handle::current(), earlier::CHUNK_PATIENCE);
    let teller = Teller::new(chunks, progress.clone(), Arc::clone(&handed));
    teller.note("looking for earlier snapshots");
    let host = host();
    let (before, others, mut notes) = earlier::find(inner, &all, &host).await?;
    let made = Made { host, tags: request.tags.clone(), began_ns: now_ns(), before };
    let work = Work { options, others, made, teller };
    if request.dry_run {
        return rehearsal::rehearse(inner, wish, (work, notes), started).await;
    }
    let (Files { backed, excludes, made, teller }, stored) =
        files(inner, wish, &handed, work).await?;
    teller.note("storing the snapshot");
    notes.extend(remarks(&backed));
    let (partial, unchanged, counts) =
        (backed.faults > 0, backed.built.unchanged, backed.built.counts);
    let patience = match stored.replicas < wish.replicas {
        true => wish.patience.min(SHORT_PATIENCE),
        false => wish.patience,
    };
    let last = Wish { patience, ..wish };
    let (id, published) = publish(inner, last, handed, made, (backed, excludes)).await?;
    let Published { stored: last, head_replicas, superseded } = published;
    let head = u8::try_from(head_replicas).unwrap_or(u8::MAX);
    if head < wish.replicas {
        notes.push(format!("its head has {head} of {} replicas, and is sent again", wish.replicas));
    }
    if superseded > 0 {
        notes.push(format!(
            "another device writes this device's head, say {superseded} of its holders: run \
             `quloud snapshots` to see whether this snapshot is listed"
        ));
    }
    let cache = Arc::clone(inner);
    drop(tokio::task::spawn_blocking(move || cache.meta.sweep(META_BYTES_MAX)).await);
    Ok(BackupDone {
        snapshot: id.to_string(),
        dry_run: false,
        files: counts.files,
        unchanged,
        bytes: counts.bytes,
        new_bytes: counts.new_bytes,
        new_chunks: stored.chunks.saturating_add(last.chunks),
        replicas: stored.replicas.min(last.replicas).min(head),
        seconds: started.elapsed().as_secs_f64(),
        partial,
        faults: teller.faults(),
        fault_lines: teller.into_lines(),
        notes,
    })
}

/// How chunks are stored.
fn wish(request: &BackupRequest) -> Result<Wish, Failure> {
    let BackupRequest { replicas, timeout_s, .. } = *request;
    if !(1..=QUORUM_MAX).contains(&replicas) {
        return Err(usage(format!("there can be 1 to {QUORUM_MAX} replicas")));
    }
    Ok(Wish { replicas, patience: Duration::from_secs(timeout_s.clamp(1, TIMEOUT_S_MAX)) })
}

fn usage(why: String) -> Failure {
    let hint = "`quloud backup --help` shows how paths, patterns and tags are given";
    failures::backup(FailureKind::Usage, why, hint)
}

/// What the user should know of a tree.
fn remarks(backed: &BackedUp) -> Vec<String> {
    let (twice, links) = (backed.built.left_out, backed.links_forgotten);
    let twice = (twice > 0).then(|| format!("{twice} small files may be stored twice"));
    let links = (links > 0).then(|| format!("{links} hard links are files of their own"));
    twice.into_iter().chain(links).collect()
}

/// What is walked.
fn options(inner: &Inner, request: &BackupRequest) -> Result<WalkOptions, Failure> {
    let mut excludes = Excludes::default();
    for file in &request.exclude_files {
        excludes.add_lines(file.as_bytes()).map_err(|fault| usage(fault.to_string()))?;
    }
    for pattern in &request.excludes {
        excludes.add(pattern.as_bytes()).map_err(|fault| usage(fault.to_string()))?;
    }
    if request.tags.iter().any(String::is_empty) || check_tags(&request.tags).is_err() {
        let bounds = "tags have 1 to 255 bytes, at most 6 KiB in all, and there are at most 255";
        return Err(usage(bounds.to_owned()));
    }
    Ok(WalkOptions {
        roots: request.paths.clone(),
        excludes,
        exclude_caches: request.exclude_caches,
        one_file_system: request.one_file_system,
        own: vec![inner.data_dir().to_owned()],
    })
}

/// What a snapshot says beside its tree.
struct Made {
    host: String,
    tags: Vec<String>,
    began_ns: i64,
    before: Option<Before>,
}

fn roots(error: &RootError) -> Failure {
    failures::backup(FailureKind::Usage, failures::chain(error), "check the paths")
}

/// What a backup of files needs.
struct Work {
    options: WalkOptions,
    others: Vec<ChunkRef>,
    made: Made,
    teller: Teller,
}

/// A tree that is stored, and what was lent to make it.
struct Files {
    backed: BackedUp,
    excludes: Vec<Vec<u8>>,
    made: Made,
    teller: Teller,
}

/// Walks, reads, seals and stores.
async fn files(
    inner: &Arc<Inner>,
    wish: Wish,
    handed: &Arc<AtomicU64>,
    work: Work,
) -> Result<(Files, Stored), Failure> {
    let cancel = Arc::new(AtomicBool::new(false));
    let (node, reins) = (Arc::clone(inner), (Handle::current(), Arc::clone(&cancel)));
    let work = move |sink: &mut StoreSink| {
        let files = read(&node, wish, reins, work, sink)?;
        files.teller.note("waiting for the last chunks");
        Ok(files)
    };
    store_all(inner, wish, (Arc::clone(handed), cancel), work).await
}

/// Walks, reads and seals, on a thread that may block; what is new goes to `sink`.
fn read(
    inner: &Arc<Inner>,
    wish: Wish,
    (runtime, cancel): (Handle, Arc<AtomicBool>),
    work: Work,
    sink: &mut impl BackupSink,
) -> Result<Files, Failure> {
    let Work { options, others, made, mut teller } = work;
    let earlier = earlier::known(inner, made.before.as_ref(), &others, runtime);
    let held = HeldByMesh { inner: Arc::clone(inner), replicas: wish.replicas };
    let context = BackupContext {
        keys: &inner.keys,
        locality: inner.keys.locality(),
        held: &held,
        cancel: &cancel,
    };
    let backed = backup(&options, earlier, &context, sink, &mut teller);
    let backed = backed.map_err(|error| failed(&error))?;
    let excludes = options.excludes.sources().map(<[u8]>::to_vec).collect();
    Ok(Files { backed, excludes, made, teller })
}

fn failed(error: &BackupError) -> Failure {
    match error {
        BackupError::Root(error) => roots(error),
        BackupError::TooLarge(_) => {
            failures::backup(FailureKind::Failed, failures::chain(error), "name fewer paths")
        }
        BackupError::Frame(_) => {
            let hint = "this is a fault in Quloud: please report it with the log";
            failures::backup(FailureKind::Failed, failures::chain(error), hint)
        }
        BackupError::Closed(_) | BackupError::Cancelled => failures::backup_stopped(),
    }
}

/// Stores the snapshot, and names it.
async fn publish(
    inner: &Arc<Inner>,
    wish: Wish,
    handed: Arc<AtomicU64>,
    made: Made,
    (backed, excludes): (BackedUp, Vec<Vec<u8>>),
) -> Result<(SnapshotId, Published), Failure> {
    let (named, name) = std::sync::mpsc::channel();
    let what = move |sealer: &mut Sealer<'_, StoreSink>, device: DeviceId| {
        let snapshot = snapshot(made, backed, excludes, device);
        let hint = "name fewer paths, patterns or tags";
        let failed = |why: String| failures::backup(FailureKind::Failed, why, hint);
        let plaintext = snapshot.encode().map_err(|fault| failed(fault.to_string()))?;
        let at = sealer.meta(Kind::Snapshot, &plaintext, 0);
        let at = at.map_err(|error| failed(error.to_string()))?;
        let id = Snapshot::id(&plaintext);
        // The receiver is there for as long as this is waited for.
        let _ = named.send(id);
        Ok(vec![Body::Add(added(id, at, &snapshot))])
    };
    let reins = (handed, Arc::default());
    let published = inner.repository.publish(inner, wish, reins, what).await?;
    let id = name.try_recv().map_err(|_| failures::backup_stopped())?;
    Ok((id, published))
}

fn snapshot(made: Made, backed: BackedUp, excludes: Vec<Vec<u8>>, device: DeviceId) -> Snapshot {
    let BackedUp { built, roots, faults, .. } = backed;
    Snapshot {
        device,
        created_ns: made.began_ns,
        utc_offset_min: utc_offset_min(made.began_ns),
        partial: faults > 0,
        put: false,
        tree: built.root,
        parent: made.before.map(|before| before.id),
        counts: built.counts,
        nonce: rand::random(),
        host: made.host,
        roots,
        tags: made.tags,
        excludes,
        program: concat!("quloud ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// As much of a snapshot as a list shows.
pub(super) fn added(id: SnapshotId, reference: ChunkRef, snapshot: &Snapshot) -> Added {
    let (roots, roots_cut) = cut(&snapshot.roots);
    Added {
        id,
        reference,
        created_ns: snapshot.created_ns,
        utc_offset_min: snapshot.utc_offset_min,
        partial: snapshot.partial,
        put: snapshot.put,
        roots_cut,
        files: snapshot.counts.files,
        bytes: snapshot.counts.bytes,
        new_bytes: snapshot.counts.new_bytes,
        host: snapshot.host.clone(),
        roots,
        tags: snapshot.tags.clone(),
    }
}

/// What this machine is called.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
    let name: String = name.trim().chars().take(63).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
