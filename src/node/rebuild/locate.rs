//! Looks for nodes that hold chunks of which too few holders are known, on the chunks' topics.
//!
//! Heads and checkpoints name who held something when they were written. Who was given chunks since
//! then, by whoever heals or by another device, nobody names; and on a device that was recovered
//! nobody asks such a node for its list. It is found by any chunk that it has: so of those that are
//! short as many as [`CHUNKS`] are asked for, drawn from all, and not the first of them, which may
//! all be at another one.
//!
//! What a node answers costs it nothing and counts for nothing: its list is asked for, as of
//! anybody who is named, and what that lists is audited. It is asked only for news: that it has a
//! chunk which it is not known to have, and was not found to have lost.
//!
//! What a node that lies comes to: it may take one of the places of those whose lists are read.
//! Half of them ([`PLACES`]) are for those that heads and checkpoints name.
//!
//! It happens where nobody is left whose list can be asked for, and before an audit or healing: at
//! most once in [`LOCATE_EVERY`], where nobody asked for it ever more rarely as long as it finds
//! nobody, and nothing is said on any topic where nothing is short. The snapshots' trees are read
//! for it, from the copies here as far as they are here.

use super::HOLDERS_MAX;
use crate::core::owner::{LocateJob, OwnerEvent, SoughtChunk};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use crate::node::needed::{Targets, Within, named};
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, Listing, Rebuild, RebuildNote};
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Chunks that are asked for at a time: four requests where all have one locality.
const CHUNKS: usize = 128;

/// How long answers are waited for: three publications are out after 4 s.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// It is done no more often.
const LOCATE_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(600) };

/// By itself it is done at least so often, while somebody may be missing.
const LOCATE_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a part of a snapshot's tree may take, and all of them.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);
const READ_PATIENCE: Duration = Duration::from_secs(600);

/// Whoever is found is not noted where so many holders are known: the other places are for those
/// that are named.
const PLACES: usize = HOLDERS_MAX / 2;

/// Who has which chunks, as each says itself.
pub(super) type Found = BTreeMap<NodeId, BTreeSet<ChunkId>>;

/// Who wants it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::node) enum By {
    /// The user.
    User,
    /// Nobody.
    #[default]
    Itself,
}

/// When it was done last, and how long to wait where nobody asks for it.
#[derive(Debug, Default)]
pub(in crate::node) struct Pace {
    last: Option<Instant>,
    pause: Duration,
}

impl Pace {
    /// Whether it may be done now; then it is.
    fn begin(&mut self, by: By, now: Instant) -> bool {
        let pause = match by {
            By::User => LOCATE_EVERY,
            By::Itself => self.pause.max(LOCATE_EVERY),
        };
        let is_due = self.last.is_none_or(|last| now.duration_since(last) >= pause);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    fn end(&mut self, has_found: bool) {
        let longer = LOCATE_EVERY_MAX.min(2 * self.pause.max(LOCATE_EVERY));
        self.pause = if has_found { LOCATE_EVERY } else { longer };
    }

    /// Whether it was ever done.
    pub(in crate::node) fn has_begun(&self) -> bool {
        self.last.is_some()
    }
}

/// The node's.
pub(super) fn pace(inner: &Inner) -> MutexGuard<'_, Pace> {
    inner.located.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for holders, where that is due and anything is short. Returns who says that it has what it
/// was not known to have; nothing of it is taken down.
///
/// # Errors
/// The node stops.
pub(super) async fn locate(inner: &Arc<Inner>, by: By) -> Result<Found, Failure> {
    let is_alone = inner.shared.watch_peers().borrow().is_empty();
    if is_alone || !pace(inner).begin(by, Instant::now()) {
        return Ok(Found::new());
    }
    let sought = short(inner).await?;
    #[cfg(test)]
    inner.rebuild.located.fetch_add(sought.len(), std::sync::atomic::Ordering::Relaxed);
    let mut found = Found::new();
    if !sought.is_empty() {
        let count = sought.len();
        found = ask(inner, sought).await?;
        let nodes = found.len();
        news(inner, &mut found);
        let new = found.len();
        tracing::info!(count, nodes, new, "holders were looked for of what is short");
    }
    pace(inner).end(!found.is_empty());
    Ok(found)
}

/// Notes those who were found, for their lists to be read. Returns whether there is anybody.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) fn note(inner: &Inner, found: &Found) -> Result<bool, Failure> {
    let new: Vec<NodeId> = inner.with_catalog(|catalog| {
        let Some(Rebuild { holders, .. }) = catalog.rebuild() else { return Vec::new() };
        let mut new: Vec<NodeId> =
            found.keys().filter(|node| !holders.contains_key(node)).copied().collect();
        // Nobody gets a place by its name.
        let point = rand::random();
        new.sort_by_cached_key(|node| distance(node.as_bytes(), &point));
        new.truncate(PLACES.saturating_sub(holders.len()));
        new
    });
    let note = |node: &NodeId| Entry::Rebuild(RebuildNote::Listing(Listing::new(*node)));
    new.iter().try_for_each(|node| inner.record(note(node)))?;
    Ok(!new.is_empty())
}

/// Keeps what is news.
fn news(inner: &Inner, found: &mut Found) {
    inner.with_catalog(|catalog| {
        let lost: BTreeSet<(NodeId, ChunkId)> = catalog
            .losses()
            .filter(|(_, node, ..)| found.contains_key(node))
            .map(|(id, node, ..)| (*node, *id))
            .collect();
        found.retain(|node, ids| {
            ids.retain(|id| {
                !lost.contains(&(*node, *id)) && !catalog.holders_of(id).contains(node)
            });
            !ids.is_empty() && !catalog.is_liar(node)
        });
    });
}

/// Chunks that something names and fewer nodes are known to have than were wished for. Empty where
/// reading takes too long.
async fn short(inner: &Arc<Inner>) -> Result<Vec<SoughtChunk>, Failure> {
    let reached = Short {
        targets: Targets::wished(inner).await,
        inner: Arc::clone(inner),
        within: Within::default(),
        point: rand::random(),
        drawn: BTreeMap::new(),
    };
    // The reading ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel::<()>(1);
    let reading = named(inner, None, reached, (CHUNK_PATIENCE, progress));
    let Ok(read) = timeout(READ_PATIENCE, reading).await else {
        tracing::info!("what is short was not read to the end");
        return Ok(Vec::new());
    };
    let sought = |chunk: ChunkRef| {
        let ChunkRef { ck, id, locality, .. } = chunk;
        SoughtChunk { id, locality, admin: inner.keys.admin.chunk_secret(&ck) }
    };
    Ok(read?.reached.drawn.into_values().map(sought).collect())
}

/// Draws from what is short: those whose ids are nearest to a point that is drawn. Ids are hashes,
/// so all are as likely, however often each is named.
struct Short {
    inner: Arc<Inner>,
    targets: Targets,
    within: Within,
    point: [u8; 32],
    /// By their distances.
    drawn: BTreeMap<[u8; 32], ChunkRef>,
}

impl Reached for Short {
    fn within(&mut self, part: Part<'_>) {
        self.within.enter(part);
    }

    fn reach(&mut self, reference: &ChunkRef) {
        let id = reference.id;
        let distance = distance(id.as_bytes(), &self.point);
        let is_full = self.drawn.len() >= CHUNKS;
        let furthest = self.drawn.last_key_value().map(|(furthest, _)| *furthest);
        if is_full && furthest.is_some_and(|furthest| furthest <= distance) {
            return;
        }
        let wanted = usize::from(self.targets.of(self.within.snapshot()));
        let is_short = self.inner.with_catalog(|catalog| {
            !catalog.is_doomed(&id) && catalog.holders_of(&id).len() < wanted
        });
        if !is_short {
            return;
        }
        let is_new = self.drawn.insert(distance, reference.duplicate()).is_none();
        if is_new && is_full {
            self.drawn.pop_last();
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

/// How far two are apart, in a metric in which each has one at any distance: bit by bit.
fn distance(of: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
    let mut distance = *of;
    distance.iter_mut().zip(point).for_each(|(byte, other)| *byte ^= other);
    distance
}

/// Asks on the topics.
async fn ask(inner: &Inner, wanted: Vec<SoughtChunk>) -> Result<Found, Failure> {
    // The drive loop sets both.
    let (ticket, deadline) = (Ticket(0), Time::default());
    let job = LocateJob { ticket, wanted, deadline };
    let (sender, mut heard) = mpsc::channel(EVENTS_QUEUED_MAX);
    let events = JobEvents::new(sender, 0);
    let command = DriveCommand::Locate { job, events, patience: PATIENCE };
    inner.questions.send(command).await.map_err(|_| failures::stopped())?;
    let mut found = Found::new();
    while let Some((_, event)) = heard.recv().await {
        match event {
            OwnerEvent::Located { node, ids, .. } => found.entry(node).or_default().extend(ids),
            OwnerEvent::LocateDone { .. } => return Ok(found),
            _ => {}
        }
    }
    Err(failures::stopped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_each_time_that_nobody_is_found_unless_the_user_asks() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!(!pace.has_begun() && pace.begin(By::Itself, now) && pace.has_begun());
        let mut waits = |pace: &mut Pace, by, times: u32| {
            let due = now + LOCATE_EVERY * times;
            assert!(!pace.begin(by, due - Duration::from_millis(1)), "{times}");
            assert!(pace.begin(by, due), "{times}");
            now = due;
        };
        for times in [2, 4, 8] {
            pace.end(false);
            waits(&mut pace, By::Itself, times);
        }
        waits(&mut pace, By::User, 1);
        pace.end(true);
        waits(&mut pace, By::Itself, 1);
        (0..100).for_each(|_| pace.end(false));
        assert_eq!(pace.pause, LOCATE_EVERY_MAX);
    }

    #[test]
    fn each_has_one_at_any_distance() {
        let (zero, point) = ([0; 32], [7; 32]);
        assert_eq!(distance(&point, &point), zero);
        assert_eq!(distance(&distance(&[9; 32], &point), &point), [9; 32]);
    }
}
