//! Full fetches among the audits: a holder that proves a chunk and does not hand it over is worth
//! nothing on the day it is needed (threat 10).
//!
//! An audit's question can be told from a restore's, so whoever means to refuse restores may answer
//! each audit. So each holder is asked now and then, by chance once a day, for as much as one of
//! [`SHARE`] of what it proves in a day, one chunk at least: a run of what a snapshot names, in its
//! order, as somebody who restores a file asks for it, by the same requests on the same streams.
//! What comes is checked against the ids and thrown away.
//!
//! Who does not hand a chunk over, for whatever reason, owes it:
//!
//! ```text
//! refused, late, hung up ─▶ prove that very chunk! ─▶ proven, then or later: one miss
//!                                                 └▶ not there, damaged, nothing: the audit's
//! ```
//! Misses count as those of silence do ([`standing`](crate::repo::standing)): after a day the
//! holder is suspect, after fourteen lost. Every [`OWED_EVERY`] it is asked for what it owes and
//! for something fresh, and only all of that makes up for it; or that it has nothing any more that
//! anything names. What counts there no more it does not owe, and what it was given since it was
//! asked is no proof: see [`asked`].
//!
//! Who was late, or hung up, may have met a line of this machine's own that is too narrow. So
//! others are asked right after it, until one hands over the same chunk, or anything as fast as it
//! takes, and then that holder once more: it is no miss unless it says nothing again. Holders are
//! asked one after the other, so that none is late because of another one. What is owed is
//! remembered while the node runs, the misses stand in the catalogue.
//!
//! Whatever a user restores, and what is stored or let go, goes first: nobody is tried meanwhile.
//!
//! Not found so: a holder that serves single chunks, or this node, and refuses when everything is
//! restored, or when a machine with another name asks, as after a recovery. That is what replicas
//! in other failure domains are for, and drills of all of it.

mod asked;
mod draw;

use super::later::{owes_too, prove_these};
use crate::core::owner::{FetchFailure, FetchJob, OwnerEvent};
use crate::core::types::{ChunkId, NodeId, StoreEpoch, Ticket, Time};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::jobs::{DriveCommand, JobEvents, Places};
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, Entry, Standing, standing};
use crate::repo::frame::PLAINTEXT_BYTES_MAX;
use crate::repo::reference::ChunkRef;
use crate::repo::turn::SAMPLE;
pub(in crate::node) use asked::Asked;
use draw::{draw, draw_all};
use rand::RngExt;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How often holders are drawn,
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(3_600) };

/// and each of them is with a chance of one in so many.
const ONE_IN: u32 = if cfg!(test) { 1 } else { 24 };

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };

/// One of so many chunks that are proven in a day is fetched.
const SHARE: usize = 100;

/// So many of one holder are fetched at most, one after the other.
const RUN_MAX: usize = 16;

/// After so many that did not come, no more are asked for.
const REFUSALS_MAX: usize = 2;

/// What was not handed over is asked for again so soon.
const OWED_EVERY: Duration =
    if cfg!(test) { Duration::from_secs(3) } else { Duration::from_secs(4 * 3_600) };

/// How long one chunk may take: 4 MiB at 256 kbit/s, twice over.
const PATIENCE: Duration =
    if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(PATIENCE_S) };

const PATIENCE_S: u64 = 300;

/// So many others are asked whether this machine's line is to blame.
const WITNESSES: usize = 2;

/// Bytes in a second at which the largest chunk comes in time.
const LINE_RATE: u64 = PLAINTEXT_BYTES_MAX as u64 / PATIENCE_S;

/// What is remembered while the node runs.
#[derive(Default)]
struct Memory {
    owed: BTreeMap<NodeId, Owed>,
}

/// What a holder did not hand over.
struct Owed {
    chunks: Vec<ChunkRef>,
    /// Those that it was asked for last.
    refused: Vec<ChunkId>,
    /// Before it was asked: seconds since 1970.
    asked_s: u64,
    /// It said nothing at all: the line may be to blame.
    is_mute: bool,
    /// Another one handed something over, and it said nothing again: the line is not.
    is_vouched: bool,
    /// The miss is written down.
    is_counted: bool,
    /// It is asked again from then on.
    next: Instant,
}

impl Owed {
    /// Whether only others can say if it is to blame.
    fn lacks_witness(&self) -> bool {
        !self.refused.is_empty() && self.is_mute && !self.is_vouched && !self.is_counted
    }

    /// Whether what another one handed over right after, and whether as fast as it takes, says that
    /// the line is not to blame.
    fn is_line_good(&self, handed: &[(ChunkId, bool)]) -> bool {
        handed.iter().any(|(id, is_fast)| *is_fast || self.refused.contains(id))
    }
}

impl Memory {
    fn lacks_witness(&self, holder: &NodeId) -> bool {
        self.owed.get(holder).is_some_and(Owed::lacks_witness)
    }
}

/// Fetches for the node's life.
pub(in crate::node) async fn fetch_later(inner: Weak<Inner>) {
    let mut memory = Memory::default();
    sleep(BEGIN_AFTER).await;
    loop {
        let Some(node) = inner.upgrade() else { return };
        if may_try(&node)
            && let Err(failure) = look(&node, &mut memory).await
        {
            tracing::info!(why = failure.why, "holders were not asked for chunks to try them");
        }
        drop(node);
        sleep(LOOK_EVERY).await;
    }
}

/// Whatever a user waits for comes first.
fn may_try(inner: &Inner) -> bool {
    inner.tries() && !inner.getting.is_busy() && inner.letting_go.try_write().is_ok()
}

async fn look(inner: &Arc<Inner>, memory: &mut Memory) -> Result<(), Failure> {
    memory.owed.retain(|holder, owed| {
        owed.forget_replaced(inner, holder);
        !owed.chunks.is_empty() || withholds(inner, holder)
    });
    let due = due(inner, memory);
    if !due.is_empty() {
        let mut runs = draw(inner, &due).await?;
        let idle = draw_of_all(inner, memory, &due, &mut runs).await?;
        for holder in due.into_keys().filter(|holder| !idle.contains(holder)) {
            if !inner.shared.is_connected(&holder) {
                continue;
            }
            let owed = memory.owed.remove(&holder).map(|owed| owed.chunks).unwrap_or_default();
            let fresh = runs.remove(&holder).unwrap_or_default();
            let tried = try_holder(inner, holder, owed, fresh).await?;
            take(inner, tried, memory).await?;
            ask_witnesses(inner, memory, &holder).await?;
        }
    }
    let_off(inner, memory, with_nothing(inner)).await?;
    count_misses(inner, memory).await?;
    #[cfg(test)]
    inner.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// Draws from all that is named for those who withhold and have nothing of what chance drew. Those
/// who have nothing of all that cannot make up for anything: they are let off, and returned.
async fn draw_of_all(
    inner: &Arc<Inner>,
    memory: &mut Memory,
    due: &BTreeMap<NodeId, usize>,
    runs: &mut BTreeMap<NodeId, Vec<ChunkRef>>,
) -> Result<Vec<NodeId>, Failure> {
    let owes = |holder| memory.owed.get(holder).is_some_and(|owed| !owed.chunks.is_empty());
    let without = due.iter().filter(|(holder, _)| !runs.contains_key(*holder) && !owes(*holder));
    let without = without.filter(|(holder, _)| withholds(inner, holder));
    let without: BTreeMap<NodeId, usize> = without.map(|(node, most)| (*node, *most)).collect();
    if without.is_empty() {
        return Ok(Vec::new());
    }
    let (drawn, is_all) = draw_all(inner, &without).await?;
    let idle = without.into_keys().filter(|holder| is_all && !drawn.contains_key(holder));
    let idle: Vec<NodeId> = idle.collect();
    runs.extend(drawn);
    let_off(inner, memory, idle.clone()).await?;
    Ok(idle)
}

/// Those who withhold, and of whom nothing is known any more that they have.
fn with_nothing(inner: &Inner) -> Vec<NodeId> {
    inner.with_catalog(|catalog| {
        let all = catalog.audit_records().filter(|(_, record)| record.withheld.is_some());
        let idle = all.map(|(node, _)| *node).filter(|node| catalog.chunks_held_by(node) == 0);
        idle.collect()
    })
}

/// These withhold nothing any more.
async fn let_off(
    inner: &Arc<Inner>,
    memory: &mut Memory,
    holders: Vec<NodeId>,
) -> Result<(), Failure> {
    // While it is not known yet who has what, nobody has nothing.
    if holders.is_empty() || inner.with_catalog(|catalog| catalog.rebuild().is_some()) {
        return Ok(());
    }
    for node in holders {
        tracing::info!(holder = %node, "a holder has nothing any more that it could withhold");
        memory.owed.remove(&node);
        inner.record(Entry::HolderServed { node })?;
    }
    inner.commit_catalog().await
}

fn withholds(inner: &Inner, holder: &NodeId) -> bool {
    inner.with_catalog(|catalog| {
        catalog.audit_record(holder).is_some_and(|record| record.withheld.is_some())
    })
}

/// The store of which this holder's replica counts, if any does.
fn replica(catalog: &Catalog, holder: &NodeId, chunk: &ChunkId) -> Option<StoreEpoch> {
    catalog.store_of(holder).filter(|_| catalog.holders_of(chunk).contains(holder))
}

impl Owed {
    /// Nobody owes what counts no more there, as it was lost or let go. What was stored there anew
    /// is another replica, which the holder was not asked for.
    fn forget_replaced(&mut self, inner: &Inner, holder: &NodeId) {
        inner.with_catalog(|catalog| {
            let is_same = |chunk: &ChunkId| {
                replica(catalog, holder, chunk)
                    .is_some_and(|epoch| inner.asked.is_same((*holder, epoch), chunk))
            };
            self.chunks.retain(|chunk| is_same(&chunk.id));
            self.refused.retain(is_same);
        });
    }
}

/// Whom to ask now, and for how many fresh chunks.
fn due(inner: &Inner, memory: &Memory) -> BTreeMap<NodeId, usize> {
    let now_s = seconds_since_1970();
    let connected = inner.shared.watch_peers().borrow().clone();
    let is_due = |catalog: &Catalog, holder: &NodeId| {
        let record = catalog.audit_record(holder).unwrap_or_default();
        match memory.owed.get(holder) {
            _ if standing(&record, now_s) == Standing::Liar => false,
            Some(owed) => owed.next <= Instant::now(),
            None => record.withheld.is_some() || rand::rng().random_ratio(1, ONE_IN),
        }
    };
    inner.with_catalog(|catalog| {
        let holders = catalog.stores().into_iter().map(|(node, _)| node);
        let holders = holders.filter(|node| connected.contains(node) && is_due(catalog, node));
        let held = |node: &NodeId| usize::try_from(catalog.chunks_held_by(node)).unwrap_or(0);
        let some = holders.map(|node| (node, held(&node))).filter(|(_, held)| *held > 0);
        some.map(|(node, held)| (node, (held / (SAMPLE * SHARE)).clamp(1, RUN_MAX))).collect()
    })
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// The chunk.
    Whole,
    /// A word that it does not come, or something else.
    Refused,
    /// Nothing in time, or it hung up.
    Nothing,
    /// It was not asked for.
    NotAsked,
}

/// What came of all requests to one holder.
struct Tried {
    holder: NodeId,
    /// Before they went out: seconds since 1970.
    asked_s: u64,
    /// What it owed, and how often that came.
    owed: Vec<(ChunkRef, Came)>,
    fresh: Vec<(ChunkRef, Came)>,
    /// What came, and whether as fast as it takes.
    handed: Vec<(ChunkId, bool)>,
}

/// Asks one holder for what it owes, and for something fresh, one chunk after the other.
async fn try_holder(
    inner: &Arc<Inner>,
    holder: NodeId,
    owed: Vec<ChunkRef>,
    fresh: Vec<ChunkRef>,
) -> Result<Tried, Failure> {
    let mut tried = Tried {
        holder,
        asked_s: seconds_since_1970(),
        owed: Vec::new(),
        fresh: Vec::new(),
        handed: Vec::new(),
    };
    let (mut refused, count) = (0, owed.len());
    for (at, chunk) in owed.into_iter().chain(fresh).enumerate() {
        let is_asked = refused < REFUSALS_MAX && may_try(inner) && ask(inner, holder, &chunk.id);
        let began = Instant::now();
        let (came, bytes) = match is_asked {
            true => fetch(inner, holder, &chunk).await?,
            false => (Came::NotAsked, 0),
        };
        if came == Came::Whole {
            tried.handed.push((chunk.id, is_fast(bytes, began.elapsed())));
        }
        refused += usize::from(matches!(came, Came::Refused | Came::Nothing));
        let list = if at < count { &mut tried.owed } else { &mut tried.fresh };
        list.push((chunk, came));
    }
    Ok(tried)
}

/// Whether the largest chunk comes in time on a line that brought so many bytes in that time.
fn is_fast(bytes: usize, took: Duration) -> bool {
    bytes as u128 * 1_000 >= u128::from(LINE_RATE) * took.as_millis()
}

/// Notes that the holder is asked for its replica, which has to count.
fn ask(inner: &Inner, holder: NodeId, chunk: &ChunkId) -> bool {
    inner.with_catalog(|catalog| {
        let epoch = replica(catalog, &holder, chunk);
        epoch.inspect(|epoch| inner.asked.ask((holder, *epoch), *chunk)).is_some()
    })
}

/// Takes down what came of it.
async fn take(inner: &Arc<Inner>, tried: Tried, memory: &mut Memory) -> Result<(), Failure> {
    let holder = tried.holder;
    let (asked_s, is_mute) = (tried.asked_s, tried.is_mute());
    let has_all = tried.has_all();
    let is_withheld = withholds(inner, &holder);
    let (chunks, kept) = tried.not_handed_over();
    let refused: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id).collect();
    if !refused.is_empty() {
        let unanswered = prove_these(inner, holder, refused.clone()).await?;
        owes_too(inner, holder, unanswered);
    } else if is_withheld && has_all {
        inner.asked.keep(&holder, &[]);
        inner.record(Entry::HolderServed { node: holder })?;
        return inner.commit_catalog().await;
    }
    let chunks = chunks.into_iter().chain(kept).collect();
    let next = Instant::now() + OWED_EVERY;
    let (is_vouched, is_counted) = (false, false);
    let mut owed = Owed { chunks, refused, asked_s, is_mute, is_vouched, is_counted, next };
    owed.forget_replaced(inner, &holder);
    inner.asked.keep(&holder, &owed.chunks);
    // Where there is nothing to ask for, one who withholds is not drawn at each look.
    if !owed.chunks.is_empty() || is_withheld {
        memory.owed.insert(holder, owed);
    }
    Ok(())
}

/// Where a holder said nothing in time, asks others, first for what it did not hand over; and
/// itself once more where they do.
async fn ask_witnesses(
    inner: &Arc<Inner>,
    memory: &mut Memory,
    holder: &NodeId,
) -> Result<(), Failure> {
    let mut left = WITNESSES;
    for is_same in [true, false] {
        if left == 0 || !memory.lacks_witness(holder) {
            return Ok(());
        }
        let asks = match is_same {
            true => same_elsewhere(inner, memory, holder),
            false => others(inner, memory, holder, left).await?,
        };
        for (witness, chunk) in asks.into_iter().take(left) {
            if !memory.lacks_witness(holder) || !may_try(inner) {
                return Ok(());
            }
            left -= 1;
            let tried = try_holder(inner, witness, Vec::new(), vec![chunk]).await?;
            let owed = memory.owed.get(holder);
            let is_line_good = owed.is_some_and(|owed| owed.is_line_good(&tried.handed));
            take(inner, tried, memory).await?;
            if is_line_good {
                return ask_again(inner, memory, holder).await;
            }
        }
    }
    Ok(())
}

/// The line was good a moment ago. What is silent then is not the line.
async fn ask_again(
    inner: &Arc<Inner>,
    memory: &mut Memory,
    holder: &NodeId,
) -> Result<(), Failure> {
    let Some(owed) = memory.owed.remove(holder) else { return Ok(()) };
    let tried = try_holder(inner, *holder, owed.chunks, Vec::new()).await?;
    take(inner, tried, memory).await?;
    if let Some(owed) = memory.owed.get_mut(holder) {
        owed.is_vouched = owed.lacks_witness();
    }
    Ok(())
}

/// Those who are there, but for this holder and those who owe something themselves, in any order.
fn witnesses(inner: &Inner, memory: &Memory, holder: &NodeId) -> Vec<NodeId> {
    let now_s = seconds_since_1970();
    let connected = inner.shared.watch_peers().borrow().clone();
    let mut all: Vec<NodeId> = inner.with_catalog(|catalog| {
        let is_one = |node: &NodeId| {
            let record = catalog.audit_record(node).unwrap_or_default();
            node != holder
                && connected.contains(node)
                && !memory.owed.contains_key(node)
                && standing(&record, now_s) != Standing::Liar
                && catalog.chunks_held_by(node) > 0
        };
        catalog.stores().into_iter().map(|(node, _)| node).filter(is_one).collect()
    });
    all.shuffle(&mut rand::rng());
    all
}

/// What it did not hand over, at those who have it too: each of them once.
fn same_elsewhere(inner: &Inner, memory: &Memory, holder: &NodeId) -> Vec<(NodeId, ChunkRef)> {
    let Some(owed) = memory.owed.get(holder) else { return Vec::new() };
    let witnesses = witnesses(inner, memory, holder).into_iter();
    let asks = witnesses.filter_map(|witness| {
        let mut refused = owed.chunks.iter().filter(|chunk| owed.refused.contains(&chunk.id));
        let same = inner.with_catalog(|catalog| {
            refused.find(|chunk| catalog.holders_of(&chunk.id).contains(&witness))
        });
        same.map(|chunk| (witness, chunk.duplicate()))
    });
    asks.collect()
}

/// Something of what some of the others have.
async fn others(
    inner: &Arc<Inner>,
    memory: &Memory,
    holder: &NodeId,
    count: usize,
) -> Result<Vec<(NodeId, ChunkRef)>, Failure> {
    let others = witnesses(inner, memory, holder).into_iter().take(count);
    let others: BTreeMap<NodeId, usize> = others.map(|node| (node, 1)).collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let runs = draw(inner, &others).await?;
    Ok(runs.into_iter().flat_map(|(node, run)| run.into_iter().map(move |at| (node, at))).collect())
}

impl Tried {
    fn all(&self) -> impl Iterator<Item = Came> {
        self.owed.iter().chain(&self.fresh).map(|(_, came)| *came)
    }

    fn has_served(&self) -> bool {
        self.all().any(|came| came == Came::Whole)
    }

    /// All that it was to be asked for came, and some of that was fresh: who knows what it is asked
    /// for again hands that over.
    fn has_all(&self) -> bool {
        !self.fresh.is_empty() && self.all().all(|came| came == Came::Whole)
    }

    fn is_mute(&self) -> bool {
        !self.all().any(|came| came == Came::Refused)
    }

    /// What it did not hand over now; and what it still owes and was not asked for, once each. One
    /// that is late among others that came has a slow line.
    fn not_handed_over(self) -> (Vec<ChunkRef>, Vec<ChunkRef>) {
        let is_slow = self.has_served();
        let (mut refused, mut kept): (Vec<ChunkRef>, Vec<ChunkRef>) = (Vec::new(), Vec::new());
        let fresh = self.fresh.into_iter().map(|(chunk, came)| (chunk, came, false));
        let owed = self.owed.into_iter().map(|(chunk, came)| (chunk, came, true));
        for (chunk, came, is_owed) in owed.chain(fresh) {
            let is_refused = came == Came::Refused || (came == Came::Nothing && !is_slow);
            if refused.iter().chain(&kept).any(|other| other.id == chunk.id) {
                continue;
            }
            if is_refused {
                refused.push(chunk);
            } else if is_owed && came != Came::Whole {
                kept.push(chunk);
            }
        }
        (refused, kept)
    }
}

/// Writes down who showed that it has what it did not hand over.
async fn count_misses(inner: &Arc<Inner>, memory: &mut Memory) -> Result<(), Failure> {
    let now_s = seconds_since_1970();
    for (holder, owed) in &mut memory.owed {
        owed.forget_replaced(inner, holder);
    }
    let has_it = |catalog: &Catalog, holder: &NodeId, owed: &Owed| {
        let is_since = |at_s: u64| (owed.asked_s..=now_s).contains(&at_s);
        owed.refused.iter().any(|chunk| {
            let mut proofs = catalog.proofs_of(chunk);
            proofs.any(|(node, at_s)| node == *holder && at_s.is_some_and(is_since))
        })
    };
    let is_miss = |holder: &NodeId, owed: &Owed| {
        let is_own = !owed.is_mute || owed.is_vouched;
        is_own && !owed.is_counted && inner.with_catalog(|catalog| has_it(catalog, holder, owed))
    };
    let missed = memory.owed.iter().filter(|(holder, owed)| is_miss(holder, owed));
    let missed: Vec<NodeId> = missed.map(|(holder, _)| *holder).collect();
    for holder in &missed {
        tracing::warn!(%holder, "a holder withholds what it proves");
        inner.record(Entry::HolderWithheld { node: *holder, at_s: now_s })?;
        if let Some(owed) = memory.owed.get_mut(holder) {
            owed.is_counted = true;
        }
    }
    if missed.is_empty() { Ok(()) } else { inner.commit_catalog().await }
}

/// Also gives how many bytes came.
///
/// # Errors
/// The node stops.
async fn fetch(inner: &Inner, holder: NodeId, chunk: &ChunkRef) -> Result<(Came, usize), Failure> {
    let job = FetchJob {
        // The drive loop sets both.
        ticket: Ticket(0),
        deadline: Time::default(),
        holders: vec![holder],
        only: true,
        id: chunk.id,
        locality: chunk.locality,
        read: chunk.ck.read_secret(),
    };
    let (sender, mut heard) = mpsc::channel(1);
    let (events, places) = (JobEvents::new(sender, 0), Places::Holders);
    let command = DriveCommand::Fetch { places, job, events, patience: PATIENCE };
    inner.fetches.send(command).await.map_err(|_| failures::stopped())?;
    while let Some((_, event)) = heard.recv().await {
        match event {
            OwnerEvent::Fetched { sealed, .. } => return Ok((Came::Whole, sealed.len())),
            OwnerEvent::NotFetched { asked, .. } => {
                let is_word = |why: &FetchFailure| match why {
                    FetchFailure::WrongBytes
                    | FetchFailure::Damaged
                    | FetchFailure::NotHeld
                    | FetchFailure::Busy => true,
                    FetchFailure::Late | FetchFailure::Unreachable => false,
                };
                let has_spoken = asked.iter().any(|(_, why)| is_word(why));
                return Ok((if has_spoken { Came::Refused } else { Came::Nothing }, 0));
            }
            _ => {}
        }
    }
    Err(failures::stopped())
}

#[cfg(test)]
mod tests;
