//! What audits conclude is true. A chunk counts as proven only where its holder could really read
//! it around the time of its answer; what is gone or rotten at a holder that answers is found; and
//! no honest holder is taken for a liar, nor for one that lost what it has.

use super::{Audit, Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::{AccountAnswer, AccountAsk, AccountRefusal, KeptChunks, StreamMessage};
use quloud::core::types::ChunkId;
use quloud::repo::standing::Standing;
use std::collections::BTreeMap;

/// Whether a holder could read each chunk of a question.
type Had = Vec<(ChunkId, bool)>;

#[derive(Default)]
pub(crate) struct Proven {
    /// When it was asked: owner, holder, and the question's number.
    asked: BTreeMap<(Index, Index, u64), Had>,
    /// When it was asked and when it answered: owner, holder.
    answered: BTreeMap<(Index, Index), BTreeMap<ChunkId, [bool; 2]>>,
}

impl Proven {
    fn said(&mut self, truth: &Truth<'_>, (from, to): (Index, Index), message: &StreamMessage) {
        match message {
            StreamMessage::AccountRequest(request) => {
                let AccountAsk::Audit { ids, .. } = &request.ask else { return };
                let Some(holder) = truth.nodes.get(to) else { return };
                let had = ids.iter().map(|id| (*id, holder.holds(id))).collect();
                self.asked.insert((from, to, request.request), had);
            }
            StreamMessage::AccountAnswer(AccountAnswer { request, outcome }) => {
                let is_answer = match outcome {
                    Ok(page) => matches!(page.kept, KeptChunks::Audited(_)),
                    Err(refusal) => *refusal == AccountRefusal::NoAccount,
                };
                if !is_answer {
                    return;
                }
                let Some(asked) = self.asked.remove(&(to, from, *request)) else { return };
                let holder = &truth.nodes[from];
                let had = asked.into_iter().map(|(id, had)| (id, [had, holder.holds(&id)]));
                self.answered.insert((to, from), had.collect());
            }
            _ => {}
        }
    }

    /// What the process knew before it stopped it does not know any more.
    fn restarted(&mut self, node: Index) {
        self.asked.retain(|(owner, ..), _| *owner != node);
        self.answered.retain(|(owner, _), _| *owner != node);
    }
}

impl Property for Proven {
    fn name(&self) -> &'static str {
        "audits conclude what is true"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Said { from, to, message } => {
                self.said(truth, (*from, *to), message);
                None
            }
            Fact::Opened { node, .. } => {
                self.restarted(*node);
                None
            }
            Fact::Audited { owner, holder, id, verdict, .. } => {
                let holder = *truth.indices.get(holder)?;
                let had = self.answered.get(&(*owner, holder)).and_then(|had| had.get(id));
                let [before, after] = had.copied().unwrap_or([false, false]);
                let (always, never) = (before && after, !before && !after);
                let is_honest = truth.is_honest(holder);
                let is_wrong = match verdict {
                    Audit::Proven => never,
                    Audit::Lied | Audit::Unproven => is_honest,
                    Audit::NotHeld => is_honest && always && truth.nodes[holder].reads_well(),
                    Audit::Damaged => is_honest && always && truth.nodes[holder].reads_well(),
                    Audit::Released => false,
                };
                is_wrong
                    .then(|| format!("{owner} takes {id:?} at {holder} for {verdict:?}: {had:?}"))
            }
            Fact::Stands { owner, holder, standing: Standing::Liar } => {
                let holder = *truth.indices.get(holder)?;
                truth.is_honest(holder).then(|| format!("{owner} takes {holder} for a liar"))
            }
            _ => None,
        }
    }
}
