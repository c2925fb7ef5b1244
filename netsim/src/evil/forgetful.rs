//! Acknowledges every record of a head and keeps the first one: whoever asks it is sent back.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, HeadWritten, Input};
use quloud::core::types::{ChunkId, StoreEpoch};
use std::collections::BTreeSet;

#[derive(Default)]
pub(crate) struct Forgetful(BTreeSet<ChunkId>);

impl Behaviour for Forgetful {
    fn name(&self) -> &'static str {
        "keeps the first record of a head"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::WriteHead { ticket, terms, record, .. } if self.0.contains(&record.id()) => {
                let (epoch, added_bytes, is_fork) = (StoreEpoch::from_bytes([0xe2; 16]), 0, false);
                let written = HeadWritten { terms, epoch, added_bytes, is_fork };
                env.acts += 1;
                env.inputs.push((Role::Holder, Input::HeadsWritten(vec![(ticket, Ok(written))])));
                Vec::new()
            }
            effect => {
                if let Effect::WriteHead { record, .. } = &effect {
                    self.0.insert(record.id());
                }
                vec![effect]
            }
        }
    }
}
