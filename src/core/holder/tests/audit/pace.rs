//! What audits cost a holder: how many at once, in which order, how much in a time, and what comes
//! of a store that is busy.

use super::*;

#[test]
fn two_chunks_of_an_audit_are_proven_at_a_time() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let tags: Vec<u32> = (0..9).collect();
    let ids: Vec<ChunkId> = tags.iter().map(|tag| fixture.chunk(*tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let (mut open, _) = to_prove(fixture.ask_account(asked));
    let mut seen = Vec::new();
    while let Some(one) = open.pop() {
        assert!(open.len() < 2 && fixture.role.load().proving <= 2);
        seen.push(one.id);
        let result = fixture.store_proves(&tags, &one);
        open.extend(to_prove(fixture.proven(one, result)).0);
    }
    seen.sort_unstable();
    let mut all = ids;
    all.sort_unstable();
    assert_eq!(seen, all, "each once");
}

#[test]
fn a_second_audit_of_a_peer_waits() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let (first, second) = (none(1), none(2));
    let (mut proving, _) = to_prove(fixture.audit_of(OWNER, &first));
    let one = proving.pop().unwrap();
    let waits = fixture.audit_of(OWNER, &second);
    assert!(waits.is_empty(), "{waits:?}");
    let HolderLoad { account_work, audits, .. } = fixture.role.load();
    assert_eq!((account_work, audits), (2, 2));
    // Another peer's is worked on meanwhile, and a third peer's waits.
    for (node, begun) in [(STRANGER, 2), (NodeId::from_bytes([6; 32]), 0)] {
        fixture.up(node);
        assert_eq!(to_prove(fixture.audit_of(node, &second)).0.len(), begun);
    }
    // The second of the first peer came before that of the third.
    let (next, others) = to_prove(fixture.proven(one, Err(Unproven::NotHeld)));
    assert!(others.iter().any(|effect| matches!(effect, Effect::Send { to: OWNER, .. })));
    let ids: Vec<ChunkId> = next.iter().map(|one| one.id).collect();
    assert_eq!(ids, second, "it begins when the first has its answer");
    assert_eq!(fixture.role.load().audits, 3);
}

/// Threat 16: however many are asked for, so many are worked on and so many wait.
#[test]
fn audit_flood_is_bounded() {
    let limits = HolderLimits::default();
    let mut fixture = Fixture::with(limits.clone());
    fixture.settle_in();
    let mut read = 0;
    for peer in 0..64 {
        let node = NodeId::from_bytes([100 + peer; 32]);
        fixture.up(node);
        for _ in 0..16 {
            read += to_prove(fixture.audit_of(node, &none(100))).0.len();
            let HolderLoad { account_work, audits, proving, .. } = fixture.role.load();
            assert!(audits <= limits.audits_open && audits <= account_work, "{audits}");
            assert!(proving <= limits.audits_working * limits.proving_per_audit);
        }
    }
    assert_eq!(read, limits.audits_working * limits.proving_per_audit);
    assert_eq!(fixture.role.load().audits, limits.audits_open);
    // Other questions have room beside them.
    let asked = fixture.question(5, AccountAsk::Query(none(1)));
    let effects = fixture.ask_account(asked);
    assert!(matches!(effects[..], [Effect::QueryChunks { .. }]), "{effects:?}");
    let over = answer_of(&{
        let asked = fixture.audit(COMPACT, &none(1));
        fixture.ask_account(asked)
    });
    assert_eq!(over.outcome, Err(AccountRefusal::Busy));
}

/// Threat 16: whoever proves to be the owner does not keep the disk busy for ever.
#[test]
fn an_account_has_so_many_chunks_audited_in_a_time() {
    let rate = Rate { per_s: 4, burst: 100 };
    let limits = HolderLimits { audited_chunks_per_account: rate, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    fixture.settle_in();
    let mut read = 0;
    let mut ask = |fixture: &mut Fixture, count: usize| {
        let asked = fixture.audit(COMPACT, &none(count));
        let effects = fixture.ask_account(asked);
        read += to_prove_all(fixture, effects);
        read
    };
    assert_eq!(ask(&mut fixture, 60), 60);
    assert_eq!(ask(&mut fixture, 60), 60, "there are 40 left");
    assert_eq!(ask(&mut fixture, 40), 100);
    let over = fixture.audit(COMPACT, &none(1));
    let effects = fixture.ask_account(over.clone());
    assert_eq!(rejects(&effects), [Reject::RateLimited]);
    assert_eq!(answer_of(&effects), refused(over.request, AccountRefusal::Busy));
    assert_eq!(fixture.role.load().account_work, 0);
    fixture.pass(10_000);
    assert_eq!(ask(&mut fixture, 40), 140, "four come back each second");
    assert_eq!(ask(&mut fixture, 1), 140);
}

/// Answers all that is to be proven; how much that was.
fn to_prove_all(fixture: &mut Fixture, effects: Vec<Effect>) -> usize {
    let (mut open, _) = to_prove(effects);
    let mut count = 0;
    while let Some(one) = open.pop() {
        count += 1;
        open.extend(to_prove(fixture.proven(one, Err(Unproven::NotHeld))).0);
    }
    count
}

#[test]
fn an_audit_ends_with_its_peer() {
    let rate = Rate { per_s: 1, burst: 10 };
    let limits = HolderLimits { audited_chunks_per_account: rate, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    fixture.settle_in();
    let (proving, _) = to_prove(fixture.audit_of(OWNER, &none(6)));
    fixture.audit_of(OWNER, &none(4));
    assert!(fixture.handle(Input::PeerDown(OWNER)).is_empty(), "the one that waited, too");
    let HolderLoad { account_work, audits, proving: still, .. } = fixture.role.load();
    assert_eq!((account_work, audits, still), (0, 0, 2), "the store has two of its chunks still");
    fixture.up(OWNER);
    // The account has back what was not read: 8 of the 10.
    let (again, _) = to_prove(fixture.audit_of(OWNER, &none(8)));
    assert_eq!(again.len(), 2);
    let over = fixture.audit_of(OWNER, &none(1));
    assert_eq!(rejects(&over), [Reject::RateLimited]);
    // What comes for the one that ended is nobody's answer.
    for one in proving {
        let effects = fixture.proven(one, Err(Unproven::Damaged));
        assert!(effects.is_empty(), "{effects:?}");
    }
    let mut open = again;
    let mut last = Vec::new();
    while let Some(one) = open.pop() {
        let (more, others) = to_prove(fixture.proven(one, Err(Unproven::NotHeld)));
        open.extend(more);
        last = others;
    }
    let states = audited(answer_of(&last)).chunks;
    assert!(states.len() == 8 && states.iter().all(|one| one.state == AuditState::NotHeld));
    assert_eq!(fixture.role.load().proving, 0);
}

/// To come and go gains nothing: what the store has of one that ended counts until it is done.
#[test]
fn who_comes_and_goes_does_not_fill_the_store() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let mut read = 0;
    for _ in 0..20 {
        read += to_prove(fixture.audit_of(OWNER, &none(9))).0.len();
        fixture.handle(Input::PeerDown(OWNER));
        fixture.up(OWNER);
    }
    let limits = HolderLimits::default();
    assert_eq!(read, limits.audits_working * limits.proving_per_audit);
    assert_eq!(fixture.role.load().proving, read);
}

#[test]
fn whoever_waits_for_an_audit_hears_of_it_every_five_seconds() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let asked = fixture.audit(COMPACT, &none(9));
    let first = asked.request;
    let (mut open, _) = to_prove(fixture.ask_account(asked));
    let second = fixture.audit(COMPACT, &none(2));
    let number = second.request;
    fixture.ask_account(second);
    assert!(fixture.pass(4_999).is_empty());
    let mut said = working(&fixture.pass(1));
    said.sort_unstable();
    assert_eq!(said, [first, number], "the one that waits hears of it, too");
    assert_eq!(working(&fixture.pass(4_999)), [0; 0]);
    assert_eq!(working(&fixture.pass(10_001)).len(), 6);
    // Chunks that come do not bring it sooner.
    while let Some(one) = open.pop() {
        let (more, others) = to_prove(fixture.proven(one, Err(Unproven::NotHeld)));
        assert!(working(&others).is_empty());
        open.extend(more);
    }
    assert_eq!(fixture.role.load().audits, 0);
    assert_eq!(fixture.role.next_timeout(), None);
}

#[test]
fn what_a_busy_store_did_not_look_at_is_asked_for_again() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = (0..3).map(|tag| fixture.chunk(tag).id()).collect();
    let asked = fixture.audit(COMPACT, &ids);
    let (open, _) = to_prove(fixture.ask_account(asked.clone()));
    for one in open {
        assert!(fixture.proven(one, Err(Unproven::Busy)).is_empty(), "not at once");
    }
    assert!(fixture.pass(499).is_empty());
    let effects = fixture.pass(1);
    assert_eq!(fixture.role.load().proving, 2);
    let said = audited(answer_of(&fixture.work(&[0, 1, 2], effects)));
    let mut sift = Sift::new(fixture.role.me(), ids);
    let verdicts = sift.judge(&fixture.owner.tag_key, &question(&asked), &said);
    assert!(verdicts.len() == 3 && verdicts.iter().all(|(_, said)| *said == Verdict::Proven));
}

#[test]
fn a_store_that_stays_busy_puts_the_audit_off() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let asked = fixture.audit(COMPACT, &none(3));
    let number = asked.request;
    let (mut open, mut last) = to_prove(fixture.ask_account(asked));
    let began = fixture.now;
    while fixture.role.load().audits > 0 {
        assert!(fixture.now.since(began) < std::time::Duration::from_secs(120), "not for ever");
        for one in std::mem::take(&mut open) {
            last.extend(to_prove(fixture.proven(one, Err(Unproven::Busy))).1);
        }
        let (more, others) = to_prove(fixture.pass(500));
        open.extend(more);
        last.extend(others);
    }
    let refusals = last.iter().filter(|effect| match effect {
        Effect::Send { message: StreamMessage::AccountAnswer(answer), .. } => {
            *answer == refused(number, AccountRefusal::Busy)
        }
        _ => false,
    });
    assert_eq!(refusals.count(), 1);
    assert_eq!(fixture.role.load().account_work, 0);
}
