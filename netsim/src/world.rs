//! One world: nodes, a network and time, all of it decided by one number.
//!
//! A run has three parts. The *writer* puts chunks while connections break and holders crash; then
//! holders die for good, fewer than a chunk has replicas; then the writer fetches half of the
//! chunks from the holders it knows, and a *reader* that comes new into the mesh searches for the
//! other half. What is promised at any time is compared with what the disks really hold.

mod check;

use crate::net::{Net, Sent};
use crate::node::{MESH, Node, Role, addressee};
use crate::plan::{Plan, happens};
use bytes::Bytes;
use quloud::core::codec::{self, Frame};
use quloud::core::effect::{Effect, Event, Input, StoreError, Via};
use quloud::core::message::{Message, StreamMessage};
use quloud::core::owner::{FetchJob, OwnerCommand, StoreJob};
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::{ChunkId, Locality, NodeId, Ticket, Time};
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal::SealedChunk;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The node that puts the chunks.
const WRITER: usize = 0;

/// A part of a run that is not over by then is stuck.
const PART: Duration = Duration::from_secs(6 * 3_600);

/// More events than this at one moment: somebody spins.
const EVENTS_PER_MOMENT: u32 = 20_000;

/// What is going to happen.
#[derive(Debug)]
enum Next {
    Gossip {
        to: usize,
        forwarder: NodeId,
        bytes: Bytes,
    },
    Frame {
        from: usize,
        to: usize,
        epoch: u64,
        frame: Frame,
    },
    /// A dial comes to its end.
    Dialled {
        from: usize,
        to: usize,
    },
    /// The transport looks for a peer it lost.
    Redial {
        a: usize,
        b: usize,
    },
    /// Both ends notice that their connection is gone.
    LinkGone {
        a: usize,
        b: usize,
    },
    /// A node has no connection to the peer it sends to.
    Away {
        node: usize,
        peer: usize,
    },
    Synced {
        node: usize,
        life: u64,
    },
    Completed {
        node: usize,
        life: u64,
        input: Box<Input>,
    },
    /// The writer's user has one more chunk.
    Put,
    Wake {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Start {
        node: usize,
    },
}

/// One chunk, as it was put.
#[derive(Debug)]
struct Original {
    id: ChunkId,
    ck: ChunkKey,
    locality: Locality,
    sealed: Bytes,
    holders: Vec<NodeId>,
    stored: bool,
    fetched: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// Promises that were broken; empty = a good run.
    pub(crate) violations: Vec<String>,
    /// Hash over everything that happened, in order.
    pub(crate) trace: String,
    pub(crate) events: u64,
    /// Simulated time, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Messages turned down, by reason.
    pub(crate) rejects: BTreeMap<&'static str, u64>,
    /// What was done to the nodes, by kind.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

/// A world in the middle of its run.
pub(crate) struct World<'a> {
    plan: Plan,
    rng: ChaCha20Rng,
    now: Time,
    nodes: Vec<Node>,
    net: Net,
    agenda: BTreeMap<(Time, u64), Next>,
    next: u64,
    events: u64,
    originals: Vec<Original>,
    /// Chunks that the writer has not been told to store yet.
    to_store: VecDeque<SealedChunk>,
    /// How many of them there are already.
    ready: usize,
    violations: Vec<String>,
    rejects: BTreeMap<&'static str, u64>,
    trace: blake3::Hasher,
    observer: &'a mut dyn FnMut(&str),
}

/// Runs the world of one seed to its end. `observer` sees a line for everything that happens.
pub(crate) fn run(seed: u64, observer: &mut dyn FnMut(&str)) -> Outcome {
    let mut world = World::new(seed, observer);
    world.put();
    if world.violations.is_empty() {
        world.kill();
        world.fetch();
    }
    Outcome {
        seed,
        plan: world.plan,
        violations: world.violations,
        trace: world.trace.finalize().to_hex().chars().take(32).collect(),
        events: world.events,
        elapsed_ms: world.now.0,
        rejects: world.rejects,
        faults: world.net.faults,
    }
}

impl<'a> World<'a> {
    fn new(seed: u64, observer: &'a mut dyn FnMut(&str)) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let plan = Plan::draw(&mut rng);
        let nodes = (0..plan.holders + 2).map(|_| Node::new(&mut rng)).collect();
        let net = Net::new(ChaCha20Rng::from_seed(rng.random()), plan.clone());
        let mut world = Self {
            plan,
            rng,
            now: Time(0),
            nodes,
            net,
            agenda: BTreeMap::new(),
            next: 0,
            events: 0,
            originals: Vec::new(),
            to_store: VecDeque::new(),
            ready: 0,
            violations: Vec::new(),
            rejects: BTreeMap::new(),
            trace: blake3::Hasher::new(),
            observer,
        };
        world.log(&format!("seed {seed} {:?}", world.plan));
        world.make_chunks();
        world
    }

    fn make_chunks(&mut self) {
        let keys = self.nodes[WRITER].owner_keys.clone();
        let locality = Locality(self.rng.random());
        for number in 0..self.plan.chunks {
            let length = self.rng.random_range(1..=20_000);
            let mut plaintext = vec![0; length];
            self.rng.fill(plaintext.as_mut_slice());
            plaintext.extend(number.to_le_bytes());
            let ck = ChunkKey::derive(&keys.dedup, 0, 1, &plaintext);
            let chunk = SealedChunk::new(&keys, &ck, locality, &plaintext);
            self.originals.push(Original {
                id: chunk.id(),
                ck,
                locality,
                sealed: chunk.sealed.clone(),
                holders: Vec::new(),
                stored: false,
                fetched: false,
            });
            self.to_store.push_back(chunk);
        }
    }

    fn reader(&self) -> usize {
        self.nodes.len() - 1
    }

    /// The first part: everything the writer has becomes durable as often as asked.
    fn put(&mut self) {
        for node in 0..self.reader() {
            self.start(node);
        }
        for _ in 0..self.plan.crashes {
            let node = self.rng.random_range(1..=self.plan.holders);
            let at = self.soon(0, self.plan.put_ms);
            self.at(at, Next::Crash { node });
        }
        for _ in 0..self.plan.chunks {
            let at = self.soon(0, self.plan.put_ms);
            self.at(at, Next::Put);
        }
        self.run_until("put", |world| world.originals.iter().all(|chunk| chunk.stored));
        self.check_stored();
    }

    /// The second part: some holders are gone for ever, and whoever is down comes back.
    fn kill(&mut self) {
        self.agenda.retain(|_, next| !matches!(next, Next::Crash { .. }));
        for _ in 0..self.plan.kills {
            let node = self.rng.random_range(1..=self.plan.holders);
            self.crash(node);
            self.nodes[node].gone = true;
            self.log(&format!("{node} is gone for ever"));
        }
        self.start(self.reader());
    }

    /// The third part: everything comes back, byte for byte.
    fn fetch(&mut self) {
        let deadline = self.now.after(PART);
        for number in 0..self.originals.len() {
            let original = &self.originals[number];
            let (node, holders) = match number % 2 {
                0 => (WRITER, original.holders.clone()),
                _ => (self.reader(), Vec::new()),
            };
            let job = FetchJob {
                ticket: Ticket(number as u64),
                id: original.id,
                locality: original.locality,
                read: original.ck.read_secret(),
                holders,
                deadline,
            };
            self.feed(node, Role::Owner, Input::Command(OwnerCommand::Fetch(job)));
        }
        self.run_until("fetch", |world| world.originals.iter().all(|chunk| chunk.fetched));
    }

    /// Runs until `done`, a broken promise, or the end of the part's time.
    fn run_until(&mut self, part: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now.after(PART);
        let (mut moment, mut at_once) = (self.now, 0);
        while !done(self) && self.violations.is_empty() {
            let Some(((at, _), next)) = self.agenda.pop_first() else {
                return self.violation(format!("{part}: nothing happens any more"));
            };
            if at > end {
                return self.violation(format!("{part}: not done after {} s", PART.as_secs()));
            }
            at_once = if at == moment { at_once + 1 } else { 0 };
            moment = at;
            if at_once > EVENTS_PER_MOMENT {
                return self.violation(format!("{part}: spins at {} ms", at.0));
            }
            self.now = at;
            self.events += 1;
            self.step(next);
            self.pump_writer();
        }
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Gossip { to, forwarder, bytes } => {
                self.log(&format!("{to} hears gossip {}", brief(&bytes)));
                match codec::decode_topic(&bytes) {
                    Ok(message) => self.deliver(to, forwarder, Via::Topic, Message::Topic(message)),
                    Err(reason) => self.violation(format!("gossip does not decode: {reason:?}")),
                }
            }
            Next::Frame { from, to, epoch, frame } => {
                if self.net.carries(from, to, epoch) {
                    self.log(&format!("{to} hears {} of {from}", brief(&frame.head)));
                    let from = self.nodes[from].id;
                    match codec::decode_stream(frame) {
                        Ok(m) => self.deliver(to, from, Via::Stream, Message::Stream(m)),
                        Err(reason) => self.violation(format!("frame does not decode: {reason:?}")),
                    }
                }
            }
            Next::Dialled { from, to } => self.dialled(from, to),
            Next::Redial { a, b } => {
                let both_up = self.nodes[a].is_up() && self.nodes[b].is_up();
                if both_up && !self.net.loses() {
                    self.connect(a, b);
                } else {
                    self.redial(a, b);
                }
            }
            Next::LinkGone { a, b } => {
                if self.net.disconnect(a, b) {
                    self.log(&format!("{a} and {b} lose their connection"));
                    let (left, right) = (self.nodes[a].id, self.nodes[b].id);
                    self.feed_both(a, || Input::PeerDown(right));
                    self.feed_both(b, || Input::PeerDown(left));
                    self.redial(a, b);
                }
            }
            Next::Away { node, peer } => {
                let peer = self.nodes[peer].id;
                self.feed_both(node, || Input::PeerDown(peer));
            }
            Next::Synced { node, life } => self.synced(node, life),
            Next::Completed { node, life, input } => {
                if self.nodes[node].life == life {
                    self.feed(node, Role::Holder, *input);
                }
            }
            Next::Put => self.ready += 1,
            Next::Wake { node } => {
                if let Some(roles) = &mut self.nodes[node].roles {
                    roles.wake = None;
                }
                self.feed_both(node, || Input::Tick);
            }
            Next::Crash { node } => {
                self.crash(node);
                let at = self.soon(1_000, 60_000);
                self.at(at, Next::Start { node });
            }
            Next::Start { node } => self.start(node),
        }
    }

    fn deliver(&mut self, to: usize, from: NodeId, via: Via, message: Message) {
        let role = addressee(&message);
        self.feed(to, role, Input::Message { from, via, message });
    }

    /// Starts a node that is down and connects it to some that are up: at least to one.
    fn start(&mut self, node: usize) {
        if self.nodes[node].is_up() || self.nodes[node].gone {
            return;
        }
        self.log(&format!("{node} starts"));
        self.nodes[node].start(self.now, &mut self.rng);
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|n| *n != node && self.nodes[*n].is_up()).collect();
        let sure = (!up.is_empty()).then(|| up[self.rng.random_range(0..up.len())]);
        for peer in up {
            let connected = self.plan.connected;
            if sure == Some(peer) || happens(&mut self.rng, connected) {
                // What the peer had left of an earlier life ends first.
                self.step(Next::LinkGone { a: node, b: peer });
                self.connect(node, peer);
            }
        }
        self.schedule(node);
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.log(&format!("{node} crashes"));
        self.net.count("crashed", true);
        self.nodes[node].crash();
        for peer in self.net.break_all(node) {
            let at = self.soon(0, 5_000);
            self.at(at, Next::LinkGone { a: node, b: peer });
        }
    }

    fn redial(&mut self, a: usize, b: usize) {
        if !self.nodes[a].gone && !self.nodes[b].gone {
            let at = self.soon(1_000, 20_000);
            self.at(at, Next::Redial { a, b });
        }
    }

    fn dialled(&mut self, from: usize, to: usize) {
        if !self.nodes[from].is_up() {
            return;
        }
        if self.nodes[to].is_up() && !self.net.loses() {
            self.connect(from, to);
        } else {
            let peer = self.nodes[to].id;
            self.feed_both(from, || Input::PeerDown(peer));
        }
    }

    /// Connects two nodes that are up; nothing happens where they are connected.
    fn connect(&mut self, a: usize, b: usize) {
        if !self.net.connect(a, b) {
            return;
        }
        self.log(&format!("{a} and {b} connect"));
        for (node, peer) in [(a, b), (b, a)] {
            let peer = self.nodes[peer].peer();
            self.feed_both(node, || Input::PeerUp(peer.clone()));
            for kind in TopicKind::ALL {
                let subscribed = Input::PeerSubscribed(Topic { kind, shard: 0 });
                self.feed(node, Role::Owner, subscribed);
            }
        }
    }

    fn synced(&mut self, node: usize, life: u64) {
        let (rng, net, rate) = (&mut self.rng, &mut self.net, self.plan.write_error);
        let node_state = &mut self.nodes[node];
        if node_state.life != life || !node_state.is_up() {
            return;
        }
        let results = node_state.disk.sync(|| {
            let fails = happens(rng, rate);
            net.count("write failed", fails);
            fails
        });
        let space = node_state.disk.space();
        self.log(&format!("{node} syncs {results:?}"));
        self.feed(node, Role::Holder, Input::ChunksWritten(results));
        self.feed(node, Role::Holder, Input::Space(space));
    }

    fn feed_both(&mut self, node: usize, input: impl Fn() -> Input) {
        self.feed(node, Role::Owner, input());
        self.feed(node, Role::Holder, input());
    }

    /// Gives a node one input and carries out all its effects.
    fn feed(&mut self, node: usize, role: Role, input: Input) {
        let Some(roles) = &mut self.nodes[node].roles else {
            return;
        };
        roles.handle(self.now, role, input);
        while let Some((role, effect)) =
            self.nodes[node].roles.as_mut().and_then(crate::node::Roles::poll_effect)
        {
            self.perform(node, role, effect);
        }
        self.check_bounds(node);
        self.schedule(node);
    }

    /// Sees to it that a node is woken when it wants to be.
    fn schedule(&mut self, node: usize) {
        let now = self.now;
        let Some(roles) = &mut self.nodes[node].roles else {
            return;
        };
        if let Some(at) = roles.next_timeout().map(|at| at.max(now))
            && roles.wake.is_none_or(|wake| at < wake)
        {
            roles.wake = Some(at);
            self.at(at, Next::Wake { node });
        }
    }

    fn perform(&mut self, node: usize, role: Role, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Publish { topic, message } => {
                let bytes = codec::encode_topic(&message);
                let name = topic.name(&MESH);
                self.log(&format!("{node} publishes on {name}: {}", brief(&bytes)));
                self.publish(node, bytes);
            }
            Effect::Send { to, message } => self.send(node, to, &message),
            Effect::Dial { node: whom, record } => self.dial(node, role, whom, &record),
            Effect::FindChunks { ticket, ids } => {
                let found = self.nodes[node].disk.find(&ids);
                let input = Box::new(Input::ChunksFound { ticket, found });
                let at = self.soon(0, 5);
                self.at(at, Next::Completed { node, life, input });
            }
            Effect::WriteChunk { ticket, chunk } => {
                if self.nodes[node].disk.write(ticket, *chunk) {
                    let at = self.soon(1, 30);
                    self.at(at, Next::Synced { node, life });
                }
            }
            Effect::ReadChunk { ticket, id } => {
                let held = self.nodes[node].disk.held(&id);
                let held = held.map(|chunk| (chunk.header, chunk.sealed.clone()));
                let result = held.ok_or(StoreError::NotFound);
                let input = Box::new(Input::ChunkRead { ticket, result });
                let at = self.soon(0, 20);
                self.at(at, Next::Completed { node, life, input });
            }
            Effect::DeleteChunk { .. } => self.violation(format!("{node} deletes a chunk")),
            Effect::Report(Event::Rejected { reason, .. }) => self.on_reject(node, reason),
            Effect::Report(Event::Owner(event)) => self.on_owner_event(node, event),
        }
    }

    fn publish(&mut self, node: usize, bytes: Bytes) {
        if !self.net.is_reachable(node) {
            return;
        }
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|n| *n != node && self.nodes[*n].is_up()).collect();
        for to in up.iter().copied() {
            for at in self.net.gossip(self.now) {
                let forwarder = up[self.rng.random_range(0..up.len())];
                let forwarder = if forwarder == to { node } else { forwarder };
                let forwarder = self.nodes[forwarder].id;
                self.at(at, Next::Gossip { to, forwarder, bytes: bytes.clone() });
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: &StreamMessage) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else {
            return self.violation(format!("{from} sends to a node that does not exist"));
        };
        let frame = codec::encode_stream(message);
        self.log(&format!("{from} says {} {} to {to}", kind(message), brief(&frame.head)));
        let bytes = frame.head.len() + frame.payload.len();
        match self.net.send(self.now, from, to, bytes) {
            Sent::Arrives { at, epoch } => self.at(at, Next::Frame { from, to, epoch, frame }),
            Sent::Breaks => {
                let at = self.soon(0, 2_000);
                self.at(at, Next::LinkGone { a: from, b: to });
            }
            Sent::Vanishes => {}
            Sent::Refused => self.at(self.now, Next::Away { node: from, peer: to }),
        }
    }

    fn dial(&mut self, from: usize, role: Role, whom: NodeId, record: &Bytes) {
        if role == Role::Holder {
            return self.violation(format!("{from} dials as a holder"));
        }
        let known =
            |node: &Node| node.id == whom && (record.is_empty() || *record == node.record());
        match self.nodes.iter().position(known) {
            Some(to) => {
                let at = Time(self.now.0 + self.net.delay_ms());
                self.at(at, Next::Dialled { from, to });
            }
            None => self.violation(format!("{from} dials nobody it was told of")),
        }
    }

    fn original(&mut self, ticket: Ticket) -> Option<&mut Original> {
        self.originals.get_mut(usize::try_from(ticket.0).ok()?)
    }

    /// Gives the writer chunks while its window is open.
    fn pump_writer(&mut self) {
        while let Some(roles) = &self.nodes[WRITER].roles
            && roles.owner.store_window_free() > 0
            && self.ready > 0
            && let Some(chunk) = self.to_store.pop_front()
        {
            self.ready -= 1;
            let number = self.originals.len() - self.to_store.len() - 1;
            let job = StoreJob {
                ticket: Ticket(number as u64),
                chunk,
                replicas: self.plan.replicas,
                held_by: Vec::new(),
                deadline: self.now.after(Duration::from_secs(60)),
            };
            self.feed(WRITER, Role::Owner, Input::Command(OwnerCommand::Store(job)));
        }
    }

    /// A moment between `from` and `to` milliseconds from now.
    fn soon(&mut self, from: u64, to: u64) -> Time {
        Time(self.now.0 + self.rng.random_range(from..=to))
    }

    fn at(&mut self, at: Time, next: Next) {
        self.next += 1;
        self.agenda.insert((at, self.next), next);
    }

    fn violation(&mut self, what: String) {
        self.log(&format!("VIOLATION: {what}"));
        self.violations.push(what);
    }

    fn log(&mut self, line: &str) {
        let line = format!("{:>9} ms  {line}", self.now.0);
        self.trace.update(line.as_bytes());
        self.trace.update(b"\n");
        (self.observer)(&line);
    }
}

/// A message in the trace: the beginning of its hash.
fn brief(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(8).collect()
}

fn kind(message: &StreamMessage) -> &'static str {
    match message {
        StreamMessage::Hello(_) => "Hello",
        StreamMessage::StoreRequest(_) => "StoreRequest",
        StreamMessage::StoreClaim(_) => "StoreClaim",
        StreamMessage::StoreChunk(_) => "StoreChunk",
        StreamMessage::StoreAck(_) => "StoreAck",
        StreamMessage::StoreReject(_) => "StoreReject",
        StreamMessage::Retrieve(_) => "Retrieve",
        StreamMessage::ChunkData(_) => "ChunkData",
        StreamMessage::RetrieveReject(_) => "RetrieveReject",
    }
}
