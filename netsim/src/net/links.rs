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
    /// It carries nothing any more, from the smaller node and from the larger, and the ends have
    /// not noticed yet.
    dead: [bool; 2],
    /// When the last frame arrives, in each direction.
    last: [Time; 2],
}

/// Which of two directions this is.
fn along(from: Index, to: Index) -> usize {
    usize::from(from > to)
}

/// How a frame fares on its way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trip {
    /// When its last byte arrives, as far as lines and ways go.
    pub(super) arrives: Time,
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
    /// The connection carries nothing any more in this direction, unnoticed.
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
        let link = Link { epoch: self.next, dead: [false; 2], last: [Time(0); 2] };
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

    /// Whether the connection of this epoch still carries something in this direction.
    pub(super) fn carries(&self, from: Index, to: Index, epoch: u64) -> bool {
        self.epoch(from, to) == Some(epoch) && self.flows(from, to)
    }

    /// Whether the two are connected, and the connection carries something in this direction.
    pub(super) fn flows(&self, from: Index, to: Index) -> bool {
        self.links.get(&pair(from, to)).is_some_and(|link| !link.dead[along(from, to)])
    }

    pub(super) fn send(&mut self, now: Time, (from, to): (Index, Index), trip: Trip) -> Sent {
        let Some(link) = self.links.get_mut(&pair(from, to)) else {
            return Sent::Refused;
        };
        if link.dead[along(from, to)] {
            return Sent::Vanishes;
        }
        if trip.breaks {
            link.dead = [true; 2];
            return Sent::Breaks { epoch: link.epoch };
        }
        let last = &mut link.last[along(from, to)];
        // Nothing overtakes what was sent before.
        *last = (*last).max(trip.arrives).after(trip.stall);
        let at = *last;
        if trip.stalls_both {
            link.last = link.last.map(|last| last.max(now.after(trip.stall)));
        }
        Sent::Arrives { at, epoch: link.epoch, stall: trip.stall }
    }

    pub(super) fn break_all(&mut self, node: Index) -> Vec<(Index, u64)> {
        let touches = |from: Index, to: Index| from == node || to == node;
        let broken = self.break_where(touches).into_iter();
        broken.map(|(a, b, epoch)| (if a == node { b } else { a }, epoch)).collect()
    }

    /// Connections die in the directions that `dies` says; those of which none was dead before.
    pub(super) fn break_where(
        &mut self,
        dies: impl Fn(Index, Index) -> bool,
    ) -> Vec<(Index, Index, u64)> {
        let mut found = Vec::new();
        for ((a, b), link) in &mut self.links {
            let dead = [link.dead[0] || dies(*a, *b), link.dead[1] || dies(*b, *a)];
            if link.dead == [false; 2] && dead != [false; 2] {
                found.push((*a, *b, link.epoch));
            }
            link.dead = dead;
        }
        found
    }
}
