//! What a head says, and which of many records counts. Pure.
//!
//! A head names all manifest entries since the last checkpoint, so that whoever has the words
//! fetches all that `snapshots` needs in one round and never walks a chain entry by entry. Layout
//! of the payload, integers little-endian, filled up with zeros:
//!
//! ```text
//! layout u8 = 1 | number u64 | device 16 | index u16 | lamport u64 | signed at i64 s
//! | replicas u8 | flags u8 (1 retired) | chain u64 | newest 32 | checkpoint: number u64, reference
//! 66
//! | recent: count u8 (<= 16), references 66 | devices: count u8 (<= 15), index u16 and number u64
//! | holders: count u8 (<= 16), node 32
//! ```
//!
//! `number` is the record's own. `chain` is how many entries the device's manifest has and `newest`
//! the hash of the last one; the checkpoint is one of them (number 2^64 - 1 and zeros where there
//! is none), and `recent` are all behind it, oldest first. `devices` are the other heads that this
//! device knows, by index, with the numbers that it has seen.

use super::fields::take;
use super::reference::ChunkRef;
use crate::core::types::{DeviceId, NodeId};
use crate::crypto::head::{HEAD_PAYLOAD_BYTES, HeadError, HeadKeys, HeadRecord, NUMBER_AHEAD_MAX};
use crate::planted::{self, Bug};
use bytes::Buf;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The only layout there is.
pub const HEAD_LAYOUT: u8 = 1;

/// The most entries behind a checkpoint.
pub const RECENT_MAX: usize = 16;

/// The most other devices.
pub const DEVICES_MAX: usize = 15;

/// The most holders that a head names.
pub const HEAD_HOLDERS_MAX: usize = 16;

const RETIRED: u8 = 1;
const NO_CHECKPOINT: u64 = u64::MAX;

/// What a record names as the one before where that is not known.
const UNKNOWN: [u8; 32] = [0; 32];

/// What one record of a head says.
#[derive(Debug)]
pub struct HeadPayload {
    /// The record's number.
    pub number: u64,
    /// Who writes this head.
    pub device: DeviceId,
    /// Which head it is.
    pub index: u16,
    /// The device's Lamport time.
    pub lamport: u64,
    /// When it was signed by the device's clock: seconds since 1970. Shown, never believed.
    pub signed_at_s: i64,
    /// Copies that the owner wants of everything.
    pub replicas: u8,
    /// The device writes no more.
    pub retired: bool,
    /// How many entries the device's manifest has.
    pub chain: u64,
    /// Hash of the last one; zeros where there is none.
    pub newest: [u8; 32],
    /// The last checkpoint: the number of its entry, and where it is.
    pub checkpoint: Option<(u64, ChunkRef)>,
    /// The entries behind it, oldest first.
    pub recent: Vec<ChunkRef>,
    /// The other heads that are known, by index: the highest number that was seen.
    pub devices: BTreeMap<u16, u64>,
    /// Who was asked to keep this head.
    pub holders: Vec<NodeId>,
}

/// Why a payload says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadFault {
    /// Made by a newer version.
    #[error("head layout {0} is not known")]
    Layout(u8),
    /// A flag that this version does not know.
    #[error("head flags {0} are not known")]
    Flags(u8),
    /// Longer than a payload, or followed by anything but zeros.
    #[error("the head's payload has the wrong length")]
    Length,
    /// More of something than a head names.
    #[error("the head names more than it can")]
    Count,
    /// Chain, checkpoint and recent entries, or the devices, do not agree.
    #[error("what the head says does not agree with itself")]
    Agree,
}

impl HeadPayload {
    /// The layout of the module's documentation, without the zeros; wiped when dropped.
    ///
    /// # Errors
    /// [`PayloadFault::Count`] and [`PayloadFault::Agree`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, PayloadFault> {
        self.check()?;
        let mut out = Zeroizing::new(Vec::with_capacity(HEAD_PAYLOAD_BYTES));
        out.push(HEAD_LAYOUT);
        out.extend(self.number.to_le_bytes());
        out.extend_from_slice(self.device.as_bytes());
        out.extend(self.index.to_le_bytes());
        out.extend(self.lamport.to_le_bytes());
        out.extend(self.signed_at_s.to_le_bytes());
        out.extend([self.replicas, if self.retired { RETIRED } else { 0 }]);
        out.extend(self.chain.to_le_bytes());
        out.extend_from_slice(&self.newest);
        match &self.checkpoint {
            Some((number, reference)) => {
                out.extend(number.to_le_bytes());
                reference.put_short(&mut out);
            }
            None => {
                out.extend(NO_CHECKPOINT.to_le_bytes());
                out.extend([0; super::reference::SHORT_REF_BYTES]);
            }
        }
        out.push(self.recent.len() as u8);
        self.recent.iter().for_each(|entry| entry.put_short(&mut out));
        out.push(self.devices.len() as u8);
        for (index, number) in &self.devices {
            out.extend(index.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        out.push(self.holders.len() as u8);
        self.holders.iter().for_each(|node| out.extend_from_slice(node.as_bytes()));
        Ok(out)
    }

    /// Reads a payload, its zeros included.
    ///
    /// # Errors
    /// [`PayloadFault`], whatever the input.
    pub fn decode(payload: &[u8]) -> Result<Self, PayloadFault> {
        let (layout, mut rest) = payload.split_first().ok_or(PayloadFault::Length)?;
        if *layout != HEAD_LAYOUT {
            return Err(PayloadFault::Layout(*layout));
        }
        let (found, flags) = Self::fields(&mut rest).ok_or(PayloadFault::Length)?;
        if flags & !RETIRED != 0 {
            return Err(PayloadFault::Flags(flags));
        }
        let found = found?;
        let padded = payload.len() <= HEAD_PAYLOAD_BYTES && rest.iter().all(|byte| *byte == 0);
        if !padded {
            return Err(PayloadFault::Length);
        }
        found.check()?;
        Ok(found)
    }

    /// All fields behind the layout, and the flags; `None` where they are cut short.
    fn fields(rest: &mut &[u8]) -> Option<(Result<Self, PayloadFault>, u8)> {
        let number = rest.try_get_u64_le().ok()?;
        let device = DeviceId::from_bytes(take(rest)?);
        let index = rest.try_get_u16_le().ok()?;
        let lamport = rest.try_get_u64_le().ok()?;
        let signed_at_s = rest.try_get_i64_le().ok()?;
        let [replicas, flags] = take(rest)?;
        let chain = rest.try_get_u64_le().ok()?;
        let newest = take(rest)?;
        let at = rest.try_get_u64_le().ok()?;
        let before = *rest;
        let reference = ChunkRef::take_short(rest)?;
        let zeros = before.iter().take(before.len() - rest.len()).all(|byte| *byte == 0);
        let checkpoint = (at != NO_CHECKPOINT).then_some((at, reference));
        let [count] = take(rest)?;
        let recent: Option<Vec<_>> = (0..count).map(|_| ChunkRef::take_short(rest)).collect();
        let [count] = take(rest)?;
        let device_of = |_| Some((rest.try_get_u16_le().ok()?, rest.try_get_u64_le().ok()?));
        let known: Option<Vec<(u16, u64)>> = (0..count).map(device_of).collect();
        let (recent, known) = (recent?, known?);
        let [count] = take(rest)?;
        let holders: Option<Vec<_>> =
            (0..count).map(|_| take(rest).map(NodeId::from_bytes)).collect();
        let holders = holders?;
        let ascend = known.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        if !ascend || (checkpoint.is_none() && !zeros) {
            return Some((Err(PayloadFault::Agree), flags));
        }
        let (devices, retired) = (known.into_iter().collect(), flags & RETIRED != 0);
        let found = Self {
            number,
            device,
            index,
            lamport,
            signed_at_s,
            replicas,
            retired,
            chain,
            newest,
            checkpoint,
            recent,
            devices,
            holders,
        };
        Some((Ok(found), flags))
    }

    /// What holds of every payload, written or read.
    fn check(&self) -> Result<(), PayloadFault> {
        let counts = self.recent.len() <= RECENT_MAX
            && self.devices.len() <= DEVICES_MAX
            && self.holders.len() <= HEAD_HOLDERS_MAX;
        if !counts {
            return Err(PayloadFault::Count);
        }
        let covered = match &self.checkpoint {
            Some((number, _)) => number.checked_add(1),
            None => Some(0),
        };
        let chain = covered.and_then(|covered| covered.checked_add(self.recent.len() as u64));
        let empty = self.chain > 0 || self.newest == [0; 32];
        let agrees = chain == Some(self.chain) && empty && !self.devices.contains_key(&self.index);
        if agrees { Ok(()) } else { Err(PayloadFault::Agree) }
    }
}

/// What the records of one head come to.
#[derive(Debug)]
pub enum Verdict {
    /// None that counts.
    None,
    /// The highest one, which nothing speaks against.
    Current(Box<Agreement>),
    /// All are older than what was seen before: somebody rolled the head back, or all that answered
    /// missed what was written since.
    Behind {
        /// The highest number that came.
        highest: u64,
    },
    /// Two records with one number, or one that does not follow the one before it: two devices
    /// write this head, or somebody has its key. Also where later ones follow only one of them.
    Fork {
        /// The number.
        number: u64,
        /// Hashes of the records with it, and who has which.
        records: BTreeMap<[u8; 32], Vec<NodeId>>,
    },
    /// The highest one is signed, and this version cannot read what it says: a newer version wrote
    /// it, or somebody has its key. No older one counts.
    Unreadable {
        /// Its number.
        number: u64,
    },
}

/// Whether what counts now is known to follow what was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// It is that, or follows it step by step; or nothing was seen.
    ToSeen,
    /// What lies between did not come: nothing speaks against it, and nothing proves it.
    Unknown,
}

/// The record that counts, and who says so.
#[derive(Debug)]
pub struct Agreement {
    /// The record with the highest number.
    pub record: HeadRecord,
    /// What it says.
    pub payload: HeadPayload,
    /// Who has it.
    pub agree: Vec<NodeId>,
    /// Who has only older ones.
    pub older: Vec<NodeId>,
    /// Who is named in it as keeping it and was not among those that answered.
    pub silent: Vec<NodeId>,
    /// Whether it is known to follow what was seen.
    pub linked: Linked,
}

impl Agreement {
    /// Whether so few of the holders that the head names have answered that there may well be a
    /// newer one: fewer than half of them.
    pub fn is_doubtful(&self) -> bool {
        2 * self.silent.len() > self.payload.holders.len()
    }
}

/// Judges what came of head `index`: the highest number counts. A record of another head is
/// ignored, and so is one more than [`NUMBER_AHEAD_MAX`] ahead of what was `seen` (its number and
/// hash). Of all others, also those with lower numbers, it is checked that they are one chain, as
/// far down as what was seen: what was before that was judged then.
pub fn judge(
    keys: &HeadKeys,
    index: u16,
    records: &[(NodeId, HeadRecord)],
    seen: Option<(u64, [u8; 32])>,
) -> Verdict {
    let most = seen.map_or(u64::MAX, |(number, _)| number.saturating_add(NUMBER_AHEAD_MAX));
    let mut best: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut found = Found::new();
    for (node, record) in records {
        let number = record.number();
        let Some(payload) = payload_of(keys, index, record).filter(|_| number <= most) else {
            continue;
        };
        let newest = best.entry(*node).or_default();
        *newest = number.max(*newest);
        let same = found.entry(number).or_default();
        let candidate = same.entry(record.hash()).or_insert_with(|| (payload, record, Vec::new()));
        candidate.2.push(*node);
    }
    let counts = match planted::is_on(Bug::LowestHead) {
        true => found.keys().next(),
        false => found.keys().next_back(),
    };
    let Some(number) = counts.copied() else { return Verdict::None };
    if seen.is_some_and(|(known, _)| number < known) {
        return Verdict::Behind { highest: number };
    }
    if let Some(number) = forked(&found, seen) {
        let records = found.remove(&number).unwrap_or_default().into_iter();
        let records = records.map(|(hash, (.., nodes))| (hash, nodes)).collect();
        return Verdict::Fork { number, records };
    }
    let linked = match seen {
        Some((known, _)) if known < number => {
            let between =
                found.range(known.saturating_add(1)..).flat_map(|(_, same)| same.values());
            let names = |(_, record, _): &&Candidate<'_>| record.previous() != UNKNOWN;
            let between = between.filter(names).count() as u64;
            if between == number - known { Linked::ToSeen } else { Linked::Unknown }
        }
        _ => Linked::ToSeen,
    };
    let highest = found.remove(&number).and_then(|mut same| same.pop_first());
    let Some((_, (Some(payload), record, agree))) = highest else {
        return Verdict::Unreadable { number };
    };
    let older = best.iter().filter(|(_, newest)| **newest < number).map(|(node, _)| *node);
    let answered = |node: &&NodeId| !best.contains_key(*node);
    let silent = payload.holders.iter().filter(answered).copied().collect();
    let (record, older) = (record.clone(), older.collect());
    Verdict::Current(Box::new(Agreement { record, payload, agree, older, silent, linked }))
}

/// What a record says, if it can be read, and who has it.
type Candidate<'a> = (Option<HeadPayload>, &'a HeadRecord, Vec<NodeId>);

/// Records by number and hash.
type Found<'a> = BTreeMap<u64, BTreeMap<[u8; 32], Candidate<'a>>>;

/// The highest number with two records, or with one that does not follow the one before it.
fn forked(found: &Found<'_>, seen: Option<(u64, [u8; 32])>) -> Option<u64> {
    let floor = seen.map_or(0, |(known, _)| known);
    let seen_hash = |number: u64| seen.filter(|(known, _)| *known == number).map(|(_, hash)| hash);
    let came_hash = |number: u64| found.get(&number).and_then(|same| same.keys().next().copied());
    let agrees = |number: u64, same: &BTreeMap<[u8; 32], Candidate<'_>>| {
        let before = number.checked_sub(1).filter(|before| *before >= floor);
        let follows = |record: &HeadRecord| match before {
            Some(before) if seen_hash(before).is_some() => {
                seen_hash(before) == Some(record.previous())
            }
            Some(before) if record.previous() != UNKNOWN => {
                came_hash(before).is_none_or(|hash| hash == record.previous())
            }
            _ => true,
        };
        let is_seen = |hash: &[u8; 32]| seen_hash(number).is_none_or(|seen| seen == *hash);
        let each =
            |(hash, (_, record, _)): (&[u8; 32], &Candidate<'_>)| is_seen(hash) && follows(record);
        same.len() == 1 && same.iter().all(each)
    };
    let mut checked = found.range(floor..).rev();
    checked.find(|(number, same)| !agrees(**number, same)).map(|(number, _)| *number)
}

/// What a record of this head says: `None` where it is another head's, `Some(None)` where whoever
/// has the key signed what this version cannot read.
fn payload_of(keys: &HeadKeys, index: u16, record: &HeadRecord) -> Option<Option<HeadPayload>> {
    let opened = match keys.open(record) {
        Ok(opened) => opened,
        Err(HeadError::WrongHead) => return None,
        Err(_) => return Some(None),
    };
    let payload = HeadPayload::decode(&opened).ok();
    let agrees = |said: &HeadPayload| said.number == record.number() && said.index == index;
    Some(payload.filter(agrees))
}

#[cfg(test)]
mod tests;
