//! An owner lets go only what its user has given up, and nothing that is wanted again: what is sent
//! after a holder was asked to take it back would undo that.

use super::{Fact, Property, Truth};
use quloud::core::message::StreamMessage;

pub(crate) struct Wanted;

impl Property for Wanted {
    fn name(&self) -> &'static str {
        "nobody lets go what is wanted"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Said { from, to, message: StreamMessage::Release(release) } = fact else {
            return None;
        };
        if release.undo || !truth.is_honest(*from) {
            return None;
        }
        let is_wanted = |id| truth.chunks.get(id).is_none_or(|chunk| chunk.released.is_none());
        let wanted = release.items.iter().find(|item| is_wanted(&item.id))?;
        Some(format!("{from} asks {to} to let go of {:?}, which its user wants", wanted.id))
    }
}
