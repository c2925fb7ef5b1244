//! Which word is told: by what was noted when it was acknowledged, and by what the last look found,
//! whichever says less. So at once, without another look.
//!
//! A backup notes acknowledgements, also of holders that count no more. So where no look says
//! otherwise nothing is told as stored while any such holder has chunks; and of what was short when
//! something was found to be gone the next look tells whether it is stored.

use super::{SnapshotEvidence, Word};
use crate::planted::{Bug, is_on};
use crate::repo::standing::{AuditRecord, standing};

/// What is known without a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// The fewest nodes that acknowledged any chunk.
    pub has: u8,
    /// How many are wanted.
    pub target: u8,
    /// Whether anything was acknowledged.
    pub is_any: bool,
    /// Since when it is wanted: seconds since 1970.
    pub since_s: u64,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// In one word.
    pub word: Word,
    /// So many nodes are known to have its worst chunk, of those whose word counts.
    pub has: u8,
    /// So many are wanted.
    pub target: u8,
    /// Since when the word is the same, where that is known: seconds since 1970.
    pub since: Option<u64>,
    /// It may be worse since it was looked at, or nobody looked.
    pub may_be_worse: bool,
    /// Since when that is: seconds since 1970.
    pub worse_since: Option<u64>,
}

impl Acked {
    fn word(&self) -> Word {
        match self.is_short() {
            true if self.is_any => Word::Replicating,
            true => Word::Queued,
            false => Word::Stored,
        }
    }

    /// Whether it was acknowledged by fewer than are wanted.
    pub fn is_short(&self) -> bool {
        self.has < self.target.max(1)
    }

    /// By this alone, where every holder counts.
    pub fn told(&self) -> Told {
        let since = self.is_short().then_some(self.since_s);
        let (has, target) = (self.has, self.target);
        Told { word: self.word(), has, target, since, may_be_worse: false, worse_since: None }
    }
}

/// Tells words at one time.
#[derive(Debug, Clone, Copy)]
pub struct Teller {
    now_s: u64,
    /// When the last holder became suspect, of those that hold anything.
    suspect_s: Option<u64>,
    /// When the last holder came to count no more, of those that hold anything and do not.
    uncounted_s: Option<u64>,
}

impl Teller {
    /// At `now_s`, seconds since 1970: by what audits say of all that hold anything.
    pub fn new<'a>(holding: impl Iterator<Item = &'a AuditRecord>, now_s: u64) -> Self {
        let (mut suspect_s, mut uncounted_s) = (None, None);
        for record in holding {
            let silent_s = record.suspect_from_s().filter(|at_s| *at_s <= now_s);
            suspect_s = suspect_s.max(silent_s);
            if !standing(record, now_s).counts() {
                uncounted_s = uncounted_s.max(record.lies_s().max().or(silent_s).or(Some(0)));
            }
        }
        Self { now_s, suspect_s, uncounted_s }
    }

    /// When it tells: seconds since 1970.
    pub fn now_s(&self) -> u64 {
        self.now_s
    }

    /// Whether anybody who holds anything does not count.
    pub fn is_anybody_uncounted(&self) -> bool {
        self.uncounted_s.is_some()
    }

    /// Whether what was found by this look may be worse by now.
    pub fn is_behind(&self, last: &SnapshotEvidence) -> bool {
        last.behind_s > 0 || self.suspect_since(last).is_some()
    }

    /// Since when it may be worse, where that is known: seconds since 1970.
    fn behind_s(&self, last: &SnapshotEvidence) -> Option<u64> {
        match last.behind_s {
            0 => self.suspect_since(last),
            _ => last.behind_since_s(),
        }
    }

    fn suspect_since(&self, last: &SnapshotEvidence) -> Option<u64> {
        self.suspect_s.filter(|at_s| *at_s > last.at_s && !is_on(Bug::WordTrustsSilence))
    }

    /// What nobody looked at.
    fn unseen(&self, acked: &Acked) -> Told {
        let told = acked.told();
        let Some(at_s) = self.uncounted_s.filter(|_| !acked.is_short()) else { return told };
        let since = Some(at_s.max(acked.since_s));
        // How many count nobody knows.
        let (has, word) = (0, Word::AtRisk);
        Told { has, word, since, may_be_worse: true, worse_since: since, ..told }
    }

    /// By what was noted, and the last look where there was one.
    pub fn tell(&self, acked: Acked, last: Option<&SnapshotEvidence>) -> Told {
        let (has, target) = (acked.has, acked.target);
        let Some(last) = last else { return self.unseen(&acked) };
        let (worse_since, is_behind) = (self.behind_s(last), self.is_behind(last));
        // All of it was acknowledged since, perhaps by some who do not count,
        let is_outdated = last.is_outdated(&acked);
        if !is_behind && is_outdated && !last.was_hit {
            return self.unseen(&acked);
        }
        // or who have lost it by now.
        let is_doubtful = is_outdated && last.was_hit;
        let is_timely = (last.at_s..=last.until_s).contains(&self.now_s);
        let word = match last.word {
            Word::Lost => Word::Lost,
            Word::AtRisk => Word::AtRisk,
            Word::Safe | Word::Stored if is_behind => Word::AtRisk,
            _ if acked.is_short() => acked.word(),
            _ if is_behind => Word::AtRisk,
            word if is_doubtful => word,
            Word::Safe if is_timely => Word::Safe,
            _ => Word::Stored,
        };
        let since = match word {
            Word::AtRisk if last.word != Word::AtRisk => worse_since,
            word if word == last.word => Some(last.since_s),
            _ if acked.is_short() => Some(acked.since_s),
            // Of proofs that are too old by now.
            Word::Stored if last.word == Word::Safe => Some(last.until_s.min(self.now_s)),
            _ => None,
        };
        let (has, target) = match word {
            Word::Queued | Word::Replicating if is_doubtful => (last.counted, last.target),
            Word::Queued | Word::Replicating => (has, target),
            // How many are left nobody counted.
            Word::AtRisk if is_behind => (0, last.target),
            Word::AtRisk | Word::Lost => (last.counted, last.target),
            // Not more than both say.
            _ if last.word.is_whole() => (last.counted.min(has.max(last.target)), last.target),
            _ => (has, target),
        };
        Told { word, has, target, since, may_be_worse: is_behind, worse_since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::SnapshotId;
    use crate::repo::evidence::{Counts, Held, Subject};
    use crate::repo::standing::{DAY_S, Silence};

    const NOW_S: u64 = 1_800_000_000;
    const SNAPSHOT: SnapshotId = SnapshotId::from_bytes([1; 32]);

    fn acked(has: u8) -> Acked {
        Acked { has, target: 2, is_any: has > 0, since_s: NOW_S - 9 * DAY_S }
    }

    /// A look at one chunk, whose replicas are these, at `at_s`.
    fn look(has: u8, audited: &[bool], at_s: u64) -> SnapshotEvidence {
        let mut counts = Counts::new(2);
        let held = |audited: &bool| Held {
            counts: true,
            is_beside: false,
            audited_s: audited.then_some(at_s),
        };
        counts.add(true, &audited.iter().map(held).collect::<Vec<_>>(), at_s);
        let was_whole = has >= 2;
        let subject = Subject { snapshot: SNAPSHOT, target: 2, was_whole, is_own: true, covers: 0 };
        subject.found(None, &counts, at_s)
    }

    /// Silent since that day, so that it is suspect a day later.
    fn silent(days: u64) -> AuditRecord {
        let since_s = NOW_S - days * DAY_S;
        let silence = Silence { since_s, last_s: NOW_S, misses: 9, days: 2 };
        AuditRecord { silence: Some(silence), ..AuditRecord::default() }
    }

    fn teller(records: &[AuditRecord]) -> Teller {
        Teller::new(records.iter(), NOW_S)
    }

    #[test]
    fn the_worse_of_what_was_noted_and_what_was_seen_is_told() {
        let word = |has, last: Option<&SnapshotEvidence>| teller(&[]).tell(acked(has), last).word;
        let [safe, half] = [[true, true], [true, false]].map(|all| look(2, &all, NOW_S));
        assert_eq!(
            [0, 1, 2].map(|has| word(has, None)),
            [Word::Queued, Word::Replicating, Word::Stored]
        );
        assert_eq!([word(2, Some(&safe)), word(2, Some(&half))], [Word::Safe, Word::Stored]);
        assert_eq!(word(1, Some(&safe)), Word::Replicating, "more was put since");
        assert_eq!(word(2, Some(&look(2, &[true], NOW_S))), Word::AtRisk);
        assert_eq!(word(2, Some(&look(2, &[], NOW_S))), Word::Lost);
    }

    #[test]
    fn loss_and_silence_take_a_word_back_until_it_is_looked_at() {
        let mut safe = look(2, &[true, true], NOW_S - 2 * DAY_S);
        assert_eq!(teller(&[silent(1)]).tell(acked(2), Some(&safe)).word, Word::AtRisk);
        assert_eq!(teller(&[silent(4)]).tell(acked(2), Some(&safe)).word, Word::Safe, "seen");
        safe.lose(NOW_S);
        let told = teller(&[]).tell(acked(2), Some(&safe));
        assert_eq!((told.word, told.worse_since), (Word::AtRisk, Some(NOW_S)));
        safe.lose(NOW_S + 5);
        assert_eq!(safe.behind_s, NOW_S, "the first loss is told");
    }

    /// Found by the simulator: one of three had lost a chunk before the third one acknowledged it.
    #[test]
    fn what_was_short_when_something_was_lost_is_told_as_stored_by_a_look_and_not_by_acks() {
        let subject = |was_whole| {
            let (snapshot, target) = (SNAPSHOT, 2);
            Subject { snapshot, target, was_whole, is_own: true, covers: 0 }
        };
        let looked = |has: usize, was_whole, before: &SnapshotEvidence| {
            let mut counts = Counts::new(2);
            counts.add(
                true,
                &vec![Held { counts: true, is_beside: false, audited_s: None }; has],
                NOW_S,
            );
            subject(was_whole).found(Some(before), &counts, NOW_S)
        };
        let mut short = look(1, &[true], NOW_S - DAY_S);
        short.lose(NOW_S - DAY_S / 2);
        let mut again = looked(1, false, &short);
        for _ in 0..2 {
            let told = teller(&[]).tell(acked(2), Some(&again));
            assert_eq!((told.word, told.has, told.target), (Word::Replicating, 1, 2));
            assert_eq!(teller(&[]).tell(acked(1), Some(&again)).word, Word::Replicating);
            // However often it was looked at.
            again = looked(1, false, &again);
        }
        let stored = looked(2, true, &again);
        let told = teller(&[]).tell(acked(2), Some(&stored));
        assert_eq!((told.word, told.has, stored.was_hit), (Word::Stored, 2, false));
        // One that is known to be short though all of it was acknowledged is at risk.
        let told = teller(&[]).tell(acked(2), Some(&looked(1, true, &again)));
        assert_eq!((told.word, told.has), (Word::AtRisk, 1));
    }

    /// Found by the simulator (scenario week-apart): half of the holders of what had been short
    /// were suspect when they took it.
    #[test]
    fn what_was_acknowledged_since_the_last_look_is_not_told_as_stored_while_somebody_is_suspect() {
        let short = look(1, &[true], NOW_S - DAY_S / 2);
        assert_eq!(short.word, Word::Replicating);
        for last in [None, Some(&short)] {
            let told = teller(&[silent(4)]).tell(acked(2), last);
            assert_eq!((told.word, told.has, told.may_be_worse), (Word::AtRisk, 0, true));
            let told = teller(&[]).tell(acked(2), last);
            assert_eq!((told.word, told.has, told.may_be_worse), (Word::Stored, 2, false));
        }
    }
}
