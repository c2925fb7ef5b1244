//! Honest for days; then all of them at once drop what they hold, hand out wrong bytes, or forge.

use super::forger::Forger;
use super::gang::Gang;
use super::liar::Liar;
use super::vandal::Vandal;
use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::types::{ChunkId, Ticket, Time};
use rand::RngExt;
use std::collections::BTreeSet;

/// Marks tickets that the role has not given out.
const OURS: u64 = 1 << 62;

pub(crate) struct Covert {
    strike: Time,
    held: BTreeSet<ChunkId>,
    /// What it turns out to be; `None` before that.
    face: Option<Box<dyn Behaviour>>,
}

impl Covert {
    pub(crate) fn of(gang: &Gang) -> Self {
        Self { strike: gang.strike, held: BTreeSet::new(), face: None }
    }

    fn strike(&mut self, env: &mut Env<'_>) {
        if self.face.is_some() || env.now < self.strike {
            return;
        }
        self.face = Some(match env.rng.random_range(0..3) {
            0 => Box::new(Liar),
            1 => Box::new(Vandal),
            _ => Box::new(Forger::default()),
        });
        env.acts += 1;
        if env.rng.random() {
            for id in std::mem::take(&mut self.held) {
                let ticket = Ticket(OURS | env.acts);
                env.effects.push(Effect::DeleteChunk { ticket, id });
                env.acts += 1;
            }
        }
    }
}

impl Behaviour for Covert {
    fn name(&self) -> &'static str {
        "is honest until all strike"
    }

    fn input(&mut self, env: &mut Env<'_>, role: Role, input: Input) -> Option<Input> {
        self.strike(env);
        match &mut self.face {
            Some(face) => face.input(env, role, input),
            None => Some(input),
        }
    }

    fn effect(&mut self, env: &mut Env<'_>, role: Role, effect: Effect) -> Vec<Effect> {
        if let Some(face) = &mut self.face {
            return face.effect(env, role, effect);
        }
        if let Effect::WriteChunk { chunk, .. } = &effect {
            self.held.insert(chunk.id());
        }
        vec![effect]
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        self.strike(env);
        Vec::new()
    }
}
