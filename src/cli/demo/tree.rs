//! Trees of the demo: copied with their metadata, and compared with it.
//!
//! Written without the code that backs up and restores, so that it cannot share its faults.

use super::{failed, misused};
use crate::cli::output;
use crate::node::report::Failure;
use rustix::fs::{
    AtFlags, CWD, Timespec, Timestamps, XattrFlags, lgetxattr, llistxattr, lsetxattr, utimensat,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// The longest list of names, and the longest value, that Linux has.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What is read at once of two files that are compared.
const WINDOW_BYTES: usize = 1 << 20;

/// The attributes that anybody may set.
const XATTR_PREFIX: &[u8] = b"user.";

/// What two equal trees have.
#[derive(Default)]
pub(super) struct Equal {
    files: u64,
    folders: u64,
    symlinks: u64,
    hard_links: u64,
    xattrs: u64,
}

impl fmt::Display for Equal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = output::count;
        write!(
            f,
            "{}, {}, {} and {} equal in bytes, names, modes, times to the nanosecond and owners",
            count(self.files, "file"),
            count(self.folders, "folder"),
            count(self.symlinks, "symbolic link"),
            count(self.hard_links, "hard link"),
        )?;
        match self.xattrs {
            0 => Ok(()),
            xattrs => write!(f, ", and in {}", count(xattrs, "extended attribute")),
        }
    }
}

/// What a tree has of one name, but the bytes of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    bytes: u64,
    modified: (i64, i64),
    target: Option<PathBuf>,
    /// The name of the same file that comes first.
    first_name: PathBuf,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Copies files, folders and links from `from` to `to`, which is not there yet.
///
/// # Errors
/// What cannot be read is the user's matter, and what cannot be written is said as well.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let parent = to.parent().and_then(|parent| fs::metadata(parent).ok());
    let mut copier = Copier { first_names: BTreeMap::new(), not_into: parent.as_ref().map(node) };
    copier.copy(from, to)
}

struct Copier {
    /// Where the first name of a file with several was copied to.
    first_names: BTreeMap<(u64, u64), PathBuf>,
    /// The folder that is copied into: it may lie in what is copied.
    not_into: Option<(u64, u64)>,
}

impl Copier {
    fn copy(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        let unread = |error: io::Error| super::corpus::unreadable(from, &error.to_string());
        let unwritten = |error: io::Error| {
            let hint = "free some space, or set TMPDIR to a folder on another disk";
            misused(&format!("no copy of {} can be made", from.display()), &error.to_string(), hint)
        };
        let metadata = from.symlink_metadata().map_err(unread)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            if self.not_into == Some(node(&metadata)) {
                return Ok(());
            }
            fs::create_dir(to).map_err(unwritten)?;
            for entry in fs::read_dir(from).map_err(unread)? {
                let name = entry.map_err(unread)?.file_name();
                self.copy(&from.join(&name), &to.join(&name))?;
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(from).map_err(unread)?, to).map_err(unwritten)?;
        } else if kind.is_file() {
            if let Some(first) = self.first_names.get(&node(&metadata)) {
                return fs::hard_link(first, to).map_err(unwritten);
            }
            let mut source = File::open(from).map_err(unread)?;
            let copied = File::create(to).and_then(|mut to| io::copy(&mut source, &mut to));
            copied.map_err(unwritten)?;
            if metadata.nlink() > 1 {
                self.first_names.insert(node(&metadata), to.to_owned());
            }
        } else {
            // Pipes, sockets and devices make no demo.
            return Ok(());
        }
        dress(from, to, &metadata).map_err(unwritten)
    }
}

/// The file system and the inode.
fn node(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Gives a copy the metadata of what it is a copy of, as far as this user can.
fn dress(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    if !metadata.is_symlink() {
        for (name, value) in xattrs(from)? {
            // The temporary folder may be on a file system that has none.
            let _ = lsetxattr(to, &*name, &value, XattrFlags::empty());
        }
        fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    set_time(to, metadata.mtime(), metadata.mtime_nsec())
}

/// Sets the time of the last change of a file, a folder or a link.
pub(super) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    #[allow(clippy::useless_conversion, reason = "the type of the field differs")]
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or_default() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The attributes that users set; none where the file system has none.
fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut scratch = vec![0; XATTR_BYTES_MAX];
    let Ok(length) = llistxattr(path, &mut scratch[..]) else { return Ok(found) };
    let names = scratch.get(..length).unwrap_or_default().to_vec();
    for name in names.split(|byte| *byte == 0).filter(|name| name.starts_with(XATTR_PREFIX)) {
        let length = lgetxattr(path, name, &mut scratch[..])?;
        let value = scratch.get(..length).unwrap_or_default().to_vec();
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// Compares everything that is to come back.
///
/// # Errors
/// A [`Failure`] that names the first difference.
pub(super) fn compare(original: &Path, restored: &Path) -> Result<Equal, Failure> {
    let unread = |error: io::Error| failed("a tree cannot be read", &error.to_string());
    let (before, after) = (look(original).map_err(unread)?, look(restored).map_err(unread)?);
    let mut names = before.keys().chain(after.keys());
    if let Some(name) = names.find(|name| !before.contains_key(*name) || !after.contains_key(*name))
    {
        let why = format!("{} is not in both", original.join(name).display());
        return Err(failed("what was restored has other names", &why));
    }
    let mut equal = Equal::default();
    for ((name, before), after) in before.iter().zip(after.values()) {
        if before != after {
            let why = format!("{}: {before:?} became {after:?}", name.display());
            return Err(failed("restored metadata differs from the original", &why));
        }
        if before.target.is_some() {
            equal.symlinks += 1;
        } else if rustix::fs::FileType::from_raw_mode(before.mode).is_dir() {
            equal.folders += 1;
        } else if before.first_name != *name {
            equal.hard_links += 1;
        } else {
            equal.files += 1;
            if !same_bytes(&original.join(name), &restored.join(name)).map_err(unread)? {
                let why = name.display().to_string();
                return Err(failed("a restored file differs from the original", &why));
            }
        }
        equal.xattrs += before.xattrs.len() as u64;
    }
    Ok(equal)
}

/// All that is below a folder, and the folder itself.
fn look(root: &Path) -> io::Result<BTreeMap<PathBuf, Seen>> {
    let mut found = BTreeMap::new();
    for path in walk(root)? {
        let metadata = path.symlink_metadata()?;
        let target = metadata.is_symlink().then(|| fs::read_link(&path)).transpose()?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
        let seen = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            bytes: if metadata.is_dir() { 0 } else { metadata.len() },
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: if target.is_some() { BTreeMap::new() } else { xattrs(&path)? },
            target,
            first_name: name.clone(),
        };
        found.insert(name, (node(&metadata), seen));
    }
    let mut first_names = BTreeMap::new();
    let named = found.into_iter().map(|(name, (node, mut seen))| {
        seen.first_name.clone_from(first_names.entry(node).or_insert_with(|| name.clone()));
        (name, seen)
    });
    Ok(named.collect())
}

/// Every path below a folder, and its own.
fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut open, mut all) = (vec![root.to_owned()], Vec::new());
    while let Some(path) = open.pop() {
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        all.push(path);
    }
    Ok(all)
}

/// Regular files below a folder, with their lengths; largest first, equal ones by their names.
pub(super) fn files(root: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut files = Vec::new();
    for path in walk(root)? {
        let metadata = path.symlink_metadata()?;
        if metadata.is_file() {
            files.push((path, metadata));
        }
    }
    files.sort_by(|(left, one), (right, other)| {
        other.len().cmp(&one.len()).then_with(|| left.cmp(right))
    });
    Ok(files)
}

fn same_bytes(left: &Path, right: &Path) -> io::Result<bool> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        for (file, window) in [(&mut left, &mut one), (&mut right, &mut other)] {
            window.clear();
            file.take(WINDOW_BYTES as u64).read_to_end(window)?;
        }
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

/// Lets its owner remove what is in a folder, as far as that can be done.
pub(super) fn make_removable(root: &Path) {
    let Ok(metadata) = root.symlink_metadata() else { return };
    if !metadata.is_dir() {
        return;
    }
    if metadata.mode() & 0o700 != 0o700 {
        // What this comes to shows when it is removed.
        let _ = fs::set_permissions(root, Permissions::from_mode(0o700));
    }
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        make_removable(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree with one of everything, and a copy of it.
    fn two_trees(folder: &Path) -> (PathBuf, PathBuf) {
        let (tree, copied) = (folder.join("tree"), folder.join("copy"));
        fs::create_dir_all(tree.join("below")).unwrap();
        fs::write(tree.join("below/file"), "content").unwrap();
        fs::hard_link(tree.join("below/file"), tree.join("again")).unwrap();
        symlink("below/file", tree.join("link")).unwrap();
        fs::set_permissions(tree.join("below/file"), Permissions::from_mode(0o440)).unwrap();
        set_time(&tree.join("below"), 1_000_000_000, 123_456_789).unwrap();
        copy(&tree, &copied).unwrap();
        (tree, copied)
    }

    #[test]
    fn a_copy_is_equal_to_what_it_was_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, copied) = two_trees(folder.path());
        let equal = compare(&tree, &copied).unwrap();
        assert_eq!((equal.files, equal.folders, equal.symlinks, equal.hard_links), (1, 2, 1, 1));
        let time = copied.join("below").metadata().unwrap();
        assert_eq!((time.mtime(), time.mtime_nsec()), (1_000_000_000, 123_456_789));
    }

    #[test]
    fn every_difference_is_found() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 8] = [
            ("bytes", |tree| {
                let file = tree.join("below/file");
                let time = file.metadata().unwrap();
                fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
                fs::write(&file, "CONTENT").unwrap();
                fs::set_permissions(&file, Permissions::from_mode(0o440)).unwrap();
                set_time(&file, time.mtime(), time.mtime_nsec()).unwrap();
            }),
            ("mode", |tree| {
                fs::set_permissions(tree.join("again"), Permissions::from_mode(0o441)).unwrap();
            }),
            ("time", |tree| set_time(&tree.join("below"), 1_000_000_000, 123_456_788).unwrap()),
            ("time of a link", |tree| set_time(&tree.join("link"), 1, 0).unwrap()),
            ("target of a link", |tree| {
                let time = tree.join("link").symlink_metadata().unwrap();
                fs::remove_file(tree.join("link")).unwrap();
                symlink("below/FILE", tree.join("link")).unwrap();
                set_time(&tree.join("link"), time.mtime(), time.mtime_nsec()).unwrap();
            }),
            ("hard link", |tree| {
                let aside = tree.join("aside");
                copy(&tree.join("again"), &aside).unwrap();
                fs::rename(aside, tree.join("again")).unwrap();
            }),
            ("missing name", |tree| fs::remove_file(tree.join("link")).unwrap()),
            ("further name", |tree| fs::write(tree.join("new"), "").unwrap()),
        ];
        for (what, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            let (tree, copied) = two_trees(folder.path());
            let root = copied.metadata().unwrap();
            change(&copied);
            set_time(&copied, root.mtime(), root.mtime_nsec()).unwrap();
            assert!(compare(&tree, &copied).is_err(), "{what} is not seen");
            assert!(compare(&copied, &tree).is_err(), "{what} is not seen the other way round");
        }
    }

    #[test]
    fn a_folder_that_holds_its_own_copy_is_copied_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        copy(folder.path(), &scratch.join("copy")).unwrap();
        assert!(scratch.join("copy/file").exists() && !scratch.join("copy/scratch").exists());
    }
}
