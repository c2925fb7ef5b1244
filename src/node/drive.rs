//! The drive loop: one task that owns both roles and is the only one that touches them.
//!
//! It feeds each input to the role it concerns and carries out every effect before the next
//! input. It never waits for the network or the disk: those answer through bounded channels. The
//! one thing it does wait for is the receiver of a job's events, which by contract never waits
//! for the drive loop.
//!
//! Backpressure: store jobs are taken from their queue only while the owner role's window has
//! room, so a slow mesh slows the chunker down and nothing piles up in between.

use super::jobs::{DriveCommand, JobEvents, Places};
use super::shared::Shared;
use super::standing::{StandingCommand, Standings};
use crate::core::effect::{Effect, Event, Input, StoreError, Unproven, Via};
use crate::core::holder::HolderRole;
use crate::core::message::{Message, StreamMessage, TopicMessage};
use crate::core::owner::{FetchJob, HeadsJob, OwnerCommand, OwnerEvent, OwnerRole};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::head::HeadRecord;
use crate::crypto::header::Header;
use crate::net::{Net, NetEvent, NetEvents};
use crate::repo::catalog::ChunkAcked;
use crate::store::ChunkStore;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Everything the loop owns.
pub(super) struct Drive {
    pub(super) owner: OwnerRole,
    pub(super) holder: HolderRole,
    pub(super) net: Net,
    pub(super) store: ChunkStore,
    pub(super) shared: Arc<Shared>,
    pub(super) started: Instant,
    /// Who hears of a job's events, by the ticket of the job's chunk.
    pub(super) listeners: BTreeMap<Ticket, JobEvents>,
    pub(super) next_ticket: u64,
    /// Inputs that arose while an effect was carried out.
    pub(super) pending: VecDeque<(Role, Input)>,
    /// This node: whoever is served from its own store is served by it.
    pub(super) node: NodeId,
    /// What waits for a look into the own store.
    pub(super) local: Local,
    /// Look-ups that found the store busy.
    pub(super) look_ups: VecDeque<(Ticket, Vec<ChunkId>)>,
    /// Acks that came after their job was done.
    pub(super) late_acks: mpsc::Sender<ChunkAcked>,
    /// What holders tell of damage.
    pub(super) notices: mpsc::Sender<(NodeId, Vec<ChunkId>)>,
    /// Who asks whom how holders stand.
    pub(super) standings: Standings,
}

/// Jobs that wait for a look into the node's own store.
#[derive(Default)]
pub(super) struct Local {
    fetches: BTreeMap<Ticket, FetchJob>,
    /// Looks for heads, each with the question it is of.
    heads: BTreeMap<Ticket, Ticket>,
    questions: BTreeMap<Ticket, HeadsJob>,
}

/// Where the loop's inputs come from.
pub(super) struct Sources {
    pub(super) net: NetEvents,
    pub(super) store: mpsc::Receiver<Input>,
    pub(super) stores: mpsc::Receiver<DriveCommand>,
    pub(super) fetches: mpsc::Receiver<DriveCommand>,
    pub(super) questions: mpsc::Receiver<DriveCommand>,
    pub(super) accounts: mpsc::Receiver<DriveCommand>,
    pub(super) standings: mpsc::Receiver<StandingCommand>,
    pub(super) stop: mpsc::Receiver<()>,
}

impl Drive {
    /// Runs until told to stop or until the network task is gone.
    pub(super) async fn run(mut self, mut sources: Sources) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        loop {
            let wait = self.time_to_next_timeout();
            tokio::select! {
                _ = sweep.tick() => {
                    self.cancel_abandoned().await;
                    self.tell_of_nodes().await;
                }
                _ = sources.stop.recv() => break,
                event = sources.net.recv() => match event {
                    Some(event) => self.on_net(event).await,
                    None => {
                        tracing::error!("the network task ended");
                        break;
                    }
                },
                Some(completion) = sources.store.recv() => self.on_store(completion).await,
                Some(command) = sources.stores.recv(), if self.owner.store_window_free() > 0 => {
                    self.on_command(command).await;
                }
                Some(command) = sources.fetches.recv(), if self.owner.fetch_slots_free() > 0 => {
                    self.on_command(command).await;
                }
                Some(command) = sources.questions.recv(), if self.has_question_slot() => {
                    self.on_command(command).await;
                }
                Some(command) = sources.accounts.recv(), if self.owner.account_slots_free() > 0 => {
                    self.on_command(command).await;
                }
                Some(command) = sources.standings.recv() => self.on_standing_command(command).await,
                () = tokio::time::sleep(wait) => self.on_tick().await,
            }
        }
        self.remember_conduct();
        // The store's threads may be waiting for somebody to hear their completions.
        drop(sources);
        self.net.shutdown().await;
        let store = self.store;
        // Joins the store's threads: whatever was queued is written or refused by then.
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if closed.is_err() {
            tracing::error!("the store did not close cleanly");
        }
    }

    fn now(&self) -> Time {
        Time::default().after(self.started.elapsed())
    }

    fn time_to_next_timeout(&self) -> Duration {
        let next = [self.owner.next_timeout(), self.holder.next_timeout()];
        let next = next.into_iter().flatten().min();
        next.map_or(IDLE_TICK, |time| time.since(self.now())).min(IDLE_TICK)
    }

    async fn on_tick(&mut self) {
        self.feed_owner(Input::Tick).await;
        self.feed_holder(Input::Tick).await;
    }

    async fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Up(peer) => {
                self.shared.peer_up(&peer);
                self.feed_holder(Input::PeerUp(peer.clone())).await;
                self.feed_owner(Input::PeerUp(peer)).await;
            }
            NetEvent::Down(node) => {
                self.shared.peer_down(&node);
                self.feed_holder(Input::PeerDown(node)).await;
                self.feed_owner(Input::PeerDown(node)).await;
            }
            NetEvent::Subscribed(topic) => self.feed_owner(Input::PeerSubscribed(topic)).await,
            NetEvent::OwnRecord(record) => self.feed_holder(Input::OwnRecord(record)).await,
            NetEvent::Listening(address) => self.shared.listening(address),
            NetEvent::Rejected { from, reason } => self.shared.rejected(from, reason),
            NetEvent::Message { from, via, message } => self.on_message(from, via, message).await,
        }
    }

    async fn on_message(&mut self, from: NodeId, via: Via, message: Message) {
        let for_owner = match &message {
            Message::Topic(TopicMessage::Answer(_)) => true,
            Message::Topic(TopicMessage::StoreRequest(_) | TopicMessage::SearchRequest(_)) => false,
            Message::Stream(
                StreamMessage::StoreClaim(_)
                | StreamMessage::StoreAck(_)
                | StreamMessage::StoreReject(_)
                | StreamMessage::ChunkData(_)
                | StreamMessage::RetrieveReject(_)
                | StreamMessage::HeadData(_)
                | StreamMessage::AccountAnswer(_)
                | StreamMessage::ReleaseAnswer(_)
                | StreamMessage::ChunkNotice(_)
                | StreamMessage::StandingRequest(_),
            ) => true,
            Message::Stream(
                StreamMessage::StoreRequest(_)
                | StreamMessage::StoreChunk(_)
                | StreamMessage::Retrieve(_)
                | StreamMessage::StoreHead(_)
                | StreamMessage::HeadGet(_)
                | StreamMessage::AccountRequest(_)
                | StreamMessage::Release(_)
                | StreamMessage::StandingAnswer(_),
            ) => false,
            // The network layer keeps it to itself; a second one means nothing.
            Message::Stream(StreamMessage::Hello(_)) => return,
        };
        let input = Input::Message { from, via, message };
        if for_owner {
            self.feed_owner(input).await;
        } else {
            self.feed_holder(input).await;
        }
    }

    async fn on_store(&mut self, completion: Input) {
        for (ticket, ids) in std::mem::take(&mut self.look_ups) {
            self.find(ticket, ids);
        }
        match completion {
            Input::ChunkRead { ticket, result } if self.local.fetches.contains_key(&ticket) => {
                self.on_local_read(ticket, result).await;
            }
            Input::HeadsRead { ticket, result } if self.local.heads.contains_key(&ticket) => {
                self.on_local_heads(ticket, result).await;
            }
            Input::Space(space) => {
                self.shared.space(space);
                self.feed_holder(completion).await;
            }
            #[cfg(test)]
            Input::ChunksListed { ticket, result: Ok(page) } => {
                let result = Ok(self.shared.told(page));
                self.feed_holder(Input::ChunksListed { ticket, result }).await;
            }
            #[cfg(test)]
            Input::ChunkRead { ticket, result: Ok((header, sealed)) } => {
                let result = Ok((header, self.shared.served(header.id(), sealed)));
                self.feed_holder(Input::ChunkRead { ticket, result }).await;
            }
            completion => self.feed_holder(completion).await,
        }
    }

    /// This node may hold the very chunk its user wants, as anybody's holder; the owner role only
    /// ever asks others. Most chunks are not here: one look at the index tells.
    async fn fetch(&mut self, job: FetchJob) {
        let (ticket, id) = (Ticket(job.ticket.0 | LOCAL_TICKET), job.id);
        match self.store.read(ticket, id) {
            Ok(()) => {
                self.local.fetches.insert(ticket, job);
            }
            Err(_) => self.feed_owner(Input::Command(OwnerCommand::Fetch(job))).await,
        }
    }

    async fn on_local_read(&mut self, ticket: Ticket, result: Result<(Header, Bytes), StoreError>) {
        let Some(job) = self.local.fetches.remove(&ticket) else { return };
        match result {
            Ok((header, sealed)) => {
                let FetchJob { ticket, id, .. } = job;
                let (from, asked) = (self.node, Vec::new());
                let fetched = OwnerEvent::Fetched { ticket, id, header, sealed, from, asked };
                self.on_owner_event(fetched).await;
            }
            // Not here, or not sound: then from the mesh.
            Err(_) => self.feed_owner(Input::Command(OwnerCommand::Fetch(job))).await,
        }
    }

    /// Whether another question for heads can be taken, those counted that the role gets next, and
    /// another one for holders of chunks.
    fn has_question_slot(&self) -> bool {
        self.owner.heads_slots_free() > self.local.questions.len()
            && self.owner.locate_slots_free() > 0
    }

    /// This node may keep heads of its own user, too: as a holder of another device, or of the one
    /// that was here before. What its store has comes first, as of any other holder.
    async fn find_heads(&mut self, job: HeadsJob) {
        let (question, superseded) = (job.ticket, usize::from(job.superseded));
        for head in &job.heads {
            let ticket = Ticket(self.ticket().0 | LOCAL_TICKET);
            // Where the store has too much to do the others are asked all the same.
            if self.store.read_heads(ticket, head.id, superseded).is_ok() {
                self.local.heads.insert(ticket, question);
            }
        }
        self.local.questions.insert(question, job);
        self.ask_others(question).await;
    }

    async fn on_local_heads(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<HeadRecord>, StoreError>,
    ) {
        let Some(question) = self.local.heads.remove(&ticket) else { return };
        for record in result.unwrap_or_default() {
            let seen = OwnerEvent::HeadSeen { ticket: question, from: self.node, record };
            self.on_owner_event(seen).await;
        }
        self.ask_others(question).await;
    }

    /// Asks everybody else, once the own store has answered.
    async fn ask_others(&mut self, question: Ticket) {
        if self.local.heads.values().any(|waits| *waits == question) {
            return;
        }
        let Some(job) = self.local.questions.remove(&question) else { return };
        if self.listeners.contains_key(&question) {
            self.feed_owner(Input::Command(OwnerCommand::FindHeads(job))).await;
        }
    }

    async fn on_command(&mut self, command: DriveCommand) {
        match command {
            DriveCommand::Store { mut job, events, patience } => {
                job.ticket = self.ticket();
                job.deadline = self.now().after(patience);
                self.listeners.insert(job.ticket, events);
                self.feed_owner(Input::Command(OwnerCommand::Store(job))).await;
            }
            DriveCommand::Fetch { places, mut job, events, patience } => {
                job.ticket = self.ticket();
                job.deadline = self.now().after(patience);
                self.listeners.insert(job.ticket, events);
                match places {
                    Places::Anywhere => self.fetch(job).await,
                    Places::Holders => {
                        self.feed_owner(Input::Command(OwnerCommand::Fetch(job))).await;
                    }
                }
            }
            DriveCommand::FindHeads { mut job, events, patience } => {
                job.ticket = self.ticket();
                job.deadline = self.now().after(patience);
                self.listeners.insert(job.ticket, events);
                self.find_heads(job).await;
            }
            DriveCommand::Locate { mut job, events, patience } => {
                job.ticket = self.ticket();
                job.deadline = self.now().after(patience);
                self.listeners.insert(job.ticket, events);
                self.feed_owner(Input::Command(OwnerCommand::Locate(job))).await;
            }
            DriveCommand::Account { mut job, events, patience } => {
                job.ticket = self.ticket();
                job.deadline = self.now().after(patience);
                self.listeners.insert(job.ticket, events);
                self.feed_owner(Input::Command(OwnerCommand::Account(job))).await;
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        Ticket(self.next_ticket)
    }

    pub(super) async fn feed_owner(&mut self, input: Input) {
        self.pending.push_back((Role::Owner, input));
        self.drain().await;
    }

    pub(super) async fn feed_holder(&mut self, input: Input) {
        self.pending.push_back((Role::Holder, input));
        self.drain().await;
    }

    /// Feeds what is pending, one input at a time, each drained of its effects before the next.
    async fn drain(&mut self) {
        while let Some((role, input)) = self.pending.pop_front() {
            let now = self.now();
            match role {
                Role::Owner => self.owner.handle(now, input),
                Role::Holder => self.holder.handle(now, input),
            }
            while let Some(effect) = match role {
                Role::Owner => self.owner.poll_effect(),
                Role::Holder => self.holder.poll_effect(),
            } {
                self.carry_out(effect).await;
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Publish { topic, message } => self.net.publish(topic, message),
            #[cfg(test)]
            Effect::Send { to, message } => {
                let messages = self.shared.sent(to, message);
                messages.into_iter().for_each(|message| self.net.send(to, message));
            }
            #[cfg(not(test))]
            Effect::Send { to, message } => self.net.send(to, message),
            Effect::Dial { node, record } => self.net.dial(node, record),
            Effect::FindChunks { ticket, ids } => self.find(ticket, ids),
            Effect::WriteChunk { ticket, chunk } => {
                if let Err(error) = self.store.write(ticket, chunk) {
                    self.refused(Input::ChunksWritten(vec![(ticket, Err(error))]));
                }
            }
            Effect::ReadChunk { ticket, id } => {
                if let Err(error) = self.store.read(ticket, id) {
                    self.refused(Input::ChunkRead { ticket, result: Err(error) });
                }
            }
            Effect::DeleteChunk { ticket, id } => {
                if let Err(error) = self.store.delete(ticket, id) {
                    self.refused(Input::ChunkDeleted { ticket, result: Err(error) });
                }
            }
            Effect::WriteHead { ticket, account, terms, record } => {
                if let Err(error) = self.store.write_head(ticket, account, terms, record) {
                    self.refused(Input::HeadsWritten(vec![(ticket, Err(error))]));
                }
            }
            Effect::ReadHeads { ticket, id, superseded } => {
                if let Err(error) = self.store.read_heads(ticket, id, superseded) {
                    self.refused(Input::HeadsRead { ticket, result: Err(error) });
                }
            }
            Effect::ListChunks { ticket, account, after, limit } => {
                if let Err(error) = self.store.list(ticket, account, after, limit) {
                    self.refused(Input::ChunksListed { ticket, result: Err(error) });
                }
            }
            Effect::QueryChunks { ticket, account, ids } => {
                if let Err(error) = self.store.query(ticket, account, ids) {
                    self.refused(Input::ChunksQueried { ticket, result: Err(error) });
                }
            }
            Effect::ProveChunk { ticket, account, id, task, closely } => {
                if self.store.prove(ticket, (account, id), task, closely).is_err() {
                    let result = Err(Unproven::Busy);
                    self.refused(Input::ChunkProven { ticket, result });
                }
            }
            Effect::ReleaseChunks { ticket, undo, items } => {
                if let Err(error) = self.store.release(ticket, undo, items) {
                    self.refused(Input::ChunksReleased { ticket, result: Err(error) });
                }
            }
            Effect::OwnerHeard { account, audited } => self.store.heard(account, audited),
            Effect::Report(Event::Owner(event)) => self.on_owner_event(event).await,
            Effect::Report(Event::Holder(event)) => self.on_holder_event(event),
            Effect::Report(Event::Rejected { from, reason }) => self.shared.rejected(from, reason),
        }
    }

    /// Looks chunks up now or, where the store is too busy, after its next completion: "not held"
    /// would be a lie. The holder role bounds how many look-ups it has open.
    fn find(&mut self, ticket: Ticket, ids: Vec<ChunkId>) {
        match self.store.find(ticket, ids.clone()) {
            Ok(()) => {}
            Err(StoreError::Busy) => self.look_ups.push_back((ticket, ids)),
            // The readers are gone, and with them every answer.
            Err(_) => self.refused(Input::ChunksFound { ticket, found: vec![None; ids.len()] }),
        }
    }

    /// The store took the work not on: its answer is an input like any other, after this one.
    fn refused(&mut self, completion: Input) {
        self.pending.push_back((Role::Holder, completion));
    }

    async fn on_owner_event(&mut self, event: OwnerEvent) {
        let (ticket, last) = match &event {
            OwnerEvent::Acked { ticket, .. }
            | OwnerEvent::Short { ticket, .. }
            | OwnerEvent::HeadSeen { ticket, .. }
            | OwnerEvent::Located { ticket, .. } => (*ticket, false),
            OwnerEvent::Superseded { ticket, by, .. } => (*ticket, by.is_none()),
            OwnerEvent::Stored { ticket, .. }
            | OwnerEvent::Fetched { ticket, .. }
            | OwnerEvent::NotFetched { ticket, .. }
            | OwnerEvent::HeadsDone { ticket, .. }
            | OwnerEvent::LocateDone { ticket }
            | OwnerEvent::Account { ticket, .. } => (*ticket, true),
            OwnerEvent::Noticed { .. } => return self.on_notice(event),
            OwnerEvent::StandingAsked { holder, request } => {
                return self.on_standing_asked((*holder, *request));
            }
        };
        let Some(listener) = self.listeners.get(&ticket) else {
            self.record_late(&event);
            return;
        };
        let heard = listener.send(event).await;
        if last {
            self.listeners.remove(&ticket);
        } else if !heard {
            self.cancel(ticket);
        }
    }

    /// A holder tells of damage: whoever audits is to look.
    fn on_notice(&self, event: OwnerEvent) {
        if let OwnerEvent::Noticed { holder, ids } = event {
            // Where the queue is full the audits of the day find it.
            let _ = self.notices.try_send((holder, ids));
        }
    }

    /// An ack above the quorum, after its job was done: recorded all the same.
    fn record_late(&self, event: &OwnerEvent) {
        if let OwnerEvent::Acked { id, node, lease, epoch, .. } = event {
            let acked = ChunkAcked { chunk: *id, node: *node, lease: *lease, epoch: *epoch };
            // Where the queue is full the copy is not lost, only not known until it is asked for.
            let _ = self.late_acks.try_send(acked);
        }
    }

    /// Nobody listens to this job any more: its chunk is of no more interest.
    fn cancel(&mut self, ticket: Ticket) {
        self.listeners.remove(&ticket);
        self.pending.push_back((Role::Owner, Input::Command(OwnerCommand::Cancel(ticket))));
    }

    /// What nodes did is remembered, and what audits say of them is told to the role.
    async fn tell_of_nodes(&mut self) {
        self.remember_conduct();
        if let Some(pairs) = self.shared.memory.take_pairs() {
            self.feed_owner(Input::Command(OwnerCommand::Bind(pairs))).await;
        }
        for (node, standing) in self.shared.memory.take_judged() {
            self.feed_owner(Input::Command(OwnerCommand::Judge(node, standing))).await;
        }
    }

    fn remember_conduct(&mut self) {
        let now = self.now();
        for (node, conduct, age) in self.owner.take_conduct(now) {
            self.shared.memory.saw(node, conduct, age);
        }
    }

    async fn cancel_abandoned(&mut self) {
        let gone = |(ticket, events): (&Ticket, &JobEvents)| events.is_closed().then_some(*ticket);
        let abandoned: Vec<Ticket> = self.listeners.iter().filter_map(gone).collect();
        abandoned.into_iter().for_each(|ticket| self.cancel(ticket));
        self.drain().await;
    }
}

#[derive(Clone, Copy)]
pub(super) enum Role {
    Owner,
    Holder,
}

/// Tells the loop's own reads from the holder role's, which counts from zero.
const LOCAL_TICKET: u64 = 1 << 63;

/// How often jobs that nobody listens to any more are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often the roles are woken where they ask for nothing.
const IDLE_TICK: Duration = Duration::from_secs(1);
