//! One question for heads: who was asked for which of them, who answered, and when it is over.

use super::{
    CALM, KNOWN_FIRST, LATE, LISTEN, LISTEN_MIN, LISTEN_TIMES, NODES_MAX, NODES_PER_FORWARDER,
    QUIET, SETTLED_MIN, SoughtHead,
};
use crate::core::owner::open_search::OpenSearch;
use crate::core::owner::outbox::Schedule;
use crate::core::types::{ChunkId, NodeId, Time};
use crate::crypto::keys::ChunkSecret;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One head of a question.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: ChunkId,
    pub(super) read: ChunkSecret,
    pub(super) known: BTreeSet<NodeId>,
    /// Who served records that hold.
    pub(super) answered: BTreeSet<NodeId>,
    /// When it was asked for on its topic last.
    pub(super) published: Option<Time>,
    /// When to do so next, where nothing is heard.
    pub(super) due: Time,
    /// When to do so in any case: somebody subscribed.
    pub(super) again: Option<Time>,
}

impl Wanted {
    pub(super) fn new(now: Time, node: &NodeId, sought: SoughtHead) -> Self {
        let SoughtHead { id, read, known } = sought;
        let known: BTreeSet<NodeId> = known.into_iter().filter(|known| known != node).collect();
        let due = if known.is_empty() { now } else { now.after(KNOWN_FIRST) };
        let answered = BTreeSet::new();
        Self { id, read, known, answered, published: None, due, again: None }
    }

    /// Whether those who are thought to keep it are enough.
    pub(super) fn is_settled(&self) -> bool {
        let served = self.known.intersection(&self.answered).count();
        served >= SETTLED_MIN && served > self.known.len() / 2
    }

    /// When it is to be asked for on its topic.
    pub(super) fn search_at(&self, is_heard: bool) -> Option<Time> {
        let due = (self.published.is_none() || !is_heard).then_some(self.due);
        due.into_iter().chain(self.again).min().filter(|_| !self.is_settled())
    }
}

/// A node that may keep some of the heads.
#[derive(Debug)]
pub(super) struct Asked {
    /// Heads to ask for, as soon as it is connected: bits by position.
    pub(super) to_ask: u32,
    /// Everything it was ever to be asked for.
    pub(super) named: u32,
    /// Requests on their way.
    pub(super) open: usize,
    /// When it was asked, or dialed, last.
    pub(super) since: Time,
    /// Not asked again before, where it was busy.
    pub(super) not_before: Time,
    /// It said something of use, if only no.
    pub(super) heard: bool,
    /// When the request went out to which its offer came.
    pub(super) offered: Option<Time>,
    /// It could not be reached.
    pub(super) is_away: bool,
    /// The neighbour through which its offer came.
    pub(super) via: Option<NodeId>,
    /// How it is dialed; empty where that is known.
    pub(super) contact: Bytes,
}

impl Asked {
    pub(super) fn new(now: Time, via: Option<NodeId>) -> Self {
        Self {
            contact: Bytes::new(),
            to_ask: 0,
            named: 0,
            open: 0,
            since: now,
            not_before: Time::default(),
            heard: false,
            offered: None,
            is_away: false,
            via,
        }
    }

    /// Until when it is waited for; `None` where nothing of it is to be expected.
    pub(super) fn waits_until(&self) -> Option<Time> {
        let is_expected = self.open > 0 || self.to_ask != 0 && !self.is_away;
        is_expected.then(|| self.since.max(self.not_before).after(LATE))
    }
}

/// One request on one topic.
#[derive(Debug)]
pub(super) struct Search {
    /// When it went out.
    pub(super) published: Time,
    pub(super) request: OpenSearch,
    /// Position in the question of each head of the request.
    pub(super) positions: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) wanted: Vec<Wanted>,
    pub(super) nodes: BTreeMap<NodeId, Asked>,
    pub(super) searches: Vec<Search>,
    pub(super) superseded: u8,
    pub(super) brief: bool,
    pub(super) deadline: Time,
    /// When somebody last offered or served something.
    pub(super) news: Time,
    /// Who served records that they had offered, and how long the slowest took.
    pub(super) served: BTreeSet<NodeId>,
    pub(super) slowest: Duration,
    /// Somebody served a record that holds.
    pub(super) is_heard: bool,
    pub(super) schedule: Schedule,
}

impl Question {
    /// When it ends if nothing more is heard and nobody connected since `joined`; `None` where only
    /// the deadline ends it.
    pub(super) fn ends_at(&self, now: Time, joined: Time) -> Option<Time> {
        let waits = self.nodes.values().filter_map(Asked::waits_until).max();
        let mut end = waits.filter(|until| *until > now).unwrap_or(now);
        if self.wanted.iter().all(Wanted::is_settled) {
            return Some(end.min(self.news.after(QUIET)));
        }
        for head in self.wanted.iter().filter(|head| !head.is_settled()) {
            let published = head.published.filter(|_| self.is_heard)?;
            let last = head.again.map_or(published, |again| published.max(again));
            end = end.max(self.listens_until(last, joined)).max(self.news.after(QUIET));
        }
        Some(end)
    }

    /// When it has been listened long enough after a request on a topic.
    pub(super) fn listens_until(&self, published: Time, joined: Time) -> Time {
        let longest = published.after(LISTEN);
        if !self.brief || self.served.len() < SETTLED_MIN {
            return longest;
        }
        let listen = self.slowest.saturating_mul(LISTEN_TIMES).max(LISTEN_MIN);
        published.after(listen).max(joined.after(CALM)).min(longest)
    }

    /// Whether somebody who is thought to keep the head may answer still.
    pub(super) fn waits_for(&self, now: Time, head: &Wanted) -> bool {
        let asked = head.known.iter().filter_map(|node| self.nodes.get(node));
        asked.filter_map(Asked::waits_until).any(|until| until > now)
    }

    /// Heads of which nobody who is known has anything more to say are not held back.
    pub(super) fn hurry(&mut self, now: Time) {
        let idle = |head: &Wanted| head.published.is_none() && !self.waits_for(now, head);
        let idle: Vec<bool> = self.wanted.iter().map(idle).collect();
        for (head, _) in self.wanted.iter_mut().zip(idle).filter(|(_, idle)| *idle) {
            head.due = head.due.min(now);
        }
    }

    /// Takes a node in that may keep these; `false` at a bound.
    pub(super) fn name(&mut self, now: Time, node: NodeId, bits: u32, via: Option<NodeId>) -> bool {
        if !self.nodes.contains_key(&node) {
            let through = self.nodes.values().filter(|other| other.via == via).count();
            let is_crowded = via.is_some() && through >= NODES_PER_FORWARDER;
            if is_crowded || self.nodes.len() >= NODES_MAX {
                return false;
            }
        }
        let asked = self.nodes.entry(node).or_insert_with(|| Asked::new(now, via));
        let fresh = bits & !asked.named;
        asked.to_ask |= fresh;
        asked.named |= fresh;
        true
    }
}
