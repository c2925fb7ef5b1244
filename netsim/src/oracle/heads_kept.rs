//! A sound store has every head that its node acknowledged, as new as that was or newer: after a
//! crash, too, and whenever it is asked.

use super::{Fact, Property, Truth};

pub(crate) struct HeadsKept;

impl Property for HeadsKept {
    fn name(&self) -> &'static str {
        "acknowledged heads outlive a crash"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::HeadLooked { node, id, newest } = fact else { return None };
        let acked = truth.heads.get(id)?.acked.get(node).copied()?;
        let node_of = &truth.nodes[*node];
        let is_lost = newest.unwrap_or(0) < acked && node_of.is_sound() && node_of.knows_heads();
        is_lost.then(|| format!("{node} acknowledged number {acked} of {id:?}, and has {newest:?}"))
    }
}
