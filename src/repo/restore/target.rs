//! The folder that a restore writes below, and never outside of.
//!
//! Every name is opened, made, renamed or removed relative to a handle: that of the target, or that
//! of a folder below it which was reached without following a link. Paths of the tree are split
//! into names and checked here once more, whoever checked them before. No text of a path is ever
//! resolved by the system from anywhere else, but for `/proc/self/fd`, which names a handle where a
//! call takes none.
//!
//! Where the kernel has `openat2` it is told to stay beneath the target and to follow no link at
//! all; where it has not, or a container forbids it, each name is opened on its own and must be a
//! folder. Both refuse the same, and a link that somebody puts in the way meanwhile is an error
//! like one that was there before. What no path can help against: a folder that somebody moves out
//! of the target while a file in it is being written takes that file along.

use crate::repo::tree::path;
use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, access,
    chmodat, mkdirat, openat, openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders that stay open: those of the last files, whose next ones mostly lie beside them.
const OPEN_FOLDERS_MAX: usize = 32;

/// What to do with what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The target must be empty, new, or what an earlier run of the same restore left.
    Refuse,
    /// Existing names stay as they are and are reported; folders are shared.
    Keep,
    /// Existing names but folders are replaced: unlinked, never written to.
    Replace,
}

/// How folders are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By `openat2`.
    Beneath,
    /// Name by name.
    Stepwise,
}

/// A folder that nothing is ever written outside of.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    path: PathBuf,
    existing: Existing,
    way: Way,
    /// There is no such folder: `root` is the one that it would be made in.
    is_absent: bool,
}

impl Target {
    /// Opens the folder `path`; makes it, and what is above it, where there is none. What `path`
    /// itself leads through is the caller's choice; below it no link is followed.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path, existing: Existing) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        let way = match openat2(&root, ".", flags, Mode::empty(), BENEATH) {
            Ok(_) => Way::Beneath,
            Err(_) => Way::Stepwise,
        };
        Ok(Self { root, path: path.to_owned(), existing, way, is_absent: false })
    }

    /// What [`Self::open`] would open, for a run that writes nothing: a folder that is not there is
    /// not made, and nothing is in it.
    ///
    /// # Errors
    /// What the system would say.
    pub fn look_at(path: &Path, existing: Existing) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Self::open(path, existing);
        }
        let there = |above: &&Path| above.symlink_metadata().is_ok();
        let above = path.ancestors().skip(1).find(there).unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(above, flags, Mode::empty())?;
        access(above, Access::WRITE_OK | Access::EXEC_OK)?;
        Ok(Self { root, path: path.to_owned(), existing, way: Way::Stepwise, is_absent: true })
    }

    /// Whether it is not there, and was not made.
    pub(super) fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is done with what is there already.
    pub fn existing(&self) -> Existing {
        self.existing
    }

    /// The way of kernels without `openat2`.
    #[cfg(test)]
    pub(super) fn stepwise(mut self) -> Self {
        self.way = Way::Stepwise;
        self
    }

    /// The target itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether something in the target itself has this name.
    pub(super) fn has(&self, name: &[u8]) -> io::Result<bool> {
        if self.is_absent {
            return Ok(false);
        }
        match statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether there is nothing in it, but what a new file system has of its own.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        if self.is_absent {
            return Ok(true);
        }
        for entry in Dir::read_from(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if ![&b"."[..], b"..", b"lost+found"].contains(&name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether two names that differ only in case, or in how a letter with an accent is written,
    /// are one name here.
    pub(super) fn folds_case(&self, name: &[u8]) -> io::Result<bool> {
        let with = |letter: &str| [name, letter.as_bytes()].concat();
        let (name, apart) = (&*with("\u{e9}"), with("e\u{301}"));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        openat(&self.root, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
        let is_there = |other| statat(&self.root, other, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let folds = is_there(name.to_ascii_uppercase()) || is_there(apart);
        unlinkat(&self.root, name, AtFlags::empty())?;
        Ok(folds)
    }

    /// Points at the folder `path`, which must be one all the way; the target where it is empty.
    /// That takes no right to list it.
    fn folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        if self.is_absent {
            return Err(Errno::NOENT.into());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_empty() {
            return Ok(openat(&self.root, ".", flags, Mode::empty())?);
        }
        path::check(path).map_err(io::Error::other)?;
        if self.way == Way::Beneath {
            match openat2(&self.root, path, flags, Mode::empty(), BENEATH) {
                // Retried in vain where folders are moved all the time, too long for one call, or
                // forbidden only now: name by name is as safe.
                Err(Errno::AGAIN | Errno::NAMETOOLONG | Errno::NOSYS | Errno::PERM) => {}
                opened => return Ok(opened?),
            }
        }
        let mut folder: Option<OwnedFd> = None;
        for name in path.split(|byte| *byte == b'/') {
            let above = folder.as_ref().unwrap_or(&self.root);
            folder = Some(openat(above, name, flags, Mode::empty())?);
        }
        folder.ok_or_else(|| Errno::NOENT.into())
    }
}

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A name in an open folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
}

impl Place {
    /// What stands there, never what a link leads to.
    pub(super) fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file, which nobody else can read; there must be nothing of that name.
    pub(super) fn create(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        Ok(openat(&self.folder, &*self.name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// Opens what stands there, if that is a regular file of nobody else's with one name.
    pub(super) fn open_ours(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(&self.folder, &*self.name, flags | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
        let ours = ours && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if ours { Ok(file.into()) } else { Err(Errno::PERM.into()) }
    }

    /// Opens the folder that stands there, and nothing else.
    pub(super) fn open_folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &*self.name, flags, Mode::empty())?)
    }

    /// Lets us into a folder of ours that stands there.
    pub(super) fn let_in(&self) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(&self.folder, &*self.name, flags, Mode::empty())?;
        // The handle is the folder: nobody can put anything else behind this path.
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        Ok(chmodat(CWD, path, Mode::from_raw_mode(0o700), AtFlags::empty())?)
    }

    /// Makes a folder, which nobody else can enter.
    pub(super) fn make_folder(&self) -> io::Result<()> {
        Ok(mkdirat(&self.folder, &*self.name, Mode::from_raw_mode(0o700))?)
    }

    /// Removes what stands there, but no folder.
    pub(super) fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.folder, &*self.name, AtFlags::empty())?)
    }

    /// Gives what stands here the name `to`: a free one, or with `replace` any but a folder's.
    pub(super) fn rename(&self, to: &Self, replace: bool) -> io::Result<()> {
        let (from, name, target) = (&*self.folder, &*self.name, &*to.name);
        if replace {
            return Ok(renameat(from, name, &to.folder, target)?);
        }
        match renameat_with(from, name, &to.folder, target, RenameFlags::NOREPLACE) {
            // The file system does not know the flag: the same in two steps.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.rename_in_steps(to),
            renamed => Ok(renamed?),
        }
    }

    /// Gives what stands here the name `to`, a free one, where no call does that at once: as a
    /// second name, or where there are none, over a file that takes it first.
    fn rename_in_steps(&self, to: &Self) -> io::Result<()> {
        let (from, name, target) = (&*self.folder, &*self.name, &*to.name);
        match rustix::fs::linkat(from, name, &to.folder, target, AtFlags::empty()) {
            Ok(()) => self.remove(),
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK) => {
                to.create()?;
                let renamed = renameat(from, name, &to.folder, target);
                Ok(renamed.inspect_err(|_| {
                    // What cannot be removed is empty, and the failure is said.
                    let _ = to.remove();
                })?)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The same folder, another name.
    pub(super) fn beside(&self, name: Vec<u8>) -> Self {
        Self { folder: Arc::clone(&self.folder), name }
    }
}

/// Finds places; one a thread, because it remembers open folders.
#[derive(Debug)]
pub(super) struct Places<'a> {
    target: &'a Target,
    open: VecDeque<(Vec<u8>, Arc<OwnedFd>)>,
}

impl<'a> Places<'a> {
    pub(super) fn new(target: &'a Target) -> Self {
        Self { target, open: VecDeque::new() }
    }

    /// The place of `path`, whose folder must be there.
    pub(super) fn of(&mut self, path: &[u8]) -> io::Result<Place> {
        path::check(path).map_err(io::Error::other)?;
        let (above, name) = match path::parent(path) {
            Some(above) => (above, path.get(above.len() + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        Ok(Place { folder: self.folder(above)?, name: name.to_vec() })
    }

    fn folder(&mut self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        if let Some(at) = self.open.iter().position(|(open, _)| open == path)
            && let Some(found) = self.open.remove(at)
        {
            let folder = Arc::clone(&found.1);
            self.open.push_front(found);
            return Ok(folder);
        }
        let folder = Arc::new(self.target.folder(path)?);
        self.open.push_front((path.to_vec(), Arc::clone(&folder)));
        self.open.truncate(OPEN_FOLDERS_MAX);
        Ok(folder)
    }
}
