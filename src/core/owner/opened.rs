//! How many answers are opened for one request.
//!
//! To open a sealed box costs a scalar multiplication, and anybody may send one. What does not
//! open, or says nothing of use, counts apart from what is good, and both count by the neighbour
//! that forwarded it: one that sends rubbish, or answers of nodes that it made up, uses up its own
//! share and nobody else's.

use super::peers::CONNECTED_MAX;
use crate::core::types::NodeId;
use std::collections::BTreeMap;

/// Answers of no use that are opened, by forwarder.
pub(super) const BAD_PER_FORWARDER: u32 = 256;
/// Good answers that are opened, by forwarder.
pub(super) const GOOD_PER_FORWARDER: u32 = 256;
/// Good answers in all.
const GOOD_MAX: u32 = 1_024;

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    good: u32,
    bad: u32,
}

/// What was opened for one request.
#[derive(Debug, Default)]
pub(super) struct Opened {
    good: u32,
    by: BTreeMap<NodeId, Count>,
}

impl Opened {
    /// Whether one more answer is opened that came from there.
    pub(super) fn may_open(&self, forwarder: &NodeId) -> bool {
        let has_room = self.by.len() < CONNECTED_MAX;
        self.good < GOOD_MAX
            && self.by.get(forwarder).map_or(has_room, |count| {
                count.good < GOOD_PER_FORWARDER && count.bad < BAD_PER_FORWARDER
            })
    }

    /// One was opened.
    pub(super) fn note(&mut self, forwarder: NodeId, is_good: bool) {
        let count = self.by.entry(forwarder).or_default();
        if is_good {
            self.good = self.good.saturating_add(1);
            count.good = count.good.saturating_add(1);
        } else {
            count.bad = count.bad.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(opened: &mut Opened, forwarder: NodeId, is_good: bool) -> u32 {
        let mut count = 0;
        while opened.may_open(&forwarder) {
            opened.note(forwarder, is_good);
            count += 1;
        }
        count
    }

    #[test]
    fn every_forwarder_has_its_own_share_and_there_is_an_end_to_good_ones() {
        let mut opened = Opened::default();
        let nodes: Vec<NodeId> = (0..8).map(|name| NodeId::from_bytes([name; 32])).collect();
        assert_eq!(fill(&mut opened, nodes[0], false), BAD_PER_FORWARDER);
        assert_eq!(fill(&mut opened, nodes[1], false), BAD_PER_FORWARDER);
        let good: u32 = nodes[2..].iter().map(|node| fill(&mut opened, *node, true)).sum();
        assert_eq!(good, GOOD_MAX);
    }

    #[test]
    fn forwarders_are_bounded() {
        let mut opened = Opened::default();
        let node = |name: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&name.to_le_bytes());
            NodeId::from_bytes(bytes)
        };
        for name in (0..1_000).filter(|name| *name % 2 == 0) {
            if opened.may_open(&node(name)) {
                opened.note(node(name), false);
            }
        }
        assert_eq!(opened.by.len(), CONNECTED_MAX);
        assert!(opened.may_open(&node(0)));
    }
}
