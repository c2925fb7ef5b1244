//! Holders that were asked to let chunks go and were not heard, at whole nodes: what they
//! acknowledge before they come to it is not taken for stored.

use super::backup::{backup, folder, mesh, request};
use super::prune::{comes_back, end_at, forget, id_of, inner, kept, prune, prune_with, pruning};
use super::recover::contents;
use super::*;
use crate::core::message::ChunkState;
use crate::core::owner::ReleaseWish;
use crate::core::types::ChunkId;
use crate::crypto::keys::ChunkKey;
use crate::node::account::release;
use crate::node::prune::Step;
use crate::node::report::{FailureKind, PruneRequest, PutDone};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Nobody hears this holder's answers to releases, and to what takes them back.
fn silence(owner: &TestNode, holder: &TestNode) {
    inner(owner).unheard.lock().unwrap().insert(id_of(holder));
}

fn hear(owner: &TestNode) {
    inner(owner).unheard.lock().unwrap().clear();
}

/// A prune that notes what it asks for, and is killed before it hears of any of it.
async fn begin_to_let_go(owner: &mut TestNode, holders: &[TestNode]) {
    end_at(owner, Some(Step::Noted));
    prune_with(owner, pruning()).await.unwrap_err();
    end_at(owner, None);
    if let [holder] = holders {
        owner.stop().await;
        owner.start(Some(holder)).await;
        owner.status_until(|status| status.peers == 1).await;
    }
}

/// What this holder was asked to let go and was not heard of.
fn unheard(owner: &TestNode, holder: &TestNode) -> Vec<ReleaseWish> {
    let node = id_of(holder);
    inner(owner).with_catalog(|all| {
        let wish = |(id, ck): (&ChunkId, &ChunkKey)| {
            let asked = all.unheard(id).into_iter().find(|(asked, _)| *asked == node)?;
            Some(ReleaseWish { id: *id, ck: ck.duplicate(), lent: None, lease: asked.1 })
        };
        all.doomed().filter_map(wish).collect()
    })
}

/// The holder comes to what it was asked for, all of it.
async fn carry_out(owner: &TestNode, holder: &TestNode, asked: Vec<ReleaseWish>) {
    let states = release(inner(owner), id_of(holder), false, asked).await.unwrap();
    assert!(states.iter().all(|state| matches!(state, ChunkState::Released { .. })), "{states:?}");
}

/// Whether this device takes the chunk for one that the holder has.
fn counts(owner: &TestNode, holder: &TestNode, id: &ChunkId) -> bool {
    inner(owner).with_catalog(|all| all.holders_of(id).contains(&id_of(holder)))
}

/// An owner whose prune of an earlier version of a folder was killed, and the folder with what was
/// let go in it once more.
async fn broken_off(holders: u8) -> (TestNode, Vec<TestNode>, PathBuf) {
    let (mut owner, holders) = mesh(holders).await;
    let path = folder(&owner);
    let large = fs::read(path.join("large")).unwrap();
    let replicas = u8::try_from(holders.len()).unwrap();
    let first = backup(&owner, &path, replicas).await;
    fs::write(path.join("large"), b"small now").unwrap();
    backup(&owner, &path, replicas).await;
    forget(&owner, &first.snapshot).await;
    begin_to_let_go(&mut owner, &holders).await;
    fs::write(path.join("large"), &large).unwrap();
    (owner, holders, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_has_before_it_comes_to_a_release_is_not_taken_for_stored() {
    let (owner, holders, path) = broken_off(1).await;
    let holder = &holders[0];
    let asked = unheard(&owner, holder);
    let ids: Vec<ChunkId> = asked.iter().map(|wish| wish.id).collect();
    assert!(ids.len() > 3, "{ids:?}");
    // It has all of it, and would acknowledge that.
    silence(&owner, holder);
    let failure = end(owner.handle().backup(request(&path, 1, 3))).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotEnoughHolders, "it ends: {failure:?}");
    assert!(ids.iter().all(|id| !counts(&owner, holder, id)));
    // Now it comes to that.
    hear(&owner);
    carry_out(&owner, holder, asked).await;
    let made = backup(&owner, &path, 1).await;
    assert_eq!(made.replicas, 1);
    assert!(ids.iter().any(|id| counts(&owner, holder, id)), "what it has taken back");
    let (live, released) = kept(&owner, holder).await;
    assert!(ids.iter().all(|id| counts(&owner, holder, id) == live.contains(id)));
    assert!(ids.iter().all(|id| counts(&owner, holder, id) != released.contains(id)));
    let files = contents(&path);
    comes_back(holder, &made.snapshot, &path, &files).await;
    // The rest of it goes, and nothing else.
    prune(&owner).await;
    comes_back(holder, &made.snapshot, &path, &files).await;
    assert!(unheard(&owner, holder).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_silent_holder_may_let_go_is_given_to_another() {
    let (owner, holders, path) = broken_off(2).await;
    let asked = unheard(&owner, &holders[0]);
    let ids: Vec<ChunkId> = asked.iter().map(|wish| wish.id).collect();
    assert!(ids.len() > 3 && unheard(&owner, &holders[1]).len() == ids.len());
    silence(&owner, &holders[0]);
    let made = end(owner.handle().backup(request(&path, 1, 20))).await.unwrap();
    assert!(ids.iter().all(|id| !counts(&owner, &holders[0], id)));
    let again: Vec<&ChunkId> = ids.iter().filter(|id| counts(&owner, &holders[1], id)).collect();
    assert!(!again.is_empty(), "the other one has taken it back");
    // As many as are wanted have it: the prune is not kept open for the one that is silent, whose
    // word counts for nothing still.
    let one = PruneRequest { replicas: Some(1), ..pruning() };
    let done = prune_with(&owner, one).await.unwrap();
    assert_eq!(done.notes, [""; 0], "{done:?}");
    assert!(inner(&owner).with_catalog(|all| all.open_prune().is_none()));
    let left: Vec<ChunkId> = unheard(&owner, &holders[0]).iter().map(|wish| wish.id).collect();
    assert!(again.iter().all(|id| left.contains(id)));
    // Of two it counts as one. The node by itself would ask it, too, once it is heard.
    let stays = inner(&owner).letting_go.read().await;
    fs::write(path.join("more"), b"more").unwrap();
    let short = end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert_eq!(short.replicas, 1, "{short:?}");
    hear(&owner);
    carry_out(&owner, &holders[0], asked).await;
    drop(stays);
    comes_back(&holders[1], &made.snapshot, &path, &contents_of(&path, "more")).await;
    let whole = backup(&owner, &path, 2).await;
    assert!(again.iter().all(|id| counts(&owner, &holders[0], id)), "{whole:?}");
    let live = kept(&owner, &holders[0]).await.0;
    assert!(again.iter().all(|id| live.contains(id)));
}

/// The folder's files but one.
fn contents_of(path: &Path, but: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(path);
    files.retain(|file, _| !file.ends_with(but));
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_of_what_a_silent_holder_may_let_go_is_done_when_that_is_heard() {
    let (mut owner, holders) = mesh(1).await;
    let path = owner.file("one", 2 << 20);
    let first: PutDone = end(owner.put(path.clone(), 1, 60)).await.unwrap();
    let root = inner(&owner).with_catalog(|all| all.roots()[0].capability.id);
    forget(&owner, &first.snapshot.unwrap()).await;
    begin_to_let_go(&mut owner, &holders).await;
    let asked = unheard(&owner, &holders[0]);
    assert!(asked.iter().any(|wish| wish.id == root));
    silence(&owner, &holders[0]);
    end(owner.put(path, 1, 2)).await.unwrap_err();
    assert!(!counts(&owner, &holders[0], &root), "it was not told to be stored");
    assert_eq!(inner(&owner).with_catalog(|all| all.open_jobs().count()), 1);
    hear(&owner);
    carry_out(&owner, &holders[0], asked).await;
    let is_done = || inner(&owner).with_catalog(|all| all.open_jobs().next().is_none());
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        assert!(Instant::now() < deadline, "it is tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(counts(&owner, &holders[0], &root));
    assert!(kept(&owner, &holders[0]).await.0.contains(&root));
}
