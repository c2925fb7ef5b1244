//! What `quloud status` asks the user to look after, in words: empty where all is well.

use super::report::{BackupStatus, StoreStatus};
use crate::repo::catalog::Catalog;
use std::path::{Path, PathBuf};

/// What the catalogue tells, whether a node runs or not.
pub(super) fn of_catalog(catalog: &Catalog) -> Vec<String> {
    catalog.damaged().iter().map(|kept| damaged(kept)).collect()
}

fn damaged(kept: &Path) -> String {
    format!(
        "the catalogue was damaged, and files may be missing from this list: put them again, and \
         keep the capabilities you have; what was damaged is in {}, take it away when that is done",
        kept.display(),
    )
}

/// What a running node tells beyond that.
pub(super) fn of_node(
    store: &StoreStatus,
    open: u64,
    dropped: &[(PathBuf, String)],
) -> Vec<String> {
    let mut attention = Vec::new();
    if store.read_only {
        attention.push(
            "the store is read-only after a disk error: restart the node to verify it".to_owned(),
        );
    }
    if let Some(open) = BackupStatus::short_of_replicas(open) {
        attention.push(format!("{open}; the outbox goes on trying"));
    }
    attention.extend(
        dropped
            .iter()
            .map(|(path, why)| format!("{} was not stored: {why}; put it again", path.display())),
    );
    attention
}
