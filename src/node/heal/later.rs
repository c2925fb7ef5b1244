//! Healing that nobody asked for. What an audit proved to be gone is stored anew at once; holders
//! that are silent have their [grace](crate::repo::grace).
//!
//! A look costs reading all trees, from the copies here: it is made when a replica was lost, when
//! the silence of a holder may count, and, while something is short, when somebody new is connected
//! or now and then. Backups, puts and prunes go first, and none begins while repairs have moved
//! what they may in a day.

use super::{By, Rules, heal};
use crate::core::types::NodeId;
use crate::node::audit::prove_new;
use crate::node::inner::Inner;
use crate::node::needed::Targets;
use crate::node::put::seconds_since_1970;
use crate::node::rebuild;
use crate::node::report::{Failure, HealDone};
use crate::repo::grace::Uncounted;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// How often it is seen whether there is anything to do.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(20) };

/// How long nodes that take chunks are waited for.
const PATIENCE: Duration =
    if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(30) };

/// While something is short, or somebody is silent for long, all is looked at so often.
const AGAIN_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// After a look that came to nothing, at first; then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

/// How long a recovered device waits for the lists of all holders: a day of the folder's age, in
/// seconds.
const FILLED_WITHIN_S: u64 = 24 * 3_600;

/// What is remembered while the node runs.
#[derive(Debug)]
struct Memory {
    /// When to look again, whatever happens, if anything is short or silent.
    again: Instant,
    pause: Duration,
    /// Something was short at the end of the last look.
    is_short: bool,
    /// Who was connected then.
    seen: BTreeSet<NodeId>,
}

/// Heals for the node's life.
pub(in crate::node) async fn heal_later(
    inner: Weak<Inner>,
    peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let (again, pause, seen) = (Instant::now(), AGAIN_FIRST, BTreeSet::new());
    // What an earlier run found or did not get done is not known any more: a look tells.
    let mut memory = Memory { again, pause, is_short: true, seen };
    sleep(BEGIN_AFTER).await;
    loop {
        let Some(node) = inner.upgrade() else { return };
        let connected = peers.borrow().clone();
        if is_due(&node, &connected, &memory) {
            look(&node, connected, &mut memory).await;
        }
        drop(node);
        sleep(LOOK_EVERY).await;
    }
}

fn is_due(inner: &Inner, connected: &BTreeSet<NodeId>, memory: &Memory) -> bool {
    // A recovered device that does not know yet who has what would store all of it again; but who
    // is missing for long is not waited for.
    let is_filled = inner.with_catalog(|catalog| {
        let is_old = catalog.aged().is_some_and(|(age_s, _)| age_s >= FILLED_WITHIN_S);
        catalog.rebuild().is_none() || is_old
    });
    let may_move = By::Itself.may_move(inner);
    if connected.is_empty() || !is_filled || !may_move || !inner.tends() {
        return false;
    }
    let is_time = Instant::now() >= memory.again;
    let has_come = !connected.is_subset(&memory.seen);
    inner.lost.load(Ordering::Relaxed)
        || (memory.is_short && (has_come || is_time))
        || (is_time && uncounted(inner).matters())
}

fn uncounted(inner: &Inner) -> Uncounted {
    let now_s = seconds_since_1970();
    inner.with_catalog(|catalog| {
        let holders = catalog.stores().len();
        Uncounted::with_grace(catalog.audit_records(), holders, now_s)
    })
}

async fn look(inner: &Arc<Inner>, connected: BTreeSet<NodeId>, memory: &mut Memory) {
    // A backup or a put that runs stores by itself, and a prune lets go: both first.
    if inner.prune_waits.load(Ordering::Relaxed) {
        return;
    }
    let Ok(alone) = inner.letting_go.try_write() else { return };
    drop(alone);
    let Ok(only) = inner.healing.try_lock() else { return };
    inner.lost.store(false, Ordering::Relaxed);
    let healed = heal_all(inner).await;
    drop(only);
    (memory.is_short, memory.pause) = match healed {
        Ok(done) if done.short == 0 => (false, AGAIN_FIRST),
        Ok(done) => {
            let HealDone { short, healed, lost, bytes_read, .. } = done;
            tracing::info!(short, healed, lost, bytes_read, "what was short was looked after");
            let is_short = healed < short;
            (is_short, if healed > 0 { AGAIN_FIRST } else { AGAIN_EVERY.min(2 * memory.pause) })
        }
        Err(failure) => {
            tracing::info!(why = failure.why, "what is short was not looked after");
            (true, AGAIN_EVERY.min(2 * memory.pause))
        }
    };
    memory.again = Instant::now() + if memory.is_short { memory.pause } else { AGAIN_EVERY };
    memory.seen = connected;
    if let Err(failure) = prove_new(inner).await {
        tracing::info!(why = failure.why, "what was stored anew was not audited");
    }
}

pub(in crate::node) async fn heal_all(inner: &Arc<Inner>) -> Result<HealDone, Failure> {
    rebuild::fill_now(inner, rebuild::By::Itself).await?;
    let targets = Targets::wished(inner).await;
    let mut done = HealDone { wanted: targets.most(), ..HealDone::default() };
    // The work ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel(1);
    let counts = || uncounted(inner);
    let rules = Rules { targets: &targets, patience: PATIENCE, uncounted: &counts, by: By::Itself };
    heal(inner, &rules, &progress, &mut done).await?;
    Ok(done)
}
