//! How many answers are opened for one request.
//!
//! To open a sealed box costs a scalar multiplication, to check who signed it two more, and anybody
//! may send one. What does not open, is forged, or says nothing of use, counts apart from what is
//! good, and both count by the neighbour that forwarded it: one that sends rubbish, or answers of
//! nodes that it made up, uses up its own share and nobody else's. An answer whose very bytes were
//! opened before is a replay and not opened again; a second answer in other bytes may well be
//! honest (a node that was asked on its stream and on the topic answers both).

use super::peers::CONNECTED_MAX;
use crate::core::codec::Reject;
use crate::core::types::NodeId;
use crate::crypto::sha256;
use std::collections::{BTreeMap, BTreeSet};

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
    /// SHA-256 of each good answer's box.
    seen: BTreeSet<[u8; 32]>,
}

impl Opened {
    /// Whether this answer is opened, which came from there.
    ///
    /// # Errors
    /// [`Reject::TableFull`] or [`Reject::Replayed`].
    pub(super) fn admit(&mut self, forwarder: NodeId, sealed: &[u8]) -> Result<(), Reject> {
        if !self.may_open(&forwarder) {
            return Err(Reject::TableFull);
        }
        if self.seen.contains(&sha256(&[sealed])) {
            self.note_bad(forwarder);
            return Err(Reject::Replayed);
        }
        Ok(())
    }

    fn may_open(&self, forwarder: &NodeId) -> bool {
        let has_room = self.by.len() < CONNECTED_MAX;
        self.good < GOOD_MAX
            && self.by.get(forwarder).map_or(has_room, |count| {
                count.good < GOOD_PER_FORWARDER && count.bad < BAD_PER_FORWARDER
            })
    }

    /// One was opened, and good.
    pub(super) fn note_good(&mut self, forwarder: NodeId, sealed: &[u8]) {
        let count = self.by.entry(forwarder).or_default();
        count.good = count.good.saturating_add(1);
        self.good = self.good.saturating_add(1);
        self.seen.insert(sha256(&[sealed]));
    }

    /// One was opened in vain.
    pub(super) fn note_bad(&mut self, forwarder: NodeId) {
        let count = self.by.entry(forwarder).or_default();
        count.bad = count.bad.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(opened: &mut Opened, forwarder: NodeId, is_good: bool) -> u32 {
        let mut count = 0;
        let box_of = |count: u32| [forwarder.as_bytes().as_slice(), &count.to_le_bytes()].concat();
        while opened.admit(forwarder, &box_of(count)).is_ok() {
            match is_good {
                true => opened.note_good(forwarder, &box_of(count)),
                false => opened.note_bad(forwarder),
            }
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
            if opened.admit(node(name), b"box").is_ok() {
                opened.note_bad(node(name));
            }
        }
        assert_eq!(opened.by.len(), CONNECTED_MAX);
        assert!(opened.may_open(&node(0)));
    }

    #[test]
    fn same_bytes_are_opened_once_and_cost_their_forwarder_its_share() {
        let (mut opened, node) = (Opened::default(), NodeId::from_bytes([1; 32]));
        opened.note_good(node, b"box");
        for _ in 0..BAD_PER_FORWARDER {
            assert_eq!(opened.admit(node, b"box"), Err(Reject::Replayed));
        }
        assert_eq!(opened.admit(node, b"another"), Err(Reject::TableFull));
        assert_eq!(opened.seen.len(), 1);
    }
}
