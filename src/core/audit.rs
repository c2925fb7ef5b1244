//! Audits of one holder: from chunks to questions, and from its answers to a verdict on each chunk.
//!
//! ```text
//! chunks ─▶ one question ─▶ right ─▶ all of it proven
//!                           wrong ─▶ two halves, each under a fresh seed ─▶ .. ─▶ one chunk: a lie
//! ```
//! Who holds a chunk that is damaged, or has it no more, may say so: that is no lie, and the rest
//! of the answer counts. A holder is convicted only by two wrong answers for one chunk alone: what
//! it sent for many may have been spoiled by one of them, and one answer by a bit that flipped.
//! Where it answers wrongly more often than [`QUESTIONS_MAX`] questions can sort out, the rest is
//! unproven: which of it is a lie is not worth more, as that some of it is was shown by then.
//!
//! Pure: whoever asks the holder (the node, the simulator) drives it. Silence is for that one to
//! note: a question that is not answered says nothing here.

mod answered;

pub use answered::Answered;

use super::message::{AuditState, Audited, AuditedChunk};
use super::types::{ChunkId, NodeId};
use crate::crypto::audit::{Challenge, Checker, MacKey, Proof, TagKey};
use crate::crypto::keys::random;
use crate::planted::{Bug, is_on};
use rand::CryptoRng;
use std::collections::BTreeSet;

/// Questions that one [`Sift`] asks: the first, and enough halves to find two single chunks among
/// 4,096.
pub const QUESTIONS_MAX: u32 = 1 + 2 * (2 * 12 + 1);

/// One question, as it is asked and its answer is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Fresh for this question, as long as it is not answered always the same.
    pub seed: [u8; 32],
    /// 1 to 4,096, all different.
    pub ids: Vec<ChunkId>,
}

/// What an audit says of one chunk at one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The holder could get at all of its bytes.
    Proven,
    /// It says that it does not have it.
    NotHeld,
    /// It says that it was released, so it will not have it for long.
    Released,
    /// It says that its copy is damaged.
    Damaged,
    /// It says that it has it, and what it answered for this chunk alone is wrong.
    Lied,
    /// Nothing is known: some of the answers for it and others were wrong, and which is not.
    Unproven,
}

/// The questions to one holder about some of its chunks.
#[derive(Debug)]
pub struct Sift {
    holder: NodeId,
    /// Sets of chunks to ask for; the last is next.
    open: Vec<Vec<ChunkId>>,
    /// Questions that may still be asked.
    left: u32,
    /// Answers that were wrong.
    wrong: u32,
    /// Chunks of which an answer for them alone was wrong.
    doubted: BTreeSet<ChunkId>,
}

impl Sift {
    /// About 1 to 4,096 chunks, all different.
    pub fn new(holder: NodeId, ids: Vec<ChunkId>) -> Self {
        let open = if ids.is_empty() { Vec::new() } else { vec![ids] };
        Self { holder, open, left: QUESTIONS_MAX, wrong: 0, doubted: BTreeSet::new() }
    }

    /// The next question; `None` where all is said.
    pub fn next(&mut self, rng: &mut impl CryptoRng) -> Option<Question> {
        let ids = self.open.pop()?;
        self.left = self.left.saturating_sub(1);
        Some(Question { seed: random(rng), ids })
    }

    /// What was not asked for yet, where the holder answers no more.
    pub fn rest(&mut self) -> Vec<ChunkId> {
        std::mem::take(&mut self.open).into_iter().flatten().collect()
    }

    /// How many answers were wrong.
    pub fn wrong(&self) -> u32 {
        self.wrong
    }

    /// Judges a compact answer to `question`, of as many chunks. Chunks that are asked for once
    /// more are not among the verdicts.
    pub fn judge(
        &mut self,
        key: &TagKey,
        question: &Question,
        audited: &Audited,
    ) -> Vec<(ChunkId, Verdict)> {
        let (claimed, mut verdicts) = split(question, audited);
        let seed = if is_on(Bug::CheckOtherSeed) { [0; 32] } else { question.seed };
        let challenge = Challenge::new(&seed, &self.holder);
        if claimed.is_empty() || holds(key, challenge, &claimed, &audited.proof) {
            verdicts.extend(claimed.iter().map(|(id, _)| (*id, Verdict::Proven)));
            return verdicts;
        }
        self.wrong += 1;
        let mut ids: Vec<ChunkId> = claimed.into_iter().map(|(id, _)| id).collect();
        // Each half is a question at least.
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        match ids.as_slice() {
            [alone] if self.doubted.contains(alone) => verdicts.push((*alone, Verdict::Lied)),
            // One bit of memory may have flipped, here or there.
            [alone] if self.left > open => {
                self.doubted.insert(*alone);
                self.open.push(ids);
            }
            _ if is_on(Bug::ConvictBatch) => {
                verdicts.extend(ids.into_iter().map(|id| (id, Verdict::Lied)));
            }
            _ if self.left < open.saturating_add(2) => {
                verdicts.extend(ids.into_iter().map(|id| (id, Verdict::Unproven)));
            }
            _ => {
                let half = ids.split_off(ids.len() / 2);
                self.open.extend([half, ids]);
                if is_on(Bug::AskOneHalf) {
                    self.open.pop();
                }
            }
        }
        verdicts
    }
}

/// Judges an answer with MACs: each chunk for itself. `sealed` makes the bytes of a chunk again, as
/// far as that can be done here; the others are unproven. So are those whose MAC is wrong: what was
/// made again here may be wrong as well, and a compact proof tells.
pub fn judge_macs<'a>(
    key: &MacKey,
    question: &Question,
    audited: &Audited,
    sealed: impl Fn(&ChunkId) -> Option<&'a [u8]>,
) -> Vec<(ChunkId, Verdict)> {
    let (claimed, mut verdicts) = split(question, audited);
    let (macs, _) = audited.proof.as_chunks::<32>();
    for (at, (id, _)) in claimed.iter().enumerate() {
        let verdict = match (sealed(id), macs.get(at)) {
            (Some(sealed), Some(mac)) if key.holds(&question.seed, id, sealed, mac) => {
                Verdict::Proven
            }
            _ => Verdict::Unproven,
        };
        verdicts.push((*id, verdict));
    }
    verdicts
}

/// What a holder says it has, and how many blocks of it.
type Claims = Vec<(ChunkId, u16)>;

/// What is to be checked, with the numbers of blocks that the holder says; and what it admits.
fn split(question: &Question, audited: &Audited) -> (Claims, Vec<(ChunkId, Verdict)>) {
    let (mut claimed, mut admitted) = (Vec::new(), Vec::new());
    for (id, AuditedChunk { state, blocks }) in question.ids.iter().zip(&audited.chunks) {
        match state {
            AuditState::Proven => claimed.push((*id, *blocks)),
            AuditState::NotHeld if is_on(Bug::CountAcked) => {
                admitted.push((*id, Verdict::Proven));
            }
            AuditState::NotHeld => admitted.push((*id, Verdict::NotHeld)),
            AuditState::Released => admitted.push((*id, Verdict::Released)),
            AuditState::Damaged => admitted.push((*id, Verdict::Damaged)),
        }
    }
    (claimed, admitted)
}

fn holds(key: &TagKey, challenge: Challenge, claimed: &[(ChunkId, u16)], proof: &[u8]) -> bool {
    let Some(proof) = Proof::decode(proof) else { return false };
    if is_on(Bug::AcceptAnyProof) {
        return true;
    }
    let mut checker = Checker::new(key, challenge);
    claimed.iter().for_each(|(id, blocks)| checker.add(id, u32::from(*blocks)));
    checker.holds(&proof)
}

#[cfg(test)]
mod tests;
