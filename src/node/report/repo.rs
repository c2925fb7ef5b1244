//! Backups and snapshots, as they are asked for and told.

use super::DrillReport;
use crate::repo::calendar::WallTime;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `quloud backup` asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// Files and folders, absolute; the node opens them.
    pub paths: Vec<PathBuf>,
    /// Distinct nodes per chunk, 1 to 32.
    pub replicas: u8,
    /// How long a chunk may wait for its quorum, in seconds.
    pub timeout_s: u64,
    /// The contents of files of patterns, like a `.gitignore`; they come before `excludes`.
    #[serde(default)]
    pub exclude_files: Vec<PatternFile>,
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
    /// Read and count, and send nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a file of patterns says: a string where it is UTF-8, else a list of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PatternFile {
    /// UTF-8.
    Text(String),
    /// Anything else: names are bytes, and so are patterns.
    Bytes(Vec<u8>),
}

impl PatternFile {
    /// Of the file's bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// `quloud backup --json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupDone {
    /// The snapshot's id, 64 hexadecimal digits; its first eight name it as well. Empty where there
    /// is none: see [`Self::dry_run`].
    pub snapshot: String,
    /// Nothing was stored: the rest is what a backup would have come to.
    #[serde(default)]
    pub dry_run: bool,
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
    /// Replicas asked for.
    #[serde(default)]
    pub target: u8,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The smallest number of nodes that are known to have any chunk of it, and how many shall;
    /// told of the newest backup of each set of paths by this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicasReport>,
    /// The last drill that proved that it can be restored, as far as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<DrillReport>,
    /// The last drill that found something damaged or out of reach, where no later one refutes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<DrillReport>,
}

/// How many replicas the worst chunk of a snapshot has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasReport {
    /// So many nodes.
    pub has: u8,
    /// So many were asked for.
    pub target: u8,
}

impl std::fmt::Display for ReplicasReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { has, target } = self;
        let state = if has < target { "replicating" } else { "stored" };
        write!(f, "{state} {has} of {target}")
    }
}

/// `2026-11-21 15:04 UTC` of seconds since 1970, for people.
pub fn date(seconds: i64) -> String {
    let mut shown = WallTime::of(seconds.saturating_mul(1_000_000_000), 0).to_string();
    // Nobody needs the seconds.
    shown.truncate(shown.len().saturating_sub(3));
    shown + " UTC"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_for_people_have_no_seconds() {
        assert_eq!(date(1_795_273_445), "2026-11-21 15:04 UTC");
        assert_eq!(date(-1), "1969-12-31 23:59 UTC");
        assert!(!date(i64::MAX).is_empty() && !date(i64::MIN).is_empty());
    }
}

/// What is known here of the snapshots of all devices, without asking anybody.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SnapshotsStatus {
    /// How many there are.
    pub total: u64,
    /// Of these, those in which something is missing.
    pub partial: u64,
    /// Of these, files that were put.
    pub puts: u64,
    /// Files that were put and have no snapshot yet.
    pub unnamed: u64,
    /// Snapshots of which a drill found something damaged or out of reach, unless it was refuted
    /// since, or by a drill of a newer one of the same paths.
    #[serde(default)]
    pub failed: Vec<SnapshotReport>,
    /// Whose heads are known, this device's own among them.
    pub devices: Vec<DeviceStatus>,
    /// By device and paths, newest first: all of them, or as many as were asked for.
    pub sets: Vec<SnapshotSet>,
    /// How many of them there are in all.
    pub sets_total: u64,
}

/// Snapshots of the same paths by the same device, or all files that it put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSet {
    /// The newest.
    pub newest: SnapshotReport,
    /// How many there are.
    pub count: u64,
    /// Of these, those in which something is missing.
    pub partial: u64,
}

/// A device of the owner, as its head was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The head that it writes.
    pub index: u16,
    /// The device.
    pub device: String,
    /// It is this one.
    pub own: bool,
    /// How often the head was written.
    pub number: u64,
    /// When it was written last, by that device's clock: seconds since 1970.
    pub signed_at: i64,
    /// How many nodes are known to keep it so; of another device's head, those that served it.
    pub holders: usize,
    /// How many shall.
    pub wanted: u8,
    /// This device's own is kept by fewer.
    pub short: bool,
    /// What it names lies here. Else its snapshots are not counted until they are listed.
    pub readable: bool,
}
