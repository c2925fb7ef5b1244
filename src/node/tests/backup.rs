//! Backups into a mesh of whole nodes, and what their snapshots and heads are then.

use super::*;
use crate::node::chunks::Chunks;
use crate::node::report::{BackupDone, BackupRequest, FailureKind};
use crate::repo::reference::ChunkRef;
use crate::repo::tree::{Content, Entry as TreeEntry, FileBody, What};
use crate::repo::unfinished::Unfinished;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// An owner who knows so many holders, which run.
pub(super) async fn mesh(holders: u8) -> (TestNode, Vec<TestNode>) {
    let owner = TestNode::started(1, None).await;
    let mut all = Vec::new();
    for seed in 2..2 + holders {
        all.push(TestNode::started(seed, Some(&owner)).await);
    }
    owner.status_until(|status| status.peers == usize::from(holders)).await;
    (owner, all)
}

/// A folder with small files, a large one, a folder and a link.
pub(super) fn folder(node: &TestNode) -> PathBuf {
    let path = node.folder.path().join("files");
    fs::create_dir_all(path.join("below")).unwrap();
    for number in 0..40 {
        let file = node.file(&format!("small {number}"), 3_000 + number);
        fs::rename(file, path.join(format!("below/{number}"))).unwrap();
    }
    fs::rename(node.file("large", 3 << 20), path.join("large")).unwrap();
    std::os::unix::fs::symlink("large", path.join("link")).unwrap();
    path
}

pub(super) fn request(path: &Path, replicas: u8, timeout_s: u64) -> BackupRequest {
    let paths = vec![path.to_owned()];
    BackupRequest { paths, replicas, timeout_s, ..BackupRequest::default() }
}

pub(super) async fn backup(owner: &TestNode, path: &Path, replicas: u8) -> BackupDone {
    end(owner.handle().backup(request(path, replicas, 60))).await.unwrap()
}

async fn ids(owner: &TestNode) -> Vec<String> {
    let found = owner.handle().snapshots().await.unwrap();
    found.snapshots.into_iter().map(|snapshot| snapshot.snapshot).collect()
}

/// The records of one of the owner's heads that holders have, each once, oldest first.
pub(super) async fn records(owner: &TestNode, index: u16) -> Vec<HeadRecord> {
    let keys = HeadKeys::derive(&owner.owner().head, 0, index);
    let patience = Duration::from_secs(5);
    let wanted = HeadsWanted { superseded: 16, brief: false, patience };
    let found = owner.handle().find_heads(&[keys], &BTreeMap::new(), wanted).await.unwrap();
    let mut records: Vec<HeadRecord> =
        found.records.into_iter().map(|(_, record)| record).collect();
    records.sort_by_key(|record| (record.number(), record.hash()));
    records.dedup();
    records
}

/// Waits until what changed in the folders is old enough to be believed by the next backup's
/// successors.
async fn settled(paths: &[&Path]) {
    let changed = |path: &Path| {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let files = names.filter(|path| path.is_file());
        files.map(|file| file.symlink_metadata().unwrap().ctime()).max().unwrap_or(0)
    };
    let newest = paths.iter().map(|path| changed(path)).max().unwrap();
    let settled = SystemTime::UNIX_EPOCH + Duration::from_secs(newest.unsigned_abs() + 3);
    if let Ok(rest) = settled.duration_since(SystemTime::now()) {
        tokio::time::sleep(rest).await;
    }
}

pub(super) fn refuse(owner: &TestNode, refused: fn(&Entry) -> bool) {
    owner.handle().inner.with_catalog(|catalog| catalog.refused = refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_sends_what_changed_and_a_third_sends_nothing() {
    let (owner, holders) = mesh(3).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 3).await;
    assert_eq!((first.files, first.replicas, first.partial), (41, 3, false), "{first:?}");
    assert!(first.new_bytes > 3 << 20 && first.bytes > 3 << 20, "{first:?}");
    let listed = owner.handle().snapshots().await.unwrap();
    assert_eq!(listed.notes, [""; 0]);
    let [snapshot] = listed.snapshots.as_slice() else { panic!("{listed:?}") };
    assert_eq!(snapshot.snapshot, first.snapshot);
    assert_eq!(snapshot.roots, [path.display().to_string()]);
    assert_eq!((snapshot.files, snapshot.bytes), (41, first.bytes));

    fs::write(path.join("below/7"), b"something else").unwrap();
    let second = backup(&owner, &path, 3).await;
    assert!(second.new_bytes > 0 && second.new_bytes < 100_000, "{second:?}");
    fs::rename(path.join("below/8"), path.join("below/renamed")).unwrap();
    let renamed = backup(&owner, &path, 3).await;
    assert!(renamed.new_bytes > 0 && renamed.new_bytes < 20_000, "a tree alone: {renamed:?}");
    let last = backup(&owner, &path, 3).await;
    assert_eq!((last.new_bytes, last.new_chunks), (0, 2), "its snapshot and its entry: {last:?}");
    assert_eq!(ids(&owner).await.len(), 4);

    let elsewhere = owner.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::copy(path.join("below/9"), elsewhere.join("copy")).unwrap();
    let copied = backup(&owner, &elsewhere, 3).await;
    assert_eq!((copied.files, copied.bytes), (1, 3_009), "{copied:?}");
    assert!(copied.new_bytes < 3_000, "it is in a pack of the other paths: {copied:?}");
    drop(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_file_is_not_read_again() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    settled(&[&path, &path.join("below")]).await;
    let first = backup(&owner, &path, 2).await;
    assert_eq!((first.files, first.unchanged), (41, 0), "{first:?}");
    let second = backup(&owner, &path, 2).await;
    assert_eq!((second.files, second.unchanged, second.new_chunks), (41, 41, 2), "{second:?}");
    fs::write(path.join("below/7"), b"something else").unwrap();
    // Without the copies of trees the next one fetches what it needs.
    fs::remove_dir_all(owner.data().join("owner/meta")).unwrap();
    let third = backup(&owner, &path, 2).await;
    assert_eq!((third.files, third.unchanged), (41, 40), "{third:?}");
    assert!(third.new_bytes > 0 && third.new_bytes < 100_000, "{third:?}");
    drop(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_that_come_at_once_are_made_one_after_the_other() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let both = [(), ()].map(|()| owner.handle().backup(request(&path, 1, 60)));
    let [left, right] = both.map(end);
    let (left, right) = tokio::join!(left, right);
    let (left, right) = (left.unwrap(), right.unwrap());
    assert_eq!(left.new_chunks.min(right.new_chunks), 2, "{left:?} {right:?}");
    assert_eq!(ids(&owner).await.len(), 2);
    drop(holders);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_window_of_short_chunks_ends_in_a_short_backup() {
    let (owner, _holders) = mesh(1).await;
    // The owner role's window is 64 MiB.
    let large = owner.file("larger than the window", 80 << 20);
    let done = end(owner.handle().backup(request(&large, 2, 5))).await.unwrap();
    assert_eq!((done.files, done.replicas, done.partial), (1, 1, false), "{done:?}");
    assert!(done.new_bytes > 80 << 20, "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_holders_away_nothing_is_named_and_the_next_backup_goes_on() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 0).await;
    fs::write(path.join("below/7"), b"something else").unwrap();
    let failure = end(owner.handle().backup(request(&path, 1, 1))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotEnoughHolders, "{failure:?}");
    assert!(failure.hint.contains("run the same command again"), "{failure:?}");
    assert_eq!(ids(&owner).await, std::slice::from_ref(&first.snapshot), "as seen last");
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    let second = backup(&owner, &path, 1).await;
    assert_eq!(ids(&owner).await, [first.snapshot, second.snapshot]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_nobody_waits_for_ends_and_is_not_sent_again() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    // It waits for a second holder of its chunks.
    let mut events = owner.handle().backup(request(&path, 2, 60));
    let all = loop {
        let event = timeout(PATIENCE, events.recv()).await.unwrap();
        let Some(Progress::Working { chunks, note: Some(note), .. }) = event else { continue };
        if note == "waiting for the last chunks" {
            break chunks;
        }
    };
    let deadline = Instant::now() + PATIENCE;
    while owner.handle().peers().await[0].holds_chunks < all {
        assert!(Instant::now() < deadline, "the only holder takes all {all}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(events);
    let done = backup(&owner, &path, 1).await;
    assert_eq!((done.replicas, done.files, done.new_chunks), (1, 41, 2), "{done:?}");
    assert_eq!(ids(&owner).await, [done.snapshot]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backup_that_was_broken_off_has_done_is_not_read_again() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    settled(&[&path, &path.join("below")]).await;
    // It waits for a second holder of its chunks.
    let mut events = owner.handle().backup(request(&path, 2, 60));
    let all = loop {
        let event = timeout(PATIENCE, events.recv()).await.unwrap();
        let Some(Progress::Working { chunks, note: Some(note), .. }) = event else { continue };
        if note == "waiting for the last chunks" {
            break chunks;
        }
    };
    let deadline = Instant::now() + PATIENCE;
    while owner.handle().peers().await[0].holds_chunks < all {
        assert!(Instant::now() < deadline, "the only holder takes all {all}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(events);
    fs::write(path.join("below/7"), b"something else").unwrap();
    let done = backup(&owner, &path, 1).await;
    assert_eq!((done.files, done.unchanged), (41, 40), "{done:?}");
    assert!(done.new_bytes < 100_000, "{done:?}");
    let left = fs::read_dir(owner.data().join("owner/unfinished")).unwrap().count();
    assert_eq!(left, 0, "there is a snapshot now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_not_read_again_though_its_leaf_was_not_done() {
    let (owner, _holders) = mesh(1).await;
    let path = owner.folder.path().join("films");
    fs::create_dir(&path).unwrap();
    fs::rename(owner.file("one", 17 << 20), path.join("a")).unwrap();
    // With the other one it is more than the owner role's window of 64 MiB.
    fs::rename(owner.file("other", 80 << 20), path.join("b")).unwrap();
    settled(&[&path]).await;
    let events = owner.handle().backup(request(&path, 2, 60));
    let roots = [path.canonicalize().unwrap().into_os_string().into_encoded_bytes()];
    let host = crate::node::backup::host();
    let unfinished = Unfinished::of(&owner.data(), &owner.owner(), &host, &roots);
    let inner = Arc::clone(&owner.handle().inner);
    let is_held = move |file: &TreeEntry| {
        let What::File(FileBody { content: Content::Listing(root), .. }) = &file.what else {
            panic!("{file:?} has pieces")
        };
        let pieces = Chunks::here(&inner).pieces(root);
        let mut all = pieces.iter().chain([root]);
        let acked = |chunk: &ChunkRef| {
            inner.with_catalog(|catalog| !catalog.holders_of(&chunk.id).is_empty())
        };
        !pieces.is_empty() && all.all(acked)
    };
    let deadline = Instant::now() + PATIENCE;
    while !unfinished.read().is_some_and(|run| run.files.iter().any(&is_held)) {
        assert!(Instant::now() < deadline, "the first file is done: {:?}", unfinished.read());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(unfinished.read().unwrap().leaves.is_empty());
    drop(events);
    let done = backup(&owner, &path, 1).await;
    assert_eq!((done.files, done.unchanged), (2, 1), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_met_is_refused_at_once() {
    let owner = TestNode::started(1, None).await;
    let path = folder(&owner);
    for wanted in [
        request(&path, 0, 60),
        request(&path, 33, 60),
        request(Path::new("relative"), 1, 60),
        BackupRequest { tags: vec![String::new()], ..request(&path, 1, 60) },
        BackupRequest { excludes: vec!["a[".to_owned()], ..request(&path, 1, 60) },
    ] {
        let failure = end(owner.handle().backup(wanted.clone())).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{failure:?} of {wanted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_listed_without_a_mesh_and_by_a_device_that_is_new() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 2).await;
    owner.stop().await;
    // Nobody knows its new address, and it shall not find them by the old ones.
    fs::remove_file(owner.data().join("peers.json")).unwrap_or_default();
    owner.start(None).await;
    let alone = owner.handle().snapshots().await.unwrap();
    assert_eq!(alone.snapshots.len(), 1, "{alone:?}");
    assert!(alone.notes.iter().any(|note| note.contains("no other node")), "{alone:?}");

    owner.stop().await;
    fs::remove_dir_all(owner.data().join("owner")).unwrap();
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(ids(&owner).await, [first.snapshot]);
    let second = backup(&owner, &path, 2).await;
    assert!(!second.partial);
    assert_eq!(ids(&owner).await.len(), 2);
    let heads = [records(&owner, 0).await.len(), records(&owner, 1).await.len()];
    assert_eq!(heads, [1, 1], "each device writes a head of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_snapshots_than_a_head_names_are_found_by_a_device_that_is_new() {
    let (mut owner, holders) = mesh(1).await;
    let path = owner.file("only one", 1_000);
    let mut made = Vec::new();
    for _ in 0..18 {
        made.push(backup(&owner, &path, 1).await.snapshot);
    }
    assert_eq!(ids(&owner).await, made);
    owner.stop().await;
    fs::remove_dir_all(owner.data().join("owner")).unwrap();
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 1).await;
    assert_eq!(ids(&owner).await, made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_entry_and_head_publishes_once() {
    let (owner, _holders) = mesh(2).await;
    let path = folder(&owner);
    refuse(&owner, |entry| matches!(entry, Entry::HeadSeen(_)));
    let failure = end(owner.handle().backup(request(&path, 2, 60))).await.unwrap_err();
    assert!(failure.what.contains("the catalogue"), "{failure:?}");
    assert!(records(&owner, 0).await.is_empty(), "what is not recorded is not sent");
    refuse(&owner, |_| false);
    let done = backup(&owner, &path, 2).await;
    assert_eq!((done.new_bytes, done.new_chunks), (0, 2), "nothing is sent twice: {done:?}");
    assert_eq!(ids(&owner).await, [done.snapshot]);
    assert_eq!(records(&owner, 0).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_number_is_never_signed_twice() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    // It is recorded and sent, and the node does not live to learn that it is kept.
    refuse(&owner, |entry| matches!(entry, Entry::HeadKept(_)));
    end(owner.handle().backup(request(&path, 2, 60))).await.unwrap_err();
    let [one] = records(&owner, 0).await.try_into().unwrap();
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    let done = backup(&owner, &path, 2).await;
    assert_eq!(ids(&owner).await.len(), 2, "the one that was broken off is there, too: {done:?}");
    let after = records(&owner, 0).await;
    let [first, second] = after.as_slice() else { panic!("{after:?}") };
    assert_eq!((first, second.number(), second.previous()), (&one, 2, one.hash()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_folder_sees_the_newer_head_at_its_known_holders() {
    let (mut owner, holders) = mesh(3).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 3).await;
    let looked = |owner: &TestNode| owner.handle().inner.with_catalog(|all| all.looked_around());
    assert!(looked(&owner).is_some(), "it had to: it has no head of its own before");
    owner.stop().await;
    let copy = owner.folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(owner.data()).arg(&copy).status();
    assert!(copied.unwrap().success());
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 3).await;
    let second = backup(&owner, &path, 3).await;
    owner.stop().await;

    fs::remove_dir_all(owner.data()).unwrap();
    fs::rename(&copy, owner.data()).unwrap();
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 3).await;
    let before = looked(&owner);
    let third = backup(&owner, &path, 3).await;
    assert_eq!(looked(&owner), before, "its known holders alone were asked");
    assert_eq!(ids(&owner).await, [first.snapshot, second.snapshot, third.snapshot]);
    let numbers: Vec<u64> = records(&owner, 0).await.iter().map(HeadRecord::number).collect();
    assert_eq!(numbers, [1, 2, 3], "each once: the chain goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_short_is_told_and_completed_by_the_next_backup() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    // By that, and not by the node itself.
    let _stays = owner.handle().inner.letting_go.read().await;
    let done = end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert_eq!((done.replicas, done.partial), (1, false), "{done:?}");
    assert!(done.notes.iter().any(|note| note.contains("head has 1 of 2")), "{done:?}");
    let _second = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let done = backup(&owner, &path, 2).await;
    assert_eq!(done.replicas, 2);
    assert!(done.new_chunks > 2, "all is sent to the one that has none of it: {done:?}");
    assert_eq!(backup(&owner, &path, 2).await.new_chunks, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_holders_there_is_no_snapshot_and_without_a_path_no_backup() {
    let owner = TestNode::started(1, None).await;
    let path = folder(&owner);
    let failure = end(owner.handle().backup(request(&path, 1, 1))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotEnoughHolders, "{failure:?}");
    assert_eq!(ids(&owner).await, [""; 0]);
    let gone = owner.folder.path().join("gone");
    let failure = end(owner.handle().backup(request(&gone, 1, 1))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_missing_makes_the_snapshot_partial() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let gone = owner.folder.path().join("gone");
    let paths = vec![path.clone(), gone.clone()];
    let excludes = vec!["below/".to_owned()];
    let wanted = BackupRequest { paths, excludes, ..request(&path, 1, 60) };
    let done = end(owner.handle().backup(wanted)).await.unwrap();
    assert_eq!((done.files, done.partial, done.faults), (1, true, 1), "{done:?}");
    assert!(done.fault_lines[0].starts_with(&gone.display().to_string()), "{done:?}");
    assert!(owner.handle().snapshots().await.unwrap().snapshots[0].partial);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_a_backup_will_store_and_stores_nothing() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let dry = BackupRequest { dry_run: true, ..request(&path, 1, 60) };
    let told = end(owner.handle().backup(dry.clone())).await.unwrap();
    assert!(told.dry_run && told.snapshot.is_empty());
    assert_eq!(
        (holders[0].status_until(|_| true).await.store.unwrap().chunks, ids(&owner).await.len()),
        (0, 0)
    );
    let done = backup(&owner, &path, 1).await;
    let of = |done: &BackupDone| (done.files, done.bytes, done.new_bytes);
    assert_eq!(of(&told), of(&done));
    assert!(told.new_bytes > 3 << 20 && told.new_chunks > 3);
    let told = end(owner.handle().backup(dry)).await.unwrap();
    assert_eq!((told.new_bytes, told.new_chunks), (0, 0));
    assert_eq!(ids(&owner).await.len(), 1);
}
