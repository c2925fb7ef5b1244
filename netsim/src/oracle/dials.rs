//! Nobody can send an honest node to a third one's door: it looks for a node only where that node
//! itself said to be.

use super::{Fact, Property, Truth};

pub(crate) struct Dials;

impl Property for Dials {
    fn name(&self) -> &'static str {
        "a node is looked for where it says to be"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Dialled { node, to, record, .. } = fact else { return None };
        let peer = *truth.indices.get(to)?;
        let own = record.is_empty() || **record == truth.nodes[peer].record();
        let misled = !own && truth.is_honest(*node) && truth.is_honest(peer);
        misled.then(|| format!("{node} looks for {peer} where that never was"))
    }
}
