//! Audits and healing, as they are asked for and told.

use serde::{Deserialize, Serialize};

/// What `quloud audit` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditRequest {
    /// Only what this snapshot names: `latest`, or the first digits of an id. All that is stored
    /// where nothing is said.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// How holders prove what they have.
    #[serde(default)]
    pub kind: AuditProof,
    /// How long one part of a snapshot's tree may take, in seconds.
    pub timeout_s: u64,
}

/// How holders prove what they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditProof {
    /// One short answer for many chunks, checked with the keys alone.
    #[default]
    Compact,
    /// A MAC for each chunk whose bytes can be made again from what is here; the others compact.
    Mac,
}

/// `quloud audit --json`: names are text that does nothing to a terminal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AuditDone {
    /// Distinct chunks of which a replica was asked for.
    pub chunks: u64,
    /// Replicas that were asked for: pairs of a chunk and a node that acknowledged it.
    pub replicas: u64,
    /// Replicas that were proven.
    pub proven: u64,
    /// Of these, by a MAC over bytes that were made again here.
    #[serde(default)]
    pub by_mac: u64,
    /// Replicas of which nothing was heard: their holders are away or silent.
    pub silent: u64,
    /// Replicas whose holders were too busy for them: they are asked for again later.
    #[serde(default)]
    pub busy: u64,
    /// Replicas that are no more, by an answer: those below, of chunks that something names.
    pub damaged: u64,
    /// Replicas that are not right though their holder says so: it lied.
    pub lied: u64,
    /// Replicas that their holder says it does not have any more, or was told to let go.
    pub missing: u64,
    /// Replicas that their holder says are damaged.
    pub rotten: u64,
    /// Replicas that stand in answers which are wrong for some of them, and it is not known for
    /// which: no proof of damage, and they count as not proven.
    pub unproven: u64,
    /// Replicas that are gone and that no snapshot and no file that was put needs.
    pub unneeded: u64,
    /// Chunks that something names of which no replica is left that is not known to be gone.
    pub lost: u64,
    /// Chunks that something names and that fewer nodes are known to have than were wished for, for
    /// whatever reason.
    #[serde(default)]
    pub short: u64,
    /// Bytes of chunks that were proven, to within 3,583 bytes for each.
    pub bytes_proven: u64,
    /// Bytes of questions and answers.
    pub bytes_moved: u64,
    /// Every holder that was asked.
    pub holders: Vec<AuditedHolder>,
    /// Files that have fewer sound replicas than before: the first of them.
    pub files: Vec<AtStake>,
    /// How many there are in all.
    pub files_total: u64,
    /// Parts of snapshots that could not be read, so that not all files at stake are known.
    pub unread: u64,
    /// Wall time.
    pub seconds: f64,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// What an audit came to at one holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedHolder {
    /// Its PeerId.
    pub peer_id: String,
    /// Replicas that it was asked for.
    pub replicas: u64,
    /// See [`AuditDone`].
    pub proven: u64,
    /// See [`AuditDone`].
    pub silent: u64,
    /// See [`AuditDone`].
    #[serde(default)]
    pub busy: u64,
    /// See [`AuditDone`].
    pub damaged: u64,
    /// See [`AuditDone`].
    pub lied: u64,
    /// See [`AuditDone`].
    pub missing: u64,
    /// See [`AuditDone`].
    pub rotten: u64,
    /// See [`AuditDone`].
    pub unproven: u64,
    /// Answers for several chunks at once that were wrong.
    pub wrong_answers: u64,
    /// `proven`, `late`, `suspect`, `lost`, `damaged` or `liar`, after this audit.
    pub standing: String,
    /// Why, and since when, in words.
    pub why: String,
}

/// A name that has fewer sound replicas than before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtStake {
    /// The newest snapshot that was found to have it, 64 hexadecimal digits.
    pub snapshot: String,
    /// The file's path, or which part of the snapshot it is.
    pub name: String,
    /// How many of its chunks lost a replica.
    pub chunks: u64,
    /// Of these, how many have none left.
    pub lost: u64,
}

/// What `quloud heal` asks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HealRequest {
    /// How many nodes shall have each chunk; where nothing is said, as many as each snapshot was
    /// made for.
    #[serde(default)]
    pub replicas: Option<u8>,
    /// How long to wait for holders that take a chunk while none does, in seconds.
    pub timeout_s: u64,
}

/// `quloud heal --json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HealDone {
    /// Chunks that snapshots and files that were put name.
    pub chunks: u64,
    /// Of these, how many had fewer replicas than wanted.
    pub short: u64,
    /// Of these, how many have as many as wanted now.
    pub healed: u64,
    /// Of these, how many have more than before, and still fewer than wanted.
    pub improved: u64,
    /// Chunks with fewer replicas than wanted that can still be read.
    pub still_short: u64,
    /// Chunks that nobody who could be asked has: each takes files with it.
    pub lost: u64,
    /// The smallest number of replicas of any chunk that is not lost.
    pub fewest: u8,
    /// How many were wanted, at most.
    pub wanted: u8,
    /// Sealed bytes that were read to be stored again, from this machine or from holders.
    pub bytes_read: u64,
    /// Files that need a chunk which is lost: the first of them.
    pub files: Vec<AtStake>,
    /// How many there are in all.
    pub files_total: u64,
    /// Snapshots of which not all could be read: what they name may be short, too.
    pub unread: u64,
    /// Wall time.
    pub seconds: f64,
    /// What else the user should know.
    pub notes: Vec<String>,
}
