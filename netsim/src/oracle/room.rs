//! A sound store takes no more than it may, and what it says of itself is so.

use super::{Fact, Property, Truth};

pub(crate) struct Room;

impl Property for Room {
    fn name(&self) -> &'static str {
        "a store knows how full it is"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        match fact {
            Fact::Told { node, space } if truth.nodes[*node].is_sound() => {
                (space.used > space.capacity).then(|| format!("{node} has {space:?}"))
            }
            Fact::Counted { node, space, by_account, found } if truth.nodes[*node].is_sound() => {
                let right = space.chunks == *found
                    && space.used == *by_account
                    && space.used <= space.capacity;
                (!right).then(|| {
                    format!("{node} says {space:?}, {by_account} bytes by account, and has {found}")
                })
            }
            _ => None,
        }
    }
}
