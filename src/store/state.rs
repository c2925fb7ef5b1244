//! What the writer counts: space, entries, and which segments are still needed.

use super::accounts::SharedAccounts;
use super::index::{Change, Condition, Entry, Note};
use super::log::ITEM_BYTES_MAX;
use super::record::BLOCK_BYTES;
use super::releases::lock;
use crate::core::types::{Account, ChunkId};
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet};

/// What a segment takes besides its items: its first record, its last one, and what a footer has
/// around its items, rounded up.
pub(crate) const FRAME_BYTES: u64 = 3 * BLOCK_BYTES as u64 + 256;

/// Damaged chunks whose owners are known without a look into the catalogue.
const DAMAGED_MAX: usize = 65_536;

/// What a tombstone takes, its item in the footer included.
const TOMBSTONE_BYTES: u64 = BLOCK_BYTES as u64 + ITEM_BYTES_MAX;

/// What is known of one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    /// Chunks that live in it.
    pub(crate) live: u64,
    /// The length of their records.
    pub(crate) live_bytes: u64,
    /// Segments that this one must outlive, because it holds a newer record of a chunk that has
    /// an older one there.
    pub(crate) newer: BTreeSet<u64>,
    /// Its tombstones that are still needed, by the segment whose records they end.
    tombstones: BTreeMap<u64, u64>,
    /// The sum of these.
    needed: u64,
    /// Tombstones elsewhere that end records in it, and are needed only as long as it is there.
    named: u64,
    /// All that is needed of it lies elsewhere too.
    pub(crate) emptied: bool,
    /// The number of a record in it that cannot be moved; 0 where that is not known.
    pub(crate) stuck: Option<u64>,
    /// The space it takes on the disk; `None` where that changed since it was asked for.
    pub(crate) taken: Option<u64>,
}

impl Segment {
    /// What its content would take if it were written anew.
    pub(crate) fn useful_bytes(&self) -> u64 {
        let chunks = self.live.saturating_mul(ITEM_BYTES_MAX).saturating_add(self.live_bytes);
        let tombstones = self.needed.saturating_mul(TOMBSTONE_BYTES);
        chunks.saturating_add(tombstones).saturating_add(FRAME_BYTES)
    }

    /// What emptying it gives back, and out of how much: its own waste, and the tombstones
    /// elsewhere that become waste without it. `None` where its space is not known.
    pub(crate) fn gain(&self) -> Option<(u64, u64)> {
        let taken = self.taken?;
        let named = self.named.saturating_mul(TOMBSTONE_BYTES);
        let waste = taken.saturating_sub(self.useful_bytes());
        Some((waste.saturating_add(named), taken.saturating_add(named)))
    }

    fn is_needed(&self) -> bool {
        let chunks = self.live > u64::from(planted::is_on(Bug::DropLastChunk));
        let tombstones = self.needed > 0 && !self.emptied;
        chunks || tombstones || !self.newer.is_empty()
    }
}

/// Sums over all entries of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) entries: u64,
    /// Of all entries and notes.
    pub(crate) fingerprint: u64,
    pub(crate) used: u64,
    pub(crate) quarantined: u64,
    /// Some of these, with whose they are.
    pub(crate) damaged: BTreeSet<(Account, ChunkId)>,
    pub(crate) usage: BTreeMap<Account, u64>,
    /// Bytes of chunks of each account, by the seconds for which they are kept in silence.
    pub(crate) kept: BTreeMap<Account, BTreeMap<u32, u64>>,
    /// Which chunks each account has.
    pub(crate) accounts: SharedAccounts,
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
        let (before, after) = (old.map(|old| old.account), new.map(|new| new.account));
        if before == after {
            // One that is only moved is never missing.
            return;
        }
        let mut accounts = lock(&self.accounts);
        before.iter().for_each(|account| accounts.remove(account, id));
        after.iter().for_each(|account| accounts.insert(account, id));
    }

    fn add(&mut self, id: &ChunkId, entry: &Entry) {
        let bytes = u64::from(entry.locator.bytes);
        self.entries = self.entries.saturating_add(1);
        self.fingerprint = self.fingerprint.wrapping_add(entry.fingerprint(id));
        self.used = self.used.saturating_add(bytes);
        if entry.condition == Condition::Quarantined {
            self.quarantined = self.quarantined.saturating_add(1);
            if self.damaged.len() < DAMAGED_MAX {
                self.damaged.insert((entry.account, *id));
            }
        }
        let usage = self.usage.entry(entry.account).or_default();
        *usage = usage.saturating_add(bytes);
        let kept = self.kept.entry(entry.account).or_default();
        let kept = kept.entry(entry.terms.keep_after_silence_s).or_default();
        *kept = kept.saturating_add(bytes);
        let segment = self.segments.entry(entry.locator.segment).or_default();
        segment.live = segment.live.saturating_add(1);
        segment.live_bytes = segment.live_bytes.saturating_add(bytes);
    }

    fn remove(&mut self, id: &ChunkId, entry: &Entry) {
        let bytes = u64::from(entry.locator.bytes);
        self.entries = self.entries.saturating_sub(1);
        self.fingerprint = self.fingerprint.wrapping_sub(entry.fingerprint(id));
        self.used = self.used.saturating_sub(bytes);
        if entry.condition == Condition::Quarantined {
            self.quarantined = self.quarantined.saturating_sub(1);
            self.damaged.remove(&(entry.account, *id));
        }
        if !planted::is_on(Bug::UsageOnlyGrows) {
            self.count_down(&entry.account, bytes);
        }
        self.keep_less(entry, bytes);
        let segment = self.segments.entry(entry.locator.segment).or_default();
        segment.live = segment.live.saturating_sub(1);
        segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
        segment.taken = None;
        if segment.stuck == Some(entry.sequence) {
            segment.stuck = None;
        }
    }

    fn keep_less(&mut self, entry: &Entry, bytes: u64) {
        let Some(kept) = self.kept.get_mut(&entry.account) else { return };
        let keep_s = entry.terms.keep_after_silence_s;
        match kept.get(&keep_s).copied().unwrap_or(0).saturating_sub(bytes) {
            0 => drop(kept.remove(&keep_s)),
            left => drop(kept.insert(keep_s, left)),
        }
        if kept.is_empty() {
            self.kept.remove(&entry.account);
        }
    }

    /// A record of a head is kept: it counts to the account as a chunk does.
    pub(crate) fn count_head(&mut self, account: &Account, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        let usage = self.usage.entry(*account).or_default();
        *usage = usage.saturating_add(bytes);
    }

    /// It is gone.
    pub(crate) fn uncount_head(&mut self, account: &Account, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
        self.count_down(account, bytes);
    }

    fn count_down(&mut self, account: &Account, bytes: u64) {
        let left = self.usage.get(account).copied().unwrap_or(0).saturating_sub(bytes);
        match left {
            0 => drop(self.usage.remove(account)),
            left => drop(self.usage.insert(*account, left)),
        }
    }

    /// Counts tombstones in `segment` of records in `target`, and returns the change of the
    /// catalogue. `None` where they are not needed: a record and its tombstone vanish together
    /// where they share a segment, and a record that is gone needs none.
    pub(crate) fn bury(&mut self, segment: u64, target: u64, count: u64) -> Option<Change> {
        if segment == target {
            return None;
        }
        let named = &mut self.segments.get_mut(&target)?.named;
        *named = named.saturating_add(count);
        let holder = self.segments.entry(segment).or_default();
        holder.needed = holder.needed.saturating_add(count);
        let sum = holder.tombstones.entry(target).or_default();
        let before = *sum;
        *sum = sum.saturating_add(count);
        let after = *sum;
        self.note(Note::Tombstones, (segment, target), before, after)
    }

    /// A newer record in `segment` overrules one in `target`: returns the change of the
    /// catalogue where that is news.
    pub(crate) fn supersede(&mut self, segment: u64, target: u64) -> Option<Change> {
        let news = segment != target
            && self.segments.contains_key(&target)
            && self.segments.entry(segment).or_default().newer.insert(target);
        news.then(|| self.note(Note::Newer, (segment, target), 0, 1)).flatten()
    }

    /// A note went from one count to another, 0 where there is none: the change of the catalogue.
    fn note(
        &mut self,
        note: Note,
        (segment, target): (u64, u64),
        before: u64,
        after: u64,
    ) -> Option<Change> {
        let share = |count| match count {
            0 => 0,
            count => note.fingerprint(segment, target, count),
        };
        let sum = self.fingerprint.wrapping_sub(share(before));
        self.fingerprint = sum.wrapping_add(share(after));
        Some(Change::note(note, segment, target, Some(after).filter(|after| *after > 0)))
    }

    /// Segments that nothing needs any more.
    pub(crate) fn dead_segments(&self, tip: u64) -> Vec<u64> {
        let dead = |(number, segment): (&u64, &Segment)| {
            (*number != tip && !segment.is_needed()).then_some(*number)
        };
        self.segments.iter().filter_map(dead).collect()
    }

    /// Segments of which newer records lie elsewhere, where nothing but their end makes that
    /// known: they keep others from going.
    pub(crate) fn superseded(&self) -> BTreeSet<u64> {
        self.segments.values().flat_map(|segment| segment.newer.iter().copied()).collect()
    }

    /// `number` is gone for good: returns the changes that forget the notes about it.
    pub(crate) fn forget_segment(&mut self, number: u64) -> Vec<Change> {
        let gone = self.segments.remove(&number).unwrap_or_default();
        let mut changes = Vec::new();
        for (target, count) in gone.tombstones {
            if let Some(target) = self.segments.get_mut(&target) {
                target.named = target.named.saturating_sub(count);
            }
            changes.extend(self.note(Note::Tombstones, (number, target), count, 0));
        }
        let mut stale = Vec::new();
        for (other, segment) in &mut self.segments {
            if segment.newer.remove(&number) {
                stale.push((Note::Newer, (*other, number), 1));
            }
            if let Some(count) = segment.tombstones.remove(&number) {
                segment.needed = segment.needed.saturating_sub(count);
                stale.push((Note::Tombstones, (*other, number), count));
            }
        }
        for (note, about, count) in stale {
            changes.extend(self.note(note, about, count, 0));
        }
        changes
    }
}
