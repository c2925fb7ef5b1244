//! Who gets a chunk, and who gets it instead.

use super::Load;
use super::delivery::{Delivery, Item};
use super::outbox::Occasion;
use super::peers::CONNECTED_MAX;
use super::shared::Shared;
use super::store::{Grant, Job, StoreFlow};
use super::timers::Wake;
use crate::core::message::{StoreChunk, StoreHead, StoreRefusal, StreamMessage};
use crate::core::placement::{self, Standing};
use crate::core::reputation::Deed;
use crate::core::types::{Account, BatchId, ChunkId, NodeId, Time};
use crate::crypto::ack::receipt;
use crate::crypto::keys::random;
use crate::crypto::ownership::{Context, Operation, Verifier, prove};
use crate::crypto::seal::SealedChunk;
use crate::planted::{self, Bug};
use std::collections::BTreeSet;
use std::time::Duration;

/// When to look again after something was full: the table of dials, or a holder that was busy.
const AGAIN: Duration = Duration::from_secs(1);

impl StoreFlow {
    /// Finds holders for every chunk of the batch that lacks some.
    pub(super) fn place_batch(&mut self, now: Time, shared: &mut Shared, batch_id: &BatchId) {
        let ids = self.batches.get(batch_id).map(super::batch::Batch::open_ids);
        for id in ids.into_iter().flatten() {
            self.place_chunk(now, shared, &id);
        }
    }

    /// Grants the chunk to as many candidates as it lacks.
    pub(super) fn place_chunk(&mut self, now: Time, shared: &mut Shared, id: &ChunkId) {
        let Some(job) = self.jobs.get(id) else { return };
        let missing = job.missing();
        let Some((batch_id, _)) = job.place else { return };
        let settled = self.batches.get(&batch_id).is_some_and(|batch| batch.settled);
        if missing == 0 || !settled {
            return;
        }
        for node in self.choose(now, shared, job, missing) {
            self.grant(now, shared, id, batch_id, node);
        }
    }

    /// The best candidates for the chunk, in domains where no replica is or will be.
    fn choose(&self, now: Time, shared: &Shared, job: &Job, missing: usize) -> Vec<NodeId> {
        let Some((batch_id, position)) = job.place else { return Vec::new() };
        let Some(batch) = self.batches.get(&batch_id) else { return Vec::new() };
        let may = |node: &NodeId| {
            let open = match job.grants.get(node) {
                None => self.may_be_given(now, shared, (batch_id, position), node),
                Some(Grant::CutOff) => shared.peers.is_up(node),
                Some(Grant::Refused(StoreRefusal::Busy)) => !shared.peers.is_avoided(now, node),
                Some(_) => false,
            };
            let stalled = self.deliveries.get(node).is_some_and(Delivery::is_stalled);
            let is_left_out = *node == shared.node || job.without.contains(node);
            open && !stalled && !is_left_out && !job.quorum.has_ack(node)
        };
        let candidates: Vec<placement::Candidate<'_>> = batch
            .candidates
            .iter()
            .filter(|(node, candidate)| {
                candidate.wants >> position & 1 == 1 && !candidate.unreachable && may(node)
            })
            .map(|(node, candidate)| placement::Candidate {
                node: *node,
                standing: shared.peers.met(node).unwrap_or(&candidate.declared),
                score: batch.trust(shared.peers.score(now, node)),
                holds: candidate.holds >> position & 1 == 1,
                connected: shared.peers.is_up(node),
            })
            .collect();
        // A head stays where it was: whoever looks for it asks there.
        let keeps = |candidate: &placement::Candidate<'_>| {
            let node = &candidate.node;
            let is_trusted = !shared.peers.is_doubtful(now, node);
            job.load.is_head() && job.held_by.contains(node) && is_trusted
        };
        let (keepers, others): (Vec<_>, Vec<_>) = candidates.into_iter().partition(keeps);
        let mut taken: Vec<&Standing> = self.taken(shared, job, None);
        let (domains, tie_break) = (shared.domains, batch.tie_break);
        let mut chosen = placement::place(&keepers, &taken, missing, domains, tie_break);
        let again = keepers.iter().filter(|candidate| chosen.contains(&candidate.node));
        taken.extend(again.map(|candidate| candidate.standing));
        let missing = missing.saturating_sub(chosen.len());
        chosen.extend(placement::place(&others, &taken, missing, domains, tie_break));
        chosen
    }

    /// Whether the node takes something new of ours, or holds this already. A head takes next to
    /// nothing, and how much it has of our chunks says nothing of that.
    fn may_be_given(
        &self,
        now: Time,
        shared: &Shared,
        (batch_id, position): (BatchId, usize),
        node: &NodeId,
    ) -> bool {
        let batch = self.batches.get(&batch_id);
        let candidate = batch.and_then(|batch| batch.candidates.get(node));
        let holds = candidate.is_some_and(|candidate| candidate.holds >> position & 1 == 1);
        holds || self.is_of_head(&batch_id) || !shared.peers.is_over_quota(now, node)
    }

    /// Where the replicas stand that count, here or elsewhere, or are on their way, `but` for one
    /// node's.
    fn taken<'a>(
        &'a self,
        shared: &'a Shared,
        job: &'a Job,
        but: Option<NodeId>,
    ) -> Vec<&'a Standing> {
        let batch = job.place.and_then(|(batch_id, _)| self.batches.get(&batch_id));
        let candidate = |node| batch.and_then(|batch| batch.candidates.get(node));
        let live = job.live().filter(|node| Some(**node) != but).filter_map(|node| {
            shared.peers.met(node).or_else(|| candidate(node).map(|candidate| &candidate.declared))
        });
        let others = job.beside.iter().filter(|node| Some(**node) != but);
        let beside = others.filter_map(|node| shared.peers.stands(node));
        job.quorum.counted().chain(live).chain(beside).collect()
    }

    /// Whether there are candidates for the chunk, and all stand where a replica is already.
    pub(super) fn is_blocked_by_domains(
        &self,
        shared: &Shared,
        job: &Job,
        batch: &super::batch::Batch,
    ) -> bool {
        let taken = self.taken(shared, job, None);
        let Some((_, position)) = job.place else { return false };
        let mut unused = batch.candidates.iter().filter(|(node, candidate)| {
            let wants = candidate.wants >> position & 1 == 1;
            wants && !job.grants.contains_key(node) && !job.quorum.has_ack(node)
        });
        unused.any(|(node, candidate)| {
            let standing = shared.peers.met(node).unwrap_or(&candidate.declared);
            taken.iter().any(|other| standing.shares(other, shared.domains))
        })
    }

    fn grant(
        &mut self,
        now: Time,
        shared: &mut Shared,
        id: &ChunkId,
        batch_id: BatchId,
        node: NodeId,
    ) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.forget_one_grant();
        if shared.peers.is_up(&node) {
            job.grants.insert(node, Grant::Queued);
            self.queue(now, shared, node, (batch_id, *id));
            return;
        }
        let Some(batch) = self.batches.get(&batch_id) else { return };
        let record = batch.candidates.get(&node).map(|candidate| candidate.record.clone());
        if shared.dial(now, node, record.unwrap_or_default()) {
            job.grants.insert(node, Grant::Dialing);
        } else {
            shared.timers.set_no_later(Wake::Settle(batch_id), now.after(AGAIN));
        }
    }

    fn queue(&mut self, now: Time, shared: &mut Shared, node: NodeId, item: Item) {
        if !self.open_delivery(now, shared, node) {
            return self.on_useless(now, shared, node, &item.1);
        }
        if let Some(delivery) = self.deliveries.get_mut(&node) {
            delivery.push(item);
        }
        self.pump(now, shared, node);
    }

    /// Makes the pairwise key with a connected holder. False where its agreement key is of no use.
    fn open_delivery(&mut self, now: Time, shared: &mut Shared, node: NodeId) -> bool {
        let Some(agreement) = shared.peers.hello(&node).map(|hello| hello.agreement) else {
            return false;
        };
        if self.deliveries.get(&node).is_some_and(|open| open.agreement == agreement) {
            return true;
        }
        let secret = shared.keys.account(&node);
        let Some(pair) = secret.pair_key(&node, &agreement) else {
            shared.peers.rate(now, node, Deed::Lied);
            return false;
        };
        if self.deliveries.len() >= CONNECTED_MAX {
            self.deliveries.retain(|node, _| shared.peers.is_up(node));
        }
        self.deliveries.insert(node, Delivery::new(secret.account(), agreement, pair));
        true
    }

    fn on_useless(&mut self, now: Time, shared: &mut Shared, node: NodeId, id: &ChunkId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.grants.insert(node, Grant::Lied);
            job.quorum.refuse(node);
            self.place_chunk(now, shared, id);
        }
    }

    /// Sends what the holder has room for.
    pub(super) fn pump(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let limits = (shared.limits.in_flight_bytes, shared.limits.late_after);
        self.refuse_queued(now, shared, node);
        let Some(delivery) = self.deliveries.get_mut(&node) else { return };
        while let Some(item) = delivery.front() {
            let wanted = |job: &&mut Job| {
                job.place.is_some_and(|(batch_id, _)| batch_id == item.0)
                    && job.grants.get(&node) == Some(&Grant::Queued)
            };
            let Some(job) = self.jobs.get_mut(&item.1).filter(wanted) else {
                delivery.pop();
                continue;
            };
            let bytes = job.load.len();
            if !delivery.has_room(bytes, limits.0) {
                break;
            }
            delivery.pop();
            job.grants.insert(node, Grant::Sent);
            job.quorum.sent(node);
            // The same again where it went out before: the ack of that may still come.
            let nonce = random(&mut shared.rng);
            let expected = delivery.earlier(&item).unwrap_or_else(|| {
                let seed = random(&mut shared.rng);
                (seed, receipt(&delivery.pair, &seed, &item.1, &job.load.bytes()))
            });
            let message =
                store_message(shared, (node, delivery.account), item, job, (nonce, expected.0));
            delivery.on_sent(now, item, bytes, expected, limits.1);
            shared.peers.rate(now, node, Deed::Granted);
            shared.send(node, message);
        }
        self.watch(shared, node);
    }

    /// Where the holder takes nothing new of ours, what is queued for it is as good as refused.
    fn refuse_queued(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        if !shared.peers.is_over_quota(now, &node) {
            return;
        }
        let queued = self.deliveries.get(&node).map(Delivery::queued).unwrap_or_default();
        let mut refused = Vec::new();
        for (batch_id, id) in queued {
            let place = self.jobs.get(&id).and_then(|job| job.place);
            let Some(place) = place.filter(|(current, _)| *current == batch_id) else { continue };
            if self.may_be_given(now, shared, place, &node) {
                continue;
            }
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if job.grants.get(&node) == Some(&Grant::Queued) {
                job.grants.insert(node, Grant::Refused(StoreRefusal::OverQuota));
                job.quorum.refuse(node);
                refused.push((batch_id, id));
            }
        }
        self.place_again(now, shared, &refused);
    }

    /// Sets the alarm for a holder that is silent.
    pub(super) fn watch(&self, shared: &mut Shared, node: NodeId) {
        let delivery = self.deliveries.get(&node);
        match delivery.and_then(|delivery| delivery.next_late(shared.limits.late_after)) {
            Some(at) => shared.timers.set(Wake::Delivery(node), at),
            None => shared.timers.clear(Wake::Delivery(node)),
        }
    }

    /// A holder may be late: others get what it was given.
    pub(super) fn on_silence(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let Some(delivery) = self.deliveries.get_mut(&node) else { return };
        let late = delivery.late(now, shared.limits.late_after);
        if !late.is_empty() {
            shared.peers.rate(now, node, Deed::Late(late.len()));
        }
        let lost = delivery.give_up(now);
        if !planted::is_on(Bug::TrustSilence) {
            self.take_back(&late, node, Grant::Late);
        }
        self.take_back(&lost, node, Grant::CutOff);
        // What it lost it gets again only if it volunteers anew, which the outbox's pauses limit.
        for (batch_id, _) in &lost {
            if let Some(batch) = self.batches.get_mut(batch_id) {
                batch.candidates.remove(&node);
            }
        }
        self.watch(shared, node);
        self.place_again(now, shared, &late);
    }

    /// Notes that these are no longer live with `node`: what was sent becomes `became`, what was
    /// not is as if it had never been granted.
    fn take_back(&mut self, items: &[Item], node: NodeId, became: Grant) {
        for (batch_id, id) in items {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            if job.place.is_none_or(|(current, _)| current != *batch_id) {
                continue;
            }
            match job.grants.get(&node) {
                Some(Grant::Sent | Grant::Late) => job.grants.insert(node, became),
                Some(Grant::Queued) => job.grants.remove(&node),
                _ => None,
            };
        }
    }

    fn place_again(&mut self, now: Time, shared: &mut Shared, items: &[Item]) {
        let ids: BTreeSet<ChunkId> = items.iter().map(|(_, id)| *id).collect();
        for id in ids {
            self.place_chunk(now, shared, &id);
        }
    }

    /// A node is connected: what waited for it goes out, if it does not stand where another
    /// replica is, which only the connection shows.
    pub(super) fn on_peer_up(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let mut concerned = Vec::new();
        for (batch_id, batch) in &mut self.batches {
            if let Some(candidate) = batch.candidates.get_mut(&node) {
                candidate.unreachable = false;
                concerned.push(*batch_id);
            }
        }
        if !concerned.is_empty() {
            shared.peers.claimed(now, node);
        }
        for batch_id in concerned {
            let ids = self.batches.get(&batch_id).map(super::batch::Batch::open_ids);
            for id in ids.into_iter().flatten() {
                self.on_dialed(now, shared, (batch_id, id), node);
            }
            self.place_batch(now, shared, &batch_id);
        }
        self.on_occasion(now, shared, None, Occasion::Connected);
    }

    fn on_dialed(&mut self, now: Time, shared: &mut Shared, item: Item, node: NodeId) {
        let Some(job) = self.jobs.get(&item.1) else { return };
        if job.grants.get(&node) != Some(&Grant::Dialing) {
            return;
        }
        let standing = shared.peers.standing(&node);
        let taken = self.taken(shared, job, Some(node));
        let apart = !taken.iter().any(|other| standing.shares(other, shared.domains));
        let Some(job) = self.jobs.get_mut(&item.1) else { return };
        if apart {
            job.grants.insert(node, Grant::Queued);
            self.queue(now, shared, node, item);
        } else {
            job.grants.remove(&node);
        }
    }

    /// A node went away, or could not be reached: others get what it was given.
    pub(super) fn on_peer_down(&mut self, now: Time, shared: &mut Shared, node: NodeId) {
        let cut = self.deliveries.get_mut(&node).map(Delivery::cut).unwrap_or_default();
        shared.timers.clear(Wake::Delivery(node));
        if !planted::is_on(Bug::KeepLostGrants) {
            self.take_back(&cut, node, Grant::CutOff);
        }
        let mut dialing = Vec::new();
        for (batch_id, batch) in &mut self.batches {
            if let Some(candidate) = batch.candidates.get_mut(&node) {
                candidate.unreachable = true;
                dialing.extend(batch.open_ids().into_iter().map(|id| (*batch_id, id)));
            }
        }
        let mut failed = false;
        for (_, id) in &dialing {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            job.quorum.refuse(node);
            if job.grants.get(&node) == Some(&Grant::Dialing) {
                job.grants.remove(&node);
                failed = true;
            }
        }
        if failed {
            shared.peers.rate(now, node, Deed::Unreachable);
        }
        self.place_again(now, shared, &cut);
        self.place_again(now, shared, &dialing);
    }
}

/// The message that brings one chunk or head to one holder.
fn store_message(
    shared: &mut Shared,
    (node, account): (NodeId, Account),
    (batch, id): Item,
    job: &Job,
    (nonce, seed): ([u8; 32], [u8; 32]),
) -> StreamMessage {
    let terms = shared.terms;
    let (secret, body_hash) = match &job.load {
        Load::Chunk(chunk) => (&chunk.admin, StoreChunk::body_hash(&account, &terms, &chunk.tags)),
        Load::Head(head) => {
            (&head.sign, StoreHead::body_hash(&account, &terms, &head.record.encode()))
        }
    };
    let context = Context {
        operation: Operation::Store,
        mesh: shared.mesh,
        verifier: Verifier::Node(node),
        asker: Some(shared.node),
        nonce,
        body_hash,
    };
    let proof = prove(secret, &id, &context, &mut shared.rng);
    match &job.load {
        Load::Chunk(SealedChunk { header, sealed, tags, .. }) => {
            let (header, sealed, tags) = (*header, sealed.clone(), tags.clone());
            let chunk =
                StoreChunk { batch, account, header, terms, nonce, proof, seed, tags, sealed };
            StreamMessage::StoreChunk(Box::new(chunk))
        }
        Load::Head(head) => {
            let record = head.record.encode();
            StreamMessage::StoreHead(StoreHead {
                batch,
                account,
                terms,
                nonce,
                proof,
                seed,
                record,
            })
        }
    }
}
