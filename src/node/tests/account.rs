//! Accounts at whole nodes: what holders say that they keep, what is released there, and backups
//! that look before they promise.

use super::backup::{backup, folder, mesh, request};
use super::recover::{contents, restore, restored, wanted};
use super::*;
use crate::core::message::ChunkState;
use crate::core::owner::ReleaseWish;
use crate::core::types::{ChunkId, LeaseNonce, NodeId};
use crate::crypto::capability::Capability;
use crate::node::account::{self, AccountError};
use crate::node::check::{Belief, Checked, check, recheck};
use crate::node::chunks::{Chunks, TreeEntries};
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::repository::now_ns;
use crate::repo::catalog::SnapshotDue;
use crate::repo::frame::Kind;
use crate::repo::mark::Mark;
use crate::repo::reference::ChunkRef;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::{Content, What};
use std::fs;

pub(super) fn inner(node: &TestNode) -> &Arc<Inner> {
    &node.handle().inner
}

pub(super) fn id_of(node: &TestNode) -> NodeId {
    NodeKeys::from_seeds([node.seed; 32], [node.seed; 32], [node.seed; 32]).node_id()
}

/// All chunks that the owner's catalogue knows.
pub(super) fn known(owner: &TestNode) -> Vec<ChunkId> {
    inner(owner).with_catalog(|catalog| catalog.chunk_ids().copied().collect())
}

fn forget_proofs(owner: &TestNode) {
    inner(owner).with_catalog(|catalog| catalog.forget_proofs());
}

/// Packs and pieces of the newest snapshot.
pub(super) async fn content(owner: &TestNode) -> Vec<ChunkRef> {
    let inner = inner(owner);
    let newest = |live: Vec<&crate::repo::manifest::merge::Live>| {
        let newest = live.into_iter().max_by_key(|live| live.added.created_ns);
        newest.unwrap().added.reference.duplicate()
    };
    let at = inner.repository.with_live(newest).await;
    let text = inner.chunk(&at, Kind::Snapshot, PATIENCE).await.unwrap();
    let root = Snapshot::decode(&text).unwrap().tree.unwrap();
    let mut found = BTreeMap::new();
    for entry in TreeEntries::new(Chunks::here(inner), &root) {
        let What::File(body) = entry.what else { continue };
        let of = match body.content {
            Content::None => Vec::new(),
            Content::Packed { pack: chunk, .. } | Content::Piece(chunk) => vec![chunk],
            Content::Listing(root) => Chunks::here(inner).pieces(&root),
        };
        found.extend(of.into_iter().map(|chunk| (chunk.id, chunk)));
    }
    found.into_values().collect()
}

/// How it is with these chunks at a holder, and under which leases.
async fn states(
    owner: &TestNode,
    holder: &TestNode,
    ids: impl Iterator<Item = ChunkId>,
) -> Vec<(ChunkState, LeaseNonce)> {
    let page = account::query(inner(owner), id_of(holder), ids.collect()).await.unwrap();
    page.chunks
}

/// Releases chunks, or takes that back, under these leases.
async fn release(
    owner: &TestNode,
    holder: &TestNode,
    undo: bool,
    chunks: &[ChunkRef],
    leases: &[LeaseNonce],
) -> Vec<ChunkState> {
    let wish = |(chunk, lease): (&ChunkRef, &LeaseNonce)| ReleaseWish {
        id: chunk.id,
        ck: chunk.ck.duplicate(),
        lease: *lease,
        lent: None,
    };
    let items = chunks.iter().zip(leases).map(wish).collect();
    account::release(inner(owner), id_of(holder), undo, items).await.unwrap()
}

/// Releases chunks at a holder, as another device does; returns the leases that they had.
pub(super) async fn let_go(
    owner: &TestNode,
    holder: &TestNode,
    chunks: &[ChunkRef],
) -> Vec<LeaseNonce> {
    let held = states(owner, holder, chunks.iter().map(|chunk| chunk.id)).await;
    let leases: Vec<LeaseNonce> = held.iter().map(|(_, lease)| *lease).collect();
    let states = release(owner, holder, false, chunks, &leases).await;
    assert!(states.iter().all(|state| matches!(state, ChunkState::Released { .. })), "{states:?}");
    leases
}

async fn check_all(owner: &TestNode, wanted: u8) -> Checked {
    check(inner(owner), &known(owner), wanted, Belief::ADay).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_lists_what_it_keeps_and_releases_it_and_takes_that_back() {
    let (owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let stranger = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 3).await;
    let (node, all) = (inner(&owner), known(&owner));
    for holder in &holders {
        let (mut listed, mut after) = (Vec::new(), ChunkId::from_bytes([0; 32]));
        loop {
            let page = account::list_mine(node, id_of(holder), after, 3).await.unwrap();
            assert!(page.chunks.len() <= 3);
            assert!(page.chunks.iter().all(|chunk| chunk.state == ChunkState::Live));
            listed.extend(page.chunks.iter().map(|chunk| chunk.id));
            match page.chunks.last().filter(|_| page.more) {
                Some(last) => after = last.id,
                None => break,
            }
        }
        let kept = |catalog: &mut Catalog| {
            let has = |id: &&ChunkId| catalog.holders_of(id).contains(&id_of(holder));
            all.iter().filter(has).copied().collect::<Vec<_>>()
        };
        assert_eq!(listed, node.with_catalog(kept));
    }
    let nothing = account::query(node, id_of(&stranger), vec![all[0]]).await;
    assert_eq!(nothing, Err(AccountError::NoAccount));

    let chunks = content(&owner).await;
    let ids = || chunks.iter().map(|chunk| chunk.id);
    let holder = &holders[0];
    let leases = let_go(&owner, holder, &chunks).await;
    let six_days_s = 6 * 24 * 3600;
    let is_released = |(state, _): &(ChunkState, LeaseNonce)| match state {
        ChunkState::Released { due_s } => *due_s > six_days_s,
        _ => false,
    };
    let (here, there) =
        tokio::join!(states(&owner, holder, ids()), states(&owner, &holders[1], ids()));
    assert!(here.iter().all(is_released), "{here:?}");
    assert!(there.iter().all(|(state, _)| *state == ChunkState::Live), "another account");
    let wrong = vec![LeaseNonce::from_bytes([7; 16]); chunks.len()];
    let unchanged = release(&owner, holder, true, &chunks, &wrong).await;
    assert!(unchanged.iter().all(|state| matches!(state, ChunkState::Released { .. })));
    let back = release(&owner, holder, true, &chunks, &leases).await;
    assert_eq!(back, vec![ChunkState::Live; chunks.len()]);
    let live: Vec<_> = leases.iter().map(|lease| (ChunkState::Live, *lease)).collect();
    assert_eq!(states(&owner, holder, ids()).await, live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_released_is_stored_again_by_the_next_backup_and_the_release_means_nothing() {
    let (owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let chunks = content(&owner).await;
    let ids = || chunks.iter().map(|chunk| chunk.id);
    let mut leases = Vec::new();
    for holder in &holders {
        leases.push(let_go(&owner, holder, &chunks).await);
    }
    // Within a day its holders are believed.
    let believed = backup(&owner, &path, 2).await;
    assert_eq!((believed.new_chunks, believed.notes.len()), (2, 0), "{believed:?}");
    forget_proofs(&owner);
    let again = backup(&owner, &path, 2).await;
    assert_eq!((again.files, again.replicas, again.partial), (41, 2, false), "{again:?}");
    assert!(again.new_bytes > 3 << 20, "{again:?}");

    // What the newest snapshot names is live everywhere, and the releases of before are void.
    let named = content(&owner).await;
    for (holder, leases) in holders.iter().zip(&leases) {
        let live = states(&owner, holder, named.iter().map(|chunk| chunk.id)).await;
        assert!(live.iter().all(|(state, _)| *state == ChunkState::Live), "{live:?}");
        let now = states(&owner, holder, ids()).await;
        let late = release(&owner, holder, false, &chunks, leases).await;
        for (((state, lease), old), late) in now.iter().zip(leases).zip(late) {
            assert_eq!(*state, late, "an old release changes nothing");
            assert!(*state != ChunkState::Live || lease != old, "a lease of its own");
        }
    }
    let target = owner.folder.path().join("restored");
    restore(&owner, wanted(&target)).await.unwrap();
    assert_eq!(contents(&restored(&target, &path)), contents(&path));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_words_of_holders_are_believed_and_nobody_is_asked() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let all = known(&owner).len() as u64;
    let fresh = Checked { fewest: 2, ..Checked::default() };
    assert_eq!(check_all(&owner, 2).await, fresh);
    forget_proofs(&owner);
    assert_eq!(check_all(&owner, 2).await, Checked { asked: 2 * all, ..fresh.clone() });
    assert_eq!(check_all(&owner, 2).await, fresh, "what was said is remembered");
    assert_eq!(check_all(&owner, 3).await.asked, 0, "nobody else acknowledged it");

    owner.stop().await;
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(check_all(&owner, 2).await, fresh, "through a restart, too");
    owner.stop().await;
    fs::remove_file(owner.data().join("owner/proven")).unwrap();
    owner.start(Some(&holders[0])).await;
    owner.status_until(|status| status.peers == 2).await;
    assert_eq!(
        check_all(&owner, 2).await,
        Checked { asked: 2 * all, ..fresh },
        "else they are asked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_snapshot_names_can_be_asked_for_whatever_was_said_before() {
    let (owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let chunks = content(&owner).await;
    let mut mark = Mark::new();
    chunks.iter().for_each(|chunk| mark.add_chunk(&chunk.id));
    let named = mark.live().unwrap();
    let count = chunks.len() as u64;
    let whole = Checked { asked: count, fewest: 1, ..Checked::default() };
    for _ in 0..2 {
        assert_eq!(recheck(inner(&owner), named, 1).await.unwrap(), whole);
    }
    let_go(&owner, &holders[0], &chunks[..1]).await;
    let short = Checked { fewest: 0, short: 1, storable: 1, gone: 1, ..whole };
    assert_eq!(recheck(inner(&owner), named, 1).await.unwrap(), short);
    // Nor is it believed from then on.
    assert_eq!(check_all(&owner, 1).await.short, 1);
    mark.add_chunk(&ChunkId::from_bytes([5; 32]));
    let unknown = recheck(inner(&owner), mark.live().unwrap(), 1).await.unwrap();
    assert_eq!((unknown.short, unknown.storable, unknown.fewest), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_holder_away_the_snapshot_is_published_and_has_fewer_replicas() {
    let (owner, mut holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let away = holders[1].address().to_owned();
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    forget_proofs(&owner);
    // What is short is stored by a backup, and not by the node itself.
    let _stays = owner.handle().inner.letting_go.read().await;
    let done = end(owner.handle().backup(request(&path, 2, 6))).await.unwrap();
    assert_eq!((done.files, done.replicas, done.new_chunks), (41, 1, 2), "{done:?}");
    let (_, silent) = away.rsplit_once("/p2p/").unwrap();
    let told = ["not known to have 2 replicas still", "1 of their holders did not answer", silent];
    assert!(tells(&done.notes, &told), "{done:?}");
    // With another node there is somebody to store it at.
    let _third = TestNode::started(8, Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    forget_proofs(&owner);
    let done = backup(&owner, &path, 2).await;
    assert_eq!((done.files, done.replicas), (41, 2), "{done:?}");
    assert!(tells(&done.notes, &["have fewer than 2 replicas by now"]), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_lost_with_its_store_is_stored_again() {
    let (owner, mut holders) = mesh(1).await;
    let path = folder(&owner);
    backup(&owner, &path, 1).await;
    let holder = &mut holders[0];
    holder.stop().await;
    owner.status_until(|status| status.peers == 0).await;
    fs::remove_dir_all(holder.data().join("store")).unwrap();
    holder.start(Some(&owner)).await;
    owner.status_until(|status| status.peers == 1).await;
    // One chunk that is asked for is enough: nothing else of that store is believed, however fresh.
    let all = known(&owner);
    inner(&owner).with_catalog(|catalog| {
        let (node, epoch) = catalog.stores()[0];
        catalog.refute(&node, &epoch, &all[0], seconds_since_1970());
    });
    assert_eq!(check_all(&owner, 1).await.short, all.len() as u64);
    let done = backup(&owner, &path, 1).await;
    assert_eq!((done.files, done.replicas), (41, 1), "{done:?}");
    assert!(done.new_bytes > 3 << 20, "{done:?}");
    let chunks = content(&owner).await;
    let live = states(&owner, holder, chunks.iter().map(|chunk| chunk.id)).await;
    assert!(live.iter().all(|(state, _)| *state == ChunkState::Live), "{live:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_of_what_was_released_stores_it_again() {
    let (owner, holders) = mesh(1).await;
    let path = owner.file("put twice", 1_000_000);
    let root = |done: &PutDone| {
        let Capability { id, locality, ck } = Capability::decode(done.capability.expose()).unwrap();
        ChunkRef { ck, id, locality, bytes: 1_000_000 }
    };
    let first = end(owner.put(path.clone(), 1, 60)).await.unwrap();
    let chunks = [root(&first)];
    let leases = let_go(&owner, &holders[0], &chunks).await;
    let second = end(owner.put(path, 1, 60)).await.unwrap();
    assert_eq!(root(&second).id, chunks[0].id);
    let now = states(&owner, &holders[0], chunks.iter().map(|chunk| chunk.id)).await;
    assert!(now[0].0 == ChunkState::Live && now[0].1 != leases[0], "{now:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_named_late_is_put_again_where_it_was_released() {
    let (mut owner, holders) = mesh(1).await;
    let path = owner.file("named late", 1_000_000);
    let noted = |entry: &Entry| matches!(entry, Entry::SnapshotDone(_));
    inner(&owner).with_catalog(|catalog| catalog.refused = noted);
    let first = end(owner.put(path, 1, 60)).await.unwrap();
    let Capability { id, locality, ck } = Capability::decode(first.capability.expose()).unwrap();
    let chunks = [ChunkRef { ck, id, locality, bytes: 1_000_000 }];
    let due = |catalog: &mut Catalog| catalog.snapshots_due().next().map(SnapshotDue::duplicate);
    let due = inner(&owner).with_catalog(due).unwrap();
    let_go(&owner, &holders[0], &chunks).await;
    forget_proofs(&owner);
    owner.stop().await;
    // As if nobody had come to name it for two days.
    let began_ns = now_ns() - 2 * 24 * 3_600 * 1_000_000_000;
    let late = SnapshotDue { job: JobId(50), began_ns, ..due };
    owner.record([Entry::SnapshotDue(late)]);
    owner.start(Some(&holders[0])).await;
    // That of the first put, and that of the one that is named late, at least.
    owner.status_until(|status| status.snapshots.total >= 2).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = states(&owner, &holders[0], chunks.iter().map(|chunk| chunk.id)).await;
        if now[0].0 == ChunkState::Live {
            break;
        }
        assert!(Instant::now() < deadline, "still {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
