//! Who is connected, what each node did before, and dials.
//!
//! Bounds: at most [`CONNECTED_MAX`] peers are used, more are ignored; [`KNOWN_MAX`] nodes are
//! remembered, and the one heard of least recently goes first; [`DIALS_MAX`] dials are open or
//! queued, and above that a dial is refused and its user tries again later.

use super::timers::Pace;
use crate::core::effect::Peer;
use crate::core::message::Hello;
use crate::core::placement::Standing;
use crate::core::types::{NodeId, Time};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Twice the transport's own limit of connections.
pub(super) const CONNECTED_MAX: usize = 256;
pub(super) const KNOWN_MAX: usize = 1_024;
pub(super) const DIALS_MAX: usize = 64;

/// A holder that claimed so recently is asked directly.
pub(super) const CLAIM_FRESH: Duration = Duration::from_secs(600);

/// Where reputation stops: low above, so that good nodes are equals and share the load; deep below.
const SCORE_BEST: i32 = 3;
const SCORE_WORST: i32 = -64;
/// Not asked directly from here down: only when it volunteers anew.
const SCORE_DOUBTFUL: i32 = -16;

/// What is remembered of a node.
#[derive(Debug, Default)]
struct Known {
    standing: Standing,
    score: i32,
    claimed: Option<Time>,
    avoid_until: Time,
    /// Until then it gets nothing new of ours.
    over_quota_until: Time,
    heard: Time,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    connected: BTreeMap<NodeId, Hello>,
    known: BTreeMap<NodeId, Known>,
    nobody: Standing,
}

impl Peers {
    /// Takes a connected peer in; false where there are too many.
    pub(super) fn up(&mut self, now: Time, peer: Peer) -> bool {
        let is_new = !self.connected.contains_key(&peer.node);
        if is_new && self.connected.len() >= CONNECTED_MAX {
            return false;
        }
        let known = self.remember(now, peer.node);
        known.standing.observe(peer.reach);
        known.standing.declare(&peer.hello.site);
        self.connected.insert(peer.node, peer.hello);
        true
    }

    pub(super) fn down(&mut self, node: NodeId) {
        self.connected.remove(&node);
    }

    pub(super) fn is_up(&self, node: &NodeId) -> bool {
        self.connected.contains_key(node)
    }

    pub(super) fn hello(&self, node: &NodeId) -> Option<&Hello> {
        self.connected.get(node)
    }

    pub(super) fn none_connected(&self) -> bool {
        self.connected.is_empty()
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = &NodeId> {
        self.connected.keys()
    }

    /// Where the node stands; a node never met stands apart from all.
    pub(super) fn standing(&self, node: &NodeId) -> &Standing {
        self.known.get(node).map_or(&self.nobody, |known| &known.standing)
    }

    /// Where the node was seen; `None` before it was ever connected.
    pub(super) fn met(&self, node: &NodeId) -> Option<&Standing> {
        self.known.get(node).map(|known| &known.standing).filter(|standing| standing.is_observed())
    }

    /// What the node did before: 0 for a stranger.
    pub(super) fn score(&self, node: &NodeId) -> i32 {
        self.known.get(node).map_or(0, |known| known.score)
    }

    /// Whether what it did before speaks against it.
    pub(super) fn is_doubtful(&self, node: &NodeId) -> bool {
        self.score(node) <= SCORE_DOUBTFUL
    }

    /// Changes a node's reputation.
    pub(super) fn rate(&mut self, now: Time, node: NodeId, change: i32) {
        let known = self.remember(now, node);
        known.score = known.score.saturating_add(change).clamp(SCORE_WORST, SCORE_BEST);
    }

    /// The node volunteered.
    pub(super) fn claimed(&mut self, now: Time, node: NodeId) {
        self.remember(now, node).claimed = Some(now);
    }

    /// The node wants no more chunks for a while.
    pub(super) fn avoid(&mut self, now: Time, node: NodeId, pause: Duration) {
        let known = self.remember(now, node);
        known.avoid_until = known.avoid_until.max(now.after(pause));
    }

    /// The node has as much of ours as it takes. On the topic, where nobody is named, it volunteers
    /// all the same.
    pub(super) fn over_quota(&mut self, now: Time, node: NodeId, pause: Duration) {
        self.remember(now, node).over_quota_until = now.after(pause);
    }

    pub(super) fn is_over_quota(&self, now: Time, node: &NodeId) -> bool {
        self.known.get(node).is_some_and(|known| now < known.over_quota_until)
    }

    pub(super) fn is_avoided(&self, now: Time, node: &NodeId) -> bool {
        self.known.get(node).is_some_and(|known| now < known.avoid_until)
    }

    /// Connected nodes that volunteered lately and did not refuse since.
    pub(super) fn fresh_holders(&self, now: Time) -> Vec<NodeId> {
        let is_fresh = |node: &&NodeId| {
            self.known.get(node).is_some_and(|known| {
                let claimed = known.claimed.is_some_and(|at| now.since(at) <= CLAIM_FRESH);
                claimed && now >= known.avoid_until && known.score > SCORE_DOUBTFUL
            })
        };
        self.connected.keys().filter(is_fresh).copied().collect()
    }

    /// Connected peers, and nodes that are remembered.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.connected.len(), self.known.len())
    }

    fn remember(&mut self, now: Time, node: NodeId) -> &mut Known {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&node) {
            let away = self.known.iter().filter(|(node, _)| !self.connected.contains_key(node));
            let oldest = away.min_by_key(|(node, known)| (known.heard, **node));
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.known.remove(&oldest);
            }
        }
        let known = self.known.entry(node).or_default();
        known.heard = now;
        known
    }
}

/// Dials that were asked for and not answered.
#[derive(Debug)]
pub(super) struct Dials {
    open: BTreeMap<NodeId, Bytes>,
    queue: VecDeque<NodeId>,
    pace: Pace,
}

impl Dials {
    pub(super) fn new(per_second: u32) -> Self {
        Self { open: BTreeMap::new(), queue: VecDeque::new(), pace: Pace::new(per_second) }
    }

    /// Queues a dial; false where there are too many. One that is open already is enough.
    pub(super) fn ask(&mut self, node: NodeId, record: Bytes) -> bool {
        if self.open.contains_key(&node) {
            return true;
        }
        if self.open.len() >= DIALS_MAX {
            return false;
        }
        self.open.insert(node, record);
        self.queue.push_back(node);
        true
    }

    /// The next dial to make, or when the next may be made; `None` where none is wanted.
    pub(super) fn next(&mut self, now: Time) -> Option<Result<(NodeId, Bytes), Time>> {
        while self.queue.front().is_some_and(|node| !self.open.contains_key(node)) {
            self.queue.pop_front();
        }
        let node = *self.queue.front()?;
        if let Err(at) = self.pace.take(now) {
            return Some(Err(at));
        }
        self.queue.pop_front();
        let record = self.open.get(&node).cloned().unwrap_or_default();
        Some(Ok((node, record)))
    }

    /// Dials that are open or queued.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether a dial to the node was open; it is over now.
    pub(super) fn over(&mut self, node: &NodeId) -> bool {
        self.open.remove(node).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::effect::Reach;
    use crate::core::types::MeshId;
    use crate::crypto::keys::AgreementKey;

    fn node(name: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(name as u64).to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn peer(name: usize) -> Peer {
        let hello = Hello {
            node: node(name),
            mesh: MeshId::from_bytes([0; 32]),
            agreement: AgreementKey([0; 32]),
            agreement_signature: [0; 64],
            site: String::new(),
            operator: String::new(),
        };
        Peer { node: node(name), hello, reach: Reach::Local }
    }

    #[test]
    fn remembered_nodes_are_bounded_and_connected_ones_stay() {
        let mut peers = Peers::default();
        assert!(peers.up(Time(0), peer(0)));
        peers.rate(Time(0), node(0), -5);
        for name in 1..3_000 {
            peers.rate(Time(name as u64), node(name), -1);
        }
        assert_eq!(peers.known.len(), KNOWN_MAX);
        assert_eq!(peers.score(&node(0)), -5);
        assert_eq!(peers.score(&node(1)), 0, "the longest unheard of is forgotten");
        assert_eq!(peers.score(&node(2_999)), -1);
    }

    #[test]
    fn peers_above_the_bound_are_not_used() {
        let mut peers = Peers::default();
        let used = (0..300).filter(|name| peers.up(Time(0), peer(*name))).count();
        assert_eq!(used, CONNECTED_MAX);
        assert!(peers.up(Time(1), peer(0)), "a second report of one is not one more");
        peers.down(node(0));
        assert!(peers.up(Time(2), peer(299)));
    }

    #[test]
    fn reputation_has_a_low_top_and_a_deep_bottom() {
        let mut peers = Peers::default();
        for _ in 0..1_000 {
            peers.rate(Time(0), node(1), 1);
            peers.rate(Time(0), node(2), -1);
        }
        assert_eq!((peers.score(&node(1)), peers.score(&node(2))), (SCORE_BEST, SCORE_WORST));
    }

    #[test]
    fn dials_are_bounded_and_one_per_node() {
        let mut dials = Dials::new(1_000);
        let asked = (0..100).filter(|name| dials.ask(node(*name), Bytes::new())).count();
        assert_eq!(asked, DIALS_MAX);
        assert!(dials.ask(node(0), Bytes::new()), "open already");
        let made = std::iter::from_fn(|| dials.next(Time(10_000))).filter(Result::is_ok).count();
        assert_eq!(made, DIALS_MAX);
        assert!(dials.over(&node(0)) && !dials.over(&node(0)));
        assert!(dials.ask(node(99), Bytes::new()));
    }
}
