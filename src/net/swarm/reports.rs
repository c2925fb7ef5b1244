//! What libp2p reports, and what follows from it.

use super::Driver;
use crate::core::codec::Reject;
use crate::core::effect::Via;
use crate::core::message::Message;
use crate::net::behaviour::BehaviourEvent;
use crate::net::discovery::Source;
use crate::net::events::Item;
use crate::net::links::LinkEvent;
use crate::net::peers::{Addresses, Step};
use crate::net::streams::{End, StreamTask};
use crate::net::topics::Verdict;
use crate::net::{NetEvent, address, ids, record};
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub;
use libp2p::kad::{self, QueryResult};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};
use std::time::Instant;

impl Driver {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, now),
            SwarmEvent::NewListenAddr { address, .. } => {
                let address = address::with_peer(address, *self.swarm.local_peer_id());
                self.outbox.push_back(NetEvent::Listening(address.to_string()));
                self.renew_record();
            }
            SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => self.renew_record(),
            SwarmEvent::ListenerClosed { reason, addresses, .. } => {
                tracing::warn!(?reason, ?addresses, "no longer listening");
                self.renew_record();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, endpoint, now);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                if num_established == 0 {
                    self.topics.disconnected(&peer_id);
                    self.claimed.remove(&peer_id);
                }
                let steps = self.peers.disconnected(peer_id, connection_id, now);
                self.carry_out(steps);
                self.answer_asked(&peer_id);
            }
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { .. }, .. } => {
                self.registry.ledger.count(|counters| counters.refused += 1);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(peer = ?peer_id, %error, "not connected");
                if let DialError::LocalPeerId { .. } = error {
                    self.discovery.was_ourselves(connection_id);
                }
                peer_id.iter().for_each(|peer| self.answer_asked(peer));
            }
            _ => {}
        }
    }

    fn on_connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: ConnectedPoint,
        now: Instant,
    ) {
        let Some(node) = ids::node(&peer) else {
            self.swarm.close_connection(connection);
            return;
        };
        let dialled = endpoint.is_dialer();
        let (address, _) = address::split_peer(endpoint.get_remote_address().clone());
        // A name is what was dialled; where it led is where the peer stands.
        let by_name = dialled && address::is_name(&address);
        let resolved = by_name.then(|| self.resolved.take(&peer)).flatten();
        let observed = resolved.unwrap_or_else(|| address.clone());
        self.topics.connected(peer, address::reach(&observed), now);
        self.discovery.connected(peer, connection);
        let addresses = Addresses { dialled: dialled.then_some(address), observed };
        self.peers.connected((peer, node), connection, addresses, now);
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Links(event) => self.on_link_event(event, now),
            BehaviourEvent::Gossip(event) => self.on_gossip_event(event, now),
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) if info.protocols.contains(&self.kad_protocol) => {
                self.on_claimed(peer_id, connection_id, info.listen_addrs, now);
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(round_trip) => {
                    let entry = self.peers.entry_mut(&peer);
                    entry.into_iter().for_each(|entry| entry.round_trip = Some(round_trip));
                }
                Err(ping::Failure::Unsupported) => {}
                Err(_) => {
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetClosestPeers(result),
                ..
            }) => {
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                for mut peer in peers {
                    peer.addrs.retain(|to| address::is_plausible(to, &self.shared_addresses));
                    self.discovery.heard_of(peer.peer_id, peer.addrs, Source::Routing, now);
                }
                self.look_for_peers(now);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.discovery.heard_of(peer, vec![address], Source::Mdns, now);
                }
                self.look_for_peers(now);
            }
            BehaviourEvent::Mdns(mdns::Event::Expired(gone)) => {
                gone.iter().for_each(|(peer, _)| self.discovery.lost(peer));
            }
            _ => {}
        }
    }

    /// A member has said where it listens: the routing table keeps what is believed of it, and only
    /// the latest, since a peer may say something else every second.
    fn on_claimed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        addresses: Vec<Multiaddr>,
        now: Instant,
    ) {
        let Some(observed) = self.peers.address(&peer, connection) else {
            return;
        };
        let addresses = address::claimed(addresses, observed);
        let kad = &mut self.swarm.behaviour_mut().kad;
        for address in &addresses {
            kad.add_address(&peer, address.clone());
        }
        let before = self.claimed.insert(peer, addresses.clone()).unwrap_or_default();
        for address in before.iter().filter(|address| !addresses.contains(address)) {
            kad.remove_address(&peer, address);
        }
        if let Some(node) = ids::node(&peer).filter(|_| self.peers.is_up(&peer)) {
            self.remember(&peer, node, now);
        }
        // A node that has just started walks as soon as there is somebody to ask.
        if before != addresses {
            self.look_for_peers(now);
        }
    }

    fn on_link_event(&mut self, event: LinkEvent, now: Instant) {
        match event {
            LinkEvent::Stream { peer, connection, stream } => {
                let Some((id, node, duty, share)) = self.peers.opened(peer, connection) else {
                    return;
                };
                let common = self.common.clone();
                let task = StreamTask { id, peer: node, duty, share, common };
                let task = self.tasks.spawn(task.run(stream)).id();
                self.streams.insert(task, (id, peer, connection));
            }
            LinkEvent::Failed { peer, connection, foreign } => {
                if foreign {
                    self.swarm.behaviour_mut().gate.strange(peer, now);
                }
                let steps = self.peers.failed(peer, connection, now);
                self.carry_out(steps);
                self.answer_asked(&peer);
            }
        }
    }

    fn on_gossip_event(&mut self, event: gossipsub::Event, now: Instant) {
        match event {
            gossipsub::Event::Message { propagation_source: source, message_id, message } => {
                let mut verdict = self.topics.judge(&source, &message.topic, &message.data, now);
                let node = ids::node(&source);
                verdict = match (verdict, node, self.common.events.try_reserve()) {
                    (Verdict::Accept(message), Some(from), Ok(permit)) => {
                        let accepted = Verdict::Accept(message.clone());
                        let message = Message::Topic(message);
                        let event = NetEvent::Message { from, via: Via::Topic, message };
                        permit.send(Item { event, permits: Vec::new() });
                        accepted
                    }
                    (Verdict::Accept(_), ..) => {
                        self.registry.ledger.count(|counters| counters.ignored += 1);
                        Verdict::Ignore(Reject::RateLimited)
                    }
                    (verdict, ..) => {
                        if let Verdict::Ignore(reason) | Verdict::Reject(reason) = verdict {
                            self.registry.ledger.reject(&self.common.events, node, reason);
                        }
                        verdict
                    }
                };
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                let acceptance = verdict.acceptance();
                gossip.report_message_validation_result(&message_id, &source, acceptance);
            }
            gossipsub::Event::Subscribed { topic, .. } => {
                let Some(topic) = self.topics.topic(&topic) else {
                    return;
                };
                let same =
                    |event: &NetEvent| matches!(event, NetEvent::Subscribed(t) if *t == topic);
                if !self.outbox.iter().any(same) {
                    self.outbox.push_back(NetEvent::Subscribed(topic));
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_stream_end(&mut self, task: tokio::task::Id, end: End) {
        let Some((id, peer, connection)) = self.streams.remove(&task) else {
            return;
        };
        let now = Instant::now();
        let observed = self.peers.address(&peer, connection).cloned();
        let steps = self.peers.ended(id, end, now);
        // A connection's streams end together: the first to be refused speaks for all.
        let first = steps.contains(&Step::Close(connection));
        if let (End::Refused(reason), Some(observed), true) = (end, observed, first) {
            tracing::debug!(%peer, ?reason, "refused");
            self.registry.ledger.reject(&self.common.events, ids::node(&peer), reason);
            self.registry.ledger.count(|counters| counters.closed += 1);
            let gate = &mut self.swarm.behaviour_mut().gate;
            match reason {
                // An honest mistake, if one that repeats itself.
                Reject::WrongMesh | Reject::WrongVersion => gate.strange(peer, now),
                _ => gate.violated(peer, &observed, now),
            }
        }
        self.carry_out(steps);
        self.answer_asked(&peer);
    }

    /// Signs a new record where the addresses worth telling have changed.
    pub(super) fn renew_record(&mut self) {
        let own = self.swarm.external_addresses().chain(self.swarm.listeners()).cloned();
        let addresses = address::shareable(own);
        if addresses == self.shared_addresses {
            return;
        }
        self.shared_addresses.clone_from(&addresses);
        if let Some(record) = record::make(&self.key, addresses) {
            self.outbox.retain(|event| !matches!(event, NetEvent::OwnRecord(_)));
            self.outbox.push_back(NetEvent::OwnRecord(record));
        }
    }
}
