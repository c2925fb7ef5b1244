//! Forgetting snapshots, as it is asked for and told.

use super::SnapshotReport;
use serde::{Deserialize, Serialize};

/// What `quloud forget` asks: either snapshots by their ids, or a policy for all that the filters
/// leave.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ForgetRequest {
    /// These: `latest`, or the first digits of an id.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// What is kept of the others.
    #[serde(default)]
    pub keep: KeepOptions,
    /// What snapshots are put into groups by: some of `host`, `paths` and `tags`, with commas
    /// between them; `host,paths` where nothing is said.
    #[serde(default)]
    pub group_by: Option<String>,
    /// Only those of these hosts; of all where there are none.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only those with all tags of one of these lists, which have commas between them.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Only those of all these paths, which are absolute and without `..`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Nothing is forgotten: what would be is told.
    #[serde(default)]
    pub dry_run: bool,
    /// Distinct nodes that shall keep what is written of it, 1 to 32; as many as of this device's
    /// last snapshot where nothing is said.
    #[serde(default)]
    pub replicas: Option<u8>,
    /// How long it may wait for these, in seconds.
    pub timeout_s: u64,
}

/// The options of a policy, as a user writes them: numbers or `unlimited`, spans like `1y6m7d12h`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeepOptions {
    /// The newest ones.
    pub last: Option<String>,
    /// One an hour.
    pub hourly: Option<String>,
    /// One a day.
    pub daily: Option<String>,
    /// One a week.
    pub weekly: Option<String>,
    /// One a month.
    pub monthly: Option<String>,
    /// One a year.
    pub yearly: Option<String>,
    /// All of a span before the newest.
    pub within: Option<String>,
    /// One an hour of a span.
    pub within_hourly: Option<String>,
    /// One a day of a span.
    pub within_daily: Option<String>,
    /// One a week of a span.
    pub within_weekly: Option<String>,
    /// One a month of a span.
    pub within_monthly: Option<String>,
    /// One a year of a span.
    pub within_yearly: Option<String>,
    /// All with the tags of one of these lists, which have commas between them.
    pub tags: Vec<String>,
}

/// One snapshot, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetRow {
    /// The snapshot.
    #[serde(flatten)]
    pub snapshot: SnapshotReport,
    /// What its group has in common, in words; those of a group stand together, newest first.
    pub group: String,
    /// It stays.
    pub kept: bool,
    /// Why it does; empty where it does not.
    pub reasons: Vec<String>,
}

/// The end of `quloud forget --json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ForgetDone {
    /// Nothing was forgotten.
    pub dry_run: bool,
    /// Groups that the policy was applied to.
    pub groups: u64,
    /// Snapshots that stay, of those that the filters leave.
    pub kept: u64,
    /// Snapshots that are forgotten. Their chunks stay with the holders.
    pub forgotten: u64,
    /// How many nodes keep what was written of it; fewer than were wished for are made up for
    /// later. `None` where nothing was written.
    pub replicas: Option<u8>,
    /// As many as were wished for.
    pub replicas_wished: u8,
    /// Wall time.
    pub seconds: f64,
    /// What else the user should know.
    pub notes: Vec<String>,
}
