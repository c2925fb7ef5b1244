//! What an honest node acknowledged is there after every restart, as long as its disk is sound.

use super::{Fact, Property, Truth};

pub(crate) struct Durable;

impl Property for Durable {
    fn name(&self) -> &'static str {
        "acknowledged chunks outlive a crash"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Started { node, missing, .. } = fact else { return None };
        let first = missing.first().filter(|_| truth.nodes[*node].is_sound())?;
        Some(format!("{node} acknowledged {first:?} and does not have it"))
    }
}
