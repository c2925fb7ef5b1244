//! One more entry in this device's chain: chunks first, then the head that names them.

use super::{DeviceView, State, ask, device, keys, known_heads, payload_of, refresh, send};
use crate::core::types::{DeviceId, NodeId};
use crate::crypto::head::HeadRecord;
use crate::net::node_of_peer_id;
use crate::node::backup::{StoreSink, Stored, Wish, store_all};
use crate::node::datadir::known_addresses;
use crate::node::failures;
use crate::node::heads::HeadWish;
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::catalog::{Device, Entry, HeadSeen, KnownHead};
use crate::repo::frame::Kind;
use crate::repo::head::{DEVICES_MAX, HEAD_HOLDERS_MAX, HeadPayload};
use crate::repo::manifest::chain::{Chain, ChainView};
use crate::repo::manifest::{
    ADDRESS_BYTES_MAX, Body, Checkpoint, HINTS_MAX, Hint, ManifestEntry, ManifestFault,
};
use crate::repo::sealer::Sealer;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// What publishing came to.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Published {
    /// The entries, and what was stored beside them.
    pub(in crate::node) stored: Stored,
    /// How many nodes keep the head; if fewer than were wished for, it is sent again later.
    pub(in crate::node) head_replicas: usize,
    /// So many of them say that there is a newer one, which another device must have written.
    pub(in crate::node) superseded: usize,
}

const READ_AGAIN: &str = "start more of the mesh's nodes, then run the same command again";

impl super::Repository {
    /// Adds to this device's chain what `what` returns, after the chunks that it seals, and names
    /// it in the device's head. `cancel` is set when the chunks are stored, or will not be.
    ///
    /// # Errors
    /// What `what` fails with; the chain of before cannot be read; nobody takes the chunks or the
    /// head. Once the head is in the catalogue it is sent again until it is kept, whatever fails.
    pub(in crate::node) async fn publish<F>(
        &self,
        inner: &Arc<Inner>,
        wish: Wish,
        (handed, cancel): (Arc<AtomicU64>, Arc<AtomicBool>),
        what: F,
    ) -> Result<Published, Failure>
    where
        F: FnOnce(&mut Sealer<'_, StoreSink>, DeviceId) -> Result<Vec<Body>, Failure>
            + Send
            + 'static,
    {
        let _turn = self.turn.lock().await;
        let mut draft = {
            let mut state = self.state.lock().await;
            if !state.asked {
                refresh(&mut state, inner, ask::breadth(inner)).await?;
            }
            let own = device(inner, &state).await?;
            Draft::new(state.lend(), own, inner, wish.replicas)?
        };
        let own = draft.own;
        let node = Arc::clone(inner);
        let work = move |sink: &mut StoreSink| {
            let keys = &node.keys;
            draft.hints = hints(&node);
            let mut sealer = Sealer::new(keys, keys.locality(), sink);
            let bodies = what(&mut sealer, own.id)?;
            bodies.into_iter().try_for_each(|body| draft.add(&mut sealer, body))?;
            Ok(draft)
        };
        let (draft, stored) = store_all(inner, wish, (handed, cancel), work).await?;
        let record = draft.head(inner, wish.replicas)?;
        inner.record(Entry::HeadSeen(HeadSeen { index: own.index, record: record.clone() }))?;
        if known_heads(inner).get(&own.index).is_none_or(|known| known.seen.record != record) {
            let why = "somebody else wrote this device's head meanwhile";
            return Err(failures::repository(why, "run the same command again"));
        }
        let held_by = draft.holders.iter().copied();
        let held_by = held_by.filter(|node| inner.shared.is_connected(node)).collect();
        let mut state = self.state.lock().await;
        draft.give_back(&mut state, record.clone());
        drop(state);
        let head = HeadWish { replicas: wish.replicas, held_by, patience: wish.patience };
        let kept = send(inner, own.index, record, head).await?;
        match (kept.holders.len(), kept.superseded_by.len()) {
            (0, 0) => Err(failures::head_short(wish.patience)),
            (0, superseded) => Err(failures::head_superseded(superseded)),
            (head_replicas, superseded) => Ok(Published { stored, head_replicas, superseded }),
        }
    }
}

/// The state of before, and this device's chain as it becomes.
struct Draft {
    /// Without this device.
    state: State,
    own: Device,
    generation: u32,
    chain: Chain,
    view: ChainView,
    /// The newest record of this device's head: its number and its hash.
    before: (u64, [u8; 32]),
    /// Who keeps it.
    holders: Vec<NodeId>,
    hints: Vec<Hint>,
    /// Something that it names has too few holders: one of them gone would take the whole chain.
    is_thin: bool,
}

impl Draft {
    fn new(mut state: State, own: Device, inner: &Inner, replicas: u8) -> Result<Self, Failure> {
        let generation = inner.keys.generation;
        let known = known_heads(inner).remove(&own.index);
        let (chain, view, before) = match (state.devices.remove(&own.index), &known) {
            (Some(of), Some(known)) if of.record == known.seen.record && of.device == own.id => {
                (of.chain, of.view, (of.record.number(), of.record.hash()))
            }
            (None, None) => {
                let chain = Chain::new(own.id, own.index, generation);
                (chain, ChainView::default(), (0, [0; 32]))
            }
            (Some(of), _) if of.device != own.id => {
                let why = format!("another device writes head {} of this owner", own.index);
                return Err(failures::repository(why, "run `quloud recover` on this device"));
            }
            _ => {
                let why = "what this device published before cannot be read";
                return Err(failures::repository(why, READ_AGAIN));
            }
        };
        let is_thin =
            known.as_ref().is_some_and(|known| is_thin(inner, own.index, known, replicas));
        let holders = known.and_then(|head| head.kept).map(|kept| kept.holders);
        let holders = holders.unwrap_or_default();
        let hints = Vec::new();
        Ok(Self { state, own, generation, chain, view, before, holders, hints, is_thin })
    }

    /// Seals one entry, and a checkpoint before it where the head has no more room, or in place of
    /// what too few nodes hold: all of it is known, and is stored anew with this entry. What is to
    /// be forgotten the checkpoint says itself, without an entry: so it has room where snapshots
    /// have become too many for one. If even that does not do, an entry says it as long as the head
    /// has room for that, and the next ones are forgotten with what is gone then.
    fn add(&mut self, sealer: &mut Sealer<'_, StoreSink>, body: Body) -> Result<(), Failure> {
        if !self.chain.needs_checkpoint() && !std::mem::take(&mut self.is_thin) {
            return self.seal(sealer, body);
        }
        let checkpoint = Body::Checkpoint(self.checkpoint(&body));
        match (self.chain.is_full(), body) {
            (is_full, Body::Forget(ids)) => match self.entry(checkpoint) {
                Err(fault) if !is_full && is_too_much(fault) => {
                    self.seal(sealer, Body::Forget(ids))
                }
                Err(fault) => Err(too_much(&fault.to_string())),
                Ok(made) => self.store(sealer, made),
            },
            (_, body) => {
                self.seal(sealer, checkpoint)?;
                self.seal(sealer, body)
            }
        }
    }

    /// All that still matters of this device's chain, without what `body` forgets.
    fn checkpoint(&mut self, body: &Body) -> Checkpoint {
        self.state.merge();
        let Device { id, index } = self.own;
        self.state.merged.add_device(index, id, &self.view);
        if let Body::Forget(ids) = body {
            ids.iter().for_each(|id| self.state.merged.forget(index, *id));
        }
        let hints = std::mem::take(&mut self.hints);
        self.state.merged.checkpoint(index, self.state.coverage(), hints)
    }

    fn seal(&mut self, sealer: &mut Sealer<'_, StoreSink>, body: Body) -> Result<(), Failure> {
        let made = self.entry(body).map_err(|fault| too_much(&fault.to_string()))?;
        self.store(sealer, made)
    }

    /// The next entry and its bytes.
    fn entry(&self, body: Body) -> Result<Made, ManifestFault> {
        let entry = self.chain.next(body, now_ns(), self.state.merged.lamport());
        let plaintext = entry.encode()?;
        Ok((entry, plaintext))
    }

    fn store(
        &mut self,
        sealer: &mut Sealer<'_, StoreSink>,
        (entry, plaintext): Made,
    ) -> Result<(), Failure> {
        let sealed = sealer.meta(Kind::Manifest, &plaintext, 0);
        let at = sealed.map_err(|error| too_much(&error.to_string()))?;
        self.chain.push(&entry, &plaintext, at);
        let ManifestEntry { body, .. } = entry;
        match body {
            Body::Checkpoint(checkpoint) => {
                self.view = ChainView { checkpoint: Some(checkpoint), entries: Vec::new() };
            }
            body => self.view.entries.push(ManifestEntry { body, ..entry }),
        }
        Ok(())
    }

    /// The record that names the chain as it is now.
    fn head(&self, inner: &Inner, replicas: u8) -> Result<HeadRecord, Failure> {
        let Device { id, index } = self.own;
        let (number, previous) = self.before;
        let number = NonZeroU64::MIN.saturating_add(number);
        let others = self.state.devices.iter().take(DEVICES_MAX);
        let mut payload = HeadPayload {
            number: number.get(),
            device: id,
            index,
            lamport: self.state.merged.lamport(),
            signed_at_s: now_ns().div_euclid(1_000_000_000),
            replicas,
            retired: false,
            chain: 0,
            newest: [0; 32],
            checkpoint: None,
            recent: Vec::new(),
            devices: others.map(|(index, of)| (*index, of.record.number())).collect(),
            holders: self.holders.iter().take(HEAD_HOLDERS_MAX).copied().collect(),
        };
        self.chain.name_in(&mut payload);
        let failed = |why: String| failures::repository(why, "report it with the node's log");
        let payload = payload.encode().map_err(|fault| failed(fault.to_string()))?;
        debug_assert_eq!(self.generation, inner.keys.generation);
        keys(inner, index)
            .make(number, previous, &payload, &mut rand::rng())
            .map_err(|error| failed(error.to_string()))
    }

    /// What was lent, with what was added; what others read meanwhile counts for the others.
    fn give_back(self, state: &mut State, record: HeadRecord) {
        let Self { state: before, own, chain, view, .. } = self;
        let State { mut devices, missing, asked, .. } = before;
        devices.append(&mut state.devices);
        devices.insert(own.index, DeviceView { record, device: own.id, chain, view });
        state.devices = devices;
        state.missing |= missing;
        state.asked |= asked;
        state.merge();
    }
}

/// Whether anything that this device's head names has fewer than `replicas` holders.
fn is_thin(inner: &Inner, index: u16, known: &KnownHead, replicas: u8) -> bool {
    let payload = payload_of(&keys(inner, index), &known.seen.record);
    payload.is_some_and(|payload| {
        let checkpoint = payload.checkpoint.iter().map(|(_, reference)| reference.id);
        let mut named = checkpoint.chain(payload.recent.iter().map(|reference| reference.id));
        inner.with_catalog(|catalog| {
            named.any(|id| catalog.holders_of(&id).len() < usize::from(replicas))
        })
    })
}
/// An entry that is not stored yet.
type Made = (ManifestEntry, Zeroizing<Vec<u8>>);

fn is_too_much(fault: ManifestFault) -> bool {
    matches!(fault, ManifestFault::TooLong | ManifestFault::Count)
}

fn too_much(why: &str) -> Failure {
    failures::repository(why, "forget some snapshots first")
}

/// The connected nodes that have something of the owner's, and where a machine that has only the
/// words finds them. Reads a file.
pub(in crate::node) fn hints(inner: &Inner) -> Vec<Hint> {
    let peers = inner.shared.watch_peers().borrow().clone();
    let chunks = |node: &NodeId| inner.with_catalog(|catalog| catalog.chunks_held_by(node));
    let mut held: Vec<(NodeId, u64)> =
        peers.into_iter().map(|node| (node, chunks(&node))).filter(|(_, held)| *held > 0).collect();
    held.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
    held.truncate(HINTS_MAX);
    let mut met: BTreeMap<NodeId, String> = known_addresses(inner.data_dir(), usize::MAX)
        .into_iter()
        .filter_map(|text| Some((node_at(&text)?, text)))
        .collect();
    let hint = |(node, chunks): (NodeId, u64)| {
        let address = met.remove(&node).filter(|text| text.len() <= ADDRESS_BYTES_MAX);
        Hint { node, chunks, address: address.unwrap_or_default().into_bytes() }
    };
    held.into_iter().map(hint).collect()
}

/// Whom an address with `/p2p/PEERID` at its end leads to.
pub(in crate::node) fn node_at(address: &str) -> Option<NodeId> {
    let (_, peer) = address.rsplit_once("/p2p/")?;
    node_of_peer_id(peer)
}

/// How many minutes the user's clock is ahead of UTC at a time, by the system's time zone (`TZ`,
/// `/etc/localtime`); 0 where there is none. So that days of a retention are days where they were
/// lived.
pub(in crate::node) fn utc_offset_min(at_ns: i64) -> i16 {
    offset_min(&TimeZone::system(), at_ns)
}

fn offset_min(zone: &TimeZone, at_ns: i64) -> i16 {
    let at = Timestamp::from_nanosecond(at_ns.into()).unwrap_or_default();
    i16::try_from(zone.to_offset(at).seconds() / 60).unwrap_or(0)
}

/// What this device's clock shows: nanoseconds since 1970.
pub(in crate::node) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_zone_at_that_time() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let (winter, summer) = (1_737_000_000_000_000_000, 1_753_000_000_000_000_000);
        assert_eq!([winter, summer].map(|at| offset_min(&zone, at)), [60, 120]);
        let west = TimeZone::posix("NST3:30").unwrap();
        assert_eq!(offset_min(&west, winter), -210);
        assert_eq!([i64::MIN, i64::MAX].map(|at| offset_min(&TimeZone::UTC, at)), [0, 0]);
    }
}
