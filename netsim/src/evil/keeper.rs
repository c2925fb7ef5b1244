//! Acknowledges everything and stores half of it.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, Written};
use quloud::core::types::StoreEpoch;
use rand::RngExt;

pub(crate) struct Keeper;

impl Behaviour for Keeper {
    fn name(&self) -> &'static str {
        "keeps half of what it acknowledges"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::WriteChunk { ticket, chunk } if env.rng.random() => {
                let epoch = StoreEpoch::from_bytes([0xee; 16]);
                let added_bytes = chunk.sealed.len() as u64;
                let written =
                    Written { lease: chunk.lease, terms: chunk.terms, epoch, added_bytes };
                env.acts += 1;
                env.inputs.push((Role::Holder, Input::ChunksWritten(vec![(ticket, Ok(written))])));
                Vec::new()
            }
            effect => vec![effect],
        }
    }
}
