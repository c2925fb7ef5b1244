//! Folders: made where they are missing, found where they are.

use super::journal::{Earlier, Journal, PathKey, key_of};
use super::target::{Existing, Place, Places, Target};
use crate::repo::tree::path;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// Why a folder is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is wanted itself.
    ForItself,
    /// Something in it is.
    ForOthers,
}

/// The folders of one restore.
pub(super) struct Folders<'a> {
    journal: &'a Journal,
    earlier: &'a Earlier,
    existing: Existing,
    places: Places<'a>,
    /// Folders that this run made or found to be ours, and those that are to be as recorded.
    ours: BTreeSet<PathKey>,
    /// The last one that was made or found, and with it all above it.
    last: Vec<u8>,
    /// The last one that was announced.
    announced: Vec<u8>,
    /// Whether some were recorded since that was asked last.
    recorded: bool,
}

impl<'a> Folders<'a> {
    pub(super) fn new(target: &'a Target, journal: &'a Journal, earlier: &'a Earlier) -> Self {
        let (existing, places) = (target.existing(), Places::new(target));
        let (ours, last, announced) = (BTreeSet::new(), Vec::new(), Vec::new());
        Self { journal, earlier, existing, places, ours, last, announced, recorded: false }
    }

    /// The last pass begins.
    pub(super) fn finish(&mut self) {
        self.last.clear();
    }

    /// The place of a path whose folder is there.
    pub(super) fn place(&mut self, path: &[u8]) -> io::Result<Place> {
        self.places.of(path)
    }

    /// The same, and makes what lacks above it.
    pub(super) fn place_made(&mut self, path: &[u8]) -> io::Result<Place> {
        for above in above(path) {
            if !path::is_within(&self.last, above) {
                self.make(above, Asked::ForOthers)?;
            }
        }
        self.places.of(path)
    }

    /// Records the folders above a path that are to be made, in the order of entries; `folder` is
    /// the path itself if it is one. Best effort: what does not work fails when it is made.
    pub(super) fn announce(&mut self, path: &[u8], folder: bool) -> io::Result<()> {
        for next in above(path).chain(folder.then_some(path)) {
            if path::is_within(&self.announced, next) {
                continue;
            }
            let missing = match self.places.of(next).and_then(|place| place.stat()) {
                Ok(stat) => stat.is_none(),
                Err(error) => error.kind() == ErrorKind::NotFound,
            };
            if missing {
                self.journal.folder(key_of(next))?;
                self.recorded = true;
            }
            self.announced.clear();
            self.announced.extend_from_slice(next);
        }
        Ok(())
    }

    /// Whether folders were recorded since this was asked last.
    pub(super) fn take_recorded(&mut self) -> bool {
        std::mem::take(&mut self.recorded)
    }

    /// Makes a folder, if it is not there.
    pub(super) fn make(&mut self, path: &[u8], asked: Asked) -> io::Result<()> {
        let (place, key) = (self.places.of(path)?, key_of(path));
        match place.stat()? {
            None => {
                self.journal.folder(key)?;
                match place.make_folder() {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        place.open_folder()?;
                    }
                    made => {
                        made?;
                        self.ours.insert(key);
                    }
                }
            }
            Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                return Err(Errno::NOTDIR.into());
            }
            Some(stat) if self.is_ours(&key, &stat) => {
                // It may have been dressed already, and not let us in any more.
                if stat.st_mode & 0o700 != 0o700 {
                    place.let_in()?;
                }
                self.ours.insert(key);
            }
            Some(_) if self.existing == Existing::Replace && asked == Asked::ForItself => {
                self.ours.insert(key);
            }
            Some(_) => {}
        }
        self.last.clear();
        self.last.extend_from_slice(path);
        Ok(())
    }

    /// Whether an earlier run made this folder. Where the target was empty at first, all that it
    /// has is ours, and records may be missing after a crash of the system.
    fn is_ours(&self, key: &PathKey, stat: &Stat) -> bool {
        let own = rustix::process::geteuid();
        let all = self.existing == Existing::Refuse && self.earlier.rebooted;
        self.earlier.is_folder(key) || (all && (own.is_root() || stat.st_uid == own.as_raw()))
    }

    /// Opens a folder that is there; `None` where its metadata is to stay as it is.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let (place, key) = (self.places.of(path)?, key_of(path));
        if self.ours.contains(&key) || self.earlier.is_folder(&key) {
            return place.open_folder().map(Some);
        }
        let folder = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if place.stat()?.is_some_and(folder) { Ok(None) } else { Err(Errno::NOTDIR.into()) }
    }
}

/// The folders above a path, the outermost first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(end, _)| path.get(..end))
}
