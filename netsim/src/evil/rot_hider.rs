//! Has one bit of every chunk wrong and hides it: it hands the wrong bytes out, and answers audits
//! from them.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::{Effect, Input, ProvenChunk};
use quloud::core::message::StreamMessage;
use quloud::core::types::ChunkId;
use quloud::crypto::audit::blocks;
use rand::RngExt;
use std::collections::BTreeMap;

/// Chunks whose bytes it has wrong.
const KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct RotHider(BTreeMap<ChunkId, (Bytes, Bytes)>);

impl Behaviour for RotHider {
    fn name(&self) -> &'static str {
        "hides its rot"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, mut effect: Effect) -> Vec<Effect> {
        match &mut effect {
            Effect::WriteChunk { chunk, .. } if self.0.len() < KEPT => {
                let mut sealed = chunk.sealed.to_vec();
                let at = env.rng.random_range(0..sealed.len().max(1));
                sealed.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
                self.0.insert(chunk.id(), (Bytes::from(sealed), chunk.tags.clone()));
            }
            Effect::ProveChunk { ticket, id, task, .. } => {
                if let Some((sealed, tags)) = self.0.get(id)
                    && let Ok(piece) = task.piece(id, sealed, tags)
                {
                    let blocks = u16::try_from(blocks(sealed.len())).unwrap_or(u16::MAX);
                    let result = Ok(ProvenChunk { blocks, piece });
                    env.acts += 1;
                    env.inputs.push((Role::Holder, Input::ChunkProven { ticket: *ticket, result }));
                    return Vec::new();
                }
            }
            Effect::Send { message: StreamMessage::ChunkData(data), .. } => {
                if let Some((sealed, _)) = self.0.get(&data.header.id()) {
                    data.sealed = sealed.clone();
                    env.acts += 1;
                }
            }
            _ => {}
        }
        vec![effect]
    }
}
