//! Acknowledges everything and stores half of it.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::Effect;
use rand::RngExt;

pub(crate) struct Keeper;

impl Behaviour for Keeper {
    fn name(&self) -> &'static str {
        "keeps half of what it acknowledges"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::WriteChunk { ticket, chunk } if env.rng.random() => {
                env.pretend_to_write(ticket, &chunk, 0xee);
                Vec::new()
            }
            effect => vec![effect],
        }
    }
}
