//! Role tests: one input, then the vector of effects.

mod accept;
mod account;
mod audit;
mod claims;
mod floods;
mod heads;
mod locate;
mod notice;
mod release;
mod serve;
mod standing;

use super::*;
use crate::core::codec::{decode_stream, decode_topic, encode_stream, encode_topic};
use crate::core::effect::{Deleted, Found, Peer, Reach, Space, StoreError, StoredChunk, Written};
use crate::core::message::{Retrieve, StoreChunk, StoreRefusal};
use crate::core::shard::Sharding;
use crate::core::types::{BatchId, LeaseNonce, LeaseTerms, Locality, StoreEpoch};
use crate::crypto::keys::{ChunkKey, Master, OwnerKeys};
use crate::crypto::ownership::{Context, Verifier, body_hash, prove};
use crate::crypto::seal::SealedChunk;

const MESH: MeshId = MeshId::from_bytes([9; 32]);
const BATCH: BatchId = BatchId::from_bytes([1; 16]);
const EPOCH: StoreEpoch = StoreEpoch::from_bytes([2; 16]);
const LEASE: LeaseNonce = LeaseNonce::from_bytes([3; 16]);
const OWNER: NodeId = NodeId::from_bytes([4; 32]);
const STRANGER: NodeId = NodeId::from_bytes([5; 32]);

/// What is wrong with a proof, and how it comes to be.
type WrongProof = (&'static str, fn(&mut Context));

/// A holder with room for a gigabyte, and an owner that is connected to it.
struct Fixture {
    role: HolderRole,
    now: Time,
    rng: ChaCha20Rng,
    owner: OwnerKeys,
    /// The owners of which the store was told, and whether an audit was answered.
    heard: Vec<(Account, bool)>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(HolderLimits::default())
    }

    fn with(limits: HolderLimits) -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let role = HolderRole::new(HolderConfig {
            keys: Arc::new(NodeKeys::generate(&mut rng)),
            mesh: MESH,
            limits,
            seed: [8; 32],
            sharding: Sharding::WHOLE,
            site: "attic".into(),
            operator: String::new(),
            used_by_account: BTreeMap::new(),
            epoch: EPOCH,
        });
        let owner = OwnerKeys::derive(&Master::from_bytes([6; 32]), 0);
        let mut fixture = Self { role, now: Time(1_000), rng, owner, heard: Vec::new() };
        fixture.space(|_| {});
        fixture.up(OWNER);
        fixture.handle(Input::OwnRecord(Bytes::from_static(b"signed record")));
        fixture
    }

    /// Feeds one input and takes all effects.
    fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.role.handle(self.now, input);
        let mut effects: Vec<Effect> = std::iter::from_fn(|| self.role.poll_effect()).collect();
        effects.retain(|effect| match effect {
            Effect::OwnerHeard { account, audited } => {
                self.heard.push((*account, *audited));
                false
            }
            _ => true,
        });
        effects.iter().for_each(assert_well_formed);
        effects
    }

    /// Lets time pass, ticking whenever the role asks for it.
    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        let end = Time(self.now.0 + ms);
        let mut effects = Vec::new();
        while let Some(at) = self.role.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            effects.extend(self.handle(Input::Tick));
        }
        self.now = end;
        effects
    }

    fn space(&mut self, change: impl FnOnce(&mut Space)) {
        let mut space = Space { capacity: 1 << 30, free: 1 << 40, ..Space::default() };
        change(&mut space);
        assert!(self.handle(Input::Space(space)).is_empty());
    }

    fn up(&mut self, node: NodeId) {
        let hello = Hello { node, ..self.role.hello.clone() };
        let peer = Peer { node, hello, reach: Reach::Local };
        assert!(self.handle(Input::PeerUp(peer)).is_empty());
    }

    fn stream(&mut self, from: NodeId, message: StreamMessage) -> Vec<Effect> {
        self.handle(Input::Message { from, via: Via::Stream, message: Message::Stream(message) })
    }

    fn topic(&mut self, from: NodeId, message: TopicMessage) -> Vec<Effect> {
        self.handle(Input::Message { from, via: Via::Topic, message: Message::Topic(message) })
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        crate::crypto::keys::random(&mut self.rng)
    }

    /// A chunk of the owner's, different for each tag.
    fn chunk(&self, tag: u32) -> SealedChunk {
        SealedChunk::new(&self.owner, &self.chunk_key(tag), Locality(0), &[0; 64])
    }

    fn chunk_key(&self, tag: u32) -> ChunkKey {
        ChunkKey::derive(&self.owner.dedup, 0, 1, &tag.to_le_bytes())
    }

    fn account(&self) -> Account {
        self.owner.account(&self.role.me()).account()
    }

    /// What a store proof by the owner for this holder is bound to.
    fn store_context(&mut self, body_hash: [u8; 32]) -> Context {
        Context {
            operation: Operation::Store,
            mesh: MESH,
            verifier: Verifier::Node(self.role.me()),
            asker: Some(OWNER),
            nonce: self.random(),
            body_hash,
        }
    }

    /// An honest message that stores `chunk`, freshly proven.
    fn store(&mut self, chunk: &SealedChunk) -> StoreChunk {
        self.store_with(chunk, |_| {})
    }

    /// The same with something wrong in what is proven.
    fn store_with(&mut self, chunk: &SealedChunk, change: impl FnOnce(&mut Context)) -> StoreChunk {
        let (account, terms) = (self.account(), LeaseTerms::default());
        let body_hash = StoreChunk::body_hash(&account, &terms, &chunk.tags);
        let mut context = self.store_context(body_hash);
        change(&mut context);
        StoreChunk {
            batch: BATCH,
            account,
            header: chunk.header,
            terms,
            nonce: context.nonce,
            proof: prove(&chunk.admin, &chunk.id(), &context, &mut self.rng),
            seed: self.random(),
            tags: chunk.tags.clone(),
            sealed: chunk.sealed.clone(),
        }
    }

    /// Sends a chunk that must come in, and returns the write's ticket.
    fn begin_write(&mut self, message: StoreChunk) -> Ticket {
        let effects = self.stream(OWNER, StreamMessage::StoreChunk(Box::new(message)));
        write_of(effects).0
    }

    fn written(&mut self, results: Vec<(Ticket, Result<Written, StoreError>)>) -> Vec<Effect> {
        self.handle(Input::ChunksWritten(results))
    }

    fn found(&mut self, ticket: Ticket, found: Vec<Option<Header>>) -> Vec<Effect> {
        let sound = |header: Header| Found::Chunk { header, sound: true, released: false };
        let found = found.into_iter().map(|header| header.map(sound)).collect();
        self.handle(Input::ChunksFound { ticket, found })
    }

    /// An honest retrieve of `chunk`, freshly proven by `asker`.
    fn retrieve(&mut self, tag: u32, asker: NodeId, request: u64) -> Retrieve {
        self.retrieve_with(tag, asker, request, |_| {})
    }

    fn retrieve_with(
        &mut self,
        tag: u32,
        asker: NodeId,
        request: u64,
        change: impl FnOnce(&mut Context),
    ) -> Retrieve {
        let id = self.chunk(tag).id();
        let mut context = Context {
            operation: Operation::Retrieve,
            mesh: MESH,
            verifier: Verifier::Node(self.role.me()),
            asker: Some(asker),
            nonce: self.random(),
            body_hash: body_hash(&[&request.to_le_bytes()]),
        };
        change(&mut context);
        let secret = self.chunk_key(tag).read_secret();
        let proof = prove(&secret, &id, &context, &mut self.rng);
        Retrieve { request, id, nonce: context.nonce, proof }
    }
}

/// Whatever the role says is a message to its peers: it survives the way through their decoder.
fn assert_well_formed(effect: &Effect) {
    match effect {
        Effect::Publish { message, .. } => {
            assert_eq!(decode_topic(&encode_topic(message)).as_ref(), Ok(message));
        }
        Effect::Send { message, .. } => {
            assert_eq!(decode_stream(encode_stream(message)).as_ref(), Ok(message));
        }
        _ => {}
    }
}

fn written(added_bytes: u64) -> Written {
    Written { lease: LEASE, terms: LeaseTerms::default(), epoch: EPOCH, added_bytes }
}

fn done(ticket: Ticket) -> (Ticket, Result<Written, StoreError>) {
    (ticket, Ok(written(4_096)))
}

/// The one effect there is, a write.
fn write_of(effects: Vec<Effect>) -> (Ticket, StoredChunk) {
    match <[Effect; 1]>::try_from(effects) {
        Ok([Effect::WriteChunk { ticket, chunk }]) => (ticket, *chunk),
        other => panic!("expected one write, got {other:?}"),
    }
}

/// The one effect there is, a look-up.
fn lookup_of(effects: Vec<Effect>) -> (Ticket, Vec<ChunkId>) {
    match <[Effect; 1]>::try_from(effects) {
        Ok([Effect::FindChunks { ticket, ids }]) => (ticket, ids),
        other => panic!("expected one look-up, got {other:?}"),
    }
}

/// The one effect there is, a message.
fn sent(effects: Vec<Effect>) -> (NodeId, StreamMessage) {
    match <[Effect; 1]>::try_from(effects) {
        Ok([Effect::Send { to, message }]) => (to, message),
        other => panic!("expected one message, got {other:?}"),
    }
}

/// The reject reasons that were reported.
fn rejects(effects: &[Effect]) -> Vec<Reject> {
    let reason = |effect: &Effect| match effect {
        Effect::Report(Event::Rejected { reason, .. }) => Some(*reason),
        _ => None,
    };
    effects.iter().filter_map(reason).collect()
}

/// The store refusals that were sent.
fn refusals(effects: &[Effect]) -> Vec<StoreRefusal> {
    let reason = |effect: &Effect| match effect {
        Effect::Send { message: StreamMessage::StoreReject(reject), .. } => Some(reject.reason),
        _ => None,
    };
    effects.iter().filter_map(reason).collect()
}

fn writes(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::WriteChunk { .. })).count()
}
