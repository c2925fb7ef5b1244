//! Audits: the same question until it is answered, and how long that may take.

use super::*;
use crate::core::codec::frame_bytes;
use crate::core::message::{AuditKind, AuditState, Audited, AuditedChunk};
use crate::crypto::audit::{MacKey, PROOF_BYTES};

const SEED: [u8; 32] = [42; 32];

fn audit(kind: AuditKind, numbers: &[u8]) -> AccountWish {
    let ids = numbers.iter().map(|number| id(*number)).collect();
    AccountWish::Audit { kind, seed: SEED, ids }
}

/// An answer of which nothing is checked here: all is proven.
fn audited(kind: AuditKind, chunks: usize) -> Audited {
    let chunks = vec![AuditedChunk { state: AuditState::Proven, blocks: 7 }; chunks];
    let proof_bytes = match kind {
        AuditKind::Compact => PROOF_BYTES,
        AuditKind::Mac => 32 * chunks.len(),
    };
    Audited { kind, chunks, proof: vec![1; proof_bytes].into() }
}

/// For how long the holder may say nothing more.
fn waits(world: &mut World, ticket: u64) -> Duration {
    let began = world.now;
    world.run_until(Duration::from_secs(7_200), |world| world.outcome(ticket).is_some());
    world.now.since(began)
}

#[test]
fn an_audit_is_asked_under_its_seed_and_its_answer_handed_over() {
    for kind in [AuditKind::Compact, AuditKind::Mac] {
        let (mut world, holder) = one();
        world.ask(1, holder, audit(kind, &[1, 2, 3]));
        let request = world.request();
        assert_eq!(request.nonce, SEED);
        let ids = vec![id(1), id(2), id(3)];
        assert_eq!(request.ask, AccountAsk::Audit { kind, ids });
        let answer = world.page(holder, &request, KeptChunks::Audited(audited(kind, 3)), false);
        let messages = [
            StreamMessage::AccountRequest(request.clone()),
            StreamMessage::AccountAnswer(answer.clone()),
        ];
        let bytes = messages.iter().map(frame_bytes).sum();
        world.answer(holder, answer);
        let pair = world.fakes[&holder].keys.pair_key(&request.account).unwrap();
        let key = (kind == AuditKind::Mac).then(|| MacKey::derive(&pair));
        let epoch = world.fakes[&holder].epoch;
        let done = AccountDone::Audited { epoch, audited: audited(kind, 3), key, moved: bytes };
        assert_eq!(world.outcome(1), Some(Ok(done)));
    }
}

#[test]
fn whoever_falls_silent_or_is_busy_gets_no_other_question() {
    let (mut world, holder) = one();
    world.ask(1, holder, audit(AuditKind::Compact, &[1, 2]));
    world.refuse(holder, AccountRefusal::Busy);
    world.run(Duration::from_secs(1));
    world.input(Input::PeerDown(holder));
    world.run(Duration::from_secs(2));
    let requests = world.requests();
    assert_eq!(requests.len(), 3, "once more after each");
    let numbers: BTreeSet<u64> = requests.iter().map(|(_, request)| request.request).collect();
    assert_eq!(numbers.len(), 3);
    for (_, request) in &requests {
        assert_eq!((request.nonce, &request.ask), (SEED, &requests[0].1.ask));
    }
    // The answer to a sending of before is not one to the last.
    let kept = || KeptChunks::Audited(audited(AuditKind::Compact, 2));
    let stale = world.page(holder, &requests[0].1, kept(), false);
    world.answer(holder, stale);
    assert_eq!(world.outcome(1), None);
    world.answer_with(holder, kept(), false);
    assert!(matches!(world.outcome(1), Some(Ok(AccountDone::Audited { .. }))));
}

#[test]
fn a_holder_that_works_on_it_has_more_time_but_not_for_ever() {
    let (mut world, holder) = one();
    world.ask(1, holder, audit(AuditKind::Compact, &[1]));
    let began = world.now;
    world.run(Duration::from_secs(25));
    world.refuse(holder, AccountRefusal::Working);
    assert_eq!(world.requests().len(), 1, "it is not asked again");
    world.run(Duration::from_secs(25));
    assert_eq!(world.outcome(1), None, "beyond the deadline that it had");
    let silent = waits(&mut world, 1);
    assert!(silent <= Duration::from_secs(6), "{silent:?}");
    assert_eq!(world.failed(1), Some(AccountFailure::Unreachable));

    world.ask(2, holder, audit(AuditKind::Compact, &[1]));
    let again = world.now;
    while world.outcome(2).is_none() {
        world.refuse(holder, AccountRefusal::Working);
        world.run(Duration::from_secs(20));
        assert!(world.now.since(again) < Duration::from_secs(400), "it works for ever");
    }
    assert!(world.now.since(again) >= Duration::from_secs(300));
    assert!(world.now > began);
}

#[test]
fn only_audits_are_worked_on() {
    let (mut world, holder) = one();
    world.ask(1, holder, query(&[1]));
    world.refuse(holder, AccountRefusal::Working);
    assert_eq!(world.failed(1), Some(AccountFailure::Forged));
}

#[test]
fn an_answer_to_something_else_is_a_forgery() {
    let other_kind = KeptChunks::Audited(audited(AuditKind::Mac, 2));
    let too_few = KeptChunks::Audited(audited(AuditKind::Compact, 1));
    for (name, kept) in [("kind", other_kind), ("too few", too_few), ("a query's", states(2))] {
        let (mut world, holder) = one();
        world.ask(1, holder, audit(AuditKind::Compact, &[1, 2]));
        world.answer_with(holder, kept, false);
        assert_eq!(world.failed(1), Some(AccountFailure::Forged), "{name}");
    }
    let (mut world, holder) = one();
    world.ask(1, holder, audit(AuditKind::Compact, &[1]));
    let request = world.request();
    let kept = KeptChunks::Audited(audited(AuditKind::Compact, 1));
    let mut answer = world.page(holder, &request, kept, false);
    let page = answer.outcome.as_mut().unwrap();
    page.mac[0] ^= 1;
    world.answer(holder, answer);
    assert_eq!(world.failed(1), Some(AccountFailure::Forged));
}

#[test]
fn audits_of_nothing_of_the_same_twice_or_of_too_much_are_not_asked() {
    let (mut world, holder) = one();
    let twice = vec![1_u8, 1];
    for (ticket, numbers) in [(1, vec![]), (2, twice)] {
        world.ask(ticket, holder, audit(AuditKind::Compact, &numbers));
        assert_eq!(world.failed(ticket), Some(AccountFailure::Invalid));
    }
    assert_eq!(world.requests(), []);
}
