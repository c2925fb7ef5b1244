//! Questions about accounts and releases: what is sent, which answers count, and every bound.

mod audit;

use super::*;
use crate::core::codec::{ACCOUNT_CHUNKS_MAX, RELEASES_MAX};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, ChunkState, KeptChunks,
    ListedChunk, Release, ReleaseAnswer, ReleaseRefusal,
};
use crate::core::owner::account::{ACCOUNT_JOBS_MAX, LATE_MAX};

const LEASE: LeaseNonce = LeaseNonce::from_bytes([2; 16]);

fn id(number: u8) -> ChunkId {
    ChunkId::from_bytes([number; 32])
}

fn listed(number: u8) -> ListedChunk {
    ListedChunk { id: id(number), lease: LEASE, sealed_bytes: 1_000, state: ChunkState::Live }
}

fn list(after: u8, limit: u32) -> AccountWish {
    AccountWish::List { after: id(after), limit }
}

fn query(numbers: &[u8]) -> AccountWish {
    AccountWish::Query(numbers.iter().map(|number| id(*number)).collect())
}

fn wish(number: u8) -> ReleaseWish {
    ReleaseWish { id: id(number), ck: ChunkKey::from_bytes([number; 32]), lease: LEASE, lent: None }
}

fn release(numbers: &[u8]) -> AccountWish {
    let items = numbers.iter().map(|number| wish(*number)).collect();
    AccountWish::Release { undo: false, items }
}

fn undo(numbers: &[u8]) -> AccountWish {
    let items = numbers.iter().map(|number| wish(*number)).collect();
    AccountWish::Release { undo: true, items }
}

fn states(numbers: usize) -> KeptChunks {
    KeptChunks::Queried(vec![(ChunkState::Live, LEASE); numbers])
}

impl World {
    fn ask(&mut self, ticket: u64, holder: NodeId, wish: AccountWish) {
        let deadline = self.now.after(Duration::from_secs(30));
        let job = AccountJob { ticket: Ticket(ticket), holder, wish, deadline };
        self.command(OwnerCommand::Account(job));
    }

    fn outcome(&self, ticket: u64) -> Option<Result<AccountDone, AccountFailure>> {
        let mut outcomes = self.events.iter().filter_map(|(_, event)| match event {
            OwnerEvent::Account { ticket: of, outcome, .. } if of.0 == ticket => Some(outcome),
            _ => None,
        });
        let outcome = outcomes.next().cloned();
        assert!(outcomes.next().is_none(), "a question ends once");
        outcome
    }

    fn failed(&self, ticket: u64) -> Option<AccountFailure> {
        self.outcome(ticket).and_then(Result::err)
    }

    /// The requests that were sent, with when.
    fn requests(&self) -> Vec<(Time, AccountRequest)> {
        let request = |message: &StreamMessage| match message {
            StreamMessage::AccountRequest(request) => Some(request.clone()),
            _ => None,
        };
        let sent = self.sent.iter();
        sent.filter_map(|(at, _, message)| Some((*at, request(message)?))).collect()
    }

    fn request(&self) -> AccountRequest {
        self.requests().pop().unwrap().1
    }

    fn releases(&self) -> Vec<Release> {
        let release = |message: &StreamMessage| match message {
            StreamMessage::Release(release) => Some(release.clone()),
            _ => None,
        };
        self.sent.iter().filter_map(|(_, _, message)| release(message)).collect()
    }

    /// The page with which this holder answers the request.
    fn page(
        &self,
        holder: NodeId,
        request: &AccountRequest,
        kept: KeptChunks,
        more: bool,
    ) -> AccountAnswer {
        let fake = &self.fakes[&holder];
        let pair = fake.keys.pair_key(&request.account).unwrap();
        let page = AccountPage::new(request, fake.epoch, (kept, more), &pair);
        AccountAnswer { request: request.request, outcome: Ok(page) }
    }

    fn answer(&mut self, holder: NodeId, answer: AccountAnswer) {
        self.stream(holder, StreamMessage::AccountAnswer(answer));
    }

    /// The holder answers the last request as it should.
    fn answer_with(&mut self, holder: NodeId, kept: KeptChunks, more: bool) {
        let answer = self.page(holder, &self.request(), kept, more);
        self.answer(holder, answer);
    }

    fn refuse(&mut self, holder: NodeId, refusal: AccountRefusal) {
        let request = self.request().request;
        self.answer(holder, AccountAnswer { request, outcome: Err(refusal) });
    }

    fn released(
        &mut self,
        holder: NodeId,
        request: u64,
        outcome: Result<Vec<ChunkState>, ReleaseRefusal>,
    ) {
        let answer = ReleaseAnswer { request, outcome };
        self.stream(holder, StreamMessage::ReleaseAnswer(answer));
    }
}

fn one() -> (World, NodeId) {
    let mut world = World::new(0);
    let holder = world.add_connected(Manners::Honest);
    (world, holder)
}

#[test]
fn a_list_is_asked_for_under_the_pair_key_and_its_page_handed_over() {
    let (mut world, holder) = one();
    world.ask(1, holder, list(3, 2));
    let request = world.request();
    let account = world.keys.account(&holder).account();
    let pair = world.fakes[&holder].keys.pair_key(&account).unwrap();
    assert_eq!(request.account, account);
    assert_eq!(request.ask, AccountAsk::ListMine { after: id(3), limit: 2 });
    assert!(request.verify((world.mesh, world.owner.node_id(), holder), &pair));
    let chunks = vec![listed(4), listed(9)];
    world.answer_with(holder, KeptChunks::Listed(chunks.clone()), true);
    let epoch = world.fakes[&holder].epoch;
    let done = AccountDone::Listed { epoch, more: true, chunks };
    assert_eq!((world.outcome(1), world.rejects.len()), (Some(Ok(done)), 0));
    assert_eq!(world.role.account_slots_free(), ACCOUNT_JOBS_MAX);
    // An account with nothing in it, behind the last one.
    world.ask(2, holder, list(9, 2));
    world.answer_with(holder, KeptChunks::Listed(Vec::new()), false);
    let done = AccountDone::Listed { epoch, more: false, chunks: Vec::new() };
    assert_eq!(world.outcome(2), Some(Ok(done)));
}

#[test]
fn a_query_is_answered_by_one_state_for_each_id_and_several_run_at_once() {
    let mut world = World::new(3);
    let holders: Vec<NodeId> = world.fakes.keys().copied().collect();
    for (ticket, holder) in (1..).zip(&holders) {
        world.ask(ticket, *holder, query(&[5, 2]));
    }
    let numbers: BTreeSet<u64> =
        world.requests().iter().map(|(_, request)| request.request).collect();
    assert_eq!(numbers.len(), 3);
    let chunks = vec![
        (ChunkState::Released { due_s: 7 }, LEASE),
        (ChunkState::NotHeld, LeaseNonce::from_bytes([0; 16])),
    ];
    for (at, holder) in holders.iter().enumerate() {
        let request = world.requests()[at].1.clone();
        let answer = world.page(*holder, &request, KeptChunks::Queried(chunks.clone()), false);
        world.answer(*holder, answer);
    }
    let epoch = world.fakes[&holders[0]].epoch;
    let done = AccountDone::Queried { epoch, chunks };
    assert!((1..=3).all(|ticket| world.outcome(ticket) == Some(Ok(done.clone()))));
    assert_eq!(world.rejects, []);
}

/// What a holder answers.
type Bad = fn(&World, NodeId, &AccountRequest) -> AccountAnswer;

/// Pages of the wrong shape, each to what it is no answer to.
fn misshapen() -> [(AccountWish, Bad); 7] {
    let one: Bad = |world, holder, request| {
        world.page(holder, request, KeptChunks::Listed(vec![listed(8)]), false)
    };
    let two: Bad = |world, holder, request| {
        let chunks = vec![listed(4), listed(5)];
        world.page(holder, request, KeptChunks::Listed(chunks), false)
    };
    let twice: Bad = |world, holder, request| {
        let chunks = vec![listed(5), listed(5)];
        world.page(holder, request, KeptChunks::Listed(chunks), false)
    };
    let endless: Bad =
        |world, holder, request| world.page(holder, request, KeptChunks::Listed(Vec::new()), true);
    let state: Bad = |world, holder, request| world.page(holder, request, states(1), false);
    [
        (query(&[1]), one),
        (list(3, 2), state),
        (list(8, 2), one),
        (list(3, 1), two),
        (list(3, 2), twice),
        (list(3, 2), endless),
        (query(&[1, 2]), state),
    ]
}

/// Pages under a MAC that does not hold.
fn forged() -> [(AccountWish, Bad); 2] {
    let said_before: Bad = |world, holder, request| {
        let other = AccountRequest { nonce: [0; 32], ..request.clone() };
        world.page(holder, &other, states(1), false)
    };
    let altered: Bad = |world, holder, request| {
        let mut answer = world.page(holder, request, states(1), false);
        if let Ok(page) = &mut answer.outcome {
            page.kept = KeptChunks::Queried(vec![(ChunkState::Damaged, LEASE)]);
        }
        answer
    };
    [(query(&[1]), said_before), (query(&[1]), altered)]
}

#[test]
fn a_page_that_does_not_hold_is_counted_and_ends_its_question() {
    let misshapen = misshapen().map(|(wish, bad)| (wish, bad, Reject::Malformed));
    let forged = forged().map(|(wish, bad)| (wish, bad, Reject::BadProof));
    for (at, (wish, bad, reason)) in misshapen.into_iter().chain(forged).enumerate() {
        let (mut world, holder) = one();
        world.ask(1, holder, wish);
        let answer = bad(&world, holder, &world.request());
        world.answer(holder, answer.clone());
        assert_eq!(world.failed(1), Some(AccountFailure::Forged), "case {at}");
        assert_eq!(world.rejects, [(holder, reason)], "case {at}");
        // It was answered, if badly: another answer is one too many.
        world.answer(holder, answer);
        assert_eq!(world.rejects.last(), Some(&(holder, Reject::Unsolicited)), "case {at}");
        assert_eq!(world.role.account_slots_free(), ACCOUNT_JOBS_MAX);
    }
}

#[test]
fn an_answer_of_another_node_or_to_another_number_leaves_the_question_open() {
    let mut world = World::new(2);
    let holders: Vec<NodeId> = world.fakes.keys().copied().collect();
    let (holder, other) = (holders[0], holders[1]);
    world.ask(1, holder, query(&[1]));
    let request = world.request();
    let right = world.page(holder, &request, states(1), false);
    world.answer(other, right.clone());
    world.answer(holder, AccountAnswer { request: request.request ^ 1, ..right.clone() });
    world.released(other, request.request, Ok(vec![ChunkState::Live]));
    let unsolicited = [other, holder, other].map(|node| (node, Reject::Unsolicited));
    assert_eq!((&world.rejects[..], world.outcome(1)), (&unsolicited[..], None));
    world.answer(holder, right);
    assert!(matches!(world.outcome(1), Some(Ok(_))));
}

#[test]
fn what_has_no_account_is_said_so() {
    let (mut world, holder) = one();
    world.ask(1, holder, list(0, 1));
    world.refuse(holder, AccountRefusal::NoAccount);
    assert_eq!((world.failed(1), world.rejects.len()), (Some(AccountFailure::NoAccount), 0));
}

#[test]
fn a_busy_holder_is_asked_again_after_longer_and_longer_until_the_deadline() {
    let (mut world, holder) = one();
    world.ask(1, holder, query(&[1]));
    let mut asked = 1;
    while world.outcome(1).is_none() {
        world.refuse(holder, AccountRefusal::Busy);
        world.run_until(Duration::from_secs(31), |world| {
            world.requests().len() > asked || world.outcome(1).is_some()
        });
        asked = world.requests().len();
    }
    assert_eq!(world.failed(1), Some(AccountFailure::Busy));
    assert_eq!(world.rejects, [], "busy is no fault");
    let requests = world.requests();
    let pauses: Vec<Duration> =
        requests.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    assert!((4..=9).contains(&pauses.len()), "{pauses:?}");
    let (least, most) = (Duration::from_millis(300), Duration::from_secs(10));
    assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{pauses:?}");
    assert!(pauses[3] > 3 * pauses[0], "{pauses:?}");
    let nonces: BTreeSet<[u8; 32]> = requests.iter().map(|(_, request)| request.nonce).collect();
    assert_eq!(nonces.len(), requests.len(), "each sending has its own");
    // One that is busy for a moment answers in the end.
    world.ask(2, holder, query(&[1]));
    world.refuse(holder, AccountRefusal::Busy);
    world.run(Duration::from_secs(1));
    world.answer_with(holder, states(1), false);
    assert!(matches!(world.outcome(2), Some(Ok(_))));
}

#[test]
fn a_holder_that_is_away_is_dialed_first() {
    let mut world = World::new(0);
    let (holder, gone) = (world.add(Manners::Honest), world.add(Manners::Honest));
    world.fake(gone).reachable = false;
    world.ask(1, holder, query(&[1]));
    world.ask(2, gone, query(&[1]));
    assert_eq!(world.requests().len(), 0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.failed(2), Some(AccountFailure::Unreachable), "at once, and not asked again");
    assert_eq!((world.dials.len(), world.requests().len()), (2, 1));
    world.answer_with(holder, states(1), false);
    assert!(matches!(world.outcome(1), Some(Ok(_))));
}

#[test]
fn a_silent_holder_is_given_up_at_the_deadline_and_may_be_late() {
    let (mut world, holder) = one();
    world.ask(1, holder, query(&[1]));
    world.run(Duration::from_secs(29));
    assert_eq!(world.outcome(1), None);
    world.run(Duration::from_secs(2));
    assert_eq!(world.failed(1), Some(AccountFailure::Unreachable));
    for rejects in [0, 1] {
        world.answer_with(holder, states(1), false);
        assert_eq!(world.rejects.len(), rejects, "once it is late, then it is unasked");
    }
}

#[test]
fn a_lost_connection_is_made_again_twice() {
    let (mut world, holder) = one();
    world.ask(1, holder, release(&[1]));
    for sent in 2..=3 {
        world.disconnect(holder);
        world.run(Duration::from_secs(3));
        assert_eq!((world.releases().len(), world.outcome(1)), (sent, None));
    }
    let releases = world.releases();
    let nonces: BTreeSet<[u8; 32]> = releases.iter().map(|release| release.nonce).collect();
    assert_eq!(nonces.len(), 3, "a holder would refuse a nonce that it has seen");
    world.disconnect(holder);
    assert_eq!(world.failed(1), Some(AccountFailure::Unreachable));
}

#[test]
fn another_store_voids_what_the_node_acknowledged_and_a_third_one_is_a_lie() {
    let (mut world, holder) = one();
    let (chunk, _) = world.chunk(1_000);
    world.store(1, chunk, 2);
    world.run(Duration::from_secs(1));
    assert_eq!((world.acked(1), world.fake(holder).received.len()), (vec![(holder, 1)], 1));
    world.ask(2, holder, query(&[1]));
    world.answer_with(holder, states(1), false);
    world.run(Duration::from_secs(1));
    assert_eq!(world.fake(holder).received.len(), 1, "the same store");
    for (ticket, epoch) in [(3, 7), (4, 8)] {
        world.fake(holder).epoch = StoreEpoch::from_bytes([epoch; 16]);
        world.ask(ticket, holder, query(&[1]));
        world.answer_with(holder, states(1), false);
    }
    assert!(matches!(world.outcome(3), Some(Ok(AccountDone::Queried { .. }))));
    assert_eq!(world.failed(4), Some(AccountFailure::Forged), "no store is lost while it is up");
    assert_eq!(world.rejects, [(holder, Reject::BadProof)]);
    world.run(Duration::from_secs(10));
    assert_eq!(world.fake(holder).received.len(), 2, "what the second store does not have");
}

#[test]
fn a_release_is_proved_under_d_and_its_undoing_under_z() {
    let (mut world, holder) = one();
    for (ticket, undo) in [(1, false), (2, true)] {
        let chunks = [world.chunk(1_000), world.chunk(2_000)];
        let headers = chunks.each_ref().map(|(chunk, _)| chunk.header);
        let wishes =
            chunks.map(|(chunk, ck)| ReleaseWish { id: chunk.id(), ck, lease: LEASE, lent: None });
        let items = wishes.into_iter().collect();
        world.ask(ticket, holder, AccountWish::Release { undo, items });
        let sent = world.releases().pop().unwrap();
        assert_eq!((sent.undo, sent.items.len()), (undo, 2));
        for (item, header) in sent.items.iter().zip(headers) {
            let context = |operation| Context {
                operation,
                mesh: world.mesh,
                verifier: Verifier::Node(holder),
                asker: Some(world.owner.node_id()),
                nonce: sent.nonce,
                body_hash: Release::body_hash(&LEASE),
            };
            let verifies = |operation| verify_header(&header, &context(operation), &item.proof);
            assert_eq!((item.id, item.lease), (header.id(), LEASE));
            let both = [verifies(Operation::Release), verifies(Operation::Unrelease)];
            assert_eq!(both, [!undo, undo]);
        }
        let states = vec![ChunkState::Released { due_s: 9 }, ChunkState::Live];
        world.released(holder, sent.request, Ok(states.clone()));
        assert_eq!(world.outcome(ticket), Some(Ok(AccountDone::Released(states))));
    }
    assert_eq!(world.rejects, []);
}

#[test]
fn an_answer_to_a_release_has_as_many_states_and_is_of_its_kind() {
    let (mut world, holder) = one();
    world.ask(1, holder, release(&[1, 2]));
    world.released(holder, world.releases()[0].request, Ok(vec![ChunkState::Live]));
    world.ask(2, holder, release(&[1]));
    let request = world.releases()[1].request;
    world.answer(holder, AccountAnswer { request, outcome: Err(AccountRefusal::NoAccount) });
    world.ask(3, holder, query(&[1]));
    world.released(holder, world.request().request, Ok(vec![ChunkState::Live]));
    assert!((1..=3).all(|ticket| world.failed(ticket) == Some(AccountFailure::Forged)));
    assert_eq!(world.rejects, [(holder, Reject::Malformed); 3]);
    world.ask(4, holder, release(&[1]));
    world.released(holder, world.releases()[2].request, Err(ReleaseRefusal::Invalid));
    assert_eq!(world.failed(4), Some(AccountFailure::Invalid));
    world.ask(5, holder, release(&[1]));
    world.released(holder, world.releases()[3].request, Err(ReleaseRefusal::Busy));
    world.run(Duration::from_secs(1));
    world.released(holder, world.releases()[4].request, Ok(vec![ChunkState::NotHeld]));
    let done = AccountDone::Released(vec![ChunkState::NotHeld]);
    assert_eq!((world.outcome(5), world.rejects.len()), (Some(Ok(done)), 3));
}

#[test]
fn without_the_delete_key_nothing_is_released_and_a_release_can_be_undone() {
    let (mut world, holder) = one();
    let mut keys = OwnerKeys::derive(&Master::from_bytes([1; 32]), 0);
    keys.delete = None;
    world.role = OwnerRole::new(OwnerConfig {
        keys: Arc::new(keys),
        node: world.owner.node_id(),
        mesh: world.mesh,
        seed: [3; 32],
        limits: OwnerLimits::default(),
        sharding: world.sharding,
        domains: DomainPolicy::LanCountsEach,
        terms: LeaseTerms::default(),
    });
    world.connect(holder);
    world.ask(1, holder, release(&[1]));
    assert_eq!(world.failed(1), Some(AccountFailure::NoDeleteKey));
    assert_eq!((world.releases().len(), world.dials.len()), (0, 0));
    world.ask(2, holder, undo(&[1]));
    assert_eq!((world.releases().len(), world.outcome(2)), (1, None));
}

#[test]
fn a_release_that_waits_to_be_sent_again_is_over_once_its_undoing_is_asked_for() {
    for is_lost in [false, true] {
        let (mut world, holder) = one();
        world.ask(1, holder, release(&[1, 2]));
        let why = if is_lost {
            world.disconnect(holder);
            AccountFailure::Unreachable
        } else {
            world.released(holder, world.releases()[0].request, Err(ReleaseRefusal::Busy));
            AccountFailure::Busy
        };
        assert_eq!(world.outcome(1), None);
        world.ask(2, holder, undo(&[2, 3]));
        assert_eq!(world.failed(1), Some(why));
        world.run_until(Duration::from_secs(3), |world| world.releases().len() > 1);
        let undoing = world.releases().pop().unwrap();
        world.released(holder, undoing.request, Ok(vec![ChunkState::Live; 2]));
        assert!(matches!(world.outcome(2), Some(Ok(_))));
        world.run(Duration::from_secs(31));
        let sent: Vec<bool> = world.releases().iter().map(|release| release.undo).collect();
        assert_eq!((sent, world.rejects.len()), (vec![false, true], 0), "lost: {is_lost}");
        // What is asked for after it is another release, and is sent again as any other.
        world.ask(3, holder, release(&[2]));
        world.released(holder, world.releases()[2].request, Err(ReleaseRefusal::Busy));
        world.run(Duration::from_secs(1));
        assert_eq!((world.releases().len(), world.outcome(3)), (4, None));
    }
}

#[test]
fn a_release_under_way_is_over_with_its_undoing_and_its_answer_is_late() {
    let (mut world, holder) = one();
    world.ask(1, holder, release(&[1]));
    world.ask(2, holder, undo(&[1]));
    assert_eq!(world.failed(1), Some(AccountFailure::Unreachable));
    let sent: Vec<bool> = world.releases().iter().map(|release| release.undo).collect();
    assert_eq!(sent, [false, true], "in the order in which they were asked for");
    for rejects in [0, 1] {
        world.released(holder, world.releases()[0].request, Err(ReleaseRefusal::Busy));
        assert_eq!(world.rejects.len(), rejects, "once it is late, then it is unasked");
    }
    world.run(Duration::from_secs(5));
    assert_eq!((world.releases().len(), world.outcome(2)), (2, None));
}

#[test]
fn an_undoing_ends_only_releases_of_its_chunks_at_its_holder() {
    let mut world = World::new(2);
    let holders: Vec<NodeId> = world.fakes.keys().copied().collect();
    let (holder, other) = (holders[0], holders[1]);
    world.ask(1, holder, release(&[1]));
    world.ask(2, other, release(&[2]));
    world.ask(3, holder, query(&[2]));
    world.ask(4, holder, undo(&[2, 4]));
    world.ask(5, holder, release(&[2]));
    world.ask(6, holder, undo(&[3, 4]));
    // One that is not sent ends nothing.
    world.ask(7, holder, undo(&[2, 2]));
    assert_eq!(world.failed(7), Some(AccountFailure::Invalid));
    assert!((1..=6).all(|ticket| world.outcome(ticket).is_none()));
    world.ask(8, holder, undo(&[2]));
    let over: Vec<u64> = (1..=6).filter(|ticket| world.outcome(*ticket).is_some()).collect();
    assert_eq!(over, [5]);
}

#[test]
fn an_undoing_takes_the_place_of_the_release_that_it_ends() {
    let (mut world, holder) = one();
    for ticket in 0..ACCOUNT_JOBS_MAX as u64 {
        world.ask(ticket, holder, release(&[ticket as u8]));
    }
    world.ask(1_000, holder, undo(&[7]));
    assert_eq!(world.failed(7), Some(AccountFailure::Unreachable));
    assert_eq!(world.outcome(1_000), None);
    assert!(world.releases().pop().unwrap().undo);
}

#[test]
fn what_is_out_of_bounds_is_not_sent() {
    let (mut world, holder) = one();
    let many = |count: usize| {
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            ChunkId::from_bytes(bytes)
        };
        (0..count).map(id).collect::<Vec<_>>()
    };
    let wishes = |count| {
        let of =
            |id| ReleaseWish { id, ck: ChunkKey::from_bytes([1; 32]), lease: LEASE, lent: None };
        let items = many(count).into_iter().map(of).collect();
        AccountWish::Release { undo: false, items }
    };
    let most = ACCOUNT_CHUNKS_MAX;
    let refused = [
        list(0, 0),
        list(0, most as u32 + 1),
        query(&[]),
        query(&[1, 1]),
        AccountWish::Query(many(most + 1)),
        release(&[]),
        release(&[1, 1]),
        wishes(RELEASES_MAX + 1),
    ];
    for (ticket, wish) in (1..).zip(refused) {
        world.ask(ticket, holder, wish);
        assert_eq!(world.failed(ticket), Some(AccountFailure::Invalid), "{ticket}");
    }
    world.ask(20, world.owner.node_id(), query(&[1]));
    assert_eq!(world.failed(20), Some(AccountFailure::Unreachable), "not its own holder");
    assert_eq!((world.sent.len(), world.dials.len()), (0, 0));
    // The most that there may be goes out: the world decodes what it is handed.
    world.ask(21, holder, list(0, most as u32));
    world.ask(22, holder, AccountWish::Query(many(most)));
    world.ask(23, holder, wishes(RELEASES_MAX));
    assert_eq!(world.sent.len(), 3);
}

#[test]
fn questions_are_bounded_and_one_more_ends_at_once() {
    let (mut world, holder) = one();
    for ticket in 0..ACCOUNT_JOBS_MAX as u64 {
        world.ask(ticket, holder, query(&[1]));
    }
    assert_eq!(world.role.account_slots_free(), 0);
    world.ask(1_000, holder, query(&[1]));
    assert_eq!(world.failed(1_000), Some(AccountFailure::Busy));
    assert_eq!(world.sent.len(), ACCOUNT_JOBS_MAX);
    // Those that nobody waits for any more are forgotten, and the last of them may be answered.
    for round in 1..=5 {
        for ticket in 0..ACCOUNT_JOBS_MAX as u64 {
            world.command(OwnerCommand::Cancel(Ticket(ticket + (round - 1) * 2_000)));
            world.ask(ticket + round * 2_000, holder, query(&[1]));
        }
        assert!(world.role.load().iter().all(|fill| !fill.is_over()));
    }
    let late = world.role.load().into_iter().find(|fill| fill.what.starts_with("late questions"));
    assert_eq!(late.map(|late| (late.used, late.max)), Some((LATE_MAX, LATE_MAX)));
    let requests = world.requests();
    for (at, rejects) in [(0, 1), (ACCOUNT_JOBS_MAX * 5 - 1, 1), (ACCOUNT_JOBS_MAX * 6 - 1, 1)] {
        let answer = world.page(holder, &requests[at].1, states(1), false);
        world.answer(holder, answer);
        assert_eq!(world.rejects.len(), rejects, "{at}");
    }
    assert_eq!(world.events.len(), 2, "the one too many, and the one that was answered");
}
