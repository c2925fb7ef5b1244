//! `verify`: the drill. A snapshot is read back from its holders as a restore would, and compared
//! with what names it; nothing is written but what that came to.
//!
//! Nothing that this machine has counts: not the copies in the data folder, not the node's own
//! store. For what is proven is that all of it comes back when this machine is gone. So the head is
//! asked of its holders, and the list of snapshots, the snapshot and the tree are read from theirs.

mod tell;

use super::choose::{Chosen, Deed, Doubt, choose, tell_found};
use super::failures;
use super::fetch::MeshSource;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::recover::nobody;
use super::report::{Failure, FailureKind, HeadReport, Progress, VerifyDone, VerifyRequest};
use super::repository::{Breadth, HeadView, Look, look};
use crate::core::types::{NodeId, SnapshotId};
use crate::repo::catalog::{Entry, Verified};
use crate::repo::frame::Kind;
use crate::repo::get::GetLimits;
use crate::repo::look::{ReadError, Reader};
use crate::repo::reference::ChunkRef;
use crate::repo::snapshot::Snapshot;
use crate::repo::tree::TreeFault;
use crate::repo::verify::{ALL_PPM, Sample, Verify};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tell::{Teller, Told};
use tokio::sync::mpsc;

/// Progress lines that may wait for a slow listener.
const PROGRESS_QUEUED_MAX: usize = 64;

/// How much is asked for at once.
const LIMITS: GetLimits = GetLimits { chunks: 32, bytes: 32 << 20 };

const DEED: Deed = Deed { undone: "nothing was verified", command: "verify" };

impl NodeHandle {
    /// Reads a snapshot back from its holders. Dropping the receiver ends it.
    pub fn verify(&self, request: VerifyRequest) -> mpsc::Receiver<Progress<VerifyDone>> {
        begin(Arc::clone(&self.inner), request)
    }
}

/// See [`NodeHandle::verify`].
pub(super) fn begin(
    inner: Arc<Inner>,
    request: VerifyRequest,
) -> mpsc::Receiver<Progress<VerifyDone>> {
    let (progress, heard) = mpsc::channel(PROGRESS_QUEUED_MAX);
    tokio::spawn(async move {
        let Some(_place) = inner.getting.enter(&progress, None).await else { return };
        let last = tokio::select! {
            last = run(&inner, &request, &progress) => last,
            () = progress.closed() => return,
        };
        drop(progress.send(last.map_or_else(Progress::Failed, Progress::Done)).await);
    });
    heard
}

/// What is to be read, found.
struct Drill {
    id: SnapshotId,
    snapshot: Snapshot,
    /// What leads to the tree.
    records: Vec<(Kind, ChunkRef)>,
    head: Option<HeadReport>,
    notes: Vec<String>,
    /// Nodes that are thought to hold something.
    hints: Vec<NodeId>,
    sample: Sample,
    started: Instant,
}

async fn run(
    inner: &Arc<Inner>,
    request: &VerifyRequest,
    progress: &mpsc::Sender<Progress<VerifyDone>>,
) -> Result<VerifyDone, Failure> {
    let drill = find(inner, request).await?;
    tell_found(progress, (&drill.id, &drill.snapshot), drill.head.as_ref(), &drill.notes).await;
    let (node, id, sample_ppm) = (Arc::clone(inner), drill.id, drill.sample.ppm());
    let (patience, progress) = (Duration::from_secs(request.timeout_s), progress.clone());
    let work = tokio::task::spawn_blocking(move || read(node, drill, patience, &progress));
    let done = work.await.map_err(|error| failures::died("the reading thread", &error))??;
    inner.record(Entry::Verified(Verified {
        snapshot: id,
        at: seconds_since_1970(),
        sample_ppm,
        bytes: done.bytes,
        damaged: done.damaged,
        away: done.unreachable,
    }))?;
    inner.commit_catalog().await?;
    Ok(done)
}

/// Finds the snapshot, and what leads to its files.
async fn find(inner: &Arc<Inner>, request: &VerifyRequest) -> Result<Drill, Failure> {
    let started = Instant::now();
    let sample = match request.sample_ppm {
        None => Sample::all(),
        Some(ppm) if (1..=ALL_PPM).contains(&ppm) => Sample::of(ppm, rand::random()),
        Some(_) => {
            let hint = "give a part such as --sample 5%";
            let why = "a sample is more than nothing and at most all";
            return Err(Failure::new(FailureKind::Usage, DEED.undone, why, hint));
        }
    };
    let look = look(inner, Breadth::Brief).await?;
    // An older one that can be restored is worth a proof, and its date is told.
    let doubt = match Doubt::after(&look) {
        Doubt::Silent => Doubt::None,
        doubt => doubt,
    };
    let Look { peers, heads, notes, hints, .. } = look;
    if peers == 0 {
        return Err(nobody(&inner.mesh_name));
    }
    let wanted = request.snapshot.clone();
    let chosen = inner.repository.with_live(move |live| choose(&wanted, &live, &doubt, DEED));
    let Chosen { id, reference, index } = chosen.await?;
    let patience = Duration::from_secs(request.timeout_s);
    // Only to know what is to be read: it is read again below, and not from here.
    let snapshot = inner.snapshot((id, &reference), patience).await?;
    let mut records: Vec<(Kind, ChunkRef)> = vec![(Kind::Snapshot, reference)];
    let manifest = inner.repository.manifest_of(inner, index);
    records.extend(manifest.into_iter().map(|at| (Kind::Manifest, at)));
    let head = heads.iter().find(|head| head.index == index).map(HeadView::report);
    Ok(Drill { id, snapshot, records, head, notes, hints, sample, started })
}

/// Reads all of it; blocks.
fn read(
    inner: Arc<Inner>,
    drill: Drill,
    patience: Duration,
    progress: &mpsc::Sender<Progress<VerifyDone>>,
) -> Result<VerifyDone, Failure> {
    let keys = Arc::clone(&inner.keys);
    let source = MeshSource::new(inner, patience, progress).holders_only();
    let source = source.with_hints(drill.hints.clone());
    let mut source = Teller::new(source, progress, drill.snapshot.counts.bytes);
    let mut reader = Reader::new(&mut source);
    let records = drill.records.iter().map(|(kind, at)| (*kind, at.duplicate())).collect();
    let (root, sample) = (drill.snapshot.tree.as_ref(), drill.sample.clone());
    let mut verify = Verify::new(root, records, sample, LIMITS, &keys.dedup);
    let mut told = Told::default();
    if drill.head.as_ref().is_none_or(|head| head.agree == 0) {
        told.add_lost_head();
    }
    while let Some(finding) = reader.next(&mut verify).map_err(|error| failed(&drill.id, &error))? {
        told.add(finding);
    }
    source.save_doubts();
    Ok(tell::done(drill, told, &verify, &source))
}

fn failed(id: &SnapshotId, error: &ReadError<TreeFault>) -> Failure {
    match error {
        ReadError::Closed => failures::stopped(),
        ReadError::Fault(fault) => {
            let what = format!("snapshot {} cannot be restored", super::choose::short_id(id));
            let hint = "back up again, and report this with the node's log";
            Failure::new(FailureKind::Damage, what, fault.to_string(), hint)
        }
    }
}
