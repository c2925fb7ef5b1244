//! What happens to the demo's files between two backups, and the folder of odd metadata.

use super::{failed, tree};
use crate::node::report::Failure;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Larger files are left as they are: the demo reads the one that it edits into memory.
const EDITED_BYTES_MAX: u64 = 64 << 20;

/// Puts a line into the middle of the largest file that can be edited, gives the next one another
/// name, and adds a file; says so.
///
/// # Errors
/// What the disk refuses.
pub(super) fn edit(root: &Path) -> Result<String, Failure> {
    edited(root).map_err(|error| failed("the files cannot be edited", &error.to_string()))
}

fn edited(root: &Path) -> io::Result<String> {
    let mut can_be = Vec::new();
    for (path, metadata) in tree::files(root)? {
        let folder = path.parent().unwrap_or(root).metadata()?.mode();
        let writable = metadata.mode() & folder & 0o200 != 0;
        if writable && metadata.nlink() == 1 && metadata.len() <= EDITED_BYTES_MAX {
            can_be.push(path);
        }
    }
    let mut said = Vec::new();
    let mut can_be = can_be.into_iter();
    if let Some(path) = can_be.next() {
        let mut content = fs::read(&path)?;
        let middle = content.len() / 2;
        content.splice(middle..middle, *b"\na line that was not there before\n");
        fs::write(&path, content)?;
        said.push("a line more in one file");
    }
    if let Some(path) = can_be.next() {
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".renamed");
        fs::rename(&path, path.with_file_name(name))?;
        said.push("another renamed");
    }
    fs::write(root.join("new.txt"), "Written between the two backups.\n")?;
    said.push("a new one");
    Ok(said.join(", "))
}

/// A folder with what few trees have: links of both kinds, an extended attribute, modes and times.
///
/// # Errors
/// What the disk refuses.
pub(super) fn add_oddities(root: &Path) -> io::Result<()> {
    let folder = root.join("odd metadata");
    fs::create_dir_all(folder.join("empty"))?;
    let letter = folder.join("letter");
    fs::write(&letter, "One file with two names, and an attribute.\n")?;
    let (name, value) = ("user.quloud.demo", b"kept");
    // Where the file system has none, there is none to compare.
    let _ = rustix::fs::lsetxattr(&letter, name, value, rustix::fs::XattrFlags::empty());
    fs::set_permissions(&letter, Permissions::from_mode(0o440))?;
    tree::set_time(&letter, 951_782_400, 123_456_789)?;
    fs::hard_link(&letter, folder.join("the same letter"))?;
    symlink("letter", folder.join("a link"))?;
    symlink("/nowhere/at all", folder.join("a loose link"))?;
    tree::set_time(&folder.join("a loose link"), 1_000_000_000, 1)?;
    fs::write(folder.join("line\nbreak"), "")?;
    fs::set_permissions(folder.join("empty"), Permissions::from_mode(0o1750))?;
    tree::set_time(&folder.join("empty"), -86_400, 999_999_999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_two_files_and_add_one_but_nothing_that_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("locked"), vec![b'x'; 900]).unwrap();
        fs::set_permissions(root.join("locked"), Permissions::from_mode(0o444)).unwrap();
        for (name, bytes) in [("large", 500), ("middle", 50), ("small", 5)] {
            fs::write(root.join(name), vec![b'x'; bytes]).unwrap();
        }
        assert_eq!(edit(root).unwrap(), "a line more in one file, another renamed, a new one");
        assert_eq!(fs::read(root.join("locked")).unwrap().len(), 900);
        let large = fs::read_to_string(root.join("large")).unwrap();
        assert!(large.starts_with("xxx") && large.ends_with("xxx") && large.contains("a line"));
        assert!(root.join("middle.renamed").exists() && !root.join("middle").exists());
        assert!(root.join("small").exists() && root.join("new.txt").exists());
    }

    #[test]
    fn a_tree_without_anything_to_edit_gets_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(edit(folder.path()).unwrap(), "a new one");
    }

    #[test]
    fn oddities_can_be_copied_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, copied) = (folder.path().join("tree"), folder.path().join("copy"));
        add_oddities(&tree).unwrap();
        tree::copy(&tree, &copied).unwrap();
        let equal = tree::compare(&tree, &copied).unwrap().to_string();
        assert!(
            equal.starts_with("2 files, 3 folders, 2 symbolic links and 1 hard link"),
            "{equal}"
        );
    }
}
