//! The worst day on real processes: a backup, the loss of the owner's machine and of a holder, and
//! everything back from the words.

use crate::processes::{Lab, Node, PATIENCE, last_object};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lgetxattr, lsetxattr, mknodat,
    utimensat,
};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// No test meets the nodes of another one.
const ALONE: [&str; 5] = ["--mdns", "off", "--listen", "/ip4/127.0.0.1/tcp/0", "--json"];

/// Where the sparse file has its data.
const HOLE: u64 = 5 << 20;

/// Everything that is to come back of one name.
struct Seen {
    mode: u32,
    owner: (u32, u32),
    bytes: u64,
    modified: (i64, i64),
    /// The name of the same file that comes first.
    first_name: PathBuf,
    attribute: Option<Vec<u8>>,
    content: Vec<u8>,
}

/// What is below a folder, with the folder itself.
fn seen(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut paths = vec![root.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push((path.strip_prefix(root).unwrap().to_owned(), path, metadata));
    }
    all.sort_by(|left, right| left.0.cmp(&right.0));
    let mut inodes = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (name, path, metadata) in all {
        let first_name = inodes.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
        } else if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let mut value = [0; 64];
        let attribute = lgetxattr(&path, "user.colour", &mut value[..]).ok();
        let one = Seen {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            bytes: if metadata.is_dir() { 0 } else { metadata.len() },
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            first_name,
            attribute: attribute.map(|length| value[..length].to_vec()),
            content,
        };
        found.insert(name, one);
    }
    found
}

/// Without the contents, which nobody wants to read in a log.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (seen(left), seen(right));
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, before) in &left {
        let after = &right[name];
        assert!(before.content == after.content, "the content of {name:?} differs");
        assert_eq!(
            (before.mode, before.owner, before.bytes, before.modified),
            (after.mode, after.owner, after.bytes, after.modified),
            "{name:?}"
        );
        assert_eq!((&before.first_name, &before.attribute), (&after.first_name, &after.attribute));
    }
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with all that a file system of this kind can have, but devices and sockets.
fn make_tree(lab: &Lab) -> PathBuf {
    let root = lab.path().join("precious things");
    fs::create_dir_all(root.join("deep/er/empty")).unwrap();
    fs::rename(lab.file("large", 3 << 20), root.join("deep/large")).unwrap();
    let odd: [&[u8]; 6] =
        [b"odd \xff\xfe", b"-rf", b"line\nbreak", b"\xe2\x80\xae txt.exe", b" ", b"\x1b[2J"];
    for (number, name) in odd.into_iter().enumerate() {
        fs::write(root.join(OsStr::from_bytes(name)), vec![b'x'; number * 700]).unwrap();
    }
    for number in 0..60 {
        let file = lab.file(&format!("small-{number}"), 200 * number);
        fs::rename(file, root.join(format!("deep/er/{number}"))).unwrap();
    }
    fs::hard_link(root.join("deep/er/7"), root.join("another name")).unwrap();
    fs::hard_link(root.join("deep/large"), root.join("deep/er/large too")).unwrap();
    symlink("deep/er/7", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("deep/loose")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", HOLE).unwrap();
    sparse.set_len(2 * HOLE).unwrap();
    // Where the file system has none, there is nothing to compare.
    let _ = lsetxattr(root.join("deep/er/9"), "user.colour", b"red\0", XattrFlags::empty());
    let _ = lsetxattr(root.join("deep"), "user.colour", b"blue", XattrFlags::empty());
    for (name, mode) in [("deep/er/1", 0o600), ("deep/er/2", 0o4755), ("deep/er/3", 0o444)] {
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut times = seen(&root).into_keys().enumerate().collect::<Vec<_>>();
    times.reverse();
    for (number, name) in times {
        let number = i64::try_from(number).unwrap();
        set_time(&root.join(name), 1_000_000_007 * (number % 3) + number, 123_456_789 - number);
    }
    fs::set_permissions(root.join("deep/er/empty"), Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root.join("deep/er"), Permissions::from_mode(0o551)).unwrap();
    root
}

/// Where what was at `path` is below `target`.
pub(crate) fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

/// The machine of `owner` is gone; what is left are its words, in another place.
fn lose(owner: &mut Node, lab: &Lab) -> PathBuf {
    owner.kill();
    let words = lab.path().join("paper");
    fs::rename(owner.dir.with_extension("words"), &words).unwrap();
    fs::remove_dir_all(&owner.dir).unwrap();
    owner.dir = lab.path().join("new machine");
    words
}

#[test]
fn a_folder_comes_back_on_a_new_node_from_the_words() {
    let mut lab = Lab::new();
    let mut nodes = lab.mesh(4);
    let tree = make_tree(&lab);
    let backup = ["backup", tree.to_str().unwrap(), "--replicas", "3", "--json"];
    let made = nodes[0].json(&backup);
    assert_eq!(made["replicas"], 3, "{made}");

    let words = lose(&mut nodes[0], &lab);
    nodes[1].kill();
    let words = ["--words-file", words.to_str().unwrap()];
    let bootstrap = ["--bootstrap", nodes[2].address.as_str()];
    let found = nodes[0].json(&[&["recover"][..], &words, &bootstrap, &ALONE].concat());
    assert_eq!((&found["index"], &found["heads"][0]["number"]), (&1.into(), &1.into()), "{found}");
    assert_eq!(found["snapshots"][0]["snapshot"], made["snapshot"], "{found}");

    let target = lab.path().join("back");
    let restore = ["restore", "latest", "--fifos", "--target", target.to_str().unwrap()];
    let done = nodes[0].json(&[&restore[..], &ALONE].concat());
    assert_eq!((&done["damaged"], &done["skipped"]), (&0.into(), &0.into()), "{done}");
    assert_eq!((&done["undressed"], &done["snapshot"]), (&0.into(), &made["snapshot"]), "{done}");
    assert_same(&tree, &below(&target, &tree));
    let pipe = below(&target, &tree).join("pipe").symlink_metadata().unwrap();
    assert!(pipe.file_type().is_fifo());
    let sparse = below(&target, &tree).join("sparse").metadata().unwrap();
    let taken = tree.join("sparse").metadata().unwrap().blocks();
    assert!(sparse.blocks() <= taken.max(64), "{} blocks, and {taken} before", sparse.blocks());

    let again = nodes[0].json(&[&["recover"][..], &words, &ALONE].concat());
    assert_eq!((&again["index"], &again["peer_id"]), (&1.into(), &found["peer_id"]), "{again}");

    let heads = nodes[0].json(&[&["heads"][..], &ALONE].concat());
    let record = &heads["records"][0];
    assert_eq!((&record["newest"], &record["number"]), (&true.into(), &1.into()), "{heads}");
    let name = record["name"].as_str().unwrap();
    let heads = nodes[0].json(&[&["heads", name][..], &ALONE].concat());
    assert_eq!(heads["snapshots"][0]["snapshot"], made["snapshot"], "{heads}");
    let listed = ["ls", "latest", "--recursive", "--head", name];
    let listed = nodes[0].run(&[&listed[..], &ALONE].concat());
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("sparse"), "{listed}");
    for folder in [tree, below(&target, Path::new("/"))] {
        // Or its temporary folder could not be removed.
        for (name, _) in seen(&folder) {
            let path = folder.join(name);
            if path.symlink_metadata().unwrap().is_dir() {
                fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
            }
        }
    }
}

#[test]
fn a_restore_that_was_killed_goes_on() {
    let mut lab = Lab::new();
    let nodes = lab.mesh(2);
    let tree = lab.path().join("files");
    fs::create_dir(&tree).unwrap();
    for number in 10..58 {
        let file = lab.file(&format!("file-{number}"), 2 << 20);
        fs::rename(file, tree.join(format!("{number}"))).unwrap();
    }
    nodes[0].json(&["backup", tree.to_str().unwrap(), "--replicas", "1", "--json"]);
    let target = lab.path().join("back");
    let restore = ["restore", "latest", "--target", target.to_str().unwrap(), "--json"];

    // The node itself restores; the command only asks it to.
    let mut command = nodes[0].command();
    let asked = command.args(restore).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut asked = asked.unwrap();
    let first = below(&target, &tree).join("10");
    let deadline = Instant::now() + PATIENCE;
    while !first.exists() {
        assert!(Instant::now() < deadline, "no file comes: {}", nodes[0].log());
        std::thread::yield_now();
    }
    // Nothing more comes, whatever happens meanwhile.
    nodes[1].signal(Signal::STOP);
    let mut nodes = nodes;
    nodes[0].kill();
    nodes[1].signal(Signal::CONT);
    assert_eq!(asked.wait().unwrap().code(), Some(1), "the node died");
    assert!(!below(&target, &tree).join("57").exists(), "it was not done");

    nodes[0].up();
    nodes[0].wait_for_peers(1);
    let output = nodes[0].run(&restore);
    assert!(output.status.success(), "{output:?}\n{}", nodes[0].log());
    let done = last_object(&output);
    assert!(done["resumed_files"].as_u64() >= Some(1), "{done}");
    assert_eq!((&done["files"], &done["damaged"]), (&48.into(), &0.into()), "{done}");
    assert_same(&tree, &below(&target, &tree));
    let left = fs::read_dir(&target).unwrap().count();
    assert_eq!(left, 1, "the journal is gone");
}
