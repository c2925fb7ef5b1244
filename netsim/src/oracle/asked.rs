//! Bytes of a chunk go only to a connected node that asked for just these: to holders that claimed
//! this chunk at this owner, and once for each retrieve.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::{StoreRequest, StreamMessage, TopicMessage};
use quloud::core::types::{AnswerTag, ChunkId};
use std::collections::{BTreeMap, BTreeSet};

/// A store request's one-time key.
type Ephemeral = [u8; 32];

#[derive(Default)]
pub(crate) struct Asked {
    /// Who asks with this key, and for which chunks.
    requests: BTreeMap<Ephemeral, (Index, Vec<ChunkId>)>,
    /// The request that has answers with this tag.
    tags: BTreeMap<AnswerTag, Ephemeral>,
    /// Who claimed which chunk at whose request: owner, holder.
    claimed: BTreeSet<(Index, Index, ChunkId)>,
    /// Which chunk somebody asked whom for, and under which number: asker, holder.
    retrieves: BTreeMap<(Index, Index, u64), ChunkId>,
}

impl Asked {
    fn published(&mut self, node: Index, message: &TopicMessage) {
        match message {
            TopicMessage::StoreRequest(request) => self.requested(node, request),
            TopicMessage::Answer(answer) => {
                // What is in it is sealed: everything, perhaps.
                if let Some(ephemeral) = self.tags.get(&answer.tag).copied() {
                    self.claims(node, &ephemeral, u64::MAX);
                }
            }
            TopicMessage::SearchRequest(_) => {}
        }
    }

    /// The first to say it is who asks: nobody else can open what is answered.
    fn requested(&mut self, owner: Index, request: &StoreRequest) {
        let ephemeral = request.ephemeral;
        self.tags.insert(AnswerTag::of(&ephemeral), ephemeral);
        let ids = || request.offers.iter().map(|offer| offer.id).collect();
        self.requests.entry(ephemeral).or_insert_with(|| (owner, ids()));
    }

    fn claims(&mut self, holder: Index, ephemeral: &Ephemeral, wants: u64) {
        let Some((owner, ids)) = self.requests.get(ephemeral) else { return };
        let wanted = ids.iter().enumerate().filter(|(at, _)| wants >> at & 1 == 1);
        self.claimed.extend(wanted.map(|(_, id)| (*owner, holder, *id)));
    }

    /// What a role knew before it stopped it does not know any more.
    fn restarted(&mut self, node: Index) {
        self.requests.retain(|_, (owner, _)| *owner != node);
        self.tags.retain(|_, ephemeral| self.requests.contains_key(ephemeral));
        self.claimed.retain(|(owner, ..)| *owner != node);
        self.retrieves.retain(|(asker, holder, _), _| *asker != node && *holder != node);
    }
}

impl Property for Asked {
    fn name(&self) -> &'static str {
        "chunks go only to who asked for them"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let (from, to, message) = match fact {
            Fact::Published { node, message } => {
                self.published(*node, message);
                return None;
            }
            Fact::Opened { node, .. } => {
                self.restarted(*node);
                return None;
            }
            Fact::Said { from, to, message } => (*from, *to, *message),
            _ => return None,
        };
        let honest = truth.is_honest(from);
        match message {
            StreamMessage::StoreRequest(request) => {
                self.requested(from, request);
                None
            }
            StreamMessage::StoreClaim(claim) => {
                self.claims(from, &claim.ephemeral, claim.wants | claim.holds);
                None
            }
            StreamMessage::Retrieve(retrieve) => {
                self.retrieves.insert((from, to, retrieve.request), retrieve.id);
                None
            }
            StreamMessage::StoreChunk(chunk) if honest => {
                let id = chunk.header.id();
                let own = truth.chunks.get(&id).is_some_and(|chunk| chunk.owner == from);
                let asked = self.claimed.contains(&(from, to, id)) && truth.has_met(from, to);
                (!own || !asked || from == to)
                    .then(|| format!("{from} gives {id:?} to {to}, which did not claim it"))
            }
            StreamMessage::ChunkData(data) if honest => {
                let asked = self.retrieves.remove(&(to, from, data.request));
                let asked = asked == Some(data.header.id()) && truth.has_met(from, to);
                (!asked).then(|| format!("{from} hands a chunk to {to}, which did not ask"))
            }
            _ => None,
        }
    }
}
