//! Whom a look at the heads asks, and for which of them.
//!
//! What a backup needs is quick: the heads that are **known**, of those who are known to keep them,
//! on their streams. It ends when most of these have answered, and a moment was given to the
//! others. For heads that nobody wrote yet, which a new device would write, **everyone** has to be
//! asked on the topics, and be listened to for a while.
//!
//! Why the known ones are enough for what only adds snapshots:
//! - Whoever writes a head asks those first who keep the record before it, and most of them have
//!   to be away for a newer record to be kept by none of those who are asked. So a newer record of
//!   this device's own head, which a copy of its folder or a second device under its index made, is
//!   seen; and where it is not, its holders turn down what this device publishes as superseded.
//!   Nothing is judged more mildly: a fork, a rollback, and a head of which few holders answered
//!   are told in both cases.
//! - A device that nobody here has heard of takes nothing away by adding its own: snapshots merge
//!   in any order, and each device writes a head of its own.
//!
//! What only reads asks everyone **briefly**: the list of snapshots, a drill, a restore that
//! replaces nothing. In a node that has been up for a while that takes half a second on a LAN,
//! instead of one and a half.
//!
//! Whatever else depends on knowing all devices gives everyone time: recovery, the choice of a
//! head, what lets chunks go, and the look for prunes after something was published: a device that
//! was recovered an hour ago may have let go what the snapshot names, or what its holders said they
//! had when it was offered. Besides, everyone is asked [`LOOK_AROUND_EVERY`] in
//! the background while a node runs, and before a backup when that was not done for
//! [`LOOKED_AROUND_FOR_S`]: the time stands in the catalogue, so that commands that start a node
//! each time do it, too. What such a look finds wrong is shown by `status`.

use super::{KnownHead, keys, known_heads, learn, payload_of, writes};
use crate::core::types::{ChunkId, NodeId};
use crate::crypto::head::HeadKeys;
use crate::node::heads::{HeadsFound, HeadsWanted};
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Heads of one question: all that a new device looks for at once.
pub(super) const INDEXES: u16 = 32;

/// A new device looks on until so many heads in a row are nobody's.
pub(super) const INDEXES_EMPTY: u16 = 16;

/// Beside the heads that are known, so many that nobody wrote yet are asked for.
const INDEXES_AHEAD: u16 = 2;

/// The most heads that are asked for in all: a checkpoint names no more devices.
const INDEXES_MAX: usize = 64;

/// How long the heads may take.
const HEADS_PATIENCE: Duration = Duration::from_secs(3);

/// How long a node that has just started waits for the first peer.
const PEERS_PATIENCE: Duration = Duration::from_secs(5);

/// A running node asks everyone so soon: one that is started for a single command has other things
/// to do, and ends.
const LOOK_AROUND_AFTER: Duration = Duration::from_secs(60);

/// And so often.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The same where something was wrong, or nobody was there.
const LOOK_AROUND_SOON: Duration = Duration::from_secs(600);

/// What only adds snapshots relies on the last look around for so long: seconds.
const LOOKED_AROUND_FOR_S: u64 = 24 * 3600;

/// How far a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Breadth {
    /// The heads that are known, of their holders.
    Known,
    /// Those that nobody here has heard of, too, of everyone; but who is much further away than
    /// those who answer is not waited for. For what only reads.
    Brief,
    /// The same, and everyone is given time.
    Everyone,
}

/// How far a look has to go for what only adds snapshots.
pub(super) fn breadth(inner: &Inner) -> Breadth {
    let now = seconds_since_1970();
    let (device, looked) =
        inner.with_catalog(|catalog| (catalog.device(), catalog.looked_around()));
    // Without a head of its own this device will choose one, or has to see that it is free still.
    // A clock that was put back says nothing.
    let is_recent = looked.is_some_and(|at| at <= now && now - at < LOOKED_AROUND_FOR_S);
    match device {
        Some(device) if is_recent && writes(inner, &device) => Breadth::Known,
        _ => Breadth::Everyone,
    }
}

/// What a question for heads came to.
pub(super) struct Asked {
    pub(super) breadth: Breadth,
    pub(super) indexes: Vec<u16>,
    /// The heads that were known when they were asked for.
    pub(super) before: BTreeMap<u16, KnownHead>,
    /// `None` where nobody is there.
    pub(super) found: Option<HeadsFound>,
    pub(super) notes: Vec<String>,
}

/// Which heads are asked for: all that a new device looks for; later those that are known, and
/// where everyone is asked those that other devices `named`, and the next ones.
fn indexes(known: &BTreeMap<u16, KnownHead>, named: BTreeSet<u16>, breadth: Breadth) -> Vec<u16> {
    let Some(last) = known.keys().next_back() else { return (0..INDEXES).collect() };
    let more: BTreeSet<u16> = match breadth {
        Breadth::Known => BTreeSet::new(),
        Breadth::Brief | Breadth::Everyone => {
            let ahead = (1..=INDEXES_AHEAD).filter_map(|more| last.checked_add(more));
            ahead.chain(named).filter(|index| !known.contains_key(index)).collect()
        }
    };
    known.keys().copied().chain(more).take(INDEXES_MAX).collect()
}

/// Which heads are to be asked for next: of those behind the last one that is `written`, where not
/// `ahead` of them were asked for.
pub(super) fn further(asked: &[u16], written: Option<u16>, ahead: u16) -> Vec<u16> {
    let room = INDEXES_MAX.saturating_sub(asked.len());
    let behind = written
        .into_iter()
        .flat_map(|last| (1..=ahead).map_while(move |more| last.checked_add(more)));
    behind.filter(|index| !asked.contains(index)).take(room).collect()
}

/// The heads that the known ones name.
fn named(inner: &Inner, known: &BTreeMap<u16, KnownHead>) -> BTreeSet<u16> {
    let payloads = known
        .iter()
        .filter_map(|(index, head)| payload_of(&keys(inner, *index), &head.seen.record));
    payloads.flat_map(|payload| payload.devices.into_keys()).collect()
}

/// Asks for heads.
///
/// # Errors
/// The node stops.
pub(super) async fn ask(inner: &Arc<Inner>, breadth: Breadth) -> Result<Asked, Failure> {
    let before = known_heads(inner);
    let indexes = indexes(&before, named(inner, &before), breadth);
    let mut asked = Asked { breadth, indexes, before, found: None, notes: Vec::new() };
    if !somebody_is_there(inner).await {
        asked.notes.push("no other node is connected: this is what was seen last".to_owned());
        return Ok(asked);
    }
    let (mut kept, mut holders) = (Vec::new(), BTreeMap::new());
    for (index, head) in &asked.before {
        if let Some(known) = &head.kept {
            holders.insert(keys(inner, *index).id(), known.holders.clone());
            kept.push(*index);
        }
    }
    let nobody = BTreeMap::new();
    asked.found = Some(match breadth {
        Breadth::Known => question(inner, &asked.indexes, &holders, breadth).await?,
        Breadth::Brief | Breadth::Everyone => {
            // Two questions: where those who are known answer, the others are not heard.
            let known = question(inner, &kept, &holders, breadth);
            let (everyone, known) = tokio::join!(everyone(inner, &mut asked, &nobody), known);
            both(known?, everyone?)
        }
    });
    Ok(asked)
}

/// Asks everyone, for more and more heads as long as these are somebody's.
async fn everyone(
    inner: &Arc<Inner>,
    asked: &mut Asked,
    nobody: &BTreeMap<ChunkId, Vec<NodeId>>,
) -> Result<HeadsFound, Failure> {
    let mut ahead = if asked.before.is_empty() { INDEXES_EMPTY } else { INDEXES_AHEAD };
    let mut found = question(inner, &asked.indexes, nobody, asked.breadth).await?;
    loop {
        let is_written = |index: &&u16| {
            let id = keys(inner, **index).id();
            found.records.iter().any(|(_, record)| record.id() == id)
        };
        let written = asked.indexes.iter().filter(is_written).max().copied();
        let more = further(&asked.indexes, written, ahead);
        if more.is_empty() {
            return Ok(found);
        }
        found = both(found, question(inner, &more, nobody, asked.breadth).await?);
        asked.indexes.extend(more);
        // Few at a time, many would make many questions.
        ahead = INDEXES_EMPTY;
    }
}

/// One question after the other for these heads, as many of them as one may be about.
async fn question(
    inner: &Arc<Inner>,
    indexes: &[u16],
    holders: &BTreeMap<ChunkId, Vec<NodeId>>,
    breadth: Breadth,
) -> Result<HeadsFound, Failure> {
    let brief = breadth == Breadth::Brief;
    let wanted = HeadsWanted { superseded: 0, brief, patience: HEADS_PATIENCE };
    let mut found = HeadsFound::default();
    for indexes in indexes.chunks(usize::from(INDEXES)) {
        let heads: Vec<HeadKeys> = indexes.iter().map(|index| keys(inner, *index)).collect();
        found = both(found, inner.find_heads(&heads, holders, wanted).await?);
    }
    Ok(found)
}

/// What two questions for the same heads came to, each record of a node once.
fn both(mut left: HeadsFound, right: HeadsFound) -> HeadsFound {
    let more = right.records.into_iter().filter(|record| !left.records.contains(record));
    let more: Vec<_> = more.collect();
    left.records.extend(more);
    for (id, nodes) in right.answered {
        let of = left.answered.entry(id).or_default();
        let all: BTreeSet<_> = of.drain(..).chain(nodes).collect();
        of.extend(all);
    }
    let served: BTreeSet<_> = left.records.iter().map(|(node, _)| *node).collect();
    left.silent.extend(right.silent);
    left.silent.retain(|node| !served.contains(node));
    left.silent.sort();
    left.silent.dedup();
    left
}

/// Waits for the first peer, if there is none yet.
async fn somebody_is_there(inner: &Inner) -> bool {
    let mut peers = inner.shared.watch_peers();
    let first = peers.wait_for(|peers| !peers.is_empty());
    matches!(timeout(PEERS_PATIENCE, first).await, Ok(Ok(_)))
}

/// What speaks against the heads, for `status`.
#[derive(Default)]
pub(super) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// A narrower look takes nothing back of what one at everyone's heads found.
    pub(super) fn learn(&self, breadth: Breadth, notes: &[String]) {
        let mut all = self.all();
        let kept: &[String] = if breadth == Breadth::Everyone { &[] } else { &all };
        let more = notes.iter().filter(|note| !kept.contains(note));
        *all = kept.iter().chain(more).cloned().collect();
    }

    /// Each change is one assignment: it is whole even after a panic.
    fn all(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Repository {
    /// What spoke against the heads when they were last looked at: empty where all is well.
    pub(in crate::node) fn warnings(&self) -> Vec<String> {
        self.warnings.all().clone()
    }
}

/// Looks around now and then, so that new devices are known and a head that was tampered with is
/// told. Runs for the node's life.
pub(in crate::node) async fn look_around(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let mut due = Instant::now() + LOOK_AROUND_AFTER;
    loop {
        sleep_until(due).await;
        if peers.wait_for(|peers| !peers.is_empty()).await.is_err() {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let is_well = match look(&inner).await {
            Ok(notes) => {
                notes.iter().for_each(|note| tracing::warn!("{note}"));
                notes.is_empty()
            }
            Err(failure) => {
                tracing::info!(why = failure.why, "the heads were not looked at");
                false
            }
        };
        due = Instant::now() + if is_well { LOOK_AROUND_EVERY } else { LOOK_AROUND_SOON };
    }
}

/// One look. While others are listened to, the repository is free for whoever needs it.
async fn look(inner: &Arc<Inner>) -> Result<Vec<String>, Failure> {
    let asked = ask(inner, Breadth::Everyone).await?;
    let mut state = inner.repository.state.lock().await;
    learn(&mut state, inner, asked).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::{Master, OwnerKeys};

    #[test]
    fn a_look_at_known_heads_takes_no_warning_back() {
        let (warnings, wrong) = (Warnings::default(), vec!["it was forked".to_owned()]);
        warnings.learn(Breadth::Everyone, &wrong);
        warnings.learn(Breadth::Known, &[]);
        assert_eq!(*warnings.all(), wrong);
        warnings.learn(Breadth::Everyone, &[]);
        assert!(warnings.all().is_empty());
        warnings.learn(Breadth::Known, &wrong);
        assert_eq!(*warnings.all(), wrong);
        let more = ["it was not found".to_owned(), wrong[0].clone()];
        warnings.learn(Breadth::Brief, &more);
        assert_eq!(*warnings.all(), [&wrong[0], &more[0]].map(Clone::clone));
    }

    #[test]
    fn heads_that_nobody_wrote_are_asked_for_of_everyone_alone() {
        let nobody = BTreeSet::new;
        assert_eq!(indexes(&BTreeMap::new(), nobody(), Breadth::Known).len(), usize::from(INDEXES));
        let known = |index: u16| {
            let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
            let keys = HeadKeys::derive(&keys.head, 0, index);
            let number = std::num::NonZeroU64::MIN;
            let record = keys.make(number, [0; 32], b"payload", &mut rand::rng()).unwrap();
            let seen = crate::repo::catalog::HeadSeen { index, record };
            (index, KnownHead { seen, kept: None })
        };
        let known = BTreeMap::from([known(0), known(3)]);
        assert_eq!(indexes(&known, [1].into(), Breadth::Known), [0, 3]);
        assert_eq!(indexes(&known, nobody(), Breadth::Everyone), [0, 3, 4, 5]);
        assert_eq!(indexes(&known, [0, 1, 4].into(), Breadth::Everyone), [0, 3, 1, 4, 5]);
    }

    #[test]
    fn heads_are_asked_for_until_many_in_a_row_are_nobodys() {
        let asked: Vec<u16> = (0..32).collect();
        assert_eq!(further(&asked, None, 16), [0; 0]);
        assert_eq!(further(&asked, Some(15), 16), [0; 0]);
        assert_eq!(further(&asked, Some(17), 16), [32, 33]);
        assert_eq!(further(&[7, 0], Some(7), 2), [8, 9]);
        let all: Vec<u16> = (0..63).collect();
        assert_eq!(further(&all, Some(62), 16), [63], "no more than a checkpoint names");
        assert_eq!(further(&[u16::MAX], Some(u16::MAX), 2), [0; 0]);
    }
}
