//! Bytes of a chunk go only to a connected node that asked for them: to holders that claimed room
//! at this owner, and once for each retrieve.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::message::{StreamMessage, TopicMessage};
use quloud::core::types::AnswerTag;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(crate) struct Asked {
    /// Whose request has answers with this tag.
    tags: BTreeMap<AnswerTag, Index>,
    /// Who claimed room at whose request.
    claimed: BTreeSet<(Index, Index)>,
    /// Who asked whom under which number.
    retrieves: BTreeSet<(Index, Index, u64)>,
}

impl Asked {
    fn published(&mut self, node: Index, message: &TopicMessage) {
        match message {
            TopicMessage::StoreRequest(request) => {
                self.tags.entry(AnswerTag::of(&request.ephemeral)).or_insert(node);
            }
            TopicMessage::Answer(answer) => {
                let owner = self.tags.get(&answer.tag);
                self.claimed.extend(owner.map(|owner| (*owner, node)));
            }
            TopicMessage::RetrieveRequest(_) => {}
        }
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
            Fact::Said { from, to, message } => (*from, *to, *message),
            _ => return None,
        };
        let honest = truth.is_honest(from);
        match message {
            StreamMessage::StoreClaim(_) => {
                self.claimed.insert((to, from));
                None
            }
            StreamMessage::Retrieve(retrieve) => {
                self.retrieves.insert((from, to, retrieve.request));
                None
            }
            StreamMessage::StoreChunk(chunk) if honest => {
                let id = chunk.header.id();
                let own = truth.chunks.get(&id).is_some_and(|chunk| chunk.owner == from);
                let asked = self.claimed.contains(&(from, to));
                (!own || !asked || from == to)
                    .then(|| format!("{from} gives {id:?} to {to}, which did not claim"))
            }
            StreamMessage::ChunkData(data) if honest => {
                let asked = self.retrieves.remove(&(to, from, data.request));
                (!asked).then(|| format!("{from} hands a chunk to {to}, which did not ask"))
            }
            _ => None,
        }
    }
}
