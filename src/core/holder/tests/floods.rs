//! Whatever comes, and however much of it: bounded tables, no dial, no byte to a stranger.

use super::*;
use crate::core::message::Offer;
use proptest::prelude::*;

/// A request that names nobody, as anybody can make it.
fn spoofed(number: u32) -> StoreRequest {
    let mut ephemeral = [9; 32];
    ephemeral[..4].copy_from_slice(&number.to_le_bytes());
    let offer = Offer { id: ChunkId::from_bytes(ephemeral), sealed_bytes: 1 << 20 };
    StoreRequest {
        ephemeral,
        attempt: 0,
        probability: u16::MAX,
        quorum: 1,
        terms: LeaseTerms::default(),
        offers: vec![offer],
        stamp: Bytes::new(),
    }
}

fn node(number: u32) -> NodeId {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    NodeId::from_bytes(bytes)
}

/// Fails where a table is above its bound.
fn check_bounds(load: &HolderLoad, limits: &HolderLimits) {
    assert!(load.peers <= limits.peers_max, "{load:?}");
    assert!(load.writing_bytes <= limits.writing_bytes, "{load:?}");
    assert!(load.reads <= limits.reads && load.queued_reads <= limits.queued_reads, "{load:?}");
    assert!(load.topic_work <= limits.topic_work, "{load:?}");
    assert!(load.stream_work <= limits.stream_work, "{load:?}");
    assert!(load.account_work <= limits.account_work, "{load:?}");
    assert!(load.audits <= limits.audits_open, "{load:?}");
    assert!(load.proving <= limits.audits_working * limits.proving_per_audit, "{load:?}");
    assert!(load.seen <= limits.requests_seen + limits.proofs_seen, "{load:?}");
}

#[test]
fn spoofed_request_causes_zero_dials() {
    let mut fixture = Fixture::new();
    let (mut answers, mut dropped) = (0, 0);
    for number in 0..100_000 {
        let from = node(number % 50);
        let mut effects = fixture.topic(from, TopicMessage::StoreRequest(spoofed(number)));
        // 5,000 requests a second, 25 times as many as are let in.
        effects.extend(fixture.pass(u64::from(number % 5 == 0)));
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::FindChunks { ticket, .. } => {
                    effects.extend(fixture.found(ticket, vec![None]));
                }
                Effect::Publish { message, .. } => {
                    assert!(matches!(message, TopicMessage::Answer(_)));
                    answers += 1;
                }
                Effect::Report(_) => dropped += 1,
                other => panic!("a topic request caused {other:?}"),
            }
        }
        check_bounds(&fixture.role.load(), &HolderLimits::default());
    }
    assert!(answers > 0 && dropped > answers, "{answers} answers, {dropped} dropped");
}

#[test]
fn flood_through_one_neighbour_leaves_room_for_requests_through_another() {
    let mut fixture = Fixture::new();
    for number in 0..5_000 {
        fixture.topic(node(1), TopicMessage::StoreRequest(spoofed(number)));
    }
    let limits = HolderLimits::default();
    let burst = u64::from(limits.topic_requests_per_forwarder.burst);
    assert_eq!(fixture.role.load().topic_work, burst);
    let effects = fixture.topic(node(2), TopicMessage::StoreRequest(spoofed(5_000)));
    assert!(effects.is_empty(), "it was let in: {effects:?}");
    assert_eq!(fixture.role.load().topic_work, burst + 1);
}

#[test]
fn look_ups_that_never_end_are_bounded() {
    let mut fixture = Fixture::new();
    for request in 0..1_000 {
        let retrieve = fixture.retrieve(1, OWNER, request);
        fixture.stream(OWNER, StreamMessage::Retrieve(retrieve));
    }
    assert_eq!(fixture.role.load().stream_work, HolderLimits::default().stream_work_per_peer);
}

#[test]
fn peers_above_the_bound_are_not_served() {
    let mut fixture = Fixture::new();
    let peers_max = u32::try_from(HolderLimits::default().peers_max).unwrap();
    (0..peers_max + 10).for_each(|number| fixture.up(node(number)));
    assert_eq!(fixture.role.load().peers, HolderLimits::default().peers_max);
    let last = node(peers_max + 9);
    let effects = fixture.stream(last, StreamMessage::StoreRequest(spoofed(0)));
    assert_eq!((effects.len(), rejects(&effects)), (1, vec![Reject::TableFull]));
}

#[test]
fn messages_that_came_the_wrong_way_are_malformed() {
    let mut fixture = Fixture::new();
    let topic = Message::Topic(TopicMessage::StoreRequest(spoofed(1)));
    let stream = Message::Stream(StreamMessage::StoreRequest(spoofed(1)));
    for (via, message) in [(Via::Stream, topic), (Via::Topic, stream)] {
        let effects = fixture.handle(Input::Message { from: OWNER, via, message });
        assert_eq!((effects.len(), rejects(&effects)), (1, vec![Reject::Malformed]));
    }
}

/// One thing that happens to the role, by anybody, in any order.
#[derive(Debug, Clone)]
enum Step {
    Up(u8),
    Down(u8),
    Pass(u16),
    Request(u8, u32),
    Direct(u8, u32),
    Store(u8, u32, bool),
    Retrieve(u8, u32, bool),
    /// Completes the oldest open effect: well, or as badly as can be.
    Complete(bool),
    Space(u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (peer, tag) = (0..4u8, 0..6u32);
    prop_oneof![
        1 => peer.clone().prop_map(Step::Up),
        1 => peer.clone().prop_map(Step::Down),
        2 => any::<u16>().prop_map(Step::Pass),
        2 => (peer.clone(), any::<u32>()).prop_map(|(peer, number)| Step::Request(peer, number)),
        2 => (peer.clone(), any::<u32>()).prop_map(|(peer, number)| Step::Direct(peer, number)),
        4 => (peer.clone(), tag.clone(), any::<bool>())
            .prop_map(|(peer, tag, honest)| Step::Store(peer, tag, honest)),
        4 => (peer, tag, any::<bool>())
            .prop_map(|(peer, tag, honest)| Step::Retrieve(peer, tag, honest)),
        8 => any::<bool>().prop_map(Step::Complete),
        1 => (any::<u32>(), any::<bool>()).prop_map(|(used, full)| Step::Space(used, full)),
    ]
}

/// The fixture, with the effects that are still to be completed.
struct Driven {
    fixture: Fixture,
    open: VecDeque<Effect>,
    /// Chunks that the store said are durable.
    durable: BTreeSet<ChunkId>,
}

impl Driven {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::FindChunks { .. }
                | Effect::WriteChunk { .. }
                | Effect::ReadChunk { .. } => self.open.push_back(effect),
                Effect::Send { message: StreamMessage::StoreAck(ack), .. } => {
                    let durable = |chunk: &crate::crypto::ack::AckedChunk| {
                        assert!(self.durable.contains(&chunk.id), "acked and not durable");
                    };
                    ack.chunks.iter().for_each(durable);
                }
                Effect::Dial { .. } => panic!("a holder never dials"),
                _ => {}
            }
        }
    }

    fn run(&mut self, step: Step) {
        let fixture = &mut self.fixture;
        let peer = |number: u8| NodeId::from_bytes([number + 50; 32]);
        let effects = match step {
            Step::Up(number) => {
                fixture.up(peer(number));
                Vec::new()
            }
            Step::Down(number) => fixture.handle(Input::PeerDown(peer(number))),
            Step::Pass(ms) => fixture.pass(ms.into()),
            Step::Request(number, key) => {
                fixture.topic(peer(number), TopicMessage::StoreRequest(spoofed(key)))
            }
            Step::Direct(number, key) => {
                fixture.stream(peer(number), StreamMessage::StoreRequest(spoofed(key)))
            }
            Step::Store(number, tag, honest) => {
                let chunk = fixture.chunk(tag);
                let asker = if honest { peer(number) } else { STRANGER };
                let message = fixture.store_with(&chunk, |context| context.asker = Some(asker));
                fixture.stream(peer(number), StreamMessage::StoreChunk(Box::new(message)))
            }
            Step::Retrieve(number, tag, honest) => {
                let asker = if honest { peer(number) } else { STRANGER };
                let retrieve = fixture.retrieve(tag, asker, 1);
                fixture.stream(peer(number), StreamMessage::Retrieve(retrieve))
            }
            Step::Complete(well) => return self.complete(well),
            Step::Space(used, full) => {
                fixture.space(|space| {
                    space.used = used.into();
                    space.free = if full { 0 } else { space.free };
                });
                Vec::new()
            }
        };
        self.take(effects);
    }

    fn complete(&mut self, well: bool) {
        let effects = match self.open.pop_front() {
            Some(Effect::FindChunks { ticket, ids }) => {
                // Also with fewer headers than were asked for.
                let all: Vec<SealedChunk> = (0..6).map(|tag| self.fixture.chunk(tag)).collect();
                let header = |id| all.iter().find(|chunk| chunk.id() == id).map(|c| c.header);
                let found = ids.into_iter().map(header).take(if well { 64 } else { 0 });
                self.fixture.found(ticket, found.collect())
            }
            Some(Effect::WriteChunk { ticket, chunk }) if well => {
                self.durable.insert(chunk.id());
                self.fixture.written(vec![done(ticket)])
            }
            Some(Effect::WriteChunk { ticket, .. }) => {
                self.fixture.written(vec![(ticket, Err(StoreError::Io))])
            }
            Some(Effect::ReadChunk { ticket, id }) => {
                let chunk = (0..6).map(|tag| self.fixture.chunk(tag)).find(|c| c.id() == id);
                let chunk = chunk.filter(|_| well).map(|chunk| (chunk.header, chunk.sealed));
                let result = chunk.ok_or(StoreError::Damaged);
                self.fixture.handle(Input::ChunkRead { ticket, result })
            }
            _ => Vec::new(),
        };
        self.take(effects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_order_of_events_stays_within_the_bounds(steps in prop::collection::vec(step(), 1..150)) {
        let limits = HolderLimits {
            peers_max: 3,
            writing_bytes_per_peer: 1_000,
            writing_bytes: 2_000,
            reads_per_peer: 1,
            reads: 2,
            queued_reads_per_peer: 2,
            queued_reads: 3,
            stream_work_per_peer: 2,
            stream_work: 3,
            topic_work_per_forwarder: 2,
            topic_work: 3,
            requests_seen_per_forwarder: 2,
            requests_seen: 3,
            proofs_seen_per_peer: 2,
            proofs_seen: 3,
            ..HolderLimits::default()
        };
        let fixture = Fixture::with(limits.clone());
        let (open, durable) = (VecDeque::new(), BTreeSet::new());
        let mut driven = Driven { fixture, open, durable };
        for step in steps {
            driven.run(step);
            check_bounds(&driven.fixture.role.load(), &limits);
        }
        // When everything has come to its end nothing is left behind.
        while !driven.open.is_empty() {
            driven.complete(false);
        }
        let effects = driven.fixture.pass(1_000);
        driven.take(effects);
        while !driven.open.is_empty() {
            driven.complete(true);
        }
        let load = driven.fixture.role.load();
        let HolderLoad { peers, seen, accounts, .. } = load;
        let idle = HolderLoad { peers, seen, accounts, ..HolderLoad::default() };
        prop_assert_eq!(load, idle);
    }
}
