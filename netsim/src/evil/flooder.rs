//! Asks for room and for chunks without end, of everybody.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{
    Message, Retrieve, SearchKind, SearchRequest, StoreChunk, StoreRequest, StreamMessage,
    TopicMessage,
};
use quloud::core::topic::TopicKind;
use quloud::core::types::ChunkId;
use rand::RngExt;

/// What it says at a time: far above every rate.
const AT_ONCE: usize = 250;

/// Chunks that it sends at a time, all to one: more than are checked at once.
const CHUNKS: usize = 90;

/// It floods once in so many turns.
const PAUSES: u32 = 40;

#[derive(Default)]
pub(crate) struct Flooder {
    /// A request like those that others make.
    model: Option<StoreRequest>,
    /// A chunk that it was sent, to be sent on under proofs that prove nothing.
    chunk: Option<Box<StoreChunk>>,
    turns: u32,
}

impl Behaviour for Flooder {
    fn name(&self) -> &'static str {
        "floods with requests"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        if let Input::Message { message: Message::Topic(message), .. } = &input
            && let TopicMessage::StoreRequest(request) = message
        {
            self.model = Some(request.clone());
        }
        if let Input::Message { message: Message::Stream(message), .. } = &input
            && let StreamMessage::StoreChunk(chunk) = message
        {
            self.chunk = Some(chunk.clone());
        }
        Some(input)
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        // Now and then: a flood costs the simulator as much as its victims.
        let turn = self.turns % PAUSES;
        self.turns += 1;
        if turn != 0 {
            return effects;
        }
        for _ in 0..AT_ONCE {
            let id = ChunkId::from_bytes(env.rng.random());
            let (nonce, ephemeral): ([u8; 32], _) = (env.rng.random(), env.rng.random());
            // A point that decodes, and a scalar that proves nothing.
            let mut proof = [0; 64];
            proof[32] = env.rng.random_range(1..200);
            let to = env.nodes.get(env.rng.random_range(0..env.nodes.len())).copied();
            let effect = match (env.rng.random_range(0..3), to, &self.model) {
                (0, Some(to), _) => {
                    let request = env.rng.random();
                    let retrieve = Retrieve { request, id, nonce, proof };
                    Effect::Send { to, message: StreamMessage::Retrieve(retrieve) }
                }
                (1, _, Some(model)) => {
                    let mut request = StoreRequest { ephemeral, ..model.clone() };
                    request.offers.iter_mut().for_each(|offer| offer.id = id);
                    request.offers.truncate(1);
                    let topic = env.some_topic(TopicKind::Store);
                    Effect::Publish { topic, message: TopicMessage::StoreRequest(request) }
                }
                _ => {
                    let [first, ..] = nonce;
                    let kind = SearchKind::ALL[usize::from(first % 2)];
                    let wanted = vec![(id, proof)];
                    let request = SearchRequest { kind, ephemeral, attempt: 0, nonce, wanted };
                    let topic = env.some_topic(kind.topic_kind());
                    Effect::Publish { topic, message: TopicMessage::SearchRequest(request) }
                }
            };
            effects.push(effect);
        }
        if let (Some(to), Some(chunk)) = (env.somebody(), &self.chunk) {
            effects.extend((0..CHUNKS).map(|_| {
                let chunk = Box::new(StoreChunk { nonce: env.rng.random(), ..(**chunk).clone() });
                Effect::Send { to, message: StreamMessage::StoreChunk(chunk) }
            }));
        }
        env.acts += effects.len() as u64;
        effects
    }
}
