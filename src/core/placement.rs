//! Which of the nodes that volunteered get a chunk: one per failure domain, the better ones first.
//!
//! Pure functions over plain facts; who volunteered and what became of a grant is the owner role's
//! business, and what a node is worth that of [`reputation`](super::reputation). "Domain" is not a
//! label but a relation between two nodes: whether one event, or one cheat, may take both (see
//! [`Standing::shares`]).

use super::effect::Reach;
use super::types::NodeId;
use crate::planted::{self, Bug};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many different places a node is remembered at.
pub const REACHES_MAX: usize = 8;

/// What counts as one failure domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DomainPolicy {
    /// Peers on loopback, private or link-local addresses count one each, unless they declare the
    /// same site: a mesh in one house works, with all copies in one house.
    #[default]
    LanCountsEach,
    /// The whole LAN is one domain.
    Strict,
}

/// Two nodes, the smaller id first.
pub type Pair = (NodeId, NodeId);

/// Where a node stands, as far as it was observed or declared, now or earlier.
///
/// The default is a node of which nothing is known yet: it shares a domain with nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    reaches: BTreeSet<Reach>,
    site: String,
    /// The pairs that it is one of.
    bonds: Arc<BTreeSet<Pair>>,
}

impl Standing {
    /// A node with this declared site (empty where it declares none), not observed yet.
    pub fn declared(site: &str) -> Self {
        Self { site: site.trim().to_lowercase(), ..Self::default() }
    }

    /// Adds a place where the node was seen. Above [`REACHES_MAX`] places nothing is added: a node
    /// cannot talk its way out of a domain by moving on.
    pub fn observe(&mut self, reach: Reach) {
        if self.reaches.len() < REACHES_MAX {
            self.reaches.insert(reach);
        }
    }

    /// Takes over what the node declares now.
    pub fn declare(&mut self, site: &str) {
        self.site = site.trim().to_lowercase();
    }

    /// Takes over which pairs the node is one of that shared a domain at some time, and are taken
    /// to do so still.
    pub fn bind(&mut self, bonds: Arc<BTreeSet<Pair>>) {
        self.bonds = bonds;
    }

    /// Whether it was ever connected, so that its places are known.
    pub fn is_observed(&self) -> bool {
        !self.reaches.is_empty()
    }

    /// Whether it was, or is one of a [pair](Self::bind).
    pub fn is_known(&self) -> bool {
        self.is_observed() || !self.bonds.is_empty()
    }

    /// Whether the two may be lost, or may lie, together.
    ///
    /// - A [pair](Self::bind) that both are one of: yes.
    /// - The same declared site: yes. A site only ever joins; nobody stands apart by declaring one.
    /// - Any public /24 or /48 that both were seen in: yes.
    /// - Both in the LAN: under [`DomainPolicy::Strict`] only.
    /// - Both seen through relays and nowhere else: yes. Their domains are unknown, and an unknown
    ///   domain cannot be told from another: else a hundred names behind one relay would be a
    ///   hundred domains. One relayed peer beside known ones counts as a domain of its own.
    pub fn shares(&self, other: &Self, policy: DomainPolicy) -> bool {
        if !self.site.is_empty() && self.site == other.site {
            return true;
        }
        if !self.bonds.is_disjoint(&other.bonds) {
            return true;
        }
        let both = |reach: &Reach| match reach {
            Reach::PublicV4(_) | Reach::PublicV6(_) => {
                other.reaches.contains(reach) && !planted::is_on(Bug::SameDomainTwice)
            }
            Reach::Local => policy == DomainPolicy::Strict && other.reaches.contains(reach),
            Reach::Relayed => self.is_only_relayed() && other.is_only_relayed(),
        };
        self.reaches.iter().any(both)
    }

    fn is_only_relayed(&self) -> bool {
        !self.reaches.is_empty() && self.reaches.iter().all(|reach| *reach == Reach::Relayed)
    }
}

/// Each two of these nodes that share a failure domain. Takes time that grows with the square of
/// their number.
pub fn together(
    nodes: &BTreeMap<NodeId, Standing>,
    policy: DomainPolicy,
) -> impl Iterator<Item = Pair> {
    nodes.iter().enumerate().flat_map(move |(at, (node, standing))| {
        let others = nodes.iter().skip(at + 1);
        let near = others.filter(move |(_, other)| standing.shares(other, policy));
        near.map(|(other, _)| (*node, *other))
    })
}

/// A node that would take a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Who.
    pub node: NodeId,
    /// Where it stands.
    pub standing: &'a Standing,
    /// What it is worth, by what it did before: more is better, and `None` is never placed. See
    /// [`score`](super::reputation::score).
    pub score: Option<i32>,
    /// It says that it holds the chunk already, so that another copy there takes no space.
    pub holds: bool,
    /// There is a connection to it.
    pub connected: bool,
}

/// Picks up to `wanted` of `candidates`, best first, no two of them in one domain and none in the
/// domain of a node in `taken`.
///
/// Order: score, then who holds the chunk already, then who is connected, then a shuffle that
/// `tie_break` alone decides. Greedy: where domains overlap without being equal it may find fewer
/// than the most possible.
pub fn place(
    candidates: &[Candidate<'_>],
    taken: &[&Standing],
    wanted: usize,
    policy: DomainPolicy,
    tie_break: u64,
) -> Vec<NodeId> {
    let mut order: Vec<&Candidate<'_>> =
        candidates.iter().filter(|candidate| candidate.score.is_some()).collect();
    order.sort_by_key(|candidate| {
        let Candidate { score, holds, connected, node, .. } = **candidate;
        (std::cmp::Reverse(score), !holds, !connected, shuffle(tie_break, &node), node)
    });
    let mut taken = taken.to_vec();
    let mut picked = Vec::new();
    for candidate in order {
        if picked.len() >= wanted {
            break;
        }
        let apart = !taken.iter().any(|other| candidate.standing.shares(other, policy));
        if apart && !picked.contains(&candidate.node) {
            taken.push(candidate.standing);
            picked.push(candidate.node);
        }
    }
    picked
}

/// A number for `node` that nobody who does not know `seed` can choose: the finalizer of SplitMix64
/// (Steele, Lea, Flood 2014) over the node id's four words.
fn shuffle(seed: u64, node: &NodeId) -> u64 {
    node.as_bytes().chunks_exact(8).fold(seed, |state, word| {
        let word = word.iter().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use DomainPolicy::{LanCountsEach, Strict};

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 32])
    }

    fn at(reach: Reach) -> Standing {
        let mut standing = Standing::default();
        standing.observe(reach);
        standing
    }

    fn plain(node: NodeId, standing: &Standing) -> Candidate<'_> {
        Candidate { node, standing, score: Some(0), holds: false, connected: true }
    }

    #[test]
    fn hundred_nodes_of_one_subnet_are_one_domain() {
        let subnet = at(Reach::PublicV4([203, 0, 113]));
        let all: Vec<_> = (0..100).map(|name| plain(node(name), &subnet)).collect();
        assert_eq!(place(&all, &[], 3, LanCountsEach, 7).len(), 1);
        assert_eq!(place(&all, &[&subnet], 3, LanCountsEach, 7).len(), 0);
    }

    #[test]
    fn lan_peers_count_one_each_unless_strict_or_one_site() {
        let (home, mut attic) = (at(Reach::Local), at(Reach::Local));
        assert!(!home.shares(&attic, LanCountsEach));
        assert!(home.shares(&attic, Strict));
        let mut cellar = home.clone();
        cellar.declare("Home ");
        attic.declare("home");
        assert!(cellar.shares(&attic, LanCountsEach));
        assert!(!cellar.shares(&home, LanCountsEach));
    }

    #[test]
    fn any_coinciding_public_prefix_or_site_joins() {
        let mut moved = at(Reach::PublicV4([198, 51, 100]));
        moved.observe(Reach::PublicV6([0x20, 1, 0xd, 0xb8, 0, 1]));
        assert!(moved.shares(&at(Reach::PublicV4([198, 51, 100])), LanCountsEach));
        assert!(moved.shares(&at(Reach::PublicV6([0x20, 1, 0xd, 0xb8, 0, 1])), LanCountsEach));
        assert!(!moved.shares(&at(Reach::PublicV4([198, 51, 101])), Strict));
        let mut elsewhere = at(Reach::PublicV4([192, 0, 2]));
        elsewhere.declare("garage");
        moved.declare("garage");
        assert!(moved.shares(&elsewhere, LanCountsEach));
    }

    #[test]
    fn relayed_peers_count_once_together_and_apart_from_known_ones() {
        let (one, other) = (at(Reach::Relayed), at(Reach::Relayed));
        assert!(one.shares(&other, LanCountsEach) && one.shares(&other, Strict));
        assert!(!one.shares(&at(Reach::Local), Strict));
        let mut punched = other.clone();
        punched.observe(Reach::PublicV4([203, 0, 113]));
        assert!(!one.shares(&punched, Strict));
    }

    #[test]
    fn places_above_the_bound_do_not_push_out_old_ones() {
        let mut nomad = Standing::default();
        for last in 0..=20 {
            nomad.observe(Reach::PublicV4([10, 0, last]));
        }
        assert!(nomad.shares(&at(Reach::PublicV4([10, 0, 0])), Strict));
        assert!(!nomad.shares(&at(Reach::PublicV4([10, 0, 20])), Strict));
    }

    #[test]
    fn better_reputation_comes_first_then_who_holds_then_who_is_connected() {
        let standing = Standing::default();
        let best = Candidate { score: Some(3), connected: false, ..plain(node(1), &standing) };
        let holds = Candidate { holds: true, connected: false, ..plain(node(2), &standing) };
        let near = plain(node(3), &standing);
        let far = Candidate { connected: false, ..plain(node(4), &standing) };
        let worst = Candidate { score: Some(-1), holds: true, ..plain(node(5), &standing) };
        let all = [far, worst, near, best, holds];
        for seed in 0..50 {
            assert_eq!(place(&all, &[], 9, Strict, seed), [1, 2, 3, 4, 5].map(node));
        }
    }

    #[test]
    fn those_that_shared_a_domain_do_wherever_they_are_seen() {
        let mut stand = [1, 2, 3].map(|last| at(Reach::PublicV4([203, 0, last])));
        let pairs = [(node(1), node(2)), (node(2), node(3))];
        let bonds = [&pairs[..1], &pairs[..], &pairs[1..]];
        for (standing, bonds) in stand.iter_mut().zip(bonds) {
            standing.bind(Arc::new(bonds.iter().copied().collect()));
        }
        let shares = |one: usize, other: usize| stand[one].shares(&stand[other], LanCountsEach);
        assert_eq!([shares(0, 1), shares(1, 2), shares(2, 0)], [true, true, false]);
        assert!(!stand[0].shares(&at(Reach::Local), Strict));
    }

    #[test]
    fn whoever_stands_together_is_named_once() {
        let (town, city) = (Reach::PublicV4([203, 0, 113]), Reach::PublicV4([198, 51, 100]));
        let mut both = at(town);
        both.observe(city);
        let stand = [(1, at(town)), (2, both), (3, at(city)), (4, at(Reach::Local))];
        let stand = BTreeMap::from(stand.map(|(name, standing)| (node(name), standing)));
        let named = |policy| together(&stand, policy).collect::<Vec<_>>();
        assert_eq!(named(LanCountsEach), [(1, 2), (2, 3)].map(|(a, b)| (node(a), node(b))));
        assert_eq!(named(Strict), named(LanCountsEach), "one in the LAN is alone");
    }

    #[test]
    fn who_is_never_to_be_placed_is_not_even_where_nobody_else_is() {
        let standing = Standing::default();
        let liar = Candidate { score: None, holds: true, ..plain(node(1), &standing) };
        assert_eq!(place(&[liar], &[], 3, LanCountsEach, 7), []);
        let last = Candidate { score: Some(-128), ..plain(node(2), &standing) };
        assert_eq!(place(&[liar, last], &[], 3, LanCountsEach, 7), [node(2)]);
    }

    #[test]
    fn a_better_score_is_no_reason_for_two_replicas_in_one_domain() {
        let (home, away) = (at(Reach::PublicV4([203, 0, 113])), at(Reach::Local));
        let best = |name| Candidate { score: Some(5), ..plain(node(name), &home) };
        let worst = Candidate { score: Some(-64), ..plain(node(9), &away) };
        for seed in 0..20 {
            let placed = place(&[best(1), best(2), worst], &[], 3, LanCountsEach, seed);
            assert!(placed.len() == 2 && placed[1] == node(9), "{placed:?}");
        }
    }

    #[test]
    fn ties_are_broken_by_the_seed_alone() {
        let standing = Standing::default();
        let all: Vec<_> = (0..40).map(|name| plain(node(name), &standing)).collect();
        let backwards: Vec<_> = all.iter().rev().copied().collect();
        let picks: Vec<_> = (0..20).map(|seed| place(&all, &[], 3, LanCountsEach, seed)).collect();
        for (seed, pick) in (0..).zip(&picks) {
            assert_eq!(*pick, place(&backwards, &[], 3, LanCountsEach, seed));
        }
        assert!(picks.iter().collect::<BTreeSet<_>>().len() > 10);
    }
}
