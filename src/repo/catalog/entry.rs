//! What the catalogue remembers, one entry at a time, and its bytes. Pure.
//!
//! Layout: a tag byte, then the fields in the order of the types below, integers little-endian,
//! texts with their length as a `u16` in front. Entries follow each other without a gap; what
//! encloses them says where they end.

mod audit;
mod due;
mod evidence;
mod head;
mod made;
mod proven;
mod prune;
mod rebuild;
mod verified;

use crate::repo::debt::Debt;
pub use crate::repo::evidence::SnapshotEvidence;
pub use audit::{HolderAudited, Loss, ReplicaLost, Silence};
pub use due::SnapshotDue;
pub use head::{Device, HeadKept, HeadSeen};
pub use made::BackupMade;
pub(super) use proven::PROVEN_CHUNKS_MAX;
pub use proven::Proven;
pub use prune::{
    ASKED_MAX, AWAITED_MAX, OpenPrune, PruneNote, SnapshotForgotten, SnapshotSeen, ToLookAfter,
};
pub use rebuild::{Listing, ListingState, RebuildNote};
pub use verified::Verified;

use crate::core::types::{ChunkId, LeaseNonce, Locality, NodeId, StoreEpoch};
use crate::crypto::capability::Capability;
use crate::crypto::keys::ChunkKey;
use std::path::{Path, PathBuf};

/// Names one put, for as long as it is in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A put begins: enough to do all of it again, after a restart too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutStarted {
    /// Its name.
    pub job: JobId,
    /// The file, absolute.
    pub path: PathBuf,
    /// The file's length when it was opened.
    pub bytes: u64,
    /// Its time of change when it was opened: nanoseconds since 1970.
    pub modified_ns: i64,
    /// How many nodes shall hold each chunk.
    pub replicas: u8,
    /// Where its chunks' topics are: the same in every try, or the listings would differ.
    pub locality: Locality,
    /// Seconds since 1970.
    pub started_at: u64,
}

/// A node acknowledged a chunk, and its ack was verified; or it said that it keeps the chunk when
/// it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkAcked {
    /// The chunk.
    pub chunk: ChunkId,
    /// Who.
    pub node: NodeId,
    /// The lease's name there.
    pub lease: LeaseNonce,
    /// The store that holds it. One ack under another epoch voids the node's earlier ones: its
    /// store was made anew.
    pub epoch: StoreEpoch,
}

/// A file on the mesh.
#[derive(Debug)]
pub struct PutRoot {
    /// The put that made it.
    pub job: JobId,
    /// The file's name.
    pub name: String,
    /// The root, and the right to read it.
    pub capability: Capability,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Chunks, the listings included.
    pub chunks: u64,
    /// Their sealed bytes, one copy.
    pub sealed_bytes: u64,
    /// How many nodes shall hold each chunk.
    pub target: u8,
    /// The smallest number of nodes that acknowledged any chunk.
    pub replicas: u8,
    /// Seconds since 1970.
    pub put_at: u64,
    /// A snapshot names it, or is to. Nothing but its capability leads to one without, and no
    /// prune ever drops that.
    pub named: bool,
}

/// One line of the catalogue.
#[derive(Debug)]
pub enum Entry {
    /// A put is in the outbox from now on.
    PutStarted(PutStarted),
    /// One more replica of a chunk.
    ChunkAcked(ChunkAcked),
    /// Every chunk reached its quorum: the put leaves the outbox, its root is kept.
    PutDone(PutRoot),
    /// All was sealed and handed over, some chunks are short: the put stays in the outbox.
    PutShort(PutRoot),
    /// At least one chunk of the put has a replica.
    PutAcked(JobId),
    /// The put's file cannot be opened.
    SourceAway {
        /// The put.
        job: JobId,
        /// Since when: seconds since 1970. `None` when it can be opened again.
        since: Option<u64>,
    },
    /// The put cannot go on: it leaves the outbox without a root.
    JobDropped(JobDropped),
    /// Which device of the owner this folder is.
    Device(Device),
    /// A record of a head that was checked, or that this device made and is about to send.
    HeadSeen(HeadSeen),
    /// That record is held by as many as were wished for, or was served by these.
    HeadKept(HeadKept),
    /// A file was put, and is to be named by a snapshot. Stands before its [`Self::PutDone`].
    SnapshotDue(SnapshotDue),
    /// It is, or never can be.
    SnapshotDone(JobId),
    /// All nodes were asked for the heads of all devices.
    LookedAround {
        /// When: seconds since 1970.
        at: u64,
    },
    /// A snapshot was read back from its holders.
    Verified(Verified),
    /// A backup made a snapshot, or more is known of how that is stored.
    BackupMade(BackupMade),
    /// All replicas of such a snapshot were looked at.
    SnapshotEvidence(SnapshotEvidence),
    /// What letting chunks go has to know.
    Prune(PruneNote),
    /// How far the catalogue is filled anew.
    Rebuild(RebuildNote),
    /// A holder keeps these. Stands in a file of its own, and not in the journal.
    Proven(Proven),
    /// An audit proved that a holder keeps these. Stands in that file, too.
    Audited(Proven),
    /// The first of that file: what was shown before so many entries of the journal.
    ShownUpTo {
        /// Entries.
        entries: u64,
    },
    /// A replica of a chunk is there no more: its holder is none, until it acknowledges the chunk
    /// anew.
    ReplicaLost(ReplicaLost),
    /// A chunk was acknowledged, and nobody is known to have it any more.
    ChunkNowhere(ChunkId),
    /// An audit of a holder ended with answers, to all that was asked or to some.
    HolderAudited(HolderAudited),
    /// A holder was asked for an audit, and did not answer.
    HolderSilent {
        /// Who.
        node: NodeId,
        /// When: seconds since 1970.
        at_s: u64,
    },
    /// What such entries of one holder came to, since it last answered.
    HolderSilence {
        /// Who.
        node: NodeId,
        /// What they came to.
        silence: Silence,
    },
    /// A holder proved a chunk, and did not hand it over when it was asked for it.
    HolderWithheld {
        /// Who.
        node: NodeId,
        /// When: seconds since 1970.
        at_s: u64,
    },
    /// What such entries of one holder came to, since it last handed a chunk over.
    HolderWithholds {
        /// Who.
        node: NodeId,
        /// What they came to.
        silence: Silence,
    },
    /// A holder that did so handed over all that it was asked for, or has nothing any more that it
    /// could be asked for.
    HolderServed {
        /// Who.
        node: NodeId,
    },
    /// A holder answered for its part of a day.
    HolderHadDay {
        /// Who.
        node: NodeId,
        /// When it was asked: seconds since 1970.
        at_s: u64,
    },
    /// What a holder owes an answer for, in place of what it owed before: nothing where that is
    /// empty.
    HolderOwes {
        /// Who.
        node: NodeId,
        /// What.
        debt: Debt,
    },
    /// A holder answered wrongly for what it said it has, as [`Self::ReplicaLost`] told.
    HolderLied {
        /// Who.
        node: NodeId,
        /// When, the last time: seconds since 1970.
        at_s: u64,
    },
    /// A node has lost a store, or all that it held of the owner's there: what it acknowledged with
    /// it counts no more, nor do its proofs. Of the same store only what is acknowledged after this
    /// counts.
    StoreGone {
        /// Who.
        node: NodeId,
        /// Which store.
        epoch: StoreEpoch,
        /// When that was found: seconds since 1970.
        at_s: u64,
    },
}

/// A put that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDropped {
    /// Its name.
    pub job: JobId,
    /// The file, absolute.
    pub path: PathBuf,
    /// Why, in words for the user.
    pub why: String,
    /// Seconds since 1970.
    pub dropped_at: u64,
}

const PUT_STARTED: u8 = 1;
const CHUNK_ACKED: u8 = 2;
const PUT_DONE: u8 = 3;
const PUT_SHORT: u8 = 4;
/// Without a path and a reason: read, not written any more.
const JOB_DROPPED_BARE: u8 = 5;
const PUT_ACKED: u8 = 6;
const SOURCE_AWAY: u8 = 7;
const JOB_DROPPED: u8 = 8;
const DEVICE: u8 = 9;
const HEAD_SEEN: u8 = 10;
const HEAD_KEPT: u8 = 11;
const LOOKED_AROUND: u8 = 20;
const SNAPSHOT_DUE: u8 = 21;
const SNAPSHOT_DONE: u8 = 22;
const VERIFIED: u8 = 32;
const PROVEN: u8 = 33;
const BACKUP_MADE: u8 = 34;
const AUDITED: u8 = 35;
const SHOWN_UP_TO: u8 = 36;
const SNAPSHOT_EVIDENCE: u8 = 37;

const NAMED: u8 = 1;

/// A text does not fit its length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name of {0} bytes is too long for the catalogue")]
pub struct TooLong(pub usize);

/// Bytes that are no entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue holds an entry that this version does not know")]
pub struct UnknownEntry;

/// A tag and a number.
fn put_u64(tag: u8, number: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&number.to_le_bytes());
}

impl Entry {
    /// Appends the entry's bytes; nothing where it fails.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::PutStarted(started) => started.encode(out),
            Self::PutDone(root) => root.encode(PUT_DONE, out),
            Self::PutShort(root) => root.encode(PUT_SHORT, out),
            Self::JobDropped(dropped) => dropped.encode(out),
            Self::HeadKept(kept) => kept.encode(out),
            Self::SnapshotDue(due) => due.encode(out),
            Self::BackupMade(made) => made.encode(out),
            short => {
                short.encode_short(out);
                Ok(())
            }
        }
    }

    /// What always fits; nothing for the others.
    fn encode_short(&self, out: &mut Vec<u8>) {
        match self {
            Self::ChunkAcked(acked) => {
                out.push(CHUNK_ACKED);
                out.extend_from_slice(acked.chunk.as_bytes());
                out.extend_from_slice(acked.node.as_bytes());
                out.extend_from_slice(acked.lease.as_bytes());
                out.extend_from_slice(acked.epoch.as_bytes());
            }
            Self::PutAcked(job) => put_u64(PUT_ACKED, job.0, out),
            Self::SourceAway { job, since } => {
                put_u64(SOURCE_AWAY, job.0, out);
                out.extend_from_slice(&since.unwrap_or(0).to_le_bytes());
            }
            Self::Device(device) => device.encode(out),
            Self::HeadSeen(seen) => seen.encode(out),
            Self::SnapshotDone(job) => put_u64(SNAPSHOT_DONE, job.0, out),
            Self::LookedAround { at } => put_u64(LOOKED_AROUND, *at, out),
            Self::Verified(verified) => verified.encode(out),
            Self::SnapshotEvidence(evidence) => evidence.encode(out),
            Self::Prune(note) => note.encode(out),
            Self::Rebuild(note) => note.encode(out),
            Self::Proven(proven) => proven.encode(PROVEN, out),
            Self::Audited(proven) => proven.encode(AUDITED, out),
            Self::ShownUpTo { entries } => put_u64(SHOWN_UP_TO, *entries, out),
            Self::ReplicaLost(_)
            | Self::ChunkNowhere(_)
            | Self::HolderAudited(_)
            | Self::HolderSilent { .. }
            | Self::HolderSilence { .. }
            | Self::HolderWithheld { .. }
            | Self::HolderWithholds { .. }
            | Self::HolderServed { .. }
            | Self::HolderHadDay { .. }
            | Self::HolderOwes { .. }
            | Self::HolderLied { .. }
            | Self::StoreGone { .. } => audit::encode(self, out),
            Self::PutStarted(_)
            | Self::PutDone(_)
            | Self::PutShort(_)
            | Self::JobDropped(_)
            | Self::HeadKept(_)
            | Self::SnapshotDue(_)
            | Self::BackupMade(_) => {}
        }
    }

    /// Takes the next entry off the front.
    ///
    /// # Errors
    /// [`UnknownEntry`], whatever the input.
    pub fn decode(from: &mut &[u8]) -> Result<Self, UnknownEntry> {
        let mut fields = Fields(from);
        let entry = Self::decode_fields(&mut fields).ok_or(UnknownEntry)?;
        *from = fields.0;
        Ok(entry)
    }

    fn decode_fields(from: &mut Fields<'_>) -> Option<Self> {
        let [tag] = from.array()?;
        match tag {
            PUT_STARTED => PutStarted::decode(from).map(Self::PutStarted),
            CHUNK_ACKED => Some(Self::ChunkAcked(ChunkAcked {
                chunk: ChunkId::from_bytes(from.array()?),
                node: NodeId::from_bytes(from.array()?),
                lease: LeaseNonce::from_bytes(from.array()?),
                epoch: StoreEpoch::from_bytes(from.array()?),
            })),
            PUT_DONE => PutRoot::decode(from).map(Self::PutDone),
            PUT_SHORT => PutRoot::decode(from).map(Self::PutShort),
            PUT_ACKED => Some(Self::PutAcked(JobId(from.number()?))),
            SOURCE_AWAY => Some(Self::SourceAway {
                job: JobId(from.number()?),
                since: Some(from.number()?).filter(|since| *since > 0),
            }),
            JOB_DROPPED => JobDropped::decode(from).map(Self::JobDropped),
            DEVICE => Device::decode(from).map(Self::Device),
            HEAD_SEEN => HeadSeen::decode(from).map(Self::HeadSeen),
            HEAD_KEPT => HeadKept::decode(from).map(Self::HeadKept),
            SNAPSHOT_DUE => SnapshotDue::decode(from).map(Self::SnapshotDue),
            SNAPSHOT_DONE => Some(Self::SnapshotDone(JobId(from.number()?))),
            LOOKED_AROUND => Some(Self::LookedAround { at: from.number()? }),
            VERIFIED => Verified::decode(from).map(Self::Verified),
            PROVEN => Proven::decode(from).map(Self::Proven),
            AUDITED => Proven::decode(from).map(Self::Audited),
            SHOWN_UP_TO => Some(Self::ShownUpTo { entries: from.number()? }),
            BACKUP_MADE => BackupMade::decode(from).map(Self::BackupMade),
            SNAPSHOT_EVIDENCE => SnapshotEvidence::decode(from),
            JOB_DROPPED_BARE => Some(Self::JobDropped(JobDropped {
                job: JobId(from.number()?),
                path: PathBuf::new(),
                why: String::new(),
                dropped_at: 0,
            })),
            rebuild::BEGUN | rebuild::LISTING | rebuild::DONE => {
                RebuildNote::decode(tag, from).map(Self::Rebuild)
            }
            tag @ audit::FIRST..=audit::LAST => audit::decode(tag, from),
            tag => PruneNote::decode(tag, from).map(Self::Prune),
        }
    }
}

impl PutStarted {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let path = self.path.as_os_str().as_encoded_bytes();
        let length = text_length(path)?;
        out.push(PUT_STARTED);
        out.extend_from_slice(&self.job.0.to_le_bytes());
        out.extend_from_slice(&length);
        out.extend_from_slice(path);
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.modified_ns.to_le_bytes());
        out.push(self.replicas);
        out.extend_from_slice(&self.locality.0.to_le_bytes());
        out.extend_from_slice(&self.started_at.to_le_bytes());
        Ok(())
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            job: JobId(from.number()?),
            path: path_of(from.text()?)?,
            bytes: from.number()?,
            modified_ns: i64::from_le_bytes(from.array()?),
            replicas: from.byte()?,
            locality: Locality(u16::from_le_bytes(from.array()?)),
            started_at: from.number()?,
        })
    }

    /// The file's name, for people.
    pub fn name(&self) -> String {
        let name = self.path.file_name().map_or(self.path.as_path(), Path::new);
        name.to_string_lossy().into_owned()
    }
}

impl JobDropped {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let (path, why) = (self.path.as_os_str().as_encoded_bytes(), self.why.as_bytes());
        let (path_length, why_length) = (text_length(path)?, text_length(why)?);
        out.push(JOB_DROPPED);
        out.extend_from_slice(&self.job.0.to_le_bytes());
        out.extend_from_slice(&path_length);
        out.extend_from_slice(path);
        out.extend_from_slice(&why_length);
        out.extend_from_slice(why);
        out.extend_from_slice(&self.dropped_at.to_le_bytes());
        Ok(())
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            job: JobId(from.number()?),
            path: path_of(from.text()?)?,
            why: String::from_utf8(from.text()?.to_vec()).ok()?,
            dropped_at: from.number()?,
        })
    }
}

impl PutRoot {
    pub(super) fn encode(&self, tag: u8, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let length = text_length(self.name.as_bytes())?;
        out.push(tag);
        out.extend_from_slice(&self.job.0.to_le_bytes());
        out.extend_from_slice(&length);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(self.capability.id.as_bytes());
        out.extend_from_slice(&self.capability.locality.0.to_le_bytes());
        out.extend_from_slice(self.capability.ck.expose());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.chunks.to_le_bytes());
        out.extend_from_slice(&self.sealed_bytes.to_le_bytes());
        out.extend_from_slice(&[self.target, self.replicas]);
        out.extend_from_slice(&self.put_at.to_le_bytes());
        out.push(if self.named { NAMED } else { 0 });
        Ok(())
    }

    pub(super) fn encode_done(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        self.encode(PUT_DONE, out)
    }

    pub(super) fn encode_short(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        self.encode(PUT_SHORT, out)
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            job: JobId(from.number()?),
            name: String::from_utf8(from.text()?.to_vec()).ok()?,
            capability: Capability {
                id: ChunkId::from_bytes(from.array()?),
                locality: Locality(u16::from_le_bytes(from.array()?)),
                ck: ChunkKey::from_bytes(from.array()?),
            },
            bytes: from.number()?,
            chunks: from.number()?,
            sealed_bytes: from.number()?,
            target: from.byte()?,
            replicas: from.byte()?,
            put_at: from.number()?,
            named: match from.byte()? {
                0 => false,
                NAMED => true,
                _ => return None,
            },
        })
    }
}

fn text_length(text: &[u8]) -> Result<[u8; 2], TooLong> {
    let length = u16::try_from(text.len()).map_err(|_| TooLong(text.len()))?;
    Ok(length.to_le_bytes())
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    String::from_utf8(bytes.to_vec()).ok().map(PathBuf::from)
}

/// Fields of a layout, taken off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes(self.array()?);
        let (head, tail) = self.0.split_at_checked(length.into())?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
pub(super) mod tests;
