//! Volunteering for store requests.

use super::*;
use crate::core::codec::{ANSWER_BYTES_MAX, decode_answer};
use crate::core::message::{Offer, StoreClaim};
use crate::core::topic::TopicKind;
use crate::crypto::seal::AnswerSecret;

const FORWARDER: NodeId = NodeId::from_bytes([40; 32]);

impl Fixture {
    /// A request for these chunks, and the key that opens the answers.
    fn request(&mut self, tags: std::ops::Range<u32>) -> (StoreRequest, AnswerSecret) {
        let secret = AnswerSecret::generate(&mut self.rng);
        let offer = |tag| {
            let header = self.chunk(tag).header;
            Offer { id: header.id(), sealed_bytes: header.sealed_bytes }
        };
        let request = StoreRequest {
            ephemeral: secret.public(),
            attempt: 0,
            probability: u16::MAX,
            quorum: 3,
            terms: LeaseTerms::default(),
            offers: tags.map(offer).collect(),
            stamp: Bytes::new(),
        };
        (request, secret)
    }

    /// Publishes a request at the holder and lets the jitter pass; the look-up, if it volunteers.
    fn published(&mut self, request: &StoreRequest) -> Vec<Effect> {
        let message = TopicMessage::StoreRequest(request.clone());
        let effects = self.topic(FORWARDER, message);
        assert!(effects.is_empty(), "an answer waits for its jitter: {effects:?}");
        self.pass(250)
    }
}

/// The claim in the one answer there is.
fn claim_of(effects: Vec<Effect>, (request, secret): (&StoreRequest, &AnswerSecret)) -> StoreClaim {
    let Ok([Effect::Publish { topic, message: TopicMessage::Answer(answer) }]) =
        <[Effect; 1]>::try_from(effects)
    else {
        panic!("expected one answer")
    };
    assert_eq!(topic, Topic { kind: TopicKind::Answer, shard: 0 });
    assert_eq!(answer.tag, AnswerTag::of(&secret.public()));
    let answer = decode_answer(&secret.open(&answer.sealed).unwrap()).unwrap();
    assert!(answer.verify(request.digest()));
    match answer.body {
        AnswerBody::Claim(claim) => claim,
        AnswerBody::Offer(_) => panic!("expected a claim"),
    }
}

#[test]
fn topic_request_is_answered_by_a_sealed_claim_with_a_contact() {
    let mut fixture = Fixture::new();
    let (request, secret) = fixture.request(0..5);
    let (ticket, ids) = lookup_of(fixture.published(&request));
    assert_eq!(ids, request.offers.iter().map(|offer| offer.id).collect::<Vec<_>>());
    let held = fixture.chunk(2).header;
    let effects = fixture.found(ticket, vec![None, None, Some(held), None, None]);
    let claim = claim_of(effects, (&request, &secret));
    assert_eq!((claim.wants, claim.holds), (0b11111, 0b00100));
    assert_eq!(claim.ephemeral, request.ephemeral);
    let contact = claim.contact.unwrap();
    assert_eq!(contact.record, b"signed record".as_slice());
    assert_eq!(contact.hello, fixture.role.hello);
    assert_eq!(fixture.role.load().topic_work, 0);
}

#[test]
fn request_is_answered_once_however_often_it_arrives() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    lookup_of(fixture.published(&request));
    for from in [FORWARDER, OWNER, STRANGER] {
        let effects = fixture.topic(from, TopicMessage::StoreRequest(request.clone()));
        assert_eq!(rejects(&effects), [Reject::Replayed]);
    }
    let again = StoreRequest { attempt: 1, ..request };
    lookup_of(fixture.published(&again));
}

#[test]
fn request_that_somebody_sends_ahead_in_another_form_does_not_spoil_the_true_one() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..2);
    let nobody = StoreRequest { probability: 0, ..request.clone() };
    assert!(fixture.published(&nobody).is_empty());
    let others = StoreRequest { offers: request.offers[..1].to_vec(), ..request.clone() };
    lookup_of(fixture.published(&others));
    lookup_of(fixture.published(&request));
}

#[test]
fn store_requests_make_a_node_say_no_more_than_its_own_rate() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    let (mut requests, mut said, mut published) = (0, 0, 0);
    let rate = HolderLimits::default().claims;
    const SECONDS: u32 = 10;
    for _ in 0..SECONDS * 20 {
        for neighbour in 0..10 {
            let request = StoreRequest { ephemeral: fixture.random(), ..request.clone() };
            requests += 1;
            let message = TopicMessage::StoreRequest(request);
            let from = NodeId::from_bytes([100 + neighbour; 32]);
            fixture.topic(from, message);
        }
        for effect in fixture.pass(50) {
            let Effect::FindChunks { ticket, .. } = effect else { panic!("{effect:?}") };
            let effects = fixture.found(ticket, vec![None]);
            published += u32::from(matches!(effects[..], [Effect::Publish { .. }]));
            said += super::serve::sent_bytes(&effects);
        }
    }
    let claims_max = rate.burst + SECONDS * rate.per_s;
    assert_eq!(requests, 2_000);
    assert!((rate.burst..=claims_max).contains(&published), "{published} claims");
    assert!(said <= usize::try_from(claims_max).unwrap() * ANSWER_BYTES_MAX, "{said} bytes");
    // What it refuses is forgotten at once, and later it claims again.
    for effect in fixture.pass(1_000) {
        let Effect::FindChunks { ticket, .. } = effect else { panic!("{effect:?}") };
        fixture.found(ticket, vec![None]);
    }
    fixture.pass(1_000);
    assert_eq!(fixture.role.load().topic_work, 0);
    let (request, _) = fixture.request(0..1);
    let (ticket, _) = lookup_of(fixture.published(&request));
    assert!(matches!(fixture.found(ticket, vec![None])[..], [Effect::Publish { .. }]));
}

#[test]
fn no_claim_without_an_own_record() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    fixture.handle(Input::OwnRecord(Bytes::new()));
    assert!(fixture.published(&request).is_empty());
    // One that does not fit an answer is as good as none.
    fixture.handle(Input::OwnRecord(vec![0; RECORD_BYTES_MAX + 1].into()));
    let again = StoreRequest { attempt: 1, ..request };
    assert!(fixture.published(&again).is_empty());
    assert_eq!(fixture.role.load().topic_work, 0);
}

#[test]
fn a_chunk_known_to_be_damaged_or_let_go_is_wanted_anew() {
    let mut fixture = Fixture::new();
    let (request, secret) = fixture.request(0..3);
    let (ticket, _) = lookup_of(fixture.published(&request));
    let found = |tag, sound, released| {
        let header = fixture.chunk(tag).header;
        Some(Found::Chunk { header, sound, released })
    };
    let found = vec![found(0, true, false), found(1, false, false), found(2, true, true)];
    let effects = fixture.handle(Input::ChunksFound { ticket, found });
    let claim = claim_of(effects, (&request, &secret));
    assert_eq!((claim.wants, claim.holds), (0b111, 0b001));
}

#[test]
fn claim_wants_no_more_than_there_is_room_for() {
    let mut fixture = Fixture::new();
    let (request, secret) = fixture.request(0..4);
    fixture.space(|space| space.capacity = 20_000);
    let (ticket, _) = lookup_of(fixture.published(&request));
    let held = fixture.chunk(3).header;
    let claim =
        claim_of(fixture.found(ticket, vec![None, None, None, Some(held)]), (&request, &secret));
    assert_eq!((claim.wants, claim.holds), (0b1011, 0b1000));
}

#[test]
fn nobody_volunteers_who_is_full_read_only_or_asked_too_much() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    fixture.space(|space| space.read_only = true);
    assert!(fixture.published(&request).is_empty());
    fixture.space(|space| space.used = space.capacity);
    let (ticket, _) = lookup_of(fixture.published(&StoreRequest { attempt: 1, ..request.clone() }));
    assert!(fixture.found(ticket, vec![None]).is_empty());
    fixture.space(|_| {});
    let terms = LeaseTerms { renew_every_s: u32::MAX, ..request.terms };
    assert!(fixture.published(&StoreRequest { attempt: 2, terms, ..request }).is_empty());
}

#[test]
fn holder_volunteers_with_the_stated_probability() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    let mut volunteered = [0; 3];
    for attempt in 0..2_000 {
        for (at, probability) in [0, u16::MAX / 4, u16::MAX].into_iter().enumerate() {
            fixture.now = Time(fixture.now.0 + 1_000);
            let ephemeral = fixture.random();
            let request = StoreRequest { ephemeral, attempt, probability, ..request.clone() };
            for effect in fixture.published(&request) {
                if let Effect::FindChunks { ticket, .. } = effect {
                    volunteered[at] += 1;
                    fixture.found(ticket, vec![None]);
                }
            }
        }
    }
    assert_eq!((volunteered[0], volunteered[2]), (0, 2_000));
    assert!((400..600).contains(&volunteered[1]), "{volunteered:?}");
}

#[test]
fn ask_to_a_key_of_small_order_is_malformed() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..1);
    let request = StoreRequest { ephemeral: [0; 32], ..request };
    let (ticket, _) = lookup_of(fixture.published(&request));
    let effects = fixture.found(ticket, vec![None]);
    assert_eq!((effects.len(), rejects(&effects)), (1, vec![Reject::Malformed]));
}

#[test]
fn direct_request_is_answered_on_the_stream_at_once() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.request(0..2);
    let message = StreamMessage::StoreRequest(request.clone());
    let (ticket, _) = lookup_of(fixture.stream(OWNER, message));
    let held = fixture.chunk(0).header;
    let effects = fixture.found(ticket, vec![Some(held), None]);
    let expected =
        StoreClaim { contact: None, ephemeral: request.ephemeral, wants: 0b11, holds: 0b01 };
    assert_eq!(sent(effects), (OWNER, StreamMessage::StoreClaim(expected)));
    assert_eq!(fixture.role.load().stream_work, 0);
}

#[test]
fn direct_request_gets_a_no_as_well() {
    let mut fixture = Fixture::new();
    fixture.space(|space| space.read_only = true);
    let (request, _) = fixture.request(0..2);
    let effects = fixture.stream(OWNER, StreamMessage::StoreRequest(request.clone()));
    let no = StoreClaim { contact: None, ephemeral: request.ephemeral, wants: 0, holds: 0 };
    assert_eq!(sent(effects), (OWNER, StreamMessage::StoreClaim(no)));
}

#[test]
fn busy_holder_still_says_what_it_holds_to_a_peer() {
    let chunk_bytes = u64::from(Fixture::new().chunk(0).header.sealed_bytes);
    let limits = HolderLimits { writing_bytes: chunk_bytes, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    let chunk = fixture.chunk(0);
    let message = fixture.store(&chunk);
    fixture.begin_write(message);
    let (request, _) = fixture.request(0..3);
    let effects = fixture.stream(OWNER, StreamMessage::StoreRequest(request.clone()));
    let held = Some(fixture.chunk(1).header);
    let effects = fixture.found(lookup_of(effects).0, vec![None, held, None]);
    let ephemeral = request.ephemeral;
    let claim = StoreClaim { contact: None, ephemeral, wants: 0b010, holds: 0b010 };
    assert_eq!(sent(effects), (OWNER, StreamMessage::StoreClaim(claim)));
}

#[test]
fn busy_holder_does_not_volunteer() {
    let chunk_bytes = u64::from(Fixture::new().chunk(0).header.sealed_bytes);
    let limits = HolderLimits { writing_bytes: chunk_bytes, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    let chunk = fixture.chunk(0);
    let message = fixture.store(&chunk);
    let ticket = fixture.begin_write(message);
    let (request, _) = fixture.request(0..1);
    assert!(fixture.published(&request).is_empty());
    fixture.written(vec![done(ticket)]);
    lookup_of(fixture.published(&StoreRequest { attempt: 1, ..request }));
}
