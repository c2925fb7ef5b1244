//! What the catalogue remembers of audits: which replicas they found to be there no more, which
//! stores are gone, and what each holder's audits came to. When each replica was proven lies
//! elsewhere: see [`Entry::Audited`].

use super::{Entry, Fields};
use crate::core::types::{AuditOutcome, ChunkId, NodeId, StoreEpoch};
use crate::repo::debt::Debt;
pub use crate::repo::standing::{HolderAudited, Loss, Silence};

/// The tags of these entries are from here.
pub(super) const FIRST: u8 = REPLICA_LOST;
/// And up to here.
pub(super) const LAST: u8 = HOLDER_OWES;

const REPLICA_LOST: u8 = 96;
const CHUNK_NOWHERE: u8 = 97;
const HOLDER_AUDITED: u8 = 98;
const HOLDER_SILENT: u8 = 99;
const HOLDER_SILENCE: u8 = 100;
const HOLDER_LIED: u8 = 101;
const STORE_GONE: u8 = 102;
const HOLDER_WITHHELD: u8 = 103;
const HOLDER_WITHHOLDS: u8 = 104;
const HOLDER_SERVED: u8 = 105;
const HOLDER_HAD_DAY: u8 = 106;
const HOLDER_OWES: u8 = 107;

impl Loss {
    const ALL: [Self; 4] = [Self::Missing, Self::Damaged, Self::Lied, Self::Released];

    fn number(self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Damaged => 1,
            Self::Lied => 2,
            Self::Released => 3,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A replica that counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaLost {
    /// The chunk.
    pub chunk: ChunkId,
    /// Who held it.
    pub node: NodeId,
    /// In which store.
    pub epoch: StoreEpoch,
    /// Why.
    pub why: Loss,
    /// When that was found: seconds since 1970.
    pub at_s: u64,
}

impl Silence {
    fn encode(&self, tag: u8, node: &NodeId, out: &mut Vec<u8>) {
        let Self { since_s, last_s, misses, days } = self;
        out.push(tag);
        out.extend_from_slice(node.as_bytes());
        numbers(out, &[*since_s, *last_s]);
        out.extend_from_slice(&misses.to_le_bytes());
        out.extend_from_slice(&days.to_le_bytes());
    }

    fn decode(from: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            since_s: from.number()?,
            last_s: from.number()?,
            misses: u32::from_le_bytes(from.array()?),
            days: u32::from_le_bytes(from.array()?),
        })
    }
}

fn numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// What was seen of a node, and when.
fn sighting(tag: u8, node: &NodeId, at_s: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(node.as_bytes());
    numbers(out, &[at_s]);
}

pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::ReplicaLost(ReplicaLost { chunk, node, epoch, why, at_s }) => {
            out.push(REPLICA_LOST);
            out.extend_from_slice(chunk.as_bytes());
            out.extend_from_slice(node.as_bytes());
            out.extend_from_slice(epoch.as_bytes());
            out.push(why.number());
            numbers(out, &[*at_s]);
        }
        Entry::ChunkNowhere(chunk) => {
            out.push(CHUNK_NOWHERE);
            out.extend_from_slice(chunk.as_bytes());
        }
        Entry::HolderAudited(it) => {
            out.push(HOLDER_AUDITED);
            out.extend_from_slice(it.node.as_bytes());
            out.extend_from_slice(it.epoch.as_bytes());
            numbers(out, &[it.outcome.at_s, it.outcome.asked, it.outcome.proven]);
            let AuditOutcome { missing, damaged, lied, released, .. } = it.outcome;
            numbers(out, &[missing, damaged, lied, released]);
            numbers(out, &[it.silent, it.bytes_moved]);
        }
        Entry::HolderSilent { node, at_s } => sighting(HOLDER_SILENT, node, *at_s, out),
        Entry::HolderSilence { node, silence } => silence.encode(HOLDER_SILENCE, node, out),
        Entry::HolderLied { node, at_s } => sighting(HOLDER_LIED, node, *at_s, out),
        Entry::HolderWithheld { node, at_s } => sighting(HOLDER_WITHHELD, node, *at_s, out),
        Entry::HolderHadDay { node, at_s } => sighting(HOLDER_HAD_DAY, node, *at_s, out),
        Entry::HolderWithholds { node, silence } => silence.encode(HOLDER_WITHHOLDS, node, out),
        Entry::HolderOwes { node, debt } => {
            out.push(HOLDER_OWES);
            out.extend_from_slice(node.as_bytes());
            let count = u16::try_from(debt.count()).unwrap_or(u16::MAX);
            out.extend_from_slice(&count.to_le_bytes());
            debt.chunks().iter().for_each(|chunk| out.extend_from_slice(chunk.as_bytes()));
        }
        Entry::HolderServed { node } => {
            out.push(HOLDER_SERVED);
            out.extend_from_slice(node.as_bytes());
        }
        Entry::StoreGone { node, epoch, at_s } => {
            out.push(STORE_GONE);
            out.extend_from_slice(node.as_bytes());
            out.extend_from_slice(epoch.as_bytes());
            numbers(out, &[*at_s]);
        }
        _ => {}
    }
}

pub(super) fn decode(tag: u8, from: &mut Fields<'_>) -> Option<Entry> {
    Some(match tag {
        REPLICA_LOST => Entry::ReplicaLost(ReplicaLost {
            chunk: ChunkId::from_bytes(from.array()?),
            node: NodeId::from_bytes(from.array()?),
            epoch: StoreEpoch::from_bytes(from.array()?),
            why: Loss::of(from.byte()?)?,
            at_s: from.number()?,
        }),
        CHUNK_NOWHERE => Entry::ChunkNowhere(ChunkId::from_bytes(from.array()?)),
        HOLDER_AUDITED => Entry::HolderAudited(HolderAudited {
            node: NodeId::from_bytes(from.array()?),
            epoch: StoreEpoch::from_bytes(from.array()?),
            outcome: AuditOutcome {
                at_s: from.number()?,
                asked: from.number()?,
                proven: from.number()?,
                missing: from.number()?,
                damaged: from.number()?,
                lied: from.number()?,
                released: from.number()?,
            },
            silent: from.number()?,
            bytes_moved: from.number()?,
        }),
        HOLDER_SILENT | HOLDER_LIED | HOLDER_WITHHELD | HOLDER_HAD_DAY => {
            let (node, at_s) = (NodeId::from_bytes(from.array()?), from.number()?);
            match tag {
                HOLDER_SILENT => Entry::HolderSilent { node, at_s },
                HOLDER_LIED => Entry::HolderLied { node, at_s },
                HOLDER_HAD_DAY => Entry::HolderHadDay { node, at_s },
                _ => Entry::HolderWithheld { node, at_s },
            }
        }
        HOLDER_OWES => {
            let node = NodeId::from_bytes(from.array()?);
            let count = u16::from_le_bytes(from.array()?);
            let chunks: Option<Vec<ChunkId>> =
                (0..count).map(|_| from.array().map(ChunkId::from_bytes)).collect();
            Entry::HolderOwes { node, debt: Debt::of(chunks?) }
        }
        HOLDER_SERVED => Entry::HolderServed { node: NodeId::from_bytes(from.array()?) },
        HOLDER_SILENCE | HOLDER_WITHHOLDS => {
            let node = NodeId::from_bytes(from.array()?);
            let silence = Silence::decode(from)?;
            match tag {
                HOLDER_SILENCE => Entry::HolderSilence { node, silence },
                _ => Entry::HolderWithholds { node, silence },
            }
        }
        STORE_GONE => Entry::StoreGone {
            node: NodeId::from_bytes(from.array()?),
            epoch: StoreEpoch::from_bytes(from.array()?),
            at_s: from.number()?,
        },
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super::super) fn lost(chunk: u32, node: u8, epoch: u8) -> ReplicaLost {
        let acked = super::super::tests::acked(chunk, node, epoch);
        let (chunk, node, epoch) = (acked.chunk, acked.node, acked.epoch);
        ReplicaLost { chunk, node, epoch, why: Loss::Damaged, at_s: 1_800_000_006 }
    }

    /// All that was asked for was proven.
    pub(in super::super::super) fn audited(node: u8, at_s: u64) -> HolderAudited {
        found(node, at_s, |_| {})
    }

    /// The same but for this.
    pub(in super::super::super) fn found(
        node: u8,
        at_s: u64,
        but: impl FnOnce(&mut AuditOutcome),
    ) -> HolderAudited {
        let of = (NodeId::from_bytes([node; 32]), StoreEpoch::from_bytes([1; 16]));
        let begun = HolderAudited::begun(of, at_s, 9);
        let mut outcome = AuditOutcome { proven: 9, ..begun.outcome };
        but(&mut outcome);
        HolderAudited { outcome, bytes_moved: 1 << 50, ..begun }
    }

    pub(in super::super) fn all() -> Vec<Entry> {
        let node = NodeId::from_bytes([7; 32]);
        let losses = Loss::ALL.map(|why| ReplicaLost { why, ..lost(1, 2, 3) });
        let found = found(1, 5, |of| {
            (of.missing, of.damaged, of.lied, of.released) = (1, 2, 3, 4);
        });
        let found = HolderAudited { silent: 5, ..found };
        let silence = Silence { since_s: 1 << 40, last_s: 1 << 41, misses: 1 << 20, days: 1 << 21 };
        let others = [
            Entry::ChunkNowhere(lost(1, 2, 3).chunk),
            Entry::HolderAudited(audited(3, 1 << 42)),
            Entry::HolderAudited(found),
            Entry::HolderSilent { node, at_s: 1_800_000_007 },
            Entry::HolderSilence { node, silence },
            Entry::HolderLied { node, at_s: 1 << 43 },
            Entry::StoreGone { node, epoch: lost(1, 2, 3).epoch, at_s: 1 << 44 },
            Entry::HolderWithheld { node, at_s: 1_800_000_008 },
            Entry::HolderWithholds { node, silence },
            Entry::HolderServed { node },
            Entry::HolderHadDay { node, at_s: 1_800_000_009 },
            Entry::HolderOwes { node, debt: Debt::of([lost(1, 2, 3).chunk, lost(2, 2, 3).chunk]) },
        ];
        losses.into_iter().map(Entry::ReplicaLost).chain(others).collect()
    }

    fn bytes(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_layout_of_each_entry_is_the_one_of_before() {
        let tagged = |bytes: &[u8]| (bytes[0], bytes.len());
        let told: Vec<(u8, usize)> = all().iter().map(|entry| tagged(&bytes(entry))).collect();
        let lost = (96, 1 + 32 + 32 + 16 + 1 + 8);
        let audited = (98, 1 + 32 + 16 + 8 * 9);
        let silence = (100, 1 + 32 + 8 * 2 + 4 * 2);
        let others = [
            (97, 33),
            audited,
            audited,
            (99, 41),
            silence,
            (101, 41),
            (102, 57),
            (103, 41),
            (104, 57),
            (105, 33),
            (106, 41),
            (107, 1 + 32 + 2 + 2 * 32),
        ];
        assert_eq!(told, [[lost; 4].as_slice(), &others].concat());
        let whys: Vec<u8> = all()[..4].iter().map(|entry| bytes(entry)[81]).collect();
        assert_eq!(whys, [0, 1, 2, 3]);
        let found = bytes(&all()[6]);
        let numbers: Vec<u8> = found[49..].chunks_exact(8).map(|number| number[0]).collect();
        assert_eq!(numbers, [5, 9, 9, 1, 2, 3, 4, 5, 0]);
    }

    #[test]
    fn a_loss_for_no_reason_and_a_tag_of_nothing_are_refused() {
        let mut lost = bytes(&Entry::ReplicaLost(lost(1, 2, 3)));
        for why in 4..=u8::MAX {
            lost[81] = why;
            assert!(Entry::decode(&mut lost.as_slice()).is_err(), "{why}");
        }
        for tag in [FIRST - 1, LAST + 1] {
            let bytes = [&[tag][..], &[0; 200]].concat();
            assert!(Entry::decode(&mut bytes.as_slice()).is_err(), "{tag}");
        }
    }

    #[test]
    fn an_audit_with_anything_found_is_an_incident() {
        assert!(!audited(1, 2).outcome.is_incident());
        let found = [
            found(1, 2, |of| of.missing = 1),
            found(1, 2, |of| of.damaged = 1),
            found(1, 2, |of| of.lied = 1),
            found(1, 2, |of| of.released = 1),
        ];
        for (found, is_damage) in found.into_iter().zip([true, true, false, false]) {
            assert!(found.outcome.is_incident());
            assert_eq!(found.outcome.has_damage(), is_damage);
        }
    }
}
