//! What the settings ask a node to do by itself, as `quloud status` tells it.

use super::{Failure, PatternFile, SnapshotMade};
use crate::repo::exclude::Excludes;
use crate::repo::snapshot::check_tags;
use serde::{Deserialize, Serialize};

/// A backup of the settings, with what is done for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledBackup {
    /// Its name.
    pub name: String,
    /// A digest of its settings: another one where they differ.
    #[serde(default)]
    pub settings: String,
    /// What is backed up; what is no UTF-8 is replaced. `..` stands for more than are told.
    pub paths: Vec<String>,
    /// Making a snapshot of it.
    pub backup: ScheduledTask,
    /// Having the newest of these proven by its holders.
    pub audit: ScheduledTask,
    /// Reading a sample of it back from them.
    pub drill: ScheduledTask,
}

impl ScheduledBackup {
    /// What these patterns leave out of a backup, those of files first.
    ///
    /// # Errors
    /// The first thing that is wrong with them, in words: no backup can have them.
    pub fn excludes(files: &[PatternFile], patterns: &[String]) -> Result<Excludes, String> {
        let mut excludes = Excludes::default();
        let lines = files.iter().try_for_each(|file| excludes.add_lines(file.bytes()));
        let mut each = patterns.iter();
        let all = lines.and_then(|()| each.try_for_each(|each| excludes.add(each.as_bytes())));
        all.map(|()| excludes).map_err(|fault| fault.to_string())
    }

    /// Whether a snapshot can have these tags.
    ///
    /// # Errors
    /// What would be right, in words.
    pub fn check_tags(tags: &[String]) -> Result<(), String> {
        let bounds = "tags have 1 to 255 bytes, at most 6 KiB in all, and there are at most 255";
        let is_empty = tags.iter().any(String::is_empty);
        let taken = check_tags(tags).is_ok() && !is_empty;
        if taken { Ok(()) } else { Err(bounds.to_owned()) }
    }
}

/// Something that is done again and again. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledTask {
    /// How often, as the settings say it.
    pub every: String,
    /// What it is doing.
    pub state: TaskState,
    /// When the last run began that came to something.
    pub last_at: Option<u64>,
    /// When the last run began, whatever came of it.
    pub tried_at: Option<u64>,
    /// When the next one begins, or could have; `None` where there is none by itself, or where no
    /// node runs that could tell.
    pub next_at: Option<u64>,
    /// It is due, and does not run: it waits for another one, or for other nodes.
    #[serde(default)]
    pub waits: bool,
    /// Runs in a row that came to nothing.
    pub failures: u32,
    /// Why the last of these did not.
    pub failure: Option<Failure>,
    /// What the last run came to that came to something.
    pub result: Option<TaskResult>,
    /// While it runs: bytes that were looked at.
    pub bytes: u64,
    /// While it runs: what it is doing, in one short phrase.
    pub note: Option<String>,
}

/// What a task is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It is not its time.
    Idle,
    /// It runs.
    Running,
    /// It is due, and waits for another one, or for other nodes to be there.
    Waiting,
    /// The last run failed: it is tried again.
    Failed,
    /// The last run was cut off by the end of the node: it goes on.
    CutOff,
    /// It is not done by itself.
    Off,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub enum TaskResult {
    /// A snapshot.
    Backup(SnapshotMade),
    /// Proofs.
    Audit {
        /// Of what this snapshot names.
        snapshot: String,
        /// Replicas that were asked for.
        replicas: u64,
        /// Of these, those that were proven.
        proven: u64,
        /// Those whose holders did not answer.
        silent: u64,
        /// Those that are no more.
        damaged: u64,
    },
    /// A sample that was read back.
    Drill {
        /// Of this snapshot.
        snapshot: String,
        /// How many of a million chunks with data were drawn.
        sample_ppm: u32,
        /// Bytes of the files' data that came and are right.
        bytes: u64,
        /// Files, parts of the tree and records that are damaged or gone.
        damaged: u64,
        /// The same that could not be reached.
        unreachable: u64,
    },
}

impl TaskResult {
    /// Whether it did not come to all that it was for, because nodes were away.
    pub fn is_short(&self) -> bool {
        matches!(self, Self::Drill { unreachable: 1.., .. })
    }

    /// The snapshot that it is of.
    pub fn snapshot(&self) -> &str {
        match self {
            Self::Backup(SnapshotMade { snapshot, .. })
            | Self::Audit { snapshot, .. }
            | Self::Drill { snapshot, .. } => snapshot,
        }
    }
}
