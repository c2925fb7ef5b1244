//! What a sound disk holds is never called damaged: a power cut leaves torn writes, and those are
//! told from rot.

use super::{Fact, Property, Truth};

pub(crate) struct Damage;

impl Property for Damage {
    fn name(&self) -> &'static str {
        "a sound disk is not called damaged"
    }

    fn see(&mut self, truth: &Truth<'_>, fact: &Fact<'_>) -> Option<String> {
        let Fact::Opened { node, report } = fact else { return None };
        let first = report.damage.first().filter(|_| truth.nodes[*node].has_sound_disk())?;
        Some(format!("{node} finds {first:?}"))
    }
}
