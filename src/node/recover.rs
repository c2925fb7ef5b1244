//! `recover`: the owner's keys lead to the heads, these to the snapshots.
//!
//! The folder and its keys are there already: [`recover`](fn@super::datadir::recover) made them.
//! What is seen goes into the catalogue, so that `restore` finds it again without a look around.
//! Chunks need no rebuilt catalogue: whoever served the heads is asked first, then the topic. A
//! node that runs fills it later: see [`rebuild`].

use super::handle::NodeHandle;
use super::inner::Inner;
use super::rebuild;
use super::report::{Failure, FailureKind, Progress, RecoverRequest, Recovered};
use super::repository::{Breadth, HeadView, Look, look};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 4;

impl NodeHandle {
    /// Looks for everything that the owner's words lead to, and chooses the head that this device
    /// writes from now on. Dropping the receiver ends it; the next one begins anew.
    pub fn recover(&self, request: RecoverRequest) -> mpsc::Receiver<Progress<Recovered>> {
        let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let note = Some("looking for the heads".to_owned());
            let working =
                Progress::Working { bytes: 0, total: None, chunks: 0, replicas: None, note };
            // The queue is new, and has room.
            drop(progress.try_send(working));
            let last = tokio::select! {
                found = recover(&inner, &request) => {
                    found.map_or_else(Progress::Failed, Progress::Done)
                }
                () = progress.closed() => return,
            };
            drop(progress.send(last).await);
        });
        heard
    }
}

async fn recover(inner: &Arc<Inner>, request: &RecoverRequest) -> Result<Recovered, Failure> {
    let started = Instant::now();
    let Look { peers, heads, is_whole, mut notes, .. } = look(inner, Breadth::Everyone).await?;
    if peers == 0 {
        return Err(nobody(&inner.mesh_name));
    }
    if heads.is_empty() {
        return Err(no_head(&inner.mesh_name, peers, &notes));
    }
    let taken = request.take_over.and_then(|index| heads.iter().find(|head| head.index == index));
    if let Some(head) = taken.filter(|head| head.is_doubtful) {
        return Err(doubtful(head.index));
    }
    let index = inner.repository.claim(inner, request.take_over).await?;
    rebuild::begin(inner).await?;
    if request.take_over.is_some() {
        notes.push(format!("the device that wrote head {index} must not be used any more"));
    }
    let snapshots = inner.repository.with_live(|live| live.len()).await;
    Ok(Recovered {
        mesh: inner.mesh_name.clone(),
        peers,
        index,
        heads: heads.iter().map(HeadView::report).collect(),
        snapshots_total: u64::try_from(snapshots).unwrap_or(u64::MAX),
        whole: is_whole,
        notes,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Going on with a record that is not the newest would fork the head for good.
fn doubtful(index: u16) -> Failure {
    Failure::new(
        FailureKind::Partial,
        format!("head {index} cannot be taken over now"),
        "few of the nodes that keep it answered: there may be a newer record of it",
        "start more of the mesh's nodes, then run the same command again; without --take-over this \
         device gets a head of its own",
    )
}

/// Nobody to ask.
pub(super) fn nobody(mesh: &str) -> Failure {
    Failure::new(
        FailureKind::NotEnoughHolders,
        format!("no node of the mesh {mesh:?} was reached"),
        "none of the known addresses answers, or those who do are of another mesh",
        "check --bootstrap and --mesh with a node that runs (`quloud status` there), then run the \
         same command again",
    )
}

/// Nodes, but nothing of this owner's.
fn no_head(mesh: &str, peers: usize, notes: &[String]) -> Failure {
    let nodes = if peers == 1 { "1 node is".to_owned() } else { format!("{peers} nodes are") };
    if notes.is_empty() {
        return Failure::new(
            FailureKind::Failed,
            "nothing was found that these words lead to",
            format!("of the mesh {mesh:?} {nodes} connected, and none has anything of this owner"),
            "check that these are the right words, that this is the right mesh, and that the nodes \
             which hold the backups run; then run the same command again",
        );
    }
    Failure::new(
        FailureKind::NotEnoughHolders,
        "what was found cannot be read",
        format!("{nodes} connected; {}", notes.join("; ")),
        "start more of the mesh's nodes, then run the same command again; `quloud heads` shows all \
         that the nodes keep, and what earlier records lead to",
    )
}
