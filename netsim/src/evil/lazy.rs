//! Acknowledges, drops the bytes, and asks other holders for them when it is asked itself.

use super::{Behaviour, Env};
use crate::node::Role;
use bytes::Bytes;
use quloud::core::effect::{Effect, Found, Input, StoreError};
use quloud::core::message::{Message, Retrieve, StreamMessage};
use quloud::core::types::{ChunkId, NodeId, Ticket};
use quloud::crypto::header::Header;
use rand::RngExt;
use std::collections::BTreeMap;

/// How many others are asked in its asker's name.
const ASKED: usize = 4;

#[derive(Default)]
pub(crate) struct Lazy {
    /// What it says to hold.
    headers: BTreeMap<ChunkId, Header>,
    /// Who asks it for what, and with which proof.
    askers: BTreeMap<ChunkId, Retrieve>,
    /// What it fetches for its reads.
    fetched: BTreeMap<u64, (Ticket, NodeId)>,
}

impl Lazy {
    /// Shows the asker's proof to others: it was made for this node and this asker alone.
    fn outsource(&mut self, env: &mut Env<'_>, ticket: Ticket, id: ChunkId) {
        for _ in 0..ASKED {
            let (Some(to), Some(proven)) = (env.somebody(), self.askers.get(&id)) else { break };
            // Under the asker's number, or under one of its own.
            let request = if env.rng.random() { proven.request } else { env.rng.random() };
            let message = StreamMessage::Retrieve(Retrieve { request, ..proven.clone() });
            self.fetched.insert(request, (ticket, to));
            env.effects.push(Effect::Send { to, message });
            env.acts += 1;
        }
        while self.fetched.len() > 64 {
            self.fetched.pop_first();
        }
    }
}

impl Behaviour for Lazy {
    fn name(&self) -> &'static str {
        "fetches elsewhere what it promised"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, input: Input) -> Option<Input> {
        let Input::Message { message: Message::Stream(message), .. } = &input else {
            return Some(input);
        };
        match message {
            StreamMessage::Retrieve(retrieve) => {
                self.askers.insert(retrieve.id, retrieve.clone());
            }
            // It worked: the asker gets what somebody else kept.
            StreamMessage::ChunkData(data) => {
                if let Some((ticket, _)) = self.fetched.remove(&data.request) {
                    let result = Ok((data.header, data.sealed.clone()));
                    env.inputs.push((Role::Holder, Input::ChunkRead { ticket, result }));
                    return None;
                }
            }
            _ => {}
        }
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::WriteChunk { ticket, chunk } => {
                env.pretend_to_write(ticket, &chunk, 0xe1);
                self.headers.insert(chunk.id(), chunk.header);
            }
            Effect::FindChunks { ticket, ids } => {
                let known = |header: &Header| Found::Chunk {
                    header: *header,
                    sound: true,
                    released: false,
                };
                let found = ids.iter().map(|id| self.headers.get(id).map(known)).collect();
                env.inputs.push((Role::Holder, Input::ChunksFound { ticket, found }));
            }
            Effect::ReadChunk { ticket, id } => {
                self.outsource(env, ticket, id);
                // Where that takes too long, it makes something up, or says that the disk fails.
                let header = self.headers.get(&id).copied();
                let made_up = header.map(|header| (header, Bytes::from_static(b"nothing")));
                let result = made_up.filter(|_| env.rng.random()).ok_or(StoreError::Io);
                if env.rng.random_range(0..4) == 0 {
                    env.inputs.push((Role::Holder, Input::ChunkRead { ticket, result }));
                }
            }
            effect => return vec![effect],
        }
        Vec::new()
    }
}
