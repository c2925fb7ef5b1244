//! The holder role: keeps other people's chunks and hands them out to whoever proves a right.
//!
//! ```text
//!  topic StoreRequest ─jitter─▶ FindChunks ─▶ sealed StoreClaim        (accept)
//! stream StoreRequest ────────▶ FindChunks ─▶ StoreClaim
//! stream StoreChunk ─▶ bounds, room, proof, bytes ─▶ WriteChunk
//!                                ChunksWritten(Ok) ─▶ signed StoreAck
//!  topic SearchRequest ───────▶ FindChunks, proofs ─jitter─▶ sealed offer  (serve)
//! stream Retrieve ─▶ FindChunks, proof ─▶ ReadChunk ─▶ ChunkData
//! stream StoreHead ─▶ bounds, room, signature, proof ─▶ WriteHead       (heads)
//!                                HeadsWritten(Ok) ─▶ signed StoreAck
//! stream HeadGet ──▶ FindChunks, proof ─▶ ReadHeads ─▶ HeadData
//! stream AccountRequest ─▶ MAC ─▶ ListChunks / QueryChunks ─▶ AccountAnswer    (account)
//!                               └▶ ProveChunk, one by one ─▶ AccountAnswer      (audit)
//! stream Release ─▶ FindChunks, proofs ─▶ ReleaseChunks ─▶ ReleaseAnswer       (release)
//! ChunksDamaged ─▶ ChunkNotice to the owners that are connected                (notice)
//! AskOwners ─▶ StandingRequest to them, StandingAnswer, checked ─▶ HolderEvent  (standing)
//! ```
//!
//! It never dials anybody, and sends chunk bytes only to the authenticated peer of a stream whose
//! proof verified. The caller feeds it [`Input`]s, drains its [`Effect`]s after each, completes
//! every `FindChunks`, `WriteChunk`, `ReadChunk`, `WriteHead`, `ReadHeads`, `ListChunks`,
//! `QueryChunks`, `ProveChunk` and `ReleaseChunks` exactly once, and reports a peer up before it
//! passes on what the peer says.

mod accept;
mod account;
mod admission;
mod audit;
mod bounds;
mod heads;
mod limits;
mod notice;
mod release;
mod serve;
mod standing;
#[cfg(test)]
mod tests;

pub use bounds::Rate;
pub use limits::HolderLimits;
pub use notice::{DAMAGED_MAX, NOTICE_EVERY};
pub use standing::{ANSWER_WITHIN, ASK_EVERY, ASKED_MAX, HolderEvent, Unsaid};

use super::codec::{RECORD_BYTES_MAX, Reject};
use super::effect::{Effect, Event, Found, Input, Via};
use super::message::{
    Answer, AnswerBody, Contact, Hello, Message, Release, SearchKind, SearchRequest, SignedAnswer,
    StoreRefusal, StoreRequest, StreamMessage, TopicMessage,
};
use super::shard::Sharding;
use super::topic::Topic;
use super::types::{
    Account, AnswerTag, ChunkId, MeshId, NodeId, RequestDigest, StoreEpoch, Ticket, Time,
};
use crate::crypto::header::Header;
use crate::crypto::keys::NodeKeys;
use crate::crypto::ownership::Operation;
use crate::crypto::{seal, sha256};
use crate::planted::{self, Bug};
use accept::Writing;
use account::Question;
use admission::Admission;
use audit::Audits;
use bounds::{Bucket, Budget, Rates, Seen};
use bytes::Bytes;
use heads::HeadWriting;
use notice::Notices;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use release::Releasing;
use serve::Reads;
use standing::Standings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a holder needs to begin.
#[derive(Debug)]
pub struct HolderConfig {
    /// This node's keys.
    pub keys: Arc<NodeKeys>,
    /// The mesh it serves.
    pub mesh: MeshId,
    /// Its bounds and policy.
    pub limits: HolderLimits,
    /// Seed of everything random in the role.
    pub seed: [u8; 32],
    /// How the mesh is cut into shards.
    pub sharding: Sharding,
    /// The declared site, at most 32 bytes; empty where there is none.
    pub site: String,
    /// The declared operator, likewise.
    pub operator: String,
    /// Bytes on disk by account, as the store's catalogue has them at the start.
    pub used_by_account: BTreeMap<Account, u64>,
    /// Names the store that this role answers for.
    pub epoch: StoreEpoch,
}

/// How full the role's tables are: for metrics, and for tests of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HolderLoad {
    /// Connected peers.
    pub peers: usize,
    /// Sealed bytes on their way to the disk.
    pub writing_bytes: u64,
    /// Chunks being read.
    pub reads: u64,
    /// Proven retrieves that wait for a read.
    pub queued_reads: u64,
    /// Topic requests that wait.
    pub topic_work: u64,
    /// Stream messages that wait for a look-up.
    pub stream_work: u64,
    /// Questions about accounts and releases that are not answered yet.
    pub account_work: u64,
    /// Audits that wait or are worked on; they are account work, too.
    pub audits: u64,
    /// Chunks that are being proven.
    pub proving: usize,
    /// Damaged chunks that are remembered for their owners.
    pub damaged: usize,
    /// Owners of whom it is remembered that they were asked how this node stands with them.
    pub standings: usize,
    /// Topic requests and proofs remembered.
    pub seen: usize,
    /// Accounts known or with chunks on their way.
    pub accounts: usize,
}

/// The holder half of a node. See the module's documentation.
#[derive(Debug)]
pub struct HolderRole {
    keys: Arc<NodeKeys>,
    limits: HolderLimits,
    hello: Hello,
    sharding: Sharding,
    rng: ChaCha20Rng,
    /// The node's signed PeerRecord for answers; empty while it is unknown.
    record: Bytes,
    peers: BTreeSet<NodeId>,
    admission: Admission,
    rates: RateTables,
    requests_seen: Seen<RequestDigest>,
    proofs_seen: Seen<[u8; 32]>,
    /// Counts from a topic request's arrival to its answer, in requests.
    topic_work: Budget,
    /// Counts from a stream message's arrival to the end of its look-up, in messages.
    stream_work: Budget,
    delayed: BTreeMap<(Time, u64), Delayed>,
    lookups: BTreeMap<Ticket, Lookup>,
    writing: BTreeMap<Ticket, Writing>,
    writing_bytes: Budget,
    head_writing: BTreeMap<Ticket, HeadWriting>,
    reads: Reads,
    /// Heads that are being read: for whom, and its number. Each counts as stream work.
    head_reads: BTreeMap<Ticket, (NodeId, u64)>,
    epoch: StoreEpoch,
    /// Counts from a question's or release's arrival to its answer, in messages.
    account_work: Budget,
    questions: BTreeMap<Ticket, Question>,
    audits: Audits,
    /// Peers of which a release is being looked up, and what they sent since.
    releases: BTreeMap<NodeId, VecDeque<Release>>,
    releasing: BTreeMap<Ticket, Releasing>,
    notices: Notices,
    standings: Standings,
    effects: VecDeque<Effect>,
    next: u64,
}

#[derive(Debug)]
struct RateTables {
    forwarders: Rates,
    topics: Bucket,
    claims: Bucket,
    direct: Rates,
    unproven: Rates,
    put_off: Rates,
    questions: Rates,
    audited: Rates<Account>,
}

/// Topic work that waits for its jitter. `from` is the forwarder, whose budget it counts against.
#[derive(Debug)]
enum Delayed {
    /// A store request this node volunteers for.
    Claim { from: NodeId, request: StoreRequest },
    /// A finished answer.
    Publish { from: NodeId, topic: Topic, message: TopicMessage },
}

/// What a `FindChunks` was for.
#[derive(Debug)]
enum Lookup {
    TopicClaim {
        from: NodeId,
        request: StoreRequest,
    },
    StreamClaim {
        from: NodeId,
        request: StoreRequest,
    },
    /// There is no room for a new chunk: is this one held already?
    Short {
        from: NodeId,
        arrival: Box<accept::Arrival>,
        /// What it is told otherwise.
        refusal: StoreRefusal,
    },
    TopicSearch {
        from: NodeId,
        request: SearchRequest,
    },
    StreamRetrieve {
        from: NodeId,
        retrieve: super::message::Retrieve,
    },
    Head {
        from: NodeId,
        get: super::message::HeadGet,
    },
    Release {
        from: NodeId,
        release: Release,
    },
}

impl HolderRole {
    /// A holder that knows nothing yet: tell it of the store's [`Input::Space`], the node's
    /// [`Input::OwnRecord`] and its peers.
    pub fn new(config: HolderConfig) -> Self {
        let HolderConfig { keys, mesh, limits, seed, sharding, site, operator, .. } = config;
        let hello = Hello {
            node: keys.node_id(),
            mesh,
            agreement: keys.agreement_key(),
            agreement_signature: keys.sign_agreement(),
            site,
            operator,
        };
        let sources_max = limits.peers_max.saturating_mul(4);
        let rates = RateTables {
            forwarders: Rates::new(limits.topic_requests_per_forwarder, sources_max),
            topics: Bucket::new(limits.topic_requests, Time(0)),
            claims: Bucket::new(limits.claims, Time(0)),
            direct: Rates::new(limits.direct_requests_per_peer, sources_max),
            unproven: Rates::new(limits.unproven_per_peer, sources_max),
            put_off: Rates::new(limits.put_off_per_peer, sources_max),
            questions: Rates::new(limits.questions_per_peer, sources_max),
            audited: Rates::new(limits.audited_chunks_per_account, limits.accounts_max),
        };
        Self {
            hello,
            sharding,
            rng: ChaCha20Rng::from_seed(seed),
            record: Bytes::new(),
            peers: BTreeSet::new(),
            admission: Admission::new(config.used_by_account),
            rates,
            requests_seen: Seen::new(limits.requests_seen_per_forwarder, limits.requests_seen),
            proofs_seen: Seen::new(limits.proofs_seen_per_peer, limits.proofs_seen),
            topic_work: Budget::new(limits.topic_work_per_forwarder, limits.topic_work),
            stream_work: Budget::new(limits.stream_work_per_peer, limits.stream_work),
            delayed: BTreeMap::new(),
            lookups: BTreeMap::new(),
            writing: BTreeMap::new(),
            writing_bytes: Budget::new(limits.writing_bytes_per_peer, limits.writing_bytes),
            head_writing: BTreeMap::new(),
            reads: Reads::new(&limits),
            head_reads: BTreeMap::new(),
            epoch: config.epoch,
            account_work: Budget::new(limits.account_work_per_peer, limits.account_work),
            questions: BTreeMap::new(),
            audits: Audits::new(&limits),
            releases: BTreeMap::new(),
            releasing: BTreeMap::new(),
            notices: Notices::default(),
            standings: Standings::default(),
            effects: VecDeque::new(),
            next: 0,
            keys,
            limits,
        }
    }

    /// Takes one input in. Never blocks, and never fails because of a peer. Inputs that concern
    /// the owner role are ignored.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Tick => self.on_tick(now),
            Input::Message { from, via, message } => self.on_message(now, from, via, message),
            Input::PeerUp(peer) => self.on_peer_up(peer.node),
            Input::PeerDown(node) => self.on_peer_down(now, node),
            Input::OwnRecord(record) => self.on_own_record(record),
            Input::Space(space) => self.admission.set_space(space),
            Input::ChunksFound { ticket, found } => self.on_chunks_found(now, ticket, found),
            Input::ChunksWritten(results) => self.on_chunks_written(results),
            Input::ChunkRead { ticket, result } => self.on_chunk_read(ticket, result),
            Input::ChunkDeleted { result: Ok(deleted), .. } => self.admission.free(&deleted),
            Input::HeadsWritten(results) => self.on_heads_written(results),
            Input::HeadsRead { ticket, result } => self.on_heads_read(ticket, result),
            Input::ChunksListed { ticket, result } => self.on_chunks_listed(ticket, result),
            Input::ChunksQueried { ticket, result } => self.on_chunks_queried(ticket, result),
            Input::ChunksReleased { ticket, result } => self.on_chunks_released(ticket, result),
            Input::HeadsDropped(dropped) => {
                dropped.iter().for_each(|dropped| self.admission.free(dropped));
            }
            Input::ChunksDestroyed(gone) => {
                for (id, gone) in &gone {
                    self.admission.free(gone);
                    self.notices.forget(&gone.account, id);
                }
            }
            Input::ChunksDamaged(found) => self.on_chunks_damaged(now, found),
            Input::AskOwners => self.on_ask_owners(now),
            Input::ChunkProven { ticket, result } => self.on_chunk_proven(now, ticket, result),
            Input::Command(_)
            | Input::PeerSubscribed(_)
            | Input::Uptime(_)
            | Input::ChunkDeleted { .. } => {}
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to feed [`Input::Tick`] at the latest; `None` where nothing waits for time.
    pub fn next_timeout(&self) -> Option<Time> {
        let delayed = self.delayed.keys().next().map(|(at, _)| *at);
        let rest = [
            self.audits.next_timeout(),
            self.notices.next_timeout(),
            self.standings.next_timeout(),
        ];
        delayed.into_iter().chain(rest.into_iter().flatten()).min()
    }

    /// How full the tables are.
    pub fn load(&self) -> HolderLoad {
        HolderLoad {
            peers: self.peers.len(),
            writing_bytes: self.writing_bytes.total(),
            reads: self.reads.reading(),
            queued_reads: self.reads.queued(),
            topic_work: self.topic_work.total(),
            stream_work: self.stream_work.total(),
            account_work: self.account_work.total(),
            audits: self.audits.open(),
            proving: self.audits.proving(),
            damaged: self.notices.len(),
            standings: self.standings.len(),
            seen: self.requests_seen.len() + self.proofs_seen.len(),
            accounts: self.admission.accounts(),
        }
    }

    /// Bytes on disk by account, as the completions add up.
    pub fn used_by_account(&self) -> &BTreeMap<Account, u64> {
        self.admission.used()
    }

    fn me(&self) -> NodeId {
        self.hello.node
    }

    fn on_tick(&mut self, now: Time) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                Delayed::Claim { from, request } => {
                    let ids = request.offers.iter().map(|offer| offer.id).collect();
                    self.find(ids, Lookup::TopicClaim { from, request });
                }
                Delayed::Publish { from, topic, message } => {
                    self.topic_work.give_back(from, 1);
                    self.effects.push_back(Effect::Publish { topic, message });
                }
            }
        }
        self.go_on_with_audits(now);
        self.tell_owners(now);
        self.give_up_standings(now);
    }

    fn on_message(&mut self, now: Time, from: NodeId, via: Via, message: Message) {
        match (via, message) {
            (Via::Topic, Message::Topic(TopicMessage::StoreRequest(request))) => {
                self.on_topic_store_request(now, from, request);
            }
            (Via::Topic, Message::Topic(TopicMessage::SearchRequest(request))) => {
                self.on_topic_search_request(now, from, request);
            }
            // The owner role's.
            (Via::Topic, Message::Topic(TopicMessage::Answer(_))) => {}
            (Via::Stream, Message::Stream(message)) => self.on_stream(now, from, message),
            // A topic message on a stream, or the reverse, has no meaning.
            (Via::Topic, Message::Stream(_)) | (Via::Stream, Message::Topic(_)) => {
                self.reject(from, Reject::Malformed);
            }
        }
    }

    fn on_stream(&mut self, now: Time, from: NodeId, message: StreamMessage) {
        let ours = matches!(
            message,
            StreamMessage::StoreRequest(_)
                | StreamMessage::StoreChunk(_)
                | StreamMessage::Retrieve(_)
                | StreamMessage::StoreHead(_)
                | StreamMessage::HeadGet(_)
                | StreamMessage::AccountRequest(_)
                | StreamMessage::Release(_)
                | StreamMessage::StandingAnswer(_)
        );
        if ours && !self.peers.contains(&from) {
            self.reject(from, Reject::TableFull);
            return;
        }
        match message {
            StreamMessage::StoreRequest(request) => self.on_direct_request(now, from, request),
            StreamMessage::StoreChunk(chunk) => self.on_store_chunk(now, from, *chunk),
            StreamMessage::Retrieve(retrieve) => self.on_retrieve(now, from, retrieve),
            StreamMessage::StoreHead(head) => self.on_store_head(now, from, head),
            StreamMessage::HeadGet(get) => self.on_head_get(now, from, get),
            StreamMessage::AccountRequest(asked) => self.on_account_request(now, from, asked),
            StreamMessage::Release(release) => self.on_release(now, from, release),
            StreamMessage::StandingAnswer(answer) => self.on_standing_answer(from, answer),
            // The network's, or the owner role's.
            StreamMessage::Hello(_)
            | StreamMessage::StoreClaim(_)
            | StreamMessage::StoreAck(_)
            | StreamMessage::StoreReject(_)
            | StreamMessage::ChunkData(_)
            | StreamMessage::RetrieveReject(_)
            | StreamMessage::HeadData(_)
            | StreamMessage::AccountAnswer(_)
            | StreamMessage::ReleaseAnswer(_)
            | StreamMessage::ChunkNotice(_)
            | StreamMessage::StandingRequest(_) => {}
        }
    }

    fn on_peer_up(&mut self, node: NodeId) {
        if self.peers.len() < self.limits.peers_max {
            self.peers.insert(node);
        }
    }

    /// What waits for the peer is dropped. Its rates stay until they have recovered, so that to
    /// reconnect gains nothing; so do seen proofs, and the bytes of its that the disk still has.
    fn on_peer_down(&mut self, now: Time, node: NodeId) {
        self.peers.remove(&node);
        self.reads.forget(node);
        self.drop_releases(node);
        self.notices.drop_peer(&node);
        self.drop_standing(node);
        self.drop_audits(now, node);
        if planted::is_on(Bug::HolderDials) {
            self.effects.push_back(Effect::Dial { node, record: Bytes::new() });
        }
    }

    fn on_own_record(&mut self, record: Bytes) {
        let fits = record.len() <= RECORD_BYTES_MAX;
        self.record = if fits { record } else { Bytes::new() };
    }

    fn on_chunks_found(&mut self, now: Time, ticket: Ticket, found: Vec<Option<Found>>) {
        let lookup = self.lookups.remove(&ticket);
        // What is damaged or let go is wanted anew, and given to whoever fetches as long as its
        // bytes are there. As a replica it does not count.
        let serves = match &lookup {
            Some(Lookup::TopicSearch { request, .. }) => {
                request.kind == SearchKind::Retrieve || planted::is_on(Bug::OfferReleased)
            }
            Some(Lookup::StreamRetrieve { .. }) => true,
            _ => false,
        } && !planted::is_on(Bug::HideDamaged);
        let header = |one: &Option<Found>| match one {
            Some(Found::Chunk { header, sound, released }) => {
                (*sound && !released || serves).then_some(*header)
            }
            // Never as held: there may be a newer one.
            Some(Found::Head { .. }) | None => None,
        };
        let all = found;
        let found: Vec<Option<Header>> = all.iter().map(header).collect();
        match lookup {
            None => {}
            Some(Lookup::Head { from, get }) => self.on_head_found(from, &get, &all),
            Some(Lookup::Release { from, release }) => self.on_release_found(from, &release, &all),
            Some(Lookup::TopicClaim { from, request }) => {
                self.topic_work.give_back(from, 1);
                self.answer_with_claim(now, from, &request, &found);
            }
            Some(Lookup::StreamClaim { from, request }) => {
                self.stream_work.give_back(from, 1);
                self.send_claim(from, &request, &found);
            }
            Some(Lookup::Short { from, arrival, refusal }) => {
                self.stream_work.give_back(from, 1);
                self.on_short_found(now, from, *arrival, refusal, &found);
            }
            Some(Lookup::TopicSearch { from, request }) => {
                self.answer_with_offer(now, from, &request, (&all, &found));
            }
            Some(Lookup::StreamRetrieve { from, retrieve }) => {
                self.stream_work.give_back(from, 1);
                self.on_retrieve_found(from, &retrieve, &found);
            }
        }
    }

    fn find(&mut self, ids: Vec<ChunkId>, lookup: Lookup) {
        let ticket = self.ticket();
        self.lookups.insert(ticket, lookup);
        self.effects.push_back(Effect::FindChunks { ticket, ids });
    }

    /// Lets a topic request in: once, within the rates, while there is room for the work. It is
    /// known by all that stands in it: else whoever saw it could send its key and number ahead of
    /// it with something that is not answered, and the true one would be taken for a replay.
    fn admit_topic_request(
        &mut self,
        now: Time,
        from: NodeId,
        request: RequestDigest,
    ) -> Result<(), Reject> {
        if self.requests_seen.contains(&request) {
            return Err(Reject::Replayed);
        }
        self.rates.forwarders.take(now, from)?;
        if !self.rates.topics.take(now) {
            return Err(Reject::RateLimited);
        }
        self.requests_seen.insert(from, request);
        if self.topic_work.take(from, 1) { Ok(()) } else { Err(Reject::TableFull) }
    }

    /// The name under which a verified proof is remembered.
    fn proof_key(operation: Operation, id: &ChunkId, nonce: &[u8; 32]) -> [u8; 32] {
        sha256(&[&[operation as u8], id.as_bytes(), nonce])
    }

    fn delay(&mut self, now: Time, jitter_ms: u64, what: Delayed) {
        let jitter = self.rng.random_range(0..=jitter_ms);
        let key = (Time(now.0.saturating_add(jitter)), self.number());
        self.delayed.insert(key, what);
    }

    /// This node's contact for a sealed answer.
    fn contact(&self) -> Contact {
        Contact { record: self.record.clone(), hello: self.hello.clone() }
    }

    /// Signs an answer to this request and seals it to the asker; `None` where its key is one that
    /// cannot be sealed to.
    fn sealed(
        &mut self,
        ephemeral: &[u8; 32],
        request: RequestDigest,
        body: AnswerBody,
    ) -> Option<(Topic, TopicMessage)> {
        let answer = SignedAnswer::new(body, request, &self.keys);
        let plain = super::codec::encode_answer(&answer);
        let sealed = Bytes::from(seal::seal_to(ephemeral, &plain, &mut self.rng)?);
        let tag = AnswerTag::of(ephemeral);
        let topic = Topic::answer(&tag, self.sharding.bits());
        Some((topic, TopicMessage::Answer(Answer { tag, sealed })))
    }

    fn send(&mut self, to: NodeId, message: StreamMessage) {
        if self.peers.contains(&to) {
            self.effects.push_back(Effect::Send { to, message });
        }
    }

    fn reject(&mut self, from: NodeId, reason: Reject) {
        self.effects.push_back(Effect::Report(Event::Rejected { from, reason }));
    }

    fn ticket(&mut self) -> Ticket {
        Ticket(self.number())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
