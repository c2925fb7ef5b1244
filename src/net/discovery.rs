//! Whom to dial, when: bootstrap addresses, candidates from mDNS and the routing table, members of
//! the address book.
//!
//! Everything heard of a peer is a *candidate*: an address that may lead to it, worth nothing until
//! Noise has proved the peer and its Hello has named our mesh. Pure: time and randomness come in,
//! attempts go out.

use super::NetLimits;
use super::address;
use super::address_book::AddressBook;
use super::ids;
use super::limits::Bucket;
use crate::core::types::NodeId;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bootstrap addresses kept.
const BOOTSTRAPS_MAX: usize = 64;

/// Attempts per second at peers that were only heard of.
const DIALS_PER_SECOND: f64 = 4.0;

/// Candidates are given up after this many failures.
const FAILURES_MAX: u32 = 5;

/// Of two peers that find each other by mDNS the one with the smaller PeerId dials; the other waits
/// this long, for the case that it was not found or cannot get through.
const COURTESY: Duration = Duration::from_secs(3);

/// How a candidate was heard of. Each source has a share of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The local network said so.
    Mdns,
    /// The routing tables of other members said so.
    Routing,
}

impl Source {
    fn candidates_max(self) -> usize {
        match self {
            Self::Mdns => 64,
            Self::Routing => 256,
        }
    }
}

#[derive(Debug)]
struct Candidate {
    source: Source,
    addresses: Vec<Multiaddr>,
    failures: u32,
    next: Instant,
}

#[derive(Debug)]
struct Bootstrap {
    /// Without `/p2p/PEERID`.
    address: Multiaddr,
    peer: Option<PeerId>,
    failures: u32,
    next: Instant,
    attempt: Option<ConnectionId>,
}

/// An address to try.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Whom we expect there; `None` for a bootstrap address without PeerId.
    pub(super) peer: Option<PeerId>,
    /// All that is known, the best first.
    pub(super) addresses: Vec<Multiaddr>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Discovery {
    local: PeerId,
    retry_min: Duration,
    retry_max: Duration,
    bootstraps: Vec<Bootstrap>,
    candidates: BTreeMap<PeerId, Candidate>,
    dials: Bucket,
    rng: ChaCha20Rng,
    /// Members met before.
    pub(super) book: AddressBook,
}

impl Discovery {
    /// Knows what the book knows.
    pub(super) fn new(
        local: PeerId,
        limits: &NetLimits,
        book: AddressBook,
        rng: ChaCha20Rng,
        now: Instant,
    ) -> Self {
        Self {
            local,
            retry_min: limits.retry_min,
            retry_max: limits.retry_max,
            bootstraps: Vec::new(),
            candidates: BTreeMap::new(),
            dials: Bucket::new(DIALS_PER_SECOND, DIALS_PER_SECOND, now),
            rng,
            book,
        }
    }

    /// Adds a bootstrap address, to be tried until a connection stands.
    pub(super) fn add_bootstrap(&mut self, address: Multiaddr, now: Instant) {
        let (address, peer) = address::split_peer(address);
        let known = self.bootstraps.iter().any(|b| b.address == address && b.peer == peer);
        if known || peer == Some(self.local) || self.bootstraps.len() >= BOOTSTRAPS_MAX {
            return;
        }
        self.bootstraps.push(Bootstrap { address, peer, failures: 0, next: now, attempt: None });
    }

    /// Somebody said that `peer` is at `addresses`.
    pub(super) fn heard_of(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: Source,
        now: Instant,
    ) {
        if peer == self.local || ids::node(&peer).is_none() {
            return;
        }
        let addresses = addresses.into_iter().map(|address| address::split_peer(address).0);
        let addresses: Vec<_> = addresses.filter(address::is_dialable).collect();
        if let Some(candidate) = self.candidates.get_mut(&peer) {
            for address in addresses {
                let room = candidate.addresses.len() < address::ADDRESSES_PER_PEER_MAX;
                if room && !candidate.addresses.contains(&address) {
                    candidate.addresses.push(address);
                }
            }
            return;
        }
        let held = self.candidates.values().filter(|c| c.source == source).count();
        if addresses.is_empty() || held >= source.candidates_max() {
            return;
        }
        let polite = source == Source::Mdns && self.local > peer;
        let next = if polite { now + COURTESY } else { now };
        let addresses = addresses.into_iter().take(address::ADDRESSES_PER_PEER_MAX).collect();
        self.candidates.insert(peer, Candidate { source, addresses, failures: 0, next });
    }

    /// mDNS no longer hears a peer.
    pub(super) fn lost(&mut self, peer: &PeerId) {
        self.candidates.remove(peer);
    }

    /// What is known of a node's addresses.
    pub(super) fn addresses(&self, node: &NodeId) -> Vec<Multiaddr> {
        let book = self.book.member(node).map(|member| member.addresses.clone());
        let heard = self.candidates.get(&ids::peer_id(node)).map(|c| c.addresses.clone());
        let mut all = book.unwrap_or_default();
        for address in heard.unwrap_or_default() {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// The bootstrap addresses to be tried now: all that do not stand, at their own pace. `stands`
    /// says which peers are connected; `dial` tries one and names the attempt.
    pub(super) fn try_bootstraps(
        &mut self,
        now: Instant,
        stands: impl Fn(&PeerId) -> bool,
        mut dial: impl FnMut(Attempt) -> Option<ConnectionId>,
    ) {
        for at in 0..self.bootstraps.len() {
            let wait = self.wait(self.bootstraps.get(at).map_or(0, |b| b.failures));
            let Some(bootstrap) = self.bootstraps.get_mut(at) else {
                continue;
            };
            if bootstrap.peer.as_ref().is_some_and(&stands) {
                bootstrap.failures = 0;
                continue;
            }
            if bootstrap.next <= now {
                bootstrap.failures = bootstrap.failures.saturating_add(1);
                bootstrap.next = now + wait;
                let addresses = vec![bootstrap.address.clone()];
                bootstrap.attempt = dial(Attempt { peer: bootstrap.peer, addresses });
            }
        }
    }

    /// Somebody to try now among candidates and members, where the rate allows it.
    pub(super) fn next_attempt(
        &mut self,
        now: Instant,
        unwanted: impl Fn(&PeerId) -> bool,
    ) -> Option<Attempt> {
        let due = self.candidates.iter().filter(|(_, c)| c.next <= now);
        let candidate = due.map(|(peer, _)| *peer).find(|peer| !unwanted(peer));
        let member = || {
            let mut due = self.book.due(now).into_iter().map(|node| ids::peer_id(&node));
            due.find(|peer| *peer != self.local && !unwanted(peer))
        };
        let peer = candidate.or_else(member)?;
        if !self.dials.take(now) {
            return None;
        }
        let node = ids::node(&peer)?;
        let addresses = self.addresses(&node);
        let failures = self.candidates.get(&peer).map_or(0, |c| c.failures);
        let failures = failures.max(self.book.member(&node).map_or(0, |m| m.failures));
        let next = now + self.wait(failures);
        if let Some(candidate) = self.candidates.get_mut(&peer) {
            candidate.failures = candidate.failures.saturating_add(1);
            candidate.next = next;
            if candidate.failures > FAILURES_MAX {
                self.candidates.remove(&peer);
            }
        }
        if let Some(member) = self.book.member_mut(&node) {
            member.failures = member.failures.saturating_add(1);
            member.next = next;
        }
        Some(Attempt { peer: Some(peer), addresses })
    }

    /// A connection stands: what was tried is known to work.
    pub(super) fn connected(&mut self, peer: PeerId, attempt: ConnectionId) {
        if let Some(candidate) = self.candidates.get_mut(&peer) {
            candidate.failures = 0;
        }
        for bootstrap in self.bootstraps.iter_mut().filter(|b| b.attempt == Some(attempt)) {
            bootstrap.peer = Some(peer);
            bootstrap.failures = 0;
        }
    }

    /// An attempt led to ourselves: never again.
    pub(super) fn was_ourselves(&mut self, attempt: ConnectionId) {
        self.bootstraps.retain(|bootstrap| bootstrap.attempt != Some(attempt));
    }

    /// A fifth more or less than the doubled first wait.
    fn wait(&mut self, failures: u32) -> Duration {
        let doubled = self.retry_min.saturating_mul(1 << failures.min(20));
        let jitter = f64::from(self.rng.random_range(80u32..=120)) / 100.0;
        doubled.min(self.retry_max).mul_f64(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn peer(number: u8) -> PeerId {
        ids::peer_id(&NodeId::from_bytes([number; 32]))
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    fn discovery(now: Instant) -> Discovery {
        let rng = ChaCha20Rng::from_seed([0; 32]);
        let book = AddressBook::open(None, now);
        Discovery::new(peer(1), &NetLimits::default(), book, rng, now)
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn mdns_candidates_are_bounded_and_dialled_four_a_second() {
        let now = Instant::now();
        let mut discovery = discovery(now);
        for number in 0..100_000u32 {
            let mut bytes = [0xff; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            let peer = ids::peer_id(&NodeId::from_bytes(bytes));
            discovery.heard_of(peer, vec![address(1)], Source::Mdns, now);
        }
        assert_eq!(discovery.candidates.len(), 64);
        let later = now + COURTESY;
        let mut dials = |at| std::iter::from_fn(|| discovery.next_attempt(at, |_| false)).count();
        assert_eq!(dials(later), 4);
        assert_eq!(dials(later), 0);
        assert_eq!(dials(later + Duration::from_secs(1)), 4);
    }

    #[test]
    fn of_two_that_hear_each_other_the_smaller_dials_first() {
        let now = Instant::now();
        let mut discovery = discovery(now);
        let (smaller, larger) =
            (0..=255).map(peer).partition::<Vec<_>, _>(|other| *other < discovery.local);
        let (smaller, larger) = (smaller[0], *larger.iter().find(|p| **p != peer(1)).unwrap());
        discovery.heard_of(smaller, vec![address(1)], Source::Mdns, now);
        discovery.heard_of(larger, vec![address(2)], Source::Mdns, now);
        let first = discovery.next_attempt(now, |_| false).unwrap();
        assert_eq!(first.peer, Some(larger));
        assert_eq!(discovery.next_attempt(now, |_| false), None);
        let second = discovery.next_attempt(now + COURTESY, |peer| *peer == larger).unwrap();
        assert_eq!(second.peer, Some(smaller));
    }

    #[test]
    fn a_bootstrap_address_is_tried_with_growing_waits_until_it_stands() {
        let start = Instant::now();
        let mut discovery = discovery(start);
        discovery.add_bootstrap(address(1), start);
        discovery.add_bootstrap(address(1), start);
        let mut tries = Vec::new();
        for second in 0..400 {
            let now = start + Duration::from_secs(second);
            discovery.try_bootstraps(
                now,
                |_| false,
                |_| {
                    tries.push(second);
                    Some(id(7))
                },
            );
        }
        let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.windows(2).take(5).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 73), "{waits:?}");
        discovery.connected(peer(2), id(7));
        let later = start + Duration::from_secs(1000);
        discovery.try_bootstraps(later, |p| *p == peer(2), |_| panic!("it stands"));
    }

    #[test]
    fn our_own_address_is_not_dialled_for_ever() {
        let now = Instant::now();
        let mut discovery = discovery(now);
        discovery.add_bootstrap(address::with_peer(address(1), peer(1)), now);
        discovery.add_bootstrap(address(2), now);
        let mut tried = 0;
        discovery.try_bootstraps(
            now,
            |_| false,
            |_| {
                tried += 1;
                Some(id(7))
            },
        );
        discovery.was_ourselves(id(7));
        let later = now + Duration::from_secs(1000);
        discovery.try_bootstraps(later, |_| false, |_| panic!("it is ourselves"));
        assert_eq!(tried, 1);
    }

    #[test]
    fn a_candidate_that_never_answers_is_given_up() {
        let start = Instant::now();
        let mut discovery = discovery(start);
        discovery.heard_of(peer(2), vec![address(1)], Source::Routing, start);
        let attempts = (0..10_000u64)
            .filter_map(|s| discovery.next_attempt(start + Duration::from_secs(s), |_| false));
        assert_eq!(attempts.count(), 6);
    }
}
