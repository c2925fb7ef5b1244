//! Chains that become longer, from one publication to the next.

use super::super::chain::Chain;
use super::super::draft::{Before, DeviceView, Draft, merge};
use super::super::merge::Coverage;
use super::super::{Added, Body};
use super::added;
use crate::core::types::{ChunkId, DeviceId, SnapshotId};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::crypto::keys::{Master, OwnerKeys};
use crate::crypto::seal::SealedChunk;
use crate::repo::frame::Kind;
use crate::repo::head::HeadPayload;
use crate::repo::open::open_chunk;
use crate::repo::sealer::{ChunkSink, Sealer, SinkClosed};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

#[derive(Default)]
struct Chunks(BTreeMap<ChunkId, SealedChunk>);

impl ChunkSink for Chunks {
    fn store(&mut self, chunk: SealedChunk, _: u64) -> Result<(), SinkClosed> {
        self.0.insert(chunk.id(), chunk);
        Ok(())
    }
}

/// A device that publishes.
struct Device {
    keys: OwnerKeys,
    chunks: Chunks,
    record: Option<HeadRecord>,
}

impl Device {
    fn new() -> Self {
        let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        Self { keys, chunks: Chunks::default(), record: None }
    }

    fn head_keys(&self) -> HeadKeys {
        HeadKeys::derive(&self.keys.head, 0, 2)
    }

    /// Reads what its head names, as whoever recovers does.
    fn view(&self) -> Option<(DeviceView, HeadPayload)> {
        let record = self.record.clone()?;
        let payload = HeadPayload::decode(&self.head_keys().open(&record).unwrap()).unwrap();
        let named = payload.checkpoint.iter().map(|(_, at)| at).chain(&payload.recent);
        let open = |at: &crate::repo::reference::ChunkRef| {
            let SealedChunk { header, sealed, .. } = &self.chunks.0[&at.id];
            open_chunk(&at.ck, &at.id, header, sealed, Kind::Manifest).unwrap()
        };
        let texts: Vec<_> = named.map(open).collect();
        let (chain, view) = Chain::verify(&payload, 0, &texts, None).unwrap();
        Some((DeviceView { record, device: payload.device, chain, view }, payload))
    }

    fn publish(&mut self, body: Body, is_thin: bool) {
        let own = self.view().map(|(view, _)| view);
        let (others, hints) = (BTreeMap::new(), Vec::new());
        let before = Before { others, coverage: Coverage::All, own, hints, is_thin };
        let mut draft = Draft::new((DeviceId::from_bytes([3; 16]), 2), 0, before);
        let mut sealer = Sealer::new(&self.keys, self.keys.locality(), &mut self.chunks);
        draft.add(&mut sealer, body, 7).unwrap();
        assert!(draft.named().all(|at| self.chunks.0.contains_key(&at.id)));
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        self.record = Some(draft.head(&self.head_keys(), 3, &[], 9, rng).unwrap());
    }

    fn live(&self) -> Vec<SnapshotId> {
        let (view, _) = self.view().unwrap();
        let merged = merge(&BTreeMap::from([(2, view)]));
        merged.live().map(|live| live.added.id).collect()
    }
}

fn add(number: u8) -> Body {
    Body::Add(Added { roots_cut: false, ..added(number) })
}

fn id(number: u8) -> SnapshotId {
    SnapshotId::from_bytes([number; 32])
}

#[test]
fn each_record_follows_the_one_before_and_names_all_that_was_added() {
    let mut device = Device::new();
    let mut before: Option<HeadRecord> = None;
    for number in 1..=40 {
        device.publish(add(number), number == 5);
        let record = device.record.clone().unwrap();
        let previous = before.as_ref().map_or([0; 32], HeadRecord::hash);
        assert_eq!((record.number(), record.previous()), (u64::from(number), previous));
        assert_eq!(device.live(), (1..=number).map(id).collect::<Vec<_>>());
        before = Some(record);
    }
}

#[test]
fn a_checkpoint_comes_where_something_is_thin_and_leaves_out_what_is_forgotten() {
    let mut device = Device::new();
    (1..=3).for_each(|number| device.publish(add(number), false));
    let (_, payload) = device.view().unwrap();
    assert!(payload.checkpoint.is_none() && payload.recent.len() == 3);
    device.publish(add(4), true);
    let (_, payload) = device.view().unwrap();
    assert!(payload.checkpoint.is_some() && payload.recent.len() == 1);
    device.publish(Body::Forget(vec![id(2)]), true);
    let (_, payload) = device.view().unwrap();
    assert!(payload.checkpoint.is_some() && payload.recent.is_empty());
    assert_eq!(device.live(), [id(1), id(3), id(4)]);
    device.publish(Body::Forget(vec![id(1)]), false);
    assert_eq!(device.live(), [id(3), id(4)]);
}
