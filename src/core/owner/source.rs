//! One fetch job: who may have the chunk, who was asked, and who is next.

use super::FetchFailure;
use super::outbox::Schedule;
use super::peers::Peers;
use crate::core::types::{ChunkId, Locality, NodeId, Ticket, Time};
use crate::crypto::keys::ChunkSecret;
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many nodes one job knows. At the bound a new one takes the place of one that could not be
/// reached; one that is connected also the place of one that is not and was not asked yet. Others
/// are turned away.
pub(super) const SOURCES_MAX: usize = 64;
/// How many of them, not connected, may have come through one neighbour; the bound works likewise.
const SOURCES_PER_FORWARDER: usize = 32;

/// A busy node is asked again after so long, then after twice that, up to 16 times that.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// When a node was busy so often for one chunk, others are searched for too.
const BUSY_OFTEN: u32 = 2;
/// Another one is asked after twice the typical time of the first, within these bounds.
const HEDGE_MIN: Duration = Duration::from_millis(500);
const HEDGE_MAX: Duration = Duration::from_secs(3);
/// A node that delivers other chunks is passed over for this one after so many stalls.
const STALLS_IN_ALL: u32 = 4;

/// How one node stands to the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To be asked, from then on.
    Ready(Time),
    /// Being connected since then.
    Dialing(Time),
    /// Asked under this number, at that time.
    Asked(u64, Time),
    /// Asked under this number, and passed over since; its answer is still welcome.
    Late(u64),
    /// No use now; welcome again when it offers or connects.
    Failed,
    /// Sent other bytes: not asked again for this chunk.
    Banned,
}

/// One node that may have the chunk.
#[derive(Debug)]
pub(super) struct Source {
    rank: u32,
    /// Nobody said that it has the chunk: it served a neighbour of it.
    guessed: bool,
    /// The neighbour through which its offer came; `None` where it was named.
    via: Option<NodeId>,
    /// Its signed PeerRecord, empty where its addresses are known.
    pub(super) record: Bytes,
    pub(super) state: State,
    /// How often it said that it was busy.
    busy: u32,
    last: Option<FetchFailure>,
}

/// How one holder does, over all jobs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Load {
    /// Requests it has not answered.
    in_flight: usize,
    /// When it last answered one.
    progress: Time,
    /// Since when it owes an answer: its last one, or the first request after a pause.
    owes_since: Time,
    /// It left a request unanswered until that was forgotten, and answered none since.
    mute: bool,
    /// Its typical time, in milliseconds, moved by a quarter of each difference; 0 = unknown.
    typical_ms: u64,
}

impl Load {
    /// When it last answered a request.
    pub(super) fn progress(&self) -> Time {
        self.progress
    }

    /// It was asked.
    pub(super) fn on_asked(&mut self, now: Time) {
        if self.in_flight == 0 {
            self.owes_since = now;
        }
        self.in_flight += 1;
    }

    /// A request is forgotten that it never answered.
    pub(super) fn on_forgotten(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.mute = true;
    }

    /// It offers a chunk: a sign of life, and worth one more patience.
    pub(super) fn on_offer(&mut self, now: Time) {
        self.owes_since = now;
        self.mute = false;
    }

    /// It answered a request of that age.
    pub(super) fn on_answer(&mut self, now: Time, age: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.progress = now;
        self.owes_since = now;
        self.mute = false;
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
        self.typical_ms = match self.typical_ms {
            0 => age,
            typical => (typical / 4 * 3).saturating_add(age / 4).max(1),
        };
    }

    /// When a request sent `since` calls for a second one elsewhere. A holder that delivers other
    /// chunks is busy, not slow: the time counts from its last sign of life.
    pub(super) fn hedge_at(&self, since: Time) -> Time {
        since.max(self.progress).after(self.patience())
    }

    fn patience(&self) -> Duration {
        let twice = Duration::from_millis(self.typical_ms.saturating_mul(2));
        twice.clamp(HEDGE_MIN, HEDGE_MAX)
    }

    /// From when on it counts as silent: it owes an answer, and nothing at all came for too long.
    pub(super) fn silent_at(&self) -> Option<Time> {
        match self.mute {
            true => Some(Time::default()),
            false => (self.in_flight > 0).then(|| self.owes_since.after(self.patience())),
        }
    }

    pub(super) fn is_silent(&self, now: Time) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// Whether one more request may go there now; otherwise until when it is worth waiting for
    /// that, which is no time at all where nothing comes from there. A silent holder has one
    /// request at a time until it answers.
    pub(super) fn room(&self, now: Time, in_flight_max: usize) -> Result<(), Time> {
        let max = if self.is_silent(now) { 1 } else { in_flight_max };
        if self.in_flight < max { Ok(()) } else { Err(self.hedge_at(self.progress)) }
    }

    /// Whether there is nothing to wait for: it is silent, and was asked enough.
    pub(super) fn is_stuck(&self, now: Time) -> bool {
        self.in_flight > 0 && self.is_silent(now)
    }

    /// When a request sent `since` is late.
    pub(super) fn late_at(&self, since: Time, stall: Duration) -> Time {
        let silent = since.max(self.progress).after(stall);
        silent.min(since.after(stall * STALLS_IN_ALL))
    }
}

/// One fetch job.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) id: ChunkId,
    pub(super) locality: Locality,
    pub(super) read: ChunkSecret,
    /// Nobody is asked but those who were named with the command.
    pub(super) only: bool,
    /// The commands that want it, each with its deadline. Never empty while the job runs.
    pub(super) waiters: BTreeMap<Ticket, Time>,
    pub(super) sources: BTreeMap<NodeId, Source>,
    next_rank: u32,
    /// How often it was searched for on the topic.
    pub(super) schedule: Schedule,
    /// When it may be searched for again.
    pub(super) search_at: Time,
    /// In a request that is about to go out.
    pub(super) gathered: bool,
    /// Until then it waits for room at a node that is worth a guess.
    pub(super) wait_until: Time,
}

impl Fetch {
    pub(super) fn new(id: ChunkId, locality: Locality, read: ChunkSecret, only: bool) -> Self {
        Self {
            id,
            locality,
            read,
            only,
            waiters: BTreeMap::new(),
            sources: BTreeMap::new(),
            next_rank: 0,
            schedule: Schedule::default(),
            search_at: Time::default(),
            gathered: false,
            wait_until: Time::default(),
        }
    }

    /// Takes in a node that is said to have the chunk, or gives one that failed or is late another
    /// chance. False where there are too many.
    pub(super) fn add(
        &mut self,
        now: Time,
        node: NodeId,
        record: Bytes,
        via: Option<NodeId>,
        peers: &Peers,
    ) -> bool {
        if let Some(source) = self.sources.get_mut(&node) {
            if !record.is_empty() {
                source.record = record;
            }
            source.guessed = false;
            // What a late one was asked for may never come: it offers, so it is asked anew.
            if let State::Failed | State::Late(_) = source.state {
                source.state = State::Ready(now);
            }
            return true;
        }
        let source = Source::new(now, record, via, false);
        self.insert(node, source, peers)
    }

    /// Takes in a connected node that may have the chunk. False where there are too many.
    pub(super) fn guess(&mut self, now: Time, node: NodeId, peers: &Peers) -> bool {
        self.insert(node, Source::new(now, Bytes::new(), None, true), peers)
    }

    /// Whether the chunk may be asked of a node that is only guessed to have it: nobody who is said
    /// to have it can be asked, and no other guess is open.
    pub(super) fn may_guess(&self, now: Time) -> bool {
        self.sources.values().all(|source| match source.state {
            State::Asked(..) | State::Late(_) => !source.guessed,
            State::Ready(_) => !source.is_ready(now),
            State::Dialing(_) | State::Failed | State::Banned => true,
        })
    }

    /// Whether the node was asked under this number, and for nothing since.
    pub(super) fn is_asked(&self, node: &NodeId, request: u64) -> bool {
        self.sources.get(node).is_some_and(|source| match source.state {
            State::Asked(number, _) | State::Late(number) => number == request,
            State::Ready(_) | State::Dialing(_) | State::Failed | State::Banned => false,
        })
    }

    /// Whether the node was asked on a guess.
    pub(super) fn is_guess(&self, node: &NodeId) -> bool {
        self.sources.get(node).is_some_and(|source| source.guessed)
    }

    fn insert(&mut self, node: NodeId, source: Source, peers: &Peers) -> bool {
        let is_up = peers.is_up(&node);
        let same_way = |other: &Source| other.via.is_some() && other.via == source.via;
        let through = self.sources.values().filter(|other| same_way(other)).count();
        let is_crowded = !is_up && through >= SOURCES_PER_FORWARDER;
        if is_crowded || self.sources.len() >= SOURCES_MAX {
            let mut idle = self.sources.iter().filter(|(node, other)| {
                matches!(other.state, State::Ready(_) | State::Failed) && !peers.is_up(node)
            });
            let gone = if is_crowded {
                idle.find(|(_, other)| other.is_unreachable() && same_way(other))
            } else {
                let worst = idle.min_by_key(|(node, other)| (!other.is_unreachable(), **node));
                worst.filter(|(_, other)| other.is_unreachable() || is_up)
            };
            let Some(gone) = gone.map(|(node, _)| *node) else { return false };
            self.sources.remove(&gone);
        }
        let rank = self.next_rank;
        self.next_rank = self.next_rank.saturating_add(1);
        self.sources.insert(node, Source { rank, ..source });
        true
    }

    /// The best node to ask or to dial now: those that are said to have the chunk first, of these
    /// whoever is not silent, of these the connected ones that have room, of these the trusted,
    /// then the least loaded, then the quick, then in the order in which they were named.
    pub(super) fn next(
        &self,
        now: Time,
        peers: &Peers,
        load: impl Fn(&NodeId) -> Load,
        in_flight_max: usize,
    ) -> Option<NodeId> {
        let failed = |source: &Source| source.last.is_some();
        if planted::is_on(Bug::OneHolderOnly) && self.sources.values().any(failed) {
            return None;
        }
        let ready = self.sources.iter().filter_map(|(node, source)| {
            let is_up = peers.is_up(node);
            let load = load(node);
            let can = source.is_ready(now) && (!is_up || load.room(now, in_flight_max).is_ok());
            let (distrust, pace) = peers.fetch_rank(now, node);
            let doubts = (source.guessed, load.is_silent(now), !is_up, distrust);
            can.then_some(((doubts, load.in_flight, pace, source.rank), *node))
        });
        ready.min().map(|(_, node)| node)
    }

    /// Whether somebody is left to be asked, now or in a moment. Who was busy before, or is
    /// silent, is not waited for alone.
    pub(super) fn has_ready(&self, now: Time, load: impl Fn(&NodeId) -> Load) -> bool {
        let is_left = |(node, source): (&NodeId, &Source)| {
            matches!(source.state, State::Ready(_))
                && source.busy < BUSY_OFTEN
                && !load(node).is_stuck(now)
        };
        self.sources.iter().any(is_left)
    }

    /// Who may be asked, if there is room.
    pub(super) fn ready(&self, now: Time) -> impl Iterator<Item = &NodeId> {
        let ready = self.sources.iter().filter(move |(_, source)| source.is_ready(now));
        ready.map(|(node, _)| node)
    }

    /// Nodes that are being connected or asked, with the time since when, but for the late.
    pub(super) fn active(&self) -> impl Iterator<Item = (&NodeId, Time)> {
        self.sources.iter().filter_map(|(node, source)| match source.state {
            State::Dialing(since) | State::Asked(_, since) => Some((node, since)),
            State::Ready(_) | State::Late(_) | State::Failed | State::Banned => None,
        })
    }

    /// A node will not serve the chunk.
    pub(super) fn fail(&mut self, now: Time, node: &NodeId, failure: FetchFailure) {
        let Some(source) = self.sources.get_mut(node) else { return };
        source.last = Some(failure);
        source.state = match failure {
            FetchFailure::WrongBytes => State::Banned,
            // A guess is not worth waiting for.
            FetchFailure::Busy if source.guessed => State::Failed,
            FetchFailure::Busy => {
                let pause = BUSY_PAUSE * (1 << source.busy.min(4));
                source.busy = source.busy.saturating_add(1);
                State::Ready(now.after(pause))
            }
            FetchFailure::Unreachable
            | FetchFailure::NotHeld
            | FetchFailure::Late
            | FetchFailure::Damaged => State::Failed,
        };
    }

    /// Passes over whoever is silent for too long; gives back who that is.
    pub(super) fn mark_late(&mut self, is_late: impl Fn(&NodeId, Time) -> bool) -> Vec<NodeId> {
        let mut late = Vec::new();
        for (node, source) in &mut self.sources {
            if let State::Asked(request, since) = source.state
                && is_late(node, since)
            {
                source.state = State::Late(request);
                source.last = Some(FetchFailure::Late);
                late.push(*node);
            }
        }
        late
    }

    /// Ends it at once where all who were named have failed, and nobody else is asked.
    pub(super) fn end_if_in_vain(&mut self, now: Time) {
        let is_over = |source: &Source| matches!(source.state, State::Failed | State::Banned);
        if self.sources.values().all(is_over) {
            self.waiters.values_mut().for_each(|deadline| *deadline = now.min(*deadline));
        }
    }

    /// Gives everyone another chance who was away or slow.
    pub(super) fn revive(&mut self, now: Time) {
        for source in self.sources.values_mut().filter(|source| source.failed_in_passing()) {
            source.revive(now);
        }
    }

    /// When something is to be done without anything happening: a pause is over.
    pub(super) fn next_ready(&self) -> Option<Time> {
        let ready = self.sources.values().filter_map(|source| match source.state {
            State::Ready(at) => Some(at),
            _ => None,
        });
        ready.min()
    }

    /// Who was asked, and what each said last.
    pub(super) fn asked(&self) -> Vec<(NodeId, FetchFailure)> {
        let said = |source: &Source| match source.state {
            State::Asked(..) | State::Late(_) => Some(FetchFailure::Late),
            State::Dialing(_) => Some(FetchFailure::Unreachable),
            State::Ready(_) | State::Failed | State::Banned => source.last,
        };
        self.sources.iter().filter_map(|(node, source)| Some((*node, said(source)?))).collect()
    }

    /// Who was asked before `from` served it, and what each said last.
    pub(super) fn failed_before(&self, from: &NodeId) -> Vec<(NodeId, FetchFailure)> {
        let others = self.sources.iter().filter(|(node, _)| *node != from);
        others.filter_map(|(node, source)| Some((*node, source.last?))).collect()
    }
}

impl Source {
    fn new(now: Time, record: Bytes, via: Option<NodeId>, guessed: bool) -> Self {
        let state = State::Ready(now);
        Self { rank: 0, guessed, via, record, state, busy: 0, last: None }
    }

    fn is_unreachable(&self) -> bool {
        self.last == Some(FetchFailure::Unreachable)
    }

    fn is_ready(&self, now: Time) -> bool {
        matches!(self.state, State::Ready(at) if at <= now)
    }

    /// Whether it was away or slow, which says nothing about the next time. A guess is made once.
    pub(super) fn failed_in_passing(&self) -> bool {
        !self.guessed && matches!(self.last, Some(FetchFailure::Unreachable | FetchFailure::Late))
    }

    pub(super) fn revive(&mut self, now: Time) {
        if self.state == State::Failed {
            self.state = State::Ready(now);
        }
    }
}
