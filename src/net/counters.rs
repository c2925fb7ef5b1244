//! What the network half counts: drops and rejections, each with its reason.

use crate::core::codec::Reject;
use std::collections::BTreeMap;

/// Totals since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages from peers that were turned down, by reason.
    pub rejected: BTreeMap<Reject, u64>,
    /// Own messages dropped because a queue was full: commands, or one peer's frames.
    pub dropped: u64,
    /// Own gossip that no neighbour's queue took, or that nobody is subscribed to.
    pub unpublished: u64,
    /// Gossip not handed on because the drive loop was busy.
    pub ignored: u64,
    /// Connections refused: limits, bans, peers that are not ours.
    pub refused: u64,
    /// Connections closed because of what the peer did.
    pub closed: u64,
}
