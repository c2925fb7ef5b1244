//! Prunes of other devices: whoever published a snapshot looks whether one was announced, or done,
//! of which this device did not know when it took chunks for stored.

use super::{Breadth, State, known_heads, refresh, unsent};
use crate::core::types::SnapshotId;
use crate::node::failures;
use crate::node::inner::Inner;
use crate::node::put::seconds_since_1970;
use crate::node::report::Failure;
use crate::repo::catalog::{Entry, PruneNote, ToLookAfter};
use crate::repo::manifest::Body;
use crate::repo::manifest::chain::ChainView;
use crate::repo::prunes::{Clock, Fate, fate};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::MutexGuard;

/// What is known of other devices' prunes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct OthersPrunes {
    /// Chunks may have been let go since this device looked after its own.
    pub(in crate::node) is_due: bool,
    /// No prune is open, nothing speaks against a head, and enough nodes have this device's own:
    /// whoever prunes next sees what was published before.
    pub(in crate::node) is_settled: bool,
    /// Of what is to be looked after, what no manifest names: it was forgotten here, or was never
    /// published.
    pub(in crate::node) over: Vec<SnapshotId>,
    /// By head, how much of its chain is accounted for once they were looked after.
    lengths: Vec<(u16, u64)>,
    /// When the heads were read: seconds since 1970.
    at_s: u64,
}

impl super::Repository {
    /// Reads the heads of all devices anew, of those also that nobody here has heard of: one that
    /// was recovered since may prune. Looks for prunes in what they name; where that is not to be
    /// had there may be some.
    ///
    /// # Errors
    /// The node stops, or its catalogue takes nothing.
    pub(in crate::node) async fn prunes_of_others(
        &self,
        inner: &Arc<Inner>,
        published: &[ToLookAfter],
    ) -> Result<OthersPrunes, Failure> {
        let at_s = seconds_since_1970();
        let mut state = self.state.lock().await;
        refresh(&mut state, inner, Breadth::Everyone).await?;
        let over = over(&state, inner, published);
        Ok(OthersPrunes { at_s, over, ..look(&state, inner) })
    }

    /// Whether no other device is known, and enough nodes have this one's head. A device that
    /// nobody here has heard of may prune all the same.
    pub(in crate::node) async fn is_alone(&self, inner: &Inner) -> bool {
        let own = own(inner);
        let state = self.state.lock().await;
        unsent(inner).is_none() && state.devices.keys().all(|index| Some(*index) == own)
    }

    /// How often prunes of others were accounted for. Whoever takes chunks for stored, and finds at
    /// its publication that it has happened since, is [not accounted for](Self::account_anew): the
    /// look that did it was after other snapshots.
    pub(in crate::node) fn accounted(&self) -> u64 {
        self.accounted.load(Ordering::Acquire)
    }

    /// Keeps others from looking after what was published for as long as it is held.
    pub(in crate::node) async fn look_alone(&self) -> MutexGuard<'_, ()> {
        self.looks_after.lock().await
    }

    /// Whether anybody but this device can know of what it published last.
    pub(in crate::node) fn is_out(&self, inner: &Inner) -> bool {
        self.is_sent.load(Ordering::Relaxed) || unsent(inner).is_none()
    }

    /// What prunes of others let go is named by what is published next: they are accounted for no
    /// more. Nobody may look until that is noted; see [`Self::look_alone`].
    ///
    /// # Errors
    /// The catalogue takes nothing.
    pub(in crate::node) fn account_anew(&self, inner: &Inner) -> Result<(), Failure> {
        for index in known_heads(inner).into_keys() {
            if inner.with_catalog(|catalog| catalog.chain_checked(index)).is_some() {
                inner.record(Entry::Prune(PruneNote::ChainChecked { index, length: 0 }))?;
            }
        }
        Ok(())
    }

    /// What was published was looked after since. Whatever else holders showed before counts no
    /// more: what is named of it next is asked for again.
    ///
    /// # Errors
    /// The catalogue takes nothing.
    pub(in crate::node) async fn account_for(
        &self,
        inner: &Arc<Inner>,
        prunes: &OthersPrunes,
    ) -> Result<(), Failure> {
        if prunes.is_due {
            self.accounted.fetch_add(1, Ordering::AcqRel);
            let (node, at_s) = (Arc::clone(inner), prunes.at_s);
            let work = tokio::task::spawn_blocking(move || {
                node.save_proven(|catalog| catalog.disbelieve_before(at_s))
            });
            let saved = work.await.map_err(|error| failures::died("the catalogue", &error))?;
            saved.map_err(|error| failures::catalog(&error))?;
        }
        for (index, length) in prunes.lengths.iter().copied() {
            if inner.with_catalog(|catalog| catalog.chain_checked(index)) != Some(length) {
                inner.record(Entry::Prune(PruneNote::ChainChecked { index, length }))?;
            }
        }
        inner.commit_catalog().await
    }
}

fn look(state: &State, inner: &Inner) -> OthersPrunes {
    let own = own(inner);
    let open: BTreeSet<u16> = state.merged.open_intents().map(|intent| intent.index).collect();
    let mut found = OthersPrunes::default();
    for (index, of) in state.devices.iter().filter(|(index, _)| Some(**index) != own) {
        let length = of.chain.seen().length;
        let checked = inner.with_catalog(|catalog| catalog.chain_checked(*index)).unwrap_or(0);
        found.is_due |= open.contains(index) || prunes_since(&of.view, length, checked);
        // One that is open may let go at any time.
        if !open.contains(index) {
            found.lengths.push((*index, length));
        }
    }
    let is_alone = state.devices.keys().all(|index| Some(*index) == own);
    let is_doubtful = state.missing || !state.doubts.is_empty();
    let is_quiet = open.iter().all(|index| Some(*index) == own);
    found.is_settled = !is_doubtful && is_quiet && is_out(state, inner, own);
    found.is_due |= is_doubtful && !is_alone;
    found
}

fn own(inner: &Inner) -> Option<u16> {
    inner.with_catalog(|catalog| catalog.device()).map(|device| device.index)
}

/// Whether another device that reads this one's head finds the newest record, or has a doubt: as
/// many nodes have it as were wished for, or, where there are not so many, at least half of those
/// that had the record before, and nobody who answered has only that one.
fn is_out(state: &State, inner: &Inner, own: Option<u16>) -> bool {
    let agreed = own.and_then(|own| state.agreed.get(&own));
    let is_agreed = agreed
        .is_some_and(|agreed| !agreed.agree.is_empty() && agreed.older == 0 && !agreed.is_doubtful);
    is_agreed || unsent(inner).is_none()
}

fn over(state: &State, inner: &Inner, published: &[ToLookAfter]) -> Vec<SnapshotId> {
    let live: BTreeSet<SnapshotId> = state.merged.live().map(|live| live.added.id).collect();
    // What another device forgets is needed until it is believed. The folder's age is noted every
    // minute: by that the end is told a minute late at most.
    let is_needed = |id: &SnapshotId| {
        inner.with_catalog(|catalog| {
            let (age_s, wall_s) = catalog.aged().unwrap_or_default();
            let forgotten = catalog.noted_snapshot(id).and_then(|noted| noted.forgotten);
            forgotten.is_some_and(|forgotten| {
                fate(false, Some(forgotten.seen()), Clock { age_s, wall_s }) != Fate::Gone
            })
        })
    };
    let gone = published.iter().map(|it| it.id).filter(|id| !live.contains(id));
    gone.filter(|id| !state.missing && !is_needed(id)).collect()
}

/// Whether a chain of this length has a prune that is not among the first `checked` entries, or
/// may have had one there that a checkpoint covers.
fn prunes_since(view: &ChainView, length: u64, checked: u64) -> bool {
    let behind = length.saturating_sub(view.entries.len() as u64);
    // The checkpoint is the last entry that is not told apart.
    let covered = behind.saturating_sub(u64::from(view.checkpoint.is_some()));
    let is_prune = |body: &Body| matches!(body, Body::PruneIntent(_) | Body::PruneDone { .. });
    let new = view.entries.iter().filter(|entry| entry.number >= checked);
    checked < covered || new.into_iter().any(|entry| is_prune(&entry.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::DeviceId;
    use crate::repo::manifest::{Checkpoint, ManifestEntry};

    fn entry(number: u64, body: Body) -> ManifestEntry {
        let previous = if number == 0 { [0; 32] } else { [1; 32] };
        let (device, index, generation) = (DeviceId::from_bytes([2; 16]), 1, 0);
        let (lamport, wall_ns) = (number, 0);
        ManifestEntry { device, index, generation, number, lamport, wall_ns, previous, body }
    }

    fn forget(number: u64) -> ManifestEntry {
        entry(number, Body::Forget(Vec::new()))
    }

    #[test]
    fn a_prune_is_new_until_its_entry_is_accounted_for() {
        let done = Body::PruneDone { prune: [1; 16], released: 1 };
        let entries = vec![forget(0), entry(1, done), forget(2)];
        let view = ChainView { checkpoint: None, entries };
        assert_eq!(
            [0, 1, 2, 3].map(|checked| prunes_since(&view, 3, checked)),
            [true, true, false, false]
        );
    }

    #[test]
    fn what_a_checkpoint_covers_may_have_been_a_prune() {
        let entries = vec![forget(8), forget(9)];
        let view = ChainView { checkpoint: Some(Checkpoint::default()), entries };
        // The checkpoint is entry 7.
        assert_eq!(
            [0, 6, 7, 8, 10].map(|checked| prunes_since(&view, 10, checked)),
            [true, true, false, false, false]
        );
    }
}
