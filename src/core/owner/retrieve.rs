//! Fetch jobs: holders known first, the next one where one is slow, wrong or away.

use super::shared::Shared;
use super::timers::Wake;
use super::{FetchJob, OwnerEvent, OwnerLimits};
use crate::core::topic::Topic;
use crate::core::types::{NodeId, Ticket, Time};
use std::collections::BTreeMap;

/// The fetch flow.
#[derive(Debug, Default)]
pub(super) struct FetchFlow {
    jobs: BTreeMap<Ticket, FetchJob>,
}

impl FetchFlow {
    pub(super) fn slots_free(&self, limits: &OwnerLimits) -> usize {
        limits.fetch_slots.saturating_sub(self.jobs.len())
    }

    pub(super) fn on_command(&mut self, _now: Time, shared: &mut Shared, job: FetchJob) {
        shared.timers.set(Wake::Fetch(job.ticket), job.deadline);
        self.jobs.insert(job.ticket, job);
    }

    pub(super) fn cancel(&mut self, _now: Time, shared: &mut Shared, ticket: Ticket) {
        shared.timers.clear(Wake::Fetch(ticket));
        self.jobs.remove(&ticket);
    }

    pub(super) fn on_wake(&mut self, now: Time, shared: &mut Shared, ticket: Ticket) {
        if let Some(job) = self.jobs.remove(&ticket).filter(|job| job.deadline <= now) {
            shared.report(OwnerEvent::NotFetched { ticket, id: job.id, asked: Vec::new() });
        }
    }

    pub(super) fn on_peer_up(&mut self, _now: Time, _shared: &mut Shared, _node: NodeId) {}

    pub(super) fn on_peer_down(&mut self, _now: Time, _shared: &mut Shared, _node: NodeId) {}

    pub(super) fn on_subscribed(&mut self, _now: Time, _shared: &mut Shared, _topic: Topic) {}
}
