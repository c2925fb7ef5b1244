//! Holders are asked for chunks now and then, to see whether they hand over what they prove: this
//! does what [`repo::served`](crate::repo::served) says, which decides whom to ask for what, and
//! what counts.

mod draw;

use super::later::{now, owes_too, prove_these};
use crate::core::owner::{FetchJob, OwnerEvent};
use crate::core::types::{ChunkId, NodeId, StoreEpoch, Ticket, Time};
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::jobs::{DriveCommand, JobEvents, Places};
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{AuditRecord, Catalog, Entry};
use crate::repo::reference::ChunkRef;
use crate::repo::served::{Breadth, Came, Known, Moment, Note, Pace, Served, Step};
use draw::{draw, draw_all};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

const PACE: Pace = if cfg!(test) {
    Pace {
        look_every: Duration::from_millis(100),
        one_in: 1,
        owed_every: Duration::from_secs(3),
        patience: Duration::from_secs(2),
    }
} else {
    Pace::USUAL
};

/// A node that is started for a single command ends before that.
const BEGIN_AFTER: Duration =
    if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };

/// Fetches for the node's life.
pub(in crate::node) async fn fetch_later(inner: Weak<Inner>) {
    sleep(BEGIN_AFTER).await;
    loop {
        let Some(node) = inner.upgrade() else { return };
        if may_try(&node)
            && let Err(failure) = look(&node).await
        {
            node.served().break_off();
            tracing::info!(why = failure.why, "holders were not asked for chunks to try them");
        }
        drop(node);
        sleep(PACE.look_every).await;
    }
}

/// Whatever a user waits for comes first.
fn may_try(inner: &Inner) -> bool {
    inner.tries() && !inner.getting.is_busy() && inner.letting_go.try_write().is_ok()
}

/// What the catalogue and the net say.
struct Seen<'a> {
    catalog: &'a Catalog,
    connected: BTreeSet<NodeId>,
    may_try: bool,
}

impl Known for Seen<'_> {
    fn holders(&self) -> Vec<NodeId> {
        self.catalog.stores().into_iter().map(|(node, _)| node).collect()
    }

    fn is_connected(&self, holder: &NodeId) -> bool {
        self.connected.contains(holder)
    }

    fn record(&self, holder: &NodeId) -> AuditRecord {
        self.catalog.audit_record(holder).unwrap_or_default()
    }

    fn held(&self, holder: &NodeId) -> u64 {
        self.catalog.chunks_held_by(holder)
    }

    fn replica(&self, holder: &NodeId, chunk: &ChunkId) -> Option<StoreEpoch> {
        let counts = |_: &StoreEpoch| self.catalog.holders_of(chunk).contains(holder);
        self.catalog.store_of(holder).filter(counts)
    }

    fn proven_s(&self, holder: &NodeId, chunk: &ChunkId) -> Option<u64> {
        self.catalog.proofs_of(chunk).find(|(node, _)| node == holder)?.1
    }

    fn withholding(&self) -> Vec<NodeId> {
        let all = self.catalog.audit_records().filter(|(_, record)| record.withheld.is_some());
        all.map(|(node, _)| *node).collect()
    }

    fn is_complete(&self) -> bool {
        self.catalog.rebuild().is_none()
    }

    fn may_try(&self) -> bool {
        self.may_try
    }
}

/// Nothing is written into the catalogue meanwhile.
fn with<T>(inner: &Inner, work: impl FnOnce(&mut Served, &Moment<'_, Seen<'_>>) -> T) -> T {
    let (connected, may_try) = (inner.shared.watch_peers().borrow().clone(), may_try(inner));
    let (now, now_s) = (now(inner), seconds_since_1970());
    inner.with_catalog(|catalog| {
        let known = &Seen { catalog, connected, may_try };
        work(&mut inner.served(), &Moment { known, pace: &PACE, now, now_s })
    })
}

async fn look(inner: &Arc<Inner>) -> Result<(), Failure> {
    with(inner, |served, at| served.begin(at, &mut rand::rng()));
    while let Some(step) = with(inner, |served, at| served.next(at, &mut rand::rng())) {
        match step {
            Step::Draw { most, of: Breadth::Some } => {
                let runs = draw(inner, &most).await?;
                inner.served().drawn(runs, false);
            }
            Step::Draw { most, of: Breadth::All } => {
                let (runs, is_all) = draw_all(inner, &most).await?;
                inner.served().drawn(runs, is_all);
            }
            Step::Fetch { holder, chunk } => {
                let (came, bytes) = fetch(inner, holder, &chunk).await?;
                inner.served().came(came, bytes, now(inner));
            }
            Step::Prove { holder, chunks } => {
                let unanswered = prove_these(inner, holder, chunks).await?;
                owes_too(inner, holder, unanswered).await?;
            }
            Step::Write(note) => write(inner, note).await?,
        }
    }
    #[cfg(test)]
    inner.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

async fn write(inner: &Arc<Inner>, note: Note) -> Result<(), Failure> {
    inner.record(match note {
        Note::Served(node) => Entry::HolderServed { node },
        Note::LetOff(node) => {
            tracing::info!(holder = %node, "a holder has nothing any more that it could withhold");
            Entry::HolderServed { node }
        }
        Note::Withheld { node, at_s } => {
            tracing::warn!(holder = %node, "a holder withholds what it proves");
            Entry::HolderWithheld { node, at_s }
        }
    })?;
    inner.commit_catalog().await
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
    let command = DriveCommand::Fetch { places, job, events, patience: PACE.patience };
    inner.fetches.send(command).await.map_err(|_| failures::stopped())?;
    while let Some((_, event)) = heard.recv().await {
        match event {
            OwnerEvent::Fetched { sealed, .. } => return Ok((Came::Whole, sealed.len())),
            OwnerEvent::NotFetched { asked, .. } => {
                let has_answered = asked.iter().any(|(_, why)| why.is_answer());
                return Ok((if has_answered { Came::Refused } else { Came::Nothing }, 0));
            }
            _ => {}
        }
    }
    Err(failures::stopped())
}
