//! Fetch jobs: holders known first, the next one where one is slow, wrong or away.
//!
//! Bytes are checked against the id before anybody sees them: a liar costs one chunk's transfer and
//! its reputation. A node that served neighbours of a chunk is guessed to have it too, but only
//! where nobody is said to have it: see [`super::guess`]. A chunk is one job however many commands
//! want it: it is asked for once, and all of them hear.
//!
//! Bounds: `OwnerLimits::fetch_slots` commands, `OwnerLimits::fetches_per_holder` requests per
//! holder, [`SOURCES_MAX`] nodes per job, and what [`super::search`] states.
//!
//! [`SOURCES_MAX`]: super::source::SOURCES_MAX

use super::guess::{Guess, Guesses};
use super::outbox::{Heard, Occasion};
use super::search::Search;
use super::shared::Shared;
use super::source::{Fetch, Load, State};
use super::timers::Wake;
use super::{FetchFailure, FetchJob, OwnerEvent, OwnerLimits};
use crate::core::codec::Reject;
use crate::core::message::{ChunkData, Retrieve, RetrieveRefusal, RetrieveReject, StreamMessage};
use crate::core::reputation::Deed;
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::keys::random;
use crate::crypto::ownership::{Context, Operation, Verifier, body_hash, prove};
use crate::planted::{self, Bug};
use bytes::Bytes;
use rand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A request to a holder that answered nothing for so long is forgotten, and it gets another.
const REQUEST_LIFE: Duration = Duration::from_secs(60);
/// However busily a holder answers others, no request is older than this.
const REQUEST_LIFE_MAX: Duration = Duration::from_secs(600);
/// When to look again where too many dials are open.
const AGAIN: Duration = Duration::from_secs(1);
/// One fetch in so many may wait for one more holder at the same time (two in any case): on a slow
/// line everything is slow, and asking twice would only make it slower.
const HEDGED_SHARE: usize = 8;

/// One request to one holder.
#[derive(Debug)]
struct Request {
    /// `None` once the chunk came from elsewhere.
    ticket: Option<Ticket>,
    node: NodeId,
    since: Time,
}

/// The fetch flow.
#[derive(Debug, Default)]
pub(super) struct FetchFlow {
    pub(super) jobs: BTreeMap<Ticket, Fetch>,
    requests: BTreeMap<u64, Request>,
    pub(super) loads: BTreeMap<NodeId, Load>,
    pub(super) guesses: Guesses,
    pub(super) gathering: BTreeMap<Topic, Vec<Ticket>>,
    pub(super) searches: VecDeque<Search>,
    pub(super) heard: Heard,
}

impl FetchFlow {
    pub(super) fn slots_free(&self, limits: &OwnerLimits) -> usize {
        limits.fetch_slots.saturating_sub(self.waiters())
    }

    /// Commands that wait for their chunk.
    pub(super) fn waiters(&self) -> usize {
        self.jobs.values().map(|job| job.waiters.len()).sum()
    }

    /// Nodes of the job that knows most.
    pub(super) fn sources(&self) -> usize {
        self.jobs.values().map(|job| job.sources.len()).max().unwrap_or(0)
    }

    pub(super) fn on_command(&mut self, now: Time, shared: &mut Shared, job: FetchJob) {
        let FetchJob { ticket, id, locality, read, holders, only, deadline } = job;
        let topic = |locality| shared.sharding.topic(TopicKind::Retrieve, locality);
        let point = read.point();
        // One with another secret asks for itself: one of the two is of no use to the other.
        let same = |job: &Fetch| {
            let is_same = job.id == id && job.read.point() == point;
            is_same && topic(job.locality) == topic(locality) && !only && !job.only
        };
        let first = self.jobs.iter().find(|(_, job)| same(job)).map(|(first, _)| *first);
        let first = first.unwrap_or(ticket);
        let job = self.jobs.entry(first).or_insert_with(|| Fetch::new(id, locality, read, only));
        job.waiters.insert(ticket, deadline);
        for node in holders.into_iter().filter(|node| *node != shared.node) {
            job.add(now, node, Bytes::new(), None, &shared.peers);
        }
        self.pump(now, shared, first);
    }

    pub(super) fn cancel(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let mut jobs = self.jobs.iter_mut();
        let job = jobs.find_map(|(first, job)| job.waiters.remove(&ticket).map(|_| (*first, job)));
        if let Some((first, job)) = job
            && job.waiters.is_empty()
        {
            self.remove(shared, first);
            self.pump_all(now, shared);
        }
    }

    /// Forgets the job; what was asked for it is still expected, and thrown away when it comes.
    fn remove(&mut self, shared: &mut Shared, ticket: Ticket) -> Option<Fetch> {
        let job = self.jobs.remove(&ticket)?;
        shared.timers.clear(Wake::Fetch(ticket));
        for request in self.requests.values_mut().filter(|open| open.ticket == Some(ticket)) {
            request.ticket = None;
        }
        let jobs = &self.jobs;
        self.searches.retain(|search| search.concerns_any(jobs));
        Some(job)
    }

    pub(super) fn on_wake(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let over: Vec<Ticket> =
            job.waiters.extract_if(.., |_, deadline| *deadline <= now).map(|(of, _)| of).collect();
        let (id, asked) = (job.id, job.asked());
        for ticket in over {
            shared.report(OwnerEvent::NotFetched { ticket, id, asked: asked.clone() });
        }
        if !job.waiters.is_empty() {
            return self.pump(now, shared, ticket);
        }
        self.remove(shared, ticket);
        self.pump_all(now, shared);
    }

    /// Moves every job on: a holder has room again, or is there again.
    fn pump_all(&mut self, now: Time, shared: &mut Shared) {
        let tickets: Vec<Ticket> = self.jobs.keys().copied().collect();
        for ticket in tickets {
            self.pump(now, shared, ticket);
        }
    }

    /// Moves a job on as far as it goes now, and sets its alarm.
    pub(super) fn pump(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        self.pass_over_late(now, shared, ticket);
        while self.wants_another(now, shared, ticket) {
            let Some(job) = self.jobs.get_mut(&ticket) else { return };
            let load = |node: &NodeId| self.loads.get(node).copied().unwrap_or_default();
            let limit = shared.limits.fetches_per_holder;
            let next = job.next(now, &shared.peers, load, limit);
            let Some(node) = next.or_else(|| self.guess(now, shared, ticket)) else {
                if let Some(job) = self.jobs.get_mut(&ticket)
                    && job.only
                {
                    job.end_if_in_vain(now);
                    break;
                }
                let load = |node: &NodeId| self.load(node);
                let waits = |job: &Fetch| job.has_ready(now, load) || job.wait_until > now;
                if !self.jobs.get(&ticket).is_some_and(waits) {
                    self.search(now, shared, ticket);
                }
                break;
            };
            let Some(job) = self.jobs.get_mut(&ticket) else { return };
            if shared.peers.is_up(&node) {
                self.ask(now, shared, ticket, node);
                continue;
            }
            let Some(source) = job.sources.get_mut(&node) else { break };
            source.state = if shared.dial(now, node, source.record.clone()) {
                State::Dialing(now)
            } else {
                State::Ready(now.after(AGAIN))
            };
        }
        self.set_alarm(now, shared, ticket);
    }

    /// Takes in a node that is worth a guess, where one may be made. Where such a node has no room
    /// just now but delivers, the job waits for it a moment.
    fn guess(&mut self, now: Time, shared: &Shared, ticket: Ticket) -> Option<NodeId> {
        let job = self.jobs.get_mut(&ticket)?;
        job.wait_until = Time::default();
        if job.only || !job.may_guess(now) {
            return None;
        }
        let limit = shared.limits.fetches_per_holder;
        let load = |node: &NodeId| self.loads.get(node).copied().unwrap_or_default();
        let is_open = |node: &NodeId| {
            let can = shared.peers.is_up(node) && shared.peers.fetch_rank(now, node).0 == 0;
            can && !job.sources.contains_key(node)
        };
        match self.guesses.next(now, job.locality, is_open, |node| load(node).room(now, limit))? {
            Guess::Ask(node) => job.guess(now, node, &shared.peers).then_some(node),
            Guess::Wait(until) => {
                job.wait_until = until;
                None
            }
        }
    }

    fn pass_over_late(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let stall = shared.limits.fetch_stall;
        let is_late = |node: &NodeId, since: Time| {
            self.loads.get(node).is_some_and(|load| load.late_at(since, stall) <= now)
        };
        for node in job.mark_late(is_late) {
            shared.peers.rate(now, node, Deed::ServedLate);
        }
    }

    /// Whether to ask one more: nobody is being asked, or all that are have been slow.
    fn wants_another(&self, now: Time, shared: &Shared, ticket: Ticket) -> bool {
        let Some(job) = self.jobs.get(&ticket) else { return false };
        let slow = |job: &Fetch| {
            let at = job.active().map(|(node, since)| self.hedge_at(node, since));
            at.fold((0, 0), |(all, slow), at| (all + 1, slow + usize::from(at <= now)))
        };
        // Whoever was slow does not count: else a few silent holders would use the share up.
        let is_hedged = |job: &&Fetch| matches!(slow(job), (all, slow) if slow > 0 && slow < all);
        let share = (shared.limits.fetch_slots / HEDGED_SHARE).max(2);
        match slow(job) {
            (0, _) => true,
            (all, slow) if slow < all => false,
            _ => self.jobs.values().filter(is_hedged).count() < share,
        }
    }

    fn hedge_at(&self, node: &NodeId, since: Time) -> Time {
        self.load(node).hedge_at(since)
    }

    fn load(&self, node: &NodeId) -> Load {
        self.loads.get(node).copied().unwrap_or_default()
    }

    fn ask(&mut self, now: Time, shared: &mut Shared, ticket: Ticket, node: NodeId) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let Some(source) = job.sources.get_mut(&node) else { return };
        let request = shared.rng.next_u64();
        let nonce = random(&mut shared.rng);
        let context = Context {
            operation: Operation::Retrieve,
            mesh: shared.mesh,
            verifier: Verifier::Node(node),
            asker: Some(shared.node),
            nonce,
            body_hash: body_hash(&[&request.to_le_bytes()]),
        };
        let proof = prove(&job.read, &job.id, &context, &mut shared.rng);
        source.state = State::Asked(request, now);
        self.loads.entry(node).or_default().on_asked(now);
        self.requests.insert(request, Request { ticket: Some(ticket), node, since: now });
        shared.timers.set_no_later(Wake::Requests, now.after(REQUEST_LIFE));
        let message = Retrieve { request, id: job.id, nonce, proof };
        shared.send(node, StreamMessage::Retrieve(message));
    }

    /// Sets the alarm for whatever comes first without anything happening.
    fn set_alarm(&self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let active = job.active().flat_map(|(node, since)| {
            let late =
                self.loads.get(node).map(|load| load.late_at(since, shared.limits.fetch_stall));
            late.into_iter().chain([self.hedge_at(node, since)])
        });
        let searched = job.schedule.attempt() > 0 && !job.gathered;
        let search = searched.then_some(job.search_at);
        let silent = job.ready(now).filter_map(|node| self.load(node).silent_at());
        let times = active.chain(job.next_ready()).chain(search).chain(silent);
        let times = times.filter(|at| *at > now);
        let waiting = (job.wait_until > now).then_some(job.wait_until);
        if let Some(next) = times.chain(waiting).chain(job.waiters.values().copied()).min() {
            shared.timers.set(Wake::Fetch(ticket), next);
        }
    }

    /// The request `number` if it went to this node; it is answered now.
    fn answered(&mut self, now: Time, node: &NodeId, number: u64) -> Option<Request> {
        self.requests.get(&number).filter(|request| request.node == *node)?;
        let request = self.requests.remove(&number)?;
        self.loads.entry(*node).or_default().on_answer(now, now.since(request.since));
        Some(request)
    }

    /// A chunk came.
    pub(super) fn on_data(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        data: ChunkData,
    ) {
        let Some(request) = self.answered(now, &from, data.request) else {
            return shared.reject(from, Reject::Unsolicited);
        };
        let ticket = request.ticket;
        let job = ticket.and_then(|ticket| Some((ticket, self.jobs.get_mut(&ticket)?)));
        let Some((ticket, job)) = job else { return self.pump_all(now, shared) };
        let ChunkData { header, sealed, .. } = data;
        let right = header.id() == job.id && header.certifies(&sealed);
        if !right && !planted::is_on(Bug::SkipBytesCheck) {
            job.fail(now, &from, FetchFailure::WrongBytes);
            shared.reject(from, Reject::WrongBytes);
            shared.peers.rate(now, from, Deed::WrongBytes);
            return self.pump_all(now, shared);
        }
        let (bytes, after) = (sealed.len(), now.since(request.since));
        shared.peers.rate(now, from, Deed::Served { bytes, after });
        let (id, locality) = (job.id, job.locality);
        let asked = job.failed_before(&from);
        for ticket in
            self.remove(shared, ticket).into_iter().flat_map(|job| job.waiters.into_keys())
        {
            let (sealed, asked) = (sealed.clone(), asked.clone());
            shared.report(OwnerEvent::Fetched { ticket, id, header, sealed, from, asked });
        }
        self.guesses.served(locality, from);
        self.pump_all(now, shared);
    }

    /// A holder will not serve a chunk.
    pub(super) fn on_reject(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        reject: RetrieveReject,
    ) {
        let Some(request) = self.answered(now, &from, reject.request) else {
            return shared.reject(from, Reject::Unsolicited);
        };
        let failure = match reject.reason {
            RetrieveRefusal::NotHeld => FetchFailure::NotHeld,
            RetrieveRefusal::Busy => FetchFailure::Busy,
            RetrieveRefusal::Damaged => FetchFailure::Damaged,
        };
        if let Some(job) = request.ticket.and_then(|ticket| self.jobs.get_mut(&ticket))
            && job.is_asked(&from, reject.request)
        {
            if job.is_guess(&from) {
                self.guesses.missed(now, job.locality, from);
            }
            job.fail(now, &from, failure);
        }
        self.pump_all(now, shared);
    }

    /// Forgets requests that nobody will answer any more.
    pub(super) fn on_requests(&mut self, now: Time, shared: &mut Shared) {
        let loads = &self.loads;
        let ends = |request: &Request| {
            let heard = loads.get(&request.node).map_or(request.since, Load::progress);
            let last = request.since.max(heard);
            last.after(REQUEST_LIFE).min(request.since.after(REQUEST_LIFE_MAX))
        };
        let old = |_: &u64, request: &mut Request| ends(request) <= now;
        let old: Vec<(u64, Request)> = self.requests.extract_if(.., old).collect();
        let next = self.requests.values().map(ends).min();
        for (number, Request { ticket, node, .. }) in old {
            self.loads.entry(node).or_default().on_forgotten();
            if let Some(job) = ticket.and_then(|ticket| self.jobs.get_mut(&ticket))
                && job.is_asked(&node, number)
            {
                job.fail(now, &node, FetchFailure::Late);
            }
        }
        if let Some(next) = next {
            shared.timers.set(Wake::Requests, next);
        }
        self.pump_all(now, shared);
    }

    pub(super) fn on_peer_up(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        for job in self.jobs.values_mut() {
            let Some(source) = job.sources.get_mut(&node) else { continue };
            match source.state {
                State::Dialing(_) => source.state = State::Ready(now),
                State::Failed if source.failed_in_passing() => source.revive(now),
                _ => {}
            }
        }
        self.on_occasion(now, shared, None, Occasion::Connected);
        self.pump_all(now, shared);
    }

    /// A node went away, or could not be reached: what it was asked for is asked of others.
    pub(super) fn on_peer_down(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        self.loads.remove(&node);
        self.guesses.forget(&node);
        self.requests.retain(|_, request| request.node != node);
        for job in self.jobs.values_mut() {
            let state = job.sources.get(&node).map(|source| source.state);
            if let Some(State::Dialing(_) | State::Asked(..) | State::Late(_)) = state {
                job.fail(now, &node, FetchFailure::Unreachable);
            }
        }
        self.pump_all(now, shared);
    }

    pub(super) fn on_subscribed(&mut self, now: Time, shared: &mut Shared, topic: Topic) {
        self.on_occasion(now, shared, Some(topic), Occasion::Subscribed);
        self.pump_all(now, shared);
    }

    /// A peer connected or subscribed: what nobody is being asked for is searched for again soon.
    fn on_occasion(
        &mut self,
        now: Time,
        shared: &mut Shared,
        topic: Option<Topic>,
        occasion: Occasion,
    ) {
        for job in self.jobs.values_mut() {
            let own = shared.sharding.topic(TopicKind::Retrieve, job.locality);
            let concerns = topic.is_none_or(|topic| topic == own);
            if concerns && job.schedule.attempt() > 0 && job.active().next().is_none() {
                job.schedule.begin_anew();
                let pause = (shared.jitter(occasion.pause()), job.schedule.early_apart());
                job.search_at = job.search_at.min(self.heard.early(now, own, pause));
            }
        }
    }
}
