//! An honest holder hands a chunk only to somebody who knows its key; and holders dial nobody.

use super::{Fact, Property, Truth};
use crate::node::Role;
use quloud::core::message::StreamMessage;

pub(crate) struct Rightful;

impl Property for Rightful {
    fn name(&self) -> &'static str {
        "chunks go only to who may read them"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Said { from, to, message: StreamMessage::ChunkData(data) }
                if truth.is_honest(*from) =>
            {
                let id = data.header.id();
                let chunk = truth.chunks.get(&id)?;
                (!chunk.readers.contains(to)).then(|| format!("{from} hands {id:?} to {to}"))
            }
            Fact::Dialled { node, role: Role::Holder, to, .. } if truth.is_honest(*node) => {
                Some(format!("{node} dials {to:?} as a holder"))
            }
            _ => None,
        }
    }
}
