//! Bodies as bytes. Writer and reader share the limits: what is too much is refused before it is
//! written, and never believed.

use super::{
    ADDRESS_BYTES_MAX, Added, Body, Checkpoint, FORGETS_MAX, HINTS_MAX, Hint, KeyChange, KeyEvent,
    KnownDevice, LIVE_MAX, ManifestFault, PruneIntent, ROOTS_BYTES_MAX,
};
use crate::core::types::{DeviceId, NodeId, SnapshotId};
use crate::repo::fields::{put_path, put_text, take, take_bytes, take_path, take_text};
use crate::repo::reference::ChunkRef;
use bytes::Buf;
use zeroize::Zeroizing;

pub(super) const ADD: u8 = 1;
pub(super) const FORGET: u8 = 2;
pub(super) const PRUNE_INTENT: u8 = 3;
pub(super) const PRUNE_DONE: u8 = 4;
pub(super) const KEYS: u8 = 5;
pub(super) const CHECKPOINT: u8 = 6;

const PARTIAL: u8 = 1;
const PUT: u8 = 2;
const ROOTS_CUT: u8 = 4;
const RETIRED: u8 = 1;

/// The most devices and the most open prunes of a checkpoint: heads have no more.
const DEVICES_MAX: usize = 64;

type Outcome<T> = Result<T, ManifestFault>;

pub(super) fn encode(body: &Body) -> Outcome<Zeroizing<Vec<u8>>> {
    check(body)?;
    let mut out = Zeroizing::new(Vec::new());
    match body {
        Body::Add(added) => put_added(added, &mut out)?,
        Body::Forget(ids) => put_ids(ids, &mut out),
        Body::PruneIntent(intent) => put_intent(intent, &mut out),
        Body::PruneDone { prune, released } => {
            out.extend_from_slice(prune);
            out.extend(released.to_le_bytes());
        }
        Body::Keys(KeyEvent { what, device, index, generation }) => {
            out.push(*what as u8);
            out.extend_from_slice(device.as_bytes());
            out.extend(index.to_le_bytes());
            out.extend(generation.to_le_bytes());
        }
        Body::Checkpoint(checkpoint) => put_checkpoint(checkpoint, &mut out)?,
    }
    Ok(out)
}

/// `None` where the body is shorter than it says.
pub(super) fn decode(kind: u8, bytes: &[u8]) -> Option<Outcome<Body>> {
    let mut rest = bytes;
    let body = match kind {
        ADD => take_added(&mut rest)?.map(Body::Add),
        FORGET => Ok(Body::Forget(take_ids(&mut rest)?)),
        PRUNE_INTENT => Ok(Body::PruneIntent(take_intent(&mut rest)?)),
        PRUNE_DONE => {
            let prune = take(&mut rest)?;
            Ok(Body::PruneDone { prune, released: rest.try_get_u64_le().ok()? })
        }
        KEYS => take_keys(&mut rest)?.map(Body::Keys),
        CHECKPOINT => take_checkpoint(&mut rest)?.map(Body::Checkpoint),
        other => Err(ManifestFault::Kind(other)),
    };
    // Too much is as wrong as too little, but what is wrong already says more.
    if body.is_ok() && !rest.is_empty() {
        return None;
    }
    Some(body.and_then(|body| check(&body).map(|()| body)))
}

/// The limits that hold for writers and readers.
fn check(body: &Body) -> Outcome<()> {
    match body {
        Body::Add(added) => check_added(added),
        Body::Forget(ids) => {
            let count = (1..=FORGETS_MAX).contains(&ids.len());
            ensure(count, ManifestFault::Count)?;
            ensure(ascend(ids.iter()), ManifestFault::Order)
        }
        Body::PruneIntent(_) | Body::PruneDone { .. } | Body::Keys(_) => Ok(()),
        Body::Checkpoint(checkpoint) => {
            let Checkpoint { live, forgets, intents, devices, hints } = checkpoint;
            let within = live.len() <= LIVE_MAX
                && forgets.len() <= FORGETS_MAX
                && intents.len() <= DEVICES_MAX
                && devices.len() <= DEVICES_MAX
                && hints.len() <= HINTS_MAX
                && hints.iter().all(|hint| hint.address.len() <= ADDRESS_BYTES_MAX);
            ensure(within, ManifestFault::Count)?;
            let mut ids: Vec<SnapshotId> = live.iter().map(|added| added.id).collect();
            ids.sort_unstable();
            let once = ascend(ids.iter()) && ascend(devices.iter().map(|device| device.index));
            ensure(once && ascend(forgets.iter()), ManifestFault::Order)?;
            live.iter().try_for_each(check_added)
        }
    }
}

fn check_added(added: &Added) -> Outcome<()> {
    let roots: usize = added.roots.iter().map(Vec::len).sum();
    ensure(roots <= ROOTS_BYTES_MAX, ManifestFault::Count)
}

fn ascend<T: PartialOrd>(items: impl Iterator<Item = T> + Clone) -> bool {
    items.clone().zip(items.skip(1)).all(|(left, right)| left < right)
}

fn ensure(holds: bool, fault: ManifestFault) -> Outcome<()> {
    if holds { Ok(()) } else { Err(fault) }
}

fn put_added(added: &Added, out: &mut Vec<u8>) -> Outcome<()> {
    let flag = |set, bit| if set { bit } else { 0 };
    let flags = flag(added.partial, PARTIAL) | flag(added.put, PUT);
    out.extend_from_slice(added.id.as_bytes());
    added.reference.put_short(out);
    out.extend(added.created_ns.to_le_bytes());
    out.extend(added.utc_offset_min.to_le_bytes());
    out.push(flags | flag(added.roots_cut, ROOTS_CUT));
    for count in [added.files, added.bytes, added.new_bytes] {
        out.extend(count.to_le_bytes());
    }
    put_text(&added.host, out).ok_or(ManifestFault::Text)?;
    let count = u16::try_from(added.roots.len()).map_err(|_| ManifestFault::Count)?;
    out.extend(count.to_le_bytes());
    let roots = added.roots.iter().try_for_each(|root| put_path(root, out));
    roots.ok_or(ManifestFault::Text)?;
    out.push(u8::try_from(added.tags.len()).map_err(|_| ManifestFault::Count)?);
    let tags = added.tags.iter().try_for_each(|tag| put_text(tag, out));
    tags.ok_or(ManifestFault::Text)
}

fn take_added(rest: &mut &[u8]) -> Option<Outcome<Added>> {
    let id = SnapshotId::from_bytes(take(rest)?);
    let reference = ChunkRef::take_short(rest)?;
    let created_ns = rest.try_get_i64_le().ok()?;
    let utc_offset_min = rest.try_get_i16_le().ok()?;
    let flags = rest.try_get_u8().ok()?;
    let (files, bytes) = (rest.try_get_u64_le().ok()?, rest.try_get_u64_le().ok()?);
    let new_bytes = rest.try_get_u64_le().ok()?;
    let host = text(rest)?;
    let count = rest.try_get_u16_le().ok()?;
    let roots: Option<Vec<_>> = (0..count).map(|_| take_path(rest)).collect();
    let roots = roots?;
    let count = rest.try_get_u8().ok()?;
    let tags: Option<Vec<_>> = (0..count).map(|_| text(rest)).collect();
    let tags = tags?;
    if flags & !(PARTIAL | PUT | ROOTS_CUT) != 0 {
        return Some(Err(ManifestFault::Kind(flags)));
    }
    let (partial, put) = (flags & PARTIAL != 0, flags & PUT != 0);
    let roots_cut = flags & ROOTS_CUT != 0;
    let texts = || Ok((host?, tags.into_iter().collect::<Outcome<Vec<_>>>()?));
    Some(texts().map(|(host, tags)| Added {
        id,
        reference,
        created_ns,
        utc_offset_min,
        partial,
        put,
        roots_cut,
        files,
        bytes,
        new_bytes,
        host,
        roots,
        tags,
    }))
}

fn put_intent(intent: &PruneIntent, out: &mut Vec<u8>) {
    out.extend_from_slice(&intent.prune);
    out.extend(intent.grace_s.to_le_bytes());
}

fn take_intent(rest: &mut &[u8]) -> Option<PruneIntent> {
    let prune = take(rest)?;
    Some(PruneIntent { prune, grace_s: rest.try_get_u32_le().ok()? })
}

fn put_ids(ids: &[SnapshotId], out: &mut Vec<u8>) {
    out.extend((ids.len() as u32).to_le_bytes());
    ids.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
}

fn take_ids(rest: &mut &[u8]) -> Option<Vec<SnapshotId>> {
    let count = rest.try_get_u32_le().ok()?;
    (0..count).map(|_| take(rest).map(SnapshotId::from_bytes)).collect()
}

fn take_keys(rest: &mut &[u8]) -> Option<Outcome<KeyEvent>> {
    let what = match rest.try_get_u8().ok()? {
        1 => Ok(KeyChange::Joined),
        2 => Ok(KeyChange::Retired),
        3 => Ok(KeyChange::NewGeneration),
        other => Err(ManifestFault::Kind(other)),
    };
    let device = DeviceId::from_bytes(take(rest)?);
    let (index, generation) = (rest.try_get_u16_le().ok()?, rest.try_get_u32_le().ok()?);
    Some(what.map(|what| KeyEvent { what, device, index, generation }))
}

fn put_checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) -> Outcome<()> {
    out.extend((checkpoint.live.len() as u32).to_le_bytes());
    checkpoint.live.iter().try_for_each(|added| put_added(added, out))?;
    put_ids(&checkpoint.forgets, out);
    out.extend((checkpoint.intents.len() as u16).to_le_bytes());
    for (intent, lamport) in &checkpoint.intents {
        put_intent(intent, out);
        out.extend(lamport.to_le_bytes());
    }
    out.extend((checkpoint.devices.len() as u16).to_le_bytes());
    for KnownDevice { index, device, lamport, retired } in &checkpoint.devices {
        out.extend(index.to_le_bytes());
        out.extend_from_slice(device.as_bytes());
        out.extend(lamport.to_le_bytes());
        out.push(if *retired { RETIRED } else { 0 });
    }
    out.extend((checkpoint.hints.len() as u16).to_le_bytes());
    for Hint { node, chunks, address } in &checkpoint.hints {
        out.extend_from_slice(node.as_bytes());
        out.extend(chunks.to_le_bytes());
        out.extend((address.len() as u16).to_le_bytes());
        out.extend_from_slice(address);
    }
    Ok(())
}

fn take_checkpoint(rest: &mut &[u8]) -> Option<Outcome<Checkpoint>> {
    let count = rest.try_get_u32_le().ok()?;
    let live: Option<Outcome<Vec<_>>> = (0..count).map(|_| take_added(rest)).collect();
    let live = match live? {
        Ok(live) => live,
        Err(fault) => return Some(Err(fault)),
    };
    let forgets = take_ids(rest)?;
    let count = rest.try_get_u16_le().ok()?;
    let intent = |_| Some((take_intent(rest)?, rest.try_get_u64_le().ok()?));
    let intents: Option<Vec<_>> = (0..count).map(intent).collect();
    let intents = intents?;
    let count = rest.try_get_u16_le().ok()?;
    let devices: Option<Outcome<Vec<_>>> = (0..count).map(|_| take_device(rest)).collect();
    let devices = devices?;
    let count = rest.try_get_u16_le().ok()?;
    let hints: Option<Vec<_>> = (0..count).map(|_| take_hint(rest)).collect();
    let hints = hints?;
    Some(devices.map(|devices| Checkpoint { live, forgets, intents, devices, hints }))
}

fn take_device(rest: &mut &[u8]) -> Option<Outcome<KnownDevice>> {
    let index = rest.try_get_u16_le().ok()?;
    let device = DeviceId::from_bytes(take(rest)?);
    let lamport = rest.try_get_u64_le().ok()?;
    let flags = rest.try_get_u8().ok()?;
    if flags & !RETIRED != 0 {
        return Some(Err(ManifestFault::Kind(flags)));
    }
    Some(Ok(KnownDevice { index, device, lamport, retired: flags != 0 }))
}

fn take_hint(rest: &mut &[u8]) -> Option<Hint> {
    let node = NodeId::from_bytes(take(rest)?);
    let chunks = rest.try_get_u64_le().ok()?;
    let length = rest.try_get_u16_le().ok()?;
    let address = take_bytes(rest, length.into())?.to_vec();
    Some(Hint { node, chunks, address })
}

fn text(rest: &mut &[u8]) -> Option<Outcome<String>> {
    Some(take_text(rest)?.ok_or(ManifestFault::Text))
}
