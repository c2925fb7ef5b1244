//! What the roles promise, compared with what is true. Looked at with every event.

use super::{WRITER, World};
use quloud::core::codec::Reject;
use quloud::core::holder::HolderLimits;
use quloud::core::owner::OwnerEvent;
use quloud::core::types::{ChunkId, NodeId};

impl World<'_> {
    /// Nobody lies in this world, so nothing may look like a lie.
    pub(super) fn on_reject(&mut self, node: usize, reason: Reject) {
        *self.rejects.entry(reason.name()).or_insert(0) += 1;
        self.log(&format!("{node} rejects: {}", reason.name()));
        match reason {
            Reject::Replayed | Reject::Unsolicited | Reject::RateLimited | Reject::TableFull => {}
            Reject::Oversize
            | Reject::Malformed
            | Reject::WrongVersion
            | Reject::WrongMesh
            | Reject::WrongPeer
            | Reject::WrongBytes
            | Reject::BadProof => {
                self.violation(format!("{node} rejects an honest message: {}", reason.name()));
            }
        }
    }

    /// What the roles promise is compared with what is true.
    pub(super) fn on_owner_event(&mut self, node: usize, event: OwnerEvent) {
        self.log(&format!("{node} reports {}", brief(&event)));
        match event {
            OwnerEvent::Acked { id, node: holder, .. } => self.check_holds(&id, &holder),
            OwnerEvent::Stored { ticket, id, replicas, holders } => {
                let wanted = usize::from(self.plan.replicas);
                let mut distinct = holders.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let replicas = usize::from(replicas);
                let enough = (wanted..=distinct.len()).contains(&replicas);
                if !enough || distinct.contains(&self.nodes[WRITER].id) {
                    self.violation(format!("{id:?} is called stored at {holders:?}"));
                }
                for holder in &distinct {
                    self.check_holds(&id, holder);
                }
                if let Some(original) = self.original(ticket) {
                    original.stored = true;
                    original.holders = holders;
                }
            }
            OwnerEvent::Short { .. } => {}
            OwnerEvent::Fetched { ticket, id, header, sealed, .. } => {
                let Some(original) = self.original(ticket) else {
                    return self.violation(format!("{id:?} was never asked for"));
                };
                let same = original.id == id && header.id() == id && original.sealed == sealed;
                let again = std::mem::replace(&mut original.fetched, true);
                if !same || again {
                    self.violation(format!("{id:?} comes back changed or twice"));
                }
            }
            OwnerEvent::NotFetched { id, asked, .. } => {
                self.violation(format!("{id:?} is not found: {asked:?}"));
            }
        }
    }

    /// An acknowledged chunk is on that node's disk, durable and unchanged.
    fn check_holds(&mut self, id: &ChunkId, holder: &NodeId) {
        let node = self.nodes.iter().find(|node| node.id == *holder);
        let held = node.and_then(|node| node.disk.held(id));
        if held.is_none_or(|chunk| !chunk.header.certifies(&chunk.sealed)) {
            self.violation(format!("{id:?} is acknowledged by {holder:?} and not durable there"));
        }
    }

    /// After the put: every chunk is where it is said to be.
    pub(super) fn check_stored(&mut self) {
        let claims: Vec<(ChunkId, NodeId)> = self
            .originals
            .iter()
            .flat_map(|chunk| chunk.holders.iter().map(|holder| (chunk.id, *holder)))
            .collect();
        for (id, holder) in claims {
            self.check_holds(&id, &holder);
        }
    }

    pub(super) fn check_bounds(&mut self, node: usize) {
        let Some(roles) = &self.nodes[node].roles else {
            return;
        };
        let (load, limits) = (roles.holder.load(), HolderLimits::default());
        let within = load.writing_bytes <= limits.writing_bytes
            && load.reads <= limits.reads
            && load.queued_reads <= limits.queued_reads
            && load.topic_work <= limits.topic_work
            && load.stream_work <= limits.stream_work
            && load.seen <= limits.requests_seen + limits.proofs_seen;
        if !within {
            self.violation(format!("{node} exceeds a bound: {load:?}"));
        }
    }
}

/// An event without chunk bytes.
fn brief(event: &OwnerEvent) -> String {
    match event {
        OwnerEvent::Fetched { id, from, .. } => format!("Fetched {id:?} from {from:?}"),
        other => format!("{other:?}"),
    }
}
