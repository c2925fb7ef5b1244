//! What `status` shows of the snapshots: from the catalogue and the copies of manifests in the data
//! folder, so at once, whether a node runs or not. Nobody is asked.

use super::evidence::Teller;
use super::put::seconds_since_1970;
use super::report::{
    DeviceStatus, ReplicasReport, ReplicasWord, SnapshotReport, SnapshotSet, SnapshotsStatus, date,
};
use super::repository::{drill, report};
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
use std::collections::{BTreeMap, BTreeSet};

/// What the catalogue knows of heads and snapshots: taken under its lock, read without.
pub(super) struct Noted {
    heads: Vec<KnownHead>,
    device: Option<Device>,
    unnamed: u64,
    stored: BTreeMap<SnapshotId, ReplicasReport>,
    puts: Option<ReplicasReport>,
    drills: BTreeMap<SnapshotId, Drills>,
}

impl Noted {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let teller = Teller::new(catalog, seconds_since_1970());
        Self {
            heads: catalog.heads().cloned().collect(),
            device: catalog.device(),
            unnamed: catalog.snapshots_due().count() as u64,
            stored: teller.snapshots().into_iter().collect(),
            puts: teller.puts(),
            drills: catalog.drills().map(|drills| (drills.last.snapshot, *drills)).collect(),
        }
    }

    /// Reads what the heads name, as far as it lies here, with the `newest` sets. Blocks on the
    /// disk.
    pub(super) fn read(self, keys: &OwnerKeys, meta: &MetaCache, newest: usize) -> SnapshotsStatus {
        let (merged, devices) = self.lists(keys, meta);
        let failed = self.failed(&merged, devices.iter().all(|device| device.readable));
        let found = counted(merged.live().collect(), newest, &self.stored);
        let (unnamed, puts_replicas) = (self.unnamed, self.puts);
        SnapshotsStatus { unnamed, puts_replicas, devices, failed, ..found }
    }

    /// Where the newest snapshots of each set of paths are, and these: as far as the lists lie
    /// here. Of what this device put, not: that is known by file. Blocks on the disk.
    pub(super) fn newest(
        &self,
        keys: &OwnerKeys,
        meta: &MetaCache,
        these: &BTreeSet<SnapshotId>,
    ) -> Vec<(SnapshotId, ChunkRef)> {
        let (merged, _) = self.lists(keys, meta);
        let own = self.device.map(|device| device.index);
        let mut sets: BTreeMap<_, &Live> = BTreeMap::new();
        let others = merged.live().filter(|live| !(live.added.put && own == Some(live.index)));
        for live in others {
            let newest = sets.entry(of_set(live)).or_insert(live);
            if newest.added.created_ns < live.added.created_ns {
                *newest = live;
            }
        }
        let newest: BTreeSet<SnapshotId> = sets.values().map(|live| live.added.id).collect();
        let wanted = |id: &SnapshotId| newest.contains(id) || these.contains(id);
        let wanted = merged.live().filter(|live| wanted(&live.added.id));
        wanted.map(|live| (live.added.id, live.added.reference.duplicate())).collect()
    }

    /// What the heads name, and whose they are.
    fn lists(&self, keys: &OwnerKeys, meta: &MetaCache) -> (Merged, Vec<DeviceStatus>) {
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
        (merged, devices)
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

/// Snapshots by device and roots; `stored` says how the newest of them are.
fn counted(
    live: Vec<&Live>,
    newest: usize,
    stored: &BTreeMap<SnapshotId, ReplicasReport>,
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
        newest: SnapshotReport { replicas: stored.get(&live.added.id).copied(), ..report(live) },
        count,
        partial,
    };
    let mut sets: Vec<SnapshotSet> = sets.into_iter().map(set).collect();
    let all = sets.iter().map(|set| &set.newest);
    found.endangered = all.filter(|newest| is_endangered(newest)).cloned().collect();
    sets.truncate(newest);
    found.sets = sets;
    found
}

fn is_endangered(snapshot: &SnapshotReport) -> bool {
    let word = snapshot.replicas.map(|replicas| replicas.word);
    matches!(word, Some(ReplicasWord::AtRisk | ReplicasWord::Lost))
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
    let stored = snapshots.endangered.iter();
    let stored = stored.filter_map(|newest| Some((named(newest), newest.replicas?)));
    let puts = snapshots.puts_replicas.map(|it| ("the files that were put".to_owned(), it));
    let endangered: Vec<String> =
        stored.chain(puts).filter_map(|(what, it)| endangered(&what, &it)).collect();
    attention.extend(endangered.iter().take(ENDANGERED_TOLD_MAX).cloned());
    let more = endangered.len().saturating_sub(ENDANGERED_TOLD_MAX);
    if more > 0 {
        attention.push(format!("{more} more sets of paths are at risk or lost: see --json"));
    }
    attention.extend(snapshots.failed.iter().take(FAILED_TOLD_MAX).filter_map(failed));
    let more = snapshots.failed.len().saturating_sub(FAILED_TOLD_MAX);
    if more > 0 {
        attention.push(format!("{more} more snapshots did not come back whole: see --json"));
    }
    attention
}

/// Snapshots at risk, or lost, of which each has a line.
const ENDANGERED_TOLD_MAX: usize = 8;

fn named(snapshot: &SnapshotReport) -> String {
    let name = snapshot.snapshot.get(..8).unwrap_or(&snapshot.snapshot);
    format!("snapshot {name} of {}", snapshot.roots.join(" "))
}

/// What has fewer replicas than it had, and what to do.
fn endangered(what: &str, replicas: &ReplicasReport) -> Option<String> {
    let ReplicasReport { word, target, since, evidence, .. } = *replicas;
    let since = since.map(|at| format!(" since {}", date(i64::try_from(at).unwrap_or(i64::MAX))));
    let since = since.unwrap_or_default();
    let is_behind = evidence.is_some_and(|it| it.may_be_worse);
    match word {
        ReplicasWord::AtRisk if is_behind => Some(format!(
            "replicas were found to count no more{since}, perhaps of {what}: keep a node running \
             (`quloud up`), which looks at them and stores what is missing"
        )),
        ReplicasWord::AtRisk => Some(format!(
            "fewer than {target} replicas of some of {what} count{since}: keep a node running \
             (`quloud up`), which stores them anew, or run `quloud heal`"
        )),
        ReplicasWord::Lost => Some(format!(
            "no node is known to have some of {what}{since}: store the same files again; `quloud \
             heal` says which need it"
        )),
        _ => None,
    }
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
    use crate::node::report::EvidenceReport;
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
        let word = ReplicasWord::Replicating;
        let made = ReplicasReport { word, has: 1, target: 3, ..Default::default() };
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
        assert_eq!((found.sets.len(), found.endangered.len()), (2, 0));
        let word = ReplicasWord::Lost;
        let lost =
            BTreeMap::from([(all[2].added.id, ReplicasReport { word, ..made[&all[1].added.id] })]);
        let found = counted(all.iter().collect(), 0, &lost);
        let told: Vec<_> = found.endangered.iter().map(|it| it.roots[0].as_str()).collect();
        assert_eq!((told, found.sets.len()), (vec!["/a file"], 0), "however few are listed");
    }

    #[test]
    fn a_snapshot_at_risk_or_lost_needs_attention_and_one_that_is_safe_none() {
        let of = |word| ReplicasReport { target: 3, word, since: Some(0), ..Default::default() };
        let snapshot = |replicas| SnapshotReport { replicas: Some(replicas), ..Default::default() };
        let told = |replicas| {
            let endangered = vec![snapshot(replicas)];
            let found = SnapshotsStatus { endangered, ..Default::default() };
            let of_sets = attention(&found).join("");
            let puts_replicas = Some(replicas);
            let puts = attention(&SnapshotsStatus { puts_replicas, ..Default::default() }).join("");
            assert_eq!(of_sets.is_empty(), puts.is_empty());
            (of_sets, puts)
        };
        use ReplicasWord::{AtRisk, Lost, Queued, Replicating, Safe, Stored};
        let (at_risk, puts) = told(of(AtRisk));
        assert!(at_risk.starts_with("fewer than 3 replicas of some of snapshot  of "), "{at_risk}");
        assert!(at_risk.contains(" count since 1970-01-01 00:00 UTC: keep a node"), "{at_risk}");
        assert!(puts.starts_with("fewer than 3 replicas of some of the files that"), "{puts}");
        let lost = told(of(Lost)).0;
        assert!(lost.starts_with("no node is known to have some of "), "{lost}");
        assert!(lost.contains(" since 1970-01-01 00:00 UTC: store"), "{lost}");
        let behind = EvidenceReport { may_be_worse: true, ..Default::default() };
        let behind = told(ReplicasReport { evidence: Some(behind), ..of(AtRisk) }).0;
        assert!(behind.contains(", perhaps of snapshot "), "{behind}");
        for word in [Queued, Replicating, Stored, Safe] {
            assert_eq!(told(of(word)).0, "", "it is told elsewhere where it is short");
        }
        let endangered = vec![snapshot(of(AtRisk)); ENDANGERED_TOLD_MAX + 3];
        let all = attention(&SnapshotsStatus { endangered, ..Default::default() });
        assert_eq!(all.len(), ENDANGERED_TOLD_MAX + 1);
        assert!(all[ENDANGERED_TOLD_MAX].starts_with("3 more sets of paths"), "{all:?}");
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
