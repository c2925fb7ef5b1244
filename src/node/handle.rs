//! The handle of a running node: what the API and the in-process commands call.

use super::attention;
use super::check;
use super::detached;
use super::failures;
use super::inner::Inner;
use super::memory;
use super::outbox::Running;
use super::overview::{self, Noted};
use super::put::{PutRun, seconds_since_1970};
use super::report::{
    BackupState, BackupStatus, CapabilityText, Failure, GetDone, GetRequest, PeerReport, Progress,
    ProofReport, PutDone, PutRequest, RebuildStatus, SnapshotsStatus, Status, StoreStatus,
};
use super::repository::proof;
use super::scheduler;
use super::shared::Labels;
use super::standing;
use crate::core::types::NodeId;
use crate::repo::catalog::{self, Catalog, Entry, Job, JobId, PutRoot, PutStarted};
use crate::repo::put::file::{SourceFile, Stamp};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

/// A running node. Cheap to clone; [`Self::shutdown`] ends it for all clones.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) inner: Arc<Inner>,
    running: Arc<Running>,
    tasks: Arc<Mutex<Tasks>>,
}

/// What has to end before the node has ended.
pub(super) struct Tasks {
    pub(super) drive: JoinHandle<()>,
    pub(super) outbox: JoinHandle<()>,
    /// Sends this device's head again, looks at all heads now and then, and names what was put.
    pub(super) head: JoinHandle<()>,
    pub(super) stop: mpsc::Sender<()>,
}

impl NodeHandle {
    pub(super) fn new(inner: Arc<Inner>, running: Arc<Running>, tasks: Tasks) -> Self {
        Self { inner, running, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// What `quloud status` shows, with the `newest` backups of all there are.
    pub async fn status(&self, newest: usize) -> Status {
        let net = self.inner.net.snapshot().await;
        let space = self.inner.shared.current_space();
        let AtRest { backups, count, proven, rebuild, attention: mut attention_at_rest, .. } = self
            .inner
            .with_catalog(|catalog| at_rest(catalog, newest, &|job| self.running.replicas(job)));
        let snapshots = self.snapshots_here(newest).await;
        let store = StoreStatus {
            capacity: space.capacity,
            used: space.used,
            free: space.free,
            chunks: space.chunks,
            read_only: space.read_only,
        };
        let failed = self.inner.shared.failures();
        let mut attention = attention::of_node(&store, count.open, &failed);
        if self.inner.shared.memory.repair_left() == 0 {
            attention.push(attention::REPAIRS_WAIT.to_owned());
        }
        let pruning = self.inner.prunes.load(Ordering::Relaxed);
        if pruning {
            // It is under way.
            attention_at_rest.retain(|matter| matter != attention::OPEN_PRUNE);
        }
        attention.append(&mut attention_at_rest);
        attention.extend(overview::attention(&snapshots));
        let detached = self.inner.detached.told();
        attention.extend(detached::attention(&detached));
        attention.extend(self.inner.repository.warnings());
        let schedule = scheduler::told(&self.inner);
        // Those that commands count on, which is a moment after they connected.
        let peers = self.inner.shared.watch_peers().borrow().len();
        attention.extend(scheduler::attention(&schedule, peers == 0));
        attention.extend(self.inner.schedule.unwritten());
        let rejects = self.inner.shared.rejects();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_id: net.peer_id,
            mesh: self.inner.mesh_name.clone(),
            listen: net.listen,
            peers,
            uptime_s: self.inner.started.elapsed().as_secs(),
            store: Some(store),
            backups,
            backups_total: count.total,
            snapshots,
            proven,
            detached,
            schedule,
            pruning,
            rebuild,
            rejects: rejects.iter().map(|(why, count)| (why.name().to_owned(), *count)).collect(),
            attention,
        }
    }

    /// The snapshots that are known, with the `newest` sets; nothing where none are asked for.
    async fn snapshots_here(&self, newest: usize) -> SnapshotsStatus {
        if newest == 0 {
            return SnapshotsStatus::default();
        }
        let inner = Arc::clone(&self.inner);
        let read = move || {
            let noted = inner.with_catalog(|catalog| Noted::of(catalog));
            noted.read(&inner.keys, &inner.meta, newest)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// What `quloud peers` shows, in the order of the PeerIds.
    pub async fn peers(&self) -> Vec<PeerReport> {
        let net = self.inner.net.snapshot().await;
        // What is told of acks is still so after the process was killed; where the catalogue takes
        // nothing the next commit says so.
        let holds = |node: &NodeId| {
            self.inner.with_catalog(|all| {
                drop(all.write());
                all.chunks_held_by(node)
            })
        };
        let mut peers: Vec<PeerReport> = net
            .peers
            .into_iter()
            .map(|peer| {
                let Labels { site, operator } = self.inner.shared.labels(&peer.node);
                let record = self.inner.with_catalog(|all| all.audit_record(&peer.node));
                let (record, now_s) = (record.unwrap_or_default(), seconds_since_1970());
                let (standing, why) = standing::told_of(&record, now_s);
                let stands = catalog::standing(&record, now_s);
                let conduct = self.inner.shared.memory.report(&peer.node, stands);
                PeerReport {
                    conduct,
                    holds_chunks: holds(&peer.node),
                    standing: standing.to_owned(),
                    why,
                    says_of_us: None,
                    site,
                    operator,
                    peer_id: peer.peer_id,
                    address: peer.address,
                    link: peer.link.name().to_owned(),
                    round_trip_ms: peer.round_trip.map(|time| time.as_secs_f64() * 1000.0),
                }
            })
            .collect();
        peers.sort_by(|left, right| left.peer_id.cmp(&right.peer_id));
        peers
    }

    /// Puts a file on the mesh. The job goes on when the receiver is dropped; what is short of its
    /// replicas stays in the outbox.
    pub fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        let handle = self.clone();
        tokio::spawn(async move {
            if let Err(failure) = handle.start_put(request, progress.clone()).await {
                drop(progress.send(Progress::Failed(failure)).await);
            }
        });
        heard
    }

    async fn start_put(
        &self,
        request: PutRequest,
        progress: mpsc::Sender<Progress<PutDone>>,
    ) -> Result<(), Failure> {
        let stamp = stamp(request.path.clone()).await?;
        let started = self.inner.with_catalog(|catalog| {
            let job = PutStarted {
                job: catalog.next_job(),
                path: request.path,
                bytes: stamp.bytes,
                modified_ns: stamp.modified_ns,
                replicas: request.replicas,
                locality: self.inner.keys.locality(),
                started_at: seconds_since_1970(),
            };
            // Marked before anybody else can see it in the catalogue.
            let mark = self.running.begin(job.job);
            catalog.record(Entry::PutStarted(job.clone())).map(|()| (job, mark))
        });
        let (job, mark) = started.map_err(|error| failures::catalog(&error))?;
        let Some(mark) = mark else { return Ok(()) }; // the number is new: nobody runs it
        // Durable before the first chunk leaves: a crash from here on resumes.
        self.inner.commit_catalog().await?;
        let patience = Duration::from_secs(request.timeout_s);
        // Who goes away before it is its turn leaves it to the outbox.
        let place = self.inner.putting.enter(&progress, Some(job.bytes)).await;
        if place.is_some() {
            let inner = Arc::clone(&self.inner);
            drop(PutRun { inner, job, mark, patience, progress }.run().await);
        }
        Ok(())
    }

    /// Gets a file back. Dropping the receiver ends the job and keeps what was fetched.
    pub fn get(&self, request: GetRequest) -> mpsc::Receiver<Progress<GetDone>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        tokio::spawn(super::get::run(Arc::clone(&self.inner), request, progress));
        heard
    }

    /// Returns when the node has ended, asked or not.
    pub async fn ended(&self) {
        let stop = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).stop.clone();
        stop.closed().await;
    }

    /// Ends the node: streams are closed, the store is synced and closed, the catalogue too.
    pub async fn shutdown(self) {
        self.inner.detached.stop();
        let (drive, stop) = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.outbox.abort();
            tasks.head.abort();
            let drive = std::mem::replace(&mut tasks.drive, tokio::spawn(async {}));
            (drive, tasks.stop.clone())
        };
        // The loop may have ended by itself: then there is nobody to tell.
        let _ = stop.send(()).await;
        if let Err(error) = drive.await {
            tracing::error!(%error, "the drive loop ended badly");
        }
        if let Err(failure) = self.inner.commit_catalog().await {
            tracing::error!(what = failure.what, why = failure.why, "at shutdown");
        }
        check::save(&self.inner).await;
        memory::save(&self.inner).await;
    }
}

async fn stamp(path: PathBuf) -> Result<Stamp, Failure> {
    let open = tokio::task::spawn_blocking(move || {
        let opened = SourceFile::open(&path).map_err(|error| failures::put(&path, &error));
        opened.map(|source| source.stamp())
    });
    open.await.map_err(|error| failures::died("the reader", &error))?
}

/// What the catalogue alone tells of this node's puts.
#[derive(Debug)]
pub struct AtRest {
    /// The newest of them, newest first.
    pub backups: Vec<BackupStatus>,
    /// How many there are.
    pub count: BackupCount,
    /// The newest proof that a snapshot can be restored.
    pub proven: Option<ProofReport>,
    /// How far it is known again who holds what, after a recovery.
    pub rebuild: Option<RebuildStatus>,
    /// What the user has to look after.
    pub attention: Vec<String>,
    /// The snapshots of all devices; empty where a node runs, which looks at them itself.
    pub snapshots: SnapshotsStatus,
}

/// Also used while no node runs.
/// `live` is what is known of the replicas of a put that runs.
pub(super) fn at_rest(
    catalog: &Catalog,
    newest: usize,
    live: &dyn Fn(JobId) -> Option<u8>,
) -> AtRest {
    AtRest {
        backups: backups(catalog, newest, live),
        count: count(catalog),
        proven: catalog.newest_proof().map(proof),
        rebuild: super::rebuild::status(catalog),
        attention: attention::of_catalog(catalog, seconds_since_1970()),
        snapshots: SnapshotsStatus::default(),
    }
}

/// How many puts the catalogue knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupCount {
    /// All of them.
    pub total: u64,
    /// Those that are short of replicas.
    pub open: u64,
}

fn count(catalog: &Catalog) -> BackupCount {
    let open = catalog.open_jobs().count() as u64;
    BackupCount { total: open + catalog.roots().len() as u64, open }
}

/// What the catalogue knows of the `newest` puts, newest first.
fn backups(
    catalog: &Catalog,
    newest: usize,
    live: &dyn Fn(JobId) -> Option<u8>,
) -> Vec<BackupStatus> {
    let jobs: Vec<&Job> = catalog.open_jobs().collect();
    let open = jobs.into_iter().rev().map(|job| open(job, live(job.started.job)));
    let stored = catalog.roots().into_iter().map(|root| backup(root, BackupState::Stored));
    open.chain(stored).take(newest).collect()
}

/// A put of the outbox. While it runs, what it has reached by now counts for more than what the
/// try before left.
fn open(job: &Job, live: Option<u8>) -> BackupStatus {
    let state = if job.acked { BackupState::Replicating } else { BackupState::Queued };
    let before = job.short.as_ref().map(|root| root.replicas);
    let replicas = live.into_iter().chain(before).max().unwrap_or(0);
    match &job.short {
        Some(root) => BackupStatus { replicas, ..backup(root, state) },
        None => BackupStatus {
            name: file_name(&job.started.path),
            bytes: job.started.bytes,
            chunks: 0,
            target: job.started.replicas,
            replicas,
            state,
            put_at: job.started.started_at,
            capability: None,
        },
    }
}

/// A file's name in the catalogue and in `quloud status`.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn backup(root: &PutRoot, state: BackupState) -> BackupStatus {
    BackupStatus {
        name: root.name.clone(),
        bytes: root.bytes,
        chunks: root.chunks,
        target: root.target,
        replicas: root.replicas,
        state,
        put_at: root.put_at,
        capability: Some(CapabilityText::new(root.capability.encode().to_string())),
    }
}
