//! What a sound disk holds is never called damaged: a power cut leaves torn writes, and those are
//! told from rot, when a store is opened and when it is scrubbed.

use super::{Fact, Property, Truth};

pub(crate) struct Damage;

impl Property for Damage {
    fn name(&self) -> &'static str {
        "a sound disk is not called damaged"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let (node, damage, rotten) = match fact {
            Fact::Opened { node, report } => {
                (*node, report.damage.as_slice(), report.ledger_damage.len())
            }
            Fact::Scrubbed { node, damage, rotten } => (*node, *damage, *rotten),
            _ => return None,
        };
        let called = rotten > 0 || !damage.is_empty();
        let wrong = called && truth.nodes[node].has_sound_disk();
        wrong.then(|| format!("{node} finds {rotten} damaged chunks or heads, and {damage:?}"))
    }
}
