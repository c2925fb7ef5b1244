//! Slow loris: takes part, and keeps whoever deals with it waiting. What it says comes after
//! minutes, cut short or too long, or not at all.

use super::{Behaviour, Env};
use crate::chance::between;
use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::Effect;
use quloud::core::message::{ChunkData, Retrieve, StreamMessage};
use quloud::core::types::ChunkId;
use rand::RngExt;
use std::time::Duration;

/// How long others wait for it.
const WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(900));

/// Requests that it opens at a time, and says nothing more about.
const OPENED: usize = 16;

pub(crate) struct Loris;

impl Behaviour for Loris {
    fn name(&self) -> &'static str {
        "keeps others waiting"
    }

    fn effect(&mut self, env: &mut Env<'_>, role: Role, effect: Effect) -> Vec<Effect> {
        let Effect::Send { to, message } = effect else { return vec![effect] };
        if role == Role::Owner {
            return vec![Effect::Send { to, message }];
        }
        let message = match message {
            StreamMessage::ChunkData(data) => StreamMessage::ChunkData(spoilt(env, data)),
            message => message,
        };
        env.acts += 1;
        if env.rng.random_range(0..4) > 0 {
            let wait = between(env.rng, WAIT.0, WAIT.1);
            env.later.push((wait, to, message));
        }
        Vec::new()
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let Some(to) = env.somebody() else { return Vec::new() };
        let id = ChunkId::from_bytes(env.rng.random());
        env.acts += OPENED as u64;
        let open = |_| {
            let (request, nonce) = (env.rng.random(), env.rng.random());
            let message = StreamMessage::Retrieve(Retrieve { request, id, nonce, proof: [0; 64] });
            Effect::Send { to, message }
        };
        (0..OPENED).map(open).collect()
    }
}

/// A byte's worth of it, or more than all of it, or all of it.
fn spoilt(env: &mut Env<'_>, data: ChunkData) -> ChunkData {
    let sealed = match env.rng.random_range(0..3) {
        0 => data.sealed.slice(..data.sealed.len().min(1)),
        1 => Bytes::from([&data.sealed[..], &[0; 4_096]].concat()),
        _ => data.sealed,
    };
    ChunkData { sealed, ..data }
}
