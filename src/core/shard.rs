//! Which shards of its mesh a node is at home in.
//!
//! In a large mesh not everybody hears everything: the first b bits of a locality name one of 2^b
//! shards, each with topics of its own, and every node is at home in k of them. It subscribes to
//! the topics of its home shards, volunteers there, and its own requests are answered there.
//!
//! # Why by the node's id
//!
//! Home shards follow from the node's id alone ([`Sharding::homes`]). So whoever knows the ids of
//! some members, from its routing table or its address book, knows without a message which of them
//! hear a shard, can connect to them before it publishes there, and can tell which peers to offer a
//! chunk of that shard directly. A holder that keeps only chunks of its home shards is found later
//! by strangers, through the retrieve topic of the locality in the capability. Nothing has to be
//! announced, stored or believed.
//!
//! # What grinding gains
//!
//! Whoever makes 2^b / k keys on average has an id that is at home in a shard of its choice. That
//! gives no ears: anybody may subscribe to any topic. It gives candidates: of the volunteers of one
//! shard, m ground ids among n honest nodes are a share of m / (m + n k / 2^b) instead of
//! m / (m + n), so a cheat needs 2^b / k times fewer names to be as many there as it would have to
//! be in the whole mesh. What stands against many names is the same with shards as without: one
//! replica per failure domain, reputation, and audits. Where a chunk will be, nobody can know
//! before it is offered: the owner draws a locality for each batch.
//!
//! # What is open
//!
//! b and k belong to the profile of a mesh, and all members must use the same ones. How a mesh that
//! grows agrees on other ones, and for how long holders then serve the shards of both, is not
//! decided. What helps then: the draws do not depend on b, so a node that is at home in shard s
//! finds its first homes at b + 1 bits among the two halves of s.

use super::topic::{Topic, TopicKind};
use super::types::{Locality, NodeId};
use crate::crypto::sha256;

/// The most bits of a locality that name a shard: b. An asker finds the key of each request by
/// trial among 2^b on average (PROTOCOL.md 11.1), and a mesh of 100,000 nodes needs 11.
pub const BITS_MAX: u32 = 12;

/// The most shards one node is at home in: four topics each, and the transport subscribes to 64.
pub const HOMES_MAX: u32 = 16;

/// A mesh below this number of nodes is one shard.
const NODES_SHARDED: u64 = 100;
/// From here on, two homes are enough for shards of a good size to know one another.
const NODES_LARGE: u64 = 5_000;
/// A topic shall have at least so many subscribers, and less than twice as many.
const SUBSCRIBERS: u64 = 50;
/// So many volunteers are wanted for one request: four for each of three replicas.
const VOLUNTEERS: u64 = 12;

/// How a mesh is cut into shards: a part of the mesh's profile, the same for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    bits: u32,
    homes: u32,
}

impl Sharding {
    /// One shard, in which everybody is at home.
    pub const WHOLE: Self = Self { bits: 0, homes: 1 };

    /// 2^`bits` shards (0 to [`BITS_MAX`] bits), of which each node is at home in `homes` (1 to
    /// [`HOMES_MAX`], and not more than there are). What lies outside is taken for the nearest.
    pub fn new(bits: u32, homes: u32) -> Self {
        let bits = bits.min(BITS_MAX);
        Self { bits, homes: homes.clamp(1, HOMES_MAX.min(1 << bits)) }
    }

    /// What suits a mesh of so many nodes: one shard below 100, else as many as leave each topic 50
    /// to 100 subscribers on average (64 shards and 4 homes for 1,000 nodes, 256 and 2 for 10,000).
    pub fn recommended(nodes: u64) -> Self {
        if nodes < NODES_SHARDED {
            return Self::WHOLE;
        }
        let homes = if nodes < NODES_LARGE { 4 } else { 2 };
        let shards = nodes.saturating_mul(u64::from(homes)) / SUBSCRIBERS;
        Self::new(shards.checked_ilog2().unwrap_or(0), homes)
    }

    /// b.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// 2^b.
    pub fn shards(&self) -> u32 {
        1 << self.bits
    }

    /// In how many shards each node is at home: k.
    pub fn homes_per_node(&self) -> u32 {
        self.homes
    }

    /// With which probability a willing node should volunteer in a mesh of so many, in 1/65535, so
    /// that about a dozen of those that hear a first request do.
    pub fn volunteer(&self, nodes: u64) -> u16 {
        let hearers = nodes.saturating_mul(self.homes.into()) >> self.bits;
        let whole = u64::from(u16::MAX);
        u16::try_from(whole * VOLUNTEERS / hearers.max(VOLUNTEERS)).unwrap_or(u16::MAX)
    }

    /// The topic of `kind` that serves a locality.
    pub fn topic(&self, kind: TopicKind, locality: Locality) -> Topic {
        Topic::new(kind, locality, self.bits)
    }

    /// The home shards of a node, in the order in which they are drawn: the first k distinct shards
    /// among the localities that its id yields (`draws`, PROTOCOL.md 11.1).
    pub fn homes(&self, node: &NodeId) -> Vec<u16> {
        let mut homes = Vec::new();
        for locality in draws(node) {
            let shard = self.topic(TopicKind::Store, locality).shard;
            if !homes.contains(&shard) {
                homes.push(shard);
            }
            if homes.len() as u64 >= self.homes.into() {
                break;
            }
        }
        homes
    }

    /// Whether the node is at home in the shard of this locality.
    pub fn is_home(&self, node: &NodeId, locality: Locality) -> bool {
        // No hash where there is nothing to tell apart.
        let shard = self.topic(TopicKind::Store, locality).shard;
        self.bits == 0 || self.homes(node).contains(&shard)
    }

    /// All topics that a node subscribes to: every kind in each of its home shards.
    pub fn subscriptions(&self, node: &NodeId) -> Vec<Topic> {
        let homes = self.homes(node).into_iter();
        homes.flat_map(|shard| TopicKind::ALL.map(|kind| Topic { kind, shard })).collect()
    }
}

/// Localities without end, 16 from each hash, for j = 0, 1 ..:
/// `SHA-256("quloud/v1/home" || node id 32 || j u32)`, of which each two bytes are one, the first
/// byte being the high one.
fn draws(node: &NodeId) -> impl Iterator<Item = Locality> {
    let blocks = (0..=u32::MAX)
        .map(|block| sha256(&[b"quloud/v1/home", node.as_bytes(), &block.to_le_bytes()]));
    blocks.flat_map(|block| {
        let pair = |at: usize| {
            let [high, low] = [at, at + 1].map(|at| block.get(at).copied().unwrap_or(0));
            Locality(u16::from_be_bytes([high, low]))
        };
        (0..16).map(move |number| pair(number * 2)).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn node(number: u64) -> NodeId {
        NodeId::from_bytes(sha256(&[&number.to_le_bytes()]))
    }

    #[test]
    fn small_meshes_are_one_shard_and_large_ones_as_designed() {
        let of = |nodes| {
            let sharding = Sharding::recommended(nodes);
            (sharding.shards(), sharding.homes_per_node())
        };
        assert_eq!([of(0), of(2), of(99)], [(1, 1); 3]);
        assert_eq!([of(100), of(1_000), of(10_000)], [(8, 4), (64, 4), (256, 2)]);
        assert_eq!([of(100_000), of(u64::MAX)], [(2_048, 2), (4_096, 2)]);
        assert_eq!(Sharding::recommended(50), Sharding::WHOLE);
    }

    #[test]
    fn what_lies_outside_the_bounds_is_the_nearest() {
        assert_eq!(Sharding::new(0, 0), Sharding::WHOLE);
        assert_eq!(Sharding::new(1, 9), Sharding { bits: 1, homes: 2 });
        assert_eq!(Sharding::new(99, 99), Sharding { bits: 12, homes: 16 });
    }

    #[test]
    fn every_shard_of_a_mesh_of_recommended_size_has_enough_subscribers() {
        for nodes in [100, 250, 1_000, 4_999, 5_000, 10_000] {
            let sharding = Sharding::recommended(nodes);
            let mut subscribers = vec![0_u32; sharding.shards() as usize];
            for number in 0..nodes {
                for shard in sharding.homes(&node(number)) {
                    subscribers[usize::from(shard)] += 1;
                }
            }
            let (least, most) = (subscribers.iter().min(), subscribers.iter().max());
            assert!(least.is_some_and(|least| *least >= 25), "{nodes}: {least:?}");
            assert!(most.is_some_and(|most| *most <= 150), "{nodes}: {most:?}");
        }
    }

    #[test]
    fn homes_are_distinct_follow_from_the_id_and_refine_as_bits_grow() {
        for number in 0..200 {
            let node = node(number);
            for bits in 0..=BITS_MAX {
                let sharding = Sharding::new(bits, 4);
                let homes = sharding.homes(&node);
                assert_eq!(homes, sharding.homes(&node));
                let distinct: BTreeSet<_> = homes.iter().copied().collect();
                assert_eq!(distinct.len() as u32, sharding.homes_per_node());
                assert!(homes.iter().all(|home| u32::from(*home) < sharding.shards()));
                let finer = Sharding::new((bits + 1).min(BITS_MAX), 4).homes(&node);
                assert!(bits == BITS_MAX || finer[0] >> 1 == homes[0]);
            }
        }
    }

    #[test]
    fn a_node_is_at_home_exactly_where_it_subscribes() {
        let sharding = Sharding::new(5, 3);
        for number in 0..100 {
            let node = node(number);
            let topics = sharding.subscriptions(&node);
            assert_eq!(topics.len(), 12);
            for locality in (0..=u16::MAX).step_by(97).map(Locality) {
                let heard = topics.contains(&sharding.topic(TopicKind::Retrieve, locality));
                assert_eq!(sharding.is_home(&node, locality), heard);
            }
        }
        assert_eq!(Sharding::WHOLE.subscriptions(&node(1)).len(), 4);
        assert!(Sharding::WHOLE.is_home(&node(1), Locality(u16::MAX)));
    }

    #[test]
    fn about_a_dozen_volunteer_however_many_hear() {
        assert_eq!(Sharding::WHOLE.volunteer(5), u16::MAX);
        for nodes in [40, 100, 1_000, 10_000] {
            for sharding in [Sharding::WHOLE, Sharding::recommended(nodes)] {
                let hearers = (nodes * u64::from(sharding.homes_per_node())) >> sharding.bits();
                let claims = hearers * u64::from(sharding.volunteer(nodes)) / 65_535;
                assert!((11..=12).contains(&claims), "{nodes}: {claims}");
            }
        }
    }
}
