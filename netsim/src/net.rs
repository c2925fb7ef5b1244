//! Delivery: gossip that is lost, doubled and late; streams that keep their order until they break.

use crate::plan::{Plan, happens};
use quloud::core::types::Time;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;

/// A connection between two nodes, by index, the smaller first.
type Pair = (usize, usize);

#[derive(Debug)]
struct Link {
    /// Names this connection: what was sent over an earlier one is lost.
    epoch: u64,
    /// It carries nothing any more, and the ends have not noticed yet.
    broken: bool,
    /// When the last frame arrives, for each sender.
    last: BTreeMap<usize, Time>,
}

/// The network between the nodes of one world.
#[derive(Debug)]
pub(crate) struct Net {
    rng: ChaCha20Rng,
    plan: Plan,
    links: BTreeMap<Pair, Link>,
    next_epoch: u64,
    /// What was lost, doubled, cut, and how often.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

/// What became of a frame.
pub(crate) enum Sent {
    /// It arrives then, if the connection of this epoch still stands.
    Arrives { at: Time, epoch: u64 },
    /// The connection broke under it.
    Breaks,
    /// The connection is broken already, unnoticed.
    Vanishes,
    /// There is no connection.
    Refused,
}

impl Net {
    pub(crate) fn new(rng: ChaCha20Rng, plan: Plan) -> Self {
        Self { rng, plan, links: BTreeMap::new(), next_epoch: 0, faults: BTreeMap::new() }
    }

    /// How long something is on its way.
    pub(crate) fn delay_ms(&mut self) -> u64 {
        let (shortest, longest) = self.plan.delay_ms;
        let delay = self.rng.random_range(shortest..=longest);
        let slow = happens(&mut self.rng, self.plan.slow);
        self.count("late", slow);
        if slow { delay * 10 } else { delay }
    }

    /// Whether a gossip copy or a dial is lost.
    pub(crate) fn loses(&mut self) -> bool {
        let loses = happens(&mut self.rng, self.plan.loss);
        self.count("lost", loses);
        loses
    }

    /// When the copies of a gossiped message arrive at one node: none, one or two.
    pub(crate) fn gossip(&mut self, now: Time) -> Vec<Time> {
        let twice = happens(&mut self.rng, self.plan.duplicate);
        self.count("doubled", twice);
        let copies = if twice { 2 } else { 1 };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let at = Time(now.0 + self.delay_ms());
            if !self.loses() {
                arrivals.push(at);
            }
        }
        arrivals
    }

    /// Sends a frame of this length, at 10 MB/s.
    pub(crate) fn send(&mut self, now: Time, from: usize, to: usize, bytes: usize) -> Sent {
        let delay = self.delay_ms() + bytes as u64 / 10_000;
        let breaks = happens(&mut self.rng, self.plan.cut);
        let Some(link) = self.links.get_mut(&pair(from, to)) else {
            return Sent::Refused;
        };
        if link.broken {
            return Sent::Vanishes;
        }
        if breaks {
            link.broken = true;
            self.count("cut", true);
            return Sent::Breaks;
        }
        let last = link.last.entry(from).or_insert(now);
        *last = (*last).max(Time(now.0 + delay));
        Sent::Arrives { at: *last, epoch: link.epoch }
    }

    /// Connects two nodes; `false` where they are connected already.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> bool {
        if self.links.contains_key(&pair(a, b)) {
            return false;
        }
        self.next_epoch += 1;
        let link = Link { epoch: self.next_epoch, broken: false, last: BTreeMap::new() };
        self.links.insert(pair(a, b), link);
        true
    }

    /// Ends a connection; `false` where there is none.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        self.links.remove(&pair(a, b)).is_some()
    }

    pub(crate) fn count(&mut self, fault: &'static str, happened: bool) {
        *self.faults.entry(fault).or_insert(0) += u64::from(happened);
    }

    /// Marks all connections of a node that died as broken; the peers they lead to.
    pub(crate) fn break_all(&mut self, node: usize) -> Vec<usize> {
        let mut peers = Vec::new();
        for ((a, b), link) in &mut self.links {
            if *a == node || *b == node {
                link.broken = true;
                peers.push(if *a == node { *b } else { *a });
            }
        }
        peers
    }

    /// Whether the connection of this epoch still carries what was sent over it.
    pub(crate) fn carries(&self, a: usize, b: usize, epoch: u64) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.epoch == epoch && !link.broken)
    }

    /// Whether a node has any connection that works: else no gossip leaves it.
    pub(crate) fn is_reachable(&self, node: usize) -> bool {
        let touches = |(a, b): &Pair| *a == node || *b == node;
        self.links.iter().any(|(pair, link)| touches(pair) && !link.broken)
    }
}

fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}
