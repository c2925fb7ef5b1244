//! No word of what an owner put is ahead of the truth:
//!
//! - safe: of each chunk as many holders as are wanted were proven to have it by the last audit
//!   that asked for it there, of the store that acknowledged it last. That a proof is true when it
//!   is given is another property; so what is missing went missing after it;
//!   Of these none counts that lied, or was silent for so long that it is suspect;
//! - stored: the same of those who acknowledged it, and that no audit found without it since;
//! - lost, by a look: of some chunk no honest holder has it that did not say that it is gone, and
//!   that no other store of it spoke for since. What is stored anew is told with the next look.
//!   Replicas of before it was given up are none, unless their holders took that back.
//!
//! Of holders in one failure domain one counts.
//!
//! How old a proof may be is not looked at: few worlds are as long.

use super::{Audit, Fact, Property, Truth, Worded};
use crate::node::Index;
use quloud::core::owner::{AccountDone, OwnerEvent};
use quloud::core::types::{ChunkId, StoreEpoch};
use quloud::repo::evidence::Word;
use std::collections::{BTreeMap, BTreeSet};

/// The last that was heard of a chunk at a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Acked,
    Proven,
    Gone,
}

#[derive(Default)]
pub(crate) struct Words {
    /// By owner, chunk and holder, and of which store.
    heard: BTreeMap<(Index, ChunkId, Index), (StoreEpoch, Last)>,
    /// The store that each holder acknowledged with last, by owner and holder.
    stores: BTreeMap<(Index, Index), StoreEpoch>,
    /// Where another one answered since.
    doubted: BTreeSet<(Index, Index)>,
}

impl Words {
    fn acked(&mut self, (owner, id, holder): (Index, ChunkId, Index), epoch: StoreEpoch) {
        self.stores.insert((owner, holder), epoch);
        self.doubted.remove(&(owner, holder));
        let heard = self.heard.entry((owner, id, holder)).or_insert((epoch, Last::Acked));
        if *heard != (epoch, Last::Proven) {
            *heard = (epoch, Last::Acked);
        }
    }

    fn audited(&mut self, named: (Index, ChunkId, Index), epoch: StoreEpoch, verdict: Audit) {
        let Some((of, last)) = self.heard.get_mut(&named) else { return };
        if *of != epoch {
            return;
        }
        *last = match (verdict, *last) {
            (Audit::Proven, Last::Acked) => Last::Proven,
            (Audit::Proven | Audit::Unproven, last) => last,
            (Audit::NotHeld | Audit::Released | Audit::Damaged | Audit::Lied, _) => Last::Gone,
        };
    }

    /// What was heard of a chunk, of stores that are not gone.
    fn of(&self, owner: Index, id: &ChunkId) -> impl Iterator<Item = (Index, Last)> {
        let heard = self.heard.range((owner, *id, 0)..=(owner, *id, Index::MAX));
        let is_there = move |holder: Index, epoch: &StoreEpoch| {
            self.stores.get(&(owner, holder)) == Some(epoch)
        };
        heard.map(move |((.., holder), (epoch, last))| {
            (*holder, if is_there(*holder, epoch) { *last } else { Last::Gone })
        })
    }

    /// The first chunk that fewer holders count for than are wanted.
    fn short<'a>(
        &self,
        truth: &Truth<'_>,
        (owner, at_s): (Index, u64),
        (chunks, target): (&'a [ChunkId], u8),
        is_it: impl Fn(Last) -> bool,
    ) -> Option<(&'a ChunkId, usize)> {
        let counts = |holder: Index| {
            let audits = &truth.nodes[owner].audits;
            audits.stands(&truth.nodes[holder].id, at_s).0.counts()
        };
        let count = |id: &ChunkId| {
            let heard = self.of(owner, id);
            let counting = heard.filter(|(holder, last)| is_it(*last) && counts(*holder));
            let domains = counting.map(|(holder, _)| truth.nodes[holder].domain());
            domains.collect::<BTreeSet<_>>().len()
        };
        let counted = chunks.iter().map(|id| (id, count(id)));
        counted.into_iter().find(|(_, count)| *count < usize::from(target))
    }

    fn is_there(&self, truth: &Truth<'_>, owner: Index, id: &ChunkId) -> bool {
        self.of(owner, id).any(|(holder, last)| {
            let is_doubted = self.doubted.contains(&(owner, holder));
            let has_it = truth.is_honest(holder) && truth.nodes[holder].holds(id);
            last != Last::Gone && !is_doubted && has_it
        })
    }
}

impl Property for Words {
    fn name(&self) -> &'static str {
        "no word is ahead of the truth"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            // Of heads the words say nothing.
            Fact::Reported { node: owner, event: OwnerEvent::Acked { id, node, epoch, .. } }
                if truth.chunks.contains_key(id) =>
            {
                let holder = *truth.indices.get(node)?;
                self.acked((*owner, *id, holder), *epoch);
                None
            }
            Fact::Reported { node: owner, event: OwnerEvent::Account { holder, outcome, .. } } => {
                let holder = *truth.indices.get(holder)?;
                let Ok(AccountDone::Audited { epoch, .. }) = outcome else { return None };
                // Another store speaks: its owner may take all of it for gone.
                let known = self.stores.get(&(*owner, holder));
                if known.is_some_and(|known| known != epoch) {
                    self.doubted.insert((*owner, holder));
                }
                None
            }
            Fact::Audited { owner, holder, epoch, id, verdict } => {
                let holder = *truth.indices.get(holder)?;
                self.audited((*owner, *id, holder), *epoch, *verdict);
                None
            }
            Fact::TookBack { owner, holder, id, epoch } => {
                let holder = *truth.indices.get(holder)?;
                self.acked((*owner, *id, holder), *epoch);
                None
            }
            Fact::GaveUp { owner, id } => {
                self.heard.retain(|(of, chunk, _), _| (of, chunk) != (owner, id));
                None
            }
            Fact::Worded(Worded { owner, word, chunks, target, at_s, is_new }) => {
                let short = |is_it: fn(Last) -> bool| {
                    let (id, count) =
                        self.short(truth, (*owner, *at_s), (chunks, *target), is_it)?;
                    let stands = |(holder, last): (Index, Last)| {
                        let audits = &truth.nodes[*owner].audits;
                        (holder, last, audits.stands(&truth.nodes[holder].id, *at_s))
                    };
                    let all: Vec<_> = self.of(*owner, id).map(stands).collect();
                    Some(format!("{owner} tells {word:?}, and of {id:?} {count} count: {all:?}"))
                };
                match word {
                    Word::Safe => short(|last| last == Last::Proven),
                    Word::Lost if *is_new => chunks
                        .iter()
                        .all(|id| self.is_there(truth, *owner, id))
                        .then(|| format!("{owner} tells Lost, and all of it is there")),
                    Word::Stored => short(|last| last != Last::Gone),
                    Word::Queued | Word::Replicating | Word::AtRisk | Word::Lost => None,
                }
            }
            _ => None,
        }
    }
}
