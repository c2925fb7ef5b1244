//! Volunteering for chunks, taking them in, and acknowledging what is durable.
//!
//! A chunk passes its checks from cheap to dear: bounds, rate, terms, room, the shape of its tags,
//! replay; then the proof (two scalar multiplications), then the hash over all its bytes. Only then
//! is it written.

use super::admission::{Admission, Room, promise};
use super::{Delayed, HolderRole, Lookup};
use crate::core::codec::{OFFERS_MAX, Reject};
use crate::core::effect::{Effect, StoreError, StoredChunk, Written};
use crate::core::message::{
    AnswerBody, StoreAck, StoreChunk, StoreClaim, StoreRefusal, StoreReject, StoreRequest,
    StreamMessage,
};
use crate::core::types::{
    Account, BatchId, ChunkId, LeaseNonce, LeaseTerms, NodeId, StoreEpoch, Ticket, Time,
};
use crate::crypto::ack::{AckStatement, AckedChunk, Receipt, receipt};
use crate::crypto::audit::are_tags;
use crate::crypto::head::HEAD_RECORD_BYTES;
use crate::crypto::header::Header;
use crate::crypto::keys::random;
use crate::crypto::ownership::{Context, Operation, Verifier, verify_header};
use crate::planted::{self, Bug};
use rand::RngExt;
use std::collections::BTreeMap;

/// A volunteer waits up to this long, so that a request's answers do not come all at once.
const CLAIM_JITTER_MS: u64 = 200;

/// A chunk that came, with what was worked out about it.
#[derive(Debug)]
pub(super) struct Arrival {
    id: ChunkId,
    chunk: StoreChunk,
    promised: LeaseTerms,
}

/// A chunk that was handed to the store. Holds no chunk bytes.
#[derive(Debug)]
pub(super) struct Writing {
    from: NodeId,
    batch: BatchId,
    account: Account,
    id: ChunkId,
    sealed_bytes: u32,
    receipt: Receipt,
}

/// Chunks that can share one signed statement.
pub(super) type AckGroup = (NodeId, BatchId, Account, [u8; 12], StoreEpoch);

impl HolderRole {
    /// A request from a topic: volunteer with the stated probability, after a jitter.
    pub(super) fn on_topic_store_request(
        &mut self,
        now: Time,
        from: NodeId,
        request: StoreRequest,
    ) {
        if let Err(reason) = self.admit_topic_request(now, from, request.digest()) {
            self.reject(from, reason);
            return;
        }
        // Without its own record, nobody could reach this node.
        let volunteers = !self.record.is_empty()
            && self.willing(&request)
            && self.rng.random_range(0..u16::MAX) < request.probability;
        if volunteers {
            self.delay(now, CLAIM_JITTER_MS, Delayed::Claim { from, request });
        } else {
            self.topic_work.give_back(from, 1);
        }
    }

    /// A request from a peer that knows this node: answered at once, also with a no.
    pub(super) fn on_direct_request(&mut self, now: Time, from: NodeId, request: StoreRequest) {
        if let Err(reason) = self.rates.direct.take(now, from) {
            self.reject(from, reason);
            return;
        }
        // One that is only overloaded just now says at least what it holds.
        if self.agrees(&request) && self.stream_work.take(from, 1) {
            let ids = request.offers.iter().map(|offer| offer.id).collect();
            self.find(ids, Lookup::StreamClaim { from, request });
        } else {
            let claim =
                StoreClaim { contact: None, ephemeral: request.ephemeral, wants: 0, holds: 0 };
            self.send(from, StreamMessage::StoreClaim(claim));
        }
    }

    /// Whether this node takes chunks on these terms at all: the store takes writes, and the terms
    /// are within the policy.
    fn agrees(&self, request: &StoreRequest) -> bool {
        self.admission.available().is_some() && promise(&request.terms, &self.limits).is_some()
    }

    /// Whether it takes them now: the writes on their way leave half of their bound free.
    fn willing(&self, request: &StoreRequest) -> bool {
        self.agrees(request) && self.writing_bytes.total() <= self.limits.writing_bytes / 2
    }

    /// The claim for a request: what is held already, and of the rest what there is room for.
    fn claim(&self, request: &StoreRequest, found: &[Option<Header>]) -> StoreClaim {
        let mut room = self.admission.available().unwrap_or(0);
        let (mut wants, mut holds) = (0u64, 0u64);
        for (at, offer) in request.offers.iter().enumerate().take(OFFERS_MAX) {
            let bit = 1u64 << at;
            let needs = Admission::disk_bytes(offer.sealed_bytes);
            // A full holder has space for heads still.
            let is_head = offer.sealed_bytes == HEAD_RECORD_BYTES as u32;
            if found.get(at).is_some_and(Option::is_some) {
                holds |= bit;
                wants |= bit;
            } else if needs <= room || is_head {
                room = room.saturating_sub(needs);
                wants |= bit;
            }
        }
        StoreClaim { contact: None, ephemeral: request.ephemeral, wants, holds }
    }

    pub(super) fn answer_with_claim(
        &mut self,
        now: Time,
        from: NodeId,
        request: &StoreRequest,
        found: &[Option<Header>],
    ) {
        let claim = self.claim(request, found);
        if claim.wants == 0 || self.record.is_empty() {
            return;
        }
        if !self.rates.claims.take(now) {
            return self.reject(from, Reject::RateLimited);
        }
        let claim = StoreClaim { contact: Some(self.contact()), ..claim };
        match self.sealed(&request.ephemeral, request.digest(), AnswerBody::Claim(claim)) {
            Some((topic, message)) => self.effects.push_back(Effect::Publish { topic, message }),
            None => self.reject(from, Reject::Malformed),
        }
    }

    pub(super) fn send_claim(
        &mut self,
        from: NodeId,
        request: &StoreRequest,
        found: &[Option<Header>],
    ) {
        let mut claim = self.claim(request, found);
        if !self.willing(request) {
            claim.wants = claim.holds;
        }
        self.send(from, StreamMessage::StoreClaim(claim));
    }

    pub(super) fn on_store_chunk(&mut self, now: Time, from: NodeId, chunk: StoreChunk) {
        let (batch, id) = (chunk.batch, chunk.header.id());
        let bytes = chunk.sealed.len() as u64;
        if !self.writing_bytes.take(from, bytes) {
            self.reject(from, Reject::TableFull);
            return self.refuse(from, batch, id, StoreRefusal::Busy);
        }
        // Taken here, and given back once the chunk has proven itself.
        if let Err(reason) = self.rates.unproven.take(now, from) {
            self.writing_bytes.give_back(from, bytes);
            self.reject(from, reason);
            // A refusal is smaller than any chunk, so nobody is made to send more than it sent.
            if self.rates.put_off.take(now, from).is_ok() {
                self.refuse(from, batch, id, StoreRefusal::Busy);
            }
            return;
        }
        let Some(promised) = promise(&chunk.terms, &self.limits) else {
            self.writing_bytes.give_back(from, bytes);
            return self.refuse(from, batch, id, StoreRefusal::Unwilling);
        };
        let account = (&chunk.account, chunk.header.sealed_bytes);
        let room = self.admission.room(now, &from, account, &self.limits);
        let arrival = Arrival { id, chunk, promised };
        match room {
            Room::Enough => self.verify_and_write(now, from, arrival),
            Room::Closed => self.turn_down(from, &arrival, StoreRefusal::Failed, None),
            Room::Short | Room::OverQuota if self.stream_work.take(from, 1) => {
                let refusal = match room {
                    Room::OverQuota => StoreRefusal::OverQuota,
                    _ => StoreRefusal::Full,
                };
                let arrival = Box::new(arrival);
                self.find(vec![id], Lookup::Short { from, arrival, refusal });
            }
            Room::Short | Room::OverQuota => {
                self.turn_down(from, &arrival, StoreRefusal::Busy, Some(Reject::TableFull));
            }
        }
    }

    /// There was no room for a new chunk; one that is held already needs none.
    pub(super) fn on_short_found(
        &mut self,
        now: Time,
        from: NodeId,
        arrival: Arrival,
        refusal: StoreRefusal,
        found: &[Option<Header>],
    ) {
        if found.first().is_some_and(Option::is_some) {
            self.verify_and_write(now, from, arrival);
        } else {
            self.turn_down(from, &arrival, refusal, None);
        }
    }

    /// The dear checks, then the store.
    fn verify_and_write(&mut self, now: Time, from: NodeId, arrival: Arrival) {
        let receipt = match self.verified(from, &arrival) {
            Ok(receipt) => receipt,
            Err(reason) => {
                return self.turn_down(from, &arrival, StoreRefusal::Invalid, Some(reason));
            }
        };
        self.rates.unproven.refund(from);
        let Arrival { id, chunk, promised } = arrival;
        let sealed_bytes = chunk.header.sealed_bytes;
        self.admission.reserve(now, from, chunk.account, sealed_bytes);
        let ticket = self.ticket();
        let lease = if planted::is_on(Bug::ReuseLease) { [0; 16] } else { random(&mut self.rng) };
        let writing =
            Writing { from, batch: chunk.batch, account: chunk.account, id, sealed_bytes, receipt };
        self.writing.insert(ticket, writing);
        let chunk = Box::new(StoredChunk {
            header: chunk.header,
            proof_nonce: chunk.nonce,
            proof: chunk.proof,
            account: chunk.account,
            lease: LeaseNonce::from_bytes(lease),
            terms: promised,
            tags: chunk.tags,
            sealed: chunk.sealed,
        });
        self.effects.push_back(Effect::WriteChunk { ticket, chunk });
    }

    /// Checks the tags' shape, the proof, then the bytes, and works out the receipt. Whether the
    /// tags are right the owner alone can tell: its proof covers them.
    fn verified(&mut self, from: NodeId, arrival: &Arrival) -> Result<Receipt, Reject> {
        let Arrival { id, chunk, .. } = arrival;
        if !are_tags(chunk.sealed.len(), &chunk.tags) {
            return Err(Reject::Malformed);
        }
        let key = Self::proof_key(Operation::Store, id, &chunk.nonce);
        if self.proofs_seen.contains(&key) {
            return Err(Reject::Replayed);
        }
        let context = Context {
            operation: Operation::Store,
            mesh: self.hello.mesh,
            verifier: Verifier::Node(self.me()),
            asker: Some(from),
            nonce: chunk.nonce,
            body_hash: StoreChunk::body_hash(&chunk.account, &chunk.terms, &chunk.tags),
        };
        let proven = verify_header(&chunk.header, &context, &chunk.proof);
        if !proven && !planted::is_on(Bug::SkipStoreProof) {
            return Err(Reject::BadProof);
        }
        self.proofs_seen.insert(from, key);
        if !chunk.header.certifies(&chunk.sealed) {
            return Err(Reject::WrongBytes);
        }
        let pair = self.keys.pair_key(&chunk.account).ok_or(Reject::Malformed)?;
        Ok(receipt(&pair, &chunk.seed, id, &chunk.sealed))
    }

    /// Refuses a chunk whose bytes were counted already.
    fn turn_down(
        &mut self,
        from: NodeId,
        arrival: &Arrival,
        refusal: StoreRefusal,
        reason: Option<Reject>,
    ) {
        self.writing_bytes.give_back(from, arrival.chunk.sealed.len() as u64);
        if let Some(reason) = reason {
            self.reject(from, reason);
        }
        self.refuse(from, arrival.chunk.batch, arrival.id, refusal);
    }

    pub(super) fn refuse(&mut self, to: NodeId, batch: BatchId, id: ChunkId, reason: StoreRefusal) {
        self.send(to, StreamMessage::StoreReject(StoreReject { batch, id, reason }));
    }

    /// The only place that acknowledges: the store says that these are durable, or failed. What
    /// one group commit made durable for one batch shares its signatures.
    pub(super) fn on_chunks_written(
        &mut self,
        results: Vec<(Ticket, Result<Written, StoreError>)>,
    ) {
        let mut groups: BTreeMap<AckGroup, Vec<AckedChunk>> = BTreeMap::new();
        for (ticket, result) in results {
            let Some(writing) = self.writing.remove(&ticket) else {
                continue;
            };
            let Writing { from, batch, account, id, sealed_bytes, receipt } = writing;
            self.writing_bytes.give_back(from, sealed_bytes.into());
            let added_bytes = result.as_ref().ok().map(|written| written.added_bytes);
            self.admission.settle(account, sealed_bytes, added_bytes);
            match result {
                // What is promised is what the store keeps: older terms where it held the chunk.
                Ok(Written { lease, terms, epoch, .. }) => {
                    self.notices.forget(&account, &id);
                    let group = (from, batch, account, terms.encode(), epoch);
                    groups.entry(group).or_default().push(AckedChunk { id, lease, receipt });
                }
                Err(error) => {
                    if error == StoreError::ReadOnly {
                        self.admission.set_read_only();
                    }
                    self.refuse(from, batch, id, refusal_of(error));
                }
            }
        }
        for (group, chunks) in groups {
            self.acknowledge(group, chunks);
        }
    }

    /// Signs and sends acks of at most 64 chunks, none twice in one of them.
    pub(super) fn acknowledge(&mut self, group: AckGroup, chunks: Vec<AckedChunk>) {
        let (to, ..) = group;
        let mut ack: Vec<AckedChunk> = Vec::new();
        for chunk in chunks {
            if ack.len() >= OFFERS_MAX || ack.iter().any(|other| other.id == chunk.id) {
                let full = std::mem::take(&mut ack);
                self.send_ack(to, &group, full);
            }
            ack.push(chunk);
        }
        self.send_ack(to, &group, ack);
    }

    fn send_ack(&mut self, to: NodeId, group: &AckGroup, chunks: Vec<AckedChunk>) {
        let (_, batch, account, terms, epoch) = *group;
        let terms = LeaseTerms::decode(&terms);
        let mesh = self.hello.mesh;
        let statement = AckStatement { mesh, account, batch, epoch, terms, chunks };
        let signature = statement.sign(&self.keys);
        let chunks = statement.chunks;
        let ack = StoreAck { batch, account, epoch, terms, chunks, signature };
        self.send(to, StreamMessage::StoreAck(ack));
    }
}

pub(super) fn refusal_of(error: StoreError) -> StoreRefusal {
    match error {
        StoreError::Full => StoreRefusal::Full,
        StoreError::Busy => StoreRefusal::Busy,
        StoreError::OtherAccount => StoreRefusal::Unwilling,
        StoreError::Superseded => StoreRefusal::Superseded,
        StoreError::TooFarAhead => StoreRefusal::Invalid,
        StoreError::TooManyHeads => StoreRefusal::TooManyHeads,
        StoreError::NotFound | StoreError::Damaged | StoreError::ReadOnly | StoreError::Io => {
            StoreRefusal::Failed
        }
    }
}
