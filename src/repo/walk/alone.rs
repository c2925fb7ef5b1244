//! One file that is open, recorded on its own: as a walk over its path alone would.

use super::meta::{Bearer, Status, XattrReader};
use super::roots::tree_path;
use super::{FaultKind, implied};
use crate::repo::tree::{Entry, What};
use rustix::fs::fstat;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// What is recorded of one file.
#[derive(Debug)]
pub(crate) struct Alone {
    /// The folders above it, by their names; the file last, without content and dense.
    pub(crate) entries: Vec<Entry>,
    /// Its extended attributes are missing.
    pub(crate) fault: Option<FaultKind>,
}

/// Records a file that was opened by an absolute path, links followed: it is recorded under the
/// path that was named, or where that climbs, under the one that it leads to. `None` where no tree
/// takes such a path.
pub(crate) fn alone(file: &File, path: &Path) -> Option<Alone> {
    let named = tree_path(path).ok().filter(|path| !path.is_empty());
    let path = match named {
        Some(path) => path,
        None => tree_path(&std::fs::canonicalize(path).ok()?).ok()?,
    };
    let status = Status::of(&fstat(file).ok()?);
    let (xattrs, fault) = match XattrReader::default().read(Bearer::Open(file.as_fd())) {
        Ok(xattrs) => (xattrs, None),
        Err(kind) => (Vec::new(), Some(kind)),
    };
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let above = slashes.filter_map(|(at, _)| path.get(..at)).map(implied);
    let mut entries: Vec<Entry> = above.collect();
    entries.push(Entry { xattrs, ..status.entry_of(&path, What::File(status.body())) });
    Some(Alone { entries, fault })
}
