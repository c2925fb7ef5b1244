//! Backups that are not whole: what `status` tells of them and until when, and what a running node
//! stores by itself.

use super::backup::{backup, folder, mesh, request};
use super::look::rows;
use super::prune::{id_of, inner};
use super::recover::rot;
use super::*;
use crate::core::types::ChunkId;
use crate::crypto::keys::ChunkKey;
use crate::node::complete::Lacking;
use crate::node::report::{
    ForgetDone, ForgetRequest, ForgetRow, PruneRequest, ReplicasWord, SnapshotReport, VerifyDone,
    VerifyRequest,
};
use crate::repo::mark::Reached;
use crate::repo::reference::ChunkRef;

async fn listed(node: &TestNode) -> SnapshotReport {
    node.handle().snapshots().await.unwrap().snapshots.pop().unwrap()
}

async fn verify(node: &TestNode, snapshot: &str, timeout_s: u64) -> VerifyDone {
    let request = VerifyRequest { snapshot: snapshot.to_owned(), sample_ppm: None, timeout_s };
    end(node.handle().verify(request)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_backup_is_told_until_a_running_node_has_stored_what_was_missing() {
    let (mut owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    let mut events = owner.handle().backup(request(&path, 3, 6));
    let mut seen = None;
    let done = loop {
        match timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            Progress::Working { replicas, .. } => seen = seen.max(replicas),
            Progress::Told { .. } => {}
            Progress::Done(done) => break done,
            Progress::Failed(failure) => panic!("{failure:?}"),
        }
    };
    assert_eq!((done.replicas, done.target, seen), (1, 3, Some(1)), "{done:?}");
    let why = ["has 1 of 3 replicas", "1 other node is connected", "start more", "quloud up"];
    assert!(tells(&done.notes, &why), "{done:?}");
    let name = path.display().to_string();
    let told = [name.as_str(), &done.snapshot[..8], "1 of 3 replicas", "start more"];
    assert!(tells(&owner.handle().status(1).await.attention, &told));
    assert_eq!(stored(&listed(&owner).await), (ReplicasWord::Replicating, 1, 3));
    owner.stop().await;
    let at_rest = owner.at_rest();
    assert!(tells(&at_rest.attention, &told), "{:?}", at_rest.attention);
    let set = &at_rest.snapshots.sets[0].newest;
    assert_eq!(stored(set), (ReplicasWord::Replicating, 1, 3));
    // What is to be stored is taken from the holder: the files are not needed.
    std::fs::remove_dir_all(&path).unwrap();
    owner.start(Some(&holders[0])).await;
    assert!(tells(&owner.handle().status(1).await.attention, &told), "it is remembered");

    for seed in [8, 9] {
        holders.push(TestNode::started(seed, Some(&owner)).await);
    }
    let status = owner.status_until(|status| !tells(&status.attention, &["replicas"])).await;
    let set = &status.snapshots.sets[0].newest;
    assert_eq!(stored(set), (ReplicasWord::Stored, 3, 3));
    owner.status_until(|status| status.attention.is_empty()).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 2).await;
    let drill = verify(&owner, "latest", 20).await;
    assert!(drill.proven && drill.files == 41, "without the first holder: {drill:?}");
}

/// The word that is told of it, how many replicas it has, and how many it shall have.
fn stored(snapshot: &SnapshotReport) -> (ReplicasWord, u8, u8) {
    let replicas = snapshot.replicas.unwrap();
    (replicas.word, replicas.has, replicas.target)
}

/// What this holder acknowledged, and nobody else did.
fn only_at(owner: &TestNode, holder: &TestNode) -> Vec<ChunkId> {
    let node = id_of(holder);
    inner(owner).with_catalog(|all| {
        all.chunk_ids().filter(|id| all.holders_of(id) == [node]).copied().collect()
    })
}

fn reference(id: &ChunkId) -> ChunkRef {
    ChunkRef { ck: ChunkKey::from_bytes([1; 32]), id: *id, locality: Locality(0), bytes: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_chunks_that_somebody_who_is_connected_has_are_taken_to_be_stored() {
    let (owner, mut holders) = mesh(1).await;
    let _stays = inner(&owner).letting_go.read().await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    holders[0].stop().await;
    owner.status_until(|status| status.peers == 0).await;
    holders.push(TestNode::started(9, Some(&owner)).await);
    owner.status_until(|status| status.peers == 1).await;
    std::fs::write(path.join("more"), vec![3; 100_000]).unwrap();
    // What the first one has is asked for in vain, and stored again.
    std::fs::remove_file(path.join("large")).unwrap();
    backup(&owner, &path, 1).await;
    let (away, there) = (only_at(&owner, &holders[0]), only_at(&owner, &holders[1]));
    assert!(away.len() > 1 && there.len() > 1, "{away:?} {there:?}");
    let unknown = ChunkId::from_bytes([5; 32]);
    let taken = |replicas, most| {
        let mut lacking = Lacking::at_most(inner(&owner), replicas, most);
        let all = [unknown].iter().chain(&away).chain(&there).map(reference).collect::<Vec<_>>();
        all.iter().for_each(|at| lacking.reach_leaf(at));
        lacking.into_chunks().iter().map(|at| at.id).collect::<Vec<_>>()
    };
    // However many of the others come first.
    assert_eq!(taken(2, there.len()), there);
    let last = [there.as_slice(), &[unknown]].concat();
    assert_eq!(taken(2, usize::MAX), last, "what nobody is known to have is tried, too");
    assert_eq!(taken(1, usize::MAX), [unknown], "they have one replica");
    // The trees of the first snapshot are here: copies of them can be given to others.
    let mut lacking = Lacking::at_most(inner(&owner), 2, usize::MAX);
    away.iter().for_each(|id| lacking.reach(&reference(id)));
    let here = lacking.into_chunks();
    assert!(!here.is_empty() && here.len() < away.len(), "{here:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_of_a_short_backup_ends_with_a_whole_one_or_when_it_is_forgotten() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let is_told = async || tells(&owner.handle().status(1).await.attention, &["1 of 2 replicas"]);
    end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert!(is_told().await);
    let below = path.join("below");
    backup(&owner, &below, 1).await;
    assert!(is_told().await, "other paths");
    backup(&owner, &path, 1).await;
    assert!(!is_told().await, "as many as were asked for");
    let short = end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert!(is_told().await);
    let snapshots = vec![short.snapshot];
    let replicas = Some(1);
    let forget = ForgetRequest { snapshots, replicas, timeout_s: 20, ..ForgetRequest::default() };
    let forgotten: (Vec<ForgetRow>, ForgetDone) =
        rows(owner.handle().forget(forget)).await.unwrap();
    assert_eq!(forgotten.1.forgotten, 1);
    assert!(!is_told().await, "nobody wants it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_snapshot_is_told_until_the_same_paths_are_backed_up_whole() {
    let (mut owner, holders) = mesh(1).await;
    let (path, gone) = (folder(&owner), owner.folder.path().join("go\x1bne"));
    let mut wanted = request(&path, 1, 60);
    wanted.paths.push(gone.clone());
    let done = end(owner.handle().backup(wanted.clone())).await.unwrap();
    let shown = path.parent().unwrap().join("go\\x1bne").display().to_string();
    assert!(done.partial && done.fault_lines[0].starts_with(&shown), "{done:?}");
    let told = ["1 name could not be stored", &done.snapshot[..8], &shown, "--exclude"];
    assert!(tells(&owner.handle().status(1).await.attention, &told));
    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    assert!(tells(&owner.handle().status(1).await.attention, &told), "it is remembered");
    owner.status_until(|status| status.peers == 1).await;
    std::fs::write(&gone, b"back again").unwrap();
    wanted.paths.reverse();
    assert!(!end(owner.handle().backup(wanted)).await.unwrap().partial);
    assert_eq!(owner.handle().status(1).await.attention, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_a_drill_found_is_told_until_one_of_a_newer_snapshot_is_clean() {
    let (mut owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    // The large file is stored first, whichever chunk would come first otherwise.
    backup(&owner, &path.join("large"), 1).await;
    let damaged = backup(&owner, &path, 1).await.snapshot;
    holders[0].stop().await;
    rot(&holders[0].data().join("store/segments"));
    holders[0].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    assert_eq!(verify(&owner, "latest", 4).await.damaged, 1);
    let name = path.display().to_string();
    let told = [&damaged[..8], name.as_str(), "was found damaged", "quloud verify"];
    let status = owner.handle().status(1).await;
    assert!(tells(&status.attention, &told), "{status:?}");
    assert_eq!(status.snapshots.failed.len(), 1);
    owner.stop().await;
    assert!(tells(&owner.at_rest().attention, &told), "it is remembered");

    owner.start(Some(&holders[0])).await;
    holders.push(TestNode::started(9, Some(&owner)).await);
    owner.status_until(|status| status.peers == 2).await;
    backup(&owner, &path, 2).await;
    assert!(tells(&owner.handle().status(1).await.attention, &told), "not verified yet");
    let drill = verify(&owner, "latest", 20).await;
    assert!(drill.proven, "{drill:?}");
    // The words of the replicas come back with the next audits.
    super::audit::tend(&owner);
    owner.status_until(|status| status.attention.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_that_runs_is_told_by_the_status() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await.snapshot;
    std::fs::rename(owner.file("other", 2 << 20), path.join("large")).unwrap();
    backup(&owner, &path, 1).await;
    let snapshots = vec![first];
    let forget = ForgetRequest { snapshots, timeout_s: 20, ..ForgetRequest::default() };
    let _: (Vec<ForgetRow>, ForgetDone) = rows(owner.handle().forget(forget)).await.unwrap();
    assert!(!owner.handle().status(1).await.pruning);
    let prune = {
        // It waits for the backups of this device.
        let _stays = owner.handle().inner.letting_go.read().await;
        let prune = owner.handle().prune(PruneRequest { timeout_s: 20, ..PruneRequest::default() });
        let status = owner.status_until(|status| status.pruning).await;
        assert_eq!(status.attention, [""; 0], "that is no matter for the user");
        prune
    };
    assert!(end(prune).await.unwrap().chunks > 0);
    assert!(!owner.handle().status(1).await.pruning);
}
