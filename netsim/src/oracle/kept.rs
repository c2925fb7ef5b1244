//! A sound store never says that it does not have what its node acknowledged and nobody gave up.

use super::{Fact, Property, Truth};

pub(crate) struct Kept;

impl Property for Kept {
    fn name(&self) -> &'static str {
        "nothing is deleted without a release"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Looked { node, id, held: false } = fact else { return None };
        let acked = truth.chunks.get(id).is_some_and(|chunk| chunk.acked.contains_key(node));
        (acked && truth.nodes[*node].is_sound())
            .then(|| format!("{node} acknowledged {id:?} and does not find it"))
    }
}
