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
//! | `POST /api/v1/put` with a [`PutRequest`] | events with a [`PutDone`] at the end |
//! | `POST /api/v1/get` with a [`GetRequest`] | events with a [`GetDone`] at the end |
//! | `POST /api/v1/backup` with a [`BackupRequest`] | events with a [`BackupDone`] at the end |
//! | `POST /api/v1/recover` with a [`RecoverRequest`] | events with a [`Recovered`] at the end |
//! | `POST /api/v1/restore` with a [`RestoreRequest`] | events with a [`RestoreDone`] at the end |
//! | `GET /api/v1/snapshots` | lines: [`Snapshots`] without its snapshots, then these |
//!
//! A request that is not understood is answered with a status of 400 or above and a
//! [`Failure`] as its body.

pub mod client;
pub mod server;
pub mod socket;

use crate::node::report::{
    BackupDone, BackupRequest, Failure, GetDone, GetRequest, PeerReport, Progress, PutDone,
    PutRequest, RecoverRequest, Recovered, RestoreDone, RestoreRequest, Snapshots, Status,
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
const PUT: &str = concat!("/api/v", version!(), "/put");
const GET: &str = concat!("/api/v", version!(), "/get");
const BACKUP: &str = concat!("/api/v", version!(), "/backup");
const RECOVER: &str = concat!("/api/v", version!(), "/recover");
const RESTORE: &str = concat!("/api/v", version!(), "/restore");
const SNAPSHOTS: &str = concat!("/api/v", version!(), "/snapshots");

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
}

impl Asked {
    fn resume(self) -> &'static str {
        match self {
            Self::Report | Self::Recover => {
                "start it again with `quloud up`, then run the command again"
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

/// What the API serves: a running node.
pub trait Service: Clone + Send + Sync + 'static {
    /// What `quloud status` shows, with the `newest` backups of all there are.
    fn status(&self, newest: usize) -> impl Future<Output = Status> + Send;

    /// What `quloud peers` shows.
    fn peers(&self) -> impl Future<Output = Vec<PeerReport>> + Send;

    /// Starts to put a file; dropping the receiver stops listening to it.
    fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>>;

    /// Starts to get a file; dropping the receiver cancels.
    fn get(&self, request: GetRequest) -> mpsc::Receiver<Progress<GetDone>>;

    /// Starts to back files up; dropping the receiver cancels.
    fn backup(&self, request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>>;

    /// Starts to look for what the owner's words lead to; dropping the receiver cancels.
    fn recover(&self, request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>>;

    /// Starts to restore a snapshot; dropping the receiver cancels.
    fn restore(&self, request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>>;

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

    fn put(&self, request: PutRequest) -> mpsc::Receiver<Progress<PutDone>> {
        self.put(request)
    }

    fn get(&self, request: GetRequest) -> mpsc::Receiver<Progress<GetDone>> {
        self.get(request)
    }

    fn backup(&self, request: BackupRequest) -> mpsc::Receiver<Progress<BackupDone>> {
        self.backup(request)
    }

    fn recover(&self, request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>> {
        self.recover(request)
    }

    fn restore(&self, request: RestoreRequest) -> mpsc::Receiver<Progress<RestoreDone>> {
        self.restore(request)
    }

    async fn snapshots(&self) -> Result<Snapshots, Failure> {
        self.snapshots().await
    }
}
