//! Which chunks may be let go, and whose forgets count. Pure: who prunes reads for it.
//!
//! A chunk may go if some forgotten snapshot names it and nothing that [`mark`](super::mark) found
//! does. So what may go is found from above, by its references: a release is proved under a key
//! that derives from the chunk's own, and what nobody knows the key of stays. A forgotten snapshot
//! is taken whole or not at all: where a part of its tree does not come, the chunks below it would
//! never be found again once what leads to them was let go.
//!
//! What leads to others goes after them: a prune that is broken off finds all that is left once
//! more. Manifest entries are never let go: superseded heads still name them.
//!
//! **Whose forgets count.** A thief of an unlocked device has all keys but the one that releases,
//! and can forget everything, on the head of any device. The owner's own prune must not carry that
//! out. So what was forgotten in this folder counts at once, and only that was: its catalogue knows
//! of it. All else waits until this folder has known it for [`FOREIGN_FORGETS_WAIT_S`], by the
//! clock and by the folder's [age](Clock), or until the user accepts what was listed before. What
//! is accepted is settled before the heads are read, so nothing counts that nobody was shown.

use super::mark::{LiveChunks, Reached};
use super::reference::ChunkRef;
use crate::core::types::ChunkId;
use crate::crypto::keys::ChunkKey;
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// How long a forget that was not made in this folder waits: 7 days, in seconds.
pub const FOREIGN_FORGETS_WAIT_S: u64 = 7 * 24 * 3600;

/// What a span between two runs of a node adds to the folder's age at most: a day.
pub const UNWATCHED_S_MAX: u64 = 24 * 3600;

/// A chunk that may go.
#[derive(Debug)]
pub struct DeadChunk {
    /// Which.
    pub id: ChunkId,
    /// Its key.
    pub ck: ChunkKey,
    /// Bytes of files in it, as what names it says; 0 where that is not known.
    pub bytes: u64,
    /// The head of another device whose snapshot it was found in, if it was: holders that only that
    /// one knows may have it.
    pub of: Option<u16>,
}

/// Gathers what may go, from one forgotten snapshot after the other.
#[derive(Debug)]
pub struct Dead<'l> {
    live: &'l LiveChunks,
    /// In the order in which they were found: what leads to others before these.
    found: Vec<DeadChunk>,
    at: BTreeMap<ChunkId, usize>,
    /// So many are of snapshots that were read to their ends.
    whole: usize,
    /// Whose snapshot is being read.
    of: Option<u16>,
}

impl<'l> Dead<'l> {
    /// Nothing yet. All that is `live` stays.
    pub fn new(live: &'l LiveChunks) -> Self {
        Self { live, found: Vec::new(), at: BTreeMap::new(), whole: 0, of: None }
    }

    /// What is found from now on is of a snapshot that the writer of this head made, if that is
    /// another device. A chunk is of the first one that it is found in.
    pub fn begin(&mut self, of: Option<u16>) {
        self.of = of;
    }

    /// A chunk that was let go before, and not by all.
    pub fn add(&mut self, id: ChunkId, ck: &ChunkKey) {
        self.found(id, ck, 0);
    }

    fn found(&mut self, id: ChunkId, ck: &ChunkKey, bytes: u64) {
        if !self.live.contains(&id) && !self.at.contains_key(&id) {
            self.at.insert(id, self.found.len());
            let (ck, of) = (ck.duplicate(), self.of);
            self.found.push(DeadChunk { id, ck, bytes, of });
        }
    }

    /// The snapshot that was read last was read to its end; else nothing of it may go.
    pub fn end(&mut self, is_whole: bool) {
        if is_whole {
            self.whole = self.found.len();
            return;
        }
        for dead in self.found.drain(self.whole..) {
            self.at.remove(&dead.id);
        }
    }

    /// All of it, in an order in which it may go: what leads to others behind these.
    pub fn into_order(mut self) -> Vec<DeadChunk> {
        self.end(false);
        self.found.reverse();
        self.found
    }

    /// Whether this chunk may go.
    pub fn contains(&self, id: &ChunkId) -> bool {
        self.at.contains_key(id)
    }
}

impl Reached for Dead<'_> {
    fn reach(&mut self, reference: &ChunkRef) {
        self.found(reference.id, &reference.ck, 0);
    }

    fn reach_leaf(&mut self, reference: &ChunkRef) {
        self.found(reference.id, &reference.ck, reference.bytes);
    }

    /// What is live leads to nothing else, and what was found in an earlier snapshot was read.
    fn is_known(&self, id: &ChunkId) -> bool {
        self.live.contains(id) || self.at.get(id).is_some_and(|at| *at < self.whole)
    }
}

/// The time by which forgets are believed. A wrong clock can make that later, and at most a day
/// earlier for each time that it jumps while no node runs: within a run the node's own watch counts
/// and not the clock, and between two runs a day at most is taken as certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// How long the folder was in use for certain, in seconds.
    pub age_s: u64,
    /// What the clock shows: seconds since 1970.
    pub wall_s: u64,
}

impl Clock {
    /// The clock now. `before` is what was noted last, and `watched_s` how long ago that was by the
    /// node's own watch, where the same run noted it.
    pub fn now(before: Option<Self>, watched_s: Option<u64>, wall_s: u64) -> Self {
        let Some(before) = before else { return Self { age_s: 0, wall_s } };
        let unwatched = || wall_s.saturating_sub(before.wall_s).min(UNWATCHED_S_MAX);
        let passed_s = watched_s.unwrap_or_else(unwatched);
        Self { age_s: before.age_s.saturating_add(passed_s), wall_s }
    }
}

/// Who forgot a snapshot, and when this folder saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetSeen {
    /// In this folder.
    pub own: bool,
    /// Not so, and the user was told of it and said that it is right.
    pub accepted: bool,
    /// When it was first seen.
    pub since: Clock,
}

impl ForgetSeen {
    /// Whether the snapshot's chunks may go for it.
    pub fn counts(&self, now: Clock) -> bool {
        self.own || self.accepted || self.wait_s(now) == 0
    }

    /// How long it waits, at least: seconds.
    pub fn wait_s(&self, now: Clock) -> u64 {
        let left =
            |since: u64, now: u64| FOREIGN_FORGETS_WAIT_S.saturating_sub(now.saturating_sub(since));
        left(self.since.age_s, now.age_s).max(left(self.since.wall_s, now.wall_s))
    }
}

/// What becomes of a snapshot that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All that it names must stay.
    Needed,
    /// The same, for a forget that does not count yet.
    Waits,
    /// What it alone names may go.
    Gone,
}

/// What becomes of a snapshot: `is_live` says whether the manifests that were read now have it and
/// nobody forgot it. One that is in no manifest, and that was not seen to be forgotten, is needed.
pub fn fate(is_live: bool, forgotten: Option<ForgetSeen>, now: Clock) -> Fate {
    match forgotten {
        Some(seen) if !is_live && seen.counts(now) => Fate::Gone,
        Some(_) if !is_live => Fate::Waits,
        _ => Fate::Needed,
    }
}
