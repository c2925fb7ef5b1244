//! Store jobs from the command to the quorum, and the window.

use super::shared::Shared;
use super::timers::Wake;
use super::{OwnerEvent, OwnerLimits, Shortage, StoreJob};
use crate::core::topic::Topic;
use crate::core::types::{ChunkId, NodeId, Ticket, Time};
use crate::crypto::seal::SealedChunk;
use std::collections::BTreeMap;

/// One chunk that waits for its quorum, and the commands that want it stored.
#[derive(Debug)]
struct Job {
    chunk: SealedChunk,
    waiters: Vec<Ticket>,
}

/// The store flow.
#[derive(Debug, Default)]
pub(super) struct StoreFlow {
    jobs: BTreeMap<ChunkId, Job>,
    tickets: BTreeMap<Ticket, ChunkId>,
    window_used: usize,
}

impl StoreFlow {
    pub(super) fn window_free(&self, limits: &OwnerLimits) -> usize {
        if self.tickets.len() >= limits.store_jobs {
            return 0;
        }
        limits.window_bytes.saturating_sub(self.window_used)
    }

    pub(super) fn on_command(&mut self, _now: Time, shared: &mut Shared, job: StoreJob) {
        let id = job.chunk.id();
        self.tickets.insert(job.ticket, id);
        shared.timers.set(Wake::Deadline(job.ticket), job.deadline);
        if let Some(same) = self.jobs.get_mut(&id) {
            same.waiters.push(job.ticket);
            return;
        }
        self.window_used += job.chunk.sealed.len();
        self.jobs.insert(id, Job { chunk: job.chunk, waiters: vec![job.ticket] });
    }

    pub(super) fn cancel(&mut self, _now: Time, shared: &mut Shared, ticket: Ticket) {
        let Some(id) = self.tickets.remove(&ticket) else { return };
        shared.timers.clear(Wake::Deadline(ticket));
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.waiters.retain(|waiter| *waiter != ticket);
        if job.waiters.is_empty() {
            self.window_used = self.window_used.saturating_sub(job.chunk.sealed.len());
            self.jobs.remove(&id);
        }
    }

    pub(super) fn on_deadline(&mut self, shared: &mut Shared, ticket: Ticket) {
        let Some(&id) = self.tickets.get(&ticket) else { return };
        shared.report(OwnerEvent::Short { ticket, id, replicas: 0, why: Shortage::NoPeers });
    }

    pub(super) fn on_peer_up(&mut self, _now: Time, _shared: &mut Shared, _node: NodeId) {}

    pub(super) fn on_peer_down(&mut self, _now: Time, _shared: &mut Shared, _node: NodeId) {}

    pub(super) fn on_subscribed(&mut self, _now: Time, _shared: &mut Shared, _topic: Topic) {}
}
