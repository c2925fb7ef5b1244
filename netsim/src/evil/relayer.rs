//! Passes the proofs that it is shown on to other holders, to be served in the asker's place.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, Via};
use quloud::core::message::{Message, StreamMessage};
use rand::RngExt;

/// To how many each proof is shown.
const SHOWN: usize = 4;

#[derive(Default)]
pub(crate) struct Relayer {
    proofs: Vec<StreamMessage>,
}

impl Behaviour for Relayer {
    fn name(&self) -> &'static str {
        "relays proofs"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        if let Input::Message { via: Via::Stream, message: Message::Stream(message), .. } = &input
            && matches!(message, StreamMessage::Retrieve(_) | StreamMessage::StoreChunk(_))
            && self.proofs.len() < 64
        {
            self.proofs.push(message.clone());
            env.acts += 1;
        }
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        // At the next opportunity, while the proofs are fresh.
        let mut effects = vec![effect];
        for message in self.proofs.drain(..) {
            for _ in 0..SHOWN {
                if let Some(to) = env.nodes.get(env.rng.random_range(0..env.nodes.len())) {
                    effects.push(Effect::Send { to: *to, message: message.clone() });
                }
            }
        }
        effects
    }
}
