//! Snapshots: what was backed up, when, by which device, and the tree of it. Pure.
//!
//! Layout of the plaintext of a frame of kind [`Snapshot`](super::frame::Kind::Snapshot), at most
//! 64 KiB, integers little-endian; a text of `n` has its length in front as a `u8`, a path as a
//! `u16`:
//!
//! ```text
//! version u8 = 1 | flags u8 (1 partial, 2 put, 4 empty) | device 16 | created i64 ns
//! | offset from UTC i16 minutes | tree: level u8, reference 74 | parent 32 (zeros: none)
//! | files u64 | folders u64 | others u64 | bytes u64 | new bytes u64 | unreadable u64 | nonce 16
//! | host text | roots: count u16, paths | tags: count u8, texts | excludes: count u16, paths
//! | program text
//! ```
//!
//! Files, folders and others together are the tree's entries, `bytes` are those of its reference.
//! An empty snapshot has no tree: level and reference are zeros. The nonce is random, so that two
//! snapshots are never one, and
//!
//! ```text
//! snapshot id = SHA-256("quloud/v1/snapshot" || plaintext)
//! ```

use super::fields::{put_path, put_text, take, take_path, take_text};
use super::reference::{ChunkRef, REF_BYTES};
use super::tree::{ENTRIES_MAX, TREE_LEVEL_MAX, TreeRoot, path};
use crate::core::types::{DeviceId, SnapshotId};
use crate::crypto::sha256;
use bytes::Buf;
use zeroize::Zeroizing;

/// The longest snapshot.
pub const SNAPSHOT_BYTES_MAX: usize = 64 << 10;

/// The most that all patterns take in a snapshot. With those of roots and tags this leaves room for
/// all else, so that what is bounded before a backup begins can be recorded at its end.
pub const EXCLUDES_BYTES_MAX: usize = 40 << 10;

/// The most that all roots take.
pub const ROOTS_BYTES_MAX: usize = 16 << 10;

/// The most that all tags take.
pub const TAGS_BYTES_MAX: usize = 6 << 10;

/// What a pattern or a root takes in a snapshot, its length included.
pub fn recorded_bytes(path: &[u8]) -> usize {
    path.len().saturating_add(2)
}

/// Whether a snapshot can have these tags.
///
/// # Errors
/// [`SnapshotFault::Text`]: one of more than 255 bytes, more than 255, or more than
/// [`TAGS_BYTES_MAX`] in all.
pub fn check_tags(tags: &[String]) -> Result<(), SnapshotFault> {
    let short = u8::try_from(tags.len()).is_ok() && tags.iter().all(|tag| tag.len() <= 255);
    let bytes = tags.iter().fold(0_usize, |sum, tag| sum.saturating_add(tag.len() + 1));
    if short && bytes <= TAGS_BYTES_MAX { Ok(()) } else { Err(SnapshotFault::Text) }
}

/// The only version there is.
pub const SNAPSHOT_VERSION: u8 = 1;

/// Some of what was to be backed up could not be read.
const PARTIAL: u8 = 1;
/// Made by `put`.
const PUT: u8 = 2;
/// There is no tree.
const EMPTY: u8 = 4;

/// One backup.
#[derive(Debug)]
pub struct Snapshot {
    /// Who made it.
    pub device: DeviceId,
    /// When it began: nanoseconds since 1970.
    pub created_ns: i64,
    /// What the device's clock showed beside UTC then, in minutes.
    pub utc_offset_min: i16,
    /// Something could not be read and is missing.
    pub partial: bool,
    /// It is one file that was put.
    pub put: bool,
    /// The tree; `None` where nothing was found.
    pub tree: Option<TreeRoot>,
    /// The snapshot of the same roots before it.
    pub parent: Option<SnapshotId>,
    /// What is in it.
    pub counts: Counts,
    /// Random.
    pub nonce: [u8; 16],
    /// The device's name then.
    pub host: String,
    /// What was backed up: absolute paths, raw bytes.
    pub roots: Vec<Vec<u8>>,
    /// The user's labels.
    pub tags: Vec<String>,
    /// The patterns of what was left out.
    pub excludes: Vec<Vec<u8>>,
    /// What made it, with its version.
    pub program: String,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Folders, those above the roots included.
    pub folders: u64,
    /// Links, pipes, devices, sockets.
    pub others: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
    /// Sealed bytes that were new, one copy.
    pub new_bytes: u64,
    /// Entries whose content could not be read.
    pub unreadable: u64,
}

impl Counts {
    /// Entries in all; `None` where that is beyond all numbers.
    pub fn entries(&self) -> Option<u64> {
        self.files.checked_add(self.folders)?.checked_add(self.others)
    }
}

/// Why something is not a snapshot, or cannot be written as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFault {
    /// Made by a newer version.
    #[error("snapshot version {0} is not known")]
    Version(u8),
    /// Shorter or longer than it says, or above [`SNAPSHOT_BYTES_MAX`].
    #[error("a snapshot of {0} bytes has the wrong length")]
    Length(usize),
    /// A flag that this version does not know.
    #[error("snapshot flags {0} are not known")]
    Flags(u8),
    /// The tree does not go with flags and counts, or is larger than a tree can be.
    #[error("the snapshot's tree does not agree with its counts")]
    Tree,
    /// A text that is no UTF-8, or too long for its length.
    #[error("a text of the snapshot is too long or no UTF-8")]
    Text,
    /// A root that is not an absolute path, or more than can be counted.
    #[error("a path of the snapshot is not absolute, or there are too many")]
    Root,
}

impl Snapshot {
    /// The layout of the module's documentation; wiped when dropped.
    ///
    /// # Errors
    /// [`SnapshotFault`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SnapshotFault> {
        self.check()?;
        let flag = |set, bit| if set { bit } else { 0 };
        let flags = flag(self.partial, PARTIAL) | flag(self.put, PUT);
        let flags = flags | flag(self.tree.is_none(), EMPTY);
        let mut out = Zeroizing::new(Vec::with_capacity(1 << 10));
        out.extend([SNAPSHOT_VERSION, flags]);
        out.extend_from_slice(self.device.as_bytes());
        out.extend(self.created_ns.to_le_bytes());
        out.extend(self.utc_offset_min.to_le_bytes());
        match &self.tree {
            Some(root) => {
                out.push(root.level);
                root.reference.put(&mut out);
            }
            None => out.extend([0; 1 + REF_BYTES]),
        }
        out.extend(self.parent.map_or([0; 32], |parent| *parent.as_bytes()));
        let Counts { files, folders, others, bytes, new_bytes, unreadable } = self.counts;
        for count in [files, folders, others, bytes, new_bytes, unreadable] {
            out.extend(count.to_le_bytes());
        }
        out.extend_from_slice(&self.nonce);
        put_text(&self.host, &mut out).ok_or(SnapshotFault::Text)?;
        put_paths(&self.roots, &mut out)?;
        out.push(u8::try_from(self.tags.len()).map_err(|_| SnapshotFault::Text)?);
        for tag in &self.tags {
            put_text(tag, &mut out).ok_or(SnapshotFault::Text)?;
        }
        put_paths(&self.excludes, &mut out)?;
        put_text(&self.program, &mut out).ok_or(SnapshotFault::Text)?;
        let fits = out.len() <= SNAPSHOT_BYTES_MAX;
        if fits { Ok(out) } else { Err(SnapshotFault::Length(out.len())) }
    }

    /// Reads [`Self::encode`] back.
    ///
    /// # Errors
    /// [`SnapshotFault`], whatever the input.
    pub fn decode(plaintext: &[u8]) -> Result<Self, SnapshotFault> {
        let length = SnapshotFault::Length(plaintext.len());
        let (version, mut rest) = plaintext.split_first().ok_or(length)?;
        if *version != SNAPSHOT_VERSION {
            return Err(SnapshotFault::Version(*version));
        }
        if plaintext.len() > SNAPSHOT_BYTES_MAX {
            return Err(length);
        }
        // Every `None` from here on is a snapshot cut short; what is wrong otherwise says so.
        let (snapshot, empty) = Self::fields(&mut rest).unwrap_or(Err(length))?;
        if !rest.is_empty() || empty != snapshot.tree.is_none() {
            return Err(if rest.is_empty() { SnapshotFault::Tree } else { length });
        }
        snapshot.check()?;
        Ok(snapshot)
    }

    /// What it is called: `SHA-256("quloud/v1/snapshot" || plaintext)`.
    pub fn id(plaintext: &[u8]) -> SnapshotId {
        SnapshotId::from_bytes(sha256(&[b"quloud/v1/snapshot", plaintext]))
    }

    /// All fields behind the version, and whether the tree is said to be missing.
    fn fields(rest: &mut &[u8]) -> Option<Result<(Self, bool), SnapshotFault>> {
        let flags = rest.try_get_u8().ok()?;
        if flags & !(PARTIAL | PUT | EMPTY) != 0 {
            return Some(Err(SnapshotFault::Flags(flags)));
        }
        let device = DeviceId::from_bytes(take(rest)?);
        let created_ns = rest.try_get_i64_le().ok()?;
        let utc_offset_min = rest.try_get_i16_le().ok()?;
        let level = rest.try_get_u8().ok()?;
        let (before, reference) = (*rest, ChunkRef::take(rest)?);
        let parent = SnapshotId::from_bytes(take(rest)?);
        let mut counts = [0; 6];
        for count in &mut counts {
            *count = rest.try_get_u64_le().ok()?;
        }
        let [files, folders, others, bytes, new_bytes, unreadable] = counts;
        let counts = Counts { files, folders, others, bytes, new_bytes, unreadable };
        let none = level == 0 && before.iter().take(REF_BYTES).all(|byte| *byte == 0);
        let tree = if none {
            None
        } else {
            let Some(entries) = counts.entries() else { return Some(Err(SnapshotFault::Tree)) };
            Some(TreeRoot { level, entries, reference })
        };
        let nonce = take(rest)?;
        let (host, roots) = (take_text(rest)?, take_paths(rest)?);
        let tags = rest.try_get_u8().ok()?;
        let tags: Option<Vec<_>> = (0..tags).map(|_| take_text(rest)).collect();
        let (tags, excludes, program) = (tags?, take_paths(rest)?, take_text(rest)?);
        let texts = || Some((host?, tags.into_iter().collect::<Option<Vec<_>>>()?, program?));
        let Some((host, tags, program)) = texts() else { return Some(Err(SnapshotFault::Text)) };
        let snapshot = Self {
            device,
            created_ns,
            utc_offset_min,
            partial: flags & PARTIAL != 0,
            put: flags & PUT != 0,
            tree,
            parent: Some(parent).filter(|parent| *parent.as_bytes() != [0; 32]),
            counts,
            nonce,
            host,
            roots,
            tags,
            excludes,
            program,
        };
        Some(Ok((snapshot, flags & EMPTY != 0)))
    }

    /// What holds of every snapshot, written or read.
    fn check(&self) -> Result<(), SnapshotFault> {
        let entries = self.counts.entries().ok_or(SnapshotFault::Tree)?;
        let agrees = match &self.tree {
            Some(root) => {
                let sums = root.entries == entries && root.reference.bytes == self.counts.bytes;
                sums && root.level <= TREE_LEVEL_MAX && (1..=ENTRIES_MAX).contains(&entries)
            }
            None => entries == 0 && self.counts.bytes == 0,
        };
        if !agrees || self.counts.unreadable > entries {
            return Err(SnapshotFault::Tree);
        }
        let absolute = |root: &Vec<u8>| match root.split_first() {
            Some((b'/', rest)) => rest.is_empty() || path::check(rest).is_ok(),
            _ => false,
        };
        if self.roots.iter().all(absolute) { Ok(()) } else { Err(SnapshotFault::Root) }
    }
}

fn put_paths(paths: &[Vec<u8>], out: &mut Vec<u8>) -> Result<(), SnapshotFault> {
    let count = u16::try_from(paths.len()).map_err(|_| SnapshotFault::Root)?;
    out.extend(count.to_le_bytes());
    let put = paths.iter().try_for_each(|path| put_path(path, out));
    put.ok_or(SnapshotFault::Root)
}

fn take_paths(rest: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let count = rest.try_get_u16_le().ok()?;
    (0..count).map(|_| take_path(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, Locality};
    use crate::crypto::keys::ChunkKey;
    use proptest::prelude::*;

    fn snapshot() -> Snapshot {
        let (ck, id) = (ChunkKey::from_bytes([1; 32]), ChunkId::from_bytes([2; 32]));
        let reference = ChunkRef { ck, id, locality: Locality(3), bytes: 1_000 };
        Snapshot {
            device: DeviceId::from_bytes([4; 16]),
            created_ns: 1_700_000_000_000_000_001,
            utc_offset_min: -90,
            partial: true,
            put: false,
            tree: Some(TreeRoot { level: 1, entries: 12, reference }),
            parent: Some(SnapshotId::from_bytes([5; 32])),
            counts: Counts {
                files: 7,
                folders: 4,
                others: 1,
                bytes: 1_000,
                new_bytes: 600,
                unreadable: 2,
            },
            nonce: [6; 16],
            host: "attic".into(),
            roots: vec![b"/data".to_vec(), b"/home/\xff".to_vec()],
            tags: vec!["nightly".into(), String::new()],
            excludes: vec![b"*.tmp".to_vec()],
            program: "quloud 0.1.0".into(),
        }
    }

    fn refused(change: impl FnOnce(&mut Snapshot)) -> SnapshotFault {
        let mut changed = snapshot();
        change(&mut changed);
        changed.encode().unwrap_err()
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was() {
        let given = snapshot();
        let bytes = given.encode().unwrap();
        let found = Snapshot::decode(&bytes).unwrap();
        assert_eq!(format!("{found:?}"), format!("{given:?}"));
        assert_eq!(*found.encode().unwrap(), *bytes);
        let tree = found.tree.unwrap();
        assert_eq!(tree.reference.ck.expose(), &[1; 32]);
    }

    #[test]
    fn the_most_that_may_be_asked_for_can_be_recorded() {
        let paths = |most: usize| {
            let path = [b"/".as_slice(), &[b'p'; 253]].concat();
            vec![path; most / 256]
        };
        let tags = vec!["t".repeat(255); TAGS_BYTES_MAX / 256];
        assert_eq!(check_tags(&tags), Ok(()));
        let largest = Snapshot {
            host: "h".repeat(255),
            roots: paths(ROOTS_BYTES_MAX),
            tags,
            excludes: paths(EXCLUDES_BYTES_MAX),
            program: "p".repeat(255),
            ..snapshot()
        };
        assert!(largest.encode().is_ok());
        for tags in [vec!["t".repeat(256)], vec![String::new(); 256], vec!["t".repeat(99); 62]] {
            assert_eq!(check_tags(&tags), Err(SnapshotFault::Text));
        }
    }

    #[test]
    fn an_empty_snapshot_has_no_tree() {
        let counts = Counts { new_bytes: 3, ..Counts::default() };
        let given =
            Snapshot { tree: None, parent: None, counts, roots: vec![b"/".into()], ..snapshot() };
        let bytes = given.encode().unwrap();
        let found = Snapshot::decode(&bytes).unwrap();
        assert_eq!(format!("{found:?}"), format!("{given:?}"));
        // The flag and the tree go together.
        let mut flag = bytes.to_vec();
        flag[1] &= !EMPTY;
        assert_eq!(Snapshot::decode(&flag).unwrap_err(), SnapshotFault::Tree);
        let mut flag = snapshot().encode().unwrap().to_vec();
        flag[1] |= EMPTY;
        assert_eq!(Snapshot::decode(&flag).unwrap_err(), SnapshotFault::Tree);
    }

    #[test]
    fn two_snapshots_of_the_same_are_two() {
        let id = |nonce| {
            let bytes = Snapshot { nonce, ..snapshot() }.encode().unwrap();
            Snapshot::id(&bytes)
        };
        assert_eq!(id([1; 16]), id([1; 16]));
        assert_ne!(id([1; 16]), id([2; 16]));
    }

    #[test]
    fn what_a_snapshot_cannot_say_is_refused() {
        assert_eq!(refused(|s| s.counts.files += 1), SnapshotFault::Tree);
        assert_eq!(refused(|s| s.counts.bytes += 1), SnapshotFault::Tree);
        assert_eq!(refused(|s| s.counts.files = u64::MAX), SnapshotFault::Tree);
        assert_eq!(refused(|s| s.counts.unreadable = 13), SnapshotFault::Tree);
        assert_eq!(refused(|s| s.tree = None), SnapshotFault::Tree);
        assert_eq!(refused(|s| s.host = "h".repeat(256)), SnapshotFault::Text);
        assert_eq!(refused(|s| s.tags = vec![String::new(); 256]), SnapshotFault::Text);
        for root in [b"data".as_slice(), b"", b"/../etc", b"/a/", b"//a"] {
            assert_eq!(refused(|s| s.roots.push(root.to_vec())), SnapshotFault::Root, "{root:?}");
        }
        let long = refused(|s| s.excludes = vec![vec![b'x'; 1_000]; 70]);
        assert!(matches!(long, SnapshotFault::Length(_)));
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused() {
        let good = snapshot().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            Snapshot::decode(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 2), Err(SnapshotFault::Version(2)));
        assert_eq!(with(1, 8), Err(SnapshotFault::Flags(8)));
        assert_eq!(with(28, 5), Err(SnapshotFault::Tree));
        let host = good.windows(5).position(|window| window == b"attic").unwrap();
        assert_eq!(with(host, 0xff), Err(SnapshotFault::Text));
        for length in 0..good.len() {
            let error = Snapshot::decode(&good[..length]).unwrap_err();
            assert_eq!(error, SnapshotFault::Length(length));
        }
        let longer = [good.as_slice(), &[0]].concat();
        let error = Snapshot::decode(&longer).unwrap_err();
        assert_eq!(error, SnapshotFault::Length(longer.len()));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_cleanly(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            at in any::<usize>(),
            byte in any::<u8>(),
        ) {
            let _ = Snapshot::decode(&[[1, 0].as_slice(), &bytes].concat());
            let mut changed = snapshot().encode().unwrap().to_vec();
            let at = at % changed.len();
            changed[at] = byte;
            if let Ok(found) = Snapshot::decode(&changed) {
                let again = found.encode().unwrap();
                prop_assert_eq!(again.as_slice(), changed.as_slice());
            }
        }
    }
}
