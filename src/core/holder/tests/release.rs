//! Releases and what takes them back: whose proofs they need, and that nothing else does it.

use super::*;
use crate::core::effect::ChunkState;
use crate::core::message::{Release, ReleaseAnswer, ReleaseItem, ReleaseRefusal};
use crate::crypto::keys::ChunkSecret;

const OTHER_LEASE: LeaseNonce = LeaseNonce::from_bytes([8; 16]);

impl Fixture {
    /// z or d of a chunk.
    fn secret_of(&self, operation: Operation, tag: u32) -> ChunkSecret {
        match operation {
            Operation::Release => {
                let delete = self.owner.delete.as_ref().unwrap();
                delete.chunk_secret(&self.owner.admin, &self.chunk_key(tag))
            }
            Operation::Retrieve => self.chunk_key(tag).read_secret(),
            _ => self.chunk(tag).admin,
        }
    }

    /// A release of these chunks, or what takes one back, with something wrong in what is proven.
    fn release_with(&mut self, undo: bool, tags: &[u32], change: impl Fn(&mut Context)) -> Release {
        let release = Release { request: 4, undo, nonce: self.random(), items: Vec::new() };
        let items = tags.iter().map(|tag| {
            let mut context = Context {
                operation: release.operation(),
                mesh: MESH,
                verifier: Verifier::Node(self.role.me()),
                asker: Some(OWNER),
                nonce: release.nonce,
                body_hash: Release::body_hash(&LEASE),
            };
            change(&mut context);
            let (id, secret) = (self.chunk(*tag).id(), self.secret_of(context.operation, *tag));
            let proof = prove(&secret, &id, &context, &mut self.rng);
            ReleaseItem { id, lease: LEASE, proof }
        });
        let items = items.collect();
        Release { items, ..release }
    }

    fn release(&mut self, undo: bool, tags: &[u32]) -> Release {
        self.release_with(undo, tags, |_| {})
    }

    /// Sends it, and completes the look-up: what is held of it is live.
    fn let_go(&mut self, release: Release, held: &[u32]) -> Vec<Effect> {
        let (ticket, ids) = lookup_of(self.stream(OWNER, StreamMessage::Release(release)));
        let headers: Vec<Header> = held.iter().map(|tag| self.chunk(*tag).header).collect();
        let held = |id: &ChunkId| headers.iter().find(|header| header.id() == *id).copied();
        let found = ids.iter().map(held).collect();
        self.found(ticket, found)
    }
}

/// What the store is given: its ticket, whether it is taken back, and what.
type Handed = (Ticket, bool, Vec<(ChunkId, LeaseNonce)>);

fn handed(effects: &[Effect]) -> Option<Handed> {
    match effects {
        [Effect::ReleaseChunks { ticket, undo, items }] => Some((*ticket, *undo, items.clone())),
        _ => None,
    }
}

fn answer_of(effects: &[Effect]) -> Result<Vec<ChunkState>, ReleaseRefusal> {
    match effects {
        [
            Effect::Report(_) | Effect::Send { .. },
            ..,
            Effect::Send { to: OWNER, message: StreamMessage::ReleaseAnswer(answer) },
        ]
        | [Effect::Send { to: OWNER, message: StreamMessage::ReleaseAnswer(answer) }] => {
            let ReleaseAnswer { request: 4, outcome } = answer.clone() else {
                panic!("{answer:?}")
            };
            outcome
        }
        other => panic!("expected an answer: {other:?}"),
    }
}

#[test]
fn a_proven_release_goes_to_the_store_and_is_answered_when_durable() {
    for undo in [false, true] {
        let mut fixture = Fixture::new();
        let release = fixture.release(undo, &[1, 2, 3]);
        let ids: Vec<ChunkId> = [1, 3].map(|tag| fixture.chunk(tag).id()).to_vec();
        let effects = fixture.let_go(release, &[1, 3]);
        let (ticket, is_undo, items) = handed(&effects).expect("it is proven");
        assert_eq!((is_undo, items), (undo, ids.iter().map(|id| (*id, LEASE)).collect()));
        assert_eq!(fixture.role.load().account_work, 1);
        let states = vec![ChunkState::Released { due_s: 9 }, ChunkState::Live];
        let effects = fixture.handle(Input::ChunksReleased { ticket, result: Ok(states) });
        let [released, live] = [ChunkState::Released { due_s: 9 }, ChunkState::Live];
        assert_eq!(answer_of(&effects), Ok(vec![released, ChunkState::NotHeld, live]));
        assert_eq!(fixture.role.load().account_work, 0);
    }
}

#[test]
fn a_proof_for_anything_else_lets_nothing_go() {
    let wrong: [WrongProof; 8] = [
        ("another holder", |c| c.verifier = Verifier::Node(OWNER)),
        ("anyone", |c| {
            c.verifier = Verifier::Anyone([5; 32]);
            c.asker = None;
        }),
        ("another asker", |c| c.asker = Some(STRANGER)),
        ("another mesh", |c| c.mesh = MeshId::from_bytes([1; 32])),
        ("another nonce", |c| c.nonce = [1; 32]),
        ("another lease", |c| c.body_hash = Release::body_hash(&OTHER_LEASE)),
        ("the one for storing", |c| c.operation = Operation::Store),
        ("the one for the other direction", |c| {
            c.operation = match c.operation {
                Operation::Release => Operation::Unrelease,
                _ => Operation::Release,
            }
        }),
    ];
    for (name, change) in wrong {
        for undo in [false, true] {
            let mut fixture = Fixture::new();
            let release = fixture.release_with(undo, &[1], change);
            let effects = fixture.let_go(release, &[1]);
            assert_eq!(rejects(&effects), [Reject::BadProof], "{name}");
            assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Invalid), "{name}");
            assert_eq!(fixture.role.load().account_work, 0);
        }
    }
}

#[test]
fn retrieve_proof_not_valid_for_release() {
    let mut fixture = Fixture::new();
    for undo in [false, true] {
        let proven = |context: &mut Context| {
            context.operation = Operation::Retrieve;
            context.body_hash = body_hash(&[&4_u64.to_le_bytes()]);
        };
        let release = fixture.release_with(undo, &[1], proven);
        let effects = fixture.let_go(release, &[1]);
        assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Invalid));
    }
}

#[test]
fn one_bad_proof_spoils_the_whole_release() {
    let mut fixture = Fixture::new();
    let mut release = fixture.release(false, &[1, 2, 3]);
    release.items[1].proof[40] ^= 1;
    let effects = fixture.let_go(release.clone(), &[1, 2, 3]);
    assert_eq!(rejects(&effects), [Reject::BadProof]);
    assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Invalid));
    // What is not held has no point to check a proof under, and none is needed.
    let effects = fixture.let_go(release, &[1, 3]);
    assert_eq!(handed(&effects).unwrap().2.len(), 2);
}

/// The same bytes again, after the chunk was restored or stored anew, do nothing.
#[test]
fn release_replay_after_restore_rejected() {
    let mut fixture = Fixture::new();
    let release = fixture.release(false, &[1, 2]);
    let effects = fixture.let_go(release.clone(), &[1, 2]);
    let (ticket, ..) = handed(&effects).unwrap();
    let states = vec![ChunkState::Released { due_s: 9 }; 2];
    fixture.handle(Input::ChunksReleased { ticket, result: Ok(states) });
    let undo = fixture.release(true, &[1, 2]);
    let effects = fixture.let_go(undo, &[1, 2]);
    let (ticket, ..) = handed(&effects).unwrap();
    fixture.handle(Input::ChunksReleased { ticket, result: Ok(vec![ChunkState::Live; 2]) });
    let one = Release { items: release.items[..1].to_vec(), ..release.clone() };
    for replay in [release, one] {
        let effects = fixture.let_go(replay, &[1, 2]);
        assert_eq!(rejects(&effects), [Reject::Replayed]);
        assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Invalid));
    }
    // Where nothing is remembered any more, the lease that it names tells the store.
    let mut fixture = Fixture::new();
    let release = fixture.release(false, &[1]);
    let (_, _, items) = handed(&fixture.let_go(release, &[1])).unwrap();
    assert_eq!(items[0].1, LEASE);
}

#[test]
fn a_release_of_chunks_that_are_not_held_asks_the_store_for_nothing() {
    let mut fixture = Fixture::new();
    let mut release = fixture.release(false, &[1, 2]);
    release.items[0].proof = [0; 64];
    let effects = fixture.let_go(release.clone(), &[]);
    assert_eq!(answer_of(&effects), Ok(vec![ChunkState::NotHeld; 2]));
    assert!(rejects(&effects).is_empty());
    // A head is no chunk.
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Release(release)));
    let found = vec![Some(Found::Head { read: [1; 32] }), None];
    let effects = fixture.handle(Input::ChunksFound { ticket, found });
    assert_eq!(answer_of(&effects), Ok(vec![ChunkState::NotHeld; 2]));
}

#[test]
fn a_store_that_cannot_is_busy_and_a_release_that_is_none_is_malformed() {
    let mut fixture = Fixture::new();
    for error in [StoreError::Busy, StoreError::Full, StoreError::Io, StoreError::ReadOnly] {
        let release = fixture.release(false, &[1]);
        let (ticket, ..) = handed(&fixture.let_go(release, &[1])).unwrap();
        let effects = fixture.handle(Input::ChunksReleased { ticket, result: Err(error) });
        assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Busy));
        assert_eq!(fixture.role.load().account_work, 0);
    }
    let release = fixture.release(false, &[1]);
    for count in [0, RELEASE_ITEMS + 1] {
        let items = vec![release.items[0].clone(); count];
        let message = StreamMessage::Release(Release { items, ..release.clone() });
        assert_eq!(rejects(&fixture.stream(OWNER, message)), [Reject::Malformed]);
    }
}

/// As many as a release may have.
const RELEASE_ITEMS: usize = crate::core::codec::RELEASES_MAX;

#[test]
fn unproven_releases_are_bounded_by_their_proofs() {
    let mut fixture = Fixture::new();
    let honest = fixture.release(false, &[1]);
    let item = honest.items[0].clone();
    let forged = Release {
        items: (0..RELEASE_ITEMS).map(|_| ReleaseItem { proof: [0; 64], ..item.clone() }).collect(),
        ..honest
    };
    let burst = HolderLimits::default().unproven_per_peer.burst as usize;
    let header = fixture.chunk(1).header;
    let mut looked_at = 0;
    for _ in 0..burst {
        let effects = fixture.stream(OWNER, StreamMessage::Release(forged.clone()));
        let Some(Effect::FindChunks { ticket, ids }) = effects.first() else {
            assert_eq!(rejects(&effects), [Reject::RateLimited]);
            assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Busy));
            continue;
        };
        looked_at += 1;
        let effects = fixture.found(*ticket, vec![Some(header); ids.len()]);
        assert_eq!(rejects(&effects), [Reject::BadProof]);
    }
    assert_eq!(looked_at, burst / 4, "256 proofs cost as much as four messages");
    // One that proves itself gets back what it took.
    fixture.pass(60_000);
    for _ in 0..2 * burst {
        let release = fixture.release(false, &[1]);
        let (ticket, ..) = handed(&fixture.let_go(release, &[1])).unwrap();
        fixture.handle(Input::ChunksReleased { ticket, result: Ok(vec![ChunkState::Live]) });
    }
}

#[test]
fn releases_are_bounded_by_peer_and_whoever_left_lets_nothing_go() {
    let limits = HolderLimits { account_work_per_peer: 1, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    let (first, second) = (fixture.release(false, &[1]), fixture.release(false, &[2]));
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Release(first)));
    let effects = fixture.stream(OWNER, StreamMessage::Release(second.clone()));
    assert_eq!(rejects(&effects), [Reject::TableFull]);
    assert_eq!(answer_of(&effects), Err(ReleaseRefusal::Busy));
    fixture.handle(Input::PeerDown(OWNER));
    let header = fixture.chunk(1).header;
    assert!(fixture.found(ticket, vec![Some(header)]).is_empty());
    assert_eq!(fixture.role.load().account_work, 0);
    let effects = fixture.stream(OWNER, StreamMessage::Release(second));
    assert_eq!(rejects(&effects), [Reject::TableFull], "it is no peer");
}

#[test]
fn what_is_destroyed_counts_no_more_for_its_account() {
    let mut fixture = Fixture::new();
    fixture.settle_in();
    let account = fixture.account();
    assert_eq!(fixture.role.used_by_account().get(&account), Some(&4_096));
    let gone = (fixture.chunk(77).id(), Deleted { account, freed_bytes: 4_096 });
    assert!(fixture.handle(Input::ChunksDestroyed(vec![gone])).is_empty());
    assert!(fixture.role.used_by_account().is_empty());
}

#[test]
fn what_a_peer_sends_comes_to_the_store_in_the_order_in_which_it_came() {
    let mut fixture = Fixture::new();
    let (release, undo) = (fixture.release(false, &[1]), fixture.release(true, &[1]));
    let (header, id) = (fixture.chunk(1).header, fixture.chunk(1).id());
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Release(release)));
    // The first look-up takes long; nothing overtakes it.
    let effects = fixture.stream(OWNER, StreamMessage::Release(undo));
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!(fixture.role.load().account_work, 2);
    let mut effects = fixture.found(ticket, vec![Some(header)]);
    let (ticket, ids) = lookup_of(effects.split_off(1));
    let (_, is_undo, items) = handed(&effects).expect("it is proven");
    assert_eq!((is_undo, items, ids), (false, vec![(id, LEASE)], vec![id]));
    let effects = fixture.found(ticket, vec![Some(header)]);
    assert!(handed(&effects).is_some_and(|(_, is_undo, _)| is_undo), "{effects:?}");
    // Whoever left has nothing done of what waits.
    let [one, other] = [1, 2].map(|tag| fixture.release(false, &[tag]));
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Release(one)));
    assert!(fixture.stream(OWNER, StreamMessage::Release(other)).is_empty());
    fixture.handle(Input::PeerDown(OWNER));
    assert!(fixture.found(ticket, vec![Some(header)]).is_empty());
    assert_eq!(fixture.role.load().account_work, 2, "what the store has is not done");
}
