//! What `status` shows of the snapshots: from the catalogue and the copies of manifests in the data
//! folder, so at once, whether a node runs or not. Nobody is asked.

use super::report::{
    DeviceStatus, ReplicasReport, SnapshotReport, SnapshotSet, SnapshotsStatus, date,
};
use super::repository::{drill, replicas, report};
use crate::core::types::SnapshotId;
use crate::crypto::head::HeadKeys;
use crate::crypto::keys::OwnerKeys;
use crate::repo::catalog::{Catalog, Device, Drills, KnownHead, Verified};
use crate::repo::frame::Kind;
use crate::repo::head::HeadPayload;
use crate::repo::manifest::chain::{Chain, ChainView};
use crate::repo::manifest::merge::{Live, Merged};
use crate::repo::meta::MetaCache;
use crate::repo::open::open_chunk;
use crate::repo::reference::ChunkRef;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the catalogue knows of heads and snapshots: taken under its lock, read without.
pub(super) struct Noted {
    heads: Vec<KnownHead>,
    device: Option<Device>,
    unnamed: u64,
    made: BTreeMap<SnapshotId, ReplicasReport>,
    drills: BTreeMap<SnapshotId, Drills>,
}

impl Noted {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Self {
            heads: catalog.heads().cloned().collect(),
            device: catalog.device(),
            unnamed: catalog.snapshots_due().count() as u64,
            made: catalog.made().into_iter().map(|it| (it.snapshot, replicas(it))).collect(),
            drills: catalog.drills().map(|drills| (drills.last.snapshot, *drills)).collect(),
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
        let failed = self.failed(&merged, devices.iter().all(|device| device.readable));
        let found = counted(merged.live().collect(), newest, &self.made);
        SnapshotsStatus { unnamed: self.unnamed, devices, failed, ..found }
    }

    /// The snapshots that were found wanting when they were read back, oldest first. One that no
    /// list names was forgotten, if `all` lists could be read.
    fn failed(&self, merged: &Merged, all: bool) -> Vec<SnapshotReport> {
        let live: Vec<&Live> = merged.live().collect();
        let told = |drills: &Drills| -> Option<SnapshotReport> {
            let failed = drills.failed?;
            let of = live.iter().find(|of| of.added.id == failed.snapshot);
            let found = match of {
                Some(of) if live.iter().any(|newer| self.stands_for(newer, of, &failed)) => None,
                Some(of) => Some(report(of)),
                None if all => None,
                None => {
                    let snapshot = failed.snapshot.to_string();
                    Some(SnapshotReport { snapshot, ..SnapshotReport::default() })
                }
            };
            Some(SnapshotReport { failed: Some(drill(failed)), ..found? })
        };
        let mut failed: Vec<SnapshotReport> = self.drills.values().filter_map(told).collect();
        failed.sort_by_key(|snapshot| snapshot.created_at);
        failed
    }

    /// Whether a newer snapshot of the same paths came back whole since.
    fn stands_for(&self, newer: &Live, of: &Live, failed: &Verified) -> bool {
        let is_newer = newer.added.created_ns > of.added.created_ns;
        let drills = self.drills.get(&newer.added.id).filter(|drills| drills.failed.is_none());
        let proof = drills.and_then(|drills| drills.proof);
        let is_proof = |proof: Verified| proof.at >= failed.at && proof.refutes(failed);
        let is_alike = of_set(newer) == of_set(of) && newer.added.roots == of.added.roots;
        is_newer && is_alike && proof.is_some_and(is_proof)
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

/// Whose snapshot it is, and of what; files that were put are one set a device.
fn of_set(live: &Live) -> (String, bool, &str, &[Vec<u8>]) {
    let added = &live.added;
    let roots = if added.put { &[][..] } else { &added.roots };
    (live.device.to_string(), added.put, &added.host, roots)
}

/// Snapshots by device and roots; `made` is how the newest backups are stored.
fn counted(
    live: Vec<&Live>,
    newest: usize,
    made: &BTreeMap<SnapshotId, ReplicasReport>,
) -> SnapshotsStatus {
    let mut found = SnapshotsStatus::default();
    let mut sets: BTreeMap<_, (&Live, u64, u64)> = BTreeMap::new();
    for live in live {
        let added = &live.added;
        let partial = u64::from(added.partial);
        found.total += 1;
        found.partial += partial;
        found.puts += u64::from(added.put);
        let set = sets.entry(of_set(live)).or_insert((live, 0, 0));
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
        newest: SnapshotReport { replicas: made.get(&live.added.id).copied(), ..report(live) },
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
    let unnamed = match snapshots.unnamed {
        0 => None,
        1 => Some("1 file that was put has no snapshot yet".to_owned()),
        files => Some(format!("{files} files that were put have no snapshot yet")),
    };
    attention.extend(unnamed.map(|unnamed| {
        format!(
            "{unnamed}, so the words alone do not bring it back: keep a node running (`quloud \
             up`), which makes one once others of the mesh are there"
        )
    }));
    attention.extend(snapshots.failed.iter().take(FAILED_TOLD_MAX).filter_map(failed));
    let more = snapshots.failed.len().saturating_sub(FAILED_TOLD_MAX);
    if more > 0 {
        attention.push(format!("{more} more snapshots did not come back whole: see --json"));
    }
    attention
}

/// Snapshots that were found wanting, of which each has a line.
const FAILED_TOLD_MAX: usize = 8;

/// What a drill found, and what to do.
fn failed(snapshot: &SnapshotReport) -> Option<String> {
    let found = snapshot.failed?;
    let name = snapshot.snapshot.get(..8).unwrap_or(&snapshot.snapshot);
    let of = match snapshot.roots.is_empty() {
        true => String::new(),
        false => format!(" of {}", snapshot.roots.join(" ")),
    };
    let at = date(i64::try_from(found.at).unwrap_or(i64::MAX));
    Some(match found.damaged {
        0 => format!(
            "not all of snapshot {name}{of} was within reach when it was read back on {at}: start \
             the nodes that are away, then run `quloud verify {name}`"
        ),
        _ => format!(
            "snapshot {name}{of} was found damaged when it was read back on {at}: back the same \
             paths up again, then run `quloud verify latest`; `quloud verify {name}` says what is \
             damaged"
        ),
    })
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
        let made = ReplicasReport { has: 1, target: 3 };
        let made = BTreeMap::from([(all[1].added.id, made), (all[0].added.id, made)]);
        let found = counted(all.iter().collect(), 2, &made);
        assert_eq!((found.total, found.partial, found.puts, found.sets_total), (5, 1, 2, 3));
        let sets = counted(all.iter().collect(), usize::MAX, &made).sets;
        assert_eq!(sets[0].newest.replicas.unwrap().to_string(), "replicating 1 of 3");
        assert!(sets[1..].iter().all(|set| set.newest.replicas.is_none()));
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
