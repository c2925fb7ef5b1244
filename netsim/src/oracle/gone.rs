//! What a sound store has deleted stays away until it is written again: no crash, no emptied
//! segment and no new catalogue brings it back.

use super::{Fact, Property, Seen, Truth};

pub(crate) struct Gone;

impl Property for Gone {
    fn name(&self) -> &'static str {
        "deleted chunks stay away"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Started { node, risen, .. } => {
                let first = risen.first().filter(|_| truth.nodes[*node].has_sound_disk())?;
                Some(format!("{node} deleted {first:?} and has it again"))
            }
            // Any header will do: a chunk that is damaged was not deleted.
            Fact::Looked { node, id, seen } if truth.nodes[*node].has_sound_disk() => {
                let buried = truth.chunks.get(id).is_some_and(|chunk| chunk.buried.contains(node));
                let risen = buried && *seen != Seen::Nothing;
                risen.then(|| format!("{node} deleted {id:?} and finds it"))
            }
            _ => None,
        }
    }
}
