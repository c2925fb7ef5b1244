//! Audits that nobody asked for: the first one of each replica soon after its ack, a part of each
//! holder's day by day, all of it within a month, and holders that are silent now and then.
//!
//! What a holder is asked for, and when, [`Turn`] says, at the [usual pace](Pace::USUAL). Of what
//! was never proven it is little at a time while something is stored, of what was proven a round
//! ago a fifth of a holder's, of the sample 4,096 at most, from an id drawn by chance on. What a
//! holder tells of damage by itself is audited at once.
//!
//! Each holder has a task of its own, so none waits for another one. When a holder had its last day
//! stands in the catalogue, so a restart asks nobody twice; the day of each begins at another
//! second.
//!
//! **Debts.** A holder that does not answer for some chunks is asked for these and nothing else
//! until it does, or they count there no more: see [`Debt`]. Its silence goes on meanwhile. What it
//! owes stands in the catalogue, so that no restart pays for it.
//!
//! **Own silence.** Where nobody answers it is most likely this machine that is off line. So
//! silence counts only while [others answered](crate::core::audit::Answered).

use super::ask::{BATCH_CHUNKS, Heard, Which, ask_some};
use super::note;
use super::stake::at_stake;
use crate::core::types::{ChunkId, NodeId, StoreEpoch, Time};
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, Entry, Loss};
use crate::repo::debt::Debt;
use crate::repo::turn::{Due, Known, Left, Pace, SAMPLE, Turn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// How often it is seen whether there is anything to do.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(3) };

/// While something is stored or let go, so many new replicas of a holder are audited at once.
const BUSY_CHUNKS: usize = 64;

/// How long a part of a snapshot's tree may take, where something was lost.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);

/// A holder's audit, done.
type Done = (NodeId, Result<Vec<Heard>, Failure>);

/// Audits for the node's life.
pub(in crate::node) async fn audit_later(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let mut turns: BTreeMap<NodeId, Turn> = BTreeMap::new();
    let mut asking: JoinSet<Done> = JoinSet::new();
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    sleep(BEGIN_AFTER).await;
    loop {
        let connected = peers.borrow_and_update().clone();
        let Some(node) = inner.upgrade() else { return };
        begin(&node, &connected, &mut turns, (&mut asking, &mut asked));
        drop(node);
        let next = Instant::now() + LOOK_EVERY;
        tokio::select! {
            Some(done) = asking.join_next() => {
                let Some(node) = inner.upgrade() else { return };
                // A task that died says nothing of its holder; it is asked again after a restart.
                let Ok((holder, heard)) = done else { continue };
                asked.remove(&holder);
                let came = match heard {
                    Ok(heard) => take(&node, heard, Some(&mut turns)).await,
                    Err(failure) => Err(failure),
                };
                if let Err(failure) = came {
                    tracing::info!(why = failure.why, "a holder was not audited");
                }
            }
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep_until(next) => {}
        }
    }
}

/// Begins what is due.
fn begin(
    inner: &Arc<Inner>,
    connected: &BTreeSet<NodeId>,
    turns: &mut BTreeMap<NodeId, Turn>,
    (asking, asked): (&mut JoinSet<Done>, &mut BTreeSet<NodeId>),
) {
    if connected.is_empty() || !inner.tends() {
        return;
    }
    let (now, is_watched) = (now(inner), is_anybody_silent(inner));
    for (node, epoch) in inner.with_catalog(|catalog| catalog.stores()) {
        let turn = turns.entry(node).or_default();
        if turn.rests(now) || asked.contains(&node) {
            continue;
        }
        if let Some(which) = due(inner, &node, (connected.contains(&node), is_watched), turn) {
            asked.insert(node);
            asking.spawn(ask(Arc::clone(inner), (node, epoch), which));
        }
    }
}

/// By the process, which nobody can set.
pub(super) fn now(inner: &Inner) -> Time {
    Time::default().after(inner.started.elapsed())
}

async fn ask(inner: Arc<Inner>, (node, epoch): (NodeId, StoreEpoch), which: Which) -> Done {
    (node, ask_some(&inner, vec![(node, epoch)], &which, None).await)
}

/// Whether it matters who answers.
fn is_anybody_silent(inner: &Inner) -> bool {
    let is_silent =
        |catalog: &Catalog| catalog.audit_records().any(|(_, record)| record.silence.is_some());
    inner.with_catalog(|catalog| catalog.has_debtors() || is_silent(catalog))
}

/// What is due of a holder now.
fn due(
    inner: &Inner,
    node: &NodeId,
    (is_connected, is_watched): (bool, bool),
    turn: &mut Turn,
) -> Option<Which> {
    let (now, now_s) = (now(inner), seconds_since_1970());
    let owed = inner.with_catalog(|catalog| catalog.owed_by(node));
    let (record, has_new, holds_any) = inner.with_catalog(|catalog| {
        let record = catalog.audit_record(node).unwrap_or_default();
        (record, catalog.has_unaudited(node), catalog.chunks_held_by(node) > 0)
    });
    let owes = owed.is_some();
    let known = Known { record: &record, is_connected, owes, has_new, holds_any, is_watched };
    Some(match turn.due(node, &known, &Pace::USUAL, (now, now_s))? {
        Due::Owed => Which::These(Arc::new(BTreeMap::from([(*node, owed?)]))),
        Due::New => {
            // Whatever stores something now needs the holders' disks.
            let is_busy = inner.letting_go.try_write().is_err();
            let most = if is_busy { BUSY_CHUNKS } else { BATCH_CHUNKS };
            // Never, at whatever time.
            Which::Due((1, u64::MAX), most)
        }
        Due::Day { since_s, now_s } => Which::Day { since_s, now_s, sample: SAMPLE },
        // What was never proven, which is nothing here, and one chunk.
        Due::Witness => Which::Day { since_s: 0, now_s: u64::MAX, sample: usize::MAX },
    })
}

/// What it left for its turns.
fn left(heard: &Heard, is_busy: bool) -> Left {
    Left {
        has_answered: heard.answers > 0,
        owes: !heard.owed.is_empty(),
        is_unsorted: heard.unproven > 0 || heard.lost(Loss::Lied).next().is_some(),
        is_busy,
    }
}

/// Notes what came of it. What holders were asked for by `turns` says what they owe; who answers
/// for something else still owes the same.
async fn take(
    inner: &Arc<Inner>,
    heard: Vec<Heard>,
    mut turns: Option<&mut BTreeMap<NodeId, Turn>>,
) -> Result<(), Failure> {
    let is_busy = inner.letting_go.try_write().is_err();
    for heard in &heard {
        if let Some(turns) = &mut turns {
            let turn = turns.entry(heard.node).or_default();
            if turn.after(left(heard, is_busy), &Pace::USUAL, now(inner)) {
                inner.record(Entry::HolderHadDay { node: heard.node, at_s: heard.asked_s })?;
            }
            owes(inner, heard.node, |debt| debt.after(heard.owed.iter().copied()))?;
        }
    }
    if heard.is_empty() {
        return Ok(());
    }
    // The reading ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel(1);
    let stake = at_stake(inner, &heard, false, (CHUNK_PATIENCE, progress)).await?;
    note(inner, &heard, &stake).await
}

/// Audits at once what holders tell of damage, for the node's life: the catalogue learns of it by
/// what they cannot prove.
pub(in crate::node) async fn audit_noticed(
    inner: Weak<Inner>,
    mut notices: mpsc::Receiver<(NodeId, Vec<ChunkId>)>,
) {
    while let Some((node, ids)) = notices.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        tracing::warn!(holder = %node, chunks = ids.len(), "a holder tells of damage");
        let audited = match prove_these(&inner, node, ids).await {
            Ok(unanswered) => owes_too(&inner, node, unanswered).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = audited {
            tracing::info!(why = failure.why, "what a holder told of was not audited");
        }
    }
}

/// Until this holder answers for what it owes by then it is asked for nothing else. Returns whether
/// that is news; who has no store any more owes nothing.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) fn owes(
    inner: &Inner,
    node: NodeId,
    change: impl FnOnce(&mut Debt),
) -> Result<bool, Failure> {
    inner.record_if(|catalog| {
        catalog.store_of(&node)?;
        let before = catalog.debt_of(&node);
        let mut debt = before.clone();
        change(&mut debt);
        (debt != before).then_some(Entry::HolderOwes { node, debt })
    })
}

/// It said nothing about these either, whatever it owed before: durable when this returns.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) async fn owes_too(
    inner: &Arc<Inner>,
    node: NodeId,
    unanswered: Vec<ChunkId>,
) -> Result<(), Failure> {
    match owes(inner, node, |debt| debt.and(unanswered))? {
        true => inner.commit_catalog().await,
        false => Ok(()),
    }
}

/// Asks one holder to prove these at once, whatever else it is asked. Returns what it said nothing
/// about.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn prove_these(
    inner: &Arc<Inner>,
    node: NodeId,
    ids: Vec<ChunkId>,
) -> Result<Vec<ChunkId>, Failure> {
    let mut stores = inner.with_catalog(|catalog| catalog.stores());
    stores.retain(|(of, _)| *of == node);
    let which = Which::These(Arc::new(BTreeMap::from([(node, ids)])));
    let mut heard = ask_some(inner, stores, &which, None).await?;
    let unanswered = heard.iter().flat_map(|heard| heard.owed.clone()).collect();
    // Whether it is silent others tell.
    heard.retain(|heard| heard.owed.is_empty());
    take(inner, heard, None).await?;
    Ok(unanswered)
}

/// Audits at once what was never audited, at all who are connected. Returns how many replicas were
/// lost.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(in crate::node) async fn prove_new(inner: &Arc<Inner>) -> Result<usize, Failure> {
    let connected = inner.shared.watch_peers().borrow().clone();
    let mut stores = inner.with_catalog(|catalog| catalog.stores());
    stores.retain(|(node, _)| connected.contains(node));
    let heard = ask_some(inner, stores, &Which::Due((1, u64::MAX), usize::MAX), None).await?;
    let lost = heard.iter().map(|heard| heard.all_lost().count()).sum();
    take(inner, heard, None).await?;
    Ok(lost)
}
