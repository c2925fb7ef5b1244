//! What a look at all replicas of a snapshot came to, and what is noted of the next one.

use super::{Acked, Counts, Teller, Word};
use crate::core::types::SnapshotId;
use crate::planted::{Bug, is_on};
use crate::repo::standing::DAY_S;

/// How the newest snapshot of a set of paths is stored, when all that it names was looked at; or
/// how all files are that were put, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotEvidence {
    /// The snapshot, or [`Self::PUTS`].
    pub snapshot: SnapshotId,
    /// When that was: seconds since 1970.
    pub at_s: u64,
    /// Since when the word is the same: seconds since 1970.
    pub since_s: u64,
    /// Until when the proofs are not too old, where it is safe: seconds since 1970.
    pub until_s: u64,
    /// When a replica or a store was found to be gone since, of whatever snapshot: seconds since
    /// 1970, or [`Self::AT_SOME_TIME`]; 0 where none was.
    pub behind_s: u64,
    /// What it came to.
    pub word: Word,
    /// It was stored or safe then, or before.
    pub was_whole: bool,
    /// Something was found to be gone since it was begun, and by no look since then it had all its
    /// replicas: what was acknowledged for it may be gone again.
    pub was_hit: bool,
    /// Of all its chunks the fewest replicas that were acknowledged,
    pub acked: u8,
    /// of these the fewest that count,
    pub counted: u8,
    /// and of these the fewest that an audit proved lately.
    pub audited: u8,
    /// How many were wanted: 1 or more; with 0 it says that nothing more is known.
    pub target: u8,
    /// Of files that were put: up to which put. Else 0.
    pub covers: u64,
    /// Its chunks; with 0 nobody looked, and the rest is what its backup noted.
    pub chunks: u64,
    /// Of these, those that were acknowledged and that nobody has.
    pub lost: u64,
    /// Replicas of all its chunks that count and were proven lately.
    pub proven: u64,
    /// All others.
    pub unproven: u64,
    /// When these proofs were, from the oldest to the newest: seconds since 1970, 0 where there is
    /// none.
    pub proofs_s: (u64, u64),
}

impl SnapshotEvidence {
    /// The files that were put, all together: no hash is that.
    pub const PUTS: SnapshotId = SnapshotId::from_bytes([0; 32]);

    /// In the place of the time at which something was found to be gone: nobody knows when.
    pub const AT_SOME_TIME: u64 = 1;

    /// When something was found to be gone since the look, where that is known: seconds since 1970.
    pub fn behind_since_s(&self) -> Option<u64> {
        (self.behind_s > Self::AT_SOME_TIME).then(|| self.behind_s.max(self.at_s))
    }

    /// What was noted of a snapshot that nobody looked at.
    pub fn noted(snapshot: SnapshotId, acked: &Acked) -> Self {
        let word = acked.told().word;
        let (has, target, since_s) = (acked.has, acked.target.max(1), acked.since_s);
        let was_whole = word.is_whole();
        let seen = Self { word, was_whole, acked: has, counted: has, ..Self::nothing(snapshot) };
        Self { at_s: since_s, since_s, target, ..seen }
    }

    /// Nothing is known of this snapshot any more.
    pub const fn nothing(snapshot: SnapshotId) -> Self {
        Self {
            snapshot,
            at_s: 0,
            since_s: 0,
            until_s: 0,
            behind_s: 0,
            word: Word::Queued,
            was_whole: false,
            was_hit: false,
            acked: 0,
            counted: 0,
            audited: 0,
            target: 0,
            covers: 0,
            chunks: 0,
            lost: 0,
            proven: 0,
            unproven: 0,
            proofs_s: (0, 0),
        }
    }

    /// Whether it says the same, but for when it was looked at, and when the proofs were.
    pub fn is_like(&self, other: &Self) -> bool {
        let Self { at_s, until_s, proofs_s, .. } = *other;
        Self { at_s, until_s, proofs_s, ..*self } == *other
    }

    /// Whether it was short when it was looked at, and all of it is acknowledged by now.
    pub fn is_outdated(&self, acked: &Acked) -> bool {
        self.is_short() && !acked.is_short()
    }

    /// Whether some of it was acknowledged by too few when it was looked at.
    pub fn is_short(&self) -> bool {
        matches!(self.word, Word::Queued | Word::Replicating)
    }

    /// Something is gone, of whatever snapshot, found at `at_s`, seconds since 1970, or
    /// [`Self::AT_SOME_TIME`]: what was looked at before may be worse now.
    pub fn lose(&mut self, at_s: u64) {
        if self.behind_s == 0 && !is_on(Bug::KeepWord) {
            self.behind_s = at_s.max(Self::AT_SOME_TIME);
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The snapshot, or [`SnapshotEvidence::PUTS`].
    pub snapshot: SnapshotId,
    /// How many replicas are wanted.
    pub target: u8,
    /// All of it was acknowledged by as many as are wanted, as was noted.
    pub was_whole: bool,
    /// It is of this device: what it names that nobody acknowledged was not stored yet. Of another
    /// one's it is not known here.
    pub is_own: bool,
    /// As in [`SnapshotEvidence`].
    pub covers: u64,
}

impl Subject {
    /// Whether a look may find anything else than the `last` one. What is safe is looked at once a
    /// day, and what is not as often as anything changes.
    pub fn is_due(&self, last: Option<&SnapshotEvidence>, teller: &Teller) -> bool {
        last.is_none_or(|last| {
            last.word != Word::Safe
                || last.covers != self.covers
                || (last.target != self.target && self.covers == 0)
                || teller.now_s().abs_diff(last.at_s) >= DAY_S
                || teller.is_behind(last)
        })
    }

    /// What a look at `now_s`, seconds since 1970, says that found this, after the one `before`.
    pub fn found(
        &self,
        before: Option<&SnapshotEvidence>,
        counts: &Counts,
        now_s: u64,
    ) -> SnapshotEvidence {
        let Counts { target, acked, counted, audited, until_s, .. } = *counts;
        let was_hit = before.is_some_and(|before| before.was_hit || before.behind_s > 0);
        let before = before.filter(|before| before.target == target);
        let was_whole = self.was_whole || before.is_some_and(|before| before.was_whole);
        let word = counts.word(was_whole);
        let since_s = match before {
            // What was told to be at risk meanwhile may have been.
            Some(before) if before.word == word && !(word.is_whole() && before.behind_s > 0) => {
                before.since_s
            }
            // That something was lost was told before.
            Some(before) if !word.is_whole() && before.behind_s > before.at_s => before.behind_s,
            _ => now_s,
        };
        SnapshotEvidence {
            snapshot: self.snapshot,
            at_s: now_s,
            since_s,
            until_s,
            behind_s: 0,
            word,
            was_whole: was_whole || acked >= target,
            was_hit: was_hit && !word.is_whole(),
            acked,
            counted,
            audited,
            target,
            covers: self.covers,
            chunks: counts.chunks,
            lost: counts.lost,
            proven: counts.proven,
            unproven: counts.unproven,
            proofs_s: counts.proofs_s.unwrap_or_default(),
        }
    }
}
