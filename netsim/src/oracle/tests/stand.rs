//! Nodes, chunks and messages to show a property.

use crate::catalogue::CatalogueFaults;
use crate::disk::DiskFaults;
use crate::evil;
use crate::limits::Limits;
use crate::node::{Blueprint, Index, Node, Place};
use crate::oracle::{ChunkFacts, Fact, HeadFacts, Property, Said, Truth};
use bytes::Bytes;
use quloud::core::effect::{Reach, StoredChunk};
use quloud::core::message::{ChunkData, Offer, StoreAck, StoreChunk, StoreRequest, StreamMessage};
use quloud::core::owner::OwnerEvent;
use quloud::core::placement::DomainPolicy;
use quloud::core::shard::Sharding;
use quloud::core::types::{
    Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, Locality, NodeId, SnapshotId, StoreEpoch,
    Ticket, Time,
};
use quloud::crypto::ack::AckedChunk;
use quloud::crypto::head::{HeadKeys, HeadRecord};
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal::SealedChunk;
use quloud::store::heads::HeadBounds;
use quloud::store::releases::ReleaseBounds;
use quloud::store::writer::Options;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::collections::{BTreeMap, BTreeSet};

/// The owner, two honest holders, and a cheat.
pub(super) const OWNER: Index = 0;
pub(super) const HOLDER: Index = 1;
pub(super) const OTHER: Index = 2;
pub(super) const CHEAT: Index = 3;

/// When all that is seen happens.
pub(super) const NOW: Time = Time(10 * 3_600_000);

/// Four nodes that run and are connected, and two chunks that node 0 put, two times each.
pub(super) struct Stand {
    pub(super) nodes: Vec<Node>,
    indices: BTreeMap<NodeId, Index>,
    pub(super) chunks: BTreeMap<ChunkId, ChunkFacts>,
    heads: BTreeMap<ChunkId, HeadFacts>,
    pub(super) put: [SealedChunk; 2],
}

fn node(number: u8, domains: DomainPolicy, reach: Reach) -> Node {
    let place = Place::good(reach);
    let options = Options {
        capacity: 1 << 30,
        reserve: 0,
        segment_bytes: 1 << 20,
        ballast: 0,
        heads: HeadBounds::default(),
        releases: ReleaseBounds::default(),
        scrub_round: quloud::store::scrub::ROUND,
    };
    let mut node = Node::new(
        ChaCha20Rng::from_seed([number + 1; 32]),
        Blueprint {
            place,
            options,
            disk: DiskFaults::default(),
            catalogue: CatalogueFaults::default(),
            domains,
            terms: LeaseTerms::default(),
            limits: Limits::default(),
            sharding: Sharding::WHOLE,
        },
    );
    node.start(Time(0)).unwrap();
    node
}

/// The name of one.
pub(super) fn snapshot(number: u8) -> SnapshotId {
    SnapshotId::from_bytes([number; 32])
}

impl Stand {
    pub(super) fn new() -> Self {
        Self::at(DomainPolicy::LanCountsEach, |number| Reach::PublicV4([100, 0, number]))
    }

    pub(super) fn at(domains: DomainPolicy, reach: fn(u8) -> Reach) -> Self {
        let mut nodes: Vec<Node> = (0..4).map(|n| node(n, domains, reach(n))).collect();
        nodes[CHEAT].evil =
            evil::ALL.iter().map(|make| make(&evil::Gang::new(Time(0), true))).next();
        for (at, node) in nodes.iter_mut().enumerate() {
            node.machine.as_mut().unwrap().met = (0..4).filter(|peer| *peer != at).collect();
        }
        let keys = &nodes[OWNER].owner_keys;
        let put = [b"one".as_slice(), b"two"].map(|plain| {
            let key = ChunkKey::derive(&keys.dedup, 0, 1, plain);
            SealedChunk::new(keys, &key, Locality(0), plain)
        });
        let facts = |chunk: &SealedChunk| ChunkFacts {
            owner: OWNER,
            sealed: chunk.sealed.clone(),
            readers: BTreeSet::from([OWNER]),
            replicas: 2,
            reached: BTreeSet::new(),
            acked: BTreeMap::from([(HOLDER, Time(0)), (OTHER, Time(0))]),
            buried: BTreeSet::new(),
            released: None,
            leases: BTreeMap::new(),
            promised: true,
        };
        let chunks = put.iter().map(|chunk| (chunk.id(), facts(chunk))).collect();
        let indices = nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        let mut stand = Self { nodes, indices, chunks, heads: BTreeMap::new(), put };
        stand.heads.insert(stand.record(1, [0; 32]).id(), stand.head());
        stand
    }

    /// A record of the owner's head.
    pub(super) fn record(&self, number: u64, previous: [u8; 32]) -> HeadRecord {
        let keys = &self.nodes[OWNER].owner_keys;
        let keys = HeadKeys::derive(&keys.head, keys.generation, 0);
        let number = std::num::NonZeroU64::new(number).unwrap();
        keys.make(number, previous, b"payload", &mut ChaCha20Rng::seed_from_u64(1)).unwrap()
    }

    /// The owner's head has two records: the first lists one snapshot, the second another one, too.
    /// Both are at their quorum, and both holders have acknowledged the second.
    fn head(&self) -> HeadFacts {
        let first = self.record(1, [0; 32]);
        let second = self.record(2, first.hash());
        let live = |count: u8| (1..=count).map(snapshot).collect();
        let said = [(1, first, live(1)), (2, second, live(2))];
        let said = said.map(|(number, record, live)| (number, Said { record, live }));
        HeadFacts {
            said: BTreeMap::from(said),
            acked: BTreeMap::from([(HOLDER, 2), (OTHER, 2)]),
            sending: 2,
            promised: 2,
            ..HeadFacts::new(OWNER, 0, 2)
        }
    }

    /// All acks of a head were of its first record.
    pub(super) fn older_acks(&mut self, id: &ChunkId) {
        let head = self.heads.get_mut(id).unwrap();
        head.acked.values_mut().for_each(|number| *number = 1);
    }

    pub(super) fn id(&self, which: usize) -> ChunkId {
        self.put[which].id()
    }

    pub(super) fn of(&mut self, which: usize) -> &mut ChunkFacts {
        let id = self.id(which);
        self.chunks.get_mut(&id).unwrap()
    }

    /// A node stores this chunk.
    pub(super) fn keep(&mut self, node: Index, which: usize) {
        let SealedChunk { header, sealed, tags, .. } = &self.put[which];
        let chunk = StoredChunk {
            header: *header,
            proof_nonce: [0; 32],
            proof: [0; 64],
            account: Account::from_bytes([1; 32]),
            lease: LeaseNonce::from_bytes([1; 16]),
            terms: LeaseTerms::default(),
            tags: tags.clone(),
            sealed: sealed.clone(),
        };
        let machine = self.nodes[node].machine.as_mut().unwrap();
        machine.store.write(Ticket(1), Box::new(chunk));
        machine.store.commit();
        assert!(self.nodes[node].holds(&self.id(which)));
    }

    pub(super) fn see(&self, property: &mut dyn Property, fact: &Fact<'_>) -> Option<String> {
        let Self { nodes, indices, chunks, heads, .. } = self;
        property.see(&Truth { now: NOW, nodes, indices, chunks, heads }, fact)
    }

    /// Fine: the property has nothing to say.
    pub(super) fn holds(&self, property: &mut dyn Property, facts: &[Fact<'_>]) {
        for fact in facts {
            assert_eq!(self.see(property, fact), None, "{}: {fact:?}", property.name());
        }
    }

    /// Each of these breaks it, however many did before.
    pub(super) fn breaks(&self, property: &mut dyn Property, facts: &[Fact<'_>]) {
        for fact in facts {
            assert!(self.see(property, fact).is_some(), "{}: {fact:?}", property.name());
        }
    }

    pub(super) fn ids(&self, nodes: &[Index]) -> Vec<NodeId> {
        nodes.iter().map(|node| self.nodes[*node].id).collect()
    }

    /// An ack by a store for this chunk.
    pub(super) fn ack(&self, which: usize, lease: u8) -> StreamMessage {
        let lease = LeaseNonce::from_bytes([lease; 16]);
        StreamMessage::StoreAck(StoreAck {
            batch: BatchId::from_bytes([0; 16]),
            account: Account::from_bytes([0; 32]),
            epoch: StoreEpoch::from_bytes([0; 16]),
            terms: LeaseTerms::default(),
            chunks: vec![AckedChunk { id: self.id(which), lease, receipt: [0; 32] }],
            signature: [0; 64],
        })
    }

    /// The owner's request for holders of the first chunk.
    pub(super) fn request(&self) -> StoreRequest {
        let sealed_bytes = self.put[0].header.sealed_bytes;
        StoreRequest {
            ephemeral: [7; 32],
            attempt: 0,
            probability: u16::MAX,
            quorum: 2,
            terms: LeaseTerms::default(),
            offers: vec![Offer { id: self.id(0), sealed_bytes }],
            stamp: Bytes::new(),
        }
    }

    pub(super) fn chunk(&self, which: usize) -> StreamMessage {
        StreamMessage::StoreChunk(Box::new(StoreChunk {
            batch: BatchId::from_bytes([0; 16]),
            account: Account::from_bytes([0; 32]),
            header: self.put[which].header,
            terms: LeaseTerms::default(),
            nonce: [0; 32],
            proof: [0; 64],
            seed: [0; 32],
            tags: self.put[which].tags.clone(),
            sealed: self.put[which].sealed.clone(),
        }))
    }

    pub(super) fn data(&self, which: usize, request: u64) -> StreamMessage {
        let SealedChunk { header, sealed, .. } = &self.put[which];
        StreamMessage::ChunkData(ChunkData { request, header: *header, sealed: sealed.clone() })
    }

    pub(super) fn acked(&self, which: usize, holder: Index, epoch: u8) -> OwnerEvent {
        OwnerEvent::Acked {
            ticket: Ticket(1),
            id: self.id(which),
            node: self.nodes[holder].id,
            lease: LeaseNonce::from_bytes([0; 16]),
            epoch: StoreEpoch::from_bytes([epoch; 16]),
            replicas: 1,
        }
    }

    pub(super) fn stored(&self, replicas: u8, holders: &[Index]) -> OwnerEvent {
        let (ticket, id) = (Ticket(1), self.id(0));
        OwnerEvent::Stored { ticket, id, replicas, holders: self.ids(holders) }
    }
}
