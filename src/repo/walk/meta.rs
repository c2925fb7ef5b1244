//! What is recorded of a name beside its content, as the system says it.

use super::fault::FaultKind;
use crate::repo::tree::Content;
use crate::repo::tree::{Entry, FileBody, Inode, What, XATTR_BYTES_MAX, XATTRS_MAX, Xattr};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The most bytes of a list of names, and of a value: Linux has no longer ones.
const XATTR_SCRATCH_BYTES: usize = 64 << 10;

/// What the system says of a name, without following it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(super) kind: FileType,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// Bytes that the file takes on the disk.
    pub(super) stored_bytes: u64,
    mtime_ns: i64,
    inode: Inode,
    /// The file system.
    pub(super) device: u64,
    /// How many names the inode has.
    pub(super) links: u64,
    device_number: u64,
}

impl Status {
    // The types of these fields differ between platforms.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "the types of the fields differ between platforms"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        let (mtime, ctime) = (i64::from(stat.st_mtime), i64::from(stat.st_ctime));
        let (mtime_part, ctime_part) = (stat.st_mtime_nsec, stat.st_ctime_nsec);
        let mtime_ns = ns(mtime, i64::try_from(mtime_part).unwrap_or_default());
        let ctime_ns = ns(ctime, i64::try_from(ctime_part).unwrap_or_default());
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: u32::from(stat.st_mode) & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            stored_bytes: u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512),
            mtime_ns,
            inode: Inode { ctime_ns, number: u64::from(stat.st_ino) },
            device: u64::try_from(stat.st_dev).unwrap_or_default(),
            links: u64::from(stat.st_nlink),
            device_number: u64::try_from(stat.st_rdev).unwrap_or_default(),
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The file system and the inode: no two names of different things have the same.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode.number)
    }

    /// Whether an open file is what it was then, content and all.
    pub(crate) fn is_still_of(&self, file: &File) -> bool {
        let stamp =
            |status: &Self| (status.identity(), status.bytes, status.mtime_ns, status.inode);
        rustix::fs::fstat(file).is_ok_and(|stat| stamp(&Self::of(&stat)) == stamp(self))
    }

    /// The entry of this name, without extended attributes; `target` of what is a symbolic link. A
    /// file has no content yet.
    pub(super) fn entry(&self, path: &[u8], target: Vec<u8>) -> Option<Entry> {
        let what = match self.kind {
            FileType::Directory => What::Folder(self.inode),
            FileType::RegularFile => What::File(self.body()),
            FileType::Symlink => What::Symlink(target),
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::CharacterDevice => What::Device { block: false, number: self.device_number },
            FileType::BlockDevice => What::Device { block: true, number: self.device_number },
            FileType::Unknown => return None,
        };
        Some(self.entry_of(path, what))
    }

    pub(super) fn entry_of(&self, path: &[u8], what: What) -> Entry {
        Entry {
            path: path.to_vec(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime_ns: self.mtime_ns,
            xattrs: Vec::new(),
            implied: false,
            unreadable: false,
            what,
        }
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// Whether this process owns it, or may do everything.
    pub(super) fn is_mine(&self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        own == 0 || own == self.uid
    }

    /// A file's length, without content.
    pub(super) fn body(&self) -> FileBody {
        FileBody { bytes: self.bytes, inode: self.inode, extents: None, content: Content::None }
    }
}

/// Whose extended attributes are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bearer<'a> {
    /// What is open.
    Open(BorrowedFd<'a>),
    /// A name in a folder; a link is not followed. Read by way of `/proc`, because no call of the
    /// system takes a folder and a name; where that is missing, there are none.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// Reads extended attributes.
#[derive(Debug, Default)]
pub(super) struct XattrReader {
    scratch: Vec<u8>,
}

impl XattrReader {
    /// All of them, names ascending. None where the file system has none.
    ///
    /// # Errors
    /// [`FaultKind::Xattrs`], [`FaultKind::TooManyXattrs`].
    pub(super) fn read(&mut self, bearer: Bearer<'_>) -> Result<Vec<Xattr>, FaultKind> {
        self.scratch.resize(XATTR_SCRATCH_BYTES, 0);
        let listed = match bearer {
            Bearer::Open(file) => rustix::fs::flistxattr(file, &mut self.scratch[..]),
            Bearer::Named(folder, name) => {
                rustix::fs::llistxattr(by_proc(folder, name), &mut self.scratch[..])
            }
        };
        let length = match listed {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOENT | Errno::NOTDIR | Errno::NOSYS) => 0,
            Err(Errno::RANGE | Errno::TOOBIG) => return Err(FaultKind::TooManyXattrs),
            Err(errno) => return Err(FaultKind::Xattrs(errno.into())),
        };
        let list = self.scratch.get(..length).unwrap_or_default();
        let mut names: Vec<Vec<u8>> = list
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        names.dedup();
        let (mut xattrs, mut bytes) = (Vec::with_capacity(names.len()), 0);
        for name in names {
            let Some(value) = self.value(bearer, &name)? else { continue };
            bytes += name.len() + value.len();
            xattrs.push((name, value));
        }
        let fits = xattrs.len() <= XATTRS_MAX && bytes <= XATTR_BYTES_MAX;
        if fits { Ok(xattrs) } else { Err(FaultKind::TooManyXattrs) }
    }

    /// `None` where it was removed meanwhile.
    fn value(&mut self, bearer: Bearer<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, FaultKind> {
        let read = match bearer {
            Bearer::Open(file) => rustix::fs::fgetxattr(file, name, &mut self.scratch[..]),
            Bearer::Named(folder, own) => {
                rustix::fs::lgetxattr(by_proc(folder, own), name, &mut self.scratch[..])
            }
        };
        match read {
            Ok(length) => Ok(self.scratch.get(..length).map(<[u8]>::to_vec)),
            Err(Errno::NODATA | Errno::NOENT) => Ok(None),
            Err(Errno::RANGE | Errno::TOOBIG) => Err(FaultKind::TooManyXattrs),
            Err(errno) => Err(FaultKind::Xattrs(errno.into())),
        }
    }
}

fn by_proc(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat()
}
