//! Backups of real folders into a mesh that is a map, and what is read back from it.

use super::*;
use crate::core::types::ChunkId;
use crate::crypto::seal::SealedChunk;
use crate::repo::engine::DoneLeaf;
use crate::repo::fixture::{Acked, Mesh, NEVER, content, entries, noise, owner, pieces, scratch};
use crate::repo::sealer::ChunkSink;
use crate::repo::tree::{Extents, FileBody, TreeRoot, XATTRS_MAX};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The mesh, and what happens when a chunk comes.
struct Taken<F> {
    mesh: Mesh,
    leaves: usize,
    meanwhile: F,
}

impl<F: FnMut()> ChunkSink for Taken<F> {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        (self.meanwhile)();
        self.mesh.store(chunk, plaintext_bytes)
    }
}

impl<F: FnMut()> BackupSink for Taken<F> {
    fn leaf_done(&mut self, _: &DoneLeaf) {
        self.leaves += 1;
    }
}

/// What was said; and what a listing names.
#[derive(Default)]
struct Seen {
    faults: Vec<Fault>,
    last: Progress,
    listings: BTreeMap<ChunkId, Vec<ChunkRef>>,
}

impl Watch for Seen {
    fn moved(&mut self, progress: &Progress) {
        self.last = *progress;
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn pieces_before(&mut self, listing: &ChunkRef) -> Vec<ChunkRef> {
        let pieces = self.listings.get(&listing.id);
        pieces.map(|pieces| pieces.iter().map(ChunkRef::duplicate).collect()).unwrap_or_default()
    }
}

fn options(roots: &[&Path]) -> WalkOptions {
    let roots = roots.iter().map(|root| root.to_path_buf()).collect();
    WalkOptions { roots, ..WalkOptions::default() }
}

fn nothing<'a>() -> Earlier<'a> {
    Earlier { parents: Vec::new(), known: Known::new(), expected: None }
}

fn run(
    options: &WalkOptions,
    earlier: Earlier<'_>,
    (held, seen): (&Acked, &mut Seen),
    meanwhile: impl FnMut(),
) -> (Result<BackedUp, BackupError>, Mesh) {
    let keys = owner(1);
    let context = BackupContext { keys: &keys, locality: Locality(9), held, cancel: &NEVER };
    let mut taken = Taken { mesh: Mesh::default(), leaves: 0, meanwhile };
    let done = backup(options, earlier, &context, &mut taken, seen);
    (done, taken.mesh)
}

/// A first backup, in which nothing may be wrong.
fn clean(options: &WalkOptions) -> (BackedUp, Mesh) {
    let mut seen = Seen::default();
    let (done, mesh) = run(options, nothing(), (&Acked::default(), &mut seen), || {});
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    (done.unwrap(), mesh)
}

/// The entry whose path ends so.
fn named<'e>(entries: &'e [Entry], end: &str) -> &'e Entry {
    let mut fitting = entries.iter().filter(|entry| entry.path.ends_with(end.as_bytes()));
    fitting.next().unwrap_or_else(|| panic!("{end} is in the tree"))
}

/// An earlier backup as a parent, of which everything is settled and held.
fn parent(root: &TreeRoot, mesh: &Mesh) -> Parent<'static> {
    Parent { started_ns: i64::MAX, entries: Box::new(entries(root, mesh).into_iter()) }
}

fn write(path: PathBuf, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn files_and_folders_of_a_disk_come_back_byte_for_byte() {
    let folder = scratch();
    let sizes = [0, 1, 5_000, 262_143, 262_144, 300_000, 6_000_000];
    for (number, bytes) in sizes.into_iter().enumerate() {
        let name = format!("a{}/b/{bytes}", number % 3);
        write(folder.path().join(name), &noise(bytes, number as u64));
    }
    let (done, mesh) = clean(&options(&[folder.path()]));
    let found = entries(&done.built.root.unwrap(), &mesh);
    for (number, bytes) in sizes.into_iter().enumerate() {
        let entry = named(&found, &format!("a{}/b/{bytes}", number % 3));
        assert_eq!(content(entry, &mesh), noise(bytes, number as u64));
    }
    let large = named(&found, "b/6000000");
    assert!(matches!(&large.what, What::File(FileBody { content: Content::Listing(_), .. })));
    let counts = done.built.counts;
    assert_eq!((counts.files, counts.bytes), (7, sizes.iter().sum::<usize>() as u64));
    assert_eq!((done.faults, counts.unreadable), (0, 0));
}

#[test]
fn links_pipes_and_several_roots_make_a_tree() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    write(at("a/x/first"), b"content");
    write(at("b/\u{e4}"), b"content");
    write(at("c"), b"");
    fs::hard_link(at("a/x/first"), at("b/second")).unwrap();
    std::os::unix::fs::symlink("/nowhere", at("b/link")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("b/pipe"), fifo, 0o600.into(), 0).unwrap();
    let (done, mesh) = clean(&options(&[&at("c"), &at("b"), &at("a/x")]));
    let found = entries(&done.built.root.unwrap(), &mesh);
    let top = found.len() - 9;
    let names = ["a", "x", "first", "b", "link", "pipe", "second", "\u{e4}", "c"];
    assert!(found[top..].iter().zip(names).all(|(e, name)| e.path.ends_with(name.as_bytes())));
    let implied = found.iter().filter(|entry| entry.implied).count();
    assert_eq!(implied, top + 1);
    assert!(matches!(&named(&found, "second").what, What::HardLink(to) if to.ends_with(b"first")));
    let counts = done.built.counts;
    assert_eq!((counts.files, counts.folders, counts.others), (3, top as u64 + 3, 3));
    assert_eq!(
        done.roots,
        ["a/x", "b", "c"].map(|name| at(name).into_os_string().into_encoded_bytes())
    );
}

#[test]
fn progress_counts_files_and_bytes_of_as_many_as_are_known() {
    let folder = scratch();
    write(folder.path().join("large"), &noise(3_000_000, 1));
    write(folder.path().join("small"), b"small");
    let options = options(&[folder.path()]);
    let expected = count(&options, &NEVER).unwrap();
    assert_eq!(expected, Some(Totals { files: 2, bytes: 3_000_005 }));
    let mut seen = Seen::default();
    let earlier = Earlier { expected, ..nothing() };
    let (done, _) = run(&options, earlier, (&Acked::default(), &mut seen), || {});
    assert_eq!((seen.last.expected, Some(seen.last.done)), (expected, expected));
    assert!(done.unwrap().built.counts.new_bytes > 3_000_000);
}

/// Names of files that were opened in `folder` while `work` was done.
fn opened_in<T>(folder: &Path, work: impl FnOnce() -> T) -> (T, Vec<Vec<u8>>) {
    use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
    let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    add_watch(&watch, folder, WatchFlags::OPEN).unwrap();
    let done = work();
    let mut buffer = vec![std::mem::MaybeUninit::uninit(); 64 << 10];
    let mut reader = Reader::new(&watch, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = reader.next() {
        if !event.events().contains(ReadFlags::ISDIR) {
            names.extend(event.file_name().map(|name| name.to_bytes().to_vec()));
        }
    }
    (done, names)
}

#[test]
fn an_unchanged_file_is_not_opened() {
    let folder = scratch();
    for name in ["changed", "grown", "large", "new inode", "same", "touched"] {
        write(folder.path().join(name), &noise(100, 1));
    }
    write(folder.path().join("large"), &noise(2_000_000, 2));
    let options = options(&[folder.path()]);
    let (first, mut mesh) = clean(&options);
    let root = first.built.root.unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    fs::write(in_folder("changed"), noise(100, 3)).unwrap();
    fs::write(in_folder("grown"), noise(200, 4)).unwrap();
    fs::copy(in_folder("new inode"), in_folder("aside")).unwrap();
    fs::rename(in_folder("aside"), in_folder("new inode")).unwrap();
    File::open(in_folder("touched")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let held = Acked(mesh.chunks.keys().copied().collect());
    let earlier = Earlier { parents: vec![parent(&root, &mesh)], ..nothing() };
    let listings = listing_of("large", &root, &mesh);
    let mut seen = Seen { listings, ..Seen::default() };
    let ((done, more), opened) =
        opened_in(folder.path(), || run(&options, earlier, (&held, &mut seen), || {}));
    let done = done.unwrap();
    assert_eq!(opened, [&b"changed"[..], b"grown", b"new inode", b"touched"]);
    assert_eq!(done.built.unchanged, 2);
    mesh.chunks.extend(more.chunks);
    let found = entries(&done.built.root.unwrap(), &mesh);
    assert_eq!(content(named(&found, "changed"), &mesh), noise(100, 3));
    assert_eq!(content(named(&found, "large"), &mesh), noise(2_000_000, 2));
    assert_eq!(named(&found, "touched").mtime_ns, 0);
}

#[test]
fn what_was_not_settled_or_is_not_held_is_read_again() {
    let folder = scratch();
    write(folder.path().join("file"), &noise(100, 1));
    let options = options(&[folder.path()]);
    let (first, mesh) = clean(&options);
    let root = first.built.root.unwrap();
    let all = || Acked(mesh.chunks.keys().copied().collect());
    let entry_ns = named(&entries(&root, &mesh), "file").mtime_ns;
    for (started_ns, held, unchanged) in [
        (entry_ns + 3_000_000_000, all(), 1),
        (entry_ns + 1_000_000_000, all(), 0),
        (i64::MAX, Acked::default(), 0),
        (i64::MIN, all(), 0),
    ] {
        let before = Parent { started_ns, ..parent(&root, &mesh) };
        let earlier = Earlier { parents: vec![before], ..nothing() };
        let (done, _) = run(&options, earlier, (&held, &mut Seen::default()), || {});
        assert_eq!(done.unwrap().built.unchanged, unchanged, "{started_ns}");
    }
}

/// What the listing of a large file names.
fn listing_of(name: &str, root: &TreeRoot, mesh: &Mesh) -> BTreeMap<ChunkId, Vec<ChunkRef>> {
    let found = entries(root, mesh);
    let What::File(FileBody { content: Content::Listing(list), .. }) = &named(&found, name).what
    else {
        panic!("it has a listing")
    };
    BTreeMap::from([(list.id, pieces(list, mesh))])
}

#[test]
fn a_large_file_of_which_one_piece_is_lost_is_read_again() {
    let folder = scratch();
    write(folder.path().join("large"), &noise(3_000_000, 1));
    let options = options(&[folder.path()]);
    let (first, mesh) = clean(&options);
    let root = first.built.root.unwrap();
    let listings = listing_of("large", &root, &mesh);
    let lost = listings.values().next().unwrap().last().unwrap().id;
    let all = || Acked(mesh.chunks.keys().copied().collect());
    let mut without = all();
    without.0.remove(&lost);
    for (what, held, known, unchanged) in [
        ("all are held", all(), true, 1),
        ("one is lost", without, true, 0),
        ("nobody knows which there are", all(), false, 0),
    ] {
        let earlier = Earlier { parents: vec![parent(&root, &mesh)], ..nothing() };
        let listings = if known { listing_of("large", &root, &mesh) } else { BTreeMap::new() };
        let mut seen = Seen { listings, ..Seen::default() };
        let (done, more) = run(&options, earlier, (&held, &mut seen), || {});
        assert_eq!(done.unwrap().built.unchanged, unchanged, "{what}");
        assert_eq!(more.chunks.contains_key(&lost), what == "one is lost", "{what}");
    }
}

#[test]
fn a_parent_that_ends_early_is_used_as_far_as_it_goes() {
    let folder = scratch();
    for number in 0..50 {
        write(folder.path().join(format!("{number:02}")), &noise(10, number));
    }
    let options = options(&[folder.path()]);
    let (first, mesh) = clean(&options);
    let root = first.built.root.unwrap();
    let held = Acked(mesh.chunks.keys().copied().collect());
    let cut_off = |count| {
        let entries = entries(&root, &mesh).into_iter().take(count);
        Parent { started_ns: i64::MAX, entries: Box::new(entries) }
    };
    let above = entries(&root, &mesh).len() - 50;
    for (counts, unchanged) in [(vec![above + 20], 20), (vec![above + 5, above + 30], 30)] {
        let parents = counts.into_iter().map(cut_off).collect();
        let earlier = Earlier { parents, ..nothing() };
        let (done, _) = run(&options, earlier, (&held, &mut Seen::default()), || {});
        assert_eq!(done.unwrap().built.unchanged, unchanged);
    }
}

#[test]
fn a_changed_large_file_hands_over_its_changed_pieces() {
    let folder = scratch();
    let mut bytes = noise(8_000_000, 1);
    write(folder.path().join("large"), &bytes);
    let options = options(&[folder.path()]);
    let (first, mut mesh) = clean(&options);
    let root = first.built.root.unwrap();
    let listings = listing_of("large", &root, &mesh);
    bytes[7_000_000] ^= 1;
    write(folder.path().join("large"), &bytes);
    let held = Acked(mesh.chunks.keys().copied().collect());
    let earlier = Earlier { parents: vec![parent(&root, &mesh)], ..nothing() };
    let mut seen = Seen { listings, ..Seen::default() };
    let (done, more) = run(&options, earlier, (&held, &mut seen), || {});
    let new: Vec<u64> = more.order.iter().map(|(_, bytes)| *bytes).filter(|b| *b > 0).collect();
    assert!(new.len() <= 2, "{new:?}");
    mesh.chunks.extend(more.chunks);
    let found = entries(&done.unwrap().built.root.unwrap(), &mesh);
    assert!(content(named(&found, "large"), &mesh) == bytes);
}

#[test]
fn attributes_that_cannot_be_recorded_are_said_each_time() {
    let folder = scratch();
    let path = folder.path().join("file");
    write(path.clone(), b"content");
    for number in 0..=XATTRS_MAX {
        let name = format!("user.{number}");
        // Some file systems have no room for so many.
        if rustix::fs::setxattr(&path, &*name, b"", rustix::fs::XattrFlags::empty()).is_err() {
            return;
        }
    }
    let (options, mut parents) = (options(&[folder.path()]), Vec::new());
    let (mut held, mut all) = (Acked::default(), Mesh::default());
    for _ in 0..2 {
        let mut seen = Seen::default();
        let earlier = Earlier { parents, ..nothing() };
        let (done, mesh) = run(&options, earlier, (&held, &mut seen), || {});
        let root = done.unwrap().built.root.unwrap();
        assert!(matches!(seen.faults[..], [Fault { kind: FaultKind::TooManyXattrs, .. }]));
        held.0.extend(mesh.chunks.keys());
        all.chunks.extend(mesh.chunks);
        let found = entries(&root, &all);
        assert_eq!(content(named(&found, "file"), &all), b"content");
        parents = vec![parent(&root, &all)];
    }
}

/// More than the scanning thread can be ahead, so that what comes later is still unread.
const LONG: usize = 40 << 20;

#[test]
fn a_file_that_changes_is_read_again_and_said() {
    for (changes, faults) in [(1, 0), (usize::MAX, 1)] {
        let folder = scratch();
        let path = folder.path().join("large");
        write(path.clone(), &noise(LONG, 2));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let mut seen = Seen::default();
        let mut changed = 0;
        let meanwhile = || {
            if changed < changes {
                changed += 1;
                file.write_all_at(&changed.to_le_bytes(), LONG as u64 - 8).unwrap();
            }
        };
        let (done, mesh) =
            run(&options(&[folder.path()]), nothing(), (&Acked::default(), &mut seen), meanwhile);
        let done = done.unwrap();
        assert_eq!((seen.faults.len(), done.faults), (faults, faults as u64));
        assert!(seen.faults.iter().all(|fault| matches!(fault.kind, FaultKind::Changed)));
        let found = entries(&done.built.root.unwrap(), &mesh);
        let recorded = content(named(&found, "large"), &mesh);
        assert_eq!((recorded.len(), done.built.counts.files), (LONG, 1));
        if changes == 1 {
            assert!(recorded == fs::read(&path).unwrap(), "it is as it was at the end");
        }
    }
}

#[test]
fn a_file_that_is_cut_off_while_it_is_read_is_as_long_as_it_is_then() {
    let folder = scratch();
    let path = folder.path().join("large");
    write(path.clone(), &noise(LONG, 2));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let meanwhile = || file.set_len(1_000).unwrap();
    let mut seen = Seen::default();
    let (done, mesh) =
        run(&options(&[folder.path()]), nothing(), (&Acked::default(), &mut seen), meanwhile);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    let found = entries(&done.unwrap().built.root.unwrap(), &mesh);
    assert_eq!(content(named(&found, "large"), &mesh), noise(LONG, 2)[..1_000]);
}

#[test]
fn a_sparse_terabyte_reads_only_its_data() {
    let folder = scratch();
    let file = File::create_new(folder.path().join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&noise(1_000_000, 1), 1 << 30).unwrap();
    file.write_all_at(b"the end", (1 << 40) - 7).unwrap();
    drop(file);
    let (done, mesh) = clean(&options(&[folder.path()]));
    let found = entries(&done.built.root.unwrap(), &mesh);
    let entry = named(&found, "sparse");
    let What::File(FileBody { extents: Some(Extents(extents)), .. }) = &entry.what else {
        panic!("{entry:?} has holes")
    };
    assert_eq!((entry.bytes(), extents.len()), (1 << 40, 2));
    let data = content(entry, &mesh);
    assert!(data.len() < 2_000_000 && data.ends_with(b"the end"));
    let start = (1 << 30) - extents[0].start as usize;
    assert!(data[start..start + 1_000_000] == noise(1_000_000, 1));
}

#[test]
fn a_cancelled_backup_has_no_tree() {
    let folder = scratch();
    write(folder.path().join("large"), &noise(LONG, 1));
    let (keys, held, cancel) = (owner(1), Acked::default(), AtomicBool::new(false));
    let context =
        BackupContext { keys: &keys, locality: Locality(9), held: &held, cancel: &cancel };
    let meanwhile = || cancel.store(true, Ordering::Relaxed);
    let mut taken = Taken { mesh: Mesh::default(), leaves: 0, meanwhile };
    let options = options(&[folder.path()]);
    let done = backup(&options, nothing(), &context, &mut taken, &mut Seen::default());
    assert!(matches!(done, Err(BackupError::Cancelled)), "{done:?}");
    assert!(taken.mesh.order.len() < 40 && taken.leaves == 0);
    assert_eq!(count(&options, &cancel).unwrap(), None);
}

#[test]
fn a_closed_sink_ends_the_scan() {
    struct Closed;
    impl ChunkSink for Closed {
        fn store(&mut self, _: SealedChunk, _: u64) -> Result<(), SinkClosed> {
            Err(SinkClosed)
        }
    }
    impl BackupSink for Closed {
        fn leaf_done(&mut self, _: &DoneLeaf) {}
    }
    let folder = scratch();
    write(folder.path().join("large"), &noise(LONG, 1));
    let (keys, held) = (owner(1), Acked::default());
    let context = BackupContext { keys: &keys, locality: Locality(9), held: &held, cancel: &NEVER };
    let options = options(&[folder.path()]);
    let done = backup(&options, nothing(), &context, &mut Closed, &mut Seen::default());
    assert!(matches!(done, Err(BackupError::Closed(SinkClosed))), "{done:?}");
}

/// Where this test runs again, as a user who may not read everything.
const UNPRIVILEGED: &str = "QULOUD_TEST_UNREADABLE";

#[test]
fn an_unreadable_file_makes_it_partial() {
    if let Some(folder) = std::env::var_os(UNPRIVILEGED) {
        return unreadable_files_are_recorded_and_said(Path::new(&folder));
    }
    let folder = scratch();
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let shut = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    };
    write(folder.path().join("shut/inside"), b"inside");
    write(folder.path().join("good"), b"good");
    write(folder.path().join("secret"), b"secret");
    open(folder.path());
    shut(&folder.path().join("secret"));
    shut(&folder.path().join("shut"));
    if !rustix::process::geteuid().is_root() {
        unreadable_files_are_recorded_and_said(folder.path());
    } else {
        // Root may read everything: the test is run as nobody. Where nobody may not even run it,
        // there is no way to tell.
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "repo::backup::tests::an_unreadable_file_makes_it_partial"]);
        again.env(UNPRIVILEGED, folder.path()).current_dir("/").uid(65_534).gid(65_534);
        if let Ok(output) = again.output() {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
        }
    }
    open(&folder.path().join("shut"));
}

fn unreadable_files_are_recorded_and_said(folder: &Path) {
    let mut seen = Seen::default();
    let (done, mesh) = run(&options(&[folder]), nothing(), (&Acked::default(), &mut seen), || {});
    let done = done.unwrap();
    let said: Vec<_> = seen.faults.iter().map(|fault| fault.path.clone()).collect();
    let expected = ["secret", "shut"].map(|name| folder.join(name).into_os_string());
    assert_eq!(said, expected.map(|path| path.into_encoded_bytes()));
    assert!(matches!(seen.faults[0].kind, FaultKind::Read(_)), "{:?}", seen.faults);
    assert!(matches!(seen.faults[1].kind, FaultKind::List(_)), "{:?}", seen.faults);
    assert_eq!((done.faults, done.built.counts.unreadable), (2, 2));
    let found = entries(&done.built.root.unwrap(), &mesh);
    assert_eq!(content(named(&found, "good"), &mesh), b"good");
    assert!(named(&found, "secret").unreadable && named(&found, "shut").unreadable);
    assert_eq!(named(&found, "secret").bytes(), 6);
}
