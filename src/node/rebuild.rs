//! Fills the catalogue of a device that was recovered: who has which chunk. Runs in the background,
//! for the node's life; whoever restores needs nothing of it.
//!
//! ```text
//! recover ─▶ note: begun, with the holders ─▶ one of them, connected ─▶ a page of its list
//!   ─▶ claims and how far it was read, in one commit ─▶ pause ─▶ the next page .. ─▶ done
//! ```
//! Without it the next backup sends again what holders have, as it knows of nobody who does; and
//! nothing of it can be asked for, or told.
//!
//! Asked are the nodes that served heads, and those that heads and checkpoints name: at most
//! [`HOLDERS_MAX`], one at a time, each while it is connected; and once nobody of them is left to
//! be asked those that [are found](locate) by chunks of which too few holders are known. Nobody
//! else is dialed or asked. A page is asked for while no backup, put or prune of this device runs,
//! so none of them waits behind it, and what is being let go is not taken for stored meanwhile. How
//! far a list was read stands in the catalogue behind the claims of its page: a node that was ended
//! goes on behind that page. It is done when all that are named were listed, and these are as many
//! as the devices wished replicas, together with others that proved something in an audit; while
//! somebody is missing the heads are looked at when others come. Who is away for a month is not
//! waited for.
//!
//! What a holder lists is its word and nothing else, and counts as its word on chunks that it is
//! asked for ([`check`](super::check)): as shown by the store that speaks, from when it was asked
//! and for a day; then it is asked for each. Chunks that are released or damaged do not count.
//!
//! What a holder that lies comes to: it can claim to have what it has not, for as long as it could
//! by answering questions. It can name ids that nobody knows: these cost about 80 bytes of memory
//! each, so no list is read beyond what the snapshots that are live could [name](ids_max), and all
//! lists together add no more than [twice](LISTS_MAX) that. Whose list goes on behind that bound is
//! given up, and so is one whose answer does not hold, for example with ids that do not ascend;
//! nothing of such a page counts. An answer that is no message at all is as none. Whoever is silent
//! or busy is asked again ever more rarely. One that comes back with another store is read from the
//! start, within the same bound.

mod locate;
mod now;

use super::account::{self, AccountError, ListedPage};
use super::check;
use super::failures;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{Failure, RebuildStatus};
use super::repository::Breadth;
use crate::core::codec::ACCOUNT_CHUNKS_MAX;
use crate::core::message::ChunkState;
use crate::core::types::NodeId;
use crate::repo::catalog::{
    Catalog, CatalogError, ChunkAcked, Entry, Listing, ListingState, Rebuild, RebuildNote,
};
use crate::repo::chunker::CHUNK_BYTES_AVERAGE;
use crate::repo::manifest::merge::Live;
pub(super) use locate::{By, Pace};
use locate::{LOCATE_EVERY, LOCATE_EVERY_MAX};
pub(super) use now::fill_now;
use now::look_further;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLockWriteGuard, watch};
use tokio::time::{Instant, sleep, timeout};

/// A node that has just started begins so late: one that is started for a single command has other
/// things to do, and ends.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(60) };

/// Between two pages: 230 kB each, so a million chunks take four minutes.
const PAGE_PAUSE: Duration =
    if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };

/// How often it is seen whether there is anything to do, if nobody comes before.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(30) };

/// While a holder is missing, the heads are looked at no more often.
const HEADS_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(600) };

/// Ids of one page.
#[expect(clippy::cast_possible_truncation, reason = "4,096")]
const PAGE_IDS: u32 = if cfg!(test) { 3 } else { ACCOUNT_CHUNKS_MAX as u32 };

/// A holder that was silent or busy is left alone for so long, and twice as long each time.
const REST: Duration = Duration::from_secs(60);

/// And no longer than this.
const REST_MAX: Duration = Duration::from_secs(6 * 3600);

/// Holders whose lists are read.
const HOLDERS_MAX: usize = 32;

/// Whoever is away is waited for until the folder has this age: 30 days, in seconds. It is made
/// when the device is recovered.
const WAITED_FOR_S: u64 = 30 * 24 * 3600;

/// Ids that a list may have whatever the snapshots name: what was forgotten and is not let go, and
/// what was stored for snapshots that were not published.
const IDS_MORE: u64 = if cfg!(test) { 100 } else { 1 << 16 };

/// All lists together add no more new ids than so many of the longest: one that is nothing but made
/// up leaves room for those that are not.
const LISTS_MAX: u64 = 2;

/// What a snapshot adds at least: what leads to what changed, the snapshot, its entry.
const IDS_OF_A_SNAPSHOT: u64 = 64;

/// What tests see of it, and hold it by.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Reins {
    /// Pages that it may ask for: none unless a test says so.
    pub(super) pages: std::sync::atomic::AtomicU64,
    /// Whom it asked, and for what is behind which id.
    pub(super) asked: std::sync::Mutex<Vec<(NodeId, crate::core::types::ChunkId)>>,
    /// How often it was seen whether there is anything to do.
    pub(super) looks: std::sync::atomic::AtomicU64,
    /// Chunks of which holders were looked for.
    pub(super) located: std::sync::atomic::AtomicUsize,
}

/// Notes that the catalogue is to be filled, and by whom. One that is under way goes on.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) async fn begin(inner: &Arc<Inner>) -> Result<(), Failure> {
    let ids_max = inner.repository.with_live(|live| ids_max(&live)).await;
    let holders = inner.repository.replicas_wished(inner).await;
    inner.record(Entry::Rebuild(RebuildNote::Begun { ids_max, holders }))?;
    note_holders(inner).await?;
    inner.commit_catalog().await
}

/// More chunks than the live snapshots can name, and those before them that are not let go yet:
/// twice what they name, roughly, and [`IDS_MORE`].
fn ids_max(live: &[&Live]) -> u64 {
    let average = CHUNK_BYTES_AVERAGE as u64;
    let pieces = |bytes: u64| bytes / average;
    let added = |live: &&Live| pieces(live.added.new_bytes).saturating_add(IDS_OF_A_SNAPSHOT);
    let added = live.iter().map(added).fold(0, u64::saturating_add);
    // A file below the average is in a pack, or a chunk of its own.
    let whole = |live: &&Live| pieces(live.added.bytes).saturating_add(live.added.files);
    let whole = live.iter().map(whole).max().unwrap_or(0);
    added.saturating_add(whole).saturating_add(IDS_MORE)
}

/// Notes who is thought to have something, of those who are known by now.
async fn note_holders(inner: &Arc<Inner>) -> Result<(), Failure> {
    let own = inner.net.snapshot().await.peer_id;
    let own = crate::net::node_of_peer_id(&own);
    let mut thought = inner.repository.thought_to_hold(inner).await;
    thought.retain(|node| Some(*node) != own);
    let new: Vec<NodeId> = inner.with_catalog(|catalog| {
        let Some(Rebuild { holders, .. }) = catalog.rebuild() else { return Vec::new() };
        let new = thought.into_iter().filter(|node| !holders.contains_key(node));
        new.take(HOLDERS_MAX.saturating_sub(holders.len())).collect()
    });
    let note = |node| Entry::Rebuild(RebuildNote::Listing(Listing::new(node)));
    new.into_iter().try_for_each(|node| inner.record(note(node)))
}

/// What `status` shows of it.
pub(super) fn status(catalog: &Catalog) -> Option<RebuildStatus> {
    let rebuild = catalog.rebuild()?;
    let holders = &rebuild.holders;
    let count = |state: ListingState| holders.values().filter(|of| of.state == state).count();
    Some(RebuildStatus {
        holders: holders.len() + catalog.rebuild_missing(),
        listed: count(ListingState::Whole),
        given_up: count(ListingState::GivenUp),
        replicas: holders.values().map(|of| of.live).fold(0, u64::saturating_add),
    })
}

/// What is remembered while the node runs.
#[derive(Default)]
struct Memory {
    /// When holders were last looked for whom nobody names, and for how long not again.
    looked_further: Option<(Instant, Duration)>,
    /// Whom to leave alone until when, and for how long the next time.
    resting: BTreeMap<NodeId, (Instant, Duration)>,
    /// When heads were looked at for holders that are missing, and who was connected.
    looked: Option<(Instant, BTreeSet<NodeId>)>,
}

impl Memory {
    fn rests(&self, node: &NodeId, now: Instant) -> bool {
        self.resting.get(node).is_some_and(|(until, _)| *until > now)
    }

    fn rest(&mut self, node: NodeId) {
        let rest = self.resting.get(&node).map_or(REST, |(_, before)| REST_MAX.min(2 * *before));
        self.resting.insert(node, (Instant::now() + rest, rest));
    }

    /// Whether to look for holders whom nobody names: ever more rarely.
    fn is_further_due(&self, now: Instant) -> bool {
        self.looked_further.is_none_or(|(at, pause)| now.duration_since(at) >= pause)
    }

    /// That was done, and something came of it or not.
    fn has_looked_further(&mut self, has_come: bool) {
        let longer = |(_, before): (Instant, Duration)| LOCATE_EVERY_MAX.min(2 * before);
        let pause = self.looked_further.filter(|_| !has_come).map_or(LOCATE_EVERY, longer);
        self.looked_further = Some((Instant::now(), pause));
    }

    /// Whether somebody came since the heads were looked at, and that is long enough ago.
    fn is_due(&self, peers: &BTreeSet<NodeId>, now: Instant) -> bool {
        let Some((at, seen)) = &self.looked else { return true };
        !peers.is_subset(seen) && now.duration_since(*at) >= HEADS_EVERY
    }
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    /// A page was asked for.
    APage,
    /// Somebody was found whose list is to be read.
    Found,
    /// There is nothing to do now.
    Nothing,
    /// It was not seen whether there is: others go first, or nothing is to be filled.
    Later,
}

/// Fills the catalogue where that was noted. Runs for the node's life.
pub(super) async fn fill_later(inner: Weak<Inner>, mut peers: watch::Receiver<BTreeSet<NodeId>>) {
    let mut memory = Memory::default();
    sleep(BEGIN_AFTER).await;
    loop {
        peers.borrow_and_update();
        let Some(node) = inner.upgrade() else { return };
        let did = match look(&node, &mut memory, true).await {
            Ok(did) => did,
            Err(failure) => {
                tracing::info!(why = failure.why, "who holds what was not learnt");
                Did::Nothing
            }
        };
        drop(node);
        match did {
            Did::APage | Did::Found => sleep(PAGE_PAUSE).await,
            // Somebody may come, or it is time.
            Did::Nothing | Did::Later => match timeout(LOOK_EVERY, peers.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(_)) => return,
            },
        }
    }
}

/// Asks for one page, if there is one to be asked for; else looks for those whom nobody names, if
/// `further` says so.
async fn look(inner: &Arc<Inner>, memory: &mut Memory, further: bool) -> Result<Did, Failure> {
    #[cfg(test)]
    inner.rebuild.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if !may_ask(inner) || inner.with_catalog(|catalog| catalog.rebuild().is_none()) {
        return Ok(Did::Later);
    }
    // A backup, a put or a prune that runs goes first.
    let Ok(alone) = inner.letting_go.try_write() else { return Ok(Did::Later) };
    let stays = RwLockWriteGuard::downgrade(alone);
    let now = Instant::now();
    let next = inner.with_catalog(|catalog| next(catalog.rebuild()?, inner, memory, now));
    let Some(listing) = next else {
        drop(stays);
        return conclude(inner, memory, further).await;
    };
    let node = listing.node;
    #[cfg(test)]
    tests_see(inner, &listing);
    // What is listed was true when it was asked for.
    let at_s = seconds_since_1970();
    let page = match account::list_mine(inner, node, listing.after, PAGE_IDS).await {
        Err(AccountError::Stopped) => return Err(failures::stopped()),
        page => page,
    };
    let took = inner.with_catalog(|catalog| take(catalog, listing, page, at_s));
    match took.map_err(|error| failures::catalog(&error))? {
        Took::Listed(state) => {
            memory.resting.remove(&node);
            inner.commit_catalog().await?;
            if state != ListingState::Open {
                tracing::info!(holder = %node, ?state, "a holder's list was read");
                check::save(inner).await;
            }
        }
        Took::Nothing(why) => {
            tracing::info!(holder = %node, %why, "a holder was asked for its list");
            memory.rest(node);
        }
    }
    Ok(Did::APage)
}

/// Whose page is next: connected, not at rest, and not read to its end.
fn next(rebuild: &Rebuild, inner: &Inner, memory: &Memory, now: Instant) -> Option<Listing> {
    let mut open = rebuild.holders.values().filter(|of| of.state == ListingState::Open);
    let is_next =
        |of: &&Listing| inner.shared.is_connected(&of.node) && !memory.rests(&of.node, now);
    open.find(is_next).copied()
}

/// Notes who came to be known, looks for those whom nobody names, and notes that it is done once
/// nobody is left.
async fn conclude(inner: &Arc<Inner>, memory: &mut Memory, further: bool) -> Result<Did, Failure> {
    let peers = inner.shared.watch_peers().borrow().clone();
    let missing = inner.with_catalog(|catalog| catalog.rebuild_missing());
    if missing > 0 && !peers.is_empty() && memory.is_due(&peers, Instant::now()) {
        inner.repository.refresh(inner, Breadth::Everyone).await?;
        memory.looked = Some((Instant::now(), peers.clone()));
    }
    note_holders(inner).await?;
    let now = Instant::now();
    let is_named = inner.with_catalog(|catalog| next(catalog.rebuild()?, inner, memory, now));
    let did = match is_named {
        Some(_) => Did::Found,
        None if further && !peers.is_empty() && memory.is_further_due(now) => {
            let short = locate::short(inner).await?;
            let has_come = look_further(inner, By::Itself, short).await?;
            memory.has_looked_further(has_come);
            if has_come { Did::Found } else { Did::Nothing }
        }
        None => Did::Nothing,
    };
    if did == Did::Nothing && memory.looked_further.is_some() {
        end(inner, memory)?;
    }
    inner.commit_catalog().await?;
    Ok(did)
}

/// Notes that it is done where nobody is left to be asked, and nobody is missing, or was for long.
///
/// # Errors
/// The catalogue takes nothing.
fn end(inner: &Inner, memory: &Memory) -> Result<(), Failure> {
    let now = Instant::now();
    let is_over = inner.record_if(|catalog| {
        let is_old = catalog.aged().is_some_and(|(age_s, _)| age_s >= WAITED_FOR_S);
        let is_asked = next(catalog.rebuild()?, inner, memory, now).is_none();
        let is_over = catalog.rebuild_is_over() || is_old && is_asked;
        is_over.then_some(Entry::Rebuild(RebuildNote::Done))
    })?;
    if is_over {
        tracing::info!("it is known again who holds what");
    }
    Ok(())
}

/// What an answer came to.
#[derive(Debug)]
enum Took {
    /// It was taken down, and the list stands so.
    Listed(ListingState),
    /// It was none.
    Nothing(AccountError),
}

/// Takes an answer down: the claims of its page, then how far the list was read.
fn take(
    catalog: &mut Catalog,
    mut listing: Listing,
    page: Result<ListedPage, AccountError>,
    at_s: u64,
) -> Result<Took, CatalogError> {
    let node = listing.node;
    let page = match page {
        Ok(page) => page,
        Err(why @ (AccountError::Forged | AccountError::Invalid)) => {
            tracing::warn!(holder = %node, %why, "a holder's list is given up");
            return stand(catalog, listing, ListingState::GivenUp);
        }
        Err(AccountError::NoAccount) => {
            store_is_gone(catalog, &listing, at_s);
            return stand(catalog, listing, ListingState::Whole);
        }
        Err(why) => return Ok(Took::Nothing(why)),
    };
    let (ids_max, new_chunks) =
        catalog.rebuild().map_or((0, 0), |rebuild| (rebuild.ids_max, rebuild.new_chunks()));
    // A page without any counts as one, so that this ends.
    let listed = listing.listed.saturating_add(page.chunks.len().max(1) as u64);
    if listed > ids_max {
        tracing::warn!(holder = %node, ids_max, "a holder lists more than it can have");
        return stand(catalog, listing, ListingState::GivenUp);
    }
    if catalog.store_of(&node).is_some_and(|store| store != page.epoch) {
        store_is_gone(catalog, &listing, at_s);
    }
    if listing.store.is_some_and(|store| store != page.epoch) {
        // What follows in the list of another store says nothing of what is before it.
        let Listing { live, new, .. } = listing;
        listing = Listing { store: Some(page.epoch), listed, live, new, ..Listing::new(node) };
        return stand(catalog, listing, ListingState::Open);
    }
    listing.listed = listed;
    let mut room = ids_max.saturating_mul(LISTS_MAX).saturating_sub(new_chunks);
    for chunk in page.chunks.iter().filter(|chunk| chunk.state == ChunkState::Live) {
        let claim = ChunkAcked { chunk: chunk.id, node, lease: chunk.lease, epoch: page.epoch };
        if let Some(is_new) = catalog.record_claim(claim, at_s, room > 0)? {
            room -= u64::from(is_new);
            listing.live += 1;
            listing.new += u64::from(is_new);
        }
    }
    listing.store = Some(page.epoch);
    let last = page.chunks.last().filter(|_| page.more).map(|last| last.id);
    listing.after = last.unwrap_or(listing.after);
    stand(catalog, listing, if page.more { ListingState::Open } else { ListingState::Whole })
}

fn stand(
    catalog: &mut Catalog,
    listing: Listing,
    state: ListingState,
) -> Result<Took, CatalogError> {
    let listing = Listing { state, ..listing };
    catalog.record(Entry::Rebuild(RebuildNote::Listing(listing)))?;
    Ok(Took::Listed(state))
}

/// The store that it spoke for before is gone, and what it had.
fn store_is_gone(catalog: &mut Catalog, listing: &Listing, at_s: u64) {
    if let Some(store) = catalog.store_of(&listing.node) {
        tracing::warn!(holder = %listing.node, "a holder has lost its store");
        catalog.store_is_gone(&listing.node, &store, at_s);
    }
}

/// Tests say when.
fn may_ask(inner: &Inner) -> bool {
    #[cfg(test)]
    return inner.rebuild.pages.load(std::sync::atomic::Ordering::Relaxed) > 0;
    #[cfg(not(test))]
    {
        let _ = inner;
        true
    }
}

#[cfg(test)]
fn tests_see(inner: &Inner, listing: &Listing) {
    use std::sync::{PoisonError, atomic::Ordering};
    inner.rebuild.pages.fetch_sub(1, Ordering::Relaxed);
    let mut asked = inner.rebuild.asked.lock().unwrap_or_else(PoisonError::into_inner);
    asked.push((listing.node, listing.after));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::ListedChunk;
    use crate::core::types::{ChunkId, LeaseNonce, StoreEpoch};
    use crate::crypto::keys::{Master, OwnerKeys};

    /// The keys of the catalogue's owner.
    fn owner() -> OwnerKeys {
        OwnerKeys::derive(&Master::from_bytes([1; 32]), 0)
    }

    const NODE: NodeId = NodeId::from_bytes([1; 32]);

    fn id(number: u8) -> ChunkId {
        ChunkId::from_bytes([number; 32])
    }

    fn page(epoch: u8, more: bool, chunks: &[(u8, ChunkState)]) -> ListedPage {
        let lease = LeaseNonce::from_bytes([1; 16]);
        let chunk = |(number, state): &(u8, ChunkState)| ListedChunk {
            id: id(*number),
            lease,
            sealed_bytes: 99,
            state: *state,
        };
        let epoch = StoreEpoch::from_bytes([epoch; 16]);
        ListedPage { epoch, more, chunks: chunks.iter().map(chunk).collect() }
    }

    /// A catalogue that is to be filled, and how the list of its one holder stands.
    fn catalog(folder: &tempfile::TempDir, ids_max: u64) -> Catalog {
        let (mut catalog, _) = Catalog::open(folder.path(), &owner()).unwrap();
        catalog.record(Entry::Rebuild(RebuildNote::Begun { ids_max, holders: 1 })).unwrap();
        catalog.record(Entry::Rebuild(RebuildNote::Listing(Listing::new(NODE)))).unwrap();
        catalog
    }

    fn listing(catalog: &Catalog) -> Listing {
        catalog.rebuild().unwrap().holders[&NODE]
    }

    fn next(catalog: &mut Catalog, page: Result<ListedPage, AccountError>) -> Listing {
        let before = listing(catalog);
        take(catalog, before, page, seconds_since_1970()).unwrap();
        listing(catalog)
    }

    #[test]
    fn what_is_released_or_damaged_is_read_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = catalog(&folder, 9);
        let states = [
            (1, ChunkState::Live),
            (2, ChunkState::Released { due_s: 9 }),
            (3, ChunkState::Damaged),
        ];
        let read = next(&mut catalog, Ok(page(1, true, &states)));
        assert_eq!((read.listed, read.live, read.new, read.after), (3, 1, 1, id(3)));
        assert_eq!(catalog.chunk_ids().collect::<Vec<_>>(), [&id(1)]);
        assert_eq!(next(&mut catalog, Ok(page(1, false, &[]))).state, ListingState::Whole);
    }

    #[test]
    fn another_store_is_read_from_the_start_and_one_that_changes_all_the_time_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = catalog(&folder, 5);
        next(&mut catalog, Ok(page(1, true, &[(1, ChunkState::Live), (7, ChunkState::Live)])));
        assert_eq!(catalog.holders_of(&id(1)), [NODE]);
        let moved = next(&mut catalog, Ok(page(2, false, &[(9, ChunkState::Live)])));
        assert_eq!((moved.after, moved.state), (id(0), ListingState::Open));
        assert!(catalog.holders_of(&id(1)).is_empty() && catalog.holders_of(&id(9)).is_empty());
        for epoch in [3, 4] {
            assert_eq!(next(&mut catalog, Ok(page(epoch, true, &[]))).state, ListingState::Open);
        }
        assert_eq!(next(&mut catalog, Ok(page(5, true, &[]))).state, ListingState::GivenUp);
    }

    #[test]
    fn of_a_page_beyond_the_bound_and_of_one_that_does_not_hold_nothing_counts() {
        for bad in [Ok(page(1, true, &[(8, ChunkState::Live)])), Err(AccountError::Forged)] {
            let folder = tempfile::tempdir().unwrap();
            let mut catalog = catalog(&folder, 1);
            next(&mut catalog, Ok(page(1, true, &[(1, ChunkState::Live)])));
            let ended = next(&mut catalog, bad);
            assert_eq!((ended.live, ended.state), (1, ListingState::GivenUp));
            assert_eq!(catalog.chunk_ids().collect::<Vec<_>>(), [&id(1)]);
        }
    }

    #[test]
    fn all_lists_together_add_no_more_than_two_of_the_longest() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = catalog(&folder, 3);
        let other = NodeId::from_bytes([2; 32]);
        let before = Listing { new: 5, ..Listing::new(other) };
        catalog.record(Entry::Rebuild(RebuildNote::Listing(before))).unwrap();
        let live = [(1, ChunkState::Live), (2, ChunkState::Live)];
        let read = next(&mut catalog, Ok(page(1, false, &live)));
        assert_eq!((read.live, read.new, read.state), (1, 1, ListingState::Whole));
    }

    #[test]
    fn silence_and_a_busy_holder_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = catalog(&folder, 9);
        for why in [AccountError::Unreachable, AccountError::Busy] {
            assert_eq!(next(&mut catalog, Err(why)), Listing::new(NODE));
        }
        assert_eq!(next(&mut catalog, Err(AccountError::NoAccount)).state, ListingState::Whole);
    }
}
