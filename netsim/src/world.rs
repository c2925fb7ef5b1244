//! One world: nodes, a network and time, all of it decided by one number.
//!
//! A run has three parts. The *writer* puts chunks while connections break and holders crash; then
//! holders die for good, fewer than a chunk has replicas; then the writer fetches half of the
//! chunks from the holders it knows, and a *reader* that comes new into the mesh searches for the
//! other half. What is promised at any time is compared with what the disks really hold.
//!
//! | file | what it holds |
//! |---|---|
//! | `world/step.rs` | what happens to the nodes |
//! | `world/perform.rs` | what they do |
//! | `world/check.rs` | what they must not do |

mod check;
mod perform;
mod step;

use crate::net::Net;
use crate::node::{Node, Role};
use crate::plan::Plan;
use bytes::Bytes;
use quloud::core::codec::Frame;
use quloud::core::effect::Input;
use quloud::core::owner::{FetchJob, OwnerCommand, StoreJob};
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
