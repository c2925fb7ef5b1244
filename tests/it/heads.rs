//! Heads from an owner to its holders and back: the real roles over real stores, in virtual time.

use super::store_fixtures::{options, wrap_key};
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
use quloud::core::types::{
    ChunkId, LeaseTerms, Locality, MeshId, NodeId, StoreEpoch, Ticket, Time,
};
use quloud::crypto::head::{HeadKeys, HeadRecord};
use quloud::crypto::keys::{Master, NodeKeys, OwnerKeys};
use quloud::store::heads::HeadBounds;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::{Options, Request, Writer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const LATENCY: Duration = Duration::from_millis(20);

/// Who an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Owner,
    Holder(NodeId),
}

/// What a holder does with requests for heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manners {
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

struct Holder {
    role: HolderRole,
    store: Writer<MemoryDisk, MemoryCatalogue>,
    peer: Peer,
    manners: Manners,
    gets: usize,
}

struct Mesh {
    owner: OwnerRole,
    keys: OwnerKeys,
    me: NodeId,
    holders: BTreeMap<NodeId, Holder>,
    up: BTreeSet<NodeId>,
    /// Holders that nothing reaches yet.
    apart: BTreeSet<NodeId>,
    /// Requests of the owner on topics.
    published: usize,
    now: Time,
    coming: BTreeMap<(Time, u64), (To, Input)>,
    count: u64,
    events: Vec<OwnerEvent>,
    rejects: Vec<(To, Reject)>,
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
    fn new(nodes: u8) -> Self {
        let mut mesh = Self::apart(nodes);
        for node in mesh.nodes() {
            mesh.connect(node);
        }
        mesh
    }

    /// The same, and nobody is connected yet.
    fn apart(nodes: u8) -> Self {
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

    fn nodes(&self) -> Vec<NodeId> {
        self.holders.keys().copied().collect()
    }

    fn holder(&mut self, node: NodeId) -> &mut Holder {
        self.holders.get_mut(&node).unwrap()
    }

    fn connect(&mut self, node: NodeId) {
        self.up.insert(node);
        let peer = self.holder(node).peer.clone();
        self.input(To::Owner, Input::PeerUp(peer));
    }

    /// It is not there yet.
    fn part(&mut self, node: NodeId) {
        self.apart.insert(node);
        self.disconnect(node);
    }

    /// It is there now, connected and subscribed.
    fn join(&mut self, node: NodeId) {
        self.apart.remove(&node);
        self.connect(node);
        let topic = Sharding::WHOLE.topic(TopicKind::Retrieve, Locality(0));
        self.input(To::Owner, Input::PeerSubscribed(topic));
    }

    fn disconnect(&mut self, node: NodeId) {
        self.up.remove(&node);
        self.input(To::Owner, Input::PeerDown(node));
    }

    fn head(&self, index: u16) -> HeadKeys {
        HeadKeys::derive(&self.keys.head, 0, index)
    }

    fn record(&mut self, index: u16, number: u64) -> HeadRecord {
        let number = NonZeroU64::new(number).unwrap();
        self.head(index).make(number, [0; 32], b"payload", &mut self.rng).unwrap()
    }

    /// What a holder has without having been asked for it.
    fn keep(&mut self, node: NodeId, index: u16, number: u64) {
        let record = self.record(index, number);
        let account = self.keys.account(&node).account();
        let terms = LeaseTerms::default();
        let request = Request::Head { ticket: Ticket(0), account, terms, record };
        self.holder(node).store.commit(vec![request]);
    }

    fn kept(&self, node: NodeId, index: u16) -> Vec<u64> {
        let read = self.holders[&node].store.reader().read_heads(&self.head(index).id(), 99);
        read.unwrap_or_default().iter().map(HeadRecord::number).collect()
    }

    fn command(&mut self, command: OwnerCommand) {
        self.input(To::Owner, Input::Command(command));
    }

    fn put(&mut self, ticket: u64, record: HeadRecord, replicas: u8) {
        self.put_again(ticket, record, replicas, Vec::new());
    }

    /// The same where these hold an earlier record.
    fn put_again(&mut self, ticket: u64, record: HeadRecord, replicas: u8, held_by: Vec<NodeId>) {
        let load = Load::head(&self.head(0), record);
        let ticket = Ticket(ticket);
        let (deadline, without) = (self.now.after(60 * SECOND), Vec::new());
        let job = StoreJob { ticket, load, replicas, held_by, without, deadline };
        self.command(OwnerCommand::Store(job));
    }

    fn find(&mut self, ticket: u64, heads: u16, known: &[NodeId]) {
        let heads = (0..heads).map(|index| {
            let keys = self.head(index);
            let known = if index == 0 { known.to_vec() } else { Vec::new() };
            SoughtHead { id: keys.id(), read: keys.read_secret(), known }
        });
        let job = HeadsJob {
            ticket: Ticket(ticket),
            heads: heads.collect(),
            superseded: 2,
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
        self.coming.insert((self.now.after(LATENCY), self.count), (to, input));
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
                            self.coming.remove(&(self.now.after(LATENCY), self.count))
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

    fn run(&mut self, span: Duration) {
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
    fn stored(&self, of: u64) -> Option<u8> {
        self.events.iter().find_map(|event| match event {
            OwnerEvent::Stored { ticket, replicas, .. } if ticket.0 == of => Some(*replicas),
            _ => None,
        })
    }

    fn superseded(&self, of: u64) -> Vec<Option<NodeId>> {
        let by = self.events.iter().filter_map(|event| match event {
            OwnerEvent::Superseded { ticket, by, .. } if ticket.0 == of => Some(*by),
            _ => None,
        });
        by.collect()
    }

    /// Who served which numbers.
    fn seen(&self) -> BTreeMap<NodeId, Vec<u64>> {
        let mut seen: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for event in &self.events {
            if let OwnerEvent::HeadSeen { from, record, .. } = event {
                seen.entry(*from).or_default().push(record.number());
            }
        }
        seen
    }

    /// Who answered for the first head, and who for none.
    fn done(&self) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
        self.events.iter().find_map(|event| match event {
            OwnerEvent::HeadsDone { answered, silent, .. } => {
                let first = answered.first().map(|(_, nodes)| nodes.clone());
                Some((first.unwrap_or_default(), silent.clone()))
            }
            _ => None,
        })
    }
}

#[test]
fn a_head_reaches_its_quorum_like_a_chunk() {
    let mut mesh = Mesh::new(5);
    let first = mesh.record(0, 1);
    mesh.put(1, first, 3);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(1), mesh.rejects.len()), (Some(3), 0));
    let holders: Vec<NodeId> =
        mesh.nodes().into_iter().filter(|node| mesh.kept(*node, 0) == [1]).collect();
    assert_eq!(holders.len(), 3);
    // The next number, again to three; that some hold the last one counts for nothing.
    let second = mesh.record(0, 2);
    mesh.put(2, second.clone(), 3);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(2), mesh.rejects.len()), (Some(3), 0));
    let all = mesh.nodes();
    let newest = all.iter().filter(|node| mesh.kept(**node, 0).first() == Some(&2));
    assert_eq!(newest.count(), 3);
    // The same record once more, as after a crash before its acks were heard.
    mesh.put(3, second, 3);
    mesh.run(5 * SECOND);
    assert_eq!(mesh.stored(3), Some(3));
    let acks = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::Acked { .. }));
    assert!(acks.count() >= 9);
}

#[test]
fn a_head_stays_with_its_holders() {
    let mut mesh = Mesh::new(6);
    let (mut held_by, mut all) = (Vec::new(), BTreeSet::new());
    for number in 1..=20 {
        let record = mesh.record(0, number);
        mesh.put_again(number, record, 3, std::mem::take(&mut held_by));
        mesh.run(5 * SECOND);
        assert_eq!(mesh.stored(number), Some(3));
        let newest = |node: &NodeId| mesh.kept(*node, 0).first() == Some(&number);
        held_by = mesh.nodes().into_iter().filter(newest).collect();
        all.extend(held_by.clone());
        // One chunk more or less makes one node better than another.
        assert_eq!(held_by.len(), 3);
    }
    assert_eq!(all.len(), 3, "each number went to the same three");
    // One that is away is replaced.
    mesh.part(held_by[0]);
    let record = mesh.record(0, 21);
    mesh.put_again(21, record, 3, held_by.clone());
    mesh.run(5 * SECOND);
    assert_eq!(mesh.stored(21), Some(3));
    assert!(held_by[1..].iter().all(|node| mesh.kept(*node, 0).first() == Some(&21)));
}

#[test]
fn a_holder_with_too_many_heads_is_passed_over_and_blamed_for_nothing() {
    let mut mesh = Mesh::new(4);
    let node = mesh.nodes()[0];
    let heads = HeadBounds { heads_per_account: 0, ..HeadBounds::default() };
    let (disk, catalogue) = (MemoryDisk::new(64 << 20), MemoryCatalogue::new());
    let (rng, options) = (ChaCha20Rng::from_seed([9; 32]), Options { heads, ..options() });
    let opened = Writer::open(Arc::new(disk), Arc::new(catalogue), wrap_key(), options, rng);
    mesh.holder(node).store = opened.unwrap().0;
    let record = mesh.record(0, 1);
    mesh.put_again(1, record, 3, vec![node]);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.stored(1), mesh.kept(node, 0)), (Some(3), vec![]));
    assert_eq!((mesh.superseded(1).len(), mesh.rejects.len()), (0, 0));
}

#[test]
fn a_late_ack_of_a_head_is_not_reported() {
    let mut mesh = Mesh::new(4);
    let slow = mesh.nodes()[0];
    mesh.holder(slow).manners = Manners::SlowAck;
    let record = mesh.record(0, 1);
    mesh.put_again(1, record, 3, vec![slow]);
    mesh.run(15 * SECOND);
    assert_eq!((mesh.stored(1), mesh.kept(slow, 0)), (Some(3), vec![1]));
    mesh.events.clear();
    mesh.run(30 * SECOND);
    assert_eq!((mesh.events.len(), mesh.rejects.len()), (0, 0), "{:?}", mesh.events);
}

#[test]
fn a_head_finds_others_where_holders_fail() {
    let mut mesh = Mesh::new(5);
    let nodes = mesh.nodes();
    mesh.disconnect(nodes[0]);
    mesh.disconnect(nodes[1]);
    let record = mesh.record(0, 1);
    mesh.put(1, record, 4);
    mesh.run(30 * SECOND);
    assert_eq!(mesh.stored(1), Some(4), "{:#?}", mesh.events);
}

#[test]
fn a_holder_with_a_newer_head_says_so_and_the_job_goes_on() {
    let mut mesh = Mesh::new(4);
    let newer = mesh.nodes()[1];
    mesh.keep(newer, 0, 9);
    let record = mesh.record(0, 5);
    mesh.put(1, record, 4);
    mesh.run(5 * SECOND);
    assert_eq!(mesh.superseded(1), [Some(newer)]);
    assert_eq!((mesh.stored(1), mesh.kept(newer, 0)), (None, vec![9]));
    let others = mesh.nodes().into_iter().filter(|node| *node != newer);
    assert!(others.into_iter().all(|node| mesh.kept(node, 0) == [5]));
    mesh.command(OwnerCommand::Cancel(Ticket(1)));
    mesh.run(700 * SECOND);
    assert_eq!(mesh.superseded(1).len(), 1, "nobody is asked for what nobody wants");
}

#[test]
fn acks_of_one_record_say_nothing_of_another() {
    let mut mesh = Mesh::new(3);
    let (old, new) = (mesh.record(0, 1), mesh.record(0, 2));
    mesh.put(1, old.clone(), 3);
    // Sent, and not acknowledged yet.
    let is_written = |mesh: &Mesh| mesh.nodes().iter().any(|node| mesh.kept(*node, 0) == [1]);
    while !is_written(&mesh) {
        mesh.run(Duration::from_millis(1));
    }
    let acked = |mesh: &Mesh| {
        mesh.events.iter().filter(|event| matches!(event, OwnerEvent::Acked { .. })).count()
    };
    assert_eq!(acked(&mesh), 0);
    mesh.put(2, new, 3);
    assert_eq!(mesh.superseded(1), [None]);
    mesh.put(3, old, 3);
    assert_eq!(mesh.superseded(3), [None], "an older one is not even begun");
    mesh.run(2 * SECOND);
    assert_eq!((mesh.stored(1), mesh.stored(2), mesh.stored(3)), (None, Some(3), None));
    assert_eq!(acked(&mesh), 3, "only of the record that was wanted");
    assert!(mesh.nodes().iter().all(|node| mesh.kept(*node, 0).first() == Some(&2)));
}

#[test]
fn every_head_holder_is_asked() {
    let mut mesh = Mesh::new(6);
    let nodes = mesh.nodes();
    for (at, node) in nodes.iter().enumerate().take(4) {
        for number in 1..=at as u64 + 2 {
            mesh.keep(*node, 0, number);
        }
    }
    mesh.keep(nodes[0], 7, 40);
    mesh.find(1, 32, &nodes[..1]);
    mesh.run(10 * SECOND);
    let expected = [vec![2, 1, 40], vec![3, 2, 1], vec![4, 3, 2], vec![5, 4, 3]];
    let expected: BTreeMap<NodeId, Vec<u64>> = nodes.iter().copied().zip(expected).collect();
    let mut seen = mesh.seen();
    let first = seen.get_mut(&nodes[0]).unwrap();
    first.sort_by_key(|number| (*number == 40, std::cmp::Reverse(*number)));
    assert_eq!(seen, expected);
    assert_eq!(mesh.done(), Some((nodes[..4].to_vec(), Vec::new())));
    assert_eq!(mesh.rejects, []);
}

#[test]
fn a_holder_that_connects_after_the_first_answer_is_heard() {
    let mut mesh = Mesh::new(4);
    let nodes = mesh.nodes();
    for (node, number) in nodes.iter().zip([1, 2, 2]) {
        mesh.keep(*node, 0, number);
    }
    nodes[1..].iter().for_each(|node| mesh.part(*node));
    // One that answers that it has nothing is no news either.
    mesh.connect(nodes[3]);
    mesh.find(1, 3, &nodes[3..]);
    mesh.run(800 * MILLISECOND);
    assert_eq!((mesh.done(), mesh.seen().len()), (None, 1));
    mesh.join(nodes[1]);
    mesh.run(1200 * MILLISECOND);
    assert_eq!(mesh.done(), None, "who subscribes is asked, and given its time");
    mesh.join(nodes[2]);
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((nodes[..3].to_vec(), Vec::new())));
    assert_eq!(mesh.seen()[&nodes[2]], [2]);
}

#[test]
fn a_head_that_its_holders_serve_stands_on_no_topic() {
    let mut mesh = Mesh::new(5);
    let nodes = mesh.nodes();
    nodes[..4].iter().for_each(|node| mesh.keep(*node, 0, 3));
    let all = nodes[..3].to_vec();
    mesh.find(1, 1, &all);
    mesh.run(100 * MILLISECOND);
    assert_eq!((mesh.done(), mesh.published), (Some((all.clone(), Vec::new())), 0));
    // Two of three are enough.
    mesh.part(all[2]);
    mesh.events.clear();
    mesh.find(2, 1, &all);
    mesh.run(100 * MILLISECOND);
    let done = (all[..2].to_vec(), all[2..].to_vec());
    assert_eq!((mesh.done(), mesh.published), (Some(done), 0));
    // One is not, nor the word of one: it may be behind, and wish to be believed.
    mesh.part(all[1]);
    for known in [&all[..], &all[..1]] {
        (mesh.published, mesh.events) = (0, Vec::new());
        mesh.find(3, 1, known);
        mesh.run(5 * SECOND);
        let done = mesh.done().unwrap().0;
        assert_eq!((done, mesh.published), (vec![nodes[0], nodes[3]], 1));
    }
    // Others are asked for on their topic all the same, and nobody for what it is not thought to
    // keep.
    mesh.join(all[1]);
    (mesh.published, mesh.events) = (0, Vec::new());
    let before = mesh.holder(nodes[0]).gets;
    mesh.find(4, 32, &all[..2]);
    mesh.run(5 * SECOND);
    assert_eq!((mesh.done().unwrap().0, mesh.published), (all[..2].to_vec(), 1));
    assert_eq!(mesh.holder(nodes[0]).gets, before + 1);
    assert_eq!(mesh.rejects, []);
}

#[test]
fn a_holder_that_is_known_and_not_connected_is_dialed() {
    let mut mesh = Mesh::apart(3);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.find(1, 1, &nodes[..1]);
    mesh.run(10 * SECOND);
    assert_eq!(mesh.done(), Some((nodes, Vec::new())), "and then the others by the topic");
}

#[test]
fn silence_and_false_records_end_with_the_rest() {
    let mut mesh = Mesh::new(4);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.holder(nodes[0]).manners = Manners::Silent;
    mesh.holder(nodes[1]).manners = Manners::Botches;
    mesh.holder(nodes[2]).manners = Manners::Busy;
    mesh.find(1, 1, &[]);
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), None, "somebody may still answer");
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((nodes[2..].to_vec(), nodes[..2].to_vec())));
    assert_eq!(mesh.rejects, [(To::Owner, Reject::BadProof)]);
    assert_eq!(mesh.holder(nodes[2]).gets, 2, "a busy one is asked again");
}

#[test]
fn an_answer_after_the_end_is_no_misbehaviour() {
    let mut mesh = Mesh::new(2);
    let nodes = mesh.nodes();
    nodes.iter().for_each(|node| mesh.keep(*node, 0, 3));
    mesh.holder(nodes[0]).manners = Manners::Slow;
    mesh.find(1, 1, &[]);
    mesh.run(20 * SECOND);
    assert_eq!(mesh.done(), Some((vec![nodes[1]], vec![nodes[0]])));
    assert_eq!((mesh.rejects.len(), mesh.seen().len()), (0, 1));
}

#[test]
fn a_head_that_nobody_keeps_is_asked_for_until_the_deadline() {
    let mut mesh = Mesh::new(3);
    let node = mesh.nodes()[0];
    mesh.keep(node, 0, 1);
    mesh.part(node);
    mesh.find(1, 32, &[]);
    mesh.run(9 * SECOND);
    assert_eq!((mesh.done(), mesh.published), (None, 4));
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), Some((Vec::new(), Vec::new())));
    // Somebody who keeps it comes late.
    mesh.events.clear();
    mesh.find(3, 32, &[]);
    mesh.run(8 * SECOND);
    mesh.join(node);
    mesh.run(2 * SECOND);
    assert_eq!(mesh.done(), Some((vec![node], Vec::new())));
    mesh.events.clear();
    mesh.find(2, 1, &[]);
    mesh.run(3 * SECOND);
    assert_eq!(mesh.done(), Some((vec![node], Vec::new())));
    let id: ChunkId = mesh.head(0).id();
    assert!(mesh.events.iter().any(|event| matches!(event,
        OwnerEvent::HeadSeen { ticket: Ticket(2), record, .. } if record.id() == id)));
}

#[test]
fn questions_are_bounded() {
    let mut mesh = Mesh::new(2);
    let silent = mesh.nodes();
    for ticket in 0..6 {
        mesh.find(ticket, 1, &silent);
    }
    let ended = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::HeadsDone { .. }));
    assert_eq!(ended.count(), 2, "two too many");
    assert!(mesh.owner.load().iter().all(|fill| !fill.is_over()));
    mesh.run(20 * SECOND);
    let ended = mesh.events.iter().filter(|event| matches!(event, OwnerEvent::HeadsDone { .. }));
    assert_eq!(ended.count(), 6);
    assert!(mesh.owner.load().iter().all(|fill| !fill.is_over()));
}
