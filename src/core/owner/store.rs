//! Store jobs from the command to the quorum, and the window.
//!
//! A chunk is one job however many commands want it; a job belongs to one batch. The bytes of a job
//! are in the window until its quorum is reached or its last command is cancelled.

use super::batch::Batch;
use super::claims::SETTLE;
use super::delivery::{Delivery, Item};
use super::outbox::{Heard, Occasion};
use super::shared::Shared;
use super::timers::Wake;
use super::{Load, OwnerEvent, OwnerLimits, Shortage, StoreJob};
use crate::core::codec::{OFFERS_MAX, QUORUM_MAX};
use crate::core::message::{Offer, StoreRefusal};
use crate::core::quorum::{Collector, NODES_MAX};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{AnswerTag, BatchId, ChunkId, LeaseNonce, Locality, NodeId, Ticket, Time};
use crate::crypto::keys::random;
use crate::planted::{self, Bug};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many stored chunks are remembered for the acks that still come.
pub(super) const FINISHED_MAX: usize = 256;

/// One command.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    replicas: u8,
}

/// What became of the decision to give one chunk to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// It has to be connected first.
    Dialing,
    /// In its queue.
    Queued,
    /// On its way.
    Sent,
    /// On its way for too long: somebody else gets the chunk too.
    Late,
    /// The connection broke.
    CutOff,
    /// It said no.
    Refused(StoreRefusal),
    /// Its ack was false; it gets no second chance in this job.
    Lied,
}

impl Grant {
    /// Whether an ack is to be expected from it in time.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Dialing | Self::Queued | Self::Sent)
    }
}

/// One chunk that waits for its quorum.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) load: Load,
    waiters: Vec<Waiter>,
    pub(super) quorum: Collector,
    pub(super) grants: BTreeMap<NodeId, Grant>,
    /// Who acknowledged it before this job, at most [`NODES_MAX`]: to be asked, not to be believed.
    pub(super) held_by: BTreeSet<NodeId>,
    /// Who is not given it, for any of its commands, and does not count.
    pub(super) without: BTreeSet<NodeId>,
    /// Who has it without being asked, at most [`NODES_MAX`]: see [`StoreJob::beside`].
    pub(super) beside: BTreeSet<NodeId>,
    /// Its batch and its position there; `None` while the batch is gathered.
    pub(super) place: Option<(BatchId, usize)>,
}

impl Job {
    pub(super) fn live(&self) -> impl Iterator<Item = &NodeId> {
        self.grants.iter().filter(|(_, grant)| grant.is_live()).map(|(node, _)| node)
    }

    /// How many more nodes have to be granted the chunk.
    pub(super) fn missing(&self) -> usize {
        let coming = usize::from(self.quorum.replicas()) + self.live().count();
        usize::from(self.quorum.wanted()).saturating_sub(coming)
    }

    /// Makes room for a grant where there are as many as the collector knows nodes: the first that
    /// came to nothing goes.
    pub(super) fn forget_one_grant(&mut self) {
        if self.grants.len() >= NODES_MAX {
            let mut idle = self.grants.iter().filter(|(_, grant)| !grant.is_live());
            if let Some(node) = idle.next().map(|(node, _)| *node) {
                self.grants.remove(&node);
            }
        }
    }

    /// Whatever this node acknowledged, or may: it counts for nothing.
    fn leave_out(&mut self, node: NodeId) {
        self.held_by.remove(&node);
        self.quorum.void(&node);
        self.without.insert(node);
    }

    fn refusals(&self, reason: StoreRefusal) -> usize {
        self.grants.values().filter(|grant| **grant == Grant::Refused(reason)).count()
    }
}

/// A stored chunk of which acks are still on their way.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: ChunkId,
    pub(super) tickets: Vec<Ticket>,
    pub(super) quorum: Collector,
}

/// Chunks that wait for company.
#[derive(Debug, Default)]
struct Gathering {
    since: Time,
    ids: Vec<ChunkId>,
    bytes: usize,
}

/// The store flow.
#[derive(Debug, Default)]
pub(super) struct StoreFlow {
    pub(super) jobs: BTreeMap<ChunkId, Job>,
    tickets: BTreeMap<Ticket, ChunkId>,
    window_used: usize,
    gathering: BTreeMap<Locality, Gathering>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    /// Requests that can still be answered.
    pub(super) asks: BTreeMap<AnswerTag, BatchId>,
    /// At most as many as peers are used; those that are away go first.
    pub(super) deliveries: BTreeMap<NodeId, Delivery>,
    pub(super) finished: VecDeque<Finished>,
    pub(super) heard: Heard,
    /// Until then claims to a request that was gossiped on this topic may come in.
    pub(super) settling: Option<(Topic, Time)>,
}

impl StoreFlow {
    pub(super) fn window_free(&self, limits: &OwnerLimits) -> usize {
        if self.tickets.len() >= limits.store_jobs {
            return 0;
        }
        limits.window_bytes.saturating_sub(self.window_used)
    }

    /// Commands that wait for their quorum.
    pub(super) fn commands(&self) -> usize {
        self.tickets.len()
    }

    /// Sealed bytes that wait for their quorum.
    pub(super) fn window_used(&self) -> usize {
        self.window_used
    }

    pub(super) fn on_command(&mut self, now: Time, shared: &mut Shared, job: StoreJob) {
        let StoreJob { ticket, load, replicas, held_by, without, beside, deadline } = job;
        let id = load.id();
        let is_enough = load.is_head() && planted::is_on(Bug::OneAckForHead);
        let replicas = if is_enough { 1 } else { replicas.clamp(1, QUORUM_MAX) };
        if load.is_head() && !self.make_way(shared, ticket, &load) {
            return;
        }
        self.tickets.insert(ticket, id);
        shared.timers.set(Wake::Deadline(ticket), deadline);
        let is_new = !self.jobs.contains_key(&id);
        let (bytes, is_head) = (load.len(), load.is_head());
        let locality = load.locality();
        let job = self.jobs.entry(id).or_insert_with(|| Job {
            load,
            waiters: Vec::new(),
            quorum: Collector::new(replicas, shared.domains),
            grants: BTreeMap::new(),
            held_by: BTreeSet::new(),
            without: BTreeSet::new(),
            beside: BTreeSet::new(),
            place: None,
        });
        without.into_iter().for_each(|node| job.leave_out(node));
        job.quorum.raise(replicas);
        job.waiters.push(Waiter { ticket, replicas });
        let counts = |node: &NodeId| *node != shared.node && !job.without.contains(node);
        job.held_by.extend(held_by.into_iter().filter(counts));
        let room = NODES_MAX.saturating_sub(job.beside.len());
        for node in beside.into_iter().take(room) {
            // Where nothing is known of it there is nothing that could be shared.
            if job.beside.insert(node)
                && let Some(standing) = shared.peers.stands(&node)
            {
                job.quorum.beside(standing);
            }
        }
        while job.held_by.len() > NODES_MAX {
            job.held_by.pop_last();
        }
        if is_new {
            self.window_used = self.window_used.saturating_add(bytes);
        }
        if is_new && is_head {
            // Alone and at once: it is small, what it ends has waited already, and its request
            // links it with nothing else.
            self.flush(now, shared, locality);
            self.gather(now, shared, locality, id, bytes);
            self.flush(now, shared, locality);
        } else if is_new {
            self.gather(now, shared, locality, id, bytes);
        } else {
            // It may have all that the new command wants already.
            self.conclude(shared, &id);
            self.place_chunk(now, shared, &id);
        }
    }

    /// Of two records of one head only the newer is stored on: acks of the other would be taken for
    /// acks of this one. Whether that is the record that came.
    fn make_way(&mut self, shared: &mut Shared, ticket: Ticket, load: &Load) -> bool {
        let id = load.id();
        let other = self.jobs.get(&id).and_then(|job| job.load.other_record(load));
        let Some((before, now)) = other else { return true };
        if now < before {
            shared.report(OwnerEvent::Superseded { ticket, id, by: None });
            return false;
        }
        for Waiter { ticket, .. } in
            self.remove(shared, &id).into_iter().flat_map(|job| job.waiters)
        {
            shared.report(OwnerEvent::Superseded { ticket, id, by: None });
            shared.timers.clear(Wake::Deadline(ticket));
            self.tickets.remove(&ticket);
        }
        true
    }

    /// A holder says that a head is not the newest.
    pub(super) fn report_superseded(&self, shared: &mut Shared, id: ChunkId, by: NodeId) {
        for waiter in self.jobs.get(&id).into_iter().flat_map(|job| &job.waiters) {
            shared.report(OwnerEvent::Superseded { ticket: waiter.ticket, id, by: Some(by) });
        }
    }

    /// The job of what was sent, where that is what it wants to be acknowledged: a head's is only
    /// for the record of its own batch.
    pub(super) fn job_of(&mut self, (batch_id, id): &Item) -> Option<&mut Job> {
        self.jobs.get_mut(id).filter(|job| {
            !job.load.is_head() || job.place.is_some_and(|(current, _)| current == *batch_id)
        })
    }

    /// Whether the lease may be that of what was sent: a head's is named by its record.
    pub(super) fn is_lease(&self, (batch_id, id): &Item, lease: &LeaseNonce) -> bool {
        let job = self.jobs.get(id).filter(|job| job.place.is_some_and(|(of, _)| of == *batch_id));
        let named = job.and_then(|job| job.load.lease());
        named.is_none_or(|named| named == *lease)
    }

    fn gather(
        &mut self,
        now: Time,
        shared: &mut Shared,
        locality: Locality,
        id: ChunkId,
        bytes: usize,
    ) {
        let waiting = self.gathering.get(&locality).map_or(0, |gathering| gathering.bytes);
        if waiting > 0 && waiting.saturating_add(bytes) > shared.limits.batch_bytes {
            self.flush(now, shared, locality);
        }
        let empty = Gathering { since: now, ..Gathering::default() };
        let gathering = self.gathering.entry(locality).or_insert(empty);
        gathering.ids.push(id);
        gathering.bytes = gathering.bytes.saturating_add(bytes);
        if gathering.ids.len() >= OFFERS_MAX || gathering.bytes >= shared.limits.batch_bytes {
            self.flush(now, shared, locality);
        } else if gathering.ids.len() == 1 {
            shared.timers.set(Wake::Gather(locality), now.after(shared.limits.batch_wait));
        }
    }

    /// Chunks waited long enough. While a first request is out and no holder is known, they wait
    /// for its claims: then they can be offered directly instead of being gossiped one by one.
    pub(super) fn on_gathered(&mut self, now: Time, shared: &mut Shared, locality: Locality) {
        let since = self.gathering.get(&locality).map_or(now, |gathering| gathering.since);
        let topic = shared.sharding.topic(TopicKind::Store, locality);
        let settling = self.settling.filter(|(on, _)| *on == topic).map(|(_, until)| until);
        let wait_until = settling.unwrap_or_default().min(since.after(SETTLE));
        let ids = self.gathering.get(&locality).into_iter().flat_map(|gathering| &gathering.ids);
        let mut jobs = ids.filter_map(|id| self.jobs.get(id));
        let may = |node: &NodeId| shared.peers.is_up(node) && shared.is_home(node, locality);
        let is_known = jobs.any(|job| job.held_by.iter().any(may));
        if now < wait_until && !is_known && shared.fresh_holders(now, locality).is_empty() {
            shared.timers.set(Wake::Gather(locality), wait_until);
        } else {
            self.flush(now, shared, locality);
        }
    }

    fn flush(&mut self, now: Time, shared: &mut Shared, locality: Locality) {
        shared.timers.clear(Wake::Gather(locality));
        let Some(gathering) = self.gathering.remove(&locality) else { return };
        let batch_id = BatchId::from_bytes(random(&mut shared.rng));
        let mut offers = Vec::new();
        for id in gathering.ids {
            // Cancelled while it waited, or cancelled and given again.
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.place.is_none()) else {
                continue;
            };
            job.place = Some((batch_id, offers.len()));
            offers.push(Offer { id, sealed_bytes: job.load.sealed_bytes() });
        }
        if offers.is_empty() {
            return;
        }
        self.batches.insert(batch_id, Batch::new(locality, offers, shared.rng.next_u64()));
        self.ask_first(now, shared, batch_id);
    }

    /// Reports the quorums that are reached, and lets go of what nobody waits for any more.
    pub(super) fn conclude(&mut self, shared: &mut Shared, id: &ChunkId) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let replicas = job.quorum.replicas();
        let met = |waiter: &mut Waiter| waiter.replicas <= replicas;
        let met: Vec<Waiter> = job.waiters.extract_if(.., met).collect();
        for Waiter { ticket, .. } in &met {
            let holders = job.quorum.holders().copied().collect();
            shared.report(OwnerEvent::Stored { ticket: *ticket, id: *id, replicas, holders });
            shared.timers.clear(Wake::Deadline(*ticket));
            self.tickets.remove(ticket);
        }
        if !job.waiters.is_empty() {
            return;
        }
        let Some(job) = self.remove(shared, id) else { return };
        // A late ack of a head says nothing: its id has another record by then.
        let on_their_way = |grant: &Grant| matches!(grant, Grant::Sent | Grant::Late);
        if !job.load.is_head() && job.grants.values().any(on_their_way) {
            let tickets = met.into_iter().map(|waiter| waiter.ticket).collect();
            self.finished.push_back(Finished { id: *id, tickets, quorum: job.quorum });
            if self.finished.len() > FINISHED_MAX {
                self.finished.pop_front();
            }
        }
    }

    /// Frees everything that a job holds. What was sent stays on the holders' accounts.
    fn remove(&mut self, shared: &mut Shared, id: &ChunkId) -> Option<Job> {
        let job = self.jobs.remove(id)?;
        self.window_used = self.window_used.saturating_sub(job.load.len());
        if let Some((batch_id, position)) = job.place
            && let Some(batch) = self.batches.get_mut(&batch_id)
        {
            batch.close(position);
            if batch.is_over() {
                self.remove_batch(shared, batch_id);
            }
        } else if let Some(gathering) = self.gathering.get_mut(&job.load.locality()) {
            gathering.ids.retain(|gathered| gathered != id);
            gathering.bytes = gathering.bytes.saturating_sub(job.load.len());
        }
        Some(job)
    }

    fn remove_batch(&mut self, shared: &mut Shared, batch_id: BatchId) {
        shared.timers.clear(Wake::Settle(batch_id));
        shared.timers.clear(Wake::Publish(batch_id));
        let Some(batch) = self.batches.remove(&batch_id) else { return };
        for ask in batch.asks {
            self.asks.remove(&AnswerTag::of(&ask.ephemeral));
        }
    }

    pub(super) fn cancel(&mut self, shared: &mut Shared, ticket: Ticket) {
        shared.timers.clear(Wake::Deadline(ticket));
        for finished in &mut self.finished {
            finished.tickets.retain(|other| *other != ticket);
        }
        self.finished.retain(|finished| !finished.tickets.is_empty());
        let Some(id) = self.tickets.remove(&ticket) else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.waiters.retain(|waiter| waiter.ticket != ticket);
        if job.waiters.is_empty() {
            self.remove(shared, &id);
        }
    }

    /// Reports a verified ack to everyone who waits for the chunk.
    pub(super) fn report_ack(&self, shared: &mut Shared, ack: &super::acks::Verified) {
        let (tickets, quorum): (Vec<Ticket>, &Collector) = match self.jobs.get(&ack.id) {
            Some(job) => (job.waiters.iter().map(|waiter| waiter.ticket).collect(), &job.quorum),
            None => match self.finished.iter().find(|finished| finished.id == ack.id) {
                Some(finished) => (finished.tickets.clone(), &finished.quorum),
                None => return,
            },
        };
        for ticket in tickets {
            shared.report(OwnerEvent::Acked {
                ticket,
                id: ack.id,
                node: ack.node,
                lease: ack.lease,
                epoch: ack.epoch,
                replicas: quorum.replicas(),
            });
        }
    }

    pub(super) fn on_deadline(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(&id) = self.tickets.get(&ticket) else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        let replicas = job.quorum.replicas();
        let why = self.shortage(now, shared, job);
        shared.report(OwnerEvent::Short { ticket, id, replicas, why });
        if planted::is_on(Bug::ForgetShort) {
            self.remove(shared, &id);
        }
    }

    /// What stands between the job and its quorum. Only where all that is missing is on its way is
    /// it the acks; one ack on its way must not hide that nobody else would take the chunk.
    fn shortage(&self, now: Time, shared: &Shared, job: &Job) -> Shortage {
        let given = job.grants.values().filter(|grant| grant.is_live() || **grant == Grant::Late);
        let coming = usize::from(job.quorum.replicas()) + given.count();
        if coming >= usize::from(job.quorum.wanted()) {
            return Shortage::AcksOutstanding;
        }
        let batch = job.place.and_then(|(batch_id, _)| self.batches.get(&batch_id));
        let mut candidates = batch.iter().flat_map(|batch| batch.candidates.keys());
        if candidates.any(|node| shared.peers.is_over_quota(now, node)) {
            return Shortage::OverQuota;
        }
        if job.refusals(StoreRefusal::Full) > 0 {
            return Shortage::HoldersFull;
        }
        if batch.is_some_and(|batch| self.is_blocked_by_domains(shared, job, batch)) {
            return Shortage::SharedDomains;
        }
        let no_volunteers = batch.is_none_or(|batch| batch.candidates.is_empty());
        if no_volunteers && !shared.has_hearers(job.load.locality()) {
            return Shortage::NoPeers;
        }
        Shortage::TooFewVolunteers
    }

    /// A peer connected or subscribed: what waits for volunteers is asked for again soon.
    pub(super) fn on_occasion(
        &mut self,
        now: Time,
        shared: &mut Shared,
        topic: Option<Topic>,
        occasion: Occasion,
    ) {
        let ids: Vec<BatchId> = self.batches.keys().copied().collect();
        for batch_id in ids {
            let is_starved = self.is_starved(&batch_id);
            let Some(batch) = self.batches.get_mut(&batch_id) else { continue };
            let own = shared.sharding.topic(TopicKind::Store, batch.locality);
            let concerns = topic.is_none_or(|topic| topic == own);
            if concerns && batch.settled && is_starved {
                batch.schedule.begin_anew();
                let pause = (shared.jitter(occasion.pause()), batch.schedule.early_apart());
                let at = self.heard.early(now, own, pause);
                shared.timers.set_no_later(Wake::Publish(batch_id), at);
            }
        }
    }

    /// Whether a chunk of the batch lacks somebody to be given to.
    pub(super) fn is_starved(&self, batch_id: &BatchId) -> bool {
        let Some(batch) = self.batches.get(batch_id) else { return false };
        let job = |offer: &Offer| self.jobs.get(&offer.id);
        batch.open().filter_map(|(_, offer)| job(offer)).any(|job| job.missing() > 0)
    }
}
