//! What is in snapshots, as it is asked for and told.
//!
//! Names stand in all of this as text that does nothing to a terminal: what is not plain text is
//! written with a backslash, such as `\x1b` for one byte, `\u{202e}` for one character and `\\` for
//! a backslash.

use super::Failure;
use serde::{Deserialize, Serialize};

/// One step of a list without a bound; the last is `Done` or `Failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Rows<R, D> {
    /// The next rows.
    Rows {
        /// At least one.
        rows: Vec<R>,
    },
    /// There are no more.
    Done(D),
    /// It failed.
    Failed(Failure),
}

/// What `quloud ls` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LsRequest {
    /// `latest`, or the first digits of an id.
    pub snapshot: String,
    /// Records of heads that count in place of the newest ones; none where these do.
    #[serde(default)]
    pub heads: Vec<String>,
    /// The bytes of a path as it was recorded: of a folder what is in it is listed. The top where
    /// it is empty.
    #[serde(default)]
    pub path: Vec<u8>,
    /// What is in the folders in it is listed, too.
    #[serde(default)]
    pub recursive: bool,
    /// Each row has its line for people.
    #[serde(default)]
    pub lines: bool,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// What a name of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameKind {
    /// A folder.
    Folder,
    /// A regular file, or one of its further names.
    File,
    /// A symbolic link.
    Symlink,
    /// A pipe with a name.
    Fifo,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A socket.
    Socket,
}

/// One name of a snapshot. Of a folder above what was backed up only the name was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameReport {
    /// As it was recorded, from the root.
    pub path: String,
    /// What it is.
    pub kind: NameKind,
    /// Permissions, setuid, setgid and sticky: `07777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file, by its first name; 0 for all else.
    pub bytes: u64,
    /// When it was last changed: seconds since 1970.
    pub modified_at: i64,
    /// And nanoseconds.
    pub modified_ns: u32,
    /// Where a symbolic link leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The first name of the file that this is another one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// Only the name was recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub implied: bool,
    /// What is in it could not be read when it was backed up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
    /// A line about it for people, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// The end of `quloud ls --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsDone {
    /// The snapshot's id, 64 hexadecimal digits.
    pub snapshot: String,
    /// When it was made: seconds since 1970.
    pub created_at: i64,
    /// How many names were listed.
    pub names: u64,
    /// Names that could not be read; the rest is listed.
    pub lost_names: u64,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// What `quloud diff` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DiffRequest {
    /// The first snapshot: `latest`, or the first digits of an id.
    pub before: String,
    /// The second.
    pub after: String,
    /// Each row has its line for people.
    #[serde(default)]
    pub lines: bool,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// How a name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is only in the second snapshot.
    Added,
    /// It is only in the first snapshot.
    Removed,
    /// What is in it differs, or where it leads to.
    Content,
    /// Mode, owner, time of change or extended attributes differ, and nothing else.
    Metadata,
    /// It is something else now.
    Type,
}

/// One name that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRow {
    /// The name.
    pub path: String,
    /// How it differs.
    pub change: ChangeKind,
    /// As it is in the first snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<NameReport>,
    /// As it is in the second snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<NameReport>,
    /// A line about it for people, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// Names in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesTally {
    /// Regular files, one name of each.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, pipes, devices, sockets.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// The end of `quloud diff --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffDone {
    /// The first snapshot's id, 64 hexadecimal digits.
    pub before: String,
    /// The second one's.
    pub after: String,
    /// What is only in the second.
    pub added: NamesTally,
    /// What is only in the first.
    pub removed: NamesTally,
    /// What has other content or is something else, as it is in the first.
    pub changed_before: NamesTally,
    /// The same as it is in the second.
    pub changed_after: NamesTally,
    /// Names of which only what is recorded differs.
    pub metadata: u64,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// What `quloud find` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FindRequest {
    /// Patterns as in a .gitignore: of those that match the last one decides.
    pub patterns: Vec<String>,
    /// Only in these snapshots; in all of them where there are none.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// The bytes of a path: only that, and what lies in it. All where it is empty.
    #[serde(default)]
    pub path: Vec<u8>,
    /// Only these kinds; all where there are none.
    #[serde(default)]
    pub kinds: Vec<NameKind>,
    /// Only what was last changed at this time or later: seconds since 1970.
    #[serde(default)]
    pub modified_from: Option<i64>,
    /// Only what was last changed at this time or earlier: seconds since 1970.
    #[serde(default)]
    pub modified_to: Option<i64>,
    /// Only files of so many bytes or more.
    #[serde(default)]
    pub bytes_min: Option<u64>,
    /// Only files of so many bytes or fewer.
    #[serde(default)]
    pub bytes_max: Option<u64>,
    /// Each row has its line for people.
    #[serde(default)]
    pub lines: bool,
    /// How long one chunk may take, in seconds.
    pub timeout_s: u64,
}

/// One name that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindRow {
    /// In which snapshot: its id, 64 hexadecimal digits.
    pub snapshot: String,
    /// When that was made: seconds since 1970.
    pub created_at: i64,
    /// What was found.
    #[serde(flatten)]
    pub name: NameReport,
}

/// The end of `quloud find --json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindDone {
    /// In how many snapshots was looked.
    pub snapshots: u64,
    /// How many names were found, each as often as there are snapshots with it.
    pub names: u64,
    /// Names that could not be read, and so not looked at.
    pub lost_names: u64,
    /// Snapshots that could not be read at all, each with why.
    pub unread: Vec<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}
