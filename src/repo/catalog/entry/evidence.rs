//! What a look at all replicas of a snapshot came to, as the journal has it.

use super::{BackupMade, Entry, Fields, SNAPSHOT_EVIDENCE};
use crate::core::types::SnapshotId;
use crate::repo::evidence::{Acked, SnapshotEvidence, Word};

impl SnapshotEvidence {
    /// Of a snapshot that nobody looked at, and of which something may be gone since `behind_s`.
    pub fn unseen(made: &BackupMade, behind_s: u64) -> Self {
        let (has, target, since_s) = (made.replicas, made.target, made.at);
        let acked = Acked { has, target, is_any: has > 0, since_s };
        Self { behind_s, ..Self::noted(made.snapshot, &acked) }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(SNAPSHOT_EVIDENCE);
        out.extend_from_slice(self.snapshot.as_bytes());
        for number in [self.at_s, self.since_s, self.until_s, self.behind_s] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let word = Word::ALL.iter().position(|word| *word == self.word).unwrap_or(0);
        out.push(u8::try_from(word).unwrap_or(0));
        out.push(u8::from(self.was_whole) | u8::from(self.was_hit) << 1);
        out.extend_from_slice(&[self.acked, self.counted, self.audited, self.target]);
        let (oldest_s, newest_s) = self.proofs_s;
        let Self { covers, chunks, lost, proven, unproven, .. } = *self;
        for number in [covers, chunks, lost, proven, unproven, oldest_s, newest_s] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn decode(from: &mut Fields<'_>) -> Option<Entry> {
        let snapshot = SnapshotId::from_bytes(from.array()?);
        let [at_s, since_s, until_s, behind_s] =
            [from.number()?, from.number()?, from.number()?, from.number()?];
        let word = *Word::ALL.get(usize::from(from.byte()?))?;
        let flags = from.byte()?;
        if flags > 3 {
            return None;
        }
        let it = Self {
            snapshot,
            at_s,
            since_s,
            until_s,
            behind_s,
            word,
            was_whole: flags & 1 > 0,
            was_hit: flags & 2 > 0,
            acked: from.byte()?,
            counted: from.byte()?,
            audited: from.byte()?,
            target: from.byte()?,
            covers: from.number()?,
            chunks: from.number()?,
            lost: from.number()?,
            proven: from.number()?,
            unproven: from.number()?,
            proofs_s: (from.number()?, from.number()?),
        };
        Some(Entry::SnapshotEvidence(it))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super::super) fn evidence(snapshot: u8, word: Word) -> SnapshotEvidence {
        SnapshotEvidence {
            snapshot: SnapshotId::from_bytes([snapshot; 32]),
            at_s: 1_800_000_010,
            since_s: 1_800_000_009,
            until_s: 1 << 40,
            behind_s: 0,
            word,
            was_whole: word.is_whole(),
            was_hit: true,
            acked: 4,
            counted: 3,
            audited: 2,
            target: 1,
            covers: 0,
            chunks: 11,
            lost: 12,
            proven: 13,
            unproven: 14,
            proofs_s: (15, 16),
        }
    }

    #[test]
    fn the_layout_is_the_one_of_before_and_a_word_or_flag_of_no_meaning_is_refused() {
        let mut bytes = Vec::new();
        Entry::SnapshotEvidence(evidence(7, Word::Safe)).encode(&mut bytes).unwrap();
        assert_eq!((bytes[0], bytes.len()), (37, 1 + 32 + 4 * 8 + 6 + 7 * 8));
        assert_eq!(bytes[65..71], [3, 3, 4, 3, 2, 1]);
        let numbers: Vec<u8> = bytes[71..].chunks_exact(8).map(|number| number[0]).collect();
        assert_eq!(numbers, [0, 11, 12, 13, 14, 15, 16]);
        for (at, last) in [(65, 5), (66, 3)] {
            for value in 0..=u8::MAX {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let is_read = Entry::decode(&mut bytes.as_slice()).is_ok();
                assert_eq!(is_read, value <= last, "{at}: {value}");
            }
        }
    }

    #[test]
    fn only_another_time_of_the_look_makes_no_other_evidence() {
        let it = evidence(1, Word::Stored);
        assert!(it.is_like(&SnapshotEvidence { at_s: 5, until_s: 6, proofs_s: (7, 8), ..it }));
        let others = [
            SnapshotEvidence { since_s: 5, ..it },
            SnapshotEvidence { behind_s: 5, ..it },
            SnapshotEvidence { word: Word::Safe, ..it },
            SnapshotEvidence { was_whole: false, ..it },
            SnapshotEvidence { was_hit: false, ..it },
            SnapshotEvidence { audited: 5, ..it },
            SnapshotEvidence { target: 5, ..it },
            SnapshotEvidence { lost: 5, ..it },
            SnapshotEvidence { proven: 5, ..it },
        ];
        assert!(others.iter().all(|other| !it.is_like(other)));
    }
}
