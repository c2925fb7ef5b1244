//! Recovering a device and restoring a snapshot, as they are asked for and told.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What `quloud recover` asks of the node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecoverRequest {
    /// The head that this device shall go on with, in place of the one that wrote it; the lowest
    /// free one where nothing is said.
    #[serde(default)]
    pub take_over: Option<u16>,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recovered {
    /// Name of the mesh.
    pub mesh: String,
    /// How many of its nodes are connected.
    pub peers: usize,
    /// The head that this device writes from now on.
    pub index: u16,
    /// The heads that were found, by index.
    pub heads: Vec<HeadReport>,
    /// Snapshots that can be restored, of all devices.
    pub snapshots_total: u64,
    /// The newest list of every device that was found could be read.
    #[serde(default)]
    pub whole: bool,
    /// What else the user should know.
    pub notes: Vec<String>,
    /// Wall time.
    pub seconds: f64,
}

/// One head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadReport {
    /// Which one.
    pub index: u16,
    /// The device that writes it, 32 hexadecimal digits.
    pub device: String,
    /// How often it was written.
    pub number: u64,
    /// When it was written last, by the device's clock: seconds since 1970.
    pub signed_at: i64,
    /// How many nodes have this record of it.
    pub agree: usize,
    /// How many of those that are said to have it did not answer.
    pub silent: usize,
    /// So few answered that there may be a newer record.
    pub doubtful: bool,
}

/// How far a device that was recovered knows again who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildStatus {
    /// Nodes that are thought to hold something.
    pub holders: usize,
    /// Of these, those that said to the end what they keep.
    pub listed: usize,
    /// Of these, those whose list was no list, or did not end.
    pub given_up: usize,
    /// Replicas that were found so far: each chunk counts at each holder.
    pub replicas: u64,
}

/// What is done with what is in the target already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExistingNames {
    /// The target must be empty, new, or what the same restore left.
    #[default]
    Refuse,
    /// They stay, and are told.
    Keep,
    /// They are replaced.
    Replace,
}

/// What `quloud restore` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// `latest`, or the first digits of an id.
    pub snapshot: String,
    /// Records of heads that count in place of the newest ones; none where these do.
    #[serde(default)]
    pub heads: Vec<String>,
    /// The bytes of a path, as it was recorded: only that, or what is in it. All where it is empty.
    #[serde(default)]
    pub below: Vec<u8>,
    /// Absolute path of the folder to restore into.
    pub target: PathBuf,
    /// Only what matches one of these patterns, which are bytes like names; all where there are
    /// none.
    #[serde(default)]
    pub includes: Vec<Vec<u8>>,
    /// But what matches these.
    #[serde(default)]
    pub excludes: Vec<Vec<u8>>,
    /// What is done with what is there.
    #[serde(default)]
    pub existing: ExistingNames,
    /// Nothing is written: what would come back is counted.
    #[serde(default)]
    pub dry_run: bool,
    /// Pipes are made, too.
    #[serde(default)]
    pub fifos: bool,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// `quloud restore --json`. Of each kind of trouble the first are listed, and all are counted.
/// Names are text that does nothing to a terminal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RestoreDone {
    /// The snapshot's id, 64 hexadecimal digits.
    pub snapshot: String,
    /// When it was made: seconds since 1970.
    pub created_at: i64,
    /// The head that names it; `None` where it was not read now.
    pub head: Option<HeadReport>,
    /// What was backed up, and where it is now.
    pub roots: Vec<(String, String)>,
    /// Nothing was written.
    pub dry_run: bool,
    /// Something could not be read when the snapshot was made, and is not in it.
    #[serde(default)]
    pub partial: bool,
    /// Regular files that are there and right.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, pipes and further names of files.
    pub others: u64,
    /// Bytes of the files' data.
    pub bytes: u64,
    /// Of these, those all of whose bytes were compared with the snapshot in this run.
    #[serde(default)]
    pub verified: u64,
    /// The others: an earlier run had restored them, and their inodes and times are as it left
    /// them.
    pub resumed_files: u64,
    /// Chunks that came.
    pub chunks: u64,
    /// PeerIds of the nodes that served them, with how many each did.
    pub holders: Vec<(String, u64)>,
    /// Wall time.
    pub seconds: f64,
    /// Of that, until the first bytes of a file had come and been checked; `None` where none came.
    #[serde(default)]
    pub first_byte_seconds: Option<f64>,
    /// Files that are not whole and parts of the tree that did not come, because something is
    /// damaged or gone: no holder that may have it whole is away.
    pub damaged: u64,
    /// Files that are not whole and parts of the tree that did not come, because nobody who
    /// answered has what lacks.
    #[serde(default)]
    pub unreachable: u64,
    /// The first of the files, of both.
    pub damaged_files: Vec<DamagedReport>,
    /// The first of the parts.
    pub lost_parts: Vec<LostPart>,
    /// PeerIds of the nodes that were asked and had chunks damaged or no more, with how many each;
    /// others may have served them.
    #[serde(default)]
    pub damaged_at: Vec<(String, u64)>,
    /// PeerIds of the nodes that have to have chunks that did not come, and did not answer.
    #[serde(default)]
    pub away: Vec<String>,
    /// Entries that are not restored.
    pub skipped: u64,
    /// Of these, those that are never restored or only when asked for: devices, sockets, pipes.
    pub skipped_by_rule: u64,
    /// The first of them, each with the reason.
    pub skipped_lines: Vec<String>,
    /// Entries whose metadata is not as recorded.
    pub undressed: u64,
    /// The first faults.
    pub undressed_lines: Vec<String>,
    /// The journal that the same restore goes on by, where something is missing.
    pub journal: Option<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// A file that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedReport {
    /// In the target.
    pub path: String,
    /// What it is called there, holes where bytes are missing; `None` where nothing could be made.
    pub name: Option<String>,
    /// The first of the ranges that are missing: from, to.
    pub missing: Vec<(u64, u64)>,
    /// Bytes that are missing in all.
    pub missing_bytes: u64,
    /// Something of it is damaged or gone; else it could only not be reached.
    #[serde(default)]
    pub damaged: bool,
    /// Why the first of them are; damage goes before absence.
    pub why: String,
}

/// A part of the tree that did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPart {
    /// Its first path.
    pub first: String,
    /// How many entries are in it.
    pub entries: u64,
    /// It is damaged or gone; else it could only not be reached.
    #[serde(default)]
    pub damaged: bool,
    /// Why.
    #[serde(default)]
    pub why: String,
}
