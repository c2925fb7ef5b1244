//! Healing that nobody asked for. What an audit proved to be gone is stored anew at once; holders
//! that are silent have their [grace](super::grace).
//!
//! A look costs reading all trees, from the copies here: it is made when a replica was lost, when
//! the silence of a holder may count, and, while something is short, when somebody new is connected
//! or now and then. Backups, puts and prunes go first.

use super::grace::Uncounted;
use super::{REPLICAS, heal};
use crate::core::types::NodeId;
use crate::node::audit::prove_new;
use crate::node::backup::Wish;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::{Failure, HealDone};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{RwLockWriteGuard, mpsc, watch};
use tokio::time::{Instant, sleep};

/// How often it is seen whether there is anything to do.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(20) };

/// How long nodes that take chunks are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// While something is short, or somebody is silent for long, all is looked at so often.
const AGAIN_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// After a look that came to nothing, at first; then twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(60);

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
    let mut memory = Memory { again, pause, is_short: false, seen };
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
    let is_filled = inner.with_catalog(|catalog| catalog.rebuild().is_none());
    if connected.is_empty() || !is_filled || !inner.tends() {
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
    let stays = RwLockWriteGuard::downgrade(alone);
    inner.lost.store(false, Ordering::Relaxed);
    let healed = heal_all(inner).await;
    drop(stays);
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

async fn heal_all(inner: &Arc<Inner>) -> Result<HealDone, Failure> {
    let wished = inner.repository.replicas_wished(inner).await;
    let replicas = if wished == 0 { REPLICAS } else { wished };
    let mut done = HealDone { wanted: replicas, ..HealDone::default() };
    // The work ends when nobody is left who listens.
    let (progress, _nobody) = mpsc::channel(1);
    let wish = Wish { replicas, patience: PATIENCE };
    heal(inner, (wish, &|| uncounted(inner)), &progress, &mut done).await?;
    Ok(done)
}
