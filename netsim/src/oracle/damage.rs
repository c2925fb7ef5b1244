//! What a sound disk holds is never called damaged: a power cut leaves torn writes, and those are
//! told from rot, when a store is opened and when it is scrubbed. But for the ledger where the
//! catalogue was lost: nobody knows then how far it was durable, and of several items that were
//! written at once the last may be whole and the first may not. So it is with the very first write
//! of a ledger: its header is torn only there.

use super::{Fact, Property, Truth};

pub(crate) struct Damage;

impl Property for Damage {
    fn name(&self) -> &'static str {
        "a sound disk is not called damaged"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let (node, damage, rotten) = match fact {
            Fact::Opened { node, report } => {
                let ledger = report.ledger_damage.len();
                let is_first = report.ledger_damage.first().is_some_and(|(from, _)| *from == 0);
                let is_known = report.rebuilt.is_none() && !is_first;
                (*node, report.damage.as_slice(), if is_known { ledger } else { 0 })
            }
            Fact::Scrubbed { node, damage, rotten } => (*node, *damage, *rotten),
            _ => return None,
        };
        let called = rotten > 0 || !damage.is_empty();
        let wrong = called && truth.nodes[node].has_sound_disk();
        wrong.then(|| format!("{node} finds {rotten} damaged chunks or heads, and {damage:?}"))
    }
}
