//! Acknowledges chunks that it does not have: those it has seen in requests, and those that are
//! still on their way to it.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{Message, StoreAck, StoreChunk, StreamMessage, TopicMessage};
use quloud::core::types::{Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, NodeId, StoreEpoch};
use quloud::crypto::ack::{AckStatement, AckedChunk};
use rand::RngExt;

/// Ids that are remembered.
const KEPT: usize = 64;

/// Chunks that it acknowledges ahead of time, for each that comes.
const AHEAD: usize = 8;

#[derive(Default)]
pub(crate) struct Forger {
    seen: Vec<(BatchId, ChunkId, Account)>,
    /// Offered in requests, and not come yet.
    offered: Vec<ChunkId>,
}

impl Forger {
    /// A chunk tells under which names the others of its request are sent: some of them are
    /// acknowledged before they come.
    fn ack_ahead(&mut self, env: &mut Env<'_>, to: NodeId, chunk: &StoreChunk) {
        let came = chunk.header.id();
        self.offered.retain(|id| *id != came);
        for id in self.offered.iter().rev().take(AHEAD) {
            let forged = forged(env, (chunk.batch, *id, chunk.account));
            env.acts += 1;
            env.effects.push(Effect::Send { to, message: StreamMessage::StoreAck(forged) });
        }
    }
}

impl Behaviour for Forger {
    fn name(&self) -> &'static str {
        "acknowledges what it never got"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        match &input {
            Input::Message {
                from,
                message: Message::Stream(StreamMessage::StoreChunk(chunk)),
                ..
            } => {
                self.ack_ahead(env, *from, chunk);
                self.seen.push((chunk.batch, chunk.header.id(), chunk.account));
            }
            Input::Message {
                message: Message::Topic(TopicMessage::StoreRequest(request)), ..
            } => {
                let account = Account::from_bytes(env.rng.random());
                let batch = BatchId::from_bytes(env.rng.random());
                let ids = || request.offers.iter().map(|offer| offer.id);
                self.seen.extend(ids().map(|id| (batch, id, account)));
                self.offered.extend(ids());
            }
            _ => {}
        }
        let surplus = self.seen.len().saturating_sub(KEPT);
        self.seen.drain(..surplus);
        let surplus = self.offered.len().saturating_sub(KEPT);
        self.offered.drain(..surplus);
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
            let batch = if env.rng.random() { *batch } else { ack.batch };
            let forged = forged(env, (batch, *id, *account));
            effects.push(Effect::Send { to: *to, message: StreamMessage::StoreAck(forged) });
        }
        env.acts += effects.len() as u64;
        effects.push(effect);
        effects
    }
}

/// An ack with a signature that holds, and a receipt that does not.
fn forged(env: &mut Env<'_>, (batch, id, account): (BatchId, ChunkId, Account)) -> StoreAck {
    let lease = LeaseNonce::from_bytes(env.rng.random());
    let chunks = vec![AckedChunk { id, lease, receipt: env.rng.random() }];
    let (mesh, terms) = (crate::node::MESH, LeaseTerms::default());
    let epoch = StoreEpoch::from_bytes([0xef; 16]);
    let statement = AckStatement { mesh, account, batch, epoch, terms, chunks };
    let signature = statement.sign(env.keys);
    let AckStatement { account, batch, epoch, terms, chunks, .. } = statement;
    StoreAck { batch, account, epoch, terms, chunks, signature }
}
