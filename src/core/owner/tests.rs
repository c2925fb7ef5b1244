//! A world of one owner role and fake holders in virtual time, and the tests that run in it.

mod acks;
mod chaos;
mod flow;
mod retrieve;
mod store;

use super::*;
use crate::core::codec::{encode_answer, encode_topic};
use crate::core::effect::{Event, Peer, Reach};
use crate::core::message::{
    Answer, AnswerBody, ChunkData, Contact, Hello, Retrieve, RetrieveOffer, RetrieveRefusal,
    RetrieveReject, RetrieveRequest, StoreAck, StoreChunk, StoreClaim, StoreRefusal, StoreReject,
    StoreRequest,
};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::AnswerTag;
use crate::crypto::ack::{AckStatement, AckedChunk, receipt};
use crate::crypto::keys::{ChunkKey, Master, NodeKeys};
use crate::crypto::ownership::{Context, Operation, Verifier, body_hash, verify_header};
use crate::crypto::seal::seal_to;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};

/// How a fake holder treats what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// Does all that it should.
    Honest,
    /// Claims, and then says nothing.
    Silent,
    /// Says nothing at all.
    Deaf,
    /// Claims, and refuses chunks.
    Refuses(StoreRefusal),
    /// Signs its acks with another key.
    Forges,
    /// Cites a receipt of other bytes.
    WrongReceipt,
    /// Promises less than was asked.
    ShortLease,
    /// Serves other bytes than asked for.
    WrongBytes,
    /// Does not hand chunks out.
    Withholds(RetrieveRefusal),
}

/// A fake holder.
pub(super) struct Fake {
    pub(super) keys: NodeKeys,
    pub(super) manners: Manners,
    pub(super) reach: Reach,
    pub(super) site: &'static str,
    pub(super) mesh: MeshId,
    /// Answers a dial.
    pub(super) reachable: bool,
    pub(super) held: BTreeMap<ChunkId, (Header, Bytes)>,
    /// Chunks received, good or not, in order.
    pub(super) received: Vec<StoreChunk>,
    pub(super) acks: Vec<StoreAck>,
    pub(super) requests: Vec<Retrieve>,
}

impl Fake {
    fn hello(&self) -> Hello {
        Hello {
            node: self.keys.node_id(),
            mesh: self.mesh,
            agreement: self.keys.agreement_key(),
            agreement_signature: self.keys.sign_agreement(),
            site: self.site.into(),
            operator: String::new(),
        }
    }

    fn contact(&self) -> Contact {
        Contact { record: Bytes::from_static(b"a signed peer record"), hello: self.hello() }
    }
}

pub(super) const LATENCY_MS: u64 = 5;

/// The world.
pub(super) struct World {
    pub(super) role: OwnerRole,
    pub(super) owner: NodeKeys,
    pub(super) keys: Arc<OwnerKeys>,
    pub(super) mesh: MeshId,
    pub(super) now: Time,
    pub(super) fakes: BTreeMap<NodeId, Fake>,
    pub(super) up: BTreeSet<NodeId>,
    pub(super) events: Vec<(Time, OwnerEvent)>,
    pub(super) rejects: Vec<(NodeId, Reject)>,
    pub(super) dials: Vec<(Time, NodeId)>,
    pub(super) published: Vec<(Time, TopicMessage)>,
    /// Stream messages of the owner, in order.
    pub(super) sent: Vec<(Time, NodeId, StreamMessage)>,
    coming: BTreeMap<(Time, u64), Input>,
    count: u64,
    rng: ChaCha20Rng,
    chunks: u64,
    /// Who truly acknowledged what: by a true ack, or as the catalogue says and it still holds.
    truly_acked: BTreeSet<(NodeId, ChunkId)>,
    /// Gossip reaches nobody.
    pub(super) deaf_mesh: bool,
}

impl World {
    /// `honest` holders, all connected, in one LAN.
    pub(super) fn new(honest: usize) -> Self {
        Self::with_limits(honest, OwnerLimits::default())
    }

    pub(super) fn with_limits(honest: usize, limits: OwnerLimits) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let owner = NodeKeys::generate(&mut rng);
        let keys = Arc::new(OwnerKeys::derive(&Master::generate(&mut rng), 0));
        let mesh = MeshId::from_bytes([9; 32]);
        let role = OwnerRole::new(OwnerConfig {
            keys: Arc::clone(&keys),
            node: owner.node_id(),
            mesh,
            seed: [3; 32],
            limits,
            shard_bits: 0,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let mut world = Self {
            role,
            owner,
            keys,
            mesh,
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
    pub(super) fn add(&mut self, manners: Manners) -> NodeId {
        let keys = NodeKeys::generate(&mut self.rng);
        let node = keys.node_id();
        let fake = Fake {
            keys,
            manners,
            reach: Reach::Local,
            site: "",
            mesh: self.mesh,
            reachable: true,
            held: BTreeMap::new(),
            received: Vec::new(),
            acks: Vec::new(),
            requests: Vec::new(),
        };
        self.fakes.insert(node, fake);
        node
    }

    pub(super) fn add_connected(&mut self, manners: Manners) -> NodeId {
        let node = self.add(manners);
        self.connect(node);
        node
    }

    pub(super) fn fake(&mut self, node: NodeId) -> &mut Fake {
        self.fakes.get_mut(&node).unwrap()
    }

    pub(super) fn connect(&mut self, node: NodeId) {
        let fake = &self.fakes[&node];
        let peer = Peer { node, hello: fake.hello(), reach: fake.reach };
        self.up.insert(node);
        self.input(Input::PeerUp(peer));
    }

    pub(super) fn disconnect(&mut self, node: NodeId) {
        self.up.remove(&node);
        self.input(Input::PeerDown(node));
    }

    /// A fresh chunk of about `bytes` bytes.
    pub(super) fn chunk(&mut self, bytes: usize) -> (SealedChunk, ChunkKey) {
        self.chunks += 1;
        let mut plaintext = self.chunks.to_le_bytes().to_vec();
        plaintext.resize(bytes.max(8), 0);
        let ck = ChunkKey::derive(&self.keys.dedup, 0, 1, &plaintext);
        (SealedChunk::new(&self.keys, &ck, Locality(0), &plaintext), ck)
    }

    /// The same chunk once more.
    pub(super) fn again(&self, chunk: &SealedChunk) -> SealedChunk {
        SealedChunk {
            header: chunk.header,
            locality: chunk.locality,
            admin: chunk.admin.duplicate(),
            sealed: chunk.sealed.clone(),
        }
    }

    pub(super) fn store(&mut self, ticket: u64, chunk: SealedChunk, replicas: u8) {
        let deadline = self.now.after(Duration::from_secs(60));
        self.command(OwnerCommand::Store(StoreJob {
            ticket: Ticket(ticket),
            chunk,
            replicas,
            held_by: Vec::new(),
            deadline,
        }));
    }

    pub(super) fn command(&mut self, command: OwnerCommand) {
        self.input(Input::Command(command));
    }

    /// Hands an input in now and carries the effects out.
    pub(super) fn input(&mut self, input: Input) {
        self.note_truth(&input);
        self.role.handle(self.now, input);
        while let Some(effect) = self.role.poll_effect() {
            self.carry_out(effect);
        }
    }

    pub(super) fn stream(&mut self, from: NodeId, message: StreamMessage) {
        let message = Message::Stream(message);
        self.input(Input::Message { from, via: Via::Stream, message });
    }

    fn later(&mut self, millis: u64, input: Input) {
        self.count += 1;
        self.coming.insert((self.now.after(Duration::from_millis(millis)), self.count), input);
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done`, at most `limit`; panics where it does not come.
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
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
                assert!(encode_topic(&message).len() <= 4_096);
                self.published.push((self.now, message.clone()));
                if !self.deaf_mesh {
                    self.gossip(topic, &message);
                }
            }
            Effect::Send { to, message } => {
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
                let id = job.chunk.id();
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
            let (ephemeral, body) = match message {
                TopicMessage::StoreRequest(request) => {
                    assert_eq!(topic.kind, TopicKind::Store);
                    let mut claim = fake.claim(request);
                    claim.contact = Some(fake.contact());
                    (request.ephemeral, AnswerBody::Claim(claim))
                }
                TopicMessage::RetrieveRequest(request) => match self.offer(fake, request) {
                    Some(offer) => (request.ephemeral, AnswerBody::Offer(offer)),
                    None => continue,
                },
                TopicMessage::Answer(_) => continue,
            };
            let answer = self.seal(&ephemeral, &body);
            // Jitter by the node's id: the same in every run.
            let jitter = LATENCY_MS + u64::from(node.as_bytes()[0]) % 100;
            self.later(jitter, answered(node, answer));
        }
    }

    pub(super) fn seal(&mut self, ephemeral: &[u8; 32], body: &AnswerBody) -> Answer {
        let sealed = seal_to(ephemeral, &encode_answer(body), &mut self.rng).unwrap();
        Answer { tag: AnswerTag::of(ephemeral), sealed: sealed.into() }
    }

    fn offer(&self, fake: &Fake, request: &RetrieveRequest) -> Option<RetrieveOffer> {
        let mut holds = 0;
        for (at, (id, proof)) in request.wanted.iter().enumerate() {
            let Some((header, _)) = fake.held.get(id) else { continue };
            let context = Context {
                operation: Operation::Retrieve,
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
            other => panic!("not for a holder: {other:?}"),
        };
        if let Some(message) = answer {
            let message = Message::Stream(message);
            self.later(2 * LATENCY_MS, Input::Message { from: to, via: Via::Stream, message });
        }
    }

    pub(super) fn stored(&self, ticket: u64) -> Option<&Vec<NodeId>> {
        self.events.iter().find_map(|(_, event)| match event {
            OwnerEvent::Stored { ticket: of, holders, .. } if of.0 == ticket => Some(holders),
            _ => None,
        })
    }

    pub(super) fn acked(&self, ticket: u64) -> Vec<(NodeId, u8)> {
        let acked = |event: &OwnerEvent| match event {
            OwnerEvent::Acked { ticket: of, node, replicas, .. } if of.0 == ticket => {
                Some((*node, *replicas))
            }
            _ => None,
        };
        self.events.iter().filter_map(|(_, event)| acked(event)).collect()
    }

    pub(super) fn short(&self, ticket: u64) -> Option<(u8, Shortage)> {
        self.events.iter().find_map(|(_, event)| match event {
            OwnerEvent::Short { ticket: of, replicas, why, .. } if of.0 == ticket => {
                Some((*replicas, *why))
            }
            _ => None,
        })
    }

    /// To whom this chunk was sent, in order.
    pub(super) fn receivers(&self, id: &ChunkId) -> Vec<NodeId> {
        let chunk = |message: &StreamMessage| match message {
            StreamMessage::StoreChunk(chunk) => chunk.header.id() == *id,
            _ => false,
        };
        self.sent.iter().filter(|(_, _, message)| chunk(message)).map(|(_, to, _)| *to).collect()
    }

    pub(super) fn requests_published(&self) -> usize {
        let is_request = |message: &TopicMessage| matches!(message, TopicMessage::StoreRequest(_));
        self.published.iter().filter(|(_, message)| is_request(message)).count()
    }
}

/// An answer as it comes from the mesh.
pub(super) fn answered(forwarder: NodeId, answer: Answer) -> Input {
    let message = Message::Topic(TopicMessage::Answer(answer));
    Input::Message { from: forwarder, via: Via::Topic, message }
}

fn claim(request: &StoreRequest) -> StoreClaim {
    StoreClaim { contact: None, ephemeral: request.ephemeral, wants: u64::MAX, holds: 0 }
}

impl Fake {
    fn claim(&self, request: &StoreRequest) -> StoreClaim {
        let offers = request.offers.iter().enumerate();
        let held = offers.filter(|(_, offer)| self.held.contains_key(&offer.id));
        let holds = held.fold(0, |bits, (at, _)| bits | 1 << at);
        StoreClaim { holds, ..claim(request) }
    }

    fn on_chunk(
        &mut self,
        mesh: MeshId,
        owner: NodeId,
        chunk: StoreChunk,
    ) -> Option<StreamMessage> {
        let id = chunk.header.id();
        let context = Context {
            operation: Operation::Store,
            mesh,
            verifier: Verifier::Node(self.keys.node_id()),
            asker: Some(owner),
            nonce: chunk.nonce,
            body_hash: StoreChunk::body_hash(&chunk.account, &chunk.terms, &chunk.tags),
        };
        assert!(verify_header(&chunk.header, &context, &chunk.proof), "a bad store proof");
        assert!(chunk.header.certifies(&chunk.sealed));
        self.received.push(chunk.clone());
        match self.manners {
            Manners::Silent => return None,
            Manners::Refuses(reason) => {
                let reject = StoreReject { batch: chunk.batch, id, reason };
                return Some(StreamMessage::StoreReject(reject));
            }
            _ => {}
        }
        self.held.insert(id, (chunk.header, chunk.sealed.clone()));
        let ack = self.ack(mesh, &chunk);
        self.acks.push(ack.clone());
        Some(StreamMessage::StoreAck(ack))
    }

    pub(super) fn ack(&self, mesh: MeshId, chunk: &StoreChunk) -> StoreAck {
        let id = chunk.header.id();
        let pair = self.keys.pair_key(&chunk.account).unwrap();
        let sealed: &[u8] = match self.manners {
            Manners::WrongReceipt => b"other bytes",
            _ => &chunk.sealed,
        };
        let receipt = receipt(&pair, &chunk.seed, &id, sealed);
        let mut terms = chunk.terms;
        if self.manners == Manners::ShortLease {
            terms.keep_after_silence_s -= 1;
        }
        let statement = AckStatement {
            mesh,
            account: chunk.account,
            batch: chunk.batch,
            epoch: StoreEpoch::from_bytes([1; 16]),
            terms,
            chunks: vec![AckedChunk { id, lease: LeaseNonce::from_bytes([2; 16]), receipt }],
        };
        let stranger = NodeKeys::from_seeds([1; 32], [2; 32], [3; 32]);
        let signer = if self.manners == Manners::Forges { &stranger } else { &self.keys };
        let signature = signer.sign(&statement.encode(&self.keys.node_id()));
        let AckStatement { account, batch, epoch, terms, chunks, .. } = statement;
        StoreAck { batch, account, epoch, terms, chunks, signature }
    }

    /// Whether this part of the ack is what an honest holder says to this chunk.
    fn is_true(
        &self,
        mesh: MeshId,
        chunk: &StoreChunk,
        ack: &StoreAck,
        acked: &AckedChunk,
    ) -> bool {
        let StoreAck { batch, account, epoch, terms, chunks, signature } = ack.clone();
        let statement = AckStatement { mesh, account, batch, epoch, terms, chunks };
        let id = chunk.header.id();
        let expected = |pair| receipt(&pair, &chunk.seed, &id, &chunk.sealed);
        batch == chunk.batch
            && account == chunk.account
            && acked.id == id
            && self.keys.pair_key(&account).map(expected) == Some(acked.receipt)
            && statement.verify(&self.keys.node_id(), &signature)
    }

    fn on_retrieve(
        &mut self,
        mesh: MeshId,
        owner: NodeId,
        retrieve: Retrieve,
    ) -> Option<StreamMessage> {
        let Retrieve { request, id, nonce, proof } = retrieve.clone();
        self.requests.push(retrieve);
        let refuse =
            |reason| Some(StreamMessage::RetrieveReject(RetrieveReject { request, reason }));
        match self.manners {
            Manners::Silent => return None,
            Manners::Withholds(reason) => return refuse(reason),
            _ => {}
        }
        let Some((header, sealed)) = self.held.get(&id) else {
            return refuse(RetrieveRefusal::NotHeld);
        };
        let context = Context {
            operation: Operation::Retrieve,
            mesh,
            verifier: Verifier::Node(self.keys.node_id()),
            asker: Some(owner),
            nonce,
            body_hash: body_hash(&[&request.to_le_bytes()]),
        };
        if !verify_header(header, &context, &proof) {
            return refuse(RetrieveRefusal::NotHeld);
        }
        let mut sealed = sealed.to_vec();
        if self.manners == Manners::WrongBytes {
            sealed[50] ^= 1;
        }
        let data = ChunkData { request, header: *header, sealed: sealed.into() };
        Some(StreamMessage::ChunkData(data))
    }
}
