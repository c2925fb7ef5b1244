//! Takes part and forwards nothing of what others gossip.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Input, Via};

pub(crate) struct Mute;

impl Behaviour for Mute {
    fn name(&self) -> &'static str {
        "forwards no gossip"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        env.acts += u64::from(matches!(input, Input::Message { via: Via::Topic, .. }));
        Some(input)
    }

    fn forwards(&self) -> bool {
        false
    }
}
