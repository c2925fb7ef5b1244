//! An honest holder takes chunks only of whoever can prove to be their owner, and so acknowledges
//! each to its owner and to nobody else.

use super::{Fact, Property, Truth};
use quloud::core::message::StreamMessage;

pub(crate) struct Addressed;

impl Property for Addressed {
    fn name(&self) -> &'static str {
        "chunks are taken of their owners only"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Said { from, to, message: StreamMessage::StoreAck(ack) } = fact else {
            return None;
        };
        let holder = Some(*from).filter(|from| truth.is_honest(*from))?;
        let foreign = ack
            .chunks
            .iter()
            .find(|acked| truth.chunks.get(&acked.id).is_some_and(|chunk| chunk.owner != *to))?;
        Some(format!("{holder} takes {:?} of {to}, whose it is not", foreign.id))
    }
}
