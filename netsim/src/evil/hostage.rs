//! Stores honestly and gives nothing back.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::Effect;
use quloud::core::message::{RetrieveRefusal, RetrieveReject, StreamMessage};
use rand::RngExt;

pub(crate) struct Hostage;

impl Behaviour for Hostage {
    fn name(&self) -> &'static str {
        "keeps chunks hostage"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let Effect::Send { to, message: StreamMessage::ChunkData(data) } = effect else {
            return vec![effect];
        };
        env.acts += 1;
        let reasons = [RetrieveRefusal::NotHeld, RetrieveRefusal::Busy, RetrieveRefusal::Damaged];
        let Some(reason) = reasons.get(env.rng.random_range(0..4)) else { return Vec::new() };
        let reject = RetrieveReject { request: data.request, reason: *reason };
        vec![Effect::Send { to, message: StreamMessage::RetrieveReject(reject) }]
    }
}
