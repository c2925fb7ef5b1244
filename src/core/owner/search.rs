//! Looking for holders of wanted chunks on the topic.
//!
//! Bounds: 32 chunks per request, [`SEARCHES_MAX`] requests that can still be answered (the oldest
//! forgotten first), and each is answered as often as `owner/opened.rs` says.

use super::open_search::OpenSearch;
use super::retrieve::FetchFlow;
use super::shared::Shared;
use super::source::Fetch;
use super::timers::Wake;
use crate::core::codec::{Reject, WANTED_MAX};
use crate::core::message::{Answer, SearchKind};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{NodeId, Ticket, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const SEARCHES_MAX: usize = 64;

/// How long the first wanted chunk of a request waits for others.
const GATHER: Duration = Duration::from_millis(20);

/// One request that was sent out.
#[derive(Debug)]
pub(super) struct Search {
    request: OpenSearch,
    /// The job of each wanted chunk.
    wanted: Vec<Ticket>,
    answered: BTreeSet<NodeId>,
}

impl Search {
    /// Whether one of the jobs still runs.
    pub(super) fn concerns_any(&self, jobs: &BTreeMap<Ticket, Fetch>) -> bool {
        self.wanted.iter().any(|ticket| jobs.contains_key(ticket))
    }
}

impl FetchFlow {
    /// Nobody is left to ask for this chunk: it joins the next request on its topic, now or when
    /// its pause is over.
    pub(super) fn search(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        if job.gathered || job.schedule.attempt() > 0 && now < job.search_at {
            return;
        }
        job.gathered = true;
        let topic = shared.sharding.topic(TopicKind::Retrieve, job.locality);
        let gathering = self.gathering.entry(topic).or_default();
        gathering.push(ticket);
        let wait = if gathering.len() < WANTED_MAX { GATHER } else { Duration::ZERO };
        shared.timers.set_no_later(Wake::Search(topic), now.after(wait));
    }

    /// Wanted chunks were gathered long enough: publishes requests for them.
    pub(super) fn on_search(&mut self, now: Time, shared: &mut Shared, topic: Topic) {
        let jobs = &self.jobs;
        let Some(gathering) = self.gathering.get_mut(&topic) else { return };
        gathering.retain(|ticket| jobs.contains_key(ticket));
        if gathering.is_empty() {
            self.gathering.remove(&topic);
            return;
        }
        if let Err(at) = shared.may_search(now) {
            return shared.timers.set(Wake::Search(topic), at);
        }
        // Ids in one request are distinct: of two jobs for one chunk, the second has to wait.
        let mut ids = BTreeSet::new();
        let is_next = |ticket: &mut Ticket| {
            let id = jobs.get(ticket).map(|job| job.id);
            ids.len() < WANTED_MAX && id.is_some_and(|id| ids.insert(id))
        };
        let wanted: Vec<Ticket> = gathering.extract_if(.., is_next).collect();
        if !gathering.is_empty() {
            shared.timers.set(Wake::Search(topic), now);
        }
        self.publish(now, shared, topic, wanted);
    }

    fn publish(&mut self, now: Time, shared: &mut Shared, topic: Topic, wanted: Vec<Ticket>) {
        // Whoever knows nobody at home there is connected to some before this goes out.
        if !shared.peers.none_connected() {
            self.heard.published(now, topic);
        }
        let attempts = wanted.iter().filter_map(|ticket| self.jobs.get(ticket));
        let attempt = attempts.map(|job| job.schedule.attempt()).max().unwrap_or(0);
        let jobs = wanted.iter().filter_map(|ticket| self.jobs.get(ticket));
        let chunks = jobs.map(|job| (job.id, &job.read));
        let request = OpenSearch::publish(shared, topic, (SearchKind::Retrieve, attempt), chunks);
        for ticket in &wanted {
            let Some(job) = self.jobs.get_mut(ticket) else { continue };
            let pause = job.schedule.published();
            job.search_at = now.after(shared.jitter(pause));
            job.gathered = false;
            // Who was away or slow may be back: a second chance costs less than a search.
            job.revive(now);
        }
        let tickets = wanted.clone();
        self.searches.push_back(Search { request, wanted, answered: BTreeSet::new() });
        if self.searches.len() > SEARCHES_MAX {
            self.searches.pop_front();
        }
        for ticket in tickets {
            self.pump(now, shared, ticket);
        }
    }

    /// A sealed answer, if it is one to us.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        answer: &Answer,
    ) {
        let is_asked = |search: &&mut Search| search.request.is_answered_by(answer);
        let Some(search) = self.searches.iter_mut().find(is_asked) else { return };
        let offer = search.request.take_offer(shared, from, answer);
        let Some((contact, holds)) = offer else { return };
        let node = contact.hello.node;
        // A second answer of the same node adds nothing, and is no misbehaviour.
        if node == shared.node || !search.answered.insert(node) {
            return;
        }
        if let Some(load) = self.loads.get_mut(&node) {
            load.on_offer(now);
        }
        let held = search.wanted.iter().enumerate().filter(|(at, _)| holds >> at & 1 == 1);
        let held: Vec<Ticket> = held.map(|(_, ticket)| *ticket).collect();
        for ticket in held {
            let Some(job) = self.jobs.get_mut(&ticket) else { continue };
            if job.add(now, node, contact.record.clone(), Some(from), &shared.peers) {
                self.pump(now, shared, ticket);
            } else {
                shared.reject(from, Reject::TableFull);
            }
        }
    }
}
