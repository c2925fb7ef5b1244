//! A device's chain as it becomes: more entries, a checkpoint where one is due, and the record of
//! the head that names them. Pure: whoever publishes stores the chunks first and the head last.

use super::chain::{Chain, ChainView};
use super::merge::{Coverage, Merged};
use super::{Body, Checkpoint, Hint, ManifestEntry, ManifestFault};
use crate::core::types::{DeviceId, NodeId};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::repo::frame::Kind;
use crate::repo::head::{DEVICES_MAX, HEAD_HOLDERS_MAX, HeadPayload};
use crate::repo::sealer::{ChunkSink, SealError, Sealer};
use rand::CryptoRng;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use zeroize::Zeroizing;

/// The chain of one device, as a record of its head names it.
#[derive(Debug)]
pub struct DeviceView {
    /// The record.
    pub record: HeadRecord,
    /// Who wrote it.
    pub device: DeviceId,
    /// The chain.
    pub chain: Chain,
    /// What it says.
    pub view: ChainView,
}

/// All chains together, by the index of each head.
pub fn merge(devices: &BTreeMap<u16, DeviceView>) -> Merged {
    let mut merged = Merged::new();
    for (index, of) in devices {
        merged.add_device(*index, of.device, &of.view);
        merged.saw(of.chain.lamport());
    }
    merged
}

/// What is known when a draft is begun.
#[derive(Debug)]
pub struct Before {
    /// The chains of all devices, that of this one left out.
    pub others: BTreeMap<u16, DeviceView>,
    /// Whether those are all that are known.
    pub coverage: Coverage,
    /// This device's own, where it has written one.
    pub own: Option<DeviceView>,
    /// For a checkpoint: who holds how much.
    pub hints: Vec<Hint>,
    /// Something that the head names has too few holders: one of them gone would take the whole
    /// chain.
    pub is_thin: bool,
}

/// Why a draft does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// An entry cannot be written.
    #[error(transparent)]
    Entry(#[from] ManifestFault),
    /// A chunk was not taken.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// This device's chain as it becomes, beside all others.
#[derive(Debug)]
pub struct Draft {
    others: BTreeMap<u16, DeviceView>,
    coverage: Coverage,
    device: DeviceId,
    index: u16,
    chain: Chain,
    view: ChainView,
    /// The newest record of this device's head: its number and its hash.
    before: (u64, [u8; 32]),
    hints: Vec<Hint>,
    is_thin: bool,
    merged: Merged,
}

/// An entry and its bytes.
type Made = (ManifestEntry, Zeroizing<Vec<u8>>);

impl Draft {
    /// Of what head `index` of this generation of keys names, which `device` writes.
    pub fn new((device, index): (DeviceId, u16), generation: u32, before: Before) -> Self {
        let Before { others, coverage, own, hints, is_thin } = before;
        let merged = merge(&others);
        let (chain, view, before) = match own {
            Some(DeviceView { record, chain, view, .. }) => {
                (chain, view, (record.number(), record.hash()))
            }
            None => (Chain::new(device, index, generation), ChainView::default(), (0, [0; 32])),
        };
        Self { others, coverage, device, index, chain, view, before, hints, is_thin, merged }
    }

    /// Seals one entry, and a checkpoint before it where the head has no more room, or in place of
    /// what too few nodes hold: all of it is known, and is stored anew with this entry. What is to
    /// be forgotten the checkpoint says itself, without an entry: so it has room where snapshots
    /// have become too many for one. If even that does not do, an entry says it as long as the head
    /// has room for that, and the next ones are forgotten with what is gone then.
    ///
    /// `wall_ns` is what the device's clock shows.
    ///
    /// # Errors
    /// [`DraftError`]; the draft is of no more use then.
    pub fn add<S: ChunkSink>(
        &mut self,
        sealer: &mut Sealer<'_, S>,
        body: Body,
        wall_ns: i64,
    ) -> Result<(), DraftError> {
        if !self.chain.needs_checkpoint() && !std::mem::take(&mut self.is_thin) {
            return self.seal(sealer, body, wall_ns);
        }
        let checkpoint = Body::Checkpoint(self.checkpoint(&body));
        match (self.chain.is_full(), body) {
            (is_full, Body::Forget(ids)) => match self.entry(checkpoint, wall_ns) {
                Err(fault) if !is_full && is_too_much(fault) => {
                    self.seal(sealer, Body::Forget(ids), wall_ns)
                }
                Err(fault) => Err(fault.into()),
                Ok(made) => self.store(sealer, made),
            },
            (_, body) => {
                self.seal(sealer, checkpoint, wall_ns)?;
                self.seal(sealer, body, wall_ns)
            }
        }
    }

    /// All that still matters of this device's chain, without what `body` forgets.
    fn checkpoint(&mut self, body: &Body) -> Checkpoint {
        self.merged = merge(&self.others);
        self.merged.add_device(self.index, self.device, &self.view);
        if let Body::Forget(ids) = body {
            ids.iter().for_each(|id| self.merged.forget(self.index, *id));
        }
        let hints = std::mem::take(&mut self.hints);
        self.merged.checkpoint(self.index, self.coverage, hints)
    }

    fn seal<S: ChunkSink>(
        &mut self,
        sealer: &mut Sealer<'_, S>,
        body: Body,
        wall_ns: i64,
    ) -> Result<(), DraftError> {
        let made = self.entry(body, wall_ns)?;
        self.store(sealer, made)
    }

    /// The next entry and its bytes.
    fn entry(&self, body: Body, wall_ns: i64) -> Result<Made, ManifestFault> {
        let entry = self.chain.next(body, wall_ns, self.merged.lamport());
        let plaintext = entry.encode()?;
        Ok((entry, plaintext))
    }

    fn store<S: ChunkSink>(
        &mut self,
        sealer: &mut Sealer<'_, S>,
        (entry, plaintext): Made,
    ) -> Result<(), DraftError> {
        let at = sealer.meta(Kind::Manifest, &plaintext, 0)?;
        self.chain.push(&entry, &plaintext, at);
        let ManifestEntry { body, .. } = entry;
        match body {
            Body::Checkpoint(checkpoint) => {
                self.view = ChainView { checkpoint: Some(checkpoint), entries: Vec::new() };
            }
            body => self.view.entries.push(ManifestEntry { body, ..entry }),
        }
        Ok(())
    }

    /// The record that names the chain as it is now, number one above the one before: `replicas`
    /// of it are wanted, and `holders` keep the one before.
    pub fn head(
        &self,
        keys: &HeadKeys,
        replicas: u8,
        holders: &[NodeId],
        signed_at_s: i64,
        rng: &mut impl CryptoRng,
    ) -> Result<HeadRecord, HeadFault> {
        let (number, previous) = self.before;
        let number = NonZeroU64::MIN.saturating_add(number);
        let others = self.others.iter().take(DEVICES_MAX);
        let mut payload = HeadPayload {
            number: number.get(),
            device: self.device,
            index: self.index,
            lamport: self.merged.lamport(),
            signed_at_s,
            replicas,
            retired: false,
            chain: 0,
            newest: [0; 32],
            checkpoint: None,
            recent: Vec::new(),
            devices: others.map(|(index, of)| (*index, of.record.number())).collect(),
            holders: holders.iter().take(HEAD_HOLDERS_MAX).copied().collect(),
        };
        self.chain.name_in(&mut payload);
        let payload = payload.encode()?;
        Ok(keys.make(number, previous, &payload, rng)?)
    }

    /// The chains of all devices, with what was added to this one's: `record` names it.
    pub fn into_devices(self, record: HeadRecord) -> BTreeMap<u16, DeviceView> {
        let Self { others: mut devices, device, index, chain, view, .. } = self;
        devices.insert(index, DeviceView { record, device, chain, view });
        devices
    }
}

/// Why a chain cannot be named in a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// See [`PayloadFault`](crate::repo::head::PayloadFault).
    #[error(transparent)]
    Payload(#[from] crate::repo::head::PayloadFault),
    /// See [`PayloadTooLong`](crate::crypto::head::PayloadTooLong).
    #[error(transparent)]
    TooLong(#[from] crate::crypto::head::PayloadTooLong),
}

fn is_too_much(fault: ManifestFault) -> bool {
    matches!(fault, ManifestFault::TooLong | ManifestFault::Count)
}
