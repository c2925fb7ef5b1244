//! Who holds what, learnt anew by a device that was recovered.

use super::account::{content, id_of, inner, known, let_go};
use super::audit::{audit, heal};
use super::backup::{backup, folder, mesh};
use super::recover::{machine, recover};
use super::*;
use crate::core::message::{ChunkState, ListedChunk};
use crate::core::types::{ChunkId, LeaseNonce, NodeId};
use crate::node::check::{Belief, Checked, check};
use crate::node::report::RebuildStatus;
use crate::node::shared::Lie;
use crate::repo::catalog::{Listing, Loss, PruneNote, ReplicaLost};
use std::sync::atomic::Ordering;

/// So many pages may be asked for from now on, of three ids each.
fn allow(node: &TestNode, pages: u64) {
    inner(node).rebuild.pages.store(pages, Ordering::Relaxed);
}

/// For what was asked of a holder: behind which ids.
fn asked(node: &TestNode, holder: &TestNode) -> Vec<ChunkId> {
    let asked = inner(node).rebuild.asked.lock().unwrap();
    asked.iter().filter(|(of, _)| *of == id_of(holder)).map(|(_, after)| *after).collect()
}

fn listing(node: &TestNode, holder: &TestNode) -> Option<Listing> {
    let of = id_of(holder);
    inner(node).with_catalog(|catalog| catalog.rebuild()?.holders.get(&of).copied())
}

fn holders_of(node: &TestNode, chunk: &ChunkId) -> Vec<NodeId> {
    let mut holders = inner(node).with_catalog(|catalog| catalog.holders_of(chunk));
    holders.sort();
    holders
}

/// Who has each chunk, as far as it is known.
fn held(node: &TestNode) -> BTreeMap<ChunkId, Vec<NodeId>> {
    known(node).into_iter().map(|id| (id, holders_of(node, &id))).collect()
}

fn lies(holder: &TestNode, lie: Lie) {
    *inner(holder).shared.lie.lock().unwrap() = Some(lie);
}

fn listed(numbers: [u32; 3]) -> Vec<ListedChunk> {
    let chunk = |number: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let (id, lease) = (ChunkId::from_bytes(id), LeaseNonce::from_bytes([1; 16]));
        ListedChunk { id, lease, sealed_bytes: 5_000, state: ChunkState::Live }
    };
    numbers.map(chunk).to_vec()
}

/// A machine that was recovered, and sees so many holders.
async fn recovered(by: &TestNode, peers: usize) -> TestNode {
    let new = machine(1, by).await;
    new.status_until(|status| status.peers == peers).await;
    recover(&new, None).await.unwrap();
    new
}

/// Waits until a list was read, or given up.
async fn until(node: &TestNode, wanted: impl Fn(&RebuildStatus) -> bool) -> RebuildStatus {
    let wanted = |status: &Status| status.rebuild.as_ref().is_some_and(&wanted);
    node.status_until(wanted).await.rebuild.unwrap()
}

async fn until_over(node: &TestNode) {
    node.status_until(|status| status.rebuild.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_device_learns_who_holds_what_and_sends_nothing_again() {
    let (mut owner, holders) = mesh(2).await;
    let path = folder(&owner);
    backup(&owner, &path, 2).await;
    let before = held(&owner);
    let contents = content(&owner).await;
    owner.stop().await;

    let new = recovered(&holders[0], 2).await;
    let open = RebuildStatus { holders: 2, ..RebuildStatus::default() };
    assert_eq!(new.handle().status(0).await.rebuild, Some(open));
    assert!(known(&new).is_empty(), "a recovery asks nobody what it keeps");
    allow(&new, u64::MAX);
    until_over(&new).await;
    assert_eq!(held(&new), before);
    assert!(contents.iter().all(|chunk| before[&chunk.id].len() == 2));
    let pages = before.len().div_ceil(3);
    for holder in &holders {
        assert_eq!(asked(&new, holder).len(), pages, "each page once");
    }
    let ids = known(&new);
    let checked = check(inner(&new), &ids, 2, Belief::ADay).await.unwrap();
    assert_eq!(checked, Checked { fewest: 2, ..Checked::default() }, "nobody is asked");
    let done = backup(&new, &path, 2).await;
    assert_eq!((done.files, done.replicas, done.partial), (41, 2, false), "{done:?}");
    assert_eq!((done.new_bytes, done.new_chunks), (0, 2), "its snapshot and its entry: {done:?}");
    assert_eq!(done.notes, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_ended_goes_on_behind_the_last_page() {
    let (mut owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let before = held(&owner);
    owner.stop().await;
    let (holder, mut new) = (&holders[0], recovered(&holders[0], 1).await);
    allow(&new, 1);
    let first = until(&new, |rebuild| rebuild.replicas == 3).await;
    assert_eq!((first.holders, first.listed, known(&new).len()), (1, 0, 3));
    let after = listing(&new, holder).unwrap().after;
    assert_eq!(Some(&after), before.keys().nth(2));
    new.stop().await;
    let told = new.at_rest().rebuild;
    assert_eq!(told, Some(first), "it is told without a node, too");

    new.start(Some(holder)).await;
    allow(&new, u64::MAX);
    until_over(&new).await;
    let asked = asked(&new, holder);
    assert_eq!((asked[0], asked.len()), (after, before.len().div_ceil(3) - 1));
    assert_eq!(held(&new), before);
    // What was said before the end counts as long as what was said after it.
    let ids = known(&new);
    assert_eq!(check(inner(&new), &ids, 1, Belief::ADay).await.unwrap().asked, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_away_is_listed_when_it_comes() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let before = held(&owner);
    owner.stop().await;
    holders[1].stop().await;
    let new = recovered(&holders[0], 1).await;
    allow(&new, u64::MAX);
    let half = until(&new, |rebuild| rebuild.listed == 1).await;
    assert_eq!((half.holders, half.given_up, half.replicas), (2, 0, before.len() as u64));
    assert!(before.keys().all(|id| holders_of(&new, id) == [id_of(&holders[0])]));
    let (first, away) = holders.split_at_mut(1);
    away[0].start(Some(&first[0])).await;
    until_over(&new).await;
    assert_eq!(held(&new), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_away_for_a_month_is_not_waited_for() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    owner.stop().await;
    holders[1].stop().await;
    let new = recovered(&holders[0], 1).await;
    allow(&new, u64::MAX);
    until(&new, |rebuild| rebuild.listed == 1).await;
    let looks = || inner(&new).rebuild.looks.load(Ordering::Relaxed);
    let aged = |days: u64| {
        let (age_s, wall_s) = (days * 24 * 3600, seconds_since_1970());
        inner(&new).record(Entry::Prune(PruneNote::Aged { age_s, wall_s })).unwrap();
        looks()
    };
    let seen = aged(29);
    new.status_until(|_| looks() > seen + 2).await;
    assert!(new.handle().status(0).await.rebuild.is_some());
    aged(30);
    until_over(&new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_holder_has_let_go_it_is_not_known_to_have() {
    let (mut owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let gone = content(&owner).await;
    let_go(&owner, &holders[0], &gone).await;
    let mut expected = held(&owner);
    for chunk in &gone {
        expected.insert(chunk.id, vec![id_of(&holders[1])]);
    }
    owner.stop().await;
    let new = recovered(&holders[0], 2).await;
    allow(&new, u64::MAX);
    until_over(&new).await;
    assert_eq!(held(&new), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_lost_its_store_on_the_way_is_not_known_to_have_anything() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    owner.stop().await;
    holders[1].stop().await;
    let new = recovered(&holders[0], 1).await;
    allow(&new, 1);
    until(&new, |rebuild| rebuild.replicas == 3).await;
    holders[0].stop().await;
    new.status_until(|status| status.peers == 0).await;
    std::fs::remove_dir_all(holders[0].data().join("store")).unwrap();
    holders[0].start(Some(&new)).await;
    allow(&new, u64::MAX);
    until(&new, |rebuild| rebuild.listed == 1).await;
    assert!(held(&new).values().all(Vec::is_empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_does_not_ascend_is_given_up_and_nothing_of_its_page_counts() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    owner.stop().await;
    holders[0].stop().await;
    let new = recovered(&holders[1], 1).await;
    let mut pages = [[10, 11, 12], [5, 20, 21]].into_iter();
    lies(&holders[1], Box::new(move |_| (listed(pages.next().unwrap()), true)));
    allow(&new, u64::MAX);
    let ended = until(&new, |rebuild| rebuild.given_up == 1).await;
    assert_eq!(ended, RebuildStatus { holders: 2, listed: 0, given_up: 1, replicas: 3 });
    let claimed: Vec<ChunkId> = listed([10, 11, 12]).iter().map(|chunk| chunk.id).collect();
    assert_eq!(known(&new), claimed);
    assert_eq!(asked(&new, &holders[1]).len(), 2, "and it is not asked any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_never_ends_is_given_up_and_an_honest_one_is_read() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let before = held(&owner);
    owner.stop().await;
    holders[0].stop().await;
    let new = recovered(&holders[1], 1).await;
    let ids_max = inner(&new).with_catalog(|catalog| catalog.rebuild().unwrap().ids_max);
    // More than the first holder has, and not a multiple of that.
    assert!(ids_max > 3 * before.len() as u64 && ids_max < 1_000, "{ids_max}");
    let mut last = 0;
    let lie = move |_| {
        last += 3;
        (listed([last - 2, last - 1, last]), true)
    };
    lies(&holders[1], Box::new(lie));
    allow(&new, u64::MAX);
    let ended = until(&new, |rebuild| rebuild.given_up == 1).await;
    assert!(ended.replicas <= ids_max && ended.replicas + 3 > ids_max, "{ended:?} {ids_max}");
    let (first, liar) = holders.split_at_mut(1);
    first[0].start(Some(&liar[0])).await;
    // What the other one named leaves room for all that this one has.
    until_over(&new).await;
    assert_eq!(known(&new).len() as u64, ended.replicas + before.len() as u64);
    assert!(before.keys().all(|id| holders_of(&new, id) == [id_of(&first[0])]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_while_a_backup_runs() {
    let (mut owner, holders) = mesh(1).await;
    backup(&owner, &folder(&owner), 1).await;
    let before = held(&owner);
    owner.stop().await;
    let new = recovered(&holders[0], 1).await;
    // As a backup or a put has it for as long as it runs.
    let stays = inner(&new).letting_go.read().await;
    allow(&new, u64::MAX);
    let looks = || inner(&new).rebuild.looks.load(Ordering::Relaxed);
    let seen = looks();
    new.status_until(|_| looks() > seen + 2).await;
    assert!(asked(&new, &holders[0]).is_empty());
    drop(stays);
    until_over(&new).await;
    assert_eq!(held(&new), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_not_recovered_asks_nobody() {
    let (owner, holders) = mesh(2).await;
    allow(&owner, u64::MAX);
    backup(&owner, &folder(&owner), 2).await;
    let looks = || inner(&owner).rebuild.looks.load(Ordering::Relaxed);
    let seen = looks();
    owner.status_until(|_| looks() > seen + 2).await;
    assert!(holders.iter().all(|holder| asked(&owner, holder).is_empty()));
    assert_eq!(owner.handle().status(0).await.rebuild, None);
}

/// What a holder was given after the last head and checkpoint: nobody names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_nobody_names_is_found_by_what_it_has_and_audited() {
    let (mut owner, mut holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let contents = content(&owner).await;
    holders[1].stop().await;
    owner.status_until(|status| status.peers == 1).await;
    let third = TestNode::started(9, Some(&owner)).await;
    owner.status_until(|status| status.peers == 2).await;
    assert!(audit(&owner).await.silent > 0);
    let healed = heal(&owner).await;
    assert!(healed.short > 0 && healed.healed == healed.short, "{healed:?}");
    let holds = |node: &TestNode, id: &ChunkId| holders_of(node, id).contains(&id_of(&third));
    assert!(contents.iter().all(|chunk| holds(&owner, &chunk.id)));
    owner.stop().await;

    let new = recovered(&holders[0], 2).await;
    assert_eq!(listing(&new, &third), None, "nobody names it");
    allow(&new, u64::MAX);
    // More than it was looked for: its list is read.
    new.status_until(|_| contents.iter().all(|chunk| holds(&new, &chunk.id))).await;
    let rebuild = new.handle().status(0).await.rebuild;
    assert!(rebuild.is_some(), "its word makes up for nobody who is missing");
    assert_eq!(listing(&new, &third), None, "nor is it waited for");
    let found = audit(&new).await;
    until_over(&new).await;
    let third = crate::net::peer_id_of(&id_of(&third));
    let it = found.holders.iter().find(|of| of.peer_id == third).unwrap();
    assert!(it.proven > 0 && it.proven == it.replicas, "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_looked_for_where_nothing_is_short() {
    let (mut owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    audit(&owner).await;
    let sought = |node: &TestNode| inner(node).rebuild.located.load(Ordering::Relaxed);
    assert_eq!(sought(&owner), 0);
    owner.stop().await;
    let new = recovered(&holders[0], 2).await;
    allow(&new, u64::MAX);
    until_over(&new).await;
    assert_eq!(sought(&new), 0);
}

/// And no word of its own makes up for what an audit found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_counts_what_a_holder_has_and_was_not_known_to_have_but_nothing_it_lost() {
    let (owner, holders) = mesh(2).await;
    backup(&owner, &folder(&owner), 2).await;
    let (first, second) = (id_of(&holders[0]), id_of(&holders[1]));
    let contents = content(&owner).await;
    let [unknown, lost] = [contents[0].id, contents[1].id];
    let lose = |chunk| {
        let catalog = inner(&owner);
        let epoch = catalog.with_catalog(|catalog| catalog.store_of(&second)).unwrap();
        let (node, at_s) = (second, seconds_since_1970());
        let gone = ReplicaLost { chunk, node, epoch, why: Loss::Missing, at_s };
        catalog.record(Entry::ReplicaLost(gone)).unwrap();
    };
    lose(unknown);
    // Nothing tells any more that it was there.
    inner(&owner).with_catalog(|catalog| catalog.settle_losses(|_| true));
    lose(lost);
    for chunk in [unknown, lost] {
        assert_eq!(holders_of(&owner, &chunk), [first]);
    }
    let found = audit(&owner).await;
    assert_eq!(holders_of(&owner, &unknown).len(), 2, "{found:?}");
    assert_eq!(holders_of(&owner, &lost), [first], "{found:?}");
    assert_eq!((found.missing, found.short), (1, 1), "{found:?}");
    let sought = inner(&owner).rebuild.located.load(Ordering::Relaxed);
    assert_eq!(sought, 2, "what is short and nothing else");
}
