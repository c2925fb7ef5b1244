//! Rot from the disk to its owner: flipped, found by the scrub, told, shown by an audit, healed.

use super::store_fixtures::*;
use quloud::core::effect::{Effect, Event, Input, Peer, Reach, StoreError, StoredChunk, Via};
use quloud::core::holder::{HolderConfig, HolderLimits, HolderRole};
use quloud::core::message::{AuditKind, AuditState, Hello, Message};
use quloud::core::owner::{
    AccountDone, AccountJob, AccountWish, OwnerCommand, OwnerConfig, OwnerEvent, OwnerLimits,
    OwnerRole,
};
use quloud::core::placement::DomainPolicy;
use quloud::core::shard::Sharding;
use quloud::core::types::{ChunkId, LeaseTerms, Locality, MeshId, Ticket, Time};
use quloud::crypto::keys::{ChunkKey, Master, NodeKeys, OwnerKeys};
use quloud::crypto::seal::SealedChunk;
use quloud::store::disk::{Disk, File};
use quloud::store::memory::{MemoryCatalogue, MemoryDisk};
use quloud::store::scrub::Cursor;
use quloud::store::{Options, Request, Writer};
use rand::RngExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const CHUNKS: u64 = 30;

/// A holder with its store, and the owner of all that it keeps.
struct World {
    disk: Arc<MemoryDisk>,
    store: Writer<MemoryDisk, MemoryCatalogue>,
    holder: HolderRole,
    owner: OwnerRole,
    owner_node: NodeKeys,
    holder_node: Arc<NodeKeys>,
    chunks: BTreeMap<ChunkId, StoredChunk>,
    now: Time,
    /// What the owner was told and answered, in order.
    events: Vec<OwnerEvent>,
    tickets: u64,
}

fn hello(keys: &NodeKeys) -> Hello {
    Hello {
        node: keys.node_id(),
        mesh: MESH,
        agreement: keys.agreement_key(),
        agreement_signature: keys.sign_agreement(),
        site: String::new(),
        operator: String::new(),
    }
}

fn peer(keys: &NodeKeys) -> Peer {
    Peer { node: keys.node_id(), hello: hello(keys), reach: Reach::Local }
}

impl World {
    fn new() -> Self {
        let mut rng = rng(3);
        let (owner_node, holder_node) =
            (NodeKeys::generate(&mut rng), NodeKeys::generate(&mut rng));
        let holder_node = Arc::new(holder_node);
        let keys = Arc::new(OwnerKeys::derive(&Master::from_bytes([6; 32]), 0));
        let disk = Arc::new(MemoryDisk::new(8 << 20));
        let catalogue = Arc::new(MemoryCatalogue::new());
        let options = Options { segment_bytes: 128 << 10, ..options() };
        let opened = Writer::open(Arc::clone(&disk), catalogue, wrap_key(), options, rng.clone());
        let mut store = opened.unwrap().0;
        let account = keys.account(&holder_node.node_id()).account();
        let stored = |number: u64| {
            let ck = ChunkKey::derive(&keys.dedup, 0, 1, &number.to_le_bytes());
            let sealed = SealedChunk::new(&keys, &ck, Locality(0), &[7; 9_000]);
            StoredChunk {
                header: sealed.header,
                proof_nonce: [0; 32],
                proof: [0; 64],
                account,
                lease: lease(number),
                terms: LeaseTerms::default(),
                tags: sealed.tags,
                sealed: sealed.sealed,
            }
        };
        let chunks: BTreeMap<ChunkId, StoredChunk> =
            (0..CHUNKS).map(stored).map(|chunk| (chunk.id(), chunk)).collect();
        for chunk in chunks.values() {
            let chunk = Box::new(chunk.clone());
            store.commit(vec![Request::Write { ticket: Ticket(0), chunk }]);
        }
        let holder = HolderRole::new(HolderConfig {
            keys: Arc::clone(&holder_node),
            mesh: MESH,
            limits: HolderLimits::default(),
            seed: [8; 32],
            sharding: Sharding::WHOLE,
            site: String::new(),
            operator: String::new(),
            used_by_account: store.usage().clone(),
            epoch: store.epoch(),
        });
        let owner = OwnerRole::new(OwnerConfig {
            keys,
            node: owner_node.node_id(),
            mesh: MESH,
            seed: [5; 32],
            limits: OwnerLimits::default(),
            sharding: Sharding::WHOLE,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let (now, events, tickets) = (Time(1_000), Vec::new(), 0);
        let mut world = Self {
            disk,
            store,
            holder,
            owner,
            owner_node,
            holder_node,
            chunks,
            now,
            events,
            tickets,
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        let (owner, holder) = (peer(&self.owner_node), peer(&self.holder_node));
        self.feed_holder(Input::PeerUp(owner));
        self.feed_owner(Input::PeerUp(holder));
    }

    fn disconnect(&mut self) {
        let (owner, holder) = (self.owner_node.node_id(), self.holder_node.node_id());
        self.feed_holder(Input::PeerDown(owner));
        self.feed_owner(Input::PeerDown(holder));
    }

    fn feed_owner(&mut self, input: Input) {
        self.owner.handle(self.now, input);
        while let Some(effect) = self.owner.poll_effect() {
            match effect {
                Effect::Send { message, .. } => {
                    let (from, via) = (self.owner_node.node_id(), Via::Stream);
                    let message = Message::Stream(message);
                    self.feed_holder(Input::Message { from, via, message });
                }
                Effect::Report(Event::Owner(event)) => self.events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }

    fn feed_holder(&mut self, input: Input) {
        self.holder.handle(self.now, input);
        let (mut done, mut said) = (Vec::new(), Vec::new());
        while let Some(effect) = self.holder.poll_effect() {
            match effect {
                Effect::Send { message, .. } => said.push(message),
                Effect::OwnerHeard { account, audited } => {
                    done.extend(self.store.commit(vec![Request::Heard { account, audited }]));
                }
                Effect::QueryChunks { ticket, account, ids } => {
                    let result = self.store.reader().query(&account, &ids);
                    done.push(Input::ChunksQueried { ticket, result });
                }
                Effect::ProveChunk { ticket, account, id, task, closely } => {
                    let mut reader = self.store.reader();
                    let (result, rot) = reader.prove(&account, &id, &task, closely);
                    done.push(Input::ChunkProven { ticket, result });
                    done.extend(rot.into_iter().flat_map(|rot| self.store.commit(vec![rot])));
                }
                other => panic!("{other:?}"),
            }
        }
        for message in said {
            let (from, via) = (self.holder_node.node_id(), Via::Stream);
            self.feed_owner(Input::Message { from, via, message: Message::Stream(message) });
        }
        done.into_iter().for_each(|input| self.feed_holder(input));
    }

    /// Lets time pass on both sides.
    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.feed_holder(Input::Tick);
        self.feed_owner(Input::Tick);
    }

    fn ask(&mut self, wish: AccountWish) -> AccountDone {
        self.tickets += 1;
        let (ticket, holder) = (Ticket(self.tickets), self.holder_node.node_id());
        let deadline = self.now.after(Duration::from_secs(30));
        let job = AccountJob { ticket, holder, wish, deadline };
        self.feed_owner(Input::Command(OwnerCommand::Account(job)));
        let answer = self.events.iter().find_map(|event| match event {
            OwnerEvent::Account { ticket: of, outcome, .. } if *of == ticket => {
                Some(outcome.clone())
            }
            _ => None,
        });
        answer.expect("it is answered").unwrap()
    }

    /// An audit of all: what the holder says of each chunk.
    fn audit(&mut self) -> BTreeMap<ChunkId, AuditState> {
        let ids: Vec<ChunkId> = self.chunks.keys().copied().collect();
        let seed = rng(self.tickets).random();
        let wish = AccountWish::Audit { kind: AuditKind::Compact, seed, ids: ids.clone() };
        let AccountDone::Audited { audited, .. } = self.ask(wish) else { panic!() };
        ids.into_iter().zip(audited.chunks.iter().map(|chunk| chunk.state)).collect()
    }

    /// One round of the scrub; what the store says of it goes to the holder.
    fn scrub(&mut self) {
        let (mut reader, mut cursor) = (self.store.reader(), Cursor::default());
        loop {
            let scrubbed = reader.scrub(cursor, 64 << 10).unwrap();
            let inputs = self.store.commit(scrubbed.rotten);
            inputs.into_iter().for_each(|input| self.feed_holder(input));
            if scrubbed.round_is_over {
                return;
            }
            cursor = scrubbed.next;
        }
    }

    /// Flips one bit somewhere in the segments.
    fn flip(&mut self, seed: u64) {
        let mut rng = rng(seed);
        let segments = self.disk.segments().unwrap();
        let segment = File::Segment(segments[rng.random_range(0..segments.len())]);
        let at = rng.random_range(0..self.disk.len(segment).unwrap());
        assert!(self.disk.flip_bit(segment, at, rng.random_range(0..8)));
    }

    /// What the owner was told of without asking, each once.
    fn noticed(&self) -> BTreeSet<ChunkId> {
        let mut all = BTreeSet::new();
        for event in &self.events {
            if let OwnerEvent::Noticed { holder, ids } = event {
                assert_eq!(*holder, self.holder_node.node_id());
                assert!(ids.iter().all(|id| all.insert(*id)), "told twice");
            }
        }
        all
    }

    /// Chunks that cannot be read.
    fn rotten(&self) -> BTreeSet<ChunkId> {
        let is_rotten = |id: &&ChunkId| {
            let read = self.store.reader().read(id);
            // What is handed out is what was stored.
            if let Ok((_, sealed)) = &read.result {
                assert_eq!(*sealed, self.chunks[*id].sealed);
            }
            read.result == Err(StoreError::Damaged)
        };
        self.chunks.keys().filter(is_rotten).copied().collect()
    }

    fn heal(&mut self, ids: &BTreeSet<ChunkId>) {
        for id in ids {
            let chunk = Box::new(self.chunks[id].clone());
            let inputs = self.store.commit(vec![Request::Write { ticket: Ticket(0), chunk }]);
            assert!(written(&inputs)[0].1.is_ok());
        }
    }
}

#[test]
fn bitflip_found_and_healed() {
    let (mut found, mut flips) = (0, 0);
    for round in 0..12 {
        let mut world = World::new();
        let some = world.chunks.keys().next().copied();
        world.ask(AccountWish::Query(some.into_iter().collect()));
        assert!(world.audit().values().all(|state| *state == AuditState::Proven));
        for flip in 0..5 {
            world.flip(round * 5 + flip);
            flips += 1;
        }
        let rotten = world.rotten();
        world.scrub();
        for _ in 0..6 {
            world.pass(Duration::from_secs(10));
        }
        // All that cannot be read is told; and what has lost its tags or the like, perhaps.
        let told = world.noticed();
        assert!(told.is_superset(&rotten), "{rotten:?} of {told:?}");
        let damaged = world.store.damaged();
        assert_eq!(told, damaged.iter().map(|(_, id)| *id).collect());
        for (id, state) in world.audit() {
            let expected =
                if told.contains(&id) { AuditState::Damaged } else { AuditState::Proven };
            assert_eq!(state, expected, "{id}");
        }
        world.heal(&told);
        assert!(world.audit().values().all(|state| *state == AuditState::Proven));
        assert!(world.rotten().is_empty() && world.store.damaged().is_empty());
        assert_eq!(world.noticed(), told, "nothing was told twice");
        found += told.len();
    }
    assert!(found > flips / 2, "{found} of {flips}");
}

#[test]
fn what_was_found_while_the_owner_was_away_is_told_when_it_asks_for_anything() {
    let mut world = World::new();
    let first = world.chunks.keys().next().copied();
    let wish = || AccountWish::Query(first.into_iter().collect());
    for flip in 0..8 {
        world.flip(100 + flip);
    }
    world.scrub();
    let damaged: BTreeSet<ChunkId> = world.store.damaged().iter().map(|(_, id)| *id).collect();
    world.pass(Duration::from_secs(60));
    assert!(damaged.len() > 3 && world.noticed().is_empty(), "nobody knows whose node it is");
    world.ask(wish());
    assert_eq!(world.noticed(), damaged);
    world.ask(wish());
    world.pass(Duration::from_secs(60));
    assert_eq!(world.noticed(), damaged, "once in a connection");
    // In the next one it is told again: nobody knows whether it was heard.
    world.disconnect();
    world.events.clear();
    world.connect();
    world.pass(Duration::from_secs(60));
    assert!(world.noticed().is_empty());
    world.ask(wish());
    assert_eq!(world.noticed(), damaged);
}
