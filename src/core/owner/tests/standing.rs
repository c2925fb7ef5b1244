//! Holders that ask how they stand: whose questions count, what they are told, and how often.

use super::*;
use crate::core::message::{
    StandingAnswer, StandingRefusal, StandingReport, StandingRequest, StandingSaid,
};
use crate::core::owner::standing::{ASKED_MAX, OPEN_MAX, PUT_OFF_MAX, SOURCES_MAX, WINDOW};
use crate::core::types::{Account, Standing};
use crate::crypto::keys::PairKey;

fn report() -> StandingReport {
    StandingReport { standing: Standing::Proven, ..StandingReport::default() }
}

/// What a question is made of.
struct Asking {
    account: Account,
    between: (MeshId, NodeId, NodeId),
    pair: PairKey,
}

impl World {
    fn asking(&self, holder: &NodeId) -> Asking {
        let account = self.keys.account(holder).account();
        let pair = self.fakes[holder].keys.pair_key(&account).unwrap();
        Asking { account, between: (self.mesh, *holder, self.owner.node_id()), pair }
    }

    /// A question of this holder, with something changed.
    fn question(
        &self,
        holder: NodeId,
        request: u64,
        change: impl FnOnce(&mut Asking),
    ) -> StandingRequest {
        let mut asking = self.asking(&holder);
        change(&mut asking);
        let Asking { account, between, pair } = asking;
        StandingRequest::new((request, account, [5; 32]), between, &pair)
    }

    fn wonder(&mut self, holder: NodeId, asked: StandingRequest) {
        self.stream(holder, StreamMessage::StandingRequest(asked));
    }

    /// The holder asks as it should.
    fn wonders(&mut self, holder: NodeId, request: u64) -> StandingRequest {
        let asked = self.question(holder, request, |_| {});
        self.wonder(holder, asked.clone());
        asked
    }

    fn tell_it(
        &mut self,
        holder: NodeId,
        request: u64,
        outcome: Result<StandingReport, StandingRefusal>,
    ) {
        self.command(OwnerCommand::TellStanding { holder, request, outcome });
    }

    /// Who asked, as the user's side was told.
    fn asked(&self) -> Vec<(NodeId, u64)> {
        let asked = |event: &OwnerEvent| match event {
            OwnerEvent::StandingAsked { holder, request } => Some((*holder, *request)),
            _ => None,
        };
        self.events.iter().filter_map(|(_, event)| asked(event)).collect()
    }

    fn answers(&self) -> Vec<(NodeId, StandingAnswer)> {
        let answer = |message: &StreamMessage| match message {
            StreamMessage::StandingAnswer(answer) => Some(answer.clone()),
            _ => None,
        };
        self.sent.iter().filter_map(|(_, to, message)| Some((*to, answer(message)?))).collect()
    }
}

fn refused(request: u64, refusal: StandingRefusal) -> StandingAnswer {
    StandingAnswer { request, outcome: Err(refusal) }
}

#[test]
fn a_holder_that_proves_its_account_is_told_what_the_command_says_once() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    let asked = world.wonders(holder, 7);
    assert_eq!(world.asked(), [(holder, 7)]);
    assert!(world.answers().is_empty() && world.rejects.is_empty());
    world.tell_it(holder, 8, Ok(report()));
    assert!(world.answers().is_empty(), "it did not ask that");
    for _ in 0..2 {
        world.tell_it(holder, 7, Ok(report()));
    }
    let answers = world.answers();
    let [(to, StandingAnswer { request: 7, outcome: Ok(said) })] = &answers[..] else {
        panic!("{answers:?}")
    };
    let Asking { between, pair, .. } = world.asking(&holder);
    assert_eq!((*to, &said.report), (holder, &report()));
    assert!(said.verify(&asked, between, &pair));
    let other = StandingRequest { nonce: [6; 32], ..asked };
    assert!(!StandingSaid::verify(said, &other, between, &pair));
}

#[test]
fn a_question_that_does_not_hold_and_a_holder_of_nothing_get_the_same_answer() {
    let mut world = World::new(0);
    let other = world.add_connected(Manners::Honest);
    type Change = fn(&mut Asking);
    let wrong: [(&str, Change); 5] = [
        ("another key", |it| it.pair = PairKey::from_bytes([1; 32])),
        ("another mesh", |it| it.between.0 = MeshId::from_bytes([77; 32])),
        ("another holder", |it| it.between.1 = NodeId::from_bytes([77; 32])),
        ("another owner", |it| it.between.2 = NodeId::from_bytes([77; 32])),
        ("another account", |it| it.account = Account::from_bytes([9; 32])),
    ];
    let nothing = vec![refused(7, StandingRefusal::NoAccount)];
    let told = |world: &World, holder: NodeId| -> Vec<StandingAnswer> {
        let mut answers = world.answers();
        answers.retain(|(to, _)| *to == holder);
        answers.into_iter().map(|(_, answer)| answer).collect()
    };
    for (name, change) in wrong {
        let holder = world.add_connected(Manners::Honest);
        world.rejects.clear();
        let asked = world.question(holder, 7, change);
        world.wonder(holder, asked);
        assert_eq!(world.rejects, [(holder, Reject::BadProof)], "{name}");
        assert_eq!(told(&world, holder), nothing, "{name}");
    }
    let holder = world.add_connected(Manners::Honest);
    let forged = StandingRequest { mac: [0; 32], ..world.question(holder, 7, |_| {}) };
    world.wonder(holder, forged);
    let others = world.question(other, 7, |_| {});
    world.wonder(holder, others);
    assert_eq!(told(&world, holder), [nothing.clone(), nothing.clone()].concat());
    assert!(world.asked().is_empty(), "nothing is looked up");
    world.rejects.clear();
    world.wonders(other, 7);
    world.tell_it(other, 7, Err(StandingRefusal::NoAccount));
    assert_eq!(told(&world, other), nothing);
    assert!(world.rejects.is_empty());
}

#[test]
fn questions_of_one_peer_are_bounded_and_to_connect_again_gains_nothing() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    let mut number = 0;
    let mut ask = |world: &mut World| {
        number += 1;
        world.wonders(holder, number);
        world.tell_it(holder, number, Ok(report()));
    };
    for _ in 0..ASKED_MAX {
        ask(&mut world);
    }
    assert_eq!((world.asked().len(), world.rejects.len()), (ASKED_MAX as usize, 0));
    world.disconnect(holder);
    world.connect(holder);
    for _ in 0..PUT_OFF_MAX + 3 {
        ask(&mut world);
    }
    assert_eq!(world.asked().len(), ASKED_MAX as usize);
    let limited = vec![(holder, Reject::RateLimited); (PUT_OFF_MAX + 3) as usize];
    assert_eq!(world.rejects, limited);
    let busy =
        |(_, answer): &(NodeId, StandingAnswer)| answer.outcome == Err(StandingRefusal::Busy);
    assert_eq!(world.answers().iter().filter(|answer| busy(answer)).count(), PUT_OFF_MAX as usize);
    world.run(WINDOW);
    ask(&mut world);
    assert_eq!(world.asked().len(), ASKED_MAX as usize + 1);
}

#[test]
fn one_question_of_a_peer_is_looked_up_at_a_time() {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    world.wonders(holder, 1);
    world.wonders(holder, 2);
    assert_eq!(world.asked(), [(holder, 1)]);
    assert_eq!(world.answers(), [(holder, refused(2, StandingRefusal::Busy))]);
    assert_eq!(world.rejects, [(holder, Reject::TableFull)]);
    // What is known is told to nobody who is not there any more.
    world.disconnect(holder);
    world.connect(holder);
    world.tell_it(holder, 1, Ok(report()));
    assert_eq!(world.answers().len(), 1);
    world.wonders(holder, 3);
    assert_eq!(world.asked().len(), 2);
}

#[test]
fn look_ups_in_all_are_bounded_and_who_is_not_connected_is_not_heard() {
    let mut world = World::new(0);
    let holders: Vec<NodeId> =
        (0..=OPEN_MAX).map(|_| world.add_connected(Manners::Honest)).collect();
    for holder in &holders {
        world.wonders(*holder, 7);
    }
    assert_eq!(world.asked().len(), OPEN_MAX);
    let last = *holders.last().unwrap();
    assert_eq!(world.answers(), [(last, refused(7, StandingRefusal::Busy))]);
    assert!(world.role.load().iter().all(|fill| !fill.is_over()));
    world.rejects.clear();
    let away = world.add(Manners::Honest);
    world.wonders(away, 7);
    assert_eq!(world.rejects, [(away, Reject::TableFull)]);
    assert_eq!(world.answers().len(), 1, "and told nothing");
}

#[test]
fn peers_whose_questions_are_counted_are_bounded_and_room_comes_back() {
    let mut world = World::new(0);
    let holder = world.add(Manners::Honest);
    let asked = world.question(holder, 7, |_| {});
    // Each brings a question that does not hold: to count it costs no more.
    for number in 0..=u16::try_from(SOURCES_MAX).unwrap() {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        let node = NodeId::from_bytes(bytes);
        let peer = Peer { node, hello: world.fakes[&holder].hello(), reach: Reach::Local };
        world.input(Input::PeerUp(peer));
        world.wonder(node, asked.clone());
        world.input(Input::PeerDown(node));
    }
    let full = |(_, reason): &&(NodeId, Reject)| *reason == Reject::TableFull;
    assert_eq!(world.rejects.iter().filter(full).count(), 1);
    assert!(world.role.load().iter().all(|fill| !fill.is_over()));
    world.run(WINDOW);
    world.connect(holder);
    world.wonder(holder, asked);
    assert_eq!(world.asked(), [(holder, 7)]);
}
