//! Audits: what is read for whom, and what is answered.

mod flood;
mod pace;
mod unread;

use super::account::{answer_of, refused};
use super::*;
use crate::core::audit::{Question, Sift, Verdict, judge_macs};
use crate::core::effect::{ProvenChunk, Unproven};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountRefusal, AccountRequest, AuditKind, AuditState, Audited,
    AuditedChunk, KeptChunks,
};
use crate::crypto::audit::{MacKey, Task, blocks};

const COMPACT: AuditKind = AuditKind::Compact;

/// A chunk that is to be proven.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    account: Account,
    id: ChunkId,
    task: Task,
    closely: bool,
}

impl Fixture {
    fn audit(&mut self, kind: AuditKind, ids: &[ChunkId]) -> AccountRequest {
        let request = self.role.next + 1_000;
        self.question(request, AccountAsk::Audit { kind, ids: ids.to_vec() })
    }

    /// Asks as a peer that has the owner's keys as well.
    fn audit_of(&mut self, from: NodeId, ids: &[ChunkId]) -> Vec<Effect> {
        let ask = AccountAsk::Audit { kind: COMPACT, ids: ids.to_vec() };
        let (account, nonce) = (self.account(), self.random());
        let between = (MESH, from, self.role.me());
        let asked = AccountRequest::new((7, account, nonce), ask, between, &self.pair());
        self.stream(from, StreamMessage::AccountRequest(asked))
    }

    fn proven(&mut self, asked: Asked, result: Result<ProvenChunk, Unproven>) -> Vec<Effect> {
        self.handle(Input::ChunkProven { ticket: asked.ticket, result })
    }

    /// What a store answers that has the sealed chunks of these tags and nothing else.
    fn store_proves(&self, tags: &[u32], asked: &Asked) -> Result<ProvenChunk, Unproven> {
        let chunk = tags.iter().map(|tag| self.chunk(*tag)).find(|chunk| chunk.id() == asked.id);
        let chunk = chunk.ok_or(Unproven::NotHeld)?;
        let blocks = u16::try_from(blocks(chunk.sealed.len())).unwrap();
        let piece = asked.task.piece(&asked.id, &chunk.sealed, &chunk.tags).unwrap();
        Ok(ProvenChunk { blocks, piece })
    }

    /// Lets a store with the chunks of these tags answer until nothing more is to be proven;
    /// returns all other effects.
    fn work(&mut self, tags: &[u32], effects: Vec<Effect>) -> Vec<Effect> {
        let (mut open, mut others) = (VecDeque::new(), Vec::new());
        let mut sort = |effects: Vec<Effect>, open: &mut VecDeque<Asked>| {
            let (asked, rest) = to_prove(effects);
            open.extend(asked);
            others.extend(rest);
        };
        sort(effects, &mut open);
        while let Some(asked) = open.pop_front() {
            let result = self.store_proves(tags, &asked);
            let effects = self.proven(asked, result);
            sort(effects, &mut open);
        }
        others
    }
}

/// The chunks that are to be proven, and the other effects.
fn to_prove(effects: Vec<Effect>) -> (Vec<Asked>, Vec<Effect>) {
    let (mut asked, mut others) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::ProveChunk { ticket, account, id, task, closely } => {
                asked.push(Asked { ticket, account, id, task, closely });
            }
            other => others.push(other),
        }
    }
    (asked, others)
}

fn audited(answer: AccountAnswer) -> Audited {
    match answer.outcome.map(|page| page.kept) {
        Ok(KeptChunks::Audited(audited)) => audited,
        other => panic!("expected the answer to an audit, got {other:?}"),
    }
}

/// The numbers of the audits that are said to be worked on.
fn working(effects: &[Effect]) -> Vec<u64> {
    let number = |effect: &Effect| match effect {
        Effect::Send { message: StreamMessage::AccountAnswer(answer), .. } => {
            (answer.outcome == Err(AccountRefusal::Working)).then_some(answer.request)
        }
        _ => None,
    };
    effects.iter().filter_map(number).collect()
}

fn none(count: usize) -> Vec<ChunkId> {
    (0..count)
        .map(|number| {
            let mut id = [0xee; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            ChunkId::from_bytes(id)
        })
        .collect()
}

fn question(asked: &AccountRequest) -> Question {
    let AccountAsk::Audit { ids, .. } = &asked.ask else { panic!("{asked:?}") };
    Question { seed: asked.nonce, ids: ids.clone() }
}

#[test]
fn who_has_the_chunks_passes_the_owners_check_in_either_kind() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let tags: Vec<u32> = (0..7).collect();
    let ids: Vec<ChunkId> = tags.iter().map(|tag| fixture.chunk(*tag).id()).collect();
    for kind in [AuditKind::Compact, AuditKind::Mac] {
        let asked = fixture.audit(kind, &ids);
        let effects = fixture.ask_account(asked.clone());
        let effects = fixture.work(&tags, effects);
        let answer = answer_of(&effects);
        assert_eq!(answer.request, asked.request);
        assert!(answer.outcome.as_ref().unwrap().verify(&asked, &fixture.pair()));
        let (audited, question) = (audited(answer), question(&asked));
        let verdicts = match kind {
            AuditKind::Compact => {
                let mut sift = Sift::new(fixture.role.me(), ids.clone());
                sift.judge(&fixture.owner.tag_key, &question, &audited)
            }
            AuditKind::Mac => {
                let chunks: BTreeMap<ChunkId, SealedChunk> =
                    tags.iter().map(|tag| fixture.chunk(*tag)).map(|one| (one.id(), one)).collect();
                let sealed = |id: &ChunkId| chunks.get(id).map(|chunk| &chunk.sealed[..]);
                judge_macs(&MacKey::derive(&fixture.pair()), &question, &audited, sealed)
            }
        };
        let proven: Vec<_> = ids.iter().map(|id| (*id, Verdict::Proven)).collect();
        assert_eq!(verdicts, proven, "{kind:?}");
        let HolderLoad { account_work, audits, proving, .. } = fixture.role.load();
        assert_eq!((account_work, audits, proving), (0, 0, 0));
    }
}

#[test]
fn unauthenticated_audit_reads_nothing() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids = vec![fixture.chunk(77).id()];
    let honest = fixture.audit(COMPACT, &ids);
    let (number, between) = (honest.request, (MESH, OWNER, fixture.role.me()));
    let ask = |kind, ids: &[ChunkId]| AccountAsk::Audit { kind, ids: ids.to_vec() };
    let made = |pair: &_, between| {
        let named = (number, honest.account, honest.nonce);
        AccountRequest::new(named, ask(COMPACT, &ids), between, pair)
    };
    let pair = fixture.pair();
    let wrong = [
        ("another key", made(&crate::crypto::keys::PairKey::from_bytes([1; 32]), between)),
        ("another asker", made(&pair, (MESH, STRANGER, between.2))),
        ("another holder", made(&pair, (MESH, OWNER, STRANGER))),
        ("another kind", AccountRequest { ask: ask(AuditKind::Mac, &ids), ..honest.clone() }),
        ("other chunks", AccountRequest { ask: ask(COMPACT, &none(1)), ..honest.clone() }),
        ("another seed", AccountRequest { nonce: [1; 32], ..honest.clone() }),
        ("no MAC", AccountRequest { mac: [0; 32], ..honest.clone() }),
    ];
    for (name, asked) in wrong {
        let effects = fixture.ask_account(asked);
        assert_eq!(rejects(&effects), [Reject::BadProof], "{name}");
        assert_eq!(answer_of(&effects), refused(number, AccountRefusal::NoAccount), "{name}");
        assert!(to_prove(effects).0.is_empty(), "{name}");
        let HolderLoad { account_work, audits, .. } = fixture.role.load();
        assert_eq!((account_work, audits), (0, 0), "{name}");
    }
    let (proving, _) = to_prove(fixture.ask_account(honest));
    assert_eq!(proving.len(), 1, "the honest one is begun");
}

#[test]
fn an_account_that_has_nothing_here_is_told_no_more_than_a_guesser() {
    let mut fixture = Fixture::new();
    let asked = fixture.audit(COMPACT, &none(3));
    let unknown = answer_of(&fixture.ask_account(asked.clone()));
    assert_eq!(unknown, refused(asked.request, AccountRefusal::NoAccount));
    let forged = fixture.ask_account(AccountRequest { mac: [0; 32], ..asked });
    assert_eq!(answer_of(&forged), unknown);
}

#[test]
fn a_chunk_of_another_account_is_not_proven() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids = vec![fixture.chunk(1).id()];
    let asked = fixture.audit(COMPACT, &ids);
    let (mut proving, _) = to_prove(fixture.ask_account(asked.clone()));
    let one = proving.pop().unwrap();
    assert_eq!((one.account, one.id), (fixture.account(), ids[0]), "the store is told whose");
    let audited = audited(answer_of(&fixture.proven(one, Err(Unproven::NotHeld))));
    assert_eq!(audited.chunks, [AuditedChunk { state: AuditState::NotHeld, blocks: 0 }]);
    assert!(audited.proof.is_empty());
}

#[test]
fn released_and_damaged_chunks_are_admitted() {
    for kind in [AuditKind::Compact, AuditKind::Mac] {
        let mut fixture = Fixture::new();
        fixture.settle_in();
        let ids: Vec<ChunkId> = (0..4).map(|tag| fixture.chunk(tag).id()).collect();
        let asked = fixture.audit(kind, &ids);
        let mut effects = fixture.ask_account(asked.clone());
        let admits = [(1, Unproven::Released), (2, Unproven::Damaged), (3, Unproven::NotHeld)];
        // The last ones first: the answer has them in the order of the question all the same.
        loop {
            let (mut proving, others) = to_prove(effects);
            let Some(one) = proving.pop() else {
                effects = others;
                break;
            };
            let place = ids.iter().position(|id| *id == one.id).unwrap();
            let admitted = admits.iter().find(|(at, _)| *at == place).map(|(_, why)| Err(*why));
            let result = admitted.unwrap_or_else(|| fixture.store_proves(&[0], &one));
            effects = proving.into_iter().map(back).chain(fixture.proven(one, result)).collect();
        }
        let audited = audited(answer_of(&effects));
        let states: Vec<AuditState> = audited.chunks.iter().map(|chunk| chunk.state).collect();
        use AuditState::{Damaged, NotHeld, Proven, Released};
        assert_eq!(states, [Proven, Released, Damaged, NotHeld]);
        let blocks: Vec<u16> = audited.chunks.iter().map(|chunk| chunk.blocks).collect();
        assert_eq!(blocks, [1, 0, 0, 0]);
        if kind == COMPACT {
            let mut sift = Sift::new(fixture.role.me(), ids.clone());
            let verdicts = sift.judge(&fixture.owner.tag_key, &question(&asked), &audited);
            assert!(verdicts.contains(&(ids[0], Verdict::Proven)), "the proof is of that one");
            assert!(verdicts.contains(&(ids[1], Verdict::Released)));
        } else {
            assert_eq!(audited.proof.len(), 32);
        }
    }
}

/// As it was before it was taken out of the effects.
fn back(Asked { ticket, account, id, task, closely }: Asked) -> Effect {
    Effect::ProveChunk { ticket, account, id, task, closely }
}

#[test]
fn chunks_are_hashed_where_each_is_judged_alone() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = [0, 1].iter().map(|tag| fixture.chunk(*tag).id()).collect();
    let mac = AuditKind::Mac;
    for (kind, count, close) in [(COMPACT, 2, false), (COMPACT, 1, true), (mac, 2, true)] {
        let asked = fixture.audit(kind, &ids[..count]);
        let (to_prove, others) = to_prove(fixture.ask_account(asked));
        assert_eq!(to_prove.len(), count);
        assert!(to_prove.iter().all(|asked| asked.closely == close), "{kind:?}, {count}");
        let effects = to_prove.into_iter().map(back).chain(others).collect();
        fixture.work(&[0, 1], effects);
    }
}

/// Threat 7: what was right for one question is wrong for the next.
#[test]
fn old_answer_new_seed_fails() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let (tags, mut rng) = ([0, 1, 2], ChaCha20Rng::from_seed([1; 32]));
    let ids: Vec<ChunkId> = tags.iter().map(|tag| fixture.chunk(*tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let effects = fixture.ask_account(asked.clone());
    let old = audited(answer_of(&fixture.work(&tags, effects)));
    let key = Arc::clone(&fixture.owner.tag_key);
    let mut sift = Sift::new(fixture.role.me(), ids.clone());
    let verdicts = sift.judge(&key, &question(&asked), &old);
    assert!(verdicts.len() == 3 && verdicts.iter().all(|(_, said)| *said == Verdict::Proven));
    let mut sift = Sift::new(fixture.role.me(), ids.clone());
    let next = sift.next(&mut rng).unwrap();
    assert_ne!(next.seed, asked.nonce);
    assert_eq!((sift.judge(&key, &next, &old), sift.wrong()), (Vec::new(), 1));
    // And so it does with a MAC.
    let asked = fixture.audit(AuditKind::Mac, &ids[..1]);
    let effects = fixture.ask_account(asked.clone());
    let old = audited(answer_of(&fixture.work(&tags, effects)));
    let (chunk, key) = (fixture.chunk(0), MacKey::derive(&fixture.pair()));
    let judge = |question: &Question| judge_macs(&key, question, &old, |_| Some(&chunk.sealed[..]));
    assert_eq!(judge(&question(&asked)), [(ids[0], Verdict::Proven)]);
    let next = Question { seed: [9; 32], ids: ids[..1].to_vec() };
    assert_eq!(judge(&next), [(ids[0], Verdict::Unproven)]);
}

/// Threat 7: a holder that has nothing passes another one's answer on.
#[test]
fn answer_from_other_node_fails() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids = vec![fixture.chunk(0).id()];
    let asked = fixture.audit(COMPACT, &ids);
    let effects = fixture.ask_account(asked.clone());
    let said = audited(answer_of(&fixture.work(&[0], effects)));
    let verdict = |holder| {
        let mut sift = Sift::new(holder, ids.clone());
        sift.judge(&fixture.owner.tag_key, &question(&asked), &said);
        // One wrong answer is none.
        let again = sift.next(&mut ChaCha20Rng::from_seed([1; 32]));
        let again = again.map(|_| sift.judge(&fixture.owner.tag_key, &question(&asked), &said));
        again.unwrap_or_else(|| vec![(ids[0], Verdict::Proven)])
    };
    assert_eq!(verdict(fixture.role.me()), [(ids[0], Verdict::Proven)]);
    assert_eq!(verdict(STRANGER), [(ids[0], Verdict::Lied)]);
    // Nor does the holder do another one's question: its MAC is for the other.
    let ask = AccountAsk::Audit { kind: COMPACT, ids };
    let between = (MESH, OWNER, STRANGER);
    let account = fixture.account();
    let passed = AccountRequest::new((9, account, asked.nonce), ask, between, &fixture.pair());
    assert!(to_prove(fixture.ask_account(passed)).0.is_empty());
}
