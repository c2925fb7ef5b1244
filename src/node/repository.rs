//! The owner's snapshots: what the heads of all devices name, and how this device publishes.
//!
//! ```text
//! heads of all devices ─▶ judged ─▶ manifest chunks ─▶ chains verified ─▶ merged, in memory
//! publish: snapshot and entries ─▶ quorum ─▶ head number + 1 ─▶ catalogue ─▶ quorum
//! ```
//! The newest record of each head stands in the catalogue, and manifest chunks have copies in the
//! data folder: so what was seen is there without a mesh, too. A head of this device stands there
//! before it is sent. Whatever breaks off then, the same record is sent later, and no other one
//! ever gets its number.
//!
//! How far a look at the heads goes, and why that is enough: see `ask`.

mod ask;
mod earlier;
mod everything;
mod heads;
mod learn;
mod noted;
mod others;
mod pick;
mod publish;
mod read;
mod send;

pub(super) use ask::look_around;
pub(super) use earlier::earlier;
pub(super) use everything::Everything;
pub(super) use heads::{HeadView, Look, look};
pub(super) use publish::{MadeBy, Published, now_ns, utc_offset_min};
#[cfg(test)]
pub(super) use publish::{hints, node_at};
pub(super) use send::send_again;

use super::evidence::Teller;
use super::failures;
use super::handle::NodeHandle;
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{DrillReport, Failure, ProofReport, SnapshotReport, Snapshots};
use crate::core::types::{NodeId, SnapshotId};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::repo::catalog::{Device, JobId, KnownHead, SnapshotDue, Verified};
use crate::repo::head::HeadPayload;
use crate::repo::manifest::draft::{DeviceView, merge};
use crate::repo::manifest::merge::{Coverage, Live, Merged};
use crate::repo::reference::ChunkRef;
pub(super) use ask::Breadth;
use ask::{Warnings, ask};
use learn::learn;
use send::{send, unsent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;
use tokio::sync::Mutex;

/// What is known of all devices. One publication at a time, and one question beside it.
#[derive(Default)]
pub(super) struct Repository {
    /// Whoever publishes has it until the head is sent.
    turn: Mutex<()>,
    state: Mutex<State>,
    /// What speaks against the heads, as of the last look at all of them.
    warnings: Warnings,
    /// Somebody has this device's newest record.
    is_sent: AtomicBool,
    /// Whoever looks after what was published has it.
    looks_after: Mutex<()>,
    /// How often prunes of other devices were accounted for in this run.
    accounted: AtomicU64,
}

#[derive(Default)]
struct State {
    /// By index, the chains that could be read.
    devices: BTreeMap<u16, DeviceView>,
    merged: Merged,
    /// Some device's chain could not be read.
    missing: bool,
    /// Somebody was asked since it was empty.
    asked: bool,
    /// How the holders agreed about each head when they were asked last.
    agreed: BTreeMap<u16, Agreed>,
    /// Heads of which anybody has anything.
    taken: BTreeSet<u16>,
    /// What spoke against heads when they were looked at last: nothing may be let go then.
    doubts: Vec<String>,
    /// When the folder's age was noted last in this run.
    aged: Option<Instant>,
}

/// How holders agree about a head.
#[derive(Debug, Clone, Default)]
struct Agreed {
    /// Who has the record that counts.
    agree: Vec<NodeId>,
    /// How many have older ones alone.
    older: usize,
    /// How many of those that it names did not answer.
    silent: usize,
    is_doubtful: bool,
}

impl State {
    fn merge(&mut self) {
        self.merged = merge(&self.devices);
    }

    /// The chains, for whoever makes one longer. What they came to stays; who asks meanwhile reads
    /// them anew.
    fn lend(&mut self) -> Self {
        let devices = std::mem::take(&mut self.devices);
        let (asked, missing) = (std::mem::take(&mut self.asked), self.missing);
        let mut lent = Self { devices, asked, missing, ..Self::default() };
        lent.merge();
        lent
    }

    fn coverage(&self) -> Coverage {
        if self.missing { Coverage::Some } else { Coverage::All }
    }
}

impl Repository {
    /// Reads the heads of all devices and what they name, those of devices that were never heard of
    /// too. What could not be read now stays as it was seen last. Returns what the user should
    /// know, and whether the newest list of every device that was found could be read.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub(super) async fn refresh(
        &self,
        inner: &Arc<Inner>,
        breadth: Breadth,
    ) -> Result<(Vec<String>, bool), Failure> {
        let mut state = self.state.lock().await;
        let notes = refresh(&mut state, inner, breadth).await?;
        Ok((notes, !state.missing))
    }

    /// Whether somebody had time to say what there is, so that a head can be chosen.
    #[cfg(test)]
    pub(super) async fn has_asked(&self) -> bool {
        self.state.lock().await.asked
    }

    /// As [`Self::refresh`], of the devices that are known alone, where that will do: for what
    /// only adds to them. Takes a few round trips.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub(super) async fn refresh_known(
        &self,
        inner: &Arc<Inner>,
    ) -> Result<(Vec<String>, bool), Failure> {
        let mut state = self.state.lock().await;
        let breadth = ask::breadth(inner);
        let notes = refresh(&mut state, inner, breadth).await?;
        Ok((notes, !state.missing))
    }

    /// Which of the files that are due are named already.
    ///
    /// # Errors
    /// As [`Self::refresh`].
    pub(super) async fn named(
        &self,
        inner: &Arc<Inner>,
        due: &[SnapshotDue],
    ) -> Result<Vec<(JobId, SnapshotId)>, Failure> {
        let mut state = self.state.lock().await;
        if !state.asked {
            let breadth = ask::breadth(inner);
            refresh(&mut state, inner, breadth).await?;
        }
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.id);
        let mine = |live: &&Live| live.added.put && Some(live.device) == own;
        // To the nanosecond: no two puts of a device begin at once.
        let began = state.merged.live().filter(mine);
        let began: BTreeMap<i64, SnapshotId> =
            began.map(|live| (live.added.created_ns, live.added.id)).collect();
        Ok(due.iter().filter_map(|due| Some((due.job, *began.get(&due.began_ns)?))).collect())
    }

    /// For how many replicas this device wished when it published last; where it never did, the
    /// device that wishes for most.
    pub(super) fn replicas(&self, inner: &Inner) -> Option<u8> {
        let mut heads = known_heads(inner);
        let wished = |index: u16, known: &KnownHead| {
            payload_of(&keys(inner, index), &known.seen.record).map(|payload| payload.replicas)
        };
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        let own = own.and_then(|own| wished(own, &heads.remove(&own)?));
        own.or_else(|| heads.iter().filter_map(|(index, known)| wished(*index, known)).max())
    }

    /// The chunks of its manifest that a head names, as far as the head is known.
    pub(super) fn manifest_of(&self, inner: &Inner, index: u16) -> Vec<ChunkRef> {
        let known = known_heads(inner).remove(&index);
        let payload = known.and_then(|known| payload_of(&keys(inner, index), &known.seen.record));
        let Some(payload) = payload else { return Vec::new() };
        let checkpoint = payload.checkpoint.into_iter().map(|(_, reference)| reference);
        checkpoint.chain(payload.recent).collect()
    }

    /// The chunks of all manifests that heads name, as far as the heads are known.
    pub(super) fn manifests(&self, inner: &Inner) -> Vec<ChunkRef> {
        let heads = known_heads(inner);
        heads.keys().flat_map(|index| self.manifest_of(inner, *index)).collect()
    }

    /// The prunes that are open, of all devices, in words.
    async fn prunes_told(&self, inner: &Inner) -> Vec<String> {
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        let state = self.state.lock().await;
        let told = |index: u16| match Some(index) == own {
            true => "a prune of this device is not done: run `quloud prune` again".to_owned(),
            false => format!("device {index} prunes, or did not come to its end"),
        };
        state.merged.open_intents().map(|intent| told(intent.index)).collect()
    }

    /// Looks at the snapshots that are known. Nobody is asked: see [`Self::refresh`].
    pub(super) async fn with_live<T>(&self, look: impl FnOnce(Vec<&Live>) -> T) -> T {
        let state = self.state.lock().await;
        look(state.merged.live().collect())
    }
}

impl NodeHandle {
    /// The snapshots of all devices of the owner, after a look at their heads.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub async fn snapshots(&self) -> Result<Snapshots, Failure> {
        let (mut notes, whole) = self.inner.repository.refresh(&self.inner, Breadth::Brief).await?;
        notes.extend(self.inner.repository.prunes_told(&self.inner).await);
        let in_order = |mut live: Vec<&Live>| -> Vec<(SnapshotId, SnapshotReport)> {
            live.sort_by_key(|live| (live.added.created_ns, live.added.id));
            live.into_iter().map(|live| (live.added.id, report(live))).collect()
        };
        let snapshots = self.inner.repository.with_live(in_order).await;
        let snapshots = self.inner.with_catalog(|catalog| {
            let teller = Teller::new(catalog, seconds_since_1970());
            let drilled = |(id, snapshot): (SnapshotId, SnapshotReport)| {
                let drills = catalog.drills_of(&id);
                let proven = drills.and_then(|drills| drills.proof).map(drill);
                let failed = drills.and_then(|drills| drills.failed).map(drill);
                let replicas = teller.snapshot(&id);
                SnapshotReport { replicas, proven, failed, ..snapshot }
            };
            snapshots.into_iter().map(drilled).collect()
        });
        Ok(Snapshots { snapshots, whole, notes })
    }
}

/// What reading a snapshot back came to, as it is listed.
pub(super) fn drill(verified: Verified) -> DrillReport {
    let Verified { at, sample_ppm, damaged, away, .. } = verified;
    DrillReport { at, sample_ppm, damaged, unreachable: away }
}

/// A proof as it is told.
pub(super) fn proof(verified: Verified) -> ProofReport {
    ProofReport { snapshot: verified.snapshot.to_string(), drill: drill(verified) }
}

/// A snapshot as it is listed. What drills came to, and how it is stored, is not in it.
pub(super) fn report(live: &Live) -> SnapshotReport {
    let added = &live.added;
    let mut roots: Vec<String> =
        added.roots.iter().map(|root| String::from_utf8_lossy(root).into_owned()).collect();
    if added.roots_cut {
        roots.push("..".to_owned());
    }
    let put = added.put.then(|| "put".to_owned());
    SnapshotReport {
        snapshot: added.id.to_string(),
        created_at: added.created_ns.div_euclid(1_000_000_000),
        device: live.device.to_string(),
        host: added.host.clone(),
        roots,
        tags: put.into_iter().chain(added.tags.iter().cloned()).collect(),
        files: added.files,
        bytes: added.bytes,
        new_bytes: added.new_bytes,
        partial: added.partial,
        replicas: None,
        proven: None,
        failed: None,
    }
}

/// The keys of a head of this generation.
fn keys(inner: &Inner, index: u16) -> HeadKeys {
    HeadKeys::derive(&inner.keys.head, inner.keys.generation, index)
}

/// The newest records that are known, by index.
fn known_heads(inner: &Inner) -> BTreeMap<u16, KnownHead> {
    let generation = inner.keys.generation;
    inner.with_catalog(|catalog| {
        let heads = catalog.heads().filter(|head| head.seen.record.generation() == generation);
        heads.map(|head| (head.seen.index, head.clone())).collect()
    })
}

async fn refresh(
    state: &mut State,
    inner: &Arc<Inner>,
    breadth: Breadth,
) -> Result<Vec<String>, Failure> {
    let asked = ask(inner, breadth).await?;
    learn(state, inner, asked).await
}

fn payload_of(keys: &HeadKeys, record: &HeadRecord) -> Option<HeadPayload> {
    HeadPayload::decode(&keys.open(record).ok()?).ok()
}

/// Whether the newest record of its head that is known is of this device: one that has only chosen
/// a head may find that somebody else was first to write it.
fn writes(inner: &Inner, device: &Device) -> bool {
    let head = known_heads(inner).remove(&device.index);
    let payload = head.and_then(|head| payload_of(&keys(inner, device.index), &head.seen.record));
    payload.is_some_and(|payload| payload.device == device.id)
}

/// Which device this folder is; a new one takes the lowest head that nobody was seen to write, and
/// so does one whose head somebody else was first to write.
async fn device(inner: &Arc<Inner>, state: &State) -> Result<Device, Failure> {
    let device = inner.with_catalog(|catalog| catalog.device());
    match device.filter(|device| writes(inner, device)) {
        Some(device) => Ok(device),
        // Another device may write any head: it would be taken from it.
        None if !state.asked => Err(failures::alone()),
        None => heads::claim(inner, state, None).await,
    }
}
