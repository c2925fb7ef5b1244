//! Questions about accounts: what proves them, what they cost, and how they are answered.

use super::*;
use crate::core::effect::{ChunkState, ListedChunk};
use crate::core::message::{
    AccountAnswer, AccountAsk, AccountPage, AccountRefusal, AccountRequest, KeptChunks,
};
use crate::crypto::keys::PairKey;

pub(super) const LIST: AccountAsk =
    AccountAsk::ListMine { after: ChunkId::from_bytes([1; 32]), limit: 9 };

impl Fixture {
    /// The owner's half of the pair key.
    pub(super) fn pair(&self) -> PairKey {
        let secret = self.owner.account(&self.role.me());
        secret.pair_key(&self.role.me(), &self.role.hello.agreement).unwrap()
    }

    pub(super) fn question(&mut self, request: u64, ask: AccountAsk) -> AccountRequest {
        let (account, nonce) = (self.account(), self.random());
        let between = (MESH, OWNER, self.role.me());
        AccountRequest::new((request, account, nonce), ask, between, &self.pair())
    }

    pub(super) fn ask_account(&mut self, asked: AccountRequest) -> Vec<Effect> {
        self.stream(OWNER, StreamMessage::AccountRequest(asked))
    }

    /// The account has a chunk here.
    pub(super) fn settle_in(&mut self) {
        let chunk = self.chunk(77);
        let message = self.store(&chunk);
        let ticket = self.begin_write(message);
        self.written(vec![done(ticket)]);
    }
}

/// The one message there is among the effects, an answer about an account.
pub(super) fn answer_of(effects: &[Effect]) -> AccountAnswer {
    let answer = |effect: &Effect| match effect {
        Effect::Send { to: OWNER, message: StreamMessage::AccountAnswer(answer) } => {
            Some(answer.clone())
        }
        Effect::Report(_) => None,
        other => panic!("not expected: {other:?}"),
    };
    let mut answers: Vec<AccountAnswer> = effects.iter().filter_map(answer).collect();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(super) fn refused(request: u64, refusal: AccountRefusal) -> AccountAnswer {
    AccountAnswer { request, outcome: Err(refusal) }
}

#[test]
fn a_page_is_listed_and_carries_the_mac_of_its_store() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let asked = fixture.question(5, LIST);
    let effects = fixture.ask_account(asked.clone());
    let [Effect::ListChunks { ticket, account, after, limit: 9 }] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((account, after), (fixture.account(), ChunkId::from_bytes([1; 32])));
    let (id, state) = (ChunkId::from_bytes([2; 32]), ChunkState::Released { due_s: 7 });
    let listed = vec![ListedChunk { id, lease: LEASE, sealed_bytes: 100, state }];
    let result = Ok((listed.clone(), true));
    let answer = answer_of(&fixture.handle(Input::ChunksListed { ticket, result }));
    let page = answer.outcome.unwrap();
    assert!(page.verify(&asked, &fixture.pair()));
    let AccountPage { epoch, more, kept, .. } = page;
    assert_eq!((answer.request, epoch, more, kept), (5, EPOCH, true, KeptChunks::Listed(listed)));
    assert_eq!(fixture.role.load().account_work, 0);
}

#[test]
fn a_query_is_answered_in_the_order_of_its_ids() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let ids: Vec<ChunkId> = [9, 3].map(|tag| ChunkId::from_bytes([tag; 32])).to_vec();
    let asked = fixture.question(6, AccountAsk::Query(ids.clone()));
    let effects = fixture.ask_account(asked.clone());
    let [Effect::QueryChunks { ticket, account, ids: looked_up }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((account, looked_up), (&fixture.account(), &ids));
    let states = vec![(ChunkState::Damaged, LEASE), (ChunkState::Live, LEASE)];
    let (ticket, result) = (*ticket, Ok(states.clone()));
    let answer = answer_of(&fixture.handle(Input::ChunksQueried { ticket, result }));
    let page = answer.outcome.unwrap();
    assert!(page.verify(&asked, &fixture.pair()) && !page.more);
    assert_eq!(page.kept, KeptChunks::Queried(states));
}

#[test]
fn unauthenticated_question_reads_nothing() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let honest = fixture.question(5, LIST);
    let (between, elsewhere) = ((MESH, OWNER, fixture.role.me()), MeshId::from_bytes([1; 32]));
    let (account, nonce, pair) = (honest.account, honest.nonce, fixture.pair());
    let made =
        |between, pair: &PairKey| AccountRequest::new((5, account, nonce), LIST, between, pair);
    let wrong = [
        ("another mesh", made((elsewhere, OWNER, between.2), &pair)),
        ("another asker", made((MESH, STRANGER, between.2), &pair)),
        ("another holder", made((MESH, OWNER, STRANGER), &pair)),
        ("another key", made(between, &PairKey::from_bytes([1; 32]))),
        (
            "another page",
            AccountRequest {
                ask: AccountAsk::ListMine { after: ChunkId::from_bytes([1; 32]), limit: 10 },
                ..honest.clone()
            },
        ),
        (
            "another operation",
            AccountRequest {
                ask: AccountAsk::Query(vec![ChunkId::from_bytes([1; 32])]),
                ..honest.clone()
            },
        ),
        ("another number", AccountRequest { request: 6, ..honest.clone() }),
        (
            "a small-order account",
            AccountRequest { account: Account::from_bytes([0; 32]), ..honest.clone() },
        ),
    ];
    for (name, asked) in wrong {
        let number = asked.request;
        let effects = fixture.ask_account(asked);
        assert_eq!(rejects(&effects), [Reject::BadProof], "{name}");
        assert_eq!(answer_of(&effects), refused(number, AccountRefusal::NoAccount), "{name}");
    }
    assert!(matches!(fixture.ask_account(honest)[..], [Effect::ListChunks { .. }]));
}

/// Only the reject that is counted here tells them apart: nothing that is sent does.
#[test]
fn an_unknown_account_and_a_bad_mac_are_answered_alike() {
    let mut fixture = Fixture::new();
    let asked = fixture.question(5, LIST);
    let unknown = fixture.ask_account(asked.clone());
    assert!(rejects(&unknown).is_empty(), "its owner may ask after a loss");
    let forged = fixture.ask_account(AccountRequest { mac: [0; 32], ..asked });
    assert_eq!(answer_of(&unknown), answer_of(&forged));
    assert_eq!(answer_of(&unknown), refused(5, AccountRefusal::NoAccount));
    assert_eq!(fixture.role.load().account_work, 0);
}

#[test]
fn what_does_not_prove_itself_is_put_off_and_what_does_costs_no_unproven_token() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let burst = u64::from(HolderLimits::default().unproven_per_peer.burst);
    let asked = fixture.question(5, LIST);
    // Proven: given back each time. The rate of questions alone lasts as long.
    for _ in 0..burst {
        let effects = fixture.ask_account(asked.clone());
        let [Effect::ListChunks { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        fixture.handle(Input::ChunksListed { ticket, result: Ok((Vec::new(), false)) });
    }
    let effects = fixture.ask_account(asked.clone());
    assert_eq!(rejects(&effects), [Reject::RateLimited]);
    assert_eq!(answer_of(&effects), refused(5, AccountRefusal::Busy));
    // Another peer guesses.
    fixture.up(STRANGER);
    let forged = StreamMessage::AccountRequest(AccountRequest { mac: [0; 32], ..asked });
    let guess = |fixture: &mut Fixture| fixture.stream(STRANGER, forged.clone());
    let looked_at = (0..9 * burst).filter(|_| rejects(&guess(&mut fixture)) == [Reject::BadProof]);
    assert_eq!(looked_at.count() as u64, burst);
    assert!(matches!(guess(&mut fixture)[..], [Effect::Report(_)]), "and told nothing any more");
}

#[test]
fn questions_are_bounded_by_peer_and_in_all() {
    let limits = HolderLimits { account_work: 3, ..HolderLimits::default() };
    let mut fixture = Fixture::with(HolderLimits { account_work_per_peer: 2, ..limits });
    fixture.settle_in();
    let asked = fixture.question(5, LIST);
    let first = fixture.ask_account(asked.clone());
    fixture.ask_account(asked.clone());
    let effects = fixture.ask_account(asked.clone());
    assert_eq!(rejects(&effects), [Reject::TableFull]);
    assert_eq!(answer_of(&effects), refused(5, AccountRefusal::Busy));
    assert_eq!(fixture.role.load().account_work, 2);
    // The store's failure is no answer, and frees the place.
    let [Effect::ListChunks { ticket, .. }] = first[..] else { panic!("{first:?}") };
    let result = Err(StoreError::Io);
    let effects = fixture.handle(Input::ChunksListed { ticket, result });
    assert_eq!(answer_of(&effects), refused(5, AccountRefusal::Busy));
    assert!(matches!(fixture.ask_account(asked.clone())[..], [Effect::ListChunks { .. }]));
    // A peer that left is told nothing, and its places come back when the store is done.
    fixture.handle(Input::PeerDown(OWNER));
    assert_eq!(rejects(&fixture.ask_account(asked)), [Reject::TableFull]);
}
