//! Metadata: what was recorded of an entry, put on what was made of it.
//!
//! By handles: those of links and pipes can only be pointed at, and lead nowhere. In this order:
//! owner, extended attributes, mode, times, because each of them would undo one behind it. Access
//! control lists that the target gives to what is made in it go, unless they were recorded.
//!
//! | | own snapshot | a snapshot that somebody else shared |
//! |---|---|---|
//! | mode | all of it; setuid and setgid only with the owner they were given for | `0777` |
//! | owner | as root | never |
//! | extended attributes | all | `user.` |
//! | times | yes | yes |

use super::report::Undressed;
use super::target::Place;
use crate::repo::tree::{Entry, What};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fremovexattr, fsetxattr, fstat, futimens, openat,
    removexattr, setxattr, utimensat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Whose snapshot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// One's own: what it recorded is restored.
    Own,
    /// Somebody else's: nothing of it may give anybody a right, nor lead out of the target.
    Shared,
}

/// Access control lists: of what this is, and of what will be made in it.
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// Setuid and setgid.
const SET_ID: u32 = 0o6000;

/// Puts metadata on what was restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dresser {
    trust: Trust,
    /// Whether owners can be given.
    owners: bool,
}

/// Collects what the system refuses for one entry.
struct Faults<'a> {
    path: &'a [u8],
    found: Vec<Undressed>,
}

impl Faults<'_> {
    fn check(&mut self, what: impl FnOnce() -> String, outcome: Result<(), Errno>) {
        if let Err(errno) = outcome {
            let (path, why) = (self.path.to_vec(), std::io::Error::from(errno).to_string());
            self.found.push(Undressed { path, what: what(), why });
        }
    }
}

impl Dresser {
    pub(super) fn new(trust: Trust) -> Self {
        let owners = trust == Trust::Own && rustix::process::geteuid().is_root();
        Self { trust, owners }
    }

    /// Dresses a file or a folder that is open.
    pub(super) fn dress(&self, handle: impl AsFd, entry: &Entry) -> Vec<Undressed> {
        let handle = handle.as_fd();
        let mut faults = Faults { path: &entry.path, found: Vec::new() };
        if self.owners {
            faults.check(owner, valid(entry).and_then(|(uid, gid)| fchown(handle, uid, gid)));
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| self.takes(name)) {
            let set = fsetxattr(handle, &**name, value, XattrFlags::empty());
            faults.check(|| String::from_utf8_lossy(name).into_owned(), set);
        }
        for acl in self.inherited(entry) {
            faults.check(|| acl.to_owned(), removed(fremovexattr(handle, acl)));
        }
        let set = fstat(handle).and_then(|stat| fchmod(handle, self.mode(entry, &stat)));
        faults.check(mode, set);
        faults.check(times, futimens(handle, &times_of(entry)));
        faults.found
    }

    /// Dresses a symbolic link or a pipe that a restore made there.
    pub(super) fn dress_place(&self, place: &Place, entry: &Entry) -> Vec<Undressed> {
        let mut faults = Faults { path: &entry.path, found: Vec::new() };
        let (handle, stat) = match point_at(place, entry) {
            Ok(found) => found,
            Err(errno) => {
                faults.check(|| "anything".to_owned(), Err(errno));
                return faults.found;
            }
        };
        // The handle is the link or the pipe: nobody can put anything else behind this path.
        let at = by_handle(handle.as_fd());
        if self.owners {
            let chown = |(uid, gid)| chownat(&handle, "", uid, gid, AtFlags::EMPTY_PATH);
            faults.check(owner, valid(entry).and_then(chown));
        }
        for (xattr, value) in entry.xattrs.iter().filter(|(xattr, _)| self.takes(xattr)) {
            let set = setxattr(&*at, &**xattr, value, XattrFlags::empty());
            faults.check(|| String::from_utf8_lossy(xattr).into_owned(), set);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            for acl in self.inherited(entry) {
                faults.check(|| acl.to_owned(), removed(removexattr(&*at, acl)));
            }
            let set = fstat(&handle);
            let set =
                set.and_then(|stat| chmodat(CWD, &*at, self.mode(entry, &stat), AtFlags::empty()));
            faults.check(mode, set);
        }
        let set = match utimensat(&handle, "", &times_of(entry), AtFlags::EMPTY_PATH) {
            // Kernels before 5.8 take no handle alone.
            Err(Errno::INVAL) => utimensat(CWD, &*at, &times_of(entry), AtFlags::empty()),
            set => set,
        };
        faults.check(times, set);
        faults.found
    }

    /// Access control lists that the entry does not have.
    fn inherited(&self, entry: &Entry) -> impl Iterator<Item = &'static str> {
        let folder = matches!(entry.what, What::Folder(_));
        let of = if folder { ACLS.as_slice() } else { ACLS.get(..1).unwrap_or_default() };
        let has = |acl: &str| {
            let named = entry.xattrs.iter().any(|(name, _)| name == acl.as_bytes());
            named && self.takes(acl.as_bytes())
        };
        of.iter().copied().filter(move |acl| !has(acl))
    }

    /// The mode that an entry gets on what now belongs to whom `stat` says.
    fn mode(&self, entry: &Entry, stat: &Stat) -> Mode {
        let allowed = match self.trust {
            Trust::Shared => 0o777,
            // Setuid means the owner, and this one would be another.
            Trust::Own if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) => 0o7777 & !SET_ID,
            Trust::Own => 0o7777,
        };
        Mode::from_raw_mode(entry.mode & allowed)
    }

    fn takes(&self, xattr: &[u8]) -> bool {
        self.trust == Trust::Own || xattr.starts_with(b"user.")
    }
}

/// A handle that points at what was made: one that somebody else put there, or that has more names
/// elsewhere, is not it.
fn point_at(place: &Place, entry: &Entry) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(&place.folder, &*place.name, flags, Mode::empty())?;
    let stat = fstat(&handle)?;
    let kind = match entry.what {
        What::Fifo => FileType::Fifo,
        _ => FileType::Symlink,
    };
    let own = stat.st_uid == rustix::process::geteuid().as_raw() || stat.st_uid == entry.uid;
    let same = FileType::from_raw_mode(stat.st_mode) == kind && stat.st_nlink == 1;
    if own && same { Ok((handle, stat)) } else { Err(Errno::BUSY) }
}

/// Where there was none, or can be none, there is none now.
fn removed(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        outcome => outcome,
    }
}

fn owner() -> String {
    "owner".to_owned()
}

fn mode() -> String {
    "mode".to_owned()
}

fn times() -> String {
    "times".to_owned()
}

/// Owner and group. The number that means "leave it" to the system is nobody's.
fn valid(entry: &Entry) -> Result<(Option<Uid>, Option<Gid>), Errno> {
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))
}

fn times_of(entry: &Entry) -> Timestamps {
    let second = 1_000_000_000;
    let seconds = entry.mtime_ns.div_euclid(second);
    let last_modification =
        Timespec { tv_sec: seconds, tv_nsec: entry.mtime_ns.rem_euclid(second) };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

/// The path by which this process names what is open.
fn by_handle(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}
