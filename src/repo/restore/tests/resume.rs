//! Restores that were cut off, and go on.

use super::metadata::eprintln_skip;
use super::*;
use crate::repo::get::{ChunkSource, FetchError, Fetched, Wanted};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn many() -> Vec<(Entry, Vec<u8>)> {
    let mut entries = vec![(Entry { mode: 0o555, ..folder("d") }, Vec::new())];
    for number in 0..40 {
        let data = noise(250_000, number);
        entries.push((Entry { mode: 0o444, ..file(&format!("d/{number:02}")) }, data));
    }
    entries.push((hard_link("d/x", "d/07"), Vec::new()));
    entries.push((symlink("d/y", "07"), Vec::new()));
    entries.push((file("large"), noise(12_000_000, 99)));
    entries
}

fn assert_all_there(backup: &Backup) {
    let mut expected = Vec::new();
    for (entry, data) in many() {
        let path = String::from_utf8(entry.path.clone()).unwrap();
        if matches!(entry.what, What::File(_)) {
            assert!(backup.read(&path) == data, "{path}");
        }
        expected.push(path);
    }
    assert_eq!(backup.names(), expected, "and nothing else, no part and no journal");
    let inode = |name: &str| fs::symlink_metadata(backup.path().join(name)).unwrap();
    assert_eq!(inode("d/07").ino(), inode("d/x").ino());
    assert_eq!(inode("d").mode() & 0o7777, 0o555);
    assert_eq!((inode("d/03").mode() & 0o7777, inode("d/03").mtime_nsec()), (0o444, 123_456_789));
    let_in(&backup.path().join("d"));
}

#[test]
fn an_interrupted_restore_goes_on() {
    for cut in [1, 2, 5, 20, 46] {
        let mut backup = Backup::of(&many());
        backup.mesh.serve_at_most = Some(cut);
        let stopped = backup.restore_with(&RestoreOptions::default(), Existing::Refuse);
        assert!(matches!(stopped, Err(RestoreError::Closed)), "{stopped:?}");
        let chunks = std::mem::take(&mut backup.mesh.chunks);
        backup.mesh = Mesh { chunks, ..Mesh::default() };
        let report = backup.restore();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!((report.files, report.others), (41, 2));
        // 1 leaf, 5 packs, 1 listing, 40 pieces; the tree and open listings are asked for again.
        assert!(backup.mesh.served <= 48 + 2 - cut, "{cut}: {}", backup.mesh.served);
        assert_all_there(&backup);
    }
}

#[test]
fn what_was_damaged_is_completed_when_its_chunks_come_back() {
    let mut backup = Backup::of(&many());
    let piece = backup.mesh.order.iter().rposition(|(_, bytes)| *bytes == 300 << 10).unwrap();
    let pack = backup.mesh.order.iter().position(|(_, bytes)| *bytes > 2_000_000).unwrap();
    let lost = [piece, pack].map(|at| backup.mesh.order[at].0);
    let kept = lost.map(|id| backup.mesh.chunks.remove(&id).unwrap());
    let report = backup.restore();
    assert!(report.damaged_count > 1 && report.journal.is_some(), "{report:?}");
    let damaged = fs::metadata(backup.path().join("large.quloud-damaged")).unwrap();
    let taken = damaged.blocks() * 512;
    let is_hole = !takes_blocks(&backup) || taken + (200 << 10) < damaged.len();
    assert!(is_hole, "{taken} B for what is not there, too");
    for (id, chunk) in lost.into_iter().zip(kept) {
        backup.mesh.chunks.insert(id, chunk);
    }
    let before = backup.mesh.served;
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.files, report.resumed_files), (41, 41 - 1 - 9), "a pack has nine files");
    assert!(backup.mesh.served - before <= 4, "the leaf, the listing, a pack, a piece");
    assert_all_there(&backup);
}

/// Whether the file system can take blocks for what is not written yet.
fn takes_blocks(backup: &Backup) -> bool {
    let file = tempfile::tempfile_in(backup.path().parent().unwrap()).unwrap();
    crate::repo::blocks::allocate(&file, &(0..1 << 20)).unwrap();
    file.metadata().unwrap().blocks() * 512 >= 1 << 20
}

#[test]
fn a_large_file_has_its_blocks_before_its_bytes() {
    let mut backup = Backup::of(&many());
    if !takes_blocks(&backup) {
        return eprintln_skip("the file system takes no blocks in advance");
    }
    cut_off(&mut backup, 10, Existing::Refuse);
    let is_part = |name: &String| name.contains(".quloud-part-");
    let parts: Vec<String> = backup.names().into_iter().filter(is_part).collect();
    assert!(!parts.is_empty(), "{:?}", backup.names());
    for part in parts {
        let part = fs::metadata(backup.path().join(part)).unwrap();
        assert!(part.blocks() * 512 >= part.len(), "{part:?}");
    }
}

#[test]
fn a_second_restore_of_the_same_at_the_same_time_is_refused() {
    let mut backup = Backup::of(&many());
    backup.mesh.serve_at_most = Some(5);
    backup.restore_with(&RestoreOptions::default(), Existing::Refuse).unwrap_err();
    backup.mesh.serve_at_most = None;
    backup.mesh.asked.clear();
    let id = RestoreOptions::default().id(&backup.root);
    let journal = fs::File::open(backup.path().join(journal::journal_name(&id))).unwrap();
    journal.lock().unwrap();
    let refused = backup.restore_with(&RestoreOptions::default(), Existing::Refuse);
    assert!(matches!(refused, Err(RestoreError::Busy { .. })), "{refused:?}");
    drop(journal);
    backup.restore();
    assert_all_there(&backup);
}

#[test]
fn a_journal_cut_or_spoilt_anywhere_costs_only_work() {
    let mut backup = Backup::of(&many());
    backup.mesh.serve_at_most = Some(20);
    backup.restore_with(&RestoreOptions::default(), Existing::Refuse).unwrap_err();
    let id = RestoreOptions::default().id(&backup.root);
    let path = backup.path().join(journal::journal_name(&id));
    let whole = fs::read(&path).unwrap();
    for cut in [whole.len() - 1, whole.len() - 57 * 3 - 20, whole.len() / 2] {
        let copy = scratch();
        let status = Command::new("cp").arg("-a").arg(backup.path()).arg(copy.path()).status();
        assert!(status.unwrap().success());
        let old = std::mem::replace(&mut backup.folder, copy);
        let journal = backup.path().join(path.file_name().unwrap());
        fs::write(&journal, &whole[..cut]).unwrap();
        let chunks = std::mem::take(&mut backup.mesh.chunks);
        backup.mesh = Mesh { chunks, ..Mesh::default() };
        let report = backup.restore();
        // Of this boot all records are there. Files that have none are not ours: they stay.
        assert!(report.skipped.iter().all(|s| s.reason == SkipReason::Exists), "{report:?}");
        for (entry, data) in many().iter().filter(|(e, _)| matches!(e.what, What::File(_))) {
            let path = std::str::from_utf8(&entry.path).unwrap();
            assert!(backup.read(path) == *data, "{path}");
        }
        backup.folder = old;
    }
}

/// A restore that was cut off, and its journal.
fn cut_off(backup: &mut Backup, chunks: usize, existing: Existing) -> std::path::PathBuf {
    // Packs come before pieces.
    (backup.mesh.serve_at_most, backup.mesh.backwards) = (Some(chunks), false);
    backup.restore_with(&RestoreOptions::default(), existing).unwrap_err();
    let chunks = std::mem::take(&mut backup.mesh.chunks);
    backup.mesh = Mesh { chunks, ..Mesh::default() };
    let id = RestoreOptions::default().id(&backup.root);
    backup.path().join(journal::journal_name(&id))
}

/// Files that have their names; `part` files have not.
fn named_files(backup: &Backup) -> Vec<std::path::PathBuf> {
    let folder = backup.path().join("d");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| !path.to_str().unwrap().contains("/.quloud")).collect()
}

#[test]
fn after_a_power_cut_what_lost_its_records_is_restored_again() {
    for (existing, header) in
        [(Existing::Refuse, true), (Existing::Refuse, false), (Existing::Keep, true)]
    {
        let mut backup = Backup::of(&many());
        let mine = backup.path().join("mine");
        if existing == Existing::Keep {
            fs::create_dir_all(&mine).unwrap();
            fs::write(mine.join("file"), b"mine").unwrap();
        }
        let journal = cut_off(&mut backup, 20, existing);
        let named = named_files(&backup);
        assert!(named.len() > 5, "{named:?}");
        // Names are there, data and records are not.
        for path in &named {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(path, b"").unwrap();
        }
        journal::crash(&journal, header);
        let report = backup.restore_with(&RestoreOptions::default(), existing).unwrap();
        assert!(report.is_whole(), "{existing:?} {header}: {report:?}");
        if existing == Existing::Keep {
            assert_eq!(fs::read(mine.join("file")).unwrap(), b"mine");
            fs::remove_dir_all(mine).unwrap();
        }
        // Without its header nothing tells which names parts have.
        for name in backup.names().iter().filter(|_| !header) {
            if name.contains(".quloud-part-") {
                fs::remove_file(backup.path().join(name)).unwrap();
            }
        }
        assert_all_there(&backup);
    }
}

/// Puts another file in the place of one, as long and as old.
fn swap(path: &Path, bytes: u8) {
    let stat = fs::metadata(path).unwrap();
    let aside = path.with_extension("aside");
    fs::write(&aside, vec![bytes; stat.len() as usize]).unwrap();
    let file = fs::File::options().write(true).open(&aside).unwrap();
    file.set_modified(stat.modified().unwrap()).unwrap();
    fs::rename(aside, path).unwrap();
}

#[test]
fn a_file_as_long_and_as_old_is_not_taken_for_the_one_that_was_restored() {
    for existing in [Existing::Refuse, Existing::Keep] {
        let mut backup = Backup::of(&many());
        cut_off(&mut backup, 20, existing);
        let swapped = named_files(&backup).pop().unwrap();
        swap(&swapped, 7);
        let report = backup.restore_with(&RestoreOptions::default(), existing).unwrap();
        if existing == Existing::Refuse {
            assert!(report.is_whole(), "{report:?}");
            assert_all_there(&backup);
        } else {
            // It may be somebody's, and it is kept.
            let said: Vec<_> = report.skipped.iter().map(|s| s.reason).collect();
            assert_eq!(said[0], SkipReason::Exists, "{report:?}");
            assert!(fs::read(&swapped).unwrap().iter().all(|byte| *byte == 7));
            let_in(&backup.path().join("d"));
        }
    }
}

#[test]
fn a_damaged_name_of_somebody_else_is_not_taken_up() {
    let mut backup = Backup::of(&small());
    fs::create_dir_all(backup.path()).unwrap();
    let mine = backup.path().join("d.quloud-damaged");
    fs::write(&mine, noise(2_000_000, 77)).unwrap();
    let (lost, _) = *backup.mesh.order.iter().find(|(_, bytes)| *bytes == 300 << 10).unwrap();
    let chunk = backup.mesh.chunks.remove(&lost).unwrap();
    let report = backup.restore_with(&RestoreOptions::default(), Existing::Keep).unwrap();
    assert_eq!(report.damaged[0].name.as_deref(), Some(&b"d.quloud-damaged-1"[..]));
    backup.mesh.chunks.insert(lost, chunk);
    let report = backup.restore_with(&RestoreOptions::default(), Existing::Keep).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert!(backup.read("d") == noise(2_000_000, 4));
    assert!(fs::read(&mine).unwrap() == noise(2_000_000, 77));
    assert!(!backup.path().join("d.quloud-damaged-1").exists(), "ours was gone on with");
}

#[test]
fn what_is_written_already_needs_no_more_room() {
    let mut backup = Backup::of(&[(file("large"), noise(12_000_000, 99))]);
    cut_off(&mut backup, 20, Existing::Refuse);
    let target = backup.target(Existing::Refuse);
    let options = RestoreOptions::default();
    let id = options.id(&backup.root);
    let Ok((_journal, earlier)) = journal::Journal::open(&target, &id) else {
        panic!("there is one")
    };
    let mut progress = |_| {};
    let (cancel, progress) = (&NEVER, &mut progress);
    let mut job = Job { id, target: &target, options: &options, cancel, progress };
    let mut entries = TreeEntries::new(&backup.root, b"");
    let (mut fetcher, mut report) = (Fetcher::new(&mut backup.mesh), RestoreReport::default());
    let found =
        survey::survey(&mut job, &mut entries, &mut fetcher, &mut report, &earlier).unwrap();
    assert_eq!(found.bytes, 12_000_000);
    assert!(found.demand.bytes < 8_000_000, "{:?}", found.demand);
}

/// A mesh; when it is asked a second time, somebody puts another file in the place of a part.
struct Swapping<'a> {
    mesh: &'a mut Mesh,
    asked: usize,
    target: std::path::PathBuf,
}

impl ChunkSource for Swapping<'_> {
    fn request(&mut self, wanted: Wanted) {
        self.asked += 1;
        if self.asked == 2 {
            let part = names(&self.target).into_iter().find(|name| name.contains(".quloud-part-"));
            swap(&self.target.join(part.unwrap()), 7);
        }
        self.mesh.request(wanted);
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        self.mesh.next()
    }
}

#[test]
fn bytes_that_were_found_in_one_file_are_not_believed_of_another() {
    let mut backup = Backup::of(&[(file("large"), noise(12_000_000, 99))]);
    cut_off(&mut backup, 20, Existing::Refuse);
    let target = backup.target(Existing::Refuse);
    let mut source = Swapping { mesh: &mut backup.mesh, asked: 0, target: target.path().into() };
    let options = RestoreOptions::default();
    let report =
        restore(&mut source, &backup.root, &target, &options, &NEVER, &mut |_| {}).unwrap();
    assert_eq!((report.files, report.skipped_count), (0, 1), "{report:?}");
    assert!(!backup.path().join("large").exists());
}

#[test]
fn a_link_that_an_earlier_run_had_only_made_is_dressed() {
    let mut backup = Backup::of(&many());
    cut_off(&mut backup, 20, Existing::Refuse);
    std::os::unix::fs::symlink("07", backup.path().join("d/y")).unwrap();
    let report = backup.restore();
    assert!(report.is_whole(), "{report:?}");
    let stat = fs::symlink_metadata(backup.path().join("d/y")).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (1_600_000_000, 123_456_789));
    assert_all_there(&backup);
}

/// A mesh that takes its time, so that there is a moment to be killed in.
struct Slow<'a>(&'a mut Mesh);

impl ChunkSource for Slow<'_> {
    fn request(&mut self, wanted: Wanted) {
        self.0.request(wanted);
    }

    fn next(&mut self) -> Result<Fetched, FetchError> {
        std::thread::sleep(Duration::from_millis(5));
        self.0.next()
    }
}

const CHILD: &str = "QULOUD_TEST_RESTORE_INTO";

/// Not a test: what `a_restore_that_was_killed_goes_on` runs and kills.
#[test]
fn killed_child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let Backup { mut mesh, root, folder, .. } = Backup::of(&many());
    // Nobody tidies up behind what is killed.
    drop(folder);
    let target = Target::open(Path::new(&path), Existing::Refuse).unwrap();
    let (options, mut slow) = (RestoreOptions::default(), Slow(&mut mesh));
    restore(&mut slow, &root, &target, &options, &NEVER, &mut |_| {}).unwrap();
}

#[test]
fn a_restore_that_was_killed_goes_on() {
    let mut backup = Backup::of(&many());
    let child = "repo::restore::tests::resume::killed_child";
    let count = |backup: &Backup| fs::read_dir(backup.path().join("d")).map_or(0, Iterator::count);
    let mut kills = 0;
    for names in [1, 3, 8, 15, 22, 30, 38] {
        let mut running = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child])
            .env(CHILD, backup.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while count(&backup) < names && running.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the child restores");
            std::thread::sleep(Duration::from_millis(1));
        }
        running.kill().unwrap();
        kills += usize::from(running.wait().unwrap().signal().is_some());
    }
    assert!(kills >= 3, "{kills} were killed");
    let id = RestoreOptions::default().id(&backup.root);
    if backup.path().join(journal::journal_name(&id)).exists() {
        let report = backup.restore();
        assert!(report.is_whole() && report.resumed_files > 0, "{report:?}");
    }
    assert_all_there(&backup);
}
