//! What `quloud status` asks the user to look after, in words: empty where all is well.

use super::choose::short_id;
use super::report::{BackupStatus, Failure, FailureKind, StoreStatus};
use super::standing::told_of;
use crate::core::types::NodeId;
use crate::net::peer_id_of;
use crate::repo::catalog::{AuditRecord, BackupMade, Catalog, JobDropped, JobId};
use std::collections::BTreeMap;
use std::path::Path;

/// A given-up put is told for so long, unless its file is put before.
const DROPPED_TOLD_S: u64 = 30 * 24 * 3600;

/// A prune that was broken off.
pub(super) const OPEN_PRUNE: &str =
    "a prune was begun and is not done: run `quloud prune` again, which goes on";

/// Repairs that nobody asked for moved as much as they may.
pub(super) const REPAIRS_WAIT: &str = "repairs moved what `repair_per_day` allows in 24 hours: \
     what is still short waits, or is stored anew at once by `quloud heal`";

/// Sets of paths whose newest backup is told one by one.
const MADE_TOLD_MAX: usize = 8;

/// Holders that are told one by one.
const HOLDERS_TOLD_MAX: usize = 8;

/// Groups of holders that are told one by one.
const GROUPS_TOLD_MAX: usize = 4;

/// Open puts whose last failure is told one by one.
const FAILURES_TOLD_MAX: usize = 8;

/// What the catalogue tells at `now` (seconds since 1970), whether a node runs or not.
pub(super) fn of_catalog(catalog: &Catalog, now: u64) -> Vec<String> {
    let told = |dropped: &&JobDropped| now.saturating_sub(dropped.dropped_at) < DROPPED_TOLD_S;
    let damaged = catalog.damaged().into_iter().map(|kept| damaged(&kept));
    let open = catalog.open_prune().map(|_| OPEN_PRUNE.to_owned());
    let dropped = catalog.dropped().filter(told).map(dropped);
    let made = made(&catalog.made());
    let holders = holders(catalog, now).into_iter().chain(together(catalog));
    damaged.chain(dropped).chain(made).chain(open).chain(holders).collect()
}

/// Who shares a failure domain, where too little counts: that may be why. Group by group.
fn together(catalog: &Catalog) -> Vec<String> {
    if !catalog.evidence().any(|last| last.counted < last.target) {
        return Vec::new();
    }
    let near = catalog.near().0;
    let mut left: Vec<NodeId> = near.nodes().copied().collect();
    left.retain(|node| catalog.chunks_held_by(node) > 0);
    let mut told = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut at = 0;
        while let Some(node) = group.get(at).copied() {
            let (beside, others) = left.into_iter().partition(|other| near.is_near(&node, other));
            group.extend::<Vec<NodeId>>(beside);
            left = others;
            at += 1;
        }
        if group.len() > 1 {
            told.push(group);
        }
    }
    let more = told.len().saturating_sub(GROUPS_TOLD_MAX);
    let mut told: Vec<String> = told.iter().take(GROUPS_TOLD_MAX).map(|it| in_one(it)).collect();
    if more > 0 {
        told.push(format!("{more} more groups of holders share failure domains"));
    }
    told
}

fn in_one(group: &[NodeId]) -> String {
    let mut names: Vec<String> = group.iter().take(HOLDERS_TOLD_MAX).map(peer_id_of).collect();
    let more = group.len().saturating_sub(HOLDERS_TOLD_MAX);
    names.extend((more > 0).then(|| format!("{more} more")));
    format!(
        "{} share a failure domain (an address block, a declared site, relays alone or, where \
         `domains = \"strict\"`, the LAN), so that of a chunk's replicas one counts of those that \
         share one: start more of the mesh's nodes elsewhere, and a running node stores there what \
         is short",
        names.join(", ")
    )
}

/// Holders that audits found wanting: the first of them one by one. Whoever was only late is not
/// told, and neither is damage that was found: a running node mends it.
fn holders(catalog: &Catalog, now: u64) -> Vec<String> {
    let told = |(node, record): (&NodeId, &AuditRecord)| {
        let (standing, why) = told_of(record, now);
        let held = catalog.chunks_held_by(node);
        let what = match standing {
            "liar" => "gets nothing more; what only it and few others have is stored anew",
            "suspect" | "lost" if held > 0 && record.withholds(now) => {
                "a running node stores anew what it holds; if you know its owner, ask why"
            }
            "suspect" | "lost" if held > 0 => {
                "start it again, or leave it to a running node to store anew what it holds"
            }
            _ => return None,
        };
        Some(format!("{} ({standing}, {held} chunks): {why}; {what}", peer_id_of(node)))
    };
    let mut all: Vec<String> = catalog.audit_records().filter_map(told).collect();
    let more = all.len().saturating_sub(HOLDERS_TOLD_MAX);
    all.truncate(HOLDERS_TOLD_MAX);
    if more > 0 {
        all.push(format!("{more} more holders were found wanting: `quloud audit`"));
    }
    all
}

/// The newest backups that are short of replicas, or in which something is missing: newest first.
fn made(all: &[&BackupMade]) -> Vec<String> {
    let open: Vec<&BackupMade> = all.iter().copied().filter(|made| !made.is_whole()).collect();
    let mut told: Vec<String> = Vec::new();
    for made in open.iter().take(MADE_TOLD_MAX) {
        told.extend(made.is_short().then(|| short(made)));
        told.extend((made.faults > 0).then(|| partial(made)));
    }
    let more = open.len().saturating_sub(MADE_TOLD_MAX);
    if more > 0 {
        told.push(format!("{more} older backups of other paths are not whole: `quloud snapshots`"));
    }
    told
}

fn short(made: &BackupMade) -> String {
    let BackupMade { snapshot, replicas, target, paths, .. } = made;
    format!(
        "the newest backup of {paths} (snapshot {}) has {replicas} of {target} replicas: start \
         more of the mesh's nodes; a running node (`quloud up`) then stores what is missing",
        short_id(snapshot)
    )
}

fn partial(made: &BackupMade) -> String {
    let BackupMade { snapshot, faults, paths, first_fault, .. } = made;
    let (names, rest) = match faults {
        1 => ("1 name".to_owned(), ""),
        faults => (format!("{faults} names"), ", .."),
    };
    format!(
        "{names} could not be stored as asked in the newest backup of {paths} (snapshot {}): \
         {first_fault}{rest}; make them readable or leave them out with --exclude, then back it up \
         again",
        short_id(snapshot)
    )
}

fn dropped(dropped: &JobDropped) -> String {
    let JobDropped { path, why, .. } = dropped;
    format!("{} was not stored: {why}; put it again", path.display())
}

fn damaged(kept: &Path) -> String {
    format!(
        "the catalogue was damaged, and files may be missing from this list: put them again, and \
         keep the capabilities you have; what was damaged is in {}, take it away when that is done",
        kept.display(),
    )
}

/// What a running node tells beyond that. `failed` is why the last try of open puts came to
/// nothing.
pub(super) fn of_node(
    store: &StoreStatus,
    open: u64,
    failed: &BTreeMap<JobId, Failure>,
) -> Vec<String> {
    let mut attention = Vec::new();
    if store.read_only {
        attention.push(
            "the store is read-only after a disk error: restart the node to verify it; if it stays \
             so, move the data folder to another disk"
                .to_owned(),
        );
    }
    if let Some(open) = BackupStatus::short_of_replicas(open) {
        attention.push(format!("{open}; the outbox goes on trying"));
    }
    attention.extend(failed.values().take(FAILURES_TOLD_MAX).map(failure));
    let more = failed.len().saturating_sub(FAILURES_TOLD_MAX);
    if more > 0 {
        attention.push(format!("{more} more puts failed when they were last tried: see the log"));
    }
    attention
}

/// For want of holders the outbox does all that can be done; the rest is up to the user.
fn failure(failure: &Failure) -> String {
    let Failure { kind, what, why, hint } = failure;
    match kind {
        FailureKind::NotEnoughHolders => format!("{what}: {why}"),
        _ => format!("{what}: {why}; {hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_is_not_whole_is_told_with_what_to_do() {
        let made = |number: u8, replicas, faults| BackupMade {
            set: vec![number.into()],
            snapshot: crate::core::types::SnapshotId::from_bytes([0xab; 32]),
            at: number.into(),
            replicas,
            target: 3,
            faults,
            paths: format!("/data/{number}"),
            first_fault: "/data/x: permission denied".to_owned(),
        };
        let all = [made(1, 3, 0), made(2, 1, 0), made(3, 3, 2), made(4, 2, 1)];
        let told = super::made(&all.iter().collect::<Vec<_>>());
        assert!(told[0].contains("/data/2 (snapshot abababab) has 1 of 3 replicas: start more"));
        assert!(
            told[1].starts_with("2 names ") && told[1].contains("/data/x: permission denied, ..")
        );
        assert!(told[2].contains("/data/4") && told[3].starts_with("1 name "), "{told:?}");
        assert_eq!(told.len(), 4);
        let many: Vec<BackupMade> = (0..20).map(|number| made(number, 1, 0)).collect();
        let told = super::made(&many.iter().collect::<Vec<_>>());
        assert_eq!(told.len(), MADE_TOLD_MAX + 1);
        assert!(told[MADE_TOLD_MAX].starts_with("12 older backups"), "{told:?}");
    }

    #[test]
    fn failures_of_many_puts_stay_on_one_screen() {
        let failed = |job| (JobId(job), Failure::new(FailureKind::Failed, "it", "why", "do this"));
        let told = of_node(&StoreStatus::default(), 0, &(1..=10).map(failed).collect());
        assert_eq!(told.len(), FAILURES_TOLD_MAX + 1);
        assert_eq!(told[0], "it: why; do this");
        assert!(told[FAILURES_TOLD_MAX].starts_with("2 more puts failed"));
    }
}
