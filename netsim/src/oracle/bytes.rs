//! What comes back is what was put.

use super::{Fact, Property, Truth};
use quloud::core::owner::OwnerEvent;

pub(crate) struct RightBytes;

impl Property for RightBytes {
    fn name(&self) -> &'static str {
        "fetched bytes are those that were put"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Reported { node, event: OwnerEvent::Fetched { id, header, sealed, .. } } = fact
        else {
            return None;
        };
        let right = truth.chunks.get(id).is_some_and(|chunk| chunk.sealed == *sealed);
        (!right || header.id() != *id).then(|| format!("{node} is given other bytes as {id:?}"))
    }
}
