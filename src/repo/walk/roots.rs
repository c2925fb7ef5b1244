//! What is to be backed up: paths as the user named them, and where they are.

use super::fault::{Fault, FaultKind};
use crate::repo::snapshot::{ROOTS_BYTES_MAX, recorded_bytes};
use crate::repo::tree::path::{self, PathFault};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Why there is nothing to walk.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Relative, or with `..` in it.
    #[error("{} is not an absolute path without ..", path.display())]
    NotAbsolute {
        /// Which one.
        path: PathBuf,
    },
    /// A tree cannot have it.
    #[error("{} cannot be backed up: {fault}", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// Why.
        fault: PathFault,
    },
    /// It is the node's own data folder, or lies in it.
    #[error("{} is this node's own data", path.display())]
    Own {
        /// Which one.
        path: PathBuf,
    },
    /// None of the paths is there.
    #[error("cannot find {}", path.display())]
    Missing {
        /// The first one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// More, or longer ones, than a snapshot can record.
    #[error("the paths take more than {ROOTS_BYTES_MAX} bytes: back up a folder that they lie in")]
    TooMany,
    /// No paths.
    #[error("there is nothing to back up")]
    None,
}

/// One path that is to be backed up, with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    /// As trees have it: empty where it is `/`.
    pub(super) path: Vec<u8>,
    /// Where it leads.
    pub(super) real: PathBuf,
}

impl Root {
    /// As the user named it.
    pub(super) fn absolute(&self) -> Vec<u8> {
        [b"/", self.path.as_slice()].concat()
    }
}

/// What a walk starts with.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// In the order of trees; none lies in another.
    pub(super) roots: Vec<Root>,
    /// Those that are not there.
    pub(super) faults: Vec<Fault>,
    /// File system and inode of what is left out wherever it turns up.
    pub(super) own: Vec<(u64, u64)>,
}

impl Roots {
    /// Links above a root, and a root that is a link, are followed: the user named them. `own` are
    /// folders that are never backed up.
    pub(super) fn find(paths: &[PathBuf], own: &[PathBuf]) -> Result<Self, RootError> {
        let identity =
            |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        let own: Vec<_> = own.iter().filter_map(|path| identity(path)).collect();
        let mut found = Self { own, ..Self::default() };
        let mut missing = None;
        for given in paths {
            let path = tree_path(given)?;
            match fs::canonicalize(given) {
                Ok(real) => {
                    let inside = |above: &Path| {
                        identity(above).is_some_and(|above| found.own.contains(&above))
                    };
                    if real.ancestors().any(inside) {
                        return Err(RootError::Own { path: given.clone() });
                    }
                    found.roots.push(Root { path, real });
                }
                Err(source) => {
                    let again = io::Error::from(source.kind());
                    found.faults.push(Fault::new(&path, FaultKind::Look(source)));
                    missing.get_or_insert((given.clone(), again));
                }
            }
        }
        found.roots.sort_by(|left, right| path::compare(&left.path, &right.path));
        found.roots.dedup_by(|next, before| {
            before.path.is_empty() || path::is_within(&next.path, &before.path)
        });
        let bytes = found.roots.iter().map(|root| recorded_bytes(&root.absolute()));
        if bytes.sum::<usize>() > ROOTS_BYTES_MAX {
            return Err(RootError::TooMany);
        }
        match (found.roots.is_empty(), missing) {
            (true, Some((path, source))) => Err(RootError::Missing { path, source }),
            (true, None) => Err(RootError::None),
            (false, _) => Ok(found),
        }
    }
}

/// A path as trees have it.
pub(super) fn tree_path(given: &Path) -> Result<Vec<u8>, RootError> {
    let refused = || RootError::NotAbsolute { path: given.to_owned() };
    let mut names = Vec::new();
    for component in given.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    if !given.is_absolute() {
        return Err(refused());
    }
    let path = names.join(&b'/');
    if !path.is_empty() {
        path::check(&path).map_err(|fault| RootError::Path { path: given.to_owned(), fault })?;
    }
    Ok(path)
}
