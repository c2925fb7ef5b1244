//! What questions are made of a holder's answers, and what is concluded from them.

use super::*;
use crate::core::message::AuditKind;
use crate::crypto::audit::{Piece, Task, blocks};
use crate::crypto::header::Header;
use crate::crypto::keys::{ChunkKey, Master, OwnerKeys, PairKey};
use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};

const HOLDER: NodeId = NodeId::from_bytes([9; 32]);

/// A holder, what it has, and how it deviates.
struct Holder {
    keys: OwnerKeys,
    /// In the order in which they were made.
    ids: Vec<ChunkId>,
    /// Sealed bytes and tags.
    held: BTreeMap<ChunkId, (Vec<u8>, Vec<u8>)>,
    /// What it says of chunks that it does not prove.
    admits: BTreeMap<ChunkId, AuditState>,
    /// Chunks that it pretends to have.
    lies: BTreeSet<ChunkId>,
}

impl Holder {
    fn with(chunks: u32) -> Self {
        let keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
        let points = keys.points(&ChunkKey::from_bytes([2; 32]));
        let mut holder = Self {
            keys,
            ids: Vec::new(),
            held: BTreeMap::new(),
            admits: BTreeMap::new(),
            lies: BTreeSet::new(),
        };
        for number in 0..chunks {
            let mut sealed = vec![3; 41];
            sealed[..4].copy_from_slice(&number.to_le_bytes());
            let header = Header::new(0, points, &sealed);
            let tags = holder.keys.tag_key.tags(&header, &sealed).unwrap();
            holder.ids.push(header.id());
            holder.held.insert(header.id(), (sealed, tags));
        }
        holder
    }

    fn sift(&self) -> Sift {
        Sift::new(HOLDER, self.ids.clone())
    }

    fn answer(&self, question: &Question) -> Audited {
        let (mut sum, mut chunks) = (Proof::zero(), Vec::new());
        let task = Task::Compact(Challenge::new(&question.seed, &HOLDER));
        for id in &question.ids {
            let state = self.admits.get(id).copied().unwrap_or(AuditState::Proven);
            let (sealed, tags) = &self.held[id];
            let mut sealed = sealed.clone();
            sealed[40] ^= u8::from(self.lies.contains(id));
            if state == AuditState::Proven {
                let Piece::Compact(piece) = task.piece(id, &sealed, tags).unwrap() else {
                    panic!("a compact task gives compact proofs")
                };
                sum.add(&piece);
                chunks.push(AuditedChunk { state, blocks: blocks(sealed.len()) as u16 });
            } else {
                chunks.push(AuditedChunk { state, blocks: 0 });
            }
        }
        Audited { kind: AuditKind::Compact, chunks, proof: sum.encode().into() }
    }

    /// Asks until all is said: the verdicts, and the questions.
    fn audit(&self, mut sift: Sift) -> (BTreeMap<ChunkId, Verdict>, Vec<Question>, u32) {
        let (mut verdicts, mut asked) = (BTreeMap::new(), Vec::new());
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        while let Some(question) = sift.next(&mut rng) {
            for (id, verdict) in sift.judge(&self.keys.tag_key, &question, &self.answer(&question))
            {
                let before = verdicts.insert(id, verdict);
                assert_eq!(before, None, "a chunk has one verdict");
            }
            asked.push(question);
        }
        (verdicts, asked, sift.wrong())
    }
}

fn with(verdicts: &BTreeMap<ChunkId, Verdict>, wanted: Verdict) -> BTreeSet<ChunkId> {
    let its = verdicts.iter().filter(|(_, verdict)| **verdict == wanted);
    its.map(|(id, _)| *id).collect()
}

#[test]
fn one_question_is_enough_for_a_holder_that_has_all() {
    let holder = Holder::with(50);
    let (verdicts, asked, wrong) = holder.audit(holder.sift());
    assert_eq!(with(&verdicts, Verdict::Proven).len(), 50);
    assert_eq!((asked.len(), wrong), (1, 0));
    assert_eq!(asked[0].ids, holder.ids);
}

#[test]
fn one_liar_among_4096_is_convicted_alone() {
    let mut holder = Holder::with(4_096);
    let liar = holder.ids[2_741];
    holder.lies.insert(liar);
    let (verdicts, asked, wrong) = holder.audit(holder.sift());
    assert_eq!(with(&verdicts, Verdict::Lied), BTreeSet::from([liar]));
    assert_eq!(with(&verdicts, Verdict::Proven).len(), 4_095);
    // The first question, two halves twelve times, and the last of these once more.
    assert_eq!((asked.len(), wrong), (26, 14));
    assert!(asked.len() <= QUESTIONS_MAX as usize);
    let alone = asked.iter().filter(|question| question.ids == [liar]);
    assert_eq!(alone.count(), 2, "it was asked for alone, twice");
    let seeds: BTreeSet<[u8; 32]> = asked.iter().map(|question| question.seed).collect();
    assert_eq!(seeds.len(), asked.len(), "a fresh seed for each question");
}

#[test]
fn two_liars_wherever_they_are_are_found_within_the_bound() {
    for (first, second) in [(0, 1), (0, 255), (127, 128), (64, 192)] {
        let mut holder = Holder::with(256);
        holder.lies = [first, second].map(|at| holder.ids[at]).into();
        let (verdicts, asked, _) = holder.audit(holder.sift());
        assert_eq!(with(&verdicts, Verdict::Lied), holder.lies);
        assert_eq!(with(&verdicts, Verdict::Proven).len(), 254);
        assert!(asked.len() <= QUESTIONS_MAX as usize);
    }
}

#[test]
fn admitted_states_are_taken_and_the_rest_is_checked() {
    let mut holder = Holder::with(9);
    let states = [AuditState::NotHeld, AuditState::Released, AuditState::Damaged];
    holder.admits = holder.ids.iter().copied().zip(states).collect();
    let (verdicts, asked, wrong) = holder.audit(holder.sift());
    let said = [0, 1, 2, 3].map(|at| verdicts[&holder.ids[at]]);
    use Verdict::{Damaged, Lied, NotHeld, Proven, Released};
    assert_eq!(said, [NotHeld, Released, Damaged, Proven]);
    assert_eq!((with(&verdicts, Proven).len(), asked.len(), wrong), (6, 1, 0));
    // What was admitted is not asked for again because of another one.
    holder.lies.insert(holder.ids[8]);
    let (verdicts, asked, _) = holder.audit(holder.sift());
    assert_eq!(with(&verdicts, Lied), holder.lies);
    assert!(
        asked[1..].iter().all(|next| next.ids.iter().all(|id| !holder.admits.contains_key(id)))
    );
}

#[test]
fn who_admits_all_needs_no_proof() {
    let mut holder = Holder::with(3);
    holder.admits = holder.ids.iter().map(|id| (*id, AuditState::NotHeld)).collect();
    let mut sift = holder.sift();
    let question = sift.next(&mut ChaCha20Rng::from_seed([5; 32])).unwrap();
    let said = Audited { proof: Bytes::new(), ..holder.answer(&question) };
    let verdicts = sift.judge(&holder.keys.tag_key, &question, &said);
    assert!(verdicts.len() == 3 && verdicts.iter().all(|(_, said)| *said == Verdict::NotHeld));
    assert_eq!(sift.next(&mut ChaCha20Rng::from_seed([5; 32])), None);
}

#[test]
fn who_lies_more_than_the_questions_can_sort_out_is_convicted_of_single_chunks_alone() {
    let mut holder = Holder::with(300);
    holder.lies = holder.ids.iter().copied().collect();
    let (verdicts, asked, wrong) = holder.audit(holder.sift());
    assert_eq!(verdicts.len(), 300, "each has a verdict");
    assert!(asked.len() <= QUESTIONS_MAX as usize);
    let mut alone: BTreeMap<ChunkId, u32> = BTreeMap::new();
    for question in asked.iter().filter(|question| question.ids.len() == 1) {
        *alone.entry(question.ids[0]).or_default() += 1;
    }
    let twice: BTreeSet<ChunkId> =
        alone.into_iter().filter(|(_, times)| *times == 2).map(|(id, _)| id).collect();
    assert!(!twice.is_empty() && with(&verdicts, Verdict::Lied) == twice);
    assert_eq!(with(&verdicts, Verdict::Unproven).len(), 300 - twice.len());
    assert_eq!(wrong as usize, asked.len());
}

#[test]
fn a_proof_that_cannot_be_read_is_a_wrong_one() {
    let holder = Holder::with(2);
    let mut sift = holder.sift();
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    // Two chunks, one of them, once more, and then the other one.
    let bad = [vec![], vec![0; 4_111], vec![0xff; 4_112], vec![1], vec![2; 4_113]];
    for (lies, proof) in [0, 0, 1, 0, 1].into_iter().zip(bad) {
        let question = sift.next(&mut rng).unwrap();
        let said = Audited { proof: proof.into(), ..holder.answer(&question) };
        let verdicts = sift.judge(&holder.keys.tag_key, &question, &said);
        let lied: Vec<ChunkId> = verdicts
            .into_iter()
            .map(|(id, verdict)| {
                assert_eq!(verdict, Verdict::Lied);
                id
            })
            .collect();
        assert_eq!(lied.len(), lies, "{:?}", question.ids);
    }
    assert_eq!((sift.wrong(), sift.next(&mut rng)), (5, None));
}

#[test]
fn a_false_number_of_blocks_is_a_wrong_answer() {
    let holder = Holder::with(1);
    for blocks in [0, 2, 1_171] {
        let mut sift = holder.sift();
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        for expected in [vec![], vec![(holder.ids[0], Verdict::Lied)]] {
            let question = sift.next(&mut rng).unwrap();
            let mut said = holder.answer(&question);
            said.chunks[0].blocks = blocks;
            let verdicts = sift.judge(&holder.keys.tag_key, &question, &said);
            assert_eq!(verdicts, expected, "{blocks}");
        }
    }
}

/// It answers wrongly for all of them, and rightly when it is asked for fewer.
#[test]
fn who_had_a_bad_moment_is_not_convicted() {
    let mut holder = Holder::with(8);
    let mut sift = holder.sift();
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let question = sift.next(&mut rng).unwrap();
    holder.lies.insert(holder.ids[3]);
    let said = holder.answer(&question);
    assert_eq!(sift.judge(&holder.keys.tag_key, &question, &said), []);
    holder.lies.clear();
    let (verdicts, asked, wrong) = holder.audit(sift);
    assert_eq!((with(&verdicts, Verdict::Proven).len(), asked.len(), wrong), (8, 2, 1));
}

#[test]
fn what_is_left_when_a_holder_falls_silent_is_told() {
    let mut holder = Holder::with(8);
    holder.lies.insert(holder.ids[3]);
    let mut sift = holder.sift();
    let mut rng = ChaCha20Rng::from_seed([5; 32]);
    let question = sift.next(&mut rng).unwrap();
    sift.judge(&holder.keys.tag_key, &question, &holder.answer(&question));
    let unanswered = sift.next(&mut rng).unwrap().ids;
    let rest = sift.rest();
    let all: BTreeSet<ChunkId> = unanswered.iter().chain(&rest).copied().collect();
    assert_eq!((all.len(), unanswered.len(), rest.len()), (8, 4, 4));
    assert_eq!(sift.next(&mut rng), None);
}

#[test]
fn of_nothing_nothing_is_asked() {
    let mut sift = Sift::new(HOLDER, Vec::new());
    assert_eq!(sift.next(&mut ChaCha20Rng::from_seed([5; 32])), None);
}

#[test]
fn macs_are_judged_chunk_by_chunk() {
    let mut holder = Holder::with(5);
    let key = MacKey::derive(&PairKey::from_bytes([4; 32]));
    holder.admits.insert(holder.ids[1], AuditState::Damaged);
    let question = Question { seed: [6; 32], ids: holder.ids.clone() };
    let mut said = Audited { kind: AuditKind::Mac, ..holder.answer(&question) };
    let mac = |seed: &[u8; 32], at: usize| {
        key.mac(seed, &holder.ids[at], &holder.held[&holder.ids[at]].0)
    };
    // Of the third one it has the answer to another seed. Chunk 1 has none.
    let macs = [mac(&[6; 32], 0), mac(&[6; 32], 2), mac(&[7; 32], 3), mac(&[6; 32], 4)];
    said.proof = Bytes::from(macs.concat());
    let unknown = holder.ids[4];
    let sealed = |id: &ChunkId| Some(&holder.held[id].0[..]).filter(|_| *id != unknown);
    let judge = |said: &Audited| -> Vec<Verdict> {
        let verdicts: BTreeMap<_, _> =
            judge_macs(&key, &question, said, sealed).into_iter().collect();
        holder.ids.iter().map(|id| verdicts[id]).collect()
    };
    use Verdict::{Damaged, Proven, Unproven};
    assert_eq!(judge(&said), [Proven, Damaged, Proven, Unproven, Unproven]);
    // A proof that is too short proves what it has.
    said.proof = said.proof.slice(..32);
    assert_eq!(judge(&said), [Proven, Damaged, Unproven, Unproven, Unproven]);
}
