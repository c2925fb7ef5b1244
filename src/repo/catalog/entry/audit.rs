//! What the catalogue remembers of audits: which replicas they found to be there no more, and what
//! each holder's audits came to. When each replica was proven lies elsewhere: see
//! [`Entry::Audited`].

use super::{Entry, Fields};
use crate::core::types::{ChunkId, NodeId, StoreEpoch};

/// The tags of these entries are from here.
pub(super) const FIRST: u8 = REPLICA_LOST;
/// And up to here.
pub(super) const LAST: u8 = HOLDER_SILENCE;

const REPLICA_LOST: u8 = 96;
const CHUNK_NOWHERE: u8 = 97;
const HOLDER_AUDITED: u8 = 98;
const HOLDER_SILENT: u8 = 99;
const HOLDER_SILENCE: u8 = 100;

/// Why a replica counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The holder says that it does not have it.
    Missing,
    /// The holder says that it is damaged.
    Damaged,
    /// The holder answered for it as if it had it, and the answer is wrong.
    Lied,
    /// The holder says that it was released.
    Released,
}

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

/// An audit of one holder that ended with answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderAudited {
    /// Who.
    pub node: NodeId,
    /// Which store of it.
    pub epoch: StoreEpoch,
    /// When: seconds since 1970.
    pub at_s: u64,
    /// Chunks that it was asked for.
    pub asked: u64,
    /// Of these, those that it proved.
    pub proven: u64,
    /// Those that it says it does not have.
    pub missing: u64,
    /// Those that it says are damaged.
    pub damaged: u64,
    /// Those that it answered wrongly for.
    pub lied: u64,
    /// Those that it says were released.
    pub released: u64,
    /// Bytes that were sent and received for it.
    pub bytes_moved: u64,
}

impl HolderAudited {
    /// How many replicas were lost for this reason.
    pub fn lost(&self, why: Loss) -> u64 {
        match why {
            Loss::Missing => self.missing,
            Loss::Damaged => self.damaged,
            Loss::Lied => self.lied,
            Loss::Released => self.released,
        }
    }

    /// Whether any replica was found to be there no more.
    pub fn is_incident(&self) -> bool {
        Loss::ALL.into_iter().any(|why| self.lost(why) > 0)
    }
}

/// How long a holder did not answer, and how often it was asked. See
/// [`standing`](crate::repo::catalog::standing) for what is counted and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// When it was first asked without an answer: seconds since 1970.
    pub since_s: u64,
    /// When it was last asked so, of the times that count: seconds since 1970.
    pub last_s: u64,
    /// How often it was, at least an hour apart.
    pub misses: u32,
    /// On how many days of the calendar it was.
    pub days: u32,
}

pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let numbers = |out: &mut Vec<u8>, numbers: &[u64]| {
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    };
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
            numbers(out, &[it.at_s, it.asked, it.proven]);
            numbers(out, &Loss::ALL.map(|why| it.lost(why)));
            numbers(out, &[it.bytes_moved]);
        }
        Entry::HolderSilent { node, at_s } => {
            out.push(HOLDER_SILENT);
            out.extend_from_slice(node.as_bytes());
            numbers(out, &[*at_s]);
        }
        Entry::HolderSilence { node, silence } => {
            out.push(HOLDER_SILENCE);
            out.extend_from_slice(node.as_bytes());
            numbers(out, &[silence.since_s, silence.last_s]);
            out.extend_from_slice(&silence.misses.to_le_bytes());
            out.extend_from_slice(&silence.days.to_le_bytes());
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
            at_s: from.number()?,
            asked: from.number()?,
            proven: from.number()?,
            missing: from.number()?,
            damaged: from.number()?,
            lied: from.number()?,
            released: from.number()?,
            bytes_moved: from.number()?,
        }),
        HOLDER_SILENT => {
            Entry::HolderSilent { node: NodeId::from_bytes(from.array()?), at_s: from.number()? }
        }
        HOLDER_SILENCE => Entry::HolderSilence {
            node: NodeId::from_bytes(from.array()?),
            silence: Silence {
                since_s: from.number()?,
                last_s: from.number()?,
                misses: u32::from_le_bytes(from.array()?),
                days: u32::from_le_bytes(from.array()?),
            },
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
        HolderAudited {
            node: NodeId::from_bytes([node; 32]),
            epoch: StoreEpoch::from_bytes([1; 16]),
            at_s,
            asked: 9,
            proven: 9,
            missing: 0,
            damaged: 0,
            lied: 0,
            released: 0,
            bytes_moved: 1 << 50,
        }
    }

    pub(in super::super) fn all() -> Vec<Entry> {
        let node = NodeId::from_bytes([7; 32]);
        let losses = Loss::ALL.map(|why| ReplicaLost { why, ..lost(1, 2, 3) });
        let found = HolderAudited { missing: 1, damaged: 2, lied: 3, released: 4, ..audited(1, 5) };
        let silence = Silence { since_s: 1 << 40, last_s: 1 << 41, misses: 1 << 20, days: 1 << 21 };
        let others = [
            Entry::ChunkNowhere(lost(1, 2, 3).chunk),
            Entry::HolderAudited(audited(3, 1 << 42)),
            Entry::HolderAudited(found),
            Entry::HolderSilent { node, at_s: 1_800_000_007 },
            Entry::HolderSilence { node, silence },
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
        let audited = (98, 1 + 32 + 16 + 8 * 8);
        let others = [(97, 33), audited, audited, (99, 41), (100, 1 + 32 + 8 * 2 + 4 * 2)];
        assert_eq!(told, [[lost; 4].as_slice(), &others].concat());
        let whys: Vec<u8> = all()[..4].iter().map(|entry| bytes(entry)[81]).collect();
        assert_eq!(whys, [0, 1, 2, 3]);
        let found = bytes(&all()[6]);
        let numbers: Vec<u8> = found[49..].chunks_exact(8).map(|number| number[0]).collect();
        assert_eq!(numbers, [5, 9, 9, 1, 2, 3, 4, 0]);
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
        assert!(!audited(1, 2).is_incident());
        let found = [
            HolderAudited { missing: 1, ..audited(1, 2) },
            HolderAudited { damaged: 1, ..audited(1, 2) },
            HolderAudited { lied: 1, ..audited(1, 2) },
            HolderAudited { released: 1, ..audited(1, 2) },
        ];
        for (found, why) in found.into_iter().zip(Loss::ALL) {
            assert!(found.is_incident() && found.lost(why) == 1);
        }
    }
}
