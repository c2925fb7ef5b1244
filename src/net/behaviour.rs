//! All of libp2p that a node runs, in one behaviour.

use super::topics::{self, Gossip, Topics};
use super::{NetConfig, NetError, limits, links};
use crate::core::types::{MeshId, PROTOCOL_VERSION};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{connection_limits, identify, kad, mdns, memory_connection_limits, ping};
use std::time::{Duration, Instant};

/// The order matters where a connection is refused: the cheapest and strictest come first.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) gate: limits::Behaviour,
    numbers: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) links: links::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) gossip: Gossip,
}

/// Two connections of one pair exist for the moment in which both sides dialled.
const CONNECTIONS_PER_PEER: u32 = 2;

/// What every node says of itself, whatever it runs on.
const AGENT: &str = "quloud";

impl Behaviour {
    /// Puts the parts together with the settings of the network layer's design.
    pub(super) fn new(
        key: &Keypair,
        config: &NetConfig,
        topics: &Topics,
    ) -> Result<Self, NetError> {
        let peer = key.public().to_peer_id();
        let limits = &config.limits;
        let numbers = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending_in))
            .with_max_pending_outgoing(Some(limits.pending_out))
            .with_max_established_incoming(Some(limits.established_in))
            .with_max_established_outgoing(Some(limits.established_out))
            .with_max_established(Some(limits.established))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER));
        let quarter = memory_connection_limits::Behaviour::with_max_percentage(0.25);
        let memory = quarter.max_allowed_bytes().min(limits.memory_bytes);
        let identify = identify::Config::new(format!("/quloud/{PROTOCOL_VERSION}"), key.public())
            .with_agent_version(AGENT.to_owned())
            .with_push_listen_addr_updates(true)
            .with_cache_size(0);
        let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer));
        // A convenience: a system that does not allow it still has a network.
        let mdns = mdns.and_then(|mdns| {
            mdns.inspect_err(|error| tracing::warn!(%error, "no mDNS on this system")).ok()
        });
        Ok(Self {
            gate: limits::Behaviour::new(Instant::now()),
            numbers: connection_limits::Behaviour::new(numbers),
            memory: memory_connection_limits::Behaviour::with_max_bytes(memory),
            links: links::Behaviour::default(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new()),
            kad: kademlia(key, &config.mesh),
            mdns: mdns.into(),
            gossip: topics::gossip(topics, limits)?,
        })
    }
}

/// The name under which a mesh's members keep their routing table.
pub(super) fn kad_protocol(mesh: &MeshId) -> StreamProtocol {
    let mesh: String = mesh.to_string().chars().take(16).collect();
    let name = format!("/quloud/{PROTOCOL_VERSION}/kad/{mesh}");
    StreamProtocol::try_from_owned(name).expect("it begins with a slash")
}

/// A routing table and nothing else: always a server, no records, peers entered by us only.
fn kademlia(key: &Keypair, mesh: &MeshId) -> kad::Behaviour<MemoryStore> {
    let peer = key.public().to_peer_id();
    let mut config = kad::Config::new(kad_protocol(mesh));
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_query_timeout(Duration::from_secs(20))
        .set_provider_publication_interval(None)
        .set_replication_interval(None)
        .set_publication_interval(None);
    let store = MemoryStoreConfig {
        max_records: 0,
        max_provided_keys: 0,
        max_providers_per_key: 1,
        max_value_bytes: 1 << 10,
    };
    let store = MemoryStore::with_config(peer, store);
    let mut kad = kad::Behaviour::with_config(peer, store, config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}
