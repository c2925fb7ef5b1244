//! Audits that nobody asked for: the first one of each replica soon after its ack, a sample of each
//! holder's day by day, all of it within a month, and holders that are silent now and then.
//!
//! | what | when |
//! |---|---|
//! | replicas that no audit proved since their acks | within seconds, of connected holders |
//! | replicas that none proved for [`ROUND_S`] | once a day, of each holder |
//! | a thirtieth of what a holder has, from an id drawn by chance on | once a day, of each holder |
//! | one batch of a holder that is away or did not answer | every [`SILENT_EVERY_S`] |
//!
//! When a holder was asked last stands in the catalogue, so a restart asks nobody twice; the day of
//! each holder begins at another second. Who is asked for more than a batch is asked for the next
//! one with the next look, so that a backup that runs meanwhile has the line and the disks.
//!
//! **Own silence.** Where nobody answers it is most likely this machine that is off line. So
//! silence is noted only while [others answered](Answered) within the hour, or where there is one
//! holder alone and other nodes of the mesh are connected.

use super::ask::{BATCH_CHUNKS, Heard, Which, ask_some};
use super::note;
use super::stake::at_stake;
use crate::core::types::{NodeId, StoreEpoch};
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// How often it is seen whether there is anything to do.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(3) };

/// A replica that no audit proved for so long is due: 25 days, in seconds. With what a node that is
/// not always on leaves for the next day that makes 30.
const ROUND_S: u64 = 25 * DAY_S;

/// How often a holder that did not answer is asked again: an hour, in seconds.
const SILENT_EVERY_S: u64 = 3_600;

/// One of so many replicas of a holder is drawn each day.
const SAMPLE: usize = 30;

/// How long a part of a snapshot's tree may take, where something was lost.
const CHUNK_PATIENCE: Duration = Duration::from_secs(20);

const DAY_S: u64 = 24 * 3_600;

/// Who answered lately, as this run of the node saw it.
#[derive(Debug, Default)]
struct Answered {
    at: BTreeMap<NodeId, Instant>,
    /// Somebody who is connected may have replicas that no audit proved.
    may_be_new: bool,
}

impl Answered {
    const LATELY: Duration = Duration::from_secs(3_600);

    fn add(&mut self, node: NodeId) {
        self.at.insert(node, Instant::now());
    }

    /// Whether the silence of `node` is its own.
    fn speak_against(&self, node: &NodeId, holders: usize, is_anybody_there: bool) -> bool {
        let others =
            self.at.iter().filter(|(other, at)| *other != node && at.elapsed() < Self::LATELY);
        // A third of the holders, and two of them where there are so many.
        let wanted = holders.saturating_sub(1).min(2);
        if wanted == 0 { is_anybody_there } else { others.count() >= wanted }
    }
}

/// Audits for the node's life.
pub(in crate::node) async fn audit_later(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let mut answered = Answered { may_be_new: true, ..Answered::default() };
    sleep(BEGIN_AFTER).await;
    loop {
        let Some(node) = inner.upgrade() else { return };
        answered.may_be_new |= peers.has_changed().unwrap_or(false);
        let connected = peers.borrow_and_update().clone();
        if let Err(failure) = look(&node, &connected, &mut answered).await {
            tracing::info!(why = failure.why, "holders were not audited");
        }
        drop(node);
        // Somebody may come, or it is time.
        if let Ok(Err(_)) = timeout(LOOK_EVERY, peers.changed()).await {
            return;
        }
    }
}

/// What is due of one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// What was never proven.
    New,
    /// The day's part.
    Daily,
    /// One batch, to hear whether it is there.
    Silent,
}

async fn look(
    inner: &Arc<Inner>,
    connected: &BTreeSet<NodeId>,
    answered: &mut Answered,
) -> Result<(), Failure> {
    // Nothing is stored or let go meanwhile that would be taken for a loss.
    let is_filled = inner.with_catalog(|catalog| catalog.rebuild().is_none());
    if connected.is_empty() || !is_filled || !inner.tends() {
        return Ok(());
    }
    answered.may_be_new |= inner.acked.swap(false, Ordering::Relaxed);
    let stores = inner.with_catalog(|catalog| catalog.stores());
    let holders = stores.len();
    let mut work: BTreeMap<Kind, Vec<(NodeId, StoreEpoch)>> = BTreeMap::new();
    for (node, epoch) in stores {
        let is_connected = connected.contains(&node);
        let may_be_new = is_connected && answered.may_be_new;
        if let Some(due) = due(inner, &node, (is_connected, may_be_new)) {
            work.entry(Kind::of(due)).or_default().push((node, epoch));
        }
    }
    answered.may_be_new = work.contains_key(&Kind::New);
    for (kind, stores) in work {
        let heard = ask_some(inner, stores, &kind.which(), None).await?;
        take(inner, heard, (holders, connected), answered).await?;
    }
    Ok(())
}

/// What is due of a holder now.
fn due(inner: &Inner, node: &NodeId, (is_connected, may_be_new): (bool, bool)) -> Option<Due> {
    let now_s = seconds_since_1970();
    inner.with_catalog(|catalog| {
        // Looks at every chunk.
        let is_new = || !catalog.due_at(node, (1, u64::MAX), None, 1).is_empty();
        let record = catalog.audit_record(node).unwrap_or_default();
        let silent = record.silence.map(|silence| silence.last_s);
        // A clock that was put back makes nobody wait longer than it takes.
        let passed = |at_s: u64| if at_s > now_s { u64::MAX } else { now_s - at_s };
        match silent {
            Some(at_s) if passed(at_s) >= SILENT_EVERY_S => return Some(Due::Silent),
            Some(_) if !is_connected => return None,
            _ => {}
        }
        if may_be_new && is_new() {
            return Some(Due::New);
        }
        let heard = record.heard_s();
        let is_daily = heard.is_none_or(|at_s| passed(at_s) >= DAY_S + jitter_s(node));
        let holds_any = catalog.chunks_held_by(node) > 0;
        (is_daily && holds_any).then_some(if is_connected { Due::Daily } else { Due::Silent })
    })
}

/// Up to two hours, another time for each holder.
fn jitter_s(node: &NodeId) -> u64 {
    let [a, b, ..] = *node.as_bytes();
    u64::from(u16::from_le_bytes([a, b])) % 7_200
}

/// Holders that are asked alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    New,
    Daily,
    Silent,
}

impl Kind {
    fn of(due: Due) -> Self {
        match due {
            Due::New => Self::New,
            Due::Daily => Self::Daily,
            Due::Silent => Self::Silent,
        }
    }

    fn which(self) -> Which {
        let now_s = seconds_since_1970();
        match self {
            // Never, at whatever time.
            Self::New => Which::Due((1, u64::MAX), BATCH_CHUNKS),
            Self::Daily => {
                Which::Day { since_s: now_s.saturating_sub(ROUND_S), now_s, sample: SAMPLE }
            }
            Self::Silent => Which::Due((now_s, now_s), 1),
        }
    }
}

/// Notes what came of it, and whose silence is its own.
async fn take(
    inner: &Arc<Inner>,
    mut heard: Vec<Heard>,
    (holders, connected): (usize, &BTreeSet<NodeId>),
    answered: &mut Answered,
) -> Result<(), Failure> {
    heard.iter().filter(|heard| heard.answers > 0).for_each(|heard| answered.add(heard.node));
    heard.retain(|heard| {
        let others = connected.iter().any(|node| *node != heard.node);
        heard.silent == 0 || answered.speak_against(&heard.node, holders, others)
    });
    if heard.is_empty() {
        return Ok(());
    }
    // The reading ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel(1);
    let stake = at_stake(inner, &heard, false, (CHUNK_PATIENCE, progress)).await?;
    note(inner, &heard, &stake).await
}

/// Audits at once what was never audited, at all who are connected.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(in crate::node) async fn prove_new(inner: &Arc<Inner>) -> Result<(), Failure> {
    let connected = inner.shared.watch_peers().borrow().clone();
    let mut stores = inner.with_catalog(|catalog| catalog.stores());
    stores.retain(|(node, _)| connected.contains(node));
    let heard = ask_some(inner, stores, &Which::Due((1, u64::MAX), usize::MAX), None).await?;
    take(inner, heard, (0, &BTreeSet::new()), &mut Answered::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_a_holders_own_only_while_others_answer() {
        let node = |byte| NodeId::from_bytes([byte; 32]);
        let mut answered = Answered::default();
        assert!(!answered.speak_against(&node(1), 3, true), "this machine may be off line");
        answered.add(node(1));
        answered.add(node(2));
        assert!(
            !answered.speak_against(&node(1), 3, true),
            "one other answered, and there are two"
        );
        answered.add(node(3));
        assert!(answered.speak_against(&node(1), 3, true));
        let mut answered = Answered::default();
        assert!(answered.speak_against(&node(1), 1, true), "the only holder there is");
        assert!(!answered.speak_against(&node(1), 1, false));
        answered.add(node(2));
        assert!(answered.speak_against(&node(1), 2, false), "the other one of two");
    }
}
