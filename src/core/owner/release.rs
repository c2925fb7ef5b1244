//! Letting chunks go, and taking that back: the proofs of a release, and what its answer must say.

use super::shared::Shared;
use crate::core::codec::RELEASES_MAX;
use crate::core::message::{Release, ReleaseItem};
use crate::core::types::{ChunkId, LeaseNonce, NodeId};
use crate::crypto::keys::{ChunkKey, ChunkSecret, OwnerKeys, random};
use crate::crypto::ownership::{Context, Verifier, prove};
use std::collections::BTreeSet;

/// One chunk to be released, or of which a release is to be taken back.
#[derive(Debug)]
pub struct ReleaseWish {
    /// The chunk.
    pub id: ChunkId,
    /// Its key, of which the proof is made.
    pub ck: ChunkKey,
    /// d, where the device does without the delete key and was lent it.
    pub lent: Option<ChunkSecret>,
    /// The lease that is meant, as the holder acknowledged it.
    pub lease: LeaseNonce,
}

/// Whether one message can say it.
pub(super) fn is_fit(items: &[ReleaseWish]) -> bool {
    let distinct: BTreeSet<ChunkId> = items.iter().map(|item| item.id).collect();
    (1..=RELEASES_MAX).contains(&items.len()) && distinct.len() == items.len()
}

/// Whether this device can prove it: a release takes the delete key.
pub(super) fn is_allowed(keys: &OwnerKeys, undo: bool, items: &[ReleaseWish]) -> bool {
    undo || keys.delete.is_some() || items.iter().all(|item| item.lent.is_some())
}

/// d of the chunk, or z for taking a release back; `None` where the delete key is not here.
fn secret(keys: &OwnerKeys, undo: bool, wish: &ReleaseWish) -> Option<ChunkSecret> {
    let ck = &wish.ck;
    if undo {
        return Some(keys.admin.chunk_secret(ck));
    }
    if let Some(lent) = &wish.lent {
        return Some(lent.duplicate());
    }
    keys.delete.as_ref().map(|delete| delete.chunk_secret(&keys.admin, ck))
}

/// The message to one holder, with fresh proofs; `None` where the delete key is not here.
pub(super) fn message(
    shared: &mut Shared,
    (holder, request): (NodeId, u64),
    undo: bool,
    wishes: &[ReleaseWish],
) -> Option<Release> {
    let nonce = random(&mut shared.rng);
    let mut release = Release { request, undo, nonce, items: Vec::with_capacity(wishes.len()) };
    for wish in wishes {
        let ReleaseWish { id, lease, .. } = wish;
        let secret = secret(&shared.keys, undo, wish)?;
        let context = Context {
            operation: release.operation(),
            mesh: shared.mesh,
            verifier: Verifier::Node(holder),
            asker: Some(shared.node),
            nonce,
            body_hash: Release::body_hash(lease),
        };
        let proof = prove(&secret, id, &context, &mut shared.rng);
        release.items.push(ReleaseItem { id: *id, lease: *lease, proof });
    }
    Some(release)
}
