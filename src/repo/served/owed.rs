//! What a holder did not hand over, and whether it is to blame.

use super::Known;
use super::asked::Asked;
use crate::core::types::{ChunkId, NodeId, Time};
use crate::planted::{Bug, is_on};
use crate::repo::reference::ChunkRef;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) chunks: Vec<ChunkRef>,
    /// Those that it was asked for last.
    pub(super) refused: Vec<ChunkId>,
    /// Before it was asked: seconds since 1970.
    pub(super) asked_s: u64,
    /// It said nothing at all: the line may be to blame.
    pub(super) is_mute: bool,
    /// Another one handed something over, and it said nothing again: the line is not.
    pub(super) is_vouched: bool,
    /// It hung up while the line was good, and could not be asked once more: should it say nothing
    /// when it is its turn again, the line is not to blame.
    pub(super) has_hung_up: bool,
    /// The miss is written down.
    pub(super) is_counted: bool,
    /// It is asked again from then on.
    pub(super) next: Time,
}

impl Owed {
    /// Whether only others can say if it is to blame.
    pub(super) fn lacks_witness(&self) -> bool {
        !self.refused.is_empty() && self.is_mute && !self.is_vouched && !self.is_counted
    }

    /// Whether what another one handed over right after, and whether as fast as it takes, says that
    /// the line is not to blame.
    pub(super) fn is_line_good(&self, handed: &[(ChunkId, bool)]) -> bool {
        handed.iter().any(|(id, is_fast)| *is_fast || self.refused.contains(id))
    }

    /// Nobody owes what counts no more there, as it was lost or let go. What was stored there anew
    /// is another replica, which the holder was not asked for.
    pub(super) fn forget_replaced(&mut self, asked: &Asked, known: &impl Known, holder: &NodeId) {
        let is_same = |chunk: &ChunkId| {
            let epoch = known.replica(holder, chunk);
            epoch.is_some_and(|epoch| asked.is_same((*holder, epoch), chunk))
        };
        self.chunks.retain(|chunk| is_same(&chunk.id));
        self.refused.retain(is_same);
    }

    /// Whether it showed, from when it was asked until `now_s`, that it has what it did not hand
    /// over, and nothing but itself is to blame: a miss, where it is not written down.
    pub(super) fn is_miss(&self, known: &impl Known, holder: &NodeId, now_s: u64) -> bool {
        let is_own = !self.is_mute || self.is_vouched || is_on(Bug::SkipWitness);
        let is_since = |at_s: u64| (self.asked_s..=now_s).contains(&at_s);
        let is_proven = |chunk: &ChunkId| known.proven_s(holder, chunk).is_some_and(is_since);
        is_own && !self.is_counted && self.refused.iter().any(is_proven)
    }
}
