//! The newest number of a head that a store shows never goes down while its disk keeps what it
//! has: nobody is sent back to an older list.

use super::{Fact, Property, Truth};
use crate::node::Index;
use quloud::core::types::ChunkId;
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct HeadsGrow(BTreeMap<(Index, ChunkId), u64>);

impl Property for HeadsGrow {
    fn name(&self) -> &'static str {
        "heads never go back"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::HeadLooked { node, id, newest: Some(number) } = fact else { return None };
        let looked = &truth.nodes[*node];
        if !looked.knows_heads() {
            return None;
        }
        let before = self.0.entry((*node, *id)).or_default();
        let shown = std::mem::replace(before, *number);
        let went_back = *number < shown && looked.is_sound();
        went_back.then(|| format!("{node} shows number {number} of {id:?}, after {shown}"))
    }
}
