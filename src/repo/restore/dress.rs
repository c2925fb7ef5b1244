//! Metadata: what was recorded of an entry, put on what was made of it.
//!
//! Files and folders by their handles; links and pipes, which have none that can be written, by
//! name in an open folder, never followed. In this order: owner, extended attributes, mode, times,
//! because each of them would undo one behind it.
//!
//! | | own snapshot | a snapshot that somebody else shared |
//! |---|---|---|
//! | mode | all of it; setuid and setgid only with the owner they were given for | `0777` |
//! | owner | as root | never |
//! | extended attributes | all | `user.` |
//! | times | yes | yes |

use super::report::Undressed;
use super::target::Place;
use crate::repo::tree::Entry;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, fstat, futimens, lsetxattr, utimensat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Whose snapshot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// One's own: what it recorded is restored.
    Own,
    /// Somebody else's: nothing of it may give anybody a right, nor lead out of the target.
    Shared,
}

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
        let set = fstat(handle).and_then(|stat| fchmod(handle, self.mode(entry, &stat)));
        faults.check(mode, set);
        faults.check(times, futimens(handle, &times_of(entry)));
        faults.found
    }

    /// Dresses a symbolic link or a pipe that was just made there.
    pub(super) fn dress_place(&self, place: &Place, entry: &Entry) -> Vec<Undressed> {
        let mut faults = Faults { path: &entry.path, found: Vec::new() };
        let (folder, name) = (&*place.folder, &*place.name);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if self.owners {
            let chown = |(uid, gid)| chownat(folder, name, uid, gid, nofollow);
            faults.check(owner, valid(entry).and_then(chown));
        }
        for (xattr, value) in entry.xattrs.iter().filter(|(xattr, _)| self.takes(xattr)) {
            // By way of the folder's handle, the last name not followed.
            let at = [by_handle(folder.as_fd()).as_bytes(), b"/", name].concat();
            let set = lsetxattr(at, &**xattr, value, XattrFlags::empty());
            faults.check(|| String::from_utf8_lossy(xattr).into_owned(), set);
        }
        faults.check(mode, self.chmod_pipe(place, entry));
        faults.check(times, utimensat(folder, name, &times_of(entry), nofollow));
        faults.found
    }

    /// The mode of a pipe; links have none.
    fn chmod_pipe(&self, place: &Place, entry: &Entry) -> Result<(), Errno> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
        let flags = flags | rustix::fs::OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&place.folder, &*place.name, flags, Mode::empty())?;
        let stat = fstat(&handle)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Ok(());
        }
        let mode = self.mode(entry, &stat);
        // The handle is the pipe: nobody can put anything else behind this path.
        chmodat(CWD, by_handle(handle.as_fd()), mode, AtFlags::empty())
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
