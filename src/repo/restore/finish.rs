//! The last pass: links, pipes, and what was recorded of folders.
//!
//! Every file has its name by now. Entries come depth first, so a folder is dressed when the pass
//! leaves it, after all that is in it, and only the folders on the way are in memory.

use super::dress::{Dresser, Trust};
use super::fetch::{Entries, Fetcher};
use super::folders::Folders;
use super::journal::{Journal, PathKey, key_of};
use super::report::{RestoreProgress, RestoreReport, SkipReason};
use super::target::{Existing, Place};
use super::write::{InodeKey, reason_of};
use super::{Job, RestoreError};
use crate::repo::get::ChunkSource;
use crate::repo::tree::{Entry, What, path};
use rustix::fs::{AtFlags, FileType, Mode, linkat, mknodat, readlinkat, symlinkat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

/// First names of files with more than one, and the inodes of those that this restore made.
pub(super) type FirstNames = BTreeMap<PathKey, Option<InodeKey>>;

pub(super) struct Finish<'a, 'd, 'j> {
    pub(super) job: &'a mut Job<'j>,
    pub(super) folders: &'a mut Folders<'d>,
    pub(super) journal: &'a Journal,
    pub(super) firsts: &'a FirstNames,
    pub(super) dresser: Dresser,
    pub(super) report: &'a mut RestoreReport,
    pub(super) progress: RestoreProgress,
    /// Folders that the pass is in.
    pub(super) open: Vec<Entry>,
}

/// What became of a link or a pipe.
enum Made {
    /// It is there now.
    New(Place),
    /// It was there, as it should be.
    Already(Place),
    /// It is not.
    Not(SkipReason),
}

impl Finish<'_, '_, '_> {
    pub(super) fn run<S: ChunkSource>(
        &mut self,
        entries: &mut impl Entries,
        fetcher: &mut Fetcher<'_, S>,
    ) -> Result<(), RestoreError> {
        entries.restart(fetcher);
        while let Some(entry) = entries.next(fetcher, self.report)? {
            if self.job.cancel.load(Ordering::Relaxed) {
                return Err(RestoreError::Cancelled);
            }
            while self.open.last().is_some_and(|open| !path::is_within(&entry.path, &open.path)) {
                self.leave();
            }
            if matches!(entry.what, What::Folder(_)) {
                self.open.push(entry);
            } else if self.job.options.wants(&entry.path, false) {
                self.entry(&entry)?;
                self.progress.chunks = fetcher.chunks;
            }
        }
        while !self.open.is_empty() {
            self.leave();
        }
        (self.job.progress)(self.progress);
        Ok(())
    }

    /// Dresses the innermost folder, if it is ours or is replaced.
    fn leave(&mut self) {
        let Some(entry) = self.open.pop() else { return };
        // What was not made has been said to be, or was not wanted.
        let Ok(folder) = self.folders.open(&entry.path) else { return };
        self.report.folders += 1;
        if let Some(folder) = folder.filter(|_| !entry.implied) {
            self.report.undress(self.dresser.dress(folder, &entry));
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        let made = match &entry.what {
            What::Folder(_) | What::File(_) => return Ok(()),
            What::Device { .. } | What::Socket => Ok(Made::Not(SkipReason::Special)),
            What::Fifo if !self.job.options.fifos => Ok(Made::Not(SkipReason::Fifo)),
            What::Fifo => self.fifo(entry),
            What::Symlink(target) => self.symlink(entry, target),
            What::HardLink(first) => self.hard_link(entry, first),
        };
        self.progress.entries += 1;
        match made {
            Ok(Made::New(place)) => self.made(&place, entry),
            Ok(Made::Already(place)) if self.job.target.existing() != Existing::Keep => {
                // An earlier run may have ended before it dressed it.
                self.made(&place, entry);
            }
            Ok(Made::Already(_)) => self.report.others += 1,
            Ok(Made::Not(reason)) => self.report.skip(&entry.path, reason, None),
            Err(error) if super::journal::is_fatal(&error) => return Err(self.job.failed(error)),
            Err(error) => {
                let why = Some(error.to_string());
                self.report.skip(&entry.path, reason_of(&error), why);
            }
        }
        Ok(())
    }

    /// A link or a pipe is there: it is counted and dressed.
    fn made(&mut self, place: &Place, entry: &Entry) {
        self.report.others += 1;
        if !matches!(entry.what, What::HardLink(_)) {
            self.report.undress(self.dresser.dress_place(place, entry));
        }
    }

    /// Puts an entry where it goes: `make` makes it at a place where nothing is. What may be
    /// replaced there is not gone before the new one is made.
    fn put(
        &mut self,
        entry: &Entry,
        same: impl Fn(&Place) -> bool,
        make: impl Fn(&Place) -> io::Result<()>,
    ) -> io::Result<Made> {
        let place = self.folders.place_made(&entry.path)?;
        let Some(stat) = place.stat()? else {
            make(&place)?;
            return Ok(Made::New(place));
        };
        if same(&place) {
            return Ok(Made::Already(place));
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(Made::Not(SkipReason::IsFolder));
        }
        if self.job.target.existing() != Existing::Replace {
            return Ok(Made::Not(SkipReason::Exists));
        }
        let part = place.beside(self.journal.part_name(&entry.path));
        if part.stat()?.is_some() {
            // An earlier run left it: nobody else knows its name before it is there.
            part.remove()?;
        }
        make(&part)?;
        let named = part.rename(&place, true);
        named.inspect_err(|_| {
            // What cannot be removed has a name that says what it is.
            let _ = part.remove();
        })?;
        Ok(Made::New(place))
    }

    fn symlink(&mut self, entry: &Entry, text: &[u8]) -> io::Result<Made> {
        let options = self.job.options;
        let within = options.trust == Trust::Own || options.all_links;
        if !within && !stays_within(&entry.path, text) {
            return Ok(Made::Not(SkipReason::LinkLeavesTarget));
        }
        let same = |place: &Place| {
            let found = readlinkat(&place.folder, &*place.name, Vec::new());
            found.is_ok_and(|found| found.as_bytes() == text)
        };
        self.put(entry, same, |place| Ok(symlinkat(text, &place.folder, &*place.name)?))
    }

    fn fifo(&mut self, entry: &Entry) -> io::Result<Made> {
        let same = |place: &Place| {
            let fifo = |mode| FileType::from_raw_mode(mode) == FileType::Fifo;
            place.stat().is_ok_and(|stat| stat.is_some_and(|stat| fifo(stat.st_mode)))
        };
        let mode = Mode::from_raw_mode(0o600);
        let make = |at: &Place| Ok(mknodat(&at.folder, &*at.name, FileType::Fifo, mode, 0)?);
        self.put(entry, same, make)
    }

    fn hard_link(&mut self, entry: &Entry, first: &[u8]) -> io::Result<Made> {
        let Some(inode) = self.firsts.get(&key_of(first)).copied().flatten() else {
            return Ok(Made::Not(SkipReason::FirstNameMissing));
        };
        let from = self.folders.place(first)?;
        if inode_of(&from) != Some(inode) {
            return Ok(Made::Not(SkipReason::FirstNameMissing));
        }
        let same = |place: &Place| inode_of(place) == Some(inode);
        let make = |at: &Place| {
            // Without the flag that follows links: what is linked is what stands there.
            linkat(&from.folder, &*from.name, &at.folder, &*at.name, AtFlags::empty())?;
            if !same(at) {
                // Something else was put there between the look and the link.
                at.remove()?;
                return Err(Errno::LOOP.into());
            }
            Ok(())
        };
        self.put(entry, same, make)
    }
}

fn inode_of(place: &Place) -> Option<InodeKey> {
    let stat = place.stat().ok()??;
    Some((stat.st_dev, stat.st_ino))
}

/// Whether a link at `path` leads to something in the target, wherever other links of the same kind
/// may lead: some steps up, no more than there are folders above it, and then only down. Steps up
/// behind a name could start from wherever a link of that name leads.
fn stays_within(path: &[u8], text: &[u8]) -> bool {
    if text.first() == Some(&b'/') {
        return false;
    }
    let depth = path.iter().filter(|byte| **byte == b'/').count();
    let steps = text.split(|byte| *byte == b'/').filter(|step| !step.is_empty() && *step != b".");
    let up = steps.clone().take_while(|step| *step == b"..").count();
    up <= depth && !steps.skip(up).any(|step| step == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_may_leave_the_target_is_told_from_one_that_cannot() {
        for text in ["x", "x/y", "../x", "./../x", ".", "..", "../x/./y//z", "x/..y"] {
            assert!(stays_within(b"a/b", text.as_bytes()), "{text}");
        }
        for text in ["/", "/x", "../..", "../../x", "x/..", "x/../y", "../x/../y", "./../../x"] {
            assert!(!stays_within(b"a/b", text.as_bytes()), "{text}");
        }
        assert!(!stays_within(b"a", b".."));
    }
}
