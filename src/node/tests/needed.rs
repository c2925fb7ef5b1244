//! Prunes at whole nodes: what is needed after all, whose forgets count, what is taken back.

use super::backup::{backup, folder, mesh};
use super::prune::{
    comes_back, end_at, forget, forgotten_elsewhere, id_of, inner, kept, prune, prune_with,
    pruning, two_versions,
};
use super::recover::{contents, machine, recover};
use super::*;
use crate::core::types::{ChunkId, SnapshotId};
use crate::crypto::capability::Capability;
use crate::node::prune::Step;
use crate::node::report::{CapabilityText, FailureKind, PruneRequest};
use crate::repo::catalog::{
    Catalog, Entry, JobId, PruneNote, PutRoot, PutStarted, SnapshotForgotten, ToLookAfter,
};
use crate::repo::prunes::FOREIGN_FORGETS_WAIT_S;
use std::fs;

async fn get(node: &TestNode, capability: CapabilityText) -> u64 {
    let output = node.folder.path().join("back");
    let request = GetRequest { capability, output, overwrite: true, timeout_s: 20 };
    end(node.handle().get(request)).await.unwrap().bytes
}

/// A prune that takes it that the user forgot these elsewhere.
fn accepting(snapshots: &[&str]) -> PruneRequest {
    let accept_forgets = snapshots.iter().map(|id| (*id).to_owned()).collect();
    PruneRequest { accept_forgets, ..pruning() }
}

fn dry() -> PruneRequest {
    PruneRequest { dry_run: true, ..pruning() }
}

/// Another root with the content of the only one.
fn root_like_the_first(all: &Catalog, name: &str) -> PutRoot {
    let roots = all.roots();
    let [root] = roots[..] else { panic!("one root") };
    let Capability { id, locality, ck } = &root.capability;
    let capability = Capability { id: *id, locality: *locality, ck: ck.duplicate() };
    let (job, name) = (all.next_job(), name.to_owned());
    let PutRoot { bytes, chunks, sealed_bytes, target, replicas, put_at, .. } = *root;
    let named = false;
    PutRoot { job, name, capability, bytes, chunks, sealed_bytes, target, replicas, put_at, named }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_put_stays_and_a_prune_goes_on_all_the_same() {
    let (owner, holders) = mesh(1).await;
    let path = owner.file("twice", 2 << 20);
    let first = end(owner.put(path.clone(), 1, 60)).await.unwrap();
    forget(&owner, &first.snapshot.unwrap()).await;
    // It is put once more, for more holders than there are.
    end(owner.put(path, 2, 1)).await.unwrap_err();
    // Of another one nothing is sealed, and its file cannot be opened.
    let path = owner.folder.path().join("not there");
    started(&owner, path);
    assert_eq!(inner(&owner).with_catalog(|all| all.open_jobs().count()), 2);
    let file = kept(&owner, &holders[0]).await.0.len();
    let done = prune_with(&owner, pruning()).await.unwrap();
    assert_eq!((done.snapshots, done.bytes), (1, 0), "its tree alone: {done:?}");
    assert!(done.chunks > 0 && (done.chunks as usize) < file);
    assert_eq!(get(&owner, first.capability).await, 2 << 20);
}

/// A put that is not done.
fn started(owner: &TestNode, path: PathBuf) -> JobId {
    let (bytes, modified_ns, replicas, started_at) = (1, 1, 1, 1);
    let locality = inner(owner).keys.locality();
    let job = inner(owner).with_catalog(|all| all.next_job());
    let started = PutStarted { job, path, bytes, modified_ns, replicas, locality, started_at };
    inner(owner).record(Entry::PutStarted(started)).unwrap();
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_being_put_is_not_given_up_because_a_holder_is_silent() {
    let (owner, mut holders) = mesh(2).await;
    let done = end(owner.put(owner.file("one", 300_000), 2, 60)).await.unwrap();
    forget(&owner, &done.snapshot.unwrap()).await;
    let job = started(&owner, owner.folder.path().join("not there"));
    let root = inner(&owner).with_catalog(|all| root_like_the_first(all, "the other"));
    let capability = Capability { id: ChunkId::from_bytes([8; 32]), ..root.capability };
    inner(&owner).record(Entry::PutShort(PutRoot { job, capability, ..root })).unwrap();
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let one = || PruneRequest { replicas: Some(1), timeout_s: 5, ..pruning() };
    let failure = prune_with(&owner, one()).await.unwrap_err();
    assert!(failure.why.contains("the other") && failure.hint.contains("put"), "{failure:?}");
    assert!(kept(&owner, &holders[0]).await.1.is_empty());
    holders[1].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    // By now all say that they do not have it.
    assert!(prune_with(&owner, one()).await.unwrap().chunks > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_device_forgot_and_nobody_can_read_is_named_and_can_be_accepted() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let (second, files) = two_versions(&owner, &path).await;
    let lost = [7, 8].map(|number| forgotten_elsewhere(&owner, number, false));
    for request in [pruning(), dry()] {
        let failure = prune_with(&owner, request).await.unwrap_err();
        let begin = lost.each_ref().map(|id| &id[..16]);
        let all = format!("--accept-forgets {}", begin.join(","));
        assert!(failure.hint.contains(&all), "{failure:?}");
    }
    assert!(kept(&owner, &holders[0]).await.1.is_empty());
    let failure = prune_with(&owner, accepting(&[&lost[0][..15]])).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage, "{failure:?}");
    let done = prune_with(&owner, accepting(&[&lost[0][..16], &lost[1]])).await.unwrap();
    assert!(done.chunks > 0 && done.waiting_total == 0, "{done:?}");
    // Nobody has them: they are not read for once more.
    assert!(tells(&done.notes, &["2 forgotten snapshots cannot be read"]), "{done:?}");
    assert_eq!(inner(&owner).with_catalog(|all| all.noted_snapshots().count()), 1);
    let done = prune_with(&owner, accepting(&[&lost[0]])).await.unwrap();
    assert_eq!((done.chunks, done.unread), (0, 0), "{done:?}");
    assert!(tells(&done.notes, &["no snapshot waits"]), "{done:?}");
    comes_back(&holders[0], &second, &path, &files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_snapshot_that_cannot_be_read_is_over_when_all_say_that_they_lack_it() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let id = forgotten_elsewhere(&owner, 7, true);
    let is_noted = || {
        inner(&owner)
            .with_catalog(|all| all.noted_snapshots().any(|it| it.seen.id.to_string() == id))
    };
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let one = PruneRequest { replicas: Some(1), timeout_s: 5, ..pruning() };
    let done = prune_with(&owner, one).await.unwrap();
    assert_eq!((done.unread, is_noted()), (1, true), "somebody may have it: {done:?}");
    holders[1].start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    let dry = prune_with(&owner, dry()).await.unwrap();
    assert_eq!((dry.unread, is_noted()), (0, true), "a dry run notes nothing: {dry:?}");
    assert_eq!((prune(&owner).await.unread, is_noted()), (0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_device_forgot_is_looked_after_until_its_forget_counts() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    forgotten_elsewhere(&owner, 7, false);
    let published = || {
        let noted = inner(&owner).with_catalog(|all| {
            let noted = all.noted_snapshots().find(|noted| noted.forgotten.is_some()).unwrap();
            noted.seen.duplicate()
        });
        ToLookAfter { id: noted.id, reference: noted.reference, replicas: 1 }
    };
    let over = async || {
        let repository = &inner(&owner).repository;
        repository.prunes_of_others(inner(&owner), &[published()]).await.unwrap().over
    };
    assert_eq!(over().await, []);
    let id = published().id;
    let forgotten =
        inner(&owner).with_catalog(|all| all.noted_snapshot(&id).unwrap().forgotten.unwrap());
    let SnapshotForgotten { age_s, wall_s, .. } = forgotten;
    // Since eight days: of the folder's age, and by the clock.
    let week_s = FOREIGN_FORGETS_WAIT_S + 24 * 3_600;
    let aged = PruneNote::Aged { age_s: age_s + week_s, wall_s: wall_s + week_s };
    inner(&owner).record(Entry::Prune(aged)).unwrap();
    assert_eq!(over().await, [published().id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_content_under_another_name_stays_when_one_of_them_is_forgotten() {
    let (owner, holders) = mesh(1).await;
    let one = end(owner.put(owner.file("one", 2 << 20), 1, 60)).await.unwrap();
    // As a put whose path no snapshot takes leaves it.
    let root = inner(&owner).with_catalog(|all| root_like_the_first(all, "other"));
    inner(&owner).record(Entry::PutDone(root)).unwrap();
    forget(&owner, &one.snapshot.unwrap()).await;
    prune(&owner).await;
    let names: Vec<String> =
        owner.handle().status(9).await.backups.into_iter().map(|put| put.name).collect();
    assert!(names.contains(&"other".to_owned()), "{names:?}");
    assert!(kept(&owner, &holders[0]).await.0.len() > 2);
    assert_eq!(get(&owner, one.capability).await, 2 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_without_a_snapshot_stays_when_one_of_the_same_content_and_name_is_forgotten() {
    for with_snapshot_first in [true, false] {
        let (owner, holders) = mesh(1).await;
        let path = owner.file("one", 2 << 20);
        // Deeper than any tree goes.
        let mut deep = owner.folder.path().join("deep");
        deep.extend(std::iter::repeat_n("d", 130));
        fs::create_dir_all(&deep).unwrap();
        let deep = deep.join("one");
        fs::copy(&path, &deep).unwrap();
        let paths = if with_snapshot_first { [path, deep] } else { [deep, path] };
        let mut done = Vec::new();
        for path in paths {
            done.push(end(owner.put(path, 1, 60)).await.unwrap());
        }
        let snapshots: Vec<String> = done.iter().filter_map(|it| it.snapshot.clone()).collect();
        let [snapshot] = snapshots.as_slice() else { panic!("{done:?}") };
        forget(&owner, snapshot).await;
        prune(&owner).await;
        let names: Vec<String> =
            owner.handle().status(9).await.backups.into_iter().map(|put| put.name).collect();
        assert_eq!(names, ["one"]);
        assert!(kept(&owner, &holders[0]).await.0.len() > 2);
        let capability = done.pop().unwrap().capability;
        assert_eq!(get(&owner, capability).await, 2 << 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_accepts_what_is_named_alone() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await.snapshot;
    fs::copy(owner.file("second", 3 << 20), path.join("large")).unwrap();
    let second = backup(&owner, &path, 1).await.snapshot;
    fs::copy(owner.file("third", 3 << 20), path.join("large")).unwrap();
    backup(&owner, &path, 1).await;
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    forget(&other, &first).await;
    let told = prune_with(&owner, dry()).await.unwrap();
    assert_eq!((told.waiting_total, told.chunks), (1, 0), "{told:?}");
    // A thief who heard of it is quick.
    forget(&other, &second).await;
    let done = prune_with(&owner, accepting(&[&first])).await.unwrap();
    assert_eq!((done.snapshots, done.waiting_total), (1, 1), "{done:?}");
    assert_eq!(done.waiting_forgets[0].snapshot, second);
    assert!(done.bytes >= 3 << 20 && done.bytes < 4 << 20, "{done:?}");
    // It was forgotten, and nothing of it has gone.
    let at = inner(&owner).with_catalog(|all| {
        let noted = all.noted_snapshots().find(|noted| noted.seen.id.to_string() == second);
        noted.unwrap().seen.reference.id
    });
    assert!(kept(&owner, &holders[0]).await.0.contains(&at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_stays_accepted_when_the_prune_is_broken_off() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    let first = backup(&owner, &path, 1).await.snapshot;
    fs::copy(owner.file("second", 3 << 20), path.join("large")).unwrap();
    let second = backup(&owner, &path, 1).await.snapshot;
    let files = contents(&path);
    let other = machine(1, &holders[0]).await;
    recover(&other, None).await.unwrap();
    forget(&other, &first).await;
    prune_with(&owner, dry()).await.unwrap();
    end_at(&owner, Some(Step::Released));
    prune_with(&owner, accepting(&[&first])).await.unwrap_err();
    let released = kept(&owner, &holders[0]).await.1;
    assert!(!released.is_empty());
    end_at(&owner, None);
    let done = prune(&owner).await;
    assert_eq!((done.waiting_total, done.taken_back), (0, 0), "{done:?}");
    assert_eq!(kept(&owner, &holders[0]).await.1, released, "it is not taken back");
    comes_back(&holders[0], &second, &path, &files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_asked_to_let_go_and_did_is_known_until_the_prune_is_done() {
    let (owner, holders) = mesh(1).await;
    let path = folder(&owner);
    two_versions(&owner, &path).await;
    let is_known = |all: &mut Catalog| {
        let known: Vec<_> = all.doomed().map(|(id, _)| *id).collect();
        known.iter().all(|id| all.had_acked(id, &id_of(&holders[0]))) && !known.is_empty()
    };
    end_at(&owner, Some(Step::Released));
    prune_with(&owner, pruning()).await.unwrap_err();
    assert!(inner(&owner).with_catalog(is_known), "who has let go is still known");
    let asked = inner(&owner).with_catalog(|all| all.asked().clone());
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), [id_of(&holders[0])]);
    end_at(&owner, None);
    prune(&owner).await;
    assert!(inner(&owner).with_catalog(|all| all.asked().is_empty()), "it is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_live_again_was_not_forgotten() {
    let (owner, _holders) = mesh(1).await;
    let path = folder(&owner);
    let made = backup(&owner, &path, 1).await.snapshot;
    owner.handle().snapshots().await.unwrap();
    let id: SnapshotId = inner(&owner).with_catalog(|all| {
        let noted = all.noted_snapshots().find(|noted| noted.seen.id.to_string() == made);
        noted.unwrap().seen.id
    });
    let note = |own, age_s| {
        let (accepted, wall_s) = (false, 0);
        let forgotten = SnapshotForgotten { id, by: 0, own, accepted, age_s, wall_s };
        inner(&owner).record(Entry::Prune(PruneNote::SnapshotForgotten(forgotten))).unwrap();
    };
    let is_noted =
        || inner(&owner).with_catalog(|all| all.noted_snapshot(&id).unwrap().forgotten.is_some());
    // One of this user's may be on its way to the others.
    let age_s = inner(&owner).with_catalog(|all| all.aged().unwrap().0);
    note(true, age_s);
    owner.handle().snapshots().await.unwrap();
    assert!(is_noted());
    inner(&owner)
        .record(Entry::Prune(PruneNote::Aged { age_s: age_s + 4_000, wall_s: 0 }))
        .unwrap();
    owner.handle().snapshots().await.unwrap();
    assert!(!is_noted(), "it was never published");
    note(false, age_s + 4_000);
    owner.handle().snapshots().await.unwrap();
    assert!(!is_noted(), "nobody says so any more");
}
