//! How snapshots are stored, in one word each: [`Word`](crate::repo::evidence::Word) says which
//! there are, and what is known of the replicas then. Of the newest snapshot of each set of paths,
//! also of other devices as far as it is known here who holds what they name; and of all files that
//! were put, together.
//!
//! # How fresh a word is
//! A running node looks by itself, and whoever asks is told what the last look came to, at once:
//!
//! | what happens | what is told, and when |
//! |---|---|
//! | a replica, its proof, a store or a holder counts no more | nothing is told as stored or safe |
//! | two holders turn out to share a failure domain | the same |
//! | a backup or a put ends | as it noted; a look after the first audits |
//! | the same, and a holder of anything counts no more | at risk until it is looked at |
//! | an audit or healing ends | a look, within [`LOOK_EVERY`] |
//! | a proof gets older than 45 days, a silent holder suspect | told without a look |
//! | another device makes a snapshot | a look within an hour |
//!
//! After a loss the next look says which snapshots are hit, and the others are told as before.
//!
//! A look reads trees, from the copies here, and asks nobody: what is known comes from acks, audits
//! and losses. What is safe, and of which nothing was found to be worse, is looked at once a day;
//! all others when anything changed. Looks take at most one part in [`SHARE`] of the time, so of a
//! snapshot that takes a minute to read a better word comes within 20 minutes of its cause; a worse
//! one is told at once. Memory: 16 bytes for each tree chunk of the snapshot that is looked at.
//!
//! The lists that lead to snapshots are not looked at: of the head and who keeps it `status` tells
//! beside. Of what was put, those files are looked at that their capabilities lead to.

mod told;

use super::inner::Inner;
use super::needed::{Named, Targets, named, named_files};
use super::overview::Noted;
use super::put::seconds_since_1970;
use super::report::Failure;
use super::{failures, memory, prune};
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::repo::catalog::{BackupMade, Catalog, SnapshotEvidence, Standing, standing};
use crate::repo::evidence::{Counts, Held, Subject, apart};
use crate::repo::mark::Reached;
use crate::repo::reference::ChunkRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
pub(super) use told::Teller;

/// How often it is seen whether anything changed.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };

/// Everything that is due is looked at so often whatever happens.
const HOURLY: Duration = Duration::from_secs(3_600);

/// The time between two looks is at least so many times what the last one took,
const SHARE: u32 = 20;

/// and so long.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// First audits are waited for so long.
const SETTLED: Duration =
    if cfg!(test) { Duration::from_secs(5) } else { Duration::from_secs(600) };

/// How long a part of a snapshot's tree may take to come.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);

/// What is safe is looked at so often, in seconds.
const DAY_S: u64 = 24 * 3_600;

/// What a look would find depends on nothing else but what other devices make.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    losses: u64,
    chunks: u64,
    /// Each holder: how many chunks, whether one was never audited, where it stands, and when that
    /// was heard.
    holders: Vec<(NodeId, u64, bool, Standing, Option<u64>)>,
    /// How often was told which of them share a failure domain.
    drawn: u64,
    made: Vec<(SnapshotId, u8, u8)>,
    /// The last of the files that were put, and how many there are.
    puts: (u64, usize),
}

impl Known {
    fn of(inner: &Inner) -> Self {
        let now_s = seconds_since_1970();
        inner.with_catalog(|catalog| {
            let holder = |(node, _): (NodeId, _)| {
                let record = catalog.audit_record(&node).unwrap_or_default();
                let heard_s = record.heard_s().max(record.silence.map(|it| it.last_s));
                let (chunks, is_new) =
                    (catalog.chunks_held_by(&node), catalog.has_unaudited(&node));
                (node, chunks, is_new, standing(&record, now_s), heard_s)
            };
            let made = |made: &BackupMade| (made.snapshot, made.replicas, made.target);
            let roots = catalog.roots();
            Self {
                losses: catalog.losses_seen(),
                chunks: catalog.chunks(),
                holders: catalog.stores().into_iter().map(holder).collect(),
                drawn: catalog.near().1,
                made: catalog.made().into_iter().map(made).collect(),
                puts: (roots.iter().map(|root| root.job.0).max().unwrap_or(0), roots.len()),
            }
        })
    }

    /// No first audit is to be waited for: nobody asks liars, and who is away is not asked yet.
    fn is_settled(&self, inner: &Inner) -> bool {
        let waits = |(node, _, is_new, standing, _): &(NodeId, _, bool, Standing, _)| {
            *is_new && *standing != Standing::Liar && inner.shared.is_connected(node)
        };
        !self.holders.iter().any(waits)
    }

    /// Whether a holder counts no more that did then. A look in the seconds between a question that
    /// was in vain and the note of that is told from a later one by this alone.
    fn has_fewer_than(&self, before: &Self) -> bool {
        let counts = |known: &Self, of: &NodeId| {
            known.holders.iter().any(|(node, .., standing, _)| node == of && standing.counts())
        };
        before.holders.iter().any(|(node, ..)| counts(before, node) && !counts(self, node))
    }
}

/// What is remembered while the node runs.
#[derive(Debug, Default)]
struct Memory {
    /// When the last look that came to its end began, and what was known then.
    last: Option<(Instant, Known)>,
    /// Since when something is known that was not then.
    changed: Option<Instant>,
    /// There is no look before.
    rests_until: Option<Instant>,
    /// How many looks in a row did not come to their ends.
    failed: u32,
}

impl Memory {
    /// What is known, where it is worth a look.
    fn due(&mut self, inner: &Inner) -> Option<Known> {
        let now = Instant::now();
        if self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        let known = Known::of(inner);
        let is_known = |(at, before): &(Instant, Known)| *before == known && now < *at + HOURLY;
        if self.last.as_ref().is_some_and(is_known) {
            self.changed = None;
            return None;
        }
        let changed = *self.changed.get_or_insert(now);
        // After a loss nobody is waited for: until it is looked at all are told to be at risk.
        let is_urgent = inner
            .with_catalog(|catalog| Teller::new(catalog, seconds_since_1970()).waits_for_a_look());
        let is_settled = is_urgent || known.is_settled(inner) || now >= changed + SETTLED;
        is_settled.then_some(known)
    }

    /// The look that began at `began` ended, at its end or not.
    fn ended(&mut self, began: Instant, known: Known, is_whole: bool) {
        let now = Instant::now();
        self.failed = if is_whole { 0 } else { self.failed.saturating_add(1) };
        let again = PAUSE.saturating_mul(2_u32.saturating_pow(self.failed));
        let pause = again.max((now - began).saturating_mul(SHARE)).min(HOURLY);
        self.rests_until = Some(now + pause);
        if is_whole {
            (self.last, self.changed) = (Some((began, known)), None);
        }
    }
}

/// Looks for the node's life.
pub(super) async fn look_later(inner: Weak<Inner>) {
    let mut memory = Memory::default();
    loop {
        sleep(LOOK_EVERY).await;
        let Some(node) = inner.upgrade() else { return };
        if node.tends()
            && let Some(known) = memory.due(&node)
        {
            let began = Instant::now();
            let fewer = memory.last.as_ref().is_some_and(|(_, last)| known.has_fewer_than(last));
            let is_whole = match look(&node, &known, fewer).await {
                Ok(is_whole) => is_whole,
                Err(failure) => {
                    tracing::info!(why = failure.why, "the replicas were not looked at");
                    false
                }
            };
            memory.ended(began, known, is_whole);
        }
    }
}

/// Whether a look may find anything else than the last one.
fn is_due(subject: &Subject, catalog: &Catalog, now_s: u64) -> bool {
    let teller = Teller::new(catalog, now_s);
    subject.is_due(catalog.evidence_of(&subject.snapshot), &teller.words)
}

/// Looks at all that is due, and where `fewer` holders count at all. False where some of it could
/// not be read.
async fn look(inner: &Arc<Inner>, known: &Known, fewer: bool) -> Result<bool, Failure> {
    // Who became a holder just now may be near another one.
    memory::draw_near(inner).await;
    let now_s = seconds_since_1970();
    let targets = Targets::wished(inner).await;
    let is_filled = inner.with_catalog(|catalog| catalog.rebuild().is_none());
    let all = newest(inner).await?;
    forget_others(inner, &all)?;
    let mut is_whole = true;
    for (snapshot, at, made) in all {
        let subject = Subject {
            snapshot,
            target: targets.of(Some(&snapshot)).max(1),
            was_whole: made.as_ref().is_some_and(|made| !made.is_short()),
            is_own: made.is_some(),
            covers: 0,
        };
        let is_due = fewer || inner.with_catalog(|catalog| is_due(&subject, catalog, now_s));
        // Of what others made more is known once all holders were asked.
        if !is_due || (!subject.is_own && !is_filled) {
            continue;
        }
        let all = All::new(inner, subject.target, now_s);
        // The reading ends when nobody is left who listens.
        let (progress, _nobody) = mpsc::channel::<()>(1);
        let found = named(inner, Some((snapshot, at)), all, (CHUNK_PATIENCE, progress)).await?;
        is_whole &= take(inner, &subject, found, (known.losses, now_s))?;
    }
    is_whole &= look_at_puts(inner, (known.losses, fewer), now_s).await?;
    inner.commit_catalog().await?;
    Ok(is_whole)
}

/// A snapshot, where its chunk is, and what is noted of it where this device made it.
type Newest = (SnapshotId, ChunkRef, Option<BackupMade>);

/// The newest snapshot of each set of paths, as far as the lists of snapshots lie here.
async fn newest(inner: &Arc<Inner>) -> Result<Vec<Newest>, Failure> {
    let (noted, mut made) = inner.with_catalog(|catalog| {
        let made = catalog.made().into_iter().map(|made| (made.snapshot, made.clone()));
        (Noted::of(catalog), made.collect::<BTreeMap<_, _>>())
    });
    let node = Arc::clone(inner);
    let ids: BTreeSet<SnapshotId> = made.keys().copied().collect();
    let read = move || noted.newest(&node.keys, &node.meta, &ids);
    let live = tokio::task::spawn_blocking(read).await;
    let live = live.map_err(|error| failures::died("the reading thread", &error))?;
    Ok(live.into_iter().map(|(id, at)| (id, at, made.remove(&id))).collect())
}

/// What other devices made, and is not the newest any more, is told of no more.
fn forget_others(inner: &Inner, all: &[Newest]) -> Result<(), Failure> {
    let looked_at: BTreeSet<&SnapshotId> = all.iter().map(|(id, ..)| id).collect();
    let forgotten = inner.with_catalog(|catalog| {
        let ids = catalog.evidence().map(|last| last.snapshot);
        let others = ids.filter(|id| *id != SnapshotEvidence::PUTS && !looked_at.contains(id));
        let others: Vec<SnapshotId> = others.filter(|id| catalog.made_as(id).is_none()).collect();
        let losses = catalog.losses_seen();
        others.into_iter().try_for_each(|id| {
            catalog.record_evidence(SnapshotEvidence::nothing(id), losses).map(drop)
        })
    });
    forgotten.map_err(|error| failures::catalog(&error))
}

/// Looks at the files that were put, by how many replicas were wanted of them.
async fn look_at_puts(
    inner: &Arc<Inner>,
    (losses, fewer): (u64, bool),
    now_s: u64,
) -> Result<bool, Failure> {
    let (covers, lots) = inner.with_catalog(|catalog| prune::files_stored(catalog));
    let snapshot = SnapshotEvidence::PUTS;
    if lots.is_empty() {
        let is_told = inner.with_catalog(|catalog| catalog.evidence_of(&snapshot).is_some());
        let nothing = SnapshotEvidence::nothing(snapshot);
        if is_told {
            let noted = inner.with_catalog(|catalog| catalog.record_evidence(nothing, losses));
            noted.map_err(|error| failures::catalog(&error))?;
        }
        return Ok(true);
    }
    let mut subject = Subject { snapshot, target: 0, was_whole: true, is_own: true, covers };
    if !fewer && !inner.with_catalog(|catalog| is_due(&subject, catalog, now_s)) {
        return Ok(true);
    }
    let mut found: Option<Named<All>> = None;
    for (target, files) in lots {
        let all = All::new(inner, target.max(1), now_s);
        let (progress, _nobody) = mpsc::channel::<()>(1);
        let of = named_files(inner, files, all, (CHUNK_PATIENCE, progress)).await?;
        match &mut found {
            Some(found) => {
                found.reached.counts.absorb(&of.reached.counts, true);
                found.unread = found.unread.saturating_add(of.unread);
            }
            None => found = Some(of),
        }
    }
    let Some(found) = found else { return Ok(true) };
    subject.target = found.reached.counts.target;
    take(inner, &subject, found, (losses, now_s))
}

/// Notes what a look from `now_s` found. False where it could not be read to its end: then nothing
/// but a loss is certain.
fn take(
    inner: &Inner,
    subject: &Subject,
    found: Named<All>,
    (losses, now_s): (u64, u64),
) -> Result<bool, Failure> {
    let All { counts, unknown, .. } = found.reached;
    if found.unread > 0 {
        let (snapshot, why) = (subject.snapshot, found.why.unwrap_or_default());
        tracing::info!(%snapshot, why, "what a snapshot names was not read to its end");
    }
    let is_certain = found.unread == 0 || counts.lost > 0;
    if is_certain && (subject.is_own || unknown == 0) {
        note(inner, subject, &counts, (losses, now_s))?;
    }
    Ok(found.unread == 0)
}

/// Takes it over, if it says more than the last one, and nothing was found to be gone meanwhile.
fn note(
    inner: &Inner,
    subject: &Subject,
    counts: &Counts,
    (losses, now_s): (u64, u64),
) -> Result<(), Failure> {
    let noted = inner.with_catalog(|catalog| {
        let before = catalog.evidence_of(&subject.snapshot).copied();
        let new = subject.found(before.as_ref(), counts, now_s);
        let teller = Teller::new(catalog, now_s);
        let is_news = before.is_none_or(|before| {
            let is_old = now_s.abs_diff(before.at_s) >= DAY_S;
            is_old || !new.is_like(&before) || teller.is_behind(&before)
        });
        if is_news { catalog.record_evidence(new, losses).map(drop) } else { Ok(()) }
    });
    noted.map_err(|error| failures::catalog(&error))
}

/// Counts the replicas of all that is named.
struct All {
    inner: Arc<Inner>,
    /// Whose replicas do not count.
    uncounted: BTreeSet<NodeId>,
    counts: Counts,
    /// Chunks of which nothing is known here.
    unknown: u64,
    now_s: u64,
}

impl All {
    fn new(inner: &Arc<Inner>, target: u8, now_s: u64) -> Self {
        let uncounted = inner.with_catalog(|catalog| {
            let records = catalog.audit_records();
            let them = records.filter(|(_, record)| !standing(record, now_s).counts());
            them.map(|(node, _)| *node).collect()
        });
        let (inner, counts) = (Arc::clone(inner), Counts::new(target));
        Self { inner, uncounted, counts, unknown: 0, now_s }
    }
}

impl Reached for All {
    fn reach(&mut self, reference: &ChunkRef) {
        let id = &reference.id;
        let held = |(node, audited_s): (NodeId, Option<u64>)| {
            let counts = !self.uncounted.contains(&node);
            (node, Held { counts, is_beside: false, audited_s })
        };
        let (is_known, replicas) = self.inner.with_catalog(|catalog| {
            let replicas = catalog.proofs_of(id).map(held).collect();
            (catalog.is_known(id), apart(catalog.near().0, replicas))
        });
        self.unknown += u64::from(!is_known && replicas.is_empty());
        // What was proven since the look began is not from a time that lies ahead.
        self.counts.add(is_known, &replicas, self.now_s.max(seconds_since_1970()));
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
