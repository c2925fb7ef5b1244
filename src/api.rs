//! The local API: how the command line speaks to the running node.
//!
//! HTTP/1.1 with JSON on a Unix socket that only this user and root can reach; see [`socket`].
//! Long work answers with server-sent events, one [`Progress`] in each, and ends with `done` or
//! `failed`. Hanging up cancels the work politely: nothing that was acknowledged is lost.
//! A list without a bound goes as lines of JSON, one item in each: bounded is the line, never how
//! many there are. Without `backups`, all of them are listed.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/status?backups=N` | lines: [`Status`] without its backups, then the N newest |
//! | `GET /api/v1/peers` | a list of [`PeerReport`] |
//! | `GET /api/v1/standings` | a list of [`OwnerSays`]: owners are asked |
//! | `POST /api/v1/put` with a [`PutRequest`] | events with a [`PutDone`] at the end |
//! | `POST /api/v1/get` with a [`GetRequest`] | events with a [`GetDone`] at the end |
//! | `POST /api/v1/backup` with a [`BackupRequest`] | events with a [`BackupDone`] at the end |
//! | `POST /api/v1/backup/start` with a [`BackupRequest`] | a [`BackupStarted`]: it goes on alone |
//! | `POST /api/v1/recover` with a [`RecoverRequest`] | events with a [`Recovered`] at the end |
//! | `POST /api/v1/verify` with a [`VerifyRequest`] | events with a [`VerifyDone`] at the end |
//! | `POST /api/v1/restore` with a [`RestoreRequest`] | events with a [`RestoreDone`] at the end |
//! | `GET /api/v1/snapshots` | lines: [`Snapshots`] without its snapshots, then these |
//! | `POST /api/v1/ls` with an [`LsRequest`] | events: [`Rows`], at the end an [`LsDone`] |
//! | `POST /api/v1/diff` with a [`DiffRequest`] | events: [`Rows`], at the end a [`DiffDone`] |
//! | `POST /api/v1/find` with a [`FindRequest`] | events: [`Rows`], at the end a [`FindDone`] |
//! | `POST /api/v1/forget` with a [`ForgetRequest`] | events: [`Rows`], then a [`ForgetDone`] |
//! | `POST /api/v1/heads` with a [`HeadsRequest`] | [`Heads`] |
//! | `POST /api/v1/prune` with a [`PruneRequest`] | events with a [`PruneDone`] at the end |
//! | `POST /api/v1/audit` with an [`AuditRequest`] | events with an [`AuditDone`] at the end |
//! | `POST /api/v1/heal` with a [`HealRequest`] | events with a [`HealDone`] at the end |
//!
//! A request that is not understood is answered with a status of 400 or above and a
//! [`Failure`] as its body.

pub mod client;
pub mod server;
pub mod socket;

use crate::node::report::{
    AuditDone, AuditRequest, BackupDone, BackupRequest, BackupStarted, DiffDone, DiffRequest,
    DiffRow, Failure, FindDone, FindRequest, FindRow, ForgetDone, ForgetRequest, ForgetRow,
    GetDone, GetRequest, Heads, HeadsRequest, HealDone, HealRequest, LsDone, LsRequest, NameReport,
    OwnerSays, PeerReport, Progress, PruneDone, PruneRequest, PutDone, PutRequest, RecoverRequest,
    Recovered, RestoreDone, RestoreRequest, Rows, Snapshots, Status, VerifyDone, VerifyRequest,
};
use tokio::sync::mpsc;

/// A literal, for it is part of the paths.
macro_rules! version {
    () => {
        1
    };
}

/// The version of this API.
pub const API_VERSION: u32 = version!();

const STATUS: &str = concat!("/api/v", version!(), "/status");
const PEERS: &str = concat!("/api/v", version!(), "/peers");
const STANDINGS: &str = concat!("/api/v", version!(), "/standings");
const PUT: &str = concat!("/api/v", version!(), "/put");
const GET: &str = concat!("/api/v", version!(), "/get");
const BACKUP: &str = concat!("/api/v", version!(), "/backup");
const BACKUP_START: &str = concat!("/api/v", version!(), "/backup/start");
const RECOVER: &str = concat!("/api/v", version!(), "/recover");
const RESTORE: &str = concat!("/api/v", version!(), "/restore");
const HEADS: &str = concat!("/api/v", version!(), "/heads");
const SNAPSHOTS: &str = concat!("/api/v", version!(), "/snapshots");
const LS: &str = concat!("/api/v", version!(), "/ls");
const DIFF: &str = concat!("/api/v", version!(), "/diff");
const FIND: &str = concat!("/api/v", version!(), "/find");
const VERIFY: &str = concat!("/api/v", version!(), "/verify");
const FORGET: &str = concat!("/api/v", version!(), "/forget");
const PRUNE: &str = concat!("/api/v", version!(), "/prune");
const AUDIT: &str = concat!("/api/v", version!(), "/audit");
const HEAL: &str = concat!("/api/v", version!(), "/heal");

/// The largest request body, the largest answer that is not a stream, and the largest line of one
/// that is: 1 MiB.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A line of silence on a stream is sent this often, so that either side notices the other's end.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(5);

/// What a node was asked for when it ended: that decides how the user goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Something to look at.
    Report,
    /// A put: once it is in the outbox it goes on by itself, and another command would be another
    /// put.
    Put,
    /// A get: the same one goes on from what came.
    Get,
    /// A backup: the same one sends nothing again.
    Backup,
    /// A recovery: the same one looks again.
    Recover,
    /// A restore: the same one goes on from what is there.
    Restore,
    /// Forgetting: what is forgotten already is not told again.
    Forget,
    /// A prune: the same one goes on.
    Prune,
    /// Healing: the same one goes on.
    Heal,
}

impl Asked {
    fn resume(self) -> &'static str {
        match self {
            Self::Report | Self::Recover => {
                "start it again with `quloud up`, then run the command again"
            }
            Self::Forget => {
                "start it again with `quloud up`, then look what `quloud snapshots` still has"
            }
            Self::Prune => {
                "start it again with `quloud up`, then run the same command again: it reads all \
                 anew and goes on, and nothing that a snapshot needs is lost"
            }
            Self::Heal => {
                "start it again with `quloud up`, then run the same command again: what has its \
                 replicas back is not sent again"
            }
            Self::Put => {
                "start it again with `quloud up`: a put that it had begun goes on by itself, and \
                 `quloud status --json` shows its capability once it is stored"
            }
            Self::Restore => {
                "start it again with `quloud up`, then run the same command again: it goes on from \
                 what is there"
            }
            Self::Get => {
                "start it again with `quloud up`, then run the same command again: it goes on from \
                 what came"
            }
            Self::Backup => {
                "start it again with `quloud up`, then run the same command again: what is stored \
                 is not sent again"
            }
        }
    }
}

/// What a stream of events is made of.
trait Told {
    /// Whether nothing comes behind it.
    fn is_last(&self) -> bool;

    /// The end of work that failed.
    fn failed(failure: Failure) -> Self;
}

impl<T> Told for Progress<T> {
    fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }

    fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<R, D> Told for Rows<R, D> {
    fn is_last(&self) -> bool {
        !matches!(self, Self::Rows { .. })
    }

    fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the API serves: a running node.
pub trait Service: Clone + Send + Sync + 'static {
    /// What `quloud status` shows, with the `newest` backups of all there are.
    fn status(&self, newest: usize) -> impl Future<Output = Status> + Send;

    /// What `quloud peers` shows.
    fn peers(&self) -> impl Future<Output = Vec<PeerReport>> + Send;

    /// What `quloud peers --standing` shows beside that. Takes some seconds where an owner does not
    /// answer.
    fn standings(&self) -> impl Future<Output = Vec<OwnerSays>> + Send;

    /// Starts to put a file; dropping the receiver stops listening to it.
    fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>>;

    /// Starts to get a file; dropping the receiver cancels.
    fn get(&self, request: GetRequest) -> mpsc::Receiver<Progress<GetDone>>;

    /// Starts to back files up; dropping the receiver cancels.
    fn backup(&self, request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>>;

    /// Starts to back files up without anybody who listens.
    fn start_backup(
        &self,
        request: BackupRequest,
    ) -> impl Future<Output = Result<BackupStarted, Failure>> + Send;

    /// Starts to look for what the owner's words lead to; dropping the receiver cancels.
    fn recover(&self, request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>>;

    /// Starts to restore a snapshot; dropping the receiver cancels.
    fn restore(&self, request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>>;

    /// Starts to read a snapshot back from its holders; dropping the receiver cancels.
    fn verify(&self, request: VerifyRequest) -> mpsc::Receiver<Progress<VerifyDone>>;

    /// Starts to list a folder of a snapshot; dropping the receiver cancels.
    fn ls(&self, request: LsRequest) -> mpsc::Receiver<Rows<NameReport, LsDone>>;

    /// Starts to compare two snapshots; dropping the receiver cancels.
    fn diff(&self, request: DiffRequest) -> mpsc::Receiver<Rows<DiffRow, DiffDone>>;

    /// Starts to look for names in snapshots; dropping the receiver cancels.
    fn find(&self, request: FindRequest) -> mpsc::Receiver<Rows<FindRow, FindDone>>;

    /// Starts to forget snapshots. What is being written when the receiver is dropped is written.
    fn forget(&self, request: ForgetRequest) -> mpsc::Receiver<Rows<ForgetRow, ForgetDone>>;

    /// Starts to let go what no snapshot needs; dropping the receiver cancels.
    fn prune(&self, request: PruneRequest) -> mpsc::Receiver<Progress<PruneDone>>;

    /// Starts to ask holders for proofs of what they keep; dropping the receiver cancels.
    fn audit(&self, request: AuditRequest) -> mpsc::Receiver<Progress<AuditDone>>;

    /// Starts to store anew what has too few replicas; dropping the receiver cancels.
    fn heal(&self, request: HealRequest) -> mpsc::Receiver<Progress<HealDone>>;

    /// What `quloud heads` shows.
    fn heads(&self, request: HeadsRequest) -> impl Future<Output = Result<Heads, Failure>> + Send;

    /// What `quloud snapshots` shows.
    fn snapshots(&self) -> impl Future<Output = Result<Snapshots, Failure>> + Send;
}

impl Service for crate::node::NodeHandle {
    async fn status(&self, newest: usize) -> Status {
        self.status(newest).await
    }

    async fn peers(&self) -> Vec<PeerReport> {
        self.peers().await
    }

    async fn standings(&self) -> Vec<OwnerSays> {
        self.standings().await
    }

    fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>> {
        self.put(request)
    }

    fn get(&self, request: GetRequest) -> mpsc::Receiver<Progress<GetDone>> {
        self.get(request)
    }

    fn backup(&self, request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>> {
        self.backup(request)
    }

    async fn start_backup(&self, request: BackupRequest) -> Result<BackupStarted, Failure> {
        self.start_backup(request).await
    }

    fn recover(&self, request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>> {
        self.recover(request)
    }

    fn restore(&self, request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>> {
        self.restore(request)
    }

    fn verify(&self, request: VerifyRequest) -> mpsc::Receiver<Progress<VerifyDone>> {
        self.verify(request)
    }

    fn ls(&self, request: LsRequest) -> mpsc::Receiver<Rows<NameReport, LsDone>> {
        self.ls(request)
    }

    fn diff(&self, request: DiffRequest) -> mpsc::Receiver<Rows<DiffRow, DiffDone>> {
        self.diff(request)
    }

    fn find(&self, request: FindRequest) -> mpsc::Receiver<Rows<FindRow, FindDone>> {
        self.find(request)
    }

    fn forget(&self, request: ForgetRequest) -> mpsc::Receiver<Rows<ForgetRow, ForgetDone>> {
        self.forget(request)
    }

    fn prune(&self, request: PruneRequest) -> mpsc::Receiver<Progress<PruneDone>> {
        self.prune(request)
    }

    fn audit(&self, request: AuditRequest) -> mpsc::Receiver<Progress<AuditDone>> {
        self.audit(request)
    }

    fn heal(&self, request: HealRequest) -> mpsc::Receiver<Progress<HealDone>> {
        self.heal(request)
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, Failure> {
        self.heads(request).await
    }

    async fn snapshots(&self) -> Result<Snapshots, Failure> {
        self.snapshots().await
    }
}
