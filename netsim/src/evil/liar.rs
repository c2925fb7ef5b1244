//! Acknowledges everything and stores nothing.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, Written};
use quloud::core::types::StoreEpoch;

pub(crate) struct Liar;

impl Behaviour for Liar {
    fn name(&self) -> &'static str {
        "acks and stores nothing"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let Effect::WriteChunk { ticket, chunk } = effect else { return vec![effect] };
        let epoch = StoreEpoch::from_bytes([0xee; 16]);
        let added_bytes = chunk.sealed.len() as u64;
        let written = Written { lease: chunk.lease, terms: chunk.terms, epoch, added_bytes };
        env.acts += 1;
        env.inputs.push((Role::Holder, Input::ChunksWritten(vec![(ticket, Ok(written))])));
        Vec::new()
    }
}
