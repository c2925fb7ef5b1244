//! What `status` shows of the snapshots: from the catalogue and the copies of manifests in the data
//! folder, so at once, whether a node runs or not. Nobody is asked.

use super::report::{DeviceStatus, SnapshotSet, SnapshotsStatus};
use super::repository::report;
use crate::crypto::head::HeadKeys;
use crate::crypto::keys::OwnerKeys;
use crate::repo::catalog::{Catalog, Device, KnownHead};
use crate::repo::frame::Kind;
use crate::repo::head::HeadPayload;
use crate::repo::manifest::chain::{Chain, ChainView};
use crate::repo::manifest::merge::{Live, Merged};
use crate::repo::meta::MetaCache;
use crate::repo::open::open_chunk;
use crate::repo::reference::ChunkRef;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the catalogue knows of heads: taken under its lock, read without.
pub(super) struct Noted {
    heads: Vec<KnownHead>,
    device: Option<Device>,
    unnamed: u64,
}

impl Noted {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self {
            heads: catalog.heads().cloned().collect(),
            device: catalog.device(),
            unnamed: catalog.snapshots_due().count() as u64,
        }
    }

    /// Reads what the heads name, as far as it lies here, with the `newest` sets. Blocks on the
    /// disk.
    pub(super) fn read(self, keys: &OwnerKeys, meta: &MetaCache, newest: usize) -> SnapshotsStatus {
        let (mut merged, mut devices) = (Merged::new(), Vec::new());
        for head in &self.heads {
            if head.seen.record.generation() != keys.generation {
                continue;
            }
            let index = head.seen.index;
            let head_keys = HeadKeys::derive(&keys.head, keys.generation, index);
            let opened = head_keys.open(&head.seen.record);
            let payload = opened.ok().and_then(|text| HeadPayload::decode(&text).ok());
            let Some(payload) = payload else { continue };
            let view = chain(&payload, keys, meta);
            if let Some(view) = &view {
                merged.add_device(index, payload.device, view);
            }
            let own = self.device.is_some_and(|device| device.index == index);
            devices.push(device(head, &payload, own, view.is_some()));
        }
        let SnapshotsStatus { total, partial, puts, sets, sets_total, .. } =
            counted(merged.live().collect(), newest);
        SnapshotsStatus { total, partial, puts, unnamed: self.unnamed, devices, sets, sets_total }
    }
}

fn device(head: &KnownHead, payload: &HeadPayload, own: bool, readable: bool) -> DeviceStatus {
    let holders = head.kept.as_ref().map_or(0, |kept| kept.holders.len());
    DeviceStatus {
        index: payload.index,
        device: payload.device.to_string(),
        own,
        number: payload.number,
        signed_at: payload.signed_at_s,
        holders,
        wanted: payload.replicas,
        // Of the heads of others only those are known who served them.
        short: own && holders < usize::from(payload.replicas),
        readable,
    }
}

/// The chain that a head names; `None` where not all of it lies here, or it does not hold.
fn chain(payload: &HeadPayload, keys: &OwnerKeys, meta: &MetaCache) -> Option<ChainView> {
    let read = |at: &ChunkRef| -> Option<Bytes> {
        let (header, sealed) = meta.find(&at.id)?;
        open_chunk(&at.ck, &at.id, &header, &sealed, Kind::Manifest).ok()
    };
    let checkpoint = payload.checkpoint.iter().map(|(_, reference)| reference);
    let entries: Option<Vec<Bytes>> = checkpoint.chain(&payload.recent).map(read).collect();
    let (_, view) = Chain::verify(payload, keys.generation, &entries?, None).ok()?;
    Some(view)
}

/// Snapshots by device and roots; files that were put are one set a device.
fn counted(live: Vec<&Live>, newest: usize) -> SnapshotsStatus {
    let mut found = SnapshotsStatus::default();
    let mut sets: BTreeMap<_, (&Live, u64, u64)> = BTreeMap::new();
    for live in live {
        let added = &live.added;
        let partial = u64::from(added.partial);
        found.total += 1;
        found.partial += partial;
        found.puts += u64::from(added.put);
        let roots = if added.put { &[][..] } else { &added.roots };
        let key = (live.device.to_string(), added.put, &added.host, roots);
        let set = sets.entry(key).or_insert((live, 0, 0));
        if set.0.added.created_ns < added.created_ns {
            set.0 = live;
        }
        set.1 += 1;
        set.2 += partial;
    }
    found.sets_total = sets.len() as u64;
    let mut sets: Vec<_> = sets.into_values().collect();
    sets.sort_by_key(|(live, ..)| std::cmp::Reverse(live.added.created_ns));
    let set = |(live, count, partial): (&Live, u64, u64)| SnapshotSet {
        newest: report(live),
        count,
        partial,
    };
    found.sets = sets.into_iter().take(newest).map(set).collect();
    found
}

/// What of this the user has to look after.
pub(super) fn attention(snapshots: &SnapshotsStatus) -> Vec<String> {
    let mut attention = Vec::new();
    for device in snapshots.devices.iter().filter(|device| device.short) {
        attention.push(format!(
            "fewer than {} nodes are known to keep the head that names the newest snapshots; a \
             running node sends it again",
            device.wanted,
        ));
    }
    match snapshots.unnamed {
        0 => {}
        1 => attention.push("1 file that was put has no snapshot yet".to_owned()),
        files => attention.push(format!("{files} files that were put have no snapshot yet")),
    }
    attention
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::{ChunkId, DeviceId, Locality, SnapshotId};
    use crate::crypto::keys::ChunkKey;
    use crate::repo::manifest::Added;

    fn live(device: u8, created_ns: i64, root: &str, put: bool, partial: bool) -> Live {
        let reference = ChunkRef {
            ck: ChunkKey::from_bytes([0; 32]),
            id: ChunkId::from_bytes([0; 32]),
            locality: Locality(0),
            bytes: 0,
        };
        let mut id = [device; 32];
        id[..8].copy_from_slice(&created_ns.to_be_bytes());
        let added = Added {
            id: SnapshotId::from_bytes(id),
            reference,
            created_ns,
            utc_offset_min: 0,
            partial,
            put,
            roots_cut: false,
            files: 1,
            bytes: 2,
            new_bytes: 3,
            host: "nas".to_owned(),
            roots: vec![root.into()],
            tags: Vec::new(),
        };
        Live { added, index: device.into(), device: DeviceId::from_bytes([device; 16]) }
    }

    #[test]
    fn the_newest_of_each_set_of_paths_stands_for_it_and_puts_are_one_set() {
        let all = [
            live(0, 5, "/data", false, true),
            live(0, 9, "/data", false, false),
            live(0, 7, "/a file", true, false),
            live(0, 3, "/another", true, false),
            live(1, 8, "/data", false, false),
        ];
        let found = counted(all.iter().collect(), 2);
        assert_eq!((found.total, found.partial, found.puts, found.sets_total), (5, 1, 2, 3));
        let sets = counted(all.iter().collect(), usize::MAX).sets;
        let told: Vec<_> = sets.iter().map(|set| (&set.newest, set.count, set.partial)).collect();
        let told: Vec<_> = told
            .into_iter()
            .map(|(newest, count, partial)| (newest.roots[0].as_str(), count, partial))
            .collect();
        assert_eq!(told, [("/data", 2, 1), ("/data", 1, 0), ("/a file", 2, 0)]);
        assert_eq!(found.sets.len(), 2);
    }

    #[test]
    fn a_short_head_and_files_without_a_snapshot_need_attention() {
        let mut found = SnapshotsStatus::default();
        assert!(attention(&found).is_empty());
        found.unnamed = 2;
        let device = DeviceStatus { holders: 1, wanted: 3, short: true, ..Default::default() };
        found.devices = vec![device, DeviceStatus::default()];
        let told = attention(&found);
        assert!(
            told[0].starts_with("fewer than 3 nodes") && told[1].starts_with("2 files"),
            "{told:?}"
        );
        assert_eq!(told.len(), 2);
    }
}
