//! The owner role: stores and fetches this node's own chunks. One small machine per flow.
//!
//! ```text
//! Store  -> gather into a batch -> ask (gossip, or holders known already) -> claims -> place
//!        -> dial -> stream -> verified acks -> quorum;  too few: the outbox asks again
//! Heads  -> everyone known, and everyone who offers on the topics -> each record seen
//! Account -> one holder, dialed where it is away -> its answer, checked
//! Fetch  -> holders known -> the next one where one is slow, wrong or away -> ask on the topic
//! Locate -> ask on the topic, under a proof that is the owner's alone -> who says that it has what
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `owner/command.rs` | what the user's side asks |
//! | `owner/event.rs` | what it is told |
//! | `owner/store.rs` | store jobs from the command to the quorum, the window |
//! | `owner/payload.rs` | what is stored: a chunk, or a record of a head |
//! | `owner/batch.rs` | one batch: its offers, requests and candidates |
//! | `owner/claims.rs` | asking for holders, and who answers |
//! | `owner/grant.rs` | who gets a chunk, and who gets it instead |
//! | `owner/delivery.rs` | the queue to one holder, and what was sent to it |
//! | `owner/acks.rs` | what a holder says to what it was sent |
//! | `owner/outbox.rs` | when an unmet request is published again |
//! | `owner/retrieve.rs` | fetch jobs |
//! | `owner/source.rs` | one fetch job: who may have the chunk, who is next |
//! | `owner/heads.rs` | asking everyone for heads |
//! | `owner/account.rs` | asking one holder about the owner's account |
//! | `owner/locate.rs` | looking for nodes that hold the owner's chunks |
//! | `owner/notice.rs` | what holders tell of damage without being asked |
//! | `owner/standing.rs` | what holders are told when they ask how they stand |
//! | `owner/release.rs` | proofs that let chunks go, or take that back |
//! | `owner/guess.rs` | who may have a chunk because it served its neighbours |
//! | `owner/opened.rs` | how many answers are opened for one request |
//! | `owner/search.rs` | looking for holders of wanted chunks on the topic |
//! | `owner/peers.rs` | who is connected, what each did before, and dials |
//! | `owner/timers.rs` | alarms and rates |
//! | `owner/load.rs` | how full each table is |
//!
//! # The caller's duties
//!
//! - Drain [`OwnerRole::poll_effect`] after each [`OwnerRole::handle`], and feed `Input::Tick` at
//!   [`OwnerRole::next_timeout`].
//! - No [`OwnerCommand::Store`] while [`OwnerRole::store_window_free`] is 0, no
//!   [`OwnerCommand::Fetch`] while [`OwnerRole::fetch_slots_free`] is 0. What is fed all the same
//!   is taken: a window may be overshot by one chunk.
//! - No [`OwnerCommand::FindHeads`] while [`OwnerRole::heads_slots_free`] is 0: it would end at
//!   once, as if nobody had any. The same with [`OwnerCommand::Account`] and
//!   [`OwnerRole::account_slots_free`]: it would end as if the holder was busy. And with
//!   [`OwnerCommand::Locate`] and [`OwnerRole::locate_slots_free`]: as if nobody had anything.
//! - One [`OwnerCommand::TellStanding`] for each [`OwnerEvent::StandingAsked`].
//! - Room for [`OwnerLimits::in_flight_bytes`] of messages to each peer: that much may be on its
//!   way to one holder, and another holder must not wait for it.
//!
//! # Bounds
//!
//! Bytes: the window. Jobs: [`OwnerLimits::store_jobs`] and [`OwnerLimits::fetch_slots`]. All that
//! peers can fill is bounded per source and in all, and each file states its own bounds: candidates
//! per batch and per fetch, answers opened per one-time key, chunks on their way per holder, dials,
//! remembered nodes.

mod account;
mod acks;
mod batch;
mod claims;
mod command;
mod delivery;
mod event;
mod grant;
mod guess;
mod heads;
mod load;
mod locate;
mod notice;
mod open_search;
mod opened;
mod outbox;
mod payload;
mod peers;
mod release;
mod retrieve;
mod search;
mod shared;
mod source;
mod standing;
mod store;
#[cfg(test)]
mod tests;
mod timers;

pub use account::{AccountDone, AccountFailure, AccountJob, AccountWish};
pub use command::{FetchJob, OwnerCommand, StoreJob};
pub use event::{FetchFailure, OwnerEvent, Shortage};
pub use heads::{HeadsJob, SoughtHead};
pub use load::Fill;
pub use locate::{LOCATE_CHUNKS_MAX, LocateJob, SoughtChunk};
pub use payload::{HeadLoad, Load};
pub use release::ReleaseWish;

use super::codec::Reject;
use super::effect::{Effect, Input, Via};
use super::message::{Message, StreamMessage, TopicMessage};
use super::placement::DomainPolicy;
use super::reputation::Conduct;
use super::shard::Sharding;
use super::topic::Topic;
use super::types::{LeaseTerms, MeshId, NodeId, Time};
use crate::crypto::keys::OwnerKeys;
use account::AccountFlow;
use heads::HeadsFlow;
use locate::LocateFlow;
use retrieve::FetchFlow;
use shared::Shared;
use standing::StandingFlow;
use std::sync::Arc;
use std::time::Duration;
use store::StoreFlow;
use timers::Wake;

/// What an owner role is made of.
#[derive(Debug, Clone)]
pub struct OwnerConfig {
    /// The owner's keys.
    pub keys: Arc<OwnerKeys>,
    /// The node it runs on: the asker of all its proofs, and never a holder of its chunks.
    pub node: NodeId,
    /// The node's mesh.
    pub mesh: MeshId,
    /// Seed of all its randomness: one-time keys, nonces, jitter. Fresh for each role.
    pub seed: [u8; 32],
    /// How much at once.
    pub limits: OwnerLimits,
    /// How the mesh is cut into shards: one below 100 nodes.
    pub sharding: Sharding,
    /// What counts as one failure domain.
    pub domains: DomainPolicy,
    /// What is asked of a holder.
    pub terms: LeaseTerms,
}

/// How much the role holds and does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerLimits {
    /// Sealed bytes that may wait for their quorum.
    pub window_bytes: usize,
    /// Store commands that may wait for their quorum.
    pub store_jobs: usize,
    /// Sealed bytes of one batch; a batch has at most 64 chunks in any case.
    pub batch_bytes: usize,
    /// How long the first chunk of a batch waits for others.
    pub batch_wait: Duration,
    /// Sealed bytes sent to one holder and not answered yet.
    pub in_flight_bytes: usize,
    /// A holder that makes no progress for so long, and a second more per 256 KiB of its largest
    /// chunk on the way, is late: another one gets its chunks too.
    pub late_after: Duration,
    /// The probability that a first request on the topic states, in 1/65535; doubled each time.
    pub volunteer: u16,
    /// Fetch jobs at once.
    pub fetch_slots: usize,
    /// Fetches at once from one holder.
    pub fetches_per_holder: usize,
    /// A holder that did not deliver a fetched chunk for so long is passed over.
    pub fetch_stall: Duration,
    /// Dials per second, 1 to 1,000.
    pub dials_per_second: u32,
    /// Store requests published per second, and as many retrieve requests; 1 to 1,000.
    pub publishes_per_second: u32,
}

impl Default for OwnerLimits {
    /// For a mesh below 100 nodes: everyone who is willing volunteers at once.
    fn default() -> Self {
        Self {
            window_bytes: 64 << 20,
            store_jobs: 4_096,
            batch_bytes: 16 << 20,
            batch_wait: Duration::from_millis(20),
            in_flight_bytes: 16 << 20,
            late_after: Duration::from_secs(5),
            volunteer: u16::MAX,
            fetch_slots: 32,
            fetches_per_holder: 8,
            fetch_stall: Duration::from_secs(10),
            dials_per_second: 16,
            publishes_per_second: 16,
        }
    }
}

/// The owner role. See [`super::effect`] for how to drive it.
#[derive(Debug)]
pub struct OwnerRole {
    shared: Shared,
    store: StoreFlow,
    fetch: FetchFlow,
    heads: HeadsFlow,
    accounts: AccountFlow,
    locate: LocateFlow,
    standings: StandingFlow,
}

impl OwnerRole {
    /// A role with no peers and no jobs.
    pub fn new(config: OwnerConfig) -> Self {
        Self {
            shared: Shared::new(config),
            store: StoreFlow::default(),
            fetch: FetchFlow::default(),
            heads: HeadsFlow::default(),
            accounts: AccountFlow::default(),
            locate: LocateFlow::default(),
            standings: StandingFlow::default(),
        }
    }

    /// What this owner saw a node do in an earlier run, `age` after that last faded. At most 1,024
    /// nodes are remembered.
    pub fn acquaint(&mut self, now: Time, node: NodeId, conduct: Conduct, age: Duration) {
        self.shared.peers.acquaint(now, node, (conduct, age));
    }

    /// Whose conduct changed since this was last called: what it is, and for how long it has not
    /// faded. What a later run is told by [`Self::acquaint`].
    pub fn take_conduct(&mut self, now: Time) -> Vec<(NodeId, Conduct, Duration)> {
        self.shared.peers.take_changed(now)
    }

    /// Takes one input. Never blocks, and never fails because of a peer.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Message { from, via, message } => self.on_message(now, from, via, message),
            Input::Command(command) => self.on_command(now, command),
            Input::PeerUp(peer) => {
                let node = peer.node;
                if self.shared.peer_up(now, peer) {
                    self.store.on_peer_up(now, &mut self.shared, node);
                    self.fetch.on_peer_up(now, &mut self.shared, node);
                    self.heads.on_peer_up(now, &mut self.shared, node);
                    self.accounts.on_peer_up(now, &mut self.shared, node);
                }
            }
            Input::PeerDown(node) => {
                self.shared.peer_down(node);
                self.on_unreachable(now, node);
            }
            Input::PeerSubscribed(topic) => {
                self.store.on_subscribed(now, &mut self.shared, topic);
                self.fetch.on_subscribed(now, &mut self.shared, topic);
                self.heads.on_subscribed(now, &mut self.shared, topic);
            }
            // Time is looked at below; the rest is the holder role's.
            Input::Tick
            | Input::OwnRecord(_)
            | Input::Space(_)
            | Input::ChunksFound { .. }
            | Input::ChunksWritten(_)
            | Input::ChunkRead { .. }
            | Input::ChunkDeleted { .. }
            | Input::HeadsWritten(_)
            | Input::HeadsRead { .. }
            | Input::HeadsDropped(_)
            | Input::ChunksListed { .. }
            | Input::ChunksQueried { .. }
            | Input::ChunkProven { .. }
            | Input::ChunksReleased { .. }
            | Input::ChunksDestroyed(_)
            | Input::ChunksDamaged(_)
            | Input::Uptime(_)
            | Input::AskOwners => {}
        }
        while let Some(wake) = self.shared.timers.due(now) {
            self.on_wake(now, wake);
        }
    }

    /// The next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.shared.effects.pop_front()
    }

    /// When to feed `Input::Tick` at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        self.shared.timers.next()
    }

    /// How many more sealed bytes the role takes to be stored; 0 = wait.
    pub fn store_window_free(&self) -> usize {
        self.store.window_free(&self.shared.limits)
    }

    /// How many more chunks the role takes to be fetched; 0 = wait.
    pub fn fetch_slots_free(&self) -> usize {
        self.fetch.slots_free(&self.shared.limits)
    }

    /// How many more questions for heads the role takes; 0 = wait.
    pub fn heads_slots_free(&self) -> usize {
        self.heads.slots_free()
    }

    /// How many more questions about accounts the role takes; 0 = wait.
    pub fn account_slots_free(&self) -> usize {
        self.accounts.slots_free()
    }

    /// How many more questions for holders of chunks the role takes; 0 = wait.
    pub fn locate_slots_free(&self) -> usize {
        self.locate.slots_free()
    }

    /// The topic on which what this node asks is answered: it has to be connected to others that
    /// subscribe to it.
    pub fn answer_topic(&self) -> Topic {
        self.shared.answer_topic
    }

    fn on_command(&mut self, now: Time, command: OwnerCommand) {
        match command {
            OwnerCommand::Store(job) => self.store.on_command(now, &mut self.shared, job),
            OwnerCommand::Fetch(job) => self.fetch.on_command(now, &mut self.shared, job),
            OwnerCommand::FindHeads(job) => self.heads.on_command(now, &mut self.shared, job),
            OwnerCommand::Account(job) => self.accounts.on_command(now, &mut self.shared, job),
            OwnerCommand::Locate(job) => self.locate.on_command(now, &mut self.shared, job),
            OwnerCommand::Judge(node, standing) => self.shared.peers.judge(now, node, standing),
            OwnerCommand::Bind(pairs) => self.shared.peers.bind(&pairs),
            OwnerCommand::TellStanding { holder, request, outcome } => {
                self.standings.on_told(&mut self.shared, (holder, request), outcome);
            }
            OwnerCommand::Cancel(ticket) => {
                self.accounts.cancel(&mut self.shared, ticket);
                self.locate.cancel(&mut self.shared, ticket);
                self.heads.cancel(&mut self.shared, ticket);
                self.store.cancel(&mut self.shared, ticket);
                self.fetch.cancel(now, &mut self.shared, ticket);
            }
        }
    }

    fn on_message(&mut self, now: Time, from: NodeId, via: Via, message: Message) {
        match (via, message) {
            (Via::Topic, Message::Topic(message)) => self.on_topic(now, from, &message),
            (Via::Stream, Message::Stream(message)) => self.on_stream(now, from, message),
            // An operation runs only on a stream, and an answer for anyone comes only by gossip.
            (Via::Topic, Message::Stream(_)) | (Via::Stream, Message::Topic(_)) => {
                self.shared.reject(from, Reject::Malformed);
            }
        }
    }

    fn on_topic(&mut self, now: Time, from: NodeId, message: &TopicMessage) {
        match message {
            TopicMessage::Answer(answer) => {
                self.store.on_answer(now, &mut self.shared, from, answer);
                self.fetch.on_answer(now, &mut self.shared, from, answer);
                self.heads.on_answer(now, &mut self.shared, from, answer);
                self.locate.on_answer(now, &mut self.shared, from, answer);
            }
            // The holder role's.
            TopicMessage::StoreRequest(_) | TopicMessage::SearchRequest(_) => {}
        }
    }

    fn on_stream(&mut self, now: Time, from: NodeId, message: StreamMessage) {
        let shared = &mut self.shared;
        match message {
            StreamMessage::StoreClaim(claim) => self.store.on_claim(now, shared, from, &claim),
            StreamMessage::StoreAck(ack) => self.store.on_ack(now, shared, from, ack),
            StreamMessage::StoreReject(reject) => self.store.on_reject(now, shared, from, reject),
            StreamMessage::ChunkData(data) => self.fetch.on_data(now, shared, from, data),
            StreamMessage::HeadData(data) => self.heads.on_data(now, shared, from, data),
            StreamMessage::RetrieveReject(reject) if self.heads.is_ours(&from, &reject) => {
                self.heads.on_reject(now, shared, from, reject);
            }
            StreamMessage::RetrieveReject(reject) => {
                self.fetch.on_reject(now, shared, from, reject);
            }
            StreamMessage::AccountAnswer(answer) => {
                self.accounts.on_answer(now, (shared, &mut self.store), from, answer);
            }
            StreamMessage::ReleaseAnswer(answer) => {
                self.accounts.on_released(now, shared, from, answer);
            }
            StreamMessage::ChunkNotice(notice) => {
                self.accounts.notices.on_notice(now, shared, from, notice);
            }
            StreamMessage::StandingRequest(asked) => {
                self.standings.on_request(now, shared, from, asked);
            }
            // The transport's, and the holder role's.
            StreamMessage::Hello(_)
            | StreamMessage::StoreRequest(_)
            | StreamMessage::StoreChunk(_)
            | StreamMessage::Retrieve(_)
            | StreamMessage::StoreHead(_)
            | StreamMessage::HeadGet(_)
            | StreamMessage::AccountRequest(_)
            | StreamMessage::Release(_)
            | StreamMessage::StandingAnswer(_) => {}
        }
    }

    fn on_unreachable(&mut self, now: Time, node: NodeId) {
        self.store.on_peer_down(now, &mut self.shared, node);
        self.fetch.on_peer_down(now, &mut self.shared, node);
        self.heads.on_peer_down(now, &mut self.shared, node);
        self.accounts.on_peer_down(now, &mut self.shared, node);
        self.standings.on_peer_down(&node);
    }

    fn on_wake(&mut self, now: Time, wake: Wake) {
        let shared = &mut self.shared;
        match wake {
            Wake::Gather(locality) => self.store.on_gathered(now, shared, locality),
            Wake::Settle(batch) => self.store.on_settled(now, shared, batch),
            Wake::Publish(batch) => self.store.on_publish(now, shared, batch),
            Wake::Delivery(node) => self.store.on_silence(now, shared, node),
            Wake::Deadline(ticket) => self.store.on_deadline(now, shared, ticket),
            Wake::Fetch(ticket) => self.fetch.on_wake(now, shared, ticket),
            Wake::Search(topic) => self.fetch.on_search(now, shared, topic),
            Wake::Heads(ticket) => self.heads.on_wake(now, shared, ticket),
            Wake::Account(ticket) => self.accounts.on_wake(now, shared, ticket),
            Wake::Locate(ticket) => self.locate.go_on(now, shared, ticket),
            Wake::Requests => self.fetch.on_requests(now, shared),
            Wake::DialPace => shared.pump_dials(now),
            Wake::Dial(node) => {
                if shared.dial_over(node) {
                    self.on_unreachable(now, node);
                }
            }
        }
    }
}
