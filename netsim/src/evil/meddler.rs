//! Speaks with the voice of an honest holder, and not with its account keys: as whoever copied the
//! keys of its connections alone, and stands on its line. All passes as it is, but for answers to
//! audits: these say that nothing is held. They cannot be authenticated anew.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::Effect;
use quloud::core::message::{AuditState, AuditedChunk, KeptChunks, StreamMessage};

pub(crate) struct Meddler;

impl Behaviour for Meddler {
    fn name(&self) -> &'static str {
        "changes answers to audits on their way"
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, mut effect: Effect) -> Vec<Effect> {
        if let Effect::Send { message: StreamMessage::AccountAnswer(answer), .. } = &mut effect
            && let Ok(page) = &mut answer.outcome
            && let KeptChunks::Audited(audited) = &mut page.kept
        {
            let nothing = AuditedChunk { state: AuditState::NotHeld, blocks: 0 };
            audited.chunks.fill(nothing);
            audited.proof = Bytes::new();
            env.acts += 1;
        }
        vec![effect]
    }
}
