//! What the network half counts: drops and rejections, each with its reason.

use super::NetEvent;
use super::events::Item;
use crate::core::codec::Reject;
use crate::core::types::NodeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// Totals since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages from peers that were turned down, by reason.
    pub rejected: BTreeMap<Reject, u64>,
    /// Own messages dropped because a queue was full: commands, or one peer's frames.
    pub dropped: u64,
    /// Chunks that peers asked for and that were answered with Busy, because too much was on its
    /// way already.
    pub busy: u64,
    /// Own gossip that no neighbour took: nobody is subscribed, or all their queues were full.
    pub unpublished: u64,
    /// Gossip not handed on because the drive loop was busy.
    pub ignored: u64,
    /// Connections refused: limits, bans, peers that are not ours.
    pub refused: u64,
    /// Connections closed because of what the peer did.
    pub closed: u64,
}

/// The counters that the handle, the swarm task and the stream tasks share.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Counters>);

impl Ledger {
    /// Changes some counters.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a rejection, and tells the drive loop where it has time to hear of it.
    pub(super) fn reject(&self, events: &mpsc::Sender<Item>, from: Option<NodeId>, reason: Reject) {
        self.count(|counters| {
            let count = counters.rejected.entry(reason).or_default();
            *count = count.saturating_add(1);
        });
        if let Some(from) = from {
            let event = NetEvent::Rejected { from, reason };
            let _ = events.try_send(Item { event, permits: Vec::new() });
        }
    }

    /// The counters as they are.
    pub(super) fn snapshot(&self) -> Counters {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
