//! One mesh in virtual time: its nodes, who is connected to whom, and each event when it comes.

use super::{Figures, Setup};
use crate::agenda::Agenda;
use crate::catalogue::CatalogueFaults;
use crate::disk::DiskFaults;
use crate::limits::Limits;
use crate::net::Net;
use crate::node::store::{Next, Store};
use crate::node::{
    Blueprint, Index, Machine, Node, Place, Presence, Role, addressee, meeting, parting, waking,
};
use crate::plan::{NetPlan, Plan};
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::effect::{Input, Peer, Reach, Via};
use quloud::core::message::{Message, StreamMessage};
use quloud::core::owner::OwnerLimits;
use quloud::core::placement::DomainPolicy;
use quloud::core::topic::Topic;
use quloud::core::types::{ChunkId, LeaseTerms, NodeId, Ticket, Time};
use quloud::store::heads::HeadBounds;
use quloud::store::releases::ReleaseBounds;
use quloud::store::writer::Options;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Bytes that a node gives, and of its store's segments.
const CAPACITY: u64 = 256 << 20;
const SEGMENT: u64 = 1 << 20;
/// The ordinary delay of one hop.
const HOP: Duration = Duration::from_millis(30);
/// To so many nodes each makes connections, so that it has twice as many.
const MADE: usize = 18;
/// To so many members of each of its home shards: gossipsub wants a degree of eight in a topic.
const NEIGHBOURS: usize = 4;
/// How long a dead connection goes unnoticed.
const NOTICED: (u64, u64) = (5_000, 40_000);

/// What is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A gossiped message arrives.
    Gossip { to: Index, forwarder: Index, bytes: Bytes },
    /// A frame arrives over the connection of that epoch.
    Frame { from: Index, to: Index, epoch: u64, frame: codec::Frame },
    /// A node publishes, now that it is connected to members of the shard.
    Publish { node: Index, topic: Topic, bytes: Bytes },
    /// A dial of the first succeeds.
    Connect { a: Index, b: Index },
    /// A connection that was made to publish is not needed any more.
    Close { a: Index, b: Index, epoch: u64 },
    /// The ends notice that their connection is gone.
    Gone { a: Index, b: Index, epoch: u64 },
    /// A role hears that whom it dialled is not there.
    Unreachable { node: Index, peer: Index },
    /// A store carries its next group out.
    Commit { node: Index },
    /// A store looks chunks up.
    Find { node: Index, ticket: Ticket, ids: Vec<ChunkId> },
    /// A role asked to be woken.
    Wake { node: Index },
    /// A user puts chunks.
    Put { owner: Index },
    /// A user asks for a new replica of a chunk.
    Heal { owner: Index, id: ChunkId },
}

/// See the module.
pub(super) struct Mesh {
    pub(super) setup: Setup,
    pub(super) rng: ChaCha20Rng,
    pub(super) agenda: Agenda<Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) indices: BTreeMap<NodeId, Index>,
    pub(super) net: Net,
    /// Each node as its peers see it.
    peers: Vec<Peer>,
    /// Who is at home in each shard.
    pub(super) members: BTreeMap<u16, Vec<Index>>,
    /// Connections that are kept, the smaller end first.
    pub(super) kept: BTreeSet<(Index, Index)>,
    pub(super) puts: BTreeMap<ChunkId, super::run::Put>,
    pub(super) figures: Figures,
    /// The owners ask for new replicas.
    pub(super) heals: bool,
}

impl Mesh {
    /// All nodes, started and connected.
    pub(super) fn new(setup: Setup) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(setup.seed);
        let volunteer = setup.sharding.volunteer(setup.nodes as u64);
        let limits = OwnerLimits { volunteer, ..OwnerLimits::default() };
        let node = |number: Index| {
            let [.., a, b, c] = number.to_be_bytes();
            let reach = Reach::PublicV4([a.wrapping_add(1), b, c]);
            let place = Place::good(reach);
            let seed = ChaCha20Rng::from_seed(rng.random());
            let options = Options {
                capacity: CAPACITY,
                reserve: 64 << 10,
                segment_bytes: SEGMENT,
                ballast: 0,
                heads: HeadBounds::default(),
                releases: ReleaseBounds::default(),
                scrub_round: quloud::store::scrub::ROUND,
            };
            let blueprint = Blueprint {
                place,
                options,
                disk: DiskFaults::default(),
                catalogue: CatalogueFaults::default(),
                domains: DomainPolicy::LanCountsEach,
                terms: LeaseTerms::default(),
                limits: Limits { owner: limits.clone(), ..Limits::default() },
                sharding: setup.sharding,
            };
            Node::new(seed, blueprint)
        };
        let mut nodes: Vec<Node> = (0..setup.nodes).map(node).collect();
        for node in &mut nodes {
            // The disks are empty and without faults.
            let opened = node.start(Time(0));
            debug_assert!(opened.is_ok(), "{opened:?}");
            if let Some(machine) = &mut node.machine {
                tidy(&mut machine.store);
            }
        }
        let plan = NetPlan { hop: HOP, ..Plan::still(5, 1).net };
        let net = Net::new(rng.random(), plan, &vec![false; setup.nodes]);
        let mut mesh = Self {
            rng,
            agenda: Agenda::new(),
            indices: nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect(),
            peers: nodes.iter().map(Node::peer).collect(),
            members: members(&setup, &nodes),
            nodes,
            net,
            kept: BTreeSet::new(),
            puts: BTreeMap::new(),
            figures: Figures::default(),
            heals: false,
            setup,
        };
        mesh.befriend();
        mesh
    }

    /// Connects each node to some others. How many does not depend on the shards, so that meshes
    /// with and without are the same but for the topics.
    fn befriend(&mut self) {
        let sharding = quloud::core::shard::Sharding::recommended(self.setup.nodes as u64);
        let by = Setup { sharding, ..self.setup };
        let mut homes = members(&by, &self.nodes);
        if self.setup.sharding.bits() > sharding.bits() {
            homes.clone_from(&self.members);
        }
        let anybody = MADE.saturating_sub(NEIGHBOURS * sharding.homes_per_node() as usize);
        for a in 0..self.setup.nodes {
            for _ in 0..anybody {
                let b = self.rng.random_range(0..self.setup.nodes);
                self.keep(a, b);
            }
        }
        for members in homes.values() {
            for &a in members {
                for _ in 0..NEIGHBOURS {
                    let b = self.rng.random_range(0..members.len());
                    self.keep(a, members.get(b).copied().unwrap_or(a));
                }
            }
        }
        let pairs: Vec<(Index, Index)> = self.kept.iter().copied().collect();
        for (a, b) in pairs {
            self.connect(a, b);
        }
        self.figures.connections = 2 * self.kept.len() as u64;
    }

    pub(super) fn keep(&mut self, a: Index, b: Index) {
        if a != b {
            self.kept.insert((a.min(b), a.max(b)));
        }
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, end: Time) {
        while let Some(event) = self.agenda.pop(end) {
            self.figures.events += 1;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Gossip { to, forwarder, bytes } => {
                if let Ok(message) = codec::decode_topic(&bytes) {
                    self.hear(to, forwarder, Via::Topic, Message::Topic(message));
                }
            }
            Event::Frame { from, to, epoch, frame } if self.net.carries(from, to, epoch) => {
                if let Ok(message) = codec::decode_stream(frame) {
                    self.hear(to, from, Via::Stream, Message::Stream(message));
                }
            }
            Event::Frame { .. } => {}
            Event::Publish { node, topic, bytes } => self.gossip(node, topic, &bytes),
            Event::Connect { a, b } => self.connect(a, b),
            Event::Close { a, b, epoch } => {
                if !self.kept.contains(&(a.min(b), a.max(b))) {
                    self.disconnect(a, b, epoch);
                }
            }
            Event::Gone { a, b, epoch } => self.disconnect(a, b, epoch),
            Event::Unreachable { node, peer } => self.lose(node, peer),
            Event::Commit { node } => self.commit(node),
            Event::Find { node, ticket, ids } => {
                let Some(machine) = &self.nodes[node].machine else { return };
                let found = machine.store.find(&ids);
                self.feed(node, Role::Holder, Input::ChunksFound { ticket, found });
            }
            Event::Wake { node } => self.wake(node),
            Event::Put { owner } => self.put(owner),
            Event::Heal { owner, id } => self.heal(owner, id),
        }
    }

    fn hear(&mut self, to: Index, from: Index, via: Via, message: Message) {
        let role = addressee(&message);
        let from = self.peers[from].node;
        self.feed(to, role, Input::Message { from, via, message });
    }

    /// Feeds an input to a role, and does what both roles want.
    pub(super) fn feed(&mut self, node: Index, role: Role, input: Input) {
        let now = self.agenda.now();
        let mut next = Some((role, input));
        while let Some((role, input)) = next {
            let Some(machine) = &mut self.nodes[node].machine else { return };
            machine.handle(now, role, input);
            while let Some(machine) = &mut self.nodes[node].machine
                && let Some((role, effect)) = machine.poll_effect()
            {
                self.carry_out(node, role, effect);
            }
            next = self.nodes[node].machine.as_mut().and_then(Machine::refused);
        }
        let Some(machine) = &mut self.nodes[node].machine else { return };
        if let Some(next) = machine.arrange() {
            self.agenda.at(next, Event::Wake { node });
        }
    }

    fn wake(&mut self, node: Index) {
        let now = self.agenda.now();
        if self.nodes[node].machine.as_mut().is_some_and(|machine| machine.is_due(now)) {
            self.feed_all(node, waking());
        }
    }

    fn feed_all(&mut self, node: Index, inputs: impl IntoIterator<Item = (Role, Input)>) {
        inputs.into_iter().for_each(|(role, input)| self.feed(node, role, input));
    }

    fn commit(&mut self, node: Index) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        let done = machine.store.commit().done;
        let next = tidy(&mut machine.store);
        let space = machine.store.news();
        for input in done.into_iter().chain(space.map(Input::Space)) {
            self.feed(node, Role::Holder, input);
        }
        if next == Next::Commit {
            self.commit_later(node);
        }
    }

    /// Connects two nodes, and tells both.
    fn connect(&mut self, a: Index, b: Index) {
        if !self.nodes[a].is_up() || !self.nodes[b].is_up() {
            return self.lose(a, b);
        }
        if !self.net.connect(a, b) {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            // On each of two streams.
            let hello = StreamMessage::Hello(self.peers[node].hello.clone());
            let bytes = 2 * codec::encode_stream(&hello).head.len() as u64;
            self.figures.frame_bytes += if self.heals { 0 } else { bytes };
            let topics = self.nodes[peer].subscriptions();
            self.feed_all(node, meeting(self.peers[peer].clone(), topics));
        }
    }

    fn disconnect(&mut self, a: Index, b: Index, epoch: u64) {
        if self.net.disconnect(a, b, epoch) {
            self.lose(a, b);
            self.lose(b, a);
        }
    }

    fn lose(&mut self, node: Index, peer: Index) {
        self.feed_all(node, parting(self.peers[peer].node));
    }

    /// A node leaves for ever; its peers notice later.
    pub(super) fn leave(&mut self, node: Index) {
        self.nodes[node].crash();
        self.nodes[node].presence = Presence::Gone;
        for (peer, epoch) in self.net.break_all(node) {
            let wait = Duration::from_millis(self.rng.random_range(NOTICED.0..=NOTICED.1));
            self.agenda.after(wait, Event::Gone { a: node, b: peer, epoch });
        }
    }
}

/// Tidies until somebody waits or nothing is left to do.
fn tidy(store: &mut Store) -> Next {
    loop {
        match store.tidy() {
            Next::Tidy => {}
            next => return next,
        }
    }
}

/// Who is at home in each shard.
fn members(setup: &Setup, nodes: &[Node]) -> BTreeMap<u16, Vec<Index>> {
    let mut members: BTreeMap<u16, Vec<Index>> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for shard in setup.sharding.homes(&node.id) {
            members.entry(shard).or_default().push(at);
        }
    }
    members
}
