//! Asking everyone for heads: what each holder keeps is reported, not the first answer only.
//!
//! ```text
//! known holders ─▶ HeadGet ─▶ HeadData ─▶ HeadSeen, one for each record
//! too few of them ─▶ SearchRequest on the topics ─▶ offers ─▶ dial ─▶ HeadGet ...
//! listened for a while, or the deadline ─▶ HeadsDone
//! ```
//! One holder's word is not enough for a head: it may have an old record, or be one of a few that
//! play together. So each record is checked against its id and its signature and handed over with
//! who served it, and whoever asked decides. An answer that does not hold counts as none.
//!
//! A head is **settled** by those who are thought to keep it: when more than half of them, and at
//! least [`SETTLED_MIN`], served records of it. Nobody else is asked for it then, and nothing of it
//! stands on a topic; where all heads are settled, who still owes an answer has [`QUIET`] for it.
//! All others are asked for on their topics: at once where nobody is known, else when those who are
//! have had [`KNOWN_FIRST`].
//!
//! Whoever answers first must not end the question for the others: it goes on for [`LISTEN`] after
//! the last request on a topic, and a peer that subscribes meanwhile gets one of its own. Only what
//! shows a holder counts, an offer or a record that holds; where no record came at all the topics
//! are asked again and again until the deadline.
//!
//! Whoever only reads may be **brief**. Where several served a record that they had offered, how
//! long that took shows how far apart the mesh is: on a LAN a few milliseconds, and who needs a
//! hundred times as long as all others is not about to answer. Then the question goes on for
//! [`LISTEN_TIMES`] as long as the slowest of them took, for [`LISTEN_MIN`], and until nobody has
//! connected for [`CALM`], as a node that has just started meets one after the other; but never
//! longer than else. A device that is known through nobody, and whose holders are all far away, may
//! be missed: so nothing is decided by that which cannot be undone.
//!
//! Bounds: [`HEADS_JOBS_MAX`] questions, [`WANTED_MAX`] heads in each, [`NODES_MAX`] nodes asked,
//! of which [`NODES_PER_FORWARDER`] that are not connected may have come through one neighbour.

mod question;
mod search;

use super::OwnerEvent;
use super::outbox::Schedule;
use super::shared::Shared;
use super::timers::Wake;
use crate::core::codec::{HEAD_RECORDS_MAX, Reject, WANTED_MAX};
use crate::core::message::{HeadData, HeadGet, RetrieveRefusal, RetrieveReject, StreamMessage};
use crate::core::reputation::Deed;
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::head::{HeadRecord, locality};
use crate::crypto::keys::{ChunkSecret, random};
use crate::crypto::ownership::{Context, Operation, Verifier, body_hash, prove};
use bytes::Bytes;
use question::{Asked, Question, Wanted};
use rand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Questions at once. Above: the new one ends at once, with all that it named as silent.
pub(super) const HEADS_JOBS_MAX: usize = 4;
/// Nodes that are asked for one question.
pub(super) const NODES_MAX: usize = 128;
/// Of these, not connected, through one neighbour.
const NODES_PER_FORWARDER: usize = 32;
/// Requests on topics of one question that can still be answered.
const SEARCHES_MAX: usize = 32;

/// Requests of questions that are over, whose answers are expected still.
pub(super) const LATE_MAX: usize = 1_024;

/// A head is not settled by fewer of those who are thought to keep it: one alone may be behind.
const SETTLED_MIN: usize = 2;
/// Those who are thought to keep a head have so long before others are asked for it.
const KNOWN_FIRST: Duration = Duration::from_secs(1);
/// A question goes on so long after the last request on a topic: who was about to connect, or
/// answers through several neighbours, is to be heard.
const LISTEN: Duration = Duration::from_millis(1_500);
/// The same in units of what the slowest took from a request on a topic to its records.
const LISTEN_TIMES: u32 = 4;
/// And never less: a message may go through several neighbours that are further away than those
/// who answered.
const LISTEN_MIN: Duration = Duration::from_millis(500);
/// Nobody connected for so long: those who are there are all for now.
const CALM: Duration = Duration::from_secs(1);
/// And so long after the last news.
const QUIET: Duration = Duration::from_millis(300);
/// Who has not answered for so long is not waited for any more; what comes still counts.
const LATE: Duration = Duration::from_secs(3);
/// A busy holder is asked again after so long.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// The same where there was no room for another dial.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// A peer that subscribed is asked with the next request so soon.
const AFTER_SUBSCRIPTION: Duration = Duration::from_millis(50);
/// Requests on topics are at least so far apart.
const APART: Duration = Duration::from_secs(1);

/// Which records of these heads are kept, and by whom?
#[derive(Debug)]
pub struct HeadsJob {
    /// Comes back in every event of the job.
    pub ticket: Ticket,
    /// The heads: 1 to 32 of them, all different. Above: the first 32.
    pub heads: Vec<SoughtHead>,
    /// How many superseded records are wanted of each holder, at most 16.
    pub superseded: u8,
    /// For what only reads: who is much further away than those who answer is not waited for.
    pub brief: bool,
    /// When to end in any case.
    pub deadline: Time,
}

/// A head to ask for.
#[derive(Debug)]
pub struct SoughtHead {
    /// Which.
    pub id: ChunkId,
    /// y_h.
    pub read: ChunkSecret,
    /// Nodes that are thought to keep it. They are asked first, and on their streams; where enough
    /// of them serve it nobody else is. Whoever wants to hear everyone names none.
    pub known: Vec<NodeId>,
}

/// One request to one holder.
#[derive(Debug)]
struct Request {
    ticket: Ticket,
    node: NodeId,
    position: usize,
}

/// The flow.
#[derive(Debug, Default)]
pub(super) struct HeadsFlow {
    questions: BTreeMap<Ticket, Question>,
    requests: BTreeMap<u64, Request>,
    /// Requests of questions that are over: an answer that still comes is no misbehaviour.
    late: VecDeque<(u64, NodeId)>,
    /// When a node connected last.
    joined: Time,
}

impl HeadsFlow {
    /// Questions, nodes in the largest, requests on their way, and those of questions that ended.
    pub(super) fn sizes(&self) -> (usize, usize, usize, usize) {
        let nodes = self.questions.values().map(|question| question.nodes.len()).max();
        (self.questions.len(), nodes.unwrap_or(0), self.requests.len(), self.late.len())
    }

    pub(super) fn slots_free(&self) -> usize {
        HEADS_JOBS_MAX.saturating_sub(self.questions.len())
    }

    pub(super) fn on_command(&mut self, now: Time, shared: &mut Shared, job: HeadsJob) {
        let HeadsJob { ticket, heads, superseded, brief, deadline } = job;
        let mut seen = BTreeSet::new();
        let heads = heads.into_iter().filter(|head| seen.insert(head.id)).take(WANTED_MAX);
        let wanted: Vec<Wanted> = heads.map(|head| Wanted::new(now, &shared.node, head)).collect();
        let mut known: BTreeMap<NodeId, u32> = BTreeMap::new();
        for (position, head) in wanted.iter().enumerate() {
            for node in &head.known {
                *known.entry(*node).or_default() |= bit(position);
            }
        }
        if wanted.is_empty() || self.questions.len() >= HEADS_JOBS_MAX {
            let answered = wanted.into_iter().map(|head| (head.id, Vec::new())).collect();
            let silent = known.into_keys().collect();
            return shared.report(OwnerEvent::HeadsDone { ticket, answered, silent });
        }
        let mut question = Question {
            wanted,
            nodes: BTreeMap::new(),
            searches: Vec::new(),
            superseded: superseded.min(most_superseded()),
            brief,
            deadline,
            news: now,
            served: BTreeSet::new(),
            slowest: Duration::ZERO,
            is_heard: false,
            schedule: Schedule::default(),
        };
        for (node, heads) in &known {
            question.name(now, *node, *heads, None);
        }
        self.questions.insert(ticket, question);
        for node in known.into_keys() {
            self.ask(now, shared, ticket, node);
        }
        self.go_on(now, shared, ticket);
    }

    pub(super) fn cancel(&mut self, shared: &mut Shared, ticket: Ticket) {
        if self.questions.remove(&ticket).is_some() {
            self.forget_requests(ticket);
            shared.timers.clear(Wake::Heads(ticket));
        }
    }

    /// Asks a node for what it may keep, or dials it first.
    fn ask(&mut self, now: Time, shared: &mut Shared, ticket: Ticket, node: NodeId) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let Some(asked) = question.nodes.get_mut(&node) else { return };
        if asked.to_ask == 0 || now < asked.not_before {
            return;
        }
        asked.since = now;
        asked.is_away = false;
        if !shared.peers.is_up(&node) {
            if !shared.dial(now, node, asked.contact.clone()) {
                asked.not_before = now.after(DIAL_PAUSE);
            }
            return;
        }
        let bits = std::mem::take(&mut asked.to_ask);
        for (position, head) in question.wanted.iter().enumerate() {
            if bits & bit(position) == 0 {
                continue;
            }
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
            let proof = prove(&head.read, &head.id, &context, &mut shared.rng);
            let superseded = question.superseded;
            let get = HeadGet { request, id: head.id, nonce, proof, superseded };
            self.requests.insert(request, Request { ticket, node, position });
            asked.open = asked.open.saturating_add(1);
            shared.send(node, StreamMessage::HeadGet(get));
        }
    }

    /// Ends the question, or asks on the topics where that is due, and sets the alarm.
    fn go_on(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let is_over = question.ends_at(now, self.joined).is_some_and(|end| end <= now);
        if is_over || question.deadline <= now {
            return self.finish(shared, ticket);
        }
        question.hurry(now);
        if !shared.peers.none_connected() {
            self.search(now, shared, ticket);
        }
        let Some(question) = self.questions.get(&ticket) else { return };
        let search = question.wanted.iter().filter_map(|head| head.search_at(question.is_heard));
        let again = question.nodes.values().filter(|asked| asked.to_ask != 0);
        let again = again.map(|asked| asked.not_before);
        let late = question.nodes.values().filter_map(Asked::waits_until);
        let times = search.chain(question.ends_at(now, self.joined)).chain(again).chain(late);
        let next = times.filter(|at| *at > now).chain([question.deadline]).min();
        shared.timers.set(Wake::Heads(ticket), next.unwrap_or(question.deadline));
    }

    fn finish(&mut self, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.remove(&ticket) else { return };
        self.forget_requests(ticket);
        shared.timers.clear(Wake::Heads(ticket));
        let silent = question.nodes.iter().filter(|(_, asked)| !asked.heard);
        let silent = silent.map(|(node, _)| *node).collect();
        let of = |head: Wanted| (head.id, head.answered.into_iter().collect());
        let answered = question.wanted.into_iter().map(of).collect();
        shared.report(OwnerEvent::HeadsDone { ticket, answered, silent });
    }

    fn forget_requests(&mut self, ticket: Ticket) {
        let over = self.requests.extract_if(.., |_, request| request.ticket == ticket);
        self.late.extend(over.map(|(number, request)| (number, request.node)));
        while self.late.len() > LATE_MAX {
            self.late.pop_front();
        }
    }

    /// Whether this answers a question that is over; it is forgotten now.
    fn is_late(&mut self, node: &NodeId, number: u64) -> bool {
        let at = self.late.iter().position(|late| *late == (number, *node));
        at.is_some_and(|at| self.late.remove(at).is_some())
    }

    pub(super) fn on_wake(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get(&ticket) else { return };
        let again = question.nodes.iter().filter(|(_, asked)| {
            asked.to_ask != 0 && !asked.is_away && asked.not_before > Time::default()
        });
        let again: Vec<NodeId> = again.map(|(node, _)| *node).collect();
        for node in again {
            self.ask(now, shared, ticket, node);
        }
        self.go_on(now, shared, ticket);
    }

    /// The request `number` if it went to this node; it is answered now.
    fn answered(&mut self, node: &NodeId, number: u64) -> Option<Request> {
        self.requests.get(&number).filter(|request| request.node == *node)?;
        let request = self.requests.remove(&number)?;
        let question = self.questions.get_mut(&request.ticket)?;
        let asked = question.nodes.get_mut(node)?;
        asked.open = asked.open.saturating_sub(1);
        Some(request)
    }

    /// What a holder keeps of a head: all of it holds, or nothing of it counts.
    pub(super) fn on_data(&mut self, now: Time, shared: &mut Shared, from: NodeId, data: HeadData) {
        let Some(request) = self.answered(&from, data.request) else {
            if !self.is_late(&from, data.request) {
                shared.reject(from, Reject::Unsolicited);
            }
            return;
        };
        let Request { ticket, position, .. } = request;
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let superseded = usize::from(question.superseded);
        let Some(head) = question.wanted.get_mut(position) else { return };
        let decode = |bytes| HeadRecord::decode(bytes).ok().filter(|record| record.id() == head.id);
        // None twice: who repeats one makes work and news of nothing.
        let distinct: BTreeSet<&Bytes> = data.records.iter().collect();
        let is_fit = distinct.len() == data.records.len();
        let records: Option<Vec<HeadRecord>> = match is_fit {
            true => data.records.into_iter().map(decode).collect(),
            false => None,
        };
        // All of the newest number, where there are several.
        let is_asked = |records: &Vec<HeadRecord>| {
            let newest = records.iter().map(HeadRecord::number).max();
            records.iter().filter(|record| Some(record.number()) < newest).count() <= superseded
        };
        match records.filter(is_asked) {
            Some(records) => {
                head.answered.insert(from);
                (question.news, question.is_heard) = (now, true);
                if let Some(asked) = question.nodes.get_mut(&from) {
                    asked.heard = true;
                    if let Some(published) = asked.offered {
                        question.served.insert(from);
                        question.slowest = question.slowest.max(now.since(published));
                    }
                }
                for record in records {
                    shared.report(OwnerEvent::HeadSeen { ticket, from, record });
                }
            }
            None => {
                shared.reject(from, Reject::BadProof);
                shared.peers.rate(now, from, Deed::Lied);
            }
        }
        self.go_on(now, shared, ticket);
    }

    /// Whether this answers one of our requests.
    pub(super) fn is_ours(&self, from: &NodeId, reject: &RetrieveReject) -> bool {
        let request = self.requests.get(&reject.request);
        request.is_some_and(|request| request.node == *from)
            || self.late.contains(&(reject.request, *from))
    }

    /// A holder does not serve a head.
    pub(super) fn on_reject(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        reject: RetrieveReject,
    ) {
        let Some(Request { ticket, position, .. }) = self.answered(&from, reject.request) else {
            self.is_late(&from, reject.request);
            return;
        };
        let question = self.questions.get_mut(&ticket);
        if let Some(asked) = question.and_then(|question| question.nodes.get_mut(&from)) {
            match reject.reason {
                RetrieveRefusal::NotHeld | RetrieveRefusal::Damaged => asked.heard = true,
                RetrieveRefusal::Busy => {
                    asked.to_ask |= bit(position);
                    asked.not_before = now.after(BUSY_PAUSE);
                }
            }
        }
        self.go_on(now, shared, ticket);
    }

    pub(super) fn on_peer_up(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        self.joined = now;
        for ticket in self.tickets() {
            self.ask(now, shared, ticket, node);
            self.go_on(now, shared, ticket);
        }
    }

    /// A node went away, or could not be reached: it is asked again if it comes back.
    pub(super) fn on_peer_down(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let lost = self.requests.extract_if(.., |_, request| request.node == node);
        let lost: Vec<Request> = lost.map(|(_, request)| request).collect();
        for Request { ticket, position, .. } in lost {
            let question = self.questions.get_mut(&ticket);
            if let Some(asked) = question.and_then(|question| question.nodes.get_mut(&node)) {
                asked.to_ask |= bit(position);
            }
        }
        for ticket in self.tickets() {
            let question = self.questions.get_mut(&ticket);
            if let Some(asked) = question.and_then(|question| question.nodes.get_mut(&node)) {
                (asked.open, asked.is_away) = (0, true);
            }
            self.go_on(now, shared, ticket);
        }
    }

    /// A peer subscribed: what was published before did not reach it.
    pub(super) fn on_subscribed(&mut self, now: Time, shared: &mut Shared, topic: Topic) {
        for ticket in self.tickets() {
            let pause = shared.jitter(AFTER_SUBSCRIPTION);
            let Some(question) = self.questions.get_mut(&ticket) else { continue };
            let of = |head: &Wanted| shared.sharding.topic(TopicKind::Retrieve, locality(&head.id));
            for head in question.wanted.iter_mut().filter(|head| of(head) == topic) {
                // Where it was not asked for yet, it is none too late.
                let Some(last) = head.published else { continue };
                let again = now.max(last.after(APART)).after(pause);
                head.again = Some(head.again.map_or(again, |before| before.min(again)));
            }
            self.go_on(now, shared, ticket);
        }
    }

    fn tickets(&self) -> Vec<Ticket> {
        self.questions.keys().copied().collect()
    }
}

/// As many superseded records as one answer takes, besides the newest.
fn most_superseded() -> u8 {
    u8::try_from(HEAD_RECORDS_MAX.saturating_sub(1)).unwrap_or(u8::MAX)
}

/// The bit of the head at this place; 0 beyond the last.
fn bit(at: usize) -> u32 {
    u32::try_from(at).ok().and_then(|at| 1_u32.checked_shl(at)).unwrap_or(0)
}
