//! A world of one owner role and fake holders in virtual time, and the tests that run in it.

mod account;
mod acks;
mod chaos;
mod claims;
mod fake;
mod flow;
mod locate;
mod notice;
mod outbox;
mod placement;
mod retrieve;
mod search;
mod shards;
mod standing;
mod store;

use super::*;
use crate::core::codec::{decode_stream, decode_topic, encode_answer, encode_stream, encode_topic};
use crate::core::effect::{Event, Found, Peer, Reach};
use crate::core::message::{
    Answer, AnswerBody, ChunkData, Contact, Hello, Retrieve, RetrieveOffer, RetrieveRefusal,
    RetrieveReject, SearchRequest, SignedAnswer, StoreAck, StoreChunk, StoreClaim, StoreRefusal,
    StoreReject, StoreRequest,
};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{
    AnswerTag, ChunkId, LeaseNonce, Locality, RequestDigest, StoreEpoch, Ticket,
};
use crate::crypto::ack::{AckStatement, AckedChunk, receipt};
use crate::crypto::header::Header;
use crate::crypto::keys::{ChunkKey, Master, NodeKeys};
use crate::crypto::ownership::{Context, Operation, Verifier, body_hash, verify_header};
use crate::crypto::seal::SealedChunk;
use crate::crypto::seal::seal_to;
use bytes::Bytes;
use fake::{Fake, Manners, claim};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};

const LATENCY_MS: u64 = 5;

/// The world.
struct World {
    role: OwnerRole,
    owner: NodeKeys,
    keys: Arc<OwnerKeys>,
    mesh: MeshId,
    sharding: Sharding,
    now: Time,
    fakes: BTreeMap<NodeId, Fake>,
    up: BTreeSet<NodeId>,
    events: Vec<(Time, OwnerEvent)>,
    rejects: Vec<(NodeId, Reject)>,
    dials: Vec<(Time, NodeId)>,
    published: Vec<(Time, TopicMessage)>,
    /// Stream messages of the owner, in order.
    sent: Vec<(Time, NodeId, StreamMessage)>,
    coming: BTreeMap<(Time, u64), Input>,
    count: u64,
    rng: ChaCha20Rng,
    chunks: u64,
    /// Who truly acknowledged what: by a true ack, or as the catalogue says and it still holds.
    truly_acked: BTreeSet<(NodeId, ChunkId)>,
    /// Gossip reaches nobody.
    deaf_mesh: bool,
}

impl World {
    /// `honest` holders, all connected, in one LAN.
    fn new(honest: usize) -> Self {
        Self::with_limits(honest, OwnerLimits::default())
    }

    fn with_limits(honest: usize, limits: OwnerLimits) -> Self {
        Self::build(honest, limits, Sharding::WHOLE, [3; 32])
    }

    fn build(honest: usize, limits: OwnerLimits, sharding: Sharding, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let owner = NodeKeys::generate(&mut rng);
        let keys = Arc::new(OwnerKeys::derive(&Master::generate(&mut rng), 0));
        let mesh = MeshId::from_bytes([9; 32]);
        let role = OwnerRole::new(OwnerConfig {
            keys: Arc::clone(&keys),
            node: owner.node_id(),
            mesh,
            seed,
            limits,
            sharding,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let mut world = Self {
            role,
            owner,
            keys,
            mesh,
            sharding,
            now: Time(1_000),
            fakes: BTreeMap::new(),
            up: BTreeSet::new(),
            events: Vec::new(),
            rejects: Vec::new(),
            dials: Vec::new(),
            published: Vec::new(),
            sent: Vec::new(),
            coming: BTreeMap::new(),
            count: 0,
            rng,
            chunks: 0,
            truly_acked: BTreeSet::new(),
            deaf_mesh: false,
        };
        for _ in 0..honest {
            let node = world.add(Manners::Honest);
            world.connect(node);
        }
        world
    }

    /// One more holder, not connected.
    fn add(&mut self, manners: Manners) -> NodeId {
        let keys = NodeKeys::generate(&mut self.rng);
        let node = keys.node_id();
        let fake = Fake {
            keys,
            manners,
            reach: Reach::Local,
            site: "",
            mesh: self.mesh,
            reachable: true,
            epoch: StoreEpoch::from_bytes([1; 16]),
            held: BTreeMap::new(),
            received: Vec::new(),
            acks: Vec::new(),
            requests: Vec::new(),
        };
        self.fakes.insert(node, fake);
        node
    }

    fn add_connected(&mut self, manners: Manners) -> NodeId {
        let node = self.add(manners);
        self.connect(node);
        node
    }

    fn fake(&mut self, node: NodeId) -> &mut Fake {
        self.fakes.get_mut(&node).unwrap()
    }

    fn connect(&mut self, node: NodeId) {
        let fake = &self.fakes[&node];
        let peer = Peer { node, hello: fake.hello(), reach: fake.reach };
        self.up.insert(node);
        self.input(Input::PeerUp(peer));
    }

    /// The node comes back with an empty store.
    fn lose_store(&mut self, node: NodeId) {
        self.disconnect(node);
        let fake = self.fake(node);
        fake.held.clear();
        let [first, ..] = *fake.epoch.as_bytes();
        fake.epoch = StoreEpoch::from_bytes([first + 1; 16]);
        self.truly_acked.retain(|(holder, _)| *holder != node);
        self.connect(node);
    }

    fn disconnect(&mut self, node: NodeId) {
        self.up.remove(&node);
        self.input(Input::PeerDown(node));
    }

    /// A fresh chunk of about `bytes` bytes.
    fn chunk(&mut self, bytes: usize) -> (SealedChunk, ChunkKey) {
        self.chunk_at(bytes, Locality(0))
    }

    fn chunk_at(&mut self, bytes: usize, locality: Locality) -> (SealedChunk, ChunkKey) {
        self.chunks += 1;
        let mut plaintext = self.chunks.to_le_bytes().to_vec();
        plaintext.resize(bytes.max(8), 0);
        let ck = ChunkKey::derive(&self.keys.dedup, 0, 1, &plaintext);
        (SealedChunk::new(&self.keys, &ck, locality, &plaintext), ck)
    }

    fn store(&mut self, ticket: u64, chunk: SealedChunk, replicas: u8) {
        let deadline = self.now.after(Duration::from_secs(60));
        self.command(OwnerCommand::Store(StoreJob {
            ticket: Ticket(ticket),
            load: chunk.into(),
            replicas,
            held_by: Vec::new(),
            without: Vec::new(),
            beside: Vec::new(),
            deadline,
        }));
    }

    fn command(&mut self, command: OwnerCommand) {
        self.input(Input::Command(command));
    }

    /// Hands an input in now and carries the effects out.
    fn input(&mut self, input: Input) {
        self.note_truth(&input);
        self.role.handle(self.now, input);
        while let Some(effect) = self.role.poll_effect() {
            self.carry_out(effect);
        }
    }

    fn stream(&mut self, from: NodeId, message: StreamMessage) {
        let message = Message::Stream(message);
        self.input(Input::Message { from, via: Via::Stream, message });
    }

    fn later(&mut self, millis: u64, input: Input) {
        self.count += 1;
        self.coming.insert((self.now.after(Duration::from_millis(millis)), self.count), input);
    }

    /// Lets time pass.
    fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`, at most `limit`; panics where it does not come.
    fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now.after(limit);
        while !done(self) {
            assert!(self.step(end), "did not happen: {:#?}", self.events);
        }
    }

    fn step(&mut self, end: Time) -> bool {
        let message = self.coming.keys().next().map(|(at, _)| *at);
        let alarm = self.role.next_timeout();
        let Some(at) = message.into_iter().chain(alarm).min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(at);
        if message.is_some_and(|message| message <= self.now) {
            if let Some((_, input)) = self.coming.pop_first() {
                let away = matches!(&input, Input::Message { from, via: Via::Stream, .. }
                    if !self.up.contains(from));
                if let Input::PeerUp(peer) = &input {
                    self.up.insert(peer.node);
                }
                if !away {
                    self.input(input);
                }
            }
        } else {
            self.input(Input::Tick);
        }
        true
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Publish { topic, message } => {
                assert_eq!(decode_topic(&encode_topic(&message)).as_ref(), Ok(&message));
                self.published.push((self.now, message.clone()));
                if !self.deaf_mesh {
                    self.gossip(topic, &message);
                }
            }
            Effect::Send { to, message } => {
                assert_eq!(decode_stream(encode_stream(&message)).as_ref(), Ok(&message));
                self.sent.push((self.now, to, message.clone()));
                if self.up.contains(&to) {
                    self.deliver(to, message);
                }
            }
            Effect::Dial { node, .. } => {
                self.dials.push((self.now, node));
                match self.fakes.get(&node).filter(|fake| fake.reachable) {
                    Some(fake) => {
                        let peer = Peer { node, hello: fake.hello(), reach: fake.reach };
                        self.later(20, Input::PeerUp(peer));
                    }
                    None => self.later(20, Input::PeerDown(node)),
                }
            }
            Effect::Report(Event::Owner(event)) => {
                self.check_truth(&event);
                self.events.push((self.now, event));
            }
            Effect::Report(Event::Rejected { from, reason }) => self.rejects.push((from, reason)),
            other => panic!("not an effect of an owner: {other:?}"),
        }
    }

    fn note_truth(&mut self, input: &Input) {
        match input {
            Input::Command(OwnerCommand::Store(job)) => {
                let id = job.load.id();
                let holds = |node: &&NodeId| {
                    self.fakes.get(*node).is_some_and(|fake| fake.held.contains_key(&id))
                };
                let still = job.held_by.iter().filter(holds).map(|node| (*node, id));
                self.truly_acked.extend(still);
            }
            Input::Message {
                from,
                via: Via::Stream,
                message: Message::Stream(StreamMessage::StoreAck(ack)),
            } => {
                let Some(fake) = self.fakes.get(from) else { return };
                for acked in &ack.chunks {
                    if fake.received.iter().any(|chunk| fake.is_true(self.mesh, chunk, ack, acked))
                    {
                        self.truly_acked.insert((*from, acked.id));
                    }
                }
            }
            _ => {}
        }
    }

    /// Status is never ahead of truth: whoever is said to hold a chunk has said so itself.
    fn check_truth(&self, event: &OwnerEvent) {
        let true_ack = |node: &NodeId, id: &ChunkId| self.truly_acked.contains(&(*node, *id));
        match event {
            OwnerEvent::Acked { node, id, .. } => assert!(true_ack(node, id), "{event:?}"),
            OwnerEvent::Stored { holders, id, .. } => {
                assert!(holders.iter().all(|node| true_ack(node, id)), "{event:?}");
            }
            _ => {}
        }
    }

    fn gossip(&mut self, topic: Topic, message: &TopicMessage) {
        let nodes: Vec<NodeId> = self.fakes.keys().copied().collect();
        for node in nodes {
            let fake = &self.fakes[&node];
            if fake.manners == Manners::Deaf {
                continue;
            }
            let (asked, body) = match message {
                TopicMessage::StoreRequest(request) => {
                    assert_eq!(topic.kind, TopicKind::Store);
                    let mut claim = fake.claim(request);
                    claim.contact = Some(fake.contact());
                    (Asked::from(request), AnswerBody::Claim(claim))
                }
                TopicMessage::SearchRequest(request) => {
                    assert_eq!(topic.kind, request.kind.topic_kind());
                    match self.offer(fake, request) {
                        Some(offer) => (Asked::from(request), AnswerBody::Offer(offer)),
                        None => continue,
                    }
                }
                TopicMessage::Answer(_) => continue,
            };
            let answer = self.seal(asked, &body);
            self.check_heard(&answer);
            // Jitter by the node's id: the same in every run.
            let jitter = LATENCY_MS + u64::from(node.as_bytes()[0]) % 100;
            self.later(jitter, answered(node, answer));
        }
    }

    /// Answers are always heard: the asker is at home where they are published.
    fn check_heard(&self, answer: &Answer) {
        let topic = Topic::answer(&answer.tag, self.sharding.bits());
        assert!(self.sharding.subscriptions(&self.owner.node_id()).contains(&topic));
    }

    /// Seals an answer, signed by the node that it names.
    fn seal(&mut self, asked: impl Into<Asked>, body: &AnswerBody) -> Answer {
        let asked = asked.into();
        let node = body.contact().map(|contact| contact.hello.node);
        let keys = node.and_then(|node| self.fakes.get(&node)).map(|fake| &fake.keys);
        let keys = keys.unwrap_or(&self.owner);
        let answer = SignedAnswer::new(body.clone(), asked.digest, keys);
        self.seal_signed(asked, &answer)
    }

    /// Seals an answer as it is.
    fn seal_signed(&mut self, asked: impl Into<Asked>, answer: &SignedAnswer) -> Answer {
        let Asked { ephemeral, .. } = asked.into();
        let sealed = seal_to(&ephemeral, &encode_answer(answer), &mut self.rng).unwrap();
        Answer { tag: AnswerTag::of(&ephemeral), sealed: sealed.into() }
    }

    fn offer(&self, fake: &Fake, request: &SearchRequest) -> Option<RetrieveOffer> {
        let mut holds = 0;
        for (at, (id, proof)) in request.wanted.iter().enumerate() {
            let Some((header, _)) = fake.held.get(id) else { continue };
            let context = Context {
                operation: request.kind.operation(),
                mesh: self.mesh,
                verifier: Verifier::Anyone(request.ephemeral),
                asker: None,
                nonce: request.nonce,
                body_hash: body_hash(&[&request.attempt.to_le_bytes()]),
            };
            assert!(verify_header(header, &context, proof));
            holds |= 1 << at;
        }
        (holds != 0).then(|| RetrieveOffer { contact: Some(fake.contact()), holds })
    }

    fn deliver(&mut self, to: NodeId, message: StreamMessage) {
        let (mesh, owner) = (self.mesh, self.owner.node_id());
        let Some(fake) = self.fakes.get_mut(&to) else { return };
        let answer = match message {
            _ if fake.manners == Manners::Deaf => None,
            StreamMessage::StoreRequest(request) => {
                Some(StreamMessage::StoreClaim(fake.claim(&request)))
            }
            StreamMessage::StoreChunk(chunk) => fake.on_chunk(mesh, owner, *chunk),
            StreamMessage::Retrieve(retrieve) => fake.on_retrieve(mesh, owner, retrieve),
            // Answered by the test.
            StreamMessage::AccountRequest(_) | StreamMessage::Release(_) => None,
            StreamMessage::StandingAnswer(_) => None,
            other => panic!("not for a holder: {other:?}"),
        };
        if let Some(message) = answer {
            let message = Message::Stream(message);
            self.later(2 * LATENCY_MS, Input::Message { from: to, via: Via::Stream, message });
        }
    }

    fn stored(&self, ticket: u64) -> Option<&Vec<NodeId>> {
        self.events.iter().find_map(|(_, event)| match event {
            OwnerEvent::Stored { ticket: of, holders, .. } if of.0 == ticket => Some(holders),
            _ => None,
        })
    }

    fn acked(&self, ticket: u64) -> Vec<(NodeId, u8)> {
        let acked = |event: &OwnerEvent| match event {
            OwnerEvent::Acked { ticket: of, node, replicas, .. } if of.0 == ticket => {
                Some((*node, *replicas))
            }
            _ => None,
        };
        self.events.iter().filter_map(|(_, event)| acked(event)).collect()
    }

    fn short(&self, ticket: u64) -> Option<(u8, Shortage)> {
        self.events.iter().find_map(|(_, event)| match event {
            OwnerEvent::Short { ticket: of, replicas, why, .. } if of.0 == ticket => {
                Some((*replicas, *why))
            }
            _ => None,
        })
    }

    /// To whom this chunk was sent, in order.
    fn receivers(&self, id: &ChunkId) -> Vec<NodeId> {
        let chunk = |message: &StreamMessage| match message {
            StreamMessage::StoreChunk(chunk) => chunk.header.id() == *id,
            _ => false,
        };
        self.sent.iter().filter(|(_, _, message)| chunk(message)).map(|(_, to, _)| *to).collect()
    }

    fn requests_published(&self) -> usize {
        let is_request = |message: &TopicMessage| matches!(message, TopicMessage::StoreRequest(_));
        self.published.iter().filter(|(_, message)| is_request(message)).count()
    }
}

/// What an answer answers.
#[derive(Debug, Clone, Copy)]
struct Asked {
    ephemeral: [u8; 32],
    digest: RequestDigest,
}

impl From<&StoreRequest> for Asked {
    fn from(request: &StoreRequest) -> Self {
        Self { ephemeral: request.ephemeral, digest: request.digest() }
    }
}

impl From<&SearchRequest> for Asked {
    fn from(request: &SearchRequest) -> Self {
        Self { ephemeral: request.ephemeral, digest: request.digest() }
    }
}

/// An answer as it comes from the mesh.
fn answered(forwarder: NodeId, answer: Answer) -> Input {
    let message = Message::Topic(TopicMessage::Answer(answer));
    Input::Message { from: forwarder, via: Via::Topic, message }
}
