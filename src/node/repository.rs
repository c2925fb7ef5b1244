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
mod everything;
mod heads;
mod noted;
mod others;
mod publish;

pub(super) use ask::look_around;
pub(super) use everything::Everything;
pub(super) use heads::{HeadView, Look, look};
pub(super) use publish::{Published, now_ns, utc_offset_min};
#[cfg(test)]
pub(super) use publish::{hints, node_at};

use super::failures;
use super::handle::NodeHandle;
use super::heads::{HeadStored, HeadWish, HeadsFound};
use super::inner::Inner;
use super::put::seconds_since_1970;
use super::report::{DrillReport, Failure, ProofReport, SnapshotReport, Snapshots};
use crate::core::types::{NodeId, SnapshotId};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::repo::catalog::{
    Device, Entry, HeadKept, HeadSeen, JobId, KnownHead, SnapshotDue, Verified,
};
use crate::repo::frame::Kind;
use crate::repo::head::{HeadPayload, Linked, Verdict, judge};
use crate::repo::manifest::chain::{Chain, Seen};
use crate::repo::manifest::draft::{DeviceView, merge};
use crate::repo::manifest::merge::{Coverage, Live, Merged};
use crate::repo::reference::ChunkRef;
use ask::{Asked, Breadth, Warnings, ask};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

/// How long a manifest chunk may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// How long a head that is sent again may wait for its quorum.
const AGAIN_PATIENCE: Duration = Duration::from_secs(10);

/// How often a head that nobody keeps is sent again, if nobody comes before.
const AGAIN_EVERY: Duration = Duration::from_secs(60);

/// Holders that are remembered of one head.
const HOLDERS_MAX: usize = 32;

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

/// The record of a head that counts, and what is known beside it.
struct Picked {
    record: HeadRecord,
    payload: HeadPayload,
    agreed: Agreed,
}

impl Repository {
    /// Reads the heads of all devices and what they name, those of devices that were never heard of
    /// too. What could not be read now stays as it was seen last. Returns what the user should
    /// know, and whether the newest list of every device that was found could be read.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub(super) async fn refresh(&self, inner: &Arc<Inner>) -> Result<(Vec<String>, bool), Failure> {
        let mut state = self.state.lock().await;
        let notes = refresh(&mut state, inner, Breadth::Everyone).await?;
        Ok((notes, !state.missing))
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
        let (mut notes, whole) = self.inner.repository.refresh(&self.inner).await?;
        notes.extend(self.inner.repository.prunes_told(&self.inner).await);
        let in_order = |mut live: Vec<&Live>| -> Vec<(SnapshotId, SnapshotReport)> {
            live.sort_by_key(|live| (live.added.created_ns, live.added.id));
            live.into_iter().map(|live| (live.added.id, report(live))).collect()
        };
        let snapshots = self.inner.repository.with_live(in_order).await;
        let snapshots = self.inner.with_catalog(|catalog| {
            let drilled = |(id, snapshot): (SnapshotId, SnapshotReport)| {
                let drills = catalog.drills_of(&id);
                let proven = drills.and_then(|drills| drills.proof).map(drill);
                let last = drills.map(|drills| drills.last);
                let failed = last.filter(|last| !last.is_proof()).map(drill);
                SnapshotReport { proven, failed, ..snapshot }
            };
            snapshots.into_iter().map(drilled).collect()
        });
        Ok(Snapshots { snapshots, whole, notes })
    }
}

/// What reading a snapshot back came to, as it is listed.
fn drill(verified: Verified) -> DrillReport {
    let Verified { at, sample_ppm, damaged, away, .. } = verified;
    DrillReport { at, sample_ppm, damaged, unreachable: away }
}

/// A proof as it is told.
pub(super) fn proof(verified: Verified) -> ProofReport {
    ProofReport { snapshot: verified.snapshot.to_string(), drill: drill(verified) }
}

/// A snapshot as it is listed. What drills came to is not in it.
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

/// Takes over what was heard.
async fn learn(
    state: &mut State,
    inner: &Arc<Inner>,
    asked: Asked,
) -> Result<Vec<String>, Failure> {
    let Asked { breadth, indexes, before, found, mut notes } = asked;
    state.asked |= found.is_some();
    let is_heard = found.is_some();
    let found = found.unwrap_or_default();
    let known = known_heads(inner);
    let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
    state.missing = false;
    state.agreed.clear();
    let mut unlinked = Vec::new();
    for index in indexes.iter().copied() {
        let keys = keys(inner, index);
        let known = known.get(&index);
        if found.records.iter().any(|(_, record)| record.id() == keys.id()) {
            state.taken.insert(index);
        }
        if known.map(|head| &head.seen) != before.get(&index).map(|head| &head.seen) {
            // It was written or read anew since it was asked for: what was heard is of before.
            state.missing |= !state.devices.contains_key(&index);
            continue;
        }
        let name = HeadName { index, is_own: own == Some(index) };
        let (picked, is_resolved) = pick(&keys, name, &found, known, &mut notes);
        state.missing |= !is_resolved;
        let Some(picked) = picked else { continue };
        state.agreed.insert(index, picked.agreed.clone());
        match adopt(state, inner, &keys, name, picked, known).await? {
            Ok(Linked::ToSeen) => {}
            Ok(Linked::Unknown) => unlinked.push(format!(
                "{}: what it names now is not shown to go on from what was seen before",
                name.text()
            )),
            Err(why) => {
                state.missing = true;
                notes.push(format!("{}: {why}", name.text()));
                // What was seen before it is better than nothing.
                let before = known.filter(|_| !state.devices.contains_key(&index));
                if let Some(before) = before.and_then(|head| seen_before(&keys, head)) {
                    drop(adopt(state, inner, &keys, name, before, known).await?);
                }
            }
        }
    }
    // Who was not asked for cannot be missed.
    let unfound = unfound(state, inner).into_iter().filter(|(index, _)| indexes.contains(index));
    for (index, number) in unfound {
        state.missing = true;
        let name = HeadName { index, is_own: own == Some(index) };
        notes.push(format!(
            "{}: another device has seen its number {number}, and it was not found",
            name.text()
        ));
    }
    state.doubts.clone_from(&notes);
    notes.append(&mut unlinked);
    if is_heard {
        inner.repository.warnings.learn(breadth, &notes);
        if breadth == Breadth::Everyone {
            inner.record(Entry::LookedAround { at: seconds_since_1970() })?;
        }
    }
    state.merge();
    noted::note(state, inner)?;
    inner.commit_catalog().await?;
    Ok(notes)
}

/// The heads that some device has seen a newer record of, with its number.
fn unfound(state: &State, inner: &Inner) -> BTreeMap<u16, u64> {
    let mut newest = BTreeMap::new();
    for (index, of) in &state.devices {
        let payload = payload_of(&keys(inner, *index), &of.record);
        for (named, number) in payload.into_iter().flat_map(|payload| payload.devices) {
            let newest = newest.entry(named).or_insert(0);
            *newest = number.max(*newest);
        }
    }
    newest.retain(|index, number| {
        state.devices.get(index).is_none_or(|of| of.record.number() < *number)
    });
    newest
}

/// Which head, as the user is told.
#[derive(Clone, Copy)]
struct HeadName {
    index: u16,
    is_own: bool,
}

impl HeadName {
    fn text(self) -> String {
        let Self { index, is_own } = self;
        if is_own { "this device's head".to_owned() } else { format!("the head of device {index}") }
    }
}

/// Which record of a head counts. One that this device has seen is never given up for an older one
/// or for another with its number. Also returns whether nothing speaks against it: what a head says
/// whose records contradict each other, or cannot be read, is not all that it names.
fn pick(
    keys: &HeadKeys,
    name: HeadName,
    found: &HeadsFound,
    known: Option<&KnownHead>,
    notes: &mut Vec<String>,
) -> (Option<Picked>, bool) {
    let id = keys.id();
    let records: Vec<(NodeId, HeadRecord)> =
        found.records.iter().filter(|(_, record)| record.id() == id).cloned().collect();
    let seen = known.map(|head| &head.seen.record);
    let unsent = name.is_own && known.is_some_and(|head| head.kept.is_none());
    let (mut is_resolved, mut is_behind) = (true, false);
    let mut note = |what: String| notes.push(format!("{}: {what}", name.text()));
    match judge(keys, name.index, &records, seen.map(|seen| (seen.number(), seen.hash()))) {
        Verdict::Current(agreed) => {
            if agreed.is_doubtful() {
                note("few of its holders answered: there may be a newer one".to_owned());
            }
            let (silent, is_doubtful) = (agreed.silent.len(), agreed.is_doubtful());
            let (record, payload, agree) = (agreed.record, agreed.payload, agreed.agree);
            let agreed = Agreed { agree, older: agreed.older.len(), silent, is_doubtful };
            return (Some(Picked { record, payload, agreed }), true);
        }
        Verdict::Behind { highest } if !unsent => {
            let kept = known.and_then(|head| head.kept.as_ref());
            let kept = kept.map(|kept| kept.holders.as_slice()).unwrap_or_default();
            let went_back = records.iter().any(|(from, _)| kept.contains(from));
            is_behind = !went_back;
            note(match went_back {
                true => format!("who kept it has only number {highest}: it was rolled back"),
                false => format!("those who keep it are silent: only number {highest} answered"),
            });
        }
        Verdict::Unreadable { number } => {
            is_resolved = false;
            note(format!(
                "number {number} says what this version cannot read: a newer version wrote it, or \
                 somebody has its key"
            ));
        }
        Verdict::Fork { number, records } => {
            is_resolved = false;
            let holders = records.values().map(Vec::len).sum::<usize>();
            note(format!("two records of number {number} at {holders} holders: it was forked"));
        }
        Verdict::Behind { .. } | Verdict::None => {}
    }
    let picked = known.and_then(|head| seen_before(keys, head));
    let picked = picked.map(|mut picked| {
        // Nobody has the first record of an unsent one, and whoever has an older one has answered.
        let is_silent = records.is_empty() && picked.agreed.silent > 0 && !unsent;
        picked.agreed.is_doubtful = is_silent || is_behind;
        if is_silent {
            let silent = picked.agreed.silent;
            note(format!("none of its {silent} holders answered: this is what was seen last"));
        }
        picked
    });
    (picked, is_resolved)
}

/// The record of a head that was seen last. Nobody is counted who may have it.
fn seen_before(keys: &HeadKeys, head: &KnownHead) -> Option<Picked> {
    let record = head.seen.record.clone();
    let payload = payload_of(keys, &record)?;
    let silent = head.kept.as_ref().map_or(payload.holders.len(), |kept| kept.holders.len());
    Some(Picked { record, payload, agreed: Agreed { silent, ..Agreed::default() } })
}

fn payload_of(keys: &HeadKeys, record: &HeadRecord) -> Option<HeadPayload> {
    HeadPayload::decode(&keys.open(record).ok()?).ok()
}

/// Reads what a record names, checks it against what was seen before, and only then remembers the
/// record. The inner error says why the chain is not used.
async fn adopt(
    state: &mut State,
    inner: &Arc<Inner>,
    keys: &HeadKeys,
    name: HeadName,
    picked: Picked,
    known: Option<&KnownHead>,
) -> Result<Result<Linked, String>, Failure> {
    let Picked { record, payload, agreed: Agreed { agree, .. } } = picked;
    let index = name.index;
    let mut linked = Linked::ToSeen;
    if state.devices.get(&index).is_none_or(|of| of.record != record) {
        let seen = known.and_then(|head| payload_of(keys, &head.seen.record));
        let seen = seen.map(|seen| Seen { length: seen.chain, newest: seen.newest });
        let chain = match read_chain(inner, &payload).await {
            Ok(entries) => Chain::verify(&payload, inner.keys.generation, &entries, seen),
            Err(why) => return Ok(Err(why)),
        };
        let (chain, view) = match chain {
            Ok(read) => read,
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        let device = payload.device;
        linked = chain.linked();
        state.devices.insert(index, DeviceView { record: record.clone(), device, chain, view });
    }
    let number = record.number();
    let news = known.is_none_or(|head| head.seen.record.number() < number);
    if news {
        inner.record(Entry::HeadSeen(HeadSeen { index, record }))?;
    }
    // What few have of this device's own is sent again.
    let enough = !agree.is_empty() && (!name.is_own || agree.len() >= payload.replicas.into());
    if enough && (news || known.is_none_or(|head| head.kept.is_none())) {
        keep(inner, index, number, agree)?;
    }
    Ok(Ok(linked))
}

/// Remembers who keeps a record.
fn keep(inner: &Inner, index: u16, number: u64, mut holders: Vec<NodeId>) -> Result<(), Failure> {
    holders.truncate(HOLDERS_MAX);
    let generation = inner.keys.generation;
    inner.record(Entry::HeadKept(HeadKept { generation, index, number, holders }))
}

/// The plaintexts of the checkpoint and the recent entries, in their order.
async fn read_chain(
    inner: &Arc<Inner>,
    payload: &HeadPayload,
) -> Result<Vec<bytes::Bytes>, String> {
    let checkpoint = payload.checkpoint.iter().map(|(_, reference)| reference);
    let references: Vec<&ChunkRef> = checkpoint.chain(&payload.recent).collect();
    let read = references.iter().map(|at| inner.chunk(at, Kind::Manifest, CHUNK_PATIENCE));
    let read: Result<Vec<_>, String> = join_all(read).await.into_iter().collect();
    read.map_err(|why| format!("its list of snapshots cannot be read: {why}"))
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

/// Sends a record of this device's head, which the catalogue has, and remembers who took it.
async fn send(
    inner: &Arc<Inner>,
    index: u16,
    record: HeadRecord,
    wish: HeadWish,
) -> Result<HeadStored, Failure> {
    let number = record.number();
    // Once anybody has it, no other record may ever get its number.
    inner.commit_catalog().await?;
    let stored = inner.store_head(&keys(inner, index), record, wish).await?;
    if !stored.holders.is_empty()
        && unsent(inner).is_none_or(|(_, newest)| newest.number() == number)
    {
        inner.repository.is_sent.store(true, Ordering::Relaxed);
    }
    if !stored.superseded_by.is_empty() {
        tracing::warn!(number, by = stored.superseded_by.len(), "a newer head is said to be held");
    }
    if stored.is_stored {
        keep(inner, index, number, stored.holders.iter().copied().collect())?;
        inner.commit_catalog().await?;
    }
    Ok(stored)
}

/// This device's newest record, where too few are known to keep it.
fn unsent(inner: &Inner) -> Option<(u16, HeadRecord)> {
    let device = inner.with_catalog(|catalog| catalog.device())?;
    let head = known_heads(inner).remove(&device.index)?;
    head.kept.is_none().then_some((device.index, head.seen.record))
}

/// Sends the head of a publication that was broken off again, the very same, until it is kept.
/// Runs for the node's life.
pub(super) async fn send_again(inner: Weak<Inner>, mut peers: watch::Receiver<BTreeSet<NodeId>>) {
    loop {
        let somebody = !peers.borrow_and_update().is_empty();
        let Some(inner) = inner.upgrade() else { return };
        // Whoever publishes now sends a newer record, which this one makes way for.
        if somebody && let Some((index, record)) = unsent(&inner) {
            let payload = payload_of(&keys(&inner, index), &record);
            let replicas = payload.as_ref().map_or(1, |payload| payload.replicas).max(1);
            let mut held_by = payload.map(|payload| payload.holders).unwrap_or_default();
            held_by.retain(|node| inner.shared.is_connected(node));
            let wish = HeadWish { replicas, held_by, patience: AGAIN_PATIENCE };
            if let Err(failure) = send(&inner, index, record, wish).await {
                tracing::info!(why = failure.why, "a head was not sent again");
            }
        }
        drop(inner);
        tokio::select! {
            changed = peers.changed() => if changed.is_err() { return },
            () = sleep(AGAIN_EVERY) => {}
        }
    }
}
