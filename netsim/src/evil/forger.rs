//! Acknowledges chunks that it was never sent: those it has seen in requests.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{Message, StoreAck, StreamMessage, TopicMessage};
use quloud::core::types::{Account, ChunkId, LeaseNonce, LeaseTerms, StoreEpoch};
use quloud::crypto::ack::{AckStatement, AckedChunk};
use rand::RngExt;

/// Ids that are remembered.
const KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct Forger {
    seen: Vec<(quloud::core::types::BatchId, ChunkId, Account)>,
}

impl Behaviour for Forger {
    fn name(&self) -> &'static str {
        "acknowledges what it never got"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        match &input {
            Input::Message {
                message: Message::Stream(StreamMessage::StoreChunk(chunk)), ..
            } => {
                self.seen.push((chunk.batch, chunk.header.id(), chunk.account));
            }
            Input::Message {
                message: Message::Topic(TopicMessage::StoreRequest(request)), ..
            } => {
                let account = Account::from_bytes(env.rng.random());
                let batch = quloud::core::types::BatchId::from_bytes(env.rng.random());
                let offers = request.offers.iter();
                self.seen.extend(offers.map(|offer| (batch, offer.id, account)));
            }
            _ => {}
        }
        let surplus = self.seen.len().saturating_sub(KEPT);
        self.seen.drain(..surplus);
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        // Once in a while the ack of a chunk is joined by acks of others.
        let Effect::Send { to, message: StreamMessage::StoreAck(ack) } = &effect else {
            return vec![effect];
        };
        let mut effects = Vec::new();
        for (batch, id, account) in &self.seen {
            if env.rng.random_range(0..8) != 0 {
                continue;
            }
            let lease = LeaseNonce::from_bytes(env.rng.random());
            let receipt = env.rng.random();
            let chunks = vec![AckedChunk { id: *id, lease, receipt }];
            let statement = AckStatement {
                mesh: crate::node::MESH,
                account: *account,
                batch: if env.rng.random() { *batch } else { ack.batch },
                epoch: StoreEpoch::from_bytes([0xef; 16]),
                terms: LeaseTerms::default(),
                chunks,
            };
            let signature = statement.sign(env.keys);
            let AckStatement { account, batch, epoch, terms, chunks, .. } = statement;
            let forged = StoreAck { batch, account, epoch, terms, chunks, signature };
            effects.push(Effect::Send { to: *to, message: StreamMessage::StoreAck(forged) });
        }
        env.acts += effects.len() as u64;
        effects.push(effect);
        effects
    }
}
