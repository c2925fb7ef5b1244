//! Which holders share a failure domain: of a chunk's replicas there one counts. Pure.
//!
//! Who shares one is told by where nodes were seen, which is not this module's; here it is a
//! relation between two. It need not hold between a first and a third where it does between each of
//! them and a second.

use crate::core::types::NodeId;
use crate::planted::{Bug, is_on};
use std::collections::{BTreeMap, BTreeSet};

/// See the module's documentation. By default all stand apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Near(BTreeMap<NodeId, BTreeSet<NodeId>>);

impl FromIterator<(NodeId, NodeId)> for Near {
    fn from_iter<I: IntoIterator<Item = (NodeId, NodeId)>>(pairs: I) -> Self {
        let mut near: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for (one, other) in pairs.into_iter().filter(|(one, other)| one != other) {
            near.entry(one).or_default().insert(other);
            near.entry(other).or_default().insert(one);
        }
        Self(near)
    }
}

impl Near {
    /// Whether each node stands apart from all others.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that stand together with others.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.0.keys()
    }

    /// Whether these two share a domain.
    pub fn is_near(&self, one: &NodeId, other: &NodeId) -> bool {
        self.0.get(one).is_some_and(|near| near.contains(other))
    }

    /// Of these nodes those that count: as many as there can be of which no two share a domain, so
    /// that one that stands beside several hides none of them. Of as many the first. Each node
    /// once.
    pub fn apart(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = nodes.collect();
        let shares = |node: &NodeId| nodes.iter().any(|other| self.is_near(node, other));
        let crowd: Vec<NodeId> = match self.0.is_empty() || is_on(Bug::CountTogether) {
            true => Vec::new(),
            false => nodes.iter().filter(|node| shares(node)).copied().collect(),
        };
        if crowd.is_empty() {
            return nodes;
        }
        let chosen = if crowd.len() <= EXACT_MAX { self.most(&crowd) } else { self.many(&crowd) };
        let counts = |node: &NodeId| !crowd.contains(node) || chosen.contains(node);
        nodes.into_iter().filter(counts).collect()
    }

    /// The most of them that stand apart, of at most [`EXACT_MAX`].
    fn most(&self, crowd: &[NodeId]) -> Vec<NodeId> {
        let bit = |at: usize| 1_u32 << (crowd.len() - 1 - at);
        let near = |node: &NodeId| {
            let them = (0..).zip(crowd).filter(|(_, other)| self.is_near(node, other));
            them.fold(0, |all, (at, _)| all | bit(at))
        };
        let near: Vec<u32> = crowd.iter().map(near).collect();
        let is_apart =
            |set: &u32| (0..).zip(&near).all(|(at, near)| set & bit(at) == 0 || set & near == 0);
        // The first node is the highest bit.
        let sets = (0..1 << crowd.len()).filter(is_apart);
        let best: u32 = sets.max_by_key(|set: &u32| (set.count_ones(), *set)).unwrap_or(0);
        (0..).zip(crowd).filter(|(at, _)| best & bit(*at) > 0).map(|(_, node)| *node).collect()
    }

    /// Many of them that stand apart: first those that have the fewest neighbours.
    fn many(&self, crowd: &[NodeId]) -> Vec<NodeId> {
        let neighbours = |node: &&NodeId| crowd.iter().filter(|of| self.is_near(node, of)).count();
        let mut order: Vec<&NodeId> = crowd.iter().collect();
        order.sort_by_key(neighbours);
        let mut chosen: Vec<NodeId> = Vec::new();
        for node in order {
            if !chosen.iter().any(|other| self.is_near(node, other)) {
                chosen.push(*node);
            }
        }
        chosen
    }
}

/// Of so many nodes that share domains the most that stand apart are found for certain.
const EXACT_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 32])
    }

    fn near(pairs: &[(u8, u8)]) -> Near {
        pairs.iter().map(|(one, other)| (node(*one), node(*other))).collect()
    }

    #[test]
    fn of_nodes_that_stand_together_as_many_count_as_can_whatever_their_order() {
        let near = near(&[(1, 2), (3, 2), (5, 6)]);
        let apart = |names: &[u8]| near.apart(names.iter().map(|name| node(*name)));
        assert_eq!(apart(&[1, 2, 3, 4, 9]), [1, 3, 4, 9].map(node), "2 stands with both");
        assert_eq!(apart(&[2, 1, 3, 4]), [1, 3, 4].map(node), "and hides none of them");
        assert_eq!(apart(&[6, 2, 5, 1]), [6, 2].map(node), "of as many the first");
        assert_eq!(apart(&[2, 7]), [2, 7].map(node));
        assert_eq!(Near::default().apart([1, 2].map(node).into_iter()), [1, 2].map(node));
    }

    #[test]
    fn of_more_than_are_tried_in_all_ways_those_with_the_fewest_neighbours_count() {
        // Each but the first is near the first; and 3 is near 2.
        let pairs: Vec<(u8, u8)> = (2..40).map(|name| (1, name)).chain([(2, 3)]).collect();
        let apart = near(&pairs).apart((1..40).map(node));
        assert_eq!(
            apart,
            (1..40).filter(|name| ![1, 3].contains(name)).map(node).collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn as_many_count_in_any_order(
            pairs in prop::collection::vec((0_u8..7, 0_u8..7), 0..9),
            names in Just((0_u8..7).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let pairs: Vec<(u8, u8)> = pairs.into_iter().filter(|(a, b)| a != b).collect();
            let near = near(&pairs);
            let apart = near.apart(names.into_iter().map(node));
            let sorted = near.apart((0..7).map(node));
            prop_assert_eq!(apart.len(), sorted.len());
            let is_free = |one: &NodeId| !apart.iter().any(|other| near.is_near(one, other));
            prop_assert!(apart.iter().all(is_free));
        }
    }
}
