//! The swarm task: owns libp2p, hears its events and the handle's commands, and keeps the peers.
//!
//! It never waits for the drive loop. What must reach the drive loop in order (`Up`, `Down`, ...)
//! stands in an outbox; while that is full, libp2p is not polled.

mod dialling;
mod reports;

use super::address_book::AddressBook;
use super::behaviour::{Behaviour, kad_protocol};
use super::discovery::Discovery;
use super::events::Item;
use super::limits::Bucket;
use super::peers::{Peers, Step};
use super::resolved::Resolved;
use super::streams::{Common, End, StreamId};
use super::topics::Topics;
use super::{Command, Link, NetConfig, NetError, NetEvent, NetSnapshot, PeerSnapshot, Registry};
use super::{address, frame, ids, transport};
use crate::core::codec;
use crate::core::effect::Reach;
use crate::core::message::{Hello, StreamMessage};
use crate::core::topic::Topic;
use crate::core::types::NodeId;
use bytes::Bytes;
use futures::StreamExt;
use libp2p::gossipsub::PublishError;
use libp2p::identity::Keypair;
use libp2p::swarm::{ConnectionId, StreamProtocol, Swarm};
use libp2p::{Multiaddr, PeerId};
use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Beyond this many waiting events libp2p is not polled.
const OUTBOX_MAX: usize = 512;

/// The roles' dials: per second, and at once.
const ASKED_RATE: (f64, f64) = (16.0, 64.0);

/// Between two writes of the address book.
const SAVED_EVERY: Duration = Duration::from_secs(30);

/// How long the end of the node waits for streams to end.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    listeners: usize,
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
    resolved: Resolved,
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
        let resolved = Resolved::default();
        let transport = transport::build(&key, config.limits.lan_only, resolved.clone())?;
        let mut swarm = Swarm::new(transport, behaviour, local, swarm_config);
        let listeners = listen_on(&mut swarm, listen)?;

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
            crowd: tokio::sync::watch::Sender::new(0),
            buffers: frame::buffers(),
            events,
            greeted: greeted_sender,
            ledger: registry.ledger.clone(),
            limits: config.limits.clone(),
        };
        Ok(Self {
            swarm,
            listeners,
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
            resolved,
            next_walk: now,
            next_save: now + SAVED_EVERY,
        })
    }

    /// How many listeners stood up.
    pub(super) fn listeners(&self) -> usize {
        self.listeners
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
        // Before the answer: whoever waits for it may listen on the same ports next.
        drop(self);
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
                    self.look_for_peers(now);
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

    fn on_tick(&mut self, now: Instant) {
        let mut steps = self.peers.tick(now);
        steps.extend(self.peers.prune(now));
        self.carry_out(steps);
        for (peer, score) in self.topics.scores() {
            self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
        }
        self.give_up_asked(now);
        self.look_for_peers(now);
        if self.next_save <= now {
            self.next_save = now + SAVED_EVERY;
            if let Some(save) = self.discovery.book.save() {
                tokio::task::spawn_blocking(move || report_save(save()));
            }
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

/// An error and what it came from. Some of libp2p's say nothing themselves, some repeat their
/// source.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !told.iter().any(|earlier| earlier.ends_with(&text)) {
            told.push(text);
        }
        next = error.source();
    }
    told.retain(|text| !text.is_empty());
    told.join(": ")
}

fn addresses(texts: &[String]) -> Result<Vec<Multiaddr>, NetError> {
    let parse =
        |text: &String| text.parse().map_err(|_| NetError::Address { address: text.clone() });
    texts.iter().map(parse).collect()
}

/// Listens on every address and counts those that stood up. A system without IPv6 does not keep a
/// node from listening on IPv4.
fn listen_on(swarm: &mut Swarm<Behaviour>, listen: Vec<Multiaddr>) -> Result<usize, NetError> {
    // All before the first: our own sockets may well overlap.
    listen.iter().try_for_each(transport::check_port)?;
    let mut listening = 0;
    let mut refused = None;
    for address in listen {
        let optional = address.to_string().starts_with("/ip6/::/");
        match swarm.listen_on(address.clone()) {
            Ok(_) => listening += 1,
            Err(error) => {
                let reason = reasons(&error);
                let error = NetError::Listen { address: address.to_string(), reason };
                if !optional {
                    return Err(error);
                }
                tracing::info!(%error, "listening without it");
                refused = Some(error);
            }
        }
    }
    match refused {
        Some(error) if listening == 0 => Err(error),
        _ => Ok(listening),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::transport::TransportError;
    use std::io;

    #[test]
    fn the_reason_is_what_the_system_said() {
        let said = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address here");
        let silent = TransportError::Other(io::Error::other(TransportError::Other(said())));
        assert_eq!(reasons(&silent), "no such address here");
        assert_eq!(reasons(&said()), "no such address here");
        let address: Multiaddr = "/ip4/127.0.0.1/sctp/1".parse().unwrap();
        let unknown = TransportError::<io::Error>::MultiaddrNotSupported(address);
        assert!(reasons(&unknown).ends_with("not supported: /ip4/127.0.0.1/sctp/1"));
    }
}
