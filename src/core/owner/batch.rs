//! One batch of chunks on offer: what was asked for it, and who would take what.
//!
//! A batch has at most 64 chunks, so "which of them" is one bit each in a `u64`, by position.
//! Bounds: [`ASKS_MAX`] requests can still be answered, each as often as `owner/opened.rs` says;
//! [`CANDIDATES_MAX`] nodes are candidates, of which [`CANDIDATES_PER_FORWARDER`] that are not
//! connected may have come through one neighbour.

use super::opened::Opened;
use super::outbox::Schedule;
use crate::core::message::Offer;
use crate::core::placement::Standing;
use crate::core::types::{AnswerTag, ChunkId, Locality, NodeId, RequestDigest, Time};
use crate::crypto::seal::AnswerSecret;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const ASKS_MAX: usize = 3;
pub(super) const CANDIDATES_MAX: usize = 64;
/// As many as the largest quorum: one neighbour may be all there is.
pub(super) const CANDIDATES_PER_FORWARDER: usize = 32;

/// A node that would take some of the chunks.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which it would take.
    pub(super) wants: u64,
    /// Which it holds already.
    pub(super) holds: u64,
    /// Its signed PeerRecord; empty where it is connected.
    pub(super) record: Bytes,
    /// Where it says it stands; what was observed goes before.
    pub(super) declared: Standing,
    /// It could not be reached, and did not claim again since.
    pub(super) unreachable: bool,
    /// The neighbour through which its claim came; `None` where it claimed on a stream.
    pub(super) via: Option<NodeId>,
}

/// One request that was sent out for the batch.
#[derive(Debug)]
pub(super) struct Ask {
    /// Opens the answers.
    pub(super) secret: AnswerSecret,
    /// Names the request; the public half of the secret.
    pub(super) ephemeral: [u8; 32],
    /// What went out on the topic: sealed answers are signed for it.
    pub(super) request: RequestDigest,
    /// Position in the batch of each chunk of the request.
    positions: Vec<usize>,
    /// Nodes that were asked over a stream and have not answered.
    pub(super) asked: BTreeSet<NodeId>,
    /// Nodes that answered.
    pub(super) answered: BTreeSet<NodeId>,
    /// Answers opened so far.
    pub(super) opened: Opened,
    /// It went out on the topic.
    pub(super) gossip: bool,
}

impl Ask {
    /// Bits by position in the request, as bits by position in the batch.
    pub(super) fn widen(&self, bits: u64) -> u64 {
        let set = self.positions.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
        set.fold(0, |wide, (_, position)| wide | 1 << position)
    }
}

/// One batch.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) locality: Locality,
    /// The chunks; a position names one.
    offers: Vec<Offer>,
    /// Which of them have not reached their quorum.
    open: u64,
    pub(super) candidates: BTreeMap<NodeId, Candidate>,
    pub(super) asks: VecDeque<Ask>,
    pub(super) schedule: Schedule,
    /// Claims had the time to come in: chunks may be placed.
    pub(super) settled: bool,
    /// When its turn to be published is.
    pub(super) turn: Option<Time>,
    /// Shuffles equals.
    pub(super) tie_break: u64,
}

impl Batch {
    /// A batch of at most 64 `offers`.
    pub(super) fn new(locality: Locality, offers: Vec<Offer>, tie_break: u64) -> Self {
        let open = (0..offers.len().min(64)).fold(0, |bits, at| bits | 1 << at);
        Self {
            locality,
            offers,
            open,
            candidates: BTreeMap::new(),
            asks: VecDeque::new(),
            schedule: Schedule::default(),
            settled: false,
            turn: None,
            tie_break,
        }
    }

    /// What a node's reputation is worth to this batch. In one batch of four a good one is worth no
    /// more than none: else the first that served well would get everything, and nobody new could
    /// ever prove itself.
    pub(super) fn trust(&self, score: Option<i32>) -> Option<i32> {
        let is_blind = self.tie_break.is_multiple_of(4);
        score.map(|score| if is_blind { score.min(0) } else { score })
    }

    /// The chunks without a quorum, with their positions.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &Offer)> {
        self.offers.iter().enumerate().filter(|(at, _)| self.open >> at & 1 == 1)
    }

    /// The ids of [`Self::open`].
    pub(super) fn open_ids(&self) -> Vec<ChunkId> {
        self.open().map(|(_, offer)| offer.id).collect()
    }

    pub(super) fn is_over(&self) -> bool {
        self.open == 0
    }

    /// The chunk at this position is done with.
    pub(super) fn close(&mut self, position: usize) {
        self.open &= !(1 << position);
    }

    /// Notes a request for all open chunks; gives back the tag of one that is too old now.
    pub(super) fn asked(
        &mut self,
        (secret, request): (AnswerSecret, RequestDigest),
        asked: BTreeSet<NodeId>,
        gossip: bool,
    ) -> Option<AnswerTag> {
        let ephemeral = secret.public();
        let positions = self.open().map(|(at, _)| at).collect();
        let answered = BTreeSet::new();
        let opened = Opened::default();
        let ask = Ask { secret, ephemeral, request, positions, asked, answered, opened, gossip };
        self.asks.push_back(ask);
        let is_old = self.asks.len() > ASKS_MAX;
        is_old.then(|| self.asks.pop_front()).flatten().map(|ask| AnswerTag::of(&ask.ephemeral))
    }

    /// The request with this one-time key.
    pub(super) fn ask(&mut self, ephemeral: &[u8; 32]) -> Option<&mut Ask> {
        self.asks.iter_mut().find(|ask| ask.ephemeral == *ephemeral)
    }

    /// Takes a candidate in. At a bound it takes the place of one that could not be reached; one
    /// that is connected also the place of one that is not. Nobody that was given something (not
    /// `is_idle`) has to go. Others are turned away.
    pub(super) fn admit(
        &mut self,
        node: NodeId,
        candidate: Candidate,
        is_connected: bool,
        is_idle: impl Fn(&NodeId) -> bool,
    ) -> bool {
        let same_way = |other: &Candidate| other.via.is_some() && other.via == candidate.via;
        let through = self.candidates.values().filter(|other| same_way(other)).count();
        let is_crowded = !is_connected && through >= CANDIDATES_PER_FORWARDER;
        let is_full = self.candidates.len() >= CANDIDATES_MAX;
        if (is_crowded || is_full) && !self.candidates.contains_key(&node) {
            let mut idle = self.candidates.iter().filter(|(node, _)| is_idle(node));
            let gone = if is_crowded {
                idle.find(|(_, other)| other.unreachable && same_way(other))
            } else {
                let order = |(node, other): &(&NodeId, &Candidate)| (!other.unreachable, **node);
                let worst = idle.min_by_key(order);
                worst.filter(|(_, other)| other.unreachable || is_connected)
            };
            let Some(gone) = gone.map(|(node, _)| *node) else { return false };
            self.candidates.remove(&gone);
        }
        self.candidates.insert(node, candidate);
        true
    }
}
