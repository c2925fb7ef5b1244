//! One more entry in this device's chain: chunks first, then the head that names them.

use super::{State, ask, device, keys, known_heads, payload_of, refresh, send};
use crate::core::types::{DeviceId, NodeId, SnapshotId};
use crate::crypto::head::HeadRecord;
use crate::net::node_of_peer_id;
use crate::node::backup::{Handed, StoreSink, Stored, Wish, store_all};
use crate::node::datadir::known_addresses;
use crate::node::failures;
use crate::node::heads::HeadWish;
use crate::node::inner::Inner;
use crate::node::report::Failure;
use crate::repo::catalog::{
    BackupMade, Device, Entry, HeadSeen, KnownHead, PruneNote, ToLookAfter,
};
use crate::repo::manifest::draft::{Before, Draft};
use crate::repo::manifest::{ADDRESS_BYTES_MAX, Added, Body, HINTS_MAX, Hint};
use crate::repo::sealer::Sealer;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// What is to be noted of a backup once its snapshot has its name, and its own chunks are stored.
pub(in crate::node) type MadeBy = Box<dyn FnOnce(SnapshotId, Stored) -> BackupMade + Send>;

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
        (handed, cancel): (Arc<Handed>, Arc<AtomicBool>),
        what: F,
    ) -> Result<Published, Failure>
    where
        F: FnOnce(&mut Sealer<'_, StoreSink>, DeviceId) -> Result<Vec<Body>, Failure>
            + Send
            + 'static,
    {
        self.publish_noting(inner, wish, (handed, cancel), what, None).await
    }

    /// As [`Self::publish`], of the snapshot of a backup: what `made_by` says of it stands in the
    /// catalogue from the same write on as the head that names it.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(in crate::node) async fn publish_made<F>(
        &self,
        inner: &Arc<Inner>,
        wish: Wish,
        reins: (Arc<Handed>, Arc<AtomicBool>),
        what: F,
        made_by: MadeBy,
    ) -> Result<Published, Failure>
    where
        F: FnOnce(&mut Sealer<'_, StoreSink>, DeviceId) -> Result<Vec<Body>, Failure>
            + Send
            + 'static,
    {
        self.publish_noting(inner, wish, reins, what, Some(made_by)).await
    }

    async fn publish_noting<F>(
        &self,
        inner: &Arc<Inner>,
        wish: Wish,
        (handed, cancel): (Arc<Handed>, Arc<AtomicBool>),
        what: F,
        made_by: Option<MadeBy>,
    ) -> Result<Published, Failure>
    where
        F: FnOnce(&mut Sealer<'_, StoreSink>, DeviceId) -> Result<Vec<Body>, Failure>
            + Send
            + 'static,
    {
        let _turn = self.turn.lock().await;
        let node = Arc::clone(inner);
        let hints = tokio::task::spawn_blocking(move || hints(&node)).await;
        let hints = hints.map_err(|error| failures::died("the reader of addresses", &error))?;
        let mut draft = {
            let mut state = self.state.lock().await;
            if !state.asked {
                refresh(&mut state, inner, ask::breadth(inner)).await?;
            }
            let own = device(inner, &state).await?;
            Publication::new(state.lend(), own, inner, (wish.replicas, hints))?
        };
        let own = draft.own;
        let keys = Arc::clone(&inner.keys);
        let work = move |sink: &mut StoreSink| {
            let mut sealer = Sealer::new(&keys, keys.locality(), sink);
            let bodies = what(&mut sealer, own.id)?;
            let new = to_look_after(&bodies, wish.replicas);
            let mut add = |body| draft.draft.add(&mut sealer, body, now_ns());
            bodies.into_iter().try_for_each(&mut add).map_err(|why| too_much(&why.to_string()))?;
            Ok((draft, new))
        };
        let ((draft, new), stored) = store_all(inner, wish, (handed, cancel), work).await?;
        let record = draft.head(inner, wish.replicas)?;
        let made = made_by.zip(new.first()).map(|(made_by, it)| made_by(it.id, stored));
        let seen = HeadSeen { index: own.index, record: record.clone() };
        self.note_published(inner, seen, (new, made))?;
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

impl super::Repository {
    /// Notes a record that is about to be sent, and before it the snapshots that it is the first to
    /// name: they are looked after, whatever comes between.
    fn note_published(
        &self,
        inner: &Inner,
        seen: HeadSeen,
        (new, made): (Vec<ToLookAfter>, Option<BackupMade>),
    ) -> Result<(), Failure> {
        self.is_sent.store(false, Ordering::Relaxed);
        let new = new.into_iter().map(|it| Entry::Prune(PruneNote::ToLookAfter(it)));
        let (index, record) = (seen.index, seen.record.clone());
        let mut entries = new.chain([Entry::HeadSeen(seen)]);
        let noted = inner.with_catalog(|catalog| {
            entries.try_for_each(|it| catalog.record(it))?;
            // Where somebody else was first to write this head, nothing was made.
            let is_ours = |head: &KnownHead| head.seen.index == index && head.seen.record == record;
            let made = made.filter(|_| catalog.heads().any(is_ours));
            made.map_or(Ok(()), |made| catalog.record(Entry::BackupMade(made)))
        });
        noted.map_err(|error| failures::catalog(&error))
    }
}

/// The snapshots among these entries.
fn to_look_after(bodies: &[Body], replicas: u8) -> Vec<ToLookAfter> {
    let added = bodies.iter().filter_map(|body| match body {
        Body::Add(added) => Some(added),
        _ => None,
    });
    let reference = |added: &Added| added.reference.duplicate();
    added.map(|it| ToLookAfter { id: it.id, reference: reference(it), replicas }).collect()
}

/// The chains of before, lent, and this device's as it becomes.
struct Publication {
    draft: Draft,
    own: Device,
    /// Some device's chain could not be read.
    missing: bool,
    /// Somebody was asked.
    asked: bool,
    /// Who keeps the head of before.
    holders: Vec<NodeId>,
}

impl Publication {
    fn new(
        mut state: State,
        own: Device,
        inner: &Inner,
        (replicas, hints): (u8, Vec<Hint>),
    ) -> Result<Self, Failure> {
        let generation = inner.keys.generation;
        let known = known_heads(inner).remove(&own.index);
        let view = match (state.devices.remove(&own.index), &known) {
            (Some(of), Some(known)) if of.record == known.seen.record && of.device == own.id => {
                Some(of)
            }
            (None, None) => None,
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
        let coverage = state.coverage();
        let State { devices: others, missing, asked, .. } = state;
        let before = Before { others, coverage, own: view, hints, is_thin };
        let draft = Draft::new((own.id, own.index), generation, before);
        Ok(Self { draft, own, missing, asked, holders })
    }

    /// The record that names the chain as it is now.
    fn head(&self, inner: &Inner, replicas: u8) -> Result<HeadRecord, Failure> {
        let keys = keys(inner, self.own.index);
        let signed_at_s = now_ns().div_euclid(1_000_000_000);
        let made = self.draft.head(&keys, replicas, &self.holders, signed_at_s, &mut rand::rng());
        made.map_err(|fault| {
            failures::repository(fault.to_string(), "report it with the node's log")
        })
    }

    /// What was lent, with what was added; what others read meanwhile counts for the others.
    fn give_back(self, state: &mut State, record: HeadRecord) {
        let Self { draft, own, missing, asked, .. } = self;
        let mut devices = draft.into_devices(record);
        let of_own = devices.remove(&own.index);
        devices.append(&mut state.devices);
        devices.extend(of_own.map(|of| (own.index, of)));
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
