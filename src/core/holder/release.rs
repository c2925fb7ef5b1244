//! Letting chunks go, and taking that back, for whoever proves that it may.
//!
//! The proofs of one message are checked in one go, each of them for this holder, this peer and the
//! lease that it names: one that does not hold spoils the message, and nothing of it is done. What
//! is not held needs no proof, as there is no point to check it under, and is not handed to the
//! store either: it may come meanwhile. Whether a lease is the one that is held only the store
//! knows, which does all or nothing.
//!
//! What one peer sends is carried out in the order in which it came, one message after the other: a
//! release that is looked up for long must not come to the store behind the message that takes it
//! back. Its owner was told by then that the chunk stays.

use super::{HolderRole, Lookup};
use crate::core::codec::{RELEASES_MAX, Reject};
use crate::core::effect::{ChunkState, Effect, Found, StoreError};
use crate::core::message::{Release, ReleaseAnswer, ReleaseItem, ReleaseRefusal, StreamMessage};
use crate::core::types::{NodeId, Ticket, Time};
use crate::crypto::header::Header;
use crate::crypto::ownership::{Context, Statement, Verifier, verify_batch};
use crate::planted::{Bug, is_on};
use std::collections::VecDeque;

/// So many items of a release cost as much as one message with a single proof.
const ITEMS_PER_TOKEN: usize = 64;

/// A release that was handed to the store.
#[derive(Debug)]
pub(super) struct Releasing {
    from: NodeId,
    request: u64,
    /// Of each of its items, whether the store has it.
    handed: Vec<bool>,
}

impl HolderRole {
    pub(super) fn on_release(&mut self, now: Time, from: NodeId, release: Release) {
        if !(1..=RELEASES_MAX).contains(&release.items.len()) {
            return self.reject(from, Reject::Malformed);
        }
        if !self.account_work.take(from, 1) {
            return self.put_release_off(now, from, release.request, Reject::TableFull);
        }
        // Taken here, and given back once the proofs have verified.
        if let Err(reason) = self.take_tokens(now, from, tokens(&release)) {
            self.account_work.give_back(from, 1);
            return self.put_release_off(now, from, release.request, reason);
        }
        match self.releases.get_mut(&from) {
            Some(behind) => behind.push_back(release),
            None => {
                self.releases.insert(from, VecDeque::new());
                self.find_released(from, release);
            }
        }
    }

    fn find_released(&mut self, from: NodeId, release: Release) {
        let ids = release.items.iter().map(|item| item.id).collect();
        self.find(ids, Lookup::Release { from, release });
    }

    /// What waits behind a release that is being looked up: nobody would hear what it came to.
    pub(super) fn drop_releases(&mut self, from: NodeId) {
        let dropped = self.releases.get_mut(&from).map(std::mem::take).unwrap_or_default();
        dropped.iter().for_each(|_| self.account_work.give_back(from, 1));
    }

    /// Takes all or none.
    fn take_tokens(&mut self, now: Time, from: NodeId, count: usize) -> Result<(), Reject> {
        for taken in 0..count {
            if let Err(reason) = self.rates.unproven.take(now, from) {
                (0..taken).for_each(|_| self.rates.unproven.refund(from));
                return Err(reason);
            }
        }
        Ok(())
    }

    pub(super) fn on_release_found(
        &mut self,
        from: NodeId,
        release: &Release,
        found: &[Option<Found>],
    ) {
        self.hand_over(from, release, found);
        match self.releases.get_mut(&from).and_then(VecDeque::pop_front) {
            Some(next) => self.find_released(from, next),
            None => drop(self.releases.remove(&from)),
        }
    }

    fn hand_over(&mut self, from: NodeId, release: &Release, found: &[Option<Found>]) {
        // The peer may have left while the catalogue was asked: nobody would hear what it came to.
        if !self.peers.contains(&from) {
            return self.account_work.give_back(from, 1);
        }
        let header = |found: &Option<Found>| match found {
            Some(Found::Chunk { header, .. }) => Some(*header),
            Some(Found::Head { .. }) | None => None,
        };
        let headers = release.items.iter().zip(found).map(|(item, found)| (item, header(found)));
        let headers: Vec<(&ReleaseItem, Option<Header>)> = headers.collect();
        let held = || headers.iter().filter_map(|(item, header)| Some((*item, header.as_ref()?)));
        if held().next().is_none() {
            let outcome = Ok(vec![ChunkState::NotHeld; release.items.len()]);
            return self.end_release(from, release.request, outcome);
        }
        let held: Vec<(&ReleaseItem, &Header)> = held().collect();
        if let Err(reason) = self.check_release(from, release, &held) {
            self.reject(from, reason);
            return self.end_release(from, release.request, Err(ReleaseRefusal::Invalid));
        }
        (0..tokens(release)).for_each(|_| self.rates.unproven.refund(from));
        let (ticket, undo, request) = (self.ticket(), release.undo, release.request);
        let items = held.iter().map(|(item, _)| (item.id, item.lease)).collect();
        let handed = headers.iter().map(|(_, header)| header.is_some()).collect();
        self.releasing.insert(ticket, Releasing { from, request, handed });
        self.effects.push_back(Effect::ReleaseChunks { ticket, undo, items });
    }

    fn check_release(
        &mut self,
        from: NodeId,
        release: &Release,
        held: &[(&ReleaseItem, &Header)],
    ) -> Result<(), Reject> {
        let operation = release.operation();
        let key = |item: &ReleaseItem| Self::proof_key(operation, &item.id, &release.nonce);
        if held.iter().any(|(item, _)| self.proofs_seen.contains(&key(item))) {
            return Err(Reject::Replayed);
        }
        let context = |item: &ReleaseItem| Context {
            operation,
            mesh: self.hello.mesh,
            verifier: Verifier::Node(self.me()),
            asker: Some(from),
            nonce: release.nonce,
            body_hash: Release::body_hash(&item.lease),
        };
        let contexts: Vec<Context> = held.iter().map(|(item, _)| context(item)).collect();
        let statements = held.iter().zip(&contexts).map(|((item, header), context)| {
            let point = operation.point(header);
            Statement { point, id: &item.id, context, proof: &item.proof }
        });
        let statements: Vec<Statement<'_>> = statements.collect();
        if !verify_batch(&statements, &mut self.rng) && !is_on(Bug::SkipReleaseProof) {
            return Err(Reject::BadProof);
        }
        for (item, _) in held {
            self.proofs_seen.insert(from, key(item));
        }
        Ok(())
    }

    pub(super) fn on_chunks_released(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<ChunkState>, StoreError>,
    ) {
        let Some(Releasing { from, request, handed }) = self.releasing.remove(&ticket) else {
            return;
        };
        if result == Err(StoreError::ReadOnly) {
            self.admission.set_read_only();
        }
        // What the store cannot do now it may do later.
        let outcome = result.map_err(|_| ReleaseRefusal::Busy).map(|states| {
            let mut states = states.into_iter();
            let mut state = |handed: bool| handed.then(|| states.next()).flatten();
            let state = |handed| state(handed).unwrap_or(ChunkState::NotHeld);
            handed.into_iter().map(state).collect()
        });
        self.end_release(from, request, outcome);
    }

    fn put_release_off(&mut self, now: Time, from: NodeId, request: u64, reason: Reject) {
        self.reject(from, reason);
        if self.rates.put_off.take(now, from).is_ok() {
            let answer = ReleaseAnswer { request, outcome: Err(ReleaseRefusal::Busy) };
            self.send(from, StreamMessage::ReleaseAnswer(answer));
        }
    }

    fn end_release(
        &mut self,
        to: NodeId,
        request: u64,
        outcome: Result<Vec<ChunkState>, ReleaseRefusal>,
    ) {
        self.account_work.give_back(to, 1);
        self.send(to, StreamMessage::ReleaseAnswer(ReleaseAnswer { request, outcome }));
    }
}

/// What a release takes of its peer's rate as long as it has not proven itself.
fn tokens(release: &Release) -> usize {
    release.items.len().div_ceil(ITEMS_PER_TOKEN)
}
