//! One of several names of one machine: all of them promise, and one disk holds the chunk, or none.

use super::gang::Gang;
use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Found, Input, StoreError, StoredChunk};

pub(crate) struct Sybil {
    gang: Gang,
}

impl Sybil {
    pub(crate) fn of(gang: &Gang) -> Self {
        Self { gang: gang.clone() }
    }
}

impl Behaviour for Sybil {
    fn name(&self) -> &'static str {
        "is one machine of many names"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::WriteChunk { ticket, chunk } => {
                env.pretend_to_write(ticket, &chunk, 0xe5);
                self.gang.keep(chunk);
            }
            Effect::FindChunks { ticket, ids } => {
                let known = |chunk: &StoredChunk| Found::Chunk {
                    header: chunk.header,
                    sound: true,
                    released: false,
                };
                let found = ids.iter().map(|id| self.gang.look(id, known)).collect();
                env.inputs.push((Role::Holder, Input::ChunksFound { ticket, found }));
            }
            Effect::ReadChunk { ticket, id } => {
                let whole = self.gang.look(&id, |chunk| (chunk.header, chunk.sealed.clone()));
                let result = whole.filter(|_| self.gang.has_disk).ok_or(StoreError::Io);
                env.acts += 1;
                env.inputs.push((Role::Holder, Input::ChunkRead { ticket, result }));
            }
            effect => return vec![effect],
        }
        Vec::new()
    }

    fn is_many(&self) -> bool {
        true
    }
}
