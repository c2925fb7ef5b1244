//! The stores that counted in one run of a put, and whether their nodes have others by now.
//!
//! A node that lost its store acknowledges under a new epoch. What it acknowledged before is gone,
//! also for chunks that were reported as stored.

use crate::core::types::{NodeId, StoreEpoch};
use std::collections::BTreeMap;

/// The store of each node that counted, when it was first heard of.
#[derive(Debug, Default)]
pub(super) struct Stores(BTreeMap<NodeId, StoreEpoch>);

impl Stores {
    /// Those that count from the beginning.
    pub(super) fn of(all: impl IntoIterator<Item = (NodeId, StoreEpoch)>) -> Self {
        Self(all.into_iter().collect())
    }

    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }

    pub(super) fn saw(&mut self, node: NodeId, epoch: StoreEpoch) {
        self.0.entry(node).or_insert(epoch);
    }

    /// How many of the nodes have another store by now.
    pub(super) fn lost(&self, store_of: impl Fn(&NodeId) -> Option<StoreEpoch>) -> u8 {
        let is_lost = |(node, epoch): &(&NodeId, &StoreEpoch)| store_of(node) != Some(**epoch);
        u8::try_from(self.0.iter().filter(is_lost).count()).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_that_lost_its_store_in_the_run_counts_as_lost_once() {
        let node = |number| NodeId::from_bytes([number; 32]);
        let epoch = |number| StoreEpoch::from_bytes([number; 16]);
        let mut stores = Stores::default();
        for (holder, store) in [(1, 1), (2, 1), (2, 1), (1, 5), (1, 6)] {
            stores.saw(node(holder), epoch(store));
        }
        let is_now = |first, second| {
            move |of: &NodeId| Some(if *of == node(1) { epoch(first) } else { epoch(second) })
        };
        assert_eq!(stores.lost(is_now(1, 1)), 0);
        assert_eq!(stores.lost(is_now(6, 1)), 1);
        assert_eq!(stores.lost(is_now(6, 2)), 2);
        assert_eq!(stores.lost(|_| None), 2);
    }
}
