//! All that the owner's devices have, read anew and without a doubt: what lets chunks go needs no
//! less. One head that is silent, that was forked or rolled back, or whose list cannot be read may
//! name a snapshot that nobody here knows of.

use super::heads::settle;
use super::{Breadth, State, keys, known_heads, payload_of, refresh};
use crate::core::types::{ChunkId, NodeId, SnapshotId};
use crate::node::heads::HeadsWanted;
use crate::node::inner::Inner;
use crate::node::recover::nobody;
use crate::node::report::{Failure, FailureKind};
use crate::repo::head::HeadPayload;
use crate::repo::reference::ChunkRef;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the holders of heads may take, all together.
const PATIENCE: Duration = Duration::from_secs(12);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// The records that the newest ones superseded, as many as there may be.
const SUPERSEDED: HeadsWanted =
    HeadsWanted { superseded: 16, brief: false, patience: Duration::from_secs(3) };

/// What the owner's devices have.
#[derive(Debug, Default)]
pub(in crate::node) struct Everything {
    /// The snapshots that nobody forgot.
    pub(in crate::node) live: Vec<(SnapshotId, ChunkRef)>,
    /// The chunks that heads name themselves, those also that the newest ones superseded; and every
    /// chunk that somebody says one of these snapshots is.
    pub(in crate::node) manifest: BTreeSet<ChunkId>,
    /// How many heads other devices write.
    pub(in crate::node) others: usize,
}

impl super::Repository {
    /// Reads the heads of all devices, and what they name.
    ///
    /// # Errors
    /// Nobody is there; something speaks against a head, or cannot be read: which; the node stops.
    pub(in crate::node) async fn everything(
        &self,
        inner: &Arc<Inner>,
    ) -> Result<Everything, Failure> {
        if !settle(inner).await {
            return Err(nobody(&inner.mesh_name));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut everything = loop {
            let mut state = self.state.lock().await;
            let before = known_heads(inner);
            refresh(&mut state, inner, Breadth::Everyone).await?;
            // Who was not known has heads beside its own that nobody asked for yet.
            let is_new = known_heads(inner).keys().any(|index| !before.contains_key(index));
            match everything(&state, inner) {
                Ok(_) if is_new => {
                    if Instant::now() >= deadline {
                        return Err(doubtful(&["a device was heard of only now".to_owned()]));
                    }
                    continue;
                }
                Ok(found) => break found,
                Err(doubts) if Instant::now() >= deadline => return Err(doubtful(&doubts)),
                Err(_) => drop(state),
            }
            sleep(PAUSE).await;
        };
        everything.manifest.append(&mut superseded(inner).await?);
        Ok(everything)
    }
}

impl super::Repository {
    /// Who keeps the heads of the owner's devices, as far as these were seen. Who keeps a head
    /// keeps chunks of the device that wrote it, as a rule.
    pub(in crate::node) fn head_holders(&self, inner: &Inner) -> BTreeSet<NodeId> {
        let mut holders = BTreeSet::new();
        for (index, head) in known_heads(inner) {
            let payload = payload_of(&keys(inner, index), &head.seen.record);
            holders.extend(payload.into_iter().flat_map(|payload| payload.holders));
            holders.extend(head.kept.into_iter().flat_map(|kept| kept.holders));
        }
        holders
    }
}

/// What is known now; or why that is not all there is.
fn everything(state: &State, inner: &Inner) -> Result<Everything, Vec<String>> {
    let mut doubts = state.doubts.clone();
    if doubts.is_empty() && state.missing {
        doubts.push("the list of a device could not be read".to_owned());
    }
    if doubts.is_empty() && state.agreed.values().any(|agreed| agreed.is_doubtful) {
        doubts.push("few holders of a head answered".to_owned());
    }
    let known = known_heads(inner);
    if doubts.is_empty() && known.keys().any(|index| !state.devices.contains_key(index)) {
        doubts.push("a device is known, and its list is not".to_owned());
    }
    if !doubts.is_empty() {
        return Err(doubts);
    }
    let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
    let live = state.merged.live().map(|live| (live.added.id, live.added.reference.duplicate()));
    let payloads = state.devices.iter().map(|(index, of)| {
        // It was read to verify its chain.
        payload_of(&keys(inner, *index), &of.record)
    });
    let named = payloads.flatten().flat_map(|payload| named(&payload));
    let records = state.merged.references().map(|reference| reference.id);
    Ok(Everything {
        live: live.collect(),
        manifest: named.chain(records).collect(),
        others: state.devices.keys().filter(|index| Some(**index) != own).count(),
    })
}

fn named(payload: &HeadPayload) -> Vec<ChunkId> {
    let checkpoint = payload.checkpoint.iter().map(|(_, reference)| reference.id);
    checkpoint.chain(payload.recent.iter().map(|reference| reference.id)).collect()
}

/// What the heads named before, as far as their holders keep it: a thief's head is undone by those.
async fn superseded(inner: &Arc<Inner>) -> Result<BTreeSet<ChunkId>, Failure> {
    let known = known_heads(inner);
    let heads: Vec<_> = known.keys().map(|index| keys(inner, *index)).collect();
    let kept = known.iter().filter_map(|(index, head)| {
        Some((keys(inner, *index).id(), head.kept.as_ref()?.holders.clone()))
    });
    let kept = kept.collect();
    let mut found = BTreeSet::new();
    for heads in heads.chunks(32) {
        let came = inner.find_heads(heads, &kept, SUPERSEDED).await?;
        for keys in heads {
            let of = came.records.iter().filter(|(_, record)| record.id() == keys.id());
            let payloads = of.filter_map(|(_, record)| payload_of(keys, record));
            found.extend(payloads.flat_map(|payload| named(&payload)));
        }
    }
    Ok(found)
}

fn doubtful(doubts: &[String]) -> Failure {
    Failure::new(
        FailureKind::Failed,
        "nothing was let go",
        format!("not all of the owner's snapshots are known: {}", doubts.join("; ")),
        "start more of the mesh's nodes and look at `quloud snapshots`; run the same command again \
         when nothing speaks against any head",
    )
}
