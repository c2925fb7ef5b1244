//! The tags of a chunk: from the owner's role through the codec and the holder's role into a store,
//! and what becomes of them there.

use super::store_conformance::{Backend, Memory, delete, open, put};
use super::store_fixtures::*;
use bytes::Bytes;
use quloud::core::codec::{decode_stream, encode_stream};
use quloud::core::effect::{Effect, Event, Input, Peer, Reach, StoredChunk, Via};
use quloud::core::holder::{HolderConfig, HolderLimits, HolderRole};
use quloud::core::message::{Hello, Message};
use quloud::core::owner::{
    OwnerCommand, OwnerConfig, OwnerEvent, OwnerLimits, OwnerRole, StoreJob,
};
use quloud::core::placement::DomainPolicy;
use quloud::core::shard::Sharding;
use quloud::core::types::{ChunkId, LeaseTerms, Locality, MeshId, StoreEpoch, Ticket, Time};
use quloud::crypto::audit::tags_bytes;
use quloud::crypto::keys::{ChunkKey, Master, NodeKeys, OwnerKeys};
use quloud::crypto::seal::SealedChunk;
use quloud::store::disk::{Disk, File};
use quloud::store::index::Catalogue;
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::record::{Kind, Prefix};
use quloud::store::{Request, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const START: Time = Time(1_000);

/// The tags in the newest record of a chunk that `disk` has, dead or not.
fn tags_on(disk: &MemoryDisk, id: &ChunkId) -> Option<Vec<u8>> {
    let mut newest = None;
    for segment in disk.segments().unwrap() {
        let file = File::Segment(segment);
        for at in (0..disk.len(file).unwrap()).step_by(4_096) {
            let mut block = vec![0; 4_096];
            disk.read_at(file, at, &mut block).unwrap();
            let Ok(prefix) = Prefix::parse(&block) else { continue };
            let mut record = vec![0; prefix.record_bytes()];
            let read = disk.read_at(file, at, &mut record).unwrap();
            let is_chunk = prefix.kind == Kind::Chunk && read == record.len();
            let named = is_chunk.then(|| prefix.open(&record, 0, &wrap_key())).flatten();
            if named.is_some_and(|box_1| box_1.starts_with(id.as_bytes())) {
                let tags = prefix.open(&record, 1, &wrap_key()).expect("the box opens");
                newest = newest.max(Some((prefix.place.sequence, tags)));
            }
        }
    }
    newest.map(|(_, tags)| tags)
}

fn peer(keys: &NodeKeys) -> Peer {
    let node = keys.node_id();
    let hello = Hello {
        node,
        mesh: MESH,
        agreement: keys.agreement_key(),
        agreement_signature: keys.sign_agreement(),
        site: String::new(),
        operator: String::new(),
    };
    Peer { node, hello, reach: Reach::Local }
}

/// An owner and its only holder.
struct Two {
    owner: OwnerRole,
    holder: HolderRole,
    store: Writer<MemoryDisk, MemoryCatalogue>,
    disk: Arc<MemoryDisk>,
    peers: [Peer; 2],
    now: Time,
    stored: Vec<ChunkId>,
}

impl Two {
    fn new(keys: &Arc<OwnerKeys>) -> Self {
        let [own, held] = [1, 2].map(|seed| NodeKeys::from_seeds([seed; 32], [3; 32], [4; 32]));
        let peers = [peer(&own), peer(&held)];
        let owner = OwnerRole::new(OwnerConfig {
            keys: Arc::clone(keys),
            node: own.node_id(),
            mesh: MESH,
            seed: [3; 32],
            limits: OwnerLimits::default(),
            sharding: Sharding::WHOLE,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let holder = HolderRole::new(HolderConfig {
            keys: Arc::new(held),
            mesh: MESH,
            limits: HolderLimits::default(),
            seed: [5; 32],
            sharding: Sharding::WHOLE,
            site: String::new(),
            operator: String::new(),
            used_by_account: BTreeMap::new(),
            epoch: StoreEpoch::from_bytes([2; 16]),
        });
        let disk = Arc::new(MemoryDisk::new(64 << 20));
        let catalogue = Arc::new(MemoryCatalogue::new());
        let opened = Writer::open(Arc::clone(&disk), catalogue, wrap_key(), options(), rng(1));
        let (store, _) = opened.unwrap();
        let (now, stored) = (START, Vec::new());
        let mut two = Self { owner, holder, store, disk, peers: peers.clone(), now, stored };
        let [own, held] = peers;
        let space = two.store.space();
        let record = Input::OwnRecord(b"a record".to_vec().into());
        for input in [Input::Space(space), record, Input::PeerUp(own)] {
            two.input(false, input);
        }
        two.input(true, Input::PeerUp(held));
        two
    }

    /// An input for the owner, or for the holder, and all that it leads to.
    fn input(&mut self, to_owner: bool, input: Input) {
        let mut effects = Vec::new();
        if to_owner {
            self.owner.handle(self.now, input);
            effects.extend(std::iter::from_fn(|| self.owner.poll_effect()));
        } else {
            self.holder.handle(self.now, input);
            effects.extend(std::iter::from_fn(|| self.holder.poll_effect()));
        }
        let from = self.peers[usize::from(!to_owner)].node;
        for effect in effects {
            let (to, input) = match effect {
                Effect::Send { message, .. } => {
                    let message = decode_stream(encode_stream(&message)).expect("it is good");
                    let message = Message::Stream(message);
                    (!to_owner, Input::Message { from, via: Via::Stream, message })
                }
                Effect::Publish { message, .. } => {
                    let message = Message::Topic(message);
                    (!to_owner, Input::Message { from, via: Via::Topic, message })
                }
                Effect::FindChunks { ticket, ids } => {
                    let found = self.store.reader().find(&ids);
                    (to_owner, Input::ChunksFound { ticket, found })
                }
                Effect::WriteChunk { ticket, chunk } => {
                    let done = self.store.commit(vec![Request::Write { ticket, chunk }]);
                    done.into_iter().for_each(|input| self.input(to_owner, input));
                    continue;
                }
                Effect::Report(Event::Owner(OwnerEvent::Stored { id, .. })) => {
                    self.stored.push(id);
                    continue;
                }
                Effect::Report(Event::Owner(_)) => continue,
                other => panic!("not expected here: {other:?}"),
            };
            self.input(to, input);
        }
    }

    fn store(&mut self, chunk: SealedChunk) {
        let (id, deadline) = (chunk.id(), self.now.after(Duration::from_secs(60)));
        let (held_by, without) = (Vec::new(), Vec::new());
        let load = chunk.into();
        let (ticket, beside) = (Ticket(1), Vec::new());
        let job = StoreJob { ticket, load, replicas: 1, held_by, without, beside, deadline };
        self.input(true, Input::Command(OwnerCommand::Store(job)));
        while !self.stored.contains(&id) {
            let owner = self.owner.next_timeout().map(|at| (at, true));
            let holder = self.holder.next_timeout().map(|at| (at, false));
            let next = owner.into_iter().chain(holder).min();
            let (at, to_owner) = next.expect("something goes on");
            self.now = self.now.max(at);
            assert!(self.now < deadline, "the chunk is stored");
            self.input(to_owner, Input::Tick);
        }
    }
}

#[test]
fn tags_travel_and_are_stored_with_the_chunk() {
    let keys = Arc::new(OwnerKeys::derive(&Master::from_bytes([5; 32]), 0));
    let mut two = Two::new(&keys);
    // One block, two, and as many as a chunk can have.
    for length in [100, 3_545, (4 << 20) - 40] {
        let plaintext = vec![7; length];
        let ck = ChunkKey::derive(&keys.dedup, 0, 1, &plaintext);
        let chunk = SealedChunk::new(&keys, &ck, Locality(0), &plaintext);
        let (id, header, sealed) = (chunk.id(), chunk.header, chunk.sealed.clone());
        two.store(chunk);
        let expected = keys.tag_key.tags(&header, &sealed).unwrap();
        assert_eq!(expected.len(), tags_bytes(length + 40));
        assert_eq!(tags_on(&two.disk, &id), Some(expected), "of {length} bytes");
    }
}

const LENGTH: usize = 2_500;

#[test]
fn tags_stay_with_a_chunk_that_moves_and_over_a_rebuild() {
    let backend = Memory::new();
    let (mut store, _) = open(&backend, options());
    put(&mut store, (0..40).map(|number| chunk(number, LENGTH)));
    let (disk, catalogue) = backend.open();
    let before = disk.segments().unwrap();
    for number in (0..40).filter(|number| number % 8 != 0) {
        delete(&mut store, id(number, LENGTH)).unwrap();
        tidy_up(&mut store);
    }
    let segments = disk.segments().unwrap();
    assert!(before.iter().any(|segment| !segments.contains(segment)), "some were moved");
    let all_there = || {
        for number in (0..40).step_by(8) {
            let kept = chunk(number, LENGTH);
            assert_eq!(tags_on(&disk, &kept.id()), Some(kept.tags.to_vec()), "{number}");
        }
    };
    all_there();
    drop(store);
    catalogue.clear().unwrap();
    catalogue.flush().unwrap();
    let (store, report) = open(&backend, options());
    assert!(report.rebuilt.is_some());
    assert_eq!(store.space().chunks, 5);
    all_there();
}

#[test]
fn a_chunk_that_is_held_keeps_the_tags_that_it_has() {
    let backend = Memory::new();
    let (mut store, _) = open(&backend, options());
    let first = chunk(1, LENGTH);
    let other = StoredChunk { tags: Bytes::from(vec![9; first.tags.len()]), ..first.clone() };
    assert_ne!(first.tags, other.tags);
    put(&mut store, [first.clone()]);
    put(&mut store, [other]);
    assert_eq!(tags_on(&backend.open().0, &first.id()), Some(first.tags.to_vec()));
}
