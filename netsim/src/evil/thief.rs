//! Has copied an owner's device: its keys and its catalogue, so all of its chunks, their holders
//! and their leases. Asks the holders to let them go. Without the delete key, its proofs are of
//! what it has: of the key by which releases are taken back, or of a delete key of its own. With
//! it, it strikes once.

use super::{Behaviour, Env, Loot};
use crate::node::MESH;
use quloud::core::effect::Effect;
use quloud::core::message::{Release, ReleaseItem, StreamMessage};
use quloud::core::types::NodeId;
use quloud::crypto::keys::{ChunkSecret, DeleteKey, OwnerKeys};
use quloud::crypto::ownership::{Context, Verifier, prove};
use rand::RngExt;
use std::collections::BTreeMap;

/// So many chunks of a holder at a time.
const AT_ONCE: usize = 8;

pub(crate) struct Thief {
    has_delete_key: bool,
    has_struck: bool,
    requests: u64,
}

impl Thief {
    pub(super) fn without_delete_key() -> Self {
        Self { has_delete_key: false, has_struck: false, requests: 0 }
    }

    pub(super) fn with_delete_key() -> Self {
        Self { has_delete_key: true, ..Self::without_delete_key() }
    }

    /// What its proof of a chunk is made of.
    fn secret(&self, env: &mut Env<'_>, keys: &OwnerKeys, loot: &Loot) -> Option<ChunkSecret> {
        let own = DeleteKey::from_bytes(env.rng.random());
        match (self.has_delete_key, env.rng.random()) {
            (true, _) => Some(keys.delete.as_ref()?.chunk_secret(&keys.admin, &loot.key)),
            (false, true) => Some(keys.admin.chunk_secret(&loot.key)),
            (false, false) => Some(own.chunk_secret(&keys.admin, &loot.key)),
        }
    }

    fn release(
        &mut self,
        env: &mut Env<'_>,
        keys: &OwnerKeys,
        (holder, loot): (NodeId, &[Loot]),
    ) -> StreamMessage {
        self.requests += 1;
        let nonce = env.rng.random();
        let mut release = Release { request: self.requests, undo: false, nonce, items: Vec::new() };
        for stolen in loot {
            let context = Context {
                operation: release.operation(),
                mesh: MESH,
                verifier: Verifier::Node(holder),
                asker: Some(env.keys.node_id()),
                nonce,
                body_hash: Release::body_hash(&stolen.lease),
            };
            let Some(secret) = self.secret(env, keys, stolen) else { continue };
            let proof = prove(&secret, &stolen.id, &context, env.rng);
            release.items.push(ReleaseItem { id: stolen.id, lease: stolen.lease, proof });
        }
        env.acts += 1;
        StreamMessage::Release(release)
    }
}

impl Behaviour for Thief {
    fn name(&self) -> &'static str {
        match self.has_delete_key {
            true => "lets go with a stolen delete key",
            false => "lets go without the delete key",
        }
    }

    fn act(&mut self, env: &mut Env<'_>) -> Vec<Effect> {
        let Some((keys, loot)) = env.loot.take().filter(|_| !self.has_struck) else {
            return Vec::new();
        };
        let mut by_holder: BTreeMap<NodeId, Vec<Loot>> = BTreeMap::new();
        for stolen in loot.into_iter().filter(|stolen| stolen.holder != env.keys.node_id()) {
            by_holder.entry(stolen.holder).or_default().push(stolen);
        }
        self.has_struck = self.has_delete_key && !by_holder.is_empty();
        let mut effects = Vec::new();
        for (holder, loot) in &by_holder {
            for some in loot.chunks(AT_ONCE) {
                let message = self.release(env, &keys, (*holder, some));
                effects.push(Effect::Send { to: *holder, message });
            }
        }
        effects
    }

    fn steals(&self) -> bool {
        true
    }

    fn has_delete_key(&self) -> bool {
        self.has_delete_key
    }
}
