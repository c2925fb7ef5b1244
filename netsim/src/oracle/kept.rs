//! A sound store never says that it does not have what its node acknowledged and nobody gave up,
//! nor that this is damaged: its node would not count as a holder any more.

use super::{Fact, Property, Seen, Truth};

pub(crate) struct Kept;

impl Property for Kept {
    fn name(&self) -> &'static str {
        "nothing is deleted without a release"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Looked { node, id, seen } = fact else { return None };
        if *seen == Seen::Sound {
            return None;
        }
        let acked = truth.chunks.get(id).is_some_and(|chunk| chunk.acked.contains_key(node));
        (acked && truth.nodes[*node].is_sound())
            .then(|| format!("{node} acknowledged {id:?} and has it not, or not whole: {seen:?}"))
    }
}
