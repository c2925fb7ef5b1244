//! Repairs: what is short by what audits found is fetched, sealed as it is, from a holder that has
//! it, and stored again.
//!
//! What is proven to be gone is made again at once, and what is at a silent holder after a grace.
//! An owner gives nothing to whoever lied to it, nor to whoever is silent: asked by a store request
//! such a one says that it has the chunk, which audits could not find out.

use super::World;
use crate::node::wishes::Job;
use crate::node::{Index, Node, Role};
use crate::sometimes::Rare;
use bytes::Bytes;
use quloud::core::effect::Input;
use quloud::core::owner::{FetchJob, OwnerCommand, StoreJob};
use quloud::core::types::{ChunkId, NodeId};
use quloud::crypto::header::Header;
use quloud::crypto::seal::SealedChunk;
use std::time::Duration;

/// How long sealed bytes may take to come, and a quorum.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so long a repair that finds no holder is given up, until the next look.
const GIVEN_UP: Duration = Duration::from_secs(6 * 3_600);

/// Chunks that are fetched at once.
const AT_ONCE: usize = 4;

impl World<'_> {
    /// Begins to make again what is short, and ends what came to nothing.
    pub(super) fn repair(&mut self, owner: Index) {
        let (now, now_s) = (self.agenda.now(), self.wall_s(owner));
        let longest = self.plan.shorter(GIVEN_UP);
        let repairing = &self.nodes[owner].audits.repairing;
        let tired = repairing.iter().filter(|(_, since)| now.since(**since) >= longest);
        let tired: Vec<ChunkId> = tired.map(|(id, _)| *id).collect();
        for id in tired {
            self.cancel(owner, id);
            self.nodes[owner].audits.repairing.remove(&id);
        }
        let near = self.near(owner);
        let Node { wishes, audits, .. } = &self.nodes[owner];
        let stored = wishes.puts.iter().filter(|(_, put)| put.stored);
        let short = stored.filter_map(|(id, put)| {
            let is_busy = wishes.has_job(Job::Put(*id)) || audits.repairing.contains_key(id);
            let wanted = usize::from(put.replicas);
            let sure = audits.short_of((id, &put.acked), wanted, (now_s, &near))?;
            (!is_busy && !put.acked.is_empty()).then_some((*id, sure))
        });
        let short: Vec<(ChunkId, Vec<NodeId>)> = short.take(AT_ONCE).collect();
        for (id, sure) in short {
            self.fetch_sealed(owner, id, sure);
        }
    }

    fn fetch_sealed(&mut self, owner: Index, id: ChunkId, sure: Vec<NodeId>) {
        let now = self.agenda.now();
        let deadline = self.nodes[owner].clock_at(now.after(PATIENCE));
        let Node { wishes, machine, audits, .. } = &mut self.nodes[owner];
        let room = machine.as_ref().is_some_and(|machine| machine.owner.fetch_slots_free() > 0);
        if !room {
            return;
        }
        let ticket = wishes.begin(Job::Repair(id));
        let Some(put) = wishes.puts.get(&id) else { return };
        // Silent ones may be there by now.
        let others = put.acked.iter().filter(|node| !sure.contains(node)).copied();
        let holders: Vec<NodeId> = sure.iter().copied().chain(others).collect();
        let (locality, read) = (put.locality, put.key.read_secret());
        audits.repairing.insert(id, now);
        self.log(|| format!("{owner} fetches {id:?} to make it again"));
        let job = FetchJob { ticket, id, locality, read, holders, only: false, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Fetch(job)));
    }

    /// Sealed bytes came that are short somewhere.
    pub(super) fn store_sealed(
        &mut self,
        owner: Index,
        id: ChunkId,
        (header, sealed): (Header, Bytes),
    ) {
        let (now, now_s) = (self.agenda.now(), self.wall_s(owner));
        let bytes = sealed.len() as u64;
        let deadline = self.nodes[owner].clock_at(now.after(PATIENCE));
        let near = self.near(owner);
        let Node { wishes, machine, audits, owner_keys, .. } = &mut self.nodes[owner];
        let room = machine.as_ref().is_some_and(|machine| machine.owner.store_window_free() > 0);
        let Some(put) = wishes.puts.get(&id).filter(|_| room) else { return };
        let chunk = SealedChunk::fetched(owner_keys, &put.key, put.locality, (header, sealed));
        let Some(chunk) = chunk else {
            return self.violation(format!("what is made again is the chunk: {id:?} is not"));
        };
        audits.repair_bytes += bytes;
        let wanted = usize::from(put.replicas);
        // Who is silent would say that it has the chunk, and be counted for that.
        let sure = audits.short_of((&id, &put.acked), wanted, (now_s, &near));
        let held_by = sure.unwrap_or_else(|| put.acked.clone());
        let mut without = audits.liars(now_s);
        let is_silent = |node: &&NodeId| audits.stands(node, now_s).1.is_some();
        without.extend(put.acked.iter().filter(is_silent));
        without.extend(wishes.unsettled(&id));
        let replicas = put.replicas;
        let ticket = wishes.begin(Job::Put(id));
        self.noticed.rare.count(Rare::Repaired);
        let (load, beside) = (chunk.into(), Vec::new());
        let job = StoreJob { ticket, load, replicas, held_by, without, beside, deadline };
        self.log(|| format!("{owner} stores {id:?} again, {replicas} times"));
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Store(job)));
    }
}
