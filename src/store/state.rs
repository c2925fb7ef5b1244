//! What the writer counts: space, entries, and which segments are still needed.

use super::index::{Condition, Entry};
use crate::core::types::{Account, ChunkId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    /// Chunks that live in it.
    pub(crate) live: u64,
    /// The length of their records.
    pub(crate) live_bytes: u64,
    /// Segments that this one must outlive: something here keeps an old record there from coming
    /// back in a rebuild.
    pub(crate) guards: BTreeSet<u64>,
    /// It holds a record that cannot be moved.
    pub(crate) stuck: bool,
}

/// Sums over all entries of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) entries: u64,
    pub(crate) fingerprint: u64,
    pub(crate) used: u64,
    pub(crate) quarantined: u64,
    pub(crate) usage: BTreeMap<Account, u64>,
    pub(crate) segments: BTreeMap<u64, Segment>,
}

impl State {
    /// The chunk `id` went from one entry to another; `None` is not held.
    pub(crate) fn replace(&mut self, id: &ChunkId, old: Option<&Entry>, new: Option<&Entry>) {
        if let Some(entry) = old {
            self.remove(id, entry);
        }
        if let Some(entry) = new {
            self.add(id, entry);
        }
    }

    fn add(&mut self, id: &ChunkId, entry: &Entry) {
        let bytes = u64::from(entry.locator.bytes);
        self.entries = self.entries.saturating_add(1);
        self.fingerprint = self.fingerprint.wrapping_add(entry.fingerprint(id));
        self.used = self.used.saturating_add(bytes);
        self.quarantined += u64::from(entry.condition == Condition::Quarantined);
        let usage = self.usage.entry(entry.account).or_default();
        *usage = usage.saturating_add(bytes);
        let segment = self.segments.entry(entry.locator.segment).or_default();
        segment.live = segment.live.saturating_add(1);
        segment.live_bytes = segment.live_bytes.saturating_add(bytes);
    }

    fn remove(&mut self, id: &ChunkId, entry: &Entry) {
        let bytes = u64::from(entry.locator.bytes);
        self.entries = self.entries.saturating_sub(1);
        self.fingerprint = self.fingerprint.wrapping_sub(entry.fingerprint(id));
        self.used = self.used.saturating_sub(bytes);
        let quarantined = u64::from(entry.condition == Condition::Quarantined);
        self.quarantined = self.quarantined.saturating_sub(quarantined);
        let usage = self.usage.entry(entry.account).or_default();
        *usage = usage.saturating_sub(bytes);
        if *usage == 0 {
            self.usage.remove(&entry.account);
        }
        let segment = self.segments.entry(entry.locator.segment).or_default();
        segment.live = segment.live.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
    }

    /// A tombstone or newer record in `segment` overrules a record in `target`: returns whether
    /// that is news that the catalogue must keep. Within one segment both vanish together.
    pub(crate) fn guard(&mut self, segment: u64, target: u64) -> bool {
        segment != target
            && self.segments.contains_key(&target)
            && self.segments.entry(segment).or_default().guards.insert(target)
    }

    /// Segments that nothing needs any more: no chunk lives there, and they guard nothing.
    pub(crate) fn dead_segments(&self, tip: u64) -> Vec<u64> {
        let dead = |(number, segment): (&u64, &Segment)| {
            let needed = *number == tip || segment.live > 0 || !segment.guards.is_empty();
            (!needed).then_some(*number)
        };
        self.segments.iter().filter_map(dead).collect()
    }

    /// `number` is gone for good: returns the segments that guarded it.
    pub(crate) fn forget_segment(&mut self, number: u64) -> Vec<u64> {
        self.segments.remove(&number);
        let had = |(other, segment): (&u64, &mut Segment)| {
            segment.guards.remove(&number).then_some(*other)
        };
        self.segments.iter_mut().filter_map(had).collect()
    }
}
