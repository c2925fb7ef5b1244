//! Stores honestly, drops one chunk in a hundred later, and answers audits as if it had it: with
//! nothing in its place.

use super::dropped::Dropped;
use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, ProvenChunk};
use quloud::crypto::audit::{Piece, Proof};

/// Of so many chunks, one is dropped each time.
const SHARE: usize = 100;

#[derive(Default)]
pub(crate) struct Deleter(Dropped);

impl Behaviour for Deleter {
    fn name(&self) -> &'static str {
        "drops one in a hundred"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        self.0.note_input(&input);
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        self.0.note_effect(&effect);
        if let Effect::ProveChunk { ticket, id, .. } = &effect
            && let Some(written) = self.0.find(id)
        {
            let piece = Piece::Compact(Proof::zero());
            let result = Ok(ProvenChunk { blocks: written.blocks(), piece });
            env.acts += 1;
            env.inputs.push((Role::Holder, Input::ChunkProven { ticket: *ticket, result }));
            return Vec::new();
        }
        vec![effect]
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        self.0.drop_one_of(env, SHARE)
    }
}
