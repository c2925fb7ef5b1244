//! An honest node acknowledges only what it has at that moment and can read, whatever its disk did
//! before.

use super::{Fact, Property, Truth};
use quloud::core::message::StreamMessage;
use quloud::core::types::ChunkId;

pub(crate) struct Held;

impl Property for Held {
    fn name(&self) -> &'static str {
        "an ack is for what is there"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Said { from, message: StreamMessage::StoreAck(ack), .. } = fact else {
            return None;
        };
        let node = truth.nodes.get(*from).filter(|_| truth.is_honest(*from))?;
        // A write that never reached the medium was acknowledged in good faith.
        if node.disk.is_spoiled() {
            return None;
        }
        node.machine.as_ref()?;
        // What was given up may be gone again before its ack is on its way.
        let buried =
            |id: &ChunkId| truth.chunks.get(id).is_none_or(|chunk| chunk.buried.contains(from));
        let mut ids = ack.chunks.iter().map(|acked| acked.id).filter(|id| !buried(id));
        let missing = ids.find(|id| !node.holds(id))?;
        Some(format!("{from} acknowledges {missing:?} and cannot read it"))
    }
}
