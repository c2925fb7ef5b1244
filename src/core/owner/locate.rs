//! Asking on topics which nodes hold some of the owner's chunks, where too few are known to: the
//! question is the owner's alone, proven under Z, and nothing is fetched.
//!
//! ```text
//! each topic, 32 chunks at a time ─▶ LocateRequest, three times ─▶ offers ─▶ Located; dial
//! listened after the last, or the deadline ─▶ LocateDone
//! ```
//! What a node offers is its word and counts for nothing: whoever asked has it list what it keeps
//! and prove that. A node is told of once for each chunk, whatever else it says.
//!
//! Bounds: [`LOCATE_JOBS_MAX`] questions, [`LOCATE_CHUNKS_MAX`] chunks and [`PARTS_MAX`] requests
//! in each, [`ATTEMPTS`] publications of a request, [`NODES_MAX`] nodes that are told of, of which
//! [`NODES_PER_FORWARDER`] that are not connected may have come through one neighbour; and each
//! publication is answered as often as `owner/opened.rs` says.

use super::OwnerEvent;
use super::open_search::OpenSearch;
use super::outbox::Schedule;
use super::shared::Shared;
use super::timers::Wake;
use crate::core::codec::{Reject, WANTED_MAX};
use crate::core::message::{Answer, SearchKind};
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{ChunkId, Locality, NodeId, Ticket, Time};
use crate::crypto::keys::ChunkSecret;
use crate::planted::{Bug, is_on};
use std::collections::{BTreeMap, BTreeSet};

/// Questions at once. Above: the new one ends at once, as if nobody had anything.
pub(super) const LOCATE_JOBS_MAX: usize = 4;
/// Chunks of one question. Above: the first of them.
pub const LOCATE_CHUNKS_MAX: usize = 256;
/// Requests of one question. Above: those of the first topics.
const PARTS_MAX: usize = 16;
/// How often each is published: 0, 1 and 3 s after the beginning, roughly. It ends 4 s later.
const ATTEMPTS: u32 = 3;
/// Nodes that are told of for one question.
pub(super) const NODES_MAX: usize = 64;
/// Of these, not connected, through one neighbour.
const NODES_PER_FORWARDER: usize = 16;

/// Which nodes hold these chunks of the owner's?
#[derive(Debug)]
pub struct LocateJob {
    /// Comes back in every event of the job.
    pub ticket: Ticket,
    /// The chunks, all different: 1 to [`LOCATE_CHUNKS_MAX`].
    pub wanted: Vec<SoughtChunk>,
    /// When to end in any case.
    pub deadline: Time,
}

/// A chunk whose holders are looked for.
#[derive(Debug)]
pub struct SoughtChunk {
    /// Which.
    pub id: ChunkId,
    /// Where its topics are.
    pub locality: Locality,
    /// z.
    pub admin: ChunkSecret,
}

/// What one request asks for.
#[derive(Debug)]
struct Part {
    topic: Topic,
    /// 1 to [`WANTED_MAX`].
    wanted: Vec<SoughtChunk>,
}

/// One publication.
#[derive(Debug)]
struct Sent {
    request: OpenSearch,
    /// Which part of the question it was.
    part: usize,
}

/// What a node said.
#[derive(Debug)]
struct Said {
    /// The neighbour through which that came, of a node that was not connected.
    via: Option<NodeId>,
    ids: BTreeSet<ChunkId>,
}

#[derive(Debug)]
struct Question {
    parts: Vec<Part>,
    /// The part that is published next.
    next: usize,
    /// When.
    due: Time,
    schedule: Schedule,
    sent: Vec<Sent>,
    said: BTreeMap<NodeId, Said>,
    deadline: Time,
}

/// The flow.
#[derive(Debug, Default)]
pub(super) struct LocateFlow {
    questions: BTreeMap<Ticket, Question>,
}

impl LocateFlow {
    /// Questions, and nodes that are told of in the largest.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let nodes = self.questions.values().map(|question| question.said.len()).max();
        (self.questions.len(), nodes.unwrap_or(0))
    }

    pub(super) fn slots_free(&self) -> usize {
        LOCATE_JOBS_MAX.saturating_sub(self.questions.len())
    }

    pub(super) fn on_command(&mut self, now: Time, shared: &mut Shared, job: LocateJob) {
        let LocateJob { ticket, wanted, deadline } = job;
        let parts = parts(shared, wanted);
        if parts.is_empty() || self.slots_free() == 0 {
            return shared.report(OwnerEvent::LocateDone { ticket });
        }
        let question = Question {
            parts,
            next: 0,
            due: now,
            schedule: Schedule::default(),
            sent: Vec::new(),
            said: BTreeMap::new(),
            deadline,
        };
        self.questions.insert(ticket, question);
        self.go_on(now, shared, ticket);
    }

    pub(super) fn cancel(&mut self, shared: &mut Shared, ticket: Ticket) {
        if self.questions.remove(&ticket).is_some() {
            shared.timers.clear(Wake::Locate(ticket));
        }
    }

    /// Publishes what is due, ends the question where nothing is to come any more, and sets its
    /// alarm.
    pub(super) fn go_on(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        while question.due <= now && !question.is_over(now) {
            if question.next >= question.parts.len() {
                let pause = question.schedule.published();
                (question.next, question.due) = (0, now.after(shared.jitter(pause)));
            } else if let Err(at) = shared.may_search(now) {
                question.due = at;
            } else {
                question.publish(shared);
            }
        }
        if question.is_over(now) {
            self.cancel(shared, ticket);
            return shared.report(OwnerEvent::LocateDone { ticket });
        }
        let at = question.due.min(question.deadline);
        shared.timers.set(Wake::Locate(ticket), at);
    }

    /// A sealed answer, if it is one to us.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        answer: &Answer,
    ) {
        let is_ours = |question: &Question| {
            question.sent.iter().position(|sent| sent.request.is_answered_by(answer))
        };
        let mut all = self.questions.iter_mut();
        let found =
            all.find_map(|(ticket, question)| Some((*ticket, is_ours(question)?, question)));
        let Some((ticket, at, question)) = found else { return };
        let Some(sent) = question.sent.get_mut(at) else { return };
        let offer = sent.request.take_offer(shared, from, answer);
        let Some((contact, holds)) = offer else { return };
        let (node, part) = (contact.hello.node, sent.part);
        let held = question.offered(part, holds);
        if node == shared.node || held.is_empty() {
            return;
        }
        let is_up = shared.peers.is_up(&node);
        let Some(ids) = question.take(node, (!is_up).then_some(from), held) else {
            return shared.reject(from, Reject::TableFull);
        };
        if !is_up {
            // Where there is no room for another dial, the answer to the next publication is one
            // more occasion.
            shared.dial(now, node, contact.record);
        }
        // A second answer of the same node adds nothing, and is no misbehaviour.
        if !ids.is_empty() {
            shared.report(OwnerEvent::Located { ticket, node, ids });
        }
    }
}

impl Question {
    fn is_over(&self, now: Time) -> bool {
        let is_asked = self.schedule.attempt() >= ATTEMPTS && self.due <= now;
        is_asked || self.deadline <= now
    }

    /// Publishes the next part.
    fn publish(&mut self, shared: &mut Shared) {
        let part = self.next;
        self.next += 1;
        let Some(Part { topic, wanted }) = self.parts.get(part) else { return };
        let kind = (SearchKind::Locate, self.schedule.attempt());
        let chunks = wanted.iter().map(|of| (of.id, &of.admin));
        let request = OpenSearch::publish(shared, *topic, kind, chunks);
        self.sent.push(Sent { request, part });
    }

    /// The chunks of a part that an answer to it names.
    fn offered(&self, part: usize, holds: u32) -> Vec<ChunkId> {
        let part = if is_on(Bug::OfferOfFirst) { 0 } else { part };
        let wanted = self.parts.get(part).into_iter().flat_map(|part| &part.wanted).enumerate();
        let held = wanted.filter(|(at, _)| holds >> at & 1 == 1);
        held.map(|(_, of)| of.id).collect()
    }

    /// Takes down what a node says. Returns what of it is new; `None` where it is one too many.
    fn take(
        &mut self,
        node: NodeId,
        via: Option<NodeId>,
        ids: Vec<ChunkId>,
    ) -> Option<Vec<ChunkId>> {
        if !self.said.contains_key(&node) {
            let through = self.said.values().filter(|other| other.via == via).count();
            let is_crowded = via.is_some() && through >= NODES_PER_FORWARDER;
            if is_crowded || self.said.len() >= NODES_MAX {
                return None;
            }
        }
        let said = self.said.entry(node).or_insert_with(|| Said { via, ids: BTreeSet::new() });
        Some(ids.into_iter().filter(|id| said.ids.insert(*id)).collect())
    }
}

/// The requests that it takes: for each topic as many as its chunks need.
fn parts(shared: &Shared, wanted: Vec<SoughtChunk>) -> Vec<Part> {
    let mut seen = BTreeSet::new();
    let mut parts: Vec<Part> = Vec::new();
    for chunk in wanted.into_iter().take(LOCATE_CHUNKS_MAX).filter(|of| seen.insert(of.id)) {
        let topic = shared.sharding.topic(TopicKind::Audit, chunk.locality);
        let has_room = |part: &&mut Part| part.topic == topic && part.wanted.len() < WANTED_MAX;
        if let Some(part) = parts.iter_mut().find(has_room) {
            part.wanted.push(chunk);
        } else if parts.len() < PARTS_MAX {
            parts.push(Part { topic, wanted: vec![chunk] });
        }
    }
    parts
}
