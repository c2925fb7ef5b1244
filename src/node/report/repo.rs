//! Backups and snapshots, as they are asked for and told.

use super::{DrillReport, Failure, FailureKind};
use crate::repo::calendar::WallTime;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    /// The backup of the settings that this is a run of.
    #[serde(default)]
    pub name: Option<String>,
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

    /// What a file says. Blocks on the disk.
    ///
    /// # Errors
    /// A [`Failure`] that names it: it cannot be read.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        std::fs::read(file).map(Self::new).map_err(|error| {
            let what = format!("the patterns in {} cannot be read", file.display());
            Failure::new(FailureKind::Usage, what, error.to_string(), "check the path")
        })
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

impl BackupDone {
    /// What is kept of it.
    pub fn made(&self) -> SnapshotMade {
        SnapshotMade {
            snapshot: self.snapshot.clone(),
            files: self.files,
            bytes: self.bytes,
            new_bytes: self.new_bytes,
            replicas: self.replicas,
            target: self.target,
            partial: self.partial,
        }
    }
}

/// What `quloud status` tells of a snapshot that a backup made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMade {
    /// Its id, 64 hexadecimal digits.
    pub snapshot: String,
    /// Regular files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sealed bytes that were new, one copy.
    pub new_bytes: u64,
    /// The smallest number of acknowledged replicas of anything that was sent.
    pub replicas: u8,
    /// Replicas asked for.
    pub target: u8,
    /// Something is missing in it.
    pub partial: bool,
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
    /// How it is stored, in one word, since when, and what that is known from; told of the newest
    /// backup of each set of paths, of other devices as far as it is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ReplicasReport>,
    /// The last drill that proved that it can be restored, as far as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<DrillReport>,
    /// The last drill that found something damaged or out of reach, where no later one refutes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<DrillReport>,
}

/// How a snapshot is stored, or all files that were put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasReport {
    /// In one word.
    pub word: ReplicasWord,
    /// So many nodes are known to have its worst chunk, of those whose word counts.
    pub has: u8,
    /// So many were asked for.
    pub target: u8,
    /// Since when the word is the same, as far as is known: seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// What the word is known from; left out where it is acknowledgements alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceReport>,
}

/// What a look at all replicas came to. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// When it was; left out where none was yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<u64>,
    /// Chunks.
    pub chunks: u64,
    /// Of these, those that nobody is known to have any more.
    pub lost: u64,
    /// The fewest replicas of any chunk that count and were proven within 45 days.
    pub fewest_proven: u8,
    /// Replicas of all chunks that count and were proven by an audit within 45 days.
    pub proven: u64,
    /// All others: acknowledged, and no more.
    pub acked_only: u64,
    /// When the oldest of these proofs was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_proof: Option<u64>,
    /// When the newest of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_proof: Option<u64>,
    /// A replica, or a holder, is known to count no more that may be one of those: it is not known
    /// yet whether this is hit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_worse: bool,
    /// Since when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse_since: Option<u64>,
}

/// How a snapshot is stored: see [`crate::repo::evidence`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicasWord {
    /// Nothing of it was acknowledged.
    #[default]
    Queued,
    /// Some chunk was acknowledged by too few.
    Replicating,
    /// All were acknowledged by as many as were asked for.
    Stored,
    /// And audits proved it.
    Safe,
    /// It was stored or safe, and some chunk has too few replicas that count now, or may have.
    AtRisk,
    /// Nobody is known to have some chunk.
    Lost,
}

impl std::fmt::Display for ReplicasReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { word, has, target, since, evidence } = self;
        let seen = evidence.filter(|it| it.looked_at.is_some());
        let is_behind = evidence.is_some_and(|it| it.may_be_worse);
        match (word, seen) {
            (ReplicasWord::Queued, _) => write!(f, "queued")?,
            (ReplicasWord::Replicating, _) => write!(f, "replicating {has} of {target}")?,
            (ReplicasWord::Stored, None) => write!(f, "stored {has} of {target}")?,
            (ReplicasWord::Stored, Some(it)) => {
                write!(f, "stored {has} of {target}, {} proven", it.fewest_proven)?;
            }
            (ReplicasWord::Safe, _) => write!(f, "safe")?,
            (ReplicasWord::AtRisk, _) if is_behind => write!(f, "at risk, being looked at")?,
            (ReplicasWord::AtRisk, _) => write!(f, "at risk {has} of {target}")?,
            (ReplicasWord::Lost, Some(it)) => write!(f, "lost {} of {}", it.lost, it.chunks)?,
            (ReplicasWord::Lost, None) => write!(f, "lost")?,
        }
        let at = |at_s: u64| date(i64::try_from(at_s).unwrap_or(i64::MAX));
        if let Some(since) = since {
            write!(f, " since {}", at(*since))?;
        }
        match seen.and_then(|it| it.looked_at) {
            Some(looked_at) => write!(f, " (seen {})", at(looked_at)),
            None => Ok(()),
        }
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
    fn replicas_are_told_with_what_is_proven_since_when_and_when_that_was_seen() {
        use ReplicasWord::{AtRisk, Lost, Queued, Replicating, Safe, Stored};
        let seen = EvidenceReport {
            looked_at: Some(120),
            chunks: 9,
            lost: 1,
            fewest_proven: 2,
            ..EvidenceReport::default()
        };
        let dates = " since 1970-01-01 00:01 UTC (seen 1970-01-01 00:02 UTC)";
        let words = [
            (Queued, 0, "queued"),
            (Replicating, 2, "replicating 2 of 3"),
            (Stored, 3, "stored 3 of 3, 2 proven"),
            (Safe, 3, "safe"),
            (AtRisk, 1, "at risk 1 of 3"),
            (Lost, 0, "lost 1 of 9"),
        ];
        for (word, has, text) in words {
            let (since, evidence) = (Some(60), Some(seen));
            let told = ReplicasReport { word, has, target: 3, since, evidence };
            assert_eq!(told.to_string(), format!("{text}{dates}"));
            let worse = EvidenceReport { looked_at: None, may_be_worse: true, ..seen };
            let told = ReplicasReport { evidence: Some(worse), ..told };
            let is_behind = told.to_string().starts_with("at risk, being looked at since ");
            assert_eq!(is_behind, word == AtRisk, "{told}");
        }
        let told = ReplicasReport { word: Stored, has: 3, target: 3, ..Default::default() };
        assert_eq!(told.to_string(), "stored 3 of 3");
        assert_eq!(
            serde_json::to_string(&ReplicasReport { word: AtRisk, since: Some(5), ..told })
                .unwrap(),
            r#"{"word":"at_risk","has":3,"target":3,"since":5}"#
        );
    }

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
    /// How all files that this device put are stored, together: as the worst of them. Left out
    /// where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub puts_replicas: Option<ReplicasReport>,
    /// Files that were put and have no snapshot yet.
    pub unnamed: u64,
    /// Snapshots of which a drill found something damaged or out of reach, unless it was refuted
    /// since, or by a drill of a newer one of the same paths.
    #[serde(default)]
    pub failed: Vec<SnapshotReport>,
    /// The newest snapshots of their paths that are at risk or lost.
    #[serde(default)]
    pub endangered: Vec<SnapshotReport>,
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
