//! Remembers whatever passes by, ids and proofs, and asks for chunks that it has no key for.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{
    Message, Retrieve, SearchKind, SearchRequest, StreamMessage, TopicMessage,
};
use quloud::core::types::ChunkId;
use quloud::crypto::ownership::Proof;
use rand::RngExt;
use rand::seq::IteratorRandom;

/// Ids and proofs that are remembered.
const KEPT: usize = 256;

/// What it asks for at a time.
const AT_ONCE: usize = 12;

#[derive(Default)]
pub(crate) struct Eavesdropper {
    ids: Vec<ChunkId>,
    /// What others proved, with the nonce: to everybody, or to this node alone.
    proofs: Vec<(ChunkId, [u8; 32], Proof)>,
}

impl Eavesdropper {
    fn note(&mut self, id: ChunkId) {
        if self.ids.len() < KEPT && !self.ids.contains(&id) {
            self.ids.push(id);
        }
    }

    fn note_proof(&mut self, id: ChunkId, nonce: [u8; 32], proof: Proof) {
        self.note(id);
        if self.proofs.len() >= KEPT {
            self.proofs.remove(0);
        }
        self.proofs.push((id, nonce, proof));
    }

    /// A proof that somebody else made, or none that deserves the name.
    fn proof(&self, env: &mut Env<'_>) -> Option<(ChunkId, [u8; 32], Proof)> {
        if env.rng.random() {
            return self.proofs.iter().choose(env.rng).copied();
        }
        let id = *self.ids.iter().choose(env.rng)?;
        let nonce = env.rng.random();
        // A point that decodes, and a scalar that proves nothing.
        let mut proof = [0; 64];
        proof[32] = env.rng.random_range(1..200);
        Some((id, nonce, proof))
    }
}

impl Behaviour for Eavesdropper {
    fn name(&self) -> &'static str {
        "asks for what it has no key for"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        if let Input::Message { message, .. } = &input {
            match message {
                Message::Topic(TopicMessage::StoreRequest(request)) => {
                    request.offers.iter().for_each(|offer| self.note(offer.id));
                }
                Message::Topic(TopicMessage::SearchRequest(request)) => {
                    for (id, proof) in &request.wanted {
                        self.note_proof(*id, request.nonce, *proof);
                    }
                }
                Message::Stream(StreamMessage::StoreChunk(chunk)) => {
                    self.note_proof(chunk.header.id(), chunk.nonce, chunk.proof);
                }
                Message::Stream(StreamMessage::Retrieve(retrieve)) => {
                    self.note_proof(retrieve.id, retrieve.nonce, retrieve.proof);
                }
                _ => {}
            }
        }
        Some(input)
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..AT_ONCE {
            let Some((id, nonce, proof)) = self.proof(env) else { break };
            if env.rng.random_range(0..8) == 0 {
                let (ephemeral, wanted) = (env.rng.random(), vec![(id, proof)]);
                let [first, ..] = nonce;
                let kind = SearchKind::ALL[usize::from(first % 2)];
                let request = SearchRequest { kind, ephemeral, attempt: 0, nonce, wanted };
                let topic = env.some_topic(kind.topic_kind());
                let message = TopicMessage::SearchRequest(request);
                effects.push(Effect::Publish { topic, message });
            } else if let Some(to) = env.somebody() {
                let retrieve = Retrieve { request: env.rng.random(), id, nonce, proof };
                effects.push(Effect::Send { to, message: StreamMessage::Retrieve(retrieve) });
            }
        }
        env.acts += effects.len() as u64;
        effects
    }
}
