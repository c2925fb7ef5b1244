//! Stores honestly, and answers audits with what it answered before, with anything, or without a
//! right MAC.

use super::{Behaviour, Env};
use crate::node::Role;
use quloud::core::effect::{Effect, Input, ProvenChunk};
use quloud::core::message::StreamMessage;
use quloud::core::types::{ChunkId, Ticket};
use quloud::crypto::audit::{PROOF_BYTES, Piece, Proof};
use rand::RngExt;
use std::collections::BTreeMap;

/// Answers that are remembered, and questions that are open.
const KEPT: usize = 64;

#[derive(Default)]
pub(crate) struct WrongProof {
    proving: BTreeMap<Ticket, ChunkId>,
    /// What was right once.
    old: BTreeMap<ChunkId, ProvenChunk>,
}

impl Behaviour for WrongProof {
    fn name(&self) -> &'static str {
        "sends wrong proofs"
    }

    fn input(&mut self, env: &mut Env<'_>, _: Role, mut input: Input) -> Option<Input> {
        if let Input::ChunkProven { ticket, result: Ok(proven) } = &mut input
            && let Some(id) = self.proving.remove(ticket)
        {
            if let Some(old) = self.old.get(&id) {
                env.acts += 1;
                match env.rng.random_range(0..3) {
                    0 => proven.piece = some_piece(env),
                    1 => proven.blocks = proven.blocks.saturating_sub(1).max(1),
                    _ => *proven = old.clone(),
                }
            } else if self.old.len() < KEPT {
                self.old.insert(id, proven.clone());
            }
        }
        Some(input)
    }

    fn effect(&mut self, env: &mut Env<'_>, _: Role, mut effect: Effect) -> Vec<Effect> {
        match &mut effect {
            Effect::ProveChunk { ticket, id, .. } if self.proving.len() < KEPT => {
                self.proving.insert(*ticket, *id);
            }
            Effect::Send { message: StreamMessage::AccountAnswer(answer), .. } => {
                if let Ok(page) = &mut answer.outcome
                    && env.rng.random_range(0..4) == 0
                {
                    page.mac[0] ^= 1;
                    env.acts += 1;
                }
            }
            _ => {}
        }
        vec![effect]
    }
}

/// Any proof: seven bytes are an element in any case.
fn some_piece(env: &mut Env<'_>) -> Piece {
    let mut bytes = [0; PROOF_BYTES];
    let (elements, _) = bytes.as_chunks_mut::<8>();
    elements.iter_mut().for_each(|element| {
        let number: u64 = env.rng.random();
        *element = (number >> 8).to_le_bytes();
    });
    Piece::Compact(Proof::decode(&bytes).unwrap_or_else(Proof::zero))
}
