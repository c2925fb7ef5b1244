//! Connections between pairs of nodes.

use crate::node::Index;
use quloud::core::types::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Two nodes, the smaller first.
type Pair = (Index, Index);

fn pair(a: Index, b: Index) -> Pair {
    (a.min(b), a.max(b))
}

#[derive(Debug)]
struct Link {
    /// Names this connection: what was sent over an earlier one is lost.
    epoch: u64,
    /// It carries nothing any more, and the ends have not noticed yet.
    broken: bool,
    /// When the last frame arrives, from the smaller node and from the larger.
    last: [Time; 2],
}

/// How a frame fares on its way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trip {
    /// How long its bytes take.
    pub(super) crawl: Duration,
    /// How long the way takes.
    pub(super) hop: Duration,
    /// For how long it stops in the middle: nothing is lost, and nothing overtakes it.
    pub(super) stall: Duration,
    /// What is sent in the other direction has to wait as well.
    pub(super) stalls_both: bool,
    /// The connection breaks under it.
    pub(super) breaks: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It arrives then, if the connection of this epoch still stands; it stalled for so long.
    Arrives { at: Time, epoch: u64, stall: Duration },
    /// The connection breaks under it.
    Breaks { epoch: u64 },
    /// The connection is broken already, unnoticed.
    Vanishes,
    /// There is no connection.
    Refused,
}

/// All connections of this moment.
#[derive(Debug)]
pub(super) struct Links {
    links: BTreeMap<Pair, Link>,
    peers: Vec<BTreeSet<Index>>,
    next: u64,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        Self { links: BTreeMap::new(), peers: vec![BTreeSet::new(); nodes], next: 0 }
    }

    pub(super) fn join(&mut self) {
        self.peers.push(BTreeSet::new());
    }

    /// The nodes that a node has a connection to that it takes for working.
    pub(super) fn peers(&self, node: Index) -> impl Iterator<Item = Index> + '_ {
        self.peers[node].iter().copied()
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.links.keys().copied()
    }

    pub(super) fn epoch(&self, a: Index, b: Index) -> Option<u64> {
        self.links.get(&pair(a, b)).map(|link| link.epoch)
    }

    pub(super) fn connect(&mut self, a: Index, b: Index) -> bool {
        if a == b || self.links.contains_key(&pair(a, b)) {
            return false;
        }
        self.next += 1;
        let link = Link { epoch: self.next, broken: false, last: [Time(0); 2] };
        self.links.insert(pair(a, b), link);
        self.peers[a].insert(b);
        self.peers[b].insert(a);
        true
    }

    pub(super) fn disconnect(&mut self, a: Index, b: Index, epoch: u64) -> bool {
        if self.epoch(a, b) != Some(epoch) {
            return false;
        }
        self.links.remove(&pair(a, b));
        self.peers[a].remove(&b);
        self.peers[b].remove(&a);
        true
    }

    pub(super) fn carries(&self, a: Index, b: Index, epoch: u64) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|link| link.epoch == epoch && !link.broken)
    }

    pub(super) fn send(&mut self, now: Time, (from, to): (Index, Index), trip: Trip) -> Sent {
        let Some(link) = self.links.get_mut(&pair(from, to)) else {
            return Sent::Refused;
        };
        if link.broken {
            return Sent::Vanishes;
        }
        if trip.breaks {
            link.broken = true;
            return Sent::Breaks { epoch: link.epoch };
        }
        let [from_smaller, from_larger] = &mut link.last;
        let last = if from < to { from_smaller } else { from_larger };
        // The line is busy with what was sent before; then this crawls over it.
        *last = (*last).max(now.after(trip.hop)).after(trip.crawl).after(trip.stall);
        let at = *last;
        if trip.stalls_both {
            link.last = link.last.map(|last| last.max(now.after(trip.stall)));
        }
        Sent::Arrives { at, epoch: link.epoch, stall: trip.stall }
    }

    pub(super) fn break_all(&mut self, node: Index) -> Vec<(Index, u64)> {
        let touches = |a: Index, b: Index| a == node || b == node;
        let broken = self.break_where(touches).into_iter();
        broken.map(|(a, b, epoch)| (if a == node { b } else { a }, epoch)).collect()
    }

    pub(super) fn break_where(
        &mut self,
        broken: impl Fn(Index, Index) -> bool,
    ) -> Vec<(Index, Index, u64)> {
        let mut found = Vec::new();
        for ((a, b), link) in &mut self.links {
            if !link.broken && broken(*a, *b) {
                link.broken = true;
                found.push((*a, *b, link.epoch));
            }
        }
        found
    }
}
