//! The records of heads that holders keep, superseded ones too, and what they name.
//!
//! A head may stand in the way of all that its owner has: two records have one number, nobody can
//! read the newest, or somebody who has the owner's keys wrote it and forgot every snapshot. Its
//! holders keep superseded records for 30 days. What these name is there as long as no delete key
//! is in the wrong hands, and for the release delay where it is. But which record is the right one
//! only the user can tell.
//!
//! So all that come are listed, and whoever reads may name the records that are to count, in place
//! of all others. That is a look alone: nothing of it is remembered or published, no chunk is let
//! go and none is stored by it. What was found goes on where it is restored and backed up again.

use super::ask::{INDEXES, INDEXES_EMPTY, further};
use super::heads::{HeadView, settle};
use super::pick::Picked;
use super::read::{Found, Wanted, read_chains};
use super::{Agreed, keys, known_heads, payload_of, report};
use crate::core::codec::HEAD_RECORDS_MAX;
use crate::core::types::NodeId;
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::node::handle::NodeHandle;
use crate::node::heads::HeadsWanted;
use crate::node::inner::Inner;
use crate::node::report::{
    Failure, FailureKind, HeadRecordReport, Heads, HeadsRequest, SnapshotReport,
};
use crate::repo::head::HeadPayload;
use crate::repo::manifest::draft::{DeviceView, merge};
use crate::repo::manifest::merge::{Live, Merged};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long their holders may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Digits of a record's hash in its name: so many that nobody makes another record with them.
const HASH_DIGITS: usize = 16;

const UNDONE: &str = "nothing was looked at";

/// Records by index, the newest number last, and who keeps them.
type Records = BTreeMap<u16, BTreeMap<(u64, [u8; 32]), Kept>>;

/// A record, and who keeps it.
type Kept = (HeadRecord, BTreeSet<NodeId>);

/// What certain records name, and nothing else.
pub(in crate::node) struct Earlier {
    merged: Merged,
    heads: Vec<HeadView>,
    /// Who keeps them.
    pub(in crate::node) hints: Vec<NodeId>,
}

impl Earlier {
    /// Their snapshots.
    pub(in crate::node) fn live(&self) -> Vec<&Live> {
        self.merged.live().collect()
    }

    /// The record of a head that counts.
    pub(in crate::node) fn head(&self, index: u16) -> Option<&HeadView> {
        self.heads.iter().find(|head| head.index == index)
    }
}

impl NodeHandle {
    /// The records of all heads that holders keep; and the snapshots of those that are named.
    ///
    /// # Errors
    /// A name that means none of them, or several; what they name cannot be read; the node stops.
    pub async fn heads(&self, request: HeadsRequest) -> Result<Heads, Failure> {
        let inner = &self.inner;
        settle(inner).await;
        let records = records(inner).await?;
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        let snapshots = match request.records.is_empty() {
            true => Vec::new(),
            false => snapshots(&earlier_of(inner, &records, &request.records).await?),
        };
        Ok(Heads { records: reports(inner, &records), own, snapshots })
    }
}

fn snapshots(earlier: &Earlier) -> Vec<SnapshotReport> {
    let mut live = earlier.live();
    live.sort_by_key(|live| (live.added.created_ns, live.added.id));
    live.into_iter().map(report).collect()
}

/// What the records with these names name.
///
/// # Errors
/// See [`NodeHandle::heads`].
pub(in crate::node) async fn earlier(
    inner: &Arc<Inner>,
    names: &[String],
) -> Result<Earlier, Failure> {
    settle(inner).await;
    earlier_of(inner, &records(inner).await?, names).await
}

async fn earlier_of(
    inner: &Arc<Inner>,
    records: &Records,
    names: &[String],
) -> Result<Earlier, Failure> {
    let mut wanted = BTreeMap::new();
    for name in names {
        let (index, (record, nodes)) = named(name, records)?;
        let payload = readable(inner, index, record)
            .ok_or_else(|| refused(format!("{name} cannot be read by this version")))?;
        let agreed = Agreed { agree: nodes.iter().copied().collect(), ..Agreed::default() };
        let picked = Picked { record: record.clone(), payload, agreed };
        let wish = Wanted { picked, is_read: false, seen: None, before: None };
        if wanted.insert(index, wish).is_some() {
            return Err(refused(format!("two records of head {index} are named")));
        }
    }
    let (indexes, wanted): (Vec<u16>, Vec<Wanted>) = wanted.into_iter().unzip();
    let mut devices: BTreeMap<u16, DeviceView> = BTreeMap::new();
    let (mut heads, mut hints) = (Vec::new(), BTreeSet::new());
    for (index, found) in indexes.into_iter().zip(read_chains(inner, wanted).await) {
        let Found { picked, newest, .. } = found;
        let view = newest.map_err(|why| unread(index, why))?;
        let Some(view) = view else { continue };
        hints.extend(picked.agreed.agree.iter().chain(&picked.payload.holders).copied());
        heads.push(HeadView::of(index, &view, &picked.payload, Some(&picked.agreed)));
        devices.insert(index, view);
    }
    Ok(Earlier { merged: merge(&devices), heads, hints: hints.into_iter().collect() })
}

fn unread(index: u16, why: String) -> Failure {
    Failure::new(
        FailureKind::NotEnoughHolders,
        UNDONE,
        format!("of head {index}: {why}"),
        "start more of the mesh's nodes, then run the same command again",
    )
}

/// What a record says, if it is what its head and its number say.
fn readable(inner: &Inner, index: u16, record: &HeadRecord) -> Option<HeadPayload> {
    let payload = payload_of(&keys(inner, index), record)?;
    (payload.index == index && payload.number == record.number()).then_some(payload)
}

/// Asks everyone for all that is kept of heads; what this folder has seen is among it.
async fn records(inner: &Arc<Inner>) -> Result<Records, Failure> {
    let known = known_heads(inner);
    let superseded = u8::try_from(HEAD_RECORDS_MAX.saturating_sub(1)).unwrap_or(u8::MAX);
    let mut records = Records::new();
    let add = |records: &mut Records, index: u16, record: &HeadRecord, node: Option<NodeId>| {
        let of = records.entry(index).or_default();
        let name = (record.number(), record.hash());
        of.entry(name).or_insert_with(|| (record.clone(), BTreeSet::new())).1.extend(node);
    };
    for (index, head) in &known {
        add(&mut records, *index, &head.seen.record, None);
    }
    let first: BTreeSet<u16> = (0..INDEXES).chain(known.keys().copied()).collect();
    let (mut asked, mut next): (Vec<u16>, Vec<u16>) = (Vec::new(), first.into_iter().collect());
    while !next.is_empty() {
        for indexes in next.chunks(usize::from(INDEXES)) {
            let heads: Vec<HeadKeys> = indexes.iter().map(|index| keys(inner, *index)).collect();
            let wanted = HeadsWanted { superseded, brief: false, patience: PATIENCE };
            let found = inner.find_heads(&heads, &BTreeMap::new(), wanted).await?;
            for (index, keys) in indexes.iter().zip(&heads) {
                let of = found.records.iter().filter(|(_, record)| record.id() == keys.id());
                of.for_each(|(node, record)| add(&mut records, *index, record, Some(*node)));
            }
        }
        asked.append(&mut next);
        next = further(&asked, records.keys().next_back().copied(), INDEXES_EMPTY);
    }
    Ok(records)
}

/// The record that `wanted` names: index, number and the beginning of its hash. The hash may be
/// left out where it is not needed.
fn named<'r>(wanted: &str, records: &'r Records) -> Result<(u16, &'r Kept), Failure> {
    let lower = wanted.to_ascii_lowercase();
    let mut parts = lower.split(':');
    let (index, number) = (parts.next(), parts.next());
    let index = index.and_then(|index| index.parse::<u16>().ok());
    let number = number.and_then(|number| number.parse::<u64>().ok());
    let (hash, rest) = (parts.next().unwrap_or_default(), parts.next());
    let (Some(index), Some(number), None) = (index, number, rest) else {
        return Err(refused(format!("{wanted:?} is not like 0:7:1a2b3c4d5e6f7081")));
    };
    let of = records.get(&index).into_iter().flatten();
    let meant = of.filter(|((of, digest), _)| *of == number && hex(digest).starts_with(hash));
    match meant.collect::<Vec<_>>().as_slice() {
        [(_, kept)] => Ok((index, kept)),
        [] => Err(refused(format!("no node that answered keeps a record {wanted}"))),
        several => {
            let names = several.iter().map(|(of, _)| name(index, of)).collect::<Vec<_>>();
            Err(refused(format!("{wanted} may be {}", names.join(" or "))))
        }
    }
}

fn refused(why: String) -> Failure {
    let hint = "`quloud heads` lists the records that there are and their names";
    Failure::new(FailureKind::Usage, UNDONE, why, hint)
}

fn reports(inner: &Inner, records: &Records) -> Vec<HeadRecordReport> {
    let known = known_heads(inner);
    let of_head = |(index, of): (&u16, &BTreeMap<_, Kept>)| {
        let highest = of.keys().next_back().map_or(0, |(number, _)| *number);
        let forks = of.keys().filter(|(number, _)| *number == highest).count();
        let believed = known.get(index).map(|head| &head.seen.record);
        let report = |(of, (record, nodes)): (&(u64, [u8; 32]), &Kept)| {
            let payload = readable(inner, *index, record);
            HeadRecordReport {
                name: name(*index, of),
                index: *index,
                number: record.number(),
                signed_at: payload.as_ref().map(|payload| payload.signed_at_s),
                holders: nodes.len(),
                newest: record.number() == highest,
                forked: record.number() == highest && forks > 1,
                seen: believed == Some(record),
                device: payload.map(|payload| payload.device.to_string()),
            }
        };
        of.iter().rev().map(report).collect::<Vec<_>>()
    };
    records.iter().flat_map(of_head).collect()
}

fn name(index: u16, (number, hash): &(u64, [u8; 32])) -> String {
    let hash = hex(hash);
    format!("{index}:{number}:{}", hash.get(..HASH_DIGITS).unwrap_or(&hash))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
