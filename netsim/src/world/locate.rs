//! Owners that look for holders: of what they put, and of what they gave up.
//!
//! The daemon does so on a device that was recovered, and where replicas are missing. Who is found
//! is nobody's replica, so nothing comes of it here: what is said is the oracle's to judge.

use super::World;
use crate::node::wishes::Job;
use crate::node::{Index, Role};
use quloud::core::effect::Input;
use quloud::core::owner::{LocateJob, OwnerCommand, SoughtChunk};
use quloud::core::types::{ChunkId, NodeId, Ticket};
use rand::seq::IteratorRandom;
use std::time::Duration;

/// The most chunks that are asked for at once: two requests where all have one topic.
const SOUGHT: usize = 48;

/// How long an owner listens.
const PATIENCE: Duration = Duration::from_secs(10);

impl World<'_> {
    /// Some owner looks for holders of some of its chunks.
    pub(super) fn locate_some(&mut self) {
        let has_any = |node: &Index| {
            let wishes = &self.nodes[*node].wishes;
            self.is_up(*node) && !(wishes.puts.is_empty() && wishes.dropped.is_empty())
        };
        let owners: Vec<Index> = (0..self.nodes.len()).filter(has_any).collect();
        let Some(owner) = owners.into_iter().choose(&mut self.rng) else { return };
        let wishes = &self.nodes[owner].wishes;
        let all = wishes.puts.keys().chain(wishes.dropped.keys()).copied();
        let ids = all.sample(&mut self.rng, SOUGHT);
        self.locate(owner, &ids);
    }

    /// An owner looks for holders of all that it ever put: what it was said before is forgotten.
    pub(super) fn locate_all(&mut self, owner: Index) {
        self.located.retain(|(of, ..)| *of != owner);
        let wishes = &self.nodes[owner].wishes;
        let ids: Vec<ChunkId> = wishes.puts.keys().chain(wishes.dropped.keys()).copied().collect();
        self.locate(owner, &ids);
    }

    /// An owner is told who says that it has what. A node's word is nobody's replica.
    pub(super) fn on_located(&mut self, owner: Index, holder: NodeId, ids: Vec<ChunkId>) {
        self.located.extend(ids.into_iter().map(|id| (owner, holder, id)));
    }

    pub(super) fn on_locate_done(&mut self, owner: Index, ticket: Ticket) {
        if self.nodes[owner].wishes.end(ticket) != Some(Job::Locate) {
            self.violation(format!("no search ends unasked: one of {owner} does"));
        }
    }

    /// How many replicas were named to an owner.
    pub(crate) fn located(&self, owner: Index) -> usize {
        self.located.iter().filter(|(of, ..)| *of == owner).count()
    }

    /// An owner looks for holders of these.
    pub(super) fn locate(&mut self, owner: Index, ids: &[ChunkId]) {
        if !self.is_up(owner) {
            return;
        }
        let node = &mut self.nodes[owner];
        let ticket = node.wishes.begin(Job::Locate);
        let (wishes, admin) = (&node.wishes, &node.owner_keys.admin);
        let put = |id: &ChunkId| wishes.puts.get(id).or_else(|| wishes.dropped.get(id));
        let sought = ids.iter().filter_map(|id| Some((*id, put(id)?)));
        let wanted = sought.map(|(id, put)| SoughtChunk {
            id,
            locality: put.locality,
            admin: admin.chunk_secret(&put.key),
        });
        let wanted = wanted.collect();
        let deadline = node.clock_at(self.agenda.now().after(PATIENCE));
        self.log(|| format!("{owner} looks for holders of {} chunks", ids.len()));
        let job = LocateJob { ticket, wanted, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Locate(job)));
    }
}
