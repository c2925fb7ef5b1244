//! Prunes at whole nodes: what goes, what stays, and that no end in between loses anything.

use super::backup::{backup, folder, mesh, refuse, request};
use super::look::rows;
use super::recover::{contents, machine, recover, restore, restored, wanted};
use super::*;
use crate::core::message::ChunkState;
use crate::core::types::{ChunkId, DeviceId, Locality, NodeId, SnapshotId};
use crate::crypto::keys::ChunkKey;
use crate::node::account::{AccountError, list_mine};
use crate::node::inner::Inner;
use crate::node::prune::{OnlyPrune, Step};
use crate::node::report::{
    DeleteKeyText, FailureKind, ForgetRequest, PruneDone, PruneRequest, RestoreRequest,
};
use crate::repo::catalog::{PruneNote, SnapshotForgotten, SnapshotSeen};
use crate::repo::reference::ChunkRef;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn inner(node: &TestNode) -> &Arc<Inner> {
    &node.handle().inner
}

pub(super) fn id_of(node: &TestNode) -> NodeId {
    NodeKeys::from_seeds([node.seed; 32], [node.seed; 32], [node.seed; 32]).node_id()
}

pub(super) fn pruning() -> PruneRequest {
    PruneRequest { timeout_s: 20, beside_others: true, ..PruneRequest::default() }
}

pub(super) async fn prune_with(
    node: &TestNode,
    request: PruneRequest,
) -> Result<PruneDone, Failure> {
    end(node.handle().prune(request)).await
}

pub(super) async fn prune(node: &TestNode) -> PruneDone {
    prune_with(node, pruning()).await.unwrap()
}

pub(super) async fn forget(node: &TestNode, snapshot: &str) {
    let snapshots = vec![snapshot.to_owned()];
    let request = ForgetRequest { snapshots, timeout_s: 20, ..ForgetRequest::default() };
    let (_, done) = rows(node.handle().forget(request)).await.unwrap();
    assert_eq!(done.forgotten, 1);
}

/// What a holder keeps for the owner: live chunks, and those that it has let go.
pub(super) async fn kept(owner: &TestNode, holder: &TestNode) -> (Vec<ChunkId>, Vec<ChunkId>) {
    let (mut live, mut released, mut after) =
        (Vec::new(), Vec::new(), ChunkId::from_bytes([0; 32]));
    loop {
        let page = match list_mine(inner(owner), id_of(holder), after, 4_096).await {
            Ok(page) => page,
            Err(AccountError::NoAccount) => return (live, released),
            Err(error) => panic!("{error}"),
        };
        for chunk in &page.chunks {
            match chunk.state {
                ChunkState::Live => live.push(chunk.id),
                ChunkState::Released { .. } => released.push(chunk.id),
                state => panic!("{state:?}"),
            }
        }
        match page.chunks.last() {
            Some(last) if page.more => after = last.id,
            _ => return (live, released),
        }
    }
}

/// Whether a snapshot comes back as these files, by a device that has nothing but the words.
pub(super) async fn comes_back(
    holder: &TestNode,
    snapshot: &str,
    path: &Path,
    files: &BTreeMap<PathBuf, Vec<u8>>,
) {
    let new = machine(1, holder).await;
    recover(&new, None).await.unwrap();
    let target = new.folder.path().join("back");
    let request = RestoreRequest { snapshot: snapshot.to_owned(), ..wanted(&target) };
    let done = restore(&new, request).await.unwrap();
    assert_eq!((done.damaged, done.skipped), (0, 0), "{done:?}");
    assert_eq!(contents(&restored(&target, path)), *files);
}

/// Two versions of a folder; the first is forgotten. Returns the second, and its files.
pub(super) async fn two_versions(
    owner: &TestNode,
    path: &Path,
) -> (String, BTreeMap<PathBuf, Vec<u8>>) {
    let first = backup(owner, path, 1).await;
    let large = owner.file("another large one", 3 << 20);
    fs::copy(large, path.join("large")).unwrap();
    fs::write(path.join("below/7"), b"something else").unwrap();
    let second = backup(owner, path, 1).await;
    forget(owner, &first.snapshot).await;
    (second.snapshot, contents(path))
}

/// Notes a snapshot that nobody has, and that was forgotten: its id.
pub(super) fn forgotten_elsewhere(node: &TestNode, number: u8, own: bool) -> String {
    let id = SnapshotId::from_bytes([number; 32]);
    let (ck, at) = (ChunkKey::from_bytes([number; 32]), ChunkId::from_bytes([number; 32]));
    let reference = ChunkRef { ck, id: at, locality: Locality(1), bytes: 0 };
    let (index, device) = (9, DeviceId::from_bytes([9; 16]));
    let seen = SnapshotSeen { id, reference, index, device, created_ns: 1, put: false };
    let (age_s, wall_s) = inner(node).with_catalog(|all| all.aged()).unwrap_or_default();
    let forgotten = SnapshotForgotten { id, by: 9, own, accepted: false, age_s, wall_s };
    for note in [PruneNote::SnapshotSeen(seen), PruneNote::SnapshotForgotten(forgotten)] {
        inner(node).record(Entry::Prune(note)).unwrap();
    }
    id.to_string()
}

pub(super) fn end_at(node: &TestNode, step: Option<Step>) {
    *inner(node).prune_ends.lock().unwrap() = step;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_forgotten_snapshot_names_goes_and_the_rest_is_restored() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 2).await;
    let nothing = prune(&owner).await;
    assert_eq!((nothing.chunks, nothing.prune), (0, None), "no snapshot was forgotten");
    let before = kept(&owner, &holders[0]).await.0;
    let large = owner.file("another large one", 3 << 20);
    fs::copy(large, path.join("large")).unwrap();
    let second = backup(&owner, &path, 2).await;
    let files = contents(&path);
    forget(&owner, &first.snapshot).await;

    let dry = prune_with(&owner, PruneRequest { dry_run: true, ..pruning() }).await.unwrap();
    assert!(dry.dry_run && dry.chunks > 0 && dry.copies == 2 * dry.chunks, "{dry:?}");
    assert!(kept(&owner, &holders[0]).await.1.is_empty(), "a dry run lets nothing go");
    let done = prune(&owner).await;
    assert_eq!((done.chunks, done.copies, done.bytes), (dry.chunks, dry.copies, dry.bytes));
    assert_eq!((done.holders.len(), done.away.len(), done.snapshots), (2, 0, 1), "{done:?}");
    assert!(
        done.bytes >= 2 * (3 << 20) && done.delay_s.is_some_and(|s| s > 6 * 86_400),
        "{done:?}"
    );
    for holder in &holders {
        let (live, released) = kept(&owner, holder).await;
        assert_eq!(released.len() as u64, done.chunks);
        assert!(released.iter().all(|id| before.contains(id) && !live.contains(id)));
        let known = |id: &ChunkId| inner(&owner).with_catalog(|all| all.holders_of(id).len());
        assert!(released.iter().all(|id| known(id) == 0), "not known as stored");
    }
    comes_back(&holders[0], &second.snapshot, &path, &files).await;
    let again = prune(&owner).await;
    assert_eq!((again.chunks, again.snapshots), (0, 0), "{again:?}");
    assert!(owner.handle().status(0).await.attention.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_was_let_go_is_stored_again_by_the_next_backup() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let large = fs::read(path.join("large")).unwrap();
    two_versions(&owner, &path).await;
    let done = prune(&owner).await;
    assert!(done.chunks > 0);
    fs::write(path.join("large"), &large).unwrap();
    let third = backup(&owner, &path, 1).await;
    assert!(third.new_bytes > 3 << 20, "it is sent: {third:?}");
    comes_back(&holders[0], &third.snapshot, &path, &contents(&path)).await;
    // And all of it goes with its last snapshots.
    for snapshot in owner.handle().snapshots().await.unwrap().snapshots {
        forget(&owner, &snapshot.snapshot).await;
    }
    prune(&owner).await;
    let (live, _) = kept(&owner, &holders[0]).await;
    assert!(live.len() < 12, "manifest entries alone: {}", live.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_ends_anywhere_loses_nothing_and_the_next_one_goes_on() {
    let steps = [
        Step::Announced,
        Step::Begun,
        Step::Waited,
        Step::Noted,
        Step::Batch,
        Step::Released,
        Step::Looked,
        Step::TakenBack,
        Step::Published,
    ];
    let (mut owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let (second, files) = two_versions(&owner, &path).await;
    for step in steps {
        // Each time there is something to let go, whatever the one before came to.
        fs::write(path.join("more"), vec![step as u8; 400_000]).unwrap();
        let more = backup(&owner, &path, 1).await.snapshot;
        fs::remove_file(path.join("more")).unwrap();
        forget(&owner, &more).await;
        end_at(&owner, Some(step));
        prune_with(&owner, pruning()).await.unwrap_err();
        // As after a kill.
        owner.stop().await;
        owner.start(Some(&holders[0])).await;
        owner.status_until(|status| status.peers == 1).await;
        if (Step::Begun..=Step::Published).contains(&step) {
            let told = owner.handle().status(0).await.attention;
            assert!(tells(&told, &["a prune was begun"]), "{step:?}: {told:?}");
        }
        let target = owner.folder.path().join(format!("{step:?}"));
        let request = RestoreRequest { snapshot: second.clone(), ..wanted(&target) };
        let done = restore(&owner, request).await.unwrap();
        assert_eq!(done.damaged, 0, "{step:?}: {done:?}");
        assert_eq!(contents(&restored(&target, &path)), files, "{step:?}");
    }
    end_at(&owner, None);
    let done = prune(&owner).await;
    assert!(done.unread == 0 && done.away.is_empty(), "{done:?}");
    let last = prune(&owner).await;
    assert_eq!((last.chunks, last.snapshots), (0, 0));
    assert!(owner.handle().status(0).await.attention.is_empty());
    comes_back(&holders[0], &second, &path, &files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_between_two_halves_of_a_prune_stores_what_it_needs_again() {
    for step in [Step::Noted, Step::Batch, Step::Released] {
        let (owner, holders) = mesh(1).await;
        let path = folder(&owner);
        let large = fs::read(path.join("large")).unwrap();
        two_versions(&owner, &path).await;
        end_at(&owner, Some(step));
        prune_with(&owner, pruning()).await.unwrap_err();
        end_at(&owner, None);
        // What is being let go is needed again.
        fs::write(path.join("large"), &large).unwrap();
        let third = backup(&owner, &path, 1).await;
        let files = contents(&path);
        let done = prune(&owner).await;
        assert_eq!(done.away.len(), 0, "{step:?}: {done:?}");
        comes_back(&holders[0], &third.snapshot, &path, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_device_that_publishes_before_the_last_look_gets_its_chunks_back() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let large = fs::read(path.join("large")).unwrap();
    let first = backup(&owner, &path, 1).await;
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    // It knows the chunks as stored by a snapshot of its own, which it forgets.
    let own = backup(&other, &path, 1).await;
    forget(&other, &own.snapshot).await;
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, 1).await;
    forget(&owner, &first.snapshot).await;
    end_at(&owner, Some(Step::Released));
    // Told at first, then accepted.
    let told = prune_with(&owner, PruneRequest { dry_run: true, ..pruning() }).await.unwrap();
    assert_eq!((told.waiting_total, told.chunks), (1, 1), "one snapshot's own chunk: {told:?}");
    let accept_forgets = vec![own.snapshot];
    prune_with(&owner, PruneRequest { accept_forgets, ..pruning() }).await.unwrap_err();
    let (_, released) = kept(&owner, &holders[0]).await;
    assert!(!released.is_empty());

    // The other device believes them to be stored: its next backup names them. It looks after them
    // once it has published, for the intent is open.
    fs::write(path.join("large"), &large).unwrap();
    let third = backup(&other, &path, 1).await;
    let files = contents(&path);
    end_at(&owner, None);
    prune(&owner).await;
    comes_back(&holders[0], &third.snapshot, &path, &files).await;
    let (live, released) = kept(&owner, &holders[0]).await;
    assert!(!live.is_empty() && !released.iter().any(|id| live.contains(id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_device_that_publishes_after_a_prune_stores_again_what_it_took_for_stored() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let large = fs::read(path.join("large")).unwrap();
    let other = machine(1, &holders[0]).await;
    // Both know all chunks; then nobody needs the large file any more.
    let first = backup(&owner, &path, 1).await;
    recover(&other, None).await.unwrap();
    let own = backup(&other, &path, 1).await;
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, 1).await;
    forget(&owner, &first.snapshot).await;
    forget(&owner, &own.snapshot).await;
    let done = prune(&owner).await;
    assert!(done.bytes >= 3 << 20, "{done:?}");
    fs::write(path.join("large"), &large).unwrap();
    let third = backup(&other, &path, 1).await;
    comes_back(&holders[0], &third.snapshot, &path, &contents(&path)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_device_forgets_is_not_carried_out_at_once() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 1).await;
    let thief = machine(1, &holders[0]).await;
    recover(&thief, None).await.unwrap();
    forget(&thief, &made.snapshot).await;
    for _ in 0..2 {
        let done = prune(&owner).await;
        assert_eq!((done.chunks, done.waiting_total, done.snapshots), (0, 1, 0), "{done:?}");
        let [waits] = done.waiting_forgets.as_slice() else { panic!("{done:?}") };
        assert_eq!((&waits.snapshot, waits.by), (&made.snapshot, 1));
        assert!(waits.wait_s > 6 * 86_400);
    }
    assert!(kept(&owner, &holders[0]).await.1.is_empty());
    // A thief who also writes this device's head: what the folder did not do it does not believe.
    let copy = machine(1, &holders[0]).await;
    recover(&copy, Some(0)).await.unwrap();
    let second = backup(&owner, &path, 1).await;
    forget(&copy, &second.snapshot).await;
    let done = prune_with(&owner, pruning()).await;
    assert!(done.is_err() || done.unwrap().chunks == 0);
    assert!(kept(&owner, &holders[0]).await.1.is_empty());
    let noted = inner(&owner).with_catalog(|all| all.noted_snapshots().count());
    assert_eq!(noted, 2, "both are remembered, with where they are");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_away_is_asked_by_the_next_prune() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 2).await;
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, 2).await;
    forget(&owner, &first.snapshot).await;
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    // One is enough to know of it.
    let one = PruneRequest { replicas: Some(1), ..pruning() };
    let done = prune_with(&owner, one).await.unwrap();
    assert_eq!((done.holders.len(), done.away.len()), (1, 1), "{done:?}");
    holders[1].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    assert!(kept(&owner, &holders[1]).await.1.is_empty());
    let again = prune(&owner).await;
    assert_eq!((again.chunks, again.away.len()), (done.chunks, 0), "{again:?}");
    assert_eq!(kept(&owner, &holders[1]).await.1.len() as u64, done.chunks);
}

/// Waits until that node is connected to this one, or is no more.
async fn connected(node: &TestNode, other: &NodeId, wanted: bool) {
    let mut peers = inner(node).shared.watch_peers();
    let reached = peers.wait_for(|peers| peers.contains(other) == wanted);
    timeout(PATIENCE, reached).await.expect("it comes, or goes, in time").unwrap();
}

/// A device that was recovered, and has no acks of what another one stored. Also returns that one,
/// and the holders, which keep a snapshot that the first one has forgotten.
async fn recovered(replicas: u8) -> (TestNode, TestNode, Vec<TestNode>) {
    let (owner, holders) = mesh(replicas).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, replicas).await;
    let new = machine(1, &holders[0]).await;
    recover(&new, None).await.unwrap();
    forget(&new, &first.snapshot).await;
    (new, owner, holders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_recovered_device_notes_and_does_not_release_is_released_by_the_next_prune() {
    let (new, owner, holders) = recovered(1).await;
    end_at(&new, Some(Step::Noted));
    let one = || PruneRequest { replicas: Some(1), ..pruning() };
    prune_with(&new, one()).await.unwrap_err();
    let doomed = inner(&new).with_catalog(|all| all.doomed().count());
    assert!(doomed > 3 && kept(&owner, &holders[0]).await.1.is_empty());
    end_at(&new, None);
    let done = prune_with(&new, one()).await.unwrap();
    assert_eq!((done.snapshots, done.taken_back), (1, 0), "{done:?}");
    assert!(done.chunks as usize >= doomed, "{done:?}");
    assert_eq!(kept(&owner, &holders[0]).await.1.len() as u64, done.chunks);
    assert_eq!(inner(&new).with_catalog(|all| all.doomed().count()), 0, "all were asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_was_away_is_asked_by_a_recovered_device_that_has_no_ack_of_it() {
    let (new, _owner, mut holders) = recovered(2).await;
    holders[1].stop().await;
    let gone = id_of(&holders[1]);
    connected(&new, &gone, false).await;
    let one = PruneRequest { replicas: Some(1), ..pruning() };
    let done = prune_with(&new, one).await.unwrap();
    assert_eq!((done.snapshots, done.away.len()), (1, 1), "{done:?}");
    assert!(done.chunks > 3, "{done:?}");
    holders[1].start(Some(&new)).await;
    connected(&new, &gone, true).await;
    assert!(kept(&new, &holders[1]).await.1.is_empty());
    let one = PruneRequest { replicas: Some(1), ..pruning() };
    let again = prune_with(&new, one).await.unwrap();
    assert_eq!((again.chunks, again.away.len()), (done.chunks, 0), "{again:?}");
    assert_eq!(kept(&new, &holders[1]).await.1.len() as u64, done.chunks);
    assert_eq!(inner(&new).with_catalog(|all| all.doomed().count()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_away_and_that_only_another_device_used_is_asked_by_the_next_prune() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    let mut all = vec![backup(&owner, &path, 2).await.snapshot];
    // Its head says by now who keeps it.
    all.push(backup(&owner, &path, 2).await.snapshot);
    let new = machine(1, &holders[0]).await;
    recover(&new, None).await.unwrap();
    new.status_until(|status| status.peers >= 2).await;
    // One holder has this one: of what the other one has it knows nothing.
    let away = id_of(&holders[1]);
    holders[1].stop().await;
    connected(&new, &away, false).await;
    all.push(backup(&new, &path, 1).await.snapshot);
    holders[1].start(Some(&new)).await;
    connected(&new, &away, true).await;
    // Its head has to be heard while one of them is away, and to name both as its holders: it names
    // those of the record before.
    for snapshots in [vec![all.remove(0)], all] {
        let forgets = ForgetRequest {
            snapshots,
            timeout_s: 20,
            replicas: Some(2),
            ..ForgetRequest::default()
        };
        rows(new.handle().forget(forgets)).await.unwrap();
    }
    holders[1].stop().await;
    connected(&new, &away, false).await;
    let one = || PruneRequest { replicas: Some(1), ..pruning() };
    let done = prune_with(&new, one()).await.unwrap();
    assert_eq!((done.snapshots, done.away.len()), (3, 1), "{done:?}");
    // Others acknowledged these to this device, and it did not.
    let waits = inner(&new).with_catalog(|all| {
        let is_waited_for = |id: &&ChunkId| all.waiting_for(id).contains(&away);
        let without_ack = |id: &&ChunkId| all.was_acked(id) && !all.had_acked(id, &away);
        let doomed = all.doomed().map(|(id, _)| id);
        doomed.filter(|id| is_waited_for(id) && without_ack(id)).copied().collect::<Vec<_>>()
    });
    assert!(waits.len() > 3, "{waits:?} {done:?}");
    holders[1].start(Some(&new)).await;
    connected(&new, &away, true).await;
    prune_with(&new, one()).await.unwrap();
    let (live, released) = kept(&owner, &holders[1]).await;
    assert!(waits.iter().all(|id| !live.contains(id)));
    assert!(waits.iter().filter(|id| released.contains(id)).count() > 3, "{released:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_fails_before_it_lets_go_is_called_off() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    two_versions(&owner, &path).await;
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    let open = async || inner(&owner).repository.own_open_prunes(inner(&owner)).await.len();
    // Something cannot be noted: nothing was released by then.
    refuse(&owner, |entry| matches!(entry, Entry::Prune(PruneNote::Doomed { .. })));
    prune_with(&owner, pruning()).await.unwrap_err();
    refuse(&owner, |_| false);
    assert!(inner(&owner).with_catalog(|all| all.open_prune().is_none()));
    assert_eq!(open().await, 0, "the others are told");
    // Something turns up in the grace that cannot be read.
    let events = owner.handle().prune(PruneRequest { grace_s: 5, ..pruning() });
    let deadline = Instant::now() + PATIENCE;
    while inner(&owner).with_catalog(|all| all.open_prune().is_none()) {
        assert!(Instant::now() < deadline, "it is not announced");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    forgotten_elsewhere(&owner, 7, false);
    let failure = end(events).await.unwrap_err();
    assert!(failure.hint.contains("--accept-forgets"), "{failure:?}");
    assert!(inner(&owner).with_catalog(|all| all.open_prune().is_none()));
    assert_eq!(open().await, 0, "and again");
    assert!(kept(&owner, &holders[0]).await.1.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_the_delete_key_prunes_with_the_right_words_alone() {
    let holder = TestNode::started(2, None).await;
    let mut owner = TestNode::new(1);
    let lacks = OwnerKeys { delete: None, ..owner.owner() };
    fs::remove_file(owner.data().join("owner.key")).unwrap();
    fs::remove_file(owner.data().join("node.key")).unwrap();
    fs::remove_file(owner.data().join("layout")).unwrap();
    let dir = DataDir::create(&owner.data()).unwrap();
    let keys = NodeKeys::from_seeds([1; 32], [1; 32], [1; 32]);
    let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]);
    dir.write_keys(&keys, &lacks, Protection::None, &mut rng).unwrap();
    drop(dir);
    owner.start(Some(&holder)).await;
    owner.status_until(|status| status.peers == 1).await;
    let path = folder(&owner);
    two_versions(&owner, &path).await;
    let failure = prune_with(&owner, pruning()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::KeysMissing, "{failure:?}");
    let with = |seed: u8| {
        let keys = OwnerKeys::derive(&Master::from_bytes([seed; 32]), 0);
        let delete_key = keys.delete.as_ref().map(DeleteKeyText::of);
        PruneRequest { delete_key, ..pruning() }
    };
    let failure = prune_with(&owner, with(2)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::KeysMissing, "{failure:?}");
    assert!(kept(&owner, &holder).await.1.is_empty());
    let dry = prune_with(&owner, PruneRequest { dry_run: true, ..pruning() }).await.unwrap();
    assert!(dry.chunks > 0, "a dry run needs no key");
    let done = prune_with(&owner, with(1)).await.unwrap();
    assert_eq!(done.chunks, dry.chunks);
    assert!(inner(&owner).keys.delete.is_none(), "it is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_snapshot_is_forgotten_goes_and_another_stays() {
    let (owner, _holders) = mesh(1).await;
    let put = |name: &str, bytes| end(owner.put(owner.file(name, bytes), 1, 60));
    let gone = put("gone", 2 << 20).await.unwrap();
    let stays = put("stays", 2 << 20).await.unwrap();
    forget(&owner, &gone.snapshot.unwrap()).await;
    let done = prune(&owner).await;
    assert!(done.bytes >= 2 << 20 && done.bytes < 3 << 20, "{done:?}");
    let names: Vec<String> =
        owner.handle().status(9).await.backups.into_iter().map(|put| put.name).collect();
    assert_eq!(names, ["stays"], "what was let go is listed no more");
    let (capability, output) = (stays.capability, owner.folder.path().join("back"));
    let request = GetRequest { capability, output, overwrite: false, timeout_s: 20 };
    assert_eq!(end(owner.handle().get(request)).await.unwrap().bytes, 2 << 20);
    assert_eq!(prune(&owner).await.chunks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_prune_runs_at_a_time_and_whoever_asks_whether_one_does_is_not_taken_for_one() {
    let owner = TestNode::started(1, None).await;
    let begin = || OnlyPrune::begin(inner(&owner));
    let runs = || inner(&owner).prunes.load(Ordering::Relaxed);
    let asking = Arc::new(AtomicBool::new(true));
    let (handle, asks) = (owner.handle().clone(), Arc::clone(&asking));
    let asker = tokio::spawn(async move {
        while asks.load(Ordering::Relaxed) {
            handle.status(0).await;
        }
    });
    for _ in 0..200 {
        let only = begin().expect("no other one runs");
        assert!(runs() && begin().is_none() && runs());
        drop(only);
        assert!(!runs());
        tokio::task::yield_now().await;
    }
    asking.store(false, Ordering::Relaxed);
    asker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_waits_for_a_prune_that_lets_go_and_says_so() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let alone = inner(&owner).letting_go.write().await;
    let mut events = owner.handle().backup(request(&path, 1, 20));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = timeout(PATIENCE, events.recv()).await.unwrap();
        let Some(Progress::Working { note, .. }) = event else { panic!("{event:?}") };
        if note.is_some_and(|note| note == "waiting for a prune") {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    drop(alone);
    end(events).await.unwrap();
}
