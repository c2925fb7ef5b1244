//! What owners tell of what they put: their nodes look at it after each audit and with each look
//! for what is due, and the oracle hears every word that is told, before a look and after it, and
//! after each loss.

use super::World;
use crate::node::device::wall_ns;
use crate::node::words::{Lot, Replicas};
use crate::node::{Index, Node};
use crate::oracle::{Fact, Worded};
use crate::sometimes::Rare;
use quloud::core::types::Time;
use quloud::repo::evidence::{Acked, Teller, Word};
use std::collections::BTreeMap;

impl World<'_> {
    /// What an owner put and did not give up, by the moment.
    fn lots(&self, owner: Index) -> Vec<Lot> {
        let mut lots: BTreeMap<Time, Lot> = BTreeMap::new();
        for (id, put) in &self.nodes[owner].wishes.puts {
            let target = put.replicas;
            let acked = u8::try_from(put.acked.len()).unwrap_or(u8::MAX);
            // What was stored was noted so; what is not has too few, however many said so.
            let has = if put.stored { target } else { acked.min(target.saturating_sub(1)) };
            let lot = lots.entry(put.since).or_insert_with(|| {
                let since_s = wall_ns(put.since.0).div_euclid(1_000_000_000);
                let since_s = u64::try_from(since_s).unwrap_or(0);
                let acked = Acked { has: u8::MAX, target, is_any: false, since_s };
                Lot { since: put.since, chunks: Vec::new(), acked }
            });
            lot.chunks.push(*id);
            lot.acked.has = lot.acked.has.min(has);
            lot.acked.target = lot.acked.target.max(target);
            lot.acked.is_any |= has > 0;
        }
        lots.into_values().collect()
    }

    fn teller(&self, owner: Index) -> Teller {
        Teller::new(self.nodes[owner].audits.holding(), self.wall_s(owner))
    }

    /// A replica of an owner's counts no more.
    pub(super) fn take_words_back(&mut self, owner: Index) {
        if self.plan.audits {
            let (lots, now_s) = (self.lots(owner), self.wall_s(owner));
            self.nodes[owner].words.lose(&lots, now_s);
            self.tell_words(owner, &lots, false);
        }
    }

    /// Looks at all that is due.
    pub(super) fn look_at_lots(&mut self, owner: Index) {
        if !self.plan.audits {
            return;
        }
        let (lots, teller) = (self.lots(owner), self.teller(owner));
        self.tell_words(owner, &lots, false);
        let near = self.near(owner);
        let replicas: Replicas = self.nodes[owner].audits.replicas(teller.now_s(), &near);
        let Node { words, .. } = &mut self.nodes[owner];
        words.look(&lots, &replicas, &teller);
        self.tell_words(owner, &lots, true);
    }

    fn tell_words(&mut self, owner: Index, lots: &[Lot], is_new: bool) {
        let teller = self.teller(owner);
        for lot in lots {
            let told = self.nodes[owner].words.tell(lot, &teller);
            match told.word {
                Word::Safe => self.noticed.rare.count(Rare::ToldSafe),
                Word::AtRisk => self.noticed.rare.count(Rare::ToldAtRisk),
                Word::Lost => self.noticed.rare.count(Rare::ToldLost),
                Word::Queued | Word::Replicating | Word::Stored => {}
            }
            let (chunks, at_s) = (lot.chunks.as_slice(), teller.now_s());
            let (word, target) = (told.word, told.target);
            let worded = Worded { owner, word, chunks, target, at_s, is_new };
            self.see(&Fact::Worded(worded));
        }
    }

    /// Whether all that an owner put is told with this word.
    pub(crate) fn tells_all(&self, owner: Index, word: Word) -> bool {
        let (lots, teller) = (self.lots(owner), self.teller(owner));
        let is_it = |lot: &Lot| self.nodes[owner].words.tell(lot, &teller).word == word;
        !lots.is_empty() && lots.iter().all(is_it)
    }
}
