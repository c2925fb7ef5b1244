//! Who is connected, what each node did before, and dials.
//!
//! Bounds: at most [`CONNECTED_MAX`] peers are used, more are ignored; [`KNOWN_MAX`] nodes are
//! remembered, and the one heard of least recently goes first, strangers before those that did
//! anything: a flood of new names forgets nothing but new names; [`DIALS_MAX`] dials are open or
//! queued, and above that a dial is refused and its user tries again later.

use super::timers::Pace;
use crate::core::effect::Peer;
use crate::core::message::Hello;
use crate::core::placement::{Pair, Standing};
use crate::core::reputation::{self, Conduct, DOUBTFUL, Deed, FADES};
use crate::core::types::{self, NodeId, Time};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Twice the transport's own limit of connections.
pub(super) const CONNECTED_MAX: usize = 256;
pub(super) const KNOWN_MAX: usize = 1_024;
pub(super) const DIALS_MAX: usize = 64;

/// A holder that claimed so recently is asked directly.
pub(super) const CLAIM_FRESH: Duration = Duration::from_secs(600);

/// What is remembered of a node.
#[derive(Debug, Default)]
struct Known {
    standing: Standing,
    /// Where it stands by audits.
    audited: types::Standing,
    conduct: Conduct,
    /// When its conduct last faded, or it was first heard of,
    faded: Time,
    /// and how long before that.
    faded_before: Duration,
    claimed: Option<Time>,
    avoid_until: Time,
    /// Until then it gets nothing new of ours.
    over_quota_until: Time,
    heard: Time,
}

impl Known {
    /// For how long its conduct has not faded.
    fn unfaded(&self, now: Time) -> Duration {
        now.since(self.faded).saturating_add(self.faded_before)
    }

    /// Its conduct as it is by now.
    fn conduct(&self, now: Time) -> Conduct {
        self.conduct.faded(self.unfaded(now))
    }

    fn score(&self, now: Time) -> Option<i32> {
        reputation::score(&self.conduct(now), self.audited)
    }

    /// Nothing is remembered of it that a new name would not have.
    fn is_strange(&self) -> bool {
        !self.conduct.tells() && self.audited == types::Standing::Unknown
    }
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    connected: BTreeMap<NodeId, Hello>,
    known: BTreeMap<NodeId, Known>,
    nobody: Standing,
    /// Those that share a domain with others by what was seen earlier, and by nothing else.
    bound: BTreeMap<NodeId, Standing>,
    /// Whose conduct changed since that was last asked.
    changed: BTreeSet<NodeId>,
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

    /// Where the node was seen, and what it declared; `None` before it was ever connected.
    pub(super) fn met(&self, node: &NodeId) -> Option<&Standing> {
        self.known.get(node).map(|known| &known.standing).filter(|standing| standing.is_observed())
    }

    /// Where a node that was never connected stands by what it declares.
    pub(super) fn declared(&self, node: &NodeId, site: &str) -> Standing {
        let mut standing = self.standing(node).clone();
        standing.declare(site);
        standing
    }

    /// Where the node stands; one of which nothing is known stands apart from all.
    pub(super) fn standing(&self, node: &NodeId) -> &Standing {
        self.stands(node).unwrap_or(&self.nobody)
    }

    /// The same; `None` where nothing is known of it.
    pub(super) fn stands(&self, node: &NodeId) -> Option<&Standing> {
        let known = self.known.get(node).map(|known| &known.standing);
        known.or_else(|| self.bound.get(node)).filter(|standing| standing.is_known())
    }

    /// All pairs of nodes that shared a domain, and are taken to do so still.
    pub(super) fn bind(&mut self, pairs: &[Pair]) {
        let mut bonds: BTreeMap<NodeId, BTreeSet<Pair>> = BTreeMap::new();
        for (one, other) in pairs {
            for node in [one, other] {
                bonds.entry(*node).or_default().insert((*one, *other));
            }
        }
        let bonds = bonds.into_iter().map(|(node, bonds)| (node, Arc::new(bonds)));
        let bonds: BTreeMap<NodeId, Arc<BTreeSet<Pair>>> = bonds.collect();
        for (node, known) in &mut self.known {
            known.standing.bind(bonds.get(node).cloned().unwrap_or_default());
        }
        let stand = |bonds| {
            let mut standing = Standing::default();
            standing.bind(bonds);
            standing
        };
        self.bound = bonds.into_iter().map(|(node, bonds)| (node, stand(bonds))).collect();
    }

    /// What the node is worth: 0 for a stranger, `None` for whoever is never given anything.
    pub(super) fn score(&self, now: Time, node: &NodeId) -> Option<i32> {
        self.known.get(node).map_or(Some(0), |known| known.score(now))
    }

    /// Whether what it did before speaks against it.
    pub(super) fn is_doubtful(&self, now: Time, node: &NodeId) -> bool {
        self.score(now, node).is_none_or(|score| score <= DOUBTFUL)
    }

    /// Where the node stands among those that are said to have a chunk: less is asked first.
    pub(super) fn fetch_rank(&self, now: Time, node: &NodeId) -> (u8, u8) {
        let (conduct, audited) = match self.known.get(node) {
            Some(known) => (known.conduct(now), known.audited),
            None => Default::default(),
        };
        reputation::fetch_rank(&conduct, audited)
    }

    /// The node did something.
    pub(super) fn rate(&mut self, now: Time, node: NodeId, deed: Deed) {
        let known = self.remember(now, node);
        let unfaded = known.unfaded(now);
        known.conduct = known.conduct.faded(unfaded);
        let rest = unfaded.as_millis() % FADES.as_millis();
        known.faded_before = Duration::from_millis(u64::try_from(rest).unwrap_or(0));
        known.faded = now;
        known.conduct.on(deed);
        self.changed.insert(node);
    }

    /// What the node did in an earlier run, and for how long that has not faded.
    pub(super) fn acquaint(
        &mut self,
        now: Time,
        node: NodeId,
        (conduct, age): (Conduct, Duration),
    ) {
        let known = self.remember(now, node);
        (known.conduct, known.faded, known.faded_before) = (conduct, now, age);
    }

    /// What the node's audits say.
    pub(super) fn judge(&mut self, now: Time, node: NodeId, standing: types::Standing) {
        self.remember(now, node).audited = standing;
    }

    /// Those whose conduct changed since this was last called: how it is, and for how long it has
    /// not faded.
    pub(super) fn take_changed(&mut self, now: Time) -> Vec<(NodeId, Conduct, Duration)> {
        let changed = std::mem::take(&mut self.changed);
        let of = |node| self.known.get(&node).map(|it| (node, it.conduct, it.unfaded(now)));
        changed.into_iter().filter_map(of).collect()
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
                let is_trusted = known.score(now).is_some_and(|score| score > DOUBTFUL);
                claimed && now >= known.avoid_until && is_trusted
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
            let oldest =
                away.min_by_key(|(node, known)| (!known.is_strange(), known.heard, **node));
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.known.remove(&oldest);
                self.changed.remove(&oldest);
            }
        }
        let new = || Known {
            faded: now,
            standing: self.bound.get(&node).cloned().unwrap_or_default(),
            ..Known::default()
        };
        let known = self.known.entry(node).or_insert_with(new);
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
        peers.rate(Time(0), node(0), Deed::Failed);
        for name in 1..3_000 {
            peers.rate(Time(name as u64), node(name), Deed::Busy);
        }
        let score = |name| peers.score(Time(3_000), &node(name));
        assert_eq!((peers.known.len(), peers.changed.len()), (KNOWN_MAX, KNOWN_MAX));
        assert_eq!([0, 1, 2_999].map(score), [-4, 0, -1].map(Some), "the oldest is forgotten");
    }

    #[test]
    fn a_flood_of_new_names_makes_nobody_forget_who_did_badly() {
        let mut peers = Peers::default();
        peers.rate(Time(0), node(0), Deed::WrongBytes);
        peers.judge(Time(0), node(1), types::Standing::Liar);
        for name in 2..5_000 {
            peers.claimed(Time(name as u64), node(name));
        }
        assert_eq!(peers.known.len(), KNOWN_MAX);
        let score = |name| peers.score(Time(5_000), &node(name));
        assert_eq!([score(0), score(1), score(2)], [Some(-32), None, Some(0)]);
    }

    #[test]
    fn what_is_bad_fades_through_restarts_too() {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        let mut peers = Peers::default();
        peers.rate(Time(0), node(1), Deed::WrongBytes);
        let later = Time(0).after(4 * DAY);
        let [(_, conduct, age)] = peers.take_changed(later)[..] else { panic!("it changed") };
        assert_eq!((conduct.credit, age), (-32, 4 * DAY));
        assert!(peers.take_changed(later).is_empty());

        let mut peers = Peers::default();
        peers.acquaint(Time(0), node(1), (conduct, age));
        let score = |peers: &Peers, days| peers.score(Time(0).after(days * DAY), &node(1));
        assert_eq!([2, 3, 10].map(|days| score(&peers, days)), [-32, -16, -8].map(Some));
        assert!(peers.take_changed(Time(0)).is_empty(), "that is no news");
        // A deed in between does not begin the week anew.
        peers.rate(Time(0).after(5 * DAY), node(1), Deed::Busy);
        assert_eq!([5, 9, 10].map(|days| score(&peers, days)), [-17, -17, -8].map(Some));
    }

    #[test]
    fn whoever_shared_a_domain_does_whether_it_was_met_or_forgotten() {
        let policy = crate::core::placement::DomainPolicy::LanCountsEach;
        let shares = |peers: &Peers, one: usize, other: usize| {
            peers.standing(&node(one)).shares(peers.standing(&node(other)), policy)
        };
        let mut peers = Peers::default();
        assert!(peers.up(Time(0), peer(1)));
        peers.bind(&[(node(1), node(2)), (node(3), node(4))]);
        assert!(shares(&peers, 1, 2) && shares(&peers, 3, 4) && !shares(&peers, 1, 3));
        assert!(peers.stands(&node(2)).is_some() && peers.stands(&node(9)).is_none());
        assert!(peers.up(Time(1), peer(2)));
        peers.rate(Time(1), node(3), Deed::Busy);
        assert!(shares(&peers, 1, 2) && shares(&peers, 3, 4));
        for name in 10..3_000 {
            peers.claimed(Time(name as u64), node(name));
        }
        assert!(shares(&peers, 1, 2) && shares(&peers, 3, 4));
        peers.bind(&[]);
        assert!(!shares(&peers, 1, 2) && !shares(&peers, 3, 4));
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
