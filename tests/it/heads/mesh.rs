//! An owner and its holders, with the real roles over real stores, in virtual time.

use crate::store_fixtures::{options, wrap_key};
use quloud::core::codec::Reject;
use quloud::core::effect::{Effect, Event, Input, Peer, Reach, Via};
use quloud::core::holder::{HolderConfig, HolderLimits, HolderRole};
use quloud::core::message::{
    Hello, Message, RetrieveRefusal, RetrieveReject, StreamMessage, TopicMessage,
};
use quloud::core::owner::{
    HeadsJob, Load, OwnerCommand, OwnerConfig, OwnerEvent, OwnerLimits, OwnerRole, SoughtHead,
    StoreJob,
};
use quloud::core::placement::DomainPolicy;
use quloud::core::shard::Sharding;
use quloud::core::topic::TopicKind;
use quloud::core::types::{LeaseTerms, Locality, MeshId, NodeId, StoreEpoch, Ticket, Time};
use quloud::crypto::head::{HeadKeys, HeadRecord};
use quloud::crypto::keys::{Master, NodeKeys, OwnerKeys};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{Request, Writer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

const MESH: MeshId = MeshId::from_bytes([9; 32]);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
/// From one node to another, and for what the store does, unless a test says otherwise.
const LATENCY: Duration = Duration::from_millis(20);

/// Who an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum To {
    Owner,
    Holder(NodeId),
}

/// What a holder does with requests for heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    Honest,
    /// Answers no question for heads.
    Silent,
    /// Changes a byte of every record.
    Botches,
    /// Is busy the first time.
    Busy,
    /// Answers after so long that nobody waits any more.
    Slow,
    /// Acknowledges after so long that others were asked.
    SlowAck,
}

pub(super) struct Holder {
    role: HolderRole,
    pub(super) store: Writer<MemoryDisk, MemoryCatalogue>,
    peer: Peer,
    pub(super) manners: Manners,
    pub(super) gets: usize,
}

pub(super) struct Mesh {
    pub(super) owner: OwnerRole,
    keys: OwnerKeys,
    me: NodeId,
    holders: BTreeMap<NodeId, Holder>,
    up: BTreeSet<NodeId>,
    /// Holders that nothing reaches yet.
    apart: BTreeSet<NodeId>,
    /// Requests of the owner on topics.
    pub(super) published: usize,
    pub(super) latency: Duration,
    /// Whether questions are.
    pub(super) brief: bool,
    pub(super) now: Time,
    coming: BTreeMap<(Time, u64), (To, Input)>,
    count: u64,
    pub(super) events: Vec<OwnerEvent>,
    pub(super) rejects: Vec<(To, Reject)>,
    rng: ChaCha20Rng,
}

fn peer(keys: &NodeKeys) -> Peer {
    let node = keys.node_id();
    let hello = Hello {
        node,
        mesh: MESH,
        agreement: keys.agreement_key(),
        agreement_signature: keys.sign_agreement(),
        site: String::new(),
        operator: String::new(),
    };
    Peer { node, hello, reach: Reach::Local }
}

fn holder(keys: NodeKeys, seed: u8) -> Holder {
    let peer = peer(&keys);
    let role = HolderRole::new(HolderConfig {
        keys: Arc::new(keys),
        mesh: MESH,
        limits: HolderLimits::default(),
        seed: [seed; 32],
        sharding: Sharding::WHOLE,
        site: String::new(),
        operator: String::new(),
        used_by_account: BTreeMap::new(),
        epoch: StoreEpoch::from_bytes([2; 16]),
    });
    let (disk, catalogue) = (MemoryDisk::new(64 << 20), MemoryCatalogue::new());
    let rng = ChaCha20Rng::from_seed([seed; 32]);
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options(), rng);
    Holder { role, store: opened.unwrap().0, peer, manners: Manners::Honest, gets: 0 }
}

impl Mesh {
    /// An owner that is connected to `nodes` holders.
    pub(super) fn new(nodes: u8) -> Self {
        let mut mesh = Self::apart(nodes);
        for node in mesh.nodes() {
            mesh.connect(node);
        }
        mesh
    }

    /// The same, and nobody is connected yet.
    pub(super) fn apart(nodes: u8) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(11);
        let node_keys = NodeKeys::generate(&mut rng);
        let keys = || OwnerKeys::derive(&Master::from_bytes([5; 32]), 0);
        let owner = OwnerRole::new(OwnerConfig {
            keys: Arc::new(keys()),
            node: node_keys.node_id(),
            mesh: MESH,
            seed: [3; 32],
            limits: OwnerLimits::default(),
            sharding: Sharding::WHOLE,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let mut mesh = Self {
            owner,
            keys: keys(),
            me: node_keys.node_id(),
            holders: BTreeMap::new(),
            up: BTreeSet::new(),
            apart: BTreeSet::new(),
            published: 0,
            latency: LATENCY,
            brief: false,
            now: Time(1_000),
            coming: BTreeMap::new(),
            count: 0,
            events: Vec::new(),
            rejects: Vec::new(),
            rng: ChaCha20Rng::seed_from_u64(12),
        };
        for seed in 0..nodes {
            let holder = holder(NodeKeys::generate(&mut rng), seed);
            let (node, space) = (holder.peer.node, holder.store.space());
            mesh.holders.insert(node, holder);
            mesh.input(To::Holder(node), Input::Space(space));
            mesh.input(To::Holder(node), Input::OwnRecord(b"a record".to_vec().into()));
            mesh.input(To::Holder(node), Input::PeerUp(peer(&node_keys)));
        }
        mesh
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.holders.keys().copied().collect()
    }

    pub(super) fn holder(&mut self, node: NodeId) -> &mut Holder {
        self.holders.get_mut(&node).unwrap()
    }

    pub(super) fn connect(&mut self, node: NodeId) {
        self.up.insert(node);
        let peer = self.holder(node).peer.clone();
        self.input(To::Owner, Input::PeerUp(peer));
    }

    /// It is not there yet.
    pub(super) fn part(&mut self, node: NodeId) {
        self.apart.insert(node);
        self.disconnect(node);
    }

    /// It is there now, connected and subscribed.
    pub(super) fn join(&mut self, node: NodeId) {
        self.apart.remove(&node);
        self.connect(node);
        let topic = Sharding::WHOLE.topic(TopicKind::Retrieve, Locality(0));
        self.input(To::Owner, Input::PeerSubscribed(topic));
    }

    pub(super) fn disconnect(&mut self, node: NodeId) {
        self.up.remove(&node);
        self.input(To::Owner, Input::PeerDown(node));
    }

    pub(super) fn head(&self, index: u16) -> HeadKeys {
        HeadKeys::derive(&self.keys.head, 0, index)
    }

    pub(super) fn record(&mut self, index: u16, number: u64) -> HeadRecord {
        let number = NonZeroU64::new(number).unwrap();
        self.head(index).make(number, [0; 32], b"payload", &mut self.rng).unwrap()
    }

    /// What a holder has without having been asked for it.
    pub(super) fn keep(&mut self, node: NodeId, index: u16, number: u64) {
        let record = self.record(index, number);
        let account = self.keys.account(&node).account();
        let terms = LeaseTerms::default();
        let request = Request::Head { ticket: Ticket(0), account, terms, record };
        self.holder(node).store.commit(vec![request]);
    }

    pub(super) fn kept(&self, node: NodeId, index: u16) -> Vec<u64> {
        let read = self.holders[&node].store.reader().read_heads(&self.head(index).id(), 99);
        read.unwrap_or_default().iter().map(HeadRecord::number).collect()
    }

    pub(super) fn command(&mut self, command: OwnerCommand) {
        self.input(To::Owner, Input::Command(command));
    }

    pub(super) fn put(&mut self, ticket: u64, record: HeadRecord, replicas: u8) {
        self.put_again(ticket, record, replicas, Vec::new());
    }

    /// The same where these hold an earlier record.
    pub(super) fn put_again(
        &mut self,
        ticket: u64,
        record: HeadRecord,
        replicas: u8,
        held_by: Vec<NodeId>,
    ) {
        let load = Load::head(&self.head(0), record);
        let ticket = Ticket(ticket);
        let (deadline, without) = (self.now.after(60 * SECOND), Vec::new());
        let beside = Vec::new();
        let job = StoreJob { ticket, load, replicas, held_by, without, beside, deadline };
        self.command(OwnerCommand::Store(job));
    }

    pub(super) fn find(&mut self, ticket: u64, heads: u16, known: &[NodeId]) {
        let heads = (0..heads).map(|index| {
            let keys = self.head(index);
            let known = if index == 0 { known.to_vec() } else { Vec::new() };
            SoughtHead { id: keys.id(), read: keys.read_secret(), known }
        });
        let job = HeadsJob {
            ticket: Ticket(ticket),
            heads: heads.collect(),
            superseded: 2,
            brief: self.brief,
            deadline: self.now.after(10 * SECOND),
        };
        self.command(OwnerCommand::FindHeads(job));
    }

    fn input(&mut self, to: To, input: Input) {
        let effects: Vec<Effect> = match to {
            To::Owner => {
                self.owner.handle(self.now, input);
                std::iter::from_fn(|| self.owner.poll_effect()).collect()
            }
            To::Holder(node) => {
                let role = &mut self.holders.get_mut(&node).unwrap().role;
                role.handle(self.now, input);
                std::iter::from_fn(|| role.poll_effect()).collect()
            }
        };
        for effect in effects {
            self.carry_out(to, effect);
        }
    }

    fn later(&mut self, to: To, input: Input) {
        self.count += 1;
        self.coming.insert((self.now.after(self.latency), self.count), (to, input));
    }

    /// What a holder of these manners says instead.
    fn spoken(&mut self, from: NodeId, message: StreamMessage) -> Option<StreamMessage> {
        let holder = self.holders.get_mut(&from).unwrap();
        match (holder.manners, message) {
            (Manners::Silent, StreamMessage::HeadData(_) | StreamMessage::RetrieveReject(_)) => {
                None
            }
            (Manners::Botches, StreamMessage::HeadData(mut data)) => {
                let mut bytes = data.records[0].to_vec();
                bytes[500] ^= 1;
                data.records[0] = bytes.into();
                Some(StreamMessage::HeadData(data))
            }
            (Manners::Busy, StreamMessage::HeadData(data)) => {
                holder.manners = Manners::Honest;
                let reason = RetrieveRefusal::Busy;
                let reject = RetrieveReject { request: data.request, reason };
                Some(StreamMessage::RetrieveReject(reject))
            }
            (_, message) => Some(message),
        }
    }

    fn carry_out(&mut self, of: To, effect: Effect) {
        let from = match of {
            To::Owner => self.me,
            To::Holder(node) => node,
        };
        let stream = |message| Message::Stream(message);
        match effect {
            Effect::Send { to, message } if of == To::Owner => {
                let is_get = matches!(message, StreamMessage::HeadGet(_));
                self.holder(to).gets += usize::from(is_get);
                let message = stream(message);
                self.later(To::Holder(to), Input::Message { from, via: Via::Stream, message });
            }
            Effect::Send { message, .. } => {
                let pause = match (self.holder(from).manners, &message) {
                    (Manners::Slow, StreamMessage::HeadData(_)) => Some(8 * SECOND),
                    (Manners::SlowAck, StreamMessage::StoreAck(_)) => Some(20 * SECOND),
                    _ => None,
                };
                if let Some(message) = self.spoken(from, message).map(stream) {
                    let input = Input::Message { from, via: Via::Stream, message };
                    self.later(To::Owner, input);
                    if let Some(pause) = pause
                        && let Some(last) =
                            self.coming.remove(&(self.now.after(self.latency), self.count))
                    {
                        self.coming.insert((self.now.after(pause), self.count), last);
                    }
                }
            }
            Effect::Publish { message, .. } => self.gossip(of, from, &message),
            Effect::Dial { node, .. } => {
                let there = self.holders.get(&node).filter(|_| !self.apart.contains(&node));
                let peer = there.map(|holder| holder.peer.clone());
                self.later(To::Owner, peer.map_or(Input::PeerDown(node), Input::PeerUp));
            }
            Effect::FindChunks { ticket, ids } => {
                let found = self.holders[&from].store.reader().find(&ids);
                self.later(of, Input::ChunksFound { ticket, found });
            }
            Effect::WriteHead { ticket, account, terms, record } => {
                let request = Request::Head { ticket, account, terms, record };
                let done = self.holder(from).store.commit(vec![request]);
                done.into_iter().for_each(|input| self.later(of, input));
            }
            Effect::ReadHeads { ticket, id, superseded } => {
                let result = self.holders[&from].store.reader().read_heads(&id, superseded);
                self.later(of, Input::HeadsRead { ticket, result });
            }
            Effect::Report(Event::Rejected { reason, .. }) => self.rejects.push((of, reason)),
            Effect::Report(Event::Owner(event)) => self.events.push(event),
            other => panic!("not expected here: {other:?}"),
        }
    }

    /// Everyone hears it, connected to the owner or not, where the owner is connected to anyone.
    fn gossip(&mut self, of: To, from: NodeId, message: &TopicMessage) {
        self.published += usize::from(of == To::Owner);
        let receivers = match of {
            To::Owner if self.up.is_empty() => Vec::new(),
            To::Owner => {
                let there = self.nodes().into_iter().filter(|node| !self.apart.contains(node));
                there.map(To::Holder).collect()
            }
            To::Holder(_) => vec![To::Owner],
        };
        for to in receivers {
            let message = Message::Topic(message.clone());
            self.later(to, Input::Message { from, via: Via::Topic, message });
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let message = self.coming.keys().next().map(|(at, _)| (*at, None));
            let owner = self.owner.next_timeout().map(|at| (at, Some(To::Owner)));
            let holders = self.holders.iter().filter_map(|(node, holder)| {
                holder.role.next_timeout().map(|at| (at, Some(To::Holder(*node))))
            });
            let next = message.into_iter().chain(owner).chain(holders).min();
            let Some((at, who)) = next.filter(|(at, _)| *at <= end) else { break };
            self.now = self.now.max(at);
            match who {
                Some(to) => self.input(to, Input::Tick),
                None => {
                    let (_, (to, input)) = self.coming.pop_first().unwrap();
                    if let Input::PeerUp(peer) = &input {
                        self.up.insert(peer.node);
                    }
                    self.input(to, input);
                }
            }
        }
        self.now = end;
    }

    /// The replicas that the job reported at its end.
    pub(super) fn stored(&self, of: u64) -> Option<u8> {
        self.events.iter().find_map(|event| match event {
            OwnerEvent::Stored { ticket, replicas, .. } if ticket.0 == of => Some(*replicas),
            _ => None,
        })
    }

    pub(super) fn superseded(&self, of: u64) -> Vec<Option<NodeId>> {
        let by = self.events.iter().filter_map(|event| match event {
            OwnerEvent::Superseded { ticket, by, .. } if ticket.0 == of => Some(*by),
            _ => None,
        });
        by.collect()
    }

    /// Who served which numbers.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, Vec<u64>> {
        let mut seen: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for event in &self.events {
            if let OwnerEvent::HeadSeen { from, record, .. } = event {
                seen.entry(*from).or_default().push(record.number());
            }
        }
        seen
    }

    /// Who answered for the first head, and who for none.
    pub(super) fn done(&self) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
        self.events.iter().find_map(|event| match event {
            OwnerEvent::HeadsDone { answered, silent, .. } => {
                let first = answered.first().map(|(_, nodes)| nodes.clone());
                Some((first.unwrap_or_default(), silent.clone()))
            }
            _ => None,
        })
    }
}
