//! What the catalogue keeps of snapshots for whoever lets chunks go: that they were seen, and who
//! forgot them when. See [`prunes`](crate::repo::prunes) for what comes of it.

use super::{State, unsent};
use crate::core::types::SnapshotId;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Catalog, Entry, PruneNote, SnapshotForgotten, SnapshotSeen};
use crate::repo::manifest::PruneIntent;
use crate::repo::manifest::merge::OpenIntent;
use crate::repo::prunes::Clock;
use std::time::Instant;

/// So often the folder's age is noted, in seconds.
const AGED_EVERY_S: u64 = 60;

/// A forget of this folder's own user is noted before it is published, which takes less than so
/// long: seconds of the folder's age. A snapshot that is live after that was not forgotten.
const PUBLISHED_S: u64 = 3_600;

/// Notes what the chains say now that was not known before. Durable with the next commit.
///
/// # Errors
/// The catalogue takes nothing.
pub(super) fn note(state: &mut State, inner: &Inner) -> Result<(), Failure> {
    let clock = age(state, inner)?;
    let notes = inner.with_catalog(|catalog| news(state, catalog, clock));
    notes.into_iter().try_for_each(|note| inner.record(Entry::Prune(note)))
}

/// The folder's age, noted now and then.
fn age(state: &mut State, inner: &Inner) -> Result<Clock, Failure> {
    let before = inner.with_catalog(|catalog| catalog.aged());
    let before = before.map(|(age_s, wall_s)| Clock { age_s, wall_s });
    let watched_s = state.aged.map(|at| at.elapsed().as_secs());
    let clock = Clock::now(before, watched_s, seconds_since_1970());
    if watched_s.is_none_or(|watched_s| watched_s >= AGED_EVERY_S) {
        let Clock { age_s, wall_s } = clock;
        inner.record(Entry::Prune(PruneNote::Aged { age_s, wall_s }))?;
        state.aged = Some(Instant::now());
    }
    Ok(clock)
}

fn news(state: &State, catalog: &Catalog, clock: Clock) -> Vec<PruneNote> {
    let Clock { age_s, wall_s } = clock;
    let forgotten = |id: SnapshotId, by: u16| {
        let (own, accepted) = (false, false);
        let noted = SnapshotForgotten { id, by, own, accepted, age_s, wall_s };
        PruneNote::SnapshotForgotten(noted)
    };
    let mut notes = Vec::new();
    for (live, by) in state.merged.all() {
        let id = live.added.id;
        if !catalog.is_noted(&id) {
            notes.push(PruneNote::SnapshotSeen(SnapshotSeen {
                id,
                reference: live.added.reference.duplicate(),
                index: live.index,
                device: live.device,
                created_ns: live.added.created_ns,
                put: live.added.put,
            }));
        } else {
            let Some(noted) = catalog.noted_snapshot(&id) else { continue };
            if let Some(before) = noted.forgotten {
                // Somebody whose list cannot be read may be who forgot it.
                if by.is_none() && !state.missing && !is_on_its_way(before, clock) {
                    notes.push(PruneNote::SnapshotKept(id));
                }
                continue;
            }
        }
        notes.extend(by.map(|by| forgotten(id, by)));
    }
    // A checkpoint drops what its device forgot: what it had and has no more was forgotten by it.
    // That is for sure only where all lists were read, and the head is still the same device's.
    for noted in catalog.noted_snapshots().filter(|noted| noted.forgotten.is_none()) {
        let SnapshotSeen { id, index, device, .. } = noted.seen;
        let writes = state.devices.get(&index).is_some_and(|of| of.device == device);
        if writes && !state.missing && !state.merged.has(&id) {
            notes.push(forgotten(id, index));
        }
    }
    let is_over = |id: &&SnapshotId| !state.missing && !state.merged.has(id);
    notes.extend(catalog.pruned_snapshots().filter(is_over).map(|id| PruneNote::SnapshotOver(*id)));
    notes
}

/// Whether what this folder's user forgot may still not be published.
fn is_on_its_way(forgotten: SnapshotForgotten, now: Clock) -> bool {
    forgotten.own && now.age_s.saturating_sub(forgotten.age_s) < PUBLISHED_S
}

impl super::Repository {
    /// The time by which forgets are believed.
    ///
    /// # Errors
    /// The catalogue takes nothing.
    pub(in crate::node) async fn clock(&self, inner: &Inner) -> Result<Clock, Failure> {
        age(&mut *self.state.lock().await, inner)
    }

    /// The prunes of this device that its manifest has and that are not done.
    pub(in crate::node) async fn own_open_prunes(&self, inner: &Inner) -> Vec<PruneIntent> {
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        let state = self.state.lock().await;
        let open = state.merged.open_intents().filter(|intent| Some(intent.index) == own);
        let intent = |open: &OpenIntent| PruneIntent { prune: open.prune, grace_s: open.grace_s };
        open.map(intent).collect()
    }

    /// Whether as many nodes as were wished for keep what this device published last.
    pub(in crate::node) fn is_own_head_kept(&self, inner: &Inner) -> bool {
        unsent(inner).is_none()
    }

    /// Notes that the user of this folder forgets these. Stands before the entry that says so to
    /// the others: without that it means nothing.
    ///
    /// # Errors
    /// The catalogue takes nothing.
    pub(in crate::node) async fn note_forgets(
        &self,
        inner: &Inner,
        ids: &[SnapshotId],
    ) -> Result<(), Failure> {
        let Clock { age_s, wall_s } = self.clock(inner).await?;
        let by = inner.with_catalog(|catalog| catalog.device()).map_or(0, |device| device.index);
        let note = |id: &SnapshotId| SnapshotForgotten {
            id: *id,
            by,
            own: true,
            accepted: false,
            age_s,
            wall_s,
        };
        let notes = ids.iter().map(|id| PruneNote::SnapshotForgotten(note(id)));
        let recorded = inner.with_catalog(|catalog| {
            notes.map(Entry::Prune).try_for_each(|entry| catalog.record(entry))
        });
        recorded.map_err(|error| failures::catalog(&error))
    }
}
