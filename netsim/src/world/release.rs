//! Chunks that their owners give up.
//!
//! No role speaks of that yet, so the world does: it tells each holder, which deletes the chunk in
//! its own time. What a holder acknowledged since it was told stays.

use super::{Event, World};
use crate::chance::between;
use crate::node::wishes::Job;
use crate::node::{Index, Role};
use crate::oracle::Fact;
use crate::sometimes::Rare;
use quloud::core::effect::Input;
use quloud::core::owner::OwnerCommand;
use quloud::core::types::{ChunkId, Ticket, Time};
use std::time::Duration;

/// Marks tickets that no role has given out.
const OURS: u64 = 1 << 63;

/// When a delete that came to nothing is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

impl World<'_> {
    /// A user gives some chunks up: stored ones and unfinished ones.
    pub(super) fn release(&mut self, owner: Index) {
        let puts = self.nodes[owner].wishes.puts.iter();
        let ids: Vec<ChunkId> = puts.filter(|(_, put)| !put.backup).map(|(id, _)| *id).collect();
        for id in ids {
            if self.plan.use_.released.happens(&mut self.rng) {
                self.release_one(owner, id);
            }
        }
    }

    fn release_one(&mut self, owner: Index, id: ChunkId) {
        let now = self.agenda.now();
        let Some(put) = self.nodes[owner].wishes.puts.remove(&id) else { return };
        self.log(|| format!("{owner} gives {id:?} up"));
        let rare = if put.stored { Rare::Released } else { Rare::PutGivenUp };
        self.noticed.rare.count(rare);
        self.nodes[owner].wishes.dropped.insert(id, put);
        self.nodes[owner].audits.forget(&id);
        self.see(&Fact::GaveUp { owner, id });
        self.cancel(owner, id);
        let Some(chunk) = self.chunks.get_mut(&id) else { return };
        (chunk.released, chunk.promised) = (Some(now), false);
        let holders: Vec<Index> = chunk.acked.keys().copied().collect();
        for holder in holders {
            self.expire_later(holder, id, now);
        }
        if self.plan.use_.again.happens(&mut self.rng) {
            let wait = between(&mut self.rng, Duration::from_secs(1), self.plan.use_.grace * 2);
            self.agenda.after(wait, Event::PutAgain { owner, id });
        }
    }

    /// The same file is put again.
    pub(super) fn put_again(&mut self, owner: Index, id: ChunkId) {
        let now = self.agenda.now();
        let wishes = &mut self.nodes[owner].wishes;
        let Some(mut put) = wishes.dropped.remove(&id) else { return };
        (put.stored, put.acked, put.since) = (false, Vec::new(), now);
        wishes.puts.insert(id, put);
        self.chunks.get_mut(&id).into_iter().for_each(|chunk| chunk.released = None);
        self.noticed.rare.count(Rare::PutAgain);
        self.agenda.after(self.plan.use_.patience, Event::GiveUp { owner });
        self.submit(owner);
    }

    /// A user waits no longer for what is not stored yet: without that, worlds where too few nodes
    /// take chunks would ask, and answer, every few minutes to their end.
    pub(super) fn give_up(&mut self, owner: Index) {
        let (now, patience) = (self.agenda.now(), self.plan.use_.patience);
        let puts = self.nodes[owner].wishes.puts.iter_mut();
        let mut tired = Vec::new();
        for (id, put) in puts.filter(|(_, put)| !put.stored && put.since.after(patience) <= now) {
            put.resting = true;
            tired.push(*id);
        }
        let work = self.devices.get(&owner).and_then(|device| device.work.as_ref());
        let is_stuck = work.is_some_and(|work| tired.iter().any(|id| work.waits.contains(id)));
        for id in tired {
            self.cancel(owner, id);
        }
        if is_stuck {
            self.break_off(owner);
        }
        self.rest_head(owner);
    }

    /// What users waited for no longer is wanted again.
    pub(super) fn wake_wishes(&mut self) {
        for owner in 0..self.plan.use_.owners {
            self.nodes[owner].wishes.puts.values_mut().for_each(|put| put.resting = false);
        }
        self.devices.values_mut().for_each(|device| device.resting = false);
    }

    pub(super) fn cancel(&mut self, owner: Index, id: ChunkId) {
        if let Some(ticket) = self.nodes[owner].wishes.end_job(Job::Put(id))
            && self.nodes[owner].machine.is_some()
        {
            self.log(|| format!("{owner} waits no longer for {id:?}"));
            self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Cancel(ticket)));
        }
    }

    /// A holder is told at some time.
    pub(super) fn expire_later(&mut self, node: Index, id: ChunkId, released: Time) {
        let wait = between(&mut self.rng, Duration::from_secs(1), self.plan.use_.grace);
        self.agenda.after(wait, Event::Expire { node, id, released });
    }

    /// A holder deletes a chunk that was given up, unless it acknowledged it since.
    pub(super) fn expire(&mut self, node: Index, id: ChunkId, released: Time) {
        let Some(chunk) = self.chunks.get(&id) else { return };
        let acked = chunk.acked.get(&node).copied();
        if chunk.buried.contains(&node) || acked.is_some_and(|at| at > released) {
            return;
        }
        if !self.calm {
            let wait = between(&mut self.rng, AGAIN.0, AGAIN.1);
            self.agenda.after(wait, Event::Expire { node, id, released });
        }
        let Some(machine) = &self.nodes[node].machine else { return };
        if machine.store.is_to_write(&id) {
            return;
        }
        let seen = self.nodes[node].seen(&id);
        self.see(&Fact::Looked { node, id, seen });
        // From here on it may be gone.
        if let Some(chunk) = self.chunks.get_mut(&id) {
            chunk.acked.remove(&node);
        }
        self.delete_at(node, id);
    }

    /// A store is told to delete a chunk, by no role.
    pub(super) fn delete_at(&mut self, node: Index, id: ChunkId) {
        let Some(machine) = &mut self.nodes[node].machine else { return };
        self.releases += 1;
        let begins = machine.store.delete(Ticket(OURS | self.releases), id);
        self.commit_later(node, begins);
    }
}
