//! Handing chunks out, to whoever proves knowledge of y on an authenticated stream; and telling a
//! nameless asker on a topic, by a sealed box and by nothing else, that they are here.

use super::bounds::Budget;
use super::{Delayed, HolderRole, Lookup};
use crate::core::codec::Reject;
use crate::core::effect::{Effect, Found, StoreError};
use crate::core::message::{
    AnswerBody, ChunkData, Retrieve, RetrieveOffer, RetrieveRefusal, RetrieveReject, SearchKind,
    SearchRequest, StreamMessage,
};
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::header::Header;
use crate::crypto::ownership::{
    Context, Operation, Statement, Verifier, body_hash, verify_batch, verify_header,
};
use crate::planted::{self, Bug};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// An offer waits up to this long, so that a request's answers do not come all at once.
const OFFER_JITTER_MS: u64 = 100;

/// Proven retrieves: a queue for each peer, served in turn, and a few reads at a time.
#[derive(Debug)]
pub(super) struct Reads {
    queues: BTreeMap<NodeId, VecDeque<(u64, ChunkId)>>,
    queued: Budget,
    reading: BTreeMap<Ticket, (NodeId, u64)>,
    slots: Budget,
    /// Whose turn it was last.
    last: Option<NodeId>,
}

impl Reads {
    pub(super) fn new(limits: &super::HolderLimits) -> Self {
        Self {
            queues: BTreeMap::new(),
            queued: Budget::new(limits.queued_reads_per_peer, limits.queued_reads),
            reading: BTreeMap::new(),
            slots: Budget::new(limits.reads_per_peer, limits.reads),
            last: None,
        }
    }

    pub(super) fn reading(&self) -> u64 {
        self.slots.total()
    }

    pub(super) fn queued(&self) -> u64 {
        self.queued.total()
    }

    /// Queues a read; `false` at the bound.
    fn push(&mut self, from: NodeId, request: u64, id: ChunkId) -> bool {
        let fits = self.queued.take(from, 1);
        if fits {
            self.queues.entry(from).or_default().push_back((request, id));
        }
        fits
    }

    /// The next read that may begin: of the peers with a free slot, the one after the last served.
    fn next(&mut self) -> Option<(NodeId, u64, ChunkId)> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.queues.range((after, Bound::Unbounded)).map(|(node, _)| *node);
        let mut order = later.chain(self.queues.keys().copied());
        let slots = &mut self.slots;
        let from = order.find(|node| slots.take(*node, 1))?;
        let queue = self.queues.get_mut(&from)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&from);
        }
        self.queued.give_back(from, 1);
        self.last = Some(from);
        next.map(|(request, id)| (from, request, id))
    }

    /// Ends a read.
    fn finish(&mut self, ticket: Ticket) -> Option<(NodeId, u64)> {
        let done = self.reading.remove(&ticket)?;
        self.slots.give_back(done.0, 1);
        Some(done)
    }

    /// Drops what a peer that is away waits for. Reads that have begun end by themselves.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(queue) = self.queues.remove(&node) {
            self.queued.give_back(node, queue.len() as u64);
        }
    }
}

impl HolderRole {
    pub(super) fn on_retrieve(&mut self, now: Time, from: NodeId, retrieve: Retrieve) {
        if !self.stream_work.take(from, 1) {
            return self.put_off(now, from, retrieve.request, Reject::TableFull);
        }
        // Taken here, and given back once the proof has verified.
        if let Err(reason) = self.rates.unproven.take(now, from) {
            self.stream_work.give_back(from, 1);
            return self.put_off(now, from, retrieve.request, reason);
        }
        self.find(vec![retrieve.id], Lookup::StreamRetrieve { from, retrieve });
    }

    /// A chunk that is not held and a proof that does not verify get the same answer.
    pub(super) fn on_retrieve_found(
        &mut self,
        from: NodeId,
        retrieve: &Retrieve,
        found: &[Option<Header>],
    ) {
        let Retrieve { request, id, .. } = *retrieve;
        let Some(Some(header)) = found.first() else {
            return self.decline(from, request, RetrieveRefusal::NotHeld);
        };
        if let Err(reason) = self.check_retrieve(from, retrieve, header) {
            self.reject(from, reason);
            return self.decline(from, request, RetrieveRefusal::NotHeld);
        }
        self.rates.unproven.refund(from);
        // The peer may have left while the catalogue was asked.
        if !self.peers.contains(&from) {
            return;
        }
        if !self.reads.push(from, request, id) {
            return self.decline(from, request, RetrieveRefusal::Busy);
        }
        self.begin_reads();
    }

    fn check_retrieve(
        &mut self,
        from: NodeId,
        retrieve: &Retrieve,
        header: &Header,
    ) -> Result<(), Reject> {
        let key = Self::proof_key(Operation::Retrieve, &retrieve.id, &retrieve.nonce);
        if self.proofs_seen.contains(&key) {
            return Err(Reject::Replayed);
        }
        let context = Context {
            operation: Operation::Retrieve,
            mesh: self.hello.mesh,
            verifier: Verifier::Node(self.me()),
            asker: Some(from),
            nonce: retrieve.nonce,
            body_hash: body_hash(&[&retrieve.request.to_le_bytes()]),
        };
        let proven = verify_header(header, &context, &retrieve.proof);
        if !proven && !planted::is_on(Bug::SkipProofCheck) {
            return Err(Reject::BadProof);
        }
        self.proofs_seen.insert(from, key);
        Ok(())
    }

    fn begin_reads(&mut self) {
        while let Some((from, request, id)) = self.reads.next() {
            let ticket = self.ticket();
            self.reads.reading.insert(ticket, (from, request));
            self.effects.push_back(Effect::ReadChunk { ticket, id });
        }
    }

    pub(super) fn on_chunk_read(
        &mut self,
        ticket: Ticket,
        result: Result<(Header, Bytes), StoreError>,
    ) {
        let Some((from, request)) = self.reads.finish(ticket) else {
            return;
        };
        match result {
            Ok((header, sealed)) => {
                let data = ChunkData { request, header, sealed };
                self.send(from, StreamMessage::ChunkData(data));
            }
            Err(error) => self.decline(from, request, refusal_of(error)),
        }
        self.begin_reads();
    }

    /// Tells a peer that asks too much to come back later; one that does not stop is told nothing.
    pub(super) fn put_off(&mut self, now: Time, from: NodeId, request: u64, reason: Reject) {
        self.reject(from, reason);
        if self.rates.put_off.take(now, from).is_ok() {
            self.decline(from, request, RetrieveRefusal::Busy);
        }
    }

    pub(super) fn decline(&mut self, to: NodeId, request: u64, reason: RetrieveRefusal) {
        self.send(to, StreamMessage::RetrieveReject(RetrieveReject { request, reason }));
    }

    pub(super) fn on_topic_search_request(
        &mut self,
        now: Time,
        from: NodeId,
        request: SearchRequest,
    ) {
        if let Err(reason) = self.admit_topic_request(now, from, request.digest()) {
            return self.reject(from, reason);
        }
        if self.record.is_empty() {
            return self.topic_work.give_back(from, 1);
        }
        let ids = request.wanted.iter().map(|(id, _)| *id).collect();
        self.find(ids, Lookup::TopicSearch { from, request });
    }

    /// Offers what is held and proven: of each wanted chunk or head `all` says what there is, and
    /// `found` the header of a chunk that is offered. One bad proof spoils the request (no honest
    /// asker sends one), so that all are checked in one go.
    pub(super) fn answer_with_offer(
        &mut self,
        now: Time,
        from: NodeId,
        request: &SearchRequest,
        (all, found): (&[Option<Found>], &[Option<Header>]),
    ) {
        let kind = request.kind;
        let point = |(one, header): (&Option<Found>, &Option<Header>)| match one {
            // Who keeps a head stands in it: only whoever fetches looks for it.
            Some(Found::Head { read }) => (kind == SearchKind::Retrieve).then_some(*read),
            _ => header.map(|header| *kind.operation().point(&header)),
        };
        let points: Vec<_> = all.iter().zip(found).map(point).collect();
        match self.offer(request, &points) {
            Ok(Some((topic, message))) => {
                let answer = Delayed::Publish { from, topic, message };
                return self.delay(now, OFFER_JITTER_MS, answer);
            }
            Ok(None) => {}
            Err(reason) => self.reject(from, reason),
        }
        self.topic_work.give_back(from, 1);
    }

    fn offer(
        &mut self,
        request: &SearchRequest,
        points: &[Option<[u8; 32]>],
    ) -> Result<Option<(super::Topic, super::TopicMessage)>, Reject> {
        let context = request.context(self.hello.mesh);
        let mut holds = 0u32;
        let mut statements = Vec::new();
        for (at, ((id, proof), point)) in request.wanted.iter().zip(points).enumerate() {
            let (Some(point), Some(bit)) = (point, bit(at)) else {
                continue;
            };
            holds |= bit;
            statements.push(Statement { point, id, context: &context, proof });
        }
        if !verify_batch(&statements, &mut self.rng) {
            return Err(Reject::BadProof);
        }
        if holds == 0 || self.record.is_empty() {
            return Ok(None);
        }
        let offer = RetrieveOffer { contact: Some(self.contact()), holds };
        let sealed = self.sealed(&request.ephemeral, request.digest(), AnswerBody::Offer(offer));
        sealed.map(Some).ok_or(Reject::Malformed)
    }
}

/// The bit of the wanted chunk at this place.
fn bit(at: usize) -> Option<u32> {
    1u32.checked_shl(u32::try_from(at).ok()?)
}

/// A disk that fails now may not fail later: the asker tries elsewhere or again.
pub(super) fn refusal_of(error: StoreError) -> RetrieveRefusal {
    match error {
        StoreError::NotFound => RetrieveRefusal::NotHeld,
        StoreError::Damaged => RetrieveRefusal::Damaged,
        StoreError::Busy
        | StoreError::Io
        | StoreError::Full
        | StoreError::ReadOnly
        | StoreError::OtherAccount
        | StoreError::Superseded
        | StoreError::TooFarAhead
        | StoreError::TooManyHeads => RetrieveRefusal::Busy,
    }
}
