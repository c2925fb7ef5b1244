//! `backup`: files and folders become a snapshot.
//!
//! 1. The heads of all devices are read: which snapshots there are.
//! 2. The newest snapshot of the same paths tells what is unchanged.
//! 3. A thread walks and reads, another one seals; chunks that enough holders have are not sent.
//! 4. Holders are asked for what was stored before, unless they showed within a day that they have
//!    it. Where too few have a chunk, the files are gone through once more to store it again.
//! 5. All chunks have their quorum before the snapshot, its entry and the head are stored.
//! 6. If another device prunes, or did since this one looked, holders are asked for all of it: see
//!    [`after`](super::after).
//!
//! A backup that is broken off, however, leaves chunks that no snapshot names; the next one finds
//! them in the catalogue and does not send them again. Nor does it read the files again that were
//! done: see [`unfinished`](crate::repo::unfinished). The leaf that was being filled, about a
//! thousand files, is read again but for its large files, and so is the file that was being read.

mod after;
mod earlier;
mod made;
mod rehearsal;
mod sink;
mod watch;

pub(super) use sink::{Handed, HeldByMesh, Hopeless, StoreSink, Stored, Trust, Wish, store_all};

use super::check::{Belief, Checked, check};
use super::chunks::Chunks;
use super::failures;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{BackupDone, BackupRequest, Failure, FailureKind, Progress, ScheduledBackup};
use super::repository::{MadeBy, Published, now_ns, utc_offset_min};
use super::scheduler;
use crate::core::codec::QUORUM_MAX;
use crate::core::types::{ChunkId, DeviceId, SnapshotId};
use crate::repo::backup::{BackedUp, BackupContext, BackupError, backup};
use crate::repo::engine::BackupSink;
use crate::repo::frame::Kind;
use crate::repo::manifest::{Added, Body};
use crate::repo::meta::META_BYTES_MAX;
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::Sealer;
use crate::repo::snapshot::Snapshot;
use crate::repo::unfinished::{self, Unfinished};
use crate::repo::walk::{RootError, Walk, WalkOptions};
use earlier::{Before, cut};
use made::named;
pub(super) use made::{note_at_most, note_replicas};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
        begin(Arc::clone(&self.inner), request)
    }
}

/// See [`NodeHandle::backup`].
pub(super) fn begin(
    inner: Arc<Inner>,
    request: BackupRequest,
) -> mpsc::Receiver<Progress<BackupDone>> {
    let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
    tokio::spawn(async move {
        let began_s = seconds_since_1970();
        let work = run(&inner, &request, &progress);
        let last = tokio::select! {
            done = work => done.map_or_else(Progress::Failed, Progress::Done),
            // Whoever asked has gone: what runs is dropped, and its threads end.
            () = progress.closed() => return,
        };
        if let Progress::Done(done) = &last
            && !done.dry_run
        {
            inner.detached.made(&request.paths);
            if let Some(name) = &request.name {
                scheduler::made_by_hand(&inner, name, began_s, done).await;
            }
        }
        drop(progress.send(last).await);
    });
    heard
}

/// What can be told of a request at once: a path that is not there, a pattern that is none. Blocks
/// on the disk.
pub(super) fn check_request(inner: &Inner, request: &BackupRequest) -> Result<(), Failure> {
    wish(request)?;
    let options = options(inner, request)?;
    Walk::new(&options).map(drop).map_err(|error| roots(&error))
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
    let _stays = super::prune::keep_out(inner, progress).await;
    let (options, all, host) = look(options).await?;
    let handed: Arc<Handed> = Arc::default();
    let told = Told { progress, handed: &handed };
    let teller = teller_of(inner, told);
    teller.note("looking for earlier snapshots");
    let accounted = inner.repository.accounted();
    let losses = inner.with_catalog(|catalog| catalog.losses_seen());
    let (before, others, mut notes) = earlier::find(inner, &all, &host).await?;
    let made = Made { host, tags: request.tags.clone(), began_ns: now_ns(), before };
    let unfinished = Unfinished::of(inner.data_dir(), &inner.keys, &made.host, &all);
    let work = Arc::new(Work { options, others, made, unfinished });
    if request.dry_run {
        return rehearsal::rehearse(inner, wish, (work, teller, notes), started).await;
    }
    let run = Run { inner, wish, work: &work, told };
    let Files { backed, teller, stored, may_lack } =
        run.files_that_are_held(teller, &mut notes).await?;
    teller.note("storing the snapshot");
    notes.extend(remarks(&backed));
    let (partial, unchanged, counts) =
        (backed.faults > 0, backed.built.unchanged, backed.built.counts);
    let last = Wish { patience: patience(wish, stored), ..wish };
    let made_by = made::made_by(&all, (wish, stored), (backed.faults, &teller));
    let alone = inner.repository.look_alone().await;
    if may_lack || inner.repository.accounted() != accounted {
        inner.repository.account_anew(inner)?;
    }
    let (id, published) =
        publish(inner, last, Arc::clone(&handed), (Arc::clone(&work), backed), made_by).await?;
    drop(alone);
    made::doubt(inner, &id, losses)?;
    work.unfinished.forget();
    let Published { stored: last, head_replicas, superseded } = published;
    notes.extend(made::short_remark(inner, wish, [stored, last]));
    let reached = stored.replicas.min(last.replicas);
    let reached = run.look_after(id, reached, &mut notes).await;
    let head = u8::try_from(head_replicas).unwrap_or(u8::MAX);
    notes.extend(head_remarks(head, wish.replicas, superseded));
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
        replicas: reached.min(head),
        target: wish.replicas,
        seconds: started.elapsed().as_secs_f64(),
        partial,
        faults: teller.faults(),
        fault_lines: teller.into_lines(),
        notes,
    })
}

/// Looks at what is to be backed up: which paths these are, and of which machine.
async fn look(options: WalkOptions) -> Result<(WalkOptions, Vec<Vec<u8>>, String), Failure> {
    let look = tokio::task::spawn_blocking(move || {
        let walk = Walk::new(&options).map_err(|error| roots(&error))?;
        let all = walk.roots().to_vec();
        Ok((options, all, host()))
    });
    look.await.map_err(|error| failures::died("the reader", &error))?
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

/// What the user should know of the head that names the snapshot.
fn head_remarks(head: u8, wished: u8, superseded: usize) -> Vec<String> {
    let short = (head < wished).then(|| {
        format!("its head has {head} of {wished} replicas: a node that runs sends it again")
    });
    let other = (superseded > 0).then(|| {
        format!(
            "another device writes this device's head, say {superseded} of its holders: run \
             `quloud snapshots` to see whether this snapshot is listed"
        )
    });
    short.into_iter().chain(other).collect()
}

/// What is walked.
fn options(inner: &Inner, request: &BackupRequest) -> Result<WalkOptions, Failure> {
    let excludes = ScheduledBackup::excludes(&request.exclude_files, &request.excludes);
    let excludes = excludes.map_err(usage)?;
    ScheduledBackup::check_tags(&request.tags).map_err(usage)?;
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
    unfinished: Unfinished,
}

/// A tree that is stored.
struct Files {
    backed: BackedUp,
    teller: Teller,
    stored: Stored,
    /// It names chunks that holders may have let go, and that could not be stored again.
    may_lack: bool,
}

/// Who hears how far a backup is.
#[derive(Clone, Copy)]
struct Told<'a> {
    progress: &'a mpsc::Sender<Progress<BackupDone>>,
    handed: &'a Arc<Handed>,
}

/// A backup on its way to a tree.
#[derive(Clone, Copy)]
struct Run<'a> {
    inner: &'a Arc<Inner>,
    wish: Wish,
    work: &'a Arc<Work>,
    told: Told<'a>,
}

impl Run<'_> {
    /// Stores the files, and asks the holders of what was stored before. What they do not have any
    /// more is stored again, from its files: these are read a second time, and what changed in them
    /// meanwhile is in the tree as it is then.
    async fn files_that_are_held(
        self,
        teller: Teller,
        notes: &mut Vec<String>,
    ) -> Result<Files, Failure> {
        let (mut files, reused) = self.files(teller, Trust::Acks).await?;
        files.teller.note("asking the holders of what was stored before");
        let Checked { fewest, short, storable, silent, .. } =
            check(self.inner, &reused, self.wish.replicas, Belief::ADay).await?;
        drop(reused);
        let patience = patience(self.wish, files.stored);
        files.stored.replicas = files.stored.replicas.min(fewest);
        if short > 0 {
            tracing::warn!(short, storable, silent = silent.len(), "chunks lack replicas");
        }
        if storable > 0 {
            notes.push(format!(
                "{storable} chunks that were stored before have fewer than {} replicas by now: \
                 their files were read again to store them again",
                self.wish.replicas
            ));
            let again = Self { wish: Wish { patience, ..self.wish }, ..self };
            let teller = teller_of(self.inner, self.told);
            match again.files(teller, Trust::Today).await {
                Ok((again, _)) => return Ok(after(files, again)),
                // What was stored before is all that there is, and the snapshot names it.
                Err(failure) if failure.kind == FailureKind::NotEnoughHolders => {
                    files.may_lack = true;
                    notes.push(format!("storing them again failed: {}", failure.why));
                }
                Err(failure) => return Err(failure),
            }
        }
        if short > 0 {
            notes.push(format!(
                "{short} chunks that were stored before are not known to have {} replicas still: \
                 {} of their holders did not answer{}",
                self.wish.replicas,
                silent.len(),
                if silent.is_empty() { String::new() } else { format!(" ({})", named(&silent)) }
            ));
        }
        Ok(files)
    }

    /// Walks, reads, seals and stores. Also returns which chunks were taken to be held.
    async fn files(self, teller: Teller, trust: Trust) -> Result<(Files, Vec<ChunkId>), Failure> {
        let cancel = Arc::new(AtomicBool::new(false));
        let (node, reins) = (Arc::clone(self.inner), (Handle::current(), Arc::clone(&cancel)));
        let (all, held) =
            (Arc::clone(self.work), HeldByMesh::new(self.inner, self.wish.replicas, trust));
        let work = move |sink: &mut StoreSink| {
            let broken_off = all.unfinished.read();
            sink.record(all.unfinished.begin(all.made.began_ns, broken_off.as_ref()).ok());
            let read = read(&node, (&all, held), reins, (teller, broken_off), sink)?;
            read.teller.note("waiting for the last chunks");
            Ok(read)
        };
        let reins = (Arc::clone(self.told.handed), cancel);
        let (Read { backed, teller, reused }, stored) =
            store_all(self.inner, self.wish, reins, work).await?;
        Ok((Files { backed, teller, stored, may_lack: false }, reused))
    }
}

/// What a second run over the files came to, with what the first one sent.
fn after(first: Files, mut again: Files) -> Files {
    let counts = &mut again.backed.built.counts;
    counts.new_bytes = counts.new_bytes.saturating_add(first.backed.built.counts.new_bytes);
    again.stored.chunks = again.stored.chunks.saturating_add(first.stored.chunks);
    again
}

fn teller_of(inner: &Arc<Inner>, told: Told<'_>) -> Teller {
    let chunks = Chunks::fetched(inner, Handle::current(), earlier::CHUNK_PATIENCE);
    Teller::new(chunks, told.progress.clone(), Arc::clone(told.handed))
}

/// How long what comes next is waited for, where what came before had to do with less.
fn patience(wish: Wish, stored: Stored) -> Duration {
    match stored.replicas < wish.replicas {
        true => wish.patience.min(SHORT_PATIENCE),
        false => wish.patience,
    }
}

/// A tree whose chunks were handed over, and which chunks were taken to be held.
struct Read {
    backed: BackedUp,
    teller: Teller,
    reused: Vec<ChunkId>,
}

/// Walks, reads and seals, on a thread that may block; what is new goes to `sink`.
fn read(
    inner: &Arc<Inner>,
    (work, held): (&Work, HeldByMesh),
    (runtime, cancel): (Handle, Arc<AtomicBool>),
    (mut teller, broken_off): (Teller, Option<unfinished::Run>),
    sink: &mut impl BackupSink,
) -> Result<Read, Failure> {
    let Work { options, others, made, .. } = work;
    let earlier = earlier::known(inner, made.before.as_ref(), (broken_off, others), runtime);
    let context = BackupContext {
        keys: &inner.keys,
        locality: inner.keys.locality(),
        held: &held,
        cancel: &cancel,
    };
    let backed = backup(options, earlier, &context, sink, &mut teller);
    let backed = backed.map_err(|error| failed(&error))?;
    Ok(Read { backed, teller, reused: held.into_reused() })
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
    handed: Arc<Handed>,
    (work, backed): (Arc<Work>, BackedUp),
    made_by: MadeBy,
) -> Result<(SnapshotId, Published), Failure> {
    let (named, name) = std::sync::mpsc::channel();
    let what = move |sealer: &mut Sealer<'_, StoreSink>, device: DeviceId| {
        let snapshot = snapshot(&work, backed, device);
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
    let published = inner.repository.publish_made(inner, wish, reins, what, made_by).await?;
    let id = name.try_recv().map_err(|_| failures::backup_stopped())?;
    Ok((id, published))
}

fn snapshot(work: &Work, backed: BackedUp, device: DeviceId) -> Snapshot {
    let (BackedUp { built, roots, faults, .. }, made) = (backed, &work.made);
    Snapshot {
        device,
        created_ns: made.began_ns,
        utc_offset_min: utc_offset_min(made.began_ns),
        partial: faults > 0,
        put: false,
        tree: built.root,
        parent: made.before.as_ref().map(|before| before.id),
        counts: built.counts,
        nonce: rand::random(),
        host: made.host.clone(),
        roots,
        tags: made.tags.clone(),
        excludes: work.options.excludes.sources().map(<[u8]>::to_vec).collect(),
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
