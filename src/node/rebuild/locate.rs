//! Looks for nodes that hold chunks of which too few holders are known, on the chunks' topics.
//!
//! Heads and checkpoints name who held something when they were written. Who was given chunks since
//! then, by whoever heals or by another device, nobody names; and on a device that was recovered
//! nobody asks such a node for its list. It is found by any chunk that it has: so of those that are
//! short as many as [`CHUNKS`] are asked for, drawn from all, and not the first of them, which may
//! all be at another one.
//!
//! What a node answers costs it nothing and counts for nothing. Whoever can be connected to within
//! [`CONNECT_WITHIN`] is asked for what it says that it has, and then for its list, as anybody who
//! is connected may be; what that lists is audited. It is asked only for news: that it has a chunk
//! which it is not known to have, and was not found to have lost.
//!
//! What a node that lies comes to: it is asked, and read one list of. It is no holder that the
//! rebuilding would wait for, and makes up for none that is missing: only who proved something in
//! an audit does.
//!
//! It happens where nobody is left whose list can be asked for, and before an audit or healing: a
//! request goes out at most once in [`LOCATE_EVERY`], where no user asked for it ever more rarely
//! as long as nothing comes of it, and none where nothing is short. The snapshots' trees are read
//! for it, from the copies here as far as they are here.

use crate::core::owner::{LocateJob, OwnerEvent, SoughtChunk};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::jobs::{DriveCommand, EVENTS_QUEUED_MAX, JobEvents};
use crate::node::needed::{Targets, Within, named};
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, ListingState};
use crate::repo::mark::{Part, Reached};
use crate::repo::reference::ChunkRef;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Chunks that are asked for at a time: four requests where all have one locality.
const CHUNKS: usize = if cfg!(test) { 2 } else { 128 };

/// How long answers are waited for: three publications are out after 4 s.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// It is done no more often.
pub(super) const LOCATE_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(600) };

/// By itself it is done at least so often, while somebody may be missing.
pub(super) const LOCATE_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long those are waited for that answered and are being dialed.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long a part of a snapshot's tree may take, and all of them.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);
const READ_PATIENCE: Duration = Duration::from_secs(600);

/// Whom to ask for which chunks: who says that it has them, or may have them.
pub(super) type Claims = BTreeMap<NodeId, BTreeSet<ChunkId>>;

/// Who wants it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum By {
    /// The user.
    User,
    /// Nobody.
    Itself,
}

/// When a request went out last, and how long to wait where no user asks for it.
#[derive(Debug, Default)]
pub(in crate::node) struct Pace {
    asked: Option<Instant>,
    pause: Duration,
}

impl Pace {
    /// Whether a request may go out now; then it does.
    fn begin(&mut self, by: By, now: Instant) -> bool {
        let pause = match by {
            By::User => LOCATE_EVERY,
            By::Itself => self.pause.max(LOCATE_EVERY),
        };
        let is_due = self.asked.is_none_or(|asked| now.duration_since(asked) >= pause);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// It is over, and anything was taken down or not: an offer alone is nothing.
    pub(super) fn end(&mut self, has_come: bool) {
        let longer = LOCATE_EVERY_MAX.min(2 * self.pause.max(LOCATE_EVERY));
        self.pause = if has_come { LOCATE_EVERY } else { longer };
    }
}

/// The node's.
pub(super) fn pace(inner: &Inner) -> MutexGuard<'_, Pace> {
    inner.located.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for holders of these, where that is due. Returns who is connected and says that it has
/// what it was not known to have, for [`Pace::end`] to tell what became of it; `None` where nobody
/// was asked.
///
/// # Errors
/// The node stops.
pub(super) async fn locate(
    inner: &Arc<Inner>,
    by: By,
    short: Vec<SoughtChunk>,
) -> Result<Option<Claims>, Failure> {
    let is_alone = inner.shared.watch_peers().borrow().is_empty();
    if short.is_empty() || is_alone || !pace(inner).begin(by, Instant::now()) {
        return Ok(None);
    }
    #[cfg(test)]
    inner.rebuild.located.fetch_add(short.len(), std::sync::atomic::Ordering::Relaxed);
    let count = short.len();
    let mut found = ask(inner, short).await?;
    let nodes = found.len();
    news(inner, &mut found);
    let mut peers = inner.shared.watch_peers();
    let are_connected = |peers: &BTreeSet<NodeId>| found.keys().all(|node| peers.contains(node));
    // Whoever cannot be reached is nobody to ask.
    drop(timeout(CONNECT_WITHIN, peers.wait_for(are_connected)).await);
    found.retain(|node, _| inner.shared.is_connected(node));
    let new = found.len();
    tracing::info!(count, nodes, new, "holders were looked for of what is short");
    Ok(Some(found))
}

/// Keeps what is news, of those whose lists are not being read, or were given up.
fn news(inner: &Inner, found: &mut Claims) {
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
            let listing = catalog.rebuild().and_then(|rebuild| rebuild.holders.get(node));
            let is_listed = listing.is_none_or(|listing| listing.state == ListingState::Whole);
            !ids.is_empty() && is_listed && !catalog.is_liar(node)
        });
    });
}

/// Chunks that something names and fewer nodes are known to have than were wished for, some of
/// them. None where reading takes too long: whoever is named is not to wait for that.
///
/// # Errors
/// The node stops.
pub(super) async fn short(inner: &Arc<Inner>) -> Result<Vec<SoughtChunk>, Failure> {
    // The reading ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel::<()>(1);
    let reading = named(inner, None, Short::new(inner).await, (CHUNK_PATIENCE, progress));
    let Ok(read) = timeout(READ_PATIENCE, reading).await else {
        tracing::info!("what is short was not read to the end");
        return Ok(Vec::new());
    };
    Ok(read?.reached.into_sought())
}

/// Draws from what is short: those whose ids are nearest to a point that is drawn. Ids are hashes,
/// so all are as likely, however often each is named.
pub(super) struct Short {
    inner: Arc<Inner>,
    targets: Targets,
    within: Within,
    point: [u8; 32],
    /// By their distances; with how many holders each shall have.
    drawn: BTreeMap<[u8; 32], (ChunkRef, usize)>,
}

impl Short {
    /// Nothing yet.
    pub(super) async fn new(inner: &Arc<Inner>) -> Self {
        Self {
            targets: Targets::wished(inner).await,
            inner: Arc::clone(inner),
            within: Within::default(),
            point: rand::random(),
            drawn: BTreeMap::new(),
        }
    }

    /// What was drawn and is short by now.
    pub(super) fn into_sought(self) -> Vec<SoughtChunk> {
        let Self { inner, drawn, .. } = self;
        let mut sought: Vec<(ChunkRef, usize)> = drawn.into_values().collect();
        inner.with_catalog(|catalog| {
            sought.retain(|(chunk, wanted)| is_short(catalog, &chunk.id, *wanted));
        });
        let sought = sought.into_iter().map(|(ChunkRef { ck, id, locality, .. }, _)| SoughtChunk {
            id,
            locality,
            admin: inner.keys.admin.chunk_secret(&ck),
        });
        sought.collect()
    }
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
        if !self.inner.with_catalog(|catalog| is_short(catalog, &id, wanted)) {
            return;
        }
        match self.drawn.entry(distance) {
            Entry::Occupied(known) => {
                let (_, most) = known.into_mut();
                *most = wanted.max(*most);
            }
            Entry::Vacant(free) => {
                free.insert((reference.duplicate(), wanted));
                if is_full {
                    self.drawn.pop_last();
                }
            }
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

fn is_short(catalog: &Catalog, id: &ChunkId, wanted: usize) -> bool {
    !catalog.is_doomed(id) && catalog.holders_of(id).len() < wanted
}

/// How far two are apart, in a metric in which each has one at any distance: bit by bit.
pub(super) fn distance(of: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
    let mut distance = *of;
    distance.iter_mut().zip(point).for_each(|(byte, other)| *byte ^= other);
    distance
}

/// Asks on the topics.
async fn ask(inner: &Inner, wanted: Vec<SoughtChunk>) -> Result<Claims, Failure> {
    // The drive loop sets both.
    let (ticket, deadline) = (Ticket(0), Time::default());
    let job = LocateJob { ticket, wanted, deadline };
    let (sender, mut heard) = mpsc::channel(EVENTS_QUEUED_MAX);
    let events = JobEvents::new(sender, 0);
    let command = DriveCommand::Locate { job, events, patience: PATIENCE };
    inner.questions.send(command).await.map_err(|_| failures::stopped())?;
    let mut found = Claims::new();
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
    fn it_waits_longer_each_time_that_nothing_comes_of_it_unless_the_user_asks() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!(pace.begin(By::Itself, now) && !pace.begin(By::User, now));
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
