//! Stores honestly and acknowledges badly: without a true signature, for less than was asked, or
//! more than it got.

use super::{Behaviour, Env};
use crate::node::{MESH, Role};
use quloud::core::effect::{Effect, Input};
use quloud::core::message::{Message, StoreAck, StreamMessage, TopicMessage};
use quloud::core::types::{ChunkId, LeaseNonce, LeaseTerms};
use quloud::crypto::ack::{ACK_CHUNKS_MAX, AckStatement, AckedChunk};
use rand::RngExt;

/// Ids that were offered to everybody and are remembered.
const KEPT: usize = 16;

#[derive(Default)]
pub(crate) struct Botcher {
    offered: Vec<ChunkId>,
}

impl Botcher {
    /// The ack once more, with all that was offered and, perhaps, never came.
    fn more(&self, env: &mut Env<'_>, ack: &StoreAck) -> StoreAck {
        let mut chunks = ack.chunks.clone();
        let new = self.offered.iter().filter(|id| !ack.chunks.iter().any(|one| one.id == **id));
        chunks.extend(new.map(|id| AckedChunk {
            id: *id,
            lease: LeaseNonce::from_bytes(env.rng.random()),
            receipt: env.rng.random(),
        }));
        chunks.truncate(ACK_CHUNKS_MAX);
        signed(env, StoreAck { chunks, ..ack.clone() })
    }
}

impl Behaviour for Botcher {
    fn name(&self) -> &'static str {
        "acknowledges badly"
    }

    fn input(&mut self, _: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        let request = match &input {
            Input::Message {
                message: Message::Topic(TopicMessage::StoreRequest(request)), ..
            }
            | Input::Message {
                message: Message::Stream(StreamMessage::StoreRequest(request)),
                ..
            } => request,
            _ => return Some(input),
        };
        self.offered.extend(request.offers.iter().map(|offer| offer.id));
        let surplus = self.offered.len().saturating_sub(KEPT);
        self.offered.drain(..surplus);
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        let Effect::Send { to, message: StreamMessage::StoreAck(mut ack) } = effect else {
            return vec![effect];
        };
        let bad = match env.rng.random_range(0..4) {
            0 => {
                ack.signature[env.rng.random_range(0..64)] ^= 1;
                ack
            }
            1 => {
                let terms = LeaseTerms { release_delay_s: 0, ..ack.terms };
                signed(env, StoreAck { terms, ..ack })
            }
            2 => self.more(env, &ack),
            _ => return vec![Effect::Send { to, message: StreamMessage::StoreAck(ack) }],
        };
        env.acts += 1;
        vec![Effect::Send { to, message: StreamMessage::StoreAck(bad) }]
    }
}

/// The same with a signature that is right for what it says.
fn signed(env: &Env<'_>, ack: StoreAck) -> StoreAck {
    let StoreAck { batch, account, epoch, terms, chunks, .. } = ack;
    let statement = AckStatement { mesh: MESH, account, batch, epoch, terms, chunks };
    let signature = statement.sign(env.keys);
    let AckStatement { chunks, .. } = statement;
    StoreAck { batch, account, epoch, terms, chunks, signature }
}
