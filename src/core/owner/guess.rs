//! Who may have a chunk because it served its neighbours.
//!
//! Chunks of one locality often have the same holders, and a good guess saves a search. A wrong one
//! costs the holder a look-up that proves nothing, which it allows each peer at a low rate only. So
//! a node that does not have what is guessed [`MISSES_MAX`] times in a row is not guessed for the
//! locality until it serves a chunk of it, and at [`MISSES_PER_SECOND`] (well below what holders
//! allow) it is not guessed at all.
//!
//! Bounds: [`RECENT_MAX`] localities with [`RECENT_NODES_MAX`] nodes each (the least recently used
//! forgotten first), and one rate per connected node that was guessed in vain.

use super::timers::Pace;
use crate::core::types::{Locality, NodeId, Time};
use std::collections::{BTreeMap, VecDeque};

pub(super) const RECENT_MAX: usize = 64;
pub(super) const RECENT_NODES_MAX: usize = 16;
const MISSES_MAX: u32 = 3;
const MISSES_PER_SECOND: u32 = 3;

/// What to do with a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// Ask this node.
    Ask(NodeId),
    /// Wait for room at a node that has guessed well, until then.
    Wait(Time),
}

/// A node that served chunks of a locality.
#[derive(Debug)]
struct Server {
    node: NodeId,
    /// Wrong guesses since it last served one.
    misses: u32,
}

/// Who served a chunk of which locality: probably has its neighbours too.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    recent: VecDeque<(Locality, VecDeque<Server>)>,
    /// How often each node may be guessed in vain.
    paces: BTreeMap<NodeId, Pace>,
}

impl Guesses {
    /// The node that served last, of those that are `open` to a guess and have room; `room` says
    /// otherwise until when it is worth waiting for that.
    pub(super) fn next(
        &mut self,
        now: Time,
        locality: Locality,
        open: impl Fn(&NodeId) -> bool,
        room: impl Fn(&NodeId) -> Result<(), Time>,
    ) -> Option<Guess> {
        let (_, servers) = self.recent.iter().find(|(other, _)| *other == locality)?;
        let paces = &mut self.paces;
        let mut wait = None;
        for Server { node, misses } in servers {
            let has_pace = paces.get_mut(node).is_none_or(|pace| pace.has(now));
            if *misses >= MISSES_MAX || !has_pace || !open(node) {
                continue;
            }
            match room(node) {
                Ok(()) => return Some(Guess::Ask(*node)),
                Err(until) if *misses == 0 && until > now => wait = wait.max(Some(until)),
                Err(_) => {}
            }
        }
        wait.map(Guess::Wait)
    }

    /// The node served a chunk.
    pub(super) fn served(&mut self, locality: Locality, node: NodeId) {
        let at = self.recent.iter().position(|(other, _)| *other == locality);
        let known = at.and_then(|at| self.recent.remove(at)).map(|(_, servers)| servers);
        let mut servers = known.unwrap_or_default();
        servers.retain(|server| server.node != node);
        servers.push_front(Server { node, misses: 0 });
        servers.truncate(RECENT_NODES_MAX);
        self.recent.push_front((locality, servers));
        self.recent.truncate(RECENT_MAX);
    }

    /// The node was asked on a guess, and did not serve.
    pub(super) fn missed(&mut self, now: Time, locality: Locality, node: NodeId) {
        let pace = self.paces.entry(node).or_insert_with(|| Pace::new(MISSES_PER_SECOND));
        // More may have been on their way than it has tokens: then it has none.
        let _ = pace.take(now);
        let mut servers = self.recent.iter_mut().filter(|(other, _)| *other == locality);
        let mut servers = servers.by_ref().flat_map(|(_, servers)| servers);
        if let Some(server) = servers.find(|server| server.node == node) {
            server.misses = server.misses.saturating_add(1);
        }
    }

    /// Localities, nodes in the largest of them, and nodes with a rate.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let largest = self.recent.iter().map(|(_, servers)| servers.len()).max();
        (self.recent.len(), largest.unwrap_or(0), self.paces.len())
    }

    /// The node went away.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.paces.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Locality = Locality(1);

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 32])
    }

    fn next(guesses: &mut Guesses, now: Time) -> Option<Guess> {
        guesses.next(now, HERE, |_| true, |_| Ok(()))
    }

    #[test]
    fn node_that_misses_three_times_in_a_row_is_not_guessed_until_it_serves() {
        let mut guesses = Guesses::default();
        guesses.served(HERE, node(1));
        let mut now = Time(10_000);
        for _ in 0..MISSES_MAX {
            assert_eq!(next(&mut guesses, now), Some(Guess::Ask(node(1))));
            guesses.missed(now, HERE, node(1));
            now = Time(now.0 + 10_000);
        }
        assert_eq!(next(&mut guesses, now), None);
        guesses.served(Locality(2), node(1));
        assert_eq!(next(&mut guesses, now), None, "another locality says nothing");
        guesses.served(HERE, node(1));
        assert_eq!(next(&mut guesses, now), Some(Guess::Ask(node(1))));
    }

    #[test]
    fn wrong_guesses_stay_below_the_rate_of_holders_however_often_it_serves() {
        let mut guesses = Guesses::default();
        let mut misses = 0;
        for now in (1_000..61_000).map(Time) {
            guesses.served(HERE, node(1));
            if next(&mut guesses, now).is_some() {
                guesses.missed(now, HERE, node(1));
                misses += 1;
            }
        }
        assert!(misses <= 60 * MISSES_PER_SECOND + MISSES_PER_SECOND, "{misses}");
    }

    #[test]
    fn only_a_node_that_guesses_well_and_delivers_is_waited_for() {
        let mut guesses = Guesses::default();
        guesses.served(HERE, node(1));
        let mut full = |now| guesses.next(now, HERE, |_| true, |_| Err(Time(5_500)));
        assert_eq!(full(Time(5_000)), Some(Guess::Wait(Time(5_500))));
        assert_eq!(full(Time(5_500)), None, "nothing comes from there");
        guesses.missed(Time(5_000), HERE, node(1));
        assert_eq!(guesses.next(Time(5_000), HERE, |_| true, |_| Err(Time(5_500))), None);
    }
}
