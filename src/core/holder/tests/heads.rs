//! Heads on their way in and out.

use super::*;
use crate::core::effect::HeadWritten;
use crate::core::message::{HeadGet, RetrieveRefusal, RetrieveReject, SearchKind, StoreHead};
use crate::crypto::ack::{AckStatement, receipt};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::crypto::seal::AnswerSecret;
use std::num::NonZeroU64;

impl Fixture {
    fn head_keys(&self) -> HeadKeys {
        HeadKeys::derive(&self.owner.head, 0, 0)
    }

    fn record(&mut self, number: u64) -> HeadRecord {
        let number = NonZeroU64::new(number).unwrap();
        self.head_keys().make(number, [0; 32], b"payload", &mut self.rng).unwrap()
    }

    /// A message that stores the record, with something wrong in what is proven.
    fn store_head(&mut self, record: &HeadRecord, change: impl FnOnce(&mut Context)) -> StoreHead {
        let (account, terms) = (self.account(), LeaseTerms::default());
        let body_hash = StoreHead::body_hash(&account, &terms, &record.encode());
        let mut context = self.store_context(body_hash);
        change(&mut context);
        let secret = self.head_keys().sign_secret();
        StoreHead {
            batch: BATCH,
            account,
            terms,
            nonce: context.nonce,
            proof: prove(&secret, &record.id(), &context, &mut self.rng),
            seed: self.random(),
            record: record.encode(),
        }
    }

    fn head_get(&mut self, request: u64, change: impl FnOnce(&mut Context)) -> HeadGet {
        let keys = self.head_keys();
        let mut context = Context {
            operation: Operation::Retrieve,
            mesh: MESH,
            verifier: Verifier::Node(self.role.me()),
            asker: Some(OWNER),
            nonce: self.random(),
            body_hash: body_hash(&[&request.to_le_bytes()]),
        };
        change(&mut context);
        let proof = prove(&keys.read_secret(), &keys.id(), &context, &mut self.rng);
        HeadGet { request, id: keys.id(), nonce: context.nonce, proof, superseded: 3 }
    }

    /// Asks, and completes the look-up.
    fn look(&mut self, get: HeadGet, found: Option<Found>) -> Vec<Effect> {
        let (ticket, ids) = lookup_of(self.stream(OWNER, StreamMessage::HeadGet(get)));
        assert_eq!(ids, [self.head_keys().id()]);
        self.handle(Input::ChunksFound { ticket, found: vec![found] })
    }

    fn held(&mut self) -> Option<Found> {
        Some(Found::Head { read: self.record(1).read_point() })
    }
}

/// The one write of a head among the effects.
fn head_write(effects: Vec<Effect>) -> (Ticket, Account, HeadRecord) {
    match <[Effect; 1]>::try_from(effects) {
        Ok([Effect::WriteHead { ticket, account, record, .. }]) => (ticket, account, record),
        other => panic!("expected one write, got {other:?}"),
    }
}

fn kept(is_fork: bool) -> Result<HeadWritten, StoreError> {
    Ok(HeadWritten { terms: LeaseTerms::default(), epoch: EPOCH, added_bytes: 2_310, is_fork })
}

#[test]
fn a_head_is_acked_when_it_is_durable_and_not_before() {
    let mut fixture = Fixture::new();
    let record = fixture.record(7);
    let head = fixture.store_head(&record, |_| {});
    let effects = fixture.stream(OWNER, StreamMessage::StoreHead(head.clone()));
    let (ticket, account, written) = head_write(effects);
    assert_eq!((account, written), (fixture.account(), record.clone()));
    let effects = fixture.handle(Input::HeadsWritten(vec![(ticket, kept(false))]));
    let (to, StreamMessage::StoreAck(ack)) = sent(effects) else { panic!("no ack") };
    let chunk = ack.chunks[0];
    assert_eq!((to, ack.batch, chunk.id), (OWNER, BATCH, record.id()));
    assert_eq!(chunk.lease.as_bytes()[..], record.hash()[..16]);
    let me = fixture.role.me();
    let pair = fixture.owner.account(&me).pair_key(&me, &fixture.role.hello.agreement).unwrap();
    assert_eq!(chunk.receipt, receipt(&pair, &head.seed, &record.id(), &record.encode()));
    let crate::core::message::StoreAck { epoch, terms, signature, .. } = ack.clone();
    let chunks = ack.chunks;
    let statement = AckStatement { mesh: MESH, account, batch: BATCH, epoch, terms, chunks };
    assert!(statement.verify(&me, &signature));
    assert_eq!(fixture.role.used_by_account().get(&account), Some(&2_310));
    assert_eq!(fixture.role.load().writing_bytes, 0);
}

#[test]
fn what_the_store_does_not_take_is_refused_and_a_fork_is_no_promise() {
    let mut fixture = Fixture::new();
    for (result, refusal) in [
        (Err(StoreError::Superseded), StoreRefusal::Superseded),
        (kept(true), StoreRefusal::Superseded),
        (Err(StoreError::TooFarAhead), StoreRefusal::Invalid),
        (Err(StoreError::TooManyHeads), StoreRefusal::TooManyHeads),
        (Err(StoreError::OtherAccount), StoreRefusal::Unwilling),
        (Err(StoreError::ReadOnly), StoreRefusal::Failed),
    ] {
        let record = fixture.record(1);
        let head = fixture.store_head(&record, |_| {});
        let (ticket, ..) = head_write(fixture.stream(OWNER, StreamMessage::StoreHead(head)));
        let effects = fixture.handle(Input::HeadsWritten(vec![(ticket, result)]));
        assert_eq!(refusals(&effects), [refusal], "{result:?}");
    }
}

#[test]
fn unsigned_heads_cost_no_disk() {
    let mut fixture = Fixture::new();
    let record = fixture.record(1);
    let nothing = |effects: Vec<Effect>, reason: Reject| {
        let disk = |effect: &Effect| !matches!(effect, Effect::Report(_) | Effect::Send { .. });
        assert!(!effects.iter().any(disk), "{effects:?}");
        assert_eq!(rejects(&effects), [reason]);
    };
    for at in [0, 1, 5, 40, 70, 100, 200, 2_200] {
        let mut head = fixture.store_head(&record, |_| {});
        let mut bytes = head.record.to_vec();
        bytes[at] ^= 1;
        head.record = bytes.into();
        let reason = if at == 0 { Reject::Malformed } else { Reject::BadProof };
        nothing(fixture.stream(OWNER, StreamMessage::StoreHead(head)), reason);
    }
    let wrong: [WrongProof; 5] = [
        ("operation", |context| context.operation = Operation::Retrieve),
        ("mesh", |context| context.mesh = MeshId::from_bytes([0; 32])),
        ("holder", |context| context.verifier = Verifier::Node(STRANGER)),
        ("asker", |context| context.asker = Some(STRANGER)),
        ("body", |context| context.body_hash = [0; 32]),
    ];
    for (_, change) in wrong {
        let head = fixture.store_head(&record, change);
        nothing(fixture.stream(OWNER, StreamMessage::StoreHead(head)), Reject::BadProof);
    }
    // Somebody else's account: the proof says for which it is kept.
    let mut head = fixture.store_head(&record, |_| {});
    head.account = Account::from_bytes([1; 32]);
    nothing(fixture.stream(OWNER, StreamMessage::StoreHead(head)), Reject::BadProof);
    let head = fixture.store_head(&record, |_| {});
    head_write(fixture.stream(OWNER, StreamMessage::StoreHead(head.clone())));
    nothing(fixture.stream(OWNER, StreamMessage::StoreHead(head)), Reject::Replayed);
    // One message that stands for thousands: in the end nothing is looked at any more.
    let bad = fixture.store_head(&record, |context| context.nonce = [0; 32]);
    let mut bad = StoreHead { nonce: [1; 32], ..bad };
    let mut counts = BTreeMap::new();
    for number in 0..2_000_u32 {
        bad.seed[..4].copy_from_slice(&number.to_le_bytes());
        let effects = fixture.stream(OWNER, StreamMessage::StoreHead(bad.clone()));
        *counts.entry(rejects(&effects)[0]).or_insert(0) += 1;
    }
    assert!(counts[&Reject::BadProof] <= 64 && counts[&Reject::RateLimited] >= 1_900);
}

#[test]
fn a_head_is_read_only_for_whoever_proves_the_right_to_it() {
    let mut fixture = Fixture::new();
    let (get, held) = (fixture.head_get(5, |_| {}), fixture.held());
    let effects = fixture.look(get.clone(), held);
    let [Effect::ReadHeads { ticket, id, superseded: 3 }] = effects[..] else {
        panic!("expected one read, got {effects:?}");
    };
    assert_eq!(id, get.id);
    let records = vec![fixture.record(9), fixture.record(8)];
    let (to, message) = sent(fixture.handle(Input::HeadsRead { ticket, result: Ok(records) }));
    let StreamMessage::HeadData(data) = message else { panic!("no data: {message:?}") };
    assert_eq!((to, data.request, data.records.len()), (OWNER, 5, 2));
    assert_eq!(fixture.role.load().stream_work, 0);
    // The same proof again, a wrong one, a chunk under that id and nothing at all look alike.
    let not_held = |effects: Vec<Effect>, request| {
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message.clone()),
            _ => None,
        });
        let reason = RetrieveRefusal::NotHeld;
        assert_eq!(sent, Some(StreamMessage::RetrieveReject(RetrieveReject { request, reason })));
    };
    not_held(fixture.look(get, held), 5);
    let get = fixture.head_get(6, |context| context.operation = Operation::Store);
    not_held(fixture.look(get, held), 6);
    let header = fixture.chunk(1).header;
    let chunk = Found::Chunk { header, sound: true, released: false };
    let get = fixture.head_get(7, |_| {});
    not_held(fixture.look(get, Some(chunk)), 7);
    let get = fixture.head_get(8, |_| {});
    not_held(fixture.look(get, None), 8);
    assert_eq!(fixture.role.load().stream_work, 0);
}

#[test]
fn a_head_is_offered_on_the_topic_and_never_counts_as_held() {
    let mut fixture = Fixture::new();
    let (keys, secret) = (fixture.head_keys(), AnswerSecret::generate(&mut fixture.rng));
    let context = Context {
        operation: Operation::Retrieve,
        mesh: MESH,
        verifier: Verifier::Anyone(secret.public()),
        asker: None,
        nonce: fixture.random(),
        body_hash: body_hash(&[&0_u32.to_le_bytes()]),
    };
    let proof = prove(&keys.read_secret(), &keys.id(), &context, &mut fixture.rng);
    let (nonce, ephemeral) = (context.nonce, secret.public());
    let (kind, wanted) = (SearchKind::Retrieve, vec![(keys.id(), proof)]);
    let request = SearchRequest { kind, ephemeral, attempt: 0, nonce, wanted };
    let held = fixture.held();
    let (ticket, _) = lookup_of(fixture.topic(STRANGER, TopicMessage::SearchRequest(request)));
    assert!(fixture.handle(Input::ChunksFound { ticket, found: vec![held] }).is_empty());
    assert!(matches!(fixture.pass(1_000)[..], [Effect::Publish { .. }]), "an offer");
    let offer = crate::core::message::Offer { id: keys.id(), sealed_bytes: 2_221 };
    let request = StoreRequest {
        ephemeral,
        attempt: 0,
        probability: u16::MAX,
        quorum: 1,
        terms: LeaseTerms::default(),
        offers: vec![offer],
        stamp: Bytes::new(),
    };
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::StoreRequest(request)));
    let (_, message) = sent(fixture.handle(Input::ChunksFound { ticket, found: vec![held] }));
    let StreamMessage::StoreClaim(claim) = message else { panic!("no claim: {message:?}") };
    assert_eq!((claim.wants, claim.holds), (1, 0));
}

#[test]
fn a_full_holder_has_room_for_heads() {
    let limits = HolderLimits { account_bytes_max: 1, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    fixture.space(|space| space.used = space.capacity);
    let (id, ephemeral) = (fixture.head_keys().id(), [7; 32]);
    let offers = vec![
        crate::core::message::Offer { id, sealed_bytes: 2_221 },
        crate::core::message::Offer { id: ChunkId::from_bytes([1; 32]), sealed_bytes: 2_000 },
    ];
    let request = StoreRequest {
        ephemeral,
        attempt: 0,
        probability: u16::MAX,
        quorum: 1,
        terms: LeaseTerms::default(),
        offers,
        stamp: Bytes::new(),
    };
    let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::StoreRequest(request)));
    let (_, message) = sent(fixture.handle(Input::ChunksFound { ticket, found: vec![None; 2] }));
    let StreamMessage::StoreClaim(claim) = message else { panic!("no claim: {message:?}") };
    assert_eq!(claim.wants, 1, "the head, and no chunk");
    let record = fixture.record(1);
    let head = fixture.store_head(&record, |_| {});
    head_write(fixture.stream(OWNER, StreamMessage::StoreHead(head)));
    // Not where nothing is written at all.
    fixture.space(|space| space.read_only = true);
    let head = fixture.store_head(&record, |_| {});
    let effects = fixture.stream(OWNER, StreamMessage::StoreHead(head));
    assert_eq!(refusals(&effects), [StoreRefusal::Failed]);
}
