//! The files of a disk, in the order of trees.
//!
//! A walk holds open the folders that it is in, one a level, and never resolves a path: every name
//! is opened in the folder that lists it, and no link is followed. So whoever moves folders about
//! meanwhile can make names vanish, but lead it nowhere else. Only the roots are paths: links above
//! them, and a root that is a link, are followed, because the user named them.
//!
//! Depth first, names bytewise: that is the order of [trees](super::tree), in which `/` comes
//! before every other byte. Names are bytes.
//!
//! | what is found | what comes of it |
//! |---|---|
//! | a folder | an entry, then what is in it |
//! | a regular file | an entry without content; whoever reads it opens it through the walk |
//! | a further name of a file | a hard link to the first one that was met |
//! | a link, a pipe, a device, a socket | an entry |
//! | what vanished since it was listed | nothing |
//! | what cannot be looked at, listed or recorded | a [`Fault`], and the walk goes on |
//! | a mount of another file system, if one is asked to stay; `/proc` and its like | the folder |
//! | the node's own data folder; what the [rules](super::exclude) leave out | nothing |
//! | a folder with a cache tag, if asked for | the folder and the tag |
//!
//! Memory: the names of the folders that are open, 8 bytes and a name's length each and up to twice
//! that while they are listed; and of files with more names to come the first, 32 MiB at most.

mod alone;
mod fault;
mod links;
mod meta;
mod names;
mod roots;
mod sparse;
mod system;

#[cfg(test)]
mod tests;

pub use fault::{Fault, FaultKind};
pub use roots::RootError;

pub(crate) use alone::{Alone, alone};
pub(crate) use meta::Status;
pub(crate) use sparse::DataReader;

use super::exclude::{self, Excludes, Verdict};
use super::tree::path::{self, DEPTH_MAX};
use super::tree::{Entry, Inode, LINK_BYTES_MAX, What, Xattr};
use links::Links;
use meta::{Bearer, XattrReader};
use names::Names;
use roots::{Root, Roots};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What is walked, and what is left out.
#[derive(Debug, Clone, Default)]
pub struct WalkOptions {
    /// Files and folders, absolute. What lies in another one is walked with that.
    pub roots: Vec<PathBuf>,
    /// What is left out. A root is never left out.
    pub excludes: Excludes,
    /// Leave out what lies in folders with a `CACHEDIR.TAG`, but the tag.
    pub exclude_caches: bool,
    /// Stay in the file system of each root.
    pub one_file_system: bool,
    /// Folders that are left out wherever they turn up: the node's own data folder.
    pub own: Vec<PathBuf>,
}

/// The time of change that is recorded of a file of which not all could be: it is in no snapshot's
/// past, so the file is looked at again each time, and said again.
const NEVER_SETTLED_NS: i64 = i64::MAX;

/// What comes next.
#[derive(Debug)]
pub enum Found {
    /// An entry as it is recorded.
    Entry(Entry),
    /// A regular file: an entry without content and extended attributes.
    File(Entry),
    /// Something is wrong with a name.
    Fault(Fault),
}

/// A regular file, open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    /// What it was when it was opened.
    pub(crate) status: Status,
    /// With metadata of what was opened, and where its data lies; still without content.
    pub(crate) entry: Entry,
    /// Where something of this is missing.
    pub(crate) fault: Option<FaultKind>,
}

/// Why a regular file was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It is not there any more.
    Gone,
    /// Something else has its name.
    Replaced,
    /// What the system says.
    Failed(io::Error),
}

/// Walks over files and folders.
#[derive(Debug)]
pub struct Walk<'a> {
    options: &'a WalkOptions,
    all_roots: Vec<Vec<u8>>,
    ahead: VecDeque<Root>,
    own: Vec<(u64, u64)>,
    /// To be said before anything else.
    waiting: VecDeque<Found>,
    folders: Vec<Folder>,
    /// What was found last, or is looked at.
    path: Vec<u8>,
    last: Option<Status>,
    /// Of the root that is walked: its path, its file system, its rules.
    root: Vec<u8>,
    device: u64,
    excludes: Excludes,
    links: Links,
    xattrs: XattrReader,
}

/// A folder that is walked.
#[derive(Debug)]
struct Folder {
    handle: OwnedFd,
    /// The file system; 0 of what is above a root.
    device: u64,
    names: Names,
    next: usize,
    /// How much of the path it takes.
    path_bytes: usize,
    /// In which a root lies: nothing but the root is looked at, and under the user's name for it.
    above: bool,
}

impl<'a> Walk<'a> {
    /// A walk over the roots of `options`. Roots that are not there become faults.
    ///
    /// # Errors
    /// [`RootError`]: a path that cannot be a root, or no root that is there.
    pub fn new(options: &'a WalkOptions) -> Result<Self, RootError> {
        let Roots { roots, faults, own } = Roots::find(&options.roots, &options.own)?;
        Ok(Self {
            options,
            all_roots: roots.iter().map(Root::absolute).collect(),
            ahead: roots.into(),
            own,
            waiting: faults.into_iter().map(Found::Fault).collect(),
            folders: Vec::new(),
            path: Vec::new(),
            last: None,
            root: Vec::new(),
            device: 0,
            excludes: Excludes::default(),
            links: Links::default(),
            xattrs: XattrReader::default(),
        })
    }

    /// What is walked, absolute, in order: for the snapshot.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.all_roots
    }

    /// What comes next; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "what it yields is opened through it")]
    pub fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.waiting.pop_front() {
                return Some(found);
            }
            let Some(folder) = self.folders.last_mut() else {
                let root = self.ahead.pop_front()?;
                self.begin(root);
                continue;
            };
            let Some(name) = folder.names.get(folder.next) else {
                self.folders.pop();
                continue;
            };
            folder.next += 1;
            if !folder.above {
                self.path.truncate(folder.path_bytes);
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name);
            }
            self.last = None;
            if let Err(kind) = self.look() {
                self.waiting.push_back(Found::Fault(Fault::new(&self.path, kind)));
            }
        }
    }

    /// Opens the file that came last, with all that is recorded of it but its content. It may be
    /// opened again.
    pub(crate) fn open(&mut self) -> Result<OpenFile, OpenError> {
        let Some((folder, name)) = here(&self.folders) else { return Err(OpenError::Gone) };
        let owned = self.last.is_some_and(|status| status.is_mine());
        let handle = system::open_file(folder, name, owned).map_err(|errno| match errno {
            Errno::NOENT => OpenError::Gone,
            Errno::LOOP | Errno::NXIO => OpenError::Replaced,
            errno => OpenError::Failed(errno.into()),
        })?;
        let failed = |errno: Errno| OpenError::Failed(errno.into());
        let status = Status::of(&fstat(&handle).map_err(failed)?);
        if status.kind != FileType::RegularFile {
            return Err(OpenError::Replaced);
        }
        if let Some(seen) = self.last.filter(|seen| seen.identity() != status.identity()) {
            // Another file has the name by now: what was seen first is not recorded under it.
            self.links.forget(seen.identity());
        }
        let file = File::from(handle);
        let mut body = status.body();
        body.extents = sparse::extents(&file, &status).map_err(OpenError::Failed)?;
        let (xattrs, fault) = match self.xattrs.read(Bearer::Open(file.as_fd())) {
            Ok(xattrs) => (xattrs, None),
            Err(kind) => {
                body.inode.ctime_ns = NEVER_SETTLED_NS;
                (Vec::new(), Some(kind))
            }
        };
        let entry = Entry { xattrs, ..status.entry_of(&self.path, What::File(body)) };
        Ok(OpenFile { file, status, entry, fault })
    }

    /// The file that came last is not recorded: no other name may be a link to it.
    pub(crate) fn leave_out(&mut self) {
        if let Some(status) = self.last {
            self.links.forget(status.identity());
        }
    }

    /// How many names are files of their own for lack of memory, though they are links.
    pub(crate) fn links_forgotten(&self) -> u64 {
        self.links.forgotten()
    }

    /// Takes up the next root: the folders above it that no root before had, then it.
    fn begin(&mut self, Root { path, real }: Root) {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let above = slashes.filter_map(|(at, _)| path.get(..at));
        let new = above.filter(|folder| !path::is_within(&self.root, folder));
        self.waiting.extend(new.map(|folder| Found::Entry(implied(folder))));
        self.root.clone_from(&path);
        let absolute = [b"/", path.as_slice()].concat();
        self.excludes = self.options.excludes.below(&absolute, &self.all_roots);
        self.path = path;
        let (above, name) = match (real.parent(), real.file_name()) {
            (Some(above), Some(name)) => (above, name.as_encoded_bytes()),
            _ => (real.as_path(), b".".as_slice()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, above, flags, Mode::empty()) {
            Ok(handle) => {
                let (names, device) = (Names::only(name), 0);
                let folder = Folder { handle, device, names, next: 0, path_bytes: 0, above: true };
                self.folders.push(folder);
            }
            Err(errno) => {
                let fault = Fault::new(&self.path, FaultKind::Look(errno.into()));
                self.waiting.push_back(Found::Fault(fault));
            }
        }
    }

    /// Looks at the name that comes next; what is found waits to be said.
    fn look(&mut self) -> Result<(), FaultKind> {
        let Some((folder, name)) = here(&self.folders) else { return Ok(()) };
        let root = self.folders.last().is_some_and(|folder| folder.above);
        let status = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Status::of(&stat),
            Err(Errno::NOENT) if !root => return Ok(()),
            Err(errno) => return Err(FaultKind::Look(errno.into())),
        };
        if root {
            self.device = status.device;
        } else {
            let verdict = self.excludes.decide(self.below_root(), status.is_folder());
            if verdict == Verdict::Excluded {
                return Ok(());
            }
            path::check(&self.path).map_err(FaultKind::Path)?;
        }
        let elsewhere = self.options.one_file_system && status.device != self.device;
        if elsewhere && !status.is_folder() {
            return Ok(());
        }
        self.last = Some(status);
        match status.kind {
            FileType::Directory if elsewhere => self.say_mount(&status),
            FileType::Directory => self.enter(root)?,
            FileType::RegularFile => self.say_file(&status),
            _ => self.say_other(&status)?,
        }
        Ok(())
    }

    /// The path below the root, for the rules.
    fn below_root(&self) -> &[u8] {
        let skipped = if self.root.is_empty() { 0 } else { self.root.len() + 1 };
        self.path.get(skipped..).unwrap_or_default()
    }

    fn say_file(&mut self, status: &Status) {
        let first = self.links.see(status.identity(), status.links, &self.path);
        self.waiting.push_back(match first {
            Some(first) => Found::Entry(status.entry_of(&self.path, What::HardLink(first))),
            None => Found::File(status.entry_of(&self.path, What::File(status.body()))),
        });
    }

    /// A folder of another file system, of which nothing but its name and metadata is recorded.
    fn say_mount(&mut self, status: &Status) {
        let entry = status.entry_of(&self.path, What::Folder(status.inode()));
        self.waiting.push_back(Found::Entry(entry));
    }

    /// A link, a pipe, a device or a socket.
    fn say_other(&mut self, status: &Status) -> Result<(), FaultKind> {
        let Some((folder, name)) = here(&self.folders) else { return Ok(()) };
        let target = match status.kind {
            FileType::Symlink => match readlinkat(folder, name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::INVAL) => return Err(FaultKind::Replaced),
                Err(errno) => return Err(FaultKind::Look(errno.into())),
            },
            _ => Vec::new(),
        };
        let link = status.kind == FileType::Symlink;
        if link && !(1..=LINK_BYTES_MAX).contains(&target.len()) {
            return Err(FaultKind::Link);
        }
        let mut entry = status.entry(&self.path, target).ok_or(FaultKind::Unknown)?;
        let read = self.xattrs.read(Bearer::Named(folder, name));
        self.dress(&mut entry, read);
        self.waiting.push_back(Found::Entry(entry));
        Ok(())
    }

    /// Opens a folder, says it, and goes in.
    fn enter(&mut self, root: bool) -> Result<(), FaultKind> {
        let Some((folder, name)) = here(&self.folders) else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match openat(folder, name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(FaultKind::Replaced),
            Err(errno) => {
                self.say_unlisted(errno);
                return Ok(());
            }
        };
        let stat = fstat(&handle).map_err(|errno| FaultKind::Look(errno.into()))?;
        let status = Status::of(&stat);
        if self.own.contains(&status.identity()) {
            return Ok(());
        }
        self.last = Some(status);
        let above = self.folders.last().map(|folder| folder.device);
        let mount = !root && above != Some(status.device);
        let elsewhere = mount && (self.options.one_file_system || system::is_virtual(&handle));
        if elsewhere {
            self.say_mount(&status);
            return Ok(());
        }
        let mut entry = status.entry_of(&self.path, What::Folder(status.inode()));
        let read = self.xattrs.read(Bearer::Open(handle.as_fd()));
        self.dress(&mut entry, read);
        let (mut names, broken) = Names::read(&handle);
        if let Some(error) = broken {
            entry.unreadable = true;
            self.waiting.push_back(self.fault(FaultKind::List(error)));
        }
        if self.options.exclude_caches && is_cache(&handle, &names) {
            names.keep_only(exclude::CACHE_TAG_NAME);
        }
        let depth = self.path.split(|byte| *byte == b'/').count();
        if depth >= DEPTH_MAX && !names.is_empty() {
            entry.unreadable = true;
            names = Names::default();
            self.waiting.push_back(self.fault(FaultKind::TooDeep));
        }
        // `/` itself has no entry: it has no path.
        if !self.path.is_empty() {
            self.waiting.push_back(Found::Entry(entry));
        }
        let (path_bytes, device) = (self.path.len(), status.device);
        self.folders.push(Folder { handle, device, names, next: 0, path_bytes, above: false });
        Ok(())
    }

    /// A folder that cannot be listed.
    fn say_unlisted(&mut self, errno: Errno) {
        self.waiting.push_back(self.fault(FaultKind::List(errno.into())));
        if let Some(status) = self.last.filter(|_| !self.path.is_empty()) {
            let mut entry = status.entry_of(&self.path, What::Folder(status.inode()));
            entry.unreadable = true;
            self.waiting.push_back(Found::Entry(entry));
        }
    }

    fn dress(&mut self, entry: &mut Entry, read: Result<Vec<Xattr>, FaultKind>) {
        match read {
            Ok(xattrs) => entry.xattrs = xattrs,
            Err(kind) => self.waiting.push_back(self.fault(kind)),
        }
    }

    fn fault(&self, kind: FaultKind) -> Found {
        Found::Fault(Fault::new(&self.path, kind))
    }
}

/// The folder and the name in it that are looked at.
fn here(folders: &[Folder]) -> Option<(BorrowedFd<'_>, &[u8])> {
    let folder = folders.last()?;
    Some((folder.handle.as_fd(), folder.names.get(folder.next.checked_sub(1)?)?))
}

/// A folder above a root.
fn implied(folder: &[u8]) -> Entry {
    Entry {
        path: folder.to_vec(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime_ns: 0,
        xattrs: Vec::new(),
        implied: true,
        unreadable: false,
        what: What::Folder(Inode::default()),
    }
}

/// Whether the folder has the tag of caches.
fn is_cache(folder: &OwnedFd, names: &Names) -> bool {
    if !names.has(exclude::CACHE_TAG_NAME) {
        return false;
    }
    let Ok(handle) = system::open_file(folder.as_fd(), exclude::CACHE_TAG_NAME, false) else {
        return false;
    };
    let regular = fstat(&handle)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let mut head = [0; exclude::CACHE_TAG.len()];
    regular && File::from(handle).read_exact(&mut head).is_ok() && head == *exclude::CACHE_TAG
}
