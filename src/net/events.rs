//! What the network tells the drive loop, and the bounded queue it goes through.

use super::NetLimits;
use crate::core::codec::Reject;
use crate::core::effect::{Peer, Via};
use crate::core::message::Message;
use crate::core::topic::Topic;
use crate::core::types::NodeId;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Something happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A member of our mesh is connected; its Hello was checked.
    Up(Peer),
    /// It is gone, or could not be reached.
    Down(NodeId),
    /// A peer subscribed to this topic: what was published before did not reach it.
    Subscribed(Topic),
    /// A decoded message. Its proofs are not checked yet.
    Message {
        /// The stream's authenticated peer, or the neighbour that forwarded the gossip.
        from: NodeId,
        /// How it came.
        via: Via,
        /// What it says.
        message: Message,
    },
    /// Something was turned down; also counted in [`super::Counters`]. Left out when the drive
    /// loop is too busy to hear of it.
    Rejected {
        /// Whose.
        from: NodeId,
        /// Why.
        reason: Reject,
    },
    /// A new listening address, with `/p2p/PEERID`.
    Listening(String),
    /// The node's signed PeerRecord has changed.
    OwnRecord(Bytes),
}

/// An event on its way, with its share of the bounds on what is unprocessed.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: NetEvent,
    /// Given back when the drive loop takes the event.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

/// The receiving end: at most [`NetLimits::events`] events wait here.
#[derive(Debug)]
pub struct NetEvents(mpsc::Receiver<Item>);

impl NetEvents {
    /// The next event; `None` when the network half has ended.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        let Item { event, permits } = self.0.recv().await?;
        drop(permits);
        Some(event)
    }

    /// The next event where one is waiting.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        let Item { event, permits } = self.0.try_recv().ok()?;
        drop(permits);
        Some(event)
    }
}

/// The queue between the network and the drive loop.
pub(super) fn channel(limits: &NetLimits) -> (mpsc::Sender<Item>, NetEvents) {
    let (sender, receiver) = mpsc::channel(limits.events);
    (sender, NetEvents(receiver))
}
