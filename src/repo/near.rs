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
        for (one, other) in pairs {
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

    /// Whether two nodes stand together here that did not there.
    pub fn is_beyond(&self, before: &Self) -> bool {
        let knew = |node, other| before.0.get(node).is_some_and(|near| near.contains(other));
        self.0.iter().any(|(node, near)| near.iter().any(|other| !knew(node, other)))
    }

    /// Of these nodes those that count: each that stands apart from all that count before it.
    /// Where domains overlap without being equal these may be fewer than could.
    pub fn apart(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut apart: Vec<NodeId> = Vec::new();
        for node in nodes {
            let near = self.0.get(&node).filter(|_| !is_on(Bug::CountTogether));
            if !near.is_some_and(|near| apart.iter().any(|other| near.contains(other))) {
                apart.push(node);
            }
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: u8) -> NodeId {
        NodeId::from_bytes([name; 32])
    }

    fn near(pairs: &[(u8, u8)]) -> Near {
        pairs.iter().map(|(one, other)| (node(*one), node(*other))).collect()
    }

    #[test]
    fn of_nodes_that_stand_together_one_counts() {
        let near = near(&[(1, 2), (3, 2)]);
        let apart = |names: &[u8]| near.apart(names.iter().map(|name| node(*name)));
        assert_eq!(apart(&[1, 2, 3, 4, 9]), [1, 3, 4, 9].map(node), "2 stands with both");
        assert_eq!(apart(&[2, 1, 3, 4]), [2, 4].map(node), "who comes first counts");
        assert_eq!(Near::default().apart([1, 2].map(node).into_iter()), [1, 2].map(node));
    }

    #[test]
    fn what_is_new_is_told_from_what_was_known() {
        let (one, two) = (near(&[(1, 2)]), near(&[(2, 1), (2, 3)]));
        assert!(two.is_beyond(&one) && !one.is_beyond(&two) && !two.is_beyond(&two));
        assert!(one.is_beyond(&Near::default()) && !Near::default().is_beyond(&one));
        assert!(Near::default().is_empty() && !one.is_empty());
    }
}
