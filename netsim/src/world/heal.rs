//! Replicas that are gone are made again.
//!
//! Owners learn by their audits what is gone (see `audits`), and make it again as long as the world
//! goes on (see `repair`). At its end they do so by hand, and this sees to it that they succeed: an
//! owner puts again what is short, and names the holders that its last audit left. A cheat that
//! acknowledged counts as long as it is there: it may pass its audits.

use super::demand::AGAIN;
use super::finale::CATCH_UP;
use super::{Event, World};
use crate::ending::{Demanded, Excuse};
use crate::node::wishes::{Job, strike};
use crate::node::{Domain, Index, Node, Presence};
use crate::oracle::ChunkFacts;
use quloud::core::topic::TopicKind;
use quloud::core::types::{ChunkId, NodeId};
use quloud::repo::standing::Standing as Holder;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a hasty scrub takes at most.
const SCRUB_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How long the stores take for what their scrubs found.
const SCRUB: Duration = Duration::from_secs(10);

/// How long it takes until everybody has noticed who left.
const ALL_NOTICED: Duration = Duration::from_secs(60);

/// How a chunk is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has its replicas.
    Whole,
    /// It has too few, and enough nodes would take one.
    Degraded,
}

impl World<'_> {
    /// Every store reads all that it has, and takes note of what is damaged.
    pub(super) fn scrub_all(&mut self) {
        let now = self.agenda.now();
        for node in 0..self.nodes.len() {
            let Node { machine: Some(machine), life, .. } = &mut self.nodes[node] else { continue };
            machine.store.scrub_anew();
            self.agenda.at(now, Event::Scrub { node, life: *life, hasty: true });
        }
        let unread = |world: &World<'_>| {
            let is_read = |node: &Node| {
                node.machine.as_ref().is_none_or(|machine| machine.store.is_scrubbed())
            };
            world.nodes.iter().position(|node| !is_read(node))
        };
        self.run_until(now.after(SCRUB_MAX), |world| unread(world).is_none());
        if let Some(node) = unread(self)
            && self.violations.is_empty()
        {
            self.violation(format!("a scrub comes to its end: that of {node} did not"));
        }
        self.run_until(self.agenda.now().after(SCRUB), |_| false);
    }

    /// The cheats leave for ever, and only honest copies count from now on.
    pub(super) fn cheats_leave(&mut self) {
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_honest() && self.nodes[node].presence != Presence::Gone {
                self.leave(node);
            }
        }
        self.run_until(self.agenda.now().after(ALL_NOTICED), |_| false);
    }

    /// Each promised chunk has its replicas again, where enough nodes would take one.
    pub(super) fn heal(&mut self) {
        let end = self.agenda.now().after(self.plan.shorter(CATCH_UP));
        let mut before = Vec::new();
        self.begin_repairs_anew();
        while self.violations.is_empty() && self.agenda.now() < end {
            let degraded = self.degraded();
            if degraded.is_empty() {
                return;
            }
            if degraded == before {
                // Nothing came of it at once, as where a cheat says again that it has the chunk:
                // users look again no sooner than this.
                self.run_until(self.agenda.now().after(AGAIN), |_| false);
            }
            for (owner, id) in &degraded {
                self.ask_again(*owner, id);
            }
            for owner in 0..self.plan.use_.owners {
                self.submit(owner);
            }
            self.run_until_stored(&degraded, end);
            before = degraded;
        }
        if let Some((owner, id)) = self.degraded().first()
            && self.violations.is_empty()
        {
            let chunk = &self.chunks[id];
            let (copies, wanted) = (self.copies(id, chunk).len(), chunk.replicas);
            let acked: Vec<Index> = chunk.acked.keys().copied().collect();
            let puts = &self.nodes[*owner].wishes.puts;
            let takers = puts.get(id).map(|put| self.takers(*owner, put.locality));
            self.violation(format!(
                "replicas are made again: {owner} has {id:?} {copies} of {wanted} times; {acked:?} \
                 acknowledged it, and {takers:?} would take it"
            ));
        }
    }

    /// What was begun in worse times counts on holders, and leaves others out, by older audits.
    fn begin_repairs_anew(&mut self) {
        for owner in 0..self.plan.use_.owners {
            for (id, _) in std::mem::take(&mut self.nodes[owner].audits.repairing) {
                self.cancel(owner, id);
            }
        }
    }

    /// The owner counts on those that count, did not lie and are not silent, and wants as many as
    /// before.
    fn ask_again(&mut self, owner: Index, id: &ChunkId) {
        let mut gone = self.not_counted(owner);
        let Node { wishes, audits, .. } = &mut self.nodes[owner];
        if let Some(put) = wishes.puts.get_mut(id) {
            // What a holder had in a store that it has no more, it has not.
            gone.extend(put.acked.iter().filter(|holder| !audits.holdings.counts(holder, id)));
            strike(&mut put.acked, &gone);
            put.stored = false;
        }
    }

    /// Whose replicas do not count for who makes them again by hand.
    fn not_counted(&self, owner: Index) -> BTreeSet<NodeId> {
        let (audits, now_s) = (&self.nodes[owner].audits, self.wall_s(owner));
        let of = |holder: &NodeId| match audits.stands(holder, now_s) {
            (Holder::Liar, _) => true,
            (_, silent) => silent.is_some(),
        };
        audits.holdings.holders().into_iter().filter(of).collect()
    }

    /// Promised chunks with too few replicas, of which enough nodes would take one.
    fn degraded(&self) -> Vec<(Index, ChunkId)> {
        let standing = self.standing().into_iter();
        let degraded = standing.filter(|(_, standing)| *standing == Ok(Standing::Degraded));
        degraded.map(|(id, _)| (self.chunks[&id].owner, id)).collect()
    }

    /// How many promised chunks have the replicas that they should have.
    pub(super) fn replicas(&self) -> Demanded {
        let mut demanded = Demanded::default();
        let standing = self.standing().into_iter();
        standing.for_each(|(_, standing)| demanded.count(standing.map(|_| ())));
        demanded
    }

    /// How each promised chunk is off; or why nothing can be done for it.
    fn standing(&self) -> Vec<(ChunkId, Result<Standing, Excuse>)> {
        let mut rooms = BTreeMap::new();
        let promised = self.chunks.iter().filter(|(_, chunk)| chunk.promised);
        let standing = promised.filter_map(|(id, chunk)| {
            let (owner, wanted) = (chunk.owner, usize::from(chunk.replicas));
            let mut domains = self.copies(id, chunk);
            if domains.len() >= wanted {
                return Some((*id, Ok(Standing::Whole)));
            }
            if let Err(excuse) = self.may_ask(owner, id) {
                return Some((*id, Err(excuse)));
            }
            let locality = self.nodes[owner].wishes.puts.get(id)?.locality;
            let shard = self.plan.sharding.topic(TopicKind::Store, locality).shard;
            let rooms = rooms.entry((owner, shard)).or_insert_with(|| self.rooms(owner, locality));
            domains.extend(rooms.iter().copied());
            let enough = domains.len() >= wanted;
            Some((*id, enough.then_some(Standing::Degraded).ok_or(Excuse::NoRoom)))
        });
        standing.collect()
    }

    /// Whether an owner can work on a chunk.
    pub(super) fn may_ask(&self, owner: Index, id: &ChunkId) -> Result<(), Excuse> {
        if !self.is_up(owner) {
            return Err(Excuse::OwnerDown);
        }
        let has_job = self.nodes[owner].wishes.has_job(Job::Put(*id));
        (has_job || !self.is_full(owner)).then_some(()).ok_or(Excuse::WindowFull)
    }

    /// Where a chunk is: at honest nodes that can read it, and at cheats that acknowledged it.
    pub(super) fn copies(&self, id: &ChunkId, chunk: &ChunkFacts) -> BTreeSet<Domain> {
        let has = |node: &Index| {
            let looked = &self.nodes[*node];
            self.is_up(*node) && (!looked.is_honest() || looked.holds(id))
        };
        let holders = chunk.acked.keys().copied().filter(has);
        holders.map(|node| self.nodes[node].domain()).collect()
    }
}
