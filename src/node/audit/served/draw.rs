//! What a holder is asked for: a run of what a snapshot or a file names, drawn by chance.

use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::node::inner::Inner;
use crate::node::needed::{named, named_files};
use crate::node::prune::files_put;
use crate::node::report::Failure;
use crate::node::repository::Breadth;
use crate::repo::mark::Reached;
use crate::repo::reference::ChunkRef;
use crate::repo::served::Run;
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a part of a snapshot's tree may take that is not here.
const TREE_PATIENCE: Duration = Duration::from_secs(20);

/// A snapshot of which holders have nothing leads to another one, so often.
const DRAWS: usize = 4;

/// Draws for each of these holders a run of chunks that it is known to have, of what one snapshot
/// or file names. None for those of which none that was drawn names any.
///
/// # Errors
/// The node stops, or its catalogue takes nothing.
pub(super) async fn draw(
    inner: &Arc<Inner>,
    due: &BTreeMap<NodeId, usize>,
) -> Result<BTreeMap<NodeId, Vec<ChunkRef>>, Failure> {
    // In this run nothing was read of what there is yet, perhaps.
    inner.repository.refresh(inner, Breadth::Known).await?;
    let mut drawn = BTreeMap::new();
    for _ in 0..DRAWS {
        let Some(start) = draw_start(inner).await else { break };
        let left = due.iter().filter(|(holder, _)| !drawn.contains_key(*holder));
        let runs = left.map(|(holder, most)| (*holder, Run::of(*most))).collect();
        let runs = Runs { inner: Arc::clone(inner), runs };
        // The reading ends when nobody is left who listens.
        let (progress, _nobody) = mpsc::channel::<()>(1);
        let patience = (TREE_PATIENCE, progress);
        let read = match start {
            Start::Snapshot(id, at) => named(inner, Some((id, at)), runs, patience).await?,
            Start::File(path, root) => {
                named_files(inner, vec![(path, root)], runs, patience).await?
            }
        };
        drawn.extend(read.reached.drawn());
        if drawn.len() == due.len() {
            break;
        }
    }
    Ok(drawn)
}

/// The same of all that is named. Also gives whether all of that could be read, so that the others
/// have nothing of it.
///
/// # Errors
/// The node stops.
pub(super) async fn draw_all(
    inner: &Arc<Inner>,
    due: &BTreeMap<NodeId, usize>,
) -> Result<(BTreeMap<NodeId, Vec<ChunkRef>>, bool), Failure> {
    let runs = due.iter().map(|(holder, most)| (*holder, Run::of(*most))).collect();
    let runs = Runs { inner: Arc::clone(inner), runs };
    let (progress, _nobody) = mpsc::channel::<()>(1);
    let read = named(inner, None, runs, (TREE_PATIENCE, progress)).await?;
    Ok((read.reached.drawn().collect(), read.unread == 0))
}

enum Start {
    Snapshot(SnapshotId, ChunkRef),
    File(Vec<u8>, ChunkRef),
}

/// One of all snapshots and files that were put; `None` where none is known.
async fn draw_start(inner: &Inner) -> Option<Start> {
    let live = inner.repository.with_live(|live| {
        let at = |live: &crate::repo::manifest::merge::Live| {
            Start::Snapshot(live.added.id, live.added.reference.duplicate())
        };
        live.into_iter().map(at).collect::<Vec<_>>()
    });
    let mut all = live.await;
    all.extend(files_put(inner).into_iter().map(|(path, root)| Start::File(path, root)));
    let is_any = !all.is_empty();
    is_any.then(|| all.swap_remove(rand::rng().random_range(0..all.len())))
}

/// The runs of some holders, drawn in one reading.
struct Runs {
    inner: Arc<Inner>,
    runs: BTreeMap<NodeId, Run>,
}

impl Runs {
    /// Of those of which anything is named.
    fn drawn(self) -> impl Iterator<Item = (NodeId, Vec<ChunkRef>)> {
        let runs = self.runs.into_iter().map(|(holder, run)| (holder, run.into_chunks()));
        runs.filter(|(_, chunks)| !chunks.is_empty())
    }
}

impl Reached for Runs {
    fn reach(&mut self, reference: &ChunkRef) {
        let holders = self.inner.with_catalog(|catalog| catalog.holders_of(&reference.id));
        for holder in holders {
            if let Some(run) = self.runs.get_mut(&holder) {
                run.add(reference, |seen| rand::rng().random_ratio(1, seen));
            }
        }
    }

    fn is_known(&self, _: &ChunkId) -> bool {
        false
    }
}
