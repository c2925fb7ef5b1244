//! What the nodes do: their effects become entries of the agenda, or promises to check.

use super::{Next, World};
use crate::net::Sent;
use crate::node::{MESH, Node, Role};
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::effect::{Effect, Event, Input, StoreError};
use quloud::core::message::StreamMessage;
use quloud::core::types::{NodeId, Time};
use rand::RngExt;

impl World<'_> {
    pub(super) fn perform(&mut self, node: usize, role: Role, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Publish { topic, message } => {
                let bytes = codec::encode_topic(&message);
                let name = topic.name(&MESH);
                self.log(&format!("{node} publishes on {name}: {}", brief(&bytes)));
                self.publish(node, bytes);
            }
            Effect::Send { to, message } => self.send(node, to, &message),
            Effect::Dial { node: whom, record } => self.dial(node, role, whom, &record),
            Effect::FindChunks { ticket, ids } => {
                let found = self.nodes[node].disk.find(&ids);
                let input = Box::new(Input::ChunksFound { ticket, found });
                let at = self.soon(0, 5);
                self.at(at, Next::Completed { node, life, input });
            }
            Effect::WriteChunk { ticket, chunk } => {
                if self.nodes[node].disk.write(ticket, *chunk) {
                    let at = self.soon(1, 30);
                    self.at(at, Next::Synced { node, life });
                }
            }
            Effect::ReadChunk { ticket, id } => {
                let held = self.nodes[node].disk.held(&id);
                let held = held.map(|chunk| (chunk.header, chunk.sealed.clone()));
                let result = held.ok_or(StoreError::NotFound);
                let input = Box::new(Input::ChunkRead { ticket, result });
                let at = self.soon(0, 20);
                self.at(at, Next::Completed { node, life, input });
            }
            Effect::DeleteChunk { .. } => self.violation(format!("{node} deletes a chunk")),
            Effect::Report(Event::Rejected { reason, .. }) => self.on_reject(node, reason),
            Effect::Report(Event::Owner(event)) => self.on_owner_event(node, event),
        }
    }

    fn publish(&mut self, node: usize, bytes: Bytes) {
        if !self.net.is_reachable(node) {
            return;
        }
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|n| *n != node && self.nodes[*n].is_up()).collect();
        for to in up.iter().copied() {
            for at in self.net.gossip(self.now) {
                let forwarder = up[self.rng.random_range(0..up.len())];
                let forwarder = if forwarder == to { node } else { forwarder };
                let forwarder = self.nodes[forwarder].id;
                self.at(at, Next::Gossip { to, forwarder, bytes: bytes.clone() });
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: &StreamMessage) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else {
            return self.violation(format!("{from} sends to a node that does not exist"));
        };
        let frame = codec::encode_stream(message);
        self.log(&format!("{from} says {} {} to {to}", kind(message), brief(&frame.head)));
        let bytes = frame.head.len() + frame.payload.len();
        match self.net.send(self.now, from, to, bytes) {
            Sent::Arrives { at, epoch } => self.at(at, Next::Frame { from, to, epoch, frame }),
            Sent::Breaks => {
                let at = self.soon(0, 2_000);
                self.at(at, Next::LinkGone { a: from, b: to });
            }
            Sent::Vanishes => {}
            Sent::Refused => self.at(self.now, Next::Away { node: from, peer: to }),
        }
    }

    fn dial(&mut self, from: usize, role: Role, whom: NodeId, record: &Bytes) {
        if role == Role::Holder {
            return self.violation(format!("{from} dials as a holder"));
        }
        let known =
            |node: &Node| node.id == whom && (record.is_empty() || *record == node.record());
        match self.nodes.iter().position(known) {
            Some(to) => {
                let at = Time(self.now.0 + self.net.delay_ms());
                self.at(at, Next::Dialled { from, to });
            }
            None => self.violation(format!("{from} dials nobody it was told of")),
        }
    }
}

/// A message in the trace: the beginning of its hash.
pub(super) fn brief(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(8).collect()
}

fn kind(message: &StreamMessage) -> &'static str {
    match message {
        StreamMessage::Hello(_) => "Hello",
        StreamMessage::StoreRequest(_) => "StoreRequest",
        StreamMessage::StoreClaim(_) => "StoreClaim",
        StreamMessage::StoreChunk(_) => "StoreChunk",
        StreamMessage::StoreAck(_) => "StoreAck",
        StreamMessage::StoreReject(_) => "StoreReject",
        StreamMessage::Retrieve(_) => "Retrieve",
        StreamMessage::ChunkData(_) => "ChunkData",
        StreamMessage::RetrieveReject(_) => "RetrieveReject",
    }
}
