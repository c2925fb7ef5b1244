//! Folders: made where they are missing, found where they are.

use super::journal::{Earlier, Journal, PathKey, key_of};
use super::target::{Existing, Place, Places, Target};
use crate::repo::tree::path;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// The folders of one restore.
pub(super) struct Folders<'a> {
    journal: &'a Journal,
    earlier: &'a Earlier,
    existing: Existing,
    places: Places<'a>,
    /// Folders that were there before, and stay as they are.
    kept: BTreeSet<PathKey>,
    /// The last one that was made or found, and with it all above it.
    last: Vec<u8>,
    /// What is there by now is ours, or is known to be kept.
    finishing: bool,
}

impl<'a> Folders<'a> {
    pub(super) fn new(target: &'a Target, journal: &'a Journal, earlier: &'a Earlier) -> Self {
        let (existing, places) = (target.existing(), Places::new(target));
        let (kept, last) = (BTreeSet::new(), Vec::new());
        Self { journal, earlier, existing, places, kept, last, finishing: false }
    }

    /// The last pass begins.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
        self.last.clear();
    }

    /// The place of a path whose folder is there.
    pub(super) fn place(&mut self, path: &[u8]) -> io::Result<Place> {
        self.places.of(path)
    }

    /// The same, and makes what lacks above it.
    pub(super) fn place_made(&mut self, path: &[u8]) -> io::Result<Place> {
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = path.get(..end).unwrap_or_default();
            if !path::is_within(&self.last, above) {
                self.make(above)?;
            }
        }
        self.places.of(path)
    }

    /// Makes a folder, if it is not there.
    pub(super) fn make(&mut self, path: &[u8]) -> io::Result<()> {
        let (place, key) = (self.places.of(path)?, key_of(path));
        match place.stat()? {
            None => {
                self.journal.folder(key)?;
                match place.make_folder() {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        place.open_folder()?;
                    }
                    made => made?,
                }
            }
            Some(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                return Err(Errno::NOTDIR.into());
            }
            // Entries come depth first: no folder is made twice in one pass.
            Some(_) if self.finishing => {}
            Some(stat) if self.earlier.is_folder(&key) => {
                // It may have been dressed already, and not let us in any more.
                if stat.st_mode & 0o700 != 0o700 {
                    place.let_in()?;
                }
            }
            Some(_) if self.existing == Existing::Replace => {}
            Some(_) => {
                self.kept.insert(key);
            }
        }
        self.last.clear();
        self.last.extend_from_slice(path);
        Ok(())
    }

    /// Opens a folder that is there; `None` where its metadata is to stay as it is.
    pub(super) fn open(&mut self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let folder = self.places.of(path)?.open_folder()?;
        Ok((!self.kept.contains(&key_of(path))).then_some(folder))
    }
}
