//! Asking for heads on their topics, and who makes an offer.

use super::question::{Question, Search};
use super::{APART, HeadsFlow, SEARCHES_MAX, bit};
use crate::core::codec::Reject;
use crate::core::message::{Answer, Contact, SearchKind};
use crate::core::owner::open_search::OpenSearch;
use crate::core::owner::shared::Shared;
use crate::core::topic::{Topic, TopicKind};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::head::locality;
use std::collections::BTreeMap;

impl HeadsFlow {
    /// Asks for the heads of which that is due, one request for each of their topics.
    pub(super) fn search(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(question) = self.questions.get_mut(&ticket) else { return };
        let mut topics: BTreeMap<Topic, Vec<usize>> = BTreeMap::new();
        for (position, head) in question.wanted.iter().enumerate() {
            if head.search_at(question.is_heard).is_some_and(|at| at <= now) {
                let topic = shared.sharding.topic(TopicKind::Retrieve, locality(&head.id));
                topics.entry(topic).or_default().push(position);
            }
        }
        if topics.is_empty() {
            return;
        }
        let attempt = question.schedule.attempt();
        let pause = question.schedule.published();
        let next = now.after(shared.jitter(pause)).max(now.after(APART));
        for (topic, positions) in topics {
            // Of each topic its own: a key is looked for, and a message goes out.
            let turn = shared.may_search(now);
            for position in &positions {
                let Some(head) = question.wanted.get_mut(*position) else { continue };
                (head.due, head.again) = match (turn, head.again) {
                    (Ok(()), _) => (next, None),
                    (Err(at), again) => (head.due.max(at), again.map(|again| again.max(at))),
                };
                if turn.is_ok() {
                    head.published = Some(now);
                }
            }
            if turn.is_err() {
                continue;
            }
            let heads = positions.iter().filter_map(|position| question.wanted.get(*position));
            let heads = heads.map(|head| (head.id, &head.read));
            let kind = (SearchKind::Retrieve, attempt);
            let request = OpenSearch::publish(shared, topic, kind, heads);
            question.searches.push(Search { published: now, request, positions });
            if question.searches.len() > SEARCHES_MAX {
                question.searches.remove(0);
            }
        }
    }

    /// A sealed answer, if it is one to us.
    pub(in crate::core::owner) fn on_answer(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        answer: &Answer,
    ) {
        let is_ours = |question: &Question| {
            question.searches.iter().position(|search| search.request.is_answered_by(answer))
        };
        let mut all = self.questions.iter_mut();
        let found =
            all.find_map(|(ticket, question)| Some((*ticket, is_ours(question)?, question)));
        let Some((ticket, at, question)) = found else { return };
        let Some(search) = question.searches.get_mut(at) else { return };
        let offer = search.request.take_offer(shared, from, answer);
        let Some((Contact { hello, record }, holds)) = offer else { return };
        let published = search.published;
        if hello.node == shared.node {
            return;
        }
        let held = search.positions.iter().enumerate().filter(|(at, _)| holds & bit(*at) != 0);
        let bits = held.fold(0, |bits, (_, position)| bits | bit(*position));
        if bits == 0 {
            return;
        }
        let via = (!shared.peers.is_up(&hello.node)).then_some(from);
        if !question.name(now, hello.node, bits, via) {
            return shared.reject(from, Reject::TableFull);
        }
        question.news = now;
        if let Some(asked) = question.nodes.get_mut(&hello.node) {
            asked.contact = record;
            asked.offered.get_or_insert(published);
        }
        self.ask(now, shared, ticket, hello.node);
        self.go_on(now, shared, ticket);
    }
}
