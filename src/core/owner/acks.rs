//! What a holder says to what it was sent.

use super::delivery::{Delivery, Item, Store, Took};
use super::shared::Shared;
use super::store::{Grant, Job, StoreFlow};
use super::timers::Wake;
use crate::core::codec::Reject;
use crate::core::message::{StoreAck, StoreRefusal, StoreReject};
use crate::core::quorum::Recorded;
use crate::core::reputation::Deed;
use crate::core::types::{ChunkId, LeaseNonce, LeaseTerms, NodeId, StoreEpoch, Time};
use crate::crypto::ack::{AckStatement, AckedChunk, receipts_match};
use crate::planted::{self, Bug};
use std::time::Duration;

/// A busy holder is asked again after so long.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// A holder that is full, failed or unwilling is not asked directly for so long.
const FULL_PAUSE: Duration = Duration::from_secs(60);
/// A holder that takes no more of this owner is given nothing new for so long: each try costs the
/// transfer of what is on its way, and frees nothing.
const QUOTA_PAUSE: Duration = Duration::from_secs(600);

/// An ack of one chunk after all its checks. Made in this file only.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) id: ChunkId,
    pub(super) node: NodeId,
    pub(super) lease: LeaseNonce,
    pub(super) epoch: StoreEpoch,
}

impl StoreFlow {
    /// An ack: everything in it must have been sent to this very node, and be signed by it.
    pub(super) fn on_ack(&mut self, now: Time, shared: &mut Shared, from: NodeId, ack: StoreAck) {
        let batch = ack.batch;
        let Some(delivery) = self.deliveries.get(&from) else {
            return shared.reject(from, Reject::Unsolicited);
        };
        let fresh = match fresh_chunks(delivery, &ack) {
            Ok(fresh) => fresh,
            Err(reason) => return shared.reject(from, reason),
        };
        if !promises_enough(&ack.terms, &shared.terms) {
            return shared.reject(from, Reject::Malformed);
        }
        let StoreAck { account, epoch, terms, chunks, signature, .. } = ack;
        let statement = AckStatement { mesh: shared.mesh, account, batch, epoch, terms, chunks };
        let signed = statement.verify(&from, &signature) || planted::is_on(Bug::SkipAckSignature);
        if account != delivery.account || !signed {
            let ids: Vec<ChunkId> = fresh.iter().map(|chunk| chunk.id).collect();
            return self.on_lie(now, shared, from, batch, &ids);
        }
        let matches = |chunk: &AckedChunk| {
            let expected = delivery.expected(&(batch, chunk.id));
            let right = expected.is_some_and(|expected| receipts_match(&expected, &chunk.receipt));
            right && self.is_lease(&(batch, chunk.id), &chunk.lease)
        };
        let (good, bad): (Vec<AckedChunk>, Vec<AckedChunk>) =
            fresh.into_iter().partition(|chunk| matches(chunk));
        if !good.is_empty() && self.on_epoch(now, shared, from, epoch) == Store::Unsteady {
            let ids: Vec<ChunkId> = good.iter().chain(&bad).map(|chunk| chunk.id).collect();
            self.on_lie(now, shared, from, batch, &ids);
            return self.pump(now, shared, from);
        }
        for chunk in good {
            let AckedChunk { id, lease, .. } = chunk;
            self.record(now, shared, (batch, id), Verified { id, node: from, lease, epoch });
        }
        if !bad.is_empty() {
            let ids: Vec<ChunkId> = bad.iter().map(|chunk| chunk.id).collect();
            self.on_lie(now, shared, from, batch, &ids);
        }
        self.pump(now, shared, from);
    }

    /// The node speaks for this store. Where that is another one, its acks before count no more.
    pub(super) fn on_epoch(
        &mut self,
        now: Time,
        shared: &mut Shared,
        node: NodeId,
        epoch: StoreEpoch,
    ) -> Store {
        let store = self.deliveries.get_mut(&node).map(|delivery| delivery.on_epoch(epoch));
        let store = store.unwrap_or(Store::Same);
        match store {
            Store::Same => {}
            Store::Another => self.void_acks(now, shared, node, None),
            Store::Unsteady => self.void_acks(now, shared, node, Some(Grant::Lied)),
        }
        store
    }

    /// The node has another store than the one for which it acknowledged before: what it said then
    /// counts no more, and those chunks need somebody else, or the same node anew, where it did not
    /// lie. What was reported as stored already is for whoever heard it to doubt: the ack that
    /// comes names the new store.
    fn void_acks(&mut self, now: Time, shared: &mut Shared, node: NodeId, became: Option<Grant>) {
        for finished in &mut self.finished {
            finished.quorum.void(&node);
        }
        let voided = |(id, job): (&ChunkId, &mut Job)| job.quorum.void(&node).then_some(*id);
        let voided: Vec<ChunkId> = self.jobs.iter_mut().filter_map(voided).collect();
        for id in voided {
            if let (Some(grant), Some(job)) = (became, self.jobs.get_mut(&id)) {
                job.grants.insert(node, grant);
                job.quorum.refuse(node);
            }
            self.place_chunk(now, shared, &id);
        }
    }

    fn record(&mut self, now: Time, shared: &mut Shared, item: Item, ack: Verified) {
        let delivery = self.deliveries.get_mut(&ack.node);
        if let Some(took) = delivery.and_then(|delivery| delivery.on_answer(now, &item)) {
            let Took { after, in_time } = took;
            shared.peers.rate(now, ack.node, Deed::Acked { after, in_time });
        }
        let standing = shared.peers.standing(&ack.node);
        let place = self.jobs.get(&ack.id).and_then(|job| job.place);
        let batch = place.and_then(|(batch, _)| self.batches.get_mut(&batch));
        batch.into_iter().for_each(|batch| batch.schedule.helped());
        let quorum = match self.job_of(&item) {
            Some(job) => {
                job.grants.remove(&ack.node);
                (!job.without.contains(&ack.node)).then_some(&mut job.quorum)
            }
            None => {
                let mut finished = self.finished.iter_mut();
                finished.find(|finished| finished.id == ack.id).map(|finished| &mut finished.quorum)
            }
        };
        // A job that was given anew knows nothing of what an earlier one sent; the delivery does.
        let recorded = quorum.map(|quorum| {
            quorum.sent(ack.node);
            quorum.ack(ack.node, standing)
        });
        match recorded {
            Some(Recorded::Counted | Recorded::SharedDomain) => {
                self.report_ack(shared, &ack);
                self.conclude(shared, &ack.id);
                // Where it turned out to share a domain, another one is needed after all.
                self.place_chunk(now, shared, &ack.id);
            }
            // Cancelled since, or acknowledged for another batch.
            Some(Recorded::Again | Recorded::NeverSent) | None => {}
        }
    }

    /// A false ack: the node gets no further chance with these chunks.
    fn on_lie(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        batch: crate::core::types::BatchId,
        ids: &[ChunkId],
    ) {
        shared.reject(from, Reject::BadProof);
        shared.peers.rate(now, from, Deed::Lied);
        for id in ids {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            if job.place.is_some_and(|(current, _)| current == batch) {
                job.grants.insert(from, Grant::Lied);
                job.quorum.refuse(from);
            }
            self.place_chunk(now, shared, id);
        }
    }

    /// A refusal: another candidate gets the chunk.
    pub(super) fn on_reject(
        &mut self,
        now: Time,
        shared: &mut Shared,
        from: NodeId,
        reject: StoreReject,
    ) {
        let StoreReject { batch, id, reason } = reject;
        let item = (batch, id);
        let Some(delivery) = self.deliveries.get_mut(&from) else {
            return shared.reject(from, Reject::Unsolicited);
        };
        if !delivery.is_open(&item) {
            let replayed = delivery.is_done(&item);
            let reason = if replayed { Reject::Replayed } else { Reject::Unsolicited };
            return shared.reject(from, reason);
        }
        delivery.on_refusal(now, &item);
        if !is_of_heads(reason) {
            self.rate_refusal(now, shared, from, reason);
        } else if self.jobs.get(&id).is_some_and(|job| !job.load.is_head()) {
            // Chunks are never superseded: who says so of one is as good as broken.
            self.rate_refusal(now, shared, from, StoreRefusal::Failed);
        } else if reason == StoreRefusal::Superseded && self.job_of(&item).is_some() {
            self.report_superseded(shared, id, from);
        }
        if let Some(job) = self.jobs.get_mut(&id)
            && job.place.is_some_and(|(current, _)| current == batch)
            && job.grants.get(&from) != Some(&Grant::Lied)
        {
            job.grants.insert(from, Grant::Refused(reason));
            job.quorum.refuse(from);
            if reason == StoreRefusal::Busy {
                let again = now.after(BUSY_PAUSE);
                shared.timers.set_no_later(Wake::Settle(batch), again);
            }
        }
        self.place_chunk(now, shared, &id);
        self.pump(now, shared, from);
    }

    fn rate_refusal(&self, now: Time, shared: &mut Shared, node: NodeId, reason: StoreRefusal) {
        let (deed, pause) = match reason {
            StoreRefusal::Busy => (Some(Deed::Busy), BUSY_PAUSE),
            // Honest, and no fault of the node.
            StoreRefusal::Full | StoreRefusal::Unwilling => (None, FULL_PAUSE),
            StoreRefusal::OverQuota => {
                shared.peers.over_quota(now, node, QUOTA_PAUSE);
                (None, QUOTA_PAUSE)
            }
            StoreRefusal::Invalid
            | StoreRefusal::Failed
            | StoreRefusal::Superseded
            | StoreRefusal::TooManyHeads => (Some(Deed::Failed), FULL_PAUSE),
        };
        deed.into_iter().for_each(|deed| shared.peers.rate(now, node, deed));
        shared.peers.avoid(now, node, pause);
    }
}

/// What is said of a head is no fault of the node, and says nothing of chunks.
pub(super) fn is_of_heads(reason: StoreRefusal) -> bool {
    matches!(reason, StoreRefusal::Superseded | StoreRefusal::TooManyHeads)
}

/// The chunks of the ack that were sent to this holder and are not acknowledged yet.
fn fresh_chunks(delivery: &Delivery, ack: &StoreAck) -> Result<Vec<AckedChunk>, Reject> {
    let mut fresh: Vec<AckedChunk> = Vec::new();
    for chunk in &ack.chunks {
        let item = (ack.batch, chunk.id);
        if fresh.iter().any(|other| other.id == chunk.id) {
            return Err(Reject::Malformed);
        } else if delivery.expected(&item).is_some() {
            fresh.push(*chunk);
        } else if !delivery.is_done(&item) {
            return Err(Reject::Unsolicited);
        }
    }
    if fresh.is_empty() { Err(Reject::Replayed) } else { Ok(fresh) }
}

/// Whether a holder promises all that was asked: it may promise more, never less.
fn promises_enough(promised: &LeaseTerms, asked: &LeaseTerms) -> bool {
    if planted::is_on(Bug::SkipAckTerms) {
        return true;
    }
    promised.renew_every_s >= asked.renew_every_s
        && promised.keep_after_silence_s >= asked.keep_after_silence_s
        && promised.release_delay_s >= asked.release_delay_s
}
