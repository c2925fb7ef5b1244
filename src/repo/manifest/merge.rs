//! All chains of an owner together. The view does not depend on the order in which they come: what
//! anybody forgot is gone, whoever added it and whenever.

use super::chain::ChainView;
use super::{Added, Body, Checkpoint, Hint, KeyChange, KnownDevice, PruneId, PruneIntent};
use crate::core::types::{ChunkId, DeviceId, SnapshotId};
use crate::planted::{self, Bug};
use crate::repo::reference::ChunkRef;
use std::collections::{BTreeMap, BTreeSet};

/// Whether every device's chain was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All that are known.
    All,
    /// Some could not be.
    Some,
}

/// A live snapshot, and whose it is.
#[derive(Debug)]
pub struct Live {
    /// What was added.
    pub added: Added,
    /// The head of the device that made it.
    pub index: u16,
    /// That device.
    pub device: DeviceId,
}

/// A prune that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenIntent {
    /// When, among all entries: the lowest goes first.
    pub lamport: u64,
    /// The head of the device that prunes.
    pub index: u16,
    /// Which prune.
    pub prune: PruneId,
    /// How long it waits before it releases, in seconds.
    pub grace_s: u32,
}

/// The owner's view over all devices.
#[derive(Debug, Default)]
pub struct Merged {
    /// Who added what, by head and chunk. One snapshot may stand in several lists, and in each
    /// under another reference: whoever has the owner's keys can seal it once more.
    added: BTreeMap<SnapshotId, BTreeMap<(u16, ChunkId), Live>>,
    /// What was forgotten, and by the chains of which heads.
    forgotten: BTreeMap<SnapshotId, BTreeSet<u16>>,
    intents: BTreeSet<OpenIntent>,
    done: BTreeSet<PruneId>,
    /// By head, the device that wrote it last: its Lamport time and its name.
    devices: BTreeMap<u16, (u64, DeviceId)>,
    retired: BTreeSet<(u16, DeviceId)>,
    lamport: u64,
}

impl Merged {
    /// No devices yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the chain of head `index`, which `device` writes. Any order gives the same view.
    pub fn add_device(&mut self, index: u16, device: DeviceId, view: &ChainView) {
        let lamport = view.entries.last().map_or(0, |entry| entry.lamport);
        self.know(KnownDevice { index, device, lamport, retired: false });
        if let Some(checkpoint) = &view.checkpoint {
            checkpoint.live.iter().for_each(|added| self.add(index, device, added));
            checkpoint.forgets.iter().for_each(|id| self.forget(index, *id));
            for (intent, lamport) in &checkpoint.intents {
                self.intend(index, *intent, *lamport);
            }
            checkpoint.devices.iter().for_each(|known| self.know(*known));
        }
        for entry in &view.entries {
            self.lamport = self.lamport.max(entry.lamport);
            match &entry.body {
                Body::Add(added) => self.add(index, device, added),
                Body::Forget(ids) => ids.iter().for_each(|id| self.forget(index, *id)),
                Body::PruneIntent(intent) => self.intend(index, *intent, entry.lamport),
                Body::PruneDone { prune, .. } => {
                    self.done.insert(*prune);
                }
                Body::Keys(event) => self.know(KnownDevice {
                    index: event.index,
                    device: event.device,
                    lamport: 0,
                    retired: event.what == KeyChange::Retired,
                }),
                // In the midst of a view there is none: the head names the last one.
                Body::Checkpoint(_) => {}
            }
        }
    }

    /// An entry with this Lamport time was seen. The time of a checkpoint is in no view.
    pub fn saw(&mut self, lamport: u64) {
        self.lamport = self.lamport.max(lamport);
    }

    /// What is to be kept: added by some device and forgotten by none, in the order of the ids. Of
    /// one that several added, what the lowest head says.
    pub fn live(&self) -> impl Iterator<Item = &Live> {
        self.kept().filter_map(|of| of.values().next())
    }

    /// Where all that is to be kept is, by everybody who says so: of one snapshot there may be
    /// several, and none of them is known to be the right one.
    pub fn references(&self) -> impl Iterator<Item = &ChunkRef> {
        self.kept().flat_map(|of| of.values().map(|live| &live.added.reference))
    }

    fn kept(&self) -> impl Iterator<Item = &BTreeMap<(u16, ChunkId), Live>> {
        let ignores = planted::is_on(Bug::IgnoreForgets);
        let all = self.added.iter();
        all.filter(move |(id, _)| ignores || !self.forgotten.contains_key(*id)).map(|(_, of)| of)
    }

    /// All that some device added and no checkpoint has dropped, and by which head's chain each was
    /// forgotten, if it was: the lowest of several.
    pub fn all(&self) -> impl Iterator<Item = (&Live, Option<u16>)> {
        let by = |id: &SnapshotId| self.forgotten.get(id)?.first().copied();
        self.added.iter().filter_map(move |(id, all)| Some((all.values().next()?, by(id))))
    }

    /// Whether some device added this snapshot, and no checkpoint has dropped it.
    pub fn has(&self, id: &SnapshotId) -> bool {
        self.added.contains_key(id)
    }

    /// Whether somebody forgot this snapshot.
    pub fn is_forgotten(&self, id: &SnapshotId) -> bool {
        self.forgotten.contains_key(id)
    }

    /// The prunes that are not done, in their order.
    pub fn open_intents(&self) -> impl Iterator<Item = &OpenIntent> {
        self.intents.iter().filter(|intent| !self.done.contains(&intent.prune))
    }

    /// All devices that are known, those included whose chains were not read, by index.
    pub fn devices(&self) -> impl Iterator<Item = KnownDevice> {
        self.devices.iter().map(|(index, (lamport, device))| {
            let retired = self.retired.contains(&(*index, *device));
            KnownDevice { index: *index, device: *device, lamport: *lamport, retired }
        })
    }

    /// The highest Lamport time of all.
    pub fn lamport(&self) -> u64 {
        self.lamport
    }

    /// What the device with head `index` must say so that its entries until now may go: its own
    /// live snapshots, its prunes that are not done, the devices, and what it forgot of the
    /// others'.
    ///
    /// A forgotten snapshot of another device must stay forgotten for as long as that device may
    /// still add it. Only when all chains were read, and none has it any more, is it left out.
    pub fn checkpoint(&self, index: u16, coverage: Coverage, hints: Vec<Hint>) -> Checkpoint {
        let own = |of: &BTreeMap<(u16, ChunkId), Live>| {
            of.values().find(|live| live.index == index).map(|live| live.added.duplicate())
        };
        let needed = |id: &SnapshotId| match self.added.get(id) {
            Some(of) => of.values().any(|live| live.index != index),
            None => coverage == Coverage::Some,
        };
        let forgets = self.forgotten.iter().filter(|(_, by)| by.contains(&index));
        let intents = self.open_intents().filter(|intent| intent.index == index);
        let intent = |open: &OpenIntent| {
            (PruneIntent { prune: open.prune, grace_s: open.grace_s }, open.lamport)
        };
        let dropped = usize::from(planted::is_on(Bug::CheckpointDropsOne));
        Checkpoint {
            live: self.kept().filter_map(own).skip(dropped).collect(),
            forgets: forgets.map(|(id, _)| *id).filter(needed).collect(),
            intents: intents.map(intent).collect(),
            devices: self.devices().collect(),
            hints,
        }
    }

    /// Two devices never add one snapshot; if they do, it is of both, and stays in the lists of
    /// both: nobody's list loses what another one says.
    fn add(&mut self, index: u16, device: DeviceId, added: &Added) {
        let live = Live { added: added.duplicate(), index, device };
        self.added.entry(added.id).or_default().insert((index, added.reference.id), live);
    }

    /// The device with head `index` forgets this snapshot, whatever its chain says of it: for what
    /// a checkpoint is to say that has no entry yet.
    pub fn forget(&mut self, index: u16, id: SnapshotId) {
        self.forgotten.entry(id).or_default().insert(index);
    }

    fn intend(&mut self, index: u16, intent: PruneIntent, lamport: u64) {
        let PruneIntent { prune, grace_s } = intent;
        self.lamport = self.lamport.max(lamport);
        self.intents.insert(OpenIntent { lamport, index, prune, grace_s });
    }

    /// Of two that write one head the one counts that was seen later; once retired is retired.
    fn know(&mut self, found: KnownDevice) {
        let KnownDevice { index, device, lamport, retired } = found;
        self.lamport = self.lamport.max(lamport);
        if retired {
            self.retired.insert((index, device));
        }
        let last = self.devices.entry(index).or_insert((lamport, device));
        *last = (*last).max((lamport, device));
    }
}
