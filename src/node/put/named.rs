//! A file that was put gets a snapshot: it is listed, forgotten and recovered like any other, and
//! its tree names the very root that the capability names.
//!
//! What the snapshot will say is taken from the open file while it is sealed, and stands in the
//! catalogue before the put is done. So a put that dies in between is named later, even if the file
//! has gone by then: when the node runs again, and whenever somebody connects. Files that wait are
//! named by one record of the head.

use super::again;
use crate::core::types::{DeviceId, NodeId, SnapshotId};
use crate::node::after::look_after;
use crate::node::backup::{HeldByMesh, StoreSink, Trust, Wish, added, host};
use crate::node::check::Belief;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::node::repository::utc_offset_min;
use crate::repo::catalog::{Entry, JobId, PutStarted, SnapshotDue};
use crate::repo::engine::Engine;
use crate::repo::frame::Kind;
use crate::repo::known::Known;
use crate::repo::manifest::{Added, Body};
use crate::repo::put::PutSummary;
use crate::repo::put::file::SourceFile;
use crate::repo::reference::ChunkRef;
use crate::repo::sealer::Sealer;
use crate::repo::snapshot::{Counts, Snapshot};
use crate::repo::tree::{Content, What, few};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Files that one record of the head names.
const NAMED_AT_ONCE: usize = 8;

/// Names that are remembered for the puts which wait for them.
const NAMES_MAX: usize = 256;

/// How long the chunks of what an earlier run left may wait for their quorum.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon what could not be named is tried again, if nobody connects before; then after twice as
/// long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(2);

/// And at least so often.
const AGAIN_EVERY: Duration = Duration::from_secs(60);

/// What was named since the start. Whoever names files has it.
#[derive(Default)]
pub(in crate::node) struct Names(BTreeMap<JobId, SnapshotId>);

impl Names {
    fn add(&mut self, job: JobId, id: SnapshotId) {
        self.0.insert(job, id);
        if self.0.len() > NAMES_MAX {
            self.0.pop_first();
        }
    }
}

/// What is to be said of a file that was sealed; `None` where no tree takes it.
pub(super) fn due(
    source: &SourceFile,
    job: &PutStarted,
    began_ns: i64,
    summary: &PutSummary,
) -> Option<SnapshotDue> {
    let recorded = source.recorded()?;
    let (mut entries, mut partial) = (recorded.entries, recorded.fault.is_some());
    let file = entries.last_mut()?;
    let What::File(body) = &mut file.what else { return None };
    // It has not changed while it was read: else the put would have failed.
    body.bytes = summary.bytes;
    if summary.bytes > 0 {
        let of = &summary.capability;
        let (id, locality, bytes) = (of.id, of.locality, summary.bytes);
        body.content = Content::Listing(ChunkRef { ck: of.ck.duplicate(), id, locality, bytes });
    }
    let mut encoded = few::encode(&entries).ok()?;
    if encoded.len() > usize::from(u16::MAX) {
        // The catalogue has no room for attributes of that size.
        entries.last_mut()?.xattrs.clear();
        partial = true;
        encoded = few::encode(&entries).ok()?;
    }
    let PutStarted { job, replicas, .. } = *job;
    let new_bytes = summary.sealed_bytes;
    Some(SnapshotDue { job, began_ns, replicas, partial, new_bytes, entries: encoded })
}

/// Publishes the snapshots that are due: all of them, or until that of the `wanted` put is, whose
/// id is returned.
///
/// # Errors
/// The chain of before cannot be read; nobody takes the chunks or the head; the node stops.
pub(super) async fn publish(
    inner: &Arc<Inner>,
    wanted: Option<JobId>,
    patience: Duration,
) -> Result<Option<SnapshotId>, Failure> {
    let mut names = inner.naming.lock().await;
    loop {
        if let Some(id) = wanted.and_then(|job| names.0.get(&job)) {
            return Ok(Some(*id));
        }
        let due = next(inner, wanted);
        let is_wanted = |due: &SnapshotDue| wanted.is_none_or(|job| job == due.job);
        let Some(first) = due.first().filter(|first| is_wanted(first)) else { return Ok(None) };
        let wish = Wish { replicas: first.replicas, patience };
        name(inner, &mut names, due, wish).await?;
    }
}

/// The next ones, all for as many replicas; that of the `wanted` put comes first.
fn next(inner: &Inner, wanted: Option<JobId>) -> Vec<SnapshotDue> {
    inner.with_catalog(|catalog| {
        let mut all: Vec<&SnapshotDue> = catalog.snapshots_due().collect();
        all.sort_by_key(|due| (Some(due.job) != wanted, due.job));
        let replicas = all.first().map(|due| due.replicas);
        let alike = all.into_iter().filter(|due| Some(due.replicas) == replicas);
        alike.take(NAMED_AT_ONCE).map(SnapshotDue::duplicate).collect()
    })
}

/// Names these, and notes it.
async fn name(
    inner: &Arc<Inner>,
    names: &mut Names,
    all: Vec<SnapshotDue>,
    wish: Wish,
) -> Result<(), Failure> {
    // Published before, and the node did not live to look after it, or to note that.
    let before = inner.repository.named(inner, &all).await?;
    let mut named: BTreeMap<JobId, SnapshotId> = before.iter().copied().collect();
    let due = all.iter().filter(|due| !named.contains_key(&due.job));
    let due: Vec<SnapshotDue> = due.map(SnapshotDue::duplicate).collect();
    if !due.is_empty() {
        // What holders showed, and is believed, is of after the last look; nobody looks in between.
        let _alone = inner.repository.look_alone().await;
        again::store_what_went(inner, &due, Belief::ADay).await?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let node = Arc::clone(inner);
        let what = move |sealer: &mut Sealer<'_, StoreSink>, device: DeviceId| {
            let host = host();
            let mut bodies = Vec::new();
            for due in due {
                match seal(&node, sealer, device, &host, &due)? {
                    Some(added) => {
                        // The receiver is there for as long as this is waited for.
                        let _ = sender.send((due.job, added.id));
                        bodies.push(Body::Add(added));
                    }
                    None => tracing::error!(job = due.job.0, "what was put cannot be named"),
                }
            }
            Ok(bodies)
        };
        let reins = (Arc::default(), Arc::default());
        inner.repository.publish(inner, wish, reins, what).await?;
        named.extend(receiver.try_iter());
    }
    // Another device may have let go what was found to be stored already.
    let looked = look_after(inner).await?;
    for due in all {
        let id = named.get(&due.job).copied();
        // What a look before this one came to is not known.
        let was_named = before.iter().any(|(job, _)| *job == due.job);
        if was_named || id.is_some_and(|id| looked.short_of(&id).is_some()) {
            again::store_what_went(inner, std::slice::from_ref(&due), Belief::Nothing).await?;
        }
        done(inner, names, due.job, id)?;
    }
    inner.commit_catalog().await
}

fn done(
    inner: &Inner,
    names: &mut Names,
    job: JobId,
    id: Option<SnapshotId>,
) -> Result<(), Failure> {
    inner.record(Entry::SnapshotDone(job))?;
    if let Some(id) = id {
        names.add(job, id);
    }
    Ok(())
}

/// Seals the tree and the snapshot of one file; `None` where what the catalogue has is no tree.
fn seal(
    inner: &Arc<Inner>,
    sealer: &mut Sealer<'_, StoreSink>,
    device: DeviceId,
    host: &str,
    due: &SnapshotDue,
) -> Result<Option<Added>, Failure> {
    let Ok(entries) = few::decode(Bytes::copy_from_slice(&due.entries)) else { return Ok(None) };
    let failed = |why: String| failures::repository(why, "report it with the node's log");
    let held = HeldByMesh::new(inner, due.replicas, Trust::Today);
    let under = (&*inner.keys, inner.keys.locality());
    let mut engine = Engine::new(under, Known::new(), &held, sealer.sink());
    for entry in &entries {
        engine.keep(entry).map_err(|error| failed(error.to_string()))?;
    }
    let built = engine.finish().map_err(|error| failed(error.to_string()))?;
    let root = entries.last().map(|file| [b"/", file.path.as_slice()].concat());
    let new_bytes = built.counts.new_bytes.saturating_add(due.new_bytes);
    let snapshot = Snapshot {
        device,
        created_ns: due.began_ns,
        utc_offset_min: utc_offset_min(due.began_ns),
        partial: due.partial,
        put: true,
        tree: built.root,
        parent: None,
        counts: Counts { new_bytes, ..built.counts },
        nonce: rand::random(),
        host: host.to_owned(),
        roots: root.into_iter().collect(),
        tags: Vec::new(),
        excludes: Vec::new(),
        program: concat!("quloud ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let plaintext = snapshot.encode().map_err(|fault| failed(fault.to_string()))?;
    let at = sealer.meta(Kind::Snapshot, &plaintext, 0);
    let at = at.map_err(|error| failed(error.to_string()))?;
    Ok(Some(added(Snapshot::id(&plaintext), at, &snapshot)))
}

/// Names what an earlier run of this folder did not come to name. Runs for the node's life.
pub(in crate::node) async fn publish_later(
    inner: Weak<Inner>,
    mut peers: watch::Receiver<BTreeSet<NodeId>>,
) {
    let mut pause = AGAIN_FIRST;
    loop {
        let somebody = !peers.borrow_and_update().is_empty();
        let Some(inner) = inner.upgrade() else { return };
        let is_due = inner.with_catalog(|catalog| catalog.snapshots_due().next().is_some());
        if somebody && is_due {
            let _stays = inner.letting_go.read().await;
            match publish(&inner, None, PATIENCE).await {
                Ok(_) => pause = AGAIN_FIRST,
                Err(failure) => {
                    tracing::info!(why = failure.why, "files that were put have no snapshot yet");
                    pause = AGAIN_EVERY.min(2 * pause);
                }
            }
        }
        drop(inner);
        tokio::select! {
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep(pause) => {}
        }
    }
}
