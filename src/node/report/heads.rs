//! What `heads` is asked for and answers.

use super::SnapshotReport;
use serde::{Deserialize, Serialize};

/// `quloud heads`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsRequest {
    /// Records whose snapshots are wanted, by [`HeadRecordReport::name`], one of a head at most.
    #[serde(default)]
    pub records: Vec<String>,
}

/// `quloud heads --json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heads {
    /// By head, newest first.
    pub records: Vec<HeadRecordReport>,
    /// The head that this device writes; `None` where it has not chosen one.
    pub own: Option<u16>,
    /// What the records that were named lead to, oldest first.
    pub snapshots: Vec<SnapshotReport>,
}

/// One record of a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRecordReport {
    /// Names it: index, number, and the first 16 hexadecimal digits of the record's hash, with
    /// colons between them.
    pub name: String,
    /// Which head.
    pub index: u16,
    /// How often the head was written until then.
    pub number: u64,
    /// Who wrote it, 32 hexadecimal digits; `None` where it cannot be read.
    pub device: Option<String>,
    /// When it was signed by that device's clock: seconds since 1970.
    pub signed_at: Option<i64>,
    /// How many nodes keep it, of those that answered.
    pub holders: usize,
    /// No record of its head has a higher number.
    pub newest: bool,
    /// Another one has the same number, which is the highest.
    pub forked: bool,
    /// It is the newest one that this device believed.
    pub seen: bool,
}
