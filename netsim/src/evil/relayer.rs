//! Passes the proofs that it is shown on to other holders, to be served in the asker's place.
//!
//! Each proof once: two relayers would pass one to and fro for ever, and drown what is looked for.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, Via};
use quloud::core::message::{Message, StreamMessage};
use rand::RngExt;
use std::collections::BTreeSet;

/// To how many each proof is shown.
const SHOWN: usize = 4;

#[derive(Default)]
pub(crate) struct Relayer {
    proofs: Vec<StreamMessage>,
    /// The nonces of those that it was ever shown.
    known: BTreeSet<[u8; 32]>,
}

impl Behaviour for Relayer {
    fn name(&self) -> &'static str {
        "relays proofs"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        if let Input::Message { via: Via::Stream, message: Message::Stream(message), .. } = &input
            && let Some(nonce) = nonce(message)
            && self.proofs.len() < 64
            && self.known.insert(nonce)
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
            let own = env.keys.node_id();
            for _ in 0..SHOWN {
                let to = env.nodes[env.rng.random_range(0..env.nodes.len())];
                if to != own {
                    effects.push(Effect::Send { to, message: message.clone() });
                }
            }
        }
        effects
    }
}

/// Of the proof in it, if it has one.
fn nonce(message: &StreamMessage) -> Option<[u8; 32]> {
    match message {
        StreamMessage::Retrieve(retrieve) => Some(retrieve.nonce),
        StreamMessage::StoreChunk(chunk) => Some(chunk.nonce),
        _ => None,
    }
}
