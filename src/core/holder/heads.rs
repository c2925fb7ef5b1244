//! Heads: taking in the newest record of each, and handing out what is kept.
//!
//! A record passes its checks from cheap to dear, as a chunk does: bounds, rate, terms, room, its
//! shape, replay; then its own signature, then the proof that says for which account it is kept.
//! Whether it is the newest the store decides, which alone knows what is durable.

use super::admission::{Room, promise};
use super::{HolderRole, Lookup};
use crate::core::codec::{HEAD_RECORDS_MAX, Reject};
use crate::core::effect::{Effect, Found, HeadWritten, StoreError};
use crate::core::message::{
    HeadData, HeadGet, RetrieveRefusal, StoreHead, StoreRefusal, StreamMessage,
};
use crate::core::types::{Account, BatchId, ChunkId, LeaseNonce, NodeId, Ticket, Time};
use crate::crypto::ack::{AckedChunk, Receipt, receipt};
use crate::crypto::head::{HEAD_RECORD_BYTES, HeadRecord};
use crate::crypto::ownership::{Context, Operation, Verifier, body_hash, verify};

/// A record's length, as admission counts it.
const RECORD_BYTES: u32 = HEAD_RECORD_BYTES as u32;

/// A record that was handed to the store.
#[derive(Debug)]
pub(super) struct HeadWriting {
    from: NodeId,
    batch: BatchId,
    account: Account,
    id: ChunkId,
    lease: LeaseNonce,
    receipt: Receipt,
}

impl HolderRole {
    pub(super) fn on_store_head(&mut self, now: Time, from: NodeId, head: StoreHead) {
        // Its shape alone tells which head it is: to be named where it is refused.
        let Ok(shape) = HeadRecord::kept(head.record.clone()) else {
            return self.reject(from, Reject::Malformed);
        };
        let (batch, id) = (head.batch, shape.id());
        if !self.writing_bytes.take(from, RECORD_BYTES.into()) {
            self.reject(from, Reject::TableFull);
            return self.put_head_off(now, from, batch, id);
        }
        // Taken here, and given back once the record has proven itself.
        if let Err(reason) = self.rates.unproven.take(now, from) {
            self.writing_bytes.give_back(from, RECORD_BYTES.into());
            self.reject(from, reason);
            return self.put_head_off(now, from, batch, id);
        }
        let refusal = match self.take_head_in(now, from, head, id) {
            Ok(()) => return,
            Err(refusal) => refusal,
        };
        self.writing_bytes.give_back(from, RECORD_BYTES.into());
        self.refuse(from, batch, id, refusal);
    }

    /// A refusal is smaller than a record, so nobody is made to send more than it sent.
    fn put_head_off(&mut self, now: Time, from: NodeId, batch: BatchId, id: ChunkId) {
        if self.rates.put_off.take(now, from).is_ok() {
            self.refuse(from, batch, id, StoreRefusal::Busy);
        }
    }

    fn take_head_in(
        &mut self,
        now: Time,
        from: NodeId,
        head: StoreHead,
        id: ChunkId,
    ) -> Result<(), StoreRefusal> {
        let promised = promise(&head.terms, &self.limits).ok_or(StoreRefusal::Unwilling)?;
        match self.admission.room_for_head(now, &from, &head.account, &self.limits) {
            Room::Enough => {}
            Room::Closed => return Err(StoreRefusal::Failed),
            Room::Short => return Err(StoreRefusal::Full),
            Room::OverQuota => return Err(StoreRefusal::OverQuota),
        }
        let (record, receipt) = self.verified_head(from, &head, &id).map_err(|reason| {
            self.reject(from, reason);
            StoreRefusal::Invalid
        })?;
        self.rates.unproven.refund(from);
        self.admission.reserve(now, from, head.account, RECORD_BYTES);
        let ticket = self.ticket();
        let StoreHead { batch, account, .. } = head;
        let lease = record.lease();
        let writing = HeadWriting { from, batch, account, id, lease, receipt };
        self.head_writing.insert(ticket, writing);
        self.effects.push_back(Effect::WriteHead { ticket, account, terms: promised, record });
        Ok(())
    }

    /// Checks the record's signature, then the proof, and works out the receipt.
    fn verified_head(
        &mut self,
        from: NodeId,
        head: &StoreHead,
        id: &ChunkId,
    ) -> Result<(HeadRecord, Receipt), Reject> {
        let key = Self::proof_key(Operation::Store, id, &head.nonce);
        if self.proofs_seen.contains(&key) {
            return Err(Reject::Replayed);
        }
        let record = HeadRecord::decode(head.record.clone()).map_err(|_| Reject::BadProof)?;
        let context = Context {
            operation: Operation::Store,
            mesh: self.hello.mesh,
            verifier: Verifier::Node(self.me()),
            asker: Some(from),
            nonce: head.nonce,
            body_hash: StoreHead::body_hash(&head.account, &head.terms, &head.record),
        };
        if !verify(&record.sign_point(), id, &context, &head.proof) {
            return Err(Reject::BadProof);
        }
        self.proofs_seen.insert(from, key);
        let pair = self.keys.pair_key(&head.account).ok_or(Reject::Malformed)?;
        let receipt = receipt(&pair, &head.seed, id, &head.record);
        Ok((record, receipt))
    }

    /// The only place that acknowledges a head: the store says that it is durable.
    pub(super) fn on_heads_written(
        &mut self,
        results: Vec<(Ticket, Result<HeadWritten, StoreError>)>,
    ) {
        for (ticket, result) in results {
            let Some(writing) = self.head_writing.remove(&ticket) else { continue };
            let HeadWriting { from, batch, account, id, lease, receipt } = writing;
            self.writing_bytes.give_back(from, RECORD_BYTES.into());
            let added_bytes = result.as_ref().ok().map(|written| written.added_bytes);
            self.admission.settle(account, RECORD_BYTES, added_bytes);
            match result {
                // Kept as evidence, which is no promise.
                Ok(HeadWritten { is_fork: true, .. }) => {
                    self.reject(from, Reject::Forked);
                    self.refuse(from, batch, id, StoreRefusal::Superseded);
                }
                Ok(HeadWritten { terms, epoch, .. }) => {
                    let group = (from, batch, account, terms.encode(), epoch);
                    self.acknowledge(group, vec![AckedChunk { id, lease, receipt }]);
                }
                Err(error) => {
                    if error == StoreError::ReadOnly {
                        self.admission.set_read_only();
                    }
                    self.refuse(from, batch, id, super::accept::refusal_of(error));
                }
            }
        }
    }

    pub(super) fn on_head_get(&mut self, now: Time, from: NodeId, get: HeadGet) {
        if !self.stream_work.take(from, 1) {
            return self.put_off(now, from, get.request, Reject::TableFull);
        }
        // Taken here, and given back once the proof has verified.
        if let Err(reason) = self.rates.unproven.take(now, from) {
            self.stream_work.give_back(from, 1);
            return self.put_off(now, from, get.request, reason);
        }
        self.find(vec![get.id], Lookup::Head { from, get });
    }

    /// A head that is not held and a proof that does not verify get the same answer; nothing is
    /// read before the proof has verified.
    pub(super) fn on_head_found(&mut self, from: NodeId, get: &HeadGet, found: &[Option<Found>]) {
        let read = match found.first() {
            Some(Some(Found::Head { read })) => *read,
            Some(Some(Found::Chunk { .. }) | None) | None => {
                return self.end_head_get(from, get.request, RetrieveRefusal::NotHeld);
            }
        };
        if let Err(reason) = self.check_head_get(from, get, &read) {
            self.reject(from, reason);
            return self.end_head_get(from, get.request, RetrieveRefusal::NotHeld);
        }
        self.rates.unproven.refund(from);
        let ticket = self.ticket();
        self.head_reads.insert(ticket, (from, get.request));
        let superseded = usize::from(get.superseded);
        self.effects.push_back(Effect::ReadHeads { ticket, id: get.id, superseded });
    }

    fn check_head_get(
        &mut self,
        from: NodeId,
        get: &HeadGet,
        read: &[u8; 32],
    ) -> Result<(), Reject> {
        let key = Self::proof_key(Operation::Retrieve, &get.id, &get.nonce);
        if self.proofs_seen.contains(&key) {
            return Err(Reject::Replayed);
        }
        let context = Context {
            operation: Operation::Retrieve,
            mesh: self.hello.mesh,
            verifier: Verifier::Node(self.me()),
            asker: Some(from),
            nonce: get.nonce,
            body_hash: body_hash(&[&get.request.to_le_bytes()]),
        };
        if !verify(read, &get.id, &context, &get.proof) {
            return Err(Reject::BadProof);
        }
        self.proofs_seen.insert(from, key);
        Ok(())
    }

    pub(super) fn on_heads_read(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<HeadRecord>, StoreError>,
    ) {
        let Some((from, request)) = self.head_reads.remove(&ticket) else { return };
        match result {
            Ok(records) if !records.is_empty() => {
                self.stream_work.give_back(from, 1);
                let records = records.iter().take(HEAD_RECORDS_MAX).map(HeadRecord::encode);
                let records = records.collect();
                self.send(from, StreamMessage::HeadData(HeadData { request, records }));
            }
            Ok(_) => self.end_head_get(from, request, RetrieveRefusal::NotHeld),
            Err(error) => self.end_head_get(from, request, super::serve::refusal_of(error)),
        }
    }

    fn end_head_get(&mut self, from: NodeId, request: u64, reason: RetrieveRefusal) {
        self.stream_work.give_back(from, 1);
        self.decline(from, request, reason);
    }
}
