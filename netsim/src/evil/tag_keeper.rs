//! Stores honestly, keeps the tags and drops the bytes: it answers audits with the tags and zeros.

use super::dropped::Dropped;
use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, ProvenChunk};

#[derive(Default)]
pub(crate) struct TagKeeper(Dropped);

impl Behaviour for TagKeeper {
    fn name(&self) -> &'static str {
        "keeps tags and drops bytes"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        self.0.note_input(&input);
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        self.0.note_effect(&effect);
        if let Effect::ProveChunk { ticket, id, task, .. } = &effect
            && let Some(written) = self.0.find(id)
            && let Ok(piece) = task.piece(id, &vec![0; written.sealed_bytes], &written.tags)
        {
            let result = Ok(ProvenChunk { blocks: written.blocks(), piece });
            env.acts += 1;
            env.inputs.push((Role::Holder, Input::ChunkProven { ticket: *ticket, result }));
            return Vec::new();
        }
        vec![effect]
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        // Once is enough: it hopes that half of it is not missed.
        if self.0.is_any_dropped() { Vec::new() } else { self.0.drop_one_of(env, 2) }
    }
}
