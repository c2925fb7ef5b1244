//! What is put, who leaves, and what it came to.

use super::mesh::{Event, Mesh};
use super::{CHUNKS, Figures, PUTS_PER_DAY, REPLICAS, Setup};
use crate::net::Traffic;
use crate::node::wishes::strike;
use crate::node::{Index, Role};
use quloud::core::effect::Input;
use quloud::core::owner::{OwnerCommand, OwnerEvent, StoreJob};
use quloud::core::types::{ChunkId, Locality, NodeId, Ticket, Time};
use quloud::crypto::keys::ChunkKey;
use quloud::crypto::seal::SealedChunk;
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt};
use std::collections::BTreeSet;
use std::time::Duration;

/// The plaintext of a chunk, which its seal makes 64 KiB.
const PLAIN_BYTES: usize = 65_000;
/// How long the mesh has to find itself.
const FORMING: Duration = Duration::from_secs(60);
/// How long what was put last has to be stored, and what was asked for again.
const PATIENCE: Duration = Duration::from_secs(120);
const DAY_MS: u64 = 86_400_000;

/// A chunk that was put.
pub(super) struct Put {
    owner: Index,
    chunk: SealedChunk,
    ticket: Ticket,
    /// When its owner asked, last.
    asked: Time,
    /// Who acknowledged it.
    holders: Vec<NodeId>,
}

/// Measures one mesh.
pub(super) fn run(setup: &Setup) -> Figures {
    let mut mesh = Mesh::new(*setup);
    mesh.run_until(Time(0).after(FORMING));
    mesh.forget();
    mesh.put_all();
    mesh.count();
    mesh.heal_all();
    mesh.figures.quorum_ms.sort_unstable();
    mesh.figures.heal_ms.sort_unstable();
    mesh.figures
}

impl Mesh {
    /// What it took to form the mesh does not count.
    fn forget(&mut self) {
        self.net.traffic.iter_mut().for_each(|sent| *sent = Traffic::default());
        self.figures = Figures { connections: self.figures.connections, ..Figures::default() };
    }

    /// As many puts as are simulated, at the rate of the whole mesh.
    fn put_all(&mut self) {
        let (nodes, puts) = (self.setup.nodes as u64, self.setup.puts as u64);
        let window_ms = (puts * DAY_MS / (nodes * PUTS_PER_DAY)).max(1);
        self.figures.window_ms = window_ms;
        let start = self.agenda.now();
        for _ in 0..puts {
            let wait = Duration::from_millis(self.rng.random_range(0..window_ms));
            let owner = self.rng.random_range(0..self.setup.nodes);
            self.agenda.after(wait, Event::Put { owner });
        }
        self.run_until(start.after(Duration::from_millis(window_ms) + PATIENCE));
    }

    /// What all nodes sent so far.
    fn count(&mut self) {
        for sent in &self.net.traffic {
            self.figures.gossip_copies += sent.gossip_copies;
            self.figures.gossip_bytes += sent.gossip_bytes;
        }
    }

    pub(super) fn put(&mut self, owner: Index) {
        let locality = Locality(self.rng.random());
        for _ in 0..CHUNKS {
            let mut plaintext = vec![0; PLAIN_BYTES];
            self.rng.fill_bytes(&mut plaintext);
            let keys = self.nodes[owner].owner_keys.clone();
            let key = ChunkKey::derive(&keys.dedup, 0, 1, &plaintext);
            let chunk = SealedChunk::new(&keys, &key, locality, &plaintext);
            let (id, ticket) = (chunk.id(), Ticket(self.puts.len() as u64));
            self.figures.chunks += 1;
            self.figures.sealed_bytes += chunk.sealed.len() as u64;
            let (asked, holders) = (self.agenda.now(), Vec::new());
            self.puts.insert(id, Put { owner, chunk, ticket, asked, holders });
            self.ask(id);
        }
    }

    pub(super) fn heal(&mut self, owner: Index, id: ChunkId) {
        let now = self.agenda.now();
        let Some(put) = self.puts.get_mut(&id).filter(|put| put.owner == owner) else { return };
        put.asked = now;
        self.ask(id);
    }

    fn ask(&mut self, id: ChunkId) {
        let Some(put) = self.puts.get(&id) else { return };
        let chunk = put.chunk.duplicate();
        let (owner, ticket, held_by) = (put.owner, put.ticket, put.holders.clone());
        let (replicas, without) = (REPLICAS, Vec::new());
        let deadline = self.agenda.now().after(PATIENCE);
        let (load, beside) = (chunk.into(), Vec::new());
        let job = StoreJob { ticket, load, replicas, held_by, without, beside, deadline };
        self.feed(owner, Role::Owner, Input::Command(OwnerCommand::Store(job)));
    }

    pub(super) fn on_owner_event(&mut self, event: &OwnerEvent) {
        match event {
            OwnerEvent::Acked { id, node, .. } => {
                let Some(put) = self.puts.get_mut(id) else { return };
                if !put.holders.contains(node) {
                    put.holders.push(*node);
                }
            }
            OwnerEvent::Stored { id, .. } => {
                let Some(put) = self.puts.get(id) else { return };
                let Time(took) = Time(self.agenda.now().0.saturating_sub(put.asked.0));
                let times = match self.heals {
                    true => &mut self.figures.heal_ms,
                    false => &mut self.figures.quorum_ms,
                };
                times.push(took);
            }
            OwnerEvent::Short { .. }
            | OwnerEvent::Fetched { .. }
            | OwnerEvent::NotFetched { .. }
            | OwnerEvent::Superseded { .. }
            | OwnerEvent::HeadSeen { .. }
            | OwnerEvent::HeadsDone { .. }
            | OwnerEvent::Located { .. }
            | OwnerEvent::LocateDone { .. }
            | OwnerEvent::Noticed { .. }
            | OwnerEvent::StandingAsked { .. }
            | OwnerEvent::Account { .. } => {}
        }
    }

    /// Some holders leave for ever, and when that is known the owners of what they held ask for new
    /// replicas.
    fn heal_all(&mut self) {
        self.heals = true;
        let owners: BTreeSet<Index> = self.puts.values().map(|put| put.owner).collect();
        let held = self.puts.values().flat_map(|put| &put.holders);
        let holders: BTreeSet<Index> =
            held.filter_map(|node| self.indices.get(node)).copied().collect();
        // An owner that leaves asks for nothing; in a small mesh everybody owns something.
        let apart: BTreeSet<Index> = holders.difference(&owners).copied().collect();
        let from = if apart.is_empty() { holders } else { apart };
        let many = (self.setup.nodes / 10).clamp(1, 20);
        let mut leavers: Vec<Index> = from.into_iter().sample(&mut self.rng, many);
        leavers.sort_unstable();
        for leaver in &leavers {
            self.leave(*leaver);
        }
        self.figures.left = leavers.len() as u64;
        let gone: BTreeSet<NodeId> = leavers.iter().map(|node| self.nodes[*node].id).collect();
        let mut asked = Vec::new();
        for (id, put) in &mut self.puts {
            let lost = strike(&mut put.holders, &gone);
            if lost > 0 && self.nodes[put.owner].is_up() {
                self.figures.lost += lost as u64;
                asked.push((put.owner, *id));
            }
        }
        let noticed = self.agenda.now().after(FORMING);
        self.figures.asked = asked.len() as u64;
        for (owner, id) in asked {
            self.agenda.at(noticed, Event::Heal { owner, id });
        }
        self.run_until(noticed.after(PATIENCE));
    }
}
