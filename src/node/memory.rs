//! What the node remembers besides the catalogue, in a small file that it can do without: what it
//! thinks of other nodes, where they were seen, and how much it repaired lately.
//!
//! The drive loop tells what nodes do, and takes what audits say of them; `peers` shows both. The
//! rules are [`reputation`]'s: none of this ever leaves this machine. Bounds: 1,024 nodes, those
//! first that did more than to give a name; 25 hours of repairs. Where holders were seen says which
//! share a failure domain: the catalogue is told, and counts one replica in each.
//!
//! The file, `owner/memory.json`, is replaced as a whole, now and then and at the end. One that is
//! lost, or cannot be read, is a new beginning: everybody is a stranger then, and stands apart from
//! all until it is met.

mod places;

use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{Conduct as ConductReport, date};
use crate::core::effect::Reach;
use crate::core::placement;
use crate::core::reputation::{self, Conduct, Losses, Setback};
use crate::core::types::{NodeId, Standing};
use crate::net::{node_of_peer_id, peer_id_of};
use crate::replaced;
use crate::repo::catalog::standing;
use places::{Drawn, Places};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::sleep;

/// Nodes that are remembered.
const NODES_MAX: usize = 1_024;

/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// How often it is seen where holders stand.
const JUDGE_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(10) };

/// How often what changed is written down, in such looks.
const SAVE_EVERY: u32 = 30;

/// How often all are told, whether they changed or not, in such looks.
const TELL_ALL_EVERY: u32 = 360;

/// How long it is waited before what is short is stored anew because two holders turned out to
/// share a failure domain, in seconds: a day. Nothing is lost yet.
const NEARNESS_GRACE_S: u64 = if cfg!(test) { 0 } else { 24 * HOUR_S };

const HOUR_S: u64 = 3_600;

/// What is remembered. Small, behind one lock, never awaited under.
pub(super) struct Memory {
    path: PathBuf,
    /// Bytes that repairs may move in any 24 hours; `None` = no bound.
    repair_per_day: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, Seen>,
    places: Places,
    /// All pairs that share a failure domain, for the drive loop; `None` where it knows them.
    pairs: Option<Vec<placement::Pair>>,
    /// When to store anew what is short as two holders share a failure domain: seconds since 1970.
    /// A restart ends that grace, as a node that starts looks at all.
    heal_s: Option<u64>,
    /// Bytes that repairs moved, by the hour since 1970.
    repaired: BTreeMap<u64, u64>,
    /// Where holders stand by now, for the drive loop.
    judged: BTreeMap<NodeId, Standing>,
    is_changed: bool,
}

/// What is remembered of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    conduct: Conduct,
    /// When that last faded, or began.
    faded_s: u64,
    setback: Setback,
    /// When anything of it was last told.
    told_s: u64,
}

impl Memory {
    /// Reads what an earlier run wrote down below this data folder. Blocks on the disk.
    pub(super) fn open(data_dir: &Path, repair_per_day: Option<u64>) -> Self {
        let path = data_dir.join("owner/memory.json");
        let state = match replaced::read::<File>(&path, FILE_BYTES_MAX) {
            Ok(file) => file.into_state(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => {
                tracing::warn!(%error, "what was remembered of other nodes cannot be read");
                State::default()
            }
        };
        Self { path, repair_per_day, state: Mutex::new(state) }
    }

    /// Each update leaves it whole, whatever becomes of who made it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nodes did in earlier runs, each with how long ago that last faded.
    pub(super) fn acquaintances(&self) -> Vec<(NodeId, Conduct, Duration)> {
        let now_s = seconds_since_1970();
        let age = |seen: &Seen| Duration::from_secs(now_s.saturating_sub(seen.faded_s));
        let state = self.state();
        state.nodes.iter().map(|(node, seen)| (*node, seen.conduct, age(seen))).collect()
    }

    /// What the drive loop saw of a node, and for how long that has not faded.
    pub(super) fn saw(&self, node: NodeId, conduct: Conduct, age: Duration) {
        let faded_s = seconds_since_1970().saturating_sub(age.as_secs());
        self.state().change(node, |seen| (seen.conduct, seen.faded_s) = (conduct, faded_s));
    }

    /// What an audit at `at_s`, seconds since 1970, found gone.
    pub(super) fn audited(&self, node: NodeId, at_s: u64, losses: Losses) {
        let mut state = self.state();
        // Of whom nothing speaks nothing has to be remembered.
        if losses != Losses::None || state.nodes.contains_key(&node) {
            state.change(node, |seen| seen.setback.on_audited(at_s, losses));
        }
    }

    /// Holders that rest from repairs now: of those that lost something, whose rest began after
    /// `since_s`.
    pub(super) fn resting(&self, since_s: u64) -> BTreeSet<NodeId> {
        let now_s = seconds_since_1970();
        let rests = |(_, seen): &(&NodeId, &Seen)| {
            seen.setback.since_s > since_s && seen.setback.until_s(now_s).is_some()
        };
        self.state().nodes.iter().filter(rests).map(|(node, _)| *node).collect()
    }

    /// A node is connected, from there, and declares that site.
    pub(super) fn met(&self, node: NodeId, reach: Reach, site: &str) {
        self.state().places.met(node, reach, site);
    }

    pub(super) fn left(&self, node: &NodeId) {
        self.state().places.left(node);
    }

    /// Where these nodes stand, as far as they were seen since the start.
    pub(super) fn standings(
        &self,
        nodes: impl Iterator<Item = NodeId>,
    ) -> BTreeMap<NodeId, placement::Standing> {
        let state = self.state();
        nodes.map(|node| (node, state.places.standing(&node))).collect()
    }

    /// For the drive loop: where holders stand, of those for whom that changed.
    pub(super) fn take_judged(&self) -> BTreeMap<NodeId, Standing> {
        std::mem::take(&mut self.state().judged)
    }

    /// All pairs of nodes that are taken to share a failure domain.
    pub(super) fn pairs(&self) -> Vec<placement::Pair> {
        self.state().places.pairs()
    }

    /// The same for the drive loop, where that changed.
    pub(super) fn take_pairs(&self) -> Option<Vec<placement::Pair>> {
        self.state().pairs.take()
    }

    /// As `peers` shows it.
    pub(super) fn report(&self, node: &NodeId, standing: Standing) -> ConductReport {
        let seen = self.state().nodes.get(node).copied().unwrap_or_default();
        let now_s = seconds_since_1970();
        let conduct = seen.conduct.faded(Duration::from_secs(now_s.saturating_sub(seen.faded_s)));
        let time = |ms: u32| (ms > 0).then_some(ms);
        let until = seen.setback.until_s(now_s);
        ConductReport {
            trust: reputation::word(&conduct, standing).to_owned(),
            score: reputation::score(&conduct, standing),
            granted: conduct.granted,
            acked: conduct.kept,
            late: conduct.late,
            ack_ms: time(conduct.ack_ms),
            serve_ms: time(conduct.serve_ms),
            served_bytes: conduct.served_bytes,
            rests_until: until.map(|at_s| date(i64::try_from(at_s).unwrap_or(i64::MAX))),
        }
    }

    /// Repairs moved so many bytes.
    pub(super) fn repaired(&self, bytes: u64) {
        let (mut state, now) = (self.state(), seconds_since_1970() / HOUR_S);
        state.is_changed = true;
        // Without a bound nobody else asks, and forgets.
        state.forget_repaired(now);
        let hour = state.repaired.entry(now).or_default();
        *hour = hour.saturating_add(bytes);
    }

    /// How many bytes repairs may still move now. Nothing below a twenty-fourth of what a day has:
    /// to look for what is short costs more than a few chunks are worth.
    pub(super) fn repair_left(&self) -> u64 {
        let Some(per_day) = self.repair_per_day else { return u64::MAX };
        let moved = self.state().repaired_lately(seconds_since_1970() / HOUR_S);
        let left = per_day.saturating_sub(moved);
        if left >= per_day / 24 { left } else { 0 }
    }

    /// Writes down what changed. Blocks on the disk.
    ///
    /// # Errors
    /// What the system says; it is tried again with the next change.
    pub(super) fn save(&self) -> io::Result<()> {
        let file = {
            let mut state = self.state();
            if !std::mem::take(&mut state.is_changed) {
                return Ok(());
            }
            File::of(&state)
        };
        replaced::write(&self.path, &file)
    }
}

impl State {
    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Seen)) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&node) {
            let tells = |seen: &Seen| seen.conduct.tells() || !seen.setback.is_none();
            let least = self.nodes.iter().min_by_key(|(_, seen)| (tells(seen), seen.told_s));
            if let Some(least) = least.map(|(node, _)| *node) {
                self.nodes.remove(&least);
            }
        }
        let seen = self.nodes.entry(node).or_default();
        change(seen);
        seen.told_s = seconds_since_1970();
        self.is_changed = true;
    }

    /// What lies ahead of this hour, or more than 24 before it, is forgotten: a clock that jumps
    /// allows one day's worth more.
    fn forget_repaired(&mut self, hour: u64) {
        self.repaired.retain(|at, _| (hour.saturating_sub(24)..=hour).contains(at));
    }

    /// Bytes of this hour and the 24 before it.
    fn repaired_lately(&mut self, hour: u64) -> u64 {
        self.forget_repaired(hour);
        self.repaired.values().fold(0, |all, bytes| all.saturating_add(*bytes))
    }
}

/// Tells the drive loop where holders stand, and writes down what changed, for the node's life.
pub(super) async fn remember(inner: Weak<Inner>) {
    let mut told: BTreeMap<NodeId, Standing> = BTreeMap::new();
    for look in 0_u32.. {
        let Some(node) = inner.upgrade() else { return };
        draw_near(&node).await;
        heal_near(&node);
        if look.is_multiple_of(TELL_ALL_EVERY) {
            told.clear();
        }
        judge(&node, &mut told);
        if look % SAVE_EVERY == SAVE_EVERY - 1 {
            save(&node).await;
        }
        drop(node);
        sleep(JUDGE_EVERY).await;
    }
}

/// Tells the catalogue which holders share a failure domain, where that is not what it was told.
pub(super) async fn draw_near(inner: &Arc<Inner>) {
    let now_s = seconds_since_1970();
    // Whoever draws later tells later.
    let is_nearer = inner.with_catalog(|catalog| {
        let mut holders = catalog.stores();
        holders.retain(|(node, _)| catalog.chunks_held_by(node) > 0);
        let holders = holders.into_iter().map(|(node, _)| node);
        let mut state = inner.shared.memory.state();
        let Some(drawn) = state.places.draw(holders, inner.domains, now_s) else { return false };
        let Drawn { pairs, is_nearer } = drawn;
        state.is_changed = true;
        if is_nearer {
            // The next pairs do not make the first ones wait longer.
            state.heal_s.get_or_insert(now_s.saturating_add(NEARNESS_GRACE_S));
        }
        state.pairs = Some(pairs.clone());
        catalog.draw_near(pairs.into_iter().collect(), is_nearer.then_some(now_s));
        is_nearer
    });
    if !is_nearer {
        return;
    }
    tracing::info!("holders turned out to share a failure domain: one replica counts in each");
    if let Err(failure) = inner.commit_catalog().await {
        tracing::warn!(why = failure.why, "what was told of snapshots was not taken back for good");
    }
}

/// Where the grace of replicas that count no more beside others is over, all is looked at.
fn heal_near(inner: &Inner) {
    let mut state = inner.shared.memory.state();
    if state.heal_s.is_some_and(|at_s| at_s <= seconds_since_1970()) {
        state.heal_s = None;
        inner.lost.store(true, Ordering::Relaxed);
    }
}

fn judge(inner: &Inner, told: &mut BTreeMap<NodeId, Standing>) {
    let now_s = seconds_since_1970();
    let all: Vec<(NodeId, Standing)> = inner.with_catalog(|catalog| {
        let records = catalog.audit_records();
        records.map(|(node, record)| (*node, standing(record, now_s))).collect()
    });
    let mut state = inner.shared.memory.state();
    for (node, standing) in all {
        if told.insert(node, standing) != Some(standing) {
            state.judged.insert(node, standing);
        }
    }
}

/// Writes down what changed; without that it is forgotten by a restart.
pub(super) async fn save(inner: &Inner) {
    let shared = std::sync::Arc::clone(&inner.shared);
    let saved = tokio::task::spawn_blocking(move || shared.memory.save());
    if let Ok(Err(error)) = saved.await {
        tracing::warn!(%error, "what is remembered of other nodes was not written down");
    }
}

/// The file: `{"version":1,"nodes":[{"peer_id":"12D3..","credit":3,..}],"places":
/// {"is_strict":false,"pairs":[["12D3..","12D3..",1790000000]]},"repaired":[[496000,1]]}`.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    nodes: Vec<Line>,
    places: places::Lines,
    /// Hours since 1970, and bytes.
    repaired: Vec<(u64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    peer_id: String,
    credit: i32,
    granted: u64,
    kept: u64,
    late: u64,
    ack_ms: u32,
    serve_ms: u32,
    served_bytes: u64,
    faded_s: u64,
    setback_steps: u8,
    setback_s: u64,
    told_s: u64,
}

impl File {
    fn of(state: &State) -> Self {
        let line = |(node, seen): (&NodeId, &Seen)| {
            let Seen { conduct, faded_s, setback, told_s } = *seen;
            let Conduct { credit, granted, kept, late, ack_ms, serve_ms, served_bytes } = conduct;
            Line {
                peer_id: peer_id_of(node),
                credit,
                granted,
                kept,
                late,
                ack_ms,
                serve_ms,
                served_bytes,
                faded_s,
                setback_steps: setback.steps,
                setback_s: setback.since_s,
                told_s,
            }
        };
        let repaired = state.repaired.iter().map(|(hour, bytes)| (*hour, *bytes)).collect();
        let places = state.places.lines(seconds_since_1970());
        Self { nodes: state.nodes.iter().map(line).collect(), places, repaired }
    }

    fn into_state(self) -> State {
        let seen = |line: Line| {
            let conduct = Conduct {
                credit: line.credit,
                granted: line.granted,
                kept: line.kept,
                late: line.late,
                ack_ms: line.ack_ms,
                serve_ms: line.serve_ms,
                served_bytes: line.served_bytes,
            };
            let steps = line.setback_steps.min(Setback::STEPS_MAX);
            let setback = Setback { steps, since_s: line.setback_s };
            let (conduct, faded_s) = (conduct.bounded(), line.faded_s);
            let seen = Seen { conduct, faded_s, setback, told_s: line.told_s };
            Some((node_of_peer_id(&line.peer_id)?, seen))
        };
        State {
            nodes: self.nodes.into_iter().take(NODES_MAX).filter_map(seen).collect(),
            places: Places::of(self.places),
            repaired: self.repaired.into_iter().collect(),
            ..State::default()
        }
    }
}

#[cfg(test)]
mod tests;
