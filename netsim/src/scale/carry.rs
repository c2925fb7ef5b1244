//! What the roles of a mesh want done.

use super::mesh::{Event, Mesh};
use crate::chance::between;
use crate::net::Sent;
use crate::node::{Index, Role};
use bytes::Bytes;
use quloud::core::codec;
use quloud::core::effect::{self, Effect, Input};
use quloud::core::message::{StreamMessage, TopicMessage};
use quloud::core::topic::{Topic, TopicKind};
use quloud::core::types::{NodeId, Time};
use rand::seq::IndexedRandom;
use std::time::Duration;

/// How long a look into the catalogue takes.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// How long the disk takes for a group.
const COMMIT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// For how long a connection is kept that was made for that.
const IDLE: Duration = Duration::from_secs(60);

impl Mesh {
    pub(super) fn carry_out(&mut self, node: Index, role: Role, effect: Effect) {
        match effect {
            Effect::Publish { topic, message } => self.publish(node, topic, &message),
            Effect::Send { to, message } => self.send(node, role, to, message),
            Effect::Dial { node: to, .. } => self.dial(node, to),
            Effect::FindChunks { ticket, ids } => {
                let wait = between(&mut self.rng, LOOK.0, LOOK.1);
                self.agenda.after(wait, Event::Find { node, ticket, ids });
            }
            Effect::WriteChunk { ticket, chunk } => {
                let machine = self.nodes[node].machine.as_mut();
                if machine.is_some_and(|machine| machine.store.write(ticket, chunk)) {
                    self.commit_later(node);
                }
            }
            Effect::Report(effect::Event::Owner(event)) => self.on_owner_event(&event),
            // Nothing is read, deleted or let go here, nobody has heads, and what is turned down
            // costs nothing more.
            Effect::ReadChunk { .. }
            | Effect::DeleteChunk { .. }
            | Effect::ListChunks { .. }
            | Effect::QueryChunks { .. }
            | Effect::ProveChunk { .. }
            | Effect::ReleaseChunks { .. }
            | Effect::OwnerHeard { .. }
            | Effect::WriteHead { .. }
            | Effect::ReadHeads { .. }
            | Effect::Report(_) => {}
        }
    }

    pub(super) fn commit_later(&mut self, node: Index) {
        let wait = between(&mut self.rng, COMMIT.0, COMMIT.1);
        self.agenda.after(wait, Event::Commit { node });
    }

    /// Gossips, where the node is connected to enough that subscribe; else it connects to some.
    fn publish(&mut self, node: Index, topic: Topic, message: &TopicMessage) {
        let bytes = codec::encode_topic(message);
        match message {
            _ if self.heals => {}
            TopicMessage::Answer(_) => self.figures.answers += 1,
            _ => self.figures.requests += 1,
        }
        let nodes = &self.nodes;
        let lacks = self.net.lacks_hearers(node, |peer| nodes[peer].hears(topic));
        if lacks == 0 {
            return self.gossip(node, topic, &bytes);
        }
        let members = self.members.get(&topic.shard).map(Vec::as_slice).unwrap_or_default();
        let others = members.sample(&mut self.rng, lacks + 1);
        let others: Vec<Index> = others.copied().filter(|peer| *peer != node).collect();
        let mut last = Duration::ZERO;
        for peer in others.into_iter().take(lacks) {
            if !self.net.is_connected(node, peer) && self.nodes[peer].is_up() {
                let (wait, _) = self.net.dial();
                self.figures.looked_up += 1;
                self.agenda.after(wait, Event::Connect { a: node, b: peer });
                last = last.max(wait);
            }
        }
        self.agenda.after(last, Event::Publish { node, topic, bytes });
    }

    pub(super) fn gossip(&mut self, node: Index, topic: Topic, bytes: &Bytes) {
        let now = self.agenda.now();
        let before = self.net.traffic[node].gossip_bytes;
        let nodes = &self.nodes;
        let arrivals = self.net.gossip(now, node, bytes.len(), |peer| nodes[peer].hears(topic));
        if topic.kind == TopicKind::Store && !self.heals {
            self.figures.asking_bytes += self.net.traffic[node].gossip_bytes - before;
        }
        for arrival in arrivals {
            let (to, forwarder) = (arrival.to, arrival.forwarder);
            self.agenda.at(arrival.at, Event::Gossip { to, forwarder, bytes: bytes.clone() });
        }
        self.close_later(node);
    }

    /// Connections that were made to publish are closed when they have been idle.
    fn close_later(&mut self, node: Index) {
        let is_kept = |peer: &Index| self.kept.contains(&(node.min(*peer), node.max(*peer)));
        let made: Vec<Index> = self.net.peers(node).filter(|peer| !is_kept(peer)).collect();
        for peer in made {
            if let Some(epoch) = self.net.epoch(node, peer) {
                self.agenda.after(IDLE, Event::Close { a: node, b: peer, epoch });
            }
        }
    }

    fn send(&mut self, node: Index, role: Role, to: NodeId, message: StreamMessage) {
        let Some(&to) = self.indices.get(&to) else { return };
        let frame = codec::encode_stream(&message);
        let (head, payload) = (frame.head.len() as u64, frame.payload.len() as u64);
        let now: Time = self.agenda.now();
        match self.net.send(now, node, to, frame.head.len() + frame.payload.len()) {
            Sent::Arrives { at, epoch, .. } => {
                self.agenda.at(at, Event::Frame { from: node, to, epoch, frame });
            }
            Sent::Refused => self.agenda.at(now, Event::Unreachable { node, peer: to }),
            // Noticed later.
            Sent::Breaks { .. } | Sent::Vanishes => {}
        }
        if role == Role::Owner && payload > 0 {
            // Who holds something of ours stays connected.
            self.keep(node, to);
        }
        let figures = &mut self.figures;
        match (self.heals, role) {
            (true, Role::Owner) => figures.healing_bytes += payload,
            (true, Role::Holder) => {}
            (false, Role::Owner) => {
                figures.payload_bytes += payload;
                figures.asking_bytes += head;
                figures.frame_bytes += head;
            }
            (false, Role::Holder) => figures.frame_bytes += head,
        }
    }

    /// A holder that was picked is connected, and the connection kept.
    fn dial(&mut self, node: Index, to: NodeId) {
        let Some(&peer) = self.indices.get(&to) else { return };
        self.keep(node, peer);
        if self.net.is_connected(node, peer) {
            // It was made in the meantime.
            let peer = self.nodes[peer].peer();
            return self.feed(node, Role::Owner, Input::PeerUp(peer));
        }
        let (wait, _) = self.net.dial();
        self.agenda.after(wait, Event::Connect { a: node, b: peer });
    }
}
