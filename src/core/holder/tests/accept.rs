//! Chunks on their way in, and their acknowledgement.

use super::*;
use crate::core::codec::encode_stream;
use crate::core::message::{StoreAck, StoreReject};
use crate::crypto::ack::{AckStatement, receipt};
use crate::crypto::keys::ChunkSecret;

fn ack_of(effects: Vec<Effect>) -> StoreAck {
    match sent(effects) {
        (OWNER, StreamMessage::StoreAck(ack)) => ack,
        other => panic!("expected an ack to the owner, got {other:?}"),
    }
}

fn acks(effects: &[Effect]) -> Vec<StoreAck> {
    let ack = |effect: &Effect| match effect {
        Effect::Send { message: StreamMessage::StoreAck(ack), .. } => Some(ack.clone()),
        _ => None,
    };
    effects.iter().filter_map(ack).collect()
}

fn statement(ack: &StoreAck) -> AckStatement {
    AckStatement {
        mesh: MESH,
        account: ack.account,
        batch: ack.batch,
        epoch: ack.epoch,
        terms: ack.terms,
        chunks: ack.chunks.clone(),
    }
}

impl Fixture {
    /// Sends a chunk that must not come in; what it is told, and why.
    fn refused(&mut self, message: StoreChunk) -> (Vec<StoreRefusal>, Vec<Reject>) {
        let effects = self.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
        assert_eq!(writes(&effects), 0, "nothing may be written");
        assert_eq!(self.role.load().writing_bytes, 0, "nothing may be left in a table");
        (refusals(&effects), rejects(&effects))
    }
}

#[test]
fn ack_waits_for_durable_write() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let seed = message.seed;
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
    let (ticket, stored) = write_of(effects);
    assert_eq!((stored.id(), &stored.sealed), (chunk.id(), &chunk.sealed));
    assert!(fixture.pass(3_600_000).is_empty(), "time is no reason to acknowledge");
    let ack = ack_of(fixture.written(vec![done(ticket)]));
    let me = fixture.role.me();
    assert!(statement(&ack).verify(&me, &ack.signature));
    assert_eq!((ack.batch, ack.epoch, ack.terms), (BATCH, EPOCH, LeaseTerms::default()));
    let account = fixture.owner.account(&me);
    let pair = account.pair_key(&me, &fixture.role.hello.agreement).unwrap();
    let acked = ack.chunks.first().unwrap();
    assert_eq!((ack.chunks.len(), acked.id, acked.lease), (1, chunk.id(), LEASE));
    assert_eq!(acked.receipt, receipt(&pair, &seed, &chunk.id(), &chunk.sealed));
    assert!(fixture.written(vec![done(ticket)]).is_empty(), "a completion counts once");
}

#[test]
fn failed_write_is_refused_and_never_acked() {
    for (error, refusal) in [
        (StoreError::Full, StoreRefusal::Full),
        (StoreError::Busy, StoreRefusal::Busy),
        (StoreError::Io, StoreRefusal::Failed),
        (StoreError::ReadOnly, StoreRefusal::Failed),
        (StoreError::OtherAccount, StoreRefusal::Unwilling),
    ] {
        let mut fixture = Fixture::new();
        let chunk = fixture.chunk(1);
        let message = fixture.store(&chunk);
        let ticket = fixture.begin_write(message);
        let effects = fixture.written(vec![(ticket, Err(error))]);
        assert_eq!(refusals(&effects), [refusal], "{error:?}");
        assert!(acks(&effects).is_empty(), "{error:?}");
        assert_eq!(fixture.role.load().writing_bytes, 0);
    }
}

#[test]
fn store_that_turned_read_only_gets_no_more_chunks() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message);
    fixture.written(vec![(ticket, Err(StoreError::ReadOnly))]);
    let message = fixture.store(&chunk);
    assert_eq!(fixture.refused(message), (vec![StoreRefusal::Failed], vec![]));
}

#[test]
fn one_group_commit_of_one_batch_is_acked_with_one_signature() {
    let mut fixture = Fixture::new();
    let mut tickets = Vec::new();
    for tag in 0..70 {
        let chunk = fixture.chunk(tag);
        let mut message = fixture.store(&chunk);
        if tag >= 66 {
            message.batch = BatchId::from_bytes([99; 16]);
        }
        tickets.push(fixture.begin_write(message));
    }
    let effects = fixture.written(tickets.into_iter().map(done).collect());
    let acks = acks(&effects);
    let counts: Vec<usize> = acks.iter().map(|ack| ack.chunks.len()).collect();
    assert_eq!(counts, [64, 2, 4], "at most 64 in one, and never two batches");
    let me = fixture.role.me();
    assert!(acks.iter().all(|ack| statement(ack).verify(&me, &ack.signature)));
}

#[test]
fn same_chunk_twice_in_one_commit_is_acked_twice() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let first = fixture.store(&chunk);
    let second = fixture.store(&chunk);
    let tickets = [fixture.begin_write(first), fixture.begin_write(second)];
    let effects = fixture.written(tickets.into_iter().map(done).collect());
    let acks = acks(&effects);
    assert_eq!(acks.iter().map(|ack| ack.chunks.len()).collect::<Vec<_>>(), [1, 1]);
    let receipts: Vec<_> = acks.iter().map(|ack| ack.chunks[0].receipt).collect();
    assert_ne!(receipts[0], receipts[1], "each receipt is over its own seed");
}

#[test]
fn store_wrong_hash_rejected() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let mut message = fixture.store(&chunk);
    let mut bytes = message.sealed.to_vec();
    bytes[50] ^= 1;
    message.sealed = bytes.into();
    let outcome = fixture.refused(message);
    assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::WrongBytes]));
}

#[test]
fn squat_same_id_cannot_displace() {
    let mut fixture = Fixture::new();
    let victim = fixture.chunk(0);
    let evil = OwnerKeys::derive(&Master::from_bytes([66; 32]), 0);
    let evil_secret = |tag: u32| {
        let ck = ChunkKey::derive(&evil.dedup, 0, 1, &tag.to_le_bytes());
        (evil.admin.chunk_secret(&ck), evil.points(&ck))
    };
    for tag in 0..1_000 {
        fixture.now = Time(fixture.now.0 + 1_000);
        let (admin, points): (ChunkSecret, _) = evil_secret(tag);
        let squat = match tag % 2 {
            // The victim's header and id, proven with another key.
            0 => SealedChunk { header: victim.header, admin, ..fixture.chunk(0) },
            // The victim's bytes under the squatter's own points: that is another id.
            _ => {
                let header = Header::new(0, points, &victim.sealed);
                SealedChunk { header, admin, ..fixture.chunk(0) }
            }
        };
        let message = fixture.store(&squat);
        let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
        if tag % 2 == 0 {
            assert_eq!(rejects(&effects), [Reject::BadProof]);
            assert_eq!(writes(&effects), 0);
        } else {
            let (ticket, stored) = write_of(effects);
            assert_ne!(stored.id(), victim.id());
            fixture.written(vec![done(ticket)]);
        }
    }
    let message = fixture.store(&victim);
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
    assert_eq!(write_of(effects).1.id(), victim.id());
}

#[test]
fn relay_proof_to_other_holder_rejected() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let mallory = NodeId::from_bytes([77; 32]);
    let wrong: [WrongProof; 6] = [
        ("made for another holder", |c| {
            c.verifier = Verifier::Node(NodeId::from_bytes([77; 32]));
        }),
        ("made by another asker", |c| c.asker = Some(NodeId::from_bytes([77; 32]))),
        ("made to retrieve", |c| c.operation = Operation::Retrieve),
        ("made to unrelease", |c| c.operation = Operation::Unrelease),
        ("made for another mesh", |c| c.mesh = MeshId::from_bytes([1; 32])),
        ("made for another body", |c| c.body_hash = [0; 32]),
    ];
    for (name, change) in wrong {
        let message = fixture.store_with(&chunk, change);
        let outcome = fixture.refused(message);
        assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::BadProof]), "{name}");
    }
    // A proof that is good for its owner is of no use to whoever saw it.
    fixture.up(mallory);
    let message = fixture.store(&chunk);
    let effects = fixture.stream(mallory, StreamMessage::StoreChunk(Box::new(message)));
    assert_eq!((writes(&effects), rejects(&effects)), (0, vec![Reject::BadProof]));
}

#[test]
fn proof_covers_account_terms_and_nonce() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let changes: [fn(&mut StoreChunk); 4] = [
        |m| m.account = Account::from_bytes([1; 32]),
        |m| m.terms.keep_after_silence_s -= 1,
        |m| m.nonce[0] ^= 1,
        |m| m.proof[40] ^= 1,
    ];
    for change in changes {
        let mut message = fixture.store(&chunk);
        change(&mut message);
        assert_eq!(fixture.refused(message).1, [Reject::BadProof]);
    }
}

#[test]
fn replayed_store_is_rejected_and_an_honest_resend_is_not() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message.clone());
    fixture.written(vec![done(ticket)]);
    let outcome = fixture.refused(message.clone());
    assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::Replayed]));
    // Not even after a new connection.
    fixture.handle(Input::PeerDown(OWNER));
    fixture.up(OWNER);
    assert_eq!(fixture.refused(message).1, [Reject::Replayed]);
    let resend = fixture.store(&chunk);
    fixture.begin_write(resend);
}

/// Well proven, every one of them: what is wrong is the shape, which the codec sees in part.
#[test]
fn a_holder_refuses_tags_of_a_wrong_shape() {
    const P: u64 = (1 << 61) - 1;
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let with = |fixture: &mut Fixture, tags: &[u8]| {
        let (account, terms) = (fixture.account(), LeaseTerms::default());
        let body_hash = StoreChunk::body_hash(&account, &terms, tags);
        let message = fixture.store_with(&chunk, |context| context.body_hash = body_hash);
        StoreChunk { tags: Bytes::copy_from_slice(tags), ..message }
    };
    assert_eq!(chunk.tags.len(), 16);
    let elements = |first: u64, second: u64| [first.to_le_bytes(), second.to_le_bytes()].concat();
    let twice = chunk.tags.repeat(2);
    for bad in [&[][..], &chunk.tags[1..], &twice, &elements(P, 0), &elements(0, u64::MAX)] {
        let message = with(&mut fixture, bad);
        let outcome = fixture.refused(message);
        assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::Malformed]), "{bad:?}");
    }
    // They need not be right: that is for the owner to tell.
    let message = with(&mut fixture, &elements(P - 1, 0));
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
    assert_eq!(write_of(effects).1.tags, elements(P - 1, 0));
}

#[test]
fn tags_that_the_owner_did_not_prove_are_not_taken() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = StoreChunk { tags: vec![1; 16].into(), ..fixture.store(&chunk) };
    let outcome = fixture.refused(message);
    assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::BadProof]));
}

#[test]
fn account_of_small_order_is_rejected() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let account = Account::from_bytes([0; 32]);
    let body_hash = StoreChunk::body_hash(&account, &LeaseTerms::default(), &chunk.tags);
    let message = fixture.store_with(&chunk, |context| context.body_hash = body_hash);
    let outcome = fixture.refused(StoreChunk { account, ..message });
    assert_eq!(outcome, (vec![StoreRefusal::Invalid], vec![Reject::Malformed]));
}

#[test]
fn full_holder_refuses_what_is_new_and_acks_what_it_holds() {
    let mut fixture = Fixture::new();
    fixture.space(|space| space.used = space.capacity);
    let chunk = fixture.chunk(1);
    for held in [false, true] {
        let message = fixture.store(&chunk);
        let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
        let (ticket, ids) = lookup_of(effects);
        assert_eq!(ids, [chunk.id()]);
        let effects = fixture.found(ticket, vec![held.then_some(chunk.header)]);
        if held {
            let ticket = write_of(effects).0;
            assert_eq!(ack_of(fixture.written(vec![done(ticket)])).chunks.len(), 1);
        } else {
            assert_eq!(refusals(&effects), [StoreRefusal::Full]);
            assert!(rejects(&effects).is_empty(), "a full disk is nobody's misbehaviour");
        }
    }
    assert_eq!(fixture.role.load().writing_bytes, 0);
}

#[test]
fn disk_without_free_space_is_full_whatever_was_granted() {
    let mut fixture = Fixture::new();
    fixture.space(|space| space.free = 4_096);
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
    let (ticket, _) = lookup_of(effects);
    assert_eq!(refusals(&fixture.found(ticket, vec![None])), [StoreRefusal::Full]);
}

#[test]
fn read_only_store_takes_no_chunk() {
    let mut fixture = Fixture::new();
    fixture.space(|space| space.read_only = true);
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    assert_eq!(fixture.refused(message), (vec![StoreRefusal::Failed], vec![]));
}

#[test]
fn account_above_its_quota_is_told_so_and_keeps_what_it_has() {
    let limits = HolderLimits { account_bytes_max: 20_000, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    for tag in 0..2 {
        let chunk = fixture.chunk(tag);
        let message = fixture.store(&chunk);
        let ticket = fixture.begin_write(message);
        let added_bytes = 8_192;
        let written = written(added_bytes);
        fixture.written(vec![(ticket, Ok(written))]);
    }
    let chunk = fixture.chunk(3);
    for held in [None, Some(chunk.header)] {
        let message = fixture.store(&chunk);
        let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
        let (ticket, _) = lookup_of(effects);
        let effects = fixture.found(ticket, vec![held]);
        match held {
            None => assert_eq!(refusals(&effects), [StoreRefusal::OverQuota]),
            Some(_) => assert_eq!(writes(&effects), 1, "a renewal takes no space"),
        }
    }
}

#[test]
fn account_whose_chunk_was_deleted_may_bring_another() {
    let limits = HolderLimits { account_bytes_max: 20_000, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    for tag in 0..2 {
        let message = fixture.store(&fixture.chunk(tag));
        let ticket = fixture.begin_write(message);
        fixture.written(vec![(ticket, Ok(written(8_192)))]);
    }
    let (ticket, account) = (Ticket(99), fixture.account());
    fixture.handle(Input::ChunkDeleted { ticket, result: Err(StoreError::NotFound) });
    let message = fixture.store(&fixture.chunk(2));
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
    let (lookup, _) = lookup_of(effects);
    assert_eq!(refusals(&fixture.found(lookup, vec![None])), [StoreRefusal::OverQuota]);
    let deleted = Deleted { account, freed_bytes: 8_192 };
    assert!(fixture.handle(Input::ChunkDeleted { ticket, result: Ok(deleted) }).is_empty());
    let message = fixture.store(&fixture.chunk(2));
    fixture.begin_write(message);
}

#[test]
fn terms_above_the_policy_are_refused_and_the_release_delay_only_grows() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let store = |fixture: &mut Fixture, terms: LeaseTerms| {
        let body_hash = StoreChunk::body_hash(&fixture.account(), &terms, &chunk.tags);
        let message = fixture.store_with(&chunk, |context| context.body_hash = body_hash);
        let message = Box::new(StoreChunk { terms, ..message });
        fixture.stream(OWNER, StreamMessage::StoreChunk(message))
    };
    let asked = LeaseTerms::default();
    let greedy = LeaseTerms { keep_after_silence_s: u32::MAX, ..asked };
    let effects = store(&mut fixture, greedy);
    assert_eq!((writes(&effects), refusals(&effects)), (0, vec![StoreRefusal::Unwilling]));
    let hasty = LeaseTerms { release_delay_s: 1, ..asked };
    let (ticket, stored) = write_of(store(&mut fixture, hasty));
    assert_eq!(stored.terms, asked);
    assert_eq!(ack_of(fixture.written(vec![done(ticket)])).terms, asked);
}

#[test]
fn bytes_on_their_way_to_the_disk_are_bounded_by_peer_and_in_all() {
    let chunk_bytes = u64::from(Fixture::new().chunk(0).header.sealed_bytes);
    let limits = HolderLimits {
        writing_bytes_per_peer: 3 * chunk_bytes,
        writing_bytes: 3 * chunk_bytes,
        ..HolderLimits::default()
    };
    let mut fixture = Fixture::with(limits);
    let mut tickets = Vec::new();
    for tag in 0..3 {
        let chunk = fixture.chunk(tag);
        let message = fixture.store(&chunk);
        tickets.push(fixture.begin_write(message));
    }
    let chunk = fixture.chunk(3);
    let fourth = fixture.store(&chunk);
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(fourth.clone())));
    assert_eq!((writes(&effects), refusals(&effects)), (0, vec![StoreRefusal::Busy]));
    // A new connection does not empty the disk's queue.
    fixture.handle(Input::PeerDown(OWNER));
    fixture.up(OWNER);
    let effects = fixture.stream(OWNER, StreamMessage::StoreChunk(Box::new(fourth.clone())));
    assert_eq!(refusals(&effects), [StoreRefusal::Busy]);
    fixture.written(vec![done(tickets[0])]);
    fixture.begin_write(fourth);
}

#[test]
fn unproven_chunks_are_rate_limited_and_proven_ones_are_not() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let bad = fixture.store_with(&chunk, |context| context.mesh = MeshId::from_bytes([1; 32]));
    let mut answers = BTreeMap::new();
    for _ in 0..500 {
        *answers.entry(fixture.refused(bad.clone())).or_insert(0) += 1;
    }
    let HolderLimits { unproven_per_peer, put_off_per_peer, .. } = HolderLimits::default();
    let (checked, put_off) = (unproven_per_peer.burst, put_off_per_peer.burst);
    let expected = [
        ((vec![StoreRefusal::Invalid], vec![Reject::BadProof]), checked),
        ((vec![StoreRefusal::Busy], vec![Reject::RateLimited]), put_off),
        // Whoever does not stop is told nothing.
        ((vec![], vec![Reject::RateLimited]), 500 - checked - put_off),
    ];
    assert_eq!(answers, BTreeMap::from(expected));
    fixture.now = Time(fixture.now.0 + 1_000);
    for _ in 0..300 {
        let message = fixture.store(&chunk);
        let ticket = fixture.begin_write(message);
        fixture.written(vec![done(ticket)]);
    }
}

#[test]
fn refusal_is_shorter_than_the_shortest_chunk() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = StoreChunk { sealed: Bytes::new(), ..fixture.store(&chunk) };
    let (batch, id) = (message.batch, chunk.id());
    let refusal = StoreReject { batch, id, reason: StoreRefusal::Busy };
    let length = |message: StreamMessage| {
        let frame = encode_stream(&message);
        frame.head.len() + frame.payload.len()
    };
    let asked = length(StreamMessage::StoreChunk(Box::new(message)));
    assert!(length(StreamMessage::StoreReject(refusal)) < asked / 4);
}

#[test]
fn nothing_is_taken_from_a_peer_that_is_not_up() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let effects = fixture.stream(STRANGER, StreamMessage::StoreChunk(Box::new(message)));
    assert_eq!((effects.len(), rejects(&effects)), (1, vec![Reject::TableFull]));
}

#[test]
fn ack_to_a_peer_that_left_is_dropped() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message);
    fixture.handle(Input::PeerDown(OWNER));
    assert!(fixture.written(vec![done(ticket)]).is_empty());
    assert_eq!(fixture.role.load().writing_bytes, 0);
}

#[test]
fn ack_promises_what_the_store_keeps_and_not_what_was_asked_last() {
    let mut fixture = Fixture::new();
    let chunk = fixture.chunk(1);
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message);
    let terms = LeaseTerms { renew_every_s: 1, ..LeaseTerms::default() };
    let kept = Written { terms, ..written(0) };
    let (_, StreamMessage::StoreAck(ack)) = sent(fixture.written(vec![(ticket, Ok(kept))])) else {
        panic!("expected an ack")
    };
    assert_eq!(ack.terms, terms);
}
