//! What earlier snapshots tell a backup: which files are unchanged, and what lies in packs.

use crate::core::types::{DeviceId, SnapshotId};
use crate::node::chunks::{Chunks, TreeEntries};
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::backup::{Earlier, Parent, Totals};
use crate::repo::frame::Kind;
use crate::repo::known::Known;
use crate::repo::manifest::merge::Live;
use crate::repo::manifest::{Added, ROOTS_BYTES_MAX};
use crate::repo::reference::ChunkRef;
use crate::repo::snapshot::Snapshot;
use crate::repo::unfinished::Run;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a part of an earlier tree, or a listing, may take; without it, files are read.
pub(super) const CHUNK_PATIENCE: Duration = Duration::from_secs(10);

/// Sets of paths beside the one that is backed up, whose small files are looked up.
const OTHERS_MAX: usize = 16;

/// The newest snapshot of the same paths.
pub(super) struct Before {
    pub(super) id: SnapshotId,
    snapshot: Snapshot,
}

/// Reads the heads, and finds the newest snapshot of the same paths on this host, and the newest of
/// other paths that this device backed up; and what the user should know.
pub(super) async fn find(
    inner: &Arc<Inner>,
    all: &[Vec<u8>],
    host: &str,
) -> Result<(Option<Before>, Vec<ChunkRef>, Vec<String>), Failure> {
    let (all, _) = cut(all);
    let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.id);
    let newest = |live: Vec<&Live>| {
        let same = |live: &&&Live| live.added.host == host && live.added.roots == all;
        let same = live.iter().filter(|live| !live.added.put).filter(same);
        let newest = same.max_by_key(|live| live.added.created_ns);
        let newest = newest.map(|live| (live.added.id, live.added.reference.duplicate()));
        (newest, others(&live, &all, own))
    };
    let (mut notes, _) = inner.repository.refresh_known(inner).await?;
    let (newest, others) = inner.repository.with_live(newest).await;
    let Some((id, at)) = newest else { return Ok((None, others, notes)) };
    let read = inner.chunk(&at, Kind::Snapshot, CHUNK_PATIENCE).await;
    let snapshot = read.and_then(|text| Snapshot::decode(&text).map_err(|fault| fault.to_string()));
    let before = match snapshot {
        Ok(snapshot) => Some(Before { id, snapshot }),
        Err(why) => {
            notes.push(format!("the snapshot before cannot be read, so all files are: {why}"));
            None
        }
    };
    Ok((before, others, notes))
}

/// The newest snapshot of each other set of paths, newest first. Of this device alone: it knows who
/// holds what they name.
fn others(live: &[&Live], all: &[Vec<u8>], own: Option<DeviceId>) -> Vec<ChunkRef> {
    let mut newest: BTreeMap<&[Vec<u8>], &Added> = BTreeMap::new();
    for Live { added, device, .. } in live.iter().copied() {
        if added.put || added.roots == all || Some(*device) != own {
            continue;
        }
        let of = newest.entry(&added.roots).or_insert(added);
        if of.created_ns < added.created_ns {
            *of = added;
        }
    }
    let mut newest: Vec<&Added> = newest.into_values().collect();
    newest.sort_by_key(|added| std::cmp::Reverse(added.created_ns));
    newest.into_iter().take(OTHERS_MAX).map(|added| added.reference.duplicate()).collect()
}

/// What is known from before: what a run did that was broken off, the tree of the same paths, and
/// what lies in packs.
pub(super) fn known(
    inner: &Arc<Inner>,
    before: Option<&Before>,
    (broken_off, others): (Option<Run>, &[ChunkRef]),
    runtime: Handle,
) -> Earlier<'static> {
    let mut known = Known::new();
    let mut parents = Vec::new();
    if let Some(Run { began_ns: started_ns, leaves, files }) = broken_off {
        let chunks = Chunks::fetched(inner, runtime.clone(), CHUNK_PATIENCE);
        parents.push(Parent { started_ns, entries: Box::new(files.into_iter()) });
        let entries = Box::new(TreeEntries::of_leaves(chunks, leaves));
        parents.push(Parent { started_ns, entries });
    }
    let before = before.map(|before| &before.snapshot);
    if let Some(Snapshot { created_ns, tree: Some(root), .. }) = before {
        TreeEntries::new(Chunks::here(inner), root).for_each(|entry| known.learn(&entry));
        let chunks = Chunks::fetched(inner, runtime, CHUNK_PATIENCE);
        let entries = Box::new(TreeEntries::new(chunks, root));
        parents.push(Parent { started_ns: *created_ns, entries });
    }
    for at in others {
        let text = inner.chunk_here(at, Kind::Snapshot);
        let other = text.and_then(|text| Snapshot::decode(&text).ok());
        if let Some(root) = other.and_then(|other| other.tree)
            && !known.is_full()
        {
            TreeEntries::new(Chunks::here(inner), &root).for_each(|entry| known.learn(&entry));
        }
    }
    let expected =
        before.map(|before| Totals { files: before.counts.files, bytes: before.counts.bytes });
    Earlier { parents, known, expected }
}

/// As many roots as a list takes, and whether there are more.
pub(super) fn cut(roots: &[Vec<u8>]) -> (Vec<Vec<u8>>, bool) {
    let mut bytes = 0;
    let fits = roots.iter().take_while(|root| {
        bytes += root.len();
        bytes <= ROOTS_BYTES_MAX
    });
    let fits: Vec<Vec<u8>> = fits.cloned().collect();
    let is_cut = fits.len() < roots.len();
    (fits, is_cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_as_many_roots_as_it_has_room_for() {
        let roots = |lengths: &[usize]| -> Vec<Vec<u8>> {
            lengths.iter().map(|length| vec![b'/'; *length]).collect()
        };
        let few = roots(&[1000, 24]);
        assert_eq!(cut(&few), (few.clone(), false));
        assert_eq!(cut(&roots(&[1000, 25])), (roots(&[1000]), true));
        assert_eq!(cut(&roots(&[1025])), (Vec::new(), true));
    }
}
