//! Who may connect: rates and shares of public addresses, bans, key types.
//!
//! Global numbers of connections are `libp2p::connection_limits`' business; this behaviour holds
//! what that one cannot: limits per public prefix, a rate of accepts, and memory of misbehaviour.
//! Loopback and private addresses know only the global and per-peer limits, since whole households
//! sit behind one of them.

use super::address;
use super::ids;
use crate::core::effect::Reach;
use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour,
    THandlerInEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Connections accepted from one public /24 or /48.
const ACCEPTED_PER_PREFIX: u32 = 8;

/// New connections accepted from public addresses, per second.
const ACCEPTS_PER_SECOND: f64 = 20.0;

/// Violations within [`BAN`] that earn one.
const VIOLATIONS_MAX: u32 = 5;

/// How long a ban lasts.
const BAN: Duration = Duration::from_secs(3600);

/// How long a peer that is not of our mesh is not dialled again.
const STRANGER: Duration = Duration::from_secs(600);

/// Entries of each table here; beyond it the oldest go.
const TABLE_MAX: usize = 1024;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Too many new connections from public addresses.
    #[error("too many new connections")]
    Rate,
    /// Too many from this prefix.
    #[error("too many connections from this network")]
    Prefix,
    /// Banned for what it did.
    #[error("banned")]
    Banned,
    /// Not an Ed25519 key.
    #[error("not an Ed25519 key")]
    KeyType,
    /// Lately found to be of another mesh, or of none.
    #[error("not of our mesh")]
    Stranger,
}

/// A token bucket: `rate` per second, at most `burst` saved up.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: f64, burst: f64, now: Instant) -> Self {
        Self { rate, burst, tokens: burst, filled: now }
    }

    /// Takes one token where there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        self.filled = now;
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

/// Whose violations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Culprit {
    Peer(PeerId),
    Ip(IpAddr),
}

#[derive(Debug)]
struct Record {
    violations: u32,
    since: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Behaviour {
    accepts: Bucket,
    accepted: BTreeMap<Reach, u32>,
    connections: BTreeMap<ConnectionId, Reach>,
    records: BTreeMap<Culprit, Record>,
    strangers: BTreeMap<PeerId, Instant>,
}

impl Behaviour {
    /// Knows nobody.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            accepts: Bucket::new(ACCEPTS_PER_SECOND, ACCEPTS_PER_SECOND, now),
            accepted: BTreeMap::new(),
            connections: BTreeMap::new(),
            records: BTreeMap::new(),
            strangers: BTreeMap::new(),
        }
    }

    /// A peer did what no honest peer does.
    pub(super) fn violated(&mut self, peer: PeerId, observed: &Multiaddr, now: Instant) {
        self.record(Culprit::Peer(peer), now);
        if let Some(ip) = address::ip(observed).filter(|ip| !address::is_local(*ip)) {
            self.record(Culprit::Ip(ip), now);
        }
    }

    /// A peer turned out to be of another mesh, or of none: it is not dialled for a while.
    pub(super) fn strange(&mut self, peer: PeerId, now: Instant) {
        bound(&mut self.strangers, |since| *since);
        self.strangers.insert(peer, now);
    }

    /// Whether the peer is one that [`Self::strange`] or bans keep us from dialling.
    pub(super) fn is_avoided(&self, peer: &PeerId, now: Instant) -> bool {
        let strange = self.strangers.get(peer).is_some_and(|since| within(*since, STRANGER, now));
        strange || self.is_banned(Culprit::Peer(*peer), now)
    }

    fn record(&mut self, culprit: Culprit, now: Instant) {
        bound(&mut self.records, |record| record.since);
        let fresh = Record { violations: 0, since: now };
        let record = self.records.entry(culprit).or_insert(fresh);
        if !within(record.since, BAN, now) {
            record.violations = 0;
        }
        record.violations = record.violations.saturating_add(1);
        record.since = now;
    }

    fn is_banned(&self, culprit: Culprit, now: Instant) -> bool {
        let record = self.records.get(&culprit);
        record.is_some_and(|r| r.violations >= VIOLATIONS_MAX && within(r.since, BAN, now))
    }

    fn admit(
        &mut self,
        connection: ConnectionId,
        from: &Multiaddr,
        now: Instant,
    ) -> Result<(), Refused> {
        let Some(ip) = address::ip(from).filter(|ip| !address::is_local(*ip)) else {
            return Ok(());
        };
        if self.is_banned(Culprit::Ip(ip), now) {
            return Err(Refused::Banned);
        }
        let reach = address::reach(from);
        if self.accepted.get(&reach).is_some_and(|count| *count >= ACCEPTED_PER_PREFIX) {
            return Err(Refused::Prefix);
        }
        if !self.accepts.take(now) {
            return Err(Refused::Rate);
        }
        self.connections.insert(connection, reach);
        let count = self.accepted.entry(reach).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    fn ended(&mut self, connection: ConnectionId) {
        let Some(reach) = self.connections.remove(&connection) else {
            return;
        };
        if let Some(count) = self.accepted.get_mut(&reach) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.accepted.remove(&reach);
            }
        }
    }

    fn accept_key(&self, peer: &PeerId, now: Instant) -> Result<(), Refused> {
        if ids::node(peer).is_none() {
            return Err(Refused::KeyType);
        }
        if self.is_banned(Culprit::Peer(*peer), now) {
            return Err(Refused::Banned);
        }
        Ok(())
    }
}

/// Whether `now` is less than `span` after `since`.
fn within(since: Instant, span: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) < span
}

/// Makes room for one more entry: the oldest goes.
fn bound<K: Ord + Copy, V>(table: &mut BTreeMap<K, V>, age: impl Fn(&V) -> Instant) {
    if table.len() >= TABLE_MAX {
        let oldest = table.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| *key);
        oldest.and_then(|key| table.remove(&key));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit(connection, remote, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.accept_key(&peer, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let now = Instant::now();
        if let Some(peer) = peer {
            self.accept_key(&peer, now).map_err(ConnectionDenied::new)?;
            if self.is_avoided(&peer, now) {
                return Err(ConnectionDenied::new(Refused::Stranger));
            }
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.accept_key(&peer, Instant::now()).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.ended(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Multiaddr {
        format!("{text}/tcp/4001").parse().unwrap()
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn one_public_network_gets_eight_connections_and_the_ninth_when_one_ends() {
        let now = Instant::now();
        let mut gate = Behaviour::new(now);
        for number in 0..8 {
            let from = from(&format!("/ip4/203.0.113.{number}"));
            assert_eq!(gate.admit(id(number), &from, now), Ok(()));
        }
        let ninth = from("/ip4/203.0.113.99");
        assert_eq!(gate.admit(id(8), &ninth, now), Err(Refused::Prefix));
        assert_eq!(gate.admit(id(9), &from("/ip4/198.51.100.1"), now), Ok(()));
        gate.ended(id(3));
        assert_eq!(gate.admit(id(10), &ninth, now), Ok(()));
    }

    #[test]
    fn public_accepts_are_twenty_a_second_and_private_ones_are_not_counted() {
        let now = Instant::now();
        let mut gate = Behaviour::new(now);
        let public = |number: usize| from(&format!("/ip4/203.0.{number}.1"));
        let admitted = (0..100).filter(|n| gate.admit(id(*n), &public(*n), now).is_ok()).count();
        assert_eq!(admitted, 20);
        for number in 100..300 {
            assert_eq!(gate.admit(id(number), &from("/ip4/192.168.1.2"), now), Ok(()));
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(gate.admit(id(300), &public(100), later), Ok(()));
    }

    #[test]
    fn five_violations_ban_the_peer_and_its_public_address_for_an_hour() {
        let now = Instant::now();
        let mut gate = Behaviour::new(now);
        let peer = ids::peer_id(&crate::core::types::NodeId::from_bytes([1; 32]));
        let public = from("/ip4/203.0.113.7");
        for _ in 0..4 {
            gate.violated(peer, &public, now);
        }
        assert_eq!(gate.accept_key(&peer, now), Ok(()));
        gate.violated(peer, &public, now);
        assert_eq!(gate.accept_key(&peer, now), Err(Refused::Banned));
        assert_eq!(gate.admit(id(1), &public, now), Err(Refused::Banned));
        let later = now + BAN;
        assert_eq!(gate.accept_key(&peer, later), Ok(()));
        assert_eq!(gate.admit(id(1), &public, later), Ok(()));
    }

    #[test]
    fn a_private_address_is_never_banned_with_its_peer() {
        let now = Instant::now();
        let mut gate = Behaviour::new(now);
        let peer = ids::peer_id(&crate::core::types::NodeId::from_bytes([1; 32]));
        let private = from("/ip4/192.168.1.2");
        (0..9).for_each(|_| gate.violated(peer, &private, now));
        assert_eq!(gate.admit(id(1), &private, now), Ok(()));
        assert_eq!(gate.accept_key(&peer, now), Err(Refused::Banned));
    }

    #[test]
    fn tables_stay_bounded_whoever_fills_them() {
        let mut now = Instant::now();
        let mut gate = Behaviour::new(now);
        for number in 0..3000u64 {
            now += Duration::from_millis(1);
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let peer = ids::peer_id(&crate::core::types::NodeId::from_bytes(bytes));
            gate.strange(peer, now);
            gate.violated(peer, &from("/ip4/203.0.113.7"), now);
        }
        assert!(gate.strangers.len() <= TABLE_MAX && gate.records.len() <= TABLE_MAX);
    }

    #[test]
    fn a_peer_of_another_key_type_is_refused() {
        let gate = Behaviour::new(Instant::now());
        let rsa = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap();
        assert_eq!(gate.accept_key(&rsa, Instant::now()), Err(Refused::KeyType));
    }
}
