//! The words on a new machine: heads, snapshots, files.

use super::backup::{backup, folder, mesh, records, request};
use super::*;
use crate::node::datadir::recover as recover_folder;
use crate::node::report::{
    ExistingNames, FailureKind, RecoverRequest, Recovered, RestoreDone, RestoreRequest,
};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A machine that was recovered from the words of the owner with this seed, and runs.
pub(super) async fn machine(seed: u8, holder: &TestNode) -> TestNode {
    machine_with(seed, holder, 1 << 30).await
}

/// The same; it keeps no more than so many bytes for others.
pub(super) async fn machine_with(seed: u8, holder: &TestNode, capacity: u64) -> TestNode {
    let (folder, backups) = (tempfile::tempdir().unwrap(), Vec::new());
    let mut node = TestNode { folder, seed, running: None, site: String::new(), backups };
    let mut rng = rand_chacha::ChaCha20Rng::try_from_rng(&mut rand::rngs::SysRng).unwrap();
    let master = Master::from_bytes([seed; 32]);
    let sealed = || panic!("nothing is sealed");
    drop(recover_folder(&node.data(), &master, "", || Ok(None), sealed, &mut rng).unwrap());
    node.start_with(Some(holder), capacity).await;
    node
}

pub(super) async fn recover(node: &TestNode, take_over: Option<u16>) -> Result<Recovered, Failure> {
    end(node.handle().recover(RecoverRequest { take_over })).await
}

pub(super) fn wanted(target: &Path) -> RestoreRequest {
    RestoreRequest {
        snapshot: "latest".to_owned(),
        target: target.to_owned(),
        timeout_s: 15,
        ..RestoreRequest::default()
    }
}

pub(super) async fn restore(
    node: &TestNode,
    request: RestoreRequest,
) -> Result<RestoreDone, Failure> {
    end(node.handle().restore(request)).await
}

/// Where what was at `path` is below `target`.
pub(super) fn restored(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

/// The files below a folder, by name.
pub(super) fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            if at.is_symlink() {
                let text = fs::read_link(&at).unwrap().into_os_string().into_encoded_bytes();
                found.insert(at.strip_prefix(path).unwrap().to_owned(), text);
            } else if at.is_dir() {
                folders.push(at);
            } else {
                found.insert(at.strip_prefix(path).unwrap().to_owned(), fs::read(&at).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_machine_restores_what_another_backed_up_with_one_holder_away() {
    let (mut owner, mut holders) = mesh(3).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 3).await;
    let before = contents(&path);
    owner.stop().await;
    holders[0].stop().await;
    let new = machine(1, &holders[1]).await;
    let found = recover(&new, None).await.unwrap();
    assert_eq!((found.index, found.snapshots_total, found.heads.len()), (1, 1, 1), "{found:?}");
    assert!(found.heads[0].number == 1 && found.heads[0].agree >= 1, "{found:?}");

    let target = new.folder.path().join("back");
    let above = fs::File::open(new.folder.path()).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    above.set_modified(long_ago).unwrap();
    let done = restore(&new, RestoreRequest { dry_run: true, ..wanted(&target) }).await.unwrap();
    assert_eq!((done.files, done.bytes, done.dry_run), (41, made.bytes, true), "{done:?}");
    assert_eq!(done.verified, 0, "{done:?}");
    let modified = above.metadata().unwrap().modified().unwrap();
    assert!(!target.exists() && modified == long_ago, "a dry run makes nothing, beside it neither");
    let mut events = new.handle().restore(wanted(&target));
    let line = loop {
        match events.recv().await.unwrap() {
            Progress::Told { line } if line.starts_with("snapshot ") => break line,
            Progress::Told { .. } => {}
            Progress::Working { total: None, .. } => {}
            event => panic!("before anything is written it is told what was found: {event:?}"),
        }
    };
    let done = end(events).await.unwrap();
    let head = done.head.as_ref().unwrap();
    assert!(line.contains(&made.snapshot[..8]) && line.contains("head 0, number 1 of "), "{line}");
    assert!(line.contains(&format!(": {} holder", head.agree)), "{line}");
    assert!(line.contains(&format!(", {} did not answer", head.silent)), "{line}");
    assert_eq!((done.files, done.damaged, done.skipped), (41, 0, 0), "{done:?}");
    assert_eq!((done.verified, done.resumed_files, done.unreachable), (41, 0, 0), "{done:?}");
    assert_eq!((&done.snapshot, done.bytes), (&made.snapshot, made.bytes), "{done:?}");
    assert!(!done.holders.is_empty() && done.head.is_some(), "{done:?}");
    assert_eq!(contents(&restored(&target, &path)), before);
    assert_eq!(done.roots[0].1, restored(&target, &path).display().to_string());

    let failure = restore(&new, wanted(&target)).await.unwrap_err();
    assert!(failure.what.contains("not restored") && failure.hint.contains("--overwrite"));
    fs::write(restored(&target, &path).join("below/7"), b"changed since").unwrap();
    fs::remove_file(restored(&target, &path).join("below/8")).unwrap();
    let keep = RestoreRequest { existing: ExistingNames::Keep, ..wanted(&target) };
    let done = restore(&new, keep).await.unwrap();
    assert_eq!((done.files, done.skipped), (1, 40), "{done:?}");
    let replace = RestoreRequest { existing: ExistingNames::Replace, ..wanted(&target) };
    assert_eq!(restore(&new, replace).await.unwrap().files, 41);
    assert_eq!(contents(&restored(&target, &path)), before);

    let some = RestoreRequest {
        snapshot: made.snapshot[..6].to_owned(),
        below: path.as_os_str().as_encoded_bytes().to_vec(),
        includes: vec![b"1*".to_vec()],
        excludes: vec![b"/below/11".to_vec()],
        ..wanted(&new.folder.path().join("some"))
    };
    let done = restore(&new, some.clone()).await.unwrap();
    let names: Vec<PathBuf> = contents(&some.target).into_keys().collect();
    assert_eq!((done.files, names.len()), (10, 10), "1, 10 and 12 to 19: {names:?}");
    assert!(names.contains(&PathBuf::from("below/19")), "{names:?}");
    let nowhere = RestoreRequest { below: b"/nowhere".to_vec(), ..wanted(&some.target) };
    let failure = restore(&new, nowhere).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed, "the target is not empty: {failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_keeps_the_heads_of_another_finds_them_in_its_own_store() {
    let owner = TestNode::started(1, None).await;
    let path = folder(&owner);
    let second = machine(1, &owner).await;
    owner.status_until(|status| status.peers == 1).await;
    // There is nobody else who could take anything.
    let made = backup(&owner, &path, 1).await;
    let before = contents(&path);
    assert_eq!(recover(&second, None).await.unwrap().snapshots_total, 1);
    let target = second.folder.path().join("back");
    let done = restore(&second, wanted(&target)).await.unwrap();
    assert_eq!((done.snapshot, done.damaged), (made.snapshot, 0));
    assert_eq!(contents(&restored(&target, &path)), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_device_takes_a_free_head_or_the_one_that_it_is_told_to() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    owner.stop().await;

    let second = machine(1, &holders[0]).await;
    assert_eq!(recover(&second, None).await.unwrap().index, 1);
    assert_eq!(recover(&second, None).await.unwrap().index, 1, "as it was decided");
    backup(&second, &path, 2).await;
    assert_eq!((records(&second, 0).await.len(), records(&second, 1).await.len()), (1, 1));

    let third = machine(1, &holders[0]).await;
    let failure = recover(&third, Some(7)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    let found = recover(&third, Some(0)).await.unwrap();
    assert_eq!((found.index, found.heads.len(), found.snapshots_total), (0, 2, 2), "{found:?}");
    backup(&third, &path, 2).await;
    let numbers: Vec<u64> = records(&third, 0).await.iter().map(HeadRecord::number).collect();
    assert_eq!(numbers, [1, 2], "the chain goes on");
    assert_eq!(recover(&second, None).await.unwrap().snapshots_total, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_recovered_at_once_end_on_two_heads() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    owner.stop().await;
    let (second, third) = (machine(1, &holders[0]).await, machine(1, &holders[1]).await);
    for device in [&second, &third] {
        assert_eq!(recover(device, None).await.unwrap().index, 1, "nobody has published yet");
    }
    backup(&second, &path, 2).await;
    backup(&third, &path, 2).await;
    let numbers = [0, 1, 2].map(|index| records(&second, index));
    for records in futures::future::join_all(numbers).await {
        assert_eq!(records.iter().map(HeadRecord::number).collect::<Vec<_>>(), [1]);
    }
    assert_eq!(recover(&second, None).await.unwrap().snapshots_total, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brief_look_is_none_to_choose_a_head_by() {
    let (owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let second = machine(1, &holders[0]).await;
    assert_eq!(second.handle().snapshots().await.unwrap().snapshots.len(), 1);
    let inner = &second.handle().inner;
    assert!(!inner.repository.has_asked().await);
    recover(&second, None).await.unwrap();
    assert!(inner.repository.has_asked().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_too_few_hold_is_stored_anew_by_the_next_backup() {
    let (mut owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    let short = end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert_eq!(short.replicas, 1, "{short:?}");
    let second = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(backup(&owner, &path, 2).await.replicas, 2);
    owner.stop().await;
    holders[0].stop().await;
    let new = machine(1, &second).await;
    let found = recover(&new, None).await.unwrap();
    assert_eq!((found.snapshots_total, found.whole), (2, true), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_is_not_guessed_while_a_head_that_another_names_is_not_found() {
    let (mut owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    let far = TestNode::started(9, Some(&holders[0])).await;
    owner.stop().await;
    let second = machine(1, &holders[0]).await;
    second.status_until(|status| status.peers == 2).await;
    recover(&second, None).await.unwrap();
    let made = backup(&second, &path, 2).await;
    holders[0].stop().await;

    let new = machine(1, &far).await;
    let found = recover(&new, None).await.unwrap();
    assert_eq!((found.heads.len(), found.whole), (1, false), "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains("device 0")), "{found:?}");
    let target = new.folder.path().join("back");
    let failure = restore(&new, wanted(&target)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Partial, "{failure:?}");
    let named = RestoreRequest { snapshot: made.snapshot[..8].to_owned(), ..wanted(&target) };
    assert_eq!(restore(&new, named).await.unwrap().files, 41);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_is_not_guessed_while_most_most_holders_of_a_head_are_silent() {
    let (mut owner, mut holders) = mesh(3).await;
    let path = folder(&owner);
    backup(&owner, &path, 3).await;
    let made = backup(&owner, &path, 3).await;
    owner.stop().await;
    holders[0].stop().await;
    holders[1].stop().await;

    let new = machine(1, &holders[2]).await;
    let found = recover(&new, None).await.unwrap();
    let [head] = found.heads.as_slice() else { panic!("{found:?}") };
    assert_eq!((head.number, head.agree, head.silent, head.doubtful), (2, 1, 2, true));
    let target = new.folder.path().join("back");
    let failure = restore(&new, wanted(&target)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Partial, "{failure:?}");
    assert!(failure.hint.contains(&made.snapshot[..8]) && !target.exists(), "{failure:?}");
    let named = RestoreRequest { snapshot: made.snapshot[..8].to_owned(), ..wanted(&target) };
    let done = restore(&new, named).await.unwrap();
    assert_eq!((done.files, done.damaged), (41, 0), "{done:?}");
    assert!(done.head.is_some_and(|head| head.doubtful));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_named_and_the_rest_is_restored() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    // The large file is stored first, whichever chunk would come first otherwise.
    backup(&owner, &path.join("large"), 1).await;
    backup(&owner, &path, 1).await;
    let before = contents(&path);
    holders[0].stop().await;
    rot(&holders[0].data().join("store/segments"));
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;

    let target = owner.folder.path().join("back");
    let done = restore(&owner, wanted(&target)).await.unwrap();
    assert_eq!((done.damaged, done.unreachable, done.files), (1, 0, 40), "{done:?}");
    assert_eq!((done.damaged_at.len(), done.away.len()), (1, 0), "{done:?}");
    let [file] = done.damaged_files.as_slice() else { panic!("{done:?}") };
    assert!(file.damaged, "{file:?}");
    assert!(file.path.ends_with("files/large") && file.missing_bytes > 0, "{file:?}");
    assert!(done.journal.is_some(), "{done:?}");
    let mut back = contents(&restored(&target, &path));
    let partly = back.remove(Path::new("large.quloud-damaged")).unwrap();
    let whole = &before[Path::new("large")];
    let (from, to) = file.missing[0];
    let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
    assert!(partly[..from] == whole[..from] && partly[to..] == whole[to..]);
    assert!(back.iter().all(|(name, content)| before[name] == *content));
    assert_eq!(back.len() + 1, before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_holder_that_is_away_has_is_no_damage() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    // The large file lies at the first holder alone, all else at another one, too.
    backup(&owner, &path.join("large"), 1).await;
    backup(&owner, &path, 1).await;
    holders.push(TestNode::started(3, Some(&owner)).await);
    owner.status_until(|status| status.peers == 2).await;
    let small = fs::read(path.join("below/7")).unwrap();
    let away = owner.folder.path().join("away");
    fs::rename(path.join("large"), &away).unwrap();
    let made = backup(&owner, &path, 2).await;
    assert_eq!(made.replicas, 2, "{made:?}");
    fs::rename(&away, path.join("large")).unwrap();
    let whole = backup(&owner, &path, 1).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 1).await;

    let target = owner.folder.path().join("back");
    let request = RestoreRequest { snapshot: whole.snapshot.clone(), ..wanted(&target) };
    let done = restore(&owner, request.clone()).await.unwrap();
    assert_eq!((done.damaged, done.unreachable, done.files), (0, 1, 40), "{done:?}");
    let [file] = done.damaged_files.as_slice() else { panic!("{done:?}") };
    assert!(file.path.ends_with("files/large") && !file.damaged, "{file:?}");
    assert_eq!((done.away.len(), done.damaged_at.len()), (1, 0), "{done:?}");
    assert!(done.journal.is_some(), "{done:?}");
    let back = restored(&target, &path);
    assert!(fs::read(back.join("below/7")).unwrap() == small);

    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let done = restore(&owner, request).await.unwrap();
    assert_eq!((done.files, done.verified, done.resumed_files), (41, 1, 40), "{done:?}");
    assert_eq!((done.damaged, done.unreachable), (0, 0), "{done:?}");
    assert!(contents(&back) == contents(&path));
}

/// Flips a byte of what was stored first: the pieces of a large file.
pub(super) fn rot(segments: &Path) {
    let files = fs::read_dir(segments).unwrap().map(|entry| entry.unwrap());
    let (_, largest) =
        files.map(|file| (file.metadata().unwrap().len(), file.path())).max().unwrap();
    // Nothing else of it changes: the holder may be at work on it.
    let file = fs::File::options().read(true).write(true).open(&largest).unwrap();
    let (at, mut byte) = (2 << 20, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_lead_to_nothing_are_told_with_the_mesh() {
    let (_owner, holders) = mesh(1).await;
    let stranger = machine(77, &holders[0]).await;
    let failure = recover(&stranger, None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Failed, "{failure:?}");
    assert!(failure.why.contains("\"quloud\"") && failure.why.contains("connected"), "{failure:?}");
    let target = stranger.folder.path().join("back");
    let failure = restore(&stranger, wanted(&target)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    assert!(failure.hint.contains("quloud recover") && !target.exists(), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_says_where_holders_are() {
    let (mut owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    // Whom it met is written down when it stops.
    owner.stop().await;
    owner.start(None).await;
    owner.status_until(|status| status.peers == 2).await;
    let inner = std::sync::Arc::clone(&owner.handle().inner);
    let hints = tokio::task::spawn_blocking(move || repository::hints(&inner)).await.unwrap();
    let stranger = TestNode::started(9, None).await;
    for hint in &hints {
        let text = String::from_utf8(hint.address.clone()).unwrap();
        assert!(hint.chunks > 3 && repository::node_at(&text) == Some(hint.node), "{text}");
        stranger.handle().inner.net.add_address(text);
    }
    assert_eq!(hints.len(), holders.len());
    stranger.status_until(|status| status.peers >= 2).await;
}
