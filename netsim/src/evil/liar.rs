//! Acknowledges everything and stores nothing.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::Effect;

pub(crate) struct Liar;

impl Behaviour for Liar {
    fn name(&self) -> &'static str {
        "acks and stores nothing"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let Effect::WriteChunk { ticket, chunk } = effect else { return vec![effect] };
        env.pretend_to_write(ticket, &chunk, 0xee);
        Vec::new()
    }
}
