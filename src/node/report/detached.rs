//! Backups that go on without the command that asked for them.

use super::{Failure, SnapshotMade};
use serde::{Deserialize, Serialize};

/// `quloud backup --wait none --json`: what is known when it is handed to the node. The fields of
/// a [`BackupDone`](super::BackupDone) that scripts look at are there, with what there is by now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupStarted {
    /// Always `running`.
    pub state: StartedState,
    /// The same backup ran already, and nothing else was started.
    pub already: bool,
    /// When it began: seconds since 1970.
    pub began_at: u64,
    /// Always `null`: a snapshot is made once its chunks are acknowledged.
    pub snapshot: Option<String>,
    /// Always 0: counted when it has ended.
    pub files: u64,
    /// Bytes that were looked at by now.
    pub bytes: u64,
    /// Always 0: counted when it has ended.
    pub new_bytes: u64,
    /// Always 0: counted when it has ended.
    pub replicas: u8,
    /// For how long it has run.
    pub seconds: f64,
}

/// How far a backup is that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartedState {
    /// It waits for its turn, or is under way.
    Running,
}

/// One such backup in `quloud status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetachedBackup {
    /// What is backed up; what is no UTF-8 is replaced. `..` stands for more than are told.
    pub paths: Vec<String>,
    /// When it began: seconds since 1970.
    pub began_at: u64,
    /// How far it is, or how it ended.
    #[serde(flatten)]
    pub state: DetachedState,
}

/// How far a backup is, or how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum DetachedState {
    /// It waits for its turn, or is under way.
    Running {
        /// Bytes that were looked at.
        bytes: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
        /// Chunks that were handed over.
        chunks: u64,
        /// The smallest number of acknowledged replicas of any that is done by now.
        #[serde(default)]
        replicas: Option<u8>,
        /// Replicas asked for.
        #[serde(default)]
        target: u8,
        /// What it is doing, in one short phrase.
        note: Option<String>,
    },
    /// It made a snapshot.
    Done {
        /// When: seconds since 1970.
        ended_at: u64,
        /// What it made.
        #[serde(flatten)]
        made: SnapshotMade,
        /// The first names that something is wrong with, and what else the user should know.
        notes: Vec<String>,
    },
    /// It made none.
    Failed {
        /// When: seconds since 1970.
        ended_at: u64,
        /// Why, and what to do next.
        failure: Failure,
    },
}
