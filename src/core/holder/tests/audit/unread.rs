//! Audits of chunks that the disk does not give.

use super::*;

/// The store reads no chunk of these tags, and the others, for as long as it is asked; returns what
/// is said to the owner until the audit is over.
fn work_deaf(
    fixture: &mut Fixture,
    tags: &[u32],
    deaf: &[u32],
    effects: Vec<Effect>,
) -> Vec<Effect> {
    let ids: Vec<ChunkId> = deaf.iter().map(|tag| fixture.chunk(*tag).id()).collect();
    let (began, mut others) = (fixture.now, Vec::new());
    let (mut open, more) = to_prove(effects);
    others.extend(more);
    while fixture.role.load().audits > 0 {
        assert!(fixture.now.since(began) < std::time::Duration::from_secs(120), "not for ever");
        while let Some(one) = open.pop() {
            let result = match ids.contains(&one.id) {
                true => Err(Unproven::Unread),
                false => fixture.store_proves(tags, &one),
            };
            let (next, more) = to_prove(fixture.proven(one, result));
            open.extend(next);
            others.extend(more);
        }
        let (next, more) = to_prove(fixture.pass(500));
        open.extend(next);
        others.extend(more);
    }
    others
}

/// What is said to a question beside that it is worked on.
fn last_words(effects: Vec<Effect>, number: u64) -> Vec<Effect> {
    let is_last = |effect: &Effect| match effect {
        Effect::Send { message: StreamMessage::AccountAnswer(answer), .. } => {
            *answer != refused(number, AccountRefusal::Working)
        }
        _ => false,
    };
    effects.into_iter().filter(is_last).collect()
}

#[test]
fn what_a_disk_does_not_read_while_it_reads_others_is_tried_for_a_minute_and_admitted_then() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = (0..5).map(|tag| fixture.chunk(tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let (began, effects) = (fixture.now, fixture.ask_account(asked.clone()));
    // More of them than are proven at once: they are in the way of none.
    let effects = work_deaf(&mut fixture, &[3, 4], &[0, 1, 2], effects);
    assert!(fixture.now.since(began) >= std::time::Duration::from_secs(60));
    let said = audited(answer_of(&last_words(effects, asked.request)));
    let mut sift = Sift::new(fixture.role.me(), ids.clone());
    let verdicts = sift.judge(&fixture.owner.tag_key, &question(&asked), &said);
    let admitted = |id: &ChunkId| verdicts.contains(&(*id, Verdict::Damaged));
    assert!(ids.iter().take(3).all(admitted), "{verdicts:?}");
    assert!(ids.iter().skip(3).all(|id| verdicts.contains(&(*id, Verdict::Proven))));
    assert_eq!(fixture.role.load().account_work, 0);
}

#[test]
fn a_question_for_one_chunk_that_the_disk_does_not_read_is_admitted_after_the_minute_too() {
    for kind in [AuditKind::Compact, AuditKind::Mac] {
        let mut fixture = Fixture::new();
        fixture.settle_in();
        let ids = vec![fixture.chunk(0).id()];
        let asked = fixture.audit(kind, &ids);
        let (began, effects) = (fixture.now, fixture.ask_account(asked.clone()));
        let effects = work_deaf(&mut fixture, &[], &[0], effects);
        assert!(fixture.now.since(began) >= std::time::Duration::from_secs(60));
        let said = audited(answer_of(&last_words(effects, asked.request)));
        assert_eq!(said.chunks, [AuditedChunk { state: AuditState::Damaged, blocks: 0 }]);
        assert_eq!(fixture.role.load().account_work, 0);
    }
}

#[test]
fn what_is_read_after_all_is_proven() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = (0..3).map(|tag| fixture.chunk(tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let (open, _) = to_prove(fixture.ask_account(asked.clone()));
    let mut effects = Vec::new();
    for one in open {
        effects.extend(fixture.proven(one, Err(Unproven::Unread)));
    }
    let mut said = fixture.work(&[0, 1, 2], effects);
    let (more, others) = to_prove(fixture.pass(500));
    said.extend(others);
    for one in more {
        let proven = fixture.store_proves(&[0, 1, 2], &one);
        let (next, others) = to_prove(fixture.proven(one, proven));
        said.extend(others);
        assert!(next.is_empty());
    }
    let said = audited(answer_of(&said));
    let mut sift = Sift::new(fixture.role.me(), ids);
    let verdicts = sift.judge(&fixture.owner.tag_key, &question(&asked), &said);
    assert!(verdicts.len() == 3 && verdicts.iter().all(|(_, said)| *said == Verdict::Proven));
}

#[test]
fn a_disk_that_reads_nothing_is_neither_damage_nor_an_excuse() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = (0..3).map(|tag| fixture.chunk(tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let number = asked.request;
    let effects = fixture.ask_account(asked);
    let effects = work_deaf(&mut fixture, &[], &[0, 1, 2], effects);
    let last = last_words(effects, number);
    assert!(last.is_empty(), "the owner sees that it does not answer: {last:?}");
    assert_eq!(fixture.role.load().account_work, 0);
}

#[test]
fn a_store_that_stays_busy_says_so_also_where_the_disk_did_not_read_a_chunk() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = (0..3).map(|tag| fixture.chunk(tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let (began, number) = (fixture.now, asked.request);
    let (mut open, mut said) = to_prove(fixture.ask_account(asked));
    while fixture.role.load().audits > 0 {
        assert!(fixture.now.since(began) < std::time::Duration::from_secs(120), "not for ever");
        while let Some(one) = open.pop() {
            let why = if one.id == ids[0] { Unproven::Unread } else { Unproven::Busy };
            let (next, others) = to_prove(fixture.proven(one, Err(why)));
            open.extend(next);
            said.extend(others);
        }
        let (next, others) = to_prove(fixture.pass(500));
        open.extend(next);
        said.extend(others);
    }
    let last = last_words(said, number);
    assert_eq!(answer_of(&last), refused(number, AccountRefusal::Busy));
}
