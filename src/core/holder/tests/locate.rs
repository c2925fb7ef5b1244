//! Owners that look for who holds their chunks.

use super::*;
use crate::core::codec::decode_answer;
use crate::core::message::SearchKind;
use crate::crypto::keys::ChunkSecret;
use crate::crypto::seal::AnswerSecret;

impl Fixture {
    /// A LocateRequest of the owner's for these chunks, and the key that opens the answers.
    fn locate(&mut self, tags: std::ops::Range<u32>) -> (SearchRequest, AnswerSecret) {
        self.search_as(SearchKind::Locate, tags, Self::admin)
    }

    fn admin(&self, tag: u32) -> ChunkSecret {
        self.owner.admin.chunk_secret(&self.chunk_key(tag))
    }

    fn sound(&self, tag: u32) -> Found {
        Found::Chunk { header: self.chunk(tag).header, sound: true, released: false }
    }

    /// What comes of a request where the catalogue has this.
    fn look_up(&mut self, request: &SearchRequest, found: Vec<Option<Found>>) -> Vec<Effect> {
        let message = TopicMessage::SearchRequest(request.clone());
        let (ticket, ids) = lookup_of(self.topic(STRANGER, message));
        assert_eq!(ids, request.wanted.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        let mut effects = self.handle(Input::ChunksFound { ticket, found });
        effects.extend(self.pass(150));
        assert_eq!(self.role.load().topic_work, 0);
        effects
    }

    /// Which of the wanted chunks are offered; `None` where nothing is published.
    fn offered(
        &mut self,
        (request, secret): &(SearchRequest, AnswerSecret),
        found: Vec<Option<Found>>,
    ) -> Option<u32> {
        let effects = self.look_up(request, found);
        let answer = match effects.as_slice() {
            [] => return None,
            [Effect::Publish { message: TopicMessage::Answer(answer), .. }] => answer,
            other => panic!("expected one answer, got {other:?}"),
        };
        let answer = decode_answer(&secret.open(&answer.sealed).unwrap()).unwrap();
        assert!(answer.verify(request.digest()));
        let AnswerBody::Offer(offer) = answer.body else { panic!("expected an offer") };
        assert_eq!(offer.contact.unwrap().hello, self.role.hello);
        Some(offer.holds)
    }
}

#[test]
fn the_owner_is_told_of_the_chunks_that_are_held() {
    let mut fixture = Fixture::new();
    let asked = fixture.locate(0..3);
    let found = vec![Some(fixture.sound(0)), None, Some(fixture.sound(2))];
    assert_eq!(fixture.offered(&asked, found), Some(0b101));
    let again = fixture.topic(OWNER, TopicMessage::SearchRequest(asked.0));
    assert_eq!(rejects(&again), [Reject::Replayed]);
    let asked = fixture.locate(0..2);
    assert_eq!(fixture.offered(&asked, vec![None, None]), None);
}

/// It is no replica any more: whoever fetches is told of it, whoever audits is not.
#[test]
fn what_is_damaged_or_let_go_is_not_offered() {
    for (sound, released) in [(false, false), (true, true), (false, true)] {
        let mut fixture = Fixture::new();
        let header = fixture.chunk(0).header;
        let found = || vec![Some(Found::Chunk { header, sound, released })];
        let asked = fixture.locate(0..1);
        assert_eq!(fixture.offered(&asked, found()), None);
        let asked = fixture.search(0..1);
        assert_eq!(fixture.offered(&asked, found()), Some(1));
    }
}

#[test]
fn heads_are_not_located() {
    let mut fixture = Fixture::new();
    let asked = fixture.locate(0..1);
    let read = fixture.admin(0).point();
    assert_eq!(fixture.offered(&asked, vec![Some(Found::Head { read })]), None);
}

/// Whoever may read a chunk, and whoever owns another one, learns nothing, not even that it is
/// here: and one chunk of somebody else spoils the request.
#[test]
fn nobody_but_the_owner_is_told() {
    let stranger = OwnerKeys::derive(&Master::from_bytes([60; 32]), 0);
    type Key = Box<dyn Fn(&Fixture, u32) -> ChunkSecret>;
    let wrong: [(&str, Key); 3] = [
        ("the key to read", Box::new(|fixture, tag| fixture.chunk_key(tag).read_secret())),
        ("the key of another chunk", Box::new(|fixture, tag| fixture.admin(tag + 1))),
        (
            "another owner's",
            Box::new(move |fixture, tag| match tag {
                0 => fixture.admin(0),
                _ => stranger.admin.chunk_secret(&fixture.chunk_key(tag)),
            }),
        ),
    ];
    for (name, key) in wrong {
        let mut fixture = Fixture::new();
        let (request, _) = fixture.search_as(SearchKind::Locate, 0..2, key);
        let found = vec![Some(fixture.sound(0)), Some(fixture.sound(1))];
        let effects = fixture.look_up(&request, found);
        assert_eq!(rejects(&effects), [Reject::BadProof], "{name}");
        assert_eq!(effects.len(), 1, "{name}: {effects:?}");
    }
}

#[test]
fn a_proof_of_one_kind_is_none_of_the_other() {
    let mut fixture = Fixture::new();
    for kind in SearchKind::ALL {
        let (request, _) = match kind {
            SearchKind::Retrieve => fixture.locate(0..1),
            SearchKind::Locate => fixture.search(0..1),
        };
        let found = vec![Some(fixture.sound(0))];
        let effects = fixture.look_up(&SearchRequest { kind, ..request }, found);
        assert_eq!(rejects(&effects), [Reject::BadProof], "{kind:?}");
    }
}

#[test]
fn the_rates_of_requests_bound_these_too() {
    let mut fixture = Fixture::new();
    let burst = HolderLimits::default().topic_requests_per_forwarder.burst;
    let (request, _) = fixture.locate(0..1);
    let mut let_in = 0;
    for attempt in 1..=burst + 50 {
        let message = TopicMessage::SearchRequest(SearchRequest { attempt, ..request.clone() });
        match fixture.topic(STRANGER, message).as_slice() {
            [Effect::FindChunks { .. }] => let_in += 1,
            effects => {
                let reasons = rejects(effects);
                assert!(matches!(reasons[..], [Reject::RateLimited | Reject::TableFull]));
            }
        }
    }
    assert!(let_in > 0 && let_in <= burst, "{let_in}");
}
