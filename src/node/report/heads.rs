//! What `heads` is asked for and answers.

use serde::{Deserialize, Serialize};

/// `quloud heads`: what is to count from now on. Empty: only to look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsRequest {
    /// Records that count whatever others there are, by [`HeadRecordReport::name`].
    #[serde(default)]
    pub accept: Vec<String>,
    /// Heads of which nothing counts.
    #[serde(default)]
    pub ignore: Vec<u16>,
    /// Heads whose newest record counts again.
    #[serde(default)]
    pub follow: Vec<u16>,
}

/// `quloud heads --json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Heads {
    /// By head, newest first.
    pub records: Vec<HeadRecordReport>,
    /// The head that this device writes; `None` where it has not chosen one.
    pub own: Option<u16>,
    /// The newest list of every device that counts could be read.
    pub whole: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// One record of a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRecordReport {
    /// Names it: index, number, and the first eight hexadecimal digits of the record's hash, with
    /// colons between them.
    pub name: String,
    /// Which head.
    pub index: u16,
    /// How often the head was written until then.
    pub number: u64,
    /// Who wrote it, 32 hexadecimal digits; empty where it cannot be read.
    pub device: String,
    /// When it was signed by that device's clock: seconds since 1970.
    pub signed_at: i64,
    /// How many nodes keep it.
    pub holders: usize,
    /// What it is to this device.
    pub state: RecordState,
}

/// What a record of a head is to this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// What it names counts.
    Counts,
    /// The same, because the user chose it.
    Chosen,
    /// It was superseded.
    Older,
    /// It is not older than what counts, and does not count.
    Other,
    /// This version cannot read it.
    Unreadable,
    /// Nothing of its head counts, as the user chose.
    Ignored,
}
