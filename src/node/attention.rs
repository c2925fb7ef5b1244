//! What `quloud status` asks the user to look after, in words: empty where all is well.

use super::report::{BackupStatus, Failure, FailureKind, StoreStatus};
use crate::repo::catalog::{Catalog, JobDropped, JobId};
use std::collections::BTreeMap;
use std::path::Path;

/// A given-up put is told for so long, unless its file is put before.
const DROPPED_TOLD_S: u64 = 30 * 24 * 3600;

/// A prune that was broken off.
pub(super) const OPEN_PRUNE: &str =
    "a prune was begun and is not done: run `quloud prune` again, which goes on";

/// Open puts whose last failure is told one by one.
const FAILURES_TOLD_MAX: usize = 8;

/// What the catalogue tells at `now` (seconds since 1970), whether a node runs or not.
pub(super) fn of_catalog(catalog: &Catalog, now: u64) -> Vec<String> {
    let told = |dropped: &&JobDropped| now.saturating_sub(dropped.dropped_at) < DROPPED_TOLD_S;
    let damaged = catalog.damaged().into_iter().map(|kept| damaged(&kept));
    let open = catalog.open_prune().map(|_| OPEN_PRUNE.to_owned());
    damaged.chain(catalog.dropped().filter(told).map(dropped)).chain(open).collect()
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
    fn failures_of_many_puts_stay_on_one_screen() {
        let failed = |job| (JobId(job), Failure::new(FailureKind::Failed, "it", "why", "do this"));
        let told = of_node(&StoreStatus::default(), 0, &(1..=10).map(failed).collect());
        assert_eq!(told.len(), FAILURES_TOLD_MAX + 1);
        assert_eq!(told[0], "it: why; do this");
        assert!(told[FAILURES_TOLD_MAX].starts_with("2 more puts failed"));
    }
}
