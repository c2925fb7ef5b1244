//! Whom the swarm task dials: those the roles ask for, and those that keep the node in its mesh.

use super::Driver;
use crate::core::types::NodeId;
use crate::net::behaviour::Behaviour;
use crate::net::discovery::Attempt;
use crate::net::{NetEvent, address, ids, record};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm};
use libp2p::{Multiaddr, PeerId};
use rand::Rng;
use std::time::{Duration, Instant};

/// Dials that the roles have asked for and that are not answered.
const ASKED_MAX: usize = 256;

/// How long such a dial may take.
const ASKED_FOR: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) fn dial(&mut self, node: NodeId, record: &[u8], now: Instant) {
        let peer = ids::peer_id(&node);
        if self.peers.is_up(&peer) {
            return;
        }
        let addresses = if record.is_empty() {
            Ok(self.discovery.addresses(&node))
        } else {
            record::read(&node, record)
        };
        let addresses = match addresses {
            Ok(mut addresses) => {
                let own = &self.shared_addresses;
                addresses.retain(|to| record.is_empty() || address::is_plausible(to, own));
                addresses
            }
            Err(reason) => {
                self.registry.ledger.reject(&self.common.events, Some(node), reason);
                return self.down(node);
            }
        };
        let full = self.asked.len() >= ASKED_MAX || !self.asked_rate.take(now);
        if full || peer == *self.swarm.local_peer_id() {
            return self.down(node);
        }
        self.asked.insert(node, now);
        if self.peers.is_connected(&peer) {
            return;
        }
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(options) {
            // Somebody else's dial is under way: its end answers ours.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(_) => self.down(node),
        }
    }

    /// Announces that a node is not up, once.
    pub(super) fn down(&mut self, node: NodeId) {
        self.asked.remove(&node);
        let same = |event: &NetEvent| matches!(event, NetEvent::Down(other) if *other == node);
        if !self.outbox.back().is_some_and(same) {
            self.outbox.push_back(NetEvent::Down(node));
        }
    }

    /// A dial that the roles asked for has come to nothing.
    pub(super) fn answer_asked(&mut self, peer: &PeerId) {
        let Some(node) = ids::node(peer) else {
            return;
        };
        let open = self.peers.is_connected(peer) || self.peers.is_up(peer);
        if self.asked.contains_key(&node) && !open {
            self.down(node);
        }
    }

    /// Answers the dials that have taken too long.
    pub(super) fn give_up_asked(&mut self, now: Instant) {
        let overdue = self.asked.iter().filter(|(_, since)| **since + ASKED_FOR < now);
        for node in overdue.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.down(node);
        }
    }

    /// Writes an up peer's addresses into the book.
    pub(super) fn remember(&mut self, peer: &PeerId, node: NodeId, now: Instant) {
        let mut addresses: Vec<Multiaddr> = self.peers.dialled(peer).cloned().collect();
        addresses.extend(self.claimed.get(peer).into_iter().flatten().cloned());
        self.discovery.book.met(node, &addresses, now);
    }

    /// Dials whoever may be dialled while there are fewer peers than wanted.
    pub(super) fn look_for_peers(&mut self, now: Instant) {
        let wanted = self.common.limits.peers_low;
        let Self { swarm, peers, discovery, .. } = self;
        if peers.up_count() >= wanted {
            return;
        }
        discovery.try_bootstraps(
            now,
            |p| peers.is_connected(p),
            |attempt| try_dial(swarm, attempt),
        );
        let local = *swarm.local_peer_id();
        while let Some(attempt) = discovery.next_attempt(now, |peer| {
            let avoided = swarm.behaviour().gate.is_avoided(peer, now);
            *peer == local || avoided || peers.is_connected(peer)
        }) {
            try_dial(swarm, attempt);
        }
        // With an empty routing table a walk finds nobody, and the next one is far away.
        let is_up =
            |(peer, at): (&PeerId, &Vec<Multiaddr>)| !at.is_empty() && self.peers.is_up(peer);
        if self.next_walk <= now && self.claimed.iter().any(is_up) {
            self.next_walk = now + self.common.limits.walk;
            let mut key = vec![0; 32];
            self.rng.fill_bytes(&mut key);
            self.swarm.behaviour_mut().kad.get_closest_peers(key);
        }
    }
}

fn try_dial(swarm: &mut Swarm<Behaviour>, attempt: Attempt) -> Option<ConnectionId> {
    let options = match attempt.peer {
        Some(peer) => DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(attempt.addresses)
            .build(),
        None => {
            let address = attempt.addresses.into_iter().next()?;
            DialOpts::unknown_peer_id().address(address).build()
        }
    };
    let id = options.connection_id();
    swarm.dial(options).is_ok().then_some(id)
}
