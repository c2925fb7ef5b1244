//! What the catalogue remembers, one entry at a time, and its bytes. Pure.
//!
//! Layout: a tag byte, then the fields in the order of the types below, integers little-endian,
//! texts with their length as a `u16` in front. Entries follow each other without a gap; what
//! encloses them says where they end.

mod due;
mod head;
mod made;
mod proven;
mod prune;
mod rebuild;
mod verified;

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
    /// What letting chunks go has to know.
    Prune(PruneNote),
    /// How far the catalogue is filled anew.
    Rebuild(RebuildNote),
    /// A holder keeps these. Stands in a file of its own, and not in the journal.
    Proven(Proven),
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

const NAMED: u8 = 1;

/// A text does not fit its length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name of {0} bytes is too long for the catalogue")]
pub struct TooLong(pub usize);

/// Bytes that are no entry of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue holds an entry that this version does not know")]
pub struct UnknownEntry;

impl Entry {
    /// Appends the entry's bytes; nothing where it fails.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::PutStarted(started) => started.encode(out),
            Self::ChunkAcked(acked) => {
                out.push(CHUNK_ACKED);
                out.extend_from_slice(acked.chunk.as_bytes());
                out.extend_from_slice(acked.node.as_bytes());
                out.extend_from_slice(acked.lease.as_bytes());
                out.extend_from_slice(acked.epoch.as_bytes());
                Ok(())
            }
            Self::PutDone(root) => root.encode(PUT_DONE, out),
            Self::PutShort(root) => root.encode(PUT_SHORT, out),
            Self::PutAcked(job) => {
                out.push(PUT_ACKED);
                out.extend_from_slice(&job.0.to_le_bytes());
                Ok(())
            }
            Self::SourceAway { job, since } => {
                out.push(SOURCE_AWAY);
                out.extend_from_slice(&job.0.to_le_bytes());
                out.extend_from_slice(&since.unwrap_or(0).to_le_bytes());
                Ok(())
            }
            Self::JobDropped(dropped) => dropped.encode(out),
            Self::Device(device) => {
                device.encode(out);
                Ok(())
            }
            Self::HeadSeen(seen) => {
                seen.encode(out);
                Ok(())
            }
            Self::HeadKept(kept) => kept.encode(out),
            Self::SnapshotDue(due) => due.encode(out),
            Self::SnapshotDone(job) => {
                out.push(SNAPSHOT_DONE);
                out.extend_from_slice(&job.0.to_le_bytes());
                Ok(())
            }
            Self::LookedAround { at } => {
                out.push(LOOKED_AROUND);
                out.extend_from_slice(&at.to_le_bytes());
                Ok(())
            }
            Self::Verified(verified) => {
                verified.encode(out);
                Ok(())
            }
            Self::BackupMade(made) => made.encode(out),
            Self::Prune(note) => {
                note.encode(out);
                Ok(())
            }
            Self::Rebuild(note) => {
                note.encode(out);
                Ok(())
            }
            Self::Proven(proven) => {
                proven.encode(out);
                Ok(())
            }
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
            BACKUP_MADE => BackupMade::decode(from).map(Self::BackupMade),
            JOB_DROPPED_BARE => Some(Self::JobDropped(JobDropped {
                job: JobId(from.number()?),
                path: PathBuf::new(),
                why: String::new(),
                dropped_at: 0,
            })),
            rebuild::BEGUN | rebuild::LISTING | rebuild::DONE => {
                RebuildNote::decode(tag, from).map(Self::Rebuild)
            }
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
pub(super) mod tests {
    pub(in super::super) use super::made::tests::made;
    pub(in super::super) use super::prune::tests::{forgotten, seen, to_look_after};
    use super::*;
    use crate::core::types::DeviceId;
    use crate::crypto::head::HeadKeys;
    use proptest::prelude::*;
    use rand::SeedableRng;

    pub(in super::super) fn started(job: u64) -> PutStarted {
        PutStarted {
            job: JobId(job),
            path: format!("/home/someone/file {job}").into(),
            bytes: 1 << 40,
            modified_ns: -5,
            replicas: 3,
            locality: Locality(0xabcd),
            started_at: 1_800_000_000,
        }
    }

    pub(in super::super) fn root(job: u64) -> PutRoot {
        let id = ChunkId::from_bytes([u8::try_from(job % 256).unwrap(); 32]);
        let ck = ChunkKey::from_bytes([7; 32]);
        PutRoot {
            job: JobId(job),
            name: format!("file {job}"),
            capability: Capability { id, locality: Locality(9), ck },
            bytes: 1 << 41,
            chunks: 5,
            sealed_bytes: 1 << 42,
            target: 3,
            replicas: 2,
            put_at: 1_800_000_001,
            named: job.is_multiple_of(2),
        }
    }

    /// Of the put that [`started`] makes under the same number.
    pub(in super::super) fn dropped(job: u64) -> JobDropped {
        JobDropped {
            job: JobId(job),
            path: started(job).path,
            why: "it changed".to_owned(),
            dropped_at: 1_800_000_003,
        }
    }

    pub(in super::super) fn due(job: u64) -> SnapshotDue {
        SnapshotDue {
            job: JobId(job),
            began_ns: -6,
            replicas: 3,
            partial: true,
            new_bytes: 1 << 43,
            entries: vec![7; 70].into(),
        }
    }

    pub(in super::super) fn acked(chunk: u32, node: u8, epoch: u8) -> ChunkAcked {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&chunk.to_be_bytes());
        ChunkAcked {
            chunk: ChunkId::from_bytes(id),
            node: NodeId::from_bytes([node; 32]),
            lease: LeaseNonce::from_bytes([1; 16]),
            epoch: StoreEpoch::from_bytes([epoch; 16]),
        }
    }

    pub(in super::super) fn head(index: u16, number: u64) -> HeadSeen {
        let owner = crate::repo::fixture::owner(1);
        let keys = HeadKeys::derive(&owner.head, 0, index);
        let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
        let number = std::num::NonZeroU64::new(number).unwrap();
        HeadSeen { index, record: keys.make(number, [0; 32], b"payload", &mut rng).unwrap() }
    }

    pub(in super::super) fn kept(index: u16, number: u64) -> HeadKept {
        let holders = vec![NodeId::from_bytes([4; 32]), NodeId::from_bytes([5; 32])];
        HeadKept { generation: 0, index, number, holders }
    }

    pub(in super::super) fn verified(snapshot: u8, at: u64, damaged: u64) -> Verified {
        let snapshot = crate::core::types::SnapshotId::from_bytes([snapshot; 32]);
        Verified { snapshot, at, sample_ppm: 50_000, bytes: 7, damaged, away: 0 }
    }

    fn all() -> Vec<Entry> {
        vec![
            Entry::PutStarted(started(1)),
            Entry::ChunkAcked(acked(2, 3, 4)),
            Entry::PutShort(root(5)),
            Entry::PutDone(root(6)),
            Entry::PutAcked(JobId(7)),
            Entry::SourceAway { job: JobId(8), since: Some(1_800_000_002) },
            Entry::SourceAway { job: JobId(8), since: None },
            Entry::JobDropped(dropped(9)),
            Entry::Device(Device { id: DeviceId::from_bytes([3; 16]), index: 7 }),
            Entry::HeadSeen(head(2, 1)),
            Entry::HeadKept(kept(2, 1)),
            Entry::LookedAround { at: 1_800_000_004 },
            Entry::SnapshotDue(due(10)),
            Entry::SnapshotDone(JobId(11)),
            Entry::Verified(verified(1, 2, 3)),
            Entry::BackupMade(made(1, 2, 1)),
            Entry::Proven(Proven {
                node: NodeId::from_bytes([4; 32]),
                epoch: StoreEpoch::from_bytes([5; 16]),
                at_s: 1_800_000_005,
                chunks: vec![1, u64::MAX],
            }),
            Entry::Rebuild(RebuildNote::Begun { ids_max: 1 << 40, holders: 3 }),
            Entry::Rebuild(RebuildNote::Listing(Listing::new(NodeId::from_bytes([6; 32])))),
            Entry::Rebuild(RebuildNote::Listing(Listing {
                store: Some(StoreEpoch::from_bytes([7; 16])),
                after: ChunkId::from_bytes([8; 32]),
                listed: 1 << 33,
                live: 1 << 34,
                new: 1 << 35,
                state: ListingState::GivenUp,
                ..Listing::new(NodeId::from_bytes([9; 32]))
            })),
            Entry::Rebuild(RebuildNote::Done),
        ]
        .into_iter()
        .chain(prune::tests::all().into_iter().map(Entry::Prune))
        .collect()
    }

    #[test]
    fn a_drop_of_an_earlier_version_is_read() {
        let bytes = [&[JOB_DROPPED_BARE][..], &7_u64.to_le_bytes()].concat();
        let entry = Entry::decode(&mut bytes.as_slice()).unwrap();
        assert!(matches!(entry, Entry::JobDropped(dropped) if dropped.job == JobId(7)));
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut bytes = Vec::new();
        all().iter().for_each(|entry| entry.encode(&mut bytes).unwrap());
        let mut rest = bytes.as_slice();
        for entry in all() {
            let back = Entry::decode(&mut rest).unwrap();
            assert_eq!(format!("{back:?}"), format!("{entry:?}"));
            if let (Entry::PutDone(a), Entry::PutDone(b)) = (&back, &entry) {
                assert_eq!(a.capability.ck.expose(), b.capability.ck.expose());
            }
            if let (Entry::SnapshotDue(a), Entry::SnapshotDue(b)) = (&back, &entry) {
                let rest = |due: &SnapshotDue| (due.replicas, due.partial, due.new_bytes);
                assert_eq!((rest(a), &a.entries), (rest(b), &b.entries));
            }
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn an_entry_cut_short_is_refused() {
        for entry in all() {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes).unwrap();
            for length in 0..bytes.len() {
                assert!(Entry::decode(&mut &bytes[..length]).is_err(), "{entry:?} at {length}");
            }
        }
    }

    #[test]
    fn a_name_that_is_too_long_writes_nothing() {
        let mut bytes = Vec::new();
        let long = PutRoot { name: "n".repeat(65_536), ..root(1) };
        assert_eq!(Entry::PutDone(long).encode(&mut bytes), Err(TooLong(65_536)));
        assert!(bytes.is_empty());
    }

    #[test]
    fn no_secret_is_printed() {
        let text = format!("{:?}", Entry::PutDone(root(1)));
        assert!(text.contains("ChunkKey(..)") && !text.contains("7, 7"), "{text}");
        let text = format!("{:?}", Entry::SnapshotDue(due(1)));
        assert!(!text.contains("7, 7"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_cleanly(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            tag in 0..96_u8,
        ) {
            let _ = Entry::decode(&mut bytes.as_slice());
            if let Some(first) = bytes.first_mut() {
                *first = tag;
            }
            let _ = Entry::decode(&mut bytes.as_slice());
        }
    }
}
