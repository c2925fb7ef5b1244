//! Stores what it is given and hands out something else.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::Effect;
use quloud::core::message::StreamMessage;
use rand::RngExt;

pub(crate) struct Vandal;

impl Behaviour for Vandal {
    fn name(&self) -> &'static str {
        "hands out wrong bytes"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, mut effect: Effect) -> Vec<Effect> {
        if let Effect::Send { message: StreamMessage::ChunkData(data), .. } = &mut effect {
            let mut sealed = data.sealed.to_vec();
            match env.rng.random_range(0..3) {
                0 => sealed.truncate(env.rng.random_range(0..sealed.len().max(1))),
                1 => sealed.push(0),
                _ => {
                    let at = env.rng.random_range(0..sealed.len().max(1));
                    sealed.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
                }
            }
            data.sealed = Bytes::from(sealed);
            env.acts += 1;
        }
        vec![effect]
    }
}
