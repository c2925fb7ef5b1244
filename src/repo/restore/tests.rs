//! Restoring what the engine backed up into a mesh that is a map.

#![expect(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

mod evil;
mod links;
mod metadata;
mod resume;

use super::report::{RestoreReport, SkipReason};
use super::target::Existing;
use super::*;
use crate::core::types::Locality;
use crate::crypto::keys::OwnerKeys;
use crate::crypto::seal::SealedChunk;
use crate::repo::engine::{BackupSink, DoneLeaf, Engine, Pieces, Unreadable};
use crate::repo::fixture::{Mesh, NEVER, noise, owner, scratch};
use crate::repo::known::Known;
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::{ChunkSink, Held, SinkClosed};
use crate::repo::tree::{Content, Entry, Extents, FileBody, Inode, What};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;

struct Sink<'a>(&'a mut Mesh);

impl ChunkSink for Sink<'_> {
    fn store(&mut self, chunk: SealedChunk, plaintext_bytes: u64) -> Result<(), SinkClosed> {
        self.0.store(chunk, plaintext_bytes)
    }
}

impl BackupSink for Sink<'_> {
    fn leaf_done(&mut self, _: &DoneLeaf) {}
}

struct Nobody;

impl Held for Nobody {
    fn is_held(&self, _: &crate::core::types::ChunkId) -> bool {
        false
    }
}

struct Cut(std::vec::IntoIter<Vec<u8>>);

impl Pieces for Cut {
    type Piece = Vec<u8>;

    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.0.next())
    }
}

/// Whole microseconds behind a second, and one nanosecond.
const MTIME_NS: i64 = 1_600_000_000_123_456_789;

fn entry(path: &[u8], what: What) -> Entry {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Entry {
        path: path.to_vec(),
        mode: 0o640,
        uid,
        gid,
        mtime_ns: MTIME_NS,
        xattrs: Vec::new(),
        implied: false,
        unreadable: false,
        what,
    }
}

fn folder(path: &str) -> Entry {
    Entry { mode: 0o750, ..entry(path.as_bytes(), What::Folder(Inode::default())) }
}

fn symlink(path: &str, text: &str) -> Entry {
    entry(path.as_bytes(), What::Symlink(text.as_bytes().to_vec()))
}

fn hard_link(path: &str, first: &str) -> Entry {
    entry(path.as_bytes(), What::HardLink(first.as_bytes().to_vec()))
}

fn file(path: &str) -> Entry {
    let (inode, extents) = (Inode::default(), None);
    let body = FileBody { bytes: 0, inode, extents, content: Content::None };
    entry(path.as_bytes(), What::File(body))
}

fn sparse(path: &str, bytes: u64, extents: Vec<std::ops::Range<u64>>) -> Entry {
    let mut entry = file(path);
    if let What::File(body) = &mut entry.what {
        (body.bytes, body.extents) = (bytes, Some(Extents(extents)));
    }
    entry
}

/// A snapshot on a mesh.
struct Backup {
    keys: OwnerKeys,
    mesh: Mesh,
    root: TreeRoot,
    folder: TempDir,
}

impl Backup {
    /// Of these entries; files with their data.
    fn of(entries: &[(Entry, Vec<u8>)]) -> Self {
        let (keys, mut mesh) = (owner(1), Mesh { backwards: true, ..Mesh::default() });
        let root = {
            let mut sink = Sink(&mut mesh);
            let mut engine = Engine::new((&keys, Locality(9)), Known::new(), &Nobody, &mut sink);
            for (entry, data) in entries {
                if matches!(entry.what, What::File(_)) && !entry.unreadable {
                    let pieces: Vec<_> = data.chunks(300 << 10).map(<[u8]>::to_vec).collect();
                    let mut cut = Cut(pieces.into_iter());
                    engine.store(entry.duplicate(), &mut cut).unwrap();
                } else {
                    engine.keep(entry).unwrap();
                }
            }
            engine.finish().unwrap().root.unwrap()
        };
        Self { keys, mesh, root, folder: scratch() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("target")
    }

    fn target(&self, existing: Existing) -> Target {
        Target::open(&self.path(), existing).unwrap()
    }

    fn restore(&mut self) -> RestoreReport {
        self.restore_with(&RestoreOptions::default(), Existing::Refuse).unwrap()
    }

    fn restore_with(
        &mut self,
        options: &RestoreOptions<'_>,
        existing: Existing,
    ) -> Result<RestoreReport, RestoreError> {
        let target = self.target(existing);
        let keys = &self.keys;
        let options = RestoreOptions { dedup: Some(&keys.dedup), ..*options };
        restore(&mut self.mesh, &self.root, &target, &options, &NEVER, &mut |_| {})
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.path().join(path)).unwrap()
    }

    /// Every name below the target.
    fn names(&self) -> Vec<String> {
        names(&self.path())
    }
}

/// Lets whoever tidies up in again, which only root needs no mode for.
fn let_in(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path.clone());
            }
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            names.push(name);
        }
    }
    names.sort();
    names
}

fn small() -> Vec<(Entry, Vec<u8>)> {
    vec![
        (folder("a"), Vec::new()),
        (file("a/empty"), Vec::new()),
        (folder("a/none"), Vec::new()),
        (file("a/one"), b"one".to_vec()),
        (file("b"), noise(200_000, 2)),
        (file("c"), noise(280_000, 3)),
        (file("d"), noise(2_000_000, 4)),
    ]
}

#[test]
fn files_and_folders_come_back_with_modes_and_times() {
    let mut backup = Backup::of(&small());
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.files, report.folders, report.others), (5, 2, 0));
    assert_eq!(report.bytes, 3 + 200_000 + 280_000 + 2_000_000);
    for (entry, data) in small() {
        let path = backup.path().join(std::str::from_utf8(&entry.path).unwrap());
        let stat = fs::symlink_metadata(&path).unwrap();
        assert_eq!(stat.mode() & 0o7777, entry.mode, "{}", path.display());
        let mtime = (stat.mtime(), stat.mtime_nsec());
        assert_eq!(mtime, (1_600_000_000, 123_456_789), "{}", path.display());
        if stat.is_file() {
            assert!(fs::read(&path).unwrap() == data, "{}", path.display());
        }
    }
    assert_eq!(backup.names(), ["a", "a/empty", "a/none", "a/one", "b", "c", "d"]);
}

#[test]
fn the_way_without_openat2_restores_the_same() {
    let mut backup = Backup::of(&small());
    let target = backup.target(Existing::Refuse).stepwise();
    let options = RestoreOptions::default();
    let report =
        restore(&mut backup.mesh, &backup.root, &target, &options, &NEVER, &mut |_| {}).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(backup.names().len(), 7);
}

#[test]
fn the_window_of_chunks_is_kept() {
    let mut backup = Backup::of(&[(file("a"), noise(30 << 20, 1)), (file("b"), noise(9 << 20, 2))]);
    let limits = GetLimits { chunks: 32, bytes: 8 << 20 };
    let options = RestoreOptions { limits, ..RestoreOptions::default() };
    backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!((2..=27).contains(&backup.mesh.asked_most), "{}", backup.mesh.asked_most);
    assert!(backup.read("a") == noise(30 << 20, 1));
}

#[test]
fn a_chunk_that_many_files_share_is_fetched_once() {
    let small = |number: u64| (file(&format!("{number:02}")), noise(1000, number));
    let mut entries: Vec<_> = (0..50).map(small).collect();
    entries.push((file("zeros"), vec![0; 30 * (300 << 10)]));
    let mut backup = Backup::of(&entries);
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    // The leaf, the pack, the listing, the one piece.
    assert_eq!(backup.mesh.served, 4);
    assert!(backup.read("zeros") == vec![0; 30 * (300 << 10)]);
}

#[test]
fn a_part_of_a_snapshot_comes_back_at_the_target() {
    for (below, expected) in [
        ("a", vec!["empty", "none", "one"]),
        ("a/one", vec!["one"]),
        ("a/none", vec![]),
        ("d", vec!["d"]),
    ] {
        let mut backup = Backup::of(&small());
        let options = RestoreOptions { below: below.as_bytes(), ..RestoreOptions::default() };
        let report = backup.restore_with(&options, Existing::Refuse).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(backup.names(), expected, "{below}");
    }
    for below in ["x", "a/x", "a/../b", "/a"] {
        let mut backup = Backup::of(&small());
        let options = RestoreOptions { below: below.as_bytes(), ..RestoreOptions::default() };
        let refused = backup.restore_with(&options, Existing::Refuse);
        assert!(matches!(refused, Err(RestoreError::NoSuchPath)), "{below}");
        assert!(backup.names().is_empty());
    }
}

#[test]
fn only_what_is_wanted_comes_back_with_its_folders() {
    let mut backup = Backup::of(&small());
    let wants = |path: &[u8], _: bool| path.ends_with(b"/one");
    let options = RestoreOptions { wants: Some(&wants), ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(backup.names(), ["a", "a/one"]);
    let stat = fs::metadata(backup.path().join("a")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime_nsec()), (0o750, 123_456_789));
}

#[test]
fn a_dry_run_writes_nothing_and_counts() {
    let mut backup = Backup::of(&small());
    let options = RestoreOptions { dry_run: true, ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert_eq!((report.files, report.folders, report.bytes), (5, 2, 2_480_003));
    assert_eq!(backup.mesh.served, 1, "the leaf");
    assert!(backup.names().is_empty());
    fs::write(backup.path().join("mine"), b"mine").unwrap();
    let refused = backup.restore_with(&options, Existing::Refuse);
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })));
}

#[test]
fn a_target_that_is_not_empty_is_refused_unless_told_otherwise() {
    let mut backup = Backup::of(&small());
    fs::create_dir_all(backup.path().join("a")).unwrap();
    let mode = fs::Permissions::from_mode(0o711);
    fs::set_permissions(backup.path().join("a"), mode).unwrap();
    fs::write(backup.path().join("b"), b"mine").unwrap();
    let refused = backup.restore_with(&RestoreOptions::default(), Existing::Refuse);
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })));
    assert_eq!(backup.names(), ["a", "b"]);
    let kept = backup.restore_with(&RestoreOptions::default(), Existing::Keep).unwrap();
    assert_eq!((kept.skipped_count, kept.skipped[0].reason), (1, SkipReason::Exists));
    assert_eq!((backup.read("b"), backup.read("a/one")), (b"mine".to_vec(), b"one".to_vec()));
    let mode = |backup: &Backup| fs::metadata(backup.path().join("a")).unwrap().mode() & 0o7777;
    assert_eq!(mode(&backup), 0o711, "a folder that was there keeps its mode");
    let again = backup.restore_with(&RestoreOptions::default(), Existing::Replace).unwrap();
    assert!(again.is_whole(), "{again:?}");
    assert!(backup.read("b") == noise(200_000, 2));
    assert_eq!(backup.names().len(), 7);
    assert_eq!(mode(&backup), 0o750, "unless it is replaced");
}

#[test]
fn folders_that_were_there_and_are_not_asked_for_stay_as_they_are() {
    for existing in [Existing::Keep, Existing::Replace] {
        for (wanted, mode) in [("b", 0o711), ("a/one", 0o711), ("a", 0o750)] {
            let mut backup = Backup::of(&small());
            let folder = backup.path().join("a");
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
            let wants = |path: &[u8], _: bool| path == wanted.as_bytes();
            let options = RestoreOptions { wants: Some(&wants), ..RestoreOptions::default() };
            let report = backup.restore_with(&options, existing).unwrap();
            assert!(report.is_whole(), "{report:?}");
            let expected = if existing == Existing::Keep { 0o711 } else { mode };
            let found = fs::metadata(&folder).unwrap().mode() & 0o7777;
            assert_eq!(found, expected, "{wanted}, {existing:?}");
        }
    }
}

#[test]
fn what_cannot_be_replaced_is_not_removed() {
    let mut backup = Backup::of(&small());
    fs::create_dir_all(backup.path()).unwrap();
    fs::write(backup.path().join("x"), b"mine").unwrap();
    let target = backup.target(Existing::Replace);
    // A link to nothing at all, which no system makes.
    let forged = vec![symlink("x", "")];
    let report = evil::forged(forged, &mut backup.mesh, &target, Trust::Own).unwrap();
    assert_eq!((report.others, report.skipped_count), (0, 1), "{report:?}");
    assert_eq!(backup.read("x"), b"mine");
    assert_eq!(backup.names(), ["x"]);
}

#[test]
fn what_is_replaced_is_unlinked_and_never_written_to() {
    let mut backup = Backup::of(&small());
    let outside = backup.folder.path().join("outside");
    fs::create_dir_all(backup.path()).unwrap();
    fs::write(&outside, b"precious").unwrap();
    fs::hard_link(&outside, backup.path().join("b")).unwrap();
    std::os::unix::fs::symlink(&outside, backup.path().join("c")).unwrap();
    fs::create_dir(backup.path().join("d")).unwrap();
    let report = backup.restore_with(&RestoreOptions::default(), Existing::Replace).unwrap();
    assert_eq!((report.skipped_count, report.skipped[0].reason), (1, SkipReason::IsFolder));
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
    assert!(fs::symlink_metadata(backup.path().join("c")).unwrap().is_file());
}

#[test]
fn a_damaged_file_is_named_and_the_rest_restored() {
    let mut backup = Backup::of(&small());
    // The second piece of the large file, and the one of c.
    let lost: Vec<_> = [280_000, 300 << 10]
        .iter()
        .map(|length| backup.mesh.order.iter().filter(|(_, bytes)| bytes == length).nth(1))
        .map(|found| found.map(|(id, _)| *id))
        .collect();
    let first = backup.mesh.order.iter().find(|(_, bytes)| *bytes == 280_000).unwrap().0;
    backup.mesh.chunks.remove(&first);
    backup.mesh.chunks.remove(&lost[1].unwrap());
    // Of the large file the fourth one, too: that one is known to be gone.
    let pieces = backup.mesh.order.iter().filter(|(_, bytes)| *bytes == 300 << 10);
    let gone = pieces.map(|(id, _)| *id).nth(3).unwrap();
    backup.mesh.chunks.remove(&gone);
    backup.mesh.spoiled.insert(gone);
    let report = backup.restore();
    assert!(report.has_losses() && report.journal.is_some());
    assert_eq!((report.files, report.damaged_count), (3, 2));
    let of = |path: &[u8]| report.damaged.iter().find(|damaged| damaged.path == path).unwrap();
    assert_eq!((of(b"c").missing_bytes, &*of(b"c").missing), (280_000, &[0..280_000][..]));
    let piece = 300 << 10;
    let missing = [piece..2 * piece, 3 * piece..4 * piece];
    assert_eq!((of(b"d").missing_bytes, &*of(b"d").missing), (2 * piece, &missing[..]));
    assert_eq!(of(b"d").why, "nobody holds it");
    assert_eq!(
        (of(b"c").is_damage, of(b"d").is_damage, report.unreachable_count),
        (false, true, 1)
    );
    let (found, mut expected) = (backup.read("d.quloud-damaged"), noise(2_000_000, 4));
    expected[300 << 10..600 << 10].fill(0);
    expected[900 << 10..1200 << 10].fill(0);
    assert!(found == expected, "all but the missing range is there");
    assert!(!backup.path().join("d").exists() && !backup.path().join("c").exists());
}

/// Many windows, and several leaves.
fn thousands() -> Backup {
    let named = |number: u32| (file(&format!("{number:05}")), number.to_le_bytes().to_vec());
    Backup::of(&(0..6_000).map(named).collect::<Vec<_>>())
}

#[test]
fn windows_and_leaves_that_come_between_them_do_not_mix() {
    for backwards in [false, true] {
        let mut backup = thousands();
        backup.mesh.backwards = backwards;
        let report = backup.restore();
        assert!(report.is_whole(), "{report:?}");
        for number in 0..6_000_u32 {
            assert_eq!(backup.read(&format!("{number:05}")), number.to_le_bytes(), "{number}");
        }
    }
    let mut backup = thousands();
    let options = RestoreOptions { below: b"00007", ..RestoreOptions::default() };
    let report = backup.restore_with(&options, Existing::Refuse).unwrap();
    assert_eq!((report.files, backup.read("00007")), (1, 7_u32.to_le_bytes().to_vec()));
}

#[test]
fn a_lost_leaf_is_said_and_the_rest_restored() {
    let mut backup = thousands();
    let leaf = backup.mesh.order.iter().position(|(_, bytes)| *bytes == 0).unwrap();
    let (lost, _) = backup.mesh.order[leaf];
    backup.mesh.chunks.remove(&lost);
    backup.mesh.spoiled.insert(lost);
    let report = backup.restore();
    assert_eq!(report.gaps.len(), 1);
    assert!(report.gaps[0].why.is_damage());
    assert_eq!(report.files + report.gaps[0].gap.entries, 6_000);
    assert!(report.has_losses());
}

#[test]
fn a_disk_without_room_is_said_before_anything_is_written() {
    let huge = sparse("huge", 1 << 62, vec![0..1 << 61]);
    let mut entry = huge;
    entry.unreadable = true;
    let mut backup = Backup::of(&[(file("a"), b"a".to_vec()), (entry, Vec::new())]);
    let report = backup.restore();
    assert_eq!((report.files, report.skipped[0].reason), (1, SkipReason::Unreadable));
    let mut forged = sparse("huge", 1 << 62, vec![0..1 << 61]);
    if let What::File(body) = &mut forged.what {
        let ChunkRef { ck, id, locality, .. } = backup.root.reference.duplicate();
        body.content = Content::Listing(ChunkRef { ck, id, locality, bytes: 1 << 61 });
    }
    let mut backup = Backup::of(&[(file("a"), b"a".to_vec())]);
    let target = backup.target(Existing::Refuse);
    let refused = evil::forged(vec![forged], &mut backup.mesh, &target, Trust::Own);
    assert!(matches!(refused, Err(RestoreError::Space { .. })), "{refused:?}");
    assert!(backup.names().is_empty());
}

#[test]
fn a_cancelled_restore_says_so() {
    let mut backup = Backup::of(&small());
    let target = backup.target(Existing::Refuse);
    let cancel = AtomicBool::new(true);
    let options = RestoreOptions::default();
    let stopped = restore(&mut backup.mesh, &backup.root, &target, &options, &cancel, &mut |_| {});
    assert!(matches!(stopped, Err(RestoreError::Cancelled)));
}
