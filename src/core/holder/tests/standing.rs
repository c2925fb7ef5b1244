//! Asking owners how this node stands with them: who is asked, which answers count, and how often.

use super::*;
use crate::core::message::{
    StandingAnswer, StandingRefusal, StandingReport, StandingRequest, StandingSaid,
};
use crate::core::types::{AuditOutcome, Standing};
use crate::crypto::keys::PairKey;
use std::time::Duration;

fn report() -> StandingReport {
    let last = AuditOutcome { at_s: 7, asked: 3, damaged: 1, ..AuditOutcome::default() };
    let standing = Standing::Damaged;
    StandingReport { standing, last: Some(last), ..StandingReport::default() }
}

fn told(said: Result<StandingReport, Unsaid>) -> HolderEvent {
    HolderEvent::Standing { owner: OWNER, said, age: Duration::ZERO }
}

fn events(effects: &[Effect]) -> Vec<HolderEvent> {
    let event = |effect: &Effect| match effect {
        Effect::Report(Event::Holder(event)) => Some(event.clone()),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}

fn requests(effects: &[Effect]) -> Vec<(NodeId, StandingRequest)> {
    let request = |effect: &Effect| match effect {
        Effect::Send { to, message: StreamMessage::StandingRequest(request) } => {
            Some((*to, request.clone()))
        }
        _ => None,
    };
    effects.iter().filter_map(request).collect()
}

impl Fixture {
    /// One that an owner has shown itself to.
    fn shown() -> Self {
        let mut fixture = Self::new();
        fixture.settle_in();
        fixture.show();
        fixture
    }

    /// Asks the one owner there is.
    fn ask_how(&mut self) -> StandingRequest {
        let effects = self.handle(Input::AskOwners);
        let [(OWNER, request)] = &requests(&effects)[..] else { panic!("{effects:?}") };
        assert!(events(&effects).is_empty(), "it is open: {effects:?}");
        request.clone()
    }

    fn between(&self) -> (MeshId, NodeId, NodeId) {
        (MESH, self.role.me(), OWNER)
    }

    /// The owner's answer.
    fn said(&self, asked: &StandingRequest) -> StandingAnswer {
        self.said_by(asked, self.between(), &self.pair())
    }

    fn said_by(
        &self,
        asked: &StandingRequest,
        between: (MeshId, NodeId, NodeId),
        pair: &PairKey,
    ) -> StandingAnswer {
        let said = StandingSaid::new(asked, report(), between, pair);
        StandingAnswer { request: asked.request, outcome: Ok(said) }
    }

    fn answer(&mut self, from: NodeId, answer: StandingAnswer) -> Vec<Effect> {
        self.stream(from, StreamMessage::StandingAnswer(answer))
    }
}

#[test]
fn an_owner_is_asked_once_it_has_shown_itself_and_nobody_else_is() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    fixture.up(STRANGER);
    let effects = fixture.handle(Input::AskOwners);
    assert!(requests(&effects).is_empty() && events(&effects) == [HolderEvent::StandingsDone]);
    fixture.show();
    let asked = fixture.ask_how();
    assert_eq!(asked.account, fixture.account());
    assert!(asked.verify(fixture.between(), &fixture.pair()));
    let answer = fixture.said(&asked);
    let effects = fixture.answer(OWNER, answer);
    assert_eq!(events(&effects), [told(Ok(report())), HolderEvent::StandingsDone]);
    assert!(rejects(&effects).is_empty());
    assert_eq!(fixture.role.next_timeout(), None);
}

#[test]
fn an_answer_counts_once_and_for_an_open_question_to_this_very_peer() {
    let mut fixture = Fixture::shown();
    fixture.up(STRANGER);
    let unasked = StandingAnswer { request: 1, outcome: Err(StandingRefusal::Busy) };
    let unsolicited = |effects: Vec<Effect>| {
        assert_eq!((rejects(&effects), effects.len()), (vec![Reject::Unsolicited], 1));
    };
    unsolicited(fixture.answer(OWNER, unasked.clone()));
    let asked = fixture.ask_how();
    let answer = fixture.said(&asked);
    unsolicited(fixture.answer(STRANGER, answer.clone()));
    let number = asked.request.wrapping_add(1);
    unsolicited(fixture.answer(OWNER, StandingAnswer { request: number, ..answer.clone() }));
    assert_eq!(events(&fixture.answer(OWNER, answer.clone())).len(), 2);
    unsolicited(fixture.answer(OWNER, answer));
    fixture.handle(Input::PeerDown(STRANGER));
    let effects = fixture.answer(STRANGER, unasked);
    assert_eq!(rejects(&effects), [Reject::TableFull], "who is not served is not heard");
}

#[test]
fn an_answer_that_the_owner_did_not_make_is_told_as_that() {
    type Forge = fn(&Fixture, &StandingRequest) -> StandingAnswer;
    let forged: [(&str, Forge); 6] = [
        ("another key", |fixture, asked| {
            fixture.said_by(asked, fixture.between(), &PairKey::from_bytes([1; 32]))
        }),
        ("another mesh", |fixture, asked| {
            let (_, holder, owner) = fixture.between();
            fixture.said_by(asked, (MeshId::from_bytes([1; 32]), holder, owner), &fixture.pair())
        }),
        ("another owner", |fixture, asked| {
            let (mesh, holder, _) = fixture.between();
            fixture.said_by(asked, (mesh, holder, STRANGER), &fixture.pair())
        }),
        ("another account", |fixture, asked| {
            let account = Account::from_bytes([1; 32]);
            fixture.said(&StandingRequest { account, ..asked.clone() })
        }),
        ("another question", |fixture, asked| {
            fixture.said(&StandingRequest { nonce: [0; 32], ..asked.clone() })
        }),
        ("another report", |fixture, asked| {
            let StandingAnswer { request, outcome } = fixture.said(asked);
            let report = StandingReport { standing: Standing::Proven, ..report() };
            let outcome = outcome.map(|said| StandingSaid { report, ..said });
            StandingAnswer { request, outcome }
        }),
    ];
    for (name, forge) in forged {
        let mut fixture = Fixture::shown();
        let asked = fixture.ask_how();
        let answer = forge(&fixture, &asked);
        let effects = fixture.answer(OWNER, answer);
        assert_eq!(rejects(&effects), [Reject::BadProof], "{name}");
        let expected = [told(Err(Unsaid::Forged)), HolderEvent::StandingsDone];
        assert_eq!(events(&effects), expected, "{name}");
    }
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    for (refusal, why) in
        [(StandingRefusal::NoAccount, Unsaid::NoAccount), (StandingRefusal::Busy, Unsaid::Busy)]
    {
        let mut fixture = Fixture::shown();
        let request = fixture.ask_how().request;
        let effects = fixture.answer(OWNER, StandingAnswer { request, outcome: Err(refusal) });
        assert_eq!(events(&effects), [told(Err(why)), HolderEvent::StandingsDone]);
    }
}

#[test]
fn an_owner_that_does_not_answer_is_silent_and_its_late_answer_is_nothing() {
    let mut fixture = Fixture::shown();
    let asked = fixture.ask_how();
    let within = u64::try_from(ANSWER_WITHIN.as_millis()).unwrap();
    assert!(events(&fixture.pass(within - 1)).is_empty());
    let silent = [told(Err(Unsaid::Silent)), HolderEvent::StandingsDone];
    assert_eq!(events(&fixture.pass(1)), silent);
    assert_eq!(fixture.role.next_timeout(), None);
    let answer = fixture.said(&asked);
    assert!(fixture.answer(OWNER, answer).is_empty());
}

#[test]
fn an_owner_is_asked_once_a_minute_and_its_answer_told_again_meanwhile() {
    let mut fixture = Fixture::shown();
    let asked = fixture.ask_how();
    assert!(fixture.handle(Input::AskOwners).is_empty(), "it is open");
    let answer = fixture.said(&asked);
    fixture.answer(OWNER, answer);
    let every = u64::try_from(ASK_EVERY.as_millis()).unwrap();
    fixture.pass(every - 1);
    let effects = fixture.handle(Input::AskOwners);
    assert!(requests(&effects).is_empty());
    let (said, age) = (Ok(report()), ASK_EVERY - Duration::from_millis(1));
    let again = HolderEvent::Standing { owner: OWNER, said, age };
    assert_eq!(events(&effects), [again, HolderEvent::StandingsDone]);
    fixture.pass(1);
    let again = fixture.ask_how();
    assert!(again.nonce != asked.nonce && again.request != asked.request);
}

#[test]
fn an_owner_that_goes_away_is_silent_and_has_to_show_itself_again() {
    let mut fixture = Fixture::shown();
    let asked = fixture.ask_how();
    let effects = fixture.handle(Input::PeerDown(OWNER));
    let silent = [told(Err(Unsaid::Silent)), HolderEvent::StandingsDone];
    assert_eq!(events(&effects), silent);
    fixture.up(OWNER);
    assert_eq!(events(&fixture.handle(Input::AskOwners)), [HolderEvent::StandingsDone]);
    let answer = fixture.said(&asked);
    assert!(fixture.answer(OWNER, answer).is_empty(), "of the connection before");
    fixture.show();
    let effects = fixture.handle(Input::AskOwners);
    assert!(requests(&effects).is_empty(), "to connect again gains nothing: {effects:?}");
    assert_eq!(events(&effects), silent);
}

#[test]
fn owners_that_are_remembered_are_bounded_and_room_comes_back() {
    let mut fixture = Fixture::shown();
    let account = fixture.account();
    let mut asked = 0;
    for round in 0..6_u8 {
        for number in 0..200_u8 {
            let mut bytes = [round; 32];
            bytes[..2].copy_from_slice(&[number, 77]);
            let (node, now) = (NodeId::from_bytes(bytes), fixture.now);
            fixture.up(node);
            fixture.role.notices.is_owner(now, node, account);
        }
        asked += requests(&fixture.handle(Input::AskOwners)).len();
        let connected: Vec<NodeId> = fixture.role.peers.iter().copied().collect();
        for node in connected {
            fixture.handle(Input::PeerDown(node));
        }
    }
    assert_eq!((asked, fixture.role.load().standings), (ASKED_MAX, ASKED_MAX));
    fixture.pass(u64::try_from(ASK_EVERY.as_millis()).unwrap());
    fixture.handle(Input::AskOwners);
    assert_eq!(fixture.role.load().standings, 0);
}
