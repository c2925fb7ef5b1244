//! The swarm task: owns libp2p, hears its events and the handle's commands, and keeps the peers.
//!
//! It never waits for the drive loop. What must reach the drive loop in order (`Up`, `Down`, ...)
//! stands in an outbox; while that is full, libp2p is not polled.

use super::address_book::AddressBook;
use super::behaviour::{Behaviour, BehaviourEvent, kad_protocol};
use super::discovery::{Attempt, Discovery, Source};
use super::events::Item;
use super::limits::Bucket;
use super::links::LinkEvent;
use super::peers::{Peers, Step};
use super::streams::{Common, End, StreamId, StreamTask};
use super::topics::{Topics, Verdict};
use super::{Command, Link, NetConfig, NetError, NetEvent, NetSnapshot, PeerSnapshot, Registry};
use super::{address, ids, record, transport};
use crate::core::codec::{self, Reject};
use crate::core::effect::{Reach, Via};
use crate::core::message::{Hello, Message, StreamMessage};
use crate::core::topic::Topic;
use crate::core::types::NodeId;
use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, PublishError};
use libp2p::identity::Keypair;
use libp2p::kad::{self, QueryResult};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};
use rand::{Rng, SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Beyond this many waiting events libp2p is not polled.
const OUTBOX_MAX: usize = 512;

/// Dials that the roles have asked for and that are not answered.
const ASKED_MAX: usize = 256;

/// How long such a dial may take.
const ASKED_FOR: Duration = Duration::from_secs(30);

/// The roles' dials: per second, and at once.
const ASKED_RATE: (f64, f64) = (16.0, 64.0);

/// Between two writes of the address book.
const SAVED_EVERY: Duration = Duration::from_secs(30);

/// How long the end of the node waits for streams to end.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    key: Keypair,
    kad_protocol: StreamProtocol,
    common: Arc<Common>,
    registry: Registry,
    peers: Peers,
    topics: Topics,
    discovery: Discovery,
    rng: ChaCha20Rng,
    outbox: VecDeque<NetEvent>,
    tasks: JoinSet<End>,
    streams: HashMap<tokio::task::Id, (StreamId, PeerId, ConnectionId)>,
    greeted: mpsc::Receiver<(StreamId, Hello)>,
    /// What connected peers say they listen on, as far as it is believed.
    claimed: BTreeMap<PeerId, Vec<Multiaddr>>,
    asked: BTreeMap<NodeId, Instant>,
    asked_rate: Bucket,
    shared_addresses: Vec<Multiaddr>,
    next_walk: Instant,
    next_save: Instant,
}

impl Driver {
    /// Sets libp2p up and listens; nothing runs before [`Self::run`].
    pub(super) fn new(
        config: NetConfig,
        events: mpsc::Sender<Item>,
        registry: Registry,
    ) -> Result<Self, NetError> {
        transport::check_key_log(std::env::var_os("SSLKEYLOGFILE").as_deref())?;
        let setup = |what: &str, error: String| NetError::Setup(format!("{what}: {error}"));
        let key = Keypair::ed25519_from_bytes(*config.signing_seed)
            .map_err(|error| setup("key", error.to_string()))?;
        let local = key.public().to_peer_id();
        let listen = addresses(&config.listen)?;
        let bootstrap = addresses(&config.bootstrap)?;
        let mut rng = ChaCha20Rng::try_from_rng(&mut SysRng)
            .map_err(|error| setup("randomness", error.to_string()))?;
        let topics = Topics::new(&config.topics, &config.mesh);
        let behaviour = Behaviour::new(&key, &config, &topics)?;
        let swarm_config = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(config.limits.idle)
            .with_max_negotiating_inbound_streams(32);
        let mut swarm = Swarm::new(transport::build(&key)?, behaviour, local, swarm_config);
        listen_on(&mut swarm, listen)?;

        let now = Instant::now();
        let book = AddressBook::open(config.address_book, now);
        let seed = ChaCha20Rng::from_rng(&mut rng);
        let mut discovery = Discovery::new(local, &config.limits, book, seed, now);
        bootstrap.into_iter().for_each(|address| discovery.add_bootstrap(address, now));
        let (greeted_sender, greeted) = mpsc::channel(64);
        let common = Common {
            mesh: config.mesh,
            greeting: codec::encode_stream(&StreamMessage::Hello(config.hello)),
            unread_bytes: Arc::new(Semaphore::new(config.limits.unread_bytes)),
            events,
            greeted: greeted_sender,
            ledger: registry.ledger.clone(),
            limits: config.limits.clone(),
        };
        Ok(Self {
            swarm,
            key,
            kad_protocol: kad_protocol(&config.mesh),
            common: Arc::new(common),
            registry,
            peers: Peers::new(local, config.limits),
            topics,
            discovery,
            rng,
            outbox: VecDeque::new(),
            tasks: JoinSet::new(),
            streams: HashMap::new(),
            greeted,
            claimed: BTreeMap::new(),
            asked: BTreeMap::new(),
            asked_rate: Bucket::new(ASKED_RATE.0, ASKED_RATE.1, now),
            shared_addresses: Vec::new(),
            next_walk: now,
            next_save: now + SAVED_EVERY,
        })
    }

    /// Runs until the handle or the queue of events is gone, or [`Command::Shutdown`] comes.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let common = self.common.clone();
        let mut tick = tokio::time::interval(common.limits.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let answer = loop {
            tokio::select! {
                permit = common.events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => self.hand_over(permit),
                    Err(_) => break None,
                },
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(answer)) => break Some(answer),
                    Some(command) => self.on_command(command),
                },
                Some((id, hello)) = self.greeted.recv() => {
                    let steps = self.peers.greeted(id, hello, Instant::now());
                    self.carry_out(steps);
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    // A task that panicked takes its stream with it, and nothing else.
                    match ended {
                        Ok((task, end)) => self.on_stream_end(task, end),
                        Err(error) => self.on_stream_end(error.id(), End::Broken),
                    }
                }
                event = self.swarm.select_next_some(), if self.outbox.len() < OUTBOX_MAX => {
                    self.on_swarm_event(event);
                }
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        };
        self.stop().await;
        if let Some(answer) = answer {
            let _: Result<(), ()> = answer.send(());
        }
    }

    fn hand_over(&mut self, permit: mpsc::Permit<'_, Item>) {
        let Some(event) = self.outbox.pop_front() else {
            return;
        };
        let up = match &event {
            NetEvent::Up(peer) => Some(peer.node),
            _ => None,
        };
        permit.send(Item { event, permits: Vec::new() });
        if let Some(node) = up {
            let again = |event: &NetEvent| matches!(event, NetEvent::Up(p) if p.node == node);
            if !self.outbox.iter().any(again) {
                self.peers.announced(&ids::peer_id(&node));
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish(topic, bytes) => self.publish(topic, bytes),
            Command::Dial(node, record) => self.dial(node, &record, Instant::now()),
            Command::Away(node) => {
                if !self.peers.is_up(&ids::peer_id(&node)) {
                    self.down(node);
                }
            }
            Command::AddAddress(text) => match text.parse::<Multiaddr>() {
                Ok(address) if address::is_dialable(&address) => {
                    self.discovery.add_bootstrap(address, Instant::now());
                }
                _ => tracing::warn!(address = %text, "not an address that can be dialled"),
            },
            Command::Snapshot(answer) => {
                let _ = answer.send(self.snapshot());
            }
            Command::Shutdown(_) => {}
        }
    }

    fn publish(&mut self, topic: Topic, bytes: Bytes) {
        if bytes.len() > codec::TOPIC_BYTES_MAX {
            return self.registry.ledger.count(|counters| counters.dropped += 1);
        }
        let Some(hash) = self.topics.hash(topic) else {
            return self.registry.ledger.count(|counters| counters.unpublished += 1);
        };
        match self.swarm.behaviour_mut().gossip.publish(hash, bytes) {
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, topic = topic.kind.name(), "not published");
                self.registry.ledger.count(|counters| counters.unpublished += 1);
            }
        }
    }

    fn dial(&mut self, node: NodeId, record: &[u8], now: Instant) {
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
            Ok(addresses) => addresses,
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
    fn down(&mut self, node: NodeId) {
        self.asked.remove(&node);
        let same = |event: &NetEvent| matches!(event, NetEvent::Down(other) if *other == node);
        if !self.outbox.back().is_some_and(same) {
            self.outbox.push_back(NetEvent::Down(node));
        }
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        let now = Instant::now();
        for step in steps {
            match step {
                Step::Up(up) => {
                    let peer = ids::peer_id(&up.node);
                    tracing::debug!(%peer, "up");
                    self.asked.remove(&up.node);
                    if let Some(share) = self.peers.share(&peer) {
                        self.registry.insert(up.node, share);
                    }
                    let node = up.node;
                    self.outbox.push_back(NetEvent::Up(*up));
                    self.remember(&peer, node, now);
                }
                Step::Down(node) => {
                    tracing::debug!(peer = %ids::peer_id(&node), "down");
                    self.registry.remove(&node);
                    self.asked.remove(&node);
                    self.outbox.push_back(NetEvent::Down(node));
                }
                Step::Close(connection) => {
                    self.swarm.close_connection(connection);
                }
            }
        }
    }

    /// Writes an up peer's addresses into the book.
    fn remember(&mut self, peer: &PeerId, node: NodeId, now: Instant) {
        let mut addresses: Vec<Multiaddr> = self.peers.dialled(peer).cloned().collect();
        addresses.extend(self.claimed.get(peer).into_iter().flatten().cloned());
        self.discovery.book.met(node, &addresses, now);
    }

    fn on_stream_end(&mut self, task: tokio::task::Id, end: End) {
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

    /// A dial that the roles asked for has come to nothing.
    fn answer_asked(&mut self, peer: &PeerId) {
        let Some(node) = ids::node(peer) else {
            return;
        };
        let open = self.peers.is_connected(peer) || self.peers.is_up(peer);
        if self.asked.contains_key(&node) && !open {
            self.down(node);
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
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
        let address = endpoint.get_remote_address().clone();
        let (address, _) = address::split_peer(address);
        self.topics.connected(peer, address::reach(&address), now);
        self.discovery.connected(peer, connection);
        self.peers.connected((peer, node), connection, dialled, address, now);
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Links(event) => self.on_link_event(event, now),
            BehaviourEvent::Gossip(event) => self.on_gossip_event(event, now),
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) => {
                let Some(observed) = self.peers.address(&peer_id, connection_id) else {
                    return;
                };
                if !info.protocols.contains(&self.kad_protocol) {
                    return;
                }
                let addresses = address::claimed(info.listen_addrs, observed);
                for address in &addresses {
                    self.swarm.behaviour_mut().kad.add_address(&peer_id, address.clone());
                }
                self.claimed.insert(peer_id, addresses);
                if let Some(node) = ids::node(&peer_id).filter(|_| self.peers.is_up(&peer_id)) {
                    self.remember(&peer_id, node, now);
                }
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
                for peer in peers {
                    self.discovery.heard_of(peer.peer_id, peer.addrs, Source::Routing, now);
                }
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
                self.swarm.close_connection(connection);
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

    /// Signs a new record where the addresses worth telling have changed.
    fn renew_record(&mut self) {
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

    fn on_tick(&mut self, now: Instant) {
        let mut steps = self.peers.tick(now);
        steps.extend(self.peers.prune(now));
        self.carry_out(steps);
        for (peer, score) in self.topics.scores() {
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
        }
        let overdue = self.asked.iter().filter(|(_, since)| **since + ASKED_FOR < now);
        for node in overdue.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.down(node);
        }
        self.look_for_peers(now);
        if self.next_save <= now {
            self.next_save = now + SAVED_EVERY;
            if let Some(save) = self.discovery.book.save() {
                tokio::task::spawn_blocking(move || report_save(save()));
            }
        }
    }

    /// Dials whoever may be dialled while there are fewer peers than wanted.
    fn look_for_peers(&mut self, now: Instant) {
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
        if self.next_walk <= now && self.peers.up_count() > 0 {
            self.next_walk = now + self.common.limits.walk;
            let mut key = vec![0; 32];
            self.rng.fill_bytes(&mut key);
            self.swarm.behaviour_mut().kad.get_closest_peers(key);
        }
    }

    fn snapshot(&self) -> NetSnapshot {
        let local = *self.swarm.local_peer_id();
        let listen = self.swarm.listeners().cloned();
        let peers = self.peers.iter_up().map(|(node, address, round_trip)| PeerSnapshot {
            node,
            peer_id: super::peer_id_of(&node),
            address: address.to_string(),
            link: match address::reach(address) {
                Reach::Local => Link::Lan,
                _ => Link::Direct,
            },
            round_trip,
        });
        NetSnapshot {
            peer_id: local.to_base58(),
            listen: listen.map(|a| address::with_peer(a, local).to_string()).collect(),
            peers: peers.collect(),
            connections: self.swarm.network_info().connection_counters().num_established(),
            counters: self.registry.ledger.snapshot(),
        }
    }

    /// Lets what is queued go out, ends the streams in good order, saves the book.
    async fn stop(&mut self) {
        let deadline = tokio::time::Instant::now() + SHUTDOWN;
        while self.peers.is_sending() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.peers.retire_all(Instant::now());
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, ended).await;
        if let Some(save) = self.discovery.book.save() {
            let saved = tokio::task::spawn_blocking(move || report_save(save())).await;
            if saved.is_err() {
                tracing::warn!("the address book was not saved");
            }
        }
    }
}

fn report_save(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the address book cannot be written");
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

fn addresses(texts: &[String]) -> Result<Vec<Multiaddr>, NetError> {
    let parse =
        |text: &String| text.parse().map_err(|_| NetError::Address { address: text.clone() });
    texts.iter().map(parse).collect()
}

/// Listens on every address. A system without IPv6 does not keep a node from listening on IPv4.
fn listen_on(swarm: &mut Swarm<Behaviour>, listen: Vec<Multiaddr>) -> Result<(), NetError> {
    let mut listening = false;
    let mut refused = None;
    for address in listen {
        let optional = address.to_string().starts_with("/ip6/::/");
        match swarm.listen_on(address.clone()) {
            Ok(_) => listening = true,
            Err(error) => {
                let error =
                    NetError::Listen { address: address.to_string(), reason: error.to_string() };
                if !optional {
                    return Err(error);
                }
                tracing::info!(%error, "listening without it");
                refused = Some(error);
            }
        }
    }
    match refused {
        Some(error) if !listening => Err(error),
        _ => Ok(()),
    }
}
