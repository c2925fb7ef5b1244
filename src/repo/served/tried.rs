//! What came of the requests to one holder.

use super::LINE_RATE;
use crate::core::types::{ChunkId, NodeId};
use crate::repo::reference::ChunkRef;
use std::time::Duration;

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// The chunk.
    Whole,
    /// A word that it does not come, or something else.
    Refused,
    /// Nothing in time, or it hung up.
    Nothing,
    /// It was not asked for.
    NotAsked,
}

/// What came of all requests to one holder.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) holder: NodeId,
    /// Before they went out: seconds since 1970.
    pub(super) asked_s: u64,
    /// What it owed, and how often that came.
    pub(super) owed: Vec<(ChunkRef, Came)>,
    pub(super) fresh: Vec<(ChunkRef, Came)>,
    /// What came, and whether as fast as it takes.
    pub(super) handed: Vec<(ChunkId, bool)>,
}

/// Whether the largest chunk comes in time on a line that brought so many bytes in that time.
pub(super) fn is_fast(bytes: usize, took: Duration) -> bool {
    bytes as u128 * 1_000 >= u128::from(LINE_RATE) * took.as_millis()
}

impl Tried {
    /// Nothing came yet.
    pub(super) fn begun(holder: NodeId, asked_s: u64) -> Self {
        Self { holder, asked_s, owed: Vec::new(), fresh: Vec::new(), handed: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = Came> {
        self.owed.iter().chain(&self.fresh).map(|(_, came)| *came)
    }

    fn has_served(&self) -> bool {
        self.all().any(|came| came == Came::Whole)
    }

    /// How many did not come.
    pub(super) fn refusals(&self) -> usize {
        self.all().filter(|came| matches!(came, Came::Refused | Came::Nothing)).count()
    }

    /// All that it was to be asked for came, and some of that was fresh: who knows what it is asked
    /// for again hands that over.
    pub(super) fn has_all(&self) -> bool {
        !self.fresh.is_empty() && self.all().all(|came| came == Came::Whole)
    }

    pub(super) fn is_mute(&self) -> bool {
        !self.all().any(|came| came == Came::Refused)
    }

    /// What it did not hand over now; and what it still owes and was not asked for, once each. One
    /// that is late among others that came has a slow line.
    pub(super) fn not_handed_over(self) -> (Vec<ChunkRef>, Vec<ChunkRef>) {
        let is_slow = self.has_served();
        let (mut refused, mut kept): (Vec<ChunkRef>, Vec<ChunkRef>) = (Vec::new(), Vec::new());
        let fresh = self.fresh.into_iter().map(|(chunk, came)| (chunk, came, false));
        let owed = self.owed.into_iter().map(|(chunk, came)| (chunk, came, true));
        for (chunk, came, is_owed) in owed.chain(fresh) {
            let is_refused = came == Came::Refused || (came == Came::Nothing && !is_slow);
            if refused.iter().chain(&kept).any(|other| other.id == chunk.id) {
                continue;
            }
            if is_refused {
                refused.push(chunk);
            } else if is_owed && came != Came::Whole {
                kept.push(chunk);
            }
        }
        (refused, kept)
    }
}
