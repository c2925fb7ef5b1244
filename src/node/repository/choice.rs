//! The user's word on a head, and the records that there are to choose from.
//!
//! A head may stand in the way of all that its owner has: two records have one number, nobody can
//! read the newest, or somebody who has the owner's keys wrote it and forgot every snapshot. Its
//! holders keep superseded records for 30 days, and what these name is there as long as no delete
//! key is in the wrong hands, and for the release delay where it is. But which record is the right
//! one only the user can tell. So all are listed, and one of them may be chosen for good, or the
//! whole head left out.
//!
//! A choice is this folder's alone, and nothing is published of it. It stands until it is taken
//! back, is told by every look at the heads, and stops prunes: what the other records name is
//! needed by whoever chooses differently tomorrow. Where it is about this device's own head,
//! somebody else wrote that, and the device goes on with another one.

use super::ask::{INDEXES, INDEXES_EMPTY, further};
use super::pick::{HeadName, Picked};
use super::{Agreed, State, keys, known_heads, payload_of, refresh};
use crate::core::codec::HEAD_RECORDS_MAX;
use crate::core::types::{DeviceId, NodeId};
use crate::crypto::head::{HeadKeys, HeadRecord};
use crate::node::handle::NodeHandle;
use crate::node::heads::HeadsFound;
use crate::node::inner::Inner;
use crate::node::report::{
    Failure, FailureKind, HeadRecordReport, Heads, HeadsRequest, RecordState, date,
};
use crate::node::repository::Breadth;
use crate::repo::catalog::{Counts, Device, Entry, HeadChoice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long their holders may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Digits of a record's hash in its name.
const HASH_DIGITS: usize = 8;

/// Choices that one request makes at most.
const CHOICES_MAX: usize = 64;

const UNDONE: &str = "nothing was chosen";

/// By index, what the user said of heads of this generation.
pub(super) fn choices(inner: &Inner) -> BTreeMap<u16, Counts> {
    let generation = inner.keys.generation;
    inner.with_catalog(|catalog| {
        let choices = catalog.choices().filter(|choice| choice.generation == generation);
        choices.map(|choice| (choice.index, choice.counts.clone())).collect()
    })
}

/// What counts of a head that the user has decided on, and how that is told.
pub(super) fn chosen(
    keys: &HeadKeys,
    name: HeadName,
    found: &HeadsFound,
    counts: &Counts,
) -> (Option<Picked>, Option<String>) {
    let (text, index) = (name.text(), name.index);
    let end = format!("as was chosen here: `quloud heads --follow {index}` ends that");
    let record = match counts {
        Counts::Newest => return (None, None),
        Counts::Nothing => return (None, Some(format!("{text}: nothing of it counts, {end}"))),
        Counts::Record(record) => record.clone(),
    };
    let Some(payload) = payload_of(keys, &record) else {
        return (None, Some(format!("{text}: what was chosen of it cannot be read; {end}")));
    };
    let number = record.number();
    let agree = found.records.iter().filter(|(_, of)| *of == record).map(|(node, _)| *node);
    let agreed = Agreed { agree: agree.collect(), ..Agreed::default() };
    let signed = date(payload.signed_at_s);
    let note = format!("{text}: its number {number} of {signed} counts, {end}");
    (Some(Picked { record, payload, agreed }), Some(note))
}

/// Records by index, the newest number last, and who keeps them.
type Records = BTreeMap<u16, BTreeMap<(u64, [u8; 32]), (HeadRecord, BTreeSet<NodeId>)>>;

impl NodeHandle {
    /// The records of all heads that holders keep, after the choices of `request` were made.
    ///
    /// # Errors
    /// A name that means none of them, or several; the node stops, or its catalogue takes nothing.
    pub async fn heads(&self, request: HeadsRequest) -> Result<Heads, Failure> {
        let inner = &self.inner;
        super::heads::settle(inner).await;
        let records = records(inner).await?;
        let choices = resolve(inner, &records, &request)?;
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        let mut state = inner.repository.state.lock().await;
        let leaves = |choice: &HeadChoice| {
            Some(choice.index) == own && !matches!(choice.counts, Counts::Newest)
        };
        if choices.iter().any(leaves) {
            leave_head(inner, &state, &records)?;
        }
        for choice in choices {
            inner.record(Entry::HeadChoice(choice))?;
        }
        inner.commit_catalog().await?;
        let notes = refresh(&mut state, inner, Breadth::Everyone).await?;
        let own = inner.with_catalog(|catalog| catalog.device()).map(|device| device.index);
        Ok(Heads { records: reports(inner, &state, &records), own, whole: !state.missing, notes })
    }
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
            let found = inner.find_heads(&heads, &BTreeMap::new(), superseded, PATIENCE).await?;
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

/// What is to be noted of a request.
fn resolve(
    inner: &Inner,
    records: &Records,
    request: &HeadsRequest,
) -> Result<Vec<HeadChoice>, Failure> {
    let HeadsRequest { accept, ignore, follow } = request;
    if accept.len() + ignore.len() + follow.len() > CHOICES_MAX {
        return Err(refused(format!("more than {CHOICES_MAX} heads are named")));
    }
    let generation = inner.keys.generation;
    let choice = |index: u16, counts: Counts| HeadChoice { generation, index, counts };
    let mut choices = Vec::new();
    for wanted in accept {
        let (index, record) = named(wanted, records)?;
        if payload_of(&keys(inner, index), &record).is_none() {
            return Err(refused(format!("{wanted} cannot be read by this version")));
        }
        choices.push(choice(index, Counts::Record(record)));
    }
    for index in ignore {
        if !records.contains_key(index) {
            return Err(refused(format!("there is no record of head {index}")));
        }
        choices.push(choice(*index, Counts::Nothing));
    }
    let standing = self::choices(inner);
    for index in follow {
        if !standing.contains_key(index) {
            return Err(refused(format!("nothing was chosen of head {index} before")));
        }
        choices.push(choice(*index, Counts::Newest));
    }
    let distinct: BTreeSet<u16> = choices.iter().map(|choice| choice.index).collect();
    match distinct.len() == choices.len() {
        true => Ok(choices),
        false => Err(refused("a head is named twice".to_owned())),
    }
}

/// The record that `wanted` names: index, number and the beginning of its hash. The hash may be
/// left out where it is not needed.
fn named(wanted: &str, records: &Records) -> Result<(u16, HeadRecord), Failure> {
    let lower = wanted.to_ascii_lowercase();
    let mut parts = lower.split(':');
    let (index, number) = (parts.next(), parts.next());
    let index = index.and_then(|index| index.parse::<u16>().ok());
    let number = number.and_then(|number| number.parse::<u64>().ok());
    let (hash, rest) = (parts.next().unwrap_or_default(), parts.next());
    let (Some(index), Some(number), None) = (index, number, rest) else {
        return Err(refused(format!("{wanted:?} is not like 0:7:1a2b3c4d")));
    };
    let of = records.get(&index).into_iter().flatten();
    let meant = of.filter(|((of, digest), _)| *of == number && hex(digest).starts_with(hash));
    match meant.collect::<Vec<_>>().as_slice() {
        [(_, (record, _))] => Ok((index, record.clone())),
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

/// Somebody else writes this device's head: it takes one that nobody was heard to write.
fn leave_head(inner: &Inner, state: &State, records: &Records) -> Result<(), Failure> {
    let taken = state.taken(inner);
    let free = (0..u16::MAX).find(|index| !taken.contains(index) && !records.contains_key(index));
    let id = DeviceId::from_bytes(rand::random());
    inner.record(Entry::Device(Device { id, index: free.unwrap_or(u16::MAX) }))
}

fn reports(inner: &Inner, state: &State, records: &Records) -> Vec<HeadRecordReport> {
    let choices = choices(inner);
    let of_head = |(index, of): (&u16, &BTreeMap<_, (HeadRecord, BTreeSet<NodeId>)>)| {
        let (keys, choice) = (keys(inner, *index), choices.get(index));
        let counts = state.devices.get(index).map(|of| &of.record);
        let report = |(of, (record, nodes)): (&(u64, [u8; 32]), &(HeadRecord, BTreeSet<_>))| {
            let payload = payload_of(&keys, record);
            HeadRecordReport {
                name: name(*index, of),
                index: *index,
                number: record.number(),
                signed_at: payload.as_ref().map_or(0, |payload| payload.signed_at_s),
                holders: nodes.len(),
                state: state_of(record, payload.is_some(), counts, choice),
                device: payload.map_or(String::new(), |payload| payload.device.to_string()),
            }
        };
        of.iter().rev().map(report).collect::<Vec<_>>()
    };
    records.iter().flat_map(of_head).collect()
}

fn state_of(
    record: &HeadRecord,
    is_readable: bool,
    counts: Option<&HeadRecord>,
    choice: Option<&Counts>,
) -> RecordState {
    match (choice, counts) {
        (Some(Counts::Nothing), _) => RecordState::Ignored,
        _ if !is_readable => RecordState::Unreadable,
        (Some(Counts::Record(chosen)), _) if chosen == record => RecordState::Chosen,
        (_, Some(counts)) if counts == record => RecordState::Counts,
        (_, Some(counts)) if record.number() < counts.number() => RecordState::Older,
        _ => RecordState::Other,
    }
}

fn name(index: u16, (number, hash): &(u64, [u8; 32])) -> String {
    let hash = hex(hash);
    format!("{index}:{number}:{}", hash.get(..HASH_DIGITS).unwrap_or(&hash))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
