//! Backups and snapshots, as they are asked for and told.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `quloud backup` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Files and folders, absolute; the node opens them.
    pub paths: Vec<PathBuf>,
    /// Distinct nodes per chunk, 1 to 32.
    pub replicas: u8,
    /// How long a chunk may wait for its quorum, in seconds.
    pub timeout_s: u64,
    /// The contents of files of patterns, like a `.gitignore`; they come before `excludes`.
    #[serde(default)]
    pub exclude_files: Vec<String>,
    /// Patterns of what is left out.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// Leave out what lies in folders with a `CACHEDIR.TAG`.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Stay in the file system of each path.
    #[serde(default)]
    pub one_file_system: bool,
    /// Labels of the snapshot.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// `quloud backup --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupDone {
    /// The snapshot's id, 64 hexadecimal digits; its first eight name it as well.
    pub snapshot: String,
    /// Regular files in it.
    pub files: u64,
    /// Of these, those that were taken from the snapshot before without reading them.
    pub unchanged: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Sealed bytes of files and trees that were not stored before, one copy.
    pub new_bytes: u64,
    /// Chunks that were sent, the snapshot's own included.
    pub new_chunks: u64,
    /// The smallest number of acknowledged replicas of anything that was sent; what was asked for,
    /// where nothing but the snapshot was.
    pub replicas: u8,
    /// Wall time.
    pub seconds: f64,
    /// Something is missing in the snapshot.
    pub partial: bool,
    /// Names that something is wrong with.
    pub faults: u64,
    /// The first of them, each with what is wrong.
    pub fault_lines: Vec<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// `quloud snapshots --json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshots {
    /// Oldest first.
    pub snapshots: Vec<SnapshotReport>,
    /// The newest list of every device that was found could be read.
    #[serde(default)]
    pub whole: bool,
    /// What the user should know of how they were found.
    pub notes: Vec<String>,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Its id, 64 hexadecimal digits; the first eight name it as well.
    pub snapshot: String,
    /// When it began: seconds since 1970.
    pub created_at: i64,
    /// Which device made it, and what it was called then.
    pub device: String,
    /// The device's name.
    pub host: String,
    /// What was backed up; what is no UTF-8 is replaced.
    pub roots: Vec<String>,
    /// The user's labels; `put` on its own where it is one file that was put.
    pub tags: Vec<String>,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sealed bytes that were new, one copy.
    pub new_bytes: u64,
    /// Something is missing in it.
    pub partial: bool,
}
