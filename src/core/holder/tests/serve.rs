//! Chunks on their way out.

use super::*;
use crate::core::codec::{decode_answer, encode_stream, encode_topic};
use crate::core::message::{ChunkData, RetrieveRefusal, RetrieveReject, SearchKind};
use crate::core::types::AnswerTag;
use crate::crypto::keys::ChunkSecret;
use crate::crypto::seal::AnswerSecret;

fn decline(request: u64, reason: RetrieveRefusal) -> StreamMessage {
    StreamMessage::RetrieveReject(RetrieveReject { request, reason })
}

fn reads(effects: &[Effect]) -> Vec<Ticket> {
    let ticket = |effect: &Effect| match effect {
        Effect::ReadChunk { ticket, .. } => Some(*ticket),
        _ => None,
    };
    effects.iter().filter_map(ticket).collect()
}

fn messages(effects: &[Effect]) -> Vec<StreamMessage> {
    let message = |effect: &Effect| match effect {
        Effect::Send { message, .. } => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

impl Fixture {
    /// Asks, and completes the look-up: the chunk is held.
    fn ask(&mut self, tag: u32, from: NodeId, retrieve: Retrieve) -> Vec<Effect> {
        let (ticket, ids) = lookup_of(self.stream(from, StreamMessage::Retrieve(retrieve)));
        assert_eq!(ids, [self.chunk(tag).id()]);
        let header = self.chunk(tag).header;
        self.found(ticket, vec![Some(header)])
    }

    fn honest(&mut self, tag: u32, from: NodeId, request: u64) -> Vec<Effect> {
        let retrieve = self.retrieve(tag, from, request);
        self.ask(tag, from, retrieve)
    }

    fn read(&mut self, ticket: Ticket, tag: u32) -> Vec<Effect> {
        let chunk = self.chunk(tag);
        let result = Ok((chunk.header, chunk.sealed));
        self.handle(Input::ChunkRead { ticket, result })
    }

    /// A topic request for these chunks, and the key that opens the answers.
    pub(super) fn search(&mut self, tags: std::ops::Range<u32>) -> (SearchRequest, AnswerSecret) {
        let key = |fixture: &Self, tag| fixture.chunk_key(tag).read_secret();
        self.search_as(SearchKind::Retrieve, tags, key)
    }

    /// The same of either kind, proven with these keys.
    pub(super) fn search_as(
        &mut self,
        kind: SearchKind,
        tags: std::ops::Range<u32>,
        key: impl Fn(&Self, u32) -> ChunkSecret,
    ) -> (SearchRequest, AnswerSecret) {
        let secret = AnswerSecret::generate(&mut self.rng);
        let operation = match kind {
            SearchKind::Retrieve => Operation::Retrieve,
            SearchKind::Locate => Operation::Locate,
        };
        let context = Context {
            operation,
            mesh: MESH,
            verifier: Verifier::Anyone(secret.public()),
            asker: None,
            nonce: self.random(),
            body_hash: body_hash(&[&0u32.to_le_bytes()]),
        };
        let wanted = tags.map(|tag| {
            let (id, key) = (self.chunk(tag).id(), key(self, tag));
            (id, prove(&key, &id, &context, &mut self.rng))
        });
        let wanted = wanted.collect();
        let (ephemeral, nonce) = (secret.public(), context.nonce);
        (SearchRequest { kind, ephemeral, attempt: 0, nonce, wanted }, secret)
    }
}

#[test]
fn chunk_is_handed_to_whoever_proves_the_right_to_read() {
    let mut fixture = Fixture::new();
    let effects = fixture.honest(1, OWNER, 42);
    let ticket = reads(&effects)[0];
    let chunk = fixture.chunk(1);
    let data = ChunkData { request: 42, header: chunk.header, sealed: chunk.sealed };
    let effects = fixture.read(ticket, 1);
    assert_eq!(sent(effects), (OWNER, StreamMessage::ChunkData(data)));
    assert_eq!(fixture.role.load().reads, 0);
}

#[test]
fn unheld_chunk_and_bad_proof_look_alike() {
    let mut fixture = Fixture::new();
    let retrieve = fixture.retrieve(1, OWNER, 1);
    let effects = fixture.stream(OWNER, StreamMessage::Retrieve(retrieve));
    let (ticket, _) = lookup_of(effects);
    let unheld = fixture.found(ticket, vec![None]);
    let retrieve = fixture.retrieve_with(1, OWNER, 1, |context| context.nonce = [0; 32]);
    let unproven = fixture.ask(1, OWNER, Retrieve { nonce: [1; 32], ..retrieve });
    assert_eq!(messages(&unheld), [decline(1, RetrieveRefusal::NotHeld)]);
    assert_eq!(messages(&unheld), messages(&unproven));
    assert!(reads(&unproven).is_empty());
    assert_eq!(rejects(&unproven), [Reject::BadProof]);
}

#[test]
fn proof_for_anything_else_reads_nothing() {
    let mut fixture = Fixture::new();
    let wrong: [WrongProof; 6] = [
        ("another holder", |c| c.verifier = Verifier::Node(OWNER)),
        ("another asker", |c| c.asker = Some(STRANGER)),
        ("another operation", |c| c.operation = Operation::Store),
        ("another mesh", |c| c.mesh = MeshId::from_bytes([1; 32])),
        ("another request", |c| c.body_hash = body_hash(&[&8u64.to_le_bytes()])),
        ("anyone", |c| {
            c.verifier = Verifier::Anyone([5; 32]);
            c.asker = None;
        }),
    ];
    for (name, change) in wrong {
        let retrieve = fixture.retrieve_with(1, OWNER, 7, change);
        let effects = fixture.ask(1, OWNER, retrieve);
        assert_eq!(messages(&effects), [decline(7, RetrieveRefusal::NotHeld)], "{name}");
        assert!(reads(&effects).is_empty(), "{name}");
    }
}

#[test]
fn replayed_retrieve_reads_nothing() {
    let mut fixture = Fixture::new();
    let retrieve = fixture.retrieve(1, OWNER, 1);
    let ticket = reads(&fixture.ask(1, OWNER, retrieve.clone()))[0];
    fixture.read(ticket, 1);
    let effects = fixture.ask(1, OWNER, retrieve);
    assert_eq!(rejects(&effects), [Reject::Replayed]);
    assert!(reads(&effects).is_empty());
}

/// Its record does not hold, but the bytes may: they are checked when they are read.
#[test]
fn a_chunk_known_to_be_damaged_or_let_go_is_read_for_whoever_proves() {
    for (sound, released) in [(false, false), (true, true), (false, true)] {
        let mut fixture = Fixture::new();
        let retrieve = fixture.retrieve(1, OWNER, 9);
        let (ticket, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Retrieve(retrieve)));
        let header = fixture.chunk(1).header;
        let found = vec![Some(Found::Chunk { header, sound, released })];
        let ticket = reads(&fixture.handle(Input::ChunksFound { ticket, found }))[0];
        let (to, message) = sent(fixture.read(ticket, 1));
        assert!(to == OWNER && matches!(message, StreamMessage::ChunkData(_)), "{message:?}");
    }
}

#[test]
fn damaged_and_lost_chunks_are_said_to_be() {
    for (error, reason) in [
        (StoreError::NotFound, RetrieveRefusal::NotHeld),
        (StoreError::Damaged, RetrieveRefusal::Damaged),
        (StoreError::Busy, RetrieveRefusal::Busy),
        (StoreError::Io, RetrieveRefusal::Busy),
    ] {
        let mut fixture = Fixture::new();
        let ticket = reads(&fixture.honest(1, OWNER, 9))[0];
        let effects = fixture.handle(Input::ChunkRead { ticket, result: Err(error) });
        assert_eq!(sent(effects), (OWNER, decline(9, reason)));
    }
}

#[test]
fn reads_are_bounded_queued_and_then_refused() {
    let mut fixture = Fixture::new();
    let limits = HolderLimits::default();
    let (slots, queue) = (limits.reads_per_peer, limits.queued_reads_per_peer);
    let mut begun = Vec::new();
    for request in 0..slots + queue {
        begun.extend(reads(&fixture.honest(1, OWNER, request)));
    }
    assert_eq!(begun.len() as u64, slots);
    let load = fixture.role.load();
    assert_eq!((load.reads, load.queued_reads), (slots, queue));
    let effects = fixture.honest(1, OWNER, 999);
    assert_eq!(sent(effects), (OWNER, decline(999, RetrieveRefusal::Busy)));
    // Each finished read begins the next, in order.
    let mut served = Vec::new();
    while let Some(ticket) = begun.pop() {
        let effects = fixture.read(ticket, 1);
        served.extend(messages(&effects).into_iter().map(|message| match message {
            StreamMessage::ChunkData(data) => data.request,
            other => panic!("{other:?}"),
        }));
        begun.extend(reads(&effects));
    }
    served.sort_unstable();
    assert_eq!(served, (0..slots + queue).collect::<Vec<_>>());
    let load = fixture.role.load();
    assert_eq!((load.reads, load.queued_reads), (0, 0));
}

#[test]
fn greedy_peer_does_not_starve_another() {
    let limits = HolderLimits { reads: 1, ..HolderLimits::default() };
    let mut fixture = Fixture::with(limits);
    fixture.up(STRANGER);
    let mut reading = reads(&fixture.honest(1, OWNER, 0))[0];
    (1..60).for_each(|request| drop(fixture.honest(1, OWNER, request)));
    fixture.honest(2, STRANGER, 1_000);
    let mut until_served = 0;
    loop {
        let effects = fixture.read(reading, 1);
        if matches!(&effects[..], [Effect::Send { to: STRANGER, .. }, ..]) {
            break;
        }
        reading = reads(&effects)[0];
        until_served += 1;
    }
    assert!(until_served <= 2, "served after {until_served} others");
}

#[test]
fn unproven_retrieves_are_rate_limited_and_proven_ones_are_not() {
    let mut fixture = Fixture::new();
    let (mut answered, mut put_off) = (0, 0);
    for request in 0..500 {
        let retrieve = fixture.retrieve(1, STRANGER, request); // the owner is not that asker
        let effects = fixture.stream(OWNER, StreamMessage::Retrieve(retrieve));
        if rejects(&effects) == [Reject::RateLimited] {
            let told = messages(&effects);
            assert!(told.is_empty() || told == [decline(request, RetrieveRefusal::Busy)]);
            put_off += told.len();
            continue;
        }
        answered += 1;
        let header = fixture.chunk(1).header;
        fixture.found(lookup_of(effects).0, vec![Some(header)]);
    }
    assert_eq!(answered, HolderLimits::default().unproven_per_peer.burst);
    assert_eq!(put_off, 256, "whoever does not stop is told nothing");
    fixture.now = Time(fixture.now.0 + 1_000);
    for request in 0..300 {
        let ticket = reads(&fixture.honest(1, OWNER, request))[0];
        fixture.read(ticket, 1);
    }
}

#[test]
fn what_waits_for_a_peer_that_left_is_dropped() {
    let mut fixture = Fixture::new();
    let mut begun = Vec::new();
    for request in 0..20 {
        begun.extend(reads(&fixture.honest(1, OWNER, request)));
    }
    let retrieve = fixture.retrieve(1, OWNER, 99);
    let (lookup, _) = lookup_of(fixture.stream(OWNER, StreamMessage::Retrieve(retrieve)));
    assert!(fixture.handle(Input::PeerDown(OWNER)).is_empty());
    assert_eq!(fixture.role.load().queued_reads, 0);
    let header = fixture.chunk(1).header;
    assert!(fixture.found(lookup, vec![Some(header)]).is_empty());
    for ticket in begun {
        assert!(fixture.read(ticket, 1).is_empty());
    }
    assert_eq!(fixture.role.load(), HolderLoad { seen: 21, ..HolderLoad::default() });
}

#[test]
fn topic_request_is_answered_by_a_sealed_offer_and_nothing_else() {
    let mut fixture = Fixture::new();
    let (request, secret) = fixture.search(0..3);
    let effects = fixture.topic(STRANGER, TopicMessage::SearchRequest(request.clone()));
    let (ticket, ids) = lookup_of(effects);
    assert_eq!(ids, request.wanted.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    let found = vec![Some(fixture.chunk(0).header), None, Some(fixture.chunk(2).header)];
    assert!(fixture.found(ticket, found).is_empty(), "an answer waits for its jitter");
    let mut effects = fixture.pass(150);
    let Some(Effect::Publish { message: TopicMessage::Answer(answer), .. }) = effects.pop() else {
        panic!("expected an answer")
    };
    assert!(effects.is_empty());
    assert_eq!(answer.tag, AnswerTag::of(&request.ephemeral));
    let answer = decode_answer(&secret.open(&answer.sealed).unwrap()).unwrap();
    assert!(answer.verify(request.digest()));
    let AnswerBody::Offer(offer) = answer.body else { panic!("expected an offer") };
    assert_eq!(offer.holds, 0b101);
    assert_eq!(offer.contact.unwrap().hello, fixture.role.hello);
    let again = fixture.topic(OWNER, TopicMessage::SearchRequest(request));
    assert_eq!(rejects(&again), [Reject::Replayed]);
    assert_eq!(fixture.role.load().topic_work, 0);
}

#[test]
fn topic_request_with_a_bad_proof_gets_no_answer() {
    let mut fixture = Fixture::new();
    let changes: [fn(&mut SearchRequest); 4] = [
        |request| request.wanted[1].1[40] ^= 1,
        |request| request.ephemeral[0] ^= 1,
        |request| request.attempt = 1,
        |request| request.nonce[0] ^= 1,
    ];
    for change in changes {
        let (mut request, _) = fixture.search(0..3);
        change(&mut request);
        let effects = fixture.topic(STRANGER, TopicMessage::SearchRequest(request));
        let found = (0..3).map(|tag| Some(fixture.chunk(tag).header)).collect();
        let effects = fixture.found(lookup_of(effects).0, found);
        assert_eq!(rejects(&effects), [Reject::BadProof]);
        assert!(fixture.pass(1_000).is_empty());
        assert_eq!(fixture.role.load().topic_work, 0);
    }
}

#[test]
fn topic_request_sent_ahead_with_a_bad_proof_does_not_spoil_the_true_one() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.search(0..1);
    let found = vec![Some(fixture.chunk(0).header)];
    let mut bad = request.clone();
    bad.wanted[0].1[40] ^= 1;
    let effects = fixture.topic(STRANGER, TopicMessage::SearchRequest(bad));
    let effects = fixture.found(lookup_of(effects).0, found.clone());
    assert_eq!(rejects(&effects), [Reject::BadProof]);
    let effects = fixture.topic(OWNER, TopicMessage::SearchRequest(request));
    assert!(fixture.found(lookup_of(effects).0, found).is_empty());
    let answers = fixture.pass(150);
    assert!(matches!(answers[..], [Effect::Publish { .. }]), "{answers:?}");
}

#[test]
fn proof_for_anyone_is_good_for_no_stream() {
    let mut fixture = Fixture::new();
    let (request, _) = fixture.search(1..2);
    let (id, proof) = request.wanted[0];
    let retrieve = Retrieve { request: 0, id, nonce: request.nonce, proof };
    let effects = fixture.ask(1, OWNER, retrieve);
    assert_eq!(rejects(&effects), [Reject::BadProof]);
    assert!(reads(&effects).is_empty());
}

/// Bytes that the role says to anybody.
pub(super) fn sent_bytes(effects: &[Effect]) -> usize {
    let bytes = |effect: &Effect| match effect {
        Effect::Send { message, .. } => {
            let frame = encode_stream(message);
            frame.head.len() + frame.payload.len()
        }
        Effect::Publish { message, .. } => encode_topic(message).len(),
        _ => 0,
    };
    effects.iter().map(bytes).sum()
}

/// Store requests ask for no proof and are longer to answer than to make: what bounds them is
/// `store_requests_make_a_node_say_no_more_than_its_own_rate`.
#[test]
fn amplification_before_proof_le_1() {
    let mut fixture = Fixture::new();
    let (mut asked, mut answered) = (0, 0);
    for request in 0..500 {
        // A retrieve with a proof that somebody else made.
        let message = StreamMessage::Retrieve(fixture.retrieve(1, STRANGER, request));
        asked += encode_stream(&message).head.len();
        let mut effects = fixture.stream(OWNER, message);
        if let [Effect::FindChunks { ticket, .. }] = effects[..] {
            let header = fixture.chunk(1).header;
            effects = fixture.found(ticket, vec![Some(header)]);
        }
        answered += sent_bytes(&effects);
        // The same on the topic.
        let (mut search, _) = fixture.search(1..2);
        search.wanted[0].1[40] ^= 1;
        let message = TopicMessage::SearchRequest(search);
        asked += encode_topic(&message).len();
        let effects = fixture.topic(STRANGER, message);
        if let [Effect::FindChunks { ticket, .. }] = effects[..] {
            let header = fixture.chunk(1).header;
            answered += sent_bytes(&fixture.found(ticket, vec![Some(header)]));
        }
        answered += sent_bytes(&fixture.pass(200));
        // A chunk to store, likewise.
        let chunk = fixture.chunk(1);
        let message = fixture.store_with(&chunk, |context| context.asker = Some(STRANGER));
        let message = StreamMessage::StoreChunk(Box::new(message));
        asked += encode_stream(&message).head.len() + chunk.sealed.len();
        answered += sent_bytes(&fixture.stream(OWNER, message));
    }
    assert!(answered > 0 && answered <= asked, "{answered} bytes for {asked}");
}
