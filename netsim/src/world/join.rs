//! Somebody who comes new when the world is calm: a new identity, an empty store, and only the
//! capabilities that it is given.

use super::{Event, World};
use crate::disk::DiskFaults;
use crate::limits::Limits;
use crate::node::{Blueprint, Index, Node, Place};
use quloud::core::effect::Reach;
use quloud::crypto::keys::OwnerKeys;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use std::sync::Arc;
use std::time::Duration;

/// To how many it keeps a connection, where there are as many.
const PEERS: usize = 8;

/// Where it is seen.
const PLACE: Place = Place::good(Reach::PublicV4([102, 0, 0]));

/// How long it takes to find its way in.
const JOINING: Duration = Duration::from_secs(180);

impl World<'_> {
    /// A node that was never there joins.
    pub(super) fn join_in(&mut self) -> Index {
        // Somebody's second device, or somebody else's first.
        let owner = self.devices.keys().copied().choose(&mut self.rng);
        let keys = owner.map(|owner| Arc::clone(&self.nodes[owner].owner_keys));
        self.join_with(keys)
    }

    /// A node joins that was never there; its user has these keys, or new ones.
    pub(super) fn join_with(&mut self, keys: Option<Arc<OwnerKeys>>) -> Index {
        let newcomer = self.nodes.len();
        let blueprint = super::build::blueprint(&mut self.rng, &self.plan, newcomer, PLACE);
        let faults = DiskFaults::default();
        let blueprint = Blueprint { disk: faults, limits: Limits::default(), ..blueprint };
        let mut node = Node::new(ChaCha20Rng::from_seed(self.rng.random()), blueprint);
        node.mend();
        node.owner_keys = keys.unwrap_or(node.owner_keys);
        self.log(|| format!("{newcomer} joins"));
        let nodes = &self.nodes;
        let known = (0..newcomer).filter(|node| nodes[*node].is_up());
        let mut known = known.sample(&mut self.rng, PEERS);
        known.sort_unstable();
        self.keeps.extend(known.into_iter().map(|peer| (peer, newcomer)));
        self.net.join();
        self.indices.insert(node.id, newcomer);
        self.ids.push(node.id);
        self.nodes.push(node);
        let now = self.agenda.now();
        self.agenda.at(now, Event::Start { node: newcomer });
        self.run_until(now.after(JOINING), |_| false);
        newcomer
    }
}
