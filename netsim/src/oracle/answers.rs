//! What an owner is told of its account was said by that holder in answer to that very question: it
//! is authenticated under the key of the two.

use super::{Fact, Property, Truth};
use crate::node::{Index, MESH};
use quloud::core::message::{AccountRequest, StreamMessage};
use quloud::core::owner::{AccountDone, OwnerEvent};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Answers {
    /// By owner, holder and number.
    asked: BTreeMap<(Index, Index, u64), AccountRequest>,
    /// Owners and holders that have answered rightly since the owner was told of it last.
    right: BTreeSet<(Index, Index)>,
}

impl Answers {
    fn said(&mut self, truth: &Truth<'_>, (from, to): (Index, Index), message: &StreamMessage) {
        match message {
            StreamMessage::AccountRequest(request) => {
                self.asked.insert((from, to, request.request), request.clone());
            }
            StreamMessage::AccountAnswer(answer) => {
                let Some(asked) = self.asked.get(&(to, from, answer.request)) else { return };
                let Ok(page) = &answer.outcome else { return };
                let (owner, holder) = (&truth.nodes[to], &truth.nodes[from]);
                let secret = owner.owner_keys.account(&holder.id);
                let pair = secret.pair_key(&holder.id, &holder.keys.agreement_key());
                let between = (MESH, owner.id, holder.id);
                let is_right = pair
                    .is_some_and(|pair| asked.verify(between, &pair) && page.verify(asked, &pair));
                if is_right {
                    self.right.insert((to, from));
                    self.asked.remove(&(to, from, answer.request));
                }
            }
            _ => {}
        }
    }
}

impl Property for Answers {
    fn name(&self) -> &'static str {
        "answers about accounts are authenticated"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Said { from, to, message } => {
                self.said(truth, (*from, *to), message);
                None
            }
            Fact::Opened { node, .. } => {
                self.asked.retain(|(owner, ..), _| owner != node);
                None
            }
            Fact::Reported { node, event: OwnerEvent::Account { holder, outcome, .. } } => {
                let Ok(AccountDone::Audited { .. }) = outcome else { return None };
                let holder = *truth.indices.get(holder)?;
                let is_right = self.right.remove(&(*node, holder));
                (!is_right).then(|| format!("{node} believes what {holder} did not answer"))
            }
            _ => None,
        }
    }
}
