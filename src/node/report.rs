//! What the node tells and is asked through the local API: plain data, JSON on the socket.
//!
//! Field names are the ones scripts rely on; a field may be added, never renamed.

mod audit;
mod detached;
mod forget;
mod heads;
mod look;
mod prune;
mod recover;
mod repo;
mod schedule;
mod standing;
mod verify;

pub use audit::{
    AtStake, AuditDone, AuditProof, AuditRequest, AuditedHolder, HealDone, HealRequest,
};
pub use detached::{BackupStarted, DetachedBackup, DetachedState, StartedState};
pub use forget::{ForgetDone, ForgetRequest, ForgetRow, KeepOptions};
pub use heads::{HeadRecordReport, Heads, HeadsRequest};
pub use look::{
    ChangeKind, DiffDone, DiffRequest, DiffRow, FindDone, FindRequest, FindRow, LsDone, LsRequest,
    NameKind, NameReport, NamesTally, Rows,
};
pub use prune::{
    ACCEPTED_DIGITS_MIN, DeleteKeyText, PruneDone, PruneHolder, PruneRequest, WaitingForget,
};
pub use recover::{
    DamagedReport, ExistingNames, HeadReport, LostPart, RebuildStatus, RecoverRequest, Recovered,
    RestoreDone, RestoreRequest,
};
pub use repo::{
    BackupDone, BackupRequest, DeviceStatus, EvidenceReport, PatternFile, ReplicasReport,
    ReplicasWord, SnapshotMade, SnapshotReport, SnapshotSet, Snapshots, SnapshotsStatus, date,
};
pub use schedule::{ScheduledBackup, ScheduledTask, TaskResult, TaskState};
pub use standing::{OwnerAnswer, OwnerSays, SaidAudit, SaidSilence, SaysOfUs};
pub use verify::{DrillReport, ProofReport, VerifyDone, VerifyFault, VerifyKind, VerifyRequest};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `quloud status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running node.
    pub version: String,
    /// Its libp2p PeerId.
    pub peer_id: String,
    /// Name of its mesh.
    pub mesh: String,
    /// Addresses it listens on, each with `/p2p/PEERID`.
    pub listen: Vec<String>,
    /// Number of connected members of the mesh.
    pub peers: usize,
    /// Seconds since the node started.
    pub uptime_s: u64,
    /// Its chunk store; `None` where it is not open, because the node does not run.
    pub store: Option<StoreStatus>,
    /// What it put on the mesh, newest first: all of it, or as many as were asked for.
    pub backups: Vec<BackupStatus>,
    /// How many there are in all.
    pub backups_total: u64,
    /// The snapshots of all devices, as far as they are known here.
    #[serde(default)]
    pub snapshots: SnapshotsStatus,
    /// The newest proof that a snapshot can be restored.
    #[serde(default)]
    pub proven: Option<ProofReport>,
    /// Backups that go on without the command that asked for them, then how the last ones of each
    /// set of paths ended, newest first.
    #[serde(default)]
    pub detached: Vec<DetachedBackup>,
    /// Backups of the settings, in their order.
    #[serde(default)]
    pub schedule: Vec<ScheduledBackup>,
    /// A prune of this device runs.
    #[serde(default)]
    pub pruning: bool,
    /// How far it is known again who holds what, on a device that was recovered; `None` where all
    /// holders were asked.
    #[serde(default)]
    pub rebuild: Option<RebuildStatus>,
    /// Messages turned down since the start, by reason.
    pub rejects: std::collections::BTreeMap<String, u64>,
    /// What needs the user's attention; empty = healthy.
    pub attention: Vec<String>,
}

/// The space this node gives.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Bytes the user gives.
    pub capacity: u64,
    /// Bytes used of it.
    pub used: u64,
    /// Bytes the disk could still take above the reserve.
    pub free: u64,
    /// Chunks held for others.
    pub chunks: u64,
    /// A failed sync made the store read-only; it is verified when the node starts again.
    pub read_only: bool,
}

/// One file on the mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupStatus {
    /// File name as it was put.
    pub name: String,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Chunks, the listing included.
    pub chunks: u64,
    /// Replicas asked for.
    pub target: u8,
    /// The smallest number of acknowledged replicas of any chunk; 0 while some of the file was not
    /// sent yet, or where the node was killed before it could count.
    pub replicas: u8,
    /// `queued`, `replicating` or `stored`.
    pub state: BackupState,
    /// Seconds since 1970 when it was put.
    pub put_at: u64,
    /// What `quloud get` brings it back with; `None` until the whole file was sealed.
    pub capability: Option<CapabilityText>,
}

impl BackupStatus {
    /// `open` puts are short of replicas, in words; `None` where all are stored.
    pub fn short_of_replicas(open: u64) -> Option<String> {
        match open {
            0 => None,
            1 => Some("1 put is short of replicas".to_owned()),
            open => Some(format!("{open} puts are short of replicas")),
        }
    }
}

/// How far a file has come. *Safe* needs audits and does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    /// Nothing acknowledged yet.
    Queued,
    /// Some chunks are below their target.
    Replicating,
    /// Every chunk was acknowledged by as many nodes as asked.
    Stored,
}

/// `quloud peers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its PeerId.
    pub peer_id: String,
    /// The address it is connected over.
    pub address: String,
    /// `lan` or `direct` (relays come later).
    pub link: String,
    /// Round trip of the last ping, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Its declared site, empty where it declares none.
    pub site: String,
    /// Who runs it, as it declares; empty where it declares nobody.
    #[serde(default)]
    pub operator: String,
    /// Chunks of ours that it acknowledged.
    pub holds_chunks: u64,
    /// Where it stands by our own audits: `unknown`, `proven`, `late`, `suspect`, `lost`, `damaged`
    /// or `liar`.
    #[serde(default)]
    pub standing: String,
    /// Why, and since when, in words.
    #[serde(default)]
    pub why: String,
    /// What this node saw of it itself; nobody else is told.
    #[serde(default)]
    pub conduct: Conduct,
    /// What it says of this node, as an owner whose chunks are kept here; `None` where it was not
    /// asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says_of_us: Option<SaysOfUs>,
}

/// What this node thinks of another one, by what it saw of it. It is told to the user alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conduct {
    /// In a word: `good`, `new` (nothing is known), `later` (after others), `last`, `never` (it
    /// gets nothing).
    pub trust: String,
    /// What places chunks: more is better, a stranger has 0; none where it gets nothing.
    pub score: Option<i32>,
    /// Chunks that it was sent.
    pub granted: u64,
    /// Acks in time, of the last thousand or so.
    pub acked: u64,
    /// Late ones, of the same.
    pub late: u64,
    /// How long an ack takes, in milliseconds; none where that was never seen.
    pub ack_ms: Option<u32>,
    /// How long a chunk takes that it serves, in milliseconds.
    pub serve_ms: Option<u32>,
    /// Bytes that it served.
    pub served_bytes: u64,
    /// Until when it is given nothing of what is repaired by itself, after it lost replicas.
    pub rests_until: Option<String>,
}

/// What `quloud put` asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutRequest {
    /// Absolute path; the node opens it.
    pub path: PathBuf,
    /// Distinct nodes per chunk, 1 to 32.
    pub replicas: u8,
    /// How long a chunk may wait for its quorum, in seconds.
    pub timeout_s: u64,
}

/// A capability's text on its way between a command and the node: as JSON a plain string, wiped
/// when it is dropped, and never printed by a log or a failed assertion.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct CapabilityText(String);

impl CapabilityText {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: whoever has it can read the file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for CapabilityText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for CapabilityText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CapabilityText(..)")
    }
}

/// What `quloud get` asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetRequest {
    /// The capability's text.
    pub capability: CapabilityText,
    /// Absolute path of the file to make.
    pub output: PathBuf,
    /// Replace an existing file.
    pub overwrite: bool,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// One step of a long piece of work, in the order they happen; the last is `Done` or `Failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Progress<T> {
    /// Where it stands.
    Working {
        /// Bytes of the file done.
        bytes: u64,
        /// Bytes of the file in all, where known.
        total: Option<u64>,
        /// Chunks done.
        chunks: u64,
        /// The smallest number of acknowledged replicas of any chunk that is done by now (puts and
        /// backups); `None` before the first.
        replicas: Option<u8>,
        /// What it is doing, in one short phrase.
        note: Option<String>,
    },
    /// Something that the user is to see before the rest comes: a line to be left standing.
    Told {
        /// The line.
        line: String,
    },
    /// It is done.
    Done(T),
    /// It failed.
    Failed(Failure),
}

/// `quloud put --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutDone {
    /// The read capability: whoever has it can read the file.
    pub capability: CapabilityText,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Chunks, the listing included.
    pub chunks: u64,
    /// The smallest number of acknowledged replicas of any chunk.
    pub replicas: u8,
    /// Wall time.
    pub seconds: f64,
    /// PeerIds of the nodes that acknowledged chunks, with how many each did.
    pub holders: Vec<(String, u64)>,
    /// Sealed bytes of all chunks, one copy.
    pub sealed_bytes: u64,
    /// The snapshot that names the file, 64 hexadecimal digits; `None` where it could not be
    /// published yet, or the path is one that no snapshot takes.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// What the user should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `quloud get --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GetDone {
    /// Plaintext bytes.
    pub bytes: u64,
    /// Chunks read, the listing included.
    pub chunks: u64,
    /// Wall time.
    pub seconds: f64,
    /// PeerIds of the nodes that served chunks, with how many each did.
    pub holders: Vec<(String, u64)>,
}

/// Why it failed: three short lines for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Fixes the exit code.
    pub kind: FailureKind,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do next.
    pub hint: String,
}

impl Failure {
    /// From its parts.
    pub fn new(
        kind: FailureKind,
        what: impl Into<String>,
        why: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { kind, what: what.into(), why: why.into(), hint: hint.into() }
    }
}

/// The kinds of failure a script can tell apart, each with its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// 1.
    Failed,
    /// 2.
    Usage,
    /// 3.
    Partial,
    /// 4.
    NotEnoughHolders,
    /// 5.
    KeysMissing,
    /// 6.
    StoreFull,
    /// 10.
    Damage,
}

impl FailureKind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::NotEnoughHolders => 4,
            Self::KeysMissing => 5,
            Self::StoreFull => 6,
            Self::Damage => 10,
        }
    }
}
