//! What an owner's node tells of what it put, in one word for each lot: what was put at one moment.
//! The rules are the daemon's own (`repo::evidence`); what the last look at each lot came to is
//! kept as the catalogue keeps it, across restarts. Who looks, and when, is in `world/words.rs`.

use quloud::core::types::{ChunkId, SnapshotId, Time};
use quloud::repo::evidence::{Acked, Counts, Held, SnapshotEvidence, Subject, Teller, Told};
use std::collections::BTreeMap;

/// What was put at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Lot {
    pub(crate) since: Time,
    pub(crate) chunks: Vec<ChunkId>,
    /// As its owner noted it.
    pub(crate) acked: Acked,
}

/// A chunk's replicas, and whether anybody ever acknowledged it.
pub(crate) type Replicas = BTreeMap<ChunkId, (bool, Vec<Held>)>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Words(BTreeMap<SnapshotId, SnapshotEvidence>);

impl Lot {
    /// Its name, as if it were a snapshot.
    fn name(&self) -> SnapshotId {
        let mut name = [1; 32];
        name[..8].copy_from_slice(&self.since.0.to_le_bytes());
        SnapshotId::from_bytes(name)
    }
}

impl Words {
    /// Something is gone: what was seen of any lot may be worse now.
    pub(crate) fn lose(&mut self, lots: &[Lot], at_s: u64) {
        for lot in lots {
            let noted = || SnapshotEvidence::noted(lot.name(), &lot.acked);
            self.0.entry(lot.name()).or_insert_with(noted);
        }
        self.0.values_mut().for_each(|last| last.lose(at_s));
    }

    /// Looks at what is due, and forgets what was let go.
    pub(crate) fn look(&mut self, lots: &[Lot], replicas: &Replicas, teller: &Teller) {
        self.0.retain(|name, _| lots.iter().any(|lot| lot.name() == *name));
        for lot in lots {
            let (snapshot, target) = (lot.name(), lot.acked.target);
            let was_whole = !lot.acked.is_short();
            let subject = Subject { snapshot, target, was_whole, is_own: true, covers: 0 };
            let last = self.0.get(&snapshot);
            if !subject.is_due(last, teller) {
                continue;
            }
            let mut counts = Counts::new(target);
            for chunk in &lot.chunks {
                let nothing = (false, Vec::new());
                let (is_known, held) = replicas.get(chunk).unwrap_or(&nothing);
                counts.add(*is_known, held, teller.now_s());
            }
            let found = subject.found(last, &counts, teller.now_s());
            self.0.insert(snapshot, found);
        }
    }

    /// What is told of a lot.
    pub(crate) fn tell(&self, lot: &Lot, teller: &Teller) -> Told {
        teller.tell(lot.acked, self.0.get(&lot.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quloud::repo::evidence::Word;

    fn chunk(number: u8) -> ChunkId {
        ChunkId::from_bytes([number; 32])
    }

    /// Two chunks that two nodes acknowledged, of which so many proved them.
    fn stored(proven: usize) -> (Lot, Replicas) {
        let acked = Acked { has: 2, target: 2, is_any: true, since_s: 5 };
        let lot = Lot { since: Time(5), chunks: vec![chunk(1), chunk(2)], acked };
        let held =
            |at| Held { counts: true, is_beside: false, audited_s: (at < proven).then_some(9) };
        let replicas = lot.chunks.iter().map(|id| (*id, (true, (0..2).map(held).collect())));
        let replicas = replicas.collect();
        (lot, replicas)
    }

    #[test]
    fn lot_is_stored_then_safe_then_at_risk_until_it_is_looked_at() {
        let (mut words, teller) = (Words::default(), Teller::new([].into_iter(), 10));
        let (lot, replicas) = stored(1);
        let lots = [lot];
        let word = |words: &Words| words.tell(&lots[0], &teller).word;
        assert_eq!(word(&words), Word::Stored);
        words.look(&lots, &replicas, &teller);
        assert_eq!(word(&words), Word::Stored, "one is proven");
        let (_, mut replicas) = stored(2);
        words.look(&lots, &replicas, &teller);
        assert_eq!(word(&words), Word::Safe);
        words.lose(&lots, 10);
        assert_eq!(word(&words), Word::AtRisk);
        words.look(&lots, &replicas, &teller);
        assert_eq!(word(&words), Word::Safe, "it was another one's");
        words.lose(&lots, 10);
        replicas.insert(chunk(2), (true, Vec::new()));
        words.look(&lots, &replicas, &teller);
        assert_eq!(word(&words), Word::Lost);
    }

    #[test]
    fn loss_takes_the_word_back_of_what_nobody_looked_at_and_what_was_let_go_is_forgotten() {
        let (mut words, teller) = (Words::default(), Teller::new([].into_iter(), 10));
        let (lot, replicas) = stored(0);
        words.lose(std::slice::from_ref(&lot), 10);
        assert_eq!(words.tell(&lot, &teller).word, Word::AtRisk);
        words.look(&[], &replicas, &teller);
        assert!(words.0.is_empty());
    }
}
