//! The real owner role against real holder roles, in virtual time.

use super::*;
use crate::core::holder::{HolderConfig, HolderLimits, HolderRole};

const NODES: usize = 10;
const REPLICAS: usize = 3;
const CHUNKS: u64 = 300;
const MESH: MeshId = MeshId::from_bytes([9; 32]);
const READ_MS: u64 = 2;

/// Who an input is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Owner,
    Holder(NodeId),
}

struct Holder {
    role: HolderRole,
    held: BTreeMap<ChunkId, (Header, Bytes)>,
}

/// One owner, connected to every holder.
struct Mesh {
    owner: OwnerRole,
    me: NodeId,
    holders: BTreeMap<NodeId, Holder>,
    now: Time,
    coming: BTreeMap<(Time, u64), (To, Input)>,
    count: u64,
    fetched: BTreeSet<u64>,
    not_fetched: Vec<OwnerEvent>,
    rejects: Vec<(To, Reject)>,
    asked: usize,
    searches: usize,
    keys: Vec<(ChunkId, ChunkKey, Vec<NodeId>)>,
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

fn holder(keys: NodeKeys, seed: u8) -> HolderRole {
    HolderRole::new(HolderConfig {
        keys: Arc::new(keys),
        mesh: MESH,
        limits: HolderLimits::default(),
        seed: [seed; 32],
        sharding: Sharding::WHOLE,
        site: String::new(),
        operator: String::new(),
        used_by_account: BTreeMap::new(),
        epoch: StoreEpoch::from_bytes([2; 16]),
    })
}

impl Mesh {
    /// Each chunk is held by another three of ten nodes.
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(11);
        let node_keys = NodeKeys::generate(&mut rng);
        let keys = Arc::new(OwnerKeys::derive(&Master::generate(&mut rng), 0));
        let owner = OwnerRole::new(OwnerConfig {
            keys: Arc::clone(&keys),
            node: node_keys.node_id(),
            mesh: MESH,
            seed: [3; 32],
            limits: OwnerLimits::default(),
            sharding: Sharding::WHOLE,
            domains: DomainPolicy::LanCountsEach,
            terms: LeaseTerms::default(),
        });
        let mut mesh = Self {
            owner,
            me: node_keys.node_id(),
            holders: BTreeMap::new(),
            now: Time(1_000),
            coming: BTreeMap::new(),
            count: 0,
            fetched: BTreeSet::new(),
            not_fetched: Vec::new(),
            rejects: Vec::new(),
            asked: 0,
            searches: 0,
            keys: Vec::new(),
        };
        for seed in 0..NODES as u8 {
            let keys = NodeKeys::generate(&mut rng);
            let (node, up) = (keys.node_id(), peer(&keys));
            let role = holder(keys, seed);
            mesh.holders.insert(node, Holder { role, held: BTreeMap::new() });
            let record = Bytes::from_static(b"a signed peer record");
            mesh.input(To::Holder(node), Input::OwnRecord(record));
            mesh.input(To::Holder(node), Input::PeerUp(peer(&node_keys)));
            mesh.input(To::Owner, Input::PeerUp(up));
        }
        let nodes: Vec<NodeId> = mesh.holders.keys().copied().collect();
        for number in 0..CHUNKS {
            let plaintext = number.to_le_bytes();
            let ck = ChunkKey::derive(&keys.dedup, 0, 1, &plaintext);
            let chunk = SealedChunk::new(&keys, &ck, Locality(0), &plaintext);
            let mut at: usize = crate::crypto::sha256(&[&plaintext])[0].into();
            let mut holders = Vec::new();
            while holders.len() < REPLICAS {
                let node = nodes[at % NODES];
                holders.push(node);
                let held = &mut mesh.holders.get_mut(&node).unwrap().held;
                held.insert(chunk.id(), (chunk.header, chunk.sealed.clone()));
                at += 1 + usize::from(at.is_multiple_of(2));
            }
            mesh.keys.push((chunk.id(), ck, holders));
        }
        mesh
    }

    fn input(&mut self, to: To, input: Input) {
        let effects: Vec<Effect> = match to {
            To::Owner => {
                self.owner.handle(self.now, input);
                std::iter::from_fn(|| self.owner.poll_effect()).collect()
            }
            To::Holder(node) => {
                let role = &mut self.holders.get_mut(&node).unwrap().role;
                role.handle(self.now, input);
                std::iter::from_fn(|| role.poll_effect()).collect()
            }
        };
        for effect in effects {
            self.carry_out(to, effect);
        }
    }

    fn later(&mut self, millis: u64, to: To, input: Input) {
        self.count += 1;
        let at = self.now.after(Duration::from_millis(millis));
        self.coming.insert((at, self.count), (to, input));
    }

    fn carry_out(&mut self, of: To, effect: Effect) {
        let from = match of {
            To::Owner => self.me,
            To::Holder(node) => node,
        };
        match effect {
            Effect::Send { to, message } => {
                self.asked += usize::from(matches!(message, StreamMessage::Retrieve(_)));
                let to = if to == self.me { To::Owner } else { To::Holder(to) };
                let message = Message::Stream(message);
                self.later(LATENCY_MS, to, Input::Message { from, via: Via::Stream, message });
            }
            Effect::Publish { message, .. } => {
                let receivers: Vec<To> = match of {
                    To::Owner => self.holders.keys().copied().map(To::Holder).collect(),
                    To::Holder(_) => vec![To::Owner],
                };
                self.searches += usize::from(of == To::Owner);
                for to in receivers {
                    let message = Message::Topic(message.clone());
                    self.later(LATENCY_MS, to, Input::Message { from, via: Via::Topic, message });
                }
            }
            Effect::FindChunks { ticket, ids } => {
                let held = &self.holders[&from].held;
                let sound = |header: &Header| Found::Chunk {
                    header: *header,
                    sound: true,
                    released: false,
                };
                let found = ids.iter().map(|id| held.get(id).map(|(header, _)| sound(header)));
                let found = found.collect();
                self.later(0, of, Input::ChunksFound { ticket, found });
            }
            Effect::ReadChunk { ticket, id } => {
                let result = Ok(self.holders[&from].held[&id].clone());
                self.later(READ_MS, of, Input::ChunkRead { ticket, result });
            }
            Effect::Report(Event::Rejected { reason, .. }) => self.rejects.push((of, reason)),
            Effect::Report(Event::Owner(OwnerEvent::Fetched { ticket, .. })) => {
                self.fetched.insert(ticket.0);
            }
            Effect::Report(Event::Owner(event)) => self.not_fetched.push(event),
            other => panic!("not expected here: {other:?}"),
        }
    }

    /// The next thing that happens.
    fn step(&mut self) {
        let message = self.coming.keys().next().map(|(at, _)| (*at, None));
        let owner = self.owner.next_timeout().map(|at| (at, Some(To::Owner)));
        let holders = self.holders.iter();
        let holders = holders.filter_map(|(node, holder)| {
            holder.role.next_timeout().map(|at| (at, Some(To::Holder(*node))))
        });
        let next = message.into_iter().chain(owner).chain(holders).min();
        let (at, who) = next.expect("something goes on");
        self.now = self.now.max(at);
        match who {
            Some(to) => self.input(to, Input::Tick),
            None => {
                let (_, (to, input)) = self.coming.pop_first().unwrap();
                self.input(to, input);
            }
        }
    }

    /// Fetches every chunk, as many at once as there are slots.
    fn fetch_all(&mut self, known: impl Fn(&[NodeId]) -> Vec<NodeId>) -> Duration {
        let start = self.now;
        let mut next = 0;
        while self.fetched.len() < self.keys.len() {
            while next < self.keys.len() && self.owner.fetch_slots_free() > 0 {
                let (id, ck, holders) = &self.keys[next];
                let job = FetchJob {
                    ticket: Ticket(next as u64),
                    id: *id,
                    locality: Locality(0),
                    read: ck.read_secret(),
                    holders: known(holders),
                    only: false,
                    deadline: self.now.after(Duration::from_secs(60)),
                };
                self.input(To::Owner, Input::Command(OwnerCommand::Fetch(job)));
                next += 1;
            }
            assert!(self.not_fetched.is_empty(), "{:?}", self.not_fetched);
            self.step();
        }
        self.now.since(start)
    }
}

#[test]
fn chunks_of_known_holders_are_asked_of_nobody_else() {
    let mut mesh = Mesh::new();
    let took = mesh.fetch_all(<[NodeId]>::to_vec);
    assert_eq!((mesh.searches, mesh.asked), (0, mesh.keys.len()));
    assert!(mesh.rejects.is_empty(), "{:?}", mesh.rejects);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn chunks_spread_over_more_holders_than_replicas_are_all_fetched_unknown() {
    let mut mesh = Mesh::new();
    let took = mesh.fetch_all(|_| Vec::new());
    assert!(mesh.rejects.is_empty(), "no holder was asked too much: {:?}", mesh.rejects);
    assert!(mesh.asked < 2 * mesh.keys.len(), "{} requests", mesh.asked);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn stale_knowledge_of_holders_delays_a_restore_but_does_not_stop_it() {
    let mut mesh = Mesh::new();
    // The asker believes that one node holds everything.
    let wrong = *mesh.holders.keys().next().unwrap();
    let took = mesh.fetch_all(|_| vec![wrong]);
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(mesh.rejects.iter().all(|(_, reason)| *reason == Reject::RateLimited));
}
