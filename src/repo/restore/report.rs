//! What a restore says: how far it is, what came back, what did not and why.

use crate::repo::plan::Lost;
use crate::repo::tree::walk::Gap;
use std::ops::Range;
use std::path::PathBuf;

/// Of each kind of trouble so many are listed one by one; the rest is counted.
pub const LISTED_MAX: usize = 10_000;

/// Of a damaged file so many missing ranges are listed.
pub const RANGES_MAX: usize = 1_000;

/// Of so many files as many are, and of others only the first few, because memory is bounded.
const RANGES_LISTED_FILES: usize = 100;
const RANGES_FEW: usize = 10;

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreProgress {
    /// Entries that are done, those of an earlier run included.
    pub entries: u64,
    /// Entries in all.
    pub entries_total: u64,
    /// Bytes of data that are written, those of an earlier run included.
    pub bytes: u64,
    /// Bytes of data in all.
    pub bytes_total: u64,
    /// Chunks that came in this run, those of the tree included.
    pub chunks: u64,
}

/// A file of which something does not come: what does lies under the name with
/// `.quloud-damaged` behind it, with holes where bytes are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// In the target.
    pub path: Vec<u8>,
    /// Its name in the target; `None` where none could be given.
    pub name: Option<Vec<u8>>,
    /// What is missing, by places in the file; at most [`RANGES_MAX`], and of very many files only
    /// the first ten.
    pub missing: Vec<Range<u64>>,
    /// Bytes that are missing in all.
    pub missing_bytes: u64,
    /// Some of them are known to be damaged or gone; else they could only not be reached.
    pub is_damage: bool,
    /// Why the first of them are; damage goes before absence.
    pub why: String,
}

/// A part of the tree that does not come: of its entries nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPart {
    /// Which.
    pub gap: Gap,
    /// Why.
    pub why: Lost,
}

/// Why an entry was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// Something of that name is there, and replacing it was not asked for.
    Exists,
    /// A folder of that name is there, which is never replaced.
    IsFolder,
    /// Something that is no folder stands where one should, or on the way: perhaps a link.
    NotAFolder,
    /// It could not be read when it was backed up: there is no content.
    Unreadable,
    /// Devices and sockets are never restored.
    Special,
    /// Pipes are restored only when asked for.
    Fifo,
    /// A link of a snapshot that somebody else shared leads out of the target, or may.
    LinkLeavesTarget,
    /// The file that a hard link is a second name of was not restored by this run.
    FirstNameMissing,
    /// The path, or what it should be, cannot be on any system.
    Impossible,
    /// The system refuses.
    System,
}

/// An entry that was not restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// In the target.
    pub path: Vec<u8>,
    /// Why.
    pub reason: SkipReason,
    /// What the system said, where it did.
    pub why: Option<String>,
}

/// What of an entry's metadata could not be set; the entry itself is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undressed {
    /// In the target.
    pub path: Vec<u8>,
    /// Owner, mode, times or the name of an extended attribute.
    pub what: String,
    /// What the system said.
    pub why: String,
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Regular files that are there and right, those of earlier runs included.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, pipes and further names of files.
    pub others: u64,
    /// Bytes of these files' data, without holes.
    pub bytes: u64,
    /// Files that an earlier run had restored: their inodes and times were looked at, no more.
    pub resumed_files: u64,
    /// Entries that are not restored.
    pub skipped_count: u64,
    /// Of these, those that are never restored or only when asked for.
    pub skipped_by_rule: u64,
    /// The first of them.
    pub skipped: Vec<Skipped>,
    /// Files that are not whole.
    pub damaged_count: u64,
    /// Of these, those of which nothing is known to be damaged or gone.
    pub unreachable_count: u64,
    /// The first of them.
    pub damaged: Vec<DamagedFile>,
    /// Entries whose metadata is not whole.
    pub undressed_count: u64,
    /// The first faults, several of one entry perhaps.
    pub undressed: Vec<Undressed>,
    /// Parts of the tree that do not come.
    pub gaps: Vec<LostPart>,
    /// Where the journal was left, by which the same restore can try again what is missing.
    pub journal: Option<PathBuf>,
}

impl RestoreReport {
    /// Whether some bytes do not come, of files or of the tree: a proof of damage, or holders that
    /// are away.
    pub fn has_losses(&self) -> bool {
        self.damaged_count > 0 || !self.gaps.is_empty()
    }

    /// Whether all is there as it was recorded.
    pub fn is_whole(&self) -> bool {
        !self.has_losses() && self.skipped_count == 0 && self.undressed_count == 0
    }

    pub(super) fn skip(&mut self, path: &[u8], reason: SkipReason, why: Option<String>) {
        self.skipped_count += 1;
        let by_rule = matches!(reason, SkipReason::Special | SkipReason::Fifo);
        self.skipped_by_rule += u64::from(by_rule);
        if self.skipped.len() < LISTED_MAX {
            self.skipped.push(Skipped { path: path.to_vec(), reason, why });
        }
    }

    pub(super) fn damage(&mut self, mut damaged: DamagedFile) {
        self.damaged_count += 1;
        self.unreachable_count += u64::from(!damaged.is_damage);
        if self.damaged.len() >= RANGES_LISTED_FILES {
            damaged.missing.truncate(RANGES_FEW);
            damaged.missing.shrink_to_fit();
        }
        if self.damaged.len() < LISTED_MAX {
            self.damaged.push(damaged);
        }
    }

    /// A part of the tree, which several passes may miss.
    pub(super) fn lose(&mut self, gap: Option<Gap>, why: Lost) {
        let is_new = |gap: &Gap| self.gaps.iter().all(|lost| lost.gap != *gap);
        let gap = gap.filter(|gap| self.gaps.len() < LISTED_MAX && is_new(gap));
        self.gaps.extend(gap.map(|gap| LostPart { gap, why }));
    }

    pub(super) fn undress(&mut self, faults: Vec<Undressed>) {
        self.undressed_count += u64::from(!faults.is_empty());
        let room = LISTED_MAX.saturating_sub(self.undressed.len());
        self.undressed.extend(faults.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_what_is_listed_is_bounded() {
        let mut report = RestoreReport::default();
        for _ in 0..2 * LISTED_MAX {
            let missing = (0..RANGES_MAX as u64).map(|at| at * 2..at * 2 + 1).collect();
            let (path, name, why) = (vec![b'x'], None, String::new());
            let (missing_bytes, is_damage) = (1, true);
            report.damage(DamagedFile { path, name, missing, missing_bytes, is_damage, why });
        }
        assert_eq!((report.damaged.len(), report.damaged_count), (LISTED_MAX, 20_000));
        let ranges: usize = report.damaged.iter().map(|damaged| damaged.missing.capacity()).sum();
        assert!(ranges <= 250_000, "{ranges}");
        assert_eq!(report.damaged[0].missing.len(), RANGES_MAX);
    }

    #[test]
    fn what_is_skipped_by_rule_is_counted_beyond_what_is_listed() {
        let mut report = RestoreReport::default();
        for _ in 0..=LISTED_MAX {
            report.skip(b"socket", SkipReason::Special, None);
        }
        report.skip(b"there", SkipReason::Exists, None);
        report.skip(b"pipe", SkipReason::Fifo, None);
        let all = LISTED_MAX as u64 + 3;
        assert_eq!((report.skipped_count, report.skipped_by_rule), (all, all - 1));
        assert_eq!(report.skipped.len(), LISTED_MAX);
    }
}
