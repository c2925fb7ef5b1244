//! What is recorded beside the data.

use super::*;
use crate::repo::tree::Xattr;
use rustix::fs::{CWD, FileType, XattrFlags, lsetxattr};
use std::os::unix::fs::FileTypeExt;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn with_xattrs(entry: Entry, xattrs: &[(&str, &[u8])]) -> Entry {
    let pair =
        |(name, value): &(&str, &[u8])| -> Xattr { (name.as_bytes().to_vec(), value.to_vec()) };
    Entry { xattrs: xattrs.iter().map(pair).collect(), ..entry }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 10];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

/// Whether the file system of the tests has extended attributes of users.
fn has_xattrs(backup: &Backup) -> bool {
    let probe = backup.folder.path().join("probe");
    fs::write(&probe, b"").unwrap();
    let set = lsetxattr(&probe, "user.probe", b"x", XattrFlags::empty());
    fs::remove_file(probe).unwrap();
    set.is_ok()
}

#[test]
fn metadata_comes_back_to_the_nanosecond() {
    let times = [0, 1, -1, -1_500_000_001, 1_999_999_999_999_999_999];
    let mut entries = vec![(Entry { mtime_ns: 7, ..folder("d") }, Vec::new())];
    for (number, mtime_ns) in times.into_iter().enumerate() {
        let inner = Entry { mtime_ns, mode: 0o500, ..folder(&format!("d/{number}")) };
        entries.push((inner, Vec::new()));
        let entry = Entry { mtime_ns, mode: 0o7, ..file(&format!("d/{number}/f")) };
        entries.push((entry, b"data".to_vec()));
        let link = Entry { mtime_ns, ..symlink(&format!("d/{number}/l"), "f") };
        entries.push((link, Vec::new()));
        let pipe = format!("d/{number}/p");
        entries.push((Entry { mtime_ns, ..entry_of(&pipe, What::Fifo) }, Vec::new()));
    }
    let mut backup = Backup::of(&entries);
    let options = RestoreOptions { fifos: true, ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!(report.is_whole(), "{report:?}");
    for (entry, _) in &entries {
        let path = backup.path().join(std::str::from_utf8(&entry.path).unwrap());
        let stat = fs::symlink_metadata(&path).unwrap();
        let mtime = stat.mtime() * 1_000_000_000 + stat.mtime_nsec();
        assert_eq!(mtime, entry.mtime_ns, "{}", path.display());
        if !stat.is_symlink() {
            assert_eq!(stat.mode() & 0o7777, entry.mode, "{}", path.display());
        }
    }
    assert!(fs::metadata(backup.path().join("d/0/p")).unwrap().file_type().is_fifo());
    (0..times.len()).for_each(|number| let_in(&backup.path().join(format!("d/{number}"))));
}

fn entry_of(path: &str, what: What) -> Entry {
    entry(path.as_bytes(), what)
}

#[test]
fn extended_attributes_and_holes_come_back() {
    let big = 40 << 20;
    let piece = noise(400_000, 3);
    let spread = vec![4096..104_096, 8 << 20..(8 << 20) + 300_000];
    let entries = vec![
        (with_xattrs(folder("d"), &[("user.on", b"folder")]), Vec::new()),
        (with_xattrs(file("d/f"), &[("user.a", b""), ("user.b", &[0, 255])]), b"x".to_vec()),
        (sparse("hole", big, Vec::new()), Vec::new()),
        (sparse("large", big, spread.clone()), piece.clone()),
        (sparse("small", 1 << 20, vec![500_000..500_010]), b"0123456789".to_vec()),
    ];
    let mut backup = Backup::of(&entries);
    if !has_xattrs(&backup) {
        return;
    }
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    let at = |name: &str| backup.path().join(name);
    assert_eq!(xattr(&at("d"), "user.on"), Some(b"folder".to_vec()));
    assert_eq!(xattr(&at("d/f"), "user.a"), Some(Vec::new()));
    assert_eq!(xattr(&at("d/f"), "user.b"), Some(vec![0, 255]));
    let mut large = vec![0; big as usize];
    large[4096..104_096].copy_from_slice(&piece[..100_000]);
    large[8 << 20..(8 << 20) + 300_000].copy_from_slice(&piece[100_000..]);
    assert!(backup.read("large") == large);
    assert_eq!(&backup.read("small")[499_999..500_011], b"\x000123456789\0");
    for (name, most) in [("hole", 0), ("large", 1 << 20), ("small", 1 << 16)] {
        let stat = fs::metadata(at(name)).unwrap();
        assert!(stat.blocks() * 512 <= most, "{name}: {} blocks", stat.blocks());
    }
    assert_eq!(fs::metadata(at("hole")).unwrap().len(), big);
}

#[test]
fn own_snapshots_keep_setuid_and_shared_ones_do_not() {
    let modes = [0o4755, 0o2755, 0o1777, 0o6711];
    let mut entries = Vec::new();
    for (number, mode) in modes.into_iter().enumerate() {
        let name = format!("f{number}");
        let xattrs: [(&str, &[u8]); 2] = [("trusted.t", b"t"), ("user.u", b"u")];
        entries.push((with_xattrs(Entry { mode, ..file(&name) }, &xattrs), b"x".to_vec()));
    }
    for trust in [Trust::Own, Trust::Shared] {
        let mut backup = Backup::of(&entries);
        let options = RestoreOptions { trust, ..RestoreOptions::default() };
        let report = backup.restore_with(&options, Existing::Refuse).unwrap();
        let allowed = if trust == Trust::Own { 0o7777 } else { 0o777 };
        for (number, mode) in modes.into_iter().enumerate() {
            let path = backup.path().join(format!("f{number}"));
            let found = fs::metadata(&path).unwrap().mode() & 0o7777;
            assert_eq!(found, mode & allowed, "{trust:?} {mode:o}");
            assert!(trust == Trust::Own || xattr(&path, "trusted.t").is_none());
        }
        // Without the right to set it, or the place for it, that is said.
        let whole = report.is_whole();
        assert!(whole || trust == Trust::Own || !has_xattrs(&backup), "{report:?}");
    }
}

#[test]
fn owners_come_back_for_root_and_setuid_only_with_them() {
    let entries = vec![
        (Entry { uid: 12, gid: 34, mode: 0o6755, ..file("f") }, b"x".to_vec()),
        (Entry { uid: 12, gid: 34, ..folder("g") }, Vec::new()),
        (Entry { uid: 12, gid: 34, ..symlink("l", "f") }, Vec::new()),
        (Entry { uid: u32::MAX, gid: 34, mode: 0o4700, ..file("nobody") }, b"x".to_vec()),
    ];
    let mut backup = Backup::of(&entries);
    let report = backup.restore();
    let stat = |name: &str| fs::symlink_metadata(backup.path().join(name)).unwrap();
    assert_eq!(stat("nobody").mode() & 0o7777, 0o700, "of no owner there is");
    if !is_root() {
        eprintln_skip("owners need root");
        assert_eq!(stat("f").mode() & 0o7777, 0o755);
        return;
    }
    assert_eq!(report.undressed_count, 1, "{report:?}");
    for name in ["f", "g", "l"] {
        assert_eq!((stat(name).uid(), stat(name).gid()), (12, 34), "{name}");
    }
    assert_eq!(stat("f").mode() & 0o7777, 0o6755);
    let mut backup = Backup::of(&entries);
    let options = RestoreOptions { trust: Trust::Shared, ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let stat = |name: &str| fs::symlink_metadata(backup.path().join(name)).unwrap();
    for name in ["f", "g", "l", "nobody"] {
        assert_eq!((stat(name).uid(), stat(name).mode() & 0o6000), (0, 0), "{name}");
    }
}

/// Says that a test did less than it can.
#[expect(clippy::print_stderr, reason = "a test says what it left out")]
pub(super) fn eprintln_skip(what: &str) {
    eprintln!("skipped: {what}");
}

#[test]
fn devices_and_sockets_are_never_made_and_pipes_when_asked_for() {
    let device = What::Device { block: false, number: 259 };
    let entries = [
        (entry_of("device", device), Vec::new()),
        (entry_of("pipe", What::Fifo), Vec::new()),
        (entry_of("socket", What::Socket), Vec::new()),
    ];
    let mut backup = Backup::of(&entries);
    let report = backup.restore();
    let reasons: Vec<_> = report.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::Special, SkipReason::Fifo, SkipReason::Special]);
    assert!(backup.names().is_empty());
}

#[test]
fn a_folder_that_was_only_implied_gets_no_metadata() {
    let implied = Entry { implied: true, mode: 0, mtime_ns: 5, ..folder("d") };
    let mut backup = Backup::of(&[(implied, Vec::new()), (file("d/f"), b"x".to_vec())]);
    assert!(backup.restore().is_whole());
    let stat = fs::metadata(backup.path().join("d")).unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o700);
    assert!(stat.mtime() > 1_000_000_000);
}

#[test]
fn a_pipe_with_another_name_elsewhere_is_left_as_it_is() {
    let backup = Backup::of(&small());
    let outside = backup.folder.path().join("outside");
    plant_pipe(&outside);
    let target = backup.target(Existing::Keep);
    fs::hard_link(&outside, backup.path().join("p")).unwrap();
    let place = target::Places::new(&target).of(b"p").unwrap();
    let entry = Entry { mode: 0o777, ..entry_of("p", What::Fifo) };
    let before = fs::metadata(&outside).unwrap();
    let faults = dress::Dresser::new(Trust::Own).dress_place(&place, &entry);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let after = fs::metadata(&outside).unwrap();
    assert_eq!((before.mode(), before.modified().ok()), (after.mode(), after.modified().ok()));
    // A link has no such mode, and what it leads to is left alone.
    fs::remove_file(backup.path().join("p")).unwrap();
    std::os::unix::fs::symlink(&outside, backup.path().join("p")).unwrap();
    let faults = dress::Dresser::new(Trust::Own).dress_place(&place, &entry);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(fs::metadata(&outside).unwrap().mode(), before.mode());
}

#[test]
fn access_lists_of_the_target_do_not_stay() {
    let entries = [(folder("d"), Vec::new()), (file("d/f"), b"x".to_vec())];
    let mut backup = Backup::of(&entries);
    fs::create_dir_all(backup.path()).unwrap();
    // Owner, user 1234, group, mask, others: `acl(5)`, as extended attributes have it.
    let list = [(1_u16, 7_u16, u32::MAX), (2, 7, 1234), (4, 5, u32::MAX), (16, 7, u32::MAX)];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in list.into_iter().chain([(32, 5, u32::MAX)]) {
        value.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()));
        value.extend(id.to_le_bytes());
    }
    let default = "system.posix_acl_default";
    if lsetxattr(backup.path(), default, &value, XattrFlags::empty()).is_err() {
        return eprintln_skip("access lists need a file system that has them");
    }
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    for name in ["d", "d/f"] {
        let path = backup.path().join(name);
        assert_eq!((xattr(&path, "system.posix_acl_access"), xattr(&path, default)), (None, None));
    }
    assert_eq!(fs::metadata(backup.path().join("d/f")).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_folder_that_could_not_be_listed_is_said_to_be_empty() {
    let unlisted = Entry { unreadable: true, ..folder("d") };
    let mut backup = Backup::of(&[(unlisted, Vec::new())]);
    let report = backup.restore();
    assert_eq!((report.folders, report.skipped_count), (1, 1), "{report:?}");
    assert_eq!(report.skipped[0].reason, SkipReason::Unreadable);
    assert_eq!(backup.names(), ["d"]);
}

/// Makes a pipe, as somebody else would.
pub(super) fn plant_pipe(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}
