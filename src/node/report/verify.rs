//! Drills, as they are asked for and told.

use super::HeadReport;
use serde::{Deserialize, Serialize};

/// What `quloud verify` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// `latest`, or the first digits of an id.
    pub snapshot: String,
    /// So many of a million chunks with data are read, drawn by chance; all where nothing is said.
    #[serde(default)]
    pub sample_ppm: Option<u32>,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// `quloud verify --json`. Of each kind of trouble the first are listed, and all are counted. Names
/// are text that does nothing to a terminal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct VerifyDone {
    /// The snapshot's id, 64 hexadecimal digits.
    pub snapshot: String,
    /// When it was made: seconds since 1970.
    pub created_at: i64,
    /// The head that names it; `None` where it was not read now.
    pub head: Option<HeadReport>,
    /// All that was drawn came from holders, and is what the snapshot names.
    pub proven: bool,
    /// How many of a million chunks with data were drawn.
    pub sample_ppm: u32,
    /// Names in the tree that could be read.
    pub names: u64,
    /// Of these, names that not every system can have: they come back on a system like this one.
    #[serde(default)]
    pub unportable: u64,
    /// The paths of the first of them.
    #[serde(default)]
    pub unportable_names: Vec<String>,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of the files' data that came and are right.
    pub bytes: u64,
    /// Bytes of the files' data that were not drawn.
    pub skipped_bytes: u64,
    /// Chunks that came.
    pub chunks: u64,
    /// PeerIds of the nodes that served them, with how many each did.
    pub holders: Vec<(String, u64)>,
    /// Files, parts of the tree and records that are damaged or gone: no holder that may have them
    /// whole is away.
    pub damaged: u64,
    /// Files, parts of the tree and records that could not be reached.
    pub unreachable: u64,
    /// The first of both.
    pub faults: Vec<VerifyFault>,
    /// PeerIds of the nodes that were asked and had chunks damaged or no more, with how many each;
    /// others may have served them. Not every holder of a chunk is asked.
    pub damaged_at: Vec<(String, u64)>,
    /// Chunks that came all the same, from another holder: they are no part of what is damaged.
    #[serde(default)]
    pub covered: u64,
    /// PeerIds of the nodes that have to have chunks that did not come, and did not answer.
    pub away: Vec<String>,
    /// Wall time.
    pub seconds: f64,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyFault {
    /// Of a file its path, of a part of the tree its first path, else what it is.
    pub name: String,
    /// What it is.
    pub kind: VerifyKind,
    /// It is damaged or gone; else it could not be reached.
    pub damaged: bool,
    /// The first of the ranges of the file's data that do not come: from, to.
    pub missing: Vec<(u64, u64)>,
    /// Bytes of the file's data that do not come.
    pub missing_bytes: u64,
    /// How many names are in the part of the tree.
    pub names: u64,
    /// Why.
    pub why: String,
}

/// Of what something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyKind {
    /// A file.
    File,
    /// A part of the tree.
    Tree,
    /// What leads to the tree: the snapshot, or the list of snapshots.
    Record,
}

/// What a drill of a snapshot came to, as it is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// When it was done: seconds since 1970.
    pub at: u64,
    /// How many of a million chunks with data were read.
    pub sample_ppm: u32,
    /// Files, parts of the tree and records that were damaged.
    pub damaged: u64,
    /// The same that could not be reached.
    pub unreachable: u64,
}

/// A proof that a snapshot can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofReport {
    /// The snapshot's id, 64 hexadecimal digits.
    pub snapshot: String,
    /// The drill.
    #[serde(flatten)]
    pub drill: DrillReport,
}
