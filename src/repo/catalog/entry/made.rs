//! What the catalogue remembers of the newest backup of each set of paths: how many replicas its
//! worst chunk has, of how many, and what is missing in it.

use super::{BACKUP_MADE, Fields, TooLong, text_length};
use crate::core::types::SnapshotId;
use crate::crypto::sha256;

/// Paths of a backup that are told apart.
const PATHS_MAX: usize = 4_096;

/// The newest snapshot of a set of paths that this device made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupMade {
    /// Which paths are in it: see [`BackupMade::set_of`].
    pub set: Vec<u64>,
    /// The snapshot. While it is being published there may come to be none.
    pub snapshot: SnapshotId,
    /// When it was made: seconds since 1970.
    pub at: u64,
    /// The smallest number of nodes that are known to have any chunk of it.
    pub replicas: u8,
    /// How many shall.
    pub target: u8,
    /// Names that something is wrong with; 0 where nothing is missing in it.
    pub faults: u64,
    /// The paths, for people.
    pub paths: String,
    /// The first of those names, with what is wrong; empty where nothing is.
    pub first_fault: String,
}

impl BackupMade {
    /// The longest text that is kept of the paths, and of the first fault: bytes.
    pub const TEXT_BYTES_MAX: usize = 1 << 10;

    /// Names a set of paths: 8 bytes of the SHA-256 of each, in order; of very many one for all.
    pub fn set_of(paths: &[Vec<u8>]) -> Vec<u64> {
        let hash = |path: &Vec<u8>| -> u64 {
            let [a, b, c, d, e, f, g, h, ..] = sha256(&[path]);
            u64::from_be_bytes([a, b, c, d, e, f, g, h])
        };
        let mut set: Vec<u64> = paths.iter().map(hash).collect();
        set.sort_unstable();
        set.dedup();
        if set.len() > PATHS_MAX {
            let all: Vec<u8> = set.iter().flat_map(|path| path.to_be_bytes()).collect();
            return Self::set_of(&[all]);
        }
        set
    }

    /// Whether that later backup has all paths of this one: what is missing in it, or of it, counts
    /// no more.
    pub fn is_covered_by(&self, later: &Self) -> bool {
        self.set.iter().all(|path| later.set.binary_search(path).is_ok())
    }

    /// Whether some chunk of it has fewer replicas than were asked for.
    pub fn is_short(&self) -> bool {
        self.replicas < self.target
    }

    /// Whether nothing is missing, neither in it nor of it.
    pub fn is_whole(&self) -> bool {
        !self.is_short() && self.faults == 0
    }

    pub(in super::super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let (paths, fault) = (self.paths.as_bytes(), self.first_fault.as_bytes());
        let (paths_length, fault_length) = (text_length(paths)?, text_length(fault)?);
        out.push(BACKUP_MADE);
        let count = self.set.len().min(PATHS_MAX);
        out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
        for path in self.set.iter().take(count) {
            out.extend_from_slice(&path.to_le_bytes());
        }
        out.extend_from_slice(self.snapshot.as_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&[self.replicas, self.target]);
        out.extend_from_slice(&self.faults.to_le_bytes());
        out.extend_from_slice(&paths_length);
        out.extend_from_slice(paths);
        out.extend_from_slice(&fault_length);
        out.extend_from_slice(fault);
        Ok(())
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Self> {
        let count = usize::from(u16::from_le_bytes(from.array()?));
        if count > PATHS_MAX {
            return None;
        }
        let set = (0..count).map(|_| from.number()).collect::<Option<Vec<u64>>>()?;
        if !set.is_sorted() {
            return None;
        }
        Some(Self {
            set,
            snapshot: SnapshotId::from_bytes(from.array()?),
            at: from.number()?,
            replicas: from.byte()?,
            target: from.byte()?,
            faults: from.number()?,
            paths: String::from_utf8(from.text()?.to_vec()).ok()?,
            first_fault: String::from_utf8(from.text()?.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super::super) fn made(set: u8, snapshot: u8, replicas: u8) -> BackupMade {
        BackupMade {
            set: vec![set.into()],
            snapshot: SnapshotId::from_bytes([snapshot; 32]),
            at: 1_800_000_006,
            replicas,
            target: 3,
            faults: 1 << 33,
            paths: format!("/data/{set}"),
            first_fault: "/data/a: permission denied".to_owned(),
        }
    }

    #[test]
    fn a_set_of_paths_is_the_same_in_any_order_and_covered_by_one_that_has_more() {
        let set = |paths: &[&str]| {
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            BackupMade { set: BackupMade::set_of(&paths), ..made(0, 0, 0) }
        };
        assert_eq!(set(&["/a", "/b"]), set(&["/b", "/a", "/b"]));
        assert_ne!(set(&["/a", "/b"]), set(&["/a/b"]));
        assert!(set(&["/a"]).is_covered_by(&set(&["/b", "/a"])));
        assert!(!set(&["/a", "/c"]).is_covered_by(&set(&["/b", "/a"])));
        let many: Vec<Vec<u8>> = (0..5_000_u32).map(|path| path.to_be_bytes().to_vec()).collect();
        assert_eq!(BackupMade::set_of(&many).len(), 1);
        assert_ne!(BackupMade::set_of(&many), BackupMade::set_of(&many[1..]));
    }
}
