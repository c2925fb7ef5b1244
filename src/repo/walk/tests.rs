//! Walks over folders of every kind of thing.

use super::*;
use crate::repo::fixture::scratch;
use crate::repo::tree::path::PathFault;
use rustix::fs::{XattrFlags, lsetxattr, makedev, mknodat, setxattr};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn options(roots: &[&Path]) -> WalkOptions {
    let roots = roots.iter().map(|root| root.to_path_buf()).collect();
    WalkOptions { roots, ..WalkOptions::default() }
}

/// Everything that a walk finds.
fn walked(options: &WalkOptions) -> (Vec<Entry>, Vec<Fault>) {
    let mut walk = Walk::new(options).unwrap();
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    while let Some(found) = walk.next() {
        match found {
            Found::Entry(entry) => entries.push(entry),
            Found::File(_) => entries.push(walk.open().unwrap().entry),
            Found::Fault(fault) => faults.push(fault),
        }
    }
    (entries, faults)
}

/// The same, where nothing may be wrong.
fn found(options: &WalkOptions) -> Vec<Entry> {
    let (entries, faults) = walked(options);
    assert!(faults.is_empty(), "{faults:?}");
    entries
}

/// Paths below `folder`, as text.
fn below(folder: &Path, entries: &[Entry]) -> Vec<String> {
    let folder = [&folder.as_os_str().as_bytes()[1..], b"/"].concat();
    let below = entries.iter().filter_map(|entry| entry.path.strip_prefix(folder.as_slice()));
    below.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

fn write(folder: &Path, paths: &[&str]) {
    for path in paths {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
    }
}

fn named<'e>(entries: &'e [Entry], end: &[u8]) -> &'e Entry {
    entries.iter().find(|entry| entry.path.ends_with(end)).expect("it is in the tree")
}

#[test]
fn names_come_in_the_order_of_trees() {
    let folder = scratch();
    write(folder.path(), &["a/b/c", "a/b\u{1}", "a\u{1}", "a-b", "b", "a/b-", "A", "\u{e4}"]);
    let entries = found(&options(&[folder.path()]));
    let ordered = |pair: &[Entry]| path::compare(&pair[0].path, &pair[1].path) == Ordering::Less;
    assert!(entries.windows(2).all(ordered), "{entries:?}");
    let order = ["A", "a", "a/b", "a/b/c", "a/b\u{1}", "a/b-", "a\u{1}", "a-b", "b", "\u{e4}"];
    assert_eq!(below(folder.path(), &entries), order);
}

#[test]
fn odd_names_xattrs_links_holes_and_fifos_are_recorded() {
    let folder = scratch();
    let at = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
    for name in [&b"not \xff text"[..], b"line\nfeed", b"-rf", b" ", b"a:b", &[b'n'; 255]] {
        fs::write(at(name), name).unwrap();
    }
    fs::create_dir(at(b"empty folder")).unwrap();
    fs::write(at(b"empty"), b"").unwrap();
    symlink("../\u{e4}/nowhere", at(b"link")).unwrap();
    let holes = fs::File::create_new(at(b"holes")).unwrap();
    holes.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"x", 5 << 20).unwrap();
    mknodat(CWD, at(b"fifo"), FileType::Fifo, 0o640.into(), 0).unwrap();
    let _socket = UnixListener::bind(at(b"socket")).unwrap();
    fs::set_permissions(at(b"empty"), fs::Permissions::from_mode(0o4_751)).unwrap();
    let with_xattrs = setxattr(at(b"empty"), "user.b", b"two\0", XattrFlags::empty()).is_ok();
    let _ = setxattr(at(b"empty"), "user.a", b"", XattrFlags::empty());
    let _ = setxattr(at(b"empty folder"), "user.f", b"f", XattrFlags::empty());
    let entries = found(&options(&[folder.path()]));
    for name in [&b"not \xff text"[..], b"line\nfeed", b"-rf", b"/ ", b"a:b", &[b'n'; 255]] {
        assert!(matches!(named(&entries, name).what, What::File(_)));
    }
    let empty = named(&entries, b"/empty");
    let disk = fs::metadata(at(b"empty")).unwrap();
    assert_eq!((empty.mode, empty.uid, empty.gid), (0o4_751, disk.uid(), disk.gid()));
    assert_eq!(empty.mtime_ns, disk.mtime() * 1_000_000_000 + disk.mtime_nsec());
    let What::File(body) = &empty.what else { panic!("it is a file") };
    let ctime_ns = disk.ctime() * 1_000_000_000 + disk.ctime_nsec();
    assert_eq!(body.inode, Inode { ctime_ns, number: disk.ino() });
    if with_xattrs {
        let expected = [(b"user.a".to_vec(), Vec::new()), (b"user.b".to_vec(), b"two\0".to_vec())];
        assert_eq!(empty.xattrs, expected);
        assert_eq!(named(&entries, b"empty folder").xattrs.len(), 1);
    }
    let link = &named(&entries, b"/link").what;
    assert!(matches!(link, What::Symlink(to) if to == "../\u{e4}/nowhere".as_bytes()));
    assert!(matches!(&named(&entries, b"/holes").what, What::File(body)
        if body.extents.as_ref().is_some_and(|extents| extents.0.len() == 1)));
    assert!(matches!(named(&entries, b"/fifo").what, What::Fifo));
    assert!(matches!(named(&entries, b"/socket").what, What::Socket));
}

/// Needs root: nobody else makes devices, or attributes of links.
#[test]
fn devices_and_attributes_of_links_are_recorded() {
    let folder = scratch();
    let device = folder.path().join("device");
    let number = makedev(1, 3);
    if mknodat(CWD, &device, FileType::CharacterDevice, 0o600.into(), number).is_err() {
        return;
    }
    symlink("device", folder.path().join("link")).unwrap();
    let link = folder.path().join("link");
    let dressed = lsetxattr(&link, "trusted.q", b"v", XattrFlags::empty()).is_ok();
    let entries = found(&options(&[folder.path()]));
    let device = &named(&entries, b"/device").what;
    assert!(matches!(device, What::Device { block: false, number: found } if *found == number));
    if dressed {
        let xattrs = &named(&entries, b"/link").xattrs;
        assert_eq!(*xattrs, [(b"trusted.q".to_vec(), b"v".to_vec())]);
    }
}

#[test]
fn a_hard_link_names_its_first_name() {
    let folder = scratch();
    write(folder.path(), &["b/first", "other"]);
    let first = folder.path().join("b/first");
    for name in ["b/second", "z"] {
        fs::hard_link(&first, folder.path().join(name)).unwrap();
    }
    // The other name of this one is outside.
    let outside = scratch();
    fs::hard_link(folder.path().join("other"), outside.path().join("x")).unwrap();
    let entries = found(&options(&[folder.path()]));
    let path = &first.as_os_str().as_bytes()[1..];
    for (name, link) in [("b/first", false), ("b/second", true), ("other", false), ("z", true)] {
        match &named(&entries, name.as_bytes()).what {
            What::HardLink(to) => assert!(link && to == path, "{name}"),
            what => assert!(!link && matches!(what, What::File(_)), "{name}"),
        }
    }
}

#[test]
fn the_data_folder_is_left_out() {
    let folder = scratch();
    write(folder.path(), &["a", "own/secret", "own/store/segment", "z/own/kept"]);
    let own = folder.path().join("own");
    let mut options = options(&[folder.path()]);
    options.own = vec![own.clone(), folder.path().join("absent")];
    let entries = found(&options);
    assert_eq!(below(folder.path(), &entries), ["a", "z", "z/own", "z/own/kept"]);
    for root in [own.clone(), own.join("store"), own.join("secret")] {
        options.roots = vec![root.clone()];
        assert!(matches!(Walk::new(&options), Err(RootError::Own { path }) if path == root));
    }
}

#[test]
fn folders_above_a_root_are_named_and_nothing_is_recorded_of_them() {
    let folder = scratch();
    write(folder.path(), &["a/b/c/file", "a/b/d", "a/e/file", "a/x"]);
    let root = |name: &str| folder.path().join(name);
    let (c, e, x) = (root("a/b/c"), root("a/e"), root("a/x"));
    let entries = found(&options(&[&x, &e, &c]));
    let order = ["a", "a/b", "a/b/c", "a/b/c/file", "a/e", "a/e/file", "a/x"];
    assert_eq!(below(folder.path(), &entries), order);
    let implied: Vec<_> = entries.iter().filter(|entry| entry.implied).collect();
    let above = folder.path().components().count() - 1;
    assert_eq!(implied.len(), above + 2);
    assert!(implied.iter().all(|entry| entry.mtime_ns == 0 && entry.xattrs.is_empty()));
    assert!(implied.iter().all(|entry| matches!(entry.what, What::Folder(_))));
}

#[test]
fn roots_in_one_another_are_one_and_roots_may_be_files_or_links() {
    let folder = scratch();
    write(folder.path(), &["a/b/file", "a/b.txt", "real/inside"]);
    symlink("real", folder.path().join("link")).unwrap();
    let root = |name: &str| folder.path().join(name);
    let (a, b, again) = (root("a"), root("a/b"), root("a/./b/"));
    let entries = found(&options(&[&b, &a, &again, &a]));
    assert_eq!(below(folder.path(), &entries), ["a", "a/b", "a/b/file", "a/b.txt"]);
    let entries = found(&options(&[&root("a/b.txt"), &root("a/b")]));
    assert_eq!(below(folder.path(), &entries), ["a", "a/b", "a/b/file", "a/b.txt"]);
    // The user named it, so the link is what it leads to.
    let entries = found(&options(&[&root("link")]));
    assert_eq!(below(folder.path(), &entries), ["link", "link/inside"]);
}

#[test]
fn a_root_that_is_not_there_is_said_and_the_others_are_walked() {
    let folder = scratch();
    write(folder.path(), &["a"]);
    let (here, absent) = (folder.path().join("a"), folder.path().join("absent"));
    let (entries, faults) = walked(&options(&[&absent, &here]));
    assert_eq!(below(folder.path(), &entries), ["a"]);
    let said: Vec<_> = faults.iter().map(|fault| (&fault.path[..], fault.is_left_out())).collect();
    assert_eq!(said, [(absent.as_os_str().as_bytes(), true)]);
    let refused = |root: &str| Walk::new(&options(&[Path::new(root)])).unwrap_err();
    assert!(matches!(refused(absent.to_str().unwrap()), RootError::Missing { .. }));
    assert!(matches!(refused("relative"), RootError::NotAbsolute { .. }));
    assert!(matches!(refused("/a/../b"), RootError::NotAbsolute { .. }));
    assert!(matches!(refused(&format!("/{}", "n".repeat(256))), RootError::Path { .. }));
    assert!(matches!(Walk::new(&options(&[])), Err(RootError::None)));
}

#[test]
fn more_roots_than_a_snapshot_can_record_are_refused_before_the_walk() {
    let folder = scratch();
    let deep: PathBuf = std::iter::repeat_n("d".repeat(250), 13).collect();
    let roots: Vec<_> =
        (0..6).map(|number: u8| folder.path().join(number.to_string()).join(&deep)).collect();
    roots.iter().for_each(|root| fs::create_dir_all(root).unwrap());
    let refused = |count: usize| {
        let roots: Vec<&Path> = roots.iter().take(count).map(PathBuf::as_path).collect();
        Walk::new(&options(&roots)).map(drop)
    };
    assert!(refused(4).is_ok());
    assert!(matches!(refused(6), Err(RootError::TooMany)));
}

#[test]
fn rules_are_those_of_each_root() {
    let folder = scratch();
    write(folder.path(), &["a/cache/x", "a/keep/cache/x", "a/x.o", "a/keep.o", "b/cache/x"]);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let mut options = options(&[&a, &b]);
    let absolute = format!("{}/cache", a.display());
    options.excludes.add(absolute.as_bytes()).unwrap();
    options.excludes.add_lines(b"*.o\n!keep.o\n/a/\n").unwrap();
    let entries = found(&options);
    let kept = ["a", "a/keep", "a/keep/cache", "a/keep/cache/x", "a/keep.o"];
    let expected = [&kept[..], &["b", "b/cache", "b/cache/x"]].concat();
    assert_eq!(below(folder.path(), &entries), expected);
}

#[test]
fn cachedir_tag_leaves_only_the_tag() {
    let folder = scratch();
    write(folder.path(), &["a/inside", "b/CACHEDIR.TAG", "b/inside", "c/CACHEDIR.TAG/x"]);
    let tag = [exclude::CACHE_TAG, b"\n# made by".as_slice()].concat();
    fs::write(folder.path().join("a/CACHEDIR.TAG"), tag).unwrap();
    let mut options = options(&[folder.path()]);
    assert_eq!(found(&options).iter().filter(|entry| entry.path.ends_with(b"inside")).count(), 2);
    options.exclude_caches = true;
    let expected = [
        "a",
        "a/CACHEDIR.TAG",
        "b",
        "b/CACHEDIR.TAG",
        "b/inside",
        "c",
        "c/CACHEDIR.TAG",
        "c/CACHEDIR.TAG/x",
    ];
    assert_eq!(below(folder.path(), &found(&options)), expected);
}

/// Needs a mount below `/dev`.
#[test]
fn one_file_system_stays_in_it() {
    let device = |path: &str| fs::metadata(path).map(|found| found.dev()).ok();
    let (Some(dev), Some(shm)) = (device("/dev"), device("/dev/shm")) else { return };
    if dev == shm {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    write(folder.path(), &["x"]);
    let mut options = options(&[Path::new("/dev")]);
    options.one_file_system = true;
    let (entries, _) = walked(&options);
    let in_shm = below(Path::new("/dev/shm"), &entries);
    assert!(in_shm.is_empty() && entries.iter().any(|entry| entry.path == b"dev/shm"));
}

#[test]
fn what_the_kernel_makes_up_is_not_walked() {
    let proc = |path: &str| fs::File::open(path).is_ok_and(|folder| system::is_virtual(&folder));
    assert!(Path::new("/proc/self").exists() == proc("/proc"));
    assert!(!proc("/tmp"));
}

#[test]
fn a_path_that_no_tree_takes_is_said_and_the_walk_goes_on() {
    let folder = scratch();
    write(folder.path(), &["z"]);
    // Made from the inside: no path of the system is that long.
    let long = [b'n'; 250];
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut above = openat(CWD, folder.path(), flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&above, &long[..], 0o700.into()).unwrap();
        above = openat(&above, &long[..], flags, Mode::empty()).unwrap();
    }
    let (entries, faults) = walked(&options(&[folder.path()]));
    assert_eq!(faults.len(), 1);
    assert!(matches!(faults[0].kind, FaultKind::Path(PathFault::TooLong(_))), "{faults:?}");
    assert_eq!(below(folder.path(), &entries).last().unwrap(), "z");
    let deep = scratch();
    let names = vec!["d"; 140];
    fs::create_dir_all(deep.path().join(names.join("/"))).unwrap();
    write(deep.path(), &["z"]);
    let (entries, faults) = walked(&options(&[deep.path()]));
    assert!(matches!(faults[..], [Fault { kind: FaultKind::TooDeep, .. }]));
    assert!(!faults[0].is_left_out(), "the folder itself is there");
    assert!(entries.iter().any(|entry| entry.unreadable));
    assert_eq!(below(deep.path(), &entries).last().unwrap(), "z");
}

#[test]
fn what_vanishes_or_is_replaced_leads_nowhere_else() {
    let folder = scratch();
    write(folder.path(), &["a", "b/inside", "c", "d"]);
    let options = options(&[folder.path()]);
    let mut walk = Walk::new(&options).unwrap();
    while let Some(found) = walk.next() {
        let Found::File(entry) = found else { continue };
        if entry.path.ends_with(b"/a") {
            // The names are listed by now.
            fs::remove_file(folder.path().join("a")).unwrap();
            assert!(matches!(walk.open(), Err(OpenError::Gone)));
            fs::rename(folder.path().join("b"), folder.path().join("e")).unwrap();
            symlink("/etc", folder.path().join("b")).unwrap();
            fs::remove_file(folder.path().join("c")).unwrap();
        }
        if entry.path.ends_with(b"/d") {
            fs::remove_file(folder.path().join("d")).unwrap();
            symlink("/etc/passwd", folder.path().join("d")).unwrap();
            assert!(matches!(walk.open(), Err(OpenError::Replaced)));
            return;
        }
        assert!(!entry.path.ends_with(b"/c") && !entry.path.ends_with(b"inside"));
    }
    panic!("the last file was found");
}

#[test]
fn no_link_names_a_file_that_was_replaced_before_it_was_opened() {
    let folder = scratch();
    write(folder.path(), &["a", "other"]);
    for name in ["b", "c"] {
        fs::hard_link(folder.path().join("a"), folder.path().join(name)).unwrap();
    }
    let options = options(&[folder.path()]);
    let mut walk = Walk::new(&options).unwrap();
    let (mut files, mut links) = (Vec::new(), Vec::new());
    while let Some(found) = walk.next() {
        let entry = match found {
            Found::File(entry) => entry,
            Found::Entry(entry) => {
                if let What::HardLink(first) = entry.what {
                    links.push((entry.path, first));
                }
                continue;
            }
            Found::Fault(fault) => panic!("{fault:?}"),
        };
        if entry.path.ends_with(b"/a") {
            fs::rename(folder.path().join("other"), folder.path().join("a")).unwrap();
        }
        assert!(walk.open().is_ok() || entry.path.ends_with(b"/other"));
        files.push(entry.path);
    }
    let ends = |path: &[u8], end: &[u8]| path.ends_with(end);
    assert!(files.iter().any(|path| ends(path, b"/b")), "the next name is the first one");
    let [(path, first)] = links.as_slice() else { panic!("{links:?}") };
    assert!(ends(path, b"/c") && ends(first, b"/b"));
}

#[test]
fn a_folder_with_very_many_names_takes_its_names_and_little_more() {
    let mut names = Names::default();
    assert!(names.is_empty());
    let folder = scratch();
    for number in 0..3_000 {
        fs::write(folder.path().join(format!("{:04}", (number * 7) % 3_000)), b"").unwrap();
    }
    let handle = fs::File::open(folder.path()).unwrap();
    let broken;
    (names, broken) = Names::read(&handle);
    assert!(broken.is_none() && names.has(b"2999") && !names.has(b"3000"));
    let all: Vec<_> = (0..3_000).map(|index| names.get(index).unwrap().to_vec()).collect();
    assert!(all.is_sorted() && names.get(3_000).is_none());
}
